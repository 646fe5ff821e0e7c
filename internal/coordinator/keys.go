package coordinator

import (
	"time"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

const (
	// maxCovered is how many home partitions one Keys asks for at once.
	maxCovered = 16

	// coverPatience is how long a vnode has to answer before another replica
	// is asked as well.
	coverPatience = 500 * time.Millisecond

	// maxPageBytes ends a page before its limit: keys may be long. The last
	// answer may add its own length.
	maxPageBytes = 4 << 20
)

// KeysRequest is what a Keys is to do.
type KeysRequest struct {
	Bucket  kv.Bucket
	Options kv.ListOptions
}

// Keys lists a page of a bucket: home partition after home partition, in the
// order of the ring, each from one vnode that holds it. The vnodes are those of
// a minimal covering set, one for N successive homes, and others only where a
// node is down or slow. It asks for one home first, and for twice as many each time
// that they did not fill the page, so that neither a full nor an empty bucket wastes work.
//
// A vnode that still waits for data it should hold refuses to list it, and another
// replica is asked.
//
//	prepare ──▶ execute ──▶ waiting ──▶ done
//	               ▲           │ page not full, or stale view: a newer one
//	               └───────────┘
type Keys struct {
	coverage
	req   KeysRequest
	props *kv.Props
	next  int    // the first home not yet listed
	after string // in it, go on after this key
	width int    // homes to ask for at once
	keys  []string
	size  int // bytes in keys
	page  kv.KeyPage
}

// slot is one home on its way.
// cover is one ask: which slot it is for, and whom it went to.
// NewKeys returns the machine of one page of a listing.
func NewKeys(v View, r KeysRequest) *Keys {
	k := &Keys{coverage: coverage{view: v, op: "keys"}, req: r, width: 1}
	k.request = k
	return k
}

// Result is the outcome, once an Answer effect has come.
func (k *Keys) Result() (kv.KeyPage, error) { return k.page, k.err }

// Done is true once the page is answered.
func (k *Keys) Done() bool { return k.done }

// Step consumes one event.
func (k *Keys) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if k.done {
		return out
	}
	if _, ok := ev.(Start); ok {
		return k.prepare(now, out)
	}
	return k.waiting(now, ev, out)
}

// prepare reads the token.
func (k *Keys) prepare(now time.Duration, out []Effect) []Effect {
	o := &k.req.Options
	k.req.Bucket.Type = kv.PlainType(k.req.Bucket.Type)
	err := k.req.Bucket.Validate()
	if err != nil {
		return k.end(err, out)
	}
	if k.props, err = k.view.props(k.req.Bucket); err != nil {
		return k.end(err, out)
	}
	timeout, err := limitTimeout(o.Timeout)
	if err != nil {
		return k.end(err, out)
	}
	if o.Limit, err = limitPage(o.Limit); err != nil {
		return k.end(err, out)
	}
	if k.next, k.after, err = parseToken(k.req.Bucket, o.Token, k.view.Ring.Size()); err != nil {
		return k.end(err, out)
	}
	k.n = k.props.N
	return k.execute(now, append(out, k.begin(timeout)))
}

// limitPage is the limit that holds: the default for 0.
func limitPage(n int) (int, error) {
	if n < 0 || n > kv.MaxPage {
		return 0, &kv.InvalidError{What: "limit", Problem: "must be from 0 to " + itoa(kv.MaxPage)}
	}
	if n == 0 {
		return kv.DefaultPage, nil
	}
	return n, nil
}

// execute asks for the next homes.
func (k *Keys) execute(now time.Duration, out []Effect) []Effect {
	size := k.view.Ring.Size()
	if k.next >= size {
		return k.end(nil, out)
	}
	k.slots = k.slots[:0]
	for h := k.next; h < min(k.next+k.width, size); h++ {
		home := ring.Partition(h)
		k.slots = append(k.slots, slot{home: home, left: k.candidates(home)})
	}
	k.order()
	return k.askAll(now, out)
}

// tickAt asks for a Tick, unless one comes before that anyway.
// order leaves the slots in their order, but for a planted bug.
func (k *Keys) order() {
	if planted.Is(planted.MapOrder) {
		shuffled := make(map[int]slot, len(k.slots))
		for i, s := range k.slots {
			shuffled[i] = s
		}
		k.slots = k.slots[:0]
		for _, s := range shuffled { //det:ok this is the planted bug
			k.slots = append(k.slots, s)
		}
	}
}

// message lists a home.
func (k *Keys) message(home ring.Partition) vnode.Message {
	return &vnode.List{Home: home, Bucket: k.req.Bucket, After: k.afterIn(home), Limit: k.req.Options.Limit - len(k.keys), At: k.view.Wall.UnixMilli(), Latest: k.props.Latest()}
}

// candidates is who can list a home, best first: the vnode of the covering set,
// which is the last that holds all homes of its run of N, then the others.
// rank orders replicas: up before down, the covering one before the others.
// ask asks the next replica for slot i.
// afterIn is the key in a home after which to go on; empty: its start.
func (k *Keys) afterIn(home ring.Partition) string {
	if int(home) == k.next {
		return k.after
	}
	return ""
}

func (k *Keys) judge(home ring.Partition, msg vnode.Message) (why string) {
	m, ok := msg.(*vnode.Listed)
	switch {
	case !ok:
		return "answered with something else"
	case m.More && m.Last <= k.afterIn(home):
		return "its answer came to no other key"
	}
	return ""
}

// answered takes the page when all answers have come.
func (k *Keys) answered(now time.Duration, out []Effect) []Effect {
	if !k.answeredAll() {
		return out
	}
	return k.turn(now, out)
}

// turn adds what has come to the page, in order, and goes on if there is room.
func (k *Keys) turn(now time.Duration, out []Effect) []Effect {
	for i := range k.slots {
		s := &k.slots[i]
		room := k.req.Options.Limit - len(k.keys)
		listed := s.answer.(*vnode.Listed) // judge has seen to that
		keys, more, last := listed.Keys, listed.More, listed.Last
		if len(keys) > room {
			keys, more = keys[:room], true
			last = keys[len(keys)-1]
		}
		k.keys = append(k.keys, keys...)
		for _, key := range keys {
			k.size += len(key)
		}
		if more {
			k.next, k.after = int(s.home), last
			return k.rest(now, out)
		}
		k.next, k.after = int(s.home)+1, ""
		if k.full() {
			return k.rest(now, out)
		}
	}
	k.width = min(2*k.width, maxCovered)
	return k.again(now, out)
}

// rest ends a full page, or looks on in a home that has shown only tombstones.
func (k *Keys) rest(now time.Duration, out []Effect) []Effect {
	if !k.full() {
		k.width = 1
		return k.again(now, out)
	}
	return k.end(nil, out)
}

func (k *Keys) full() bool {
	return len(k.keys) >= k.req.Options.Limit || k.size >= maxPageBytes
}

// again asks for the next homes; the asks so far are over.
func (k *Keys) again(now time.Duration, out []Effect) []Effect {
	k.closeAll()
	return k.execute(now, out)
}

func (k *Keys) end(err error, out []Effect) []Effect {
	k.done, k.err = true, err
	if err == nil {
		k.page.Keys = k.keys
		if k.next < k.view.Ring.Size() {
			k.page.Next = formatToken(k.req.Bucket, k.next, k.after)
		}
	}
	return append(out, Answer{})
}

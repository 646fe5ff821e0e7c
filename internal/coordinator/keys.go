package coordinator

import (
	"cmp"
	"slices"
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
	view     View
	req      KeysRequest
	props    *kv.Props
	deadline time.Duration
	next     int    // the first home not yet listed
	after    string // in it, go on after this key
	width    int    // homes to ask for at once
	slots    []slot // those asked for now, in order
	asks     []cover
	keys     []string
	size     int           // bytes in keys
	wake     time.Duration // when the next Tick is due, besides that of the deadline
	page     kv.KeyPage
	err      error
	done     bool

	renewal
}

// slot is one home on its way.
type slot struct {
	home     ring.Partition
	left     []ring.Replica // who else could be asked
	waiting  int            // asks without an answer
	listed   *vnode.Listed
	failures []kv.Failure
}

// cover is one ask: which slot it is for, and whom it went to.
type cover struct {
	slot   int
	to     ring.Replica
	at     time.Duration
	hedged bool // another replica was asked as well, since this one is slow
	closed bool
}

// NewKeys returns the machine of one page of a listing.
func NewKeys(v View, r KeysRequest) *Keys {
	return &Keys{view: v, req: r, width: 1}
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
	k.req.Bucket.Type = plainType(k.req.Bucket.Type)
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
	k.deadline = k.view.Now + timeout
	return k.execute(now, append(out, Wake{At: k.deadline}))
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
	for i := range k.order() {
		if out = k.ask(now, i, out); k.done {
			return out
		}
	}
	return k.tickAt(now, now+coverPatience, out)
}

// tickAt asks for a Tick, unless one comes before that anyway.
func (k *Keys) tickAt(now, at time.Duration, out []Effect) []Effect {
	if k.wake > now && k.wake <= at {
		return out
	}
	k.wake = at
	return append(out, Wake{At: at})
}

// order is the slots to ask; it is a map only in a planted bug.
func (k *Keys) order() []slot {
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
	return k.slots
}

// candidates is who can list a home, best first: the vnode of the covering set,
// which is the last that holds all homes of its run of N, then the others.
func (k *Keys) candidates(home ring.Partition) []ring.Replica {
	n := k.props.N
	all := k.view.Ring.Primaries(home, n)
	best := n - 1 - int(home)%n
	slices.SortStableFunc(all, func(a, b ring.Replica) int {
		return cmp.Compare(k.rank(home, a, best), k.rank(home, b, best))
	})
	return all
}

// rank orders replicas: up before down, the covering one before the others.
func (k *Keys) rank(home ring.Partition, r ring.Replica, best int) int {
	rank := 0
	if !k.view.Up(r.Node) {
		rank += 2
	}
	if r.Partition != k.view.Ring.Next(home, best) {
		rank++
	}
	return rank
}

// ask asks the next replica for slot i.
func (k *Keys) ask(now time.Duration, i int, out []Effect) []Effect {
	s := &k.slots[i]
	for len(s.left) > 0 {
		to := s.left[0]
		s.left = s.left[1:]
		if !k.view.Up(to.Node) {
			s.fail(k.view.Ring, to, "the node is down")
			continue
		}
		s.waiting++
		k.asks = append(k.asks, cover{slot: i, to: to, at: now})
		m := &vnode.List{Home: s.home, Bucket: k.req.Bucket, After: k.afterIn(s), Limit: k.req.Options.Limit - len(k.keys), At: k.view.Wall.UnixMilli(), Latest: k.props.Latest()}
		return append(out, Ask{I: len(k.asks) - 1, To: to, Epoch: k.view.Epoch, Msg: m})
	}
	if s.waiting == 0 {
		return k.end(k.uncovered(s, false), out)
	}
	return out
}

// afterIn is the key in a slot's home after which to go on; empty: its start.
func (k *Keys) afterIn(s *slot) string {
	if int(s.home) == k.next {
		return k.after
	}
	return ""
}

func (s *slot) fail(r *ring.Ring, to ring.Replica, why string) {
	s.failures = append(s.failures, kv.Failure{Partition: r.Partition(to.Partition), Node: to.Node, Why: why})
}

func (k *Keys) uncovered(s *slot, timeout bool) error {
	return &kv.QuorumError{Op: "keys", Need: "coverage", Want: 1, Failures: s.failures, Timeout: timeout}
}

// waiting collects the answers.
func (k *Keys) waiting(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		return k.replied(now, ev, out)
	case NotSent:
		return k.failed(now, ev.I, ev.Why, out)
	case Lost:
		return k.failed(now, ev.I, ev.Why, out)
	case NodeDown:
		for i := range k.asks {
			if !k.done && k.asks[i].to.Node == ev.Node {
				out = k.failed(now, i, "the node went down", out)
			}
		}
	case Refreshed:
		if k.refreshed() {
			k.view.refresh(&ev.View)
			return k.again(now, out)
		}
	case Tick:
		return k.tick(now, out)
	}
	return out
}

// renew gives up what has been asked: when a newer view comes, the page goes on
// with it from where it is.
func (k *Keys) renew(i int, m *vnode.Refusal, out []Effect) []Effect {
	a := k.asks[i]
	s := &k.slots[a.slot]
	s.fail(k.view.Ring, a.to, m.Text)
	k.closeAll()
	return k.refresh(m, a.to.Node, out)
}

func (k *Keys) replied(now time.Duration, ev Replied, out []Effect) []Effect {
	switch m := ev.Msg.(type) {
	case *vnode.Listed:
		if m.More && k.asked(ev.I) && m.Last <= k.afterIn(&k.slots[k.asks[ev.I].slot]) {
			return k.failed(now, ev.I, "its answer came to no other key", out)
		}
		return k.listed(now, ev.I, m, out)
	case *vnode.Refusal:
		if k.asked(ev.I) && k.slots[k.asks[ev.I].slot].listed == nil && k.stale(m) {
			return k.renew(ev.I, m, out)
		}
		return k.failed(now, ev.I, m.Text, out)
	case *vnode.Failure:
		return k.failed(now, ev.I, m.Text, out)
	}
	return k.failed(now, ev.I, "answered with something else", out)
}

// failed asks another replica in the place of ask i.
func (k *Keys) failed(now time.Duration, i int, why string, out []Effect) []Effect {
	if !k.close(i) {
		return out
	}
	a := k.asks[i]
	k.slots[a.slot].fail(k.view.Ring, a.to, why)
	if k.slots[a.slot].listed != nil {
		return out
	}
	return k.ask(now, a.slot, out)
}

// asked reports whether ask i is open.
func (k *Keys) asked(i int) bool {
	return i >= 0 && i < len(k.asks) && !k.asks[i].closed
}

// close reports whether ask i was open, and closes it.
func (k *Keys) close(i int) bool {
	if !k.asked(i) {
		return false
	}
	k.asks[i].closed = true
	k.slots[k.asks[i].slot].waiting--
	return true
}

func (k *Keys) tick(now time.Duration, out []Effect) []Effect {
	if now >= k.deadline {
		for i := range k.slots {
			if k.slots[i].listed == nil {
				return k.end(k.overdue(i), out)
			}
		}
	}
	next := k.deadline
	for i := range k.asks {
		a := &k.asks[i]
		if a.closed || a.hedged || k.slots[a.slot].listed != nil {
			continue
		}
		if now < a.at+coverPatience {
			next = min(next, a.at+coverPatience)
			continue
		}
		a.hedged = true
		out = k.ask(now, a.slot, out)
		next = min(next, now+coverPatience)
	}
	if next == k.deadline {
		return out
	}
	return k.tickAt(now, next, out)
}

// overdue is the error of a page whose slot i had no answer in time.
func (k *Keys) overdue(i int) error {
	s := &k.slots[i]
	for _, a := range k.asks {
		if !a.closed && a.slot == i {
			s.fail(k.view.Ring, a.to, "no answer yet")
		}
	}
	return k.uncovered(s, true)
}

// listed takes the answer for a slot, and the page when all have come.
func (k *Keys) listed(now time.Duration, i int, m *vnode.Listed, out []Effect) []Effect {
	if !k.close(i) {
		return out
	}
	s := &k.slots[k.asks[i].slot]
	if s.listed == nil {
		s.listed = m
	}
	for i := range k.slots {
		if k.slots[i].listed == nil {
			return out
		}
	}
	return k.turn(now, out)
}

// turn adds what has come to the page, in order, and goes on if there is room.
func (k *Keys) turn(now time.Duration, out []Effect) []Effect {
	for i := range k.slots {
		s := &k.slots[i]
		room := k.req.Options.Limit - len(k.keys)
		keys, more := s.listed.Keys, s.listed.More
		last := s.listed.Last
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

func (k *Keys) closeAll() {
	for i := range k.asks {
		k.asks[i].closed = true
	}
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

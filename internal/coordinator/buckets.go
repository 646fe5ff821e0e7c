package coordinator

import (
	"cmp"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// BucketsRequest is what a Buckets is to do.
type BucketsRequest struct {
	Type    string
	Options kv.ListOptions
}

// Buckets lists a page of the buckets of a type that have a live key, in order. All
// homes are merged, since a bucket has keys in most of them.
type Buckets struct {
	gather
	req    BucketsRequest
	result kv.BucketPage
}

// NewBuckets returns the machine of one page of a listing.
func NewBuckets(v View, r BucketsRequest) *Buckets {
	b := &Buckets{req: r}
	b.view, b.op, b.compare = v, "buckets", compareBuckets
	b.request = b
	return b
}

// Result is the outcome, once an Answer effect has come.
func (b *Buckets) Result() (kv.BucketPage, error) { return b.result, b.err }

// Done is true once the page is answered.
func (b *Buckets) Done() bool { return b.done }

// Step consumes one event.
func (b *Buckets) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if b.done {
		return out
	}
	if _, ok := ev.(Start); ok {
		return b.prepare(now, out)
	}
	return b.waiting(now, ev, out)
}

// prepare reads the token.
func (b *Buckets) prepare(now time.Duration, out []Effect) []Effect {
	o := &b.req.Options
	b.req.Type = kv.PlainType(b.req.Type)
	err := kv.Bucket{Type: b.req.Type, Name: "b"}.Validate()
	if err != nil {
		return b.end(err, out)
	}
	if b.n, err = b.view.fewest(b.req.Type); err != nil {
		return b.end(err, out)
	}
	timeout, err := limitTimeout(o.Timeout)
	if err != nil {
		return b.end(err, out)
	}
	if b.limit, err = limitPage(o.Limit); err != nil {
		return b.end(err, out)
	}
	b.width = b.view.Ring.Size()
	at, err := openToken(o.Token, b.width, b.width, b.parts()...)
	if err != nil {
		return b.end(err, out)
	}
	b.piece = b.limit
	b.open(at)
	return b.fill(now, append(out, b.begin(timeout)))
}

func (b *Buckets) parts() []string { return []string{"buckets", b.req.Type} }

func (b *Buckets) message(home ring.Partition) vnode.Message {
	at := b.source(home).at
	return &vnode.Buckets{Home: home, Type: b.req.Type, After: at.Term, Inside: at.Key, Limit: b.pieces(), At: b.view.Wall.UnixMilli()}
}

func (b *Buckets) judge(home ring.Partition, msg vnode.Message) (why string) {
	m, ok := msg.(*vnode.BucketsFound)
	if !ok {
		return "answered with something else"
	}
	at := b.source(home).at
	c := compareNames(m.Last, at.Term)
	further := c > 0 || c == 0 && at.Key != "" && (m.Inside == "" || m.Inside > at.Key)
	if m.More && !further {
		return "its answer came to no other bucket"
	}
	return ""
}

func (b *Buckets) answered(now time.Duration, out []Effect) []Effect {
	if !b.answeredAll() {
		return out
	}
	for i := range b.slots {
		m := b.slots[i].answer.(*vnode.BucketsFound) // judge has seen to that
		s := b.source(b.slots[i].home)
		s.more, s.at = m.More, kv.IndexMatch{Term: m.Last, Key: m.Inside}
		for _, f := range m.Found {
			if b.shows(f) {
				s.matches = append(s.matches, kv.IndexMatch{Term: f.Name})
			}
		}
	}
	return b.took(now, out)
}

// shows reports whether a reader of the bucket sees the key for which it is listed.
func (b *Buckets) shows(f vnode.FoundBucket) bool {
	if f.Latest {
		return true
	}
	p, err := b.view.props(kv.Bucket{Type: b.req.Type, Name: f.Name})
	return err == nil && !p.Latest()
}

// compareNames orders buckets as storage keys do: by the length of their names, and then
// by their bytes.
func compareNames(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func compareBuckets(a, b kv.IndexMatch) int { return compareNames(a.Term, b.Term) }

func (b *Buckets) end(err error, out []Effect) []Effect {
	b.done, b.err = true, err
	if err == nil {
		for _, m := range b.page {
			b.result.Buckets = append(b.result.Buckets, m.Term)
		}
		if !b.over {
			b.result.Next = sealToken(b.token, b.parts()...)
		}
	}
	return append(out, Answer{})
}

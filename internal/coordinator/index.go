package coordinator

import (
	"strconv"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// IndexRequest is what an Index is to do.
type IndexRequest struct {
	Bucket kv.Bucket
	Query  kv.IndexQuery
}

// Index answers a page of a query of a secondary index. One that is to be in order
// merges all homes of the ring; otherwise a few homes at a time.
//
//	prepare ──▶ fill ──▶ waiting ──▶ done
//	             ▲          │ page not full, or stale view: a newer one
//	             └──────────┘
type Index struct {
	gather
	req     IndexRequest
	props   *kv.Props
	field   string
	start   string // the first term, as it sorts
	endTerm string // and the last
	result  kv.IndexPage
}

// NewIndex returns the machine of one page of a query.
func NewIndex(v View, r IndexRequest) *Index {
	x := &Index{req: r}
	x.view, x.op, x.compare = v, "index", compareMatches
	x.request = x
	return x
}

// Result is the outcome, once an Answer effect has come.
func (x *Index) Result() (kv.IndexPage, error) { return x.result, x.err }

// Done is true once the page is answered.
func (x *Index) Done() bool { return x.done }

// Step consumes one event.
func (x *Index) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if x.done {
		return out
	}
	if _, ok := ev.(Start); ok {
		return x.prepare(now, out)
	}
	return x.waiting(now, ev, out)
}

// prepare reads the query and the token.
func (x *Index) prepare(now time.Duration, out []Effect) []Effect {
	q := &x.req.Query
	x.req.Bucket.Type = kv.PlainType(x.req.Bucket.Type)
	err := x.req.Bucket.Validate()
	if err != nil {
		return x.end(err, out)
	}
	if x.props, err = x.view.props(x.req.Bucket); err != nil {
		return x.end(err, out)
	}
	if x.field, x.start, x.endTerm, err = q.Span(); err != nil {
		return x.end(err, out)
	}
	timeout, err := limitTimeout(q.Timeout)
	if err != nil {
		return x.end(err, out)
	}
	if x.limit, err = limitPage(q.Limit); err != nil {
		return x.end(err, out)
	}
	x.width = maxCovered
	if q.Sort {
		x.width = x.view.Ring.Size()
	}
	at, err := openToken(q.Token, x.width, x.view.Ring.Size(), x.parts()...)
	if err != nil {
		return x.end(err, out)
	}
	x.n = x.props.N
	x.open(at)
	return x.fill(now, append(out, x.begin(timeout)))
}

// parts are what a token is bound to.
func (x *Index) parts() []string {
	return []string{"index", x.req.Bucket.Type, x.req.Bucket.Name, x.field, x.start, x.endTerm, x.req.Query.TermRegex, strconv.FormatBool(x.req.Query.Sort)}
}

func (x *Index) message(home ring.Partition) vnode.Message {
	at := x.source(home).at
	return &vnode.Query{
		Home: home, Bucket: x.req.Bucket, Field: x.field, Start: x.start, End: x.endTerm, Regex: x.req.Query.TermRegex,
		AfterTerm: at.Term, AfterKey: at.Key, Limit: x.pieces(), At: x.view.Wall.UnixMilli(), Latest: x.props.Latest(),
	}
}

func (x *Index) judge(home ring.Partition, msg vnode.Message) (why string) {
	m, ok := msg.(*vnode.Matched)
	switch {
	case !ok:
		return "answered with something else"
	case m.More && compareMatches(kv.IndexMatch{Term: m.LastTerm, Key: m.LastKey}, x.source(home).at) <= 0:
		return "its answer came to no other entry"
	}
	return ""
}

func (x *Index) answered(now time.Duration, out []Effect) []Effect {
	if !x.answeredAll() {
		return out
	}
	for i := range x.slots {
		m := x.slots[i].answer.(*vnode.Matched) // judge has seen to that
		s := x.source(x.slots[i].home)
		s.matches, s.more = m.Matches, m.More
		s.at = kv.IndexMatch{Term: m.LastTerm, Key: m.LastKey}
	}
	return x.took(now, out)
}

func (x *Index) end(err error, out []Effect) []Effect {
	x.done, x.err = true, err
	if err == nil {
		x.result.Matches = x.page
		for i := range x.page {
			x.page[i].Term = kv.ShowIndexTerm(x.field, x.page[i].Term)
		}
		if !x.over {
			x.result.Next = sealToken(x.token, x.parts()...)
		}
	}
	return append(out, Answer{})
}

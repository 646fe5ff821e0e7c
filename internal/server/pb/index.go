package pb

import (
	"errors"
	"fmt"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// indexQuery is a query of an index, as RpbIndexReq has it.
type indexQuery struct {
	kv.IndexQuery
	most  int  // matches in the answer; 0: all
	terms bool // tell by what terms keys were found
}

// listsKeys reports whether the query is a list of a bucket's keys by another name, and of
// more of them than a page.
func (q *indexQuery) listsKeys() bool {
	return q.ListsKeys() && (q.most == 0 || q.most > kv.MaxPage)
}

// parseIndex reads a query. The terms are shown of ranges only, and not those that are the
// keys or the bucket, as in Riak: its client for Java looks for the keys apart then.
func parseIndex(m *riakpb.RpbIndexReq) (q indexQuery, err error) {
	q.IndexQuery = kv.IndexQuery{
		Field: string(m.Index), TermRegex: string(m.TermRegex), Token: string(m.Continuation), Timeout: milliseconds(m.GetTimeout()),
	}
	switch {
	case m.CoverContext != nil:
		return q, errCoverContext
	case m.GetReturnBody():
		return q, errReturnBody
	case m.MaxResults != nil && m.GetMaxResults() == 0:
		return q, errNoResults
	}
	switch m.GetQtype() {
	case riakpb.RpbIndexReq_eq:
		if m.Key == nil {
			return q, errEquality
		}
		q.Start = string(m.Key)
	case riakpb.RpbIndexReq_range:
		if m.RangeMin == nil || m.RangeMax == nil {
			return q, wireError("Invalid range query: " + erlangOf(m.RangeMin) + " -> " + erlangOf(m.RangeMax))
		}
		q.Start, q.End, q.Range = string(m.RangeMin), string(m.RangeMax), true
	default:
		return q, decodingError(fmt.Sprintf("a query of type %d", m.GetQtype()))
	}
	q.most = int(min(m.GetMaxResults(), maxResults))
	q.Sort = m.GetPaginationSort() || q.most > 0 || q.Token != "" // a page is of something in order
	q.terms = m.GetReturnTerms() && q.Range && !q.ListsKeys()
	return q, nil
}

// erlangOf is a field of bytes as Erlang prints it.
func erlangOf(b []byte) string {
	if b == nil {
		return "undefined"
	}
	return erlang(string(b))
}

// index serves RpbIndexReq: with stream as messages of matches, and a last one that
// says done and where the query goes on; without as one message, which has no done.
func (c *conn) index(r *request) error {
	var m riakpb.RpbIndexReq
	if err := decode(r, &m); err != nil {
		return err
	}
	if err := (&place{bucketType: m.Type, bucket: m.Bucket}).check(); err != nil {
		return err
	}
	if c.server.o.Indexes == nil {
		return errNoIndexes
	}
	q, err := parseIndex(&m)
	if err != nil {
		return err
	}
	b := c.bucketOf(m.Type, m.Bucket)
	switch {
	case m.Ask != nil:
		return c.indexPage(b, &q, m.Ask)
	case q.listsKeys() && !c.server.o.AllowsLists():
		if m.GetStream() {
			return forbidden("stream_secondary_index")
		}
		return forbidden("secondary_index")
	case m.GetStream():
		return c.indexStream(b, &q)
	}
	return c.indexAll(b, &q)
}

// pages asks for page after page of a query until there are as many matches as are
// wanted, and hands each on. It returns where the query goes on; empty: nowhere.
func (c *conn) pages(b kv.Bucket, q *indexQuery, page int, fn func([]kv.IndexMatch) error) (next string, err error) {
	for left := q.most; ; {
		q.Limit = page
		if q.most > 0 {
			q.Limit = min(left, page)
		}
		got, err := c.server.o.Indexes.Index(c.context(), b, q.IndexQuery)
		if errors.Is(err, kv.ErrInvalid) && q.Inverted() {
			return "", fn(nil)
		}
		if err != nil {
			return "", reason(err, &story{bucketType: b.Type})
		}
		if err := c.still(); err != nil {
			return "", err
		}
		if err := fn(got.Matches); err != nil {
			return "", err
		}
		left -= len(got.Matches)
		if got.Next == "" || q.most > 0 && left <= 0 {
			return got.Next, nil
		}
		q.Token = got.Next
	}
}

// indexStream sends the matches as they come.
func (c *conn) indexStream(b kv.Bucket, q *indexQuery) error {
	next, err := c.pages(b, q, listPage, func(matches []kv.IndexMatch) error {
		if len(matches) == 0 {
			return nil
		}
		c.out.begin(riakpb.IndexResp)
		c.out.matches(matches, q.terms)
		c.out.end()
		return c.flush()
	})
	if err != nil {
		return err
	}
	c.out.begin(riakpb.IndexResp)
	c.out.textIf(3, next)
	c.out.varint(4, 1)
	c.out.end()
	return nil
}

// indexAll sends all matches at once, or an error.
func (c *conn) indexAll(b kv.Bucket, q *indexQuery) error {
	c.out.begin(riakpb.IndexResp)
	next, err := c.pages(b, q, kv.MaxPage, func(matches []kv.IndexMatch) error {
		before := len(c.out.b)
		c.out.matches(matches, q.terms)
		if len(c.out.b) > maxMatches {
			return errManyMatches
		}
		return c.gathers(len(c.out.b) - before)
	})
	if err != nil {
		return err
	}
	c.out.textIf(3, next)
	c.out.end()
	return nil
}

// indexPage answers our own client with one page, and where the next one begins.
func (c *conn) indexPage(b kv.Bucket, q *indexQuery, a *riakpb.TanoAsk) error {
	q.Token, q.Limit = string(a.Token), int(min(a.GetLimit(), maxQuorum))
	page, err := c.server.o.Indexes.Index(c.context(), b, q.IndexQuery)
	if err != nil {
		return reason(err, &story{bucketType: b.Type, own: true})
	}
	c.out.begin(riakpb.IndexResp)
	c.out.matches(page.Matches, true)
	c.out.next(page.Next)
	c.out.end()
	return nil
}

// matches appends what a query has found: keys, or pairs of a term and a key.
func (f *frame) matches(all []kv.IndexMatch, terms bool) {
	for _, m := range all {
		if terms {
			f.pair(2, kv.Pair{Name: m.Term, Value: m.Key})
			continue
		}
		f.text(1, m.Key)
	}
}

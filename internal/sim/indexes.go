package sim

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/kv"
)

// The fields by which values are found.
const (
	numberField = "n_int"
	wordField   = "w_bin"
)

// indexes are the index entries of the value of a write: none of every third one,
// so that values with and without replace each other.
func indexes(id check.ID) []kv.Pair {
	if id%3 == 0 {
		return nil
	}
	n := strconv.Itoa(int(id%5) - 2)
	return []kv.Pair{
		{Name: numberField, Value: n},
		{Name: wordField, Value: "\x00" + n},
		{Name: wordField, Value: strings.Repeat("w", int(id%4))},
	}
}

// indexPage is how many matches a query is asked for at once.
const indexPage = 3

// More than all queries of a run have.
const (
	maxQueried = 10_000 // matches of one
	maxPages   = 20_000 // of all of them
)

// queryAll asks for all index entries, when nothing goes on any more: they must be
// those of what a read would see. The buckets that have any must be listed, and no others.
func (s *Sim) queryAll() bool {
	open, pages := 0, 0
	for _, b := range buckets {
		for _, q := range []kv.IndexQuery{
			{Field: numberField, Start: "-9223372036854775808", End: "9223372036854775807", Range: true, Sort: true, Limit: indexPage},
			{Field: numberField, Start: "-1"},
			{Field: wordField, Start: "", End: "w", Range: true},
			{Field: wordField, Start: "", End: "x", Range: true, TermRegex: "^w+$", Sort: true, Limit: indexPage},
			{Field: kv.IndexKey, Start: "k1", End: "k2", Range: true, Sort: true, Limit: indexPage},
			{Field: kv.IndexBucket},
		} {
			q.Timeout = censusTimeout
			open++
			s.query(kv.Bucket{Name: b}, q, s.anyNode().wall(), nil, func(over bool) {
				if pages++; over {
					open--
				}
			})
		}
	}
	open++
	s.listBuckets(func() { open-- })
	for open > 0 { // how many pages there are depends on what the clients have written
		had := pages
		if pages > maxPages {
			s.fail("index", noKey, "%d queries have come to %d pages, and go on", open, pages)
			return false
		}
		if !s.must(2*censusTimeout, "a page of a query is answered", func() bool { return open == 0 || pages > had }) {
			return false
		}
	}
	return true
}

// query asks for a page, and for the next ones, and compares all with what should
// be found. All ask for what is there at one instant. Came is called with each page.
func (s *Sim) query(b kv.Bucket, q kv.IndexQuery, at time.Time, before []kv.IndexMatch, came func(over bool)) {
	n := s.anyNode()
	view := n.view()
	view.Wall = at
	m := coordinator.NewIndex(view, coordinator.IndexRequest{Bucket: b, Query: q})
	n.run(m, noKey, q.Timeout, func(*request) {
		page, err := m.Result()
		if err != nil {
			s.fail("liveness", noKey, "all is healed, but a query fails: %v", err)
			came(true)
			return
		}
		all := append(before, page.Matches...)
		switch {
		case page.Next == "":
			s.checkQuery(b, q, all, at.UnixMilli())
		case len(all) > maxQueried:
			s.fail("index", noKey, "a query has come to %d matches, and goes on", len(all))
		default:
			came(false)
			q.Token = page.Next
			s.query(b, q, at, all, came)
			return
		}
		came(true)
	}, nil)
}

func (s *Sim) checkQuery(b kv.Bucket, q kv.IndexQuery, got []kv.IndexMatch, wallMs int64) {
	var want []kv.IndexMatch
	for i := range s.weather.Keys {
		k := keyAt(i)
		if k.Bucket != b.Name {
			continue
		}
		first := s.primaries(k)[0]
		o := s.stored(s.byName[first.Node], first, k)
		if s.latest(k) {
			o = o.Latest()
		}
		values, err := o.Values(k, wallMs, false, false)
		if err != nil {
			s.fail("index", k, "what is stored cannot be read: %v", err)
			return
		}
		for _, v := range values {
			for _, p := range append(v.Indexes, kv.Pair{Name: kv.IndexKey, Value: k.Name}, kv.Pair{Name: kv.IndexBucket, Value: b.Name}) {
				if matches(q, p) {
					want = append(want, kv.IndexMatch{Term: p.Value, Key: k.Name})
				}
			}
		}
	}
	order := func(x, y kv.IndexMatch) int {
		if q.Field == numberField {
			a, _ := strconv.Atoi(x.Term)
			b, _ := strconv.Atoi(y.Term)
			return cmp.Or(cmp.Compare(a, b), strings.Compare(x.Key, y.Key))
		}
		return cmp.Or(strings.Compare(x.Term, y.Term), strings.Compare(x.Key, y.Key))
	}
	slices.SortFunc(want, order)
	want = slices.Compact(want)
	if !q.Sort {
		slices.SortFunc(got, order)
	}
	if !slices.Equal(got, want) {
		s.fail("index", noKey, "the query %+v of %s finds %v, and should find %v", q, b.Name, got, want)
	}
}

// matches is the meaning of a query, without an index.
func matches(q kv.IndexQuery, p kv.Pair) bool {
	if p.Name != q.Field {
		return false
	}
	if q.Field == kv.IndexBucket {
		return true
	}
	if !q.Range {
		return p.Value == q.Start
	}
	if q.Field == numberField {
		n, _ := strconv.ParseInt(p.Value, 10, 64)
		from, _ := strconv.ParseInt(q.Start, 10, 64)
		to, _ := strconv.ParseInt(q.End, 10, 64)
		return from <= n && n <= to
	}
	if q.TermRegex != "" && strings.Trim(p.Value, "w") != "" || q.TermRegex != "" && p.Value == "" {
		return false
	}
	return q.Start <= p.Value && p.Value <= q.End
}

// listBuckets lists the buckets, one by one.
func (s *Sim) listBuckets(done func()) {
	var want []string
	at := s.anyNode().wall()
	for i := range s.weather.Keys {
		k := keyAt(i)
		first := s.primaries(k)[0]
		o := s.stored(s.byName[first.Node], first, k)
		if s.latest(k) {
			o = o.Latest()
		}
		if o.Live(at.UnixMilli()) && !slices.Contains(want, k.Bucket) {
			want = append(want, k.Bucket)
		}
	}
	slices.Sort(want)
	var got []string
	var page func(token string)
	page = func(token string) {
		n := s.anyNode()
		view := n.view()
		view.Wall = at
		m := coordinator.NewBuckets(view, coordinator.BucketsRequest{Options: kv.ListOptions{Token: token, Limit: 1, Timeout: censusTimeout}})
		n.run(m, noKey, censusTimeout, func(*request) {
			answer, err := m.Result()
			got = append(got, answer.Buckets...)
			switch {
			case err != nil:
				s.fail("liveness", noKey, "all is healed, but the buckets cannot be listed: %v", err)
			case answer.Next != "":
				page(answer.Next)
				return
			case !slices.Equal(got, want):
				s.fail("buckets", noKey, "the buckets are %v, and are listed as %v", want, got)
			}
			done()
		}, nil)
	}
	page("")
}

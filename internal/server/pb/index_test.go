package pb

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// indexed is a client of a bucket whose keys k1 to k5 have the numbers 1 to 5 and words,
// which were put over the wire.
func indexed(t *testing.T) (*client, *fake) {
	t.Helper()
	f := &fake{}
	c := dial(t, f, Options{Indexes: f})
	for i := 1; i <= 5; i++ {
		n := strconv.Itoa(i)
		put := putOf("k"+n, "v")
		for _, p := range []kv.Pair{{Name: "N_int", Value: n}, {Name: "w_bin", Value: "w" + n}, {Name: "w_bin", Value: "all"}} {
			put.Content.Indexes = append(put.Content.Indexes, &riakpb.RpbPair{Key: []byte(p.Name), Value: []byte(p.Value)})
		}
		c.ask(riakpb.PutReq, put, riakpb.PutResp, nil)
	}
	return c, f
}

func equal(field, term string) *riakpb.RpbIndexReq {
	return &riakpb.RpbIndexReq{Bucket: []byte("b"), Index: []byte(field), Qtype: riakpb.RpbIndexReq_eq.Enum(), Key: []byte(term)}
}

func between(field, first, last string) *riakpb.RpbIndexReq {
	return &riakpb.RpbIndexReq{Bucket: []byte("b"), Index: []byte(field), Qtype: riakpb.RpbIndexReq_range.Enum(), RangeMin: []byte(first), RangeMax: []byte(last)}
}

// with changes a query.
func with(q *riakpb.RpbIndexReq, change func(q *riakpb.RpbIndexReq)) *riakpb.RpbIndexReq {
	change(q)
	return q
}

// found is what an answer has, in words: keys, and terms with theirs.
func found(m *riakpb.RpbIndexResp) string {
	var all []string
	for _, k := range m.Keys {
		all = append(all, string(k))
	}
	for _, p := range m.Results {
		all = append(all, string(p.Key)+":"+string(p.Value))
	}
	return strings.Join(all, " ")
}

func TestIndexQueries(t *testing.T) {
	c, _ := indexed(t)
	terms := func(q *riakpb.RpbIndexReq) { q.ReturnTerms = proto.Bool(true) }
	regex := func(q *riakpb.RpbIndexReq) { q.TermRegex = []byte("w[34]") }
	for _, tc := range []struct {
		q    *riakpb.RpbIndexReq
		want string
	}{
		{equal("n_int", "3"), "k3"},
		{equal("n_int", "9"), ""},
		{between("N_INT", "2", "3"), "k2 k3"},
		{with(between("n_int", "2", "3"), terms), "2:k2 3:k3"},
		{with(equal("n_int", "2"), terms), "k2"},
		{with(between("n_int", "6", "9"), terms), ""},
		{with(between("w_bin", "a", "w4"), regex), "k3 k4"},
		{between("$key", "k4", "k9"), "k4 k5"},
		{with(between("$KEY", "k4", "k9"), terms), "k4 k5"}, // Riak's client for Java expects no terms there
		{equal("$bucket", "b"), "k1 k2 k3 k4 k5"},
		{with(between("$bucket", "_", "_"), terms), "k1 k2 k3 k4 k5"},
		{with(equal("w_bin", "all"), func(q *riakpb.RpbIndexReq) { q.PaginationSort = proto.Bool(true) }), "k1 k2 k3 k4 k5"},
	} {
		var a riakpb.RpbIndexResp
		c.ask(riakpb.IndexReq, tc.q, riakpb.IndexResp, &a)
		if got := found(&a); got != tc.want || a.Done != nil || a.Continuation != nil || a.Told != nil {
			t.Errorf("%v finds %q, want %q; %v", tc.q, got, tc.want, &a)
		}
	}
}

func TestWordsOfIndexQueries(t *testing.T) {
	c, f := indexed(t)
	for _, tc := range []struct {
		q    *riakpb.RpbIndexReq
		want string
	}{
		{with(equal("n_int", ""), func(q *riakpb.RpbIndexReq) { q.Key = nil }), "Invalid equality query undefined"},
		{with(between("n_int", "", "9"), func(q *riakpb.RpbIndexReq) { q.RangeMin = nil }), `Invalid range query: undefined -> <<"9">>`},
		{with(between("n_int", "1", ""), func(q *riakpb.RpbIndexReq) { q.RangeMax = nil }), `Invalid range query: <<"1">> -> undefined`},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.Qtype = riakpb.RpbIndexReq_IndexQueryType(7).Enum() }), "Message decoding error: a query of type 7"},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.MaxResults = proto.Uint32(0) }), string(errNoResults)},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.ReturnBody = proto.Bool(true) }), string(errReturnBody)},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.CoverContext = []byte{} }), string(errCoverContext)},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.Continuation = []byte("x") }), "token is not one that this query has returned"},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.TermRegex = []byte("1") }), "Can not use term regular expression in integer query"},
		{with(equal("w_bin", "1"), func(q *riakpb.RpbIndexReq) { q.TermRegex = []byte("(") }), "Invalid term regular expression \"(\": error parsing regexp: missing closing ): `(`"},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.Bucket = []byte{} }), string(errBucket)},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.Type = []byte{} }), string(errType)},
		{with(equal("n_int", "1"), func(q *riakpb.RpbIndexReq) { q.Type = []byte("nope") }), "No bucket-type named 'nope'"},
		{equal("n", "3"), "Unknown field type for field: 'n'."},
		{equal("n_int", "three"), "Could not parse field 'n_int', value 'three'."},
		{with(between("n_int", "3", "2"), func(q *riakpb.RpbIndexReq) { q.Type = []byte("nope") }), "No bucket-type named 'nope'"},
		{between("n_int", "3", "two"), "Could not parse field 'n_int', value 'two'."},
	} {
		c.fails(riakpb.IndexReq, tc.q, tc.want)
		tc.q.Stream = proto.Bool(true)
		c.fails(riakpb.IndexReq, tc.q, tc.want)
		c.alive()
	}
	for err, want := range map[error]string{kv.ErrTimeout: "timeout", kv.ErrOverload: "overload", kv.ErrClosed: "shutdown", errors.New("broken"): "broken"} {
		f.fail = err
		c.fails(riakpb.IndexReq, equal("n_int", "1"), want)
	}
	put := putOf("k", "v")
	put.Content.Indexes = []*riakpb.RpbPair{{Key: []byte("n"), Value: []byte("1")}}
	c.fails(riakpb.PutReq, put, "Unknown field type for field: 'n'.")
	dial(t, &fake{}, Options{}).fails(riakpb.IndexReq, equal("n_int", "1"), string(errNoIndexes))
}

// Nothing is between two terms in the wrong order, as in Riak.
func TestARangeThatEndsBeforeItBegins(t *testing.T) {
	c, _ := indexed(t)
	for _, q := range []*riakpb.RpbIndexReq{between("n_int", "3", "-2"), between("w_bin", "w3", "w2"), between("$key", "k2", "k1")} {
		q.ReturnTerms = proto.Bool(true)
		var m riakpb.RpbIndexResp
		c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &m)
		if found(&m) != "" || m.Continuation != nil {
			t.Errorf("%v finds %v", q, &m)
		}
		q.Stream, q.MaxResults = proto.Bool(true), proto.Uint32(2)
		m.Reset()
		c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &m)
		if found(&m) != "" || !m.GetDone() {
			t.Errorf("%v finds %v", q, &m)
		}
		q.Ask = &riakpb.TanoAsk{} // our own client is told that it cannot be meant
		c.fails(riakpb.IndexReq, q, "Invalid range query: it ends before it begins")
	}
}

func TestIndexOptionsReachTheStore(t *testing.T) {
	c, f := indexed(t)
	q := with(between("w_bin", "a", "z"), func(q *riakpb.RpbIndexReq) {
		q.Timeout, q.TermRegex, q.MaxResults, q.ReturnTerms = proto.Uint32(9), []byte("w."), proto.Uint32(2), proto.Bool(true)
	})
	c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &riakpb.RpbIndexResp{})
	if want := (kv.IndexQuery{Field: "w_bin", Start: "a", End: "z", Range: true, TermRegex: "w.", Sort: true, Limit: 2, Timeout: 9 * time.Millisecond}); f.query != want {
		t.Errorf("%+v, want %+v", f.query, want)
	}
	c.ask(riakpb.IndexReq, equal("w_bin", "all"), riakpb.IndexResp, &riakpb.RpbIndexResp{})
	if want := (kv.IndexQuery{Field: "w_bin", Start: "all", Limit: kv.MaxPage}); f.query != want {
		t.Errorf("%+v, want %+v", f.query, want)
	}
}

func TestIndexPagesGoOn(t *testing.T) {
	c, _ := indexed(t)
	for _, stream := range []bool{false, true} {
		var got []string
		q := between("n_int", "1", "5")
		q.MaxResults, q.ReturnTerms, q.Stream = proto.Uint32(2), proto.Bool(true), &stream
		for {
			matches, last := c.query(q)
			if len(matches) > 2 {
				t.Fatalf("%d matches of 2", len(matches))
			}
			got = append(got, matches...)
			if q.Continuation = last; last == nil {
				break
			}
		}
		if strings.Join(got, " ") != "1:k1 2:k2 3:k3 4:k4 5:k5" {
			t.Errorf("stream %v: the pages are %v", stream, got)
		}
	}
}

// query makes a query and returns all that comes, and the continuation.
func (c *client) query(q *riakpb.RpbIndexReq) (matches []string, continuation []byte) {
	c.Helper()
	c.send(frameOf(c, riakpb.IndexReq, q))
	for {
		var a riakpb.RpbIndexResp
		c.await(riakpb.IndexResp, &a)
		matches = append(matches, strings.Fields(found(&a))...)
		if !q.GetStream() || a.GetDone() {
			return matches, a.Continuation
		}
		if a.Continuation != nil {
			c.Fatalf("a message that is not the last has the continuation %q", a.Continuation)
		}
	}
}

// fill puts so many keys that have the word "many" and their number.
func fill(t *testing.T, f *fake, n int) {
	t.Helper()
	for i := range n {
		v := kv.Value{Indexes: []kv.Pair{{Name: "w_bin", Value: "many"}, {Name: "n_int", Value: fmt.Sprint(i)}}}
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: fmt.Sprintf("k%05d", i)}, v, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIndexStreams(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{Indexes: f})
	fill(t, f, 2*listPage+10)
	stream := func(q *riakpb.RpbIndexReq) { q.Stream = proto.Bool(true) }
	for _, tc := range []struct {
		q         *riakpb.RpbIndexReq
		most      uint32
		matches   int
		messages  int
		continues bool
	}{
		{equal("w_bin", "none"), 0, 0, 1, false},
		{equal("w_bin", "many"), 0, 2*listPage + 10, 4, false},
		{between("n_int", "0", "9"), 0, 10, 2, false},
		{equal("w_bin", "many"), listPage + 5, listPage + 5, 3, true},
		{equal("w_bin", "many"), 3 * listPage, 2*listPage + 10, 4, false},
	} {
		if tc.most > 0 {
			tc.q.MaxResults = &tc.most
		}
		c.send(frameOf(t, riakpb.IndexReq, with(tc.q, stream)))
		matches, messages := map[string]bool{}, 0
		for {
			var a riakpb.RpbIndexResp
			c.await(riakpb.IndexResp, &a)
			messages++
			for _, k := range a.Keys {
				matches[string(k)] = true
			}
			if a.GetDone() {
				if (a.Continuation != nil) != tc.continues {
					t.Errorf("%v ends with the continuation %q", tc.q, a.Continuation)
				}
				break
			}
		}
		if len(matches) != tc.matches || messages != tc.messages {
			t.Errorf("%v: %d matches in %d messages, want %d in %d", tc.q, len(matches), messages, tc.matches, tc.messages)
		}
	}
	f.fail, f.boom = kv.ErrTimeout, true // after the first page
	c.send(frameOf(t, riakpb.IndexReq, with(equal("w_bin", "many"), stream)))
	c.await(riakpb.IndexResp, &riakpb.RpbIndexResp{})
	c.awaitError("timeout")
	c.alive()
}

// What goes out at once is in memory, as requests are, and has a limit with them.
func TestListsAtOnceCountAsRequests(t *testing.T) {
	f := &fake{buckets: []string{"bucket1", "bucket2"}}
	for _, name := range []string{"key1", "key2", "key3"} {
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: name}, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s, addr := serveOn(t, f, Options{Indexes: f, Buckets: f, MaxFrames: 15})
	c := connect(t, addr)
	c.fails(riakpb.IndexReq, between("$key", "k", "l"), turnedAway)
	c.fails(riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{}, turnedAway)
	one := between("$key", "k", "l")
	one.MaxResults = proto.Uint32(1)
	c.ask(riakpb.IndexReq, one, riakpb.IndexResp, &riakpb.RpbIndexResp{})
	f.buckets = f.buckets[:1]
	c.ask(riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{}, riakpb.ListBucketsResp, &riakpb.RpbListBucketsResp{})
	c.alive()
	if n := s.frames.Load(); n != 0 {
		t.Errorf("%d bytes are reserved", n)
	}
}

func TestTooManyMatchesForOneAnswer(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{Indexes: f})
	const long = kv.MaxIndexTerm
	for i := range maxMatches/(kv.MaxKey+long) + 1 {
		name := strconv.Itoa(i) + strings.Repeat("k", kv.MaxKey-10)
		v := kv.Value{Indexes: []kv.Pair{{Name: "w_bin", Value: strings.Repeat("t", long)}}}
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: name}, v, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	q := between("w_bin", "", "z")
	q.ReturnTerms = proto.Bool(true)
	c.fails(riakpb.IndexReq, q, string(errManyMatches))
	q.Stream = proto.Bool(true)
	if matches, _ := c.query(q); len(matches) != maxMatches/(kv.MaxKey+long)+1 {
		t.Errorf("%d matches in a stream", len(matches))
	}
	q.Stream, q.MaxResults = nil, proto.Uint32(3)
	if matches, next := c.query(q); len(matches) != 3 || next == nil {
		t.Errorf("%d matches of 3, and then %q", len(matches), next)
	}
}

// A stream waits for a client that does not read it, and ends when that takes too long.
func TestAStreamWaitsForItsReader(t *testing.T) {
	f := &fake{}
	fill(t, f, 20*listPage)
	synctest.Test(t, func(t *testing.T) {
		c, stop := inBubble(t, f, Options{Indexes: f})
		c.send(frameOf(t, riakpb.IndexReq, with(equal("w_bin", "many"), func(q *riakpb.RpbIndexReq) { q.Stream = proto.Bool(true) })))
		synctest.Wait()
		f.mu.Lock()
		if f.queries != 1 {
			t.Errorf("%d pages are asked for, and none is read", f.queries)
		}
		f.mu.Unlock()
		time.Sleep(3 * defaultWriteGrace)
		c.ended()
		stop()
	})
	if f.queries != 1 {
		t.Errorf("%d pages were asked for", f.queries)
	}
}

func TestOurClientGetsIndexPages(t *testing.T) {
	c, f := indexed(t)
	q := equal("w_bin", "all")
	q.PaginationSort, q.Ask = proto.Bool(true), &riakpb.TanoAsk{Limit: proto.Uint32(2)}
	var got []string
	for {
		var a riakpb.RpbIndexResp
		c.ask(riakpb.IndexReq, q, riakpb.IndexResp, &a)
		got = append(got, found(&a))
		if q.Ask.Token = a.Told.GetNext(); len(q.Ask.Token) == 0 {
			break
		}
	}
	if want := []string{"all:k1 all:k2", "all:k3 all:k4", "all:k5"}; !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
	f.fail = kv.ErrOverload
	c.send(frameOf(t, riakpb.IndexReq, q))
	var e riakpb.RpbErrorResp
	if c.await(riakpb.Error, &e); !errors.Is(e.Told.Err(), kv.ErrOverload) {
		t.Errorf("an error is told as %v", &e)
	}
}

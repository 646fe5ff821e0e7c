package coordinator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// finding is what the test knows of an Index or a Buckets.
type finding struct {
	*world
	held [][]kv.IndexMatch // by home, in order
}

// matched answers a Query with at most a few matches, or with none and that there may be
// more.
func matched(m *vnode.Query, held []kv.IndexMatch, most int) *vnode.Matched {
	answer := &vnode.Matched{LastTerm: m.AfterTerm, LastKey: m.AfterKey}
	for _, x := range held {
		switch {
		case compareMatches(x, kv.IndexMatch{Term: m.AfterTerm, Key: m.AfterKey}) <= 0 || x.Term < m.Start || x.Term > m.End:
		case len(answer.Matches) >= min(m.Limit, most):
			answer.More = true
		default:
			answer.Matches = append(answer.Matches, x)
			answer.LastTerm, answer.LastKey = x.Term, x.Key
		}
	}
	return answer
}

// A page in order is the first of what all homes hold, without a gap, or an error, in
// whatever order answers come, and however few matches they bring.
func TestGatheredPagesInAnyOrder(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		f := &finding{world: newWorld(t), held: make([][]kv.IndexMatch, 8)}
		var all []kv.IndexMatch
		for h := range f.held {
			for i := range rapid.IntRange(0, 4).Draw(t, "matches") {
				f.held[h] = append(f.held[h], kv.IndexMatch{Term: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "term"), Key: fmt.Sprintf("%d.%d", h, i)})
			}
			slices.SortFunc(f.held[h], compareMatches)
			all = append(all, f.held[h]...)
		}
		slices.SortFunc(all, compareMatches)
		q := kv.IndexQuery{Field: "w_bin", Start: "a", End: "c", Range: true, Sort: true, Limit: rapid.IntRange(1, 12).Draw(t, "limit"), Timeout: time.Second}
		if len(all) > 0 && rapid.Bool().Draw(t, "goes on") {
			from := rapid.IntRange(1, len(all)).Draw(t, "from")
			probe := NewIndex(f.view, IndexRequest{Bucket: kv.Bucket{Name: "b"}, Query: q})
			probe.field, probe.start, probe.endTerm = "w_bin", "a", "c"
			q.Token = sealToken(cursor{last: all[from-1]}, probe.parts()...)
			all = all[from:]
		}
		x := NewIndex(f.view, IndexRequest{Bucket: kv.Bucket{Name: "b"}, Query: q})
		f.machine, f.asked, f.renewed = x, f.judgeAsk, func() {}
		f.over = func() {
			page, err := x.Result()
			if err != nil {
				return
			}
			want := all[:min(len(all), q.Limit)]
			if !slices.Equal(page.Matches, want) {
				f.Fatalf("the page is %v; want %v", page.Matches, want)
			}
			if page.Next == "" && len(want) < len(all) {
				f.Fatalf("the page ends the query after %d of %d matches", len(want), len(all))
			}
		}
		f.live(f.outcome, time.Second)
	})
}

func (f *finding) judgeAsk(a Ask) {
	if home := a.Msg.(*vnode.Query).Home; !slices.Contains(f.view.Ring.Primaries(home, 3), a.To) {
		f.Fatalf("home %d is asked of %v", home, a.To)
	}
}

func (f *finding) outcome(a Ask) Event {
	switch rapid.IntRange(0, 8).Draw(f.T, "outcome") {
	case 0:
		return rapid.SampledFrom(denials(a.I)).Draw(f.T, "denied")
	case 1:
		return f.stale(a)
	}
	m := a.Msg.(*vnode.Query)
	return Replied{I: a.I, Msg: matched(m, f.held[m.Home], rapid.IntRange(1, 3).Draw(f.T, "most"))}
}

// large is a view of a ring of more partitions than a window has.
func large(t testing.TB) View {
	t.Helper()
	owners := make([]string, 64)
	for i := range owners {
		owners[i] = fmt.Sprintf("n%d", i%4)
	}
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	return View{Ring: r, Self: "n0", Replicas: 3, Wall: time.Unix(1, 0), Up: func(string) bool { return true }}
}

// runAll answers all that the machine asks until it is done.
func runAll(t testing.TB, m Machine, answer func(vnode.Message) vnode.Message) (asks int) {
	t.Helper()
	out := m.Step(0, Start{}, nil)
	for !m.Done() {
		var next []Effect
		for _, e := range out {
			if a, ok := e.(Ask); ok {
				asks++
				next = m.Step(0, Replied{I: a.I, Msg: answer(a.Msg)}, next)
			}
		}
		if len(next) == 0 && !m.Done() {
			t.Fatal("it waits for nothing")
		}
		out = next
	}
	return asks
}

// All pages of a query, in order or not, are each match once.
func TestPagesOfAQuery(t *testing.T) {
	v := large(t)
	held := make([][]kv.IndexMatch, 64)
	var all []kv.IndexMatch
	for i := range 1_000 {
		h := i * 7 % 40 // the last homes have none
		held[h] = append(held[h], kv.IndexMatch{Term: fmt.Sprintf("%02d", i%10), Key: fmt.Sprintf("%04d", i)})
	}
	for h := range held {
		slices.SortFunc(held[h], compareMatches)
		all = append(all, held[h]...)
	}
	slices.SortFunc(all, compareMatches)
	for _, sorted := range []bool{false, true} {
		for _, limit := range []int{1, 10, 333, 1_000, 0} {
			q := kv.IndexQuery{Field: "w_bin", Start: "", End: "x", Range: true, Sort: sorted, Limit: limit}
			var got []kv.IndexMatch
			for {
				x := NewIndex(v, IndexRequest{Bucket: kv.Bucket{Name: "b"}, Query: q})
				runAll(t, x, func(m vnode.Message) vnode.Message {
					q := m.(*vnode.Query)
					return matched(q, held[q.Home], 1_000)
				})
				page, err := x.Result()
				if err != nil || limit > 0 && len(page.Matches) > limit {
					t.Fatalf("%d matches, %v", len(page.Matches), err)
				}
				got = append(got, page.Matches...)
				if q.Token = page.Next; q.Token == "" {
					break
				}
			}
			if !sorted {
				slices.SortFunc(got, compareMatches)
			}
			if !slices.Equal(got, all) {
				t.Errorf("sorted %v, limit %d: %d matches, and they are not those that there are", sorted, limit, len(got))
			}
		}
	}
}

// A page in order does not bring all matches of all homes.
func TestAPageInOrderAsksForLittle(t *testing.T) {
	brought := 0
	x := NewIndex(large(t), IndexRequest{Bucket: kv.Bucket{Name: "b"}, Query: kv.IndexQuery{Field: "w_bin", Start: "a", Sort: true, Limit: 640}})
	asks := runAll(t, x, func(m vnode.Message) vnode.Message {
		q := m.(*vnode.Query)
		answer := &vnode.Matched{More: true}
		for i := range q.Limit {
			answer.LastTerm, answer.LastKey = "a", fmt.Sprintf("%05d.%02d", brought/64+i, q.Home)
			answer.Matches = append(answer.Matches, kv.IndexMatch{Term: "a", Key: answer.LastKey})
		}
		brought += q.Limit
		return answer
	})
	if page, err := x.Result(); err != nil || len(page.Matches) != 640 || asks > 200 || brought > 4*640 {
		t.Errorf("%d asks have brought %d matches for %d, %v", asks, brought, len(page.Matches), err)
	}
}

func TestQueriesThatCannotBeMeant(t *testing.T) {
	v := large(t)
	ask := func(b string, q kv.IndexQuery) error {
		x := NewIndex(v, IndexRequest{Bucket: kv.Bucket{Name: b}, Query: q})
		x.Step(0, Start{}, nil)
		if !x.Done() {
			return nil
		}
		_, err := x.Result()
		return err
	}
	token := sealToken(cursor{home: 16}, NewIndex(v, IndexRequest{Bucket: kv.Bucket{Name: "b"}}).parts()...)
	good := kv.IndexQuery{Field: "n_int", Start: "1"}
	if err := ask("b", good); err != nil {
		t.Error(err)
	}
	for name, q := range map[string]kv.IndexQuery{
		"a token of another query": {Field: "n_int", Start: "1", Token: token},
		"a token of nothing":       {Field: "n_int", Start: "1", Token: "AAAA"},
		"a negative limit":         {Field: "n_int", Start: "1", Limit: -1},
		"a negative timeout":       {Field: "n_int", Start: "1", Timeout: -1},
		"no field":                 {Start: "1"},
		"a number too large":       {Field: "n_int", Start: "9223372036854775808"},
	} {
		if err := ask("b", q); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := ask("", good); err == nil {
		t.Error("a query without a bucket is taken")
	}
	for _, home := range []int{64, 3} { // behind the ring, and inside a window
		if _, err := openToken(sealToken(cursor{home: home}, "x"), 16, 64, "x"); err == nil {
			t.Errorf("a token of home %d is taken", home)
		}
	}
}

// Buckets are merged in the order in which homes answer, each once, though a home may
// say one again, and one of which only a replaced value is left is told by its properties.
func TestPagesOfBuckets(t *testing.T) {
	v := large(t)
	v.Fewest = func(string) (int, error) { return 1, nil }
	v.Props = func(b kv.Bucket) (*kv.Props, error) {
		p := kv.DefaultProps(3, b.Name != "last")
		return &p, nil
	}
	names := []string{"z", "aa", "old", "last", "many"}
	for _, limit := range []int{1, 2, 0} {
		var got []string
		token := ""
		for {
			b := NewBuckets(v, BucketsRequest{Options: kv.ListOptions{Limit: limit, Token: token}})
			runAll(t, b, func(m vnode.Message) vnode.Message {
				q := m.(*vnode.Buckets)
				answer := &vnode.BucketsFound{Last: q.After}
				for i, name := range names {
					if int(q.Home)%(i+1) != 0 || compareNames(name, q.After) < 0 || name == q.After && q.Inside == "" {
						continue
					}
					if len(answer.Found) > 0 {
						answer.More = true
						break
					}
					inside := ""
					if name == "many" && q.Inside == "" {
						inside, answer.More = "k", true // the answer ends in its middle
					}
					answer.Found = append(answer.Found, vnode.FoundBucket{Name: name, Latest: name != "old" && name != "last"})
					answer.Last, answer.Inside = name, inside
				}
				return answer
			})
			page, err := b.Result()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page.Buckets...)
			if token = page.Next; token == "" {
				break
			}
		}
		if want := []string{"z", "aa", "old", "many"}; !slices.Equal(got, want) {
			t.Errorf("limit %d: %v; want %v", limit, got, want)
		}
	}
}

// With copies on one node only, nobody else is asked when it is down.
func TestBucketsOfOneCopy(t *testing.T) {
	v := large(t)
	v.Fewest = func(string) (int, error) { return 1, nil }
	v.Up = func(node string) bool { return node != "n2" }
	b := NewBuckets(v, BucketsRequest{})
	b.Step(0, Start{}, nil)
	if _, err := b.Result(); !b.Done() || err == nil {
		t.Errorf("done %v, error %v", b.Done(), err)
	}
}

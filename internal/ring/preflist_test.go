package ring_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

func TestFirstByExample(t *testing.T) {
	//                             0    1    2    3    4    5    6    7
	aab := newRing(t, []string{"a", "a", "b", "c", "a", "b", "a", "a"})
	list := aab.Primaries(0, 5)
	if got, want := show(list), "0 a primary, 1 a primary, 2 b primary, 3 c primary, 4 a primary"; got != want {
		t.Fatalf("the list is %s, want %s", got, want)
	}
	for n, want := range []string{
		"",
		"0 a primary",
		"0 a primary, 2 b primary",
		"0 a primary, 2 b primary, 3 c primary",
		"0 a primary, 1 a primary, 2 b primary, 3 c primary",
		"0 a primary, 1 a primary, 2 b primary, 3 c primary, 4 a primary",
		"0 a primary, 1 a primary, 2 b primary, 3 c primary, 4 a primary",
	} {
		if got := show(ring.First(list, n)); got != want {
			t.Errorf("%d: got  %s\nwant %s", n, got, want)
		}
	}
	if got := ring.First(list, -1); len(got) != 0 {
		t.Errorf("fewer than none are %v", got)
	}
}

func TestFirstAreOnAsManyNodesAsCanBe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := drawRing(t)
		home := ring.Partition(rapid.IntRange(0, r.Size()-1).Draw(t, "home"))
		all := rapid.IntRange(0, 6).Draw(t, "all")
		n := rapid.IntRange(0, 8).Draw(t, "n")
		list := r.Primaries(home, all)
		first := ring.First(list, n)
		if len(first) != min(n, len(list)) {
			t.Fatalf("%d of %d are %d", n, len(list), len(first))
		}
		if got, want := nodesOf(first), min(n, nodesOf(list)); got != want {
			t.Fatalf("%s are on %d nodes; %d of %s could be", show(first), got, want, show(list))
		}
		rest := list
		for _, x := range first {
			i := slices.Index(rest, x)
			if i < 0 {
				t.Fatalf("%s are not of %s, in its order", show(first), show(list))
			}
			rest = rest[i+1:]
		}
	})
}

func nodesOf(list []ring.Replica) int {
	nodes := make(map[string]bool)
	for _, x := range list {
		nodes[x.Node] = true
	}
	return len(nodes)
}

// With a claim that spreads the replicas the list is the successive partitions,
// as Riak's is.
func TestPrimariesAreSuccessiveWhereTheClaimSpreads(t *testing.T) {
	for _, nodes := range []int{1, 4, 8, 16} {
		r := claim(t, 64, 4, nil, named(nodes))
		for home := range r.Size() {
			for n := range min(4, nodes) + 1 {
				for i, x := range r.Primaries(ring.Partition(home), n) {
					if x.Partition != r.Next(ring.Partition(home), i) {
						t.Fatalf("%d nodes, home %d: replica %d of %d is on partition %d", nodes, home, i, n, x.Partition)
					}
				}
			}
		}
	}
}

func TestPlacesByExample(t *testing.T) {
	//                              0    1    2    3    4    5    6    7
	abcd := newRing(t, []string{"a", "b", "c", "d", "a", "b", "c", "d"})
	for _, tc := range []struct {
		name   string
		next   *ring.Ring
		all, n int
		want   string
	}{
		{"no next ring", nil, 3, 3, "0 a primary now next, 1 b primary now next, 2 c primary now next"},
		{"the same ring", abcd, 3, 2, "0 a primary now next, 1 b primary now next"},
		{"one place changes", abcd.With(1, "e"), 3, 3, "0 a primary now next, 1 b primary now, 2 c primary now next, 1 e incoming next"},
		{"it changes beyond the list", abcd.With(4, "e"), 3, 3, "0 a primary now next, 1 b primary now next, 2 c primary now next"},
		{"it changes beyond a shorter list", abcd.With(2, "e"), 3, 2, "0 a primary now next, 1 b primary now next"},
		{"the next list is wider", abcd.With(1, "a"), 3, 3, "0 a primary now next, 1 b primary now, 2 c primary now next, 3 d incoming next"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, p := range ring.Places(abcd, tc.next, 0, tc.all, tc.n) {
				s := show([]ring.Replica{p.Replica})
				if p.Now {
					s += " now"
				}
				if p.Next {
					s += " next"
				}
				got = append(got, s)
			}
			if got := strings.Join(got, ", "); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestPlacesAreTheListsOfBothRings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, owners := drawRing(t)
		next := now
		if rapid.Bool().Draw(t, "other owners") {
			next = newRing2(t, rapid.SliceOfN(rapid.StringMatching("[a-k]"), len(owners), len(owners)).Draw(t, "next owners"))
		}
		home := ring.Partition(rapid.IntRange(0, now.Size()-1).Draw(t, "home"))
		all := rapid.IntRange(0, 6).Draw(t, "all")
		n := rapid.IntRange(0, 6).Draw(t, "n")
		var gotNow, gotNext []ring.Replica
		seen := make(map[place]bool)
		for i, p := range ring.Places(now, next, home, all, n) {
			if seen[placeOf(p.Replica)] {
				t.Fatalf("%v is there twice", p)
			}
			seen[placeOf(p.Replica)] = true
			if p.Now != (p.Role == kv.Primary) || p.Now == (p.Role == kv.Incoming) || p.Now && i > len(gotNow) {
				t.Fatalf("place %d is %+v", i, p)
			}
			if p.Now {
				gotNow = append(gotNow, p.Replica)
			}
			if p.Next {
				p.Role = kv.Primary
				gotNext = append(gotNext, p.Replica)
			}
		}
		wantNow := ring.First(now.Primaries(home, all), n)
		wantNext := ring.First(next.Primaries(home, all), n)
		byPlace := func(a, b ring.Replica) int {
			return strings.Compare(show([]ring.Replica{a}), show([]ring.Replica{b}))
		}
		slices.SortFunc(gotNext, byPlace)
		slices.SortFunc(wantNext, byPlace)
		if !slices.Equal(gotNow, wantNow) || !slices.Equal(gotNext, wantNext) {
			t.Fatalf("now %s, want %s; next %s, want %s", show(gotNow), show(wantNow), show(gotNext), show(wantNext))
		}
	})
}

func TestStandinsAreTheOthersThatAreUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		home := rapid.IntRange(0, r.Size()-1).Draw(t, "home")
		n := rapid.IntRange(0, 6).Draw(t, "n")
		down := rapid.SliceOf(rapid.StringMatching("[a-h]")).Draw(t, "down")
		skipped := rapid.SliceOf(rapid.StringMatching("[a-h]")).Draw(t, "skipped")
		last := home - 1
		if list := slowPrimaries(owners, home, min(n, len(owners))); len(list) > 0 {
			last = list[len(list)-1]
		}
		var want []string
		for i := range owners {
			node := owners[(last+1+i+len(owners))%len(owners)]
			if !slices.Contains(down, node) && !slices.Contains(skipped, node) && !slices.Contains(want, node) {
				want = append(want, node)
			}
		}
		asked := make(map[string]int)
		got := r.Standins(ring.Partition(home), n,
			func(node string) bool { asked[node]++; return !slices.Contains(down, node) },
			func(node string) bool { return slices.Contains(skipped, node) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-slow +fast):\n%s", diff)
		}
		for node, times := range asked {
			if times > 1 {
				t.Fatalf("asked %d times whether %s is up", times, node)
			}
		}
	})
}

func BenchmarkPlaces(b *testing.B) {
	now := claim(b, 1024, 4, nil, named(64))
	for name, next := range map[string]*ring.Ring{"quiet": now, "transfer": now.With(1, now.Owner(9))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ring.Places(now, next, 0, 3, 3)
			}
		})
	}
}

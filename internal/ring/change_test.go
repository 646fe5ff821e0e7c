package ring_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

func TestWithChangesOneOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		p := rapid.IntRange(0, r.Size()-1).Draw(t, "partition")
		node := rapid.StringMatching("[a-k]").Draw(t, "node")
		next := r.With(ring.Partition(p), node)
		sameRing(t, owners, r)
		was := owners[p]
		owners[p] = node
		sameRing(t, owners, next)
		var want []ring.Move
		if was != node {
			want = []ring.Move{{Partition: ring.Partition(p), From: was, To: node}}
		}
		if diff := cmp.Diff(want, r.Moves(next)); diff != "" {
			t.Fatalf("other moves (-want +got):\n%s", diff)
		}
	})
}

func TestRenamePutsOneNodeInThePlaceOfAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		name := rapid.StringMatching("[a-k]")
		from, to := name.Draw(t, "old"), name.Draw(t, "new")
		next := r.Rename(from, to)
		sameRing(t, owners, r)
		for i := range owners {
			if owners[i] == from {
				owners[i] = to
			}
		}
		sameRing(t, owners, next)
	})
}

// sameRing checks everything that a ring says about its owners.
func sameRing(t *rapid.T, owners []string, r *ring.Ring) {
	t.Helper()
	want, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != want.Size() || r.String() != want.String() || moves(want, r) != 0 {
		t.Fatalf("got %v with %d other owners, want %v", r, moves(want, r), want)
	}
}

func TestMovesAreThePartitionsThatChangeOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		next := rapid.SliceOfN(rapid.StringMatching("[a-k]"), len(owners), len(owners)).Draw(t, "next owners")
		var want []ring.Move
		for p := range owners {
			if owners[p] != next[p] {
				want = append(want, ring.Move{Partition: ring.Partition(p), From: owners[p], To: next[p]})
			}
		}
		if diff := cmp.Diff(want, r.Moves(newRing2(t, next))); diff != "" {
			t.Fatalf("other moves (-want +got):\n%s", diff)
		}
	})
}

func newRing2(t *rapid.T, owners []string) *ring.Ring {
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Two partitions are apart when no window has both. All sizes up to 64, all
// pairs.
func TestApartMeansInNoWindowTogether(t *testing.T) {
	for size := ring.MinPartitions; size <= 64; size *= 2 {
		r := newRing(t, slices.Repeat([]string{"a"}, size))
		for n := 1; n <= 6; n++ {
			for p := range size {
				for q := range size {
					together := false
					for home := range size {
						fromP, fromQ := (p-home+size)%size, (q-home+size)%size
						together = together || fromP < 2*n && fromQ < 2*n
					}
					if got := r.Apart(ring.Partition(p), ring.Partition(q), n); got == together {
						t.Fatalf("%d and %d of %d with %d replicas: Apart is %v", p, q, size, n, got)
					}
				}
			}
		}
	}
}

// What Apart is for: where one owner changes, only the homes whose windows
// have that partition see another list.
func TestAnOwnerMattersOnlyToTheWindowsItIsIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := drawRing(t)
		n := rapid.IntRange(0, 6).Draw(t, "n")
		p := ring.Partition(rapid.IntRange(0, r.Size()-1).Draw(t, "partition"))
		next := r.With(p, rapid.StringMatching("[a-k]").Draw(t, "node"))
		for home := range r.Size() {
			h := ring.Partition(home)
			inWindow := (int(p)-home+r.Size())%r.Size() < 2*n
			if diff := cmp.Diff(r.Primaries(h, n), next.Primaries(h, n)); diff != "" && !inWindow {
				t.Fatalf("the list of %d has changed with the owner of %d:\n%s", home, p, diff)
			}
		}
	})
}

func TestFillsByExample(t *testing.T) {
	//                              0    1    2    3    4    5    6    7
	abcd := newRing(t, []string{"a", "b", "c", "d", "a", "b", "c", "d"})
	aab := newRing(t, []string{"a", "a", "b", "c", "a", "b", "c", "b"})
	for _, tc := range []struct {
		name      string
		old, next *ring.Ring
		n         int
		want      []string
	}{
		{"nothing changes", abcd, abcd, 3, nil},
		{"a partition goes to a new node", abcd, abcd.With(3, "e"), 2, []string{
			"home 2: 3 e from 3 d", "home 3: 3 e from 3 d",
		}},
		{"where the new node is in the list already another partition comes in", abcd, abcd.With(3, "a"), 2, []string{
			"home 2: 3 a from 3 d", "home 3: 3 a from 3 d", "home 3: 5 b from 4 a",
		}},
		{"one list becomes dense, another one wide", aab, aab.With(1, "b"), 2, []string{
			"home 0: 1 b from 2 b", "home 1: 1 b from 1 a", "home 1: 3 c from 2 b",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, f := range ring.Fills(tc.old, tc.next, tc.n) {
				got = append(got, fmt.Sprintf("home %d: %d %s from %d %s", f.Home, f.To.Partition, f.To.Node, f.From.Partition, f.From.Node))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every home is looked at here, not only those near a change.
func TestFillsMakeTheNextListsOutOfTheOldOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, _ := drawRing(t)
		n := rapid.IntRange(0, 6).Draw(t, "n")
		next := old
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			p := rapid.IntRange(0, old.Size()-1).Draw(t, "partition")
			next = next.With(ring.Partition(p), rapid.StringMatching("[a-k]").Draw(t, "node"))
		}
		fills := ring.Fills(old, next, n)
		for home := range old.Size() {
			was, is := replicaSet(old, home, n), replicaSet(next, home, n)
			var at int
			for len(fills) > 0 && int(fills[0].Home) == home {
				f := fills[0]
				fills = fills[1:]
				if f.To.Role != kv.Incoming || f.From.Role != kv.Primary {
					t.Fatalf("the roles of %+v", f)
				}
				from, to := placeOf(f.From), placeOf(f.To)
				if !was[from] || is[from] || was[to] || !is[to] {
					t.Fatalf("home %d: %v does not take over from %v, out of %v, for %v", home, to, from, was, is)
				}
				if clockwise := (to.p - home + old.Size()) % old.Size(); clockwise < at {
					t.Fatalf("home %d: the fill of %v is not in its order", home, to)
				} else {
					at = clockwise
				}
				twin := place{to.p, old.Owner(f.To.Partition)}
				if from.p != to.p && was[twin] && !is[twin] {
					t.Fatalf("home %d: %v takes over from %v, but its own partition's goes", home, to, from)
				}
				delete(was, from)
				was[to] = true
			}
			if diff := cmp.Diff(is, was, cmp.AllowUnexported(place{})); diff != "" {
				t.Fatalf("home %d is not filled (-next +filled):\n%s", home, diff)
			}
		}
		if len(fills) > 0 {
			t.Fatalf("fills left over, or not by home: %v", fills)
		}
	})
}

// TestEveryNumberOfReplicasIsFilled follows the keys of each number of replicas:
// they are on the first of the old places, and after the fills and shifts they
// are on the first of the new ones.
func TestEveryNumberOfReplicasIsFilled(t *testing.T) {
	shifted := 0
	rapid.Check(t, func(t *rapid.T) {
		old, _ := drawRing(t)
		n := rapid.IntRange(1, 6).Draw(t, "n")
		next := old.With(ring.Partition(rapid.IntRange(0, old.Size()-1).Draw(t, "partition")), rapid.StringMatching("[a-k]").Draw(t, "node"))
		shifts := ring.Shifts(old, next, n)
		shifted += len(shifts)
		fills := append(ring.Fills(old, next, n), shifts...)
		for home := range old.Size() {
			for m := 1; m <= n; m++ {
				had := firstSet(old, home, n, m)
				has := firstSet(old, home, n, m)
				for _, f := range fills {
					if int(f.Home) == home && had[placeOf(f.From)] {
						has[placeOf(f.To)] = true
					}
				}
				for x := range firstSet(next, home, n, m) {
					if !has[x] {
						t.Fatalf("home %d: keys of %d replicas are not on %v", home, m, x)
					}
				}
			}
		}
		for _, f := range shifts {
			if !replicaSet(old, int(f.Home), n)[placeOf(f.From)] || !replicaSet(next, int(f.Home), n)[placeOf(f.To)] {
				t.Fatalf("the shift %+v is not between places of its home", f)
			}
		}
	})
	if shifted == 0 {
		t.Error("no list has shifted")
	}
}

func firstSet(r *ring.Ring, home, n, m int) map[place]bool {
	set := make(map[place]bool)
	for _, x := range ring.First(r.Primaries(ring.Partition(home), n), m) {
		set[placeOf(x)] = true
	}
	return set
}

type place struct {
	p    int
	node string
}

func placeOf(x ring.Replica) place { return place{int(x.Partition), x.Node} }

func replicaSet(r *ring.Ring, home, n int) map[place]bool {
	set := make(map[place]bool)
	for _, x := range r.Primaries(ring.Partition(home), n) {
		set[placeOf(x)] = true
	}
	return set
}

func BenchmarkFillsOfOneTransfer(b *testing.B) {
	old := claim(b, 16384, 4, nil, named(1000))
	next := old.With(77, old.Owner(99))
	b.ReportAllocs()
	for b.Loop() {
		ring.Fills(old, next, 3)
	}
}

func BenchmarkWith(b *testing.B) {
	r := claim(b, 16384, 4, nil, named(1000))
	b.ReportAllocs()
	for b.Loop() {
		r.With(77, r.Owner(99))
	}
}

// TestEqual: rings are equal if each partition has the same owner, whatever they are made of.
func TestEqual(t *testing.T) {
	a := owned(t, "a b c a b c a b")
	for owners, want := range map[string]bool{
		"a b c a b c a b":                 true,
		"a b c a b c a c":                 false,
		"a b d a b d a b":                 false,
		"a b c a b c a b a b c a b c a b": false,
	} {
		if got := a.Equal(owned(t, owners)); got != want {
			t.Errorf("%v equals %s: %t", a, owners, got)
		}
	}
}

func owned(t *testing.T, owners string) *ring.Ring {
	t.Helper()
	r, err := ring.New(strings.Fields(owners))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

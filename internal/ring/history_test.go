package ring_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
)

// How many partitions move as clusters of the usual sizes grow and shrink. The
// spread comes before the moves: four nodes can only alternate, so from three
// to four and back hardly anything stays; and where the nodes of a larger
// cluster alternate, the neighbours of one that leaves cannot take its place.
func TestMovesOfUsualChanges(t *testing.T) {
	for _, tc := range []struct {
		nodes []int                  // one after the other
		moves map[int]map[int]string // by size, by step: what moves/what must
	}{
		{[]int{3, 4, 5, 4, 3}, map[int]map[int]string{
			64:  {1: "46/16", 2: "12/12", 3: "12/12", 4: "46/16"},
			128: {1: "95/32", 2: "25/25", 3: "25/25", 4: "94/32"},
			256: {1: "190/64", 2: "51/51", 3: "51/51", 4: "190/64"},
		}},
		{[]int{5, 6, 7, 8, 7, 6, 5, 4}, map[int]map[int]string{
			64:  {1: "10/10", 2: "9/9", 3: "8/8", 4: "8/8", 5: "9/9", 6: "13/10", 7: "17/12"},
			128: {1: "21/21", 2: "18/18", 3: "16/16", 4: "16/16", 5: "19/18", 6: "25/21", 7: "55/25"},
			256: {1: "42/42", 2: "36/36", 3: "32/32", 4: "32/32", 5: "38/36", 6: "51/42", 7: "85/51"},
		}},
		{[]int{8, 9, 8}, map[int]map[int]string{
			64:  {1: "7/7", 2: "7/7"},
			128: {1: "14/14", 2: "14/14"},
			256: {1: "28/28", 2: "28/28"},
		}},
		{[]int{16, 15}, map[int]map[int]string{
			64:  {1: "4/4"},
			128: {1: "12/8"},
			256: {1: "22/16"},
		}},
	} {
		for _, size := range []int{64, 128, 256} {
			r := claim(t, size, 4, nil, named(tc.nodes[0]))
			for step, nodes := range tc.nodes[1:] {
				next := claim(t, size, 4, r, named(nodes))
				got := fmt.Sprintf("%d/%d", moves(r, next), leastMoves(r, next))
				if want := tc.moves[size][step+1]; got != want {
					t.Errorf("%d partitions, %v, step %d: %s move/must, want %s", size, tc.nodes, step+1, got, want)
				}
				r = next
			}
		}
	}
}

// Four nodes that hold any four successive partitions alternate. There are 24
// ways to do so; the claim takes the one that moves least.
func TestShrinkingToAlternatingNodesMovesLeast(t *testing.T) {
	for nodes := 5; nodes <= 9; nodes++ {
		old := claim(t, 64, 4, nil, named(nodes))
		best := 64
		permutations([]string{"n1", "n2", "n3", "n4"}, func(order []string) {
			owners := make([]string, 64)
			for p := range owners {
				owners[p] = order[p%4]
			}
			best = min(best, moves(old, newRing(t, owners)))
		})
		if got := moves(old, claim(t, 64, 4, old, named(4))); got != best {
			t.Errorf("from %d nodes to four: %d partitions move, %d would do", nodes, got, best)
		}
	}
}

// All arrangements of eight partitions, and all that can become of up to six
// nodes: of the arrangements that keep partitions as far apart, with as fair
// shares, hardly one moves less than the claim, and never by more than one
// partition.
func TestHardlyAnArrangementOfEightPartitionsMovesLess(t *testing.T) {
	const size = 8
	plans, more := 0, 0
	for target := 1; target <= 3; target++ {
		for before := target + 1; before <= 6; before++ {
			old := claim(t, size, target, nil, named(before))
			for who := range 1 << 6 {
				members := slices.DeleteFunc(named(6), func(m ring.Member) bool { return who>>(m.Name[1]-'1')&1 == 0 })
				if len(members) <= target || len(members) > 5 {
					continue
				}
				got, best := moves(old, claim(t, size, target, old, members)), leastOfAll(old, target, members)
				if got > best+1 {
					t.Errorf("target %d, from %d nodes to %v: %d partitions move, %d would do", target, before, members, got, best)
				}
				plans++
				more += got - best
			}
		}
	}
	if plans != 507 || more > 12 {
		t.Errorf("%d of %d plans move a partition more than they must", more, plans)
	}
}

// leastOfAll tries all arrangements in which each member has its share, give or
// take what cannot be divided, and no node comes twice within target.
func leastOfAll(old *ring.Ring, target int, members []ring.Member) int {
	size := old.Size()
	owners := make([]int, size)
	owned := make([]int, len(members))
	best := size
	var try func(p, moved int)
	try = func(p, moved int) {
		if moved >= best {
			return
		}
		if p == size {
			if slices.Min(owned) >= size/len(members) {
				best = moved
			}
			return
		}
		for m := range members {
			close := false
			for d := 1; d < target; d++ {
				close = close || d <= p && owners[p-d] == m || p+d >= size && owners[p+d-size] == m
			}
			if close || owned[m] == (size+len(members)-1)/len(members) {
				continue
			}
			owners[p] = m
			owned[m]++
			if old.Owner(ring.Partition(p)) == members[m].Name {
				try(p+1, moved)
			} else {
				try(p+1, moved+1)
			}
			owned[m]--
		}
	}
	try(0, 0)
	return best
}

func permutations(list []string, yield func([]string)) {
	var permute func(n int)
	permute = func(n int) {
		if n == len(list) {
			yield(list)
			return
		}
		for i := n; i < len(list); i++ {
			list[n], list[i] = list[i], list[n]
			permute(n + 1)
			list[n], list[i] = list[i], list[n]
		}
	}
	permute(0)
}

// history is a cluster and what becomes of it.
type history struct {
	target  int
	members []ring.Member
	named   int // how many names have been given
	ring    *ring.Ring
	shared  bool // some partitions that should not be are on one node or in one zone
}

// Whatever happens to a cluster, its ring stays as good as it can be, and not
// more of it moves than has a reason to.
func TestClaimThroughoutAHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := drawSize(t, 256)
		h := &history{target: rapid.IntRange(1, 5).Draw(t, "target")}
		zones := rapid.SampledFrom([]int{1, 1, 2, 3, 5}).Draw(t, "zones")
		weights := rapid.SampledFrom([]int{1, 1, 3}).Draw(t, "weights")
		for range rapid.IntRange(1, 12).Draw(t, "nodes") {
			h.join(t, zones, weights)
		}
		h.claim(t, size, nil)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			old, before := h.ring, slices.Clone(h.members)
			change := rapid.SampledFrom([]string{"join", "leave", "replace", "several"}).Draw(t, "change")
			switch {
			case change == "replace":
				h.replace(t)
				continue
			case change == "join" || len(h.members) < 3:
				h.join(t, zones, weights)
			case change == "leave":
				h.leave(t)
			case change == "several":
				h.leave(t)
				h.join(t, zones, weights)
				h.leave(t)
			}
			h.claim(t, size, old)
			if zones == 1 && weights == 1 {
				h.checkMoves(t, old, before)
			}
		}
	})
}

// claim claims for the members, and checks all that is promised of a ring.
func (h *history) claim(t *rapid.T, size int, old *ring.Ring) {
	r, warnings, err := ring.Claim(size, h.target, old, h.members)
	if err != nil {
		t.Fatal(err)
	}
	h.ring = r
	h.shared = slices.ContainsFunc(warnings, func(w ring.Warning) bool {
		switch w.(type) {
		case ring.SharedNode, ring.SharedZone:
			return true
		}
		return false
	})
	checkNodes(t, r, min(h.target, len(h.members)), warnings)
	checkShares(t, r, h.members, warnings)
	checkZones(t, r, h.target, h.members, warnings)
	h.checkSpread(t)
	for n := 1; n <= h.target; n++ {
		if got, want := r.Copies(n), min(n, len(r.Nodes())); got != want {
			t.Fatalf("%d replicas are on %d nodes, of %d", n, got, want)
		}
	}
}

func (h *history) join(t *rapid.T, zones, weights int) {
	h.named++
	h.members = append(h.members, ring.Member{
		Name:   fmt.Sprintf("n%d", h.named),
		Zone:   fmt.Sprintf("z%d", rapid.IntRange(1, zones).Draw(t, "zone")),
		Weight: rapid.IntRange(1, weights).Draw(t, "weight"),
	})
}

func (h *history) leave(t *rapid.T) {
	i := rapid.IntRange(0, len(h.members)-1).Draw(t, "who leaves")
	h.members = slices.Delete(slices.Clone(h.members), i, i+1)
}

// replace puts a new node in the place of another: it takes over exactly what
// that one had, and a claim agrees, if there was nothing to improve.
func (h *history) replace(t *rapid.T) {
	h.named++
	i := rapid.IntRange(0, len(h.members)-1).Draw(t, "who is replaced")
	was, name := h.members[i].Name, fmt.Sprintf("n%d", h.named)
	h.members = slices.Clone(h.members)
	h.members[i].Name = name
	old := h.ring
	h.ring = old.Rename(was, name)
	if moves(old, h.ring) != old.Owned(was) || h.ring.Owned(name) != old.Owned(was) || h.ring.Owned(was) != 0 {
		t.Fatalf("%s has replaced %s, in %v out of %v", name, was, h.ring, old)
	}
	again := claim(t, old.Size(), h.target, h.ring, h.members)
	if n := moves(h.ring, again); n > 0 && !h.shared {
		t.Fatalf("%s has replaced %s, and then %d partitions move", name, was, n)
	}
}

// checkSpread holds the ring against what is known to be possible: an element of
// a circle can come up so often, this far apart, as the distance fits into it.
func (h *history) checkSpread(t *rapid.T) {
	size, target := h.ring.Size(), min(h.target, len(h.members))
	if pairs := sharing(h.ring, target); len(pairs) > 0 && size/target*len(h.members) >= size {
		t.Fatalf("%d nodes can be kept %d apart, but %v share one", len(h.members), target, pairs)
	}
	byZone := make(map[string]int)
	for _, m := range h.members {
		byZone[m.Zone] += h.ring.Owned(m.Name)
	}
	fit := len(byZone) >= target
	for _, n := range byZone {
		fit = fit && n <= size/target
	}
	if n := zonesSharing(h.ring, target, h.members); fit && n > 0 {
		t.Fatalf("%d zones with %v partitions can be kept %d apart, but %d pairs share one", len(byZone), byZone, target, n)
	}
}

// checkMoves holds the moves within what is known to be enough: whoever joins
// takes just its share, and with twice as many nodes as the spread needs, those
// that leave do not make much more than their share move.
func (h *history) checkMoves(t *rapid.T, old *ring.Ring, before []ring.Member) {
	free := h.target // with so many nodes the owner of a partition can be chosen
	if old.Size()%h.target != 0 {
		free++
	}
	got, need := moves(old, h.ring), leastMoves(old, h.ring)
	if len(h.members) > len(before) && len(before) >= free {
		if got > need {
			t.Fatalf("a node joins %d: %d partitions move, %d must", len(before), got, need)
		}
	}
	if len(h.members) >= 2*h.target && got > 2*need+2 {
		t.Fatalf("from %d nodes to %d: %d partitions move, %d must", len(before), len(h.members), got, need)
	}
}

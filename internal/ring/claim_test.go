package ring_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// Every ring size up to 1024 and every number of nodes up to 64, from nothing,
// and then with a node more and a node less.
func TestClaimSpreadsAndBalancesWhateverTheSize(t *testing.T) {
	for size := ring.MinPartitions; size <= 1024; size *= 2 {
		for nodes := 1; nodes <= 64; nodes++ {
			r := claim(t, size, 4, nil, named(nodes))
			checkEven(t, r, nodes)
			more := claim(t, size, 4, r, named(nodes+1))
			checkEven(t, more, nodes+1)
			if nodes >= 4 && moves(r, more) != leastMoves(r, more) {
				t.Errorf("%d partitions, node %d joins: %d partitions move, %d need to", size, nodes+1, moves(r, more), leastMoves(r, more))
			}
			if nodes == 1 {
				continue
			}
			less := claim(t, size, 4, r, named(nodes + 1)[1:nodes])
			checkEven(t, less, nodes-1)
			if got, need := moves(r, less), leastMoves(r, less); nodes > 8 && got > 2*need+2 {
				t.Errorf("%d partitions, 1 of %d nodes leaves: %d partitions move, %d need to", size, nodes, got, need)
			}
		}
	}
}

// checkEven checks a ring of nodes with the same weight and zone against the
// promises: four successive partitions on distinct nodes, or as many as there
// are nodes, and shares that differ by one at most.
func checkEven(t *testing.T, r *ring.Ring, nodes int) {
	t.Helper()
	target := min(4, nodes)
	if bad := len(sharing(r, target)); bad > 0 && r.Size()%target == 0 {
		t.Errorf("%d partitions, %d nodes: %d pairs of partitions are too close", r.Size(), nodes, bad)
	} else if bad > 2 {
		t.Errorf("%d partitions, %d nodes: %d pairs of partitions are too close; two would do", r.Size(), nodes, bad)
	}
	for _, node := range r.Nodes() {
		if n := r.Owned(node); n != r.Size()/nodes && n != (r.Size()+nodes-1)/nodes {
			t.Errorf("%d partitions, %d nodes: %s owns %d", r.Size(), nodes, node, n)
		}
	}
	want := target
	if r.Size()%target != 0 {
		want-- // at the wrap
	}
	if got := apart(r, target); got != want {
		t.Errorf("%d partitions, %d nodes: %d copies of %d are distinct, want %d", r.Size(), nodes, got, target, want)
	}
}

// apart is the least number of distinct nodes on any n successive partitions.
func apart(r *ring.Ring, n int) int {
	least := n
	for home := range r.Size() {
		distinct := make(map[string]bool)
		for i := range n {
			distinct[r.Owner(r.Next(ring.Partition(home), i))] = true
		}
		least = min(least, len(distinct))
	}
	return least
}

// pair is two partitions on one node, and how far the second is clockwise of
// the first.
type pair struct{ first, apart int }

// sharing finds the pairs of partitions that are less than target apart and on
// one node, by looking at all there are.
func sharing(r *ring.Ring, target int) []pair {
	var pairs []pair
	for i := range r.Size() {
		for apart := 1; apart < min(target, r.Size()); apart++ {
			if r.Owner(ring.Partition(i)) == r.Owner(r.Next(ring.Partition(i), apart)) {
				pairs = append(pairs, pair{i, apart})
			}
		}
	}
	return pairs
}

// With three nodes, a size that is a power of two leaves over one or two
// partitions at the wrap. All arrangements of eight partitions show that no
// other one keeps more preference lists whole.
func TestNoArrangementOfThreeNodesIsBetter(t *testing.T) {
	const size, nodes = 8, 3
	broken := func(owner func(int) int) int {
		n := 0
		for i := range size {
			a, b, c := owner(i), owner((i+1)%size), owner((i+2)%size)
			if a == b || b == c || a == c {
				n++
			}
		}
		return n
	}
	best := size
	for code := range 6561 { // 3^8
		var owners [size]int
		for i, rest := 0, code; i < size; i, rest = i+1, rest/nodes {
			owners[i] = rest % nodes
		}
		best = min(best, broken(func(i int) int { return owners[i] }))
	}
	r := claim(t, size, 4, nil, named(nodes))
	if got := broken(func(i int) int { return int(r.Owner(ring.Partition(i))[1]) }); got != best {
		t.Errorf("%d preference lists of three lack a node; %d would do", got, best)
	}
}

// An even number of nodes in each of enough zones: neither rule costs anything.
func TestClaimSpreadsOverZones(t *testing.T) {
	for size := ring.MinPartitions; size <= 1024; size *= 2 {
		for zones := 4; zones <= 8; zones++ {
			for each := 1; each <= 4; each++ {
				members := named(zones * each)
				for i := range members {
					members[i].Zone = fmt.Sprintf("z%d", i%zones)
				}
				r, warnings, err := ring.Claim(size, 4, nil, members)
				if err != nil || len(warnings) > 0 {
					t.Fatalf("%d partitions, %d zones of %d nodes: %v, %v", size, zones, each, warnings, err)
				}
				if n := zonesSharing(r, 4, members); n > 0 {
					t.Errorf("%d partitions, %d zones of %d nodes: %d pairs of partitions are too close", size, zones, each, n)
				}
			}
		}
	}
}

// zonesSharing counts the pairs of partitions that are less than target apart,
// in one zone and on two nodes.
func zonesSharing(r *ring.Ring, target int, members []ring.Member) int {
	zone := make(map[string]string)
	for _, m := range members {
		zone[m.Name] = m.Zone
	}
	n := 0
	for i := range r.Size() {
		for apart := 1; apart < target; apart++ {
			a, b := r.Owner(ring.Partition(i)), r.Owner(r.Next(ring.Partition(i), apart))
			if a != b && zone[a] == zone[b] {
				n++
			}
		}
	}
	return n
}

// Whatever the weights, zones and history: what a claim promises holds, or a
// warning says that it does not.
func TestClaimKeepsItsPromisesOrSaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := drawSize(t, 1024)
		target := rapid.IntRange(1, 6).Draw(t, "target")
		members := drawMembers(t)
		var old *ring.Ring
		if rapid.Bool().Draw(t, "grows out of another") {
			old = claim(t, size, target, nil, drawMembers(t))
		}
		r, warnings, err := ring.Claim(size, target, old, members)
		if err != nil {
			t.Fatal(err)
		}
		checkNodes(t, r, min(target, len(members)), warnings)
		checkShares(t, r, members, warnings)
		checkZones(t, r, target, members, warnings)

		seed := rapid.Uint64().Draw(t, "order of members")
		shuffled := slices.Clone(members)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again, _, err := ring.Claim(size, target, old, shuffled)
		if err != nil || moves(r, again) != 0 {
			t.Fatalf("in another order of the members %d partitions are elsewhere: %v", moves(r, again), err)
		}
	})
}

func checkNodes(t *rapid.T, r *ring.Ring, target int, warnings []ring.Warning) {
	var want []ring.Warning
	for _, p := range sharing(r, target) {
		first := ring.Partition(p.first)
		want = append(want, ring.SharedNode{First: first, Last: r.Next(first, p.apart), Node: r.Owner(first)})
	}
	got := slices.DeleteFunc(slices.Clone(warnings), func(w ring.Warning) bool { _, ok := w.(ring.SharedNode); return !ok })
	if len(got) != len(want) {
		t.Fatalf("warned of %v, want %v", got, want)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Fatalf("not warned: %v; but: %v", w, got)
		}
	}
	// Enough nodes and a size that permits it: nothing is shared at all.
	if len(r.Nodes()) >= target && r.Size()%target == 0 && len(got) > 0 {
		t.Fatalf("%d nodes would be enough for %d, but: %v", len(r.Nodes()), target, got)
	}
}

func checkShares(t *rapid.T, r *ring.Ring, members []ring.Member, warnings []ring.Warning) {
	weights := 0
	for _, m := range members {
		weights += max(1, m.Weight)
	}
	for _, m := range members {
		fair := float64(r.Size()*max(1, m.Weight)) / float64(weights)
		owned := float64(r.Owned(m.Name))
		unfair := owned > fair+1 || owned < fair-1
		warned := slices.ContainsFunc(warnings, func(w ring.Warning) bool {
			u, ok := w.(ring.UnfairShare)
			return ok && u.Node == m.Name && u.Owned == r.Owned(m.Name) && float64(u.Fair) >= fair-0.5 && float64(u.Fair) <= fair+0.5
		})
		if unfair != warned {
			t.Fatalf("%s owns %v, fair is %v, warnings %v", m.Name, owned, fair, warnings)
		}
	}
}

func checkZones(t *rapid.T, r *ring.Ring, target int, members []ring.Member, warnings []ring.Warning) {
	zones := make(map[string]bool)
	for _, m := range members {
		zones[m.Zone] = true
	}
	apart, told := min(target, len(zones), r.Size()), 0
	for _, w := range warnings {
		switch w := w.(type) {
		case ring.FewZones:
			apart = w.Apart
			if w.Zones != len(zones) || w.Target != target || w.Apart >= target {
				t.Fatalf("there are %d zones, the target is %d: %v", len(zones), target, w)
			}
		case ring.SharedZone:
			told += w.Pairs
		}
	}
	if n := zonesSharing(r, apart, members); n != told {
		t.Fatalf("%d pairs share a zone, %d are told of: %v", n, told, warnings)
	}
}

func drawMembers(t *rapid.T) []ring.Member {
	weight := rapid.Map(rapid.IntRange(0, 8), func(n int) int { return max(0, n-4) }) // mostly 0
	zones := rapid.IntRange(1, 6).Draw(t, "zones")
	member := rapid.Custom(func(t *rapid.T) ring.Member {
		return ring.Member{
			Name:   rapid.StringMatching("n[0-9]{1,2}").Draw(t, "name"),
			Zone:   fmt.Sprintf("z%d", rapid.IntRange(1, zones).Draw(t, "zone")),
			Weight: weight.Draw(t, "weight"),
		}
	})
	return rapid.SliceOfNDistinct(member, 1, rapid.SampledFrom([]int{5, 20, 64}).Draw(t, "most"), func(m ring.Member) string { return m.Name }).Draw(t, "members")
}

// A large cluster is claimed, grows and shrinks as well as a small one.
func TestClaimOfAThousandNodes(t *testing.T) {
	const size = 16384
	full := claim(t, size, 4, nil, named(1000))
	for _, nodes := range []int{1000, 1001, 999, 500} {
		r := claim(t, size, 4, full, named(nodes))
		if apart(r, 4) != 4 {
			t.Errorf("%d nodes: only %d copies of 4 are distinct", nodes, apart(r, 4))
		}
		for _, node := range r.Nodes() {
			if n := r.Owned(node); n != size/nodes && n != size/nodes+1 {
				t.Errorf("%d nodes: %s owns %d", nodes, node, n)
			}
		}
		if moves(full, r) != leastMoves(full, r) {
			t.Errorf("%d nodes: %d partitions move, %d need to", nodes, moves(full, r), leastMoves(full, r))
		}
	}
}

func TestClaimKeepsWhatIsGood(t *testing.T) {
	for _, nodes := range []int{1, 3, 4, 7, 64} {
		r := claim(t, 256, 4, nil, named(nodes))
		if n := moves(r, claim(t, 256, 4, r, named(nodes))); n != 0 {
			t.Errorf("%d nodes: %d partitions move though nothing has changed", nodes, n)
		}
	}
}

func TestClaimRefusesWhatCannotBeMeant(t *testing.T) {
	old := claim(t, 16, 4, nil, named(3))
	for _, tc := range []struct {
		name         string
		size, target int
		old          *ring.Ring
		members      []ring.Member
		want         string
	}{
		{"no power of two", 60, 4, nil, named(1), "number of partitions is 60; it must be a power of two from 8 to 65536"},
		{"another size than before", 32, 4, old, named(1), "number of partitions is 32; the ring has 16 for ever"},
		{"no target", 16, 0, nil, named(1), "target_n is 0; it must be from 1 to 16"},
		{"a target too far", 16, 17, nil, named(1), "target_n is 17; it must be from 1 to 16"},
		{"nobody", 16, 4, nil, nil, "list of members is empty"},
		{"no name", 16, 4, nil, []ring.Member{{Name: "a"}, {}}, "name of a member is empty"},
		{"the same twice", 16, 4, nil, []ring.Member{{Name: "a"}, {Name: "b"}, {Name: "a"}}, "member a is named twice"},
		{"a negative weight", 16, 4, nil, []ring.Member{{Name: "a", Weight: -1}}, "weight of a is -1; it must be from 0 to 1000000"},
		{"too much weight", 16, 4, nil, []ring.Member{{Name: "a", Weight: 1000001}}, "weight of a is 1000001; it must be from 0 to 1000000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := ring.Claim(tc.size, tc.target, tc.old, tc.members)
			if !errors.Is(err, kv.ErrInvalid) || err.Error() != tc.want {
				t.Errorf("error is %q, want %q", err, tc.want)
			}
		})
	}
}

func TestWarningsPrintThemselves(t *testing.T) {
	for want, w := range map[string]ring.Warning{
		"one node holds all replicas: 1 distinct copy":                      ring.FewNodes{Nodes: 1, Target: 4},
		"3 nodes: not all of 4 successive partitions are on distinct nodes": ring.FewNodes{Nodes: 3, Target: 4},
		"2 zones: only 2 of 4 successive partitions are in distinct zones":  ring.FewZones{Zones: 2, Apart: 2, Target: 4},
		"replicas of partitions 61..0 share node n2":                        ring.SharedNode{First: 61, Last: 0, Node: "n2"},
		`replicas near partition 3 share zone "z1"`:                         ring.SharedZone{Zone: "z1", Pairs: 1, First: 3},
		`replicas in 2 places, first near partition 3, share zone "z1"`:     ring.SharedZone{Zone: "z1", Pairs: 2, First: 3},
		"node n1 owns 16 partitions; its fair share is 32":                  ring.UnfairShare{Node: "n1", Owned: 16, Fair: 32},
	} {
		if got := w.String(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// A ring that is claimed from nothing must stay what it is: nodes that are
// started again with a fixed list of members look for their data where it says.
// If one of those in this file has to change, the id of such clusters has to
// change too.
func TestGoldenPlans(t *testing.T) {
	var b strings.Builder
	three, four, five := named(3), named(4), named(5)
	first := golden(t, &b, "three nodes", 64, nil, three)
	second := golden(t, &b, "n4 joins", 64, first, four)
	third := golden(t, &b, "n5 joins", 64, second, five)
	golden(t, &b, "n5 leaves again", 64, third, four)
	golden(t, &b, "n1 leaves instead", 64, third, five[1:])
	golden(t, &b, "n3 is replaced by n6", 64, third.Rename("n3", "n6"), append(slices.Delete(named(5), 2, 3), ring.Member{Name: "n6"}))
	golden(t, &b, "one node", 64, nil, named(1))
	golden(t, &b, "two nodes", 16, nil, named(2))
	golden(t, &b, "five nodes", 64, nil, five)
	six := golden(t, &b, "six nodes", 64, nil, named(6))
	golden(t, &b, "n2 of six leaves", 64, six, slices.Delete(named(6), 1, 2))
	nine := golden(t, &b, "nine nodes", 64, nil, named(9))
	golden(t, &b, "n2 and n7 of nine leave", 64, nine, slices.Delete(slices.Delete(named(9), 6, 7), 1, 2))
	golden(t, &b, "more nodes than partitions", 8, nil, named(10))
	golden(t, &b, "one node of double weight", 64, nil, append(named(5), ring.Member{Name: "n6", Weight: 2}))
	golden(t, &b, "more weight than the spread permits", 64, nil, append(named(4), ring.Member{Name: "n5", Weight: 9}))
	zones := []ring.Member{
		{Name: "n1", Zone: "a"}, {Name: "n2", Zone: "a"}, {Name: "n3", Zone: "b"}, {Name: "n4", Zone: "b"}, {Name: "n5", Zone: "c"}, {Name: "n6", Zone: "c"},
	}
	zoned := golden(t, &b, "three zones", 64, nil, zones)
	golden(t, &b, "a node joins in a fourth zone", 64, zoned, append(zones, ring.Member{Name: "n7", Zone: "d"}))
	file := filepath.Join("testdata", "plans.golden")
	if *rewrite {
		if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the claims have changed (-golden +now); -rewrite accepts them:\n%s", diff)
	}
}

// golden claims, and writes down the owners by the last letter of their names:
// before, after, and those that have changed.
func golden(t *testing.T, b *strings.Builder, title string, size int, old *ring.Ring, members []ring.Member) *ring.Ring {
	t.Helper()
	r, warnings, err := ring.Claim(size, 4, old, members)
	if err != nil {
		t.Fatal(err)
	}
	letters := func(r *ring.Ring) []byte {
		line := make([]byte, size)
		for p := range line {
			name := r.Owner(ring.Partition(p))
			line[p] = name[len(name)-1]
		}
		return line
	}
	fmt.Fprintf(b, "# %s\n%v\n", title, r)
	if old != nil {
		changed := bytes.Repeat([]byte("."), size)
		for _, m := range old.Moves(r) {
			changed[m.Partition] = m.To[len(m.To)-1]
		}
		fmt.Fprintf(b, "before  %s\nmoves   %s  %d; %d must\n", letters(old), changed, moves(old, r), leastMoves(old, r))
	}
	fmt.Fprintf(b, "after   %s\n", letters(r))
	for _, w := range warnings {
		fmt.Fprintf(b, "warning: %v\n", w)
	}
	b.WriteByte('\n')
	return r
}

func BenchmarkClaim1000NodesOn16384Partitions(b *testing.B) {
	for b.Loop() {
		claim(b, 16384, 4, nil, named(1000))
	}
}

func BenchmarkJoin1000NodesOn16384Partitions(b *testing.B) {
	old := claim(b, 16384, 4, nil, named(1000))
	for b.Loop() {
		claim(b, 16384, 4, old, named(1001))
	}
}

func BenchmarkLeaveOf1000NodesOn16384Partitions(b *testing.B) {
	old := claim(b, 16384, 4, nil, named(1000))
	for b.Loop() {
		claim(b, 16384, 4, old, named(999))
	}
}

// The slowest kind of plan: rules that cannot be kept, so that all there is to
// try is tried.
func BenchmarkNewZonesFor1000NodesOn16384Partitions(b *testing.B) {
	old := claim(b, 16384, 4, nil, named(1000))
	members := named(1000)
	for i := range members {
		members[i].Zone = fmt.Sprintf("z%d", i/300)
	}
	for b.Loop() {
		claim(b, 16384, 4, old, members)
	}
}

func BenchmarkLeaveOfFiveNodes(b *testing.B) {
	old := claim(b, 64, 4, nil, named(6))
	for b.Loop() {
		claim(b, 64, 4, old, named(5))
	}
}

func claim(t interface{ Fatal(...any) }, size, target int, old *ring.Ring, members []ring.Member) *ring.Ring {
	r, _, err := ring.Claim(size, target, old, members)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// moves is how many partitions have different owners in the two rings.
func moves(a, b *ring.Ring) int {
	n := 0
	for p := range a.Size() {
		if a.Owner(ring.Partition(p)) != b.Owner(ring.Partition(p)) {
			n++
		}
	}
	return n
}

// leastMoves is how many partitions must move so that every node owns as many
// as in b.
func leastMoves(a, b *ring.Ring) int {
	n := 0
	for _, node := range b.Nodes() {
		n += max(0, b.Owned(node)-a.Owned(node))
	}
	return n
}

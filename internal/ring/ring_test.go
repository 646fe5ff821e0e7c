package ring_test

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

func TestTutorialKeyIsWhereTheTutorialHasIt(t *testing.T) {
	r := newRing(t, slices.Repeat([]string{"n1"}, 64))
	home := r.Home(kv.Key{Bucket: "mybucket", Name: "k1"})
	if home != 10 {
		t.Errorf("home is %d, want 10", home)
	}
	want := []string{
		"228359630832953580969325755111919221821239459840",
		"251195593916248939066258330623111144003363405824",
		"274031556999544297163190906134303066185487351808",
	}
	for i, p := range r.Primaries(home, 3) {
		if got := r.Partition(p.Partition).String(); got != want[i] {
			t.Errorf("replica %d is on partition %s, want %s", i, got, want[i])
		}
	}
}

// The terms are written out by hand, as term_to_binary gives them.
func TestHashIsTheHashOfTheErlangTerm(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, tc := range []struct {
		name string
		key  kv.Key
		term string
	}{
		{"default type", kv.Key{Bucket: "bu", Name: "key"}, "\x83h\x02m\x00\x00\x00\x02bum\x00\x00\x00\x03key"},
		{"typed bucket", kv.Key{Type: "t", Bucket: "bu", Name: "key"}, "\x83h\x02h\x02m\x00\x00\x00\x01tm\x00\x00\x00\x02bum\x00\x00\x00\x03key"},
		{"bytes that are no text", kv.Key{Bucket: "\x00", Name: "\xff\xfe"}, "\x83h\x02m\x00\x00\x00\x01\x00m\x00\x00\x00\x02\xff\xfe"},
		{"longer than the buffer", kv.Key{Bucket: "b", Name: long}, "\x83h\x02m\x00\x00\x00\x01bm\x00\x00\x03\xe8" + long},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, want := tc.key.Hash(), sha1.Sum([]byte(tc.term)); got != want {
				t.Errorf("hash is %x, want %x", got, want)
			}
		})
	}
}

// The home is found here as riak_core does it, with whole numbers of 160 bits:
// the partition numbered (hash div inc)+1.
func TestHomeIsTheFirstPartitionAfterTheHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := drawSize(t, ring.MaxPartitions)
		key := kv.Key{Type: rapid.String().Draw(t, "type"), Bucket: rapid.String().Draw(t, "bucket"), Name: rapid.String().Draw(t, "name")}
		r, err := ring.New(slices.Repeat([]string{"n"}, size))
		if err != nil {
			t.Fatal(err)
		}
		h := key.Hash()
		inc := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(int64(size)))
		n := new(big.Int).Div(new(big.Int).SetBytes(h[:]), inc)
		want := (int(n.Int64()) + 1) % size
		if got := r.Home(key); int(got) != want {
			t.Fatalf("home of %v is %d of %d, want %d", key, got, size, want)
		}
	})
}

func TestHomeDoesNotAllocate(t *testing.T) {
	r := newRing(t, slices.Repeat([]string{"n"}, 64))
	key := kv.Key{Type: "type", Bucket: "bucket", Name: strings.Repeat("k", 400)}
	if n := testing.AllocsPerRun(100, func() { r.Home(key) }); n != 0 {
		t.Errorf("Home allocates %v times", n)
	}
}

func TestNewRefusesWhatIsNoRing(t *testing.T) {
	for _, tc := range []struct {
		name   string
		owners []string
		want   string
	}{
		{"no partition", nil, "number of partitions is 0; it must be a power of two from 8 to 65536"},
		{"too few", slices.Repeat([]string{"a"}, 4), "number of partitions is 4; it must be a power of two from 8 to 65536"},
		{"no power of two", slices.Repeat([]string{"a"}, 12), "number of partitions is 12; it must be a power of two from 8 to 65536"},
		{"too many", slices.Repeat([]string{"a"}, 131072), "number of partitions is 131072; it must be a power of two from 8 to 65536"},
		{"a nameless owner", []string{"a", "b", "a", "", "a", "b", "a", "b"}, "partition 3 has no owner"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ring.New(tc.owners)
			if !errors.Is(err, kv.ErrInvalid) || err.Error() != tc.want {
				t.Errorf("error is %q, want %q", err, tc.want)
			}
		})
	}
}

func TestRingTellsWhoOwnsWhat(t *testing.T) {
	owners := []string{"b", "a", "b", "c", "b", "a", "b", "c"}
	r := newRing(t, owners)
	for p, want := range owners {
		if got := r.Owner(ring.Partition(p)); got != want {
			t.Errorf("owner of %d is %s, want %s", p, got, want)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, r.Nodes()); diff != "" {
		t.Error(diff)
	}
	for node, want := range map[string]int{"a": 2, "b": 4, "c": 2, "d": 0} {
		if got := r.Owned(node); got != want {
			t.Errorf("%s owns %d, want %d", node, got, want)
		}
	}
	if got, want := r.String(), "8 partitions: a 2, b 4, c 2"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
	owners[0] = "changed"
	r.Nodes()[0] = "changed"
	if r.Owner(0) != "b" || r.Nodes()[0] != "a" {
		t.Error("the ring changed with a slice of its caller")
	}
}

func TestPartitionsAreCountedAroundTheWrap(t *testing.T) {
	r := newRing(t, slices.Repeat([]string{"a"}, 8))
	for _, tc := range []struct {
		p    ring.Partition
		i    int
		want ring.Partition
	}{{0, 0, 0}, {7, 1, 0}, {6, 3, 1}, {0, -1, 7}, {3, 16, 3}, {3, -17, 2}} {
		if got := r.Next(tc.p, tc.i); got != tc.want {
			t.Errorf("%d steps on from %d is %d, want %d", tc.i, tc.p, got, tc.want)
		}
	}
}

func TestPrimariesByExample(t *testing.T) {
	//                             0    1    2    3    4    5    6    7
	abc := newRing(t, []string{"a", "b", "c", "a", "b", "c", "a", "b"})
	for _, tc := range []struct {
		home ring.Partition
		n    int
		want string
	}{
		{0, 3, "0 a primary, 1 b primary, 2 c primary"},
		{5, 3, "5 c primary, 6 a primary, 7 b primary"},
		{6, 3, "6 a primary, 7 b primary, 2 c primary"},              // 0 and 1 are on a and b again
		{7, 3, "7 b primary, 0 a primary, 2 c primary"},              // 1 is on b again
		{6, 4, "6 a primary, 7 b primary, 0 a primary, 2 c primary"}, // a may come twice, while there is room for c
		{7, 2, "7 b primary, 0 a primary"},
	} {
		if got := show(abc.Primaries(tc.home, tc.n)); got != tc.want {
			t.Errorf("%d of %d: got  %s\nwant %s", tc.n, tc.home, got, tc.want)
		}
	}
}

func TestPrimariesKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		home := rapid.IntRange(0, r.Size()-1).Draw(t, "home")
		n := rapid.IntRange(0, 6).Draw(t, "n")
		var got []int
		for _, x := range r.Primaries(ring.Partition(home), n) {
			if x.Node != r.Owner(x.Partition) || x.Role != kv.Primary {
				t.Fatalf("%+v is not the owner of its partition", x)
			}
			got = append(got, int(x.Partition))
		}
		if diff := cmp.Diff(slowPrimaries(owners, home, min(n, len(owners))), got); diff != "" {
			t.Fatalf("unlike the slow one (-slow +fast):\n%s", diff)
		}
	})
}

// slowPrimaries says the same in the simplest way: of all ways to take n
// partitions clockwise from home on and within twice n, with as many distinct
// nodes as can be, the one that stays closest.
func slowPrimaries(owners []string, home, n int) []int {
	window := min(2*n, len(owners))
	distinct := make(map[string]bool)
	for i := range window {
		distinct[owners[(home+i)%len(owners)]] = true
	}
	want := min(n, len(distinct))
	var found []int
	var try func(taken []int, at int) bool
	try = func(taken []int, at int) bool {
		nodes := make(map[string]bool)
		for _, p := range taken {
			nodes[owners[p]] = true
		}
		if len(taken) == n {
			found = slices.Clone(taken)
			return len(nodes) == want
		}
		if want-len(nodes) > n-len(taken) {
			return false
		}
		for i := at; i < window; i++ {
			if try(append(taken, (home+i)%len(owners)), i+1) {
				return true
			}
		}
		return false
	}
	if n == 0 || !try([]int{home}, 1) {
		return nil
	}
	return found
}

func TestPreflistByExample(t *testing.T) {
	//                              0    1    2    3    4    5    6    7
	abcd := newRing(t, []string{"a", "b", "c", "d", "a", "b", "c", "d"})
	abc := newRing(t, []string{"a", "b", "c", "a", "b", "c", "a", "b"})
	one := newRing(t, slices.Repeat([]string{"a"}, 8))
	for _, tc := range []struct {
		name string
		ring *ring.Ring
		home ring.Partition
		n    int
		down string
		want string
	}{
		{"all up", abcd, 0, 3, "", "0 a primary, 1 b primary, 2 c primary"},
		{"around the wrap", abcd, 7, 3, "", "7 d primary, 0 a primary, 1 b primary"},
		{"a fallback stands where its primary stood", abcd, 0, 3, "a", "0 d fallback, 1 b primary, 2 c primary"},
		{"two down: the free node first, then the first of those used once", abcd, 0, 3, "bc", "0 a primary, 1 d fallback, 2 d fallback"},
		{"no free node: the first one clockwise", abc, 0, 3, "b", "0 a primary, 1 a fallback, 2 c primary"},
		{"one left for all", abcd, 2, 3, "abc", "2 d fallback, 3 d primary, 4 d fallback"},
		{"nobody up", abcd, 0, 3, "abcd", ""},
		{"a single node holds all replicas", one, 6, 3, "", "6 a primary, 7 a primary, 0 a primary"},
		{"no more replicas than partitions", one, 0, 20, "", "0 a primary, 1 a primary, 2 a primary, 3 a primary, 4 a primary, 5 a primary, 6 a primary, 7 a primary"},
		{"none asked for", abcd, 0, 0, "", ""},
		{"fewer than none", abcd, 0, -1, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := tc.ring.Preflist(tc.home, tc.n, func(node string) bool { return !strings.Contains(tc.down, node) })
			if got := show(list); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestPreflistKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		home := ring.Partition(rapid.IntRange(0, r.Size()-1).Draw(t, "home"))
		n := rapid.IntRange(0, 10).Draw(t, "n")
		down := make(map[string]bool)
		for _, node := range r.Nodes() {
			down[node] = rapid.Bool().Draw(t, "down "+node)
		}
		up := func(node string) bool { return !down[node] }
		list := r.Preflist(home, n, up)
		if diff := cmp.Diff(slowPreflist(owners, int(home), min(n, len(owners)), up), list); diff != "" {
			t.Fatalf("unlike the slow one (-slow +fast):\n%s", diff)
		}

		used, upNodes, primaries := make(map[string]bool), 0, make(map[string]bool)
		for _, node := range r.Nodes() {
			if up(node) {
				upNodes++
			}
		}
		fallbacks := 0
		for i, x := range list {
			if x.Partition != r.Primaries(home, n)[i].Partition {
				t.Fatalf("entry %d is of partition %d", i, x.Partition)
			}
			if !up(x.Node) || up(r.Owner(x.Partition)) != (x.Role == kv.Primary) || x.Role == kv.Primary && x.Node != r.Owner(x.Partition) {
				t.Fatalf("entry %d is %v, of the owner %s", i, x, r.Owner(x.Partition))
			}
			used[x.Node] = true
			if x.Role == kv.Primary {
				primaries[x.Node] = true
			} else {
				fallbacks++
			}
		}
		if len(used) != min(upNodes, len(primaries)+fallbacks) {
			t.Fatalf("%d distinct nodes in %s; %d are up", len(used), show(list), upNodes)
		}
	})
}

// slowPreflist says the same in the simplest way: of all nodes, sorted by how
// much they are used and then by how far away they are, the first.
func slowPreflist(owners []string, home, n int, up func(string) bool) []ring.Replica {
	size := len(owners)
	var list []ring.Replica
	used := make(map[string]int)
	for _, p := range slowPrimaries(owners, home, n) {
		list = append(list, ring.Replica{Partition: ring.Partition(p), Node: owners[p], Role: kv.Primary})
		used[owners[p]]++
	}
	for i := range list {
		if up(list[i].Node) {
			continue
		}
		var walk []string
		for j := range size {
			if node := owners[(int(list[n-1].Partition)+1+j)%size]; up(node) {
				walk = append(walk, node)
			}
		}
		if len(walk) == 0 {
			return nil
		}
		sort.SliceStable(walk, func(a, b int) bool { return used[walk[a]] < used[walk[b]] })
		list[i].Node, list[i].Role = walk[0], kv.Fallback
		used[walk[0]]++
	}
	if n == 0 {
		return []ring.Replica{}
	}
	return list
}

// The check is asked about each node once, so that a view which changes between
// two questions cannot make a list that contradicts itself.
func TestPreflistAsksOncePerPrimary(t *testing.T) {
	r := newRing(t, []string{"a", "b", "c", "d", "a", "b", "c", "d"})
	asked := make(map[string]int)
	r.Preflist(0, 3, func(node string) bool { asked[node]++; return true })
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestCopiesIsHowManyNodesHoldAnyKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, owners := drawRing(t)
		n := rapid.IntRange(0, 10).Draw(t, "n")
		least := n
		for home := range owners {
			distinct := make(map[string]bool)
			for _, x := range r.Primaries(ring.Partition(home), n) {
				distinct[x.Node] = true
			}
			least = min(least, len(distinct))
		}
		if got := r.Copies(n); got != least {
			t.Fatalf("Copies(%d) is %d, but %d nodes hold some key", n, got, least)
		}
	})
}

func BenchmarkHome(b *testing.B) {
	r := newRing(b, slices.Repeat([]string{"n"}, 64))
	key := kv.Key{Bucket: "mybucket", Name: "a key of usual length"}
	b.ReportAllocs()
	for b.Loop() {
		r.Home(key)
	}
}

func BenchmarkPreflist(b *testing.B) {
	r, _, err := ring.Claim(1024, 4, nil, named(64))
	if err != nil {
		b.Fatal(err)
	}
	for _, down := range []string{"", "n1"} {
		b.Run("down="+down, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Preflist(0, 3, func(node string) bool { return node != down })
			}
		})
	}
}

func newRing(t testing.TB, owners []string) *ring.Ring {
	t.Helper()
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func named(n int) []ring.Member {
	members := make([]ring.Member, n)
	for i := range members {
		members[i].Name = fmt.Sprintf("n%d", i+1)
	}
	return members
}

func show(list []ring.Replica) string {
	var b bytes.Buffer
	for i, x := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s %s", x.Partition, x.Node, x.Role)
	}
	return b.String()
}

func drawSize(t *rapid.T, most int) int {
	var sizes []int
	for n := ring.MinPartitions; n <= most; n *= 2 {
		sizes = append(sizes, n)
	}
	return rapid.SampledFrom(sizes).Draw(t, "size")
}

// drawRing draws a ring of random owners, mostly worse than any claim.
func drawRing(t *rapid.T) (*ring.Ring, []string) {
	size := drawSize(t, 64)
	name := rapid.StringMatching("[a-h]")
	owners := rapid.SliceOfN(name, size, size).Draw(t, "owners")
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	return r, owners
}

// Package ring maps keys to partitions and partitions to nodes.
//
// The ring is the space of 160 bit hashes bent into a circle and cut into equal
// arcs, the partitions, whose number is a power of two that never changes. A
// key belongs to the first partition that starts after its hash, its home, and
// its N replicas are on N successive partitions from there on:
//
//	hash of the key
//	     |   home
//	 ----v---|--------|--------|--------|---  clockwise
//	         | p      | p+1    | p+2    |
//	           n1       n2       n3           N = 3
//
// Every function here is pure: the same arguments give the same answer on every
// node, so nodes that agree on the owners agree on where each key lives.
package ring

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// The limits of a ring, and what it is when nothing else is asked.
const (
	MinPartitions     = 8
	MaxPartitions     = 65536
	DefaultPartitions = 64
)

// Partition is the number of one arc of the ring, counted clockwise from 0.
type Partition uint16

// Replica is one place of a key: a partition, and the node that serves it.
type Replica struct {
	Partition Partition
	Node      string
	Role      kv.Role
}

// Ring says which node owns which partition. It is immutable, and may be read
// by many goroutines at once.
type Ring struct {
	owners []uint16 // by partition, the index of the owner in nodes
	nodes  []string // sorted, distinct; Invariant: each owns at least one partition
	owned  []int    // by node, how many partitions it owns
}

// New is the ring whose partition i is owned by owners[i]. Their number must be
// a power of two from MinPartitions to MaxPartitions, and no name empty;
// otherwise the error is a *kv.InvalidError.
func New(owners []string) (*Ring, error) {
	if err := validSize(len(owners)); err != nil {
		return nil, err
	}
	if p := slices.Index(owners, ""); p >= 0 {
		return nil, &kv.InvalidError{What: "partition " + strconv.Itoa(p), Problem: "has no owner"}
	}
	return build(owners), nil
}

// build is New for owners that are known to be right.
func build(owners []string) *Ring {
	nodes := slices.Clone(owners)
	slices.Sort(nodes)
	nodes = slices.Clip(slices.Compact(nodes))
	r := &Ring{
		owners: make([]uint16, len(owners)),
		nodes:  nodes,
		owned:  make([]int, len(nodes)),
	}
	for p, name := range owners {
		i, _ := slices.BinarySearch(nodes, name)
		r.owners[p] = uint16(i)
		r.owned[i]++
	}
	return r
}

func validSize(n int) error {
	if n >= MinPartitions && n <= MaxPartitions && n&(n-1) == 0 {
		return nil
	}
	return &kv.InvalidError{
		What:    "number of partitions",
		Problem: fmt.Sprintf("is %d; it must be a power of two from %d to %d", n, MinPartitions, MaxPartitions),
	}
}

// Size is the number of partitions.
func (r *Ring) Size() int { return len(r.owners) }

// Owner is the node that owns the partition.
func (r *Ring) Owner(p Partition) string { return r.nodes[r.owners[p]] }

// Equal reports whether each partition has the same owner in both rings.
func (r *Ring) Equal(o *Ring) bool {
	return r == o || slices.Equal(r.nodes, o.nodes) && slices.Equal(r.owners, o.owners)
}

// Nodes are the nodes that own at least one partition, sorted by name.
func (r *Ring) Nodes() []string { return slices.Clone(r.nodes) }

// Owned is how many partitions the node owns.
func (r *Ring) Owned(node string) int {
	i, ok := slices.BinarySearch(r.nodes, node)
	if !ok {
		return 0
	}
	return r.owned[i]
}

// Partition is p under the name that users see: its position on the ring.
func (r *Ring) Partition(p Partition) kv.Partition {
	return kv.Partition{Index: int(p), Of: r.Size()}
}

// Next is the partition i steps clockwise of p; i may be negative.
func (r *Ring) Next(p Partition, i int) Partition {
	return Partition((int(p) + i) & (r.Size() - 1))
}

// Home is the first partition of the key's preference list: the first one that
// starts after the key's hash.
func (r *Ring) Home(k kv.Key) Partition {
	return Partition(k.Home(r.Size()).Index)
}

// Primaries are the n replicas of a key with this home, each on the owner of
// its partition, in their order clockwise. They are the n successive partitions
// from home on, if these are on n distinct nodes. Where they are not, the
// list reaches farther, but only as far as the window, which is twice as long:
//
//	owners      a b c a b c a b | a b c …      around the wrap
//	home 6, n=3             a b   · · c        a and b hold the key already
//	            window      ^-----------^
//
// The list is on as many distinct nodes as it can have within the window: a
// partition whose node is in the list already is left out as long as the places
// that are left are needed for nodes that are not. So the owner of a partition
// matters only to the homes in the window before it.
//
// A partition never holds two replicas of a key: n above Size means Size.
func (r *Ring) Primaries(home Partition, n int) []Replica {
	n = r.replicas(n)
	list := make([]Replica, 0, n)
	missing := r.distinct(home, r.window(n), n) // nodes still to come
	for p := home; len(list) < n; p = r.Next(p, 1) {
		if !r.holds(list, r.owners[p]) {
			missing--
		} else if n-len(list) <= missing {
			continue
		}
		list = append(list, Replica{Partition: p, Node: r.Owner(p), Role: kv.Primary})
	}
	return list
}

// window is how many successive partitions n replicas are chosen from.
func (r *Ring) window(n int) int { return min(2*r.replicas(n), r.Size()) }

// distinct counts the nodes on the given number of successive partitions; it
// stops at limit.
func (r *Ring) distinct(home Partition, window, limit int) int {
	n := 0
	for i := 0; i < window && n < limit; i++ {
		if node := r.owners[r.Next(home, i)]; !r.owns(node, home, i) {
			n++
		}
	}
	return n
}

// owns reports whether the node with this index owns one of n successive
// partitions.
func (r *Ring) owns(node uint16, from Partition, n int) bool {
	for i := range n {
		if r.owners[r.Next(from, i)] == node {
			return true
		}
	}
	return false
}

// holds reports whether a primary in the list is on the node with this index.
func (r *Ring) holds(list []Replica, node uint16) bool {
	for i := range list {
		if r.owners[list[i].Partition] == node {
			return true
		}
	}
	return false
}

// replicas is n within what the ring can hold.
func (r *Ring) replicas(n int) int { return max(0, min(n, r.Size())) }

// Copies is how many distinct nodes at least hold a key when there are n
// replicas of it and all nodes are up.
func (r *Ring) Copies(n int) int {
	n = r.replicas(n)
	least := min(n, len(r.nodes))
	for p := range r.owners {
		least = r.distinct(Partition(p), r.window(n), least)
	}
	return least
}

// String shows the size and each node's share:
//
//	64 partitions: n1 22, n2 21, n3 21
func (r *Ring) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d partitions", r.Size())
	for i, node := range r.nodes {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s %d", sep, node, r.owned[i])
	}
	return b.String()
}

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
	nodes := slices.Clone(owners)
	slices.Sort(nodes)
	nodes = slices.Clip(slices.Compact(nodes))
	if nodes[0] == "" {
		p := slices.Index(owners, "")
		return nil, &kv.InvalidError{What: "partition " + strconv.Itoa(p), Problem: "has no owner"}
	}
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
	return r, nil
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
	h := Hash(k)
	// The size is a power of two, so the arc in which the hash lies is numbered
	// by the hash's leading bits.
	arc := (int(h[0])<<8 | int(h[1])) * r.Size() >> 16
	return r.Next(Partition(arc), 1)
}

// Primaries are the n replicas of a key with this home, each on the owner of
// its partition: the n successive partitions from home on, if they are on as many distinct
// nodes as n replicas can be. At the ring's wrap they may not be: three nodes
// cannot alternate around a power of two. There the walk goes on and leaves out a partition
// whose node is in the list already, as long as the places that are left
// are needed for nodes that are not. So n nodes hold each key wherever there are n, and
// the loss of one of them takes one replica of any key.
//
// A partition never holds two replicas of a key: n above Size means Size.
func (r *Ring) Primaries(home Partition, n int) []Replica {
	n = r.replicas(n)
	list := make([]Replica, 0, n)
	missing := min(n, len(r.nodes)) // distinct nodes still to come
	for p := home; len(list) < n; p = r.Next(p, 1) {
		node := r.Owner(p)
		if uses(list, node) == 0 {
			missing--
		} else if n-len(list) <= missing {
			continue
		}
		list = append(list, Replica{Partition: p, Node: node, Role: kv.Primary})
	}
	return list
}

// replicas is n within what the ring can hold.
func (r *Ring) replicas(n int) int { return max(0, min(n, r.Size())) }

// Preflist is the list of the n replicas of a key with this home, in the order
// of their partitions, as far as their nodes are up. For a partition whose
// owner is down another node stands in, as a fallback with the same partition:
// the node that holds the fewest other replicas of this list, so that a node
// which holds none comes first; among equals, the first one clockwise after the
// n primaries. While any node is up, there are n entries; when none is, the
// list is empty.
func (r *Ring) Preflist(home Partition, n int, up func(node string) bool) []Replica {
	list := r.Primaries(home, n)
	down := 0
	for i := range list {
		if !up(list[i].Node) {
			list[i].Node, list[i].Role = "", kv.Fallback
			down++
		}
	}
	if down == 0 {
		return list
	}
	spare := r.spare(r.Next(list[len(list)-1].Partition, 1), list, down, up)
	if len(spare) == 0 {
		return nil
	}
	for i := range list {
		if list[i].Node == "" {
			list[i].Node = leastUsed(spare, list)
		}
	}
	return list
}

// spare are the nodes that may stand in: those which are up, clockwise from the
// given partition on, until want of them hold nothing in the list or there are
// no more.
func (r *Ring) spare(from Partition, list []Replica, want int, up func(node string) bool) []string {
	var spare []string
	seen := make([]bool, len(r.nodes))
	unseen := len(r.nodes)
	for p := from; want > 0 && unseen > 0; p = r.Next(p, 1) {
		i := r.owners[p]
		if seen[i] {
			continue
		}
		seen[i] = true
		unseen--
		node := r.nodes[i]
		if !up(node) {
			continue
		}
		spare = append(spare, node)
		if uses(list, node) == 0 {
			want--
		}
	}
	return spare
}

// leastUsed is the first of the nodes that holds the fewest replicas of the
// list.
func leastUsed(nodes []string, list []Replica) string {
	best, least := "", len(list)+1
	for _, node := range nodes {
		if n := uses(list, node); n < least {
			best, least = node, n
		}
	}
	return best
}

func uses(list []Replica, node string) int {
	n := 0
	for i := range list {
		if list[i].Node == node {
			n++
		}
	}
	return n
}

// Copies is how many distinct nodes hold each key when there are n replicas of
// it and all nodes are up.
func (r *Ring) Copies(n int) int { return min(r.replicas(n), len(r.nodes)) }

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

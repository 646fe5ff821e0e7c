package ring

import (
	"slices"

	"github.com/tanodb/tanodb/kv"
)

// With is the ring in which the node owns partition p, and all else is as it
// is.
func (r *Ring) With(p Partition, node string) *Ring {
	if r.Owner(p) == node {
		return r
	}
	to, known := slices.BinarySearch(r.nodes, node)
	from := r.owners[p]
	if !known || r.owned[from] == 1 { // the list of nodes changes
		owners := r.names()
		owners[p] = node
		return build(owners)
	}
	next := &Ring{owners: slices.Clone(r.owners), nodes: r.nodes, owned: slices.Clone(r.owned)}
	next.owners[p] = uint16(to)
	next.owned[from]--
	next.owned[to]++
	return next
}

// Rename is the ring in which one node owns what another one does: what becomes
// of it when a node is replaced.
func (r *Ring) Rename(old, node string) *Ring {
	if r.Owned(old) == 0 || old == node {
		return r
	}
	owners := r.names()
	for p := range owners {
		if owners[p] == old {
			owners[p] = node
		}
	}
	return build(owners)
}

// names are the owners by partition.
func (r *Ring) names() []string {
	names := make([]string, r.Size())
	for p, i := range r.owners {
		names[p] = r.nodes[i]
	}
	return names
}

// Move is a partition that gets another owner.
type Move struct {
	Partition Partition
	From, To  string
}

// Moves are the partitions whose owners differ in a ring of the same size, in
// their order.
func (r *Ring) Moves(next *Ring) []Move {
	var moves []Move
	same := r.translate(next)
	for p, i := range r.owners {
		if int(i) != same[next.owners[p]] {
			moves = append(moves, Move{Partition: Partition(p), From: r.nodes[i], To: next.nodes[next.owners[p]]})
		}
	}
	return moves
}

// translate is, by the index of a node in the other ring, its index in this
// one, or -1.
func (r *Ring) translate(other *Ring) []int {
	index := make([]int, len(other.nodes))
	for i, node := range other.nodes {
		index[i] = -1
		if j, ok := slices.BinarySearch(r.nodes, node); ok {
			index[i] = j
		}
	}
	return index
}

// Apart reports whether the partitions are so far from each other that no key
// with n replicas has both in its window: they can change owners independently.
func (r *Ring) Apart(p, q Partition, n int) bool {
	d := int(r.Next(p, -int(q)))
	return min(d, r.Size()-d) >= 2*r.replicas(n)
}

// Fill is a replica that a change of owners adds for the keys of one home, and
// the one it takes over from, which is no longer one after the change.
type Fill struct {
	Home     Partition
	To, From Replica // of the roles Incoming and Primary
}

// Fills are what must be copied so that next can follow old when keys have n
// replicas: for each home, by their number, the places that next adds, in their
// order clockwise. Each takes over from the place of its own partition if that
// one goes, and otherwise, in their order, from those that are left. The rings
// have the same size.
func Fills(old, next *Ring, n int) []Fill {
	var fills []Fill
	for _, home := range old.affected(next, n) {
		fills = appendFills(fills, home, old.Primaries(home, n), next.Primaries(home, n))
	}
	return fills
}

// Shifts are what must be copied besides Fills, for keys that have fewer
// replicas than n: they are on the First of the n places only, and which these are may
// change while all n stay. For each number of replicas below n, each place that
// comes to the first ones takes over from one that was among them, unless it
// has what one of them has by Fills.
func Shifts(old, next *Ring, n int) []Fill {
	var shifts []Fill
	for _, home := range old.affected(next, n) {
		was, is := old.Primaries(home, n), next.Primaries(home, n)
		known := appendFills(nil, home, was, is)
		begun := len(known)
		for m := 1; m < n; m++ {
			before, after := First(was, m), First(is, m)
			if slices.Equal(before, after) {
				continue
			}
			for _, f := range appendFills(nil, home, before, after) {
				if !slices.ContainsFunc(known, func(k Fill) bool {
					return k.To == f.To && slices.Contains(before, k.From)
				}) {
					known = append(known, f)
				}
			}
		}
		shifts = append(shifts, known[begun:]...)
	}
	return shifts
}

// affected are the homes that have a partition in their window whose owner is
// another one in the next ring.
func (r *Ring) affected(next *Ring, n int) []Partition {
	var homes []Partition
	for _, m := range r.Moves(next) {
		for i := range r.window(n) {
			homes = append(homes, r.Next(m.Partition, -i))
		}
	}
	slices.Sort(homes)
	return slices.Compact(homes)
}

func appendFills(fills []Fill, home Partition, old, next []Replica) []Fill {
	added, gone := without(next, old), without(old, next)
	first := len(fills)
	for _, x := range added {
		x.Role = kv.Incoming
		f := Fill{Home: home, To: x}
		if i := slices.IndexFunc(gone, func(g Replica) bool { return g.Partition == x.Partition }); i >= 0 {
			f.From = gone[i]
			gone = slices.Delete(gone, i, i+1)
		}
		fills = append(fills, f)
	}
	for i := first; i < len(fills); i++ {
		if fills[i].From.Node == "" {
			fills[i].From, gone = gone[0], gone[1:]
		}
	}
	return fills
}

// without are the replicas of a list that are not in the other one.
func without(list, other []Replica) []Replica {
	var rest []Replica
	for _, x := range list {
		if !slices.Contains(other, x) {
			rest = append(rest, x)
		}
	}
	return rest
}

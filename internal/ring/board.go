package ring

import (
	"cmp"
	"slices"
)

// effort bounds how many pairs of partitions a search looks at, so that a claim
// ends within seconds also where no arrangement is good.
const effort = 1 << 18

// board is an arrangement of owners that is being improved. All arrangements of
// one plan give each member the same number of partitions.
type board struct {
	*plan
	owner    []int   // by partition
	nodeCost []int64 // by distance, what two partitions of one node cost
	zoneCost []int64 // by distance, what two partitions of one zone cost
	effort   int     // what is left of it
}

// zoneBits is how many bits hold what one partition can cost because of zones.
const zoneBits = MaxTargetN + 1

// board makes a board of these owners, and keeps them.
//
// A pair of partitions costs twice as much as one that is a step farther apart,
// and a pair on one node more than any number of zones around it.
func (p *plan) board(owner []int) *board {
	b := &board{plan: p, owner: owner, nodeCost: make([]int64, p.target), zoneCost: make([]int64, p.zoneTarget)}
	for d := 1; d < p.target; d++ {
		b.nodeCost[d] = 1 << (zoneBits + p.target - d)
	}
	for d := 1; d < p.zoneTarget; d++ {
		b.zoneCost[d] = 1 << (p.zoneTarget - d)
	}
	return b
}

// at is what member m costs, or would cost, at partition i.
func (b *board) at(i, m int) int64 {
	b.looks += 2 * b.target
	cost := int64(0)
	for d := 1; d < b.target; d++ {
		cost += b.pair(m, b.owner[(i+d)&(b.size-1)], d) + b.pair(m, b.owner[(i-d)&(b.size-1)], d)
	}
	return cost
}

// pair is the cost of two owners whose partitions are d apart.
func (b *board) pair(m, n, d int) int64 {
	switch {
	case n == nobody:
		return 0
	case m == n:
		return b.nodeCost[d]
	case d < b.zoneTarget && b.zone[m] == b.zone[n]:
		return b.zoneCost[d]
	}
	return 0
}

// compare orders arrangements: the one with fewer pairs on one node first, then
// the one with fewer in one zone, then the one with fewer moves.
func (b *board) compare(other *board) int {
	nodes, zones := b.total()
	otherNodes, otherZones := other.total()
	return cmp.Or(cmp.Compare(nodes, otherNodes), cmp.Compare(zones, otherZones), cmp.Compare(b.moves(), other.moves()))
}

// total is the cost of the whole arrangement, that of nodes and that of zones.
func (b *board) total() (nodes, zones int64) {
	for i, m := range b.owner {
		cost := b.at(i, m)
		nodes += cost >> zoneBits
		zones += cost & (1<<zoneBits - 1)
	}
	return nodes, zones
}

// perfect reports whether the arrangement costs nothing.
func (b *board) perfect() bool {
	nodes, zones := b.total()
	return nodes == 0 && zones == 0
}

// moves is how many partitions have another owner than so far.
func (b *board) moves() int {
	n := 0
	for i, m := range b.owner {
		if m != b.old[i] {
			n++
		}
	}
	return n
}

// moved is 1 if member m at partition i is a move.
func (b *board) moved(i, m int) int {
	if b.old[i] == m {
		return 0
	}
	return 1
}

// exchange says by how much the cost and the moves would grow if partitions i
// and j changed owners.
func (b *board) exchange(i, j int) (cost int64, moves int) {
	m, n := b.owner[i], b.owner[j]
	cost = -b.at(i, m) - b.at(j, n)
	b.swap(i, j)
	cost += b.at(i, n) + b.at(j, m)
	b.swap(i, j)
	return cost, b.moved(i, n) + b.moved(j, m) - b.moved(i, m) - b.moved(j, n)
}

func (b *board) swap(i, j int) { b.owner[i], b.owner[j] = b.owner[j], b.owner[i] }

// repair exchanges owners as long as this makes the arrangement cheaper, each
// time with the partner that is best for it.
func (b *board) repair() {
	b.effort = effort
	for improved := true; improved; {
		improved = false
		for i := range b.owner {
			if b.effort == 0 {
				return
			}
			if b.at(i, b.owner[i]) > 0 && b.improve(i) {
				improved = true
			}
		}
	}
}

// improve makes the exchange of partition i that lowers the cost most, and
// among equals moves least. It reports whether there is one.
func (b *board) improve(i int) bool {
	partner, best, least := 0, int64(0), 0
	for j := range b.owner {
		if b.owner[j] == b.owner[i] {
			continue
		}
		if b.effort == 0 {
			break
		}
		b.effort--
		cost, moves := b.exchange(i, j)
		if cost < best || cost == best && best < 0 && moves < least {
			partner, best, least = j, cost, moves
		}
	}
	if best == 0 {
		return false
	}
	b.swap(i, partner)
	return true
}

// restore gives partitions back to their owners so far, in exchange for others
// that these have been given, where that costs nothing.
func (b *board) restore() {
	b.effort = effort
	given := make([][]int, len(b.members)) // by member, what it owns and has not so far
	for i, m := range b.owner {
		if b.old[i] != m {
			given[m] = append(given[m], i)
		}
	}
	for i, was := range b.old {
		if was == nobody || b.owner[i] == was {
			continue
		}
		for k, j := range given[was] {
			if b.effort == 0 {
				return
			}
			b.effort--
			cost, moves := b.exchange(i, j)
			if cost > 0 || moves >= 0 {
				continue
			}
			b.swap(i, j)
			given[was] = slices.Delete(given[was], k, k+1)
			if m := b.owner[j]; b.old[j] != m {
				given[m] = append(given[m], j)
			}
			break
		}
	}
}

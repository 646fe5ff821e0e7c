package ring

import (
	"cmp"
	"slices"
)

// best is the best of the arrangements that are tried: a small cluster grown
// node by node; what was, adapted; zones laid out anew; nodes laid out anew,
// which alone is sure to keep nodes apart where that is possible; what was,
// walked through. A perfect one ends the search, unless fewer moves would do.
func (p *plan) best() []int {
	var best *board
	try := func(owner []int) {
		if owner == nil {
			return
		}
		b := p.board(owner)
		b.repair()
		b.restore()
		if best == nil || b.compare(best) < 0 {
			best = b
		}
	}
	done := func() bool { return best != nil && best.perfect() }
	if p.inherits() {
		try(p.adapted())
	} else {
		try(p.grown())
	}
	if p.zoneTarget > 1 && !done() {
		try(p.relabelled(p.zoned()))
	}
	if !done() {
		try(p.relabelled(p.flat()))
	}
	if p.inherits() && !(done() && best.moves() == p.leastMoves()) {
		try(p.walked())
	}
	return best.owner
}

// grown is how a cluster that has few nodes for its spread would have come
// about from as few as permit it, had the others joined one by one. In such
// an arrangement few partitions but its own move when a node leaves, which is
// not so where the nodes alternate. It is nil for clusters of other sizes, or
// if some node could not join without cost.
func (p *plan) grown() []int {
	least := p.target
	if p.size%p.target != 0 {
		least++
	}
	if len(p.members) <= least || len(p.members) > 2*p.target {
		return nil
	}
	members := p.alternating()
	var owner []int
	var r *Ring
	for n := least; n <= len(members); n++ {
		step := newPlan(p.size, p.asked, r, members[:n])
		owner = step.best()
		if !step.board(owner).perfect() {
			return nil
		}
		r = step.ring(owner)
	}
	return owner
}

// alternating are the members by their names, but one of each zone, then
// another one of each, and so on.
func (p *plan) alternating() []Member {
	rank := make([]int, len(p.members))
	inZone := make([]int, len(p.zones))
	order := make([]int, len(p.members))
	for m, z := range p.zone {
		rank[m] = inZone[z]
		inZone[z]++
		order[m] = m
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[a], rank[b]) })
	members := make([]Member, len(order))
	for i, m := range order {
		members[i] = p.members[m]
	}
	return members
}

// leastMoves is how many moves any arrangement needs.
func (p *plan) leastMoves() int {
	n := 0
	for m := range p.members {
		n += max(0, p.count[m]-p.had[m])
	}
	return n
}

// inherits reports whether any member owned anything so far.
func (p *plan) inherits() bool { return sum(p.had) > 0 }

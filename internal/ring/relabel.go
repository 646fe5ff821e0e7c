package ring

import (
	"cmp"
	"slices"
)

// A fresh layout knows nothing of who owns what so far, but it may be turned,
// and its members may change places with others of the same zone and count,
// without becoming worse. The turn and the places are chosen so that little
// moves.

// turning bounds how many partitions are looked at in search of the best turn.
const turning = 1 << 20

// relabelled is the layout, turned and with its members exchanged.
func (p *plan) relabelled(owner []int) []int {
	if !p.inherits() {
		return owner
	}
	turns := max(1, min(p.size, turning/p.size))
	best, most := owner, -1
	for turn := range turns {
		turned := append(append([]int(nil), owner[turn:]...), owner[:turn]...)
		label, kept := p.labels(turned)
		if kept <= most {
			continue
		}
		for i, m := range turned {
			turned[i] = label[m]
		}
		best, most = turned, kept
	}
	return best
}

// likeness is how many partitions member to owned so far of those that the
// layout gives to member from.
type likeness struct{ from, to, n int }

// labels says who is to take the place of each member in the layout, and how
// many partitions then keep their owner.
func (p *plan) labels(owner []int) (label []int, kept int) {
	label = make([]int, len(p.members))
	taken := make([]bool, len(p.members))
	for m := range label {
		label[m] = nobody
	}
	for _, l := range p.likenesses(owner) {
		if label[l.from] == nobody && !taken[l.to] && p.alike(l.from, l.to) {
			label[l.from], taken[l.to] = l.to, true
			kept += l.n
		}
	}
	p.labelRest(label, taken)
	return label, kept
}

// labelRest gives the places that are left to the members that are left, by
// their order.
func (p *plan) labelRest(label []int, taken []bool) {
	free := make(map[[2]int][]int) // by zone and count
	for m := range p.members {
		if !taken[m] {
			k := [2]int{p.zone[m], p.count[m]}
			free[k] = append(free[k], m)
		}
	}
	for m := range label {
		if label[m] == nobody {
			k := [2]int{p.zone[m], p.count[m]}
			label[m], free[k] = free[k][0], free[k][1:]
		}
	}
}

// alike reports whether two members may change places in a layout.
func (p *plan) alike(m, n int) bool { return p.zone[m] == p.zone[n] && p.count[m] == p.count[n] }

// likenesses are the pairs that have something in common, the most alike first.
func (p *plan) likenesses(owner []int) []likeness {
	p.looks += p.size
	pairs := make([]int, 0, p.size) // from and to in one number, so that they sort fast
	for i, m := range owner {
		if p.old[i] != nobody {
			pairs = append(pairs, m*len(p.members)+p.old[i])
		}
	}
	slices.Sort(pairs)
	var list []likeness
	for i, pair := range pairs {
		if i > 0 && pair == pairs[i-1] {
			list[len(list)-1].n++
			continue
		}
		list = append(list, likeness{from: pair / len(p.members), to: pair % len(p.members), n: 1})
	}
	slices.SortStableFunc(list, func(a, b likeness) int { return cmp.Compare(b.n, a.n) })
	return list
}

package ring

import (
	"cmp"
	"slices"
)

// Where there are few nodes for the spread, exchanges of two owners lead
// nowhere: of five nodes any four successive partitions leave one or two
// to choose from. There a new arrangement is built up from the old one
// clockwise, partition by partition, and of the ways to go on those are kept
// that can end with the fewest moves.

// The walk keeps at most maxTrails beginnings at a time; fewer, or none,
// where this were more work than walking.
const (
	maxTrails = 64
	walking   = 1 << 20
)

// trail is the beginning of an arrangement.
type trail struct {
	before   *trail // without its last partition; nil: this is the start
	owner    int    // of its last partition
	moves    int
	left     []int // by member, how many partitions it is still to be given
	last     []int // by member, the step at which it was given one last
	lastZone []int // the same by zone
}

// branch is a trail and the member that is to own the next partition.
type branch struct {
	trail, owner int
	moves        int    // at the end there will be so many at least
	state        uint64 // the same for branches that can go on in the same ways
}

// walk is the search. Partitions go by their step from the start, all those up
// to target-1 keep their owners.
type walk struct {
	*plan
	start     int
	was       []int // by step, the owner so far
	still     []int // by member, how many partitions it has owned so far in the steps to come
	first     []int // by member, the step among those that are kept
	firstZone []int // the same by zone
	width     int
}

// far is a step before all others that does not keep anything apart.
const far = -2 * MaxPartitions

// walked is an arrangement that costs nothing, with few moves, or nil if
// none is found.
func (p *plan) walked() []int {
	width := min(maxTrails, walking/(p.size*len(p.members)*len(p.members)))
	start := p.intact()
	if width < 2 || start < 0 {
		return nil
	}
	w := &walk{plan: p, start: start, width: width}
	trails := []*trail{w.begin()}
	for step := p.target - 1; step < p.size && len(trails) > 0; step++ {
		trails = w.step(trails, step)
	}
	if len(trails) == 0 {
		return nil
	}
	return w.owners(trails[0])
}

// intact is the first of target-1 successive partitions whose owners so far are
// as they ought to be, or -1 if there are none.
func (p *plan) intact() int {
	for start := range p.size {
		if p.intactFrom(start) {
			return start
		}
	}
	return -1
}

func (p *plan) intactFrom(start int) bool {
	for i := range p.target - 1 {
		m := p.old[(start+i)%p.size]
		if m == nobody {
			return false
		}
		for j := range i {
			n := p.old[(start+j)%p.size]
			if m == n || i-j < p.zoneTarget && p.zone[m] == p.zone[n] {
				return false
			}
		}
	}
	return true
}

// begin is the trail of the partitions that keep their owners.
func (w *walk) begin() *trail {
	w.was = append(slices.Clone(w.old[w.start:]), w.old[:w.start]...)
	w.still = slices.Clone(w.had)
	w.first = slices.Repeat([]int{-far}, len(w.members))
	w.firstZone = slices.Repeat([]int{-far}, len(w.zones))
	tr := &trail{
		left:     slices.Clone(w.count),
		last:     slices.Repeat([]int{far}, len(w.members)),
		lastZone: slices.Repeat([]int{far}, len(w.zones)),
	}
	for step, m := range w.was[:w.target-1] {
		tr = w.extended(tr, step, m)
		w.still[m]--
		w.first[m] = step
		w.firstZone[w.zone[m]] = min(step, w.firstZone[w.zone[m]])
	}
	return tr
}

// step is the next step of the best trails.
func (w *walk) step(trails []*trail, step int) []*trail {
	if m := w.was[step]; m != nobody {
		w.still[m]--
	}
	var branches []branch
	for i, tr := range trails {
		for m := range w.members {
			if tr.left[m] > 0 && w.fits(tr, step, m) {
				branches = w.branch(branches, tr, i, step, m)
			}
		}
	}
	slices.SortFunc(branches, func(a, b branch) int {
		return cmp.Or(cmp.Compare(a.moves, b.moves), cmp.Compare(a.state, b.state), cmp.Compare(a.trail, b.trail))
	})
	branches = slices.CompactFunc(branches, func(a, b branch) bool { return a.moves == b.moves && a.state == b.state })
	var next []*trail
	for _, b := range branches[:min(w.width, len(branches))] {
		next = append(next, w.extended(trails[b.trail], step, b.owner))
	}
	return next
}

// fits reports whether member m can own the partition at this step, far enough
// from all others of its own and of its zone, also across the wrap.
func (w *walk) fits(tr *trail, step, m int) bool {
	z := w.zone[m]
	return step-tr.last[m] >= w.target && w.first[m]+w.size-step >= w.target &&
		step-tr.lastZone[z] >= w.zoneTarget && w.firstZone[z]+w.size-step >= w.zoneTarget
}

// branch adds the trail with member m as the next owner to the branches, unless
// this must end badly.
func (w *walk) branch(branches []branch, tr *trail, i, step, m int) []branch {
	w.looks += w.target + len(w.members)
	z := w.zone[m]
	last, lastZone := tr.last[m], tr.lastZone[z]
	tr.left[m]--
	tr.last[m], tr.lastZone[z] = step, step
	if w.hopeful(tr, step) {
		branches = append(branches, branch{
			trail: i, owner: m,
			moves: tr.moves + w.moved(step, m) + w.ahead(tr, step),
			state: w.state(tr, step),
		})
	}
	tr.left[m]++
	tr.last[m], tr.lastZone[z] = last, lastZone
	return branches
}

// moved is 1 if member m at this step is a move.
func (w *walk) moved(step, m int) int {
	if w.was[step] == m {
		return 0
	}
	return 1
}

// hopeful reports whether after this step there is room for what each member is
// still to be given.
func (w *walk) hopeful(tr *trail, step int) bool {
	for m, left := range tr.left {
		from := max(step+1, tr.last[m]+w.target)
		to := min(w.size-1, w.first[m]+w.size-w.target)
		if left > 0 && from+(left-1)*w.target > to {
			return false
		}
	}
	return true
}

// ahead is how many moves at least come after this step: all partitions but
// those that can stay. A member keeps no more than it is to have, and nothing
// too close to what it has just been given.
func (w *walk) ahead(tr *trail, step int) int {
	var blocked [MaxTargetN]int
	soon := w.was[step+1 : min(w.size, step+w.target)]
	n := 0
	for i, m := range soon {
		if m != nobody && !w.fits(tr, step+1+i, m) {
			blocked[n] = m
			n++
		}
	}
	moves := w.size - 1 - step
	for m, left := range tr.left {
		still := w.still[m]
		for _, b := range blocked[:n] {
			if b == m {
				still--
			}
		}
		moves -= min(left, still)
	}
	return moves
}

// state is a hash of what decides how a trail can go on: who is to be given how
// much, and when it was given something last, if that matters.
func (w *walk) state(tr *trail, step int) uint64 {
	const prime = 1099511628211 // FNV-1a
	h := uint64(14695981039346656037)
	for m, left := range tr.left {
		recent := max(0, w.target-(step-tr.last[m]))
		h = (h ^ uint64(left*MaxTargetN+recent)) * prime
		h ^= h >> 29
	}
	return h
}

// extended is the trail with member m as its next owner.
func (w *walk) extended(tr *trail, step, m int) *trail {
	next := &trail{
		before: tr, owner: m, moves: tr.moves + w.moved(step, m),
		left: slices.Clone(tr.left), last: slices.Clone(tr.last), lastZone: slices.Clone(tr.lastZone),
	}
	next.left[m]--
	next.last[m], next.lastZone[w.zone[m]] = step, step
	return next
}

// owners are the owners by partition along a whole trail.
func (w *walk) owners(tr *trail) []int {
	owner := make([]int, w.size)
	for step := w.size - 1; step >= 0; step-- {
		owner[(w.start+step)%w.size] = tr.owner
		tr = tr.before
	}
	return owner
}

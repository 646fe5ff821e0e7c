package membership

import "math/bits"

// roleSet is a set of roles, as bits, by where they are in Security.Roles.
type roleSet []uint64

func (s roleSet) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s roleSet) addAll(other roleSet) {
	for w, word := range other {
		s[w] |= word
	}
}

// contain reports whether it has a role that is so.
func (s roleSet) contain(so func(i int) bool) bool {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			if so(64*w + bits.TrailingZeros64(word)) {
				return true
			}
		}
	}
	return false
}

// nesting finds what roles each role is, through groups that are in groups, in circles too.
// It is Tarjan's walk to the strongly connected components: all roles of a circle are the
// same, and what one is that leads out of it is known before. So each membership is looked at
// twice, however deep they go.
type nesting struct {
	groups [][]int   // by role, those that it is in
	sets   []roleSet // by role, all that it is; nil: that is not known yet

	begun []int // by role, when the walk came to it; 0: it did not
	back  []int // by role, the first that is in one circle with it, as far as is known, by begun
	steps int
	open  []int // the roles that the walk came to and whose set is not known
}

// nested are all that each role is, itself too.
func (s *Security) nested() []roleSet {
	many := len(s.Roles)
	n := nesting{groups: make([][]int, many), sets: make([]roleSet, many), begun: make([]int, many), back: make([]int, many)}
	for i := range s.Roles {
		for _, g := range s.Roles[i].Groups {
			if at, ok := s.search(g); ok {
				n.groups[i] = append(n.groups[i], at)
			}
		}
	}
	for i := range s.Roles {
		if n.begun[i] == 0 {
			n.visit(i)
		}
	}
	return n.sets
}

// visit finds what a role is. It calls itself no deeper than there are roles.
func (n *nesting) visit(i int) {
	n.steps++
	n.begun[i], n.back[i] = n.steps, n.steps
	n.open = append(n.open, i)
	for _, g := range n.groups[i] {
		switch {
		case n.begun[g] == 0:
			n.visit(g)
			n.back[i] = min(n.back[i], n.back[g])
		case n.sets[g] == nil:
			n.back[i] = min(n.back[i], n.begun[g])
		}
	}
	if n.back[i] == n.begun[i] {
		n.close(i)
	}
}

// close makes the set of the circle that the walk has come into by a role; most have but one.
func (n *nesting) close(first int) {
	at := len(n.open) - 1
	for n.open[at] != first {
		at--
	}
	circle := n.open[at:]
	set := make(roleSet, (len(n.groups)+63)/64)
	for _, i := range circle {
		set.add(i)
		for _, g := range n.groups[i] {
			set.addAll(n.sets[g]) // nothing, of one that is in the circle
		}
	}
	for _, i := range circle {
		n.sets[i] = set
	}
	n.open = n.open[:at]
}

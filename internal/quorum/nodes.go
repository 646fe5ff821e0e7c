package quorum

// nodes is how many distinct nodes have granted a requirement, or, asked for
// open, how many may have in the end. Each counts for a group of its own: it is
// the size of the largest matching of groups and nodes, built up group after
// group.
//
//	(n1 n4) (n1) (n2)     n4 counts for the first group, n1 for the second
func (t *Tally) nodes(c *count, least answer) int {
	for i := range t.voters {
		t.voters[i].seat = seat{}
	}
	size := 0
	for i := range t.voters {
		group := int16(i)
		if t.voters[i].group != group {
			continue
		}
		for i := range t.voters {
			t.voters[i].seat.tried = false
		}
		if t.seat(c, least, group) {
			size++
		}
	}
	return size
}

// seat is a node, known by the first replica on it, and the group that it counts for.
type seat struct {
	taken bool
	tried bool // for the group that is being seated
	group int16
}

// seat finds a node for a group. Groups that have one may have to move to
// another.
func (t *Tally) seat(c *count, least answer, group int16) bool {
	for i := range t.voters {
		v := &t.voters[i]
		willing := v.answer == granted || least == open && v.answer == open
		if v.group != group || !willing || !c.has(v) {
			continue
		}
		s := &t.voters[t.first(v.place.Node)].seat
		if s.tried {
			continue
		}
		s.tried = true
		if !s.taken || t.seat(c, least, s.group) {
			s.taken, s.group = true, group
			return true
		}
	}
	return false
}

// first is the first replica on a node that has one.
func (t *Tally) first(node string) int {
	for i := range t.voters {
		if t.voters[i].place.Node == node {
			return i
		}
	}
	return -1
}

package object

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/tanodb/tanodb/internal/planted"
)

// Relation says how one object stands to another.
type Relation uint8

// The relations. Of Compare(a, b), Newer means that a contains all of b and
// more: merging b into it changes nothing.
const (
	Equal Relation = iota
	Newer
	Older
	Concurrent // each has something that the other lacks
)

// String is the relation in lower case.
func (r Relation) String() string {
	switch r {
	case Equal:
		return "equal"
	case Newer:
		return "newer"
	case Older:
		return "older"
	}
	return "concurrent"
}

// Compare tells whether a merge would change a, b, both or neither. It looks at
// heads only and allocates nothing: two bodies under one dot are held to be the
// same.
func Compare(a, b Object) Relation { return relate(a, b, false) }

// Merge is what two copies of a key know together. The clock is the join of the
// clocks. A sibling survives if both have it, or if the one that lacks it has
// not seen its dot; otherwise the one that lacks it knows that it was replaced.
// If one copy contains the other, the result is that one itself.
//
// Two siblings with one dot are the same write. Should they differ all the
// same, because of a bug or a broken disk, the greater in a fixed order is
// taken, so that all copies still come to the same end.
//
// Siblings of one request id, which are one write that was carried out twice,
// both survive here; only Values shows them as one. To drop one of them here
// would make the order of merges matter. Let x and y be dots of one request, on
// two copies, and let a third copy have replaced y by z without having seen x.
// If x and y meet first, x is dropped and then y is replaced: z is left. If y
// and z meet first, y is replaced and x has nothing to be dropped for: x and z
// are left.
func Merge(a, b Object) Object {
	switch relate(a, b, true) {
	case Equal, Newer:
		return a
	case Older:
		return b
	}
	out := Object{
		Clock:    a.Clock.Join(b.Clock),
		Siblings: make([]Sibling, 0, len(a.Siblings)+len(b.Siblings)),
	}
	restA, restB := a.Siblings, b.Siblings
	for len(restA)+len(restB) > 0 {
		var x, y *Sibling
		x, y, restA, restB = step(restA, restB)
		if s := survivor(x, y, a.Clock, b.Clock); s != nil {
			out.Siblings = append(out.Siblings, *s)
		}
	}
	return out
}

// survivor is what is left in a merge of the siblings x of a copy with clock a,
// and y of one with clock b. They have one dot; the copy without it gives nil.
func survivor(x, y *Sibling, a, b Vector) *Sibling {
	if x != nil && y != nil {
		if compareSiblings(x, y, true) >= 0 {
			return x
		}
		return y
	}
	s, other := x, b
	if s == nil {
		s, other = y, a
	}
	if planted.Is(planted.NoDots) {
		return s
	}
	if other.Covers(s.Dot) {
		return nil
	}
	return s
}

// Write is the object after a new write by the vnode that holds local. Seen is
// what the writer had read: the local siblings that it covers are replaced by
// s, all others stay beside it, and what it covers and is not here yet is
// replaced as well, should it come later. It sets s.Size.
//
// The dot must be new, which the caller checks: neither local.Clock nor seen
// covers it. A dot that is covered would count as replaced in the next merge.
func Write(local Object, seen Vector, s Sibling) Object {
	s.Size = len(s.Body)
	kept := make([]Sibling, 0, len(local.Siblings)+1)
	place := 0
	for i := range local.Siblings {
		old := &local.Siblings[i]
		if seen.Covers(old.Dot) {
			continue
		}
		kept = append(kept, *old)
		if old.Dot.Compare(s.Dot) < 0 {
			place = len(kept)
		}
	}
	return Object{
		Clock:    local.Clock.Join(seen).With(s.Dot),
		Siblings: slices.Insert(kept, place, s),
	}
}

// relate compares a and b with their merge, without making it.
func relate(a, b Object, bodies bool) Relation {
	// Invariant: isA is false once the merge is known to differ from a; isB
	// likewise.
	isA, isB := a.Clock.Descends(b.Clock), b.Clock.Descends(a.Clock)
	restA, restB := a.Siblings, b.Siblings
	for (isA || isB) && len(restA)+len(restB) > 0 {
		var x, y *Sibling
		x, y, restA, restB = step(restA, restB)
		switch {
		case y == nil && b.Clock.Covers(x.Dot):
			isA = false // b has seen it replaced
		case y == nil:
			isB = false // b has not seen it
		case x == nil && a.Clock.Covers(y.Dot):
			isB = false
		case x == nil:
			isA = false
		default:
			c := compareSiblings(x, y, bodies)
			isA, isB = isA && c >= 0, isB && c <= 0
		}
	}
	switch {
	case isA && isB:
		return Equal
	case isA:
		return Newer
	case isB:
		return Older
	}
	return Concurrent
}

// step takes the siblings with the least dot off two lists in order. If only
// one list has that dot, the other gives nil. Not both lists are empty.
func step(a, b []Sibling) (x, y *Sibling, restA, restB []Sibling) {
	c := 0
	switch {
	case len(a) == 0:
		c = 1
	case len(b) == 0:
		c = -1
	default:
		c = a[0].Dot.Compare(b[0].Dot)
	}
	if c <= 0 {
		x, a = &a[0], a[1:]
	}
	if c >= 0 {
		y, b = &b[0], b[1:]
	}
	return x, y, a, b
}

// compareSiblings orders two siblings of one dot. The order means nothing; it
// only has to be total, and to put a body before its absence.
func compareSiblings(x, y *Sibling, bodies bool) int {
	if c := cmp.Compare(x.Stamp, y.Stamp); c != 0 {
		return c
	}
	if c := bytes.Compare(x.Request[:], y.Request[:]); c != 0 {
		return c
	}
	if c := cmp.Compare(x.Expires, y.Expires); c != 0 {
		return c
	}
	if x.Deleted != y.Deleted {
		if x.Deleted {
			return 1
		}
		return -1
	}
	if x.Indexed != y.Indexed {
		if x.Indexed {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(x.Size, y.Size); c != 0 || !bodies {
		return c
	}
	return bytes.Compare(x.Body, y.Body)
}

package object

import "slices"

// Remnant is the object with only those of its siblings that keep wants; false: there are
// none. It is for a copy of which nobody knows what others have forgotten since it was
// made: such a copy must bring nothing back, and yet keep what was written to it lately.
//
// The clock then no longer claims the siblings that are left out: of each of their actors
// only what was before them. What it claims still, something that is known here had
// replaced. So a merge with other copies takes nothing away that nobody has replaced. The
// price is that what was replaced here, and came after such a sibling from the same actor,
// may stand beside what has replaced it.
//
// A sibling that such a clock does not cover, for it has its actor from one that is left
// out, gets another dot from mint.
func (o Object) Remnant(keep func(Dot) bool, mint func() Dot) (Object, bool) {
	out := Object{Clock: slices.Clone(o.Clock)}
	for _, s := range o.Siblings {
		if keep(s.Dot) {
			out.Siblings = append(out.Siblings, s)
			continue
		}
		if i, found := out.Clock.find(s.Dot.Actor); found {
			out.Clock[i].Counter = min(out.Clock[i].Counter, s.Dot.Counter-1)
		}
	}
	if len(out.Siblings) == 0 {
		return Object{}, false
	}
	out.Clock = slices.DeleteFunc(out.Clock, func(d Dot) bool { return d.Counter == 0 })
	for i := range out.Siblings {
		s := &out.Siblings[i]
		if !out.Clock.Covers(s.Dot) {
			s.Dot = mint()
			out.Clock = out.Clock.With(s.Dot)
		}
	}
	slices.SortFunc(out.Siblings, func(a, b Sibling) int { return a.Dot.Compare(b.Dot) })
	return out, true
}

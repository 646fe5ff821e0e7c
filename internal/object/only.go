package object

// Only is the object with none but the siblings of some actors, which is what is left of
// a copy whose others may be older than what all have forgotten; false: it has no others,
// and is the same. Without any of these siblings it is nothing.
//
// The clock then claims less: of the actor of a sibling that goes, only what came before
// that. A clock that went on covering it would say that it was replaced, and so kill it, in the
// next merge, on the copies where it is alive. What the clock says of all else stays true, since
// what was replaced by a sibling that goes was replaced wherever that is known. And nothing
// is taken from it that the siblings which stay have seen: a clock covers all up to a
// counter, so what had seen a later write of that actor would have replaced the sibling. Only
// a state that was put beside a value (see Replace) has seen more, and being merged once
// more does not harm it.
func (o Object) Only(mine func(Actor) bool) (Object, bool) {
	out := Object{Clock: o.Clock}
	var gone []Dot // the first that goes of each actor, by actor
	for i := range o.Siblings {
		s := &o.Siblings[i]
		switch {
		case mine(s.Dot.Actor):
			out.Siblings = append(out.Siblings, *s)
		case len(gone) == 0 || gone[len(gone)-1].Actor != s.Dot.Actor:
			gone = append(gone, s.Dot)
		}
	}
	if len(gone) == 0 {
		return o, false
	}
	if len(out.Siblings) == 0 {
		return Object{}, true
	}
	out.Clock = o.Clock.below(gone)
	return out, true
}

// below is v that has seen of the actors of some dots, which are ordered, only what came
// before these. It covers them.
func (v Vector) below(dots []Dot) Vector {
	out := make(Vector, 0, len(v))
	for _, d := range v {
		if len(dots) > 0 && dots[0].Actor == d.Actor {
			d.Counter = dots[0].Counter - 1
			dots = dots[1:]
		}
		if d.Counter > 0 {
			out = append(out, d)
		}
	}
	return out
}

package crdt

import (
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// dotted is what is alive under a dot. A place has a list of them, ordered by
// actor, with at most one of each actor.
type dotted[T any] interface {
	born() object.Dot

	// least orders two of one dot. These are the same unless something is
	// broken; then all copies still have to choose the same one.
	less(T) bool
}

// add is a dot alone: of an element's add, of a flag's enable, of a field's
// update.
type add object.Dot

func (a add) born() object.Dot { return object.Dot(a) }
func (a add) less(add) bool    { return false }

// meeting is what is known of two states while they are merged.
type meeting struct {
	a, b, both object.Vector // the contexts, and their join
	dead       object.Vector // pending at the fields above: what it covers is dead on arrival
}

// under is the meeting below a place where these removals are pending.
func (m meeting) under(pendingA, pendingB object.Vector) meeting {
	m.dead = m.dead.Join(pendingA).Join(pendingB)
	return m
}

// swapped is the meeting seen from the other side.
func (m meeting) swapped() meeting {
	m.a, m.b = m.b, m.a
	return m
}

// pending is what is still to come of the removals that are pending at a place.
func (m meeting) pending(a, b object.Vector) object.Vector { return above(a.Join(b), m.both) }

// mergeDotted merges what is alive at one place: what both have stays, and what
// one has if the other has not seen its dot.
//
// The result has one dot of an actor at most. Were x of a and y of b two dots
// of one actor, x the earlier, then b's context covers x, so x is dead.
func mergeDotted[T dotted[T]](a, b []T, m meeting) []T {
	if len(b) == 0 {
		return surviving(a, m.b, m.dead)
	}
	if len(a) == 0 {
		return surviving(b, m.a, m.dead)
	}
	if sameDots(a, b) {
		return greater(a, b) // alive on both sides, so killed by neither
	}
	out := make([]T, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		c := 1
		if len(b) == 0 {
			c = -1
		} else if len(a) > 0 {
			c = a[0].born().Compare(b[0].born())
		}
		var x T
		ok := true
		switch {
		case c < 0:
			x, ok, a = a[0], !m.b.Covers(a[0].born()), a[1:]
		case c > 0:
			x, ok, b = b[0], !m.a.Covers(b[0].born()), b[1:]
		default:
			if x = a[0]; x.less(b[0]) {
				x = b[0]
			}
			a, b = a[1:], b[1:]
		}
		if ok && !m.dead.Covers(x.born()) {
			out = append(out, x)
		}
	}
	return out
}

// surviving is what is left of one side where the other has nothing.
func surviving[T dotted[T]](xs []T, other, dead object.Vector) []T {
	return keep(xs, func(d object.Dot) bool { return !other.Covers(d) && !dead.Covers(d) })
}

// without is what is left after a removal of all that v covers.
func without[T dotted[T]](xs []T, v object.Vector) []T {
	if len(v) == 0 {
		return xs
	}
	return keep(xs, func(d object.Dot) bool { return !v.Covers(d) })
}

// keep is the part of a list with these dots: the list itself, if that is all.
func keep[T dotted[T]](xs []T, ok func(object.Dot) bool) []T {
	for i := range xs {
		if ok(xs[i].born()) {
			continue
		}
		out := slices.Clone(xs[:i])
		for _, x := range xs[i+1:] {
			if ok(x.born()) {
				out = append(out, x)
			}
		}
		return out
	}
	return xs
}

func sameDots[T dotted[T]](a, b []T) bool {
	return slices.EqualFunc(a, b, func(x, y T) bool { return x.born() == y.born() })
}

// greater takes of two lists with the same dots the greater of each pair.
func greater[T dotted[T]](a, b []T) []T {
	for i := range a {
		if !a[i].less(b[i]) {
			continue
		}
		out := slices.Clone(a)
		for j := i; j < len(out); j++ {
			if out[j].less(b[j]) {
				out[j] = b[j]
			}
		}
		return out
	}
	return a
}

// above is the part of v that the context has not seen: nil if that is nothing.
func above(v, context object.Vector) object.Vector {
	for i, d := range v {
		if !context.Covers(d) {
			continue
		}
		var out object.Vector
		out = append(out, v[:i]...)
		for _, d := range v[i+1:] {
			if !context.Covers(d) {
				out = append(out, d)
			}
		}
		return out
	}
	if len(v) == 0 {
		return nil
	}
	return v
}

// zip walks over two ordered lists together. Where only one has an item, the
// other gives nil.
func zip[T any](a, b []T, compare func(x, y *T) int, each func(x, y *T)) {
	for len(a)+len(b) > 0 {
		c := 1
		if len(b) == 0 {
			c = -1
		} else if len(a) > 0 {
			c = compare(&a[0], &b[0])
		}
		var x, y *T
		if c <= 0 {
			x, a = &a[0], a[1:]
		}
		if c >= 0 {
			y, b = &b[0], b[1:]
		}
		each(x, y)
	}
}

// widen is a copy of an ordered list that has a place for each of the keys. The
// keys may be in any order and repeat.
func widen[T any](xs, keys []T, compare func(x, y *T) int) []T {
	order := func(x, y T) int { return compare(&x, &y) }
	slices.SortFunc(keys, order)
	keys = slices.CompactFunc(keys, func(x, y T) bool { return compare(&x, &y) == 0 })
	out := make([]T, 0, len(xs)+len(keys))
	zip(xs, keys, compare, func(x, y *T) {
		if x == nil {
			x = y
		}
		out = append(out, *x)
	})
	return out
}

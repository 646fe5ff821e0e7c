package crdt

import (
	"bytes"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// set is the members, ordered by element. A member that has no adds is not an
// element: it is there for what is pending.
type set []member

type member struct {
	elem    []byte
	adds    []add
	pending object.Vector // of removals
}

func (m *member) empty() bool { return len(m.adds)+len(m.pending) == 0 }

func byElem(x, y *member) int { return bytes.Compare(x.elem, y.elem) }

// find returns where the element is, or would be, and whether it is there.
func (s set) find(elem []byte) (int, bool) {
	return slices.BinarySearchFunc(s, elem, func(m member, e []byte) int { return bytes.Compare(m.elem, e) })
}

func (s set) merge(other store, m meeting) store {
	o := other.(set)
	out := make(set, 0, max(len(s), len(o)))
	var none member
	zip(s, o, byElem, func(x, y *member) {
		z := member{}
		switch {
		case y == nil:
			z.elem, y = x.elem, &none
		case x == nil:
			z.elem, x = y.elem, &none
		default:
			z.elem = x.elem
		}
		here := m
		if len(x.pending)+len(y.pending) > 0 {
			here = m.under(x.pending, y.pending)
			z.pending = m.pending(x.pending, y.pending)
		}
		z.adds = mergeDotted(x.adds, y.adds, here)
		if !z.empty() {
			out = append(out, z)
		}
	})
	return out
}

// each is a copy of the set after f was done to each member. Those that are
// empty then are dropped.
func (s set) each(f func(m *member)) set {
	out := make(set, 0, len(s))
	for _, m := range s {
		if f(&m); !m.empty() {
			out = append(out, m)
		}
	}
	return out
}

func (s set) without(v object.Vector) store {
	return s.each(func(m *member) { m.adds = without(m.adds, v) })
}

func (s set) seen(k object.Vector) store {
	if !slices.ContainsFunc(s, func(m member) bool { return len(m.pending) > 0 }) {
		return s
	}
	return s.each(func(m *member) { m.pending = above(m.pending, k) })
}

func (s set) covers(d object.Dot) bool {
	return slices.ContainsFunc(s, func(m member) bool { return m.pending.Covers(d) })
}

func (s set) alive() bool {
	return slices.ContainsFunc(s, func(m member) bool { return len(m.adds) > 0 })
}

func (s set) empty() bool { return len(s) == 0 }
func (s set) items() int  { return len(s) }

func (s set) value() Value {
	v := Value{Kind: Set}
	for _, m := range s {
		if len(m.adds) > 0 {
			v.Set = append(v.Set, m.elem)
		}
	}
	return v
}

// apply removes what the client has seen, so that an element which is removed and added
// at once is in. A client that does not say what it has seen removes what is there once
// the others were added, as with Riak: such an element is out.
func (s set) apply(op Op, w *write) (store, error) {
	o := op.(SetOp)
	keys := make([]member, 0, len(o.Removes)+len(o.Adds))
	for _, e := range o.Removes {
		keys = append(keys, member{elem: e})
	}
	for _, e := range o.Adds {
		keys = append(keys, member{elem: e})
	}
	next := set(widen(s, keys, byElem))
	added := []add{add(w.dot)}
	if w.given {
		next.remove(o.Removes, w)
		next.add(o.Adds, added)
	} else {
		next.add(o.Adds, added)
		if err := next.drop(o.Removes); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(next, func(m member) bool { return m.empty() }), nil
}

// add gives each element the dots of its add alone.
func (s set) add(elems [][]byte, dots []add) {
	for _, e := range elems {
		i, _ := s.find(e)
		s[i].adds = dots
	}
}

// remove removes of each element what the client has seen.
func (s set) remove(elems [][]byte, w *write) {
	for _, e := range elems {
		i, _ := s.find(e)
		m := &s[i]
		m.adds, m.pending = without(m.adds, w.removed), m.pending.Join(w.pending)
	}
}

// drop removes each element, all of which must be there.
func (s set) drop(elems [][]byte) error {
	for _, e := range elems {
		if i, _ := s.find(e); len(s[i].adds) == 0 {
			return &PreconditionError{Elem: e}
		}
	}
	for _, e := range elems {
		i, _ := s.find(e)
		s[i].adds = nil
	}
	return nil
}

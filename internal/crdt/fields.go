package crdt

import (
	"cmp"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// fields is a map: its fields, ordered by name, then kind. A field with nothing
// alive is not shown: it is there for what is pending, on it or below.
type fields []field

type field struct {
	Field
	adds    []add         // updates of the field
	pending object.Vector // removals of the field: they reach all below it
	in      store         // of the field's kind
}

func (f *field) alive() bool { return len(f.adds) > 0 || f.in.alive() }
func (f *field) empty() bool { return len(f.adds)+len(f.pending) == 0 && f.in.empty() }

func compareFields(f, o Field) int {
	return cmp.Or(cmp.Compare(f.Name, o.Name), cmp.Compare(f.Kind, o.Kind))
}

func byField(x, y *field) int { return compareFields(x.Field, y.Field) }

// find returns where the field is, or would be, and whether it is there.
func (f fields) find(name Field) (int, bool) {
	return slices.BinarySearchFunc(f, name, func(x field, n Field) int { return compareFields(x.Field, n) })
}

func (f fields) merge(other store, m meeting) store {
	o := other.(fields)
	out := make(fields, 0, max(len(f), len(o)))
	zip(f, o, byField, func(x, y *field) {
		side := m
		if x == nil {
			x, y, side = y, x, m.swapped()
		}
		if y == nil {
			y = &field{in: nothing(x.Kind)}
		}
		below := side.under(x.pending, y.pending)
		z := field{
			Field:   x.Field,
			adds:    mergeDotted(x.adds, y.adds, below),
			pending: side.pending(x.pending, y.pending),
			in:      x.in.merge(y.in, below),
		}
		if !z.empty() {
			out = append(out, z)
		}
	})
	return out
}

// each is a copy of the map after g was done to each field. Those that are empty
// then are dropped.
func (f fields) each(g func(x *field)) fields {
	out := make(fields, 0, len(f))
	for _, x := range f {
		if g(&x); !x.empty() {
			out = append(out, x)
		}
	}
	return out
}

// remove drops all that v covers from the field and what is below it.
func (f *field) remove(v object.Vector) { f.adds, f.in = without(f.adds, v), f.in.without(v) }

func (f fields) without(v object.Vector) store {
	return f.each(func(x *field) { x.remove(v) })
}

func (f fields) seen(k object.Vector) store {
	return f.each(func(x *field) { x.pending, x.in = above(x.pending, k), x.in.seen(k) })
}

func (f fields) covers(d object.Dot) bool {
	return slices.ContainsFunc(f, func(x field) bool { return x.pending.Covers(d) || x.in.covers(d) })
}

func (f fields) alive() bool {
	return slices.ContainsFunc(f, func(x field) bool { return x.alive() })
}

func (f fields) empty() bool { return len(f) == 0 }

func (f fields) items() int {
	n := len(f)
	for i := range f {
		n += f[i].in.items()
	}
	return n
}

func (f fields) value() Value {
	v := Value{Kind: Map}
	for i := range f {
		if f[i].alive() {
			v.Map = append(v.Map, FieldValue{Field: f[i].Field, Value: f[i].in.value()})
		}
	}
	return v
}

// apply removes first, then updates one after the other.
func (f fields) apply(op Op, w *write) (store, error) {
	o := op.(MapOp)
	for _, name := range o.Removes {
		if i, found := f.find(name); !w.given && (!found || !f[i].alive()) {
			return nil, &PreconditionError{Field: &name}
		}
	}
	keys := make([]field, 0, len(o.Removes)+len(o.Updates))
	for _, name := range o.Removes {
		keys = append(keys, field{Field: name, in: nothing(name.Kind)})
	}
	for _, u := range o.Updates {
		keys = append(keys, field{Field: u.Field, in: nothing(u.Field.Kind)})
	}
	next := fields(widen(f, keys, byField))
	for _, name := range o.Removes {
		i, _ := next.find(name)
		next[i].remove(w.removed)
		next[i].pending = next[i].pending.Join(w.pending)
	}
	for _, u := range o.Updates {
		i, _ := next.find(u.Field)
		in, err := next[i].in.apply(u.Op, w)
		if err != nil {
			return nil, err
		}
		next[i].in, next[i].adds = in, []add{add(w.dot)}
	}
	return slices.DeleteFunc(next, func(x field) bool { return x.empty() }), nil
}

package crdt

import "github.com/tanodb/tanodb/internal/object"

// enables is a flag: the enables that are alive.
type enables struct {
	adds    []add
	pending object.Vector // of disables
}

func (f enables) merge(other store, m meeting) store {
	o := other.(enables)
	return enables{
		adds:    mergeDotted(f.adds, o.adds, m.under(f.pending, o.pending)),
		pending: m.pending(f.pending, o.pending),
	}
}

func (f enables) without(v object.Vector) store { return enables{without(f.adds, v), f.pending} }
func (f enables) seen(k object.Vector) store    { return enables{f.adds, above(f.pending, k)} }
func (f enables) covers(d object.Dot) bool      { return f.pending.Covers(d) }
func (f enables) alive() bool                   { return len(f.adds) > 0 }
func (f enables) empty() bool                   { return len(f.adds)+len(f.pending) == 0 }
func (f enables) items() int                    { return 0 }
func (f enables) value() Value                  { return Value{Kind: Flag, Flag: f.alive()} }

// apply disables by what the client had read, or without that, what is here. It
// is no error to disable what is not enabled.
func (f enables) apply(op Op, w *write) (store, error) {
	if op.(FlagOp) {
		return enables{[]add{add(w.dot)}, f.pending}, nil
	}
	return enables{without(f.adds, w.removed), f.pending.Join(w.pending)}, nil
}

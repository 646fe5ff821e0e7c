package crdt

import "github.com/tanodb/tanodb/internal/object"

// flag is the enables that are alive.
type flag struct {
	adds    []add
	pending object.Vector // of disables
}

func (f flag) merge(other store, m meeting) store {
	o := other.(flag)
	return flag{
		adds:    mergeDotted(f.adds, o.adds, m.under(f.pending, o.pending)),
		pending: m.pending(f.pending, o.pending),
	}
}

func (f flag) without(v object.Vector) store { return flag{without(f.adds, v), f.pending} }
func (f flag) seen(k object.Vector) store    { return flag{f.adds, above(f.pending, k)} }
func (f flag) covers(d object.Dot) bool      { return f.pending.Covers(d) }
func (f flag) alive() bool                   { return len(f.adds) > 0 }
func (f flag) empty() bool                   { return len(f.adds)+len(f.pending) == 0 }
func (f flag) items() int                    { return 0 }
func (f flag) value() Value                  { return Value{Kind: Flag, Flag: f.alive()} }

// apply disables by what the client had read, or without that, what is here. It
// is no error to disable what is not enabled.
func (f flag) apply(op Op, w *write) (store, error) {
	if op.(FlagOp) {
		return flag{[]add{add(w.dot)}, f.pending}, nil
	}
	return flag{without(f.adds, w.removed), f.pending.Join(w.pending)}, nil
}

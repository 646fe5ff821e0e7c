package crdt

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// register is the assignments that none has replaced. All are kept until the
// next assignment, though only one is the value: were the others dropped, the
// order of merges would matter when the one is removed.
type register []assignment

type assignment struct {
	dot   object.Dot
	stamp object.Stamp
	bytes []byte
}

func (a assignment) born() object.Dot { return a.dot }

func (a assignment) less(o assignment) bool {
	if c := cmp.Compare(a.stamp, o.stamp); c != 0 {
		return c < 0
	}
	return bytes.Compare(a.bytes, o.bytes) < 0
}

func (r register) merge(other store, m meeting) store {
	return register(mergeDotted(r, other.(register), m))
}

func (r register) without(v object.Vector) store { return register(without(r, v)) }
func (r register) seen(object.Vector) store      { return r }
func (r register) covers(object.Dot) bool        { return false }
func (r register) alive() bool                   { return len(r) > 0 }
func (r register) empty() bool                   { return len(r) == 0 }
func (r register) items() int                    { return 0 }

// apply replaces what is here. An assignment that was made after reading another
// is never the older one, whatever the clocks of their coordinators said.
func (r register) apply(op Op, w *write) (store, error) {
	return register{{dot: w.dot, stamp: w.stamp, bytes: op.(RegisterOp)}}, nil
}

func (r register) value() Value {
	v := Value{Kind: Register}
	if len(r) > 0 {
		v.Register = slices.MaxFunc(r, func(x, y assignment) int {
			return cmp.Or(cmp.Compare(x.stamp, y.stamp), x.dot.Compare(y.dot))
		}).bytes
	}
	return v
}

package crdt

import (
	"bytes"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// gset is the elements, in order. It needs no dots, since nothing is removed.
type gset [][]byte

func byBytes(x, y *[]byte) int { return bytes.Compare(*x, *y) }

func (g gset) merge(other store, _ meeting) store {
	return gset(widen(g, slices.Clone(other.(gset)), byBytes))
}

func (g gset) apply(op Op, _ *write) (store, error) {
	return gset(widen(g, slices.Clone(op.(GSetOp)), byBytes)), nil
}

func (g gset) without(object.Vector) store { return g }
func (g gset) seen(object.Vector) store    { return g }
func (g gset) covers(object.Dot) bool      { return false }
func (g gset) alive() bool                 { return len(g) > 0 }
func (g gset) empty() bool                 { return len(g) == 0 }
func (g gset) items() int                  { return len(g) }
func (g gset) value() Value                { return Value{Kind: GSet, Set: g} }

// Package crdt is the data types that live in objects: counter, set, grow-only
// set, HyperLogLog and map, and in maps also register and flag. Replicas change
// them without asking each other, and merging brings all to the same value.
//
// # The model
//
// An object of a typed bucket holds siblings, and the body of each is a State.
// The vnode that coordinates a write merges the states of all siblings it
// holds, applies the operation under the dot it has minted for the write, and
// stores one sibling that replaces them all. Writes on different vnodes leave
// siblings, which readers and the next coordinator merge.
//
//	vnode a                         vnode b
//	set (a:1)  {x@a:1}  ──copied──▶ set (a:1)  {x@a:1}
//	   │ remove x, seen (a:1)          │ add x
//	   ▼                               ▼
//	set (a:2)  {}                   set (a:1 b:1)  {x@b:1}
//	         └──────────┬──────────────┘
//	                    ▼ Merge
//	           set (a:2 b:1)  {x@b:1}    nobody has seen b:1 removed: x is in
//
// A State is a context, which is the version vector of what it has seen, and
// what is alive, each under the dot of the operation that put it there. As with
// siblings in package object, each dot at each place is in one of three states,
// which only move forward: not seen → alive → dead. Dead is nowhere written
// down: it is a dot that the context covers and that is not there. So removing
// costs no memory, and one rule merges everything: what both have is alive, and
// what one has is alive if the other has not seen its dot.
//
//	            a has it   a has seen it, has it not   a has not seen it
//	b has it    alive      dead                        alive
//
// One operation has one dot, however many fields and elements it touches: the
// rule looks at one place at a time. At one place an actor has at most one dot
// alive, since it replaces there what it has seen.
//
// # Removals that come too early
//
// A client removes what it has read, and says so by the object's version vector
// of its read. Where that vector has seen more than this state, the removal
// must also reach what comes later. The place then keeps those entries of the
// vector that are above the context, as pending: dots that it covers are dead
// on arrival. Once the context has caught up nothing of it is left. A removal
// without a vector removes what is here; if the place is not here at all, it is
// refused (PreconditionError).
//
// # The types
//
//	counter   for each actor the dot of its last increment and the sum of its own
//	          increments. The later dot replaces the earlier, so no operation
//	          counts twice, whatever is merged how often.
//	set       elements, each with the dots of its adds. An add replaces the dots
//	          seen; a removal kills those that its reader had seen. An element
//	          is in while a dot is alive: a concurrent add wins.
//	flag      the dots of its enables, as one element of a set: enable wins.
//	register  assigned values with stamp and dot. An assignment replaces those
//	          seen, whatever the clocks said; of concurrent ones the latest stamp
//	          is the value, then the greater dot.
//	map       fields by name and kind, each with the dots of its updates and a
//	          value of its kind. A field is there while any dot in it is alive.
//	gset      elements: the union.
//	hll       registers: the greater of each. See hll.go.
//
// Removing a field kills by the same vector everything under it that its reader
// had seen, and keeps what was updated concurrently. A field that is made again
// begins anew. Of a counter in a field a removal kills the sums whose dot was
// seen; so an actor that increments while another removes keeps its whole sum
// since it began the counter, not only what the other had not seen. To keep
// only that, each increment would have to be kept for ever. If one operation
// removes and updates the same place, the removal comes first.
//
// # Sources
//
// The types and the laws of merging are from Shapiro, Preguiça, Baquero and
// Zawirski, "A comprehensive study of convergent and commutative replicated
// data types" (2011); the set without tombstones is from Bieniusa and others,
// "An optimized conflict-free replicated set" (2012); one context for a whole
// map is from Almeida, Shoker and Baquero, "Delta state replicated data types"
// (2018). What the types mean, to the anomaly of counters in maps, is Riak's.
//
// # Values are shared
//
// Nothing here changes a State, an Op or a Value in place. Results may share
// memory with arguments and with decoded bytes, so a caller must not change
// these either.
package crdt

import (
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/kv"
)

// The vocabulary is that of package kv; here are its short names.
type (
	// Kind is the kind of a state, an operation, a value or a field.
	Kind = kv.Kind

	// Op is an operation as a client sends it.
	Op = kv.Op

	// Value is what readers see of a state or a field.
	Value = kv.DataValue

	// FieldValue is a field of a map and what is in it.
	FieldValue = kv.FieldValue

	// Field names a field of a map.
	Field = kv.Field

	// Update is an operation on a field.
	Update = kv.FieldOp

	// CounterOp adds to a counter.
	CounterOp = kv.CounterOp

	// SetOp removes elements from a set, then adds others.
	SetOp = kv.SetOp

	// GSetOp adds elements to a grow-only set.
	GSetOp = kv.GSetOp

	// HLLOp adds elements to a HyperLogLog.
	HLLOp = kv.HLLOp

	// RegisterOp assigns a value.
	RegisterOp = kv.RegisterOp

	// FlagOp enables, or if false disables.
	FlagOp = kv.FlagOp

	// MapOp removes fields, then updates fields.
	MapOp = kv.MapOp
)

// The kinds.
const (
	Counter  = kv.Counter
	Set      = kv.Set
	Register = kv.Register
	Flag     = kv.Flag
	Map      = kv.Map
	GSet     = kv.GSet
	HLL      = kv.HLL
)

// State is what one copy knows of a data type: a value that does not change.
// The zero State is of no kind and good for nothing.
type State struct {
	kind Kind

	// context is what the state has seen.
	// Invariant: it covers each dot in store, and is below each entry of what
	// is pending there.
	context object.Vector

	store store
}

// store is what a state, or a field of a map, holds.
type store interface {
	// merge brings two stores of one kind together.
	merge(other store, m meeting) store

	// apply is the store after the operation, which is of its kind.
	apply(op Op, w *write) (store, error)

	// without is the store after a removal of all that v covers.
	without(v object.Vector) store

	// seen drops of what is pending what the context has caught up with.
	seen(context object.Vector) store

	// covers reports whether anything pending covers the dot.
	covers(d object.Dot) bool

	alive() bool // something is there, if only for the map that holds it
	empty() bool // nothing is there, and nothing pending
	items() int  // elements and fields, also of what is in fields
	value() Value
	append(dst []byte, context object.Vector) []byte
}

// nothing is the empty store of a kind. That of a HyperLogLog is not among
// them, since it has a precision.
func nothing(k Kind) store {
	switch k {
	case Counter:
		return counter(nil)
	case Set:
		return set(nil)
	case Register:
		return register(nil)
	case Flag:
		return enables{}
	case Map:
		return fields(nil)
	case GSet:
		return gset(nil)
	}
	return nil
}

// New is an empty state that has seen nothing. Precision is that of a
// HyperLogLog, 0 for DefaultPrecision; no other kind looks at it.
func New(k Kind, precision uint8) (State, error) {
	if !k.TopLevel() {
		return State{}, &KindError{Type: k}
	}
	if k != HLL {
		return State{kind: k, store: nothing(k)}, nil
	}
	if precision == 0 {
		precision = DefaultPrecision
	}
	if precision < MinPrecision || precision > MaxPrecision {
		return State{}, &LimitError{What: "HyperLogLog precision", Got: int(precision), Max: MaxPrecision}
	}
	return State{kind: k, store: hll{precision: precision}}, nil
}

// Kind is the kind of the state.
func (s State) Kind() Kind { return s.kind }

// Context is what the state has seen.
func (s State) Context() object.Vector { return s.context }

// Value is what readers see.
func (s State) Value() Value {
	if s.store == nil {
		return Value{}
	}
	return s.store.value()
}

// String shows the kind, the context and the value.
func (s State) String() string {
	return s.kind.String() + " " + s.context.String() + " " + s.Value().String()
}

// Merge is what two states of one kind know together. It is commutative,
// associative and idempotent, and never goes back. Of two HyperLogLogs of
// different precision the lower one is the precision of the result.
func Merge(a, b State) (State, error) {
	if a.kind != b.kind || !a.kind.TopLevel() {
		return State{}, &KindError{Op: a.kind, Type: b.kind, Merge: true}
	}
	m := meeting{a: a.context, b: b.context, both: a.context.Join(b.context)}
	return State{kind: a.kind, context: m.both, store: a.store.merge(b.store, m)}, nil
}

// Seen is the state of a copy whose object has this clock. The object contains
// or replaces everything that its clock covers, also dots that never were in a
// state, as those of tombstones. A coordinator that has merged all siblings of
// its object says so before Apply: then a removal by what was read of the
// object waits for nothing that is not to come, and a state that is begun after
// a deletion takes back nothing of what was deleted. Never give it the context
// of a client, which may have seen what this copy has not.
func (s State) Seen(clock object.Vector) State {
	if s.context.Descends(clock) || s.store == nil {
		return s
	}
	s.context = s.context.Join(clock)
	s.store = s.store.seen(s.context)
	return s
}

// write is one operation being applied.
type write struct {
	dot   object.Dot
	stamp object.Stamp

	given   bool          // the client said what it had read
	removed object.Vector // dots that a removal kills
	pending object.Vector // the part of removed that is still to come
}

// Apply is the state after an operation under a new dot, or an error, and then
// nothing was applied. Stamp is for registers. Ctx is what the client had read
// of the object; empty: it does not say.
//
// The dot must be new, later than all that its actor has issued. One that the
// state, the client or a pending removal has seen is refused with ErrSeen: it
// was applied before, or it would be dead on arrival. The caller checks the
// size of what comes out.
func (s State) Apply(op Op, dot object.Dot, stamp object.Stamp, ctx object.Vector) (State, error) {
	if s.store == nil || op == nil || op.Kind() != s.kind {
		return State{}, kindError(op, s.kind)
	}
	if err := Check(op); err != nil {
		return State{}, err
	}
	if dot.Counter == 0 || s.context.Covers(dot) || ctx.Covers(dot) || s.store.covers(dot) {
		return State{}, ErrSeen
	}
	w := write{dot: dot, stamp: stamp, given: len(ctx) > 0, removed: s.context}
	context := s.context.With(dot)
	if w.given {
		w.removed = ctx
		w.pending = above(ctx, context)
	}
	after, err := s.store.seen(context).apply(op, &w)
	if err != nil {
		return State{}, err
	}
	if n := after.items(); n > MaxItems && n > s.store.items() {
		return State{}, &LimitError{What: "elements and fields", Got: n, Max: MaxItems}
	}
	return State{kind: s.kind, context: context, store: after}, nil
}

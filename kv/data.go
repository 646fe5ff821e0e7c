package kv

import (
	"context"
	"strconv"
	"strings"
)

// DataTypes are the objects of typed buckets: counters, sets, grow-only sets,
// maps and HyperLogLogs. Clients do not write their values but send operations,
// which the replicas apply without asking each other, and merging brings all
// replicas to the same value: there are no siblings to resolve.
//
// A bucket has a data type by the property datatype of its bucket type. In buckets
// of the default type that keep siblings a key may be a counter, as in Riak 1.4.
//
// The Replies of Data are meaningful also when the error is not nil. Errors are
// those of this package; besides those of a Store:
//
//	ErrDataType      the bucket has no data type, or another one; so has a Put there
//	ErrPrecondition  something is to be removed that is not there, and no context says that it was
//	ErrOverflow      a counter would leave 64 bits
//	ErrTooLarge      the object, or the number of its elements, would pass a limit
type DataTypes interface {
	// Fetch reads a data type. ErrNotFound: nothing is there; Data then still has
	// its Kind and, if something was deleted, the Context of that.
	Fetch(ctx context.Context, k Key, o ReadOptions) (Data, error)

	// Update applies an operation. WriteOptions.Context is what its writer had read:
	// what it removes is what that context has seen. Without one it removes what the
	// replica has that applies it, and must be there. Adding needs no context.
	//
	// An operation is no idempotent write: one that is in doubt (ErrInDoubt) may count
	// twice if it is sent again. Sent again with the WriteOptions.RequestID that its writer
	// chose, it is not applied by a replica that has it, as long as fewer than
	// MaxRemembered others with such an id came after it, and no delete; a replica that has not
	// heard of it yet applies it.
	Update(ctx context.Context, k Key, op Op, o WriteOptions) (Data, error)
}

// MaxRemembered is how many operations that brought a RequestID an object of a data type
// remembers.
const MaxRemembered = 16

// Data is what a Fetch or an Update tells.
type Data struct {
	Kind    Kind
	Value   DataValue // of a Fetch, and of an Update with WriteOptions.ReturnBody
	Context Context   // of the same; what it has seen
	Replies []Reply
}

// Kind is the kind of a data type, of an operation, of a value or of a field. The
// numbers are those of the encodings, and order fields of one name.
type Kind uint8

// The kinds. Register and Flag are only in maps; GSet and HLL never are.
const (
	Counter Kind = iota + 1
	Set
	Register
	Flag
	Map
	GSet
	HLL
)

// kinds are the names of the kinds, as Riak's bucket types and errors have
// them.
var kinds = [...]string{Counter: "counter", Set: "set", Register: "register", Flag: "flag", Map: "map", GSet: "gset", HLL: "hll"}

// String is Riak's word for the kind.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kinds) {
		return "unknown"
	}
	return kinds[k]
}

// ParseKind is the kind of this name; 0: there is none.
func ParseKind(name string) Kind {
	for k := Counter; k.known(); k++ {
		if kinds[k] == name {
			return k
		}
	}
	return 0
}

func (k Kind) known() bool { return k > 0 && int(k) < len(kinds) }

// TopLevel reports whether an object can be of the kind.
func (k Kind) TopLevel() bool { return k.known() && k != Register && k != Flag }

// InMap reports whether a map's field can be of the kind.
func (k Kind) InMap() bool { return k >= Counter && k <= Map }

// Op is an operation on a data type: one of the types below.
type Op interface {
	// Kind is the kind of data type that the operation is for.
	Kind() Kind
}

// The operations.
type (
	// CounterOp adds to a counter; below 0 it takes away.
	CounterOp int64

	// SetOp adds elements to a set and removes others. One that is added and removed at once
	// is in if the context was given, and out without one.
	SetOp struct{ Adds, Removes [][]byte }

	// GSetOp adds elements to a grow-only set.
	GSetOp [][]byte

	// HLLOp adds elements to a HyperLogLog.
	HLLOp [][]byte

	// RegisterOp assigns a value.
	RegisterOp []byte

	// FlagOp enables, or if false disables.
	FlagOp bool

	// MapOp removes fields, then updates fields, one after the other.
	MapOp struct {
		Removes []Field
		Updates []FieldOp
	}
)

// Field names a field of a map. Fields of one name and different kinds are
// different fields.
type Field struct {
	Name string // any bytes
	Kind Kind
}

// FieldOp is an operation on a field, which is made if it is not there.
type FieldOp struct {
	Field Field
	Op    Op
}

// Kind is Counter.
func (CounterOp) Kind() Kind { return Counter }

// Kind is Set.
func (SetOp) Kind() Kind { return Set }

// Kind is GSet.
func (GSetOp) Kind() Kind { return GSet }

// Kind is HLL.
func (HLLOp) Kind() Kind { return HLL }

// Kind is Register.
func (RegisterOp) Kind() Kind { return Register }

// Kind is Flag.
func (FlagOp) Kind() Kind { return Flag }

// Kind is Map.
func (MapOp) Kind() Kind { return Map }

// String shows the name, in quotes if it is not plain, and the kind.
func (f Field) String() string { return plainName(f.Name) + ":" + f.Kind.String() }

// DataValue is what readers see of a data type or a field: Kind says which of the
// others counts.
type DataValue struct {
	Kind     Kind
	Counter  int64        // the nearest number of 64 bits, should concurrent increments have left them
	Set      [][]byte     // of Set and GSet: the elements, in order
	HLL      uint64       // the estimate
	Register []byte       // the value assigned
	Flag     bool         // enabled
	Map      []FieldValue // the fields, by name, then kind
}

// FieldValue is a field of a map and what is in it.
type FieldValue struct {
	Field Field
	Value DataValue
}

// String shows the value: 42, {"a" "b"}, {visits:counter=3 tags:set={"x"}}.
func (v DataValue) String() string {
	switch v.Kind {
	case Counter:
		return strconv.FormatInt(v.Counter, 10)
	case HLL:
		return strconv.FormatUint(v.HLL, 10)
	case Flag:
		return strconv.FormatBool(v.Flag)
	case Register:
		return strconv.Quote(string(v.Register))
	case Set, GSet:
		all := make([]string, len(v.Set))
		for i, e := range v.Set {
			all[i] = strconv.Quote(string(e))
		}
		return "{" + strings.Join(all, " ") + "}"
	case Map:
		all := make([]string, len(v.Map))
		for i, f := range v.Map {
			all[i] = f.Field.String() + "=" + f.Value.String()
		}
		return "{" + strings.Join(all, " ") + "}"
	}
	return "nothing"
}

// plainName is the text itself if that reads well, else quoted.
func plainName(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == ':' {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return strconv.Quote(s)
	}
	return s
}

// Kind is the kind of the bucket's objects; 0: they hold any values.
func (p *Props) Kind() Kind { return ParseKind(p.DataType) }

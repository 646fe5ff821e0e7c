package crdt

// Op is an operation as a client sends it. Apply and AppendOp take only these.
type Op interface {
	// Kind is the kind of state that the operation is for.
	Kind() Kind
}

// The operations.
type (
	// CounterOp adds to a counter; below 0 it takes away.
	CounterOp int64

	// SetOp removes elements from a set, then adds others.
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
		Updates []Update
	}
)

// Field names a field of a map. Fields of one name and different kinds are
// different fields.
type Field struct {
	Name string // any bytes
	Kind Kind
}

// Update is an operation on a field, which is made if it is not there.
type Update struct {
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
func (f Field) String() string { return plain(f.Name) + ":" + f.Kind.String() }

// checkOp reports whether an operation is whole and within the limits.
func checkOp(op Op) error {
	c := opCheck{}
	c.op(op, 1)
	switch {
	case c.err != nil:
		return c.err
	case c.items > MaxItems:
		return &LimitError{"elements and fields in an operation", c.items, MaxItems}
	case c.bytes > MaxOpBytes:
		return &LimitError{"bytes in an operation", c.bytes, MaxOpBytes}
	}
	return nil
}

// opCheck is what was counted of an operation so far.
type opCheck struct {
	items, bytes int
	err          error
}

func (c *opCheck) elems(all [][]byte) {
	c.items += len(all)
	for _, e := range all {
		c.bytes += len(e)
	}
}

func (c *opCheck) field(f Field) {
	c.items++
	c.bytes += len(f.Name)
	switch {
	case c.err != nil:
	case len(f.Name) > MaxName:
		c.err = &LimitError{"bytes in the name of a field", len(f.Name), MaxName}
	case !f.Kind.inMap():
		c.err = &KindError{Type: f.Kind}
	}
}

// op counts an operation whose maps, if it has any, are at this depth.
func (c *opCheck) op(op Op, depth int) {
	switch o := op.(type) {
	case SetOp:
		c.elems(o.Adds)
		c.elems(o.Removes)
	case GSetOp:
		c.elems(o)
	case HLLOp:
		c.elems(o)
	case RegisterOp:
		c.bytes += len(o)
	case MapOp:
		c.fields(o, depth)
	case CounterOp, FlagOp:
	default:
		c.err = kindError(op, 0)
	}
}

func (c *opCheck) fields(o MapOp, depth int) {
	if depth > MaxDepth {
		c.err = &LimitError{"maps within each other", depth, MaxDepth}
		return
	}
	for _, f := range o.Removes {
		c.field(f)
	}
	for _, u := range o.Updates {
		c.field(u.Field)
		if c.err == nil && (u.Op == nil || u.Op.Kind() != u.Field.Kind) {
			c.err = kindError(u.Op, u.Field.Kind)
		}
		if c.err != nil {
			return
		}
		c.op(u.Op, depth+1)
	}
}

// plain is the text itself if that reads well, else quoted.
func plain(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == ':' {
			return quoted(s)
		}
	}
	if s == "" {
		return quoted(s)
	}
	return s
}

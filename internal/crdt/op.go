package crdt

// Check reports whether an operation is whole and within the limits.
func Check(op Op) error {
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

// SizeOf is about how many bytes an operation has; 0 of none.
func SizeOf(op Op) int {
	if op == nil {
		return 0
	}
	c := opCheck{}
	c.op(op, 1)
	return c.bytes
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
	case !f.Kind.InMap():
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

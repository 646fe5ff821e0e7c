package api

import (
	"slices"
	"strconv"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// riakReaps is how long after a delete Riak reaps its tombstone, where delete_mode does not
// say otherwise.
const riakReaps = 3 * time.Second

// Shown are the values of a key as Riak's clients see them. Riak has reaped a tombstone some
// seconds after the delete, so that who writes the key anew after that, without a context,
// reads one value. Here it is kept for much longer, until nothing can come back, and would
// stand beside that value all the time: it is left out if it is older, by as much as Riak
// would have kept it, than each value. One that was made about when a value was is a conflict
// that clients are to see. The context covers all of them.
func Shown(vs []kv.Value, props func() kv.Properties) []kv.Value {
	if !slices.ContainsFunc(vs, func(v kv.Value) bool { return v.Deleted }) {
		return vs
	}
	age := riakReaps
	switch mode := props().Lookup("delete_mode"); mode {
	case "keep":
		return vs
	default:
		if ms, err := strconv.Atoi(mode); err == nil {
			age = time.Duration(ms) * time.Millisecond
		}
	}
	later := func(dead kv.Value) bool { // each value is
		return !slices.ContainsFunc(vs, func(v kv.Value) bool { return !v.Deleted && v.Modified.Sub(dead.Modified) < age })
	}
	return slices.DeleteFunc(slices.Clone(vs), func(v kv.Value) bool { return v.Deleted && later(v) })
}

package crdt

import (
	"strconv"
	"strings"
)

// Value is what readers see of a state or a field: Kind says which of the
// others counts.
type Value struct {
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
	Value Value
}

// String shows the value: 42, {"a" "b"}, {visits:counter=3 tags:set={"x"}}.
func (v Value) String() string {
	switch v.Kind {
	case Counter:
		return strconv.FormatInt(v.Counter, 10)
	case HLL:
		return strconv.FormatUint(v.HLL, 10)
	case Flag:
		return strconv.FormatBool(v.Flag)
	case Register:
		return quoted(string(v.Register))
	case Set, GSet:
		all := make([]string, len(v.Set))
		for i, e := range v.Set {
			all[i] = quoted(string(e))
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

func quoted(s string) string { return strconv.Quote(s) }

package kv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Property is one property of a bucket or of a bucket type, by Riak's name where
// Riak has it. Its value is text: "3", "true", "quorum", "24h0m0s". An empty
// value takes the property back, so that what is above it holds: for a bucket its type,
// for a type the default.
type Property struct {
	Name  string
	Value string
}

// Properties are some of the properties of a bucket or a type, each once. As JSON
// they are Riak's object of names and values.
type Properties []Property

// Props are the properties that a request of a bucket goes by.
type Props struct {
	N            int    // n_val: replicas that a request asks, of those that the cluster keeps
	R, PR        Quorum // of a get
	W, DW, PW    Quorum // of a put and a delete
	NodeConfirms int    // distinct nodes that must grant a request; 0: it does not matter
	NotFoundOK   bool   // a replica without the key counts towards R
	BasicQuorum  bool   // with NotFoundOK false, give up after a majority of refusals
	SloppyQuorum bool   // nodes that stand in for others count

	AllowMult     bool // concurrent values stay beside each other; false: the last one wins
	LastWriteWins bool // the same as AllowMult false; Riak tells them apart

	TTL         time.Duration // a value that brings no expiry expires so long after its write; 0: never
	DeleteMode  string        // "reap", "keep" or milliseconds; see Keeps and Grace
	DataType    string        // what the bucket's objects are: "counter", "set", "gset", "hll" or "map"; empty: any values
	Precision   int           // hll_precision of a HyperLogLog
	SiblingWarn int           // siblings_warning: from so many values on, writes of the key are warned of
	SiblingMax  int           // siblings_maximum: a write that would leave more values is refused
	SizeWarn    int           // size_warning: the same for the bytes of the object
	SizeMax     int           // size_maximum

	// What Riak has and nothing here goes by, in the order of names.
	kept Properties
}

// The limits and defaults of properties.
const (
	MaxTTL             = 100 * 365 * 24 * time.Hour
	MaxDeleteGrace     = 365 * 24 * time.Hour
	DefaultSiblingWarn = 25
	DefaultSizeWarn    = 5 << 20
	DefaultPrecision   = 14

	maxReplicas = 64 // that any cluster keeps
)

// DefaultProps are the properties of a type of which nothing is set, in a cluster
// that keeps n replicas. The default type lets the last write win, as Riak's does;
// types that are made keep siblings.
func DefaultProps(n int, typed bool) Props {
	return Props{
		N: n, R: Majority, PR: None, W: Majority, DW: Majority, PW: None, NotFoundOK: true, SloppyQuorum: true,
		AllowMult: typed, DeleteMode: deleteReap, Precision: DefaultPrecision,
		SiblingWarn: DefaultSiblingWarn, SiblingMax: MaxSiblings, SizeWarn: DefaultSizeWarn, SizeMax: MaxObject,
	}
}

// Latest reports whether of several values only the last one is to be seen.
func (p *Props) Latest() bool { return !p.AllowMult || p.LastWriteWins }

// The words for DeleteMode.
const (
	deleteReap      = "reap"
	deleteKeep      = "keep"
	deleteImmediate = "immediate" // Riak's word for at once, which is the same as reap here
)

// Keeps reports whether the bucket's tombstones are never removed.
func (p *Props) Keeps() bool { return p.DeleteMode == deleteKeep }

// Grace is how old a tombstone of the bucket is at least when it is removed, besides what
// the cluster says. Riak's delete_mode in milliseconds is such an age: when all replicas
// agree, it may go.
func (p *Props) Grace() time.Duration {
	ms, err := strconv.Atoi(p.DeleteMode)
	if err != nil {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// With are the properties with those of the list set. The error says which of them
// cannot be.
func (p Props) With(list Properties) (Props, error) {
	p.kept = slices.Clone(p.kept)
	for _, x := range list {
		if x.Value == "" {
			continue
		}
		s, known := specOf(x.Name)
		if !known {
			return p, &InvalidError{What: "bucket property " + strconv.Quote(clip(x.Name)), Problem: "is unknown"}
		}
		if problem := s.set(&p, x.Value); problem != "" {
			return p, &InvalidError{What: "bucket property " + x.Name, Problem: "is " + strconv.Quote(clip(x.Value)) + "; " + problem}
		}
	}
	return p, p.check()
}

// clip is the beginning of a text from outside, for an error.
func clip(s string) string { return s[:min(len(s), 64)] }

// check looks for properties that cannot be together.
func (p *Props) check() error {
	bad := func(what, problem string, args ...any) error {
		return &InvalidError{What: "bucket property " + what, Problem: fmt.Sprintf(problem, args...)}
	}
	if p.AllowMult && p.LastWriteWins {
		return bad("last_write_wins", "cannot be true where allow_mult is: take one of them back")
	}
	if p.DataType != "" && !p.AllowMult {
		return bad("datatype", "is %q, which takes allow_mult=true", p.DataType)
	}
	for name, q := range map[string]Quorum{"r": p.R, "pr": p.PR, "w": p.W, "dw": p.DW, "pw": p.PW, "node_confirms": Quorum(p.NodeConfirms)} { //det:ok any one that is wrong is named
		if int(q) > p.N {
			return bad(name, "is %d; n_val is %d", int(q), p.N)
		}
	}
	if p.SiblingWarn > p.SiblingMax {
		return bad("siblings_warning", "is %d, above siblings_maximum, which is %d", p.SiblingWarn, p.SiblingMax)
	}
	if p.SizeWarn > p.SizeMax {
		return bad("size_warning", "is %d, above size_maximum, which is %d", p.SizeWarn, p.SizeMax)
	}
	return nil
}

// List are all properties with their values, in the order of their names.
func (p *Props) List() Properties {
	list := make(Properties, 0, len(specs))
	for _, s := range specs {
		list = append(list, Property{s.name, s.get(p)})
	}
	return list
}

// Lookup is the value of a property in the list; empty: it is not in it.
func (l Properties) Lookup(name string) string {
	i := slices.IndexFunc(l, func(p Property) bool { return p.Name == name })
	if i < 0 {
		return ""
	}
	return l[i].Value
}

// Over are the properties of l with those of the list in their place, in the order
// of names and without those that are taken back.
func (l Properties) Over(list Properties) Properties {
	out := slices.Clone(l)
	for _, x := range list {
		out = slices.DeleteFunc(out, func(p Property) bool { return p.Name == x.Name })
		if x.Value != "" {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b Property) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Canonical is the list in the order of names, each value as List would print it. Those
// that are taken back stay.
func (l Properties) Canonical() (Properties, error) {
	out := make(Properties, 0, len(l))
	for _, x := range l {
		s, known := specOf(x.Name)
		if !known {
			return nil, &InvalidError{What: "bucket property " + strconv.Quote(clip(x.Name)), Problem: "is unknown"}
		}
		if x.Value != "" {
			p := DefaultProps(maxReplicas, true)
			if problem := s.set(&p, x.Value); problem != "" {
				return nil, &InvalidError{What: "bucket property " + x.Name, Problem: "is " + strconv.Quote(clip(x.Value)) + "; " + problem}
			}
			x.Value = s.get(&p)
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b Property) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(out); i++ {
		if out[i].Name == out[i-1].Name {
			return nil, &InvalidError{What: "bucket property " + out[i].Name, Problem: "is given twice"}
		}
	}
	return out, nil
}

// MarshalJSON is Riak's object: numbers and booleans as such, words as strings.
func (l Properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(p.Name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(jsonValue(p.Value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// jsonValue is a value as JSON: what is not JSON already, but for null, is a string.
func jsonValue(v string) []byte {
	if v == "" {
		return []byte("null")
	}
	if v != "null" && v[0] != '"' && json.Valid([]byte(v)) {
		return []byte(v)
	}
	s, err := json.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return s
}

// UnmarshalJSON reads such an object; null takes a property back.
func (l *Properties) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*l = make(Properties, 0, len(m))
	for name, raw := range m { //det:ok sorted below
		value, err := textOf(raw)
		if err != nil {
			return err
		}
		*l = append(*l, Property{name, value})
	}
	slices.SortFunc(*l, func(a, b Property) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// textOf is a JSON value as the text of a property.
func textOf(raw json.RawMessage) (string, error) {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] == '"' {
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	if string(raw) == "null" {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	s, err := json.Marshal(v) // with the names of objects in order
	return string(s), err
}

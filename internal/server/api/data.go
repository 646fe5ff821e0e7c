package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// Data types and their operations have Riak's forms in JSON:
//
//	counter   value 7           operation 5, -5, "increment", {"increment":5}, {"decrement":5}
//	set       value ["a","b"]   operation {"add":"a","add_all":["b"],"remove":"c","remove_all":["d"]}
//	gset      value ["a","b"]   operation {"add":"a","add_all":["b"]}
//	hll       value 1024        operation {"add":"a","add_all":["b"]}
//	map       value {"n_counter":7,"s_set":["a"],"r_register":"v","f_flag":true,"m_map":{}}
//	          operation {"update":{"n_counter":5,"s_set":{"add":"a"},"r_register":{"assign":"v"},
//	                     "f_flag":"enable","m_map":{…}},"remove":["x_set"]}
//
// An operation that is an object may be empty: what is not there is made. It may have a
// "context" beside, in base64. What is not UTF-8 is {"base64":"…"} instead of a string; a
// field whose name is not cannot be named.

// Data is the answer to a GET of a data type, and to an operation that asks for the
// value.
type Data struct {
	Type       string          `json:"type"`
	Value      json.RawMessage `json:"value,omitempty"`   // absent from an operation that did not ask for it
	Context    kv.Context      `json:"context,omitempty"` // base64; of types that have removals
	Partitions int             `json:"partitions,omitempty"`
	Replies    []Reply         `json:"replies,omitempty"`
}

// NewData converts a data type. It has a value if valued, and the replies if told.
func NewData(d kv.Data, valued, told bool) (Data, error) {
	out := Data{Type: d.Kind.String()}
	if d.Kind == kv.Set || d.Kind == kv.Map {
		out.Context = d.Context
	}
	if told {
		out.Partitions, out.Replies = ringSize(d.Replies), Replies(d.Replies)
	}
	var err error
	if valued {
		out.Value, err = appendData(nil, d.Value)
	}
	return out, err
}

// appendData appends a value as JSON.
func appendData(b []byte, v kv.DataValue) ([]byte, error) {
	switch v.Kind {
	case kv.Counter:
		return strconv.AppendInt(b, v.Counter, 10), nil
	case kv.HLL:
		return strconv.AppendUint(b, v.HLL, 10), nil
	case kv.Flag:
		return strconv.AppendBool(b, v.Flag), nil
	case kv.Register:
		return appendText(b, v.Register)
	case kv.Set, kv.GSet:
		return appendElems(b, v.Set)
	case kv.Map:
		return appendFields(b, v.Map)
	}
	return nil, fmt.Errorf("a value of kind %v", v.Kind)
}

func appendText(b, text []byte) ([]byte, error) {
	t, err := json.Marshal(Text(text))
	return append(b, t...), err
}

func appendElems(b []byte, all [][]byte) ([]byte, error) {
	b = append(b, '[')
	var err error
	for i, e := range all {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendText(b, e); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendFields(b []byte, all []kv.FieldValue) ([]byte, error) {
	b = append(b, '{')
	for i, f := range all {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.Field.Name + "_" + f.Field.Kind.String())
		if err != nil {
			return nil, err
		}
		b = append(append(b, name...), ':')
		if b, err = appendData(b, f.Value); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// OpError says what is wrong with the JSON of an operation, in Riak's words.
type OpError struct{ Text string }

func (e *OpError) Error() string { return e.Text }

// Is makes errors.Is(err, kv.ErrInvalid) true.
func (e *OpError) Is(target error) bool { return target == kv.ErrInvalid }

const maxShownOp = 256 // bytes of an operation in an error

func badOp(k kv.Kind, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	shown := string(raw)
	if len(shown) > maxShownOp {
		shown = strings.ToValidUTF8(shown[:maxShownOp], "") + "…"
	}
	return &OpError{fmt.Sprintf("Invalid operation on datatype '%s': %s", k, shown)}
}

// fields are those of a JSON object.
type fields = map[string]any

// ParseOp reads the JSON of an operation on a data type of this kind, and the context
// beside it.
func ParseOp(k kv.Kind, body []byte) (kv.Op, kv.Context, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if err == nil && d.More() {
		err = errors.New("something follows the operation")
	}
	if err != nil {
		return nil, nil, &OpError{"Couldn't decode JSON: " + err.Error()}
	}
	var c kv.Context
	if f, ok := v.(fields); ok && f["context"] != nil {
		s, _ := f["context"].(string)
		if c, err = base64.StdEncoding.DecodeString(s); err != nil || s == "" {
			return nil, nil, fmt.Errorf("%w: it is not base64", kv.ErrContext)
		}
		delete(f, "context")
	}
	op, err := parseOp(k, v, 1)
	return op, c, err
}

// parseOp reads an operation whose maps, if it has any, are at this depth.
func parseOp(k kv.Kind, v any, depth int) (kv.Op, error) {
	switch k {
	case kv.Counter:
		return parseCounter(v)
	case kv.Set:
		adds, removes, err := parseElems(k, v)
		return kv.SetOp{Adds: adds, Removes: removes}, err
	case kv.GSet, kv.HLL:
		adds, removes, err := parseElems(k, v)
		if err == nil && len(removes) > 0 {
			err = badOp(k, v)
		}
		if k == kv.HLL {
			return kv.HLLOp(adds), err
		}
		return kv.GSetOp(adds), err
	case kv.Register:
		if f, ok := v.(fields); ok && len(f) == 1 && f["assign"] != nil {
			v = f["assign"]
		}
		t, ok := textOf(v)
		if !ok {
			return nil, badOp(k, v)
		}
		return kv.RegisterOp(t), nil
	case kv.Flag:
		if v != "enable" && v != "disable" {
			return nil, badOp(k, v)
		}
		return kv.FlagOp(v == "enable"), nil
	case kv.Map:
		return parseMap(v, depth)
	}
	return nil, badOp(k, v)
}

// textOf is a string, or {"base64":"…"}.
func textOf(v any) ([]byte, bool) {
	if s, ok := v.(string); ok {
		return []byte(s), true
	}
	f, _ := v.(fields)
	s, ok := f["base64"].(string)
	b, err := base64.StdEncoding.DecodeString(s)
	return b, ok && len(f) == 1 && err == nil
}

func parseCounter(v any) (kv.Op, error) {
	number, down := v, false
	switch f, isObject := v.(fields); {
	case v == "increment":
		return kv.CounterOp(1), nil
	case v == "decrement":
		return kv.CounterOp(-1), nil
	case isObject && len(f) == 1 && f["increment"] != nil:
		number = f["increment"]
	case isObject && len(f) == 1:
		number, down = f["decrement"], true
	}
	s, ok := number.(json.Number)
	n, err := strconv.ParseInt(s.String(), 10, 64)
	if !ok || err != nil || down && n == math.MinInt64 {
		return nil, badOp(kv.Counter, v)
	}
	if down {
		n = -n
	}
	return kv.CounterOp(n), nil
}

// parseElems reads what an operation adds and removes.
func parseElems(k kv.Kind, v any) (adds, removes [][]byte, err error) {
	f, isObject := v.(fields)
	if !isObject {
		return nil, nil, badOp(k, v)
	}
	for _, verb := range slices.Sorted(maps.Keys(f)) {
		all, isList := f[verb].([]any)
		to := &adds
		switch verb {
		case "add", "remove":
			all, isList = []any{f[verb]}, true
		case "add_all", "remove_all":
		default:
			isList = false
		}
		if strings.HasPrefix(verb, "remove") {
			to = &removes
		}
		for _, e := range all {
			b, ok := textOf(e)
			isList = isList && ok
			*to = append(*to, b)
		}
		if !isList {
			return nil, nil, badOp(k, v)
		}
	}
	return adds, removes, nil
}

func parseMap(v any, depth int) (kv.Op, error) {
	if depth > kv.MaxMapDepth {
		return nil, &OpError{fmt.Sprintf("there are more than %d maps within each other", kv.MaxMapDepth)}
	}
	f, isObject := v.(fields)
	if !isObject {
		return nil, badOp(kv.Map, v)
	}
	var op kv.MapOp
	for _, verb := range slices.Sorted(maps.Keys(f)) {
		var err error
		switch verb {
		case "remove":
			op.Removes, err = parseRemoves(v, f[verb])
		case "update":
			op.Updates, err = parseUpdates(v, f[verb], depth)
		default:
			err = badOp(kv.Map, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return op, nil
}

// parseRemoves reads one name of a field, or several.
func parseRemoves(op, v any) ([]kv.Field, error) {
	names, isList := v.([]any)
	if !isList {
		names = []any{v}
	}
	var out []kv.Field
	for _, name := range names {
		s, ok := name.(string)
		if !ok {
			return nil, badOp(kv.Map, op)
		}
		f, err := parseField(s)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func parseUpdates(op, v any, depth int) ([]kv.FieldOp, error) {
	f, isObject := v.(fields)
	if !isObject {
		return nil, badOp(kv.Map, op)
	}
	var out []kv.FieldOp
	for _, name := range slices.Sorted(maps.Keys(f)) {
		field, err := parseField(name)
		if err != nil {
			return nil, err
		}
		under, err := parseOp(field.Kind, f[name], depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, kv.FieldOp{Field: field, Op: under})
	}
	return out, nil
}

// parseField reads NAME_KIND.
func parseField(s string) (kv.Field, error) {
	if i := strings.LastIndexByte(s, '_'); i >= 0 {
		if k := kv.ParseKind(s[i+1:]); k.InMap() {
			return kv.Field{Name: s[:i], Kind: k}, nil
		}
	}
	return kv.Field{}, &OpError{"Invalid map field name '" + s[:min(len(s), maxShownOp)] + "'"}
}

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
// An operation that is an object may have a "context" beside, in base64. What is not
// UTF-8 is {"base64":"…"} instead of a string; a field whose name is not cannot be named.

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

func badOp(k kv.Kind, raw []byte) error {
	shown := string(bytes.TrimSpace(raw))
	if len(shown) > maxShownOp {
		shown = strings.ToValidUTF8(shown[:maxShownOp], "") + "…"
	}
	return &OpError{fmt.Sprintf("Invalid operation on datatype '%s': %s", k, shown)}
}

// ParseOp reads the JSON of an operation on a data type of this kind, and the context
// beside it.
func ParseOp(k kv.Kind, body []byte) (kv.Op, kv.Context, error) {
	if err := wellFormed(body); err != nil {
		return nil, nil, &OpError{"Couldn't decode JSON: " + err.Error()}
	}
	fields, isObject := object(body)
	if !isObject {
		op, err := parseOp(k, body)
		return op, nil, err
	}
	var c kv.Context
	if raw, ok := fields["context"]; ok {
		var s string
		err := json.Unmarshal(raw, &s)
		if err == nil {
			c, err = base64.StdEncoding.DecodeString(s)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: it is not base64", kv.ErrContext)
		}
		delete(fields, "context")
		if body, err = json.Marshal(fields); err != nil {
			return nil, nil, err
		}
	}
	op, err := parseOp(k, body)
	return op, c, err
}

func wellFormed(body []byte) error {
	var any json.RawMessage
	return json.Unmarshal(body, &any)
}

// object is a JSON object's fields; false: it is something else.
func object(raw []byte) (map[string]json.RawMessage, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '{' {
		return nil, false
	}
	var fields map[string]json.RawMessage
	return fields, json.Unmarshal(raw, &fields) == nil
}

func parseOp(k kv.Kind, raw []byte) (kv.Op, error) {
	switch k {
	case kv.Counter:
		return parseCounter(raw)
	case kv.Set:
		adds, removes, err := parseElems(k, raw)
		return kv.SetOp{Adds: adds, Removes: removes}, err
	case kv.GSet:
		adds, removes, err := parseElems(k, raw)
		if err == nil && len(removes) > 0 {
			err = badOp(k, raw)
		}
		return kv.GSetOp(adds), err
	case kv.HLL:
		adds, removes, err := parseElems(k, raw)
		if err == nil && len(removes) > 0 {
			err = badOp(k, raw)
		}
		return kv.HLLOp(adds), err
	case kv.Register:
		return parseRegister(raw)
	case kv.Flag:
		return parseFlag(raw)
	case kv.Map:
		return parseMap(raw)
	}
	return nil, badOp(k, raw)
}

func parseCounter(raw []byte) (kv.Op, error) {
	switch string(bytes.TrimSpace(raw)) {
	case `"increment"`:
		return kv.CounterOp(1), nil
	case `"decrement"`:
		return kv.CounterOp(-1), nil
	}
	number, down := raw, false
	if fields, ok := object(raw); ok {
		number, down = fields["increment"], false
		if number == nil {
			number, down = fields["decrement"], true
		}
		if len(fields) != 1 || number == nil {
			return nil, badOp(kv.Counter, raw)
		}
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(number)), 10, 64)
	if err != nil || down && n == math.MinInt64 {
		return nil, badOp(kv.Counter, raw)
	}
	if down {
		n = -n
	}
	return kv.CounterOp(n), nil
}

// parseElems reads what an operation adds and removes.
func parseElems(k kv.Kind, raw []byte) (adds, removes [][]byte, err error) {
	fields, ok := object(raw)
	if !ok || len(fields) == 0 {
		return nil, nil, badOp(k, raw)
	}
	for _, verb := range slices.Sorted(maps.Keys(fields)) {
		var some []Text
		if verb == "add" || verb == "remove" {
			some = make([]Text, 1)
			err = json.Unmarshal(fields[verb], &some[0])
		} else {
			err = json.Unmarshal(fields[verb], &some)
		}
		to := &adds
		switch verb {
		case "add", "add_all":
		case "remove", "remove_all":
			to = &removes
		default:
			err = errors.New("no such verb")
		}
		if err != nil || some == nil || string(fields[verb]) == "null" {
			return nil, nil, badOp(k, raw)
		}
		for _, s := range some {
			*to = append(*to, []byte(s))
		}
	}
	return adds, removes, nil
}

func parseRegister(raw []byte) (kv.Op, error) {
	value := raw
	if fields, ok := object(raw); ok && fields["base64"] == nil {
		if value = fields["assign"]; len(fields) != 1 {
			return nil, badOp(kv.Register, raw)
		}
	}
	var t Text
	if err := json.Unmarshal(value, &t); err != nil || string(bytes.TrimSpace(value)) == "null" {
		return nil, badOp(kv.Register, raw)
	}
	return kv.RegisterOp(t), nil
}

func parseFlag(raw []byte) (kv.Op, error) {
	switch string(bytes.TrimSpace(raw)) {
	case `"enable"`:
		return kv.FlagOp(true), nil
	case `"disable"`:
		return kv.FlagOp(false), nil
	}
	return nil, badOp(kv.Flag, raw)
}

func parseMap(raw []byte) (kv.Op, error) {
	fields, ok := object(raw)
	if !ok || len(fields) == 0 {
		return nil, badOp(kv.Map, raw)
	}
	var op kv.MapOp
	for _, verb := range slices.Sorted(maps.Keys(fields)) {
		var err error
		switch verb {
		case "remove":
			op.Removes, err = parseRemoves(raw, fields[verb])
		case "update":
			op.Updates, err = parseUpdates(raw, fields[verb])
		default:
			err = badOp(kv.Map, raw)
		}
		if err != nil {
			return nil, err
		}
	}
	return op, nil
}

// parseRemoves reads one name of a field, or several.
func parseRemoves(op, raw []byte) ([]kv.Field, error) {
	names := make([]string, 1)
	if json.Unmarshal(raw, &names[0]) != nil && json.Unmarshal(raw, &names) != nil || string(raw) == "null" {
		return nil, badOp(kv.Map, op)
	}
	var out []kv.Field
	for _, name := range names {
		f, err := parseField(name)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func parseUpdates(op, raw []byte) ([]kv.FieldOp, error) {
	fields, ok := object(raw)
	if !ok {
		return nil, badOp(kv.Map, op)
	}
	var out []kv.FieldOp
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, err := parseField(name)
		if err != nil {
			return nil, err
		}
		under, err := parseOp(f.Kind, fields[name])
		if err != nil {
			return nil, err
		}
		out = append(out, kv.FieldOp{Field: f, Op: under})
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

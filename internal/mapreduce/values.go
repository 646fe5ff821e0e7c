package mapreduce

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// What flows between phases is nil, bool, int64, float64, string (any bytes), []any or
// map[string]any, as JSON has it, or one of the types below. An integer past 64 bits is a
// float64.

// ref is a key, which a map can fetch.
type ref struct {
	key  kv.Key
	data any // that came with it: a json.RawMessage, or the tag of a link; nil: none
}

// found is an object that a map hands on whole.
type found struct {
	key kv.Key
	obj *kv.Object
}

// missing is a key at which nothing is.
type missing struct{ ref }

// decodeJSON reads any JSON; nothing is nil.
func decodeJSON(b []byte) (any, error) {
	if len(b) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("is no JSON: " + err.Error())
	}
	if strings.TrimSpace(string(b[d.InputOffset():])) != "" {
		return nil, errors.New("is no JSON: something follows it")
	}
	return numbers(v)
}

// numbers makes the numbers in a decoded value ours, in place.
func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		return parseNumber(v.String())
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for name := range v {
			if v[name], err = numbers(v[name]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// parseNumber reads a number of JSON.
func parseNumber(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, errors.New("has the number " + quoted(s) + ", which is out of range")
	}
	return f, nil
}

// plain is a value as JSON has it. It fails at what no JSON can hold.
func plain(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return nil, errors.New("the bytes " + quoted(v) + " are not UTF-8, and JSON can hold nothing else")
		}
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, errors.New("a number is out of range")
		}
	case json.RawMessage:
		return decodeJSON(v)
	case ref:
		list := []any{bucketOf(v.key), v.key.Name}
		if v.data != nil {
			list = append(list, v.data)
		}
		return plain(list)
	case missing:
		data := v.data
		if data == nil {
			data = "undefined" // as Erlang's atom for nothing is shown
		}
		return plain(map[string]any{"not_found": map[string]any{"bucket": bucketOf(v.key), "key": v.key.Name, "keydata": data}})
	case found:
		return plain(showObject(v.key, v.obj))
	case []any:
		list := make([]any, len(v))
		var err error
		for i := range v {
			if list[i], err = plain(v[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, field := range v {
			if _, err := plain(name); err != nil {
				return nil, err
			}
			shown, err := plain(field)
			if err != nil {
				return nil, err
			}
			object[name] = shown
		}
		return object, nil
	}
	return v, nil
}

// bucketOf is a key's bucket as inputs have it.
func bucketOf(k kv.Key) any {
	if k.Type != "" {
		return []any{k.Type, k.Bucket}
	}
	return k.Bucket
}

// showObject is an object as Riak's JSON has it.
func showObject(k kv.Key, o *kv.Object) map[string]any {
	values := []any{}
	for i := range o.Values {
		values = append(values, map[string]any{"metadata": showMetadata(&o.Values[i]), "data": string(o.Values[i].Data)})
	}
	shown := map[string]any{
		"bucket": k.Bucket, "key": k.Name, "values": values,
		"vclock": base64.StdEncoding.EncodeToString(o.Context),
	}
	if k.Type != "" {
		shown["bucket_type"] = k.Type
	}
	return shown
}

func showMetadata(v *kv.Value) map[string]any {
	meta, links, index := map[string]any{}, []any{}, map[string]any{}
	for _, p := range v.Meta {
		if l, ok := api.ParseLink(p); ok {
			links = append(links, []any{l.Bucket, l.Key, l.Tag})
			continue
		}
		meta["X-Riak-Meta-"+p.Name] = p.Value
	}
	for _, p := range v.Indexes {
		terms, _ := index[p.Name].([]any)
		index[p.Name] = append(terms, p.Value)
	}
	shown := map[string]any{
		"X-Riak-VTag": v.VTag, "X-Riak-Last-Modified": v.Modified.UTC().Format(http.TimeFormat),
		"X-Riak-Meta": meta, "Links": links, "index": index,
	}
	for name, text := range map[string]string{"content-type": v.ContentType, "charset": v.Charset, "content-encoding": v.ContentEncoding} {
		if text != "" {
			shown[name] = text
		}
	}
	return shown
}

// encode is the JSON of a value.
func encode(v any) ([]byte, error) {
	v, err := plain(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// shortly shows a value in an error.
func shortly(v any) string {
	b, err := encode(v)
	switch {
	case err != nil:
		return fmt.Sprintf("a value that cannot be shown: %v", err)
	case len(b) > longInput:
		return strings.ToValidUTF8(string(b[:longInput]), "") + "…"
	}
	return string(b)
}

// The ranks of plain values: how Erlang orders what it makes of them.
const (
	rankNumber = iota
	rankAtom   // false, null, true, by their letters
	rankObject // a tuple
	rankList
	rankText // a binary
)

func rank(v any) int {
	switch v.(type) {
	case int64, float64:
		return rankNumber
	case map[string]any:
		return rankObject
	case []any:
		return rankList
	case string:
		return rankText
	}
	return rankAtom
}

// compare orders plain values as Erlang does. Objects are ordered by their fields, in the
// order of the names.
func compare(a, b any) int {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case int64, float64:
		return compareNumbers(a, b)
	case string:
		return cmp.Compare(a, b.(string))
	case []any:
		return slices.CompareFunc(a, b.([]any), compare)
	case map[string]any:
		return slices.CompareFunc(fields(a), fields(b.(map[string]any)), compare)
	}
	return cmp.Compare(atom(a), atom(b))
}

// atom is null, true or false by its letters.
func atom(v any) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(v)
}

// compareNumbers compares integers exactly: a float has not all of them.
func compareNumbers(a, b any) int {
	x, xok := a.(int64)
	y, yok := b.(int64)
	if xok && yok {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(float(a), float(b))
}

// float is a number as a float64.
func float(v any) float64 {
	if n, ok := v.(int64); ok {
		return float64(n)
	}
	f, _ := v.(float64)
	return f
}

// fields are the names and the values of an object, in order.
func fields(m map[string]any) []any {
	var all []any
	for _, name := range sortedNames(m) {
		all = append(all, []any{name, m[name]})
	}
	return all
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// sizeOf is about how many bytes of memory a value takes.
func sizeOf(v any) int {
	const each = 16 // what holds it
	size := each
	switch v := v.(type) {
	case string:
		size += len(v)
	case found:
		for i := range v.obj.Values {
			size += len(v.obj.Values[i].Data)
		}
	case []any:
		for _, e := range v {
			size += sizeOf(e)
		}
	case map[string]any:
		for name, e := range v {
			size += 2*each + len(name) + sizeOf(e)
		}
	}
	return size
}

package mapreduce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// The functions of maps. Where nothing is at a key, what is made of that is the
// argument's to say in Erlang's functions of values:
//
//	map_object_value       the value; siblings are an error
//	map_object_value_list  all values of an object
//	  "filter_notfound"    nothing, which is also what no argument says
//	  "include_notfound"   {"not_found":{"bucket":…,"key":…,"keydata":…}}
//	  "include_keydata"    the data that came with the key
//	  {"sub": ANY}         that
//	map_identity           the object: its bucket, key, vclock and values with their metadata
//	Riak.mapValues         all values
//	Riak.mapValuesJson     all values, parsed
//	Riak.mapByFields       the first value, parsed, if it has all fields of the argument
//
// The others show a key at which nothing is as "include_notfound" does, but for mapByFields,
// which overlooks it.

// mapper is the function of a map.
type mapper struct {
	check func(at string, arg any) error

	// run makes results of what is at a key.
	run func(k kv.Key, o *kv.Object, arg any) ([]any, error)

	// absent makes results of a key at which nothing is.
	absent func(r ref, arg any) []any
}

var mappers = map[string]*mapper{
	"riak_kv_mapreduce:map_identity":          {anyArg, wholeObject, showMissing},
	"riak_kv_mapreduce:map_object_value":      {missingArg, oneValue, askedMissing},
	"riak_kv_mapreduce:map_object_value_list": {missingArg, allValues, askedMissing},
	"Riak.mapValues":                          {anyArg, allValues, showMissing},
	"Riak.mapValuesJson":                      {anyArg, parsedValues, showMissing},
	"Riak.mapByFields":                        {fieldsArg, valueByFields, func(ref, any) []any { return nil }},
}

func anyArg(string, any) error { return nil }

// missingArg reports whether an argument says what to make of what is not there.
func missingArg(at string, arg any) error {
	switch arg := arg.(type) {
	case nil:
		return nil
	case string:
		if arg == "filter_notfound" || arg == "include_notfound" || arg == "include_keydata" {
			return nil
		}
	case map[string]any:
		if _, ok := arg["sub"]; ok && len(arg) == 1 {
			return nil
		}
	}
	return invalid(at+".arg", `must be "filter_notfound", "include_notfound", "include_keydata" or {"sub":ANY}`)
}

func fieldsArg(at string, arg any) error {
	if _, ok := arg.(map[string]any); !ok {
		return invalid(at+".arg", "must be an object: the fields that are wanted")
	}
	return nil
}

func askedMissing(r ref, arg any) []any {
	switch arg := arg.(type) {
	case string:
		switch arg {
		case "include_notfound":
			return showMissing(r, nil)
		case "include_keydata":
			return []any{r.data}
		}
	case map[string]any:
		return []any{arg["sub"]}
	}
	return nil
}

func showMissing(r ref, _ any) []any { return []any{missing{r}} }

func wholeObject(k kv.Key, o *kv.Object, _ any) ([]any, error) { return []any{found{k, o}}, nil }

func oneValue(_ kv.Key, o *kv.Object, _ any) ([]any, error) {
	if len(o.Values) > 1 {
		return nil, fmt.Errorf("there are %d siblings, and map_object_value takes one value; map_object_value_list takes all", len(o.Values))
	}
	return []any{string(o.Values[0].Data)}, nil
}

func allValues(_ kv.Key, o *kv.Object, _ any) ([]any, error) {
	var all []any
	for i := range o.Values {
		all = append(all, string(o.Values[i].Data))
	}
	return all, nil
}

func parsedValues(_ kv.Key, o *kv.Object, _ any) ([]any, error) {
	var all []any
	for i := range o.Values {
		v, err := parseValue(o.Values[i].Data)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func parseValue(data []byte) (any, error) {
	if len(data) > MaxJSON {
		return nil, fmt.Errorf("the value is %d bytes long; the limit of what is parsed is %d", len(data), MaxJSON)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("the value is no JSON: it is empty")
	}
	v, err := decodeJSON(data)
	if err != nil {
		return nil, errors.New("the value " + err.Error())
	}
	return v, nil
}

func valueByFields(_ kv.Key, o *kv.Object, arg any) ([]any, error) {
	v, err := parseValue(o.Values[0].Data)
	if err != nil {
		return nil, err
	}
	has, _ := v.(map[string]any)
	wanted, _ := arg.(map[string]any) // which fieldsArg has seen
	for name, want := range wanted {
		if got, ok := has[name]; !ok || compare(got, want) != 0 {
			return nil, nil
		}
	}
	return []any{v}, nil
}

// Links are the links of an object that lead to a bucket with a tag; either may be Any.
// They are in order, each once.
func Links(o *kv.Object, bucket, tag string) []api.Link {
	var all []api.Link
	for i := range o.Values {
		for _, p := range o.Values[i].Meta {
			l, ok := api.ParseLink(p)
			if ok && l.Bucket != "" && l.Key != "" && (bucket == Any || l.Bucket == bucket) && (tag == Any || l.Tag == tag) {
				all = append(all, l)
			}
		}
	}
	slices.SortFunc(all, func(a, b api.Link) int {
		return compare([]any{a.Bucket, a.Key, a.Tag}, []any{b.Bucket, b.Key, b.Tag})
	})
	return slices.Compact(all)
}

// asRef is what a map is to fetch.
func asRef(v any) (ref, error) {
	switch v := v.(type) {
	case ref:
		return v, nil
	case []any:
		b, err := json.Marshal(v) // it is plain, or it is no key
		if err != nil {
			break
		}
		var parts []json.RawMessage
		if err := json.Unmarshal(b, &parts); err != nil {
			break
		}
		return parseRef("what it got", parts)
	}
	return ref{}, errors.New("it takes keys, as [BUCKET,KEY] or [BUCKET,KEY,DATA]")
}

// Fetch reads keys, as many at once as a job does. Objects and errors are in the order of
// the keys.
func Fetch(ctx context.Context, s Store, keys []kv.Key, o kv.ReadOptions) ([]kv.Object, []error) {
	objects, errs := make([]kv.Object, len(keys)), make([]error, len(keys))
	var at sync.WaitGroup
	turns := make(chan struct{}, fetches)
	for i := range keys {
		turns <- struct{}{}
		at.Go(func() {
			objects[i], errs[i] = s.Get(ctx, keys[i], o)
			<-turns
		})
	}
	at.Wait()
	return objects, errs
}

// mapPiece runs a map or a link over a piece of its inputs, and hands on what comes of it:
// at once, unless that is a lot.
func (p *phase) mapPiece(ctx context.Context, s *source, number int, in []any, handOn func([]any) error) error {
	refs, keys := make([]ref, len(in)), make([]kv.Key, len(in))
	for i, v := range in {
		var err error
		if refs[i], err = asRef(v); err != nil {
			return &Error{number, p.name, shortly(v), err}
		}
		keys[i] = refs[i].key
	}
	var out []any
	size := 0
	for len(refs) > 0 {
		objects, errs, err := s.fetch(ctx, keys, kv.ReadOptions{Head: p.link != nil})
		if err != nil {
			return err
		}
		for i := range objects {
			object := objects[i]
			objects[i] = kv.Object{} // it may be large, and here it is not needed any more
			made, err := p.apply(refs[i], &object, errs[i])
			if err != nil {
				return &Error{number, p.name, shortly(refs[i]), err}
			}
			for _, v := range made {
				size += sizeOf(v)
			}
			if out = append(out, made...); size >= pieceBytes {
				if err := handOn(out); err != nil {
					return err
				}
				out, size = nil, 0
			}
			s.release(objectBytes(&object))
		}
		refs, keys = refs[len(objects):], keys[len(objects):]
	}
	return handOn(out)
}

// apply makes results of one key.
func (p *phase) apply(r ref, o *kv.Object, err error) ([]any, error) {
	absent := errors.Is(err, kv.ErrNotFound)
	switch {
	case err != nil && !absent:
		return nil, err
	case absent && p.link != nil:
		return nil, nil
	case absent:
		return p.mapper.absent(r, p.arg), nil
	case p.link == nil:
		return p.mapper.run(r.key, o, p.arg)
	}
	var out []any
	for _, l := range Links(o, p.link.bucket, p.link.tag) {
		out = append(out, ref{key: kv.Key{Type: r.key.Type, Bucket: l.Bucket, Name: l.Key}, data: l.Tag})
	}
	return out, nil
}

// numberText shows a number as JavaScript does, about.
func numberText(v any) string {
	if n, ok := v.(int64); ok {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatFloat(float(v), 'g', -1, 64)
}

package mapreduce

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tanodb/tanodb/kv"
)

// inputs are what a job begins with: keys that are named, or a bucket with or without a
// query of an index.
type inputs struct {
	named   []any // of ref
	bucket  kv.Bucket
	filter  filter // of the bucket's keys; nil: all pass
	query   kv.IndexQuery
	indexed bool
}

// parseInputs reads inputs.
func parseInputs(raw json.RawMessage) (inputs, error) {
	const at = "inputs"
	switch raw[0] {
	case '"':
		b, err := parseBucket(at, raw)
		return inputs{bucket: b}, err
	case '{':
		return parseSource(raw)
	case '[':
		if b, err := parseBucket(at, raw); err == nil {
			return inputs{bucket: b}, nil
		}
		return parseNamed(raw)
	}
	return inputs{}, invalid(at, "must be a bucket, a list of keys, or an object with a bucket")
}

// parseBucket reads "BUCKET" or ["TYPE","BUCKET"].
func parseBucket(at string, raw json.RawMessage) (kv.Bucket, error) {
	var b kv.Bucket
	if err := json.Unmarshal(raw, &b.Name); err == nil {
		return b, checkBucket(at, b)
	}
	var pair []string
	if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
		return b, invalid(at, `must be a bucket: "BUCKET" or ["TYPE","BUCKET"]`)
	}
	b = kv.Bucket{Type: kv.PlainType(pair[0]), Name: pair[1]}
	return b, checkBucket(at, b)
}

func checkBucket(at string, b kv.Bucket) error {
	if err := b.Validate(); err != nil {
		return invalid(at, "names no bucket: "+err.Error())
	}
	return nil
}

// parseNamed reads a list of keys, one by one, so that one that is too long costs nothing.
func parseNamed(raw json.RawMessage) (inputs, error) {
	var in inputs
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return in, invalid("inputs", "is no JSON: "+err.Error())
	}
	for d.More() {
		at := "inputs[" + strconv.Itoa(len(in.named)) + "]"
		if len(in.named) == MaxInputs {
			return in, invalid("inputs", fmt.Sprintf("names more than %d keys", MaxInputs))
		}
		var parts []json.RawMessage
		if err := d.Decode(&parts); err != nil {
			return in, invalid(at, "must be a list: [BUCKET,KEY] or [BUCKET,KEY,DATA]")
		}
		r, err := parseRef(at, parts)
		if err != nil {
			return in, err
		}
		in.named = append(in.named, r)
	}
	return in, nil
}

// parseRef reads [BUCKET,KEY], [BUCKET,KEY,DATA] or [BUCKET,KEY,DATA,TYPE].
func parseRef(at string, parts []json.RawMessage) (ref, error) {
	if len(parts) < 2 || len(parts) > 4 {
		return ref{}, invalid(at, "must be [BUCKET,KEY] or [BUCKET,KEY,DATA]")
	}
	b, err := parseBucket(at, parts[0])
	if err != nil {
		return ref{}, err
	}
	if len(parts) == 4 {
		var bucketType string
		if json.Unmarshal(parts[3], &bucketType) != nil || b.Type != "" {
			return ref{}, invalid(at, "must have a bucket type, a text, at its end")
		}
		b.Type = kv.PlainType(bucketType)
	}
	r := ref{key: kv.Key{Type: b.Type, Bucket: b.Name}}
	if json.Unmarshal(parts[1], &r.key.Name) != nil {
		return ref{}, invalid(at, "must have a key, a text, after the bucket")
	}
	if err := r.key.Validate(); err != nil {
		return ref{}, invalid(at, "names no key: "+err.Error())
	}
	if len(parts) > 2 {
		r.data = parts[2]
	}
	return r, nil
}

// parseSource reads an object with a bucket.
func parseSource(raw json.RawMessage) (inputs, error) {
	const at = "inputs"
	var s struct {
		Bucket  json.RawMessage `json:"bucket"`
		Filters json.RawMessage `json:"key_filters"`
		Index   json.RawMessage `json:"index"`
		Key     json.RawMessage `json:"key"`
		Start   json.RawMessage `json:"start"`
		End     json.RawMessage `json:"end"`
		Module  json.RawMessage `json:"module"`
		Query   json.RawMessage `json:"query"`
	}
	if err := read(at, raw, &s); err != nil {
		return inputs{}, err
	}
	var in inputs
	var err error
	switch {
	case given(s.Module) || given(s.Query):
		return in, invalid(at, "of a module or a search are not supported: name keys, a bucket, or a query of an index")
	case !given(s.Bucket):
		return in, invalid(at, "has no bucket")
	}
	if in.bucket, err = parseBucket(at+".bucket", s.Bucket); err != nil {
		return in, err
	}
	if given(s.Filters) {
		if given(s.Index) {
			return in, invalid(at, "has both key_filters and an index")
		}
		in.filter, err = parseFilters(at+".key_filters", s.Filters, 0)
		return in, err
	}
	if !given(s.Index) {
		return in, nil
	}
	in.indexed = true
	in.query.Range = !given(s.Key) && (given(s.Start) || given(s.End))
	for _, part := range []struct {
		name string
		raw  json.RawMessage
		into *string
	}{{"index", s.Index, &in.query.Field}, {"key", s.Key, &in.query.Start}, {"start", s.Start, &in.query.Start}, {"end", s.End, &in.query.End}} {
		if !given(part.raw) || given(s.Key) && (part.name == "start" || part.name == "end") {
			continue
		}
		if *part.into, err = parseTerm(at+"."+part.name, part.raw); err != nil {
			return in, err
		}
	}
	if in.query.Inverted() {
		return inputs{}, nil // no keys
	}
	if _, _, _, err := in.query.Span(); err != nil {
		return in, invalid(at, "is no query of an index: "+err.Error())
	}
	return in, nil
}

// parseTerm reads a term of an index: a text, or a number.
func parseTerm(at string, raw json.RawMessage) (string, error) {
	v, err := decodeJSON(raw)
	if err != nil {
		return "", invalid(at, err.Error())
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	return "", invalid(at, "must be a text or an integer of 64 bits")
}

// feed hands on the inputs, piece by piece.
func (in *inputs) feed(ctx context.Context, s Store, take func([]any) error) error {
	switch {
	case in.indexed:
		return in.feedMatches(ctx, s, take)
	case in.bucket.Name != "":
		return in.feedKeys(ctx, s, take)
	}
	return feedPieces(ctx, in.named, take)
}

// feedPieces hands on inputs so many at a time as can be fetched at once.
func feedPieces(ctx context.Context, all []any, take func([]any) error) error {
	for len(all) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(fetches, len(all))
		if err := take(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// feedKeys hands on the keys of the bucket that pass.
func (in *inputs) feedKeys(ctx context.Context, s Store, take func([]any) error) error {
	for o := (kv.ListOptions{}); ; {
		page, err := s.Keys(ctx, in.bucket, o)
		if err != nil {
			return &Error{Cause: err}
		}
		var piece []any
		for _, key := range page.Keys {
			if err := ctx.Err(); err != nil {
				return err // a page of filters can take long
			}
			passes, err := in.passes(key)
			if err != nil {
				return &Error{Input: quoted(key), Cause: err}
			}
			if passes {
				piece = append(piece, ref{key: kv.Key{Type: in.bucket.Type, Bucket: in.bucket.Name, Name: key}})
			}
		}
		if err := feedPieces(ctx, piece, take); err != nil {
			return err
		}
		if o.Token = page.Next; o.Token == "" {
			return nil
		}
	}
}

// passes reports whether a key passes the filters.
func (in *inputs) passes(key string) (bool, error) {
	if in.filter == nil {
		return true, nil
	}
	v, err := in.filter(key)
	passes, _ := v.(bool) // it ends in a condition
	return passes, err
}

// feedMatches hands on the keys that the query finds.
func (in *inputs) feedMatches(ctx context.Context, s Store, take func([]any) error) error {
	indexer, ok := s.(Indexer)
	if !ok {
		return &Error{Cause: invalid("inputs", "are a query of an index, which is not supported here")}
	}
	for q := in.query; ; {
		page, err := indexer.Index(ctx, in.bucket, q)
		if err != nil {
			return &Error{Cause: err}
		}
		var piece []any
		for _, m := range page.Matches {
			piece = append(piece, ref{key: kv.Key{Type: in.bucket.Type, Bucket: in.bucket.Name, Name: m.Key}})
		}
		if err := feedPieces(ctx, piece, take); err != nil {
			return err
		}
		if q.Token = page.Next; q.Token == "" {
			return nil
		}
	}
}

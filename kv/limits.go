package kv

import (
	"strconv"
	"time"
)

// The limits of what a store accepts, and the defaults of what a request
// leaves open. A request past a limit is refused and changes nothing.
const (
	MaxKey       = 64 << 10 // bytes in a key's name
	MaxBucket    = 4 << 10  // bytes in a bucket's name
	MaxType      = 255      // bytes in a bucket type's name
	MaxObject    = 50 << 20 // bytes in an object: all siblings, encoded
	MaxValueMeta = 1 << 20  // bytes in one value's metadata, index entries (4 more for each) and content headers
	MaxSiblings  = 100      // values that one key may hold
	MaxContext   = 64 << 10 // bytes in a context
	MaxPage      = 10_000   // keys in one page of a listing
	MaxMapDepth  = 32       // maps within each other, in data types

	DefaultTimeout = 60 * time.Second // as Riak
	DefaultPage    = 1_000
	MaxTimeout     = 24 * time.Hour
	MaxLinger      = 10 * time.Second
)

// DefaultType is the name of the bucket type of buckets that name none.
const DefaultType = "default"

// PlainType is the name of a bucket type as keys have it: that of the default type is
// empty.
func PlainType(name string) string {
	if name == DefaultType {
		return ""
	}
	return name
}

// Validate reports whether the key is within the limits.
func (k Key) Validate() error {
	if err := (Bucket{k.Type, k.Bucket}).Validate(); err != nil {
		return err
	}
	if k.Name == "" {
		return &InvalidError{What: "key", Problem: "cannot be zero-length"}
	}
	return within("key", len(k.Name), MaxKey)
}

// Validate reports whether the bucket is within the limits.
func (b Bucket) Validate() error {
	if b.Name == "" {
		return &InvalidError{What: "bucket", Problem: "cannot be zero-length"}
	}
	if err := within("bucket", len(b.Name), MaxBucket); err != nil {
		return err
	}
	return within("bucket type", len(b.Type), MaxType)
}

// Validate reports whether the value is within the limits.
func (v *Value) Validate() error {
	if err := within("value", len(v.Data), MaxObject); err != nil {
		return err
	}
	meta := len(v.ContentType) + len(v.Charset) + len(v.ContentEncoding)
	const pair = 4 // bytes that a pair costs at least, encoded
	for _, p := range v.Meta {
		meta += pair + len(p.Name) + len(p.Value)
	}
	for _, p := range v.Indexes {
		meta += pair + len(p.Name) + len(p.Value)
	}
	return within("metadata of the value", meta, MaxValueMeta)
}

// String shows the key as type/bucket/name, quoted where needed, without the
// default type.
func (k Key) String() string {
	s := printable(k.Bucket) + "/" + printable(k.Name)
	if k.Type != "" {
		s = printable(k.Type) + "/" + s
	}
	return s
}

func printable(s string) string {
	const most = 64 // a key of 64 KiB in an error helps nobody
	if len(s) > most {
		s = s[:most] + "…"
	}
	if q := strconv.Quote(s); q[1:len(q)-1] != s {
		return q
	}
	return s
}

func within(what string, n, limit int) error {
	if n <= limit {
		return nil
	}
	return &InvalidError{What: what, Problem: "is " + strconv.Itoa(n) + " bytes long; the limit is " + strconv.Itoa(limit)}
}

package vnode

import (
	"bytes"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// Damage is something that a vnode keeps and that cannot be read: an object, or
// a range of storage keys in which the engine finds nothing any more.
type Damage struct {
	Key    kv.Key // of an object
	At     []byte // and its storage key
	Span   *Span  // nil: it is an object
	Beside bool   // it is of what is kept beside the objects, and follows from them
	Text   string
}

// Span is the storage keys in [From, To), of one kind. Last is the last one before it
// that can be read; nil: there is none of that kind in the vnode.
type Span struct {
	From, To, Last []byte
}

// String is the span as people may read it.
func (s Span) String() string { return fmt.Sprintf("%x to %x", s.From, s.To) }

// Whole is all storage keys of the span's kind and vnode.
func (s Span) Whole() Span {
	return Span{From: s.From[:vnodeLen], To: prefixEnd(s.From[:vnodeLen])}
}

// Scrubbed is what one look at a part of a vnode has found.
type Scrubbed struct {
	Damage  []Damage
	Objects int
	Bytes   int
	Next    []byte // where the next look is to begin; nil: that was all
}

// Scrub looks at what vnode p keeps from a storage key on, up to a number of
// bytes, and at the checksum of each object: what nobody reads may rot unseen
// until its other copies are gone. From nil is the start: the objects come first,
// then their tree, what says which expire and which are dead, and the indexes. The error is that of an engine
// that cannot be read for another reason than damage.
func Scrub(store storage.Reader, p ring.Partition, from []byte, limit int) (Scrubbed, error) {
	if from == nil {
		from = vnodeStart(p)
	}
	var out Scrubbed
	for from != nil {
		next, err := out.look(store, from, limit)
		if err != nil {
			return Scrubbed{}, err
		}
		if next == nil {
			next = nextKind(from)
		}
		if from = next; out.Bytes >= limit {
			break
		}
	}
	out.Next = from
	return out, nil
}

// nextKind is where the vnode's storage keys of the next kind begin; nil: the key is of
// the last.
func nextKind(key []byte) []byte {
	start := bytes.Clone(key[:vnodeLen])
	switch key[0] {
	case kindObject:
		start[0] = kindSum
	case kindSum:
		start[0] = kindEntry
	case kindEntry:
		start[0] = kindExpiry
	case kindExpiry:
		start[0] = kindGrave
	case kindGrave:
		start[0] = kindIndex
	default:
		return nil
	}
	return start
}

// look goes on with the keys of one kind. It returns where the next look at them is
// to begin; nil: there are no more.
func (out *Scrubbed) look(store storage.Reader, from []byte, limit int) (next []byte, err error) {
	kind, end := from[0], prefixEnd(from[:vnodeLen])
	var last []byte
	err = store.Scan(from, end, func(key, value []byte) bool {
		if out.Bytes >= limit {
			next = bytes.Clone(key)
			return false
		}
		last = bytes.Clone(key)
		out.Bytes += len(key) + len(value)
		if kind != kindObject {
			return true
		}
		out.Objects++
		if err := object.Check(value); err != nil {
			k, _ := keyOf(key)
			out.Damage = append(out.Damage, Damage{Key: k, At: last, Text: err.Error()})
		}
		return true
	})
	if !isCorrupt(err) {
		return next, err
	}
	s := Span{From: from, To: end, Last: last}
	if last != nil {
		s.From = after(last)
	}
	next, failed := past(store, s.From, end)
	if failed != nil {
		return nil, failed
	}
	if next != nil {
		s.To = next
	}
	out.Damage = append(out.Damage, Damage{Span: &s, Beside: kind != kindObject, Text: err.Error()})
	return next, nil
}

// Within are the vnodes which keep something in the storage keys from lower to upper,
// both inclusive, on a ring of so many partitions; the first and the last of
// them, and false if there is none.
func Within(lower, upper []byte, size int) (first, last ring.Partition, ok bool) {
	if len(upper) == 0 {
		return 0, 0, false
	}
	low := byte(0)
	if len(lower) > 0 {
		low = lower[0]
	}
	kinds := 0
	for _, kind := range []byte{kindObject, kindSum, kindEntry, kindExpiry, kindGrave, kindIndex} {
		if low <= kind && kind <= upper[0] {
			kinds++
		}
	}
	last = ring.Partition(size - 1)
	if kinds == 1 && len(lower) >= vnodeLen && scrubbed(low) {
		first = partitionOf(lower)
	}
	if kinds == 1 && len(upper) >= vnodeLen && scrubbed(upper[0]) {
		last = min(last, partitionOf(upper))
	}
	return first, last, kinds > 0 && first <= last
}

// scrubbed reports whether keys of the kind are looked at.
func scrubbed(kind byte) bool {
	return kind == kindObject || kindSum <= kind && kind <= kindIndex
}

func partitionOf(key []byte) ring.Partition {
	return ring.Partition(key[1])<<8 | ring.Partition(key[2])
}

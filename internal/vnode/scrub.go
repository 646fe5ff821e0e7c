package vnode

import (
	"bytes"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// Damage is something that a vnode holds and that cannot be read: an object, or
// a range of storage keys in which the engine finds nothing any more.
type Damage struct {
	Key  kv.Key // of an object
	Span *Span  // nil: it is an object
	Text string
}

// Span is the storage keys in [From, To). Last is the last one before it that can
// be read; nil: there is none in the vnode.
type Span struct {
	From, To, Last []byte
}

// String is the span as people may read it.
func (s Span) String() string { return fmt.Sprintf("%x to %x", s.From, s.To) }

// Scrubbed is what one look at a part of a vnode has found.
type Scrubbed struct {
	Damage  []Damage
	Objects int
	Bytes   int
	Next    []byte // where the next look is to begin; nil: that was all
}

// Scrub looks at the objects of vnode p from a storage key on, up to a number of
// bytes, and at the checksum of each: what nobody reads may rot unseen until its
// other copies are gone. From nil is the start. The error is that of an engine
// that cannot be read for another reason than damage.
func Scrub(store storage.Reader, p ring.Partition, from []byte, limit int) (Scrubbed, error) {
	if from == nil {
		from = vnodeStart(p)
	}
	var out Scrubbed
	var last []byte
	end := vnodeEnd(p)
	err := store.Scan(from, end, func(dk, value []byte) bool {
		if out.Bytes >= limit {
			out.Next = bytes.Clone(dk)
			return false
		}
		last = bytes.Clone(dk)
		out.Objects++
		out.Bytes += len(dk) + len(value)
		if err := object.Check(value); err != nil {
			k, _ := keyOf(dk)
			out.Damage = append(out.Damage, Damage{Key: k, Text: err.Error()})
		}
		return true
	})
	if !isCorrupt(err) {
		return out, err
	}
	s := Span{From: from, To: end, Last: last}
	if last != nil {
		s.From = after(last)
	}
	next, failed := past(store, s.From, end)
	if failed != nil {
		return Scrubbed{}, failed
	}
	if out.Next = next; next != nil {
		s.To = next
	}
	out.Damage = append(out.Damage, Damage{Span: &s, Text: err.Error()})
	return out, nil
}

// Range is all storage keys of the objects of vnode p.
func Range(p ring.Partition) Span { return Span{From: vnodeStart(p), To: vnodeEnd(p)} }

// Within are the vnodes whose objects lie in the storage keys from lower to upper,
// both inclusive, on a ring of so many partitions; the first and the last of
// them, and false if there is none.
func Within(lower, upper []byte, size int) (first, last ring.Partition, ok bool) {
	if len(upper) == 0 || upper[0] < kindObject || len(lower) > 0 && lower[0] > kindObject {
		return 0, 0, false
	}
	last = ring.Partition(size - 1)
	if len(lower) >= vnodeLen && lower[0] == kindObject {
		first = partitionOf(lower)
	}
	if len(upper) >= vnodeLen && upper[0] == kindObject {
		last = min(last, partitionOf(upper))
	}
	return first, last, first <= last
}

func partitionOf(key []byte) ring.Partition {
	return ring.Partition(key[1])<<8 | ring.Partition(key[2])
}

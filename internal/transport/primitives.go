package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// encoder appends fields to b. Its first error stays; what is appended after it
// has no meaning.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *encoder) u8(v uint8)       { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16)     { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32)     { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)     { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) uvarint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) varint(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) id(id [16]byte) { e.b = append(e.b, id[:]...) }

func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
		return
	}
	e.u8(0)
}

// count appends a number that is not negative.
func (e *encoder) count(what string, n int) {
	if n < 0 || n >= maxInt {
		e.fail("%s is %d", what, n)
		return
	}
	e.uvarint(uint64(n))
}

// items appends the number of items that follow.
func (e *encoder) items(what string, n, limit int) {
	if n > limit {
		e.fail("%d %s; the limit is %d", n, what, limit)
		return
	}
	e.uvarint(uint64(n))
}

func (e *encoder) bytes(what string, b []byte, limit int) {
	if len(b) > limit {
		e.fail("%s is %d bytes long; the limit is %d", what, len(b), limit)
		return
	}
	e.uvarint(uint64(len(b)))
	e.b = append(e.b, b...)
}

func (e *encoder) string(what, s string, limit int) {
	if len(s) > limit {
		e.fail("%s is %d bytes long; the limit is %d", what, len(s), limit)
		return
	}
	e.uvarint(uint64(len(s)))
	e.b = append(e.b, s...)
}

// text appends words for a person, cut to maxText.
func (e *encoder) text(s string) { e.string("text", s[:min(len(s), maxText)], maxText) }

// time appends a moment to the nanosecond, without its zone.
func (e *encoder) time(t time.Time) {
	e.bool(!t.IsZero())
	if !t.IsZero() {
		e.varint(t.Unix())
		e.u32(uint32(t.Nanosecond()))
	}
}

// key appends the three lengths and then the three names in one piece, which
// the decoder turns into one string.
func (e *encoder) key(k kv.Key) {
	if err := k.Validate(); err != nil {
		e.fail("%w", err)
		return
	}
	e.uvarint(uint64(len(k.Type)))
	e.uvarint(uint64(len(k.Bucket)))
	e.uvarint(uint64(len(k.Name)))
	e.b = append(append(append(e.b, k.Type...), k.Bucket...), k.Name...)
}

func (e *encoder) bucket(b kv.Bucket) {
	if err := b.Validate(); err != nil {
		e.fail("%w", err)
		return
	}
	e.uvarint(uint64(len(b.Type)))
	e.uvarint(uint64(len(b.Name)))
	e.b = append(append(e.b, b.Type...), b.Name...)
}

// decoder takes fields from the front of b. After its first error every field
// is zero. It allocates no more than a small multiple of the bytes present.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

var errShort = errors.New("it ends too early")

// take returns the next n bytes, or nil.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("%w", errShort)
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("a number is cut off or too large")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("a number is cut off or too large")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) id() (id [16]byte) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) bool() bool {
	v := d.u8()
	if v > 1 {
		d.fail("%d is neither true nor false", v)
	}
	return v == 1
}

func (d *decoder) count(what string) int {
	v := d.uvarint()
	if v >= maxInt {
		d.fail("%s is %d", what, v)
		return 0
	}
	return int(v)
}

// length takes the length of what must follow, so that it is present.
func (d *decoder) length(what string, limit int) int {
	n := d.uvarint()
	if n > uint64(limit) {
		d.fail("%s is %d bytes long; the limit is %d", what, n, limit)
		return 0
	}
	if n > uint64(len(d.b)) {
		d.fail("%w", errShort)
		return 0
	}
	return int(n)
}

// bytes takes a slice that aliases the input; nil if it is empty.
func (d *decoder) bytes(what string, limit int) []byte {
	n := d.length(what, limit)
	if n == 0 {
		return nil
	}
	return d.take(n)
}

func (d *decoder) string(what string, limit int) string {
	return string(d.take(d.length(what, limit)))
}

func (d *decoder) text() string { return d.string("text", maxText) }

// items takes the number of items that follow, each of at least size bytes.
func (d *decoder) items(what string, size, limit int) int {
	n := d.uvarint()
	if n > uint64(limit) {
		d.fail("%d %s; the limit is %d", n, what, limit)
		return 0
	}
	if n > uint64(len(d.b)/size) {
		d.fail("%d %s do not fit into %d bytes", n, what, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) time() time.Time {
	if !d.bool() {
		return time.Time{}
	}
	sec, nsec := d.varint(), d.u32()
	if nsec >= uint32(time.Second) {
		d.fail("%d nanoseconds in a second", nsec)
	}
	if d.err != nil {
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

func (d *decoder) key() kv.Key {
	t, b, n := d.length("bucket type", kv.MaxType), d.length("bucket", kv.MaxBucket), d.length("key", kv.MaxKey)
	s := string(d.take(t + b + n))
	if d.err != nil {
		return kv.Key{}
	}
	k := kv.Key{Type: s[:t], Bucket: s[t : t+b], Name: s[t+b:]}
	if err := k.Validate(); err != nil {
		d.fail("%w", err)
	}
	return k
}

func (d *decoder) bucket() kv.Bucket {
	t, n := d.length("bucket type", kv.MaxType), d.length("bucket", kv.MaxBucket)
	s := string(d.take(t + n))
	if d.err != nil {
		return kv.Bucket{}
	}
	b := kv.Bucket{Type: s[:t], Name: s[t:]}
	if err := b.Validate(); err != nil {
		d.fail("%w", err)
	}
	return b
}

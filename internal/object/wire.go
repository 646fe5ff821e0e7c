package object

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

const checksumSize = 4 // bytes

// castagnoli is the table of CRC-32C, which processors compute in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// reader takes what was encoded off the front of b. After the first error it
// gives zeros only and keeps that error, so that callers check once, at the
// end. It is strict: each value has one encoding.
type reader struct {
	b    []byte
	at   int    // how far b is read
	part string // of CorruptError
	err  error
}

// left is how many bytes are not read yet.
func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) fail(problem string) {
	if r.err == nil {
		r.err = &CorruptError{Part: r.part, Offset: r.at, Problem: problem}
	}
}

// bytes takes n bytes. They alias b.
func (r *reader) bytes(n int, what string) []byte {
	if r.err == nil && r.left() < n {
		r.fail(what + " is cut short")
	}
	if r.err != nil {
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

// byte takes one byte.
func (r *reader) byte(what string) byte {
	if b := r.bytes(1, what); b != nil {
		return b[0]
	}
	return 0
}

// uvarint takes an unsigned number of 1 to 10 bytes in its shortest form.
func (r *reader) uvarint(what string) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	switch {
	case n == 0:
		r.fail(what + " is cut short")
		return 0
	case n < 0:
		r.fail(what + " is past 64 bits")
		return 0
	case n > 1 && r.b[r.at+n-1] == 0:
		r.fail(what + " is not in its shortest form")
		return 0
	}
	r.at += n
	return v
}

// count takes the number of elements that follow, each of at least size bytes,
// and so bounds what a decoder allocates by the bytes that are there.
func (r *reader) count(size int, what string) int {
	n := r.uvarint(what)
	if n > uint64(r.left()/size) {
		r.fail(what + " is more than the bytes can hold")
		return 0
	}
	return int(n)
}

// span takes a length and as many bytes, and returns where these are in b.
func (r *reader) span(what string) (from, to int) {
	n := r.count(1, what)
	r.bytes(n, what)
	return r.at - n, r.at
}

// end checks that nothing is left.
func (r *reader) end() error {
	if r.err == nil && r.left() > 0 {
		r.fail("bytes are left over")
	}
	return r.err
}

const minEntry = 8 + 1 // bytes of a vector's entry at least

// vector takes what appendVector has written.
func (r *reader) vector() Vector {
	n := r.count(minEntry, "the number of actors")
	if n == 0 {
		return nil
	}
	v := make(Vector, n)
	for i := range v {
		copy(v[i].Actor[:], r.bytes(len(Actor{}), "an actor"))
		if i > 0 && v[i-1].Actor.Compare(v[i].Actor) >= 0 {
			r.fail("actors are out of order")
		}
		if v[i].Counter = r.uvarint("an actor's counter"); v[i].Counter == 0 {
			r.fail("an actor's counter is zero")
		}
		if r.err != nil {
			return nil
		}
	}
	return v
}

// appendVector writes the number of entries, and each entry's actor and
// counter.
func appendVector(dst []byte, v Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for i := range v {
		dst = append(dst, v[i].Actor[:]...)
		dst = binary.AppendUvarint(dst, v[i].Counter)
	}
	return dst
}

// vectorSize is how many bytes appendVector writes.
func vectorSize(v Vector) int {
	n := uvarintSize(uint64(len(v)))
	for i := range v {
		n += len(Actor{}) + uvarintSize(v[i].Counter)
	}
	return n
}

// uvarintSize is how many bytes binary.AppendUvarint writes.
func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// zigzag maps small numbers of either sign to small ones without.
func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

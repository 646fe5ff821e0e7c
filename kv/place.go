package kv

import (
	"crypto/sha1"
	"encoding/binary"
)

// The bytes of Erlang's external term format that a key's term is made of.
const (
	termVersion = 131
	termTuple   = 104 // small tuple; one byte of arity follows
	termBinary  = 109 // binary; four bytes of length, big endian, and the bytes follow
)

// hashed is how many bytes a term may have without being allocated.
const hashed = 512

// Hash is the point of the key on the ring. It is the one that Riak gives it:
// SHA-1 over the key as an Erlang term, {Bucket, Name} for the default bucket
// type and {{Type, Bucket}, Name} for others.
//
//	131 104 2 [104 2 109 len32 type] 109 len32 bucket 109 len32 name
func (k Key) Hash() [20]byte {
	var buf [hashed]byte
	b := append(buf[:0], termVersion, termTuple, 2)
	if k.Type != "" {
		b = append(b, termTuple, 2)
		b = appendTermBinary(b, k.Type)
	}
	b = appendTermBinary(b, k.Bucket)
	b = appendTermBinary(b, k.Name)
	return sha1.Sum(b)
}

func appendTermBinary(b []byte, s string) []byte {
	b = append(b, termBinary)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// Home is the first of the partitions that hold the key, on a ring of so many,
// which is a power of two up to 65536: the first one that starts after the key's
// hash. The other replicas follow it.
func (k Key) Home(partitions int) Partition {
	h := k.Hash()
	// The arc in which the hash lies is numbered by the hash's leading bits.
	arc := (int(h[0])<<8 | int(h[1])) * partitions >> 16
	return Partition{Index: (arc + 1) & (partitions - 1), Of: partitions}
}

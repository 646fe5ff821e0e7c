package object

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tanodb/tanodb/kv"
)

// The format of a context, drawn in docs/formats.md.
const (
	contextVersion = 1
	keyHashSize    = 4 // bytes
	minContext     = 1 + keyHashSize + 1 + minEntry + checksumSize
)

// EncodeContext is the token that stands for having seen v of key k. Nothing
// seen is an empty token. A clock of some 5,000 actors gives a token longer
// than kv.MaxContext, which DecodeContext refuses.
func EncodeContext(k kv.Key, v Vector) kv.Context {
	if len(v) == 0 {
		return nil
	}
	c := make([]byte, 0, 1+keyHashSize+vectorSize(v)+checksumSize)
	c = append(c, contextVersion)
	c = binary.BigEndian.AppendUint32(c, hashKey(k))
	c = appendVector(c, v)
	return binary.BigEndian.AppendUint32(c, crc32.Checksum(c, castagnoli))
}

// DecodeContext reads what EncodeContext has made for the same key. The token
// comes from a client: the checksum finds damage, and the key's hash a token
// that was mixed up, but neither is proof against forgery. Errors are
// kv.ErrContext.
func DecodeContext(k kv.Key, c kv.Context) (Vector, error) {
	if len(c) == 0 {
		return nil, nil
	}
	if len(c) > kv.MaxContext {
		return nil, badContext("it is %d bytes long; the limit is %d", len(c), kv.MaxContext)
	}
	if c[0] != contextVersion {
		return nil, badContext("it is not a context, or one of a later version")
	}
	if len(c) < minContext {
		return nil, badContext("it is cut short")
	}
	end := len(c) - checksumSize
	if crc32.Checksum(c[:end], castagnoli) != binary.BigEndian.Uint32(c[end:]) {
		return nil, badContext("it is damaged: its checksum does not match")
	}
	if binary.BigEndian.Uint32(c[1:]) != hashKey(k) {
		return nil, badContext("it belongs to another key than %s", k)
	}
	r := reader{b: c[:end], at: 1 + keyHashSize, part: "context"}
	v := r.vector()
	if err := r.end(); err != nil {
		return nil, badContext("%v", err)
	}
	return v, nil
}

func badContext(format string, args ...any) error {
	return fmt.Errorf("%w: %s", kv.ErrContext, fmt.Sprintf(format, args...))
}

// hashKey is FNV-1a over the lengths and bytes of the key's parts.
func hashKey(k kv.Key) uint32 {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for _, s := range [...]string{k.Type, k.Bucket, k.Name} {
		for n := len(s); n > 0; n >>= 8 {
			h = (h ^ uint32(n&0xff)) * prime
		}
		h *= prime // ends the length, as a byte of zero
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * prime
		}
	}
	return h
}

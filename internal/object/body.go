package object

import (
	"encoding/binary"
	"slices"

	"github.com/tanodb/tanodb/kv"
)

// The format of a sibling's body, drawn in docs/formats.md.
const (
	bodyVersion = 1
	minPair     = 1 + 1 // bytes of a pair at least
)

// AppendBody appends what a sibling keeps of a value in its body: the data, the
// content headers, metadata and index entries. The expiry is in the head, and
// what the store itself sets is not in the value that is written.
func AppendBody(dst []byte, v *kv.Value) []byte {
	header := stringSize(v.ContentType) + stringSize(v.Charset) + stringSize(v.ContentEncoding) +
		pairsSize(v.Meta) + pairsSize(v.Indexes)
	dst = slices.Grow(dst, 2+uvarintSize(uint64(header))+header+len(v.Data))
	dst = append(dst, bodyVersion, 0)
	dst = binary.AppendUvarint(dst, uint64(header))
	dst = appendString(dst, v.ContentType)
	dst = appendString(dst, v.Charset)
	dst = appendString(dst, v.ContentEncoding)
	dst = appendPairs(dst, v.Meta)
	dst = appendPairs(dst, v.Indexes)
	return append(dst, v.Data...)
}

// DecodeBody reads what AppendBody has appended to nothing. The value's Data
// aliases b and is never nil; the rest is copied. What it accepts encodes to
// the same bytes again. The errors are ErrCorrupt and ErrVersion.
func DecodeBody(b []byte) (kv.Value, error) {
	r := reader{b: b, part: "body"}
	if v := r.byte("the version"); r.err == nil && v != bodyVersion {
		return kv.Value{}, unknown("body", "version", v)
	}
	if f := r.byte("the flags"); f != 0 {
		return kv.Value{}, unknown("body", "flags", f)
	}
	n := r.count(1, "the length of the header")
	end := r.at + n
	r.b = b[:end]
	text := string(r.b) // one copy, which all strings are parts of

	var v kv.Value
	v.ContentType = r.string(text, "the content type")
	v.Charset = r.string(text, "the charset")
	v.ContentEncoding = r.string(text, "the content encoding")
	v.Meta = r.pairs(text, "the metadata")
	v.Indexes = r.pairs(text, "the index entries")
	if err := r.end(); err != nil {
		return kv.Value{}, err
	}
	v.Data = b[end:len(b):len(b)]
	return v, nil
}

// string takes a string; text is r.b.
func (r *reader) string(text, what string) string {
	from, to := r.span(what)
	if r.err != nil {
		return ""
	}
	return text[from:to]
}

// pairs takes pairs of strings; text is r.b.
func (r *reader) pairs(text, what string) []kv.Pair {
	n := r.count(minPair, what)
	if n == 0 {
		return nil
	}
	pairs := make([]kv.Pair, n)
	for i := range pairs {
		pairs[i] = kv.Pair{Name: r.string(text, what), Value: r.string(text, what)}
	}
	return pairs
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func stringSize(s string) int { return uvarintSize(uint64(len(s))) + len(s) }

func appendPairs(dst []byte, pairs []kv.Pair) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(pairs)))
	for i := range pairs {
		dst = appendString(dst, pairs[i].Name)
		dst = appendString(dst, pairs[i].Value)
	}
	return dst
}

func pairsSize(pairs []kv.Pair) int {
	n := uvarintSize(uint64(len(pairs)))
	for i := range pairs {
		n += stringSize(pairs[i].Name) + stringSize(pairs[i].Value)
	}
	return n
}

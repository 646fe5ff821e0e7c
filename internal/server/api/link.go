package api

import (
	varint "encoding/binary" // binary is the form of a Text here
	"strings"

	"github.com/tanodb/tanodb/kv"
)

// Link points from a value to another key: of the same bucket type, as in Riak.
type Link struct {
	Bucket string
	Key    string
	Tag    string
}

// linkName is the name under which a link stands among the metadata of a value.
// No header can hold it, and so no client's own name is the same.
const linkName = "\x00link"

// Pair is the link as a piece of metadata, which is how the servers keep it: each
// of its parts but the last is preceded by its length.
func (l Link) Pair() kv.Pair {
	b := make([]byte, 0, len(l.Bucket)+len(l.Key)+len(l.Tag)+2*varint.MaxVarintLen32)
	for _, s := range [...]string{l.Bucket, l.Key} {
		b = varint.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return kv.Pair{Name: linkName, Value: string(append(b, l.Tag...))}
}

// ParseLink is the link that a piece of metadata is; false: it is none.
func ParseLink(p kv.Pair) (Link, bool) {
	if p.Name != linkName {
		return Link{}, false
	}
	bucket, rest, ok := cutPart(p.Value)
	if !ok {
		return Link{}, false
	}
	key, tag, ok := cutPart(rest)
	return Link{bucket, key, tag}, ok
}

// cutPart parts a string that its length precedes from the rest.
func cutPart(s string) (part, rest string, ok bool) {
	n, err := varint.ReadUvarint(strings.NewReader(s))
	if err != nil {
		return "", "", false
	}
	size := len(varint.AppendUvarint(nil, n))
	if n > uint64(len(s)-size) {
		return "", "", false
	}
	end := size + int(n)
	return s[size:end], s[end:], true
}

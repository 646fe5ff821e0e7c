package pb

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// The answers to a get and a put are encoded here by hand: a content is measured
// first, so that it can be written in place.

// contents appends the values as field 1, without their data for a head, and
// with what only our own client knows if it is the one that asks.
func (f *frame) contents(vs []kv.Value, head, own bool) {
	for i := range vs {
		f.content(&vs[i], head, own)
	}
}

// content appends one value.
func (f *frame) content(v *kv.Value, head, own bool) {
	data := v.Data
	if head {
		data = nil
	}
	f.b = protowire.AppendTag(f.b, 1, protowire.BytesType)
	f.b = protowire.AppendVarint(f.b, uint64(contentSize(v, len(data), own)))
	f.bytes(1, data)
	f.textIf(2, v.ContentType)
	f.textIf(3, v.Charset)
	f.textIf(4, v.ContentEncoding)
	f.textIf(5, v.VTag)
	for _, p := range v.Meta {
		if link, ok := linkOf(p, own); ok {
			f.link(&link)
		}
	}
	if secs, usecs, ok := lastMod(v); ok {
		f.varint(7, secs)
		f.varint(8, usecs)
	}
	for _, p := range v.Meta {
		if _, ok := linkOf(p, own); !ok {
			f.pair(9, p)
		}
	}
	for _, p := range v.Indexes {
		f.pair(10, p)
	}
	if v.Deleted {
		f.varint(11, 1)
	}
	if own && !v.Expires.IsZero() {
		f.varint(ownField, uint64(v.Expires.UnixMicro()))
	}
}

// contentSize is the size of what content appends, after its length.
func contentSize(v *kv.Value, data int, own bool) int {
	n := fieldSize(1, data) + sizeIf(2, v.ContentType) + sizeIf(3, v.Charset) + sizeIf(4, v.ContentEncoding) + sizeIf(5, v.VTag)
	for _, p := range v.Meta {
		if link, ok := linkOf(p, own); ok {
			n += fieldSize(6, linkSize(&link))
			continue
		}
		n += fieldSize(9, pairSize(p))
	}
	for _, p := range v.Indexes {
		n += fieldSize(10, pairSize(p))
	}
	if secs, usecs, ok := lastMod(v); ok {
		n += protowire.SizeTag(7) + protowire.SizeVarint(secs) + protowire.SizeTag(8) + protowire.SizeVarint(usecs)
	}
	if v.Deleted {
		n += protowire.SizeTag(11) + 1
	}
	if own && !v.Expires.IsZero() {
		n += protowire.SizeTag(ownField) + protowire.SizeVarint(uint64(v.Expires.UnixMicro()))
	}
	return n
}

// linkOf is the link that a piece of metadata is. Our own client gets it as it is
// kept, so that it writes back what it has read.
func linkOf(p kv.Pair, own bool) (api.Link, bool) {
	if own {
		return api.Link{}, false
	}
	return api.ParseLink(p)
}

// lastMod is when a value was written, if a field can say that.
func lastMod(v *kv.Value) (secs, usecs uint64, ok bool) {
	if v.Modified.IsZero() {
		return 0, 0, false
	}
	s := v.Modified.Unix()
	if s < 0 || s > math.MaxUint32 {
		return 0, 0, false
	}
	return uint64(s), uint64(v.Modified.Nanosecond() / 1000), true
}

func (f *frame) textIf(num protowire.Number, s string) {
	if s != "" {
		f.text(num, s)
	}
}

func sizeIf(num protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return fieldSize(num, len(s))
}

// fieldSize is the size of a field of n bytes.
func fieldSize(num protowire.Number, n int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(n)
}

func (f *frame) pair(num protowire.Number, p kv.Pair) {
	f.b = protowire.AppendTag(f.b, num, protowire.BytesType)
	f.b = protowire.AppendVarint(f.b, uint64(pairSize(p)))
	f.text(1, p.Name)
	f.text(2, p.Value)
}

func pairSize(p kv.Pair) int { return fieldSize(1, len(p.Name)) + fieldSize(2, len(p.Value)) }

func (f *frame) link(l *api.Link) {
	f.b = protowire.AppendTag(f.b, 6, protowire.BytesType)
	f.b = protowire.AppendVarint(f.b, uint64(linkSize(l)))
	f.text(1, l.Bucket)
	f.text(2, l.Key)
	f.text(3, l.Tag)
}

func linkSize(l *api.Link) int {
	return fieldSize(1, len(l.Bucket)) + fieldSize(2, len(l.Key)) + fieldSize(3, len(l.Tag))
}

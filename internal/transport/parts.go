package transport

import (
	"encoding/binary"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

func (d *decoder) partition() ring.Partition { return ring.Partition(d.u16()) }

// keys appends the number of keys, their lengths, and then all of them in one
// piece, which the decoder turns into one string.
func (e *encoder) keys(keys []string) {
	e.items("keys", len(keys), maxKeys)
	for _, k := range keys {
		if k == "" || len(k) > kv.MaxKey {
			e.fail("key is %d bytes long; it must be between 1 and %d", len(k), kv.MaxKey)
		}
		e.uvarint(uint64(len(k)))
	}
	for _, k := range keys {
		e.b = append(e.b, k...)
	}
}

func (d *decoder) keys() []string {
	const least = 2 // bytes of a key: its length and itself
	n := d.items("keys", least, maxKeys)
	if n == 0 {
		return nil
	}
	lengths, total := *d, 0
	for range n {
		size := d.length("key", kv.MaxKey)
		if size == 0 {
			d.fail("key is zero-length")
		}
		total += size
	}
	all := string(d.take(total))
	if d.err != nil {
		return nil
	}
	keys := make([]string, n)
	for i := range keys {
		size := int(lengths.uvarint())
		keys[i], all = all[:size], all[size:]
	}
	return keys
}

// leastItem is the least bytes of an item: a key of two names, hash, no object.
const leastItem = 3 + 2 + 8 + 1

func (e *encoder) itemList(items []vnode.Item) {
	e.items("items", len(items), maxItems)
	for i := range items {
		e.key(items[i].Key)
		e.u64(items[i].Hash)
		e.bytes("object", items[i].Object, kv.MaxObject)
	}
}

func (d *decoder) itemList() []vnode.Item {
	n := d.items("items", leastItem, maxItems)
	if n == 0 {
		return nil
	}
	items := make([]vnode.Item, n)
	for i := range items {
		items[i] = vnode.Item{Key: d.key(), Hash: d.u64(), Object: d.bytes("object", kv.MaxObject)}
	}
	return items
}

// leastKey is the least bytes of a key: three lengths, and two names.
const leastKey = 3 + 2

func (e *encoder) keyList(keys []kv.Key) {
	e.items("keys", len(keys), maxItems)
	for _, k := range keys {
		e.key(k)
	}
}

func (d *decoder) keyList() []kv.Key {
	n := d.items("keys", leastKey, maxItems)
	if n == 0 {
		return nil
	}
	keys := make([]kv.Key, n)
	for i := range keys {
		keys[i] = d.key()
	}
	return keys
}

func (e *encoder) segments(all []vnode.Segment) {
	e.items("segments", len(all), maxSegments)
	for _, s := range all {
		e.u16(uint16(s))
	}
}

func (d *decoder) segments() []vnode.Segment {
	n := d.items("segments", 2, maxSegments)
	if n == 0 {
		return nil
	}
	all := make([]vnode.Segment, n)
	for i := range all {
		all[i] = vnode.Segment(d.u16())
	}
	return all
}

// sums are as many as a tree has branches, and a branch segments, or none.
func (e *encoder) sums(sums []uint64) {
	e.items("sums", len(sums), vnode.Branches)
	for _, s := range sums {
		e.u64(s)
	}
}

func (d *decoder) sums() []uint64 {
	n := d.items("sums", 8, vnode.Branches)
	if n == 0 {
		return nil
	}
	sums := make([]uint64, n)
	for i := range sums {
		sums[i] = d.u64()
	}
	return sums
}

// leastBad is the least bytes of an item that cannot be read: no key, no text.
const leastBad = 2

func (e *encoder) badItems(bad []vnode.BadItem) {
	e.items("unreadable items", len(bad), maxItems)
	for i := range bad {
		known := bad[i].Key != kv.Key{}
		e.bool(known)
		if known {
			e.key(bad[i].Key)
		}
		e.text(bad[i].Text)
	}
}

func (d *decoder) badItems() []vnode.BadItem {
	n := d.items("unreadable items", leastBad, maxItems)
	if n == 0 {
		return nil
	}
	bad := make([]vnode.BadItem, n)
	for i := range bad {
		if d.bool() {
			bad[i].Key = d.key()
		}
		bad[i].Text = d.text()
	}
	return bad
}

func (e *encoder) results(results []vnode.ItemResult) {
	e.items("results", len(results), maxItems)
	for _, r := range results {
		e.u8(uint8(r))
	}
}

func (d *decoder) results() []vnode.ItemResult {
	n := d.items("results", 1, maxItems)
	if n == 0 {
		return nil
	}
	results := make([]vnode.ItemResult, n)
	for i := range results {
		results[i] = vnode.ItemResult(d.u8())
	}
	return results
}

func (e *encoder) homes(homes []ring.Partition) {
	e.items("homes", len(homes), maxItems)
	for _, h := range homes {
		e.u16(uint16(h))
	}
}

func (d *decoder) homes() []ring.Partition {
	n := d.items("homes", 2, maxItems)
	if n == 0 {
		return nil
	}
	homes := make([]ring.Partition, n)
	for i := range homes {
		homes[i] = d.partition()
	}
	return homes
}

func (e *encoder) standings(homes []vnode.Standing) {
	e.items("homes", len(homes), maxItems)
	for _, h := range homes {
		e.bool(h.Stray)
		e.uvarint(h.Count)
	}
}

func (d *decoder) standings() []vnode.Standing {
	n := d.items("homes", 2, maxItems)
	if n == 0 {
		return nil
	}
	homes := make([]vnode.Standing, n)
	for i := range homes {
		homes[i] = vnode.Standing{Stray: d.bool(), Count: d.uvarint()}
	}
	return homes
}

func (e *encoder) options(o *kv.WriteOptions) {
	e.bytes("context", o.Context, kv.MaxContext)
	for _, n := range []int{o.N, int(o.W), int(o.DW), int(o.PW), int(o.R), int(o.PR), o.NodeConfirms} {
		e.varint(int64(n))
	}
	e.bool(o.ReturnBody)
	e.toggle(o.SloppyQuorum)
	e.varint(int64(o.Timeout))
	e.varint(int64(o.Linger))
	e.id(o.RequestID)
	e.bool(o.IfNotModified)
}

func (d *decoder) options() (o kv.WriteOptions) {
	o.Context = d.bytes("context", kv.MaxContext)
	o.N = int(d.varint())
	for _, q := range []*kv.Quorum{&o.W, &o.DW, &o.PW, &o.R, &o.PR} {
		*q = kv.Quorum(d.varint())
	}
	o.NodeConfirms = int(d.varint())
	o.ReturnBody = d.bool()
	o.SloppyQuorum = d.toggle()
	o.Timeout = time.Duration(d.varint())
	o.Linger = time.Duration(d.varint())
	o.RequestID = d.id()
	o.IfNotModified = d.bool()
	return o
}

func (e *encoder) toggle(t kv.Toggle) {
	if t < kv.Unset || t > kv.Off {
		e.fail("%d is neither on, off nor unset", t)
	}
	e.u8(uint8(t))
}

func (d *decoder) toggle() kv.Toggle {
	v := d.u8()
	if v > uint8(kv.Off) {
		d.fail("%d is neither on, off nor unset", v)
		return kv.Unset
	}
	return kv.Toggle(v)
}

// value appends the body as package object encodes it, and then what is not
// part of a body.
func (e *encoder) value(v *kv.Value) {
	if err := v.Validate(); err != nil {
		e.fail("%w", err)
		return
	}
	at := len(e.b)
	e.u32(0) // the length of the body, when it is known
	e.b = object.AppendBody(e.b, v)
	binary.BigEndian.PutUint32(e.b[at:], uint32(len(e.b)-at-4))
	e.time(v.Expires)
	e.time(v.Modified)
	e.string("VTag", v.VTag, maxName)
	e.bool(v.Deleted)
}

func (d *decoder) value() kv.Value {
	n := d.u32()
	if uint64(n) > uint64(len(d.b)) {
		d.fail("%w", errShort)
	}
	if d.err != nil {
		return kv.Value{}
	}
	v, err := object.DecodeBody(d.take(int(n)))
	if err == nil {
		err = v.Validate()
	}
	if err != nil {
		d.fail("%w", err)
		return kv.Value{}
	}
	v.Expires = d.time()
	v.Modified = d.time()
	v.VTag = d.string("VTag", maxName)
	v.Deleted = d.bool()
	return v
}

func (e *encoder) receipt(r *kv.Receipt) {
	e.bytes("context", r.Context, kv.MaxContext)
	e.items("values", len(r.Values), kv.MaxSiblings)
	for i := range r.Values {
		e.value(&r.Values[i])
	}
	e.items("replies", len(r.Replies), maxItem)
	for i := range r.Replies {
		e.reply(&r.Replies[i])
	}
}

// The least bytes of an item, by which a claimed number of them is judged.
const (
	leastValue   = 4 + 1 + 1 + 1 + 1
	leastReply   = 8
	leastFailure = 4
)

func (d *decoder) receipt() (r kv.Receipt) {
	r.Context = d.bytes("context", kv.MaxContext)
	if n := d.items("values", leastValue, kv.MaxSiblings); n > 0 {
		r.Values = make([]kv.Value, n)
	}
	for i := range r.Values {
		r.Values[i] = d.value()
	}
	if n := d.items("replies", leastReply, maxItem); n > 0 {
		r.Replies = make([]kv.Reply, n)
	}
	for i := range r.Replies {
		r.Replies[i] = d.reply()
	}
	return r
}

// The roles and results by their numbers on the wire, which are fixed.
var (
	roles   = []kv.Role{"", kv.Primary, kv.Fallback, kv.Incoming}
	results = []kv.Result{"", kv.OK, kv.Found, kv.NotFound, kv.Down, kv.Refused, kv.Failed, kv.Pending}
)

func (e *encoder) reply(r *kv.Reply) {
	e.position(r.Partition)
	e.string("node", r.Node, maxName)
	number(e, roles, r.Role)
	number(e, results, r.Result)
	e.varint(int64(r.Elapsed))
	e.text(r.Error)
	e.bool(r.Repaired)
}

func (d *decoder) reply() kv.Reply {
	return kv.Reply{
		Partition: d.position(),
		Node:      d.string("node", maxName),
		Role:      word(d, roles),
		Result:    word(d, results),
		Elapsed:   time.Duration(d.varint()),
		Error:     d.text(),
		Repaired:  d.bool(),
	}
}

func (e *encoder) position(p kv.Partition) {
	e.count("partition", p.Index)
	e.count("ring size", p.Of)
}

func (d *decoder) position() kv.Partition {
	return kv.Partition{Index: d.count("partition"), Of: d.count("ring size")}
}

// number appends the place of a word in its list.
func number[T ~string](e *encoder, words []T, w T) {
	for i := range words {
		if words[i] == w {
			e.u8(uint8(i))
			return
		}
	}
	e.fail("%q is not one of %q", w, words)
}

func word[T ~string](d *decoder, words []T) T {
	i := int(d.u8())
	if i >= len(words) {
		d.fail("number %d of %d words", i, len(words))
		return ""
	}
	return words[i]
}

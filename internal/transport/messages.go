package transport

import (
	"encoding/binary"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// kind names the type of a message in a frame. The numbers are fixed; zero is
// no kind. The highest bit is set in answers, so that a receiver can tell also
// of a kind that it does not know.
type kind uint8

const answerBit kind = 0x80

const (
	kindStore   kind = 1
	kindFetch   kind = 2
	kindList    kind = 3
	kindCensus  kind = 4
	kindPing    kind = 5
	kindForward kind = 6

	kindStored    = answerBit | 1
	kindFetched   = answerBit | 2
	kindListed    = answerBit | 3
	kindPong      = answerBit | 5
	kindForwarded = answerBit | 6
	kindRefusal   = answerBit | 0x40
	kindFailure   = answerBit | 0x41
)

func (k kind) answer() bool { return k&answerBit != 0 }

func (k kind) known() bool {
	switch k {
	case kindStore, kindFetch, kindList, kindCensus, kindPing, kindForward,
		kindStored, kindFetched, kindListed, kindPong, kindForwarded, kindRefusal, kindFailure:
		return true
	}
	return false
}

// kindOf is the kind of a message that travels, 0 of any other.
func kindOf(m vnode.Message) kind {
	switch m.(type) {
	case *vnode.Store:
		return kindStore
	case *vnode.Fetch:
		return kindFetch
	case *vnode.List:
		return kindList
	case *vnode.Census:
		return kindCensus
	case *vnode.Ping:
		return kindPing
	case *coordinator.Forward:
		return kindForward
	case *vnode.Stored:
		return kindStored
	case *vnode.Fetched:
		return kindFetched
	case *vnode.Listed:
		return kindListed
	case *vnode.Pong:
		return kindPong
	case *coordinator.Forwarded:
		return kindForwarded
	case *vnode.Refusal:
		return kindRefusal
	case *vnode.Failure:
		return kindFailure
	}
	return 0
}

// message appends what the message carries; a Ping and a Pong carry nothing.
func (e *encoder) message(m vnode.Message) {
	switch m := m.(type) {
	case *vnode.Store:
		e.u16(uint16(m.Home))
		e.key(m.Key)
		e.bytes("object", m.Object, kv.MaxObject)
	case *vnode.Fetch:
		e.u16(uint16(m.Home))
		e.key(m.Key)
	case *vnode.List:
		e.u16(uint16(m.Home))
		e.bucket(m.Bucket)
		e.string("After", m.After, kv.MaxKey)
		e.count("Limit", m.Limit)
	case *vnode.Census:
		e.bucket(m.Bucket)
		e.count("Limit", m.Limit)
	case *coordinator.Forward:
		e.key(m.Key)
		e.bool(m.Deleted)
		e.options(&m.Options)
		e.value(&m.Value)
	case *vnode.Stored:
		e.bool(m.Live)
	case *vnode.Fetched:
		e.bytes("object", m.Object, kv.MaxObject)
	case *vnode.Listed:
		e.keys(m.Keys)
		e.string("Last", m.Last, kv.MaxKey)
		e.bool(m.More)
	case *coordinator.Forwarded:
		e.receipt(&m.Receipt)
		e.error(m.Err)
	case *vnode.Refusal:
		e.u8(uint8(m.Code))
		e.text(m.Text)
	case *vnode.Failure:
		e.u8(uint8(m.Code))
		e.text(m.Text)
	}
}

// message takes what a message of a known kind carries. The fields of a
// composite literal are taken in the order in which they stand.
func (d *decoder) message(k kind) vnode.Message {
	switch k {
	case kindStore:
		return &vnode.Store{Home: d.partition(), Key: d.key(), Object: d.bytes("object", kv.MaxObject)}
	case kindFetch:
		return &vnode.Fetch{Home: d.partition(), Key: d.key()}
	case kindList:
		return &vnode.List{Home: d.partition(), Bucket: d.bucket(), After: d.string("After", kv.MaxKey), Limit: d.count("Limit")}
	case kindCensus:
		return &vnode.Census{Bucket: d.bucket(), Limit: d.count("Limit")}
	case kindPing:
		return &vnode.Ping{}
	case kindForward:
		return &coordinator.Forward{Key: d.key(), Deleted: d.bool(), Options: d.options(), Value: d.value()}
	case kindStored:
		return &vnode.Stored{Live: d.bool()}
	case kindFetched:
		return &vnode.Fetched{Object: d.bytes("object", kv.MaxObject)}
	case kindListed:
		return &vnode.Listed{Keys: d.keys(), Last: d.string("Last", kv.MaxKey), More: d.bool()}
	case kindPong:
		return &vnode.Pong{}
	case kindForwarded:
		return &coordinator.Forwarded{Receipt: d.receipt(), Err: d.error()}
	case kindRefusal:
		return &vnode.Refusal{Code: vnode.Code(d.u8()), Text: d.text()}
	case kindFailure:
		return &vnode.Failure{Code: vnode.Code(d.u8()), Text: d.text()}
	}
	return nil
}

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

func (e *encoder) options(o *kv.WriteOptions) {
	e.bytes("context", o.Context, kv.MaxContext)
	for _, n := range []int{o.N, int(o.W), int(o.DW), int(o.PW), int(o.R), int(o.PR), o.NodeConfirms} {
		e.varint(int64(n))
	}
	e.bool(o.ReturnBody)
	e.varint(int64(o.Timeout))
	e.varint(int64(o.Linger))
	e.b = append(e.b, o.RequestID[:]...)
}

func (d *decoder) options() (o kv.WriteOptions) {
	o.Context = d.bytes("context", kv.MaxContext)
	o.N = int(d.varint())
	for _, q := range []*kv.Quorum{&o.W, &o.DW, &o.PW, &o.R, &o.PR} {
		*q = kv.Quorum(d.varint())
	}
	o.NodeConfirms = int(d.varint())
	o.ReturnBody = d.bool()
	o.Timeout = time.Duration(d.varint())
	o.Linger = time.Duration(d.varint())
	copy(o.RequestID[:], d.take(len(o.RequestID)))
	return o
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
	roles   = []kv.Role{"", kv.Primary, kv.Fallback}
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

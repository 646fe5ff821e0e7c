package pb

import (
	"encoding/binary"
	"errors"
	"net"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// frame is one message on its way out, or several in turn. Large values are not
// copied into it: they are kept beside, with the place where they belong.
type frame struct {
	b     []byte
	cuts  []cut
	begun int         // where the message that is being made begins in b,
	first int         // and in cuts
	vec   net.Buffers // room for writeTo
}

// cut is a piece of a message that stands elsewhere in memory.
type cut struct {
	at   int // before this byte of b
	data []byte
}

// reset forgets all messages.
func (f *frame) reset() {
	clear(f.cuts) // what they point to may be large
	f.b, f.cuts, f.begun, f.first = f.b[:0], f.cuts[:0], 0, 0
}

// begin begins a message; end ends it.
func (f *frame) begin(code riakpb.Code) {
	f.begun, f.first = len(f.b), len(f.cuts)
	f.b = append(f.b, 0, 0, 0, 0, byte(code))
}

// end fills in the length of the message.
func (f *frame) end() {
	n := len(f.b) - f.begun - riakpb.LengthSize
	for _, c := range f.cuts[f.first:] {
		n += len(c.data)
	}
	binary.BigEndian.PutUint32(f.b[f.begun:], uint32(n))
	f.begun, f.first = len(f.b), len(f.cuts)
}

// abandon takes back a message that has been begun and not ended.
func (f *frame) abandon() { f.b, f.cuts = f.b[:f.begun], f.cuts[:f.first] }

// empty makes a message without a body.
func (f *frame) empty(code riakpb.Code) {
	f.begin(code)
	f.end()
}

// message makes a message of a generated one.
func (f *frame) message(code riakpb.Code, m proto.Message) error {
	return f.messageTold(code, m, nil)
}

// messageTold is message, with the story of the request for our own client; nil:
// it is not asked for.
func (f *frame) messageTold(code riakpb.Code, m proto.Message, t *told) error {
	f.begin(code)
	b, err := proto.MarshalOptions{}.MarshalAppend(f.b, m)
	if err != nil {
		f.abandon()
		return err
	}
	f.b = b
	if t != nil {
		f.told(t)
	}
	f.end()
	return nil
}

// fail makes the answer to a request that failed. The code of the error is
// always 0, as Riak's.
func (f *frame) fail(text string) {
	f.begin(riakpb.Error)
	f.text(1, text)
	f.varint(2, 0)
	f.end()
}

// failWith makes the answer to a request that failed with this error.
func (f *frame) failWith(err error) {
	own, is := errors.AsType[*toldError](err)
	if !is {
		f.fail(err.Error())
		return
	}
	f.begin(riakpb.Error)
	f.text(1, string(own.wireError))
	f.varint(2, 0)
	f.told(&own.told)
	f.end()
}

// told is the story of a request.
type told struct {
	replies []kv.Reply
	context kv.Context // nil: it is elsewhere in the answer, or there is none
	err     error
}

// told appends the story of a request, for our own client.
func (f *frame) told(t *told) {
	f.b = riakpb.AppendTold(f.b, ownField, t.replies, t.context, t.err)
}

// next appends where the next page begins, for our own client.
func (f *frame) next(token string) { f.b = riakpb.AppendNext(f.b, ownField, token) }

// text appends a field of bytes.
func (f *frame) text(num protowire.Number, s string) {
	f.b = protowire.AppendTag(f.b, num, protowire.BytesType)
	f.b = protowire.AppendString(f.b, s)
}

// bytes appends a field of bytes, those of a large one by reference.
func (f *frame) bytes(num protowire.Number, data []byte) {
	f.b = protowire.AppendTag(f.b, num, protowire.BytesType)
	f.b = protowire.AppendVarint(f.b, uint64(len(data)))
	if len(data) < largeValue {
		f.b = append(f.b, data...)
		return
	}
	f.cuts = append(f.cuts, cut{len(f.b), data})
}

// varint appends a field that is a number or a boolean.
func (f *frame) varint(num protowire.Number, n uint64) {
	f.b = protowire.AppendTag(f.b, num, protowire.VarintType)
	f.b = protowire.AppendVarint(f.b, n)
}

// size is how many bytes there are to write.
func (f *frame) size() int {
	n := len(f.b)
	for _, c := range f.cuts {
		n += len(c.data)
	}
	return n
}

// writeTo writes all messages.
func (f *frame) writeTo(c net.Conn) error {
	if len(f.cuts) == 0 {
		_, err := c.Write(f.b)
		return err
	}
	f.vec = f.vec[:0]
	at := 0
	for _, cut := range f.cuts {
		f.vec = append(f.vec, f.b[at:cut.at], cut.data)
		at = cut.at
	}
	if at < len(f.b) {
		f.vec = append(f.vec, f.b[at:])
	}
	left := f.vec
	_, err := left.WriteTo(c)
	clear(f.vec)
	return err
}

package object

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/tanodb/tanodb/kv"
)

// The format of an object, drawn in docs/formats.md.
const (
	version = 1

	flagDeleted = 1 << 0 // of a sibling: it is a tombstone
	flagExpires = 1 << 1 // an expiry follows
	flagRequest = 1 << 2 // a request id follows
	flagIndexed = 1 << 3 // the body has index entries
	knownFlags  = flagDeleted | flagExpires | flagRequest | flagIndexed

	stampSize  = 8                     // bytes
	minSibling = 1 + 1 + stampSize + 2 // bytes of a sibling in the head at least
)

// Encode is the object in bytes. Equal objects give equal bytes. Encode panics
// if the object breaks an invariant or is not Complete: that is a bug of the
// caller, and writing it down would lose a value.
func (o Object) Encode() []byte {
	if !o.Complete() {
		panic("object: encoding an object without all its bodies: " + o.String())
	}
	head, bodies := o.headSize()
	size := 2 + uvarintSize(uint64(head)) + head + checksumSize + bodies + checksumSize

	b := make([]byte, 0, size)
	b = append(b, version, 0)
	b = binary.AppendUvarint(b, uint64(head))
	b = o.appendHead(b)
	sum := crc32.Checksum(b, castagnoli)
	b = binary.BigEndian.AppendUint32(b, sum)
	start := len(b)
	for i := range o.Siblings {
		b = append(b, o.Siblings[i].Body...)
	}
	sum = crc32.Update(sum, castagnoli, b[start:])
	return binary.BigEndian.AppendUint32(b, sum)
}

// Bare is the encoding of what the object with this encoding is without its
// bodies: enough to Compare it with another one that is bare.
func Bare(encoding []byte) ([]byte, error) {
	o, err := DecodeHead(encoding)
	if err != nil {
		return nil, err
	}
	for i := range o.Siblings {
		o.Siblings[i].Size = 0
	}
	return o.Encode(), nil
}

// headSize is how many bytes appendHead writes, and how many the bodies have.
func (o Object) headSize() (head, bodies int) {
	head = vectorSize(o.Clock) + uvarintSize(uint64(len(o.Siblings)))
	actor := 0
	for i := range o.Siblings {
		s := &o.Siblings[i]
		actor = o.indexOf(s.Dot, actor)
		head += uvarintSize(uint64(actor)) + uvarintSize(s.Dot.Counter)
		head += stampSize + 1 + uvarintSize(uint64(s.Size))
		if s.Expires != 0 {
			head += uvarintSize(zigzag(s.Expires))
		}
		if s.Request != (kv.RequestID{}) {
			head += len(s.Request)
		}
		bodies += s.Size
	}
	return head, bodies
}

func (o Object) appendHead(b []byte) []byte {
	b = appendVector(b, o.Clock)
	b = binary.AppendUvarint(b, uint64(len(o.Siblings)))
	actor := 0
	for i := range o.Siblings {
		s := &o.Siblings[i]
		actor = o.indexOf(s.Dot, actor)
		b = binary.AppendUvarint(b, uint64(actor))
		b = binary.AppendUvarint(b, s.Dot.Counter)
		b = binary.BigEndian.AppendUint64(b, uint64(s.Stamp))
		flags := s.flags()
		b = append(b, flags)
		if flags&flagExpires != 0 {
			b = binary.AppendUvarint(b, zigzag(s.Expires))
		}
		if flags&flagRequest != 0 {
			b = append(b, s.Request[:]...)
		}
		b = binary.AppendUvarint(b, uint64(s.Size))
	}
	return b
}

func (s *Sibling) flags() (f byte) {
	if s.Deleted {
		f |= flagDeleted
	}
	if s.Expires != 0 {
		f |= flagExpires
	}
	if s.Request != (kv.RequestID{}) {
		f |= flagRequest
	}
	if s.Indexed {
		f |= flagIndexed
	}
	return f
}

// indexOf is the place in the clock of the dot's actor, searched from a place
// on.
func (o Object) indexOf(d Dot, from int) int {
	for i := from; i < len(o.Clock); i++ {
		if o.Clock[i].Actor == d.Actor && d.Counter <= o.Clock[i].Counter {
			return i
		}
	}
	panic("object: encoding an object with a sibling that is out of order or not in its clock: " + o.String())
}

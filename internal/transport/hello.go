package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The protocols that this version speaks. Both sides of a connection take the
// highest that both know.
const (
	lowProtocol  = 1
	highProtocol = 1
)

const helloMagic = "TanoDB\r\n"

// maxHello bounds what is read before it is known who speaks.
const maxHello = 16 << 10

// hello is the first message on each connection, in both directions. The
// dialler speaks first.
type hello struct {
	low, high  uint16 // protocols that the sender speaks
	cluster    [16]byte
	partitions uint32
	class      Class
	from       string // the sender
	to         string // whom it believes to talk to
	refusal    string // why the sender will not talk; empty: it will
}

// append appends the bytes of the hello. The fields up to the names never
// change, so that a node of any protocol can say whom it does not understand.
func (h *hello) append(dst []byte) []byte {
	start := len(dst)
	e := encoder{b: append(dst, helloMagic...)}
	e.u16(h.low)
	e.u16(h.high)
	e.string("name", h.from, maxName)
	e.string("name", h.to, maxName)
	e.b = append(e.b, h.cluster[:]...)
	e.u32(h.partitions)
	e.u8(uint8(h.class))
	e.text(h.refusal)
	e.u32(crc32.Checksum(e.b[start:], castagnoli))
	return e.b
}

func decodeHello(b []byte) (h hello, err error) {
	if len(b) > maxHello {
		return h, fmt.Errorf("a hello of %d bytes; the limit is %d", len(b), maxHello)
	}
	if len(b) < len(helloMagic)+checksum || !bytes.HasPrefix(b, []byte(helloMagic)) {
		return h, errors.New("what came is not a hello")
	}
	body := b[:len(b)-checksum]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return h, errors.New("the checksum of the hello does not match")
	}
	d := decoder{b: body[len(helloMagic):]}
	h.low, h.high = d.u16(), d.u16()
	h.from = d.string("name", maxName)
	h.to = d.string("name", maxName)
	if d.err == nil && h.from == "" {
		d.fail("a hello without a name")
	}
	if d.err != nil || h.low > highProtocol || h.high < lowProtocol {
		return h, d.err // what follows may be in another form
	}
	copy(h.cluster[:], d.take(len(h.cluster)))
	h.partitions = d.u32()
	h.class = Class(d.u8())
	h.refusal = d.text()
	if d.err == nil && h.class >= classes {
		d.fail("a hello of class %d", h.class)
	}
	return h, d.err
}

// objection says why this node, whose hello is h, will not talk to the sender
// of the other; empty: it will.
func (h *hello) objection(other hello) string {
	switch {
	case other.low > h.high || other.high < h.low:
		return fmt.Sprintf("speaks protocol %s, this node %s", span(other.low, other.high), span(h.low, h.high))
	case other.cluster != h.cluster:
		return fmt.Sprintf("is of another cluster (%x; this node's is %x)", other.cluster, h.cluster)
	case other.partitions != h.partitions:
		return fmt.Sprintf("has a ring of %d partitions, this node one of %d", other.partitions, h.partitions)
	case other.to != h.from:
		return fmt.Sprintf("looks for a node %q, this is %s", other.to, h.from)
	case other.from != h.to:
		return fmt.Sprintf("is called %q", other.from)
	case other.class != h.class:
		return fmt.Sprintf("answers on a connection for %s", other.class)
	}
	return ""
}

func span(low, high uint16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

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
	lowProtocol  = 5
	highProtocol = 6 // the first that knows of users and grants in the topology log

	tracedProtocol  = 6 // the first that has frames with a Trace
	orderedProtocol = 6 // the first in which a later life has a higher number
)

// Protocols are the lowest and the highest protocol that this version speaks.
func Protocols() (low, high int) { return lowProtocol, highProtocol }

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
	from       string   // the sender
	to         string   // whom it believes to talk to; empty at the door: whoever is there
	id         [16]byte // of the sender; zero: it has none
	address    string   // where the sender is reached; empty: it does not know
	epoch      uint64   // of the sender's topology
	life       uint64   // of the sender, see membership.Lives; 0 at the door

	// What the sender has heard of the receiver: its latest life, the newest epoch
	// in that, and the newest before.
	met, since, before uint64

	// The last reaping that the sender knows of, and the life in which the receiver
	// has shown its mark: see membership.State.LastReaping.
	reaped, reapedIn uint64
	refusal          string // why the sender will not talk; empty: it will
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
	e.id(h.cluster)
	e.u32(h.partitions)
	e.u8(uint8(h.class))
	e.id(h.id)
	e.string("address", h.address, maxAddress)
	e.u64(h.epoch)
	e.u64(h.life)
	e.u64(h.met)
	e.u64(h.since)
	e.u64(h.before)
	e.u64(h.reaped)
	e.u64(h.reapedIn)
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
	h.cluster = d.id()
	h.partitions = d.u32()
	h.class = Class(d.u8())
	h.id = d.id()
	h.address = d.string("address", maxAddress)
	h.epoch = d.u64()
	h.life = d.u64()
	h.met, h.since, h.before = d.u64(), d.u64(), d.u64()
	h.reaped, h.reapedIn = d.u64(), d.u64()
	h.refusal = d.text()
	if d.err == nil && h.class > Door {
		d.fail("a hello of class %d", h.class)
	}
	return h, d.err
}

// objection says why this node, whose hello is h, will not talk to the sender
// of the other, which it knows by an id (zero: by none); empty: it will.
func (h *hello) objection(other hello, known [16]byte) string {
	switch {
	case other.low > h.high || other.high < h.low:
		return fmt.Sprintf("speaks protocol %s, this node %s", span(other.low, other.high), span(h.low, h.high))
	case h.class == Door && other.class == Door:
		return h.objectionAtDoor(other)
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
	return other.impostor(known)
}

// objectionAtDoor is objection where one side, who need not be a member, may
// leave open whom it seeks.
func (h *hello) objectionAtDoor(other hello) string {
	none := [16]byte{}
	switch {
	case other.cluster != h.cluster && other.cluster != none && h.cluster != none:
		return fmt.Sprintf("is of another cluster (%x; this node's is %x)", other.cluster, h.cluster)
	case other.to != h.from && other.to != "":
		return fmt.Sprintf("looks for a node %q, this is %s", other.to, h.from)
	}
	return ""
}

// impostor says why the sender is not the node that is known by its name, and
// what to do; empty: it is that one, as far as is known.
func (h *hello) impostor(known [16]byte) string {
	if known == h.id || known == [16]byte{} {
		return ""
	}
	const todo = "start it with the data directory of that node, or give it another name and join it, in place of that node if need be"
	return fmt.Sprintf("has the id %x, but the cluster knows the node of this name by the id %x: %s", h.id, known, todo)
}

func span(low, high uint16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

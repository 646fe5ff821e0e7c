package object

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/tanodb/tanodb/kv"
)

// Decode reads what Encode has written, and checks all of it. The bodies alias
// b. What it accepts encodes to the same bytes again. It allocates no more than
// a small multiple of the length of b. The errors are ErrCorrupt and
// ErrVersion.
//
// It sets no limit to the size or the number of siblings: copies within the
// limits may merge to one past them, which must still be read and mended.
func Decode(b []byte) (Object, error) {
	o, head, err := decodeHead(b)
	if err != nil {
		return Object{}, err
	}
	if err := head.checkBodies(b); err != nil {
		return Object{}, err
	}
	at := head.bodies
	for i := range o.Siblings {
		s := &o.Siblings[i]
		if s.Size > 0 {
			s.Body = b[at : at+s.Size : at+s.Size]
		}
		at += s.Size
	}
	return o, nil
}

// DecodeHead reads all but the bodies of what Encode has written: siblings have
// their Size and no Body. It checks the head with its own checksum, and the
// length of b, but not what is in the bodies. The object keeps nothing of b.
// The errors are those of Decode.
func DecodeHead(b []byte) (Object, error) {
	o, _, err := decodeHead(b)
	return o, err
}

// headEnd is what is known of an encoded object once its head is read.
type headEnd struct {
	bodies int    // where the bodies begin
	sum    uint32 // checksum of all before the head's checksum
}

func decodeHead(b []byte) (Object, headEnd, error) {
	r, end, err := openHead(b)
	if err != nil {
		return Object{}, headEnd{}, err
	}
	var o Object
	o.Clock = r.vector()
	o.Siblings = r.siblings(o.Clock, len(b)-end.bodies-checksumSize)
	if err := r.end(); err != nil {
		return Object{}, headEnd{}, err
	}
	return o, end, nil
}

// openHead checks the frame of an encoded object and returns a reader of its
// head.
func openHead(b []byte) (reader, headEnd, error) {
	r := reader{b: b, part: "object"}
	if v := r.byte("the version"); r.err == nil && v != version {
		if whole(b) {
			return r, headEnd{}, &CorruptError{Part: "object", Problem: fmt.Sprintf("the version has become %#02x", v)}
		}
		return r, headEnd{}, unknown("object", "version", v)
	}
	flags := r.byte("the flags")
	n := r.count(1, "the length of the head")
	start := r.at
	r.bytes(n, "the head")
	headStop := r.at
	stored := r.bytes(checksumSize, "the checksum of the head")
	end := headEnd{bodies: r.at}
	if r.err == nil && r.left() < checksumSize {
		r.fail("the bodies are cut short")
	}
	if r.err != nil {
		return r, end, r.err
	}
	end.sum = crc32.Checksum(b[:headStop], castagnoli)
	if end.sum != binary.BigEndian.Uint32(stored) {
		return r, end, &CorruptError{Part: "head", Offset: start, Problem: "the checksum does not match"}
	}
	if flags != 0 {
		return r, end, unknown("object", "flags", flags)
	}
	return reader{b: b[:headStop], at: start, part: "head"}, end, nil
}

// whole reports whether b would be an object of this version, with the checksum
// of one, if only its version were another: then it is the version that is
// damaged, and not a later format.
func whole(b []byte) bool {
	ours := slices.Clone(b)
	ours[0] = version
	_, _, err := openHead(ours)
	return err == nil
}

// siblings takes the siblings, whose bodies have this many bytes together.
func (r *reader) siblings(clock Vector, bodies int) []Sibling {
	n := r.count(minSibling, "the number of siblings")
	if n == 0 {
		if bodies != 0 {
			r.fail("bodies without siblings")
		}
		return nil
	}
	all := make([]Sibling, n)
	for i := range all {
		s := &all[i]
		r.sibling(s, clock)
		if i > 0 && all[i-1].Dot.Compare(s.Dot) >= 0 {
			r.fail("siblings are out of order")
		}
		if r.err != nil {
			return nil
		}
		if s.Size < 0 || s.Size > bodies {
			r.fail("the bodies are longer than what follows the head")
			return nil
		}
		bodies -= s.Size
	}
	if bodies != 0 {
		r.fail("the bodies are shorter than what follows the head")
	}
	return all
}

func (r *reader) sibling(s *Sibling, clock Vector) {
	actor := r.uvarint("a sibling's actor")
	s.Dot.Counter = r.uvarint("a sibling's counter")
	stamp := r.bytes(stampSize, "a sibling's stamp")
	flags := r.byte("a sibling's flags")
	if r.err != nil {
		return
	}
	if actor >= uint64(len(clock)) || s.Dot.Counter == 0 || s.Dot.Counter > clock[actor].Counter {
		r.fail("a sibling's dot is not in the clock")
		return
	}
	if flags&^knownFlags != 0 {
		r.err = unknown("object's sibling", "flags", flags)
		return
	}
	s.Dot.Actor = clock[actor].Actor
	s.Stamp = Stamp(binary.BigEndian.Uint64(stamp))
	s.Deleted = flags&flagDeleted != 0
	s.Indexed = flags&flagIndexed != 0
	if flags&flagExpires != 0 {
		if s.Expires = unzigzag(r.uvarint("a sibling's expiry")); s.Expires == 0 {
			r.fail("a sibling's expiry is zero")
		}
	}
	if flags&flagRequest != 0 {
		copy(s.Request[:], r.bytes(len(s.Request), "a sibling's request id"))
		if s.Request == (kv.RequestID{}) {
			r.fail("a sibling's request id is zero")
		}
	}
	s.Size = int(r.uvarint("the size of a body"))
}

package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// The limits and the version of a frame.
const (
	FrameVersion = 1

	// TracedVersion is that of a frame with a Trace. It goes only to nodes that speak
	// tracedProtocol.
	TracedVersion = 2

	// MaxFrame is the size of the largest frame, in bytes: the largest object,
	// and room for its key, a page of others before it and the frame around them.
	MaxFrame = kv.MaxObject + 8<<20

	maxName  = 255     // bytes in a node's name
	maxText  = 4 << 10 // bytes in the text of an error; what is longer is cut
	maxKeys  = 1 << 16 // keys in one Listed
	maxItem  = 1 << 12 // replies or failures in one Forwarded
	maxItems = 1 << 16 // items in one Deliver, Delivered, Pulled and the like

	maxSegments = 4096                 // segments in one Versions: all that a tree has
	maxOp       = kv.MaxObject + 7<<20 // bytes in one operation of a data type, with its lengths
	maxAfter    = 128 << 10            // bytes in the place where a page begins or ends
	maxInt      = 1 << 31              // a number of replicas, of keys and the like is below this
)

const (
	lengthAt   = 1             // where the length stands
	kindAt     = 5             // where the kind stands
	fixedHead  = 1 + 4 + 1 + 8 // version, length, kind, id
	checksum   = 4             // bytes of the CRC32C at the end
	shortFrame = fixedHead + 1 + 1 + 2 + checksum
)

// ErrFrame is wrapped by all errors of DecodeFrame but UnknownKindError. After it nothing that
// follows in the stream can be trusted.
var ErrFrame = errors.New("broken frame")

// UnknownKindError reports a frame that is whole but of a kind that this version does
// not know. DecodeFrame returns the Frame around it, so that the receiver can
// answer with vnode.CodeUnsupported, and what follows is readable.
type UnknownKindError struct {
	Kind uint8
}

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("unknown kind of message %#02x", e.Kind)
}

// Frame is one message on its way between two nodes.
type Frame struct {
	ID       uint64         // names the request among those of one connection; its answer carries the same
	Response bool           // this is an answer
	Epoch    uint64         // the sender's version of the topology
	Timeout  time.Duration  // what is left for a request, in whole milliseconds (rounded up); 0: its time is over. At most kv.MaxTimeout
	To       ring.Partition // the vnode that is asked, or that answers
	Msg      vnode.Message
	Trace    Trace // of a request; zero: it is not traced

	// Room is set in a request that Handler.Serve is given, and does not travel. It returns nil
	// while the connection has room for a large answer, and otherwise a channel that is closed
	// once it has, or has ended.
	Room func() <-chan struct{}
}

// Trace is where a request belongs in what is recorded of it, as W3C's Trace Context has it.
type Trace struct {
	ID    [16]byte
	Span  [8]byte // of the one who asks
	Flags byte    // 1: it is recorded
}

// traceSize is how many bytes a Trace has in a frame.
const traceSize = 16 + 8 + 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendFrame appends the frame's bytes to dst. A frame that is past a limit,
// or whose message never travels, is an error and leaves dst as it was.
func AppendFrame(dst []byte, f *Frame) ([]byte, error) {
	k := kindOf(f.Msg)
	if k == 0 {
		return dst, fmt.Errorf("a %T does not travel between nodes", f.Msg)
	}
	if k.answer() != f.Response {
		return dst, fmt.Errorf("a %T with Response %t", f.Msg, f.Response)
	}
	if f.Timeout < 0 || f.Timeout > kv.MaxTimeout {
		return dst, fmt.Errorf("timeout %v is not between 0 and %v", f.Timeout, kv.MaxTimeout)
	}
	start := len(dst)
	e := encoder{b: dst}
	traced := f.Trace != Trace{} && !f.Response
	if traced {
		e.u8(TracedVersion)
	} else {
		e.u8(FrameVersion)
	}
	e.u32(0) // the length, when it is known
	e.u8(uint8(k))
	e.u64(f.ID)
	e.uvarint(f.Epoch)
	e.uvarint(uint64((f.Timeout + time.Millisecond - 1) / time.Millisecond))
	e.u16(uint16(f.To))
	e.message(k, f.Msg)
	if traced {
		e.b = append(append(append(e.b, f.Trace.ID[:]...), f.Trace.Span[:]...), f.Trace.Flags)
	}
	size := len(e.b) - start + checksum
	if size > MaxFrame {
		e.fail("frame is %d bytes long; the limit is %d", size, MaxFrame)
	}
	if e.err != nil {
		return dst, fmt.Errorf("encode %T: %w", f.Msg, e.err)
	}
	binary.BigEndian.PutUint32(e.b[start+lengthAt:], uint32(size))
	e.u32(crc32.Checksum(e.b[start:], castagnoli))
	return e.b, nil
}

// DecodeFrame reads the first frame of b and returns what follows it. Byte
// slices of the message alias b; strings do not.
func DecodeFrame(b []byte) (f Frame, rest []byte, err error) {
	body, rest, err := cutFrame(b)
	if err != nil {
		return Frame{}, nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if f.Trace, body, err = cutTrace(body); err != nil {
		return Frame{}, nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	d := decoder{b: body[1+4:]}
	k := kind(d.u8())
	f.Response = k.answer()
	f.ID = d.u64()
	f.Epoch = d.uvarint()
	ms := d.uvarint()
	if limit := uint64(kv.MaxTimeout / time.Millisecond); ms > limit {
		d.fail("timeout of %d ms; the limit is %d", ms, limit)
	}
	f.Timeout = time.Duration(ms) * time.Millisecond
	f.To = ring.Partition(d.u16())
	if d.err == nil && !k.known() {
		return f, rest, &UnknownKindError{Kind: uint8(k)}
	}
	f.Msg = d.message(k)
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return Frame{}, nil, fmt.Errorf("%w of kind %#02x: %w", ErrFrame, uint8(k), d.err)
	}
	return f, rest, nil
}

// cutTrace takes the trace off the end of a frame that has one.
func cutTrace(body []byte) (t Trace, rest []byte, err error) {
	if body[0] != TracedVersion {
		return t, body, nil
	}
	end := len(body) - traceSize
	if end < shortFrame-checksum {
		return t, nil, errors.New("a traced frame that is too short for its trace")
	}
	b := body[end:]
	copy(t.ID[:], b)
	copy(t.Span[:], b[len(t.ID):])
	t.Flags = b[traceSize-1]
	if kind(body[kindAt]).answer() || t == (Trace{}) {
		return t, nil, errors.New("a trace that is empty, or of an answer")
	}
	return t, body[:end], nil
}

// cutFrame splits b after its first frame, of which it checks the version, the
// length and the checksum. Body is the frame without the checksum.
func cutFrame(b []byte) (body, rest []byte, err error) {
	if len(b) < shortFrame {
		return nil, nil, fmt.Errorf("%d bytes are too few", len(b))
	}
	if b[0] != FrameVersion && b[0] != TracedVersion {
		return nil, nil, fmt.Errorf("version %d; this node speaks %d and %d", b[0], FrameVersion, TracedVersion)
	}
	size := binary.BigEndian.Uint32(b[lengthAt:])
	if size < shortFrame || size > MaxFrame {
		return nil, nil, fmt.Errorf("a length of %d is not between %d and %d", size, shortFrame, MaxFrame)
	}
	if uint64(size) > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%d bytes of %d are missing", int(size)-len(b), size)
	}
	end := int(size) - checksum
	body, rest = b[:end], b[size:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, nil, errors.New("the checksum does not match")
	}
	return body, rest, nil
}

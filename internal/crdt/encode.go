package crdt

import (
	"encoding/binary"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// The formats of states and operations, drawn in docs/formats.md.
const (
	version = 1

	minEntry = 8 + 1 // bytes of a vector's entry at least
	minDot   = 1 + 1 // bytes of a dot at least

	formSparse = 0 // of a HyperLogLog: the registers that are not 0
	formDense  = 1 // all registers
	rankPacked = 6 // bits of a register in the dense form
)

// Append adds the encoding of the state to dst. Equal states have equal bytes.
// It panics for the zero State, which is none.
func (s State) Append(dst []byte) []byte {
	if s.store == nil {
		panic("crdt: encoding the zero State")
	}
	dst = append(dst, version, byte(s.kind))
	dst = appendVector(dst, s.context)
	return s.store.append(dst, s.context)
}

func appendVector(dst []byte, v object.Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for _, d := range v {
		dst = append(dst, d.Actor[:]...)
		dst = binary.AppendUvarint(dst, d.Counter)
	}
	return dst
}

func appendBytes[T ~string | ~[]byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// appendDot writes a dot as the place of its actor in the context, and its
// counter.
func appendDot(dst []byte, d object.Dot, context object.Vector) []byte {
	i, _ := slices.BinarySearchFunc(context, d.Actor, func(e object.Dot, a object.Actor) int { return e.Actor.Compare(a) })
	dst = binary.AppendUvarint(dst, uint64(i))
	return binary.AppendUvarint(dst, d.Counter)
}

// appendPlace writes the dots of a place and what is pending there.
func appendPlace(dst []byte, adds []add, pending, context object.Vector) []byte {
	head := uint64(len(adds)) << 1
	if len(pending) > 0 {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	for _, a := range adds {
		dst = appendDot(dst, a.born(), context)
	}
	if len(pending) > 0 {
		dst = appendVector(dst, pending)
	}
	return dst
}

func (c counter) append(dst []byte, context object.Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c)))
	for _, s := range c {
		dst = appendDot(dst, s.dot, context)
		dst = binary.AppendVarint(dst, s.sum)
	}
	return dst
}

func (r register) append(dst []byte, context object.Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(r)))
	for _, a := range r {
		dst = appendDot(dst, a.dot, context)
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.stamp))
		dst = appendBytes(dst, a.bytes)
	}
	return dst
}

func (f enables) append(dst []byte, context object.Vector) []byte {
	return appendPlace(dst, f.adds, f.pending, context)
}

func (s set) append(dst []byte, context object.Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	for i := range s {
		dst = appendBytes(dst, s[i].elem)
		dst = appendPlace(dst, s[i].adds, s[i].pending, context)
	}
	return dst
}

func (g gset) append(dst []byte, _ object.Vector) []byte { return appendElems(dst, g) }

func appendElems(dst []byte, all [][]byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(all)))
	for _, e := range all {
		dst = appendBytes(dst, e)
	}
	return dst
}

func (f fields) append(dst []byte, context object.Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(f)))
	for i := range f {
		dst = appendField(dst, f[i].Field)
		dst = appendPlace(dst, f[i].adds, f[i].pending, context)
		dst = f[i].in.append(dst, context)
	}
	return dst
}

func appendField(dst []byte, f Field) []byte { return append(appendBytes(dst, f.Name), byte(f.Kind)) }

// dense reports whether the registers are written all: from a quarter of them
// on that is shorter.
func (h hll) dense() bool { return len(h.ranks) >= 1<<h.precision/4 }

func (h hll) append(dst []byte, _ object.Vector) []byte {
	if h.dense() {
		return h.appendDense(append(dst, h.precision, formDense))
	}
	dst = append(dst, h.precision, formSparse)
	dst = binary.AppendUvarint(dst, uint64(len(h.ranks)))
	next := uint32(0)
	for _, r := range h.ranks {
		dst = binary.AppendUvarint(dst, uint64(r.index()-next))
		dst = append(dst, byte(r.rank()))
		next = r.index() + 1
	}
	return dst
}

// appendDense packs four registers of 6 bits into three bytes.
func (h hll) appendDense(dst []byte) []byte {
	rest := h.ranks
	for i := uint32(0); i < 1<<h.precision; i += 4 {
		var four uint32
		for j := range uint32(4) {
			four <<= rankPacked
			if len(rest) > 0 && rest[0].index() == i+j {
				four |= uint32(rest[0].rank())
				rest = rest[1:]
			}
		}
		dst = append(dst, byte(four>>16), byte(four>>8), byte(four))
	}
	return dst
}

// AppendOp adds the encoding of the operation to dst, or says what is wrong with
// the operation.
func AppendOp(dst []byte, op Op) ([]byte, error) {
	if err := Check(op); err != nil {
		return nil, err
	}
	return appendOp(append(dst, version, byte(op.Kind())), op), nil
}

func appendOp(dst []byte, op Op) []byte {
	switch o := op.(type) {
	case CounterOp:
		return binary.AppendVarint(dst, int64(o))
	case SetOp:
		return appendElems(appendElems(dst, o.Removes), o.Adds)
	case GSetOp:
		return appendElems(dst, o)
	case HLLOp:
		return appendElems(dst, o)
	case RegisterOp:
		return appendBytes(dst, o)
	case FlagOp:
		if o {
			return append(dst, 1)
		}
		return append(dst, 0)
	case MapOp:
		dst = binary.AppendUvarint(dst, uint64(len(o.Removes)))
		for _, f := range o.Removes {
			dst = appendField(dst, f)
		}
		dst = binary.AppendUvarint(dst, uint64(len(o.Updates)))
		for _, u := range o.Updates {
			dst = appendOp(appendField(dst, u.Field), u.Op)
		}
	}
	return dst
}

package object

import (
	"encoding/binary"

	"github.com/tanodb/tanodb/kv"
)

// State is what a sibling holds instead of a value in a bucket of a data type: the
// state that package crdt encodes, and which of the named writes are in it.
type State struct {
	Requests []kv.RequestID // the oldest first; at most kv.MaxRemembered
	Bytes    []byte
}

// The format of a body that holds a State, drawn in docs/formats.md. No value is
// of this version, so that no client can write what is taken for a state.
const (
	stateVersion = 2
	requestSize  = len(kv.RequestID{})
)

// AppendState appends the body of a sibling that holds a state.
func AppendState(dst []byte, s State) []byte {
	dst = append(dst, stateVersion, 0)
	dst = binary.AppendUvarint(dst, uint64(len(s.Requests)))
	for i := range s.Requests {
		dst = append(dst, s.Requests[i][:]...)
	}
	return append(dst, s.Bytes...)
}

// HoldsState reports whether a body holds a state, and not a value.
func HoldsState(body []byte) bool { return len(body) > 0 && body[0] == stateVersion }

// DecodeState reads what AppendState has appended to nothing. The Bytes alias b.
// What it accepts encodes to the same bytes again. The errors are ErrCorrupt and
// ErrVersion.
func DecodeState(b []byte) (State, error) {
	r := reader{b: b, part: "state's body"}
	if v := r.byte("the version"); r.err == nil && v != stateVersion {
		return State{}, unknown("state's body", "version", v)
	}
	if f := r.byte("the flags"); f != 0 {
		return State{}, unknown("state's body", "flags", f)
	}
	n := r.count(requestSize, "the requests")
	if n > kv.MaxRemembered {
		r.fail("it remembers too many requests")
	}
	if r.err != nil {
		return State{}, r.err
	}
	var s State
	if n > 0 {
		s.Requests = make([]kv.RequestID, n)
	}
	for i := range s.Requests {
		r.at += copy(s.Requests[i][:], b[r.at:])
	}
	s.Bytes = b[r.at:len(b):len(b)]
	return s, nil
}

// stateValue is what a reader of plain values sees of a state: its bytes, under the
// content type that Riak gives them.
func stateValue(body []byte) (kv.Value, error) {
	s, err := DecodeState(body)
	if err != nil {
		return kv.Value{}, err
	}
	v := kv.Value{Data: s.Bytes}
	const kindAt = 1 // in the encoding of package crdt
	if len(s.Bytes) > kindAt {
		v.ContentType = "application/riak_" + kv.Kind(s.Bytes[kindAt]).String()
	}
	return v, nil
}

// Replace is the object after a write by the vnode that holds it, as Write is, but
// that it replaces all siblings but those that it keeps, whose numbers are in order.
// Its dot must be new.
func Replace(local Object, keep []int, s Sibling) Object {
	out := Write(local, local.Clock, s)
	if len(keep) == 0 {
		return out
	}
	kept := Object{Clock: out.Clock}
	place := 0
	for _, i := range keep {
		kept.Siblings = append(kept.Siblings, local.Siblings[i])
		if local.Siblings[i].Dot.Compare(s.Dot) < 0 {
			place = len(kept.Siblings)
		}
	}
	rest := append([]Sibling{out.Siblings[0]}, kept.Siblings[place:]...)
	kept.Siblings = append(kept.Siblings[:place:place], rest...)
	return kept
}

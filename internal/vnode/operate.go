package vnode

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/kv"
)

// maxMints is how often a dot is minted for one operation: the second one is of a new
// actor, which nobody has seen.
const maxMints = 3

// operate applies an operation to what the siblings hold together, and puts what
// comes of it in their place. Of a bucket that has no data type the values that are
// beside a counter stay.
func (t *turn) operate(i int, dk []byte, m *Coordinate, head stored) {
	local, err := t.full(dk)
	if err != nil {
		t.refuseRead(i, m.Key, err)
		return
	}
	held, err := crdt.Hold(local, m.Write.Op.Kind(), t.wallMs)
	if err != nil {
		t.refuse(i, CodeStorage, fmt.Sprintf("%s: %v", m.Key, err))
		return
	}
	if m.Request != (kv.RequestID{}) && slices.Contains(held.Requests, m.Request) {
		t.repeat(i, dk, m, head.Object)
		return
	}
	if m.props().DataType != "" && len(held.Others) > 0 {
		t.refuse(i, CodeDataType, fmt.Sprintf("%s holds something that is no %s", m.Key, m.Write.Op.Kind()))
		return
	}
	s, err := t.applied(m, head, local, &held)
	if err != nil {
		t.refuse(i, codeOf(err), err.Error())
		return
	}
	if planted.Is(planted.ContextWritten) {
		local.Clock = local.Clock.Join(m.Seen)
	}
	t.keep(i, dk, m, head, object.Replace(local, held.Others, s))
}

// applied is the sibling with the state after the operation. It has seen all that the
// object has, whatever its client knows of.
func (t *turn) applied(m *Coordinate, head stored, local object.Object, held *crdt.Held) (object.Sibling, error) {
	before, err := crdt.New(m.Write.Op.Kind(), uint8(m.props().Precision))
	if err == nil && held.Latest >= 0 {
		before, err = crdt.Merge(before, held.State)
	}
	if err != nil {
		return object.Sibling{}, err
	}
	if held.Latest >= 0 || !planted.Is(planted.BeginsUnseen) {
		before = before.Seen(local.Clock)
	}
	for range maxMints {
		s := t.sibling(m, head.Object)
		after, err := before.Apply(m.Write.Op, s.Dot, s.Stamp, m.Seen)
		if err == nil {
			s.Body = held.Body(after, m.Request)
			return s, nil
		}
		if !errors.Is(err, crdt.ErrSeen) {
			return object.Sibling{}, err
		}
		t.forgot(m.Key, "somebody has seen a write that this vnode never made")
	}
	return object.Sibling{}, crdt.ErrSeen
}

// codeOf says why an operation was refused.
func codeOf(err error) Code {
	var missing *crdt.PreconditionError
	var kind *crdt.KindError
	var limit *crdt.LimitError
	switch {
	case errors.As(err, &missing):
		return CodePrecondition
	case errors.Is(err, crdt.ErrOverflow):
		return CodeOverflow
	case errors.As(err, &limit):
		return CodeTooLarge
	case errors.As(err, &kind):
		return CodeDataType
	}
	return CodeInternal
}

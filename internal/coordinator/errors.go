package coordinator

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// elsewhere reports whether a refused write may succeed at another coordinator.
// The other refusals are about the write itself.
func elsewhere(c vnode.Code) bool {
	switch c {
	case vnode.CodeInvalid, vnode.CodeContext, vnode.CodeSiblings, vnode.CodeTooLarge,
		vnode.CodePrecondition, vnode.CodeOverflow, vnode.CodeDataType, vnode.CodeModified:
		return false
	}
	return true
}

// undone reports whether a forwarded write that ended with this error has
// certainly changed nothing, and may do better at another node: it was refused at
// the door, nobody there could coordinate it, or that node has not heard of its
// bucket type yet, or its clock is off.
func undone(err error) bool {
	var q *kv.QuorumError
	if errors.As(err, &q) {
		return !q.InDoubt
	}
	return errors.Is(err, kv.ErrOverload) || errors.Is(err, kv.ErrClosed) || errors.Is(err, kv.ErrBucketType) || errors.Is(err, kv.ErrClock)
}

// refusalError is a refusal as the error that a caller of kv knows; nil: there is none
// for it, and the QuorumError tells the text.
func refusalError(c vnode.Code, text string) error {
	switch c {
	case vnode.CodeOverload:
		return fmt.Errorf("%w: %s", kv.ErrOverload, text)
	case vnode.CodeClosing:
		return fmt.Errorf("%w: %s", kv.ErrClosed, text)
	case vnode.CodeContext:
		return fmt.Errorf("%w: %s", kv.ErrContext, text)
	case vnode.CodeSiblings:
		return fmt.Errorf("%w: %s", kv.ErrTooManySiblings, text)
	case vnode.CodeTooLarge:
		return fmt.Errorf("%w: %s", kv.ErrTooLarge, text)
	case vnode.CodeModified:
		return kv.ErrModified
	case vnode.CodePrecondition:
		return &kv.DataError{Cause: kv.ErrPrecondition, Text: text}
	case vnode.CodeOverflow:
		return &kv.DataError{Cause: kv.ErrOverflow, Text: text}
	case vnode.CodeDataType:
		return &kv.DataError{Cause: kv.ErrDataType, Text: text}
	case vnode.CodeInvalid:
		return &kv.InvalidError{What: "request", Problem: "refused: " + text}
	}
	return nil
}

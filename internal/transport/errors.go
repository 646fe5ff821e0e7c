package transport

import (
	"errors"

	"github.com/tanodb/tanodb/kv"
)

// sentinels are the errors that keep their identity from node to node. Bit i of
// an encoded error says that it is the i-th of them: new ones go to the end.
var sentinels = []error{
	kv.ErrNotFound, kv.ErrTimeout, kv.ErrOverload, kv.ErrQuorum, kv.ErrInDoubt, kv.ErrInvalid,
	kv.ErrContext, kv.ErrTooManySiblings, kv.ErrTooLarge, kv.ErrClosed, kv.ErrInternal, kv.ErrBucketType, kv.ErrClock,
	kv.ErrDataType, kv.ErrPrecondition, kv.ErrOverflow, kv.ErrExists, kv.ErrModified,
}

// What of an error is encoded.
const (
	formNone    = 0 // there is no error
	formPlain   = 1 // sentinels and text
	formQuorum  = 2 // a *kv.QuorumError, perhaps wrapped
	formInvalid = 3 // a *kv.InvalidError, perhaps wrapped
)

// remoteError is an error of another node. It reads as it did there, and
// errors.Is and errors.As find in it what they would have found there.
type remoteError struct {
	text   string
	causes []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.causes }

// error appends an error: what errors.Is and errors.As would find of package
// kv, and its text. One of which they would find nothing becomes kv.ErrInternal.
func (e *encoder) error(err error) {
	var quorum *kv.QuorumError
	var invalid *kv.InvalidError
	switch {
	case err == nil:
		e.u8(formNone)
	case errors.As(err, &quorum):
		e.u8(formQuorum)
		e.quorumError(quorum)
		e.wrapping(err, quorum)
	case errors.As(err, &invalid):
		e.u8(formInvalid)
		e.text(invalid.What)
		e.text(invalid.Problem)
		e.wrapping(err, invalid)
	case sentinelsOf(err) == 0:
		e.u8(formPlain)
		e.uvarint(sentinelsOf(kv.ErrInternal))
		e.text(kv.ErrInternal.Error() + ": " + err.Error())
	default:
		e.u8(formPlain)
		e.uvarint(sentinelsOf(err))
		e.text(err.Error())
	}
}

// wrapping appends what an error says beyond the typed one within it; nothing
// if it is that one.
func (e *encoder) wrapping(err, typed error) {
	e.bool(err != typed)
	if err != typed {
		e.uvarint(sentinelsOf(err))
		e.text(err.Error())
	}
}

func (d *decoder) error() error {
	switch form := d.u8(); form {
	case formNone:
		return nil
	case formPlain:
		return d.plainError()
	case formQuorum:
		return d.wrapping(d.quorumError())
	case formInvalid:
		return d.wrapping(&kv.InvalidError{What: d.text(), Problem: d.text()})
	default:
		d.fail("an error of form %d", form)
		return nil
	}
}

func (d *decoder) plainError() error {
	causes, text := d.sentinels(), d.text()
	if len(causes) == 1 && causes[0].Error() == text {
		return causes[0]
	}
	return &remoteError{text: text, causes: causes}
}

func (d *decoder) wrapping(typed error) error {
	if !d.bool() {
		return typed
	}
	causes := []error{typed}
	for _, s := range d.sentinels() {
		if !errors.Is(typed, s) {
			causes = append(causes, s)
		}
	}
	return &remoteError{text: d.text(), causes: causes}
}

// sentinelsOf is the set of sentinels that err is, bit by bit.
func sentinelsOf(err error) (set uint64) {
	for i, s := range sentinels {
		if errors.Is(err, s) {
			set |= 1 << i
		}
	}
	return set
}

func (d *decoder) sentinels() (found []error) {
	set := d.uvarint()
	if set == 0 || set >= 1<<len(sentinels) {
		d.fail("%#x is no set of errors", set)
		return nil
	}
	for i, s := range sentinels {
		if set&(1<<i) != 0 {
			found = append(found, s)
		}
	}
	return found
}

func (e *encoder) quorumError(q *kv.QuorumError) {
	e.text(q.Op)
	e.text(q.Need)
	e.varint(int64(q.Want))
	e.varint(int64(q.Got))
	e.bool(q.Timeout)
	e.bool(q.InDoubt)
	e.items("failures", len(q.Failures), maxItem)
	for _, f := range q.Failures {
		e.position(f.Partition)
		e.string("node", f.Node, maxName)
		e.text(f.Why)
	}
}

func (d *decoder) quorumError() *kv.QuorumError {
	q := &kv.QuorumError{
		Op: d.text(), Need: d.text(),
		Want: int(d.varint()), Got: int(d.varint()),
		Timeout: d.bool(), InDoubt: d.bool(),
	}
	if n := d.items("failures", leastFailure, maxItem); n > 0 {
		q.Failures = make([]kv.Failure, n)
	}
	for i := range q.Failures {
		q.Failures[i] = kv.Failure{Partition: d.position(), Node: d.string("node", maxName), Why: d.text()}
	}
	return q
}

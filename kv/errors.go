package kv

import (
	"errors"
	"fmt"
	"strings"
)

// The errors that a caller branches on, with errors.Is.
var (
	ErrNotFound        = errors.New("not found")
	ErrTimeout         = errors.New("timeout")
	ErrOverload        = errors.New("overload")            // refused at the door; nothing was done
	ErrQuorum          = errors.New("quorum not reached")  // every QuorumError
	ErrInDoubt         = errors.New("in doubt")            // the write may or may not take effect
	ErrInvalid         = errors.New("invalid")             // every InvalidError
	ErrContext         = errors.New("invalid context")     // not a context, or of another key
	ErrTooManySiblings = errors.New("too many siblings")   // the write would pass MaxSiblings
	ErrExists          = errors.New("match found")         // IfNoneMatch: the key holds a value
	ErrModified        = errors.New("modified")            // IfNotModified: the key holds something that the context has not seen
	ErrBucketType      = errors.New("unknown bucket type") // no type of that name is active, as far as this node knows
	ErrClock           = errors.New("clock is off")        // no node with a clock to be trusted could order a last-write-wins write
	ErrTooLarge        = errors.New("object is too large") // the write would pass MaxObject
	ErrClosed          = errors.New("closed")              // the node is shutting down
	ErrInternal        = errors.New("internal error")      // a bug; the request ended, the node goes on
	ErrDataType        = errors.New("wrong data type")     // the bucket has no data type, or another one than the operation or value
	ErrPrecondition    = errors.New("precondition failed") // an operation removes what is not there
	ErrOverflow        = errors.New("counter overflow")    // an operation would take a counter out of 64 bits
)

// InvalidError reports an argument that cannot be meant, or is past a limit.
type InvalidError struct {
	What    string // "key", "W"
	Problem string // "cannot be zero-length", "is 4; there are 3 replicas"
}

func (e *InvalidError) Error() string { return e.What + " " + e.Problem }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// DataError says why an operation of a data type was refused, in Riak's words where
// Riak has them.
type DataError struct {
	Cause error // ErrDataType, ErrPrecondition or ErrOverflow
	Text  string
}

func (e *DataError) Error() string { return e.Text }

// Unwrap makes errors.Is find the Cause.
func (e *DataError) Unwrap() error { return e.Cause }

// Failure is a replica that did not grant a request, and why.
type Failure struct {
	Partition Partition
	Node      string
	Why       string
}

// QuorumError reports a request that too few replicas granted.
type QuorumError struct {
	Op       string // "put", "get", "delete", "update", "fetch", "keys"
	Need     string // the requirement that failed: "R", "PR", "W", "DW", "PW", "node_confirms"
	Want     int
	Got      int
	Failures []Failure // who did not grant it
	Timeout  bool      // the deadline came before the requirement was decided
	InDoubt  bool      // for a write: some replica has it or may have it, so it may still take effect
}

func (e *QuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s wants %d, got %d", e.Op, e.Need, e.Want, e.Got)
	if e.Timeout {
		b.WriteString(" before the timeout")
	}
	for i, f := range e.Failures {
		sep := ", "
		if i == 0 {
			sep = " ("
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, f.Node, f.Why)
	}
	if len(e.Failures) > 0 {
		b.WriteString(")")
	}
	switch {
	case e.InDoubt:
		b.WriteString("; the write may still take effect")
	case e.Op == "put" || e.Op == "delete" || e.Op == "update":
		b.WriteString("; nothing was written")
	}
	return b.String()
}

// Is matches ErrQuorum, and ErrTimeout and ErrInDoubt where they apply.
func (e *QuorumError) Is(target error) bool {
	return target == ErrQuorum || target == ErrTimeout && e.Timeout || target == ErrInDoubt && e.InDoubt
}

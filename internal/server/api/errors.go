package api

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Code names what went wrong, for a program to branch on.
type Code string

// The codes. Each but the last four stands for the error of package kv of that
// name. A change of the cluster that is refused has a code of its own, that of its
// tanodb.ClusterError.
const (
	CodeNotFound        Code = "not_found"
	CodeTimeout         Code = "timeout"
	CodeOverload        Code = "overload"
	CodeQuorum          Code = "quorum"
	CodeInDoubt         Code = "in_doubt"
	CodeInvalid         Code = "invalid"
	CodeContext         Code = "invalid_context"
	CodeTooManySiblings Code = "too_many_siblings"
	CodeTooLarge        Code = "too_large"
	CodeClosed          Code = "closed"
	CodeInternal        Code = "internal"
	CodeCanceled        Code = "canceled"
	CodeExists          Code = "match_found"
	CodeModified        Code = "modified"
	CodeBucketType      Code = "unknown_bucket_type"
	CodeClock           Code = "clock"
	CodeDataType        Code = "data_type"
	CodePrecondition    Code = "precondition"
	CodeOverflow        Code = "overflow"
	CodeUndefinedType   Code = "undefined_type" // a change of a bucket type that is not there
	CodeNoMajority      Code = "no_majority"    // the topology cannot change now
	CodeRequest         Code = "request"        // the HTTP request itself: its route, method or body
)

// sentinels pairs each code with its error. An error that matches several takes
// the first.
var sentinels = []struct {
	code Code
	err  error
}{
	{CodeNotFound, kv.ErrNotFound},
	{CodeQuorum, kv.ErrQuorum},
	{CodeInDoubt, kv.ErrInDoubt},
	{CodeTimeout, kv.ErrTimeout},
	{CodeTimeout, context.DeadlineExceeded},
	{CodeOverload, kv.ErrOverload},
	{CodeContext, kv.ErrContext},
	{CodeTooManySiblings, kv.ErrTooManySiblings},
	{CodeTooLarge, kv.ErrTooLarge},
	{CodeExists, kv.ErrExists},
	{CodeModified, kv.ErrModified},
	{CodeBucketType, kv.ErrBucketType},
	{CodeClock, kv.ErrClock},
	{CodeDataType, kv.ErrDataType},
	{CodePrecondition, kv.ErrPrecondition},
	{CodeOverflow, kv.ErrOverflow},
	{CodeInvalid, kv.ErrInvalid},
	{CodeClosed, kv.ErrClosed},
	{CodeCanceled, context.Canceled},
	{CodeInternal, kv.ErrInternal},
}

// CodeOf is the code of an error of package kv or of a tanodb.ClusterError, and
// CodeInternal for any other.
func CodeOf(err error) Code {
	var refused *tanodb.ClusterError
	if errors.As(err, &refused) && refused.Code != "" {
		return Code(refused.Code)
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	return CodeInternal
}

// NumberAfter is the number that follows these words in the text of an error; 0: there is
// none. Some errors tell their numbers only there, since they may have come from another
// node.
func NumberAfter(err error, words string) int {
	_, rest, _ := strings.Cut(err.Error(), words)
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0
	}
	return n
}

// Replicas is how many replicas a request has to do with, as an error says that asks for
// more of them; 0: it does not say.
func Replicas(err error) int {
	return cmp.Or(NumberAfter(err, "there are "), NumberAfter(err, "there is "), NumberAfter(err, "the bucket's "))
}

// Failure is a replica that did not grant a request, and why.
type Failure struct {
	Partition string `json:"partition"` // decimal position on the ring
	Node      string `json:"node"`
	Why       string `json:"why"`
}

// Error is the body of every status from 400 on.
type Error struct {
	Text     string    `json:"error"`
	Code     Code      `json:"code"`
	Op       string    `json:"op,omitempty"`   // of a quorum that was not reached, and so on down to Failures
	Need     string    `json:"need,omitempty"` // "R", "PR", "W", "DW", "PW", "node_confirms"
	Want     int       `json:"want,omitempty"`
	Got      *int      `json:"got,omitempty"`
	Failures []Failure `json:"failures,omitempty"`
	InDoubt  bool      `json:"in_doubt,omitempty"` // a write that may or may not take effect
	Timeout  bool      `json:"timeout,omitempty"`  // the deadline came first

	// How far the request came, where it came to asking replicas.

	Context    kv.Context `json:"context,omitempty"` // of a key that holds only a tombstone
	Partitions int        `json:"partitions,omitempty"`
	Replies    []Reply    `json:"replies"`
}

// NewError converts an error, with the context and the replies that came with it.
func NewError(err error, c kv.Context, replies []kv.Reply) Error {
	code := CodeOf(err)
	out := Error{
		Text:       err.Error(),
		Code:       code,
		InDoubt:    errors.Is(err, kv.ErrInDoubt),
		Timeout:    errors.Is(err, kv.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || code == CodeTimeout,
		Context:    c,
		Partitions: ringSize(replies),
		Replies:    Replies(replies),
	}
	var q *kv.QuorumError
	if errors.As(err, &q) {
		out.Op, out.Need, out.Want, out.Got = q.Op, q.Need, q.Want, &q.Got
		for _, f := range q.Failures {
			out.Failures = append(out.Failures, Failure{f.Partition.String(), f.Node, f.Why})
			out.Partitions = f.Partition.Of
		}
	}
	return out
}

// Err converts the error back: it matches the same errors of package kv, and a
// quorum that was not reached is a *kv.QuorumError again.
func (e Error) Err() error {
	if e.Code == CodeQuorum {
		return e.quorum()
	}
	for _, s := range sentinels {
		if s.code == e.Code {
			return &remote{text: e.Text, is: s.err, inDoubt: e.InDoubt, timeout: e.Timeout}
		}
	}
	return &remote{text: e.Text, inDoubt: e.InDoubt, timeout: e.Timeout}
}

func (e Error) quorum() error {
	q := &kv.QuorumError{Op: e.Op, Need: e.Need, Want: e.Want, Timeout: e.Timeout, InDoubt: e.InDoubt}
	if e.Got != nil {
		q.Got = *e.Got
	}
	for _, f := range e.Failures {
		p, err := ParsePartition(f.Partition, e.Partitions)
		if err != nil {
			return err
		}
		q.Failures = append(q.Failures, kv.Failure{Partition: p, Node: f.Node, Why: f.Why})
	}
	return q
}

// Standing is how many replicas are up, how many of them are primaries, and
// whether any was asked at all.
func Standing(replies []kv.Reply) (up, primaries int, asked bool) {
	asked = len(replies) == 0 // nothing is known: not that it could not have been
	for _, r := range replies {
		switch r.Result {
		case kv.Down:
			continue
		case kv.Pending:
		default:
			asked = true
		}
		up++
		if r.Role == kv.Primary {
			primaries++
		}
	}
	return up, primaries, asked
}

// remote is an error that a server has told of.
type remote struct {
	text    string
	is      error // of package kv or context; nil: none
	inDoubt bool
	timeout bool
}

func (e *remote) Error() string { return e.text }

// Is matches what the error matched on the server.
func (e *remote) Is(target error) bool {
	return target == e.is || target == kv.ErrInDoubt && e.inDoubt || target == kv.ErrTimeout && e.timeout
}

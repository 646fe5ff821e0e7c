package riakpb

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/kv"
)

// This file converts between the words of package kv and the messages of
// tano.proto: the server makes them, and our own client reads them.

// codes pairs the code of an error with the error of package kv. One that
// matches several has the first, and what else it says is in fields of its own.
var codes = []struct {
	code string
	err  error
}{
	{"not_found", kv.ErrNotFound},
	{"quorum", kv.ErrQuorum},
	{"overload", kv.ErrOverload},
	{"invalid_context", kv.ErrContext},
	{"too_many_siblings", kv.ErrTooManySiblings},
	{"too_large", kv.ErrTooLarge},
	{"match_found", kv.ErrExists},
	{"modified", kv.ErrModified},
	{"unknown_bucket_type", kv.ErrBucketType},
	{"clock", kv.ErrClock},
	{"invalid", kv.ErrInvalid},
	{"data_type", kv.ErrDataType},
	{"precondition", kv.ErrPrecondition},
	{"overflow", kv.ErrOverflow},
	{"closed", kv.ErrClosed},
	{"closed", context.Canceled}, // only the server's own end cancels a request
	{"timeout", kv.ErrTimeout},
	{"timeout", context.DeadlineExceeded},
	{"in_doubt", kv.ErrInDoubt},
	{"internal", kv.ErrInternal},
}

// Tell is the story of a request that ended with this error, or nil.
func Tell(replies []kv.Reply, c kv.Context, err error) *TanoTold {
	t := &TanoTold{Context: c}
	size := 0
	for i := range replies {
		r := &replies[i]
		size = r.Partition.Of
		t.Replies = append(t.Replies, tellReply(r))
	}
	var q *kv.QuorumError
	if errors.As(err, &q) && len(q.Failures) > 0 {
		size = q.Failures[0].Partition.Of
	}
	if size > 0 {
		t.Partitions = proto.Uint32(uint32(size))
	}
	if err != nil {
		t.Error = tellError(err)
	}
	return t
}

func tellReply(r *kv.Reply) *TanoReply {
	m := &TanoReply{
		Partition:    proto.Uint32(uint32(r.Partition.Index)),
		Node:         []byte(r.Node),
		Role:         []byte(r.Role),
		Result:       []byte(r.Result),
		ElapsedUsecs: proto.Uint64(uint64(max(r.Elapsed, 0).Microseconds())),
	}
	if r.Error != "" {
		m.Error = []byte(r.Error)
	}
	if r.Repaired {
		m.Repaired = proto.Bool(true)
	}
	return m
}

func tellError(err error) *TanoError {
	e := &TanoError{
		Code:    []byte("internal"),
		Text:    []byte(err.Error()),
		InDoubt: proto.Bool(errors.Is(err, kv.ErrInDoubt)),
		Timeout: proto.Bool(errors.Is(err, kv.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)),
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			e.Code = []byte(c.code)
			break
		}
	}
	var invalid *kv.InvalidError
	if errors.As(err, &invalid) {
		e.What, e.Problem = []byte(invalid.What), []byte(invalid.Problem)
	}
	var q *kv.QuorumError
	if errors.As(err, &q) {
		e.Op, e.Need = []byte(q.Op), []byte(q.Need)
		e.Want, e.Got = proto.Uint32(uint32(q.Want)), proto.Uint32(uint32(q.Got))
		for _, f := range q.Failures {
			e.Failures = append(e.Failures, &TanoFailure{
				Partition: proto.Uint32(uint32(f.Partition.Index)), Node: []byte(f.Node), Why: []byte(f.Why),
			})
		}
	}
	return e
}

// KVReplies are the replies of the story.
func (t *TanoTold) KVReplies() []kv.Reply {
	var all []kv.Reply
	for _, r := range t.GetReplies() {
		all = append(all, kv.Reply{
			Partition: kv.Partition{Index: int(r.GetPartition()), Of: int(t.GetPartitions())},
			Node:      string(r.Node),
			Role:      kv.Role(r.Role),
			Result:    kv.Result(r.Result),
			Elapsed:   time.Duration(r.GetElapsedUsecs()) * time.Microsecond,
			Error:     string(r.Error),
			Repaired:  r.GetRepaired(),
		})
	}
	return all
}

// Err is the error of the story: it matches what it matched on the server.
func (t *TanoTold) Err() error {
	e := t.GetError()
	if e == nil {
		return nil
	}
	switch {
	case e.Need != nil:
		return t.quorum()
	case e.What != nil:
		return &kv.InvalidError{What: string(e.What), Problem: string(e.Problem)}
	}
	out := &ToldError{Text: string(e.Text), Kind: kv.ErrInternal, InDoubt: e.GetInDoubt(), Timeout: e.GetTimeout()}
	for _, c := range codes {
		if c.code == string(e.Code) {
			out.Kind = c.err
			break
		}
	}
	return out
}

func (t *TanoTold) quorum() *kv.QuorumError {
	e := t.Error
	q := &kv.QuorumError{
		Op: string(e.Op), Need: string(e.Need), Want: int(e.GetWant()), Got: int(e.GetGot()),
		Timeout: e.GetTimeout(), InDoubt: e.GetInDoubt(),
	}
	for _, f := range e.Failures {
		p := kv.Partition{Index: int(f.GetPartition()), Of: int(t.GetPartitions())}
		q.Failures = append(q.Failures, kv.Failure{Partition: p, Node: string(f.Node), Why: string(f.Why)})
	}
	return q
}

// ToldError is an error that a server has told of.
type ToldError struct {
	Text    string
	Kind    error // of package kv
	InDoubt bool
	Timeout bool
}

func (e *ToldError) Error() string { return e.Text }

// Is matches what the error matched on the server.
func (e *ToldError) Is(target error) bool {
	return target == e.Kind || target == kv.ErrInDoubt && e.InDoubt || target == kv.ErrTimeout && e.Timeout
}

package riakpb

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

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

// AppendTold appends a field of this number that is a TanoTold: the story of a
// request that ended with this error, or nil. It is encoded by hand, since each
// answer to our own client has one: the fields stand as the generated code would
// put them.
func AppendTold(b []byte, num protowire.Number, replies []kv.Reply, c kv.Context, err error) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	at, size := len(b), 0
	for i := range replies {
		size = replies[i].Partition.Of
		b = appendReply(b, &replies[i])
	}
	q, _ := errors.AsType[*kv.QuorumError](err)
	if q != nil && len(q.Failures) > 0 {
		size = q.Failures[0].Partition.Of
	}
	if size > 0 {
		b = appendNumber(b, 2, uint64(size))
	}
	if c != nil {
		b = appendBytes(b, 3, c)
	}
	if err != nil {
		b = appendError(b, err, q)
	}
	return sized(b, at)
}

// AppendNext appends a field of this number that is a TanoTold which says where
// the next page begins.
func AppendNext(b []byte, num protowire.Number, token string) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	at := len(b)
	return sized(appendBytes(b, 4, token), at)
}

func appendReply(b []byte, r *kv.Reply) []byte {
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	at := len(b)
	b = appendNumber(b, 1, uint64(uint32(r.Partition.Index)))
	b = appendBytes(b, 2, r.Node)
	b = appendBytes(b, 3, r.Role)
	b = appendBytes(b, 4, r.Result)
	b = appendNumber(b, 5, uint64(max(r.Elapsed, 0).Microseconds()))
	if r.Error != "" {
		b = appendBytes(b, 6, r.Error)
	}
	if r.Repaired {
		b = appendNumber(b, 7, 1)
	}
	return sized(b, at)
}

// appendError appends what went wrong. Q is the quorum that err says was not
// reached, if it does.
func appendError(b []byte, err error, q *kv.QuorumError) []byte {
	b = protowire.AppendTag(b, 5, protowire.BytesType)
	at := len(b)
	b = appendBytes(b, 1, codeOf(err))
	b = appendBytes(b, 2, err.Error())
	b = appendNumber(b, 3, protowire.EncodeBool(errors.Is(err, kv.ErrInDoubt)))
	b = appendNumber(b, 4, protowire.EncodeBool(errors.Is(err, kv.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)))
	if q != nil {
		b = appendBytes(b, 5, q.Op)
		b = appendBytes(b, 6, q.Need)
		b = appendNumber(b, 7, uint64(uint32(q.Want)))
		b = appendNumber(b, 8, uint64(uint32(q.Got)))
		for i := range q.Failures {
			b = appendFailure(b, &q.Failures[i])
		}
	}
	if invalid, is := errors.AsType[*kv.InvalidError](err); is {
		b = appendBytes(b, 10, invalid.What)
		b = appendBytes(b, 11, invalid.Problem)
	}
	return sized(b, at)
}

func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}

func appendFailure(b []byte, f *kv.Failure) []byte {
	b = protowire.AppendTag(b, 9, protowire.BytesType)
	at := len(b)
	b = appendNumber(b, 1, uint64(uint32(f.Partition.Index)))
	b = appendBytes(b, 2, f.Node)
	b = appendBytes(b, 3, f.Why)
	return sized(b, at)
}

func appendBytes[T ~string | ~[]byte](b []byte, num protowire.Number, data T) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(data)))
	return append(b, data...)
}

func appendNumber(b []byte, num protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), n)
}

// sized puts the length of what stands in b from at on in front of it. To move a
// few bytes costs less than to measure a message before it is made.
func sized(b []byte, at int) []byte {
	n := len(b) - at
	b = protowire.AppendVarint(b, uint64(n)) // only to make room
	copy(b[len(b)-n:], b[at:at+n])
	protowire.AppendVarint(b[:at], uint64(n))
	return b
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

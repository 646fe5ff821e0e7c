package pb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// wireError is an error whose text is the answer, word by word.
type wireError string

func (e wireError) Error() string { return string(e) }

// The answers that clients know by their words.
const (
	errBucket       = wireError("Bucket cannot be zero-length")
	errKey          = wireError("Key cannot be zero-length")
	errType         = wireError("Type cannot be zero-length")
	errAsIs         = wireError("asis is not supported: a version is always made by the vnode that coordinates the write")
	errTombstone    = wireError("a value that is marked as deleted cannot be put: delete the key")
	errNoProps      = wireError("bucket properties are not supported by this server")
	errNoBuckets    = wireError("listing buckets is not supported by this server")
	errManyBuckets  = wireError("the buckets are too many for one answer; list them with stream")
	errNoData       = wireError("data types are not supported by this server")
	errNoCounter    = wireError("non-counter operation on default bucket")
	errNoIndexes    = wireError("secondary index queries are not supported by this server")
	errEquality     = wireError("Invalid equality query undefined")
	errNoResults    = wireError("Invalid \"max_results\". 0 is not a positive integer")
	errManyMatches  = wireError("the matches are too many for one answer; ask for them with stream or max_results")
	errReturnBody   = wireError("return_body is not supported: ask for the keys, and get their values")
	errCoverContext = wireError("cover_context is not supported: there are no coverage plans")
)

// forbidden is the answer to a list that is not allowed, in Riak's words.
func forbidden(job string) error {
	return wireError("Operation '{riak_kv," + job + "}' is not enabled")
}

// decodingError is the answer to a message that is none. The library begins its
// errors with its name and, by chance, one blank or another.
func decodingError(why string) error {
	return wireError("Message decoding error: " + strings.TrimLeft(strings.TrimPrefix(why, "proto:"), " \u00a0"))
}

// reasons are the answers to what fails in the store, first match first, as
// Riak prints them. What has numbers in it is made by reason.
var reasons = []struct {
	is   error
	text string
}{
	{kv.ErrTimeout, "timeout"},
	{context.DeadlineExceeded, "timeout"},
	{kv.ErrOverload, "overload"},
	{kv.ErrClosed, "shutdown"},
	{context.Canceled, "shutdown"}, // only this server's own end cancels a request
	{kv.ErrInDoubt, "timeout"},     // Riak's word for a write of which nothing is known
	{kv.ErrNotFound, "notfound"},
	{kv.ErrExists, "match_found"},
	{kv.ErrModified, "modified"},
}

// story is what the answer to an error needs beside it.
type story struct {
	bucketType string // that the request names
	data       bool   // it is about a data type, of which Riak has other words for an unknown type
	replies    []kv.Reply
	n          int        // the request's n_val; 0: it had none
	value      int        // bytes of the value that was to be written
	own        bool       // our own client asks
	context    kv.Context // that came with the error
}

// toldError is the answer to our own client: the same, and the error itself.
type toldError struct {
	wireError
	told told
}

// reason is the answer to an error of the store.
func reason(err error, s *story) error {
	text := wording(err, s)
	if s.own {
		return &toldError{text, told{s.replies, s.context, err}}
	}
	return text
}

// wording is an error in Riak's words.
func wording(err error, s *story) wireError {
	var q *kv.QuorumError
	if errors.As(err, &q) && !q.Timeout {
		return wireError(unsatisfied(q, s.replies))
	}
	var invalid *kv.InvalidError
	if errors.As(err, &invalid) {
		return wireError(violation(invalid, s))
	}
	switch {
	case errors.Is(err, kv.ErrTooManySiblings):
		return wireError(fmt.Sprintf("{too_many_siblings,%d}", max(kv.MaxSiblings+1, api.NumberAfter(err, "would hold "))))
	case errors.Is(err, kv.ErrTooLarge):
		return wireError(tooLarge(int64(max(kv.MaxObject+1, s.value, api.NumberAfter(err, "would be ")))))
	case errors.Is(err, kv.ErrBucketType) && s.data:
		return wireError("Error no bucket type `" + erlang(s.bucketType) + "`")
	case errors.Is(err, kv.ErrBucketType):
		return wireError("No bucket-type named '" + s.bucketType + "'")
	case errors.Is(err, kv.ErrContext):
		return wireError("Invalid vclock: " + err.Error())
	}
	for _, r := range reasons {
		if errors.Is(err, r.is) {
			return wireError(r.text)
		}
	}
	return wireError(err.Error())
}

// unsatisfied is a quorum that was not reached, in Riak's words. One that could
// not have been, since too many nodes are down, has others.
func unsatisfied(q *kv.QuorumError, replies []kv.Reply) string {
	up, primaries, asked := api.Standing(replies)
	got := q.Got
	switch q.Need {
	case "R", "W":
		if !asked {
			return fmt.Sprintf("{insufficient_vnodes,%d,need,%d}", up, q.Want)
		}
	case "PR", "PW":
		if !asked {
			got = primaries
		}
	case "node_confirms":
		if q.Op == "get" {
			return fmt.Sprintf("{insufficient_nodes,%d,need,%d}", q.Got, q.Want)
		}
		return fmt.Sprintf("{node_confirms_val_unsatisfied,%d,%d}", q.Want, q.Got)
	}
	return fmt.Sprintf("{%s_val_unsatisfied,%d,%d}", strings.ToLower(q.Need), q.Want, got)
}

// violation is an argument that cannot be meant, in Riak's words where it has
// some.
func violation(e *kv.InvalidError, s *story) string {
	switch e.What {
	case "N":
		return fmt.Sprintf("{n_val_violation,%d}", s.n)
	case "R", "PR", "W", "DW", "PW", "node_confirms":
		return fmt.Sprintf("{n_val_violation,%d}", api.Replicas(e))
	case "value":
		return tooLarge(int64(s.value))
	}
	return e.Error()
}

// tooLarge is the answer to an object, or a frame, of n bytes.
func tooLarge(n int64) string { return fmt.Sprintf("{too_large,%d}", n) }

// erlang is a binary as Erlang prints it.
func erlang(s string) string {
	var b strings.Builder
	b.WriteString("<<")
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			for j := range len(s) {
				if j > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strconv.Itoa(int(s[j])))
			}
			return b.String() + ">>"
		}
	}
	if s != "" {
		b.WriteString(`"` + s + `"`)
	}
	return b.String() + ">>"
}

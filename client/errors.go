package client

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// refused reads the answer to a request that failed. A node tells its errors
// whole; what only the connection knows, such as that it is one too many, comes
// as Riak's words alone.
func (q *request) refused(body []byte) (*riakpb.TanoTold, error) {
	var e riakpb.RpbErrorResp
	if err := proto.Unmarshal(body, &e); err != nil {
		return nil, q.doubtful(fmt.Errorf("an error that cannot be read: %w: %w", kv.ErrInternal, err))
	}
	if err := e.Told.Err(); err != nil {
		return e.Told, err
	}
	return nil, q.worded(string(e.Errmsg))
}

// refusal is what a node says before it was asked for anything.
func refusal(body []byte) error {
	_, err := (&request{op: "connect"}).refused(body)
	return err
}

// doubtful is the error of a write that may have been made.
func (q *request) doubtful(err error) error {
	if q.write {
		return fmt.Errorf("%w: %w", kv.ErrInDoubt, err)
	}
	return err
}

// words are what Riak's words stand for. A write that ends with those of the
// second list may have been made.
var (
	words = []struct {
		is   string
		kind error
	}{
		{"overload", kv.ErrOverload},
		{"notfound", kv.ErrNotFound},
		{"match_found", kv.ErrExists},
		{"modified", kv.ErrModified},
	}
	doubtfulWords = []struct {
		is   string
		kind error
	}{
		{"timeout", kv.ErrTimeout},
		{"shutdown", kv.ErrClosed},
	}
	beginnings = []struct {
		with string
		kind error
	}{
		{"{n_val_violation,", kv.ErrInvalid},
		{"{too_large,", kv.ErrTooLarge},
		{"{too_many_siblings,", kv.ErrTooManySiblings},
		{"No bucket-type named", kv.ErrBucketType},
		{"Invalid vclock", kv.ErrContext},
		{"Message decoding error", kv.ErrInvalid},
		{"Unknown message code", kv.ErrInvalid},
		{"Unknown field type", kv.ErrInvalid},
		{"Could not parse field", kv.ErrInvalid},
		{"Bucket cannot be", kv.ErrInvalid},
		{"data types are not supported", kv.ErrInvalid},
		{"Permission denied", ErrPermission},
		{"Security is ", ErrLogin}, // enabled, or not set up yet
		{"Authentication failed", ErrLogin},
	}
)

// worded is the error that has only these words.
func (q *request) worded(text string) error {
	for _, w := range words {
		if text == w.is {
			return w.kind
		}
	}
	for _, w := range doubtfulWords {
		if text == w.is {
			return q.doubtful(w.kind)
		}
	}
	for _, b := range beginnings {
		if strings.HasPrefix(text, b.with) {
			return fmt.Errorf("%w: %s", b.kind, text)
		}
	}
	if unmet := q.unsatisfied(text); unmet != nil {
		return unmet
	}
	return q.doubtful(fmt.Errorf("%w: %s", kv.ErrInternal, text))
}

// unsatisfied is a quorum that was not reached; nil: the words are others. Those
// of vnodes that are too few say that nobody was asked.
func (q *request) unsatisfied(text string) error {
	e := &kv.QuorumError{Op: q.op}
	var err error
	if _, err = fmt.Sscanf(text, "{insufficient_vnodes,%d,need,%d}", &e.Got, &e.Want); err == nil {
		e.Need = "R"
		if q.write {
			e.Need = "W"
		}
		return e
	}
	need, numbers, found := strings.Cut(strings.TrimPrefix(text, "{"), "_val_unsatisfied,")
	if !found {
		return nil
	}
	if _, err = fmt.Sscanf(numbers, "%d,%d}", &e.Want, &e.Got); err != nil {
		return nil
	}
	e.Need, e.InDoubt = need, q.write
	if need != "node_confirms" {
		e.Need = strings.ToUpper(need)
	}
	return e
}

// isLost reports whether an error is that of a request without an answer.
func isLost(err error) bool {
	var l *lost
	return errors.As(err, &l)
}

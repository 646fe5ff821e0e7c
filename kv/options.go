package kv

import (
	"context"
	"iter"
	"strconv"
	"time"
)

// Quorum is how many replicas a requirement asks for: a number from 1 to N, or
// one of the words below. The zero value asks for the bucket's default.
type Quorum int

// The words for a Quorum.
const (
	Default  Quorum = 0
	None     Quorum = -1 // the requirement does not hold, whatever the default says
	One      Quorum = -2
	Majority Quorum = -3 // N/2+1; Riak's word is "quorum"
	All      Quorum = -4
)

// String is the number or word as ParseQuorum reads it.
func (q Quorum) String() string {
	switch q {
	case Default:
		return "default"
	case None:
		return "0"
	case One:
		return "one"
	case Majority:
		return "quorum"
	case All:
		return "all"
	}
	return strconv.Itoa(int(q))
}

// ParseQuorum reads a number, or one of Riak's words "one", "quorum", "all" and
// "default". Whether a number fits N is checked with the request.
func ParseQuorum(s string) (Quorum, error) {
	switch s {
	case "default":
		return Default, nil
	case "one":
		return One, nil
	case "quorum":
		return Majority, nil
	case "all":
		return All, nil
	case "0":
		return None, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, &InvalidError{What: "quorum " + strconv.Quote(s), Problem: "must be a number or one of one, quorum, all, default"}
	}
	return Quorum(n), nil
}

// Toggle is a boolean option that may also be left to the bucket's default.
type Toggle int8

// The values of a Toggle.
const (
	Unset Toggle = iota
	On
	Off
)

// Or is the toggle's value, or def if it is unset.
func (t Toggle) Or(def bool) bool {
	switch t {
	case On:
		return true
	case Off:
		return false
	}
	return def
}

// ReadOptions are the options of a Get. The zero value reads as the bucket says.
type ReadOptions struct {
	N            int           // ask only this many replicas of the bucket's N; 0: all of them
	R            Quorum        // replicas that must answer; default: majority
	PR           Quorum        // primaries among them; default: none
	NodeConfirms int           // distinct nodes among them; 0: the bucket's default, none
	NotFoundOK   Toggle        // a replica without the key counts towards R; default: On
	BasicQuorum  Toggle        // with NotFoundOK Off, give up after a majority of refusals; default: Off
	SloppyQuorum Toggle        // where a primary cannot answer, ask another node that stands in for it; Off: ask primaries only; default: On
	Head         bool          // everything but the values' Data
	Tombstones   bool          // return tombstones that are siblings of live values, with Deleted set
	Timeout      time.Duration // for the whole request; 0: DefaultTimeout. The context's deadline holds as well
	Linger       time.Duration // once the request has succeeded, wait up to this long for the other replies, to show them; 0: answer at once; at most MaxLinger
}

// WriteOptions are the options of a Put and a Delete. The zero value writes as
// the bucket says.
type WriteOptions struct {
	Context       Context       // what this write replaces; empty: nothing
	IfNoneMatch   bool          // of a Put: only if the key holds no live value; else ErrExists
	IfNotModified bool          // only if the key holds nothing that Context has not seen; else ErrModified, or of a Put ErrNotFound if it holds no value. Like IfNoneMatch it is decided where the version is made: see docs/requests.md for what that is worth
	N             int           // write only this many replicas of the bucket's N; 0: all of them
	W             Quorum        // replicas that must have stored it; default: majority
	DW            Quorum        // replicas that must have stored it durably, at least 1; default: what W asks for, since every confirmation is as durable as its node promises
	PW            Quorum        // primaries among those that stored it; default: none
	R             Quorum        // for the read of a Delete without a Context; default: majority
	PR            Quorum        // the same; default: none
	NodeConfirms  int           // distinct nodes that must have stored it; 0: the bucket's default, none
	SloppyQuorum  Toggle        // where a primary cannot store it, another node stands in until it can; Off: write to primaries only; default: On
	ReturnBody    bool          // return what the key holds after the write
	Timeout       time.Duration // for the whole request; 0: DefaultTimeout. The context's deadline holds as well
	Linger        time.Duration // once the request has succeeded, wait up to this long for the other replies, to show them; 0: answer at once; at most MaxLinger
	RequestID     RequestID     // names this write; zero: a random one. A write repeated with its id is shown once
}

// RequestID names a write.
type RequestID [16]byte

// ListOptions are the options of Keys.
type ListOptions struct {
	Token   string        // where to go on: KeyPage.Next; empty: the start
	Limit   int           // keys in a page at most; 0: DefaultPage; MaxPage at most
	Timeout time.Duration // for the page; 0: DefaultTimeout. The context's deadline holds as well
}

// AllKeys lists a bucket, page after page. It stops at the first error, which
// it yields.
func AllKeys(ctx context.Context, s Store, b Bucket, o ListOptions) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			page, err := s.Keys(ctx, b, o)
			for _, k := range page.Keys {
				if !yield(k, nil) {
					return
				}
			}
			if err != nil {
				yield("", err)
				return
			}
			if page.Next == "" {
				return
			}
			o.Token = page.Next
		}
	}
}

package crdt

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The errors that callers branch on, for errors.Is.
var (
	// ErrSeen marks an operation whose dot is not new; see State.Apply.
	ErrSeen = errors.New("crdt: the dot of the operation was seen before")

	// ErrOverflow marks an increment that would take a counter out of 64 bits.
	ErrOverflow = errors.New("crdt: the counter would leave 64 bits")

	// ErrCorrupt marks bytes that no encoder has written: every CorruptError.
	ErrCorrupt = errors.New("crdt: corrupt")

	// ErrVersion marks bytes of a format that this build does not know.
	ErrVersion = errors.New("crdt: unknown format")
)

// KindError says that an operation, or the other state of a merge, is of
// another kind than the state.
type KindError struct {
	Op, Type Kind
	Merge    bool // Op is the kind of a state
}

// Error has Riak's words for an operation, with its two spaces.
func (e *KindError) Error() string {
	switch {
	case e.Merge:
		return fmt.Sprintf("crdt: a %s and a %s cannot be merged", e.Op, e.Type)
	case e.Op == 0:
		return fmt.Sprintf("`%s` is not a supported type", e.Type)
	}
	return fmt.Sprintf("Operation type is `%s` but  bucket type is `%s`.", e.Op, e.Type)
}

func kindError(op Op, want Kind) error {
	if op == nil {
		return &KindError{Type: want}
	}
	return &KindError{Op: op.Kind(), Type: want}
}

// LimitError says that an operation, or what it would make, is too large.
type LimitError struct {
	What     string
	Got, Max int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("crdt: %s: %d; the limit is %d", e.What, e.Got, e.Max)
}

// PreconditionError says that what is to be removed is not here, and that the
// client has not said what it had read.
type PreconditionError struct {
	Elem  []byte // the element of a set
	Field *Field // the field of a map; nil: it is an element
}

// Error is Riak's term.
func (e *PreconditionError) Error() string {
	what := erlang(e.Elem)
	if e.Field != nil {
		what = "{" + erlang([]byte(e.Field.Name)) + "," + module(e.Field.Kind) + "}"
	}
	return "{precondition,{not_present," + what + "}}"
}

// module is the name by which Riak's errors call the kind of a field.
func module(k Kind) string {
	switch k {
	case Counter:
		return "riak_dt_emcntr"
	case Set:
		return "riak_dt_orswot"
	case Register:
		return "riak_dt_lwwreg"
	case Flag:
		return "riak_dt_od_flag"
	case Map:
		return "riak_dt_map"
	}
	return k.String()
}

const maxShown = 256 // bytes of an element or a name in an error

// erlang is the term of a binary: <<"text">>, or <<1,2,3>> where it is not
// printable.
func erlang(b []byte) string {
	rest := ""
	if len(b) > maxShown {
		b, rest = b[:maxShown], "..."
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return "<<" + numbers(b) + rest + ">>"
		}
	}
	if len(b) == 0 {
		return "<<>>"
	}
	return `<<"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(b)) + `"` + rest + ">>"
}

func numbers(b []byte) string {
	all := make([]string, len(b))
	for i, c := range b {
		all[i] = strconv.Itoa(int(c))
	}
	return strings.Join(all, ",")
}

// CorruptError says what is wrong with the bytes of a state or an operation,
// and where.
type CorruptError struct {
	Part    string // "state" or "operation"
	Offset  int    // in bytes
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("crdt: corrupt %s at byte %d: %s", e.Part, e.Offset, e.Problem)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

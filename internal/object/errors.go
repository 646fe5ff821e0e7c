package object

import (
	"errors"
	"fmt"
)

// The errors of decoding, for errors.Is. Those of contexts are kv.ErrContext.
var (
	// ErrCorrupt marks bytes that no encoder has written: every CorruptError.
	ErrCorrupt = errors.New("object: corrupt")

	// ErrVersion marks bytes of a format that this build does not know. They
	// may be whole.
	ErrVersion = errors.New("object: unknown format")
)

// CorruptError says what is wrong with the bytes of an object, and where.
type CorruptError struct {
	Part    string // "object", "head", "bodies", "body" or "context"
	Offset  int    // in bytes, from the start of what was decoded
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("object: corrupt %s at byte %d: %s", e.Part, e.Offset, e.Problem)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// unknown reports a version or a flag of a later format.
func unknown(part, what string, got byte) error {
	return fmt.Errorf("%w: the %s has %s %#02x", ErrVersion, part, what, got)
}

package pb

import (
	"time"

	"github.com/tanodb/tanodb/kv"
)

// The options of messages that the generated code decodes.

// optional is a quorum that may not be given.
func optional(n *uint32) kv.Quorum {
	if n == nil {
		return kv.Default
	}
	return quorum(*n)
}

// toggle is a boolean that may not be given.
func toggle(b *bool) kv.Toggle {
	switch {
	case b == nil:
		return kv.Unset
	case *b:
		return kv.On
	}
	return kv.Off
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

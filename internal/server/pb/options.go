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

// asked adds to the options of a write what only our own client can ask for.
func asked(o *kv.WriteOptions, a *ask) error {
	if !a.own {
		return nil
	}
	if copy(o.RequestID[:], a.requestID) != len(a.requestID) {
		return decodingError("the request id is too long")
	}
	o.Linger = milliseconds(a.linger)
	if a.confirmed {
		o.NodeConfirms = int(min(a.confirms, maxQuorum))
	}
	o.IfNotModified = o.IfNotModified || a.ifNotModified
	o.ReturnBody = o.ReturnBody || a.returnBody
	return nil
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

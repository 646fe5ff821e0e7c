package pb

import (
	"time"

	"github.com/tanodb/tanodb/internal/server/riakpb"
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
func asked(o *kv.WriteOptions, a *riakpb.TanoAsk) error {
	if a == nil {
		return nil
	}
	if a.RequestId != nil && copy(o.RequestID[:], a.RequestId) != len(a.RequestId) {
		return decodingError("the request id is too long")
	}
	o.Linger = milliseconds(a.GetLinger())
	if a.NodeConfirms != nil {
		o.NodeConfirms = int(min(a.GetNodeConfirms(), maxQuorum))
	}
	o.IfNotModified = o.IfNotModified || a.GetIfNotModified()
	o.ReturnBody = o.ReturnBody || a.GetReturnBody()
	return nil
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

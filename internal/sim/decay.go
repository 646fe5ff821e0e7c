package sim

import (
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// sweepLimit is how many objects a vnode looks at in one turn.
const sweepLimit = 3

// sweep lets the node's vnodes give back the bytes of what has expired.
func (n *node) sweep() {
	before := n.wall().Add(-n.s.weather.Grace).UnixMilli()
	due, err := vnode.Due(n.disk.mem, before)
	if err != nil || n.s.stopped || n.closing {
		return // the engine broke and the node is about to stop, or all is to be at rest
	}
	for _, p := range due {
		n.local(p, n.state.Epoch(), &vnode.Sweep{Before: before, Limit: sweepLimit}, func(vnode.Message) {})
	}
}

// expired checks that a read shows nothing that has expired by the clock of the
// node that was asked.
func (s *Sim) expired(k kv.Key, values []kv.Value, wall time.Time) {
	for _, v := range values {
		if !v.Deleted && !v.Expires.IsZero() && v.Expires.UnixMilli() <= wall.UnixMilli() {
			s.fail("expired", k, "a read at %v shows a value that has expired at %v", wall, v.Expires)
			return
		}
	}
}

// swept checks that the bytes of a value have gone only when it has expired, as
// long as no clock is ahead by more than the grace.
func (v *invariants) swept(n *node, key kv.Key, old, head object.Object) {
	for _, was := range old.Siblings {
		for _, is := range head.Siblings {
			if is.Dot != was.Dot || was.Deleted || !is.Deleted {
				continue
			}
			n.s.count("swept")
			if n.s.fastest <= n.s.weather.Grace && epoch.Add(n.s.now).UnixMilli() < was.Expires {
				n.s.fail("swept", key, "%s gives back the bytes of %v, which expires only at %d", n.name, was.Dot, was.Expires)
				return
			}
		}
	}
}

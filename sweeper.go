package tanodb

import (
	"context"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

const (
	// expiryGrace is how long the bytes of an expired value stay, unseen. It is more
	// than the clocks of two nodes should differ, so that one whose clock is fast
	// takes nothing away that others still show.
	expiryGrace = 10 * time.Minute

	// sweepEvery is how often the node looks for values that have expired.
	sweepEvery = 10 * time.Second

	// sweepLimit is how many objects a vnode looks at in one turn, so that
	// requests do not wait for long.
	sweepLimit = 128
)

// sweeper gives the bytes of expired values back. It is a suture.Service.
type sweeper struct{ node *Node }

// Serve sweeps at intervals until the context ends.
func (s sweeper) Serve(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.node.sweep(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sweep sweeps all vnodes that have something to sweep.
func (n *Node) sweep(ctx context.Context) {
	before := n.o.Clock().Add(-expiryGrace).UnixMilli()
	due, err := vnode.Due(n.engine, before)
	if err != nil {
		n.log.Warn("values that have expired cannot be looked for", "node", n.self, "error", err)
		return
	}
	for _, p := range due {
		for n.sweepVnode(ctx, p, before) {
			continue
		}
	}
}

// sweepVnode gives a vnode one turn to sweep, and reports whether it wants another.
func (n *Node) sweepVnode(ctx context.Context, p ring.Partition, before int64) (more bool) {
	answered := make(chan vnode.Message, 1)
	n.vnodes.submit(command{to: p, msg: &vnode.Sweep{Before: before, Limit: sweepLimit}, epoch: n.state().Epoch(),
		reply: func(m vnode.Message) { answered <- m }})
	select {
	case m := <-answered:
		s, ok := m.(*vnode.Swept)
		if !ok {
			n.log.Warn("a vnode could not be swept; it is tried again", "node", n.self, "partition", int(p), "why", refusalText(m))
			return false
		}
		n.metrics.swept.Add(float64(s.Gone))
		return s.More
	case <-ctx.Done():
		return false
	}
}

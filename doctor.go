package tanodb

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// doctorEvery is how often the node asks its engine how it is.
const doctorEvery = 250 * time.Millisecond

// doctor lets the node step back while its disk does nothing for those who wait
// for it: what waits is answered, so that other nodes stand in, and what comes is
// refused at the door, until the disk is good again. It is a suture.Service.
type doctor struct{ node *Node }

// Serve looks after the engine until the context ends.
func (d doctor) Serve(ctx context.Context) error {
	tick := time.NewTicker(doctorEvery)
	defer tick.Stop()
	was := error(nil)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		reads, writes := d.node.trouble()
		switch now := errors.Join(reads, writes); {
		case was == nil && now != nil:
			d.node.log.Warn("this node steps back: others stand in for it", "node", d.node.self, "why", now)
			was = now
		case was != nil && now == nil:
			d.node.log.Info("this node serves again", "node", d.node.self)
			was = nil
		}
		if errors.Is(writes, storage.ErrStalled) {
			d.node.vnodes.stepBack(writes)
		}
		if reads != nil {
			d.node.reads.stepBack(reads)
		}
	}
}

// trouble is why nobody should wait for a read of the engine now, or for a write;
// nil: nothing.
func (n *Node) trouble() (reads, writes error) {
	if w, ok := n.engine.(storage.Watched); ok {
		return w.Trouble()
	}
	return nil, nil
}

// unwell is the refusal of a message that is not to wait for the engine; nil:
// it may.
func (n *Node) unwell(m vnode.Message) vnode.Message {
	_, writes := n.trouble()
	switch {
	case writes == nil:
		return nil
	case errors.Is(writes, storage.ErrFull):
		switch m.(type) {
		case *vnode.Coordinate, *vnode.Store, *vnode.Deliver, *vnode.Fill:
			return &vnode.Refusal{Code: vnode.CodeFull, Text: writes.Error()}
		}
		return nil // it gives space back, or writes nothing
	}
	return &vnode.Refusal{Code: vnode.CodeStorage, Text: writes.Error()}
}

// stepBack answers all that waits for the disk: what was not begun is refused, and
// of what was begun nobody knows what becomes of it.
func (h *host) stepBack(why error) {
	for _, w := range h.workers {
		w.mu.Lock()
		refused := slices.Clone(w.queue)
		for _, c := range refused {
			w.vnodes[c.to].queued--
		}
		clear(w.queue)
		w.queue, w.queued = w.queue[:0], 0
		var failed []command
		for _, u := range w.inflight {
			if !u.given {
				u.given = true
				failed = append(failed, u.cmds...)
			}
		}
		w.mu.Unlock()
		for _, c := range refused {
			c.answer(&vnode.Refusal{Code: vnode.CodeStorage, Text: why.Error()})
		}
		for _, c := range failed {
			c.answer(&vnode.Failure{Code: vnode.CodeStorage, Text: why.Error()})
		}
	}
}

// stepBack refuses the reads that wait.
func (r *readers) stepBack(why error) {
	for {
		select {
		case t, ok := <-r.queue:
			if !ok {
				return
			}
			t.reply(&vnode.Refusal{Code: vnode.CodeStorage, Text: why.Error()})
		default:
			return
		}
	}
}

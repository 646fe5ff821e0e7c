package tanodb

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// errOutdated is why this node has no connections for a moment.
var errOutdated = errors.New("the disk of this node is older than that, and it is being made safe")

// outdated is called when another node has heard this one have a newer epoch
// than it has. What it shows is durable, so its disk is an older one, or has lost
// what it had kept. Once it is safe, the answer is nil.
func (t *topology) outdated(by string, epoch uint64) error {
	t.mu.Lock()
	was := t.safety
	if was == trusted {
		t.safety = doubted
	}
	t.mu.Unlock()
	switch was {
	case mended:
		return nil
	case trusted:
		go t.order(context.Background(), func() { t.makeSafe(by, epoch) })
	}
	return errOutdated
}

// safety is what is done about a disk that is older than it was.
type safety int

const (
	trusted safety = iota // nobody has said that it is
	doubted               // the node adopts no newer topology, since then nobody could tell any more
	mended
)

// isDoubted reports whether the node is about to be made safe.
func (t *topology) isDoubted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.safety == doubted
}

func (t *topology) become(s safety) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.safety = s
}

// makeSafe lets an outdated node go on: it takes no part in the topology log until it
// has another number there, and its vnodes are repaired from their replicas. It
// runs between two events of the log.
func (t *topology) makeSafe(by string, epoch uint64) {
	t.keep.Lock()
	defer t.keep.Unlock()
	n, s := t.node, t.current.Load()
	n.log.Error("THE DISK OF THIS NODE IS OLDER THAN WHAT IT HAS SHOWN TO OTHERS, as when a backup was put in its place: "+
		"its vnodes are rebuilt from their replicas, and it takes no part in the topology log until the other voters have given it a new number",
		"node", n.self, "epoch", s.Epoch(), "had", epoch, "says", by)
	batch, lack, err := handoff.Outdated(n.engine, n.self, s, max(1, n.random()))
	if err == nil {
		err = t.keepNow(&batch)
	}
	if errors.Is(err, storage.ErrFull) {
		t.become(trusted) // it is tried again with the next connection
		return
	}
	if err == nil {
		err = t.reopen()
	}
	if err != nil {
		n.fail(fmt.Errorf("tanodb: the disk is older than what this node has shown to others, and that cannot be mended: %w", err))
		return
	}
	t.held = nil
	for _, p := range lack {
		n.lacking[p].Store(true)
	}
	n.metrics.notes.WithLabelValues("outdated_disk").Inc()
	t.become(mended)
	if err := n.movers.repair(context.Background(), lack); err != nil {
		n.log.Debug("the repair begins with the next start", "node", n.self, "error", err)
	}
}

// renumber asks another node to have this one's number in the log replaced by the
// one that it wants, and begins the log anew when that is done.
func (t *topology) renumber(s *membership.State, wanted uint64) {
	n := t.node
	me, _ := s.Member(n.self)
	if me.Raft == wanted {
		if err := t.reopen(); err != nil {
			n.fail(err)
		}
		return
	}
	peers := n.live.allUp()
	if len(peers) == 0 || time.Since(t.announced) < time.Second {
		return
	}
	t.announced = time.Now()
	t.renumbered++
	m := &transport.Propose{Command: membership.EncodeCommand(membership.Announce{
		Name: n.self, ID: n.home.nodeID(), Address: n.advertised(me.Address), Void: me.Raft, Raft: wanted,
	})}
	if _, err := crand.Read(m.ID[:]); err != nil {
		return
	}
	peer := peers[t.renumbered%len(peers)]
	n.network.Ask(peer, transport.Requests, transport.Frame{Msg: m}, time.Now().Add(changeTimeout/3), func(a vnode.Message, err error) {
		if p, ok := a.(*transport.Proposed); ok && err == nil && p.Code == "" {
			return
		}
		n.log.Debug("this node has no new number in the topology log yet", "node", n.self, "asked", peer, "answer", a, "error", err)
	})
}

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
	"github.com/tanodb/tanodb/kv"
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
	t.mu.Unlock()
	if was == mended {
		return nil
	}
	t.doubt(by, epoch)
	return errOutdated
}

// outlived is called when another node has met this one in a later life than the one that it
// is in. Nobody could tell any more what it has shown before, and what since. Its next life is
// later than that one.
func (t *topology) outlived(by string, life uint64) error {
	n := t.node
	err := fmt.Errorf("tanodb: node %s has met this node %s in a later life than this one: its disk is older than it was, "+
		"and its clock is, or was, wrong; see to the clock, which says %s, and start the node again",
		by, n.self, time.Now().UTC().Format(time.RFC3339))
	t.mu.Lock()
	known := t.met >= life
	t.met = max(t.met, life)
	t.mu.Unlock()
	if known {
		return err
	}
	go t.order(context.Background(), func() {
		t.keep.Lock()
		defer t.keep.Unlock()
		t.mu.Lock()
		latest := t.met
		t.mu.Unlock()
		var batch storage.Batch
		membership.KeepMet(&batch, latest)
		n.fail(errors.Join(err, t.keepNow(&batch)))
	})
	return err
}

// doubt has the node made safe, unless that is being done.
func (t *topology) doubt(by string, epoch uint64) {
	t.mu.Lock()
	was := t.safety
	t.safety = doubted
	t.mu.Unlock()
	if was != doubted {
		go t.order(context.Background(), func() { t.makeSafe(by, epoch) })
	}
}

// outOfDate reports whether the data of this node is older than the last reaping of a
// topology. Then it is made safe, and goes by that topology no sooner.
func (t *topology) outOfDate(s *membership.State, by string) bool {
	t.mu.Lock()
	old := s.OutOfDate(t.node.self, t.node.life, t.began)
	if old {
		t.eraseFor(s.LastReaping(t.node.self))
	}
	t.mu.Unlock()
	if old {
		t.doubt(by, s.Reaped())
	}
	return old
}

// eraseFor says for which reaping the data is to be erased, and in which life this node has taken part in
// that; 0: in none. The caller holds mu.
func (t *topology) eraseFor(reaped, partook uint64) {
	if reaped > t.erase {
		t.erase, t.partook = reaped, partook
	}
}

// reapedBefore is called when another node knows of a reaping whose mark this one has shown in
// another life than this, if ever. It is nil if the data of this node is not older than that.
func (t *topology) reapedBefore(by string, reaped, partook uint64) error {
	t.mu.Lock()
	old := t.began < reaped
	if old {
		t.eraseFor(reaped, partook)
	}
	t.mu.Unlock()
	if !old {
		return nil
	}
	t.doubt(by, reaped)
	return errOutdated
}

// meetAgain ends connections with nodes that have begun anew since they have shown the
// mark of a reaping that this one learns of now: their data may be older.
func (t *topology) meetAgain(s *membership.State) {
	if t.node.network == nil || s.Reaped() == t.current.Load().Reaped() {
		return
	}
	for _, m := range s.Members() {
		if _, life := s.LastReaping(m.Name); m.Name != t.node.self {
			t.node.network.MeetAgain(m.Name, life)
		}
	}
}

// wipe erases what other nodes hold as well, in the vnodes of this one, but for what these have
// made since this node has taken part in the reaping.
func (t *topology) wipe(s *membership.State, partook uint64) error {
	n := t.node
	n.wiping.Store(true)
	defer n.wiping.Store(false)
	steps, err := handoff.Erasure(n.engine, n.self, s, partook)
	if err != nil {
		return err
	}
	kept := 0
	for _, x := range steps {
		for more := true; more; {
			answered := make(chan vnode.Message, 1)
			n.vnodes.submit(command{to: x.Partition, msg: x.Msg, epoch: s.Epoch(), reply: func(m vnode.Message) { answered <- m }})
			select {
			case m := <-answered:
				if w, ok := m.(*vnode.Wiped); ok {
					kept += w.Kept
				}
				if x, more, err = x.Next(m); err != nil {
					return err
				}
			case <-n.gone:
				return kv.ErrClosed
			}
		}
	}
	n.log.Warn("what is older than a reaping is erased", "node", n.self, "kept", kept)
	return n.movers.renew()
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
	t.mu.Lock()
	erase, partook := t.erase, t.partook
	t.mu.Unlock()
	if erase > 0 {
		if err := t.wipe(s, partook); err != nil {
			n.log.Error("what is older than a reaping is not erased yet; this node has no connections before", "node", n.self, "error", err)
			t.become(trusted) // it is tried again with the next connection
			return
		}
		n.metrics.notes.WithLabelValues("outdated_erased").Inc()
		t.mu.Lock()
		t.began = max(t.began, erase)
		if t.erase == erase {
			t.erase, t.partook = 0, 0
		}
		t.mu.Unlock()
	}
	batch, lack, err := handoff.Outdated(n.engine, n.self, s, max(1, n.random()))
	if err == nil {
		membership.KeepLife(&batch, membership.Life{Number: n.life, Began: t.began})
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

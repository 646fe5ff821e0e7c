package sim

import (
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// image is a backup of a node's disk.
type image struct {
	mem   *storage.Memory
	times int // which directory it is of
}

// backUp takes an image of a node's disk. Where tombstones are reaped, most are kept until something
// was.
func (s *Sim) backUp() {
	n := s.anyNode()
	if s.weather.Reaps && n.image.mem != nil && n.image.times == n.times && !s.images.hit(0.1) {
		return
	}
	if n.running {
		n.image = image{n.disk.mem.Image(), n.times}
	}
}

// rewind puts an image of a node's disk in its place. That takes all away which has come to
// it since, so it happens only if the others hold that. Where there is a topology, somebody
// must be able to tell: all others know that the node was further, and none of them
// dies until it was told.
func (s *Sim) rewind() {
	victim := s.anyNode()
	if victim.image.mem == nil || victim.image.times != victim.times || s.rewound != nil || s.dead != nil {
		return
	}
	s.lose(func() bool { return s.rewindable(victim) }, func() {
		s.count("disk rewound")
		victim.crash("an image is put in the place of its disk", putBackFor)
		victim.disk.mem, victim.had, victim.shown = victim.image.mem.Image(), max(victim.shown, victim.state.Epoch()), 0
		s.inv.forget(victim)
		s.blurred()
		if s.weather.Topology {
			s.rewound = victim
		}
		if s.weather.Reaps {
			s.seclude(victim)
		}
	})
}

// putBackFor is how long a node is down whose disk is put back.
const putBackFor = 500 * time.Millisecond

// seclude keeps a node with an older disk from the others for a while, most times, in which clients may write
// to it. It may crash meanwhile, or when it meets them.
func (s *Sim) seclude(victim *node) {
	d := putBackFor
	if s.images.hit(0.7) {
		d += s.images.about(time.Second)
		for _, n := range s.nodes {
			if n != victim {
				s.net.cutOff(n, victim, d)
				s.net.cutOff(victim, n, d)
			}
		}
	}
	if s.images.hit(0.4) {
		s.after(putBackFor+s.images.upTo(d), func() {
			if s.rewound == victim && !s.healed {
				victim.crash("its disk is an older one", s.images.about(200*time.Millisecond))
			}
		})
	}
}

func (s *Sim) rewindable(victim *node) bool {
	if !victim.running || !s.isMember(victim) || s.rewound != nil || s.dead != nil || !s.covered(victim, everything) {
		return false
	}
	if !s.weather.Topology {
		return true
	}
	log, err := membership.OpenLog(membership.LogOptions{Self: victim.name}, victim.image.mem, nil)
	if err != nil {
		return false // it was about to join
	}
	if !slices.ContainsFunc(s.members(), func(n *node) bool { return n != victim && remembers(log.State(), n) }) {
		return false // all whom it would know have gone since: only an operator could bring it back
	}
	for _, n := range s.members() {
		if !n.running || n.closing || s.now < n.frozen {
			return false
		}
		if n != victim && n.topology.shownBy(victim, 0) <= log.State().Epoch() {
			return false
		}
		status := n.topology.log.Status()
		others := slices.DeleteFunc(slices.Clone(status.Voters), func(name string) bool { return name == victim.name || s.byName[name] == nil })
		if status.Changing || n.topology.log.Wanted() != 0 || len(others) <= len(status.Voters)/2 {
			return false // without its vote there would be no majority, until somebody recovers the topology by hand
		}
	}
	return true
}

// remembers reports whether a topology has the node as a member.
func remembers(s *membership.State, n *node) bool {
	m, ok := s.Member(n.name)
	return ok && m.Status != membership.StatusLeft && m.ID == n.id
}

// madeSafe says that a rewound disk does no harm any more.
func (s *Sim) madeSafe(n *node) {
	if s.rewound == n {
		s.rewound = nil
		s.wiped = s.now // until now it has gone by what was long ago
	}
}

// behind is a node whose disk was put back and that has not caught up with what it had; nil: there is none.
func (s *Sim) behind() *node {
	for _, n := range s.members() {
		if n == s.rewound || n.state != nil && n.state.Epoch() < n.had {
			return n
		}
	}
	return nil
}

// life is the number of a node's present life.
func (n *node) life() uint64 { return uint64(n.boot) }

// shownBy is the newest epoch that the node is known to have shown before a life
// of it; 0: before the next.
func (t *topology) shownBy(n *node, life uint64) uint64 {
	if l := t.lives[n.name]; l != nil {
		return l.Shown(life)
	}
	return 0
}

// meets says whether the node can have a connection with another one: not while
// that knows of a newer epoch in a former life than this one began with.
func (t *topology) meets(other *node) bool {
	if t.log == nil {
		return true
	}
	if t.outOfDate(other.state) {
		return false
	}
	if t.mended || other.topology.shownBy(t.n, t.n.life()) <= t.began {
		return true
	}
	t.doubt()
	return false
}

// doubt says that the node is to be made safe.
func (t *topology) doubt() {
	if !t.doubted {
		t.doubted = true
		t.n.later(0, t.makeSafe)
	}
}

// outOfDate reports whether the node's data is older than the last reaping of a
// topology. Then it is made safe.
func (t *topology) outOfDate(s *membership.State) bool {
	if !s.OutOfDate(t.n.name, t.n.life(), t.began) {
		return false
	}
	if reaped, partook := s.LastReaping(t.n.name); reaped > t.erase {
		t.erase, t.partook = reaped, partook
	}
	t.doubt()
	return true
}

// meetAgain ends connections with nodes that have begun a new life since they have shown
// the mark of a reaping that this one now knows of: they may be out of date.
func (t *topology) meetAgain(s *membership.State) {
	n := t.n
	if s.Reaped() == n.state.Reaped() {
		return
	}
	for _, other := range n.s.nodes {
		if _, life := s.LastReaping(other.name); n.knows(other) && life != other.life() {
			n.s.net.breakLink(n, other, "it has begun anew")
			n.s.net.breakLink(other, n, "it is told of a reaping")
		}
	}
}

// makeSafe lets a node go on whose disk is older than what it has shown.
func (t *topology) makeSafe() {
	n := t.n
	if erase := t.erase; erase > 0 && !planted.Is(planted.OutdatedMerged) {
		t.wipe(func() {
			n.s.count("a disk from before a reaping was erased")
			t.began = max(t.began, erase)
			if t.erase == erase {
				t.erase, t.partook = 0, 0
			}
			t.makeSafe()
		})
		return
	}
	if planted.Is(planted.OutdatedMerged) {
		t.began = max(t.began, t.erase)
		t.erase = 0
	}
	b, lack, err := handoff.Outdated(n.disk.mem, n.name, n.state, max(1, n.rnd.Uint64()))
	if err != nil {
		n.s.fail("log", noKey, "%s: %v", n.name, err)
		return
	}
	membership.KeepLife(&b, membership.Life{Number: n.life(), Began: t.began})
	seq, err := n.disk.apply(&b)
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	n.disk.whenDurable(seq, func(err error) {
		if err != nil {
			return
		}
		n.s.checkOutdated(n)
		n.s.count("an outdated disk was made safe")
		n.s.happening(n.s.now, n.name, "has an outdated disk, and is made safe")
		t.open()
		n.findLacking()
		t.doubted, t.mended = false, true
		n.s.madeSafe(n)
		n.mover.feed(handoff.Repair{Partitions: lack})
	})
}

// checkOutdated checks that a disk that was made safe brings nothing back that was reaped
// while it was away. A home that no other node has a place of is as it was.
func (s *Sim) checkOutdated(n *node) {
	_ = n.disk.mem.Scan([]byte{dataKind}, []byte{dataKind + 1}, func(key, value []byte) bool {
		_, home, k, ok := s.inv.object(key)
		if !ok || !slices.ContainsFunc(n.state.Ring().Primaries(home, n.state.Replicas()), func(r ring.Replica) bool { return r.Node != n.name }) {
			return true
		}
		if o, err := object.DecodeHead(value); err == nil && revives(o, object.Object{Clock: s.inv.gone[k]}) {
			s.fail("outdated", k, "%s was made safe and has %v, of which something was reaped", n.name, idsOf(o))
		}
		return true
	}) // an engine that broke is about to stop its node
}

// wipe erases what is on other nodes too, but for what its vnodes have made since it has taken part
// in the reaping. First the vnodes are marked as lacking it, so that they do not answer for it
// after a crash.
func (t *topology) wipe(done func()) {
	n := t.n
	n.wiping = true
	steps, err := handoff.Erasure(n.disk.mem, n.name, n.state, t.partook)
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	open := 1
	closed := func() {
		if open--; open == 0 {
			n.wiping = false
			n.mover.start(n) // what it has in hand is as old
			for _, other := range n.s.nodes {
				if n.detector.Up(other.name) {
					n.mover.feed(handoff.NodeUp{Node: other.name})
				}
			}
			done()
		}
	}
	if n.s.images.hit(0.4) {
		n.later(n.s.images.upTo(2*n.s.weather.Sync), func() {
			if n.wiping && !n.s.healed {
				n.s.count("crashed in the middle of an erasing")
				n.crash("in the middle of an erasing", n.s.images.about(200*time.Millisecond))
			}
		})
	}
	var take func(handoff.Step)
	take = func(x handoff.Step) {
		n.local(x.Partition, n.state.Epoch(), x.Msg, func(m vnode.Message) {
			if w, ok := m.(*vnode.Wiped); ok && w.Kept > 0 {
				n.s.count("what only an outdated disk had was kept")
			}
			next, more, _ := x.Next(m)
			if !more {
				closed()
				return
			}
			n.later(time.Millisecond, func() { take(next) }) // what was refused is tried again
		})
	}
	for _, x := range steps {
		open++
		take(x)
	}
	closed()
}

// renumber has the number in the log replaced by the one that the node wants, and
// begins the log anew when that is done.
func (t *topology) renumber(wanted uint64) {
	n := t.n
	me, _ := n.state.Member(n.name)
	if me.Raft == wanted {
		n.s.count("a void number was replaced")
		t.open()
		return
	}
	at := n.s.nodes[n.rnd.IntN(len(n.s.nodes))]
	if n.s.now-t.announced < time.Second || at == n || !at.running || at.closing || n.s.now < at.frozen || !n.s.net.current(n, at) {
		return
	}
	t.announced = n.s.now
	at.topology.propose(membership.Announce{Name: n.name, ID: n.id, Address: me.Address, Void: me.Raft, Raft: wanted}, nil)
}

package sim

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// scrubEvery is how often a node looks through its disk for what has rotted.
const scrubEvery = 500 * time.Millisecond

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
			if n.s.fastest-n.s.passed <= n.s.weather.Grace && epoch.Add(n.s.now+n.s.passed).UnixMilli() < was.Expires {
				n.s.fail("swept", key, "%s gives back the bytes of %v, which expires only at %d", n.name, was.Dot, was.Expires)
				return
			}
		}
	}
}

// allAgree compares the replicas of each key when all is at rest, but for the bytes of
// what has expired: a stand-in whose clock is ahead may have given them back, and
// handed its tombstone over to one replica after all were read. The next read
// makes them the same, byte for byte, and then they are compared again.
func (s *Sim) allAgree() bool {
	found := s.differing()
	s.found = append(s.found, found...)
	return len(found) == 0
}

// differing are the replicas of the first key that are not the same.
func (s *Sim) differing() []check.Violation {
	for _, k := range s.keys {
		copies := s.copies(k)
		for j := range copies {
			o, err := decode(copies[j].Bytes)
			if o, changed := o.Expire(math.MaxInt64); err == nil && changed {
				copies[j].Bytes = o.Encode()
			}
			if err == nil && s.weather.Reaps && !o.Live(math.MinInt64) {
				copies[j].Bytes = nil // it is being reaped, here sooner and there later
			}
		}
		if found := check.Converged(copies); len(found) > 0 {
			return found
		}
	}
	return nil
}

// hasty checks that a vnode which gives the bytes of a value back does so after the
// grace, by the clock of its node.
func (v *invariants) hasty(n *node, key kv.Key, orders []order, op *storage.Op, head object.Object, before func() []byte) {
	about := func(o order) bool {
		return slices.ContainsFunc(o.data, func(data []byte) bool { return bytes.Equal(data, op.Key) })
	}
	if len(orders) == 0 || slices.ContainsFunc(orders, about) {
		return // it was sent what takes the place
	}
	old, err := object.DecodeHead(before())
	if err != nil {
		return
	}
	for _, was := range old.Siblings {
		for _, is := range head.Siblings {
			if is.Dot == was.Dot && is.Deleted && !was.Deleted && was.Expires > n.wallMs()-n.s.weather.Grace.Milliseconds() {
				n.s.fail("hasty", key, "%s gives back the bytes of %v, which has not been expired for %v there", n.name, was.Dot, n.s.weather.Grace)
				return
			}
		}
	}
}

// rot flips a bit of an object on some disk. A write whose only copy rots is
// lost, and that is no bug; so it happens only to what other primaries hold as
// well, durably, and while no data is on its way to another place.
func (s *Sim) rot() {
	n := s.anyNode()
	var held [][]byte
	err := n.disk.mem.Scan([]byte{dataKind}, []byte{dataKind + 1}, func(key, _ []byte) bool {
		held = append(held, bytes.Clone(key))
		return true
	})
	if err != nil || len(held) == 0 || !n.running || s.changing() != "" || s.anyLacks() {
		return
	}
	data := held[s.chaos.IntN(len(held))]
	p, home, k, _ := s.inv.object(data)
	if !s.isPlace(n, p, home) || !s.spared(n, p, k, s.inv.latest(n, data).head) {
		return
	}
	s.count("an object has rotted")
	s.wiped = s.now
	if s.inv.rot[n] == nil {
		s.inv.rot[n] = make(map[string]object.Vector)
	}
	s.inv.rot[n][string(data)] = s.inv.latest(n, data).head.Clock
	n.disk.mem.Damage(data, s.chaos.IntN(1<<20))
	delete(s.inv.nodes[n], string(data))
	s.happening(s.now, n.name, fmt.Sprintf("has an object that rots: %v in vnode %d", k, p))
}

// rotted checks what takes the place of an object that has rotted: all that it was,
// or the vnode lacks data from then on.
func (v *invariants) rotted(n *node, p ring.Partition, key kv.Key, op *storage.Op, head object.Object, b *storage.Batch) {
	was, ok := v.rot[n][string(op.Key)]
	if !ok {
		return
	}
	enc, err := n.disk.mem.Get(op.Key)
	if err != nil || object.Check(enc) == nil || head.Clock.Descends(was) || n.lacking[p] {
		return
	}
	n.s.count("something less has taken the place of what had rotted")
	marked := slices.ContainsFunc(b.Ops, func(o storage.Op) bool { return len(o.Key) == 4 && o.Key[0] == 3 && o.Key[3] == 'L' && !o.Delete })
	if !marked {
		n.s.fail("rot", key, "%s/%d puts %v in the place of %v, which has rotted, and goes on as if it had all", n.name, p, head.Clock, was)
	}
}

// letGo checks that a tombstone which goes since it has rotted has done so.
func (v *invariants) letGo(n *node, p ring.Partition, key kv.Key, op *storage.Op, stored []byte) {
	if object.Check(stored) == nil {
		n.s.fail("rot", key, "%s/%d lets go of an object that can be read", n.name, p)
		return
	}
	n.s.count("a rotten tombstone has gone")
	v.add(n, op.Key, version{seq: n.disk.mem.Applied() + 1})
}

// spoilt reports whether a vnode held all that is meant until it rotted there, and has
// not been given it again: others hold it, and will.
func (v *invariants) spoilt(n *node, p ring.Partition, data []byte, clock object.Vector) bool {
	was, ok := v.rot[n][string(data)]
	if !ok || !was.Descends(clock) {
		return false
	}
	lacks, err := vnode.Lacking(n.disk.mem, p)
	if lacks || err != nil {
		return lacks
	}
	enc, err := n.disk.mem.Get(data)
	return err == nil && object.Check(enc) != nil
}

// spared reports whether the other primaries of a key hold all of an object,
// durably.
func (s *Sim) spared(n *node, p ring.Partition, k kv.Key, head object.Object) bool {
	if len(head.Clock) == 0 {
		return false // it has rotted already
	}
	var others object.Vector
	for _, r := range s.primaries(k) {
		if r.Node != n.name || r.Partition != p {
			others = others.Join(s.inv.durable(s.byName[r.Node], vnode.DataKey(r.Partition, s.home(k), k)).Clock)
		}
	}
	return others.Descends(head.Clock)
}

// scrub has the node's vnodes rebuilt in which something has rotted.
func (n *node) scrub() {
	held, err := vnode.Held(n.disk.mem)
	if err != nil || n.closing {
		return // the engine broke and the node is about to stop
	}
	for _, p := range held {
		if n.lacking[p] {
			continue // it is being rebuilt
		}
		got, err := vnode.Scrub(n.disk.mem, p, nil, 1<<30)
		if err != nil || len(got.Damage) == 0 {
			continue
		}
		n.s.count("rot was found")
		lost := &vnode.SetLacking{On: true}
		for _, d := range got.Damage {
			lost.Rotten = append(lost.Rotten, d.At)
		}
		n.local(p, n.state.Epoch(), lost, func(vnode.Message) {
			n.mover.feed(handoff.Repair{Partitions: []ring.Partition{p}})
		})
	}
}

// rotten names something that has rotted where it should be; empty: there is
// nothing of the kind.
func (s *Sim) rotten() (what string) {
	if s.weather.RotEvery == 0 {
		return ""
	}
	for _, k := range s.keys {
		for _, r := range s.primaries(k) {
			if b := s.raw(s.byName[r.Node], r, k); b != nil && object.Check(b) != nil {
				return fmt.Sprintf("%v has rotted at %s/%d", k, r.Node, r.Partition)
			}
		}
	}
	return ""
}

package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/reap"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// reaper runs a node's reaping. In a run without it does nothing.
type reaper struct {
	n        *node
	machine  *reap.Reaper // nil: nothing is reaped
	events   []reap.Event
	stepping bool
	wakes    int                       // so far; only the last one counts
	strayed  map[ring.Partition]uint64 // by home, how often something of it was stored where it should not be
	lost     uint64                    // how often a vnode has lost something
}

// reapWithin is how long a question of reaping waits for its answer.
const reapWithin = 2 * time.Second

// start begins with nothing in hand.
func (r *reaper) start(n *node) {
	*r = reaper{n: n, strayed: make(map[ring.Partition]uint64)}
	w := &n.s.weather
	if !w.Reaps {
		return
	}
	r.machine = reap.New(n.name, reap.Limits{
		Items: w.ReapItems, PageItems: w.ReapItems, Every: 300 * time.Millisecond, Pause: 100 * time.Millisecond, AskTimeout: reapWithin, MarkWithin: 10 * time.Second,
	})
	r.adopted()
}

// adopted says that the node has a newer topology.
func (r *reaper) adopted() { r.feed(reap.Adopted{State: r.n.state}) }

// sighted says that a node has come up or gone down.
func (r *reaper) sighted(c membership.Sighting) {
	if c.Up {
		r.feed(reap.NodeUp{Node: c.Node})
		return
	}
	r.feed(reap.NodeDown{Node: c.Node})
}

// feed gives the machine an event, and does what it wants done.
func (r *reaper) feed(ev reap.Event) {
	if r.machine == nil {
		return
	}
	r.events = append(r.events, ev)
	if r.stepping {
		return
	}
	r.stepping = true
	boot := r.n.boot
	for len(r.events) > 0 && r.n.boot == boot && !r.n.closing {
		ev := r.events[0]
		r.events = r.events[1:]
		for _, e := range r.machine.Step(r.n.s.now, r.n.wallMs(), ev, nil) {
			r.perform(e)
		}
	}
	r.stepping = false
}

func (r *reaper) perform(e reap.Effect) {
	n := r.n
	switch e := e.(type) {
	case reap.Ask:
		n.s.number(uint64(e.I))
		f := transport.Frame{Epoch: n.state.Epoch(), To: e.To, Msg: e.Msg}
		n.question(n.s.byName[e.Node], reapWithin, f, func(msg vnode.Message, err error) {
			if err != nil {
				r.feed(reap.Lost{I: e.I, Why: err.Error()})
				return
			}
			r.feed(reap.Replied{I: e.I, Msg: msg})
		})
	case reap.Do:
		reply := func(msg vnode.Message) { r.feed(reap.Replied{I: e.I, Msg: msg}) }
		if m, ok := e.Msg.(*vnode.Strays); ok {
			n.later(0, func() { reply(r.stands(n.state.Epoch(), m)) })
			return
		}
		n.local(e.To, n.state.Epoch(), e.Msg, reply)
	case reap.Propose:
		n.topology.propose(e.Command, nil)
	case reap.Wake:
		r.wakes++
		this := r.wakes
		n.later(e.At-n.s.now, func() {
			if r.wakes == this {
				r.feed(reap.Tick{})
			}
		})
	case reap.Note:
		n.s.count("reap: " + string(e.Kind))
	}
}

// stands answers a Strays.
func (r *reaper) stands(epoch uint64, m *vnode.Strays) vnode.Message {
	n := r.n
	if refusal := n.objects(0, epoch, m); refusal != nil {
		return refusal
	}
	found, err := vnode.Astray(n.disk.mem, m.Homes, func(p, home ring.Partition) bool { return handoff.Placed(n.state, n.name, p, home) })
	if err != nil {
		return &vnode.Failure{Code: vnode.CodeStorage, Text: err.Error()}
	}
	out := &vnode.StraysFound{Epoch: n.state.Epoch(), Life: n.life(), Homes: make([]vnode.Standing, len(m.Homes))}
	for i, home := range m.Homes {
		out.Homes[i] = vnode.Standing{Stray: found[i], Count: r.lost + r.strayed[home]}
	}
	return out
}

// handled looks at what a vnode was given, and what it has noted.
func (r *reaper) handled(p ring.Partition, msg vnode.Message) {
	var home ring.Partition
	switch msg := msg.(type) {
	case *vnode.SetLacking:
		r.lost++
		return
	case *vnode.Coordinate:
		home = msg.Home
	case *vnode.Store:
		home = msg.Home
	case *vnode.Deliver:
		home = msg.Home
	case *vnode.Fill:
		home = msg.Home
	default:
		return
	}
	if r.machine != nil && !handoff.Placed(r.n.state, r.n.name, p, home) {
		r.strayed[home]++
	}
}

// flight is a frame with versions that has not arrived.
type flight struct {
	to   *node
	f    *transport.Frame
	boot int
}

// fly notes a frame with versions, and returns what is to be called when it is no longer
// under way.
func (s *Sim) fly(to *node, f *transport.Frame) func() {
	switch f.Msg.(type) {
	case *vnode.Store, *vnode.Deliver:
	default:
		return nil
	}
	if !s.weather.Reaps {
		return nil
	}
	x := &flight{to: to, f: &transport.Frame{Epoch: f.Epoch, To: f.To, Msg: f.Msg}, boot: to.boot}
	s.flights = append(s.flights, x)
	return func() { s.flights = slices.DeleteFunc(s.flights, func(y *flight) bool { return x == y }) }
}

// reaped checks that a tombstone which a vnode is about to reap is on all places, and that
// nothing which it has replaced is left: on no disk, in no mailbox, and in no message that
// would still be taken.
func (v *invariants) reaped(n *node, p, home ring.Partition, key kv.Key, op *storage.Op, stored []byte, hash uint64) {
	s := n.s
	tomb, err := object.DecodeHead(stored)
	if err != nil || vnode.HashOf(stored) != hash || tomb.Live(0) || len(tomb.Siblings) == 0 {
		s.fail("reaped", key, "%s/%d reaps %v, which is not what it was told to", n.name, p, idsOf(tomb))
		return
	}
	if !v.gone[key].Descends(tomb.Clock) {
		if what := v.left(s, home, key, tomb); what != "" {
			s.fail("reaped", key, "%s/%d reaps %v at %v, and %s", n.name, p, idsOf(tomb), tomb.Clock, what)
			return
		}
		v.bury(s, key, tomb)
	}
	s.count("reaped")
	if !s.healed {
		s.count("reaped during faults")
	}
	v.add(n, op.Key, version{seq: n.disk.mem.Applied() + 1})
	if s.watches(key) {
		s.tell(s.now, n.name, "reaps %v at %v", idsOf(tomb), tomb.Clock)
	}
}

// bury notes that a tombstone, and all that it has replaced, is gone for good.
func (v *invariants) bury(s *Sim, key kv.Key, tomb object.Object) {
	v.gone[key] = v.gone[key].Join(tomb.Clock)
	if s.history.Reaped == nil {
		s.history.Reaped = make(map[string][]check.ID)
	}
	s.history.Reaped[key.String()] = append(s.history.Reaped[key.String()], idsOf(tomb)...)
}

// left names something that a tombstone is still needed for; empty: there is nothing.
func (v *invariants) left(s *Sim, home ring.Partition, key kv.Key, tomb object.Object) string {
	for _, r := range s.newest.Ring().Primaries(home, s.newest.Replicas()) {
		holder, data := s.byName[r.Node], vnode.DataKey(r.Partition, home, key)
		if holder.gone && holder.died >= s.newest.Fence() || s.willErase(holder) {
			continue // it has died since it has shown the mark, and never comes back, or its disk was put back
		}
		has := v.durable(holder, data)
		if lacking, err := vnode.Lacking(holder.disk.mem, r.Partition); lacking && err == nil && len(has.Clock) == 0 {
			continue // it has lost what it has vouched for, and takes nothing that is from before the mark
		}
		if !has.Clock.Descends(tomb.Clock) && !v.spoilt(holder, r.Partition, data, tomb.Clock) {
			return fmt.Sprintf("%s/%d has %v at %v", r.Node, r.Partition, idsOf(has), has.Clock)
		}
	}
	for _, n := range s.members() {
		for p := range s.first.Ring().Size() {
			for _, x := range v.standing(n, vnode.DataKey(partition(p), home, key)) {
				if revives(x.head, tomb) && !s.willErase(n) {
					return fmt.Sprintf("%s/%d has %v at %v", n.name, p, idsOf(x.head), x.head.Clock)
				}
			}
			if !n.running {
				continue
			}
			for _, c := range n.boxes[p].cmds {
				if what := pending(n, partition(p), c.epoch, c.msg, home, key, tomb); what != "" {
					return fmt.Sprintf("in the mailbox of %s/%d there is %s", n.name, p, what)
				}
			}
		}
	}
	for _, x := range s.flights {
		if x.to.running && x.boot == x.to.boot {
			if what := pending(x.to, x.f.To, x.f.Epoch, x.f.Msg, home, key, tomb); what != "" {
				return fmt.Sprintf("on its way to %s/%d there is %s", x.to.name, x.f.To, what)
			}
		}
	}
	return ""
}

// willErase reports whether a node's disk was put back to what it was before the last reaping: the
// node erases it before it has any connection.
func (s *Sim) willErase(n *node) bool {
	if s.rewound != n {
		return false
	}
	if n.running && n.topology.log != nil {
		return s.newest.OutOfDate(n.name, n.life(), n.topology.began)
	}
	log, err := membership.OpenLog(membership.LogOptions{Self: n.name}, n.disk.mem, nil)
	return err == nil && s.newest.OutOfDate(n.name, n.life()+1, log.State().Epoch())
}

// pending names what a message that the node would take brings of what a tombstone has
// replaced.
func pending(n *node, p ring.Partition, epoch uint64, m vnode.Message, home ring.Partition, key kv.Key, tomb object.Object) string {
	if n.objects(p, epoch, m) != nil {
		return ""
	}
	var items []vnode.Item
	switch m := m.(type) {
	case *vnode.Store:
		items = []vnode.Item{{Key: m.Key, Object: m.Object}}
	case *vnode.Deliver:
		items = m.Items
	case *vnode.Fill:
		items = m.Items
	}
	for _, it := range items {
		if it.Key != key || it.Object == nil {
			continue
		}
		if o, err := object.DecodeHead(it.Object); err == nil && revives(o, tomb) {
			return fmt.Sprintf("a %T of epoch %d with %v", m, epoch, idsOf(o))
		}
	}
	return ""
}

// revives reports whether an object shows something that the tombstone has replaced.
func revives(o, tomb object.Object) bool {
	for i := range o.Siblings {
		if sib := &o.Siblings[i]; !sib.Deleted && tomb.Clock.Covers(sib.Dot) {
			return true
		}
	}
	return false
}

// checkGraves checks that a node's index of dead objects is that of its objects.
func (s *Sim) checkGraves(n *node) {
	found := make(map[string]bool)
	err := n.disk.mem.Scan([]byte{graveKind}, []byte{graveKind + 1}, func(key, _ []byte) bool {
		found[string(key[1:])] = true
		return true
	})
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	err = n.disk.mem.Scan([]byte{dataKind}, []byte{dataKind + 1}, func(key, value []byte) bool {
		o, err := object.DecodeHead(value)
		if err != nil {
			delete(found, string(key[1:])) // it has rotted: what it was cannot be told
		}
		if err == nil && len(o.Siblings) > 0 && !slices.ContainsFunc(o.Siblings, func(x object.Sibling) bool { return !x.Deleted }) {
			if !found[string(key[1:])] {
				_, _, k, _ := s.inv.object(key)
				s.fail("graves", k, "%s holds a tombstone that is not in its index", n.name)
			}
			delete(found, string(key[1:]))
		}
		return true
	})
	if err == nil && len(found) > 0 {
		s.fail("graves", noKey, "the index of %s names %d objects that are not dead", n.name, len(found))
	}
}

// graveKind is the first byte of the storage keys of the index of dead objects.
const graveKind = 7

// unreaped names a tombstone that is left on a member; empty: there is none.
func (s *Sim) unreaped() string {
	what := ""
	for _, n := range s.members() {
		err := n.disk.mem.Scan([]byte{graveKind}, []byte{graveKind + 1}, func(key, _ []byte) bool {
			data := append([]byte{dataKind}, key[1:]...)
			p, home, k, _ := s.inv.object(data)
			what = fmt.Sprintf("%s/%d holds a tombstone of %v of home %d", n.name, p, k, home)
			return false
		})
		if err != nil || what != "" {
			return what
		}
	}
	return what
}

// reapAll waits until all tombstones are gone, which are due by now.
func (s *Sim) reapAll() bool {
	if !s.weather.Reaps || planted.Is(planted.DeleteErases) {
		return true
	}
	for _, n := range s.nodes {
		n.skew += time.Hour
	}
	next := s.now
	return s.must(restWithin, "all tombstones are reaped", func() bool {
		what := s.unreaped()
		if what != "" && s.now >= next { // one that some place has not removed must come to the others again
			next = s.now + 2*time.Second
			s.readAll(nil)
		}
		return what == "" && s.quiet()
	})
}

// setGrace makes tombstones due as soon as a setting can.
func (s *Sim) setGrace() bool {
	if !s.weather.Reaps {
		return true
	}
	grace := membership.MinDeleteGrace.String()
	next := time.Duration(0)
	return s.must(upWithin, "a setting can be made", func() bool {
		if s.now >= next {
			next = s.now + proposeFor
			s.nodes[0].topology.propose(membership.Set{Key: membership.DeleteGrace, Value: grace}, nil)
		}
		return s.newest.Setting(membership.DeleteGrace) == grace
	})
}

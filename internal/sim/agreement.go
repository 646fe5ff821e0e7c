package sim

import (
	"bytes"
	"reflect"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// agreement is the topology of an epoch, as the first node had it.
type agreement struct {
	state   *membership.State
	encoded []byte
}

// ack is a write that was acknowledged.
type ack struct {
	dot   object.Dot
	have  int           // the primaries that held it durably then, of those now and of the next ones; no more than were asked for
	start time.Duration // when the write began
}

// promise is what a place held durably when a transfer began that is to take it
// away: another place is to have that when the transfer is over.
type promise struct {
	fill  ring.Fill
	at    time.Duration
	heads map[kv.Key]object.Vector
}

// agreed checks that a topology is that of all other nodes with its epoch, and
// returns the one that they share. What is new is looked at.
func (v *invariants) agreed(s *Sim, state *membership.State) *membership.State {
	a := v.states[state.Epoch()]
	if a == nil {
		if sum, ok := v.sums[state.Epoch()]; ok && sum != sumOf(state.Encode()) {
			s.fail("agreement", noKey, "two topologies have epoch %d, of which one is %v", state.Epoch(), state)
		}
		a = &agreement{state: state}
		v.states[state.Epoch()] = a
		v.moved(s, state)
		return state
	}
	if a.state == state {
		return state
	}
	if !reflect.DeepEqual(a.state, state) && !bytes.Equal(v.encode(a), state.Encode()) {
		s.fail("agreement", noKey, "two topologies have epoch %d: %v, and %v", state.Epoch(), a.state, state)
	}
	return a.state
}

// encoded is the encoding of a state that is agreed.
func (v *invariants) encoded(state *membership.State) []byte {
	return v.encode(v.states[state.Epoch()])
}

func (v *invariants) encode(a *agreement) []byte {
	if a.encoded == nil {
		a.encoded = a.state.Encode()
	}
	return a.encoded
}

// moved looks at a topology that is newer than all before.
func (v *invariants) moved(s *Sim, state *membership.State) {
	old := s.newest
	if old != nil && state.Epoch() <= old.Epoch() {
		return // of an epoch that all have passed over
	}
	s.newest = state
	if old == nil {
		return
	}
	if s.dead != nil {
		if m, _ := state.Member(s.dead.name); m.Status == membership.StatusLeft {
			s.dead = nil
		}
	}
	s.joined()
	v.settled(s, old, state)
	if state.Epoch() == old.Epoch()+1 {
		v.planned(s, old, state)
	}
	if old.Ring() != state.Ring() {
		v.flip(s, old, state)
	}
	for _, t := range state.Transfers() {
		if t.Phase != membership.Copying || v.marks[t.ID] != nil {
			continue
		}
		s.count("transfer begun")
		if t.Forced {
			s.count("transfer forced")
		}
		v.marks[t.ID] = v.promises(s, state, t)
	}
}

// planned checks that a plan which was carried out is one that an operator was
// shown.
func (v *invariants) planned(s *Sim, old, state *membership.State) {
	if len(state.Staged()) > 0 {
		return
	}
	plan, err := old.Plan()
	if err != nil || s.shown[plan.ID] {
		return
	}
	for _, c := range plan.Changes {
		was, _ := old.Member(c.Node)
		if is, ok := state.Member(c.Node); ok && is.Status != was.Status {
			s.fail("plan", noKey, "epoch %d comes of a plan that nobody was shown: %v", state.Epoch(), plan.Changes)
			return
		}
	}
}

// fenced checks that a vnode which knows that the places of a key have changed
// carries out no client's request for it that goes by what they were before.
func (v *invariants) fenced(n *node, p ring.Partition, epoch uint64, m vnode.Message) {
	var home ring.Partition
	switch m := m.(type) {
	case *vnode.Coordinate:
		home = m.Home
	case *vnode.Store:
		home = m.Home
	case *vnode.Fetch:
		home = m.Home
	case *vnode.List:
		home = m.Home
	case *vnode.Query:
		home = m.Home
	case *vnode.Buckets:
		home = m.Home
	default:
		return
	}
	then := v.states[epoch]
	if then == nil || n.state == nil || epoch >= n.state.Epoch() {
		return
	}
	had := ring.Places(then.state.Ring(), then.state.Next(), home, then.state.Replicas(), then.state.Replicas())
	has := ring.Places(n.state.Ring(), n.state.Next(), home, n.state.Replicas(), n.state.Replicas())
	if !slices.Equal(had, has) {
		n.s.fail("fence", noKey, "%s/%d carries out a %T that goes by the places %v of epoch %d, and knows that they are %v at %d",
			n.name, p, m, had, epoch, has, n.state.Epoch())
	}
}

// complete checks that a vnode which lacks data says to nobody what it does not
// have.
func (v *invariants) complete(n *node, p ring.Partition, m vnode.Message) {
	if !n.lacking[p] {
		return
	}
	pull, _ := m.(*vnode.Pull)
	switch m.(type) {
	case *vnode.Fetch, *vnode.List, *vnode.Census, *vnode.Query, *vnode.Buckets:
	default:
		if pull == nil || !pull.Whole {
			return
		}
	}
	n.s.fail("lacking", noKey, "%s/%d answers a %T, and waits for data that it should hold", n.name, p, m)
}

// settled checks that a transfer is over only when the majority of each list of
// replicas that it has replaced know of the new one: nothing goes by the
// old one any more, then.
func (v *invariants) settled(s *Sim, old, state *membership.State) {
	for _, t := range old.Transfers() {
		over := !slices.ContainsFunc(state.Transfers(), func(x membership.Transfer) bool { return x.ID == t.ID })
		if t.Phase != membership.Settling || !over || state.Ring().Owner(t.Partition) != t.To {
			continue
		}
		s.count("transfer over")
		before := old.Ring().With(t.Partition, t.From)
		for i := range min(2*old.Replicas(), before.Size()) {
			home := before.Next(t.Partition, -i)
			know, list := 0, before.Primaries(home, old.Replicas())
			if slices.Equal(list, old.Ring().Primaries(home, old.Replicas())) {
				continue
			}
			for _, x := range list {
				m, _ := old.Member(x.Node)
				if n := s.byName[x.Node]; m.Status == membership.StatusLeft || max(n.state.Epoch(), n.had) >= t.Epoch {
					know++
				}
			}
			if 2*know <= len(list) {
				s.fail("settled", noKey, "%v is over at epoch %d, but of %v only %d know of it", t, state.Epoch(), list, know)
				return
			}
		}
	}
}

// promises are what the receivers of a transfer are to have. A dead node is
// followed by what the others have, which is not so easily told.
func (v *invariants) promises(s *Sim, state *membership.State, t membership.Transfer) []promise {
	list := []promise{}
	if t.Forced {
		return list
	}
	from, to := state.Ring().With(t.Partition, t.From), state.Ring().With(t.Partition, t.To)
	for _, f := range ring.Fills(from, to, state.Replicas()) {
		p := promise{fill: f, at: s.now, heads: make(map[kv.Key]object.Vector)}
		for _, k := range s.keys {
			if s.home(k) == f.Home {
				p.heads[k] = v.durable(s.byName[f.From.Node], vnode.DataKey(f.From.Partition, f.Home, k)).Clock
			}
		}
		list = append(list, p)
	}
	return list
}

// flip checks that a change of owners takes nothing away: who has become a
// primary holds durably all that the one before it did when the transfer began,
// and of every write that was acknowledged there are as many copies as before.
func (v *invariants) flip(s *Sim, old, state *membership.State) {
	s.count("owner changed")
	for _, t := range state.Transfers() {
		if t.Phase != membership.Settling || t.Forced {
			continue
		}
		for _, p := range v.marks[t.ID] {
			v.kept(s, t, p)
		}
		v.marks[t.ID] = []promise{}
	}
	for _, k := range s.keys {
		home := s.home(k)
		before, after := old.Ring().Primaries(home, old.Replicas()), state.Ring().Primaries(home, state.Replicas())
		if slices.Equal(before, after) || len(v.acks[k]) == 0 {
			continue
		}
		was, is := v.clocks(s, before, k), v.clocks(s, after, k)
		for _, a := range v.acks[k] {
			if a.start <= s.wiped {
				continue
			}
			had, has := v.covering(was, k, a.dot), v.covering(is, k, a.dot)
			if has < min(had, a.have) {
				s.fail("copies", k, "epoch %d makes %v of %v the primaries: write %d had %d copies of %d that were asked for, and has %d",
					state.Epoch(), after, before, v.dots[a.dot], had, a.have, has)
				return
			}
		}
	}
}

func (v *invariants) kept(s *Sim, t membership.Transfer, p promise) {
	if s.wiped >= p.at {
		return
	}
	to := p.fill.To
	for _, k := range s.keys {
		clock := p.heads[k]
		if len(clock) == 0 || v.gone[k].Descends(clock) {
			continue
		}
		has := v.durable(s.byName[to.Node], vnode.DataKey(to.Partition, p.fill.Home, k)).Clock
		if !has.Descends(clock) {
			s.fail("filled", k, "%v: %s/%d has %v, and is to take over from %s/%d, which had %v when it began",
				t, to.Node, to.Partition, has, p.fill.From.Node, p.fill.From.Partition, clock)
			return
		}
	}
}

// copies are how many of the places hold a write durably.
func (v *invariants) copies(s *Sim, places []ring.Replica, k kv.Key, dot object.Dot) int {
	return v.covering(v.clocks(s, places, k), k, dot)
}

// clocks are those of what the places hold durably of a key.
func (v *invariants) clocks(s *Sim, places []ring.Replica, k kv.Key) []object.Vector {
	clocks := make([]object.Vector, len(places))
	for i, r := range places {
		clocks[i] = v.durable(s.byName[r.Node], vnode.DataKey(r.Partition, s.home(k), k)).Clock
	}
	return clocks
}

// covering are how many of the clocks of a key contain a write; what was reaped is in all.
func (v *invariants) covering(clocks []object.Vector, k kv.Key, dot object.Dot) int {
	have, gone := 0, v.gone[k].Covers(dot)
	for _, clock := range clocks {
		if gone || clock.Covers(dot) {
			have++
		}
	}
	return have
}

// erase checks that what a vnode is about to drop is with those who should have
// it, for what the node knew when it said so, or with somebody else if they have
// handed it on.
func (v *invariants) erase(n *node, p, home ring.Partition, key kv.Key, orders []order, op *storage.Op, stored []byte) {
	for _, o := range orders {
		switch m := o.msg.(type) {
		case *vnode.Wipe:
			v.add(n, op.Key, version{seq: n.disk.mem.Applied() + 1})
			return
		case *vnode.SetLacking:
			if slices.ContainsFunc(m.Rotten, func(data []byte) bool { return bytes.Equal(data, op.Key) }) {
				v.letGo(n, p, key, op, stored)
				return
			}
		case *vnode.Reap:
			if j := slices.IndexFunc(o.data, func(data []byte) bool { return bytes.Equal(data, op.Key) }); j >= 0 {
				v.reaped(n, p, home, key, op, stored, m.Items[j].Hash)
				return
			}
		}
	}
	i := slices.IndexFunc(orders, func(o order) bool {
		_, ok := o.msg.(*vnode.Drop)
		return ok && slices.ContainsFunc(o.data, func(data []byte) bool { return bytes.Equal(data, op.Key) })
	})
	if i < 0 {
		n.s.fail("erased", key, "%s removes an object", n.name)
		return
	}
	n.s.count("dropped")
	if j := slices.IndexFunc(orders[i].data, func(data []byte) bool { return bytes.Equal(data, op.Key) }); vnode.HashOf(stored) != orders[i].msg.(*vnode.Drop).Items[j].Hash {
		n.s.fail("dropped", key, "%s/%d drops another version than it was told to", n.name, p)
		return
	}
	old := v.latest(n, op.Key).head
	state := n.mover.drops[orders[i].msg]
	places := ring.Places(state.Ring(), state.Next(), home, state.Replicas(), state.Replicas())
	left := func(name string) bool {
		m, ok := state.Member(name)
		return !ok || m.Status == membership.StatusLeft
	}
	same := slices.ContainsFunc(places, func(x ring.Place) bool { return x.Partition == p && !left(x.Node) })
	for _, x := range n.s.newest.Ring().Primaries(home, n.s.newest.Replicas()) {
		if x.Partition == p && x.Node == n.name {
			n.s.fail("dropped", key, "%s/%d drops what it should hold by epoch %d; it knows %d", n.name, p, n.s.newest.Epoch(), n.state.Epoch())
			return
		}
	}
	for _, x := range places {
		target := n.s.byName[x.Node]
		if x.Partition == p && target == n {
			n.s.fail("dropped", key, "%s/%d drops what it should hold", n.name, p)
			return
		}
		if same && x.Partition != p || left(x.Node) {
			continue
		}
		data := vnode.DataKey(x.Partition, home, key)
		if !v.gone[key].Descends(old.Clock) && !v.durable(target, data).Clock.Descends(old.Clock) && !v.elsewhere(n, target, home, key, old.Clock) && !v.spoilt(target, x.Partition, data, old.Clock) {
			n.s.fail("dropped", key, "%s/%d drops %v, which %s/%d does not hold durably", n.name, p, old.Clock, x.Node, x.Partition)
			return
		}
	}
	v.add(n, op.Key, version{seq: n.disk.mem.Applied() + 1})
	if n.s.watches(key) {
		n.s.tell(n.s.now, n.name, "drops %v at %v", idsOf(old), old.Clock)
	}
}

// elsewhere reports whether the target, which knows of a newer topology than the node, holds
// nothing of the home any more, and others hold what is meant.
func (v *invariants) elsewhere(n, target *node, home ring.Partition, key kv.Key, clock object.Vector) bool {
	s := n.s
	if target.state == nil || target.state.Epoch() <= n.state.Epoch() {
		return false
	}
	for _, r := range s.newest.Ring().Primaries(home, s.newest.Replicas()) {
		if v.durable(s.byName[r.Node], vnode.DataKey(r.Partition, home, key)).Clock.Descends(clock) {
			return true
		}
	}
	return false
}

// acked is a write that is reported as done.
type acked struct {
	id     check.ID
	n      int // replicas that were to be written
	need   int // of which so many had to confirm
	sloppy bool
	start  time.Duration
}

// confirmed checks a write that the request's machine has counted as done: so many
// places must hold it durably, or somebody for them. A place has one
// partition, and so have those who stand in for it.
func (v *invariants) confirmed(r *request, k kv.Key, a acked) {
	s := r.n.s
	dot, ok := v.dotOf(k, a.id)
	if !ok {
		s.fail("acknowledged", k, "write %d is reported as done, but no vnode has made it", a.id)
		return
	}
	state := r.n.state
	if r.epoch < state.Since(s.home(k)) {
		return // its places were those of another topology
	}
	for _, owners := range []*ring.Ring{state.Ring(), state.Next()} {
		have := 0
		for _, x := range ring.First(owners.Primaries(s.home(k), state.Replicas()), a.n) {
			over := !s.isPlace(s.byName[x.Node], x.Partition, s.home(k)) // it may have handed on already what it confirmed
			if over || v.heldFor(s, x, k, dot, a.sloppy) || owners != state.Ring() && v.toBeFilled(s, state, x, k, dot) {
				have++
			}
		}
		if have < a.need {
			s.fail("acknowledged", k, "write %d is reported as done by %d replicas; %d hold it durably", a.id, a.need, have)
			return
		}
	}
}

// toBeFilled reports whether a next owner is still to be given a write by the
// present ones. It may have had it, and handed it over to them, before it knew
// that it is to keep it.
func (v *invariants) toBeFilled(s *Sim, state *membership.State, x ring.Replica, k kv.Key, dot object.Dot) bool {
	for _, t := range state.Transfers() {
		if t.Phase == membership.Copying && slices.Contains(state.Receivers(t), x.Node) && !slices.Contains(t.Filled, x.Node) {
			return v.copies(s, state.Ring().Primaries(s.home(k), state.Replicas()), k, dot) > 0
		}
	}
	return false
}

// acknowledged notes a write whose client was told that it is done.
func (v *invariants) acknowledged(s *Sim, k kv.Key, a acked) {
	dot, ok := v.dotOf(k, a.id)
	if !ok {
		s.fail("acknowledged", k, "write %d is reported as done, but no vnode has made it", a.id)
		return
	}
	if s.weather.Topology {
		have := min(a.need, v.copies(s, s.primaries(k), k, dot))
		if !a.sloppy && a.start > s.wiped && s.behind() == nil && have < a.need { // a rewound node goes by owners of long ago, until it is told
			s.fail("copies", k, "write %d is reported as done by %d replicas; the owners of epoch %d, %v, have %d copies",
				a.id, a.need, s.newest.Epoch(), s.primaries(k), have)
			return
		}
		if a.sloppy { // the next owners may have somebody stand in for them
			have = min(have, v.copies(s, s.newest.Next().Primaries(s.home(k), s.newest.Replicas()), k, dot))
		}
		v.acks[k] = append(v.acks[k], ack{dot: dot, have: have, start: a.start})
	}
}

// dotOf is the dot of a write, if some vnode has made it.
func (v *invariants) dotOf(k kv.Key, id check.ID) (object.Dot, bool) {
	l := v.minted[k]
	if l == nil {
		return object.Dot{}, false
	}
	i, ok := l.index[id]
	if !ok {
		return object.Dot{}, false
	}
	return l.mints[i].dot, true
}

// heldFor reports whether a place holds a write durably, or some other node under
// the partition of that place.
func (v *invariants) heldFor(s *Sim, x ring.Replica, k kv.Key, dot object.Dot, sloppy bool) bool {
	data := vnode.DataKey(x.Partition, s.home(k), k)
	if v.gone[k].Covers(dot) || v.durable(s.byName[x.Node], data).Clock.Covers(dot) {
		return true
	}
	if !sloppy {
		return false
	}
	return slices.ContainsFunc(s.nodes, func(n *node) bool { return v.durable(n, data).Clock.Covers(dot) })
}

package sim

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// The times of a node's part in the topology, as in a real node but shorter
// where a run would only wait.
const (
	logTick       = 100 * time.Millisecond
	stewardEvery  = 300 * time.Millisecond
	announceEvery = 3 * time.Second
	proposeFor    = 5 * time.Second // after which who has proposed a command gives it up
	stateWithin   = time.Second     // a newer topology comes, or is not waited for
)

// snapshotKey is where the log keeps the state that it begins with.
const snapshotKey = "\x02s"

// topology is a node's part in the topology log, and what it knows of the
// other nodes' epochs. Of a run whose topology is fixed it does nothing.
type topology struct {
	n         *node
	log       *membership.Log // nil: the topology is fixed
	events    []membership.LogEvent
	stepping  bool
	waiting   map[membership.CommandID]func(error)
	epochs    map[string]uint64        // by node, the newest that it has shown
	asking    bool                     // a newer state is being fetched
	refresh   []func()                 // called when that has ended
	proposed  map[uint64]time.Duration // by transfer, when Settled was last proposed
	reaped    map[uint64]time.Duration // by mark, when Reaped was last proposed
	announced time.Duration
	lives     map[string]*membership.Lives // of the other nodes
	began     uint64                       // the epoch that this life began with
	doubted   bool                         // the disk is older than that, and is about to be made safe
	mended    bool                         // it was made safe
	erase     uint64                       // the reaping that its data is older than; 0: none
	partook   uint64                       // the life in which it has taken part in that; 0: in none
}

// start goes on with the log of the node's disk, or begins one.
func (t *topology) start(n *node) {
	*t = topology{n: n}
	n.state = n.begin
	if !n.s.weather.Topology {
		return
	}
	if !t.open() {
		return
	}
	t.waiting = make(map[membership.CommandID]func(error))
	t.epochs = make(map[string]uint64)
	t.proposed = make(map[uint64]time.Duration)
	t.announced = -announceEvery
	n.state = n.s.inv.agreed(n.s, t.log.State())
	t.lives = make(map[string]*membership.Lives)
	life, kept, err := membership.BeginLife(n.disk.mem, n.name, n.life(), 0, n.state)
	if err != nil {
		n.s.fail("log", noKey, "%s cannot begin a life: %v", n.name, err)
		return
	}
	if _, err := n.disk.mem.Apply(&kept, true); err == nil {
		n.disk.mem.MakeDurable(n.disk.mem.Applied())
	}
	t.began = life.Began
	n.later(0, func() { t.outOfDate(n.state) })
	if n.state.Epoch() < n.shown {
		n.s.fail("epochs", noKey, "%s begins with epoch %d, and has gone by %d before", n.name, n.state.Epoch(), n.shown)
	}
	n.every(logTick, func() { t.feed(membership.LogTick{}) })
	n.every(stewardEvery, t.steward)
}

// open opens the log as the disk has it.
func (t *topology) open() bool {
	n := t.n
	log, err := membership.OpenLog(membership.LogOptions{
		Self: n.name, Seed: n.rnd.Uint64(), Tick: logTick, SnapshotEvery: n.s.weather.SnapshotEvery,
	}, n.disk.mem, n.begin)
	if err != nil {
		n.s.fail("log", noKey, "%s cannot go on: %v", n.name, err)
		return false
	}
	if init := log.Init(); len(init.Ops) > 0 {
		if _, err := n.disk.mem.Apply(&init, true); err == nil {
			n.disk.mem.MakeDurable(n.disk.mem.Applied())
		}
	}
	t.log = log
	return true
}

// feed gives the log an event, and does what it wants done.
func (t *topology) feed(ev membership.LogEvent) {
	if t.log == nil || t.doubted {
		return
	}
	t.events = append(t.events, ev)
	if t.stepping {
		return
	}
	t.stepping = true
	boot := t.n.boot
	for len(t.events) > 0 && t.n.boot == boot {
		ev := t.events[0]
		t.events = t.events[1:]
		for _, e := range t.log.Step(ev, nil) {
			if t.n.boot == boot {
				t.perform(e)
			}
		}
	}
	t.stepping = false
}

func (t *topology) perform(e membership.LogEffect) {
	n := t.n
	switch e := e.(type) {
	case membership.LogWrite:
		for _, op := range e.Batch.Ops {
			if string(op.Key) == snapshotKey {
				n.s.count("topology: a log was cut")
			}
		}
		seq, err := n.disk.apply(&e.Batch)
		if err != nil {
			return // the engine broke and the node is about to stop
		}
		n.disk.whenDurable(seq, func(err error) {
			if err == nil {
				t.feed(membership.LogDurable{Write: e.Write})
			}
		})
	case membership.LogSend:
		t.send(e)
	case membership.LogAdopt:
		t.adopt(e.State)
	case membership.LogOutcome:
		if done := t.waiting[e.ID]; done != nil {
			delete(t.waiting, e.ID)
			done(e.Err)
		}
	case membership.LogBroken:
		n.s.fail("log", noKey, "%s: %v", n.name, e.Err)
	}
}

// send takes a message of the log to another node.
func (t *topology) send(e membership.LogSend) {
	n, to := t.n, t.n.s.byName[e.To]
	if !n.knows(to) || !n.s.net.connected(n, to) {
		n.later(0, func() { t.feed(membership.LogUnreachable{Node: e.To}) })
		return
	}
	if e.Bulk {
		n.s.count("log: bulk message")
	}
	n.s.net.send(n, to, &transport.Frame{Epoch: n.state.Epoch(), Timeout: time.Second, Msg: &transport.Log{Data: e.Data}})
}

// adopt makes a state the node's, unless it has a newer one.
func (t *topology) adopt(s *membership.State) {
	n := t.n
	if s.Epoch() <= n.state.Epoch() || t.doubted {
		return
	}
	s = n.s.inv.agreed(n.s, s)
	if t.outOfDate(s) {
		return
	}
	t.meetAgain(s)
	if s.Epoch() > n.state.Epoch()+8 {
		n.s.count("topology: caught up from far behind")
	}
	n.s.number(s.Epoch())
	if n.state.Epoch() < n.had && s.Epoch() >= n.had {
		n.s.wiped = n.s.now // until now it has gone by what was long ago
	}
	n.state, n.shown = s, s.Epoch()
	me, ok := s.Member(n.name)
	if !ok || me.Status == membership.StatusLeft || me.ID != n.id && me.ID != [16]byte{} {
		n.leave()
		return
	}
	n.detector.SetPeers(n.peers())
	n.mover.adopted()
	n.mender.adopted()
	n.reaper.adopted()
}

// propose puts a command into the topology; done, which may be nil, is told
// what becomes of it.
func (t *topology) propose(c membership.Command, done func(error)) {
	if t.log == nil {
		return
	}
	n := t.n
	var id membership.CommandID
	binary.BigEndian.PutUint64(id[:8], n.rnd.Uint64())
	binary.BigEndian.PutUint64(id[8:], n.rnd.Uint64())
	if done == nil {
		done = func(error) {}
	}
	t.waiting[id] = done
	n.later(proposeFor, func() {
		if done := t.waiting[id]; done != nil {
			delete(t.waiting, id)
			n.s.count("topology: a command was given up")
			t.feed(membership.LogGiveUp{ID: id})
			done(errLost)
		}
	})
	t.feed(membership.LogPropose{ID: id, Command: c})
}

// steward proposes what the node sees to: what is known of itself, and, as the
// leader, the end of transfers that everybody knows of.
func (t *topology) steward() {
	n := t.n
	if n.closing {
		return
	}
	if wanted := t.log.Wanted(); wanted != 0 {
		t.renumber(wanted)
		return
	}
	t.announce()
	if t.log.Leader() != n.name {
		return
	}
	epochs := make(map[string]uint64, len(t.epochs)+1)
	for _, m := range n.state.Members() {
		if l := t.lives[m.Name]; l != nil {
			epochs[m.Name] = l.Since // what it has shown before its present life it may have forgotten
		}
	}
	epochs[n.name] = n.state.Epoch()
	for _, id := range n.state.Settleable(epochs, n.up) {
		if at, ok := t.proposed[id]; ok && n.s.now-at < 2*time.Second {
			continue
		}
		t.proposed[id] = n.s.now
		t.propose(membership.Settled{Transfer: id}, nil)
	}
	t.reapable()
}

// reapable proposes, as the leader, that all members have shown the mark.
func (t *topology) reapable() {
	n := t.n
	lives := map[string]membership.Lives{n.name: {Now: n.life(), Since: n.state.Epoch()}}
	for _, m := range n.state.Members() {
		if l := t.lives[m.Name]; l != nil {
			lives[m.Name] = *l
		}
	}
	c, ok := n.state.Reapable(lives, n.up)
	if at, proposed := t.reaped[c.Mark]; !ok || proposed && n.s.now-at < 2*time.Second {
		return
	}
	t.reaped = map[uint64]time.Duration{c.Mark: n.s.now}
	t.propose(c, nil)
}

// announce makes the topology know the node's id.
func (t *topology) announce() {
	n := t.n
	me, ok := n.state.Member(n.name)
	if !ok || me.ID == n.id && me.Status != membership.StatusDown || n.s.now-t.announced < announceEvery {
		return
	}
	t.announced = n.s.now
	t.propose(membership.Announce{Name: n.name, ID: n.id, Address: me.Address}, nil)
}

// heard notes the epoch that another node has shown in a life, and asks it if it
// knows more.
func (t *topology) heard(from *node, life, epoch uint64) {
	if t.log == nil {
		return
	}
	if t.lives[from.name] == nil {
		t.lives[from.name] = &membership.Lives{}
	}
	t.lives[from.name].Hear(life, epoch, true)
	if t.epochs[from.name] < epoch {
		t.epochs[from.name] = epoch
	}
	if epoch > t.n.state.Epoch() && !t.asking {
		t.catchUp(from, nil)
	}
}

// catchUp fetches the topology of a node, and calls done, which may be nil, when
// that is over.
func (t *topology) catchUp(from *node, done func()) {
	if done != nil {
		t.refresh = append(t.refresh, done)
	}
	if t.asking {
		return
	}
	t.asking = true
	ask := &transport.StateAsk{Have: t.n.state.Epoch()}
	t.n.question(from, stateWithin, transport.Frame{Epoch: t.n.state.Epoch(), Msg: ask}, func(m vnode.Message, err error) {
		if give, ok := m.(*transport.StateGive); ok && err == nil && len(give.State) > 0 {
			t.given(from, give.State)
			return
		}
		t.caughtUp()
	})
}

// given adopts a state that another node has sent, once it is durable: others
// count on the epoch that they are shown.
func (t *topology) given(from *node, b []byte) {
	n := t.n
	s, err := membership.DecodeState(b)
	if err != nil {
		n.s.fail("codec", noKey, "%s gives %s a topology that is none: %v", from.name, n.name, err)
		return
	}
	if t.doubted || t.outOfDate(s) { // it is not kept before that is mended
		t.caughtUp()
		return
	}
	n.s.count("topology: given")
	var batch storage.Batch
	membership.KeepGiven(&batch, s)
	seq, err := n.disk.apply(&batch)
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	n.disk.whenDurable(seq, func(err error) {
		if err == nil {
			t.adopt(s)
			t.caughtUp()
		}
	})
}

// caughtUp goes on with what has waited for a newer topology.
func (t *topology) caughtUp() {
	t.asking = false
	waiting := t.refresh
	t.refresh = nil
	for _, done := range waiting {
		done()
	}
}

// give answers a StateAsk.
func (t *topology) give(m *transport.StateAsk) *transport.StateGive {
	if t.n.state.Epoch() <= m.Have {
		return &transport.StateGive{}
	}
	return &transport.StateGive{State: t.n.s.inv.encoded(t.n.state)}
}

// leave ends a node that is no member any more.
func (n *node) leave() {
	if n.gone {
		return
	}
	n.s.count("topology: a node has left")
	n.s.happening(n.s.now, n.name, "has left")
	n.gone = true
	n.stop()
	n.disk.crash()
	n.s.madeSafe(n)
}

// members are the nodes that are in the newest topology and have not left it,
// in order.
func (s *Sim) members() []*node {
	var list []*node
	for _, n := range s.nodes {
		if s.isMember(n) {
			list = append(list, n)
		}
	}
	return list
}

// isMember reports whether the node is in the newest topology.
func (s *Sim) isMember(n *node) bool {
	if !s.weather.Topology {
		return true
	}
	m, ok := s.newest.Member(n.name)
	return ok && m.Status != membership.StatusLeft && (m.ID == n.id || m.ID == [16]byte{}) && n.begin != nil
}

// status is what the newest topology says of a node.
func (s *Sim) status(n *node) membership.Status {
	if m, ok := s.newest.Member(n.name); ok && s.isMember(n) {
		return m.Status
	}
	return membership.StatusLeft
}

// changing says what of the topology is not as it is to stay; empty: nothing.
func (s *Sim) changing() string {
	if !s.weather.Topology {
		return ""
	}
	if ts := s.newest.Transfers(); len(ts) > 0 {
		return "there is a transfer of " + ts[0].String()
	}
	if cs := s.newest.Staged(); len(cs) > 0 {
		return "there is staged: " + cs[0].String()
	}
	settled := []membership.Status{membership.StatusValid, membership.StatusLeft}
	for _, m := range s.newest.Members() {
		if !slices.Contains(settled, m.Status) {
			return m.Name + " is " + string(m.Status)
		}
	}
	for _, n := range s.members() {
		if n.running && n.topology.log.Wanted() != 0 {
			return n.name + " has no number in the log"
		}
		if n.running && n.state.Epoch() != s.newest.Epoch() {
			return n.name + " does not know the newest topology"
		}
	}
	return ""
}

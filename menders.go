package tanodb

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/antientropy"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
)

// maxMenderEvents is how many events may wait for anti-entropy. It asks for few
// things at once, so there are never as many.
const maxMenderEvents = 1024

// menders runs the node's anti-entropy: the machine of package antientropy decides,
// and this asks nodes and vnodes for what it wants.
type menders struct {
	node   *Node
	events chan menderEvent

	mu      sync.Mutex
	manager *antientropy.Manager
	boot    int  // counts the managers: what one has asked is nothing to the next
	paused  bool // a machine that begins anew is paused as well
	timer   *time.Timer

	suspects map[ring.Partition]bool // homes that the machine is still to be told of
	suspect  chan struct{}           // has something in it when there are any

	verify verifier
}

// menderEvent is an event for one of the managers; boot 0: for any.
type menderEvent struct {
	antientropy.Event
	boot int
}

func newMenders(n *Node) *menders {
	m := &menders{
		node: n, events: make(chan menderEvent, maxMenderEvents), timer: time.NewTimer(time.Hour),
		suspects: make(map[ring.Partition]bool), suspect: make(chan struct{}, 1),
	}
	m.verify.node = n
	m.manager = m.fresh()
	return m
}

func (m *menders) fresh() *antientropy.Manager { return antientropy.New(m.node.self, m.limits()) }

// limits are those of the options as they are now.
func (m *menders) limits() antientropy.Limits {
	o := m.node.tuning()
	return antientropy.Limits{
		Every: o.RepairEvery, BytesPerSecond: unlimited(o.RepairBytes), ObjectsPerSecond: unlimited(int64(o.RepairObjects)),
	}
}

// unlimited turns the -1 of an option into the 0 of a machine.
func unlimited(n int64) int64 { return max(n, 0) }

// Serve runs the machine until the context ends. It is a suture.Service: each call
// begins with a new machine, which compares everything anew.
func (m *menders) Serve(ctx context.Context) error {
	m.mu.Lock()
	m.manager = m.fresh()
	m.boot++
	paused := m.paused
	m.mu.Unlock()
	if paused {
		m.step(antientropy.Pause{})
	}
	for _, node := range m.node.live.allUp() {
		m.step(antientropy.NodeUp{Node: node})
	}
	m.step(m.topology())
	for {
		select {
		case ev := <-m.events:
			if ev.boot == 0 || ev.boot == m.boot {
				m.step(ev.Event)
			}
		case <-m.suspect:
			m.suspected()
		case <-m.timer.C:
			m.step(antientropy.Tick{})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// feed gives the machine an event that must not be lost.
func (m *menders) feed(ev antientropy.Event) { m.feedTo(ev, 0) }

func (m *menders) feedTo(ev antientropy.Event, boot int) {
	select {
	case m.events <- menderEvent{ev, boot}:
	case <-m.node.gone:
	}
}

// heard notes what a vnode has answered, if that makes its home suspect.
func (m *menders) heard(sent, answer vnode.Message) {
	if home, doubtful := antientropy.Doubtful(sent, answer); doubtful {
		m.unconfirmed(home)
	}
}

// unconfirmed notes that a replica of a home has not confirmed a write. It does not wait,
// and many for one home count as one.
func (m *menders) unconfirmed(home ring.Partition) {
	m.mu.Lock()
	m.suspects[home] = true
	m.mu.Unlock()
	select {
	case m.suspect <- struct{}{}:
	default: // the machine will be told of all
	}
}

// suspected tells the machine of the homes that were noted since.
func (m *menders) suspected() {
	m.mu.Lock()
	homes := slices.Sorted(maps.Keys(m.suspects))
	clear(m.suspects)
	m.mu.Unlock()
	for _, home := range homes {
		m.step(antientropy.Suspect{Home: home})
	}
}

func (m *menders) topology() antientropy.Adopted {
	s := m.node.state()
	return antientropy.Adopted{Topology: antientropy.Topology{Epoch: s.Epoch(), Ring: s.Ring(), Replicas: s.Replicas()}}
}

// adopted says that the node has a newer topology.
func (m *menders) adopted() { m.feed(m.topology()) }

// changed says that a node has come up or gone down.
func (m *menders) changed(c membership.Sighting) {
	if c.Up {
		m.feed(antientropy.NodeUp{Node: c.Node})
		return
	}
	m.feed(antientropy.NodeDown{Node: c.Node})
}

// restarted says that a node has begun anew, perhaps before anybody has noticed that it was away.
func (m *menders) restarted(node string) { m.feed(antientropy.Restarted{Node: node}) }

// pause stops anti-entropy on this node, or lets it go on. It does not outlive the
// process.
func (m *menders) pause(on bool) {
	m.mu.Lock()
	changes := m.paused != on
	m.paused = on
	m.mu.Unlock()
	switch {
	case !changes:
	case on:
		m.step(antientropy.Pause{})
	default:
		m.step(antientropy.Resume{})
	}
}

// step gives the machine an event, and does what it wants done. Effects of two
// steps may be done in any order: none depends on another.
func (m *menders) step(ev antientropy.Event) {
	m.mu.Lock()
	effects := m.manager.Step(m.node.elapsed(), ev, nil)
	boot := m.boot
	m.mu.Unlock()
	for _, e := range effects {
		switch e := e.(type) {
		case antientropy.Ask:
			m.ask(e, boot)
		case antientropy.Do:
			m.do(e, boot)
		case antientropy.Wake:
			m.timer.Reset(max(e.At-m.node.elapsed(), time.Millisecond))
		case antientropy.Note:
			m.node.metrics.menderNote(m.node, e)
		}
	}
}

// ask sends a message to a vnode of another node.
func (m *menders) ask(e antientropy.Ask, boot int) {
	n, later := m.node, m.answers(boot)
	if n.network == nil {
		later(antientropy.Lost{I: e.I, Why: "this node has no network"})
		return
	}
	f := transport.Frame{Epoch: e.Epoch, Timeout: moverTimeout, To: e.To, Msg: e.Msg}
	var done func(vnode.Message, error)
	again := func() { n.network.Ask(e.Node, transport.Bulk, f, time.Now().Add(moverTimeout), done) }
	first := true
	done = func(msg vnode.Message, err error) {
		switch {
		case errors.Is(err, transport.ErrNotSent) && first:
			first = false
			time.AfterFunc(bulkPause, again) // the first one has only begun to connect
		case err != nil:
			later(antientropy.Lost{I: e.I, Why: err.Error()})
		default:
			later(antientropy.Replied{I: e.I, Msg: msg})
		}
	}
	again()
}

// answers returns what feeds the machine that has asked, from goroutines that must not
// wait.
func (m *menders) answers(boot int) func(antientropy.Event) {
	return func(ev antientropy.Event) {
		select {
		case m.events <- menderEvent{ev, boot}:
		default:
			go m.feedTo(ev, boot)
		}
	}
}

// do asks a vnode of this node.
func (m *menders) do(e antientropy.Do, boot int) {
	n, later := m.node, m.answers(boot)
	reply := func(msg vnode.Message) { later(antientropy.Replied{I: e.I, Msg: msg}) }
	if _, ok := e.Msg.(*vnode.Deliver); ok {
		n.vnodes.submit(command{to: e.To, msg: e.Msg, epoch: e.Epoch, reply: reply})
		return
	}
	n.reads.submit(readTask{to: e.To, msg: e.Msg, epoch: e.Epoch, reply: reply})
}

func (m *menders) status() antientropy.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.manager.Status()
}

// moment turns the monotonic time of a machine into wall time; 0 is never.
func (m *menders) moment(d time.Duration) time.Time { return m.node.movers.moment(d) }

// state is how it stands with this node's anti-entropy, for people.
func (m *menders) state() RepairState {
	s := m.status()
	t := s.Totals
	out := RepairState{
		Node: m.node.self, Paused: s.Paused, Every: s.Limits.Every, BytesPerSecond: s.Limits.BytesPerSecond, ObjectsPerSecond: s.Limits.ObjectsPerSecond,
		Pairs: s.Pairs, Due: s.Due, Blocked: s.Blocked, Never: s.Never, Failing: s.Failing, Oldest: m.moment(s.Oldest),
		Exchanges: t.Exchanges, Equal: t.Equal, Failed: t.Failed,
		Different: t.Different, Busy: t.Busy, Received: t.In, Sent: t.Out, Refused: t.Refused, Bytes: t.Bytes,
		Running: []RepairExchange{}, Errors: []RepairError{}, Verify: m.verify.state(),
	}
	for _, r := range s.Running {
		out.Running = append(out.Running, RepairExchange{
			RepairPair: publicPair(r.Pair), Begun: m.moment(r.Begun), Different: r.Tally.Different,
			Received: r.Tally.In, Sent: r.Tally.Out, Bytes: r.Tally.Bytes,
		})
	}
	for _, e := range s.Errors {
		out.Errors = append(out.Errors, RepairError{RepairPair: publicPair(e.Pair), Error: e.Error, RetryAt: m.moment(e.Retry)})
	}
	return out
}

func publicPair(p antientropy.Pair) RepairPair {
	return RepairPair{
		Home: int(p.Home), Partition: int(p.Here.Partition), Peer: p.There.Node, PeerPartition: int(p.There.Partition),
	}
}

// repairDefaults fills in the options of anti-entropy.
func (o *Options) repairDefaults() error {
	if o.RepairEvery < 0 || o.RepairBytes < -1 || o.RepairObjects < -1 {
		return errors.New("tanodb: RepairEvery must not be negative, RepairBytes and RepairObjects not below -1")
	}
	o.RepairEvery = cmp.Or(o.RepairEvery, defaultRepairEvery)
	o.RepairBytes = cmp.Or(o.RepairBytes, defaultRepairBytes)
	o.RepairObjects = cmp.Or(o.RepairObjects, defaultRepairObjects)
	return nil
}

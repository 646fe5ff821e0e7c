package sim

import (
	"bytes"
	"time"

	"github.com/tanodb/tanodb/internal/antientropy"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
)

// mender runs a node's anti-entropy. In a run without it does nothing.
type mender struct {
	n        *node
	manager  *antientropy.Manager // nil: replicas are not compared
	events   []antientropy.Event
	stepping bool
	wakes    int // so far; only the last one counts

	expected map[uint64]bool  // stores that a replica is still to confirm, by their asks
	lives    map[*node]uint64 // the latest in which others were met
}

// start begins with nothing in hand.
func (m *mender) start(n *node) {
	*m = mender{n: n, expected: make(map[uint64]bool), lives: make(map[*node]uint64)}
	w := &n.s.weather
	if w.MendEvery == 0 {
		return
	}
	m.manager = antientropy.New(n.name, antientropy.Limits{
		Every: w.MendEvery, Settle: w.Settle, PageBytes: w.MendBytes,
		RetryFirst: 100 * time.Millisecond, RetryMost: time.Second, AskTimeout: moveWithin,
	})
	m.adopted()
}

// adopted says that the node has a newer topology.
func (m *mender) adopted() {
	if m.manager == nil {
		return
	}
	s := m.n.state
	m.feed(antientropy.Adopted{Topology: antientropy.Topology{Epoch: s.Epoch(), Ring: s.Ring(), Replicas: s.Replicas()}})
}

// sighted says that a node has come up or gone down.
func (m *mender) sighted(c membership.Sighting) {
	if c.Up {
		m.feed(antientropy.NodeUp{Node: c.Node})
		return
	}
	m.feed(antientropy.NodeDown{Node: c.Node})
}

// met notes that another node is there in a life.
func (m *mender) met(other *node, life uint64) {
	before := m.lives[other]
	if before >= life {
		return
	}
	m.lives[other] = life
	if before != 0 {
		m.feed(antientropy.Restarted{Node: other.name})
	}
}

// heard notes what a vnode has answered, if that makes its home suspect.
func (m *mender) heard(sent, answer vnode.Message) {
	if home, doubtful := antientropy.Doubtful(sent, answer); doubtful {
		m.feed(antientropy.Suspect{Home: home})
	}
}

// expect waits for a replica to confirm a write, longer than the write itself may.
func (m *mender) expect(ask uint64, sent vnode.Message, within time.Duration) {
	if _, doubtful := antientropy.Doubtful(sent, nil); m.manager == nil || !doubtful {
		return
	}
	m.expected[ask] = true
	m.n.later(within, func() {
		if m.expected[ask] {
			delete(m.expected, ask)
			m.n.s.count("unconfirmed")
			m.heard(sent, nil)
		}
	})
}

// feed gives the machine an event, and does what it wants done.
func (m *mender) feed(ev antientropy.Event) {
	if m.manager == nil {
		return
	}
	m.events = append(m.events, ev)
	if m.stepping {
		return
	}
	m.stepping = true
	boot := m.n.boot
	for len(m.events) > 0 && m.n.boot == boot && !m.n.closing {
		ev := m.events[0]
		m.events = m.events[1:]
		for _, e := range m.manager.Step(m.n.s.now, ev, nil) {
			m.perform(e)
		}
	}
	m.stepping = false
}

func (m *mender) perform(e antientropy.Effect) {
	n := m.n
	switch e := e.(type) {
	case antientropy.Ask:
		m.ask(e)
	case antientropy.Do:
		n.local(e.To, e.Epoch, e.Msg, func(msg vnode.Message) { m.feed(antientropy.Replied{I: e.I, Msg: msg}) })
	case antientropy.Wake:
		m.wakes++
		this := m.wakes
		n.later(e.At-n.s.now, func() {
			if m.wakes == this {
				m.feed(antientropy.Tick{})
			}
		})
	case antientropy.Note:
		n.s.count("exchange " + string(e.Kind))
	}
}

// ask sends a message to a vnode of another node.
func (m *mender) ask(e antientropy.Ask) {
	n := m.n
	n.s.number(uint64(e.I))
	f := transport.Frame{Epoch: e.Epoch, To: e.To, Msg: e.Msg}
	n.question(n.s.byName[e.Node], moveWithin, f, func(msg vnode.Message, err error) {
		if err != nil {
			m.feed(antientropy.Lost{I: e.I, Why: err.Error()})
			return
		}
		m.feed(antientropy.Replied{I: e.I, Msg: msg})
	})
}

// agree tells whether all replicas are byte for byte the same, without anybody
// having been asked to read them.
func (s *Sim) agree() func() bool {
	next := time.Duration(0)
	return func() bool {
		if s.now < next {
			return false
		}
		next = s.now + restCheck
		for _, k := range s.keys {
			if len(check.Converged(s.copies(k))) > 0 {
				return false
			}
		}
		return true
	}
}

// checkAgreement tells of a key whose replicas differ.
func (s *Sim) checkAgreement() {
	for _, k := range s.keys {
		if differ := check.Converged(s.copies(k)); len(differ) > 0 {
			s.fail("agreement", k, "%v", differ)
			return
		}
	}
}

// mended checks that the replicas come to agree by themselves, and that, once they do,
// anti-entropy writes to none of them: scenario 33 of the failures that systems of
// this kind have had.
func (s *Sim) mended() bool {
	if !s.must(mendWithin, "the replicas agree, which nobody has read", s.agree()) {
		s.checkAgreement()
		return false
	}
	s.count("agreed unread")
	period := min(s.weather.MendEvery, 3*time.Second)
	s.runFor(period + s.weather.Settle + time.Second) // for what was begun before
	before := s.mends
	s.runFor(2*period + time.Second)
	if s.mends > before && len(s.found) == 0 {
		s.fail("storm", noKey, "anti-entropy writes to replicas %d times that have been equal for %v", s.mends-before, period)
	}
	return len(s.found) == 0
}

// mending notes what a vnode is given by anti-entropy.
func (s *Sim) mending(msg vnode.Message) {
	if d, ok := msg.(*vnode.Deliver); ok && d.Placed {
		s.mends++
		s.count("mending")
	}
}

// sums are the roots of the trees of all replicas of a home.
func (s *Sim) sums(home ring.Partition) []uint64 {
	var all []uint64
	for _, r := range s.newest.Ring().Primaries(home, s.newest.Replicas()) {
		m, ok := vnode.Read(s.byName[r.Node].disk.mem, r.Partition, 0, &vnode.Sums{Home: home, Branch: vnode.Root}).(*vnode.Summed)
		if !ok {
			return nil
		}
		all = append(all, m.Sum)
	}
	return all
}

// checkRoots checks that the roots of replicas are equal exactly where the replicas are.
func (s *Sim) checkRoots() {
	differ := make(map[ring.Partition]bool)
	for _, k := range s.keys {
		copies := s.copies(k)
		for _, c := range copies {
			if !bytes.Equal(c.Bytes, copies[0].Bytes) {
				differ[s.home(k)] = true
			}
		}
	}
	for home := range partition(s.first.Ring().Size()) {
		sums := s.sums(home)
		for _, sum := range sums {
			if (sum != sums[0]) && !differ[home] {
				s.fail("roots", noKey, "the replicas of home %d are equal, and their roots are not: %x", home, sums)
				return
			}
		}
	}
}

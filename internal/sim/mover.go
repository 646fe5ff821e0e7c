package sim

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
)

// mover runs a node's hand-off. In a run without fallbacks it does nothing.
type mover struct {
	n        *node
	manager  *handoff.Manager // nil: there is nothing to hand over
	events   []handoff.Event
	stepping bool
	wakes    int                                 // so far; only the last one counts
	drops    map[vnode.Message]*membership.State // what the node knew when it gave each Drop to a vnode
}

// moveWithin is how long an ask of hand-off waits for its answer.
const moveWithin = 2 * time.Second

// start begins with nothing in hand: what a node was doing it forgets in a crash.
func (m *mover) start(n *node) {
	*m = mover{n: n, drops: make(map[vnode.Message]*membership.State)}
	w := &n.s.weather
	if !w.Fallbacks {
		return
	}
	m.manager = handoff.New(n.name, handoff.Limits{
		Jobs: w.MoveJobs, PageBytes: w.PageBytes, RetryFirst: 100 * time.Millisecond, RetryMost: time.Second, AskTimeout: moveWithin,
	})
	m.adopted()
}

// adopted says that the node has a newer topology.
func (m *mover) adopted() {
	if m.manager == nil {
		return
	}
	s := m.n.state
	me, _ := s.Member(m.n.name)
	m.feed(handoff.Adopted{Topology: handoff.Topology{
		Epoch: s.Epoch(), Ring: s.Ring(), Next: s.Next(), Replicas: s.Replicas(), Transfers: s.Transfers(),
		Gone: func(node string) bool {
			member, ok := s.Member(node)
			return !ok || member.Status == membership.StatusLeft
		},
		Leaving: me.Status == membership.StatusExiting,
	}})
}

// sighted says that a node has come up or gone down.
func (m *mover) sighted(c membership.Sighting) {
	if c.Up {
		m.feed(handoff.NodeUp{Node: c.Node})
		return
	}
	m.feed(handoff.NodeDown{Node: c.Node})
}

// handled looks at what a vnode of the node was given: whether it now holds
// something for others, or lacks what it should hold.
func (m *mover) handled(p ring.Partition, msg vnode.Message) {
	var home ring.Partition
	switch msg := msg.(type) {
	case *vnode.SetLacking:
		m.n.lacking[p] = msg.On
		return
	case *vnode.Drop:
		delete(m.drops, msg)
		return
	case *vnode.Coordinate:
		home = msg.Home
	case *vnode.Store:
		home = msg.Home
	default:
		return
	}
	if s := m.n.state; s.Ring().Owner(p) != m.n.name && s.Next().Owner(p) != m.n.name {
		m.n.s.count("stored for others")
		m.feed(handoff.Stray{Partition: p, Home: home})
	}
}

// feed gives the machine an event, and does what it wants done.
func (m *mover) feed(ev handoff.Event) {
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

func (m *mover) perform(e handoff.Effect) {
	n := m.n
	switch e := e.(type) {
	case handoff.Ask:
		m.ask(e)
	case handoff.Do:
		if _, ok := e.Msg.(*vnode.Drop); ok {
			m.drops[e.Msg] = n.state
		}
		n.local(e.To, n.state.Epoch(), e.Msg, func(msg vnode.Message) {
			if d, ok := msg.(*vnode.Dropped); ok && d.Kept > 0 {
				n.s.count("a drop was refused")
			}
			m.feed(handoff.Replied{I: e.I, Msg: msg})
		})
	case handoff.Look:
		n.later(n.rnd.upTo(readWithin), m.look)
	case handoff.Propose:
		n.topology.propose(e.Command, nil)
	case handoff.Wake:
		m.wakes++
		this := m.wakes
		n.later(e.At-n.s.now, func() {
			if m.wakes == this {
				m.feed(handoff.Tick{})
			}
		})
	case handoff.Note:
		n.s.count(string(e.Job) + " " + string(e.Kind))
	}
}

// ask sends a message to a vnode of another node.
func (m *mover) ask(e handoff.Ask) {
	n := m.n
	n.s.number(uint64(e.I))
	f := transport.Frame{Epoch: n.state.Epoch(), To: e.To, Msg: e.Msg}
	n.question(n.s.byName[e.Node], moveWithin, f, func(msg vnode.Message, err error) {
		switch err {
		case nil:
			m.feed(handoff.Replied{I: e.I, Msg: msg})
		case errNotSent:
			m.feed(handoff.NotSent{I: e.I, Why: err.Error()})
		default:
			m.feed(handoff.Lost{I: e.I, Why: err.Error()})
		}
	})
}

// look finds out what the disk holds of which vnode.
func (m *mover) look() {
	n := m.n
	var found handoff.Holdings
	held, err := vnode.Held(n.disk.mem)
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	for _, p := range held {
		if homes, ok := vnode.Read(n.disk.mem, p, n.wallMs(), &vnode.Homes{}).(*vnode.HomesFound); ok {
			found.Vnodes = append(found.Vnodes, handoff.Holding{Partition: p, Homes: homes.Homes})
		}
	}
	if found.Kept, err = vnode.Kept(n.disk.mem); err != nil {
		return
	}
	for p, lacks := range n.lacking {
		if lacks {
			found.Lacking = append(found.Lacking, partition(p))
		}
	}
	m.feed(found)
}

// working names the jobs that are not over; empty: there is none.
func (m *mover) working() string {
	if m.manager == nil {
		return ""
	}
	var all []string
	for _, j := range m.manager.Jobs() {
		all = append(all, fmt.Sprintf("%s of partition %d from %s to %s, %d of %d done, %s", j.Kind, j.Partition, j.From, j.To, j.Done, j.Total, cmp.Or(j.Error, "no error")))
	}
	return strings.Join(all, "; ")
}

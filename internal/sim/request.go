package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// noKey is the key of what concerns no one key.
var noKey kv.Key

// askGrace is how long after the deadline of its request an ask is given up.
const askGrace = 100 * time.Millisecond

// request drives one machine on the node where it runs.
type request struct {
	n         *node
	m         coordinator.Machine
	key       kv.Key
	due       time.Duration // its deadline
	boot      int
	answered  bool
	over      bool
	asks      []*ask
	finish    func(*request) // takes the result, when it is complete
	gone      func()         // the node went away before that; may be nil
	effects   []coordinator.Effect
	epoch     uint64  // of the topology that the machine goes by
	stored    bool    // it has sent a version to a replica
	forwarded bool    // what it asked last was another node to do it all
	asked     []place // whom a read asked
	fetched   []fetched
	repaired  []ring.Replica // to whom a read sent what it lacked
}

// place is where a machine's ask went.
type place struct {
	i  int
	to ring.Replica
}

// fetched is what a replica has said that it holds. A second answer to the same ask
// does not count.
type fetched struct {
	i    int
	head object.Object
	err  error // it does not decode
}

// ask is a message on its way to a node and back.
type ask struct {
	id     uint64
	to     *node                      // where it went
	r      *request                   // who has asked; nil: take takes the outcome, once
	i      int                        // the machine's number for it
	take   func(vnode.Message, error) // see r
	closed bool                       // answered at least once, or given up
	lost   bool                       // given up: nothing more may come of it
}

// What becomes of an ask that is not answered.
var (
	errNotSent = errors.New("no connection")
	errLost    = errors.New("no answer")
)

// view is what a machine may know when it begins.
func (n *node) view() coordinator.View {
	if n.methods.of != n.state {
		n.methods = methods{of: n.state, up: n.up, off: n.off, props: n.state.Props, fewest: n.state.Fewest}
	}
	return coordinator.View{
		Ring:     n.state.Ring(),
		Next:     n.state.Next(),
		Epoch:    n.state.Epoch(),
		Fence:    n.state.Fence(),
		Self:     n.name,
		Up:       n.methods.up,
		Replicas: n.s.weather.Replicas,
		Now:      n.s.now,
		Wall:     n.wall(),
		Random:   n.rnd.Uint64(),
		Skewed:   n.methods.off,
		Props:    n.methods.props,
		Fewest:   n.methods.fewest,
	}
}

// methods are what all views of one topology have in common.
type methods struct {
	of     *membership.State
	up     func(string) bool
	off    func(string) bool
	props  func(kv.Bucket) (*kv.Props, error)
	fewest func(string) (int, error)
}

// run starts a machine.
func (n *node) run(m coordinator.Machine, k kv.Key, timeout time.Duration, finish func(*request), gone func()) {
	r := &request{n: n, m: m, key: k, due: n.s.now + timeout, boot: n.boot, finish: finish, gone: gone}
	n.requests = append(n.requests, r)
	n.s.at(r.due+askGrace, func() { n.whenAwake(r.boot, r.giveUp) })
	r.feed(coordinator.Start{})
}

// feed lets the machine consume an event, and does what it wants done.
func (r *request) feed(ev coordinator.Event) {
	if r.over {
		return
	}
	s := r.n.s
	r.hear(ev)
	r.effects = r.m.Step(s.now, ev, r.effects[:0])
	done := r.m.Done()
	for _, e := range r.effects {
		switch e := e.(type) {
		case coordinator.Ask:
			r.ask(e, done)
		case coordinator.Wake:
			s.at(e.At, func() { r.n.whenAwake(r.boot, func() { r.feed(coordinator.Tick{}) }) })
		case coordinator.Answer:
			r.answer()
		case coordinator.Refresh:
			s.count("refresh")
			if r.stored {
				s.count("stale after minted")
			}
			r.refresh(e)
		case coordinator.Note:
			s.count(string(e.Kind))
		}
	}
	if done {
		r.end()
	}
}

// hear notes what a replica holds. A read that begins again with a newer view
// forgets what it has heard, and whom it has asked.
func (r *request) hear(ev coordinator.Event) {
	switch ev := ev.(type) {
	case coordinator.Replied:
		f, ok := ev.Msg.(*vnode.Fetched)
		known := slices.ContainsFunc(r.fetched, func(old fetched) bool { return old.i == ev.I })
		if ok && !known && slices.ContainsFunc(r.asked, func(a place) bool { return a.i == ev.I }) {
			head, err := decodeHead(f.Object)
			r.fetched = append(r.fetched, fetched{ev.I, head, err})
		}
	case coordinator.Refreshed:
		r.asked, r.fetched = nil, nil
	}
}

// refresh gives the machine a newer view, if there is one.
func (r *request) refresh(e coordinator.Refresh) {
	n, boot := r.n, r.boot
	done := func() {
		n.whenAwake(boot, func() { r.feed(coordinator.Refreshed{View: n.view()}) })
	}
	if n.state.Epoch() >= e.Epoch || e.Node == n.name {
		n.s.after(0, done)
		return
	}
	n.topology.catchUp(n.s.byName[e.Node], done)
}

// answer hands the result out, once.
func (r *request) answer() {
	if r.answered {
		r.n.s.fail("answered", r.key, "a %T answered twice", r.m)
		return
	}
	r.answered = true
	if g, ok := r.m.(*coordinator.Get); ok {
		r.merged(g)
	}
	r.finish(r)
}

// end forgets the machine. One that is done has answered.
func (r *request) end() {
	r.over = true
	if !r.answered {
		r.n.s.fail("answered", r.key, "a %T is done without an answer", r.m)
	}
	if g, ok := r.m.(*coordinator.Get); ok {
		r.repairedAll(g)
	}
	for _, a := range r.asks {
		delete(r.n.asks, a.id)
	}
	if i := slices.Index(r.n.requests, r); i >= 0 {
		r.n.requests = slices.Delete(r.n.requests, i, i+1)
	}
}

// abandon ends the request with its node.
func (r *request) abandon() {
	r.over = true
	if !r.answered && r.gone != nil {
		r.gone()
	}
}

// giveUp reports the asks that were not answered in time as lost.
func (r *request) giveUp() {
	for _, a := range r.asks {
		a.giveUp("no answer in time")
	}
}

// nodeDown tells the machine.
func (r *request) nodeDown(name string) { r.feed(coordinator.NodeDown{Node: name}) }

func (a *ask) giveUp(why string) {
	if a.closed {
		return
	}
	a.closed, a.lost = true, true
	a.r.feed(coordinator.Lost{I: a.i, Why: why})
}

// end hands the outcome of an ask to who has asked, if that is no request.
func (a *ask) end(m vnode.Message, err error) {
	a.closed = true
	a.take(m, err)
}

// question sends a message to another node, and calls take once with what comes
// of it, unless the node stops before.
func (n *node) question(to *node, within time.Duration, f transport.Frame, take func(vnode.Message, error)) {
	if !n.s.net.connected(n, to) {
		n.later(0, func() { take(nil, errNotSent) })
		return
	}
	n.nextAsk++
	a := &ask{id: n.nextAsk, to: to, take: take}
	n.asks[a.id] = a
	n.others = append(n.others, a)
	f.ID, f.Timeout = a.id, within
	n.later(within, func() { n.closeAsk(a, nil, errLost) })
	n.s.net.send(n, to, &f)
}

// closeAsk ends an ask that no request has asked.
func (n *node) closeAsk(a *ask, m vnode.Message, err error) {
	if a.closed {
		return
	}
	delete(n.asks, a.id)
	n.others = slices.DeleteFunc(n.others, func(o *ask) bool { return o == a })
	a.end(m, err)
}

// ask sends a message to a vnode, here or elsewhere. The answer to what a
// machine asks in its last step is nobody's.
func (r *request) ask(e coordinator.Ask, last bool) {
	n := r.n
	n.s.number(uint64(e.I))
	to := n.s.byName[e.To.Node]
	if n.s.watches(r.key) {
		n.s.tell(n.s.now, n.name, "asks %s/%d: %s", e.To.Node, e.To.Partition, describe(e.Msg))
	}
	r.epoch = e.Epoch
	_, r.forwarded = e.Msg.(*coordinator.Forward)
	switch m := e.Msg.(type) {
	case *vnode.Fetch:
		r.asked = append(r.asked, place{e.I, e.To})
	case *vnode.Store:
		r.stored = true
		r.repairs(e.To, m)
	}
	if e.To.Role == kv.Fallback {
		n.s.count("fallback asked")
	}
	a := &ask{r: r, i: e.I, to: to}
	if to == n {
		n.local(e.To.Partition, e.Epoch, e.Msg, func(m vnode.Message) { r.feed(coordinator.Replied{I: e.I, Msg: m}) })
		return
	}
	if !n.s.net.connected(n, to) {
		n.s.count("not sent")
		n.mender.heard(e.Msg, nil)
		n.later(0, func() { r.feed(coordinator.NotSent{I: e.I, Why: "no connection"}) })
		return
	}
	n.nextAsk++
	a.id = n.nextAsk
	if !last {
		n.asks[a.id] = a
		r.asks = append(r.asks, a)
	}
	left := max(r.due-n.s.now, askGrace)
	n.mender.expect(a.id, e.Msg, left)
	n.s.net.send(n, to, &transport.Frame{ID: a.id, Epoch: e.Epoch, Timeout: left, To: e.To.Partition, Msg: e.Msg})
}

// replied hands an answer from another node to the machine that asked. It may
// come twice, as long as the machine is not done.
func (n *node) replied(f transport.Frame) {
	if _, ok := f.Msg.(*vnode.Stored); ok {
		delete(n.mender.expected, f.ID)
	}
	a := n.asks[f.ID]
	if a == nil || a.lost {
		return
	}
	if a.r == nil {
		n.closeAsk(a, f.Msg, nil)
		return
	}
	a.closed = true
	if n.s.watches(a.r.key) {
		n.s.tell(n.s.now, n.name, "hears %s/%d: %s", a.to.name, f.To, describe(f.Msg))
	}
	a.r.feed(coordinator.Replied{I: a.i, Msg: f.Msg})
}

// connectionLost reports what was asked on the connection and not answered as
// lost.
func (n *node) connectionLost(to *node, why string) {
	n.s.count("connection lost")
	n.s.happening(n.s.now, n.name, "loses its connection to "+to.name+": "+why)
	for _, r := range slices.Clone(n.requests) {
		for _, a := range r.asks {
			if a.to == to {
				a.giveUp(why)
			}
		}
	}
	for _, a := range slices.Clone(n.others) {
		if a.to == to {
			n.closeAsk(a, nil, errLost)
		}
	}
}

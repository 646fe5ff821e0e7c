package tanodb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

const (
	// moverTimeout bounds one question of hand-off to another node.
	moverTimeout = 20 * time.Second

	// bulkPause is how long a question waits whose connection has to be made.
	bulkPause = 100 * time.Millisecond

	// moverRest is how many times as long as a page has taken hand-off leaves the other
	// node alone after it. Without, p99 of clients was three times the usual one.
	moverRest = 1

	// maxMoverEvents is how many events may wait for hand-off. It asks for few
	// things at once, so there are never as many.
	maxMoverEvents = 1024
)

// movers runs the node's hand-off: the machine of package handoff decides, and
// this asks nodes and vnodes for what it wants.
type movers struct {
	node   *Node
	events chan moverEvent

	strayMu sync.Mutex
	strays  map[handoff.Stray]bool  // taken by vnodes of this node, and not told to the machine
	losses  map[ring.Partition]bool // vnodes that have lost data, and not told to the machine
	astray  chan struct{}           // there are some; holds one

	again chan chan struct{} // begin anew, and say when that is done

	mu      sync.Mutex
	manager *handoff.Manager
	boot    int // counts the managers: what one has asked is nothing to the next
	timer   *time.Timer
}

// moverEvent is an event for one of the managers; boot 0: for any.
type moverEvent struct {
	handoff.Event
	boot int
}

func newMovers(n *Node) *movers {
	m := &movers{node: n, events: make(chan moverEvent, maxMoverEvents), strays: make(map[handoff.Stray]bool), losses: make(map[ring.Partition]bool), astray: make(chan struct{}, 1), again: make(chan chan struct{}), timer: time.NewTimer(time.Hour)}
	m.manager = m.fresh()
	return m
}

func (m *movers) fresh() *handoff.Manager {
	return handoff.New(m.node.self, moverLimits(m.node.tuning().TransferBytes))
}

// moverLimits are the limits of hand-off, of which people choose one.
func moverLimits(bytesPerSecond int64) handoff.Limits {
	return handoff.Limits{BytesPerSecond: bytesPerSecond, Rest: moverRest}
}

// Serve runs the machine until the context ends. It is a suture.Service: each call
// begins with a new machine, which goes on with what is on the disk.
func (m *movers) Serve(ctx context.Context) error {
	m.begin()
	for {
		select {
		case ev := <-m.events:
			if ev.boot == 0 || ev.boot == m.boot {
				m.step(ev.Event)
			}
		case <-m.astray:
			strays, losses := m.takeStrays()
			for _, s := range strays {
				m.step(s)
			}
			if len(losses) > 0 {
				m.step(handoff.Repair{Partitions: losses})
			}
		case <-m.timer.C:
			m.step(handoff.Tick{})
		case begun := <-m.again:
			m.begin()
			close(begun)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin begins with a new machine.
func (m *movers) begin() {
	m.mu.Lock()
	m.manager = m.fresh()
	m.boot++
	m.mu.Unlock()
	for _, node := range m.node.live.allUp() {
		m.step(handoff.NodeUp{Node: node})
	}
	m.step(m.limits()) // not by the queue, which may be full, and is emptied here
	m.step(m.topology())
}

// renew lets go of all that hand-off has in hand, and begins anew.
func (m *movers) renew() error {
	begun := make(chan struct{})
	select {
	case m.again <- begun:
	case <-m.node.gone:
		return kv.ErrClosed
	}
	select {
	case <-begun:
		return nil
	case <-m.node.gone:
		return kv.ErrClosed
	}
}

// feed gives the machine an event that must not be lost.
func (m *movers) feed(ev handoff.Event) {
	m.feedTo(ev, 0)
}

func (m *movers) feedTo(ev handoff.Event, boot int) {
	select {
	case m.events <- moverEvent{ev, boot}:
	case <-m.node.gone:
	}
}

// topology is what hand-off needs to know of the node's state.
func (m *movers) topology() handoff.Adopted {
	s := m.node.state()
	me, _ := s.Member(m.node.self)
	return handoff.Adopted{Topology: handoff.Topology{
		Epoch: s.Epoch(), Ring: s.Ring(), Next: s.Next(), Replicas: s.Replicas(), Transfers: s.Transfers(),
		Gone: func(node string) bool {
			member, ok := s.Member(node)
			return !ok || member.Status == membership.StatusLeft
		},
		Leaving: me.Status == membership.StatusExiting,
	}}
}

// adopted says that the node has a newer topology.
func (m *movers) adopted() {
	m.limit()
	m.feed(m.topology())
}

// limit tells hand-off its limits.
func (m *movers) limit() { m.feed(m.limits()) }

// limits are that of the cluster or, where it has none, of the node.
func (m *movers) limits() handoff.SetLimits {
	rate, err := strconv.ParseInt(m.node.state().Setting(settingRate), 10, 64)
	if err != nil {
		rate = m.node.tuning().TransferBytes
	}
	return handoff.SetLimits{Limits: moverLimits(rate)}
}

// changed says that a node has come up or gone down.
func (m *movers) changed(c membership.Sighting) {
	if c.Up {
		m.feed(handoff.NodeUp{Node: c.Node})
		return
	}
	m.feed(handoff.NodeDown{Node: c.Node})
}

// repair rebuilds partitions of this node.
func (m *movers) repair(ctx context.Context, ps []ring.Partition) error {
	select {
	case m.events <- moverEvent{handoff.Repair{Partitions: ps}, 0}:
		return nil
	case <-m.node.gone:
		return kv.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step gives the machine an event, and does what it wants done.
func (m *movers) step(ev handoff.Event) {
	m.mu.Lock()
	effects := m.manager.Step(m.node.elapsed(), ev, nil)
	m.mu.Unlock()
	for _, e := range effects {
		switch e := e.(type) {
		case handoff.Ask:
			m.ask(e)
		case handoff.Do:
			m.do(e)
		case handoff.Look:
			m.look()
		case handoff.Propose:
			m.node.topology.background(e.Command)
			if _, ok := e.Command.(membership.Left); ok {
				m.node.askSoon()
			}
		case handoff.Wake:
			m.timer.Reset(max(e.At-m.node.elapsed(), time.Millisecond))
		case handoff.Note:
			m.node.metrics.moverNote(m.node, e)
		}
	}
}

// ask sends a message to a vnode of another node.
func (m *movers) ask(e handoff.Ask) {
	n, later := m.node, m.answers()
	if d, ok := e.Msg.(*vnode.Deliver); ok {
		n.metrics.moved.WithLabelValues("out").Add(float64(sizeOfItems(d.Items)))
	}
	if n.network == nil {
		later(handoff.NotSent{I: e.I, Why: "this node has no network"})
		return
	}
	f := transport.Frame{Epoch: n.state().Epoch(), Timeout: moverTimeout, To: e.To, Msg: e.Msg}
	var done func(vnode.Message, error)
	again := func() { n.network.Ask(e.Node, transport.Bulk, f, time.Now().Add(moverTimeout), done) }
	first := true
	done = func(msg vnode.Message, err error) {
		switch {
		case errors.Is(err, transport.ErrNotSent) && first:
			first = false
			time.AfterFunc(bulkPause, again) // the first one has only begun to connect
		case err == nil:
			later(handoff.Replied{I: e.I, Msg: msg})
		case errors.Is(err, transport.ErrNotSent):
			later(handoff.NotSent{I: e.I, Why: err.Error()})
		default:
			later(handoff.Lost{I: e.I, Why: err.Error()})
		}
	}
	again()
}

// answers returns what feeds the present machine from goroutines that must not
// wait.
func (m *movers) answers() func(handoff.Event) {
	boot := m.boot
	return func(ev handoff.Event) {
		select {
		case m.events <- moverEvent{ev, boot}:
		default:
			go m.feedTo(ev, boot)
		}
	}
}

// stray says that a vnode of this node has taken what belongs elsewhere.
func (m *movers) stray(p, home ring.Partition) {
	m.strayMu.Lock()
	m.strays[handoff.Stray{Partition: p, Home: home}] = true
	m.strayMu.Unlock()
	m.rouse()
}

// lost says that a vnode of this node, which is marked as lacking, is to be
// rebuilt. It never waits.
func (m *movers) lost(p ring.Partition) {
	m.strayMu.Lock()
	m.losses[p] = true
	m.strayMu.Unlock()
	m.rouse()
}

func (m *movers) rouse() {
	select {
	case m.astray <- struct{}{}:
	default:
	}
}

// takeStrays are the strays and the losses that the machine has not been told of.
func (m *movers) takeStrays() ([]handoff.Stray, []ring.Partition) {
	m.strayMu.Lock()
	defer m.strayMu.Unlock()
	strays, losses := slices.Collect(maps.Keys(m.strays)), slices.Sorted(maps.Keys(m.losses))
	clear(m.strays)
	clear(m.losses)
	return strays, losses
}

// do asks a vnode of this node.
func (m *movers) do(e handoff.Do) {
	n := m.node
	if f, ok := e.Msg.(*vnode.Fill); ok {
		n.metrics.moved.WithLabelValues("in").Add(float64(sizeOfItems(f.Items)))
	}
	later := m.answers()
	reply := func(msg vnode.Message) { later(handoff.Replied{I: e.I, Msg: msg}) }
	switch msg := e.Msg.(type) {
	case *vnode.Pull:
		n.give(readTask{to: e.To, msg: msg, epoch: n.state().Epoch(), reply: reply})
	case *vnode.Homes, *vnode.Resume:
		n.reads.submit(readTask{to: e.To, msg: e.Msg, epoch: n.state().Epoch(), reply: reply})
	default:
		n.vnodes.submit(command{to: e.To, msg: e.Msg, epoch: n.state().Epoch(), reply: reply})
	}
}

// look finds out what the disk holds of which vnode.
func (m *movers) look() {
	n, later := m.node, m.answers()
	n.reads.wg.Go(func() {
		var h handoff.Holdings
		var err error
		panicked := n.guard("a look at what the disk holds", func() { h, err = m.holdings() })
		if err = errors.Join(err, panicked); err != nil {
			h.Err = err.Error()
		}
		later(h)
	})
}

// holdings are what the disk holds of which vnode.
func (m *movers) holdings() (h handoff.Holdings, err error) {
	n := m.node
	held, err := vnode.Held(n.engine)
	for _, p := range held {
		switch found := n.read(p, n.state().Epoch(), &vnode.Homes{}).(type) {
		case *vnode.HomesFound:
			h.Vnodes = append(h.Vnodes, handoff.Holding{Partition: p, Homes: found.Homes})
		case *vnode.Failure:
			err = errors.New(found.Text)
		}
	}
	for p := range n.lacking {
		if n.lacking[p].Load() {
			h.Lacking = append(h.Lacking, ring.Partition(p))
		}
	}
	kept, keptErr := vnode.Kept(n.engine)
	h.Kept = kept
	return h, cmp.Or(err, keptErr)
}

// states are the jobs of this node, for people.
func (m *movers) states(s *membership.State) []TransferState {
	m.mu.Lock()
	jobs := m.manager.Jobs()
	m.mu.Unlock()
	out := make([]TransferState, 0, len(jobs))
	for _, j := range jobs {
		t := TransferState{
			Kind: string(j.Kind), ID: j.Transfer, Partition: s.Ring().Partition(j.Partition).String(), Index: int(j.Partition),
			From: j.From, To: j.To, Homes: j.Total, HomesDone: j.Done, Objects: j.Objects, Bytes: j.Bytes, Rate: float64(j.Rate),
			Begun: m.moment(j.Begun), Progress: m.moment(j.Progress), Deadline: m.moment(j.Deadline), RetryAt: m.moment(j.Retry),
			LastError: j.Error, Skipped: j.Skipped, Node: m.node.self,
		}
		switch {
		case j.Finished:
			t.Phase = "finished"
		case j.WaitsFor != "":
			t.Phase = "waits for " + j.WaitsFor
		case j.Retry > 0:
			t.Phase = "waits"
		default:
			t.Phase = "moving"
		}
		for _, b := range j.Bad {
			t.SkippedKeys = append(t.SkippedKeys, b.Key.String()+": "+b.Text)
		}
		out = append(out, t)
	}
	return out
}

func (m *movers) list() []handoff.Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.manager.Jobs()
}

// moment turns the monotonic time of a machine into wall time; 0 is never.
func (m *movers) moment(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return m.node.begun.Add(d).Round(time.Millisecond)
}

// ClusterTransfers are the transfers of the cluster: the ownership transfers,
// and the work on them and on hints of every node that answers.
func (n *Node) ClusterTransfers(ctx context.Context) ([]TransferState, error) {
	s := n.state()
	all := n.transfers(s)
	var errs []error
	for _, m := range s.Members() {
		if m.Name == n.self || !n.live.up(m.Name) {
			continue
		}
		more, err := n.jobsOf(ctx, m.Name)
		if err != nil {
			errs = append(errs, fmt.Errorf("tanodb: the transfers of %s: %w", m.Name, err))
		}
		all = append(all, more...)
	}
	return all, errors.Join(errs...)
}

// jobsOf asks another node for the work that it does.
func (n *Node) jobsOf(ctx context.Context, node string) ([]TransferState, error) {
	m, err := n.askNode(ctx, node, &transport.JobsAsk{})
	if err != nil {
		return nil, err
	}
	give, ok := m.(*transport.JobsGive)
	if !ok {
		return nil, errors.New(refusalText(m))
	}
	var jobs []TransferState
	if err := json.Unmarshal(give.Jobs, &jobs); err != nil {
		return nil, fmt.Errorf("what it answers cannot be read: %w", err)
	}
	return jobs, nil
}

// giveJobs answers a JobsAsk.
func (n *Node) giveJobs() vnode.Message {
	b, err := json.Marshal(n.movers.states(n.state()))
	if err != nil {
		return &vnode.Failure{Code: vnode.CodeInternal, Text: err.Error()}
	}
	return &transport.JobsGive{Jobs: b}
}

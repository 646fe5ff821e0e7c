package tanodb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/reap"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
)

const (
	// reapTimeout bounds one question of reaping to another node.
	reapTimeout = 10 * time.Second

	// maxReapEvents is how many events may wait for reaping.
	maxReapEvents = 1024

	// countEvery is how often the tombstones of a node are counted, and countShare
	// the part of the time that this may take.
	countEvery = time.Minute
	countShare = 100
)

// reapers runs the node's reaping: the machine of package reap decides, and this asks
// nodes and vnodes for what it wants.
type reapers struct {
	node   *Node
	events chan reapEvent

	mu      sync.Mutex
	machine *reap.Reaper
	boot    int // counts the machines: what one has asked is nothing to the next
	timer   *time.Timer

	strayed []atomic.Uint64 // by home, how often something of it was stored where it should not be
	lost    atomic.Uint64   // how often a vnode has lost something
	count   atomic.Int64    // tombstones on this node, when they were last counted; -1: never
	counted atomic.Int64    // when that was, since the node began
}

// reapEvent is an event for one of the machines; boot 0: for any.
type reapEvent struct {
	reap.Event
	boot int
}

func newReapers(n *Node) *reapers {
	r := &reapers{
		node: n, events: make(chan reapEvent, maxReapEvents), timer: time.NewTimer(time.Hour),
		machine: reap.New(n.self, reap.Limits{}), strayed: make([]atomic.Uint64, n.state().Ring().Size()),
	}
	r.count.Store(-1)
	return r
}

// Serve runs the machine until the context ends. It is a suture.Service: each call
// begins with a new machine, which begins with what is on the disks.
func (r *reapers) Serve(ctx context.Context) error {
	r.mu.Lock()
	r.machine = reap.New(r.node.self, reap.Limits{})
	r.boot++
	boot := r.boot
	r.mu.Unlock()
	var counting sync.WaitGroup
	defer counting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	counting.Go(func() { r.keepCount(ctx) })
	for _, node := range r.node.live.allUp() {
		r.step(boot, reap.NodeUp{Node: node})
	}
	r.step(boot, reap.Adopted{State: r.node.state()})
	for {
		select {
		case ev := <-r.events:
			if ev.boot == 0 || ev.boot == boot {
				r.step(boot, ev.Event)
			}
		case <-r.timer.C:
			r.step(boot, reap.Tick{})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// adopted says that the node has a newer topology.
func (r *reapers) adopted(s *membership.State) { r.feed(reapEvent{reap.Adopted{State: s}, 0}) }

// changed says that a node has come up or gone down.
func (r *reapers) changed(c membership.Sighting) {
	if c.Up {
		r.feed(reapEvent{reap.NodeUp{Node: c.Node}, 0})
		return
	}
	r.feed(reapEvent{reap.NodeDown{Node: c.Node}, 0})
}

// feed gives the machine an event that must not be lost.
func (r *reapers) feed(ev reapEvent) {
	select {
	case r.events <- ev:
	case <-r.node.gone:
	}
}

// step gives the machine an event, and does what it wants done.
func (r *reapers) step(boot int, ev reap.Event) {
	n := r.node
	r.mu.Lock()
	effects := r.machine.Step(n.elapsed(), n.o.Clock().UnixMilli(), ev, nil)
	r.mu.Unlock()
	for _, e := range effects {
		switch e := e.(type) {
		case reap.Ask:
			r.ask(boot, e)
		case reap.Do:
			r.do(boot, e)
		case reap.Propose:
			n.topology.background(e.Command)
		case reap.Wake:
			r.timer.Reset(max(e.At-n.elapsed(), time.Millisecond))
		case reap.Note:
			n.metrics.reapNote(n, e)
		}
	}
}

// later returns what feeds a machine from goroutines that must not wait.
func (r *reapers) later(boot int) func(reap.Event) {
	return func(ev reap.Event) {
		select {
		case r.events <- reapEvent{ev, boot}:
		default:
			go r.feed(reapEvent{ev, boot})
		}
	}
}

// ask sends a message to another node. The connection for bulk may have to be made first.
func (r *reapers) ask(boot int, e reap.Ask) {
	n, later := r.node, r.later(boot)
	if n.network == nil {
		later(reap.Lost{I: e.I, Why: "this node has no network"})
		return
	}
	f := transport.Frame{Epoch: n.state().Epoch(), Timeout: reapTimeout, To: e.To, Msg: e.Msg}
	var done func(vnode.Message, error)
	again := func() { n.network.Ask(e.Node, transport.Bulk, f, time.Now().Add(reapTimeout), done) }
	first := true
	done = func(msg vnode.Message, err error) {
		switch {
		case errors.Is(err, transport.ErrNotSent) && first:
			first = false
			time.AfterFunc(bulkPause, again)
		case err != nil:
			later(reap.Lost{I: e.I, Why: err.Error()})
		default:
			later(reap.Replied{I: e.I, Msg: msg})
		}
	}
	again()
}

// do asks this node itself.
func (r *reapers) do(boot int, e reap.Do) {
	n, later := r.node, r.later(boot)
	reply := func(msg vnode.Message) { later(reap.Replied{I: e.I, Msg: msg}) }
	switch e.Msg.(type) {
	case *vnode.Graves, *vnode.Strays:
		n.reads.submit(readTask{to: e.To, msg: e.Msg, epoch: n.state().Epoch(), reply: reply})
	default:
		n.vnodes.submit(command{to: e.To, msg: e.Msg, epoch: n.state().Epoch(), reply: reply})
	}
}

// stands answers a Strays: what this node holds where it should not. What is stored
// while it looks is found the next time at the latest, since it is counted.
func (r *reapers) stands(m *vnode.Strays) vnode.Message {
	n, s := r.node, r.node.state()
	out := &vnode.StraysFound{Epoch: s.Epoch(), Life: n.life, Homes: make([]vnode.Standing, len(m.Homes))}
	for i, home := range m.Homes {
		if int(home) >= len(r.strayed) {
			return &vnode.Refusal{Code: vnode.CodeInvalid, Text: fmt.Sprintf("the ring has no partition %d", home)}
		}
		out.Homes[i].Count = r.standing(home)
	}
	found, err := vnode.Astray(n.engine, m.Homes, func(p, home ring.Partition) bool { return handoff.Placed(s, n.self, p, home) })
	if err != nil {
		return &vnode.Failure{Code: vnode.CodeStorage, Text: err.Error()}
	}
	for i, home := range m.Homes {
		out.Homes[i].Stray = found[i] || out.Homes[i].Count != r.standing(home)
	}
	return out
}

func (r *reapers) standing(home ring.Partition) uint64 {
	return r.strayed[home].Load() + r.lost.Load()
}

// keepCount counts the tombstones of this node from time to time.
func (r *reapers) keepCount(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		begun := time.Now()
		var count int
		var err error
		panicked := r.node.guard("the count of tombstones", func() {
			count, err = vnode.CountGraves(r.node.engine, func() bool { return ctx.Err() == nil })
		})
		if err == nil && panicked == nil && ctx.Err() == nil {
			r.counted.Store(int64(r.node.elapsed()))
			r.count.Store(int64(count))
		}
		pause.Reset(max(countEvery, countShare*time.Since(begun)))
	}
}

// state is what is to be told of deletes.
func (r *reapers) state() TombstoneState {
	r.mu.Lock()
	p := r.machine.Progress()
	r.mu.Unlock()
	s := r.node.state()
	grace, _ := s.Reaps()
	t := TombstoneState{
		Mode: s.Setting(membership.DeleteMode), Grace: grace, Count: r.count.Load(),
		Reaped: p.Reaped, Phase: string(p.Phase), InRound: p.Items, Waits: p.Why,
	}
	if t.Count >= 0 {
		t.Age = max(r.node.elapsed()-time.Duration(r.counted.Load()), 0)
	}
	return t
}

// SetDeletes sets, for the whole cluster, what becomes of tombstones: reap or keep, and how old
// one is at least when it is reaped. An empty mode leaves the former as it is, 0
// the latter.
func (n *Node) SetDeletes(ctx context.Context, mode string, grace time.Duration) error {
	if mode != "" {
		if err := n.topology.propose(ctx, membership.Set{Key: membership.DeleteMode, Value: mode}); err != nil {
			return err
		}
	}
	if grace == 0 {
		return nil
	}
	return n.topology.propose(ctx, membership.Set{Key: membership.DeleteGrace, Value: grace.String()})
}

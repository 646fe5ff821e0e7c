package tanodb

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	crand "crypto/rand"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

const (
	// logTick is how often the topology log is told that time passes.
	logTick = 100 * time.Millisecond

	// stewardTick is how often a node looks whether it has something to propose:
	// its own address, and as the leader the end of transfers.
	stewardTick = 500 * time.Millisecond

	// maxLogEvents is how many events may wait for the topology log. Messages of
	// other nodes beyond that are dropped, which raft takes for a bad network.
	maxLogEvents = 4096

	// departWithin is how long requests in progress may take on a node that is no
	// member any more.
	departWithin = time.Second

	// stateTimeout bounds the question for a newer topology.
	stateTimeout = 5 * time.Second
)

// topology runs the node's part of the topology log, and holds the newest
// State that the node knows: the log's own, or a newer one from another node. A
// State is committed whoever brings it, so data never waits for the log.
type topology struct {
	node    *Node
	current atomic.Pointer[membership.State]
	kept    atomic.Uint64 // the newest epoch that is durable here, which is what others are shown
	turn    sync.Mutex    // of adopt: what follows from a State is done before the next

	events chan membership.LogEvent
	writes chan *logWrite
	orders chan func()   // what is to be done between two events
	news   chan struct{} // a node has shown a newer epoch; holds one

	held *membership.LogWrite // a batch that the full disk has refused; of the goroutine that steps the log
	keep sync.Mutex           // of given: a newer State is never overwritten by an older one

	mu        sync.Mutex
	log       *membership.Log
	safety    safety
	waiting   map[membership.CommandID]chan error
	epochs    map[string]uint64      // by node, the newest that it is known to have
	asking    map[string]bool        // by node: a newer State is being fetched from it
	refresh   map[string][]refresher // by node: who waits for that
	proposed  map[uint64]time.Time   // by transfer, when Settled was last proposed
	announced time.Time

	renumbered int // how often another number was asked for

	began   uint64   // up to which epoch the data is in order, by mu; see membership.BeginLife
	erase   uint64   // the reaping that the data is older than, by mu; 0: none
	partook uint64   // the life in which this node has taken part in that, by mu; 0: in none
	met     uint64   // the latest life later than its own that others have met this node in, by mu; 0: none
	agree   struct { // when Reaped was last proposed, and for which mark
		at   time.Time
		mark uint64
	}
}

// logWrite is a batch of the log on its way to the disk.
type logWrite struct {
	log    *membership.Log // whose it is: a recovery begins another
	number uint64
	commit storage.Commit
}

// newTopology goes on with the log of the engine, or begins one with the state.
func newTopology(n *Node, first *membership.State) (*topology, error) {
	t := &topology{
		node: n, events: make(chan membership.LogEvent, maxLogEvents), writes: make(chan *logWrite, maxLogEvents), orders: make(chan func()), news: make(chan struct{}, 1),
		waiting: make(map[membership.CommandID]chan error), epochs: make(map[string]uint64), proposed: make(map[uint64]time.Time),
		asking: make(map[string]bool), refresh: make(map[string][]refresher),
	}
	var err error
	if t.log, err = t.open(first); err != nil {
		return nil, err
	}
	if init := t.log.Init(); len(init.Ops) > 0 {
		if err := t.keepNow(&init); err != nil {
			return nil, fmt.Errorf("tanodb: beginning the topology log: %w", err)
		}
	}
	t.current.Store(t.log.State())
	t.kept.Store(t.log.State().Epoch())
	life, kept, err := membership.BeginLife(n.engine, n.self, uint64(time.Now().UnixNano()), n.random(), t.log.State())
	if err == nil {
		err = t.keepNow(&kept)
	}
	if err != nil {
		return nil, fmt.Errorf("tanodb: beginning a life: %w", err)
	}
	n.life, t.began = life.Number, life.Began
	t.outOfDate(t.log.State(), "its own topology")
	return t, nil
}

// open opens the log that the engine keeps, or one that begins with first.
func (t *topology) open(first *membership.State) (*membership.Log, error) {
	log, err := membership.OpenLog(membership.LogOptions{Self: t.node.self, Seed: t.node.random(), Tick: logTick}, t.node.engine, first)
	if err != nil {
		return nil, t.node.explain(fmt.Errorf("tanodb: %w", err))
	}
	return log, nil
}

// state is the newest topology that this node knows.
func (n *Node) state() *membership.State { return n.topology.current.Load() }

// adoptKept is adopt for a State that this node does not forget in a crash.
func (t *topology) adoptKept(s *membership.State) {
	if t.outOfDate(s, "the topology") {
		return
	}
	for have := t.kept.Load(); have < s.Epoch() && !t.kept.CompareAndSwap(have, s.Epoch()); have = t.kept.Load() {
	}
	t.adopt(s)
}

// adopt makes a State the node's, unless it has a newer one.
func (t *topology) adopt(s *membership.State) {
	t.turn.Lock()
	defer t.turn.Unlock()
	if s.Epoch() <= t.current.Load().Epoch() {
		return
	}
	was, _ := t.current.Load().Member(t.node.self)
	t.meetAgain(s)
	t.current.Store(s)
	defer t.refreshed(s.Epoch())
	n := t.node
	if n.network != nil {
		n.network.SetPeers(n.peers(s))
	}
	n.live.members(s)
	n.movers.adopted()
	n.menders.adopted()
	n.reapers.adopted(s)
	if !t.belongs(s) {
		t.depart(was.Status)
	}
}

// belongs reports whether this node is a member.
func (t *topology) belongs(s *membership.State) bool {
	m, ok := s.Member(t.node.self)
	return ok && m.Status != membership.StatusLeft && (m.ID == ([16]byte{}) || m.ID == t.node.home.nodeID())
}

// depart ends a node that is no member any more, once the requests in progress have had
// a moment to end. Was is what it was before, empty: unknown.
func (t *topology) depart(was membership.Status) {
	t.node.leaving.Do(func() {
		why := ErrRemoved
		if was == membership.StatusExiting {
			why = ErrLeft
		}
		t.node.closing.Store(true)
		departed := make(chan struct{})
		t.node.departed = departed
		go func() {
			defer close(departed)
			ctx, cancel := context.WithTimeout(context.Background(), departWithin)
			defer cancel()
			t.node.requests.drain(ctx)
			if why == ErrLeft {
				if err := t.node.home.markLeft(); err != nil {
					t.node.log.Error("the directory does not say that its node has left", "error", err)
				}
			}
			t.node.fail(why)
		}()
	})
}

// Serve runs the log until the context ends. It is a suture.Service.
func (t *topology) Serve(ctx context.Context) error {
	var synced sync.WaitGroup
	defer synced.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced.Go(func() { t.syncWrites(ctx) })
	synced.Go(func() { t.node.arrive(ctx) })
	tick := time.NewTicker(logTick)
	defer tick.Stop()
	steward := time.NewTicker(stewardTick)
	defer steward.Stop()
	for {
		select {
		case ev := <-t.events:
			t.step(ev)
		case do := <-t.orders:
			do()
		case <-tick.C:
			t.retry()
			t.step(membership.LogTick{})
		case <-steward.C:
			t.steward()
		case <-t.news:
			t.steward()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// syncWrites waits for the log's batches to be durable, in order.
func (t *topology) syncWrites(ctx context.Context) {
	for {
		select {
		case w := <-t.writes:
			if err := w.commit.Wait(); err != nil {
				t.node.fail(fmt.Errorf("tanodb: making the topology log durable: %w", err))
				return
			}
			if !t.order(ctx, func() { t.durable(w) }) {
				t.writes <- w // for the next Serve; there is one at a time, so there is room
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// order has something done between two events; false: it will not be.
func (t *topology) order(ctx context.Context, do func()) bool {
	select {
	case t.orders <- do:
		return true
	case <-ctx.Done():
	case <-t.node.gone:
	}
	return false
}

// durable tells the log that a batch is on the disk, unless it is that of a log
// which a recovery has replaced.
func (t *topology) durable(w *logWrite) {
	if w.log == t.log {
		t.step(membership.LogDurable{Write: w.number})
	}
}

// feed gives the log an event that must not be lost.
func (t *topology) feed(ev membership.LogEvent) {
	select {
	case t.events <- ev:
	case <-t.node.gone:
	}
}

// step gives the log an event, and does what it wants done.
func (t *topology) step(ev membership.LogEvent) {
	var effects []membership.LogEffect
	t.mu.Lock()
	if t.safety != doubted {
		effects = t.log.Step(ev, nil)
	}
	t.mu.Unlock()
	t.perform(effects)
}

func (t *topology) perform(effects []membership.LogEffect) {
	for _, e := range effects {
		switch e := e.(type) {
		case membership.LogWrite:
			t.write(e)
		case membership.LogSend:
			t.send(e)
		case membership.LogAdopt:
			t.adoptKept(e.State)
		case membership.LogOutcome:
			t.outcome(e.ID, e.Err)
		case membership.LogBroken:
			t.node.log.Error("the topology log of this node cannot go on; restart the node; reads and writes go on meanwhile",
				"node", t.node.self, "error", e.Err)
		}
	}
}

// write puts a batch of the log into the engine. A node whose disk is full takes
// no part in the topology until there is room.
func (t *topology) write(e membership.LogWrite) {
	e.Batch.Urgent = true
	commit, err := t.node.engine.Apply(&e.Batch, true)
	if errors.Is(err, storage.ErrFull) {
		t.held = &e
		return
	}
	if err != nil {
		t.node.fail(fmt.Errorf("tanodb: the engine refuses the topology log: %w", err))
		return
	}
	t.writes <- &logWrite{t.log, e.Write, commit}
}

// retry writes what the full disk has refused.
func (t *topology) retry() {
	if t.held == nil {
		return
	}
	e := *t.held
	t.held = nil
	t.write(e)
}

// send takes a message of the log to another node. It may get lost.
func (t *topology) send(e membership.LogSend) {
	n := t.node
	if n.network == nil {
		return
	}
	f := transport.Frame{Msg: &transport.Log{Data: e.Data}}
	class := transport.Requests
	if e.Bulk {
		class = transport.Bulk
	}
	n.network.Ask(e.To, class, f, time.Now().Add(stateTimeout), func(_ vnode.Message, err error) {
		if err != nil {
			select {
			case t.events <- membership.LogUnreachable{Node: e.To}:
			default:
			}
		}
	})
}

// received takes a message of another node's log.
func (t *topology) received(from string, m *transport.Log) {
	select {
	case t.events <- membership.LogReceived{From: from, Data: m.Data}:
	default: // raft sends again
	}
}

// outcome tells whoever waits for a command.
func (t *topology) outcome(id membership.CommandID, err error) {
	t.mu.Lock()
	done := t.waiting[id]
	delete(t.waiting, id)
	t.mu.Unlock()
	if done != nil {
		done <- err
	}
}

// propose puts a command into the topology and waits for what becomes of it.
func (t *topology) propose(ctx context.Context, c membership.Command) error {
	var id membership.CommandID
	if _, err := crand.Read(id[:]); err != nil {
		return fmt.Errorf("tanodb: no randomness: %w", err)
	}
	return t.proposeAs(ctx, id, c)
}

func (t *topology) proposeAs(ctx context.Context, id membership.CommandID, c membership.Command) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	done := make(chan error, 1)
	t.mu.Lock()
	if t.waiting[id] != nil {
		t.mu.Unlock()
		return &ClusterError{Code: "repeated", Text: "this change is being made already"}
	}
	t.waiting[id] = done
	t.mu.Unlock()
	select {
	case t.events <- membership.LogPropose{ID: id, Command: c}:
	case <-t.node.gone:
		return kv.ErrClosed
	case <-t.node.failed:
		return kv.ErrClosed
	case <-ctx.Done():
		t.forgetWaiter(id)
		return waiting(fmt.Sprintf("%d messages wait for the topology log of this node, its limit: see to its disk", maxLogEvents))
	}
	select {
	case err := <-done:
		return clusterError(err)
	case <-t.node.gone:
		return kv.ErrClosed
	case <-t.node.failed:
		return kv.ErrClosed
	case <-ctx.Done():
	}
	waits := t.forgetWaiter(id)
	select {
	case t.events <- membership.LogGiveUp{ID: id}:
	default:
		go t.feed(membership.LogGiveUp{ID: id}) // there are not more of them than the log has taken proposals
	}
	return waiting(cmp.Or(waits, "no answer came from the topology log in time; the change may still be made: look at `tanodb cluster status`"))
}

// forgetWaiter lets go of who waits for a command, and returns what the log waits for; empty:
// nothing.
func (t *topology) forgetWaiter(id membership.CommandID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, id)
	return t.log.Waits()
}

// waiting is why a change of the topology has to wait.
func waiting(why string) error {
	return &ClusterError{Code: codeWaiting, Text: "the topology cannot change now: " + why + "; reads and writes go on"}
}

// carry proposes a command for another node.
func (t *topology) carry(m *transport.Propose, reply func(vnode.Message)) {
	c, err := membership.DecodeCommand(m.Command)
	if err != nil {
		reply(&vnode.Refusal{Code: vnode.CodeInvalid, Text: err.Error()})
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), changeTimeout/3)
		defer cancel()
		p := &transport.Proposed{}
		if err := t.proposeAs(ctx, m.ID, c); err != nil {
			p.Code, p.Text = codeInDoubt, err.Error()
			var ce *ClusterError
			if errors.As(err, &ce) {
				p.Code = ce.Code
			}
		}
		reply(p)
	}()
}

// recover makes the survivors the voters of a new log that begins where the
// kept one ends.
func (t *topology) recover(ctx context.Context, survivors []string) error {
	t.node.log.Warn("THE TOPOLOGY IS RECOVERED FROM SURVIVORS: its last changes may be lost; if the other voters still live there are now two topologies",
		"node", t.node.self, "survivors", survivors)
	done := make(chan error, 1)
	if !t.order(ctx, func() { done <- t.restart(survivors) }) {
		return kv.ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// restart replaces the log. It runs between two events of the log.
func (t *topology) restart(survivors []string) error {
	batch, s, err := membership.Recover(t.node.engine, t.node.self, survivors)
	if err != nil {
		return &ClusterError{Code: "invalid", Text: err.Error()}
	}
	if err := t.keepNow(&batch); err != nil {
		return fmt.Errorf("tanodb: keeping the recovered topology: %w", err)
	}
	if err := t.reopen(); err != nil {
		return err
	}
	t.adoptKept(s)
	return nil
}

// reopen goes on with the log as the engine has it now. It runs between two
// events of the log.
func (t *topology) reopen() error {
	log, err := t.open(nil)
	if err != nil {
		return err
	}
	if init := log.Init(); len(init.Ops) > 0 {
		if err := t.keepNow(&init); err != nil {
			return fmt.Errorf("tanodb: beginning the topology log: %w", err)
		}
	}
	t.held = nil // what the full disk has refused is the former log's
	t.mu.Lock()
	t.log = log
	t.mu.Unlock()
	return nil
}

// logState is what the log says of itself.
type logState struct {
	leader string
	led    bool // it can change, as far as this node knows
	voters []string
	waits  string
}

func (t *topology) status() logState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return logState{leader: t.log.Leader(), led: t.log.Led(), voters: t.log.Voters(), waits: t.log.Waits()}
}

// logStatus is how the log stands on this node, for metrics.
func (t *topology) logStatus() membership.LogStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Status()
}

func nodeID(id [16]byte) string {
	if id == ([16]byte{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

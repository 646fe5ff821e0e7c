package tanodb

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// request drives one machine of package coordinator. It has no goroutine of
// its own: whoever brings an event steps the machine, and performs the effects.
// If the machine is being stepped already, the event is left for the one who does.
type request struct {
	node     *Node
	machine  coordinator.Machine
	answered func()  // called once, when the machine has its result or has panicked
	trace    *tracer // changed under the lock; nil: nobody watches
	trail    *trail  // nil: it is not recorded

	mu       sync.Mutex
	stepping bool
	given    bool // answered was called; of whoever steps
	over     bool
	told     bool // it has been answered; Invariant: changed under the lock of requests
	events   []coordinator.Event
	effects  []coordinator.Effect
	wakes    []time.Duration // when the machine wants a Tick
	timer    *time.Timer
	panicked error
	room     room
}

// room is what events, effects and wakes of a request of few replicas fit into, so
// that their slices need not grow from nothing in each one.
type room struct {
	events  [fewReplicas + 1]coordinator.Event
	effects [fewReplicas + 3]coordinator.Effect
	wakes   [2]time.Duration
}

// fewReplicas is how many replicas nearly every request has. With more of them
// the slices grow.
const fewReplicas = 3

// start registers the request and begins it. It returns false if the node is
// closing or has as many requests as it may.
func (n *Node) start(m coordinator.Machine, watch *tracer, t *trail, answered func()) (*request, error) {
	r := n.newRequest(m, t, answered)
	r.trace = watch
	if err := n.requests.admit(r, n); err != nil {
		return nil, err
	}
	r.feed(coordinator.Start{})
	return r, nil
}

func (n *Node) newRequest(m coordinator.Machine, t *trail, answered func()) *request {
	r := &request{node: n, machine: m, trail: t, answered: answered}
	r.events, r.effects, r.wakes = r.room.events[:0], r.room.effects[:0], r.room.wakes[:0]
	return r
}

// feed gives the machine an event.
func (r *request) feed(ev coordinator.Event) {
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	r.events = append(r.events, ev)
	if r.stepping {
		r.mu.Unlock()
		return
	}
	r.stepping = true
	for len(r.events) > 0 && !r.over {
		ev := r.events[0]
		r.events = slices.Delete(r.events, 0, 1)
		effects := r.step(ev)
		r.mu.Unlock()
		r.perform(effects)
		r.mu.Lock()
	}
	r.stepping = false
	r.mu.Unlock()
}

// step runs the machine; the caller holds the lock. A panic ends this request, with an error
// unless it has its answer, and no other.
func (r *request) step(ev coordinator.Event) (effects []coordinator.Effect) {
	defer func() {
		if p := recover(); p != nil {
			r.node.metrics.panics.WithLabelValues("request").Inc()
			r.node.log.Error("a request has panicked; please report this", "panic", p, "stack", string(debug.Stack()))
			r.finish()
			if r.given {
				return
			}
			r.panicked = fmt.Errorf("%w: %v", kv.ErrInternal, p)
			effects = []coordinator.Effect{coordinator.Answer{}}
		}
	}()
	now := r.node.elapsed()
	if r.trace == nil {
		r.effects = r.machine.Step(now, ev, r.effects[:0])
	} else {
		before := phaseOf(r.machine)
		r.effects = r.machine.Step(now, ev, r.effects[:0])
		r.trace.step(now, before, ev, r.effects, r.machine)
	}
	if r.machine.Done() {
		r.finish()
	}
	return r.effects
}

// finish lets go of the machine; the caller holds the lock.
func (r *request) finish() {
	r.over = true
	r.trace.end(r.node.elapsed())
	if r.timer != nil {
		r.timer.Stop()
	}
	r.node.requests.remove(r)
}

// abandon ends a request whose caller has gone.
func (r *request) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.finish()
	}
}

// perform does what the machine wants done: sends first, since a local read may be
// done at once, here.
func (r *request) perform(effects []coordinator.Effect) {
	if r.trail != nil {
		r.trail.effects(effects, r.machine.Done())
	}
	var few [fewReplicas]coordinator.Ask
	near := few[:0]
	for _, e := range effects {
		switch e := e.(type) {
		case coordinator.Ask:
			if e.To.Role == kv.Fallback {
				r.node.metrics.standIns.Inc()
			}
			if e.To.Node == r.node.self {
				near = append(near, e)
				continue
			}
			r.send(e)
		case coordinator.Wake:
			r.wake(e.At)
		case coordinator.Answer:
			if !r.node.requests.answered(r) {
				r.abandon()
			}
			r.given = true
			r.answered()
		case coordinator.Refresh:
			r.refresh(e)
		case coordinator.Note:
			r.node.metrics.note(r.node, e)
		}
	}
	for _, e := range near {
		r.local(e)
	}
}

// refresh gives the machine a newer topology, if there is one.
func (r *request) refresh(e coordinator.Refresh) {
	done := func() { r.feed(coordinator.Refreshed{View: r.node.view()}) }
	if r.node.state().Epoch() >= e.Epoch || e.Node == r.node.self {
		done()
		return
	}
	r.node.topology.catchUp(e.Node, e.Epoch, done)
}

// local asks a vnode of this node.
func (r *request) local(e coordinator.Ask) {
	if r.trail != nil {
		r.trail.local(e)
	}
	switch e.Msg.(type) {
	case *vnode.Coordinate, *vnode.Store:
		r.node.vnodes.submit(command{to: e.To.Partition, msg: e.Msg, epoch: e.Epoch, request: r, i: e.I})
	default:
		if r.node.network == nil {
			r.replied(e.I, r.node.read(e.To.Partition, e.Epoch, e.Msg))
			return
		}
		r.node.reads.submit(readTask{to: e.To.Partition, msg: e.Msg, epoch: e.Epoch, reply: func(m vnode.Message) {
			r.replied(e.I, m)
		}})
	}
}

// replied takes the answer of a vnode of this node.
func (r *request) replied(i int, m vnode.Message) {
	if r.trail != nil {
		r.trail.replied(i, m)
	}
	r.feed(coordinator.Replied{I: i, Msg: m})
}

// send asks a vnode of another node.
func (r *request) send(e coordinator.Ask) {
	now := r.node.elapsed()
	left := r.left(now)
	f := transport.Frame{Epoch: e.Epoch, Timeout: left, To: e.To.Partition, Msg: e.Msg}
	var span trace.Span
	if r.trail != nil {
		f.Trace, span = r.trail.far(e)
	}
	busy := r.node.busyWith(e.To.Node)
	busy.open.Add(1)
	r.node.network.Ask(e.To.Node, transport.Requests, f, time.Now().Add(left), func(m vnode.Message, err error) {
		busy.open.Add(-1)
		if span != nil {
			endAsk(span, m, err)
		}
		if measured && err == nil {
			busy.seconds.Observe((r.node.elapsed() - now).Seconds())
		}
		if err != nil {
			m = nil
		}
		r.node.menders.heard(e.Msg, m) // the machine may be done already
		switch {
		case err == nil:
			r.feed(coordinator.Replied{I: e.I, Msg: m})
		case errors.Is(err, transport.ErrNotSent):
			r.feed(coordinator.NotSent{I: e.I, Why: err.Error()})
		default:
			r.node.live.missed(e.To.Node)
			r.feed(coordinator.Lost{I: e.I, Why: err.Error()})
		}
	})
}

// messageLife is how long a message that nobody waits for any more, such as a
// read repair, may travel.
const messageLife = 10 * time.Second

// left is the time until the machine gives up: the last of its wakes.
func (r *request) left(now time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || len(r.wakes) == 0 {
		return messageLife
	}
	return max(slices.Max(r.wakes)-now, time.Millisecond)
}

// wake arranges a Tick.
func (r *request) wake(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.wakes = append(r.wakes, at)
	r.arm()
}

// arm sets the timer to the first wake; the caller holds the lock.
func (r *request) arm() {
	if len(r.wakes) == 0 {
		return
	}
	d := max(slices.Min(r.wakes)-r.node.elapsed(), 0)
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.tick)
		return
	}
	r.timer.Reset(d)
}

// tick is what the timer calls.
func (r *request) tick() {
	now := r.node.elapsed()
	r.mu.Lock()
	r.wakes = slices.DeleteFunc(r.wakes, func(at time.Duration) bool { return at <= now })
	if !r.over {
		r.arm()
	}
	r.mu.Unlock()
	r.feed(coordinator.Tick{})
}

// view is what a machine may know when it begins.
func (n *Node) view() coordinator.View {
	s, v := n.state(), n.outlook
	v.Ring, v.Next = s.Ring(), s.Next()
	v.Epoch, v.Fence = s.Epoch(), s.Fence()
	v.Replicas, v.Fewest = s.Replicas(), s.Fewest
	v.Now, v.Wall = n.elapsed(), n.o.Clock()
	v.Random = n.random()
	return v
}

// newOutlook is the part of every view that stays the same as long as the node lives:
// whom it can ask.
func newOutlook(n *Node) coordinator.View {
	return coordinator.View{Self: n.self, Up: n.live.up, Load: n.load, Skewed: n.clocks.off, Props: n.props}
}

// props are the properties of a bucket, within the limits of this node.
func (n *Node) props(b kv.Bucket) (*kv.Props, error) {
	p, err := n.state().Props(b)
	o := n.tuning()
	if err != nil || p.SizeMax <= o.MaxObject && p.SiblingMax <= o.MaxSiblings {
		return p, err
	}
	less := *p
	less.SizeMax, less.SizeWarn = min(p.SizeMax, o.MaxObject), min(p.SizeWarn, o.MaxObject)
	less.SiblingMax, less.SiblingWarn = min(p.SiblingMax, o.MaxSiblings), min(p.SiblingWarn, o.MaxSiblings)
	return &less, nil
}

// run drives a machine until it answers, or the caller has had enough, or the
// node ends. Only if the error is nil does the machine have a result.
func (n *Node) run(ctx context.Context, m coordinator.Machine, t *trail) error {
	_, err := n.drive(ctx, m, t)
	return err
}

// runWrite is run for a write: one that was begun and has no result is in doubt.
func (n *Node) runWrite(ctx context.Context, m coordinator.Machine, t *trail) error {
	begun, err := n.drive(ctx, m, t)
	if begun && err != nil {
		return fmt.Errorf("%w: %w", kv.ErrInDoubt, err)
	}
	return err
}

func (n *Node) drive(ctx context.Context, m coordinator.Machine, t *trail) (begun bool, err error) {
	if ctx.Err() != nil {
		return false, cancelled(ctx)
	}
	answered := make(chan struct{})
	r, err := n.start(m, newTracer(ctx, n.elapsed()), t, func() { close(answered) })
	if err != nil {
		return false, err
	}
	select {
	case <-answered:
		return true, r.panicked
	case <-ctx.Done():
		err = cancelled(ctx)
	case <-n.gone:
		err = kv.ErrClosed
	case <-n.failed:
		err = kv.ErrClosed
	}
	r.abandon()
	return true, err
}

// cancelled is the error of a request whose caller has gone.
func cancelled(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", kv.ErrTimeout, context.Cause(ctx))
	}
	return context.Cause(ctx)
}

// maxRepairing is how many requests that are answered may wait on, to repair
// late replicas. More of them end without: another read will find the same.
const maxRepairing = 10_000

// requests are those in progress on a node.
type requests struct {
	mu        sync.Mutex
	set       map[*request]struct{}
	repairing int           // those of set that are answered
	empty     chan struct{} // closed when the last one of a closing node has ended; nil: nobody waits
}

func (q *requests) init() { q.set = make(map[*request]struct{}) }

// admit takes a request in, unless the node is closing or full. One that is
// answered and goes on to repair does not count.
func (q *requests) admit(r *request, n *Node) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n.refuses() {
		return kv.ErrClosed
	}
	if open := len(q.set) - q.repairing; open >= n.tuning().MaxRequests {
		n.metrics.overload.requests.Inc()
		return fmt.Errorf("%w: %d requests are in progress on node %s, its limit", kv.ErrOverload, open, n.self)
	}
	q.set[r] = struct{}{}
	return nil
}

// answered notes that a request has its answer, and reports whether it may go
// on to repair.
func (q *requests) answered(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, in := q.set[r]; !in || r.told {
		return true
	}
	r.told = true
	q.repairing++
	return q.repairing <= maxRepairing
}

func (q *requests) remove(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, in := q.set[r]; !in {
		return
	}
	delete(q.set, r)
	if r.told {
		q.repairing--
	}
	if len(q.set) == 0 && q.empty != nil {
		close(q.empty)
		q.empty = nil
	}
}

func (q *requests) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.set)
}

func (q *requests) all() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]*request, 0, len(q.set))
	for r := range q.set {
		all = append(all, r)
	}
	return all
}

// nodeDown tells every request.
func (q *requests) nodeDown(node string) {
	for _, r := range q.all() {
		r.feed(coordinator.NodeDown{Node: node})
	}
}

// drain waits for the requests in progress.
func (q *requests) drain(ctx context.Context) {
	q.mu.Lock()
	if len(q.set) == 0 {
		q.mu.Unlock()
		return
	}
	if q.empty == nil {
		q.empty = make(chan struct{})
	}
	empty := q.empty
	q.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

// abandon ends those that are still there.
func (q *requests) abandon() {
	for _, r := range q.all() {
		r.abandon()
	}
}

package tanodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

const (
	// maxMailbox is how many commands may wait for one vnode; one more is
	// refused.
	maxMailbox = 1_000

	// maxQueuedBytes is how many bytes of objects may wait for all vnodes of the node, in equal
	// shares for the workers; one more command is refused, unless it is alone.
	maxQueuedBytes = 512 << 20

	// maxBatch is how many commands of all its vnodes a worker takes at once,
	// and maxBatchBytes how many bytes of objects.
	maxBatch      = 512
	maxBatchBytes = 8 << 20

	// maxUnsynced is how many engine batches of a worker may be on their way to the
	// disk. While they are, the next one collects commands: that is what makes
	// one engine batch serve many of them.
	maxUnsynced = 2
)

// command is a message for a vnode of this node, and where its answers go: to
// a request of this node, or back over the network.
type command struct {
	to      ring.Partition
	msg     vnode.Message
	epoch   uint64   // of the topology that the sender went by
	request *request // nil: reply
	i       int      // the request's number for it
	reply   func(vnode.Message)
	size    int // bytes of objects in it; of the worker
}

func (c *command) answer(m vnode.Message) {
	if c.request != nil {
		c.request.replied(c.i, m)
		return
	}
	c.reply(m)
}

// host runs the vnodes of a node. A few workers share them, each vnode belonging to one:
// it drains the mailboxes of all its vnodes into one engine batch, since every
// batch costs the engine and the disk about as much as every other.
type host struct {
	node    *Node
	workers []*worker
	shared  object.Actor // of all vnodes, for a planted bug
	running atomic.Int32 // workers whose Serve has not returned

	treeless bool // vnodes keep no hash trees, in the benchmark of what these cost
}

// newHost makes the workers. A vnode begins when it is first written to, for any
// partition: a node stands in for others. Those that ended cleanly go on as the incarnation they
// were.
func newHost(n *Node, resume map[ring.Partition]incarnation) *host {
	h := &host{node: n, workers: make([]*worker, min(runtime.GOMAXPROCS(0), 8)), shared: freshActor()}
	r := n.state().Ring()
	share := max(r.Owned(n.self), r.Size()/len(r.Nodes()))
	cache := int(n.o.CacheBytes) / headCacheShare / max(share, 1)
	for i := range h.workers {
		h.workers[i] = &worker{
			node: n, host: h, name: "worker " + strconv.Itoa(i), headCache: cache,
			vnodes: make(map[ring.Partition]*tenant), resume: make(map[ring.Partition]incarnation),
			wake: make(chan struct{}, 1), orders: make(chan func()),
		}
	}
	for p, inc := range resume {
		h.worker(p).resume[p] = inc
	}
	return h
}

func (h *host) worker(p ring.Partition) *worker {
	return h.workers[int(p)%len(h.workers)]
}

// services are the workers, to be supervised.
func (h *host) services() map[string]suture.Service {
	s := make(map[string]suture.Service, len(h.workers))
	for _, w := range h.workers {
		s[w.name] = w
	}
	return s
}

// submit puts a command into its vnode's mailbox, or refuses it.
func (h *host) submit(c command) {
	if size := h.node.state().Ring().Size(); int(c.to) >= size {
		c.answer(&vnode.Refusal{Code: vnode.CodeInvalid, Text: fmt.Sprintf("the ring of %d partitions has no partition %d", size, c.to)})
		return
	}
	h.worker(c.to).submit(c)
}

// incarnations are those of all vnodes, begun or not; no worker may run any more.
func (h *host) incarnations() map[ring.Partition]incarnation {
	all := make(map[ring.Partition]incarnation)
	for _, w := range h.workers {
		w.mu.Lock()
		maps.Copy(all, w.resume)
		for p, t := range w.vnodes {
			actor, counter := t.vnode.Incarnation()
			all[p] = incarnation{actor, counter}
		}
		w.mu.Unlock()
	}
	return all
}

// incarnation is what a vnode goes on with after a clean shutdown.
type incarnation struct {
	actor   object.Actor
	counter uint64
}

// tenant is a vnode at its worker.
type tenant struct {
	vnode  *vnode.Vnode
	queued int // commands in its mailbox

	// Of the batch at hand:
	cmds []command
	msgs []vnode.Message
	out  vnode.Outcome
	died error // it did not survive the batch
}

// queued is how many commands wait for the vnodes, and how many for the one with the most.
func (h *host) queued() (all, most int) {
	for _, w := range h.workers {
		w.mu.Lock()
		all += len(w.queue)
		for _, t := range w.vnodes {
			most = max(most, t.queued)
		}
		w.mu.Unlock()
	}
	return all, most
}

// worker runs some vnodes: one goroutine that handles batches, and one that
// waits for them to be durable.
type worker struct {
	node      *Node
	host      *host
	name      string
	headCache int
	wake      chan struct{}
	orders    chan func() // what is to be done between two batches

	mu       sync.Mutex
	ended    bool        // it takes no commands, since it runs no more
	inflight []*unsynced // batches whose commands are not all answered

	vnodes map[ring.Partition]*tenant     // those that have begun
	resume map[ring.Partition]incarnation // those that may go on, and have not begun
	queue  []command
	queued int           // bytes of objects in the queue
	oldest time.Duration // about when the first of the queue came
	spare  []command     // the queue's memory, when it is handled

	batch   storage.Batch
	turn    []*tenant  // those with commands in the batch at hand
	refused []released // commands that came by an old topology

	placesOf *membership.State          // that own speaks of
	own      map[[2]ring.Partition]bool // by vnode and home: the vnode should hold it
}

// incarnate makes a vnode.
func (w *worker) incarnate(p ring.Partition, inc incarnation) *vnode.Vnode {
	return vnode.New(vnode.Config{Partition: p, Actor: inc.actor, Counter: inc.counter, Life: w.node.life, HeadCache: w.headCache, Treeless: w.host.treeless}, w.node.engine)
}

func (w *worker) submit(c command) {
	if m := w.node.unwell(c.msg); m != nil {
		c.answer(m)
		return
	}
	c.size = sizeOf(c.msg)
	first, refusal := w.enqueue(c)
	if refusal != nil {
		c.answer(refusal)
		return
	}
	if first {
		w.rouse()
	}
}

// enqueue puts a command into the queue, or says why not.
func (w *worker) enqueue(c command) (first bool, refusal vnode.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false, closing()
	}
	t := w.tenant(c.to)
	switch share := maxQueuedBytes / max(len(w.host.workers), 1); {
	case t.queued >= maxMailbox:
		return false, w.overload(fmt.Sprintf("%d commands wait for the vnode, its limit", maxMailbox))
	case w.queued > 0 && w.queued+c.size > share:
		return false, w.overload(fmt.Sprintf("%d bytes of objects wait for the vnode and those beside it; the limit is %d", w.queued, share))
	}
	t.queued++
	w.queued += c.size
	w.queue = append(w.queue, c)
	first = len(w.queue) == 1
	if first {
		w.oldest = w.node.elapsed()
	}
	return first, nil
}

func (w *worker) overload(why string) vnode.Message {
	w.node.metrics.overload.commands.Inc()
	return &vnode.Refusal{Code: vnode.CodeOverload, Text: why}
}

// tenant is the vnode of a partition, begun if need be; the caller holds the
// lock.
func (w *worker) tenant(p ring.Partition) *tenant {
	t := w.vnodes[p]
	if t != nil {
		return t
	}
	inc, ok := w.resume[p]
	delete(w.resume, p)
	if !ok {
		inc = incarnation{actor: freshActor()}
	}
	if planted.Is(planted.SharedActor) {
		inc.actor = w.host.shared
	}
	t = &tenant{vnode: w.incarnate(p, inc)}
	w.vnodes[p] = t
	return t
}

// rouse makes the worker look into its mailboxes.
func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// unsynced is a batch on its way to the disk: what to say when it is durable.
type unsynced struct {
	commit  storage.Commit // nil: nobody waits for it
	answers []released
	cmds    []command
	given   bool // all are answered, since the disk stands still; under the lock
}

// track keeps the commands of the batch at hand, so that they can be answered
// whatever the disk does.
func (w *worker) track() *unsynced {
	u := &unsynced{}
	for _, t := range w.turn {
		u.cmds = append(u.cmds, t.cmds...)
	}
	w.mu.Lock()
	w.inflight = append(w.inflight, u)
	w.mu.Unlock()
	return u
}

// untrack lets go of a batch, and reports whether its commands are answered already.
func (w *worker) untrack(u *unsynced) (given bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inflight = slices.DeleteFunc(w.inflight, func(x *unsynced) bool { return x == u })
	return u.given
}

// told reports whether the commands of a batch are answered already.
func (w *worker) told(u *unsynced) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return u.given
}

// released is an answer and the command it is for.
type released struct {
	command
	msg vnode.Message
}

// Serve handles batches until the context ends. It is a suture.Service.
func (w *worker) Serve(ctx context.Context) error {
	w.host.running.Add(1)
	defer w.host.running.Add(-1)
	pending := make(chan *unsynced, maxUnsynced-1)
	var synced sync.WaitGroup
	synced.Go(func() { w.release(pending) })
	defer synced.Wait()
	defer close(pending)
	w.recover()
	for {
		select {
		case <-w.wake:
		case do := <-w.orders:
			do()
		case <-ctx.Done():
			w.refuseAll()
			return ctx.Err()
		}
		for w.take() {
			if u := w.handle(); u != nil {
				pending <- u
			}
		}
	}
}

// recover ends what a panic of the worker itself has left: whether the batch at
// hand was applied is not known.
func (w *worker) recover() {
	w.mu.Lock()
	w.inflight = nil // those before it are answered; that of the panic is now
	w.mu.Unlock()
	for _, t := range w.turn {
		if len(t.cmds) == 0 {
			continue
		}
		t.vnode = w.incarnate(t.cmds[0].to, incarnation{actor: freshActor()})
		for _, c := range t.cmds {
			c.answer(&vnode.Failure{Code: vnode.CodeInternal, Text: "the vnode's worker has panicked"})
		}
	}
	w.forget()
	w.rouse() // commands may have come meanwhile, or have been left behind
}

// release waits for the batches to be durable, in order, and releases their
// answers.
func (w *worker) release(pending <-chan *unsynced) {
	for u := range pending {
		var err error
		if u.commit != nil {
			err = u.commit.Wait()
		}
		if err != nil {
			w.node.fail(fmt.Errorf("tanodb: making a batch durable: %w", err))
		}
		if w.untrack(u) {
			continue
		}
		for _, a := range u.answers {
			if err != nil {
				a.msg = &vnode.Failure{Code: vnode.CodeStorage, Text: err.Error()}
			}
			a.answer(a.msg)
		}
	}
}

// take moves commands from the mailboxes to the batch at hand, and reports
// whether there are any.
func (w *worker) take() bool {
	w.mu.Lock()
	queue := w.queue
	n, size := 0, 0
	for n < len(queue) && n < maxBatch && size < maxBatchBytes {
		size += queue[n].size
		n++
	}
	w.queued -= size
	if n > 0 {
		w.node.metrics.batch(n, w.node.elapsed()-w.oldest)
	}
	w.queue = append(w.spare[:0], queue[n:]...)
	w.turn = w.turn[:0]
	refused := w.refused[:0]
	s := w.node.state()
	for _, c := range queue[:n] {
		t := w.vnodes[c.to]
		t.queued--
		if m := w.node.objection(s, c.to, c.epoch, c.msg); m != nil {
			refused = append(refused, released{c, m})
			continue
		}
		if len(t.cmds) == 0 {
			w.turn = append(w.turn, t)
		}
		t.cmds = append(t.cmds, c)
		t.msgs = append(t.msgs, c.msg)
	}
	w.mu.Unlock()
	for _, r := range refused {
		r.answer(r.msg)
	}
	clear(refused)
	w.refused = refused
	clear(queue)
	w.spare = queue[:0]
	return n > 0
}

func sizeOf(m vnode.Message) int {
	switch m := m.(type) {
	case *vnode.Coordinate:
		return len(m.Write.Body) + crdt.SizeOf(m.Write.Op)
	case *vnode.Store:
		return len(m.Object)
	case *vnode.Deliver:
		return sizeOfItems(m.Items)
	case *vnode.Fill:
		return sizeOfItems(m.Items)
	}
	return 0
}

func sizeOfItems(items []vnode.Item) int {
	n := 0
	for i := range items {
		n += len(items[i].Object)
	}
	return n
}

// handle lets each vnode handle its commands, applies what they have written,
// and releases the early answers. It returns the others; nil: there are none. A panic in it
// leaves the batch at hand to recover.
func (w *worker) handle() *unsynced {
	wall := w.node.o.Clock().UnixMilli()
	for _, t := range w.turn {
		w.protect(t, wall)
	}
	w.batch.Urgent = w.frees()
	u := w.track()
	sync := w.node.o.Durability == Sync || w.moves()
	commit, err := w.node.engine.Apply(&w.batch, sync)
	if err != nil {
		w.notApplied(err, w.untrack(u))
		w.forget()
		return nil
	}
	w.node.metrics.applied()
	if sync {
		u.commit = commit
	}
	told := w.told(u)
	for _, t := range w.turn {
		w.mark(t)
		w.strays(t)
		if p := t.cmds[0].to; t.out.Lost {
			w.node.lacking[p].Store(true)
			w.node.movers.lost(p)
		}
		for _, a := range t.out.Durable {
			u.answers = append(u.answers, released{t.cmds[a.Cmd], a.Msg})
		}
		for _, a := range t.out.Early {
			if !told {
				t.cmds[a.Cmd].answer(a.Msg)
			}
		}
		for _, note := range t.out.Notes {
			if note.Kind == vnode.NoteCorrupt {
				w.node.reapers.lost.Add(1)
			}
			w.node.metrics.vnodeNote(w.node, t.cmds[0].to, note)
			if note.Kind == vnode.NoteCorrupt && !t.out.Lost {
				w.node.scrub.suspect(t.cmds[0].to)
			}
		}
		w.minted(t)
		if t.died != nil {
			w.replace(t, vnode.CodeInternal, t.died, told)
		}
	}
	w.node.metrics.stored(len(u.answers))
	w.forget()
	return u
}

// moves reports whether the batch at hand takes data over from other nodes, which
// then drop theirs: that must be durable, whatever is promised to clients.
func (w *worker) moves() bool {
	for _, t := range w.turn {
		for _, m := range t.msgs {
			switch m.(type) {
			case *vnode.Deliver, *vnode.Fill, *vnode.Attest, *vnode.Reap, *vnode.Wipe, *vnode.SetLacking, *vnode.Retree:
				return true
			}
		}
	}
	return false
}

// frees reports whether the batch at hand does nothing but give space back, which
// a disk that is nearly full needs most.
func (w *worker) frees() bool {
	for _, t := range w.turn {
		for _, m := range t.msgs {
			if _, ok := m.(*vnode.Sweep); !ok {
				return false
			}
		}
	}
	return true
}

// strays tells hand-off of writes for keys that this vnode should not hold.
func (w *worker) strays(t *tenant) {
	if w.node.network == nil {
		return
	}
	s := w.node.state()
	if w.placesOf != s {
		w.placesOf, w.own = s, make(map[[2]ring.Partition]bool)
	}
	for i := range t.cmds {
		var home ring.Partition
		switch m := t.msgs[i].(type) {
		case *vnode.Store:
			home = m.Home
		case *vnode.Coordinate:
			home = m.Home
		case *vnode.Deliver:
			home = m.Home
		case *vnode.Fill:
			home = m.Home
		default:
			continue
		}
		p := t.cmds[i].to
		own, known := w.own[[2]ring.Partition{p, home}]
		if !known {
			own = handoff.Placed(s, w.node.self, p, home)
			w.own[[2]ring.Partition{p, home}] = own
		}
		if !own {
			if int(home) < len(w.node.reapers.strayed) {
				w.node.reapers.strayed[home].Add(1)
			}
			w.node.movers.stray(p, home)
		}
	}
}

// mark notes whether the vnode lacks data from now on.
func (w *worker) mark(t *tenant) {
	for i := range t.cmds {
		if m, ok := t.msgs[i].(*vnode.SetLacking); ok && t.died == nil {
			w.node.lacking[t.cmds[i].to].Store(m.On)
			w.node.reapers.lost.Add(1)
		}
	}
}

// protect runs one vnode. One that panics takes none of the others with it:
// what it wrote is taken out of the batch.
func (w *worker) protect(t *tenant, wall int64) {
	written := len(w.batch.Ops)
	defer func() {
		if p := recover(); p != nil {
			w.node.metrics.panics.WithLabelValues("vnode").Inc()
			w.node.log.Error("a vnode has panicked and begins anew; please report this",
				"partition", int(t.cmds[0].to), "panic", p, "stack", string(debug.Stack()))
			clear(w.batch.Ops[written:])
			w.batch.Ops = w.batch.Ops[:written]
			t.died = fmt.Errorf("the vnode has panicked: %v", p)
			t.out = vnode.Outcome{}
		}
	}()
	t.out = t.vnode.Handle(wall, t.msgs, &w.batch)
}

// notApplied refuses the commands of a batch that the engine did not take.
// What the vnodes now believe they stored is wrong: they begin anew.
func (w *worker) notApplied(err error, told bool) {
	code := vnode.CodeStorage
	if errors.Is(err, storage.ErrFull) {
		code = vnode.CodeFull
	} else {
		w.node.fail(fmt.Errorf("tanodb: the engine refuses writes: %w", err))
	}
	for _, t := range w.turn {
		w.replace(t, code, err, told)
	}
}

// replace puts a new incarnation in the place of a vnode, and refuses its
// commands, unless they have been told something already.
func (w *worker) replace(t *tenant, code vnode.Code, why error, told bool) {
	t.vnode = w.incarnate(t.cmds[0].to, incarnation{actor: freshActor()})
	if told {
		return
	}
	for _, c := range t.cmds {
		c.answer(&vnode.Refusal{Code: code, Text: why.Error()})
	}
}

// forget lets go of the batch at hand.
func (w *worker) forget() {
	w.batch.Reset()
	for _, t := range w.turn {
		clear(t.cmds)
		clear(t.msgs)
		t.cmds, t.msgs = t.cmds[:0], t.msgs[:0]
		t.out, t.died = vnode.Outcome{}, nil
	}
}

func closing() vnode.Message {
	return &vnode.Refusal{Code: vnode.CodeClosing, Text: "the node is shutting down"}
}

// refuseAll answers what is still in the mailboxes of a node that closes. What comes later is
// refused.
func (w *worker) refuseAll() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	for w.take() {
		for _, t := range w.turn {
			for _, c := range t.cmds {
				c.answer(closing())
			}
		}
		w.forget()
	}
}

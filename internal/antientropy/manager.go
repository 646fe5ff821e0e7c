package antientropy

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/pace"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// notYet is how long a pair waits that could not be compared for a reason that is no
// failure: the other side has another topology, or is being rebuilt.
const notYet = 2 * time.Second

// Manager compares the replicas of one node with those of others. It is not safe
// for concurrent use.
type Manager struct {
	self   string
	limits Limits
	now    time.Duration
	up     map[string]bool
	top    Topology
	known  bool // there is a topology
	paused bool
	out    []Effect

	pairs   []*work // in the order of homes and places
	extras  []*work // pairs that the other node compares, and that this one compares once: see doubt
	running []*run
	asks    int // Asks and Dos so far
	bytes   pace.Bucket
	objects pace.Bucket
	totals  Totals

	wakeAt time.Duration // of the last Wake; 0: none is to come
}

// work is a pair, and how it stands with it.
type work struct {
	Pair
	due   time.Duration // when it is to be compared next
	last  time.Duration // when it was compared to the end; 0: never
	fails int           // in a row
	err   string
	once  bool // one of extras

	// again is by when it is to be compared once more, since it was doubted while it was
	// compared: what the doubt is about may have come behind the comparison. 0: it was not.
	again time.Duration
}

// run is an exchange at work.
type run struct {
	work     *work
	exchange *Exchange
	begun    time.Duration
	epoch    uint64 // when it began
	pending  int    // the Ask or Do that it waits for; 0: none
	asked    Request
	sent     time.Duration
	until    time.Duration // the end of a pause; 0: it is in none
	moved    int           // objects of its tally that are paid for
	size     int64         // bytes, the same
}

// Totals are what has come of all exchanges so far.
type Totals struct {
	Exchanges int // that went to their end
	Equal     int // of which found nothing that differed
	Failed    int // that were broken off
	Tally         // of all, also those that were broken off
}

// New returns the Manager of a node that knows nothing yet.
func New(self string, l Limits) *Manager {
	return &Manager{self: self, limits: l.withDefaults(), up: make(map[string]bool)}
}

// Step consumes one event and appends what is to be done. Now is monotonic time
// since any fixed moment.
func (m *Manager) Step(now time.Duration, ev Event, out []Effect) []Effect {
	m.now = max(m.now, now)
	m.out = out
	m.consume(ev)
	if m.known && !m.paused {
		m.expire()
		m.pump()
		m.wake()
	}
	out, m.out = m.out, nil
	return out
}

func (m *Manager) consume(ev Event) {
	switch ev := ev.(type) {
	case Adopted:
		m.adopt(ev.Topology)
	case NodeUp:
		m.nodeUp(ev.Node)
	case NodeDown:
		m.nodeDown(ev.Node)
	case Restarted:
		m.recheck(ev.Node)
	case Replied:
		m.replied(ev.I, ev.Msg)
	case Suspect:
		if m.known && int(ev.Home) < m.top.Ring.Size() {
			m.doubt(ev.Home, m.now+m.limits.RetryFirst)
		}
	case Lost:
		if r := m.waiting(ev.I); r != nil {
			m.fail(r, ev.Why)
		}
	case Pause:
		m.paused = true
		for _, r := range slices.Clone(m.running) {
			m.end(r)
		}
	case Resume:
		m.paused = false
	case SetLimits:
		m.limits = ev.Limits.withDefaults()
		for _, w := range m.pairs {
			w.due = min(w.due, m.now+m.limits.Every)
		}
	case Tick:
		if m.now >= m.wakeAt {
			m.wakeAt = 0
		}
	}
}

func (m *Manager) emit(e Effect) { m.out = append(m.out, e) }

func (m *Manager) isUp(node string) bool { return node == m.self || m.up[node] }

// adopt goes on with the pairs of another topology. Those that are new are compared soon.
func (m *Manager) adopt(t Topology) {
	if t.Ring == nil || m.known && t.Epoch < m.top.Epoch {
		return
	}
	same := m.known && t.Replicas == m.top.Replicas && t.Ring.Equal(m.top.Ring)
	m.known, m.top = true, t
	had := make(map[Pair]*work)
	if !same { // most epochs leave the owners as they are
		had = m.pair()
	}
	for _, r := range slices.Clone(m.running) {
		if had[r.work.Pair] != nil || r.work.once {
			m.end(r) // it is none any more
		}
	}
	doubtful := m.extras
	m.extras = nil
	for _, w := range doubtful { // of the same homes, with those that have their places now
		if int(w.Home) < t.Ring.Size() {
			m.doubt(w.Home, w.due)
		}
	}
}

// pair makes the pairs those of the topology, and returns those that are none any more.
func (m *Manager) pair() map[Pair]*work {
	had := make(map[Pair]*work, len(m.pairs))
	for _, w := range m.pairs {
		had[w.Pair] = w
	}
	m.pairs = m.pairs[:0:0]
	for _, p := range pairsOf(m.top, m.self) {
		w := had[p]
		if w == nil {
			w = &work{Pair: p, due: m.now}
		}
		delete(had, p)
		m.pairs = append(m.pairs, w)
	}
	return had
}

// doubt makes this node's replicas of a home due by some time, each with all others of
// that home: one of them has, or may have, what others lack. For the pairs that the other
// node compares it cannot be left to that one, which may know nothing of it.
func (m *Manager) doubt(home ring.Partition, by time.Duration) {
	places := m.top.Ring.Primaries(home, m.top.Replicas)
	for i, here := range places {
		if here.Node != m.self {
			continue
		}
		for j, there := range places {
			if j > i || j < i && there.Node != m.self {
				w := m.work(Pair{home, plain(here), plain(there)}, j < i)
				w.due = min(w.due, by)
				if m.compares(w) && (w.again == 0 || by < w.again) {
					w.again = by
				}
			}
		}
	}
}

// compares reports whether a pair is being compared.
func (m *Manager) compares(w *work) bool {
	return slices.ContainsFunc(m.running, func(r *run) bool { return r.work == w })
}

// work is what there is to do about a pair. One that is the other node's to compare is
// added; it goes once it has been compared.
func (m *Manager) work(p Pair, once bool) *work {
	list := &m.pairs
	if once {
		list = &m.extras
	}
	for _, w := range *list {
		if w.Pair == p {
			return w
		}
	}
	w := &work{Pair: p, due: m.now + m.limits.Every, once: once}
	*list = append(*list, w)
	return w
}

// pairsOf are the pairs that the node compares: those of its places with the later ones
// of each home.
func pairsOf(t Topology, self string) []Pair {
	var pairs []Pair
	for home := range t.Ring.Size() {
		places := t.Ring.Primaries(ring.Partition(home), t.Replicas)
		for i, here := range places {
			if here.Node != self {
				continue
			}
			for _, there := range places[i+1:] {
				pairs = append(pairs, Pair{ring.Partition(home), plain(here), plain(there)})
			}
		}
	}
	return pairs
}

// plain is the place without what it is in some list.
func plain(r ring.Replica) ring.Replica { return ring.Replica{Partition: r.Partition, Node: r.Node} }

// nodeUp makes what is shared with the node due: it may have missed something.
func (m *Manager) nodeUp(node string) {
	m.up[node] = true
	m.recheck(node)
}

// recheck makes what is shared with the node due, and once more what is being compared.
func (m *Manager) recheck(node string) {
	for w := range m.all() {
		if w.There.Node != node {
			continue
		}
		w.due, w.fails = min(w.due, m.now), 0
		if m.compares(w) {
			w.again = m.now
		}
	}
}

func (m *Manager) nodeDown(node string) {
	delete(m.up, node)
	for _, r := range slices.Clone(m.running) {
		if r.work.There.Node == node && node != m.self {
			m.fail(r, node+" went down")
		}
	}
}

// replied hands an answer to the exchange that waits for it.
func (m *Manager) replied(i int, msg vnode.Message) {
	r := m.waiting(i)
	if r == nil {
		return
	}
	switch msg := msg.(type) {
	case *vnode.Refusal:
		if msg.Code == vnode.CodeStale || msg.Code == vnode.CodeLacking {
			m.end(r)
			r.work.err, r.work.due = msg.Text, m.now+notYet
			return
		}
		m.fail(r, msg.Text)
		return
	case *vnode.Failure:
		m.fail(r, msg.Text)
		return
	}
	r.pending = 0
	m.step(r, msg)
}

// step lets an exchange consume an answer, pays for what it has moved, and reports
// whether it goes on.
func (m *Manager) step(r *run, msg vnode.Message) bool {
	err := r.exchange.Step(msg)
	t := r.exchange.Tally()
	m.bytes.Take(m.now, m.limits.BytesPerSecond, int(t.Bytes-r.size))
	m.objects.Take(m.now, m.limits.ObjectsPerSecond, t.In+t.Out-r.moved)
	r.size, r.moved = t.Bytes, t.In+t.Out
	if err != nil {
		m.fail(r, err.Error())
	}
	return err == nil
}

func (m *Manager) waiting(i int) *run {
	for _, r := range m.running {
		if r.pending == i && i != 0 {
			return r
		}
	}
	return nil
}

// end takes the exchange off, with what it has done.
func (m *Manager) end(r *run) {
	m.running = slices.DeleteFunc(m.running, func(x *run) bool { return x == r })
	m.totals.add(r.exchange.Tally())
}

// fail breaks an exchange off, and tries again after a while.
func (m *Manager) fail(r *run, why string) {
	wait := m.limits.RetryFirst
	for range min(r.work.fails, 30) {
		wait = min(2*wait, m.limits.RetryMost)
	}
	m.end(r)
	m.totals.Failed++
	r.work.fails++
	r.work.err, r.work.due = why, m.now+wait
	m.emit(Note{NoteFailed, r.work.Pair, r.exchange.Tally(), fmt.Sprintf("%s; again in %v", why, wait)})
}

// finish notes what came of an exchange that is over. One that could not mend
// all it has found is repeated soon.
func (m *Manager) finish(r *run) {
	m.end(r)
	t := r.exchange.Tally()
	w := r.work
	if t.In+t.Out > 0 {
		m.doubt(w.Home, m.now) // what one of the two had, others may lack, though they were found equal before
	}
	w.last, w.due, w.fails, w.err = m.now, m.now+m.limits.Every, 0, ""
	m.totals.Exchanges++
	kind, text, again := NoteEqual, "", false
	switch {
	case t.Different > 0:
		kind = NoteMended
	case t.Busy > 0:
		kind, again = NoteBusy, true
	default:
		m.totals.Equal++
	}
	if t.Refused > 0 {
		text, again = fmt.Sprintf("%d objects could not be mended", t.Refused), true
		w.err = text
	}
	switch {
	case again:
		w.due = m.now + min(m.limits.RetryMost, m.limits.Every)
	case w.once && w.again == 0:
		m.extras = slices.DeleteFunc(m.extras, func(x *work) bool { return x == w })
	}
	if w.again != 0 {
		w.due, w.again = min(w.due, w.again), 0
	}
	m.emit(Note{kind, w.Pair, t, text})
}

// expire gives up what has waited for too long.
func (m *Manager) expire() {
	for _, r := range slices.Clone(m.running) {
		if r.pending != 0 && m.now >= r.sent+m.limits.AskTimeout {
			m.fail(r, fmt.Sprintf("%s has not answered in %v", m.nodeOf(r), m.limits.AskTimeout))
		}
	}
}

func (m *Manager) nodeOf(r *run) string {
	if r.asked.Side == There {
		return r.work.There.Node
	}
	return m.self
}

// pump lets exchanges ask, and begins others, as long as there is room.
func (m *Manager) pump() {
	for _, r := range slices.Clone(m.running) {
		m.turn(r)
	}
	for len(m.running) < m.limits.Exchanges && m.open() {
		w := m.pick()
		if w == nil {
			return
		}
		r := &run{work: w, exchange: NewExchange(w.Pair, m.limits.PageBytes), begun: m.now, epoch: m.top.Epoch}
		w.again = 0 // whatever was doubted so far is compared now
		m.running = append(m.running, r)
		m.turn(r)
	}
}

// open reports whether the budget has anything left.
func (m *Manager) open() bool {
	return m.bytes.Open(m.now, m.limits.BytesPerSecond) && m.objects.Open(m.now, m.limits.ObjectsPerSecond)
}

// opens is when the budget will have something again.
func (m *Manager) opens() time.Duration {
	return max(m.bytes.Opens(m.now, m.limits.BytesPerSecond), m.objects.Opens(m.now, m.limits.ObjectsPerSecond))
}

// all are the pairs to be compared, the extra ones last.
func (m *Manager) all() iter.Seq[*work] {
	return func(yield func(*work) bool) {
		for _, list := range [][]*work{m.pairs, m.extras} {
			for _, w := range list {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// pick is the pair that is due for the longest time, of those that can be compared. No
// two exchanges deal with the same node at once.
func (m *Manager) pick() *work {
	var best *work
	for w := range m.all() {
		if m.now < w.due || best != nil && best.due <= w.due || !m.isUp(w.There.Node) {
			continue
		}
		if !slices.ContainsFunc(m.running, func(r *run) bool { return r.work == w || r.work.There.Node == w.There.Node }) {
			best = w
		}
	}
	return best
}

// turn lets an exchange ask for the next thing, unless that has to wait.
func (m *Manager) turn(r *run) {
	for r.pending == 0 {
		req, more := r.exchange.Next()
		switch {
		case !more:
			m.finish(r)
			return
		case req.Msg != nil:
			if m.open() {
				m.ask(r, req)
			}
			return
		case r.until == 0:
			r.until = m.now + m.limits.Settle
			return
		case m.now < r.until:
			return
		}
		if r.until = 0; !m.step(r, nil) {
			return
		}
	}
}

func (m *Manager) ask(r *run, req Request) {
	m.asks++
	r.pending, r.asked, r.sent = m.asks, req, m.now
	to := r.work.Here
	if req.Side == There {
		to = r.work.There
	}
	if to.Node == m.self {
		m.emit(Do{I: m.asks, To: to.Partition, Epoch: r.epoch, Msg: req.Msg})
		return
	}
	m.emit(Ask{I: m.asks, Node: to.Node, To: to.Partition, Epoch: r.epoch, Msg: req.Msg})
}

// wake asks for a Tick when there is something to do next.
func (m *Manager) wake() {
	at := time.Duration(0)
	sooner := func(t time.Duration) {
		if t = max(t, m.now+1); at == 0 || t < at {
			at = t
		}
	}
	for _, r := range m.running {
		switch {
		case r.pending != 0:
			sooner(r.sent + m.limits.AskTimeout)
		case r.until != 0:
			sooner(r.until)
		default:
			sooner(m.opens())
		}
	}
	if len(m.running) < m.limits.Exchanges {
		for w := range m.all() {
			if m.isUp(w.There.Node) && !slices.ContainsFunc(m.running, func(r *run) bool { return r.work.There.Node == w.There.Node }) {
				sooner(max(w.due, m.opens()))
			}
		}
	}
	if at != 0 && at != m.wakeAt {
		m.wakeAt = at
		m.emit(Wake{At: at})
	}
}

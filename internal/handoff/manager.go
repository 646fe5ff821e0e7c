package handoff

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/pace"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

const (
	lookEvery    = time.Minute     // between two looks at the disk without another reason
	lookPause    = time.Second / 2 // between two looks whatever changes: each reads a little of every vnode
	proposeEvery = 5 * time.Second // a command that does not show in the topology is proposed again
	waitAgain    = time.Second     // a job that waits for something on this node looks again
	staleAgain   = 200 * time.Millisecond
	leftAgain    = 10 * time.Minute // what a round could not hand over is tried again
	restMost     = time.Second      // after one page
)

// Manager moves data for one node. It is not safe for concurrent use.
type Manager struct {
	self   string
	limits Limits
	now    time.Duration
	up     map[string]bool
	top    *Topology // nil: none yet
	out    []Effect

	jobs   []*job // in the order in which they began
	byKey  map[key]*job
	turns  int // how often a job was given its turn
	asks   int // Asks and Dos so far
	drops  []dropping
	early  []ring.Partition // to be repaired as soon as there is a topology
	bucket pace.Bucket
	rests  map[string]time.Duration // by node: until when no page goes to it or comes from it

	looking bool
	stale   bool // what the Look at hand finds may be out of date already
	again   bool // so another one is to follow at once
	lookAt  time.Duration
	looked  time.Duration // when the last Look was asked for
	empty   bool          // the last Look found nothing, and nothing has come since
	leftAt  time.Duration

	wakeAt time.Duration // of the last Wake; 0: none is to come
}

// dropping is a Drop on its way to a vnode of this node.
type dropping struct {
	i       int
	q, home ring.Partition
}

// New returns the Manager of a node that knows nothing yet.
func New(self string, l Limits) *Manager {
	return &Manager{self: self, limits: l.withDefaults(), looked: -lookPause, up: make(map[string]bool), rests: make(map[string]time.Duration), byKey: make(map[key]*job)}
}

// work is what a job does, step by step.
type work interface {
	// next is what is to be asked next, the same until it is answered, or false
	// when the work is done.
	next(m *Manager) (request, bool)

	// took takes the answer to what next said, which is of the right type. An
	// error is one that a later try may mend.
	took(m *Manager, asked, answer vnode.Message) error

	// peer is the node that it deals with now.
	peer(m *Manager) string

	// between reports that no page is in hand, so that others may go first.
	between() bool

	// reset goes back to where no page was in hand.
	reset()
}

// request is something to be asked of a vnode.
type request struct {
	node  string
	to    ring.Partition
	msg   vnode.Message // nil: only to wait until the node is up
	paced bool          // it counts against the bytes per second
	cost  int           // bytes, as far as they are known before
	wait  string        // not empty: why nothing can be asked now
}

// Step consumes one event and appends what is to be done. Now is monotonic time
// since any fixed moment.
func (m *Manager) Step(now time.Duration, ev Event, out []Effect) []Effect {
	m.now = max(m.now, now)
	m.out = out
	m.consume(ev)
	if m.top != nil {
		m.expire()
		m.propose()
		m.pump()
		m.look()
		m.warn()
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
	case Replied:
		m.replied(ev.I, ev.Msg)
	case NotSent:
		m.unanswered(ev.I, ev.Why)
	case Lost:
		m.unanswered(ev.I, ev.Why)
	case Holdings:
		m.found(ev)
	case Stray:
		m.empty, m.stale = false, true
		m.stray(ev.Partition, ev.Home)
	case Repair:
		for _, p := range ev.Partitions {
			m.repair(p)
		}
	case SetLimits:
		m.limits = ev.Limits.withDefaults()
	case Tick:
		if m.now >= m.wakeAt {
			m.wakeAt = 0
		}
	}
}

func (m *Manager) emit(e Effect) { m.out = append(m.out, e) }

func (m *Manager) note(kind NoteKind, k key, format string, args ...any) {
	m.emit(Note{Kind: kind, Job: k.kind, Transfer: k.transfer, Partition: k.partition, Text: fmt.Sprintf(format, args...)})
}

func (m *Manager) isUp(node string) bool { return node == m.self || m.up[node] }

func (m *Manager) nodeUp(node string) {
	m.up[node] = true
	for _, j := range m.jobs {
		if j.blocked != "" || j.failedAt == node {
			j.blocked, j.failedAt = "", ""
			j.retryAt = min(j.retryAt, m.now)
		}
	}
}

func (m *Manager) nodeDown(node string) {
	delete(m.up, node)
	for _, j := range m.jobs {
		if j.pending != 0 && j.asked.node == node && node != m.self {
			m.fail(j, node+" went down")
		}
	}
}

// replied hands an answer to the job that waits for it. One that nobody waits
// for any more is only heard for the sake of drops.
func (m *Manager) replied(i int, msg vnode.Message) {
	m.dropEnded(i)
	j := m.waiting(i)
	if j == nil {
		return
	}
	switch msg := msg.(type) {
	case *vnode.Refusal:
		if msg.Code == vnode.CodeStale {
			m.hold(j, msg.Text, staleAgain) // it will know in a moment
			return
		}
		m.fail(j, msg.Text)
		return
	case *vnode.Failure:
		m.fail(j, msg.Text)
		return
	}
	j.pending = 0
	j.page += m.now - j.sent
	before := j.skipped
	if !answers(j.asked.msg, msg) {
		m.fail(j, fmt.Sprintf("%T was answered with %T", j.asked.msg, msg))
		return
	}
	if err := j.work.took(m, j.asked.msg, msg); err != nil {
		m.fail(j, err.Error())
		return
	}
	if j.skipped > before {
		m.note(NoteSkipped, j.key, "%d objects: %s %s", j.skipped-before, j.last.Key, j.last.Text)
	}
	j.fails, j.failedAt, j.err = 0, "", ""
	j.progress = m.now
	if j.work.between() {
		j.running = false // whoever has waited longest goes first
		m.rest(j)
	}
}

// rest leaves the nodes alone that the page of a job has kept busy, in proportion to
// the time that it has taken. So hand-off has a share of their time, however fast they are,
// and the less of it the more else they have to do.
func (m *Manager) rest(j *job) {
	until := m.now + min(time.Duration(m.limits.Rest)*j.page, restMost)
	for _, node := range j.with {
		m.rests[node] = until
	}
	j.page, j.with = 0, nil
}

func (m *Manager) unanswered(i int, why string) {
	m.dropEnded(i)
	j := m.waiting(i)
	if j == nil {
		return
	}
	if d, ok := j.work.(*drain); ok && d.asked && planted.Is(planted.DropUnconfirmed) {
		j.pending = 0
		d.nextTarget()
		return
	}
	m.fail(j, why)
}

func (m *Manager) waiting(i int) *job {
	for _, j := range m.jobs {
		if j.pending == i && i != 0 {
			return j
		}
	}
	return nil
}

func (m *Manager) dropEnded(i int) {
	m.drops = slices.DeleteFunc(m.drops, func(d dropping) bool { return d.i == i })
}

// dropping reports whether objects may still vanish from the home in vnode q.
func (m *Manager) dropping(q, home ring.Partition) bool {
	return slices.ContainsFunc(m.drops, func(d dropping) bool { return d.q == q && d.home == home })
}

// fail gives the job up for a while.
func (m *Manager) fail(j *job, why string) {
	wait := m.limits.RetryFirst
	for range min(j.fails, 30) {
		wait = min(2*wait, m.limits.RetryMost)
	}
	j.fails++
	j.failedAt = j.asked.node
	j.err = why
	j.retryAt = m.now + wait
	m.note(NoteFailed, j.key, "%s; again in %v", why, wait)
	m.stop(j)
}

// hold lets the job wait for something that is no failure.
func (m *Manager) hold(j *job, why string, wait time.Duration) {
	j.err, j.retryAt = why, m.now+wait
	m.stop(j)
}

// stop takes the job's turn away, and what it has in hand.
func (m *Manager) stop(j *job) {
	j.pending, j.running = 0, false
	j.page, j.with = 0, nil
	j.work.reset()
}

// expire gives up what has waited for too long for another node.
func (m *Manager) expire() {
	for _, j := range m.jobs {
		if j.pending != 0 && j.asked.node != m.self && m.now >= j.sent+m.limits.AskTimeout {
			m.fail(j, fmt.Sprintf("%s has not answered in %v", j.asked.node, m.limits.AskTimeout))
		}
	}
}

// pump gives jobs their turn, as long as there are turns.
func (m *Manager) pump() {
	running := 0
	for _, j := range slices.Clone(m.jobs) {
		if j.running && j.pending == 0 {
			m.turn(j)
		}
		if j.running {
			running++
		}
	}
	for running < m.limits.Jobs {
		j := m.pick()
		if j == nil {
			return
		}
		m.turns++
		j.running, j.turn = true, m.turns
		if m.turn(j); j.running {
			running++
		}
	}
}

// pick is the job to run next: of those that can, the one whose last turn was
// the longest ago. No two deal with the same node at once, and none with one that rests.
func (m *Manager) pick() *job {
	var busy []string
	for _, j := range m.jobs {
		if j.running {
			busy = append(busy, j.work.peer(m))
		}
	}
	var best *job
	for _, j := range m.jobs {
		if j.running || j.over || j.blocked != "" || m.now < j.retryAt || best != nil && best.turn <= j.turn {
			continue
		}
		if p := j.work.peer(m); p == m.self || !slices.Contains(busy, p) && m.now >= m.rests[p] {
			best = j
		}
	}
	return best
}

// turn lets a job ask for the next thing, unless that has to wait.
func (m *Manager) turn(j *job) {
	r, more := j.work.next(m)
	switch {
	case !more:
		m.finish(j)
	case r.wait != "":
		m.hold(j, r.wait, waitAgain)
	case !m.isUp(r.node):
		j.err, j.blocked = r.node+" is down", r.node
		m.stop(j)
	case r.node != m.self && m.busy(r.node), r.paced && !m.bucket.Open(m.now, m.limits.BytesPerSecond):
		return // its turn goes on when the answer is there, or the time has come
	default:
		m.ask(j, r)
	}
}

// busy reports whether a page is on its way to or from the node.
func (m *Manager) busy(node string) bool {
	return slices.ContainsFunc(m.jobs, func(j *job) bool { return j.pending != 0 && j.asked.node == node })
}

func (m *Manager) ask(j *job, r request) {
	m.asks++
	j.pending, j.asked, j.sent = m.asks, r, m.now
	if r.paced {
		m.charge(r.cost)
		j.with = append(j.with, r.node)
	}
	if d, ok := r.msg.(*vnode.Drop); ok {
		m.drops = append(m.drops, dropping{m.asks, r.to, d.Home})
	}
	if r.node == m.self {
		m.emit(Do{I: m.asks, To: r.to, Msg: r.msg})
		return
	}
	m.emit(Ask{I: m.asks, Node: r.node, To: r.to, Msg: r.msg})
}

func (m *Manager) charge(bytes int) { m.bucket.Take(m.now, m.limits.BytesPerSecond, bytes) }

// finish ends a job that has nothing more to ask.
func (m *Manager) finish(j *job) {
	j.running = false
	j.err = ""
	if d, ok := j.work.(*drain); ok && (d.kept+d.left > 0 || d.more) {
		m.drainAgain(j, d)
		return
	}
	m.note(NoteEnded, j.key, "%d objects, %d bytes", j.objects, j.bytes)
	if j.key.kind == Filling {
		j.over, j.retryAt = true, m.now // Filled is proposed until the topology shows it
		m.propose()
		return
	}
	m.remove(j)
}

// drainAgain begins another round after one that left something behind: at once
// if that has only changed meanwhile.
func (m *Manager) drainAgain(j *job, d *drain) {
	wait := waitAgain
	if d.left > 0 {
		j.err, wait = fmt.Sprintf("%d objects could not be handed over", d.left), leftAgain
	}
	j.retryAt = m.now + wait
	d.again()
}

func (m *Manager) remove(j *job) {
	m.jobs = slices.DeleteFunc(m.jobs, func(x *job) bool { return x == j })
	delete(m.byKey, j.key)
	if j.key.kind == Draining && m.top.Leaving && !m.draining() {
		m.lookSoon() // is that all?
	}
}

func (m *Manager) draining() bool {
	return slices.ContainsFunc(m.jobs, func(j *job) bool { return j.key.kind == Draining })
}

// propose proposes what the topology should show and does not.
func (m *Manager) propose() {
	for _, j := range m.jobs {
		if j.over && m.now >= j.retryAt && !m.repairing(j) {
			j.retryAt = m.now + proposeEvery
			m.emit(Propose{membership.Filled{Transfer: j.key.transfer, Node: m.self}})
		}
	}
	if m.leaves() && m.now >= m.leftAt {
		m.leftAt = m.now + proposeEvery
		m.emit(Propose{membership.Left{Name: m.self}})
	}
}

// leaves reports whether the node is exiting, and holds nothing any more.
func (m *Manager) leaves() bool {
	return m.top.Leaving && m.empty && !m.draining() && len(m.drops) == 0
}

// repairing reports whether a vnode that the fill has filled has lost data
// since.
func (m *Manager) repairing(fill *job) bool {
	for _, p := range fill.work.(*copying).parts {
		if m.job(key{kind: Repairing, partition: p.to}) != nil {
			return true
		}
	}
	return false
}

// warn tells of jobs that come no further.
func (m *Manager) warn() {
	for _, j := range m.jobs {
		if !j.urgent() {
			continue
		}
		if since := max(j.progress, j.warned); m.now >= since+m.limits.Stuck {
			j.warned = m.now
			m.note(NoteStuck, j.key, "no progress for %v: %s", m.now-j.progress, j.err)
		}
	}
}

// look asks what the disk holds, when it is time.
func (m *Manager) look() {
	if m.looking || m.now < m.lookAt {
		return
	}
	m.looking, m.stale, m.again = true, false, false
	m.looked = m.now
	m.emit(Look{})
}

func (m *Manager) lookSoon() { m.lookAt, m.stale, m.again = m.nextLook(), true, true }

// nextLook is when the disk may be looked at again.
func (m *Manager) nextLook() time.Duration { return max(m.now, m.looked+lookPause) }

// wake asks for a Tick when there is something to do next.
func (m *Manager) wake() {
	at := time.Duration(0)
	sooner := func(t time.Duration) {
		if t = max(t, m.now+1); at == 0 || t < at {
			at = t
		}
	}
	if !m.looking {
		sooner(m.lookAt)
	}
	if m.leaves() {
		sooner(m.leftAt)
	}
	turns := m.freeTurn()
	for _, j := range m.jobs {
		switch {
		case j.pending != 0 && j.asked.node != m.self:
			sooner(j.sent + m.limits.AskTimeout)
		case j.running && j.pending == 0 && !m.bucket.Open(m.now, m.limits.BytesPerSecond):
			sooner(m.bucket.Opens(m.now, m.limits.BytesPerSecond))
		case !j.running && j.blocked == "" && (turns || j.over):
			if at := max(j.retryAt, m.rests[j.work.peer(m)]); at > m.now {
				sooner(at)
			}
		}
		if j.urgent() {
			sooner(max(j.progress, j.warned) + m.limits.Stuck)
		}
	}
	if at != 0 && at != m.wakeAt {
		m.wakeAt = at
		m.emit(Wake{At: at})
	}
}

func (m *Manager) freeTurn() bool {
	running := 0
	for _, j := range m.jobs {
		if j.running {
			running++
		}
	}
	return running < m.limits.Jobs
}

// answers reports whether the message is what answers the one that was asked.
func answers(asked, msg vnode.Message) bool {
	ok := false
	switch asked.(type) {
	case *vnode.Pull:
		_, ok = msg.(*vnode.Pulled)
	case *vnode.Deliver, *vnode.Fill:
		_, ok = msg.(*vnode.Delivered)
	case *vnode.Drop:
		_, ok = msg.(*vnode.Dropped)
	case *vnode.Resume:
		_, ok = msg.(*vnode.Resumed)
	case *vnode.SetLacking:
		_, ok = msg.(*vnode.Stored)
	}
	return ok
}

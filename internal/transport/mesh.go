package transport

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Mesh is a node's part of the network: its connections to all other nodes. It
// is a Transport. Its goroutines: one that looks at deadlines and silence
// (watch), one for each connection that it keeps (keep) and one for each that
// it has accepted (accept), and for each connection a writer, or at the door
// one that waits for the caller to leave.
type Mesh struct {
	cfg     Config
	wires   wires
	address string                           // that other nodes are told to dial; empty: none
	life    uint64                           // of this node, by chance
	began   uint64                           // the epoch that it had when this life began
	peers   atomic.Pointer[map[string]*peer] // the map never changes; it is replaced with the lock held
	callers atomic.Int64                     // at the door

	ctx    context.Context // ends with the mesh
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex
	closing  bool
	sessions map[*session]struct{}
	rejected uint64 // connections that this node has refused to accept
	why      string // of the last of them
}

// wires makes connections.
type wires interface {
	// dial connects to a node at an address. It returns when ctx ends at the
	// latest. An empty name is that of whoever is there.
	dial(ctx context.Context, name, address string) (wire, error)

	// address is where this node is reached from where it is.
	address() string

	// advertised is where others reach it, if that can be told.
	advertised() string

	// names is true of what can be the address of another node.
	names(address string) bool

	// close accepts no more, and waits until all accepted wires have gone.
	close()
}

// newMesh makes a mesh that does nothing yet.
func newMesh(cfg Config) (*Mesh, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mesh{cfg: cfg, ctx: ctx, cancel: cancel, sessions: map[*session]struct{}{}}
	m.life, m.began = cfg.Life, cfg.Epoch()
	if m.life == 0 {
		m.life = uint64(time.Now().UnixNano())
	}
	peers := make(map[string]*peer, len(cfg.Peers))
	for name, at := range cfg.Peers {
		peers[name] = m.newPeer(name, at)
	}
	m.peers.Store(&peers)
	return m, nil
}

// start begins to connect to all peers.
func (m *Mesh) start(w wires) {
	m.wires = w
	if m.address = m.cfg.Advertise; m.address == "" {
		m.address = w.advertised()
	}
	m.spawn(m.watch)
	for _, p := range *m.peers.Load() {
		p.links[Requests].start()
	}
}

// spawn runs f on a goroutine that Close waits for; false: the mesh is closing.
func (m *Mesh) spawn(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return false
	}
	m.tasks.Go(f)
	return true
}

// Ask is Transport.Ask.
func (m *Mesh) Ask(node string, c Class, f Frame, deadline time.Time, done func(vnode.Message, error)) {
	p := m.peer(node)
	switch {
	case p == nil:
		done(nil, fmt.Errorf("%w: %s is not a member", ErrNotSent, node))
		return
	case c >= classes:
		done(nil, fmt.Errorf("%w: members do not ask each other by %s", ErrNotSent, c))
		return
	}
	l := p.links[c]
	if s := l.session.Load(); s != nil {
		s.ask(f, deadline, done)
		return
	}
	l.start()
	done(nil, fmt.Errorf("%w: %w", ErrNotSent, l.why()))
}

// Address is where other nodes reach this one.
func (m *Mesh) Address() string { return m.wires.address() }

// Close is Transport.Close. Answers that were given before are still written,
// for Timing.Drain at most.
func (m *Mesh) Close() error {
	m.mu.Lock()
	if m.closing {
		m.mu.Unlock()
		m.tasks.Wait()
		return nil
	}
	m.closing = true
	m.mu.Unlock()

	m.cancel()
	m.drain()
	for _, s := range m.open() {
		s.end(ErrClosed)
	}
	m.wires.close()
	m.tasks.Wait()
	return nil
}

// drain lets the answers in the queues be written.
func (m *Mesh) drain() {
	late := time.NewTimer(m.cfg.Timing.Drain)
	defer late.Stop()
	sessions := m.open()
	for _, s := range sessions {
		if !s.dialled {
			s.finish()
		}
	}
	for _, s := range sessions {
		if s.dialled {
			continue
		}
		select {
		case <-s.over:
		case <-late.C:
			return
		}
	}
}

// open lists the sessions.
func (m *Mesh) open() []*session {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*session, 0, len(m.sessions))
	for s := range m.sessions {
		all = append(all, s)
	}
	return all
}

// admit makes a session one of the mesh. An error says why it is too late for
// that.
func (m *Mesh) admit(s *session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return ErrClosed
	}
	if err := s.unfit(); err != nil {
		return err
	}
	m.sessions[s] = struct{}{}
	return nil
}

func (m *Mesh) dismiss(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, s)
}

// watch looks at all sessions again and again. If it comes late, this process
// was stopped, or starved, and could not have heard anybody.
func (m *Mesh) watch() {
	t := &m.cfg.Timing
	tick := time.NewTicker(t.Tick)
	defer tick.Stop()
	last := time.Now()
	awake := last
	for {
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(last) > t.Silence/2 {
			awake = now
		}
		last = now
		for _, s := range m.open() {
			s.tick(now, awake)
		}
	}
}

// least is the lowest protocol that this node speaks now. It is raised by what others would
// have to know: one who does not is told at the first word, and never sent any of it.
func (m *Mesh) least() uint16 {
	least := uint16(lowProtocol)
	if m.cfg.Least != nil {
		least = max(least, uint16(m.cfg.Least()))
	}
	return min(least, m.most())
}

// most is the highest protocol that this node speaks.
func (m *Mesh) most() uint16 { return uint16(or(m.cfg.Most, highProtocol)) }

// hello is what this node says to a peer.
func (m *Mesh) hello(to string, c Class) hello {
	h := hello{
		low: m.least(), high: m.most(),
		cluster: m.cfg.Cluster, partitions: uint32(m.cfg.Partitions), class: c,
		from: m.cfg.Self, to: to, id: m.cfg.ID, address: m.address, epoch: m.cfg.Epoch(), life: m.life,
	}
	if p := m.peer(to); p != nil {
		p.news.Lock()
		h.met, h.since, h.before = p.lives.Now, p.lives.Since, p.lives.Before
		p.news.Unlock()
	}
	if m.cfg.Reaped != nil && c != Door {
		h.reaped, h.reapedIn = m.cfg.Reaped(to)
	}
	return h
}

// Lives is what is known of the epochs that a peer has shown.
func (m *Mesh) Lives(node string) membership.Lives {
	p := m.peer(node)
	if p == nil {
		return membership.Lives{}
	}
	p.news.Lock()
	defer p.news.Unlock()
	return p.lives
}

// MeetAgain ends the connections with a node that is in another life than this one. They
// are made anew, and the node is told what is known of it.
func (m *Mesh) MeetAgain(node string, life uint64) {
	for _, s := range m.open() {
		if s.peer != nil && s.peer.name == node && s.theirs.life != life {
			s.end(fmt.Errorf("node %s has begun anew, and is to be told of a reaping", node))
		}
	}
}

// outdated says why there can be no connection with one who has heard this node
// show a newer epoch in another life than it had when it began this one; empty:
// there can be one.
func (m *Mesh) outdated(theirs hello) string {
	if theirs.high >= orderedProtocol && theirs.met > m.life {
		return fmt.Sprintf("has met this node in another life: %v", m.cfg.Handler.Outlived(theirs.from, theirs.met))
	}
	lives := membership.Lives{Now: theirs.met, Since: theirs.since, Before: theirs.before}
	if theirs.reaped > 0 && theirs.reapedIn != m.life {
		if err := m.cfg.Handler.Reaped(theirs.from, theirs.reaped, theirs.reapedIn); err != nil {
			return fmt.Sprintf("knows of a reaping that this node has not shown: %v", err)
		}
	}
	shown := lives.Shown(m.life)
	if shown <= m.began {
		return ""
	}
	if err := m.cfg.Handler.Outdated(theirs.from, shown); err != nil {
		return fmt.Sprintf("has heard this node have epoch %d before: %v", shown, err)
	}
	return ""
}

// accept serves a connection that a peer has made. It returns when it has
// ended.
func (m *Mesh) accept(w wire) {
	defer w.release()
	p, theirs, err := m.greetCaller(w)
	switch {
	case err != nil:
		m.reject(err)
		return
	case p == nil:
		m.attend(w)
		return
	}
	m.learn(p, theirs.address)
	s := newSession(m, p, theirs, w)
	if err := m.admit(s); err != nil {
		m.reject(err)
		return
	}
	defer m.dismiss(s)
	p.links[s.class].replace(s)
	s.run()
}

// greetCaller exchanges hellos as the side that was dialled. A dialler that is
// refused is told why. The peer is nil if the caller is at the door.
func (m *Mesh) greetCaller(w wire) (*peer, hello, error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timing.Silence)
	defer cancel()
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	b, err := w.recv()
	if err != nil {
		return nil, hello{}, fmt.Errorf("a caller sends no hello: %w", err)
	}
	theirs, err := decodeHello(b)
	if err != nil {
		return nil, hello{}, fmt.Errorf("a caller: %w", err)
	}
	mine := m.hello(theirs.from, theirs.class)
	p, why := m.judge(&mine, theirs)
	if why != "" {
		mine.refusal = fmt.Sprintf("node %s %s", theirs.from, why)
		return nil, theirs, errors.Join(errors.New(mine.refusal), say(w, &mine))
	}
	if p != nil {
		w.allow(math.MaxUint64)
		return p, theirs, say(w, &mine)
	}
	w.allow(maxKnock)
	if err := say(w, &mine); err != nil {
		m.callers.Add(-1)
		return nil, theirs, err
	}
	return nil, theirs, nil
}

// judge finds the peer that a caller is, and why it is refused; empty: it is not.
// A caller who is let in at the door is counted.
func (m *Mesh) judge(mine *hello, theirs hello) (*peer, string) {
	p := m.peer(theirs.from)
	if theirs.class == Door || p == nil {
		why := mine.objection(theirs, [16]byte{})
		switch {
		case why != "":
		case theirs.class != Door:
			why = "is not a member"
		case m.callers.Add(1) > maxCallers:
			m.callers.Add(-1)
			why = fmt.Sprintf("comes when there are %d others at the door: try again", maxCallers)
		}
		return nil, why
	}
	if why := mine.objection(theirs, p.where.Load().ID); why != "" {
		return p, why
	}
	return p, m.outdated(theirs)
}

// reject tells of a caller that was not accepted. The log hears of the same
// reason once in a row.
func (m *Mesh) reject(err error) {
	if m.ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	fresh := err.Error() != m.why
	m.rejected++
	m.why = err.Error()
	m.mu.Unlock()
	if fresh {
		m.cfg.Logger.Warn("refused a connection", "error", err)
	}
}

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
)

// Mesh is a node's part of the network: its connections to all other nodes. It
// is a Transport. Its goroutines: one that looks at deadlines and silence
// (watch), one for each connection that it keeps (keep) and one for each that
// it has accepted (accept), and for each connection a writer.
type Mesh struct {
	cfg   Config
	wires wires
	peers map[string]*peer // never changes

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
	// dial connects to a peer. It returns when ctx ends at the latest.
	dial(ctx context.Context, p *peer, c Class) (wire, error)

	// address is where other nodes reach this one.
	address() string

	// close accepts no more, and waits until all accepted wires have gone.
	close()
}

// peer is another node, whether connected or not.
type peer struct {
	mesh    *Mesh
	name    string
	address string
	links   [classes]*link
	told    time.Time // when the handler was last told that the peer was heard; of the goroutine that watches
	counters
}

// link is this node's own connection of one class to a peer, over all its
// attempts.
type link struct {
	peer    *peer
	class   Class
	session atomic.Pointer[session] // nil: not connected
	begin   sync.Once
	hurry   chan struct{} // try again now; holds one

	mu      sync.Mutex
	lastErr error // of the last attempt or connection; nil: there was none
	logged  string
	older   *session // the accepted connection of the same class, the other way round
}

// newMesh makes a mesh that does nothing yet.
func newMesh(cfg Config) (*Mesh, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mesh{cfg: cfg, peers: map[string]*peer{}, ctx: ctx, cancel: cancel, sessions: map[*session]struct{}{}}
	for name, address := range cfg.Peers {
		p := &peer{mesh: m, name: name, address: address}
		for c := range p.links {
			p.links[c] = &link{peer: p, class: Class(c), hurry: make(chan struct{}, 1)}
		}
		m.peers[name] = p
	}
	return m, nil
}

// start begins to connect to all peers.
func (m *Mesh) start(w wires) {
	m.wires = w
	m.spawn(m.watch)
	for _, p := range m.peers {
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
	p, ok := m.peers[node]
	if !ok {
		done(nil, fmt.Errorf("%w: %s is not a member", ErrNotSent, node))
		return
	}
	l := p.links[c]
	l.start()
	if s := l.session.Load(); s != nil {
		s.ask(f, deadline, done)
		return
	}
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

// admit makes a session one of the mesh; false: the mesh is closing.
func (m *Mesh) admit(s *session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return false
	}
	m.sessions[s] = struct{}{}
	return true
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

// start begins to keep the link connected, once.
func (l *link) start() {
	l.begin.Do(func() { l.peer.mesh.spawn(l.keep) })
}

// keep connects, serves the connection while it lasts, and connects again, for
// ever.
func (l *link) keep() {
	m, t := l.peer.mesh, &l.peer.mesh.cfg.Timing
	backoff := t.BackoffMin
	for {
		began := time.Now()
		err := l.connect()
		if m.ctx.Err() != nil {
			return
		}
		l.failed(err)
		if time.Since(began) > t.BackoffMax {
			backoff = t.BackoffMin // it had worked for a while
		}
		if !l.rest(backoff) {
			return
		}
		backoff = min(2*backoff, t.BackoffMax)
	}
}

// rest waits for about as long as d, or until the peer itself is heard to be
// there. False: the mesh is closing.
func (l *link) rest(d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.hurry:
	case <-l.peer.mesh.ctx.Done():
		return false
	}
	return true
}

// connect makes a connection and serves it. It returns why it failed or
// ended.
func (l *link) connect() error {
	p, m := l.peer, l.peer.mesh
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timing.Silence)
	defer cancel()
	w, err := m.wires.dial(ctx, p, l.class)
	if err != nil {
		return fmt.Errorf("node %s at %s: %w", p.name, p.address, err)
	}
	defer w.release()
	if err := l.greet(ctx, w); err != nil {
		return fmt.Errorf("node %s at %s %w", p.name, p.address, err)
	}
	s := newSession(m, p, l.class, w, true)
	if !m.admit(s) {
		return ErrClosed
	}
	defer m.dismiss(s)
	l.connected(s)
	err = s.run()
	l.session.Store(nil)
	if errors.Is(err, io.EOF) {
		err = errors.New("closed by the node")
	}
	return fmt.Errorf("node %s at %s: %w", p.name, p.address, err)
}

// greet exchanges hellos as the dialler.
func (l *link) greet(ctx context.Context, w wire) error {
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	mine := l.peer.mesh.hello(l.peer.name, l.class)
	theirs, err := exchange(w, &mine)
	if ctx.Err() != nil {
		return errors.New("sends no hello in time")
	}
	if err != nil {
		return fmt.Errorf("cannot be greeted: %w", err)
	}
	if why := mine.objection(theirs); why != "" {
		return errors.New(why)
	}
	if theirs.refusal != "" {
		return fmt.Errorf("refuses: %s", theirs.refusal)
	}
	return nil
}

// exchange sends a hello and receives the other's.
func exchange(w wire, mine *hello) (hello, error) {
	if err := say(w, mine); err != nil {
		return hello{}, err
	}
	b, err := w.recv()
	if err != nil {
		return hello{}, err
	}
	return decodeHello(b)
}

func say(w wire, h *hello) error {
	b := buffers.get()
	*b = h.append(*b)
	return w.send(b)
}

// hello is what this node says to a peer.
func (m *Mesh) hello(to string, c Class) hello {
	return hello{
		low: lowProtocol, high: highProtocol,
		cluster: m.cfg.Cluster, partitions: uint32(m.cfg.Partitions), class: c,
		from: m.cfg.Self, to: to,
	}
}

// connected puts the session to use.
func (l *link) connected(s *session) {
	l.session.Store(s)
	l.mu.Lock()
	l.logged = ""
	l.mu.Unlock()
	m := l.peer.mesh
	m.cfg.Logger.Info("connected to node", "node", l.peer.name, "address", l.peer.address, "class", l.class.String())
	if l.class == Requests {
		m.cfg.Handler.Heard(l.peer.name)
	}
}

// failed tells of an attempt that failed or a connection that broke. The log
// hears of the same reason once in a row.
func (l *link) failed(err error) {
	l.mu.Lock()
	fresh := err.Error() != l.logged
	l.lastErr, l.logged = err, err.Error()
	l.mu.Unlock()
	m := l.peer.mesh
	if fresh {
		m.cfg.Logger.Warn("no connection to node", "node", l.peer.name, "class", l.class.String(), "error", err)
	}
	if l.class == Requests {
		m.cfg.Handler.Refused(l.peer.name, err)
	}
}

// why says why the link is not connected.
func (l *link) why() error {
	if l.peer.mesh.ctx.Err() != nil {
		return ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastErr == nil {
		return errors.New("not connected yet")
	}
	return l.lastErr
}

// accept serves a connection that a peer has made. It returns when it has
// ended.
func (m *Mesh) accept(w wire) {
	defer w.release()
	p, class, err := m.welcome(w)
	if err != nil {
		m.reject(err)
		return
	}
	s := newSession(m, p, class, w, false)
	if !m.admit(s) {
		return
	}
	defer m.dismiss(s)
	l := p.links[class]
	l.replace(s)
	s.run()
}

// replace ends the accepted session before s: the peer has given it up, since
// it has made this one. And since the peer is there, this node's own attempts need not
// wait.
func (l *link) replace(s *session) {
	l.mu.Lock()
	older := l.older
	l.older = s
	l.mu.Unlock()
	if older != nil {
		older.end(errors.New("replaced by a newer connection"))
	}
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

// welcome exchanges hellos as the side that was dialled. A dialler that is
// refused is told why.
func (m *Mesh) welcome(w wire) (*peer, Class, error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timing.Silence)
	defer cancel()
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	b, err := w.recv()
	if err != nil {
		return nil, 0, fmt.Errorf("a caller sends no hello: %w", err)
	}
	theirs, err := decodeHello(b)
	if err != nil {
		return nil, 0, fmt.Errorf("a caller: %w", err)
	}
	mine := m.hello(theirs.from, theirs.class)
	p, member := m.peers[theirs.from]
	why := mine.objection(theirs)
	if why == "" && !member {
		why = "is not a member"
	}
	if why != "" {
		mine.refusal = fmt.Sprintf("node %s %s", theirs.from, why)
		return nil, 0, errors.Join(errors.New(mine.refusal), say(w, &mine))
	}
	return p, theirs.class, say(w, &mine)
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

// tell tells the handler that the peer was heard, not too often.
func (p *peer) tell(now time.Time) {
	if now.Sub(p.told) >= p.mesh.cfg.Timing.News {
		p.told = now
		p.mesh.cfg.Handler.Heard(p.name)
	}
}

package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
)

// peer is another member, whether connected or not. When a member goes and one
// of its name comes later, that is another peer.
type peer struct {
	mesh  *Mesh
	name  string
	ctx   context.Context // ends when it is no longer a member, and with the mesh
	leave context.CancelFunc
	links [classes]*link
	where atomic.Pointer[whereabouts] // replaced with the mesh's lock held

	news  sync.Mutex
	told  time.Time     // when the handler was last told that the peer was heard
	spoke atomic.Int64  // the highest protocol that both know; 0: it was never heard
	epoch atomic.Uint64 // that it was told then; changes with news held
	lives membership.Lives
	counters
}

// whereabouts is what is known of a peer's place, at one time.
type whereabouts struct {
	Peer           // as SetPeers has it
	learned string // where the peer itself says that it is; empty: it says nothing else
	moves   uint64 // how often it has moved
}

// first is the address to dial first.
func (at *whereabouts) first() string {
	if at.learned != "" {
		return at.learned
	}
	return at.Address
}

// try is the address to dial when that many attempts have failed: what the peer
// says of itself, in turn with what others say of it.
func (at *whereabouts) try(failed int) string {
	if failed%2 == 1 && at.Address != "" {
		return at.Address
	}
	return at.first()
}

// errMoved ends what has to do with an address that is a peer's no more. It is
// no evidence that the peer is down.
var errMoved = errors.New("has moved")

// newPeer makes a peer whose links are still to be started.
func (m *Mesh) newPeer(name string, at Peer) *peer {
	p := &peer{mesh: m, name: name}
	p.ctx, p.leave = context.WithCancel(m.ctx)
	p.where.Store(&whereabouts{Peer: at})
	for c := range p.links {
		p.links[c] = &link{peer: p, class: Class(c), hurry: make(chan struct{}, 1)}
	}
	return p
}

// peer is the member of a name; nil: there is none.
func (m *Mesh) peer(name string) *peer { return (*m.peers.Load())[name] }

// SetPeers says who the other members are from now on. Connections to those who
// are no longer among them end, and so do connections to an address or an id
// that is no longer a member's: their requests end with ErrLost or ErrNotSent
// before SetPeers returns. The others are not touched. This node itself, and a
// name that cannot be one, are passed over. News of a node that is no member any
// more may still reach the handler shortly after.
func (m *Mesh) SetPeers(peers map[string]Peer) {
	m.mu.Lock()
	if m.closing {
		m.mu.Unlock()
		return
	}
	old, now := *m.peers.Load(), make(map[string]*peer, len(peers))
	var fresh, moved []*peer
	for name, at := range peers {
		switch p := old[name]; {
		case name == m.cfg.Self || nameable(name) != nil:
		case p == nil:
			now[name] = m.newPeer(name, at)
			fresh = append(fresh, now[name])
		default:
			now[name] = p
			if p.set(at) {
				moved = append(moved, p)
			}
		}
	}
	for name, p := range old {
		if now[name] == nil {
			p.leave()
		}
	}
	m.peers.Store(&now)
	ends := m.unfit()
	m.mu.Unlock()

	for _, e := range ends {
		e.session.end(e.cause)
	}
	for _, p := range moved {
		p.redial()
	}
	for _, p := range fresh {
		p.links[Requests].start()
	}
}

// set takes over what SetPeers says; true: the peer has moved.
func (p *peer) set(at Peer) bool {
	was := p.where.Load()
	if was.Peer == at {
		return false
	}
	next := &whereabouts{Peer: at, learned: was.learned, moves: was.moves}
	if at.Address != was.Address {
		next.learned = ""
	}
	moved := next.first() != was.first()
	if moved {
		next.moves++
	}
	p.where.Store(next)
	return moved
}

// learn notes where a peer that has connected says that it is reached.
func (m *Mesh) learn(p *peer, address string) {
	if address == "" || address == p.where.Load().first() || !m.wires.names(address) {
		return
	}
	m.mu.Lock()
	was := p.where.Load()
	if address == was.first() || m.closing {
		m.mu.Unlock()
		return
	}
	next := &whereabouts{Peer: was.Peer, moves: was.moves + 1}
	if address != was.Address {
		next.learned = address
	}
	p.where.Store(next)
	ends := m.unfit()
	m.mu.Unlock()

	for _, e := range ends {
		e.session.end(e.cause)
	}
	p.redial()
	m.cfg.Logger.Info("node has moved", "node", p.name, "from", was.first(), "to", address)
	if next.learned != "" {
		m.cfg.Handler.Moved(p.name, address)
	}
}

// redial makes the links that are not connected try again now.
func (p *peer) redial() {
	cause := fmt.Errorf("it %w to %s", errMoved, p.where.Load().first())
	for _, l := range p.links {
		l.abandon(cause)
		l.hasten()
	}
}

// ending is a session that is to end, and why.
type ending struct {
	session *session
	cause   error
}

// unfit lists the sessions that cannot go on, now that something else is known
// of the peers. The mesh's lock is held.
func (m *Mesh) unfit() (ends []ending) {
	for s := range m.sessions {
		if err := s.unfit(); err != nil {
			ends = append(ends, ending{s, err})
		}
	}
	return ends
}

// unfit says why the session cannot go on; nil: it can. One that was dialled to
// an address which is the peer's no more goes on if the peer there says that it
// is the one at the new address.
func (s *session) unfit() error {
	p, at := s.peer, s.peer.where.Load()
	if p.ctx.Err() != nil {
		return p.gone()
	}
	if to := at.first(); s.dialled && s.moves != at.moves && s.address != to && s.theirs.address != to {
		return fmt.Errorf("node %s %w to %s", p.name, errMoved, to)
	}
	if why := s.theirs.impostor(at.ID); why != "" {
		return fmt.Errorf("node %s %s", p.name, why)
	}
	return nil
}

// gone is why nothing more is sent to a peer whose ctx has ended.
func (p *peer) gone() error {
	if p.mesh.ctx.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("%s is not a member any more", p.name)
}

// shows notes that the peer, with a hello, has shown an epoch in a life, and tells the
// handler if it has begun another one.
func (p *peer) shows(theirs *hello, epoch uint64) {
	p.news.Lock()
	met := p.lives.Now
	p.lives.Hear(theirs.life, epoch, theirs.high >= orderedProtocol)
	another := met != 0 && p.lives.Now != met
	p.news.Unlock()
	if another {
		p.mesh.cfg.Handler.Restarted(p.name)
	}
}

// tell tells the handler that the peer was heard, and its epoch. It does so not
// too often, but at once if the epoch is a newer one.
func (p *peer) tell(now time.Time, epoch uint64) {
	p.news.Lock()
	due := epoch > p.epoch.Load() || now.Sub(p.told) >= p.mesh.cfg.Timing.News
	if due {
		p.told = now
		p.epoch.Store(epoch)
	}
	p.news.Unlock()
	if due {
		p.mesh.cfg.Handler.Heard(p.name, epoch)
	}
}

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
)

// link is this node's own connection of one class to a peer, over all its
// attempts.
type link struct {
	peer    *peer
	class   Class
	session atomic.Pointer[session] // nil: not connected
	begin   sync.Once
	hurry   chan struct{} // try again now; holds one

	mu      sync.Mutex
	cancel  context.CancelCauseFunc // ends the attempt; nil: there was none
	lastErr error                   // of the last attempt or connection; nil: there was none
	logged  string
	older   *session // the accepted connection of the same class, the other way round
}

// start begins to keep the link connected, once.
func (l *link) start() {
	l.begin.Do(func() { l.peer.mesh.spawn(l.keep) })
}

// keep connects, serves the connection while it lasts, and connects again, as
// long as the peer is a member.
func (l *link) keep() {
	t := &l.peer.mesh.cfg.Timing
	backoff, failed, moves := t.BackoffMin, 0, uint64(0)
	for l.peer.ctx.Err() == nil {
		ctx, at := l.attempt()
		if at.moves != moves {
			backoff, failed, moves = t.BackoffMin, 0, at.moves
		}
		began := time.Now()
		worked, err := l.connect(ctx, at, at.try(failed))
		l.abandon(nil)
		if l.peer.ctx.Err() != nil {
			return
		}
		l.failed(err)
		if errors.Is(err, errMoved) {
			continue
		}
		if failed++; worked {
			failed = 0
		}
		if time.Since(began) > t.BackoffMax {
			backoff = t.BackoffMin // it had worked for a while
		}
		if !l.rest(backoff) {
			return
		}
		backoff = min(2*backoff, t.BackoffMax)
	}
}

// attempt begins an attempt: its context, and where the peer is. Who changes the
// latter abandons the attempt afterwards, so that none goes on that has not seen it.
func (l *link) attempt() (context.Context, *whereabouts) {
	ctx, cancel := context.WithCancelCause(l.peer.ctx)
	l.mu.Lock()
	l.cancel = cancel
	l.mu.Unlock()
	return ctx, l.peer.where.Load()
}

// abandon ends the attempt to connect, if there is one. A connection that is made
// is not touched.
func (l *link) abandon(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel(cause)
	}
}

// hasten makes a link that rests try again now.
func (l *link) hasten() {
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

// rest waits for about as long as d, or until the peer itself is heard to be
// there. False: the peer is no longer a member, or the mesh is closing.
func (l *link) rest(d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.hurry:
	case <-l.peer.ctx.Done():
		return false
	}
	return true
}

// connect makes a connection and serves it. It returns why it failed or
// ended, and whether it had worked.
func (l *link) connect(ctx context.Context, at *whereabouts, address string) (worked bool, err error) {
	p, m := l.peer, l.peer.mesh
	w, theirs, err := l.call(ctx, at, address)
	if err != nil {
		return false, fmt.Errorf("node %s at %s: %w", p.name, address, err)
	}
	defer w.release()
	s := newSession(m, p, theirs, w)
	s.dialled, s.address, s.moves = true, address, at.moves
	if err := m.admit(s); err != nil {
		return false, err
	}
	defer m.dismiss(s)
	l.connected(s)
	err = s.run()
	l.session.Store(nil)
	if errors.Is(err, io.EOF) {
		err = errors.New("closed by the node")
	}
	return true, fmt.Errorf("node %s at %s: %w", p.name, address, err)
}

// call dials the peer and exchanges hellos with it.
func (l *link) call(ctx context.Context, at *whereabouts, address string) (wire, hello, error) {
	m := l.peer.mesh
	limited, cancel := context.WithTimeout(ctx, m.cfg.Timing.Silence)
	defer cancel()
	w, err := m.wires.dial(limited, l.peer.name, address)
	var theirs hello
	if err == nil {
		mine := m.hello(l.peer.name, l.class)
		if theirs, err = greet(limited, w, &mine, at.ID); err == nil {
			if why := m.outdated(theirs); why != "" {
				err = fmt.Errorf("node %s %s", l.peer.name, why)
			}
		}
		if err != nil {
			w.release()
		}
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return w, theirs, err
}

// greet exchanges hellos as the dialler of a node that is known by an id (zero:
// by none).
func greet(ctx context.Context, w wire, mine *hello, known [16]byte) (hello, error) {
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	theirs, err := exchange(w, mine)
	switch {
	case ctx.Err() != nil:
		return theirs, errors.New("sends no hello in time")
	case err != nil:
		return theirs, fmt.Errorf("cannot be greeted: %w", err)
	}
	if why := mine.objection(theirs, known); why != "" {
		return theirs, errors.New(why)
	}
	if theirs.refusal != "" {
		return theirs, fmt.Errorf("refuses this node: %s", theirs.refusal)
	}
	return theirs, nil
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

// connected puts the session to use.
func (l *link) connected(s *session) {
	l.session.Store(s)
	l.mu.Lock()
	l.logged = ""
	l.mu.Unlock()
	p := l.peer
	p.connects.Add(1)
	p.mesh.cfg.Logger.Info("connected to node", "node", p.name, "address", s.address, "class", l.class.String())
	if l.class == Requests {
		p.news.Lock()
		p.told = time.Time{} // a new connection is always news
		p.news.Unlock()
		p.tell(time.Now(), s.theirs.epoch)
	}
}

// failed tells of an attempt that failed or a connection that broke. The log
// hears of the same reason once in a row.
func (l *link) failed(err error) {
	l.mu.Lock()
	fresh := err.Error() != l.logged
	l.lastErr, l.logged = err, err.Error()
	l.mu.Unlock()
	if errors.Is(err, errMoved) {
		return
	}
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
	if l.peer.ctx.Err() != nil {
		return l.peer.gone()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastErr == nil {
		return errors.New("not connected yet")
	}
	return l.lastErr
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
	l.hasten()
}

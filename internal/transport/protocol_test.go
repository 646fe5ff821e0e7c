package transport

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
)

// mixed makes n1 of this version, and n2, which speaks the protocol before at most.
func mixed(t *testing.T, j joiner, c Config, serve func(string, Frame, func(vnode.Message))) pairOfNodes {
	t.Helper()
	p := pairOfNodes{ra: newRecorder(serve), rb: newRecorder(serve)}
	ca, cb := c, c
	ca.Handler, cb.Handler = p.ra, p.rb
	cb.Least, cb.Most = nil, highProtocol-1
	p.a, p.b = member(t, j, "n1", ca), member(t, j, "n2", cb)
	return p
}

// peerOf is what a mesh says of a peer.
func peerOf(m *Mesh, name string) PeerStats {
	for _, p := range m.Stats().Peers {
		if p.Node == name {
			return p
		}
	}
	return PeerStats{}
}

// Nodes of two versions talk, in the protocol that both know, and what only the newer
// one knows is kept from the older.
func TestMixedProtocols(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		arrived := make(chan Frame, 1)
		p := mixed(t, j, Config{Timing: quick}, func(_ string, f Frame, reply func(vnode.Message)) {
			arrived <- f
			reply(&vnode.Pong{})
		})
		p.connect(t)
		trace := Trace{ID: [16]byte{1}, Span: [8]byte{2}, Flags: 1}
		for from, to := range map[*Mesh]string{p.a: "n2", p.b: "n1"} {
			done := make(chan error, 1)
			from.Ask(to, Requests, Frame{Trace: trace, Msg: &vnode.Ping{}}, time.Now().Add(patience), func(_ vnode.Message, err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatalf("to %s: %v", to, err)
			}
			if f := <-arrived; f.Trace != (Trace{}) {
				t.Errorf("to %s: a trace is sent: %+v", to, f.Trace)
			}
			if got := peerOf(from, to).Protocol; got != highProtocol-1 {
				t.Errorf("with %s protocol %d is spoken, want %d", to, got, highProtocol-1)
			}
		}
	})
}

// A trace does come along where both know of it: otherwise the test above shows nothing.
func TestTracesAmongEquals(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		arrived := make(chan Frame, 1)
		p := pairIn(t, j, Config{Timing: quick}, func(_ string, f Frame, reply func(vnode.Message)) {
			arrived <- f
			reply(&vnode.Pong{})
		})
		p.connect(t)
		trace := Trace{ID: [16]byte{1}, Span: [8]byte{2}, Flags: 1}
		p.a.Ask("n2", Requests, Frame{Trace: trace, Msg: &vnode.Ping{}}, time.Now().Add(patience), func(vnode.Message, error) {})
		if f := <-arrived; f.Trace != trace {
			t.Errorf("%+v, want %+v", f.Trace, trace)
		}
		if got := peerOf(p.a, "n2").Protocol; got != highProtocol {
			t.Errorf("protocol %d is spoken, want %d", got, highProtocol)
		}
	})
}

// Once the topology holds what an older node cannot read, it is talked to no longer, and
// both know why. It is let in neither among the members nor at the door.
func TestProtocolIsRaised(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		var least atomic.Int64
		p := mixed(t, j, Config{Timing: quick, Least: func() int { return int(least.Load()) }}, echo)
		p.connect(t)
		least.Store(highProtocol)
		const why = "speaks protocol 5, this node 6"
		p.ra.await(t, "n1 knows why", func() bool {
			s := p.a.Stats()
			return strings.Contains(s.LastRejection, "node n2 "+why) && strings.Contains(peerOf(p.a, "n2").LastError, why) && !peerOf(p.a, "n2").Connected
		})
		p.rb.await(t, "n2 is told", func() bool { return strings.Contains(peerOf(p.b, "n1").LastError, "speaks protocol 6, this node 5") })
		f := Frame{Timeout: patience, Msg: &Knock{Name: "n3"}}
		_, err := j.knock(t.Context(), j.address("n1"), KnockConfig{Self: "n3", Most: highProtocol - 1}, f)
		if err == nil || !strings.Contains(err.Error(), "speaks protocol 6, this node 5") {
			t.Errorf("at the door: %v", err)
		}
		least.Store(0)
		p.connect(t)
		p.answers(t)
	})
}

package tanodb

import (
	"fmt"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
)

// peerSide is what this node does for others. It is a transport.Handler. What
// comes before the node itself has its network waits.
type peerSide struct{ *Node }

// Heard implements transport.Handler.
func (s peerSide) Heard(node string, epoch uint64) {
	<-s.joined
	s.live.heard(node)
	s.topology.heard(node, epoch)
}

// Restarted implements transport.Handler.
func (s peerSide) Restarted(node string) {
	<-s.joined
	s.menders.restarted(node)
}

// Outdated implements transport.Handler.
func (s peerSide) Outdated(node string, epoch uint64) error {
	<-s.joined
	return s.topology.outdated(node, epoch)
}

// Outlived implements transport.Handler.
func (s peerSide) Outlived(node string, life uint64) error {
	<-s.joined
	return s.topology.outlived(node, life)
}

// Reaped implements transport.Handler.
func (s peerSide) Reaped(node string, reaped, partook uint64) error {
	<-s.joined
	return s.topology.reapedBefore(node, reaped, partook)
}

// Moved implements transport.Handler. The node itself tells the topology where it is.
func (s peerSide) Moved(node, address string) {
	s.log.Info("a node has moved", "node", s.self, "peer", node, "address", address)
}

// Knocked implements transport.Handler.
func (s peerSide) Knocked(f transport.Frame, reply func(vnode.Message)) {
	if s.refuses() {
		reply(&vnode.Refusal{Code: vnode.CodeClosing, Text: "node " + s.self + " is shutting down"})
		return
	}
	s.knocked(f, reply)
}

// Refused implements transport.Handler.
func (s peerSide) Refused(node string, err error) {
	<-s.joined
	s.live.refused(node, err)
}

// Serve implements transport.Handler: it gives the message to the one who
// carries it out.
func (s peerSide) Serve(from string, f transport.Frame, reply func(vnode.Message)) {
	<-s.joined
	if s.refuses() {
		reply(&vnode.Refusal{Code: vnode.CodeClosing, Text: "node " + s.self + " is shutting down"})
		return
	}
	if f.Trace != (transport.Trace{}) {
		reply = s.served(from, f, reply)
	}
	switch m := f.Msg.(type) {
	case *vnode.Deliver:
		s.vnodes.submit(command{to: f.To, msg: m, epoch: f.Epoch, reply: func(answer vnode.Message) {
			s.menders.heard(m, answer)
			reply(answer)
		}})
	case *vnode.Store, *vnode.Attest, *vnode.Reap:
		s.vnodes.submit(command{to: f.To, msg: m, epoch: f.Epoch, reply: reply})
	case *vnode.Fetch, *vnode.List, *vnode.Census, *vnode.Query, *vnode.Buckets, *vnode.Ping, *vnode.Sums, *vnode.Versions, *vnode.Pick, *vnode.Strays:
		s.reads.submit(s.readOf(f, reply))
	case *vnode.Pull:
		s.give(s.readOf(f, reply))
	case *transport.Log:
		s.topology.received(from, m)
		reply(&transport.Logged{})
	case *transport.StateAsk:
		reply(s.topology.give(m))
	case *transport.Propose:
		s.topology.carry(m, reply)
	case *transport.JobsAsk:
		reply(s.giveJobs())
	case *transport.Order:
		s.reads.wg.Go(func() { reply(s.guarded("an order", func() vnode.Message { return s.ordered(m) })) })
	case *transport.Moment:
		s.reads.wg.Go(func() {
			reply(s.guarded("a read of a moment", func() vnode.Message { return s.moments.read(f.To, m) }))
		})
	case *coordinator.Forward:
		s.forwarded(m, f, reply)
	default:
		reply(&vnode.Refusal{Code: vnode.CodeUnsupported, Text: fmt.Sprintf("a node does not answer %T", m)})
	}
}

// readOf is the read that a node asks for.
func (n *Node) readOf(f transport.Frame, reply func(vnode.Message)) readTask {
	return readTask{to: f.To, msg: f.Msg, epoch: f.Epoch, reply: reply, room: f.Room, until: n.elapsed() + f.Timeout}
}

// give gives a page of what a vnode holds to a node that is to hold it too.
// The writes that came by an older topology, which that node was not sent, must
// be in it: the fence waits until those that were taken are applied, and later ones are
// refused.
func (n *Node) give(read readTask) {
	if planted.Is(planted.NoFence) {
		n.reads.submit(read)
		return
	}
	n.vnodes.submit(command{to: read.to, msg: &vnode.Fence{}, epoch: read.epoch, reply: func(a vnode.Message) {
		if _, ok := a.(*vnode.Fenced); !ok {
			read.reply(a)
			return
		}
		n.reads.submit(read)
	}})
}

// forwarded coordinates a write that another node has sent here.
func (s peerSide) forwarded(m *coordinator.Forward, f transport.Frame, reply func(vnode.Message)) {
	o := m.Options
	if f.Timeout > 0 && (o.Timeout == 0 || o.Timeout > f.Timeout) {
		o.Timeout = f.Timeout
	}
	put := coordinator.NewPut(s.view(), coordinator.PutRequest{
		Key: m.Key, Value: m.Value, Deleted: m.Deleted, Options: o, Op: m.Op, Forwarded: true,
	})
	var t *trail
	if f.Trace != (transport.Trace{}) {
		t = s.follow(remote(f.Trace), "forwarded put", m.Key)
	}
	var r *request
	r = s.newRequest(put, t, func() {
		if r.panicked != nil {
			reply(&vnode.Failure{Code: vnode.CodeInternal, Text: r.panicked.Error()})
			return
		}
		receipt, err := put.Result()
		if t != nil {
			t.end(err)
		}
		reply(&coordinator.Forwarded{Receipt: receipt, Err: err})
	})
	if err := s.requests.admit(r, s.Node); err != nil {
		reply(&vnode.Refusal{Code: vnode.CodeOverload, Text: err.Error()})
		return
	}
	r.feed(coordinator.Start{})
}

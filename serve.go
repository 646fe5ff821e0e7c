package tanodb

import (
	"fmt"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
)

// peerSide is what this node does for others. It is a transport.Handler.
type peerSide struct{ *Node }

// Heard implements transport.Handler.
func (s peerSide) Heard(node string) { s.live.heard(node) }

// Refused implements transport.Handler.
func (s peerSide) Refused(node string, err error) { s.live.refused(node, err) }

// Serve implements transport.Handler: it gives the message to the one who
// carries it out.
func (s peerSide) Serve(_ string, f transport.Frame, reply func(vnode.Message)) {
	if s.closing.Load() {
		reply(&vnode.Refusal{Code: vnode.CodeClosing, Text: "node " + s.self + " is shutting down"})
		return
	}
	switch m := f.Msg.(type) {
	case *vnode.Store:
		s.vnodes.submit(command{to: f.To, msg: m, reply: reply})
	case *vnode.Fetch, *vnode.List, *vnode.Census, *vnode.Ping:
		s.reads.submit(readTask{to: f.To, msg: f.Msg, reply: reply})
	case *coordinator.Forward:
		s.forwarded(m, f, reply)
	default:
		reply(&vnode.Refusal{Code: vnode.CodeUnsupported, Text: fmt.Sprintf("a node does not answer %T", m)})
	}
}

// forwarded coordinates a write that another node has sent here.
func (s peerSide) forwarded(m *coordinator.Forward, f transport.Frame, reply func(vnode.Message)) {
	o := m.Options
	if f.Timeout > 0 && (o.Timeout == 0 || o.Timeout > f.Timeout) {
		o.Timeout = f.Timeout
	}
	put := coordinator.NewPut(s.view(), coordinator.PutRequest{
		Key: m.Key, Value: m.Value, Deleted: m.Deleted, Options: o, Forwarded: true,
	})
	var r *request
	r = &request{node: s.Node, machine: put, answered: func() {
		if r.panicked != nil {
			reply(&vnode.Failure{Code: vnode.CodeInternal, Text: r.panicked.Error()})
			return
		}
		receipt, err := put.Result()
		reply(&coordinator.Forwarded{Receipt: receipt, Err: err})
	}}
	if err := s.requests.admit(r, s.Node); err != nil {
		reply(&vnode.Refusal{Code: vnode.CodeOverload, Text: err.Error()})
		return
	}
	r.feed(coordinator.Start{})
}

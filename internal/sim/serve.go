package sim

import (
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// How long a vnode takes to come to a command, and to a read, at most. What
// comes in meanwhile is one batch with it.
const (
	turnWithin = 300 * time.Microsecond
	readWithin = 200 * time.Microsecond
)

// mailbox holds the commands that wait for their vnode.
type mailbox struct {
	cmds []command
}

// command is a Coordinate or Store, and where its answers go.
type command struct {
	msg   vnode.Message
	reply func(vnode.Message)
}

func partition(p int) ring.Partition { return ring.Partition(p) }

// serve takes a request of another node.
func (n *node) serve(from *node, f transport.Frame) {
	if f.ID == 0 {
		return // a heartbeat
	}
	reply := func(m vnode.Message) {
		n.s.net.send(n, from, &transport.Frame{ID: f.ID, Response: true, Epoch: n.s.state.Epoch(), To: f.To, Msg: m})
	}
	switch m := f.Msg.(type) {
	case *coordinator.Forward:
		n.forwarded(m, f.Timeout, reply)
	default:
		n.local(f.To, f.Msg, reply)
	}
}

// forwarded runs a write for another node.
func (n *node) forwarded(m *coordinator.Forward, left time.Duration, reply func(vnode.Message)) {
	if n.closing {
		reply(&vnode.Refusal{Code: vnode.CodeClosing, Text: "shutting down"})
		return
	}
	n.s.count("forward")
	o := m.Options
	o.Timeout = left
	p := coordinator.NewPut(n.view(), coordinator.PutRequest{
		Key: m.Key, Value: m.Value, Deleted: m.Deleted, Options: o, Forwarded: true,
	})
	n.run(p, m.Key, left, func() {
		receipt, err := p.Result()
		reply(&coordinator.Forwarded{Receipt: receipt, Err: err})
	}, nil)
}

// local gives a message to a vnode of this node.
func (n *node) local(p ring.Partition, m vnode.Message, reply func(vnode.Message)) {
	switch m.(type) {
	case *vnode.Coordinate, *vnode.Store:
		n.enqueue(p, command{m, reply})
	default:
		n.later(n.rnd.upTo(readWithin), func() {
			reply(vnode.Read(n.disk.mem, p, n.wallMs(), m))
		})
	}
}

// enqueue puts a command into its vnode's mailbox, or refuses it at the door.
func (n *node) enqueue(p ring.Partition, c command) {
	if !n.s.healed && n.rnd.hit(n.s.weather.Overload) {
		n.s.count("overload")
		n.later(0, func() { c.reply(&vnode.Refusal{Code: vnode.CodeOverload, Text: "the mailbox is full"}) })
		return
	}
	box := &n.boxes[p]
	box.cmds = append(box.cmds, c)
	if len(box.cmds) == 1 {
		n.later(n.rnd.upTo(turnWithin), func() { n.turn(p) })
	}
}

// turn lets a vnode handle what is in its mailbox as one batch.
func (n *node) turn(p ring.Partition) {
	cmds := n.boxes[p].cmds
	n.boxes[p].cmds = nil
	msgs := make([]vnode.Message, len(cmds))
	orders := make([]order, len(cmds))
	for i, c := range cmds {
		msgs[i], orders[i] = c.msg, newOrder(p, c.msg)
	}
	var b storage.Batch
	out := n.vnode(int(p)).Handle(n.wallMs(), msgs, &b)
	n.s.inv.batch(n, orders, &b)
	seq, err := n.disk.mem.Applied(), error(nil)
	if len(b.Ops) > 0 {
		seq, err = n.disk.apply(&b)
	}
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	for _, note := range out.Notes {
		n.s.count(string(note.Kind))
	}
	for _, a := range out.Early {
		n.release(p, orders[a.Cmd].key, cmds[a.Cmd], a.Msg, n.s.inv.needs(n, orders[a.Cmd]))
	}
	for _, a := range out.Durable {
		c, key, need := cmds[a.Cmd], orders[a.Cmd].key, n.s.inv.needs(n, orders[a.Cmd])
		n.disk.whenDurable(seq, func(err error) {
			if err != nil {
				c.reply(&vnode.Failure{Code: vnode.CodeStorage, Text: err.Error()})
				return
			}
			n.release(p, key, c, a.Msg, need)
		})
	}
}

// release answers a command. One that says "stored" must not come before batch need
// is durable.
func (n *node) release(p ring.Partition, key kv.Key, c command, m vnode.Message, need uint64) {
	if _, stored := m.(*vnode.Stored); stored && n.disk.mem.Durable() < need {
		n.s.fail("durable", key, "%s/%d answers that it has stored batch %d, but only %d are durable",
			n.name, p, need, n.disk.mem.Durable())
		return
	}
	c.reply(m)
}

// describe shows a message in the life of a key.
func describe(m vnode.Message) string {
	switch m := m.(type) {
	case *vnode.Store:
		return "store " + describeObject(m.Object)
	case *vnode.Fetched:
		return "fetched " + describeObject(m.Object)
	case *vnode.Minted:
		return "minted " + describeObject(m.Object)
	case *vnode.Coordinate:
		return fmt.Sprintf("coordinate write %d over %v", idOf(m.Request), m.Seen)
	case *coordinator.Forward:
		return fmt.Sprintf("forward write %d", idOf(m.Options.RequestID))
	case *coordinator.Forwarded:
		return fmt.Sprintf("forwarded: %v", m.Err)
	}
	return fmt.Sprintf("%T%+v", m, m)
}

// describeObject shows which writes an object holds, and its clock.
func describeObject(b []byte) string {
	if b == nil {
		return "nothing"
	}
	o, err := object.DecodeHead(b)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%v at %v", idsOf(o), o.Clock)
}

package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
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

// command is what a vnode is to handle, and where its answers go.
type command struct {
	msg   vnode.Message
	epoch uint64 // of the topology that the sender went by
	reply func(vnode.Message)
}

func partition(p int) ring.Partition { return ring.Partition(p) }

// serve takes a request of another node.
func (n *node) serve(from *node, f transport.Frame) {
	if m, ok := f.Msg.(*transport.Log); ok {
		n.topology.feed(membership.LogReceived{From: from.name, Data: m.Data})
		return
	}
	if f.ID == 0 {
		return // a heartbeat
	}
	reply := func(m vnode.Message) {
		n.s.net.send(n, from, &transport.Frame{ID: f.ID, Response: true, Epoch: n.state.Epoch(), To: f.To, Msg: m})
	}
	switch m := f.Msg.(type) {
	case *coordinator.Forward:
		n.forwarded(m, f.Timeout, reply)
	case *transport.StateAsk:
		reply(n.topology.give(m))
	case *vnode.Pull:
		n.pulled(m, f, reply)
	case *vnode.Deliver:
		n.local(f.To, f.Epoch, m, func(answer vnode.Message) {
			n.mender.heard(m, answer)
			reply(answer)
		})
	case *vnode.Strays:
		n.later(n.rnd.upTo(readWithin), func() { reply(n.reaper.stands(f.Epoch, m)) })
	default:
		n.local(f.To, f.Epoch, f.Msg, reply)
	}
}

// pulled gives a page to a node that is to hold what this one does. All writes
// that this node has taken by an older topology are in it, and no later one is
// taken.
func (n *node) pulled(m *vnode.Pull, f transport.Frame, reply func(vnode.Message)) {
	if planted.Is(planted.NoFence) {
		n.local(f.To, f.Epoch, m, reply)
		return
	}
	n.local(f.To, f.Epoch, &vnode.Fence{}, func(a vnode.Message) {
		if _, ok := a.(*vnode.Fenced); !ok {
			reply(a)
			return
		}
		n.local(f.To, f.Epoch, m, reply)
	})
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
		Key: m.Key, Value: m.Value, Deleted: m.Deleted, Options: o, Op: m.Op, Forwarded: true,
	})
	n.run(p, m.Key, left, func(r *request) {
		receipt, err := p.Result()
		if err == nil {
			n.s.confirmed(r, m.Key, m.Options)
		}
		reply(&coordinator.Forwarded{Receipt: receipt, Err: err})
	}, nil)
}

// local gives a message to a vnode of this node.
func (n *node) local(p ring.Partition, epoch uint64, m vnode.Message, reply func(vnode.Message)) {
	switch m.(type) {
	case *vnode.Coordinate, *vnode.Store, *vnode.Deliver, *vnode.Fill, *vnode.Drop, *vnode.Attest, *vnode.Reap, *vnode.Wipe, *vnode.Fence, *vnode.SetLacking, *vnode.Sweep:
		n.enqueue(p, command{m, epoch, reply})
	default:
		n.later(n.rnd.upTo(readWithin), func() { reply(n.read(p, epoch, m)) })
	}
}

// read answers a read from what is applied.
func (n *node) read(p ring.Partition, epoch uint64, m vnode.Message) vnode.Message {
	if refusal := n.objects(p, epoch, m); refusal != nil {
		return refusal
	}
	if n.lacking[p] && !planted.Is(planted.LackingAnswers) {
		if refusal := vnode.Lacks(p, m); refusal != nil {
			n.s.count("read refused by a vnode that lacks data")
			return refusal
		}
	}
	n.s.inv.fenced(n, p, epoch, m)
	n.s.inv.complete(n, p, m)
	return vnode.Read(n.disk.mem, p, n.wallMs(), m)
}

// objects is why the node does not carry out a message; nil: it does.
func (n *node) objects(p ring.Partition, epoch uint64, m vnode.Message) vnode.Message {
	if !n.s.weather.Topology {
		return nil
	}
	switch m.(type) {
	case *vnode.Wipe, *vnode.SetLacking:
	default:
		if n.wiping {
			return &vnode.Refusal{Code: vnode.CodeLacking, Text: "the node is being rebuilt"}
		}
	}
	refusal := handoff.Objection(n.state, n.name, p, epoch, m)
	if r, ok := refusal.(*vnode.Refusal); ok && r.Code == vnode.CodeStale {
		if _, ok := m.(*vnode.Store); ok && epoch < n.state.Fence() {
			n.s.count("versions from before a mark were refused")
		}
		n.s.count(fmt.Sprintf("stale %T", m))
	}
	return refusal
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
	waiting := n.boxes[p].cmds
	n.boxes[p].cmds = nil
	cmds := waiting[:0]
	for _, c := range waiting {
		if refusal := n.objects(p, c.epoch, c.msg); refusal != nil {
			n.later(0, func() { c.reply(refusal) })
			continue
		}
		cmds = append(cmds, c)
	}
	msgs := make([]vnode.Message, len(cmds))
	orders := make([]order, len(cmds))
	for i, c := range cmds {
		n.s.inv.fenced(n, p, c.epoch, c.msg)
		msgs[i], orders[i] = c.msg, newOrder(p, c.msg)
	}
	var b storage.Batch
	out := n.vnode(int(p)).Handle(n.wallMs(), msgs, &b)
	b.Urgent = !slices.ContainsFunc(msgs, func(m vnode.Message) bool {
		_, sweep := m.(*vnode.Sweep)
		return !sweep
	})
	if n.disk.refuses(&b) {
		n.fullDisk(p, cmds)
		return
	}
	n.s.inv.batch(n, orders, &b)
	n.s.data.made(n, orders, out.Early)
	seq, err := n.disk.mem.Applied(), error(nil)
	if len(b.Ops) > 0 {
		seq, err = n.disk.apply(&b)
	}
	if err != nil {
		return // the engine broke and the node is about to stop
	}
	for _, note := range out.Notes {
		n.s.count(string(note.Kind))
		if note.Kind == vnode.NoteCorrupt {
			n.reaper.lost++
		}
	}
	if out.Lost {
		n.s.count("a vnode has replaced what had rotted")
		n.lacking[p] = true
		n.mover.feed(handoff.Repair{Partitions: []ring.Partition{p}})
	}
	for _, m := range msgs {
		n.mover.handled(p, m)
		n.s.mending(m)
		n.reaper.handled(p, m)
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

// fullDisk refuses what a full disk has not taken. What the vnode believes now is
// wrong, so another incarnation takes its place.
func (n *node) fullDisk(p ring.Partition, cmds []command) {
	n.s.count("refused by a full disk")
	n.vnodes[p] = nil
	if n.marker != nil {
		n.marker[p] = incarnation{}
	}
	for _, c := range cmds {
		n.later(0, func() { c.reply(&vnode.Refusal{Code: vnode.CodeFull, Text: errFull.Error()}) })
	}
}

// release answers a command. One that says "stored" must not come before batch need
// is durable.
func (n *node) release(p ring.Partition, key kv.Key, c command, m vnode.Message, need uint64) {
	switch m.(type) {
	case *vnode.Stored, *vnode.Delivered:
		if n.disk.mem.Durable() < need {
			n.s.fail("durable", key, "%s/%d answers that it has stored batch %d, but only %d are durable",
				n.name, p, need, n.disk.mem.Durable())
			return
		}
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

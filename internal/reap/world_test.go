package reap

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// world is a cluster of real vnodes, whose messages arrive at once and in order, and
// the Reaper of one of its nodes. Marks are shown by all as soon as they are proposed.
type world struct {
	*testing.T
	state  *membership.State
	nodes  map[string]*host
	reaper *Reaper
	self   string
	now    time.Duration
	wake   time.Duration
	queue  []Event
	notes  []Note

	at     func(Phase, vnode.Message)              // called before a message is carried out
	answer func(node string, m vnode.Message) bool // false: it gets lost; nil: none does
	shown  bool                                    // all show a mark at once
}

// host is a node of the world.
type host struct {
	engine  *storage.Memory
	vnodes  map[ring.Partition]*vnode.Vnode
	life    uint64
	strayed uint64
}

const day = 24 * 60 * 60 * 1000

var k1 = kv.Key{Bucket: "b", Name: "k1"}

func newWorld(t *testing.T, self string) *world {
	var members []membership.Member
	w := &world{T: t, nodes: make(map[string]*host), self: self, shown: true}
	for i := range 4 {
		name := fmt.Sprintf("n%d", i+1)
		members = append(members, membership.Member{Name: name})
		w.nodes[name] = &host{engine: storage.NewMemory(), vnodes: make(map[ring.Partition]*vnode.Vnode), life: uint64(i + 1)}
	}
	var err error
	if w.state, err = membership.Bootstrap(members, 8, 4, 3); err != nil {
		t.Fatal(err)
	}
	w.begin()
	return w
}

// begin begins with a new Reaper, as after a restart.
func (w *world) begin() {
	w.reaper, w.queue, w.wake = New(w.self, Limits{}), nil, 0
	for name := range w.nodes {
		if name != w.self {
			w.queue = append(w.queue, NodeUp{Node: name})
		}
	}
	slices.SortFunc(w.queue, func(a, b Event) int { return len(a.(NodeUp).Node) - len(b.(NodeUp).Node) })
	w.queue = append(w.queue, Adopted{State: w.state})
}

func (w *world) apply(c membership.Command) {
	w.state = w.state.Apply(membership.CommandID{}, c)
	w.queue = append(w.queue, Adopted{State: w.state})
}

// run runs until nothing happens for a while.
func (w *world) run() {
	for range 10_000 {
		if len(w.queue) == 0 {
			if w.wake == 0 || w.wake > w.now+20*time.Second {
				return
			}
			w.now, w.wake = max(w.now, w.wake), 0
			w.queue = append(w.queue, Tick{})
		}
		ev := w.queue[0]
		w.queue = w.queue[1:]
		for _, e := range w.reaper.Step(w.now, 3*day, ev, nil) {
			w.perform(e)
		}
	}
	w.Fatal("it does not end")
}

func (w *world) perform(e Effect) {
	switch e := e.(type) {
	case Ask:
		w.carry(e.I, e.Node, e.To, e.Msg)
	case Do:
		w.carry(e.I, w.self, e.To, e.Msg)
	case Propose:
		w.apply(e.Command)
		if w.shown {
			w.show()
		}
	case Wake:
		w.wake = e.At
	case Note:
		w.notes = append(w.notes, e)
	}
}

// show lets all members show the mark.
func (w *world) show() {
	lives := make(map[string]membership.Lives)
	for name, h := range w.nodes {
		lives[name] = membership.Lives{Now: h.life, Since: w.state.Epoch()}
	}
	c, ok := w.state.Reapable(lives, func(string) bool { return true })
	if !ok {
		w.Fatalf("the mark %d cannot be shown", w.state.Mark())
	}
	w.apply(c)
}

func (w *world) carry(i int, node string, p ring.Partition, m vnode.Message) {
	if w.at != nil {
		w.at(w.reaper.phase, m)
	}
	if w.answer != nil && !w.answer(node, m) {
		w.queue = append(w.queue, Lost{I: i, Why: "it got lost"})
		return
	}
	w.queue = append(w.queue, Replied{I: i, Msg: w.ask(node, p, w.state.Epoch(), m)})
}

// ask has a node carry out a message.
func (w *world) ask(node string, p ring.Partition, epoch uint64, m vnode.Message) vnode.Message {
	h := w.nodes[node]
	if refusal := handoff.Objection(w.state, node, p, epoch, m); refusal != nil {
		return refusal
	}
	switch m := m.(type) {
	case *vnode.Strays:
		found, err := vnode.Astray(h.engine, m.Homes, func(p, home ring.Partition) bool { return handoff.Placed(w.state, node, p, home) })
		if err != nil {
			w.Fatal(err)
		}
		out := &vnode.StraysFound{Epoch: w.state.Epoch(), Life: h.life}
		for i := range m.Homes {
			out.Homes = append(out.Homes, vnode.Standing{Stray: found[i], Count: h.strayed})
		}
		return out
	case *vnode.Graves, *vnode.Fetch:
		return vnode.Read(h.engine, p, 0, m)
	}
	v := h.vnodes[p]
	if v == nil {
		v = vnode.New(vnode.Config{Partition: p, Actor: object.Actor{node[1], byte(p)}}, h.engine)
		h.vnodes[p] = v
	}
	if s, ok := m.(*vnode.Store); ok && !handoff.Placed(w.state, node, p, s.Home) {
		h.strayed++
	}
	var b storage.Batch
	out := v.Handle(0, []vnode.Message{m}, &b)
	if _, err := h.engine.Apply(&b, true); err != nil {
		w.Fatal(err)
	}
	answers := append(out.Early, out.Durable...)
	return answers[len(answers)-1].Msg
}

func (w *world) home() ring.Partition { return w.state.Ring().Home(k1) }

func (w *world) places() []ring.Replica { return w.state.Ring().Primaries(w.home(), 3) }

// write lets a place make a version of k1, and gives it to so many places.
func (w *world) write(deleted bool, seen object.Vector, to ...ring.Replica) object.Object {
	first := w.places()[0]
	m := &vnode.Coordinate{Home: w.home(), Key: k1, Seen: seen, Write: vnode.Write{Deleted: deleted, Body: []byte{}}}
	if !deleted {
		m.Write.Body = object.AppendBody(nil, &kv.Value{Data: []byte("v")})
	}
	w.ask(first.Node, first.Partition, w.state.Epoch(), m)
	o := w.has(first)
	for _, r := range to {
		w.store(r, o, w.state.Epoch())
	}
	return o
}

// store gives a version to a place, or to somebody else.
func (w *world) store(r ring.Replica, o object.Object, epoch uint64) vnode.Message {
	return w.ask(r.Node, r.Partition, epoch, &vnode.Store{Home: w.home(), Key: k1, Object: o.Encode()})
}

// has is what a node holds of k1 in a vnode.
func (w *world) has(r ring.Replica) object.Object {
	f := w.ask(r.Node, r.Partition, w.state.Epoch(), &vnode.Fetch{Home: w.home(), Key: k1}).(*vnode.Fetched)
	if len(f.Object) == 0 {
		return object.Object{}
	}
	o, err := object.Decode(f.Object)
	if err != nil {
		w.Fatal(err)
	}
	return o
}

// left is how many places hold anything of k1.
func (w *world) left() (n int) {
	for _, r := range w.places() {
		if len(w.has(r).Siblings) > 0 {
			n++
		}
	}
	return n
}

// outsider is a node without a place of k1, standing in for its first one.
func (w *world) outsider() ring.Replica {
	for _, node := range []string{"n1", "n2", "n3", "n4"} {
		if !slices.ContainsFunc(w.places(), func(r ring.Replica) bool { return r.Node == node }) {
			return ring.Replica{Partition: w.places()[0].Partition, Node: node}
		}
	}
	w.Fatal("all have a place")
	return ring.Replica{}
}

// buried is a world in which k1 was deleted, everywhere, and the Reaper is that of
// its first place.
func buried(t *testing.T) (w *world, value, tomb object.Object) {
	t.Helper()
	w = newWorld(t, newWorld(t, "n1").places()[0].Node)
	value = w.write(false, nil, w.places()[1:]...)
	tomb = w.write(true, value.Clock, w.places()[1:]...)
	if w.left() != 3 || tomb.Live(0) {
		t.Fatalf("%d places hold %v", w.left(), tomb)
	}
	return w, value, tomb
}

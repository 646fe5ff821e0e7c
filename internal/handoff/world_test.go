package handoff

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

const replicas = 3

// world is a few nodes with their Managers, a network that loses, delays and
// reorders, and a log of topologies that nodes adopt when they come to it. One
// goroutine runs it, from a seed.
type world struct {
	*testing.T
	rand   *rand.Rand
	now    time.Duration
	queue  []due
	seq    int
	nodes  map[string]*node
	names  []string // sorted
	log    []Topology
	nextID uint64
	loss   float64 // of a message, in each direction
	limits Limits

	writes []write
	notes  []Note
	asked  func(from *node, a Ask) bool // nil, or what sees each Ask; false loses it
	did    func(n *node, d Do)
}

// due is something to happen.
type due struct {
	at  time.Duration
	seq int
	run func()
}

type node struct {
	*world
	name   string
	mem    *storage.Memory
	vnodes map[ring.Partition]*vnode.Vnode
	actors byte
	m      *Manager
	alive  bool
	life   int // counts the starts, so that what is meant for an earlier one is not heard
	epoch  uint64
	lacks  map[ring.Partition]bool
}

// write is one version that a client was told is stored.
type write struct {
	key        kv.Key
	dot        object.Dot
	superseded bool
}

func newWorld(t *testing.T, seed uint64, owners ...string) *world {
	w := &world{T: t, rand: rand.New(rand.NewPCG(seed, 1)), nodes: map[string]*node{}}
	w.limits = Limits{PageBytes: 200, RetryFirst: 50 * time.Millisecond, RetryMost: 400 * time.Millisecond, AskTimeout: 300 * time.Millisecond}
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	w.log = []Topology{{Epoch: 1, Ring: r, Replicas: replicas}}
	for _, name := range r.Nodes() {
		w.join(name)
	}
	return w
}

// join makes a node that is up.
func (w *world) join(name string) *node {
	n := &node{world: w, name: name, mem: storage.NewMemory()}
	w.nodes[name] = n
	w.names = append(w.names, name)
	slices.Sort(w.names)
	n.start()
	return n
}

func (n *node) start() {
	n.alive = true
	n.life++
	n.vnodes = map[ring.Partition]*vnode.Vnode{}
	n.lacks = map[ring.Partition]bool{}
	n.m = New(n.name, n.limits)
	n.epoch = 0
	n.adopt(n.log[len(n.log)-1])
	for _, name := range n.names {
		other := n.nodes[name]
		if other != n && other.alive {
			n.feed(NodeUp{name})
			other.feed(NodeUp{n.name})
		}
	}
}

// crash ends the node; what was not durable may be lost.
func (n *node) crash() {
	n.alive = false
	n.life++
	n.mem = n.mem.Crash(n.rand.IntN(3))
	for _, name := range n.names {
		if n.nodes[name].alive {
			n.nodes[name].feed(NodeDown{n.name})
		}
	}
}

func (n *node) restart() {
	n.crash()
	n.start()
}

func (w *world) after(d time.Duration, run func()) {
	w.seq++
	w.queue = append(w.queue, due{w.now + d, w.seq, run})
}

// later runs it at the node, if that has not ended meanwhile.
func (n *node) later(d time.Duration, run func()) {
	life := n.life
	n.after(d, func() {
		if n.life == life {
			run()
		}
	})
}

func (w *world) delay() time.Duration { return time.Duration(1+w.rand.IntN(20)) * time.Millisecond }

// step lets the next thing happen.
func (w *world) step() bool {
	if len(w.queue) == 0 {
		return false
	}
	first := 0
	for i, d := range w.queue {
		if f := w.queue[first]; d.at < f.at || d.at == f.at && d.seq < f.seq {
			first = i
		}
	}
	d := w.queue[first]
	w.queue = slices.Delete(w.queue, first, first+1)
	w.now = max(w.now, d.at)
	d.run()
	return true
}

// run lets things happen for so long.
func (w *world) run(d time.Duration) {
	end := w.now + d
	w.after(d, func() {})
	for steps := 0; w.now < end && w.step(); steps++ {
		if steps > 100_000 {
			w.Fatalf("at %v somebody does not sleep", w.now)
		}
	}
}

// settle lets things happen until nothing is left to do.
func (w *world) settle() {
	w.Helper()
	w.loss = 0
	for range 400 {
		w.run(500 * time.Millisecond)
		if w.quiet() {
			return
		}
	}
	for _, name := range w.names {
		for _, j := range w.nodes[name].m.Jobs() {
			w.Logf("%s at %v: %+v", name, w.now, j)
		}
	}
	w.Fatalf("after %v there is still something to do", w.now)
}

func (w *world) quiet() bool {
	top := w.log[len(w.log)-1]
	for _, name := range w.names {
		n := w.nodes[name]
		if !n.alive {
			continue
		}
		kept, err := vnode.Kept(n.mem)
		if len(n.m.Jobs()) > 0 || len(n.strays()) > 0 || err != nil || len(kept) > 0 || n.epoch != top.Epoch {
			return false
		}
	}
	return len(top.Transfers) == 0
}

// strays are what the node holds and should not.
func (n *node) strays() []Holding {
	var all []Holding
	top := n.log[len(n.log)-1]
	for _, h := range n.holdings().Vnodes {
		h.Homes = slices.DeleteFunc(h.Homes, func(home ring.Partition) bool { return !top.stray(n.name, h.Partition, home) })
		if len(h.Homes) > 0 {
			all = append(all, h)
		}
	}
	return all
}

func (n *node) holdings() Holdings {
	var h Holdings
	held, err := vnode.Held(n.mem)
	if err != nil {
		n.Fatal(err)
	}
	for _, p := range held {
		f := vnode.Read(n.mem, p, 1, &vnode.Homes{}).(*vnode.HomesFound)
		h.Vnodes = append(h.Vnodes, Holding{p, f.Homes})
	}
	if h.Kept, err = vnode.Kept(n.mem); err != nil {
		n.Fatal(err)
	}
	for p := range ring.Partition(n.log[0].Ring.Size()) {
		if lacking, _ := vnode.Lacking(n.mem, p); lacking {
			h.Lacking = append(h.Lacking, p)
		}
	}
	return h
}

func (n *node) adopt(t Topology) {
	if t.Epoch > n.epoch {
		n.epoch = t.Epoch
		n.feed(Adopted{t})
	}
}

// publish is a new version of the topology, which nodes come to one after the
// other.
func (w *world) publish(t Topology) {
	t.Epoch = w.log[len(w.log)-1].Epoch + 1
	t.Replicas = replicas
	w.log = append(w.log, t)
	for _, name := range w.names {
		n := w.nodes[name]
		if n.alive {
			n.later(5*w.delay(), func() { n.adopt(t) })
		}
	}
}

// transfer begins one.
func (w *world) transfer(p ring.Partition, to string, forced bool) {
	t := w.log[len(w.log)-1]
	w.nextID++
	x := membership.Transfer{ID: w.nextID, Partition: p, From: t.Ring.Owner(p), To: to, Phase: membership.Copying, Forced: forced, Epoch: t.Epoch + 1}
	t.Next = t.Ring.With(p, to)
	t.Transfers = []membership.Transfer{x}
	w.publish(t)
}

// propose is the log's part: it flips when all receivers are filled, and settles
// when all who are up know it.
func (w *world) propose(c membership.Command) {
	f, ok := c.(membership.Filled)
	t := w.log[len(w.log)-1]
	if !ok || len(t.Transfers) != 1 || t.Transfers[0].ID != f.Transfer || t.Transfers[0].Phase != membership.Copying {
		return
	}
	x := t.Transfers[0]
	if slices.Contains(x.Filled, f.Node) {
		return
	}
	x.Filled = append(slices.Clone(x.Filled), f.Node)
	for _, need := range ring.Fills(t.Ring, t.Next, replicas) {
		if !slices.Contains(x.Filled, need.To.Node) {
			t.Transfers = []membership.Transfer{x}
			w.publish(t)
			return
		}
	}
	x.Phase, x.Epoch = membership.Settling, t.Epoch+1
	t.Ring, t.Next = t.Next, t.Ring
	t.Transfers = []membership.Transfer{x}
	w.publish(t)
	w.settled(x.Epoch)
}

func (w *world) settled(epoch uint64) {
	w.after(10*time.Millisecond, func() {
		for _, name := range w.names {
			if n := w.nodes[name]; n.alive && n.epoch < epoch {
				w.settled(epoch)
				return
			}
		}
		t := w.log[len(w.log)-1]
		t.Next, t.Transfers = nil, nil
		w.publish(t)
	})
}

// feed gives the node's Manager an event, and does what it wants.
func (n *node) feed(ev Event) {
	for _, e := range n.m.Step(n.now, ev, nil) {
		n.effect(e)
	}
}

func (n *node) effect(e Effect) {
	switch e := e.(type) {
	case Ask:
		n.ask(e)
	case Do:
		if n.did != nil {
			n.did(n, e)
		}
		n.later(n.delay(), func() {
			answer := n.serve(n.epoch, e.To, e.Msg)
			n.later(n.delay(), func() { n.feed(Replied{e.I, answer}) })
		})
	case Look:
		n.later(n.delay(), func() { n.feed(n.holdings()) })
	case Propose:
		n.later(n.delay(), func() {
			if n.rand.Float64() >= n.loss {
				n.propose(e.Command)
			}
		})
	case Wake:
		n.later(max(0, e.At-n.now), func() { n.feed(Tick{}) })
	case Note:
		n.notes = append(n.notes, e)
	}
}

// ask carries an Ask and its answer, or loses either; the sender then hears of it
// at once, late or not at all.
func (n *node) ask(a Ask) {
	to, epoch := n.nodes[a.Node], n.epoch
	if n.asked != nil && !n.asked(n, a) {
		return
	}
	if n.rand.Float64() < n.loss || !to.alive {
		if n.rand.IntN(2) == 0 {
			n.later(n.delay(), func() { n.feed(NotSent{a.I, "no way there"}) })
		}
		return
	}
	to.later(n.delay(), func() {
		answer := to.serve(epoch, a.To, a.Msg)
		if n.rand.Float64() < n.loss {
			to.serve(epoch, a.To, a.Msg) // and it comes twice
			n.later(n.delay(), func() { n.feed(Lost{a.I, "no answer"}) })
			return
		}
		n.later(n.delay(), func() { n.feed(Replied{a.I, answer}) })
	})
}

// serve is what a host does with a request of another node, or of its own.
func (n *node) serve(epoch uint64, p ring.Partition, msg vnode.Message) vnode.Message {
	if epoch > n.epoch {
		n.adopt(n.log[epoch-1])
	}
	if refusal := vnode.Lacks(p, msg); refusal != nil && n.lacks[p] {
		return refusal
	}
	switch m := msg.(type) {
	case *vnode.Pull, *vnode.Homes, *vnode.Resume, *vnode.Fetch:
		return vnode.Read(n.mem, p, 1, msg)
	case *vnode.SetLacking:
		n.lacks[p] = m.On
	}
	out := n.handle(p, msg)
	for _, a := range append(out.Early, out.Durable...) {
		return a.Msg
	}
	n.Fatalf("%T is not answered", msg)
	return nil
}

func (n *node) handle(p ring.Partition, msg vnode.Message) vnode.Outcome {
	v := n.vnodes[p]
	if v == nil {
		n.actors++
		v = vnode.New(vnode.Config{Partition: p, Actor: object.Actor{n.name[1], byte(p), n.actors}}, n.mem)
		n.vnodes[p] = v
	}
	var b storage.Batch
	out := v.Handle(1, []vnode.Message{msg}, &b)
	commit, err := n.mem.Apply(&b, true)
	if err != nil {
		n.Fatal(err)
	}
	if len(out.Durable) > 0 {
		if err := commit.Wait(); err != nil {
			n.Fatal(err)
		}
	}
	return out
}

// put writes as a coordinator does: to the places that its node knows, with
// stand-ins, each of which refuses one who knows less than it. It counts as
// stored if the majorities by both rings have it.
func (w *world) put(from *node, k kv.Key, read bool) bool {
	t := w.log[from.epoch-1]
	home := t.Ring.Home(k)
	m := &vnode.Coordinate{Home: home, Key: k, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: []byte{1, 2, 3}})}}
	if read {
		m.Seen = w.read(from, k)
	}
	var enc []byte
	var dot object.Dot
	now, next := 0, 0
	for _, p := range ring.Places(t.Ring, t.next(), home, replicas, replicas) {
		n := w.nodes[p.Node]
		if !n.alive || w.rand.Float64() < w.loss {
			n = w.nodes[w.names[w.rand.IntN(len(w.names))]] // a stand-in, or nobody
		}
		if !n.alive || n.epoch > t.Epoch || n.name != p.Node && has(t.places(home), p.Partition, n.name) {
			continue
		}
		if enc == nil {
			out := n.handle(p.Partition, m)
			if len(out.Durable) == 0 {
				continue
			}
			enc = out.Early[0].Msg.(*vnode.Minted).Object
			dot.Actor, dot.Counter = n.vnodes[p.Partition].Incarnation()
		} else if len(n.handle(p.Partition, &vnode.Store{Home: home, Key: k, Object: enc}).Durable) == 0 {
			continue
		}
		if n.name != p.Node {
			n.feed(Stray{p.Partition, home})
		}
		if p.Now {
			now++
		}
		if p.Next {
			next++
		}
	}
	if enc == nil {
		return false
	}
	for i := range w.writes {
		if x := &w.writes[i]; x.key == k && m.Seen.Covers(x.dot) {
			x.superseded = true
		}
	}
	if now > replicas/2 && next > replicas/2 {
		w.writes = append(w.writes, write{key: k, dot: dot})
		return true
	}
	return false
}

// read is what a client has seen that reads before it writes, of one place.
func (w *world) read(from *node, k kv.Key) object.Vector {
	t := w.log[from.epoch-1]
	home := t.Ring.Home(k)
	p := t.Ring.Primaries(home, replicas)[w.rand.IntN(replicas)]
	return w.nodes[p.Node].object(p.Partition, home, k).Clock
}

func (n *node) object(p, home ring.Partition, k kv.Key) object.Object {
	enc, err := n.mem.Get(vnode.DataKey(p, home, k))
	if errors.Is(err, storage.ErrNotFound) {
		return object.Object{}
	}
	if err != nil {
		n.Fatal(err)
	}
	obj, err := object.Decode(enc)
	if err != nil {
		n.Fatal(err)
	}
	return obj
}

func testKey(i int) kv.Key { return kv.Key{Bucket: "b", Name: fmt.Sprint("key ", i)} }

// check looks for every write that was acknowledged. Anywhere on the disks it
// must be on so many nodes; and no copy may claim to have seen it and not have
// it.
func (w *world) check() {
	w.Helper()
	for _, x := range w.writes {
		copies := 0
		for _, name := range w.names {
			n, found := w.nodes[name], false
			home := w.log[0].Ring.Home(x.key)
			for p := range ring.Partition(w.log[0].Ring.Size()) {
				o := n.object(p, home, x.key)
				if !o.Clock.Covers(x.dot) {
					continue
				}
				found = true
				if !x.superseded && !slices.ContainsFunc(o.Siblings, func(s object.Sibling) bool { return s.Dot == x.dot }) {
					w.Fatalf("%s vnode %d has lost %v of %v: %v", name, p, x.dot, x.key, o)
				}
			}
			if found {
				copies++
			}
		}
		if copies == 0 {
			w.Fatalf("at %v %v of %v is nowhere", w.now, x.dot, x.key)
		}
	}
}

// checkPlaces looks for every acknowledged write where a read would look: on the
// majority of the primaries.
func (w *world) checkPlaces() {
	w.Helper()
	t := w.log[len(w.log)-1]
	for _, x := range w.writes {
		copies, home := 0, t.Ring.Home(x.key)
		for _, p := range t.Ring.Primaries(home, replicas) {
			if w.nodes[p.Node].object(p.Partition, home, x.key).Clock.Covers(x.dot) {
				copies++
			}
		}
		if copies <= replicas/2 {
			w.Fatalf("%v of %v is on %d of its primaries", x.dot, x.key, copies)
		}
	}
}

func hint(home ring.Partition, k kv.Key) *vnode.Coordinate {
	return &vnode.Coordinate{Home: home, Key: k, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: []byte("hint")})}}
}

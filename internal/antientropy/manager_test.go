package antientropy

import (
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

// world is a few nodes with a Manager each, and a network that answers after a
// millisecond, or loses.
type world struct {
	*testing.T
	chance *rand.Rand
	top    Topology
	now    time.Duration
	nodes  map[string]*node
	names  []string
	queue  []happening // by time
	loss   float64
	refuse func(node string, m vnode.Message) vnode.Message // nil, or what a node answers instead
	notes  []Note
	asks   map[string]int // messages between nodes, by type
}

type happening struct {
	at time.Duration
	do func()
}

// node has one engine for all its vnodes.
type node struct {
	name    string
	manager *Manager
	engine  *storage.Memory
	vnodes  map[ring.Partition]*vnode.Vnode
	down    bool
	wakes   int
}

const partitions = 8

func newWorld(t *testing.T, seed uint64, nodes int, l Limits) *world {
	w := &world{T: t, chance: rand.New(rand.NewPCG(seed, 5)), nodes: map[string]*node{}, asks: map[string]int{}}
	var members []membership.Member
	for i := range nodes {
		w.names = append(w.names, fmt.Sprint("n", i+1))
		members = append(members, membership.Member{Name: w.names[i]})
	}
	s, err := membership.Bootstrap(members, partitions, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.top = Topology{Epoch: s.Epoch(), Ring: s.Ring(), Replicas: 3}
	for _, name := range w.names {
		w.nodes[name] = &node{name: name, manager: New(name, l), engine: storage.NewMemory(), vnodes: map[ring.Partition]*vnode.Vnode{}}
	}
	for _, name := range w.names {
		for _, peer := range w.names {
			if peer != name {
				w.step(name, NodeUp{peer})
			}
		}
		w.step(name, Adopted{w.top})
	}
	return w
}

func (w *world) at(d time.Duration, do func()) {
	h := happening{w.now + d, do}
	i, _ := slices.BinarySearchFunc(w.queue, h, func(a, b happening) int {
		if a.at <= b.at {
			return -1
		}
		return 1
	})
	w.queue = slices.Insert(w.queue, i, h)
}

func (w *world) runFor(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		h := w.queue[0]
		w.queue = w.queue[1:]
		w.now = h.at
		h.do()
	}
	w.now = end
}

func (w *world) step(name string, ev Event) {
	n := w.nodes[name]
	for _, e := range n.manager.Step(w.now, ev, nil) {
		switch e := e.(type) {
		case Ask:
			w.asks[fmt.Sprintf("%T", e.Msg)]++
			w.deliver(n, w.nodes[e.Node], e.I, e.To, e.Msg)
		case Do:
			w.deliver(n, n, e.I, e.To, e.Msg)
		case Wake:
			n.wakes++
			this := n.wakes
			w.at(e.At-w.now, func() {
				if n.wakes == this {
					w.step(name, Tick{})
				}
			})
		case Note:
			w.notes = append(w.notes, e)
		}
	}
}

func (w *world) deliver(from, to *node, i int, p ring.Partition, m vnode.Message) {
	if from != to && (to.down || w.chance.Float64() < w.loss) {
		if w.chance.IntN(2) == 0 {
			w.at(time.Millisecond, func() { w.step(from.name, Lost{i, "gone"}) })
		}
		return
	}
	w.at(time.Millisecond, func() {
		a := w.answer(to, p, m)
		w.at(0, func() { w.step(from.name, Replied{i, a}) })
	})
}

func (w *world) answer(n *node, p ring.Partition, m vnode.Message) vnode.Message {
	if w.refuse != nil {
		if r := w.refuse(n.name, m); r != nil {
			return r
		}
	}
	switch m.(type) {
	case *vnode.Deliver, *vnode.Coordinate:
	default:
		return vnode.Read(n.engine, p, 1, m)
	}
	v := n.vnodes[p]
	if v == nil {
		v = vnode.New(vnode.Config{Partition: p, Actor: object.Actor{n.name[1], byte(p)}}, n.engine)
		n.vnodes[p] = v
	}
	var b storage.Batch
	out := v.Handle(1, []vnode.Message{m}, &b)
	if _, err := n.engine.Apply(&b, true); err != nil {
		w.Fatal(err)
	}
	return out.Durable[0].Msg
}

// put writes a key at one of its replicas only.
func (w *world) put(name, value string) {
	k := kv.Key{Bucket: "b", Name: name}
	home := w.top.Ring.Home(k)
	places := w.top.Ring.Primaries(home, w.top.Replicas)
	r := places[w.chance.IntN(len(places))]
	w.answer(w.nodes[r.Node], r.Partition, &vnode.Coordinate{Home: home, Key: k, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: []byte(value)})}})
}

// converged reports whether all replicas of all homes are the same.
func (w *world) converged() bool {
	for home := range ring.Partition(partitions) {
		var first uint64
		for i, r := range w.top.Ring.Primaries(home, w.top.Replicas) {
			v, err := vnode.Verify(w.nodes[r.Node].engine, r.Partition, home)
			if err != nil || len(v.Segments) > 0 {
				w.Fatalf("the tree of home %d in %v: %+v, %v", home, r, v, err)
			}
			if i == 0 {
				first = v.Sum
			} else if v.Sum != first {
				return false
			}
		}
	}
	return true
}

func (w *world) count(kind NoteKind) int {
	n := 0
	for _, note := range w.notes {
		if note.Kind == kind {
			n++
		}
	}
	return n
}

// Each pair of replicas is compared by one of the two, within a period, and again in
// the next.
func TestEveryPairOnceInAPeriod(t *testing.T) {
	w := newWorld(t, 1, 4, Limits{Every: time.Minute})
	w.runFor(59 * time.Second)
	seen := map[Pair]int{}
	for _, n := range w.notes {
		p := n.Pair
		if p.Here.Partition > p.There.Partition {
			p.Here, p.There = p.There, p.Here
		}
		seen[p]++
		if n.Kind != NoteEqual {
			t.Errorf("%+v", n)
		}
	}
	if want := partitions * 3; len(seen) != want || len(w.notes) != want {
		t.Errorf("%d pairs in %d exchanges; want %d", len(seen), len(w.notes), want)
	}
	w.runFor(time.Minute)
	if len(w.notes) != 2*len(seen) {
		t.Errorf("%d exchanges in two periods of %d pairs", len(w.notes), len(seen))
	}
	for _, name := range w.names {
		if s := w.nodes[name].manager.Status(); s.Never+s.Failing+s.Due > 0 || s.Totals.Equal != 2*s.Pairs {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// What differs is mended, under loss and refusals, from seeds; and then nothing is sent
// any more.
func TestWorldsConverge(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 3+int(seed%3), Limits{Every: 20 * time.Second, Exchanges: 1 + int(seed%3), RetryFirst: 100 * time.Millisecond, RetryMost: time.Second, AskTimeout: 300 * time.Millisecond, PageBytes: []int{1, 2000, 0}[seed%3]})
		w.loss = []float64{0, 0.02, 0.1}[seed%3]
		for i := range 300 {
			w.put(fmt.Sprint("k", w.chance.IntN(100)), fmt.Sprint(i))
			w.runFor(time.Duration(w.chance.IntN(100)) * time.Millisecond)
		}
		w.runFor(30 * time.Second)
		w.loss = 0
		w.runFor(60 * time.Second)
		if !w.converged() {
			t.Errorf("seed %d: the replicas differ", seed)
		}
		if w.count(NoteMended) == 0 {
			t.Errorf("seed %d: nothing was mended", seed)
		}
		clear(w.asks)
		w.runFor(60 * time.Second)
		if w.asks["*vnode.Deliver"]+w.asks["*vnode.Pick"]+w.asks["*vnode.Versions"] > 0 || w.asks["*vnode.Sums"] == 0 {
			t.Errorf("seed %d: once all is equal: %v", seed, w.asks)
		}
	}
}

// A node that comes back is compared with at once, long before the period is over; and so is
// one that was away so shortly that nobody held it to be down.
func TestANodeThatIsBackIsComparedSoon(t *testing.T) {
	t.Run("held to be down", func(t *testing.T) {
		isComparedSoon(t, func(w *world, name string, back bool) {
			if back {
				w.step(name, NodeUp{"n3"})
				w.step("n3", NodeUp{name})
			} else {
				w.step(name, NodeDown{"n3"})
			}
		})
	})
	t.Run("away unseen", func(t *testing.T) {
		isComparedSoon(t, func(w *world, name string, back bool) {
			if back {
				w.step(name, Restarted{"n3"})
				w.step("n3", Restarted{name})
			}
		})
	})
}

func isComparedSoon(t *testing.T, sees func(w *world, name string, back bool)) {
	w := newWorld(t, 2, 3, Limits{Every: 24 * time.Hour})
	w.runFor(time.Minute)
	for _, name := range []string{"n1", "n2"} {
		sees(w, name, false)
	}
	w.nodes["n3"].down = true
	for i := range 50 {
		w.put(fmt.Sprint("k", i), "v")
	}
	w.runFor(time.Minute)
	w.nodes["n3"].down = false
	for _, name := range []string{"n1", "n2"} {
		sees(w, name, true)
	}
	before := len(w.notes)
	w.runFor(time.Minute)
	moved := map[ring.Partition]bool{}
	with := map[Pair]bool{}
	for _, n := range w.notes[before:] {
		p := n.Pair
		switch {
		case p.Here.Node == "n3" || p.There.Node == "n3":
			if p.There.Node == "n3" {
				p.Here, p.There = p.There, p.Here
			}
			with[p] = true
		case !moved[p.Home]:
			t.Errorf("%v was compared as well, and nothing was moved in that home", p)
		}
		moved[p.Home] = moved[p.Home] || n.Tally.In+n.Tally.Out > 0
	}
	if len(with) != 2*partitions {
		t.Errorf("%d pairs were compared; n3 has %d", len(with), 2*partitions)
	}
	if !w.converged() {
		t.Error("the replicas differ still")
	}
}

func TestAFailureIsTriedAgainLaterAndLater(t *testing.T) {
	w := newWorld(t, 3, 3, Limits{RetryFirst: time.Second, RetryMost: 8 * time.Second})
	w.refuse = func(node string, m vnode.Message) vnode.Message {
		if _, ok := m.(*vnode.Sums); ok && node == "n2" {
			return &vnode.Failure{Code: vnode.CodeStorage, Text: "disk"}
		}
		return nil
	}
	w.runFor(60 * time.Second)
	s := w.nodes["n1"].manager.Status()
	if s.Failing == 0 || len(s.Errors) == 0 || s.Errors[0].Error != "disk" {
		t.Fatalf("%+v", s)
	}
	if n := s.Totals.Failed / s.Failing; n < 8 || n > 11 { // at 0, 1, 3, 7, 15, 23, 31, 39, 47, 55
		t.Errorf("%d tries in a minute", n)
	}
	w.refuse = nil
	w.runFor(10 * time.Second)
	if s := w.nodes["n1"].manager.Status(); s.Failing > 0 {
		t.Errorf("when all is well again: %+v", s)
	}
}

// Stale and lacking are no failures: the pair waits a moment.
func TestWhatIsNotYetComparable(t *testing.T) {
	for _, code := range []vnode.Code{vnode.CodeStale, vnode.CodeLacking} {
		w := newWorld(t, 4, 3, Limits{})
		w.refuse = func(string, vnode.Message) vnode.Message { return &vnode.Refusal{Code: code, Text: "not yet"} }
		w.runFor(10 * time.Second)
		w.refuse = nil
		w.runFor(3 * time.Second)
		if w.count(NoteFailed) > 0 || w.count(NoteEqual) != 3*partitions {
			t.Errorf("code %d: %d failed, %d equal", code, w.count(NoteFailed), w.count(NoteEqual))
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	w := newWorld(t, 5, 3, Limits{})
	for i := range 100 {
		w.put(fmt.Sprint("k", i), "v")
	}
	for _, name := range w.names {
		w.step(name, Pause{})
	}
	clear(w.asks)
	w.runFor(2 * time.Hour)
	if len(w.asks) > 0 || w.converged() || !w.nodes["n1"].manager.Status().Paused {
		t.Errorf("paused, it asks %v", w.asks)
	}
	for _, name := range w.names {
		w.step(name, Resume{})
	}
	w.runFor(time.Minute)
	if !w.converged() {
		t.Error("the replicas differ")
	}
}

// The budget holds, and is shared by all exchanges of the node.
func TestTheBudget(t *testing.T) {
	for name, l := range map[string]Limits{
		"bytes":   {BytesPerSecond: 20_000, PageBytes: 2000, Exchanges: 4},
		"objects": {ObjectsPerSecond: 20, PageBytes: 2000, Exchanges: 4},
	} {
		w := newWorld(t, 6, 3, l)
		for i := range 600 {
			w.put(fmt.Sprint("k", i), string(make([]byte, 300)))
		}
		const seconds = 5
		w.runFor(seconds * time.Second)
		for _, n := range w.names {
			got := w.nodes[n].manager.Status().Totals
			if l.BytesPerSecond > 0 && got.Bytes > (seconds+1)*l.BytesPerSecond+4*4000 {
				t.Errorf("%s: %s has taken %d bytes in %d s", name, n, got.Bytes, seconds)
			}
			if moved := int64(got.In + got.Out); l.ObjectsPerSecond > 0 && (moved > (seconds+1)*l.ObjectsPerSecond+4*10 || moved == 0) {
				t.Errorf("%s: %s has moved %d objects in %d s", name, n, moved, seconds)
			}
		}
		w.runFor(20 * time.Minute)
		if !w.converged() {
			t.Errorf("%s: the replicas differ", name)
		}
	}
}

// Another topology ends the exchanges of places that are none any more, and begins those
// of new ones.
func TestAnotherTopology(t *testing.T) {
	w := newWorld(t, 7, 3, Limits{Every: time.Hour})
	w.runFor(10 * time.Second)
	before := len(w.notes)
	r := w.top.Ring
	p := ring.Partition(0)
	for r.Owner(p) != "n1" {
		p++
	}
	next := Topology{Epoch: w.top.Epoch + 1, Ring: r.With(p, "n2"), Replicas: 3}
	for _, name := range w.names {
		w.step(name, Adopted{next})
		w.step(name, Adopted{w.top}) // an older one is ignored
	}
	w.runFor(10 * time.Second)
	fresh := 0
	for _, n := range w.notes[before:] {
		fresh++
		places := next.Ring.Primaries(n.Pair.Home, 3)
		for _, x := range []ring.Replica{n.Pair.Here, n.Pair.There} {
			if !slices.ContainsFunc(places, func(r ring.Replica) bool { return r.Node == x.Node && r.Partition == x.Partition }) {
				t.Errorf("%v is compared, and the places are %v", n.Pair, places)
			}
		}
	}
	if fresh == 0 || fresh > 3*6 {
		t.Errorf("%d pairs were compared anew", fresh)
	}
}

// chain is a world of three nodes in which all is equal, and then one of the three
// replicas of a home has a key that the others lack, while nobody is to compare anything
// for a day.
func chain(t *testing.T, has int) (w *world, home ring.Partition) {
	w = newWorld(t, 3, 3, Limits{Every: 24 * time.Hour})
	w.runFor(time.Minute)
	k := kv.Key{Bucket: "b", Name: "late"}
	home = w.top.Ring.Home(k)
	at := w.top.Ring.Primaries(home, 3)[has]
	made := w.answer(w.nodes[at.Node], at.Partition,
		&vnode.Coordinate{Home: home, Key: k, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: []byte("x")})}})
	if _, ok := made.(*vnode.Stored); !ok {
		t.Fatalf("%+v", made)
	}
	return w, home
}

// What an exchange has moved is carried on to the third replica, whichever of the three
// compared with which: they had been found equal before it appeared.
func TestWhatWasMovedGoesOn(t *testing.T) {
	for _, pair := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
		for _, has := range pair {
			w, home := chain(t, has)
			places := w.top.Ring.Primaries(home, 3)
			here, there := places[pair[0]], places[pair[1]]
			w.nodes[here.Node].manager.work(Pair{home, plain(here), plain(there)}, false).due = w.now
			w.step(here.Node, Tick{})
			w.runFor(time.Minute)
			if !w.converged() {
				t.Errorf("replica %d had a key, %v have compared, and one lacks it", has, pair)
			}
			for _, name := range w.names {
				if extras := w.nodes[name].manager.extras; len(extras) > 0 {
					t.Errorf("%s still has extra pairs: %v", name, extras[0].Pair)
				}
			}
		}
	}
}

// A home in which a replica has not confirmed a write is compared soon, by any node
// that holds it and is told.
func TestASuspectIsComparedSoon(t *testing.T) {
	for told := range 3 {
		w, home := chain(t, told)
		name := w.top.Ring.Primaries(home, 3)[told].Node
		w.step(name, Suspect{home})
		w.runFor(4 * time.Second)
		if w.count(NoteMended) > 0 {
			t.Error("it was compared while the write may be on its way still")
		}
		w.runFor(time.Minute)
		if !w.converged() {
			t.Errorf("what %s was told of is not mended after a minute", name)
		}
	}
	for told := range 3 { // a newer topology does not let it be forgotten
		w, home := chain(t, told)
		name := w.top.Ring.Primaries(home, 3)[told].Node
		w.step(name, Suspect{home})
		w.top.Epoch++
		w.step(name, Adopted{w.top})
		w.runFor(time.Minute)
		if !w.converged() {
			t.Errorf("what %s was told of is forgotten with a newer topology", name)
		}
	}
	w := newWorld(t, 3, 5, Limits{Every: 24 * time.Hour})
	w.runFor(time.Minute)
	seen := len(w.notes)
	for home := range ring.Partition(partitions) {
		w.step("n1", Suspect{home})
	}
	w.runFor(time.Minute)
	for _, n := range w.notes[seen:] {
		if n.Pair.Here.Node != "n1" {
			t.Errorf("%v compares though nobody has told it", n.Pair.Here)
		}
	}
}

// What becomes suspect while it is compared is compared again: it may have come behind the
// comparison. That holds for the pairs that another node compares too.
func TestASuspectOfAComparisonAtWork(t *testing.T) {
	for told := range 3 {
		w := newWorld(t, 3, 5, Limits{Every: 24 * time.Hour})
		w.runFor(time.Minute)
		const home = 2
		name := w.top.Ring.Primaries(home, 3)[told].Node
		m := w.nodes[name].manager
		of := func(r *run) bool { return r.work.Home == home }
		compared := func() int {
			return len(slices.DeleteFunc(slices.Clone(w.notes), func(n Note) bool { return n.Pair.Home != home || n.Pair.Here.Node != name }))
		}
		w.step(name, Suspect{home})
		for end := w.now + time.Minute; !slices.ContainsFunc(m.running, of); {
			if w.runFor(100 * time.Microsecond); w.now > end {
				t.Fatalf("%s compares nothing of home %d", name, home)
			}
		}
		before := compared()
		w.step(name, Suspect{home})
		w.runFor(time.Minute)
		// Two pairs, of which one was at work: it, that one again, and the other once.
		if got := compared() - before; got < 3 {
			t.Errorf("%s, told of home %d while it compared a pair of it, has compared %d pairs since", name, home, got)
		}
		seen := compared()
		if w.runFor(time.Hour); compared() != seen || len(m.extras) > 0 {
			t.Errorf("it goes on comparing: %d pairs in an hour, %d extra", compared()-seen, len(m.extras))
		}
	}
}

// What makes a home suspect: a write that is not confirmed, and what a stand-in hands over.
func TestDoubtful(t *testing.T) {
	store, given := &vnode.Store{Home: 5}, &vnode.Deliver{Home: 5}
	for _, c := range []struct {
		sent, answer vnode.Message
		want         bool
	}{
		{store, nil, true}, {store, &vnode.Refusal{}, true}, {store, &vnode.Failure{}, true}, {store, &vnode.Stored{}, false},
		{given, &vnode.Delivered{}, true}, {given, &vnode.Refusal{}, false}, {given, nil, false},
		{&vnode.Deliver{Home: 5, Placed: true}, &vnode.Delivered{}, false},
		{&vnode.Fetch{Home: 5}, nil, false},
	} {
		if home, got := Doubtful(c.sent, c.answer); got != c.want || got && home != 5 {
			t.Errorf("%T answered by %T: home %d, %v; want %v", c.sent, c.answer, home, got, c.want)
		}
	}
	w := newWorld(t, 1, 3, Limits{})
	w.step("n1", Suspect{Home: 60_000}) // the ring has no such home
}

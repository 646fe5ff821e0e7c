package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// world is a request whose events come in any order, early, late and twice.
type world struct {
	*rapid.T
	view    View
	down    map[string]bool
	machine Machine
	now     time.Duration
	asks    []Ask // all, in order
	open    []Ask // without an outcome
	answers int

	// asked judges each ask when it is made; over is called with each answer.
	asked func(Ask)
	over  func()
}

// newWorld draws a small cluster, some of it down.
func newWorld(t *rapid.T) *world {
	nodes := rapid.IntRange(1, 5).Draw(t, "nodes")
	owners := make([]string, 8)
	for i := range owners {
		owners[i] = fmt.Sprintf("n%d", 1+i%nodes)
	}
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, down: make(map[string]bool)}
	for _, n := range r.Nodes()[1:] {
		w.down[n] = rapid.IntRange(0, 5).Draw(t, n+" is down") == 0
	}
	w.view = View{
		Ring: r, Self: "n1", Replicas: 3, Wall: time.Unix(1, 0), Random: rapid.Uint64().Draw(t, "random"),
		Up: func(node string) bool { return !w.down[node] },
	}
	return w
}

// step gives the machine an event and takes its effects.
func (w *world) step(ev Event) {
	was := w.machine.Done()
	out := w.machine.Step(w.now, ev, nil)
	if was && len(out) > 0 {
		w.Fatalf("a machine that is done wants %v", out)
	}
	for _, e := range out {
		switch e := e.(type) {
		case Ask:
			if w.down[e.To.Node] && w.answers == 0 {
				w.Fatalf("asked %v, which is down", e.To)
			}
			w.asked(e)
			w.asks = append(w.asks, e)
			w.open = append(w.open, e)
		case Answer:
			w.answers++
			w.over()
		}
	}
	if w.answers > 1 {
		w.Fatalf("it has answered %d times", w.answers)
	}
	if w.machine.Done() && w.answers == 0 {
		w.Fatal("it is done and has not answered")
	}
}

// live plays events until there are no more, and then the deadline and what
// may still come after it.
func (w *world) live(outcome func(Ask) Event, timeout time.Duration) {
	w.step(Start{})
	for range rapid.IntRange(0, 14).Draw(w.T, "events") {
		w.now += time.Duration(rapid.IntRange(0, 200).Draw(w.T, "ms")) * time.Millisecond
		switch kind := rapid.IntRange(0, 9).Draw(w.T, "kind"); {
		case kind == 0:
			w.step(Tick{})
		case kind == 1:
			n := rapid.SampledFrom(w.view.Ring.Nodes()).Draw(w.T, "dies")
			if n == w.view.Self {
				continue
			}
			w.down[n] = true
			w.step(NodeDown{Node: n})
		case kind == 2 && len(w.asks) > 0:
			w.step(outcome(rapid.SampledFrom(w.asks).Draw(w.T, "again")))
		case len(w.open) > 0:
			i := rapid.IntRange(0, len(w.open)-1).Draw(w.T, "which")
			a := w.open[i]
			ev := outcome(a)
			if r, ok := ev.(Replied); !ok || !isMinted(r.Msg) {
				w.open = slices.Delete(w.open, i, i+1)
			}
			w.step(ev)
		}
	}
	w.now = max(w.now, timeout)
	w.step(Tick{})
	w.now += 10 * time.Second
	w.step(Tick{})
	if !w.machine.Done() {
		w.Fatal("the deadline has passed, and it is not done")
	}
	for _, a := range slices.Clone(w.asks) {
		w.step(outcome(a))
	}
}

func isMinted(m vnode.Message) bool {
	_, ok := m.(*vnode.Minted)
	return ok
}

// drawQuorum is a quorum that may be met, or not.
func drawQuorum(t *rapid.T, name string) kv.Quorum {
	return rapid.SampledFrom([]kv.Quorum{kv.Default, kv.None, kv.One, kv.Majority, kv.All, 1, 2, 3}).Draw(t, name)
}

// number is what a quorum means for three replicas.
func number(q, def kv.Quorum) int {
	if q == kv.Default {
		q = def
	}
	if n, ok := map[kv.Quorum]int{kv.Default: 0, kv.None: 0, kv.One: 1, kv.Majority: 2, kv.All: 3}[q]; ok {
		return n
	}
	return int(q)
}

// writing is what the test knows of a Put.
type writing struct {
	*world
	put     *Put
	needs   map[string]int
	list    []ring.Replica
	first   map[int]bool // by replica: its first outcome, granted or not
	stores  map[int]bool
	written bool // a version was made, or may have been
}

func TestPutsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &writing{world: newWorld(t), first: make(map[int]bool), stores: make(map[int]bool)}
		o := kv.WriteOptions{
			W: drawQuorum(t, "W"), DW: drawQuorum(t, "DW"), PW: drawQuorum(t, "PW"),
			NodeConfirms: rapid.IntRange(0, 3).Draw(t, "node_confirms"), Timeout: time.Second,
			Linger: time.Duration(rapid.SampledFrom([]int{0, 0, 100}).Draw(t, "linger")) * time.Millisecond,
		}
		w.needs = map[string]int{"W": number(o.W, kv.Majority), "PW": number(o.PW, kv.None), "DW": number(o.DW, kv.None), "node_confirms": o.NodeConfirms}
		if w.needs["DW"] == 0 && (w.needs["W"] == 0 || o.DW == kv.None) {
			w.needs["DW"] = 1
		}
		k := kv.Key{Bucket: "mybucket", Name: rapid.SampledFrom([]string{"k1", "k2", "k3", "k4"}).Draw(t, "key")}
		w.list = w.view.Ring.Primaries(w.view.Ring.Home(k), 3)
		for i, r := range w.list {
			if w.down[r.Node] {
				w.first[i] = false
			}
		}
		w.put = NewPut(w.view, PutRequest{Key: k, Options: o})
		w.machine, w.asked, w.over = w.put, w.judgeAsk, w.judgeEnd
		w.live(w.outcome, time.Second)
	})
}

// judgeAsk checks that nobody is asked twice, nor anybody to make a second version.
func (w *writing) judgeAsk(a Ask) {
	switch a.Msg.(type) {
	case *vnode.Store:
		if w.stores[a.I] || a.I == w.put.at {
			w.Fatalf("replica %d is sent the version twice, or its own", a.I)
		}
		w.stores[a.I] = true
	default:
		if w.written {
			w.Fatalf("another version is asked for, from %v", a.To)
		}
		for _, old := range w.asks {
			if old.I == a.I {
				w.Fatalf("replica %d is asked twice to coordinate", a.I)
			}
		}
		w.written = true // until it is known that it was refused
	}
}

// outcome draws what becomes of an ask, and notes what the first one means.
func (w *writing) outcome(a Ask) Event {
	if _, ok := a.Msg.(*vnode.Store); ok {
		return w.stored(a.I)
	}
	if w.put.minted != nil {
		if a.I != w.put.at {
			return NotSent{I: a.I, Why: "again"}
		}
		return w.stored(a.I)
	}
	current := a.I == w.put.at && !w.put.answered // of those before, the outcome is known
	kind := rapid.IntRange(0, 5).Draw(w.T, "coordinated")
	if _, forward := a.Msg.(*Forward); forward && kind < 3 {
		var err error
		if kind > 0 {
			w.refused(a, current)
			err = []error{nil, kv.ErrOverload, &kv.QuorumError{Op: "put"}}[kind]
		}
		return Replied{I: a.I, Msg: &Forwarded{Err: err}}
	}
	switch kind {
	case 0, 1:
		return Replied{I: a.I, Msg: &vnode.Minted{Object: object.Write(object.Object{}, nil, object.Sibling{Dot: object.Dot{Counter: 1}}).Encode()}}
	case 2:
		w.refused(a, current)
		return Replied{I: a.I, Msg: &vnode.Refusal{Code: vnode.CodeOverload}}
	case 3:
		w.refused(a, current)
		return NotSent{I: a.I}
	case 4:
		return Lost{I: a.I}
	}
	return Replied{I: a.I, Msg: &vnode.Failure{Code: vnode.CodeStorage}}
}

// refused notes that a coordinator has certainly written nothing.
func (w *writing) refused(a Ask, current bool) {
	if current {
		w.written = false
		w.note(a.I, false)
	}
}

func (w *writing) stored(i int) Event {
	if rapid.IntRange(0, 2).Draw(w.T, "stored") > 0 {
		w.note(i, true)
		return Replied{I: i, Msg: &vnode.Stored{}}
	}
	w.note(i, false)
	return rapid.SampledFrom([]Event{NotSent{I: i}, Lost{I: i}, Replied{I: i, Msg: &vnode.Refusal{}}, Replied{I: i, Msg: &vnode.Failure{}}}).Draw(w.T, "denied")
}

// note keeps the first outcome of a replica. A node's death is one.
func (w *writing) note(i int, granted bool) {
	if _, known := w.first[i]; !known && !w.down[w.list[i].Node] {
		w.first[i] = granted
	}
}

// reach is how many replicas, or distinct nodes, count for a requirement: those
// that have granted it and, if asked for, those that still may.
func (w *writing) reach(name string, open bool) int {
	n, nodes := 0, make(map[string]bool)
	for i, r := range w.list {
		granted, known := w.first[i]
		if granted || open && !known && !w.down[r.Node] {
			n++
			nodes[r.Node] = true
		}
	}
	if name == "node_confirms" {
		return len(nodes)
	}
	return n
}

// judgeEnd checks that the answer is honest.
func (w *writing) judgeEnd() {
	_, err := w.put.Result()
	if err == nil {
		for name, need := range w.needs {
			if w.put.minted != nil && w.reach(name, false) < need {
				w.Fatalf("success, but %s wants %d: %v", name, need, w.put.tally)
			}
		}
		return
	}
	if w.written != errors.Is(err, kv.ErrInDoubt) {
		w.Fatalf("a version may exist: %v, but the error is %v", w.written, err)
	}
	var q *kv.QuorumError
	if w.put.minted == nil || !errors.As(err, &q) {
		return
	}
	if q.Want != w.needs[q.Need] || q.Got != w.reach(q.Need, false) {
		w.Errorf("%v; want %d, got %d", err, w.needs[q.Need], w.reach(q.Need, false))
	}
	if !q.Timeout && w.reach(q.Need, true) >= q.Want {
		w.Errorf("given up, and %s may still be met: %v", q.Need, w.put.tally)
	}
}

// reading is what the test knows of a Get.
type reading struct {
	*world
	get      *Get
	req      kv.ReadOptions
	list     []ring.Replica
	heard    map[int][]byte // first answers
	corrupt  map[int]bool
	granted  map[int]bool
	denied   map[int]bool
	repaired map[int]bool
}

func TestGetsInAnyOrder(t *testing.T) {
	versions := drawnVersions()
	rapid.Check(t, func(t *rapid.T) {
		r := &reading{
			world: newWorld(t), heard: make(map[int][]byte), corrupt: make(map[int]bool),
			granted: make(map[int]bool), denied: make(map[int]bool), repaired: make(map[int]bool),
		}
		r.req = kv.ReadOptions{
			R: drawQuorum(t, "R"), PR: drawQuorum(t, "PR"), Timeout: time.Second,
			NotFoundOK:  rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On, kv.Off}).Draw(t, "notfound_ok"),
			BasicQuorum: rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On}).Draw(t, "basic_quorum"),
			Linger:      time.Duration(rapid.SampledFrom([]int{0, 0, 100}).Draw(t, "linger")) * time.Millisecond,
		}
		k := kv.Key{Bucket: "mybucket", Name: "k1"}
		r.list = r.view.Ring.Primaries(r.view.Ring.Home(k), 3)
		for i, place := range r.list {
			r.denied[i] = r.down[place.Node]
		}
		r.get = NewGet(r.view, GetRequest{Key: k, Options: r.req})
		r.machine, r.asked, r.over = r.get, r.judgeAsk, r.judgeEnd
		r.live(func(a Ask) Event { return r.outcome(a, versions) }, time.Second)
		r.judgeRepairs()
	})
}

// drawnVersions are some versions of a key, old, new, concurrent and dead; nil
// is none.
func drawnVersions() [][]byte {
	make := func(actor byte, counter uint64, deleted bool, seen object.Vector) object.Object {
		s := object.Sibling{Dot: object.Dot{Actor: object.Actor{actor}, Counter: counter}, Stamp: 1, Deleted: deleted}
		if !deleted {
			s.Body = object.AppendBody(nil, &kv.Value{Data: []byte{actor}})
		}
		return object.Write(object.Object{}, seen, s)
	}
	a := make(1, 1, false, nil)
	b := make(2, 1, false, a.Clock)
	c := make(3, 1, false, a.Clock)
	dead := make(4, 1, true, b.Clock)
	return [][]byte{nil, nil, a.Encode(), b.Encode(), c.Encode(), dead.Encode(), object.Merge(b, c).Encode()}
}

func (r *reading) judgeAsk(a Ask) {
	if _, ok := a.Msg.(*vnode.Store); ok {
		i := a.I - len(r.list)
		if r.answers == 0 || r.repaired[i] {
			r.Fatalf("replica %d is repaired before the answer, or twice", i)
		}
		r.repaired[i] = true
	}
}

func (r *reading) outcome(a Ask, versions [][]byte) Event {
	i := a.I
	if i >= len(r.list) {
		return Replied{I: i, Msg: &vnode.Stored{}}
	}
	dead := r.down[r.list[i].Node]
	first := !r.granted[i] && !r.denied[i] && !dead
	_, known := r.heard[i]
	known = known || r.corrupt[i] || r.get.done
	switch rapid.IntRange(0, 6).Draw(r.T, "outcome") {
	case 0:
		r.denied[i] = r.denied[i] || first
		return rapid.SampledFrom([]Event{NotSent{I: i}, Lost{I: i}, Replied{I: i, Msg: &vnode.Refusal{}}, Replied{I: i, Msg: &vnode.Failure{}}}).Draw(r.T, "denied")
	case 1:
		r.denied[i] = r.denied[i] || first
		if !known {
			r.corrupt[i] = true
		}
		return rapid.SampledFrom([]Event{Replied{I: i, Msg: &vnode.Fetched{Object: []byte{9}}}, Replied{I: i, Msg: &vnode.Failure{Code: vnode.CodeCorrupt}}}).Draw(r.T, "corrupt")
	}
	enc := rapid.SampledFrom(versions).Draw(r.T, "version")
	if !known {
		r.heard[i] = enc
	}
	if first && !known {
		live := decode(r.T, enc).Live(1_000)
		r.granted[i] = live || r.req.NotFoundOK != kv.Off
		r.denied[i] = !r.granted[i]
	}
	return Replied{I: i, Msg: &vnode.Fetched{Object: enc}}
}

func decode(t *rapid.T, enc []byte) object.Object {
	if len(enc) == 0 {
		return object.Object{}
	}
	o, err := object.Decode(enc)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// merged is what the replicas heard so far know together.
func (r *reading) merged() (all object.Object) {
	for i := range r.list {
		all = object.Merge(all, decode(r.T, r.heard[i]))
	}
	return all
}

func (r *reading) judgeEnd() {
	obj, err := r.get.Result()
	var q *kv.QuorumError
	if errors.As(err, &q) {
		r.judgeFailure(q)
		return
	}
	need := max(1, number(r.req.R, kv.Majority))
	if err == nil && (r.count(false) < need || r.count(false) < number(r.req.PR, kv.None)) {
		r.Fatalf("success with %v", r.get.tally)
	}
	all := r.merged()
	if live := all.Live(1_000); live != (err == nil) {
		r.Fatalf("error %v, and the replicas have %v", err, all)
	}
	if string(obj.Context) != string(object.EncodeContext(r.get.key, all.Clock)) {
		r.Errorf("the context is not of %v", all)
	}
	values, _ := all.Values(r.get.key, 1_000, false, false)
	if len(values) != len(obj.Values) {
		r.Errorf("%d values of %v", len(obj.Values), all)
	}
}

// count is how many replicas have granted or, if asked for, still may.
func (r *reading) count(open bool) (n int) {
	for i, place := range r.list {
		if r.granted[i] || open && !r.denied[i] && !r.down[place.Node] {
			n++
		}
	}
	return n
}

func (r *reading) judgeFailure(q *kv.QuorumError) {
	if q.Got != r.count(false) || q.Got >= q.Want {
		r.Errorf("%v; want got %d", q, r.count(false))
	}
	given := q.Timeout || r.req.BasicQuorum == kv.On
	if !given && r.count(true) >= q.Want {
		r.Errorf("given up, and %s may still be met: %v", q.Need, r.get.tally)
	}
}

// judgeRepairs checks, of a get that is done, that it has repaired every replica that
// it knows to be behind, and no other.
func (r *reading) judgeRepairs() {
	_, err := r.get.Result()
	all := r.merged()
	for i := range r.list {
		enc, known := r.heard[i]
		want := len(all.Clock) > 0 && (r.corrupt[i] || known && string(enc) != string(all.Encode()))
		if err != nil && err != kv.ErrNotFound {
			want = false
		}
		if r.repaired[i] != want {
			r.Errorf("replica %d with %d bytes of %v, corrupt %v: repaired %v", i, len(enc), all, r.corrupt[i], r.repaired[i])
		}
	}
}

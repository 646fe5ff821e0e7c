package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// world is a request whose events come in any order, early, late and twice.
type world struct {
	*rapid.T
	view      View
	down      map[string]bool
	machine   Machine
	now       time.Duration
	met       func() bool // the request has a verdict that no view changes; nil: not
	asks      []Ask       // all, in order
	open      []Ask       // without an outcome
	answers   int
	refreshes int
	awaited   bool // a Refresh is out

	// asked judges each ask when it is made; over is called with each answer.
	asked func(Ask)
	over  func()

	// renewed is called before the machine gets a view that it has asked for.
	renewed func()
}

// checkOften checks more than rapid does by itself: most events lead nowhere, and
// the worlds are cheap.
func checkOften(t *testing.T, prop func(*rapid.T)) {
	t.Helper()
	for range 10 {
		rapid.Check(t, prop)
	}
}

// newWorld draws a small cluster, some of it down.
func newWorld(t *rapid.T) *world {
	nodes := rapid.IntRange(1, 6).Draw(t, "nodes")
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
		w.down[n] = rapid.IntRange(0, 4).Draw(t, n+" is down") == 0
	}
	w.view = View{
		Ring: r, Epoch: 1, Self: "n1", Replicas: 3, Wall: time.Unix(1, 0), Random: rapid.Uint64().Draw(t, "random"),
		Up: func(node string) bool { return !w.down[node] },
	}
	w.drawTransfer()
	return w
}

// drawTransfer lets a partition be on its way, or arrive, or nothing be.
func (w *world) drawTransfer() {
	now := w.view.Ring
	p := ring.Partition(rapid.IntRange(0, now.Size()-1).Draw(w.T, "partition"))
	next := now.With(p, rapid.SampledFrom([]string{"n1", "n2", "n3", "n4", "n5"}).Draw(w.T, "moves to"))
	switch rapid.IntRange(0, 4).Draw(w.T, "transfer") {
	case 0:
		w.view.Next = next
	case 1:
		w.view.Ring, w.view.Next = next, now
	case 2:
		w.view.Ring, w.view.Next = next, nil
	default:
		w.view.Next = nil
	}
}

// places are where the key is written by the view that the machine has.
func (w *world) places(k kv.Key) []ring.Place {
	return ring.Places(w.view.Ring, w.view.Next, w.view.Ring.Home(k), 3, 3)
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
			if e.Epoch != w.view.Epoch {
				w.Fatalf("asked %v under epoch %d, and the view has %d", e.To, e.Epoch, w.view.Epoch)
			}
			for _, old := range w.asks {
				if old.I == e.I {
					w.Fatalf("two asks have number %d", e.I)
				}
			}
			w.asked(e)
			w.asks = append(w.asks, e)
			w.open = append(w.open, e)
		case Refresh:
			if w.refreshes++; w.refreshes > maxRefreshes || w.awaited {
				w.Fatalf("it asks for a view again: %+v", e)
			}
			w.awaited = true
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

// refresh brings a view: a newer one, or, where it could not be had, the old one.
// One that was not asked for changes nothing.
func (w *world) refresh() {
	if !w.awaited {
		later := w.view
		later.Ring, later.Epoch = later.Ring.With(0, "n9"), later.Epoch+1
		w.step(Refreshed{View: later})
		return
	}
	w.awaited = false
	if w.met != nil && w.met() { // it has its verdict, and only lingers
		later := w.view
		later.Epoch++
		w.step(Refreshed{View: later})
		return
	}
	if rapid.IntRange(0, 3).Draw(w.T, "fetched") > 0 {
		w.view.Epoch++
		w.drawTransfer()
	}
	w.renewed()
	w.step(Refreshed{View: w.view})
}

// stale is a refusal of one who knows a newer topology.
func (w *world) stale(a Ask) Event {
	return Replied{I: a.I, Msg: &vnode.Refusal{Code: vnode.CodeStale, Epoch: a.Epoch + 1, Text: "stale"}}
}

// live plays events until there are no more, and then the deadline and what
// may still come after it.
func (w *world) live(outcome func(Ask) Event, timeout time.Duration) {
	w.step(Start{})
	for range rapid.IntRange(0, 20).Draw(w.T, "events") {
		w.now += time.Duration(rapid.IntRange(0, 100).Draw(w.T, "ms")) * time.Millisecond
		switch kind := rapid.IntRange(0, 10).Draw(w.T, "kind"); {
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
		case kind == 3 || w.awaited && kind == 4:
			w.refresh()
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
	w.refresh()
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

// at is a vnode.
type at struct {
	p    ring.Partition
	node string
}

func where(r ring.Replica) at { return at{r.Partition, r.Node} }

// writing is what the test knows of a Put.
type writing struct {
	*world
	put      *Put
	needs    map[string]int
	outcomes map[at]bool  // the first outcome, granted or not
	standins map[at]bool  // of those asked
	known    map[int]bool // by ask: what becomes of it is known
	retired  map[int]bool // asks of before a new beginning
	current  int          // the ask to coordinate
	minted   bool
	written  bool // a version was made, or may have been
}

func TestPutsInAnyOrder(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		w := &writing{
			world: newWorld(t), outcomes: make(map[at]bool), standins: make(map[at]bool),
			known: make(map[int]bool), retired: make(map[int]bool), current: -1,
		}
		o := kv.WriteOptions{
			W: drawQuorum(t, "W"), DW: drawQuorum(t, "DW"), PW: drawQuorum(t, "PW"),
			NodeConfirms: rapid.IntRange(0, 3).Draw(t, "node_confirms"), Timeout: time.Second,
			SloppyQuorum: rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On, kv.Off}).Draw(t, "sloppy_quorum"),
			Linger:       time.Duration(rapid.SampledFrom([]int{0, 0, 100}).Draw(t, "linger")) * time.Millisecond,
		}
		w.needs = map[string]int{"W": number(o.W, kv.Majority), "PW": number(o.PW, kv.None), "DW": number(o.DW, kv.None), "node_confirms": o.NodeConfirms}
		if w.needs["DW"] == 0 && (w.needs["W"] == 0 || o.DW == kv.None) {
			w.needs["DW"] = 1
		}
		k := kv.Key{Bucket: "mybucket", Name: rapid.SampledFrom([]string{"k1", "k2", "k3", "k4"}).Draw(t, "key")}
		w.put = NewPut(w.view, PutRequest{Key: k, Options: o, Forwarded: rapid.IntRange(0, 4).Draw(t, "forwarded") == 0})
		w.machine, w.asked, w.over, w.renewed = w.put, w.judgeAsk, w.judgeEnd, w.begunAnew
		w.met = func() bool { return w.minted && w.put.tally.Verdict() == quorum.Met }
		w.live(w.outcome, time.Second)
	})
}

// begunAnew forgets what was heard, if nothing has been written yet.
func (w *writing) begunAnew() {
	if w.minted {
		return
	}
	clear(w.outcomes)
	clear(w.standins)
	for _, a := range w.asks {
		w.retired[a.I] = true
	}
}

// judgeAsk checks that nobody is sent the version twice, nor anybody asked to make a
// second one, and that stand-ins have no other part in the write.
func (w *writing) judgeAsk(a Ask) {
	if a.To.Role == kv.Fallback && !w.standins[where(a.To)] {
		w.judgeStandIn(a.To)
	}
	if _, ok := a.Msg.(*vnode.Store); ok {
		if _, known := w.outcomes[where(a.To)]; known {
			w.Fatalf("%v is sent the version again", a.To)
		}
		return
	}
	if w.written {
		w.Fatalf("another version is asked for, from %v", a.To)
	}
	w.written = true // until it is known that it was refused
	w.current = a.I
}

func (w *writing) judgeStandIn(r ring.Replica) {
	if w.put.req.Options.SloppyQuorum == kv.Off {
		w.Fatalf("%v stands in, and may not", r)
	}
	stands := false
	for _, p := range w.places(w.put.key) {
		if p.Node == r.Node {
			w.Fatalf("%v stands in, and is %v", r, p)
		}
		stands = stands || p.Partition == r.Partition
	}
	if !stands {
		w.Fatalf("%v stands in for no place", r)
	}
	for other := range w.standins {
		if other.node == r.Node {
			w.Fatalf("%v stands in twice", r)
		}
	}
	w.standins[where(r)] = true
}

// outcome draws what becomes of an ask, and notes what the first one means.
func (w *writing) outcome(a Ask) Event {
	if _, ok := a.Msg.(*vnode.Store); ok {
		return w.stored(a)
	}
	if w.minted {
		if a.I != w.current {
			return NotSent{I: a.I, Why: "again"}
		}
		return w.stored(a)
	}
	current := a.I == w.current && !w.retired[a.I] && !w.known[a.I] && !w.awaited && w.answers == 0
	kind := rapid.IntRange(0, 6).Draw(w.T, "coordinated")
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
		w.minted = w.minted || current
		return Replied{I: a.I, Msg: &vnode.Minted{Object: object.Write(object.Object{}, nil, object.Sibling{Dot: object.Dot{Counter: 1}}).Encode()}}
	case 2:
		w.refused(a, current)
		return Replied{I: a.I, Msg: &vnode.Refusal{Code: vnode.CodeOverload}}
	case 3:
		w.refused(a, current)
		return NotSent{I: a.I}
	case 4:
		return Lost{I: a.I}
	case 5:
		if current {
			w.written = false
			w.known[a.I] = true
		}
		return w.stale(a)
	}
	return Replied{I: a.I, Msg: &vnode.Failure{Code: vnode.CodeStorage}}
}

// refused notes that a coordinator has certainly written nothing.
func (w *writing) refused(a Ask, current bool) {
	if current {
		w.written = false
		w.note(a, false)
	}
}

func (w *writing) stored(a Ask) Event {
	switch rapid.IntRange(0, 5).Draw(w.T, "stored") {
	case 0:
		w.note(a, false)
		return rapid.SampledFrom([]Event{NotSent{I: a.I}, Lost{I: a.I}, Replied{I: a.I, Msg: &vnode.Refusal{}}, Replied{I: a.I, Msg: &vnode.Failure{}}}).Draw(w.T, "denied")
	case 1:
		if a.I != w.current {
			w.known[a.I] = true // it may be asked again, by another number
			return w.stale(a)
		}
	}
	w.note(a, true)
	return Replied{I: a.I, Msg: &vnode.Stored{}}
}

// note keeps the first outcome of a replica. A node's death is one.
func (w *writing) note(a Ask, granted bool) {
	if w.known[a.I] || w.retired[a.I] {
		return
	}
	w.known[a.I] = true
	if _, known := w.outcomes[where(a.To)]; !known && !w.down[a.To.Node] {
		w.outcomes[where(a.To)] = granted
	}
}

// state is what is known of a vnode: +1 granted, -1 denied, 0 open. One that was
// never asked is open only if it is a place.
func (w *writing) state(v at) int {
	granted, known := w.outcomes[v]
	switch {
	case granted:
		return 1
	case known || w.down[v.node]:
		return -1
	}
	return 0
}

// reach is how many places of the owners now, or of the next, count for a
// requirement, at least and at most: where two places have the same partition,
// it is not seen from here for which of them a node stands in. With open, those
// that still may are counted as well, but for such a node.
func (w *writing) reach(name string, next, open bool) (least, most int) {
	need := 1
	if open {
		need = 0
	}
	nodes := make(map[string]bool)
	for _, p := range w.places(w.put.key) {
		if next && !p.Next || !next && !p.Now {
			continue
		}
		good := w.state(where(p.Replica)) >= need
		if good {
			least++
			most++
			nodes[p.Node] = true
		}
		for v := range w.standins {
			if open && w.twice(v.p) || w.hasPlace(v.node) {
				continue
			}
			if name == "PW" || v.p != p.Partition || w.state(v) < need {
				continue
			}
			nodes[v.node] = true
			if !good {
				most++
				good = true
			}
		}
	}
	if name == "node_confirms" {
		return 0, min(most, len(nodes))
	}
	return least, most
}

// hasPlace reports whether a node has a place, so that it stands in for nobody any more.
func (w *writing) hasPlace(node string) bool {
	return slices.ContainsFunc(w.places(w.put.key), func(p ring.Place) bool { return p.Node == node })
}

// twice reports whether a partition has two places.
func (w *writing) twice(p ring.Partition) bool {
	n := 0
	for _, place := range w.places(w.put.key) {
		if place.Partition == p {
			n++
		}
	}
	return n > 1
}

// judgeEnd checks that the answer is honest.
func (w *writing) judgeEnd() {
	_, err := w.put.Result()
	if err == nil {
		for name, need := range w.needs {
			for _, next := range []bool{false, true} {
				if _, most := w.reach(name, next, false); w.minted && most < need {
					w.Fatalf("success, but %s wants %d: %v", name, need, w.put.tally)
				}
			}
		}
		return
	}
	if w.written != errors.Is(err, kv.ErrInDoubt) {
		w.Fatalf("a version may exist: %v, but the error is %v", w.written, err)
	}
	var q *kv.QuorumError
	if !w.minted || !errors.As(err, &q) {
		return
	}
	honest, hopeless := false, false
	for _, next := range []bool{false, true} {
		least, most := w.reach(q.Need, next, false)
		honest = honest || least <= q.Got && q.Got <= most
		_, most = w.reach(q.Need, next, true)
		hopeless = hopeless || most < q.Want
	}
	if q.Want != w.needs[q.Need] || q.Got >= q.Want || !honest {
		w.Errorf("%v; the tally is %v", err, w.put.tally)
	}
	// Reach only bounds how many distinct nodes there may be.
	if !q.Timeout && !hopeless && q.Need != "node_confirms" {
		w.Errorf("given up, and %s may still be met: %v", q.Need, w.put.tally)
	}
}

// reading is what the test knows of a Get, since it began for the last time.
type reading struct {
	*world
	get      *Get
	req      kv.ReadOptions
	round    int // the first ask
	who      map[int]ring.Replica
	heard    map[int][]byte // first answers
	corrupt  map[int]bool
	granted  map[int]bool
	denied   map[int]bool
	repaired map[at]bool
}

func TestGetsInAnyOrder(t *testing.T) {
	versions := drawnVersions()
	checkOften(t, func(t *rapid.T) {
		r := &reading{
			world: newWorld(t), heard: make(map[int][]byte), corrupt: make(map[int]bool), who: make(map[int]ring.Replica),
			granted: make(map[int]bool), denied: make(map[int]bool), repaired: make(map[at]bool),
		}
		r.req = kv.ReadOptions{
			R: drawQuorum(t, "R"), PR: drawQuorum(t, "PR"), Timeout: time.Second,
			NotFoundOK:   rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On, kv.Off}).Draw(t, "notfound_ok"),
			BasicQuorum:  rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On}).Draw(t, "basic_quorum"),
			SloppyQuorum: rapid.SampledFrom([]kv.Toggle{kv.Unset, kv.On, kv.Off}).Draw(t, "sloppy_quorum"),
			Linger:       time.Duration(rapid.SampledFrom([]int{0, 0, 100}).Draw(t, "linger")) * time.Millisecond,
		}
		k := kv.Key{Bucket: "mybucket", Name: "k1"}
		r.get = NewGet(r.view, GetRequest{Key: k, Options: r.req})
		r.machine, r.asked, r.over, r.renewed = r.get, r.judgeAsk, r.judgeEnd, r.begunAnew
		r.live(func(a Ask) Event { return r.outcome(a, versions) }, time.Second)
		r.judgeRepairs()
	})
}

func (r *reading) begunAnew() {
	r.round = len(r.asks)
	clear(r.who)
	clear(r.heard)
	clear(r.corrupt)
	clear(r.granted)
	clear(r.denied)
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
		if r.answers == 0 || r.repaired[where(a.To)] || a.To.Role != kv.Primary {
			r.Fatalf("%v is repaired before the answer, or twice, or stands in", a.To)
		}
		r.repaired[where(a.To)] = true
		return
	}
	places := r.view.Ring.Primaries(r.get.home, 3)
	for _, p := range places {
		if a.To.Role == kv.Fallback && (p.Node == a.To.Node || r.req.SloppyQuorum == kv.Off) {
			r.Fatalf("%v stands in", a.To)
		}
	}
	for _, other := range r.who {
		if a.To.Role == kv.Fallback && other.Node == a.To.Node {
			r.Fatalf("%v stands in, and is %v", a.To, other)
		}
	}
	r.who[a.I] = a.To
}

func (r *reading) outcome(a Ask, versions [][]byte) Event {
	i := a.I
	if _, ok := a.Msg.(*vnode.Store); ok {
		return Replied{I: i, Msg: &vnode.Stored{}}
	}
	_, mine := r.who[i]
	mine = mine && !r.awaited
	first := mine && !r.granted[i] && !r.denied[i] && !r.down[a.To.Node]
	_, known := r.heard[i]
	known = known || r.corrupt[i] || r.get.done || !mine
	switch rapid.IntRange(0, 8).Draw(r.T, "outcome") {
	case 0:
		r.denied[i] = r.denied[i] || first
		return rapid.SampledFrom([]Event{NotSent{I: i}, Lost{I: i}, Replied{I: i, Msg: &vnode.Refusal{Code: vnode.CodeLacking}}, Replied{I: i, Msg: &vnode.Failure{}}}).Draw(r.T, "denied")
	case 1:
		r.denied[i] = r.denied[i] || first
		if !known {
			r.corrupt[i] = true
		}
		return rapid.SampledFrom([]Event{Replied{I: i, Msg: &vnode.Fetched{Object: []byte{9}}}, Replied{I: i, Msg: &vnode.Failure{Code: vnode.CodeCorrupt}}}).Draw(r.T, "corrupt")
	case 2:
		r.denied[i] = r.denied[i] || first
		return r.stale(a)
	}
	enc := rapid.SampledFrom(versions).Draw(r.T, "version")
	if len(enc) == 0 && a.To.Role == kv.Fallback {
		r.denied[i] = r.denied[i] || first
		return Replied{I: i, Msg: &vnode.Fetched{}}
	}
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
	for _, enc := range r.heard {
		all = object.Merge(all, decode(r.T, enc))
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
	late := r.now >= r.get.deadline
	if err == nil && (r.count("R", false, late) < need || r.count("PR", false, late) < number(r.req.PR, kv.None)) {
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

// count is how many places have granted, themselves or, but for PR, by a
// stand-in if they are given up; or, if asked for, still may.
func (r *reading) count(name string, open, late bool) (n int) {
	for _, place := range r.view.Ring.Primaries(r.get.home, 3) {
		up := !r.down[place.Node] && !r.wasDenied(place)
		good := open && up
		for i, who := range r.who {
			if who.Partition != place.Partition || name == "PR" && who.Role == kv.Fallback {
				continue
			}
			early := up && !open && !late && where(who) != where(place)
			good = good || r.granted[i] && !early || open && !r.denied[i] && !r.down[who.Node]
		}
		if good {
			n++
		}
	}
	return n
}

func (r *reading) wasDenied(place ring.Replica) bool {
	for i, who := range r.who {
		if where(who) == where(place) && r.denied[i] {
			return true
		}
	}
	return false
}

func (r *reading) judgeFailure(q *kv.QuorumError) {
	// When time is up, a stand-in for a place that was to be asked again does not count.
	if got := r.count(q.Need, false, q.Timeout); q.Got > got || q.Got < got && !q.Timeout || q.Got >= q.Want {
		r.Errorf("%v; want got %d: %v", q, got, r.get.tally)
	}
	given := q.Timeout || r.req.BasicQuorum == kv.On
	if !given && r.count(q.Need, true, false) >= q.Want {
		r.Errorf("given up, and %s may still be met: %v", q.Need, r.get.tally)
	}
}

// judgeRepairs checks, of a get that is done, that it has repaired every place that
// it knows to be behind, and no other.
func (r *reading) judgeRepairs() {
	_, err := r.get.Result()
	all := r.merged()
	for i, who := range r.who {
		enc, known := r.heard[i]
		want := len(all.Clock) > 0 && (r.corrupt[i] || known && string(enc) != string(all.Encode()))
		if err != nil && err != kv.ErrNotFound || who.Role == kv.Fallback {
			want = false
		}
		if r.repaired[where(who)] != want {
			r.Errorf("%v with %d bytes of %v, corrupt %v: repaired %v", who, len(enc), all, r.corrupt[i], r.repaired[where(who)])
		}
	}
}

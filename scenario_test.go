package tanodb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// openEach opens the nodes n1, n2, … of one cluster on a network of their own, each with its
// engine and its options.
func openEach(t *testing.T, engines []storage.Engine, options func(i int, o *Options)) []*Node {
	t.Helper()
	o := Options{Network: NewMemoryNetwork(), Partitions: 8}
	for i := range engines {
		o.Bootstrap = append(o.Bootstrap, Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("memory:%d", i+1)})
	}
	nodes := make([]*Node, len(engines))
	for i, e := range engines {
		own := o
		own.Name, own.Storage = o.Bootstrap[i].Name, func(string) (storage.Engine, error) { return e, nil }
		if options != nil {
			options(i, &own)
		}
		nodes[i] = open(t, "", own)
	}
	WaitUp(t, nodes...)
	return nodes
}

func memories(n int) []storage.Engine {
	engines := make([]storage.Engine, n)
	for i := range engines {
		engines[i] = storage.NewMemory()
	}
	return engines
}

// shown is what a node shows of a key by a read from all replicas, in order.
func shown(t *testing.T, n *Node, k kv.Key) (values []string) {
	t.Helper()
	obj, err := n.Get(t.Context(), k, kv.ReadOptions{R: kv.All})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		t.Fatalf("a read of %v at %s: %v", k, n.Name(), err)
	}
	for _, v := range obj.Values {
		values = append(values, string(v.Data))
	}
	slices.Sort(values)
	return values
}

// keepSiblings makes all buckets without a type keep siblings.
func keepSiblings(t *testing.T, n *Node) {
	t.Helper()
	if err := n.UpdateBucketType(t.Context(), "default", kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
}

// Vnodes that begin at one instant, on nodes whose clocks stand still, are different actors: on one
// node, on all, and after each start that follows no shutdown in order. So writes that they
// coordinate without knowing of each other are siblings.
func TestScenario04ActorsOfOneInstant(t *testing.T) {
	instant := time.Unix(1_800_000_000, 0)
	d := openDurables(t, Options{Clock: func() time.Time { return instant }})
	keepSiblings(t, d.nodes[0])
	all := make(map[object.Actor]string)
	var want []string
	for round := range 3 {
		var writing sync.WaitGroup
		for i := range 90 {
			writing.Go(func() {
				k := kv.Key{Bucket: "b", Name: fmt.Sprint("k", i)}
				if _, err := d.nodes[i%3].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{W: kv.All}); err != nil {
					t.Errorf("round %d: a put at %s: %v", round, d.nodes[i%3].Name(), err)
				}
			})
		}
		writing.Wait()
		for _, n := range d.nodes {
			text := fmt.Sprint(round, n.Name())
			if _, err := n.Put(t.Context(), key, kv.Value{Data: []byte(text)}, kv.WriteOptions{W: kv.All}); err != nil {
				t.Fatal(err)
			}
			want = append(want, text)
		}
		if got := shown(t, d.nodes[round], key); !slices.Equal(got, want) {
			t.Errorf("round %d: %v are there; want %v", round, got, want)
		}
		for i, n := range d.nodes {
			n.vnodes.running.Add(1) // a node that dies leaves no marker
			d.close(i)
			for p, inc := range n.vnodes.incarnations() {
				who := fmt.Sprintf("vnode %d of %s in round %d", p, n.Name(), round)
				if other, twice := all[inc.actor]; twice || inc.actor == (object.Actor{}) {
					t.Errorf("%s and %s are both %v", who, other, inc.actor)
				}
				all[inc.actor] = who
			}
		}
		for i := range d.nodes {
			d.open(i)
		}
		WaitUp(t, d.nodes...)
	}
	if len(all) < 3*8 {
		t.Errorf("only %d vnodes have begun in three rounds; there are 8 in each", len(all))
	}
}

// A node that had been shut down in order goes on as the same actors, writes, and dies before that is
// on its disk, though somebody has read it. When it is back, nothing is written under
// the numbers that it had given out.
func TestScenario05ACrashAfterAMarker(t *testing.T) {
	dir := t.TempDir()
	o := Options{Durability: Interval, Partitions: 8, Replicas: 1, CacheBytes: 8 << 20}
	n := open(t, dir, o)
	keepSiblings(t, n)
	write(t, n, "k", "first")
	shut(t, n)
	before := n.vnodes.incarnations()

	n = open(t, dir, o)
	left := filepath.Join(t.TempDir(), "left")
	if err := os.CopyFS(left, os.DirFS(filepath.Join(dir, engineName))); err != nil {
		t.Fatal(err)
	}
	write(t, n, "k", "lost")
	read, err := n.Get(t.Context(), key, kv.ReadOptions{})
	if err != nil || len(read.Values) != 2 {
		t.Fatalf("%d values, %v", len(read.Values), err)
	}
	n.vnodes.running.Add(1) // a node that dies leaves no marker
	shut(t, n)
	gone := n.vnodes.incarnations()
	counted := false
	for p, inc := range gone {
		if was, ok := before[p]; ok && was.actor != inc.actor {
			t.Fatalf("vnode %d does not go on after a shutdown in order", p)
		}
		counted = counted || inc.counter > before[p].counter && before[p].counter > 0
	}
	if !counted {
		t.Fatal("no vnode has gone on counting")
	}
	if err := os.RemoveAll(filepath.Join(dir, engineName)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, engineName), os.DirFS(left)); err != nil {
		t.Fatal(err)
	}

	n = open(t, dir, o)
	if got := shown(t, n, key); !slices.Equal(got, []string{"first"}) {
		t.Fatalf("%v is there; the crash should have lost something", got)
	}
	for i := range 3 {
		write(t, n, "k", fmt.Sprint("later", i))
	}
	seen, err := object.DecodeContext(key, read.Context)
	if err != nil {
		t.Fatal(err)
	}
	now, err := n.Get(t.Context(), key, kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	has, err := object.DecodeContext(key, now.Context)
	if err != nil || len(now.Values) != 4 || has.Descends(seen) {
		t.Errorf("%d values at %v, which claims to have seen the lost %v; %v", len(now.Values), has, seen, err)
	}
	shut(t, n)
	for p, inc := range n.vnodes.incarnations() {
		if was, ok := gone[p]; ok && was.actor == inc.actor {
			t.Errorf("vnode %d goes on as %v", p, inc.actor)
		}
	}
}

// One clock of three is ahead. By less than the grace, its node alone sees a value end too early, and
// takes nothing away from the others. By more, values end early for all, by no more than
// that clock is ahead, and none comes back.
func TestScenario22ClockSkewAndExpiry(t *testing.T) {
	clock, skew := &movedClock{}, &movedClock{}
	nodes := openEach(t, memories(3), func(i int, o *Options) {
		o.Clock = clock.now
		if i == 1 {
			o.Clock = func() time.Time { return clock.now().Add(time.Duration(skew.ahead.Load())) }
		}
	})
	start := time.Now()
	for _, minutes := range []int{5, 30, 120} {
		k := kv.Key{Bucket: "b", Name: fmt.Sprint(minutes)}
		v := kv.Value{Data: []byte("v"), Expires: start.Add(time.Duration(minutes) * time.Minute)}
		if _, err := nodes[0].Put(t.Context(), k, v, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	alive := func(n *Node, minutes int) bool {
		return len(shown(t, n, kv.Key{Bucket: "b", Name: fmt.Sprint(minutes)})) == 1
	}
	check := func(when string, want map[int][3]bool) {
		t.Helper()
		for range 2 { // the second time what reads have repaired
			for _, n := range nodes {
				n.sweep(t.Context())
			}
			for minutes, each := range want {
				for i, n := range nodes {
					if got := alive(n, minutes); got != each[i] {
						t.Errorf("%s: the value of %d minutes at %s is there: %v", when, minutes, n.Name(), got)
					}
				}
			}
		}
	}
	all, none, but2 := [3]bool{true, true, true}, [3]bool{}, [3]bool{true, false, true}
	check("at first", map[int][3]bool{5: all, 30: all, 120: all})
	skew.set(expiryGrace)
	check("one clock is ahead by the grace", map[int][3]bool{5: but2, 30: all, 120: all})
	clock.set(4 * time.Minute)
	check("just before the end", map[int][3]bool{5: but2, 30: all, 120: all})
	clock.set(6 * time.Minute)
	check("after the end", map[int][3]bool{5: none, 30: all, 120: all})
	skew.set(time.Hour)
	check("one clock is ahead by an hour", map[int][3]bool{5: none, 30: none, 120: all})
	skew.set(0)
	clock.set(0)
	check("all clocks go back", map[int][3]bool{30: none, 120: all})
}

// powerLoss is what all disks of a cluster have kept when the power failed, what had been acknowledged
// before, and where that should be.
type powerLoss struct {
	acked []kv.Key
	left  map[string]*vfs.MemFS // by node
	ring  *ring.Ring
}

// losePower writes to three nodes on Pebble, with this durability, and lets the power of all fail at
// so many moments. SyncEvery is how long what nobody waits for may stay in memory.
func losePower(t *testing.T, moments int, d Durability, w kv.Quorum, syncEvery time.Duration) (all []powerLoss) {
	const apart = 150
	disks, engines := make([]*vfs.MemFS, 3), make([]storage.Engine, 3)
	for i := range disks {
		disks[i] = vfs.NewCrashableMem()
		e, err := disk.Open("/data", disk.Options{FS: disks[i], CacheBytes: 8 << 20, SyncEvery: syncEvery})
		if err != nil {
			t.Fatal(err)
		}
		engines[i] = e
	}
	nodes := openEach(t, engines, func(_ int, o *Options) { o.Durability = d })
	acks := make(chan kv.Key)
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for i := range 12 {
		writing.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				k := kv.Key{Bucket: "b", Name: fmt.Sprintf("k%d-%d", i, j)}
				if _, err := nodes[i%3].Put(ctx, k, kv.Value{Data: []byte(k.Name)}, kv.WriteOptions{W: w}); err != nil {
					continue
				}
				select {
				case acks <- k:
				case <-ctx.Done():
				}
			}
		})
	}
	var acked []kv.Key
	for len(all) < moments {
		if acked = append(acked, <-acks); len(acked)%apart > 0 {
			continue
		}
		loss := powerLoss{slices.Clone(acked), make(map[string]*vfs.MemFS), nodes[0].state().Ring()}
		for i, fs := range disks {
			loss.left[nodes[i].Name()] = fs.CrashClone(vfs.CrashCloneCfg{})
		}
		all = append(all, loss)
	}
	cancel()
	writing.Wait()
	for _, n := range nodes {
		shut(t, n)
	}
	return all
}

// missing counts what is on fewer disks than had confirmed it.
func (l *powerLoss) missing(t *testing.T, confirmed int) (lost int) {
	t.Helper()
	engines := make(map[string]storage.Engine)
	for node, fs := range l.left {
		e, err := disk.Open("/data", disk.Options{FS: fs, CacheBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		engines[node] = e
	}
	for _, k := range l.acked {
		copies, home := 0, l.ring.Home(k)
		for _, r := range l.ring.Primaries(home, 3) {
			b, err := engines[r.Node].Get(vnode.DataKey(r.Partition, home, k))
			if errors.Is(err, storage.ErrNotFound) {
				continue
			}
			o, bad := object.Decode(b)
			if err != nil || bad != nil || len(o.Siblings) != 1 {
				t.Fatalf("%v on %s: %d siblings; %v, %v", k, r.Node, len(o.Siblings), err, bad)
			}
			copies++
		}
		if copies < confirmed {
			lost++
		}
	}
	for _, e := range engines {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	return lost
}

// All nodes lose their power at once under load. With the default durability all that was acknowledged is
// on as many disks as have confirmed it, even if that is one. With interval there is a window, which
// is what SyncEvery says: with a long one the same power losses take all.
func TestScenario26AllReplicasLosePower(t *testing.T) {
	const several = 4
	moments := several
	if testing.Short() {
		moments = 1
	}
	for _, w := range []int{1, 2, 3} {
		for i, l := range losePower(t, moments, Sync, kv.Quorum(w), 0) {
			if lost := l.missing(t, w); lost > 0 {
				t.Errorf("W=%d, power loss %d: %d of %d acknowledged writes are on fewer disks", w, i, lost, len(l.acked))
			}
		}
	}
	lost := 0
	// Here one moment is not enough: each of the nodes may just have synced, because a vnode
	// has got its first write.
	for _, l := range losePower(t, several, Interval, kv.All, time.Hour) {
		lost += l.missing(t, 1)
	}
	if lost == 0 {
		t.Error("with interval and no fsync nothing is lost: either every write is synced all the same, or the power losses lose nothing")
	}
	total := 0
	lost = 0
	for _, l := range losePower(t, moments, Interval, kv.All, 0) {
		total, lost = total+len(l.acked), lost+l.missing(t, 1)
	}
	t.Logf("with interval and an fsync every 100 ms, %d of %d acknowledged writes were on no disk after the power losses", lost, total)
}

// gated is an engine whose writes wait while it is shut.
type gated struct {
	storage.Engine
	gate atomic.Pointer[chan struct{}]
}

func (g *gated) Apply(b *storage.Batch, sync bool) (storage.Commit, error) {
	if gate := g.gate.Load(); gate != nil {
		<-*gate
	}
	return g.Engine.Apply(b, sync)
}

// flooded is a put of a flood, and what it was told.
type flooded struct {
	key kv.Key
	err error
}

// flood puts keys of one home, until n2, whose disk takes nothing meanwhile, has refused many: many at once by
// clients that wait for n2 or ask it, and one after the other by some that do not. It returns
// what all were told.
func flood(t *testing.T, nodes []*Node, slow *gated, round int) (all []flooded) {
	t.Helper()
	const waiting, others = 600, 16
	gate := make(chan struct{})
	slow.gate.Store(&gate)
	before := counted(t, nodes[1], "tanodb_overload_total")
	home := nodes[0].state().Ring().Home(key)
	var mu sync.Mutex
	names := 0
	next := func() kv.Key {
		mu.Lock()
		defer mu.Unlock()
		for {
			names++
			k := kv.Key{Bucket: fmt.Sprint("round", round), Name: fmt.Sprint(names)}
			if nodes[0].state().Ring().Home(k) == home {
				return k
			}
		}
	}
	var doubts atomic.Int64
	put := func(n *Node, w, pw int) {
		k := next()
		o := kv.WriteOptions{W: kv.Quorum(w), PW: kv.Quorum(pw), SloppyQuorum: kv.Off, Timeout: time.Minute}
		_, err := n.Put(context.Background(), k, kv.Value{Data: []byte("v")}, o)
		if errors.Is(err, kv.ErrInDoubt) {
			doubts.Add(1)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, flooded{k, err})
	}
	var answered sync.WaitGroup
	for i := range waiting {
		answered.Go(func() { put(nodes[i%3], 2+i/3%2, 1+i%2) })
	}
	var full, enough atomic.Bool // n2 sheds; it has shed enough
	for i := range others {
		answered.Go(func() {
			for !enough.Load() {
				w := 2
				if full.Load() {
					w = 3 // two store it, and n2 does not
				}
				put(nodes[i%2*2], w, 2)
			}
		})
	}
	shed := func() float64 { return counted(t, nodes[1], "tanodb_overload_total") - before }
	waitFor(t, "n2 sheds", func() bool { return shed() > 100 })
	full.Store(true)
	waitFor(t, "n2 sheds many, and somebody is in doubt", func() bool { return shed() > 300 && doubts.Load() > 0 })
	enough.Store(true)
	slow.gate.Store(nil)
	close(gate)
	answered.Wait()
	WaitUp(t, nodes...)
	return all
}

// busyWith names something that a node has in hand; empty: it is idle.
func busyWith(n *Node) string {
	if c := n.requests.count(); c > 0 {
		return fmt.Sprintf("%d requests", c)
	}
	for _, w := range n.vnodes.workers {
		w.mu.Lock()
		queued, inflight := len(w.queue), len(w.inflight)
		for _, v := range w.vnodes {
			queued += v.queued
		}
		w.mu.Unlock()
		if queued+inflight > 0 {
			return fmt.Sprintf("%d commands in mailboxes and %d batches", queued, inflight)
		}
	}
	asks := int64(0)
	n.busy.Range(func(_, v any) bool {
		asks += v.(*asking).open.Load()
		return true
	})
	if asks != 0 {
		return fmt.Sprintf("%d asks", asks)
	}
	return ""
}

// More is asked of a cluster than it does, on one home and while one disk stands still. What is shed is told
// so: what is said to be certainly not done is nowhere, what is done is on all replicas, and a put
// that some have stored and others have shed is in doubt. When the flood is over nothing is left of
// it, no node believes itself to be busy, and all is served.
func TestScenario28OverloadIsHonestAndPasses(t *testing.T) {
	engines := memories(3)
	slow := &gated{Engine: engines[1]}
	engines[1] = slow
	nodes := openEach(t, engines, func(_ int, o *Options) { o.MaxRequests = 150 })
	goroutines, rounds := 0, 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		told := map[string]int{}
		for _, x := range flood(t, nodes, slow, round) {
			values := shown(t, nodes[0], x.key)
			switch {
			case x.err == nil && len(values) != 1:
				t.Fatalf("%v was acknowledged, and %v is there", x.key, values)
			case x.err == nil:
				told["done"]++
			case errors.Is(x.err, kv.ErrInDoubt):
				told["in doubt"]++
			case len(values) > 0:
				t.Fatalf("%v was certainly not done, and it is there: %v", x.key, x.err)
			default:
				told["shed"]++
			}
		}
		t.Logf("round %d: %v", round, told)
		if told["done"] == 0 || told["in doubt"] == 0 || told["shed"] == 0 {
			t.Errorf("round %d shows too little: %v", round, told)
		}
		for _, n := range nodes {
			waitFor(t, n.Name()+" is idle", func() bool { return busyWith(n) == "" })
		}
		serve(t, nodes, fmt.Sprint("after flood ", round))
		if round == 0 {
			goroutines = runtime.NumGoroutine()
		}
	}
	const few = 20
	waitFor(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines+few })
}

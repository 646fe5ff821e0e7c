package tanodb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

var key = kv.Key{Bucket: "b", Name: "k"}

// faulty is a machine that does what its functions say.
type faulty struct {
	step func(coordinator.Event) []coordinator.Effect
}

func (f *faulty) Step(_ time.Duration, ev coordinator.Event, _ []coordinator.Effect) []coordinator.Effect {
	return f.step(ev)
}
func (f *faulty) Done() bool { return false }

func TestAPanicEndsOneRequest(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	err := n.run(t.Context(), &faulty{func(coordinator.Event) []coordinator.Effect { panic("a planted one") }}, nil)
	if !errors.Is(err, kv.ErrInternal) || !strings.Contains(err.Error(), "a planted one") {
		t.Errorf("error %v", err)
	}
	write(t, n, "k", "v")
	if c := n.requests.count(); c != 0 {
		t.Errorf("%d requests are in progress", c)
	}
}

// TestAPanicAfterTheAnswerEndsOneRequest: a machine goes on after its answer, to repair. What it
// panics at then is no answer, and its caller has gone.
func TestAPanicAfterTheAnswerEndsOneRequest(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	m := &faulty{func(ev coordinator.Event) []coordinator.Effect {
		if _, ok := ev.(coordinator.Tick); ok {
			panic("a planted one")
		}
		return []coordinator.Effect{coordinator.Answer{}}
	}}
	answers := 0
	r, err := n.start(m, nil, nil, func() { answers++ })
	if err != nil {
		t.Fatal(err)
	}
	r.feed(coordinator.Tick{})
	if answers != 1 || r.panicked != nil {
		t.Errorf("the caller was answered %d times, at last with %v", answers, r.panicked)
	}
	if c := n.requests.count(); c != 0 {
		t.Errorf("%d requests are in progress", c)
	}
}

func TestAdmissionIsLimited(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage(), MaxRequests: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		begun := make(chan struct{}, 1)
		wg.Go(func() {
			n.run(ctx, &faulty{func(coordinator.Event) []coordinator.Effect { begun <- struct{}{}; return nil }}, nil)
		})
		<-begun
	}
	_, err := n.Get(t.Context(), key, kv.ReadOptions{})
	if !errors.Is(err, kv.ErrOverload) || !strings.Contains(err.Error(), "2 requests are in progress") {
		t.Errorf("the third request: %v", err)
	}
	cancel()
	wg.Wait()
	write(t, n, "k", "v")
}

func TestACallerMayGoAway(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	why := errors.New("the user has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := n.Get(ctx, key, kv.ReadOptions{}); !errors.Is(err, why) {
		t.Errorf("a get: %v", err)
	}
	if _, err := n.Put(ctx, key, kv.Value{}, kv.WriteOptions{}); !errors.Is(err, why) || errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a put that was never begun: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	err := n.runWrite(ctx, &faulty{func(coordinator.Event) []coordinator.Effect { cancel(why); return nil }}, nil)
	if !errors.Is(err, why) || !errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a put that was begun: %v", err)
	}
	if c := n.requests.count(); c != 0 {
		t.Errorf("%d requests are in progress", c)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	begun := make(chan struct{})
	var r *request
	var once sync.Once
	m := &faulty{func(ev coordinator.Event) []coordinator.Effect {
		once.Do(func() { close(begun) })
		if _, ok := ev.(coordinator.Tick); ok {
			r.finish()
			return []coordinator.Effect{coordinator.Answer{}}
		}
		return nil
	}}
	answered := make(chan struct{})
	r, err := n.start(m, nil, nil, func() { close(answered) })
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	over := make(chan error)
	go func() { over <- n.Shutdown(t.Context()) }()
	r.feed(coordinator.Tick{})
	<-answered
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// unanswered is a node with a request that has begun and gets no answer; got receives how it ends.
func unanswered(t *testing.T) (n *Node, got chan error) {
	t.Helper()
	n, got = open(t, "", Options{Storage: MemoryStorage()}), make(chan error)
	begun := make(chan struct{})
	go func() {
		got <- n.run(context.Background(), &faulty{func(coordinator.Event) []coordinator.Effect { close(begun); return nil }}, nil)
	}()
	<-begun
	return n, got
}

// Who closes a node that somebody else shuts down does not wait for the requests.
func TestCloseHurriesAShutdown(t *testing.T) {
	n, got := unanswered(t)
	over := make(chan error)
	go func() { over <- n.Shutdown(context.Background()) }()
	for !n.closing.Load() {
		runtime.Gosched()
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, kv.ErrClosed) {
		t.Errorf("the request: %v", err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestCloseAnswersEveryone(t *testing.T) {
	n, got := unanswered(t)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, kv.ErrClosed) {
		t.Errorf("the request: %v", err)
	}
}

// TestACommandAfterTheEndIsRefused: a request that nobody waits for any more may still ask a vnode
// while the node writes down how its vnodes ended. It gets an answer, and begins no vnode.
func TestACommandAfterTheEndIsRefused(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	shut(t, n)
	size := n.state().Ring().Size()
	refused := make(chan vnode.Message, size)
	var asking sync.WaitGroup
	asking.Go(func() {
		for p := range size {
			n.vnodes.submit(command{to: ring.Partition(p), msg: &vnode.Fence{}, reply: func(m vnode.Message) { refused <- m }})
		}
	})
	n.vnodes.incarnations() // as Shutdown calls it
	asking.Wait()
	close(refused)
	if len(refused) != size {
		t.Errorf("%d of %d commands are answered", len(refused), size)
	}
	for m := range refused {
		if r, ok := m.(*vnode.Refusal); !ok || r.Code != vnode.CodeClosing {
			t.Errorf("a command is answered by %v", m)
		}
	}
	if all := n.vnodes.incarnations(); len(all) != 0 {
		t.Errorf("%d vnodes have begun", len(all))
	}
}

// fragile is an engine whose writes can be made to fail.
type fragile struct {
	storage.Engine
	mu    sync.Mutex
	apply error
	wait  error

	reserve bool // a full disk takes what is urgent
}

func (f *fragile) fail(apply, wait error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply, f.wait = apply, wait
}

func (f *fragile) Apply(b *storage.Batch, sync bool) (storage.Commit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.apply != nil && !(errors.Is(f.apply, storage.ErrFull) && b.Urgent && f.reserve) {
		return nil, f.apply
	}
	c, err := f.Engine.Apply(b, sync)
	return failing{c, f.wait}, err
}

type failing struct {
	storage.Commit
	err error
}

func (c failing) Wait() error { return errors.Join(c.Commit.Wait(), c.err) }

func openFragile(t *testing.T) (*Node, *fragile) {
	f := &fragile{Engine: storage.NewMemory()}
	return open(t, "", Options{Storage: func(string) (storage.Engine, error) { return f, nil }}), f
}

func TestAFullDiskRefusesWritesAndRecovers(t *testing.T) {
	n, f := openFragile(t)
	write(t, n, "k", "before")
	before := n.vnodes.incarnations()
	f.fail(fmt.Errorf("%w: 12 bytes free", storage.ErrFull), nil)
	_, err := n.Put(t.Context(), key, kv.Value{Data: []byte("no")}, kv.WriteOptions{})
	var q *kv.QuorumError
	if !errors.As(err, &q) || q.InDoubt || !strings.Contains(err.Error(), "12 bytes free") {
		t.Errorf("a put on a full disk: %v", err)
	}
	obj, err := n.Get(t.Context(), key, kv.ReadOptions{})
	if err != nil || len(obj.Values) != 1 || string(obj.Values[0].Data) != "before" {
		t.Errorf("a get on a full disk: %v, %v", obj.Values, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.Stage(ctx, Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); err == nil {
		t.Error("the topology changes on a full disk")
	}
	f.fail(nil, nil)
	if err := n.Stage(t.Context(), Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); err != nil {
		t.Errorf("a change of the topology when there is space again: %v", err)
	}
	if _, err = n.Put(t.Context(), key, kv.Value{Data: []byte("after")}, kv.WriteOptions{Context: obj.Context}); err != nil {
		t.Errorf("a put when there is space again: %v", err)
	}
	changed := 0
	for p, inc := range n.vnodes.incarnations() {
		if inc.actor != before[p].actor {
			changed++
		}
	}
	if changed == 0 {
		t.Error("vnodes whose batch was refused go on as the same actors")
	}
}

// TestARecoveredLogIsNotWrittenOver: what a full disk has refused of the topology log is tried
// again, but not once another log stands in its place.
func TestARecoveredLogIsNotWrittenOver(t *testing.T) {
	n, f := openFragile(t)
	waitFor(t, "the log has a leader", func() bool { return n.topology.status().led })
	f.fail(fmt.Errorf("%w: 12 bytes free", storage.ErrFull), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.Stage(ctx, Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); err == nil {
		t.Error("the topology changes on a full disk")
	}
	done := make(chan error, 1)
	n.topology.order(t.Context(), func() {
		f.fail(nil, nil) // there is room, and the log is not told before it is recovered
		done <- n.topology.restart([]string{n.Name()})
		n.topology.retry()
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the recovered log has a leader", func() bool { return n.topology.status().led })
	if err := n.Stage(t.Context(), Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); err != nil {
		t.Errorf("a change of the recovered topology: %v", err)
	}
	if _, err := membership.OpenLog(membership.LogOptions{Self: n.Name()}, f.Engine, nil); err != nil {
		t.Errorf("the next start: %v", err)
	}
}

// TestAChangeInDoubtSaysSo: of a command whose trace the log has lost nobody can tell, and who
// has asked must be able to tell that from a fault of the node.
func TestAChangeInDoubtSaysSo(t *testing.T) {
	var ce *ClusterError
	if err := clusterError(membership.ErrCommandInDoubt); !errors.As(err, &ce) || ce.Code != "in_doubt" || ce.Text == "" {
		t.Errorf("a change in doubt: %#v", err)
	}
	if err := clusterError(nil); err != nil {
		t.Errorf("a change that was made: %v", err)
	}
}

// TestAProposalWaitsNoLongerThanItsContext: the topology log stands still with the disk, and what others
// send fills the queue before it.
func TestAProposalWaitsNoLongerThanItsContext(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	still, goOn := make(chan struct{}), make(chan struct{})
	var standing sync.WaitGroup
	standing.Go(func() { n.topology.order(t.Context(), func() { close(still); <-goOn }) })
	<-still
	for len(n.topology.events) < maxLogEvents {
		n.topology.events <- membership.LogUnreachable{Node: "n2"}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var ce *ClusterError
	if err := n.Stage(ctx, Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); !errors.As(err, &ce) || ce.Code != codeWaiting {
		t.Errorf("a change while the log stands still: %v", err)
	}
	close(goOn)
	standing.Wait()
	if err := n.Stage(t.Context(), Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); err != nil {
		t.Errorf("a change when the log goes on: %v", err)
	}
}

func TestABrokenDiskStopsTheNode(t *testing.T) {
	n, f := openFragile(t)
	f.fail(nil, errors.New("input/output error"))
	_, err := n.Put(t.Context(), key, kv.Value{}, kv.WriteOptions{W: kv.All})
	if err == nil {
		t.Error("a put that is not durable was acknowledged")
	}
	select {
	case <-n.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the node goes on")
	}
	if _, err := n.Get(t.Context(), key, kv.ReadOptions{}); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("a get on a failed node: %v", err)
	}
	if err := n.Close(); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("Close says %v", err)
	}
}

func TestATopologyThatComesAfterTheEndIsNoFailure(t *testing.T) {
	cluster, _ := NewTestCluster(t, 2, Options{})
	n := cluster[0]
	newer := n.state().Jump(1)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.topology.given("n2", newer.Encode())
	select {
	case <-n.Failed():
		t.Errorf("a node that was closed in order has failed: %v", *n.fault.Load())
	default:
	}
}

func TestAWriteQuorumOutOfReachIsAnsweredAtOnce(t *testing.T) {
	cluster, network := NewTestCluster(t, 3, Options{})
	n := cluster[0]
	network.Cut("n1", "n3")
	for i := 0; n.live.up("n3"); i++ {
		if _, err := n.Put(t.Context(), kv.Key{Bucket: "until it is missed", Name: strconv.Itoa(i)}, kv.Value{}, kv.WriteOptions{W: kv.One}); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	_, err := n.Put(t.Context(), key, kv.Value{}, kv.WriteOptions{W: kv.All})
	var q *kv.QuorumError
	if !errors.As(err, &q) || q.Need != "W" || q.Want != 3 || q.InDoubt || !strings.Contains(err.Error(), "n3: the node is down") {
		t.Errorf("W=3 with a node cut off: %v", err)
	}
	if took := time.Since(begun); took > kv.DefaultTimeout/2 {
		t.Errorf("it took %v, as if it had waited for the timeout", took)
	}
	for range 20 {
		if _, err := n.Put(t.Context(), key, kv.Value{Data: []byte("x")}, kv.WriteOptions{W: 2, ReturnBody: true}); err != nil && !errors.Is(err, kv.ErrTooManySiblings) {
			t.Errorf("W=2 with a node cut off: %v", err)
		}
	}
	network.Heal()
	WaitUp(t, n)
	if _, err := n.Get(t.Context(), key, kv.ReadOptions{R: kv.All}); err != nil {
		t.Errorf("R=3 after healing: %v", err)
	}
}

// TestASilentReplicaLeavesNothing cuts the answers of one node only: requests that
// it never answers must be gone when they are answered or have timed out.
func TestASilentReplicaLeavesNothing(t *testing.T) {
	cluster, network := NewTestCluster(t, 3, Options{})
	n := cluster[0]
	network.CutOneWay("n3", "n1")
	var wg sync.WaitGroup
	for i := range 50 {
		k := kv.Key{Bucket: "b", Name: fmt.Sprint(i)}
		wg.Go(func() {
			if _, err := n.Put(t.Context(), k, kv.Value{}, kv.WriteOptions{}); err != nil {
				t.Errorf("put of %s: %v", k, err)
			}
			if _, err := n.Get(t.Context(), k, kv.ReadOptions{}); err != nil {
				t.Errorf("get of %s: %v", k, err)
			}
			_, err := n.Put(t.Context(), k, kv.Value{}, kv.WriteOptions{W: kv.All, Timeout: 50 * time.Millisecond})
			if !errors.Is(err, kv.ErrQuorum) {
				t.Errorf("put of %s with W=3: %v", k, err)
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(20 * time.Second); n.requests.count() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are still in progress", n.requests.count())
		}
		n.Ping(t.Context())
	}
	network.Heal()
	WaitUp(t, cluster...)
}

// TestRepairsDoNotCountAsRequests has more reads wait for a silent replica than
// requests may be in progress.
func TestRepairsDoNotCountAsRequests(t *testing.T) {
	cluster, network := NewTestCluster(t, 3, Options{MaxRequests: 4})
	n := cluster[0]
	write(t, n, "k", "v")
	network.CutOneWay("n3", "n1")
	most := 0
	for range 40 {
		if _, err := n.Get(t.Context(), key, kv.ReadOptions{}); err != nil {
			t.Fatalf("a get while %d wait to repair: %v", most, err)
		}
		most = max(most, n.requests.count())
	}
	if most <= 4 {
		t.Errorf("only %d reads waited: the test shows nothing", most)
	}
}

// TestWhatWaitsForVnodesIsLimitedInBytes: commands with large objects wait for a slow disk. They are
// counted by their bytes, too, or a few hundred of them would take all memory.
func TestWhatWaitsForVnodesIsLimitedInBytes(t *testing.T) {
	e := &gated{Engine: storage.NewMemory()}
	n := open(t, "", Options{Storage: func(string) (storage.Engine, error) { return e, nil }})
	gate := make(chan struct{})
	e.gate.Store(&gate)
	open := sync.OnceFunc(func() { e.gate.Store(nil); close(gate) })
	t.Cleanup(open)
	const home = 7
	large := make([]byte, 8<<20) // the same in all of them
	share := maxQueuedBytes / len(n.vnodes.workers)
	answers := make(chan vnode.Message, 2*maxMailbox)
	sent, refused := 0, error(nil)
	for refused == nil && sent < maxMailbox {
		n.vnodes.submit(command{
			to: home, msg: &vnode.Store{Home: home, Key: key, Object: large}, epoch: n.state().Epoch(),
			reply: func(m vnode.Message) { answers <- m },
		})
		sent++
		select {
		case m := <-answers:
			r, ok := m.(*vnode.Refusal)
			if !ok || r.Code != vnode.CodeOverload || !strings.Contains(r.Text, "bytes of objects wait") {
				t.Fatalf("a command is answered by %v", m)
			}
			refused = errors.New(r.Text)
		default:
		}
	}
	if most := share + maxBatchBytes + 2*len(large); sent*len(large) > most {
		t.Errorf("%d MiB of objects wait; want %d at most", sent*len(large)>>20, most>>20)
	}
	open()
	for range sent - 1 {
		<-answers // which say that these are no objects
	}
	write(t, n, "k", "v")
}

// panicking is an engine whose next write panics, when that is asked for.
type panicking struct {
	storage.Engine
	next atomic.Bool
}

func (p *panicking) Apply(b *storage.Batch, sync bool) (storage.Commit, error) {
	if p.next.CompareAndSwap(true, false) {
		panic("a planted one")
	}
	return p.Engine.Apply(b, sync)
}

// frail is an engine whose scans panic, when that is asked for.
type frail struct {
	storage.Engine
	on     *atomic.Bool
	opened atomic.Int64 // snapshots that are not closed
}

func (f *frail) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	if f.on.Load() {
		panic("a planted one")
	}
	return f.Engine.Scan(lower, upper, fn)
}

func (f *frail) Snapshot() (storage.Snapshot, error) {
	at, err := f.Engine.(storage.Snapshotter).Snapshot()
	if err == nil {
		f.opened.Add(1)
	}
	return &frailMoment{at, f}, err
}

type frailMoment struct {
	storage.Snapshot
	f *frail
}

func (m *frailMoment) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	if m.f.on.Load() {
		panic("a planted one")
	}
	return m.Snapshot.Scan(lower, upper, fn)
}

func (m *frailMoment) Close() error {
	m.f.opened.Add(-1)
	return m.Snapshot.Close()
}

// TestAPanicOfAReadEndsNothingElse: what another node orders, and what the node looks at of itself, runs
// on goroutines that no supervisor watches.
func TestAPanicOfAReadEndsNothingElse(t *testing.T) {
	f := &frail{Engine: storage.NewMemory(), on: &atomic.Bool{}}
	n := open(t, "", Options{Storage: func(string) (storage.Engine, error) { return f, nil }})
	write(t, n, "k", "v")
	f.on.Store(true)
	for _, o := range []*transport.Order{{Do: orderRoots}, {Do: orderMoment, Body: []byte(`{"number":1,"home":0}`)}} {
		answered := make(chan vnode.Message, 1)
		peerSide{n}.Serve("n2", transport.Frame{Msg: o, Timeout: time.Minute}, func(m vnode.Message) { answered <- m })
		if m, ok := (<-answered).(*vnode.Failure); !ok || !strings.Contains(m.Text, "a planted one") {
			t.Errorf("the order %s is answered by %v", o.Do, m)
		}
	}
	n.movers.look()
	if err := n.menders.verify.begin(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the verification has ended", func() bool { return !n.menders.verify.state().Running })
	if s := n.menders.verify.state(); len(s.Errors) == 0 || !strings.Contains(s.Errors[0], "a planted one") {
		t.Errorf("the verification: %+v", s)
	}
	f.on.Store(false)
	write(t, n, "k", "w")
	if open := f.opened.Load(); open != 0 {
		t.Errorf("%d snapshots are still open", open)
	}
}

// TestAWorkerThatPanicsAnswersAndBeginsAnew: whether the batch was applied is not known, so who
// waits for it is told, and its vnodes may not go on from what they believe to have stored.
func TestAWorkerThatPanicsAnswersAndBeginsAnew(t *testing.T) {
	e := &panicking{Engine: storage.NewMemory()}
	n := open(t, "", Options{Storage: func(string) (storage.Engine, error) { return e, nil }})
	home := n.state().Ring().Home(key)
	coordinate := func(value string) vnode.Message {
		answered := make(chan vnode.Message, 3) // the new version, that it is stored, and what a panic makes of it
		n.vnodes.submit(command{
			to: home, msg: &vnode.Coordinate{Home: home, Key: key, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: []byte(value)})}},
			epoch: n.state().Epoch(), reply: func(m vnode.Message) { answered <- m },
		})
		select {
		case m := <-answered:
			return m
		case <-time.After(20 * time.Second):
			t.Fatal("a command is never answered")
			return nil
		}
	}
	if _, ok := coordinate("before").(*vnode.Minted); !ok {
		t.Fatal("the first write has failed")
	}
	e.next.Store(true)
	if m, ok := coordinate("lost").(*vnode.Failure); !ok || m.Code != vnode.CodeInternal {
		t.Errorf("the write that was lost in a panic is answered by %v", m)
	}
	minted, ok := coordinate("after").(*vnode.Minted)
	if !ok {
		t.Fatal("the write after the panic has failed")
	}
	o, err := object.Decode(minted.Object)
	if err != nil || len(o.Siblings) != 2 || o.Siblings[0].Dot.Actor == o.Siblings[1].Dot.Actor {
		t.Errorf("after the panic the vnode holds %v (%v); want two values, of two actors", o, err)
	}
}

// TestHandoffBeginsWithAFullQueue: hand-off that begins anew finds what has come meanwhile. It is what
// empties the queue, and must not wait for room in it.
func TestHandoffBeginsWithAFullQueue(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	m := newMovers(n)
	for len(m.events) < maxMoverEvents {
		m.limit()
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- m.Serve(ctx) }()
	waitFor(t, "the queue is taken up", func() bool { return len(m.events) == 0 })
	cancel()
	<-over
}

// TestAWorkerTakesUpWhatItFinds restarts a worker whose mailbox is not empty, as
// after a panic.
func TestAWorkerTakesUpWhatItFinds(t *testing.T) {
	n := open(t, "", Options{Storage: MemoryStorage()})
	w := &worker{node: n, host: n.vnodes, vnodes: map[ring.Partition]*tenant{}, wake: make(chan struct{}, 1)}
	w.vnodes[3] = &tenant{vnode: w.incarnate(3, incarnation{actor: freshActor()})}
	answered := make(chan vnode.Message, 2)
	w.submit(command{to: 3, msg: &vnode.Coordinate{Key: key}, reply: func(m vnode.Message) { answered <- m }})
	<-w.wake // the one that was woken by it is gone
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- w.Serve(ctx) }()
	select {
	case <-answered:
	case <-time.After(20 * time.Second):
		t.Error("the command waits for ever")
	}
	cancel()
	<-over
}

package tanodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// troubled is a file system that says how much is free, and whose syncs may hang.
type troubled struct {
	vfs.FS
	free atomic.Uint64
	hang atomic.Pointer[chan struct{}]
}

const plenty = 1 << 40

func newTroubled() *troubled {
	d := &troubled{FS: vfs.NewMem()}
	d.free.Store(plenty)
	return d
}

func (d *troubled) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: plenty}, nil
}

func (d *troubled) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return troubledFile{f, d}, err
}

func (d *troubled) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return troubledFile{f, d}, err
}

type troubledFile struct {
	vfs.File
	disk *troubled
}

func (f troubledFile) wait() {
	if hang := f.disk.hang.Load(); hang != nil {
		<-*hang
	}
}

func (f troubledFile) Sync() error {
	f.wait()
	return f.File.Sync()
}

func (f troubledFile) SyncData() error {
	f.wait()
	return f.File.SyncData()
}

// troubledCluster is three nodes; the disk of n2 is that which it returns.
func troubledCluster(t *testing.T) ([]*Node, *troubled) {
	opened := 0
	second := newTroubled()
	nodes, _ := NewTestCluster(t, 3, Options{Storage: func(string) (storage.Engine, error) {
		fs := newTroubled()
		if opened++; opened == 2 {
			fs = second
		}
		return disk.Open("/data", disk.Options{FS: fs, CacheBytes: 8 << 20})
	}})
	return nodes, second
}

// waitFor waits until something holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

// serve writes and reads keys through all nodes, with W and R of 2, and none of
// that may fail, or wait for somebody who does not answer.
func serve(t *testing.T, nodes []*Node, round string) {
	t.Helper()
	const quick = kv.DefaultTimeout / 2 // what waits for an answer that does not come takes all of it
	for i := range 60 {
		k := kv.Key{Bucket: round, Name: fmt.Sprintf("k%d", i)}
		n := nodes[i%len(nodes)]
		begun := time.Now()
		if _, err := n.Put(t.Context(), k, kv.Value{Data: []byte(round)}, kv.WriteOptions{W: 2}); err != nil {
			t.Fatalf("%s: a put at %s: %v", round, n.Name(), err)
		}
		obj, err := n.Get(t.Context(), k, kv.ReadOptions{R: 2})
		if err != nil || len(obj.Values) != 1 || string(obj.Values[0].Data) != round {
			t.Fatalf("%s: a get at %s: %v, %v", round, n.Name(), obj.Values, err)
		}
		if took := time.Since(begun); took > quick {
			t.Errorf("%s: a put and a get at %s took %v", round, n.Name(), took)
		}
	}
}

// gaugeOf reads a metric of a node.
func gaugeOf(t *testing.T, n *Node, name string) float64 {
	t.Helper()
	all, err := n.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// stores writes a new key.
func stores(t *testing.T, nodes []*Node, w kv.Quorum) error {
	name := fmt.Sprintf("k%d", nodes[0].random())
	_, err := nodes[0].Put(t.Context(), kv.Key{Bucket: "all", Name: name}, kv.Value{}, kv.WriteOptions{W: w, Timeout: 2 * time.Second})
	return err
}

// The disk of one node of three is nearly full: it refuses writes and serves
// reads, requests with W=2 never fail, at whatever node they arrive, and when
// there is space again it takes part without a restart.
func TestScenario31AFullDiskIsReadOnlyAndRecovers(t *testing.T) {
	nodes, second := troubledCluster(t)
	serve(t, nodes, "before")
	second.free.Store(0)
	waitFor(t, "the disk of n2 is seen to be full", func() bool { return nodes[1].Status().Storage.ReadOnly })
	if s := nodes[1].Status().Storage; !strings.Contains(s.Trouble, "0 bytes are free") {
		t.Errorf("the status says %+v", s)
	}
	if gaugeOf(t, nodes[1], "tanodb_engine_read_only") != 1 {
		t.Error("the metric does not say that n2 is read-only")
	}
	actors := nodes[1].vnodes.incarnations()
	serve(t, nodes, "full")
	if err := stores(t, nodes, kv.All); err == nil || !strings.Contains(err.Error(), "no space for writes") {
		t.Errorf("a put to all three: %v", err)
	}
	for p, inc := range nodes[1].vnodes.incarnations() {
		if was, ok := actors[p]; ok && was.actor != inc.actor {
			t.Error("a write was begun on the full disk, though it is known to be full")
			break
		}
	}
	if obj, err := nodes[1].Get(t.Context(), kv.Key{Bucket: "before", Name: "k1"}, kv.ReadOptions{R: kv.All}); err != nil || len(obj.Values) != 1 {
		t.Errorf("a get of all three: %v", err)
	}
	second.free.Store(plenty)
	waitFor(t, "all three store again", func() bool { return stores(t, nodes, kv.All) == nil })
	serve(t, nodes, "after")
}

// The disk of one node of three stands still: the node steps back. Until that is
// seen some requests wait, and none fails; from then on none even waits.
func TestScenario31AStalledDiskIsSteppedBackFrom(t *testing.T) {
	nodes, second := troubledCluster(t)
	serve(t, nodes, "before")
	thaw := make(chan struct{})
	second.hang.Store(&thaw)
	var writers sync.WaitGroup
	failed := make(chan error, 64)
	for i := range 64 {
		writers.Go(func() {
			n := nodes[i%3]
			_, err := n.Put(context.Background(), kv.Key{Bucket: "onset", Name: fmt.Sprintf("k%d", i)}, kv.Value{}, kv.WriteOptions{W: 2, Timeout: 20 * time.Second})
			if err != nil {
				failed <- fmt.Errorf("a put at %s: %w", n.Name(), err)
			}
		})
	}
	waitFor(t, "n2 steps back", func() bool { return nodes[1].Status().Storage.Trouble != "" })
	writers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	serve(t, nodes, "stalled")
	if gaugeOf(t, nodes[1], "tanodb_engine_stalled") != 1 {
		t.Error("the metric does not say that n2 is stalled")
	}
	if err := stores(t, nodes, kv.All); err == nil || !strings.Contains(err.Error(), "stands still") || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a put to all three is not refused at once: %v", err)
	}
	second.hang.Store(nil)
	close(thaw)
	waitFor(t, "all three store again", func() bool { return stores(t, nodes, kv.All) == nil })
	serve(t, nodes, "after")
}

// sick is an engine whose reads fail, or hang, and that may know it.
type sick struct {
	*storage.Memory
	err     atomic.Pointer[error]
	hang    atomic.Pointer[chan struct{}]
	trouble atomic.Pointer[error]
}

func (s *sick) Trouble() (reads, writes error) {
	if err := s.trouble.Load(); err != nil {
		return *err, *err
	}
	return nil, nil
}

func (s *sick) ill() error {
	if hang := s.hang.Load(); hang != nil {
		<-*hang
	}
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *sick) Get(key []byte) ([]byte, error) {
	if err := s.ill(); err != nil {
		return nil, err
	}
	return s.Memory.Get(key)
}

func (s *sick) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	if err := s.ill(); err != nil {
		return err
	}
	return s.Memory.Scan(lower, upper, fn)
}

// sickCluster is three nodes; the engine of n2 is that which it returns.
func sickCluster(t *testing.T) ([]*Node, *sick) {
	opened := 0
	second := &sick{Memory: storage.NewMemory()}
	nodes, _ := NewTestCluster(t, 3, Options{Storage: func(string) (storage.Engine, error) {
		if opened++; opened == 2 {
			return second, nil
		}
		return storage.NewMemory(), nil
	}})
	return nodes, second
}

func TestScenario31AReadErrorIsAnotherReplicasTurn(t *testing.T) {
	nodes, second := sickCluster(t)
	serve(t, nodes, "before")
	eio := error(syscall.EIO)
	second.err.Store(&eio)
	serve(t, nodes, "failing")
	for _, n := range nodes {
		if page, err := n.Keys(t.Context(), kv.Bucket{Name: "before"}, kv.ListOptions{}); err != nil || len(page.Keys) != 60 {
			t.Errorf("a listing at %s: %d keys, %v", n.Name(), len(page.Keys), err)
		}
	}
	second.err.Store(nil)
	waitFor(t, "all three store again", func() bool { return stores(t, nodes, kv.All) == nil })
}

// Reads that hang hold up no request that other replicas can answer, and are
// refused at the door once the engine says that it is in trouble.
func TestScenario31ReadsThatHangHoldUpNobody(t *testing.T) {
	nodes, second := sickCluster(t)
	serve(t, nodes, "before")
	thaw := make(chan struct{})
	second.hang.Store(&thaw)
	var release sync.Once
	t.Cleanup(func() { release.Do(func() { close(thaw) }) })
	for i, n := range nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		obj, err := n.Get(ctx, kv.Key{Bucket: "before", Name: fmt.Sprintf("k%d", i)}, kv.ReadOptions{R: 2})
		cancel()
		if err != nil || len(obj.Values) != 1 {
			t.Errorf("a get at %s: %v", n.Name(), err)
		}
	}
	queued := make(chan vnode.Message, 100)
	for range cap(queued) {
		nodes[1].reads.submit(readTask{to: 0, msg: &vnode.Fetch{}, epoch: nodes[1].state().Epoch(), reply: func(m vnode.Message) { queued <- m }})
	}
	stalled := fmt.Errorf("%w: for the test", storage.ErrStalled)
	second.trouble.Store(&stalled)
	select {
	case m := <-queued: // those that wait are let go
		if r, ok := m.(*vnode.Refusal); !ok || r.Code != vnode.CodeStorage {
			t.Errorf("a read that waited is answered with %+v", m)
		}
	case <-time.After(time.Minute):
		t.Fatal("reads that wait for the disk are not let go")
	}
	serve(t, nodes, "stalled")
	release.Do(func() { close(thaw) })
	second.hang.Store(nil)
	second.trouble.Store(nil)
	serve(t, nodes, "after")
}

// A log that cannot be written ends the node in order, and no other.
func TestScenario31ABrokenLogEndsOneNode(t *testing.T) {
	opened := 0
	broken := &fragile{Engine: storage.NewMemory()}
	network := NewMemoryNetwork()
	var members []Member
	for i := range 3 {
		members = append(members, Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("memory:%d", i+1)})
	}
	var nodes []*Node
	for i := range 3 {
		n, err := Open("", Options{Name: members[i].Name, Bootstrap: members, Network: network, Storage: func(string) (storage.Engine, error) {
			if opened++; opened == 2 {
				return broken, nil
			}
			return storage.NewMemory(), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	defer func() {
		for i, n := range nodes {
			if err := n.Close(); (err == nil) == (i == 1) {
				t.Errorf("closing n%d: %v", i+1, err)
			}
		}
	}()
	WaitUp(t, nodes...)
	serve(t, nodes, "before")
	broken.fail(nil, syscall.EIO)
	serve(t, []*Node{nodes[0], nodes[2]}, "broken")
	select {
	case <-nodes[1].Failed():
	case <-time.After(time.Minute):
		t.Fatal("n2 goes on")
	}
	if err := nodes[1].Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("n2 ends with %v", err)
	}
	serve(t, []*Node{nodes[0], nodes[2]}, "without it")
}

package tanodb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

func putAll(t *testing.T, n *Node, keys int, value string, o kv.WriteOptions) {
	t.Helper()
	for i := range keys {
		k := kv.Key{Bucket: "b", Name: fmt.Sprint("k", i)}
		if _, err := n.Put(t.Context(), k, kv.Value{Data: []byte(value)}, o); err != nil {
			t.Fatalf("put %v: %v", k, err)
		}
	}
}

// verified verifies until all is well, or the test has waited for long enough.
func verified(t *testing.T, n *Node) Verified {
	t.Helper()
	end := time.After(60 * time.Second)
	for {
		v, err := n.RepairVerify(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if v.OK {
			return v
		}
		select {
		case <-end:
			t.Fatalf("not all is well: %+v", v)
		default:
		}
	}
}

// What a node has missed it gets without anybody reading, soon after it is back, and once
// all is equal nothing is written any more.
func TestScenario33ReplicasBecomeEqualUnread(t *testing.T) {
	t.Parallel()
	cluster, network := NewTestCluster(t, 3, Options{Partitions: 8})
	putAll(t, cluster[0], 50, "before", kv.WriteOptions{W: kv.All})
	network.Cut("n3", "n1")
	network.Cut("n3", "n2")
	eventuallyUp(t, cluster[0], 2)
	putAll(t, cluster[0], 100, "missed", kv.WriteOptions{W: 2, SloppyQuorum: kv.Off})
	network.Heal()
	WaitUp(t, cluster...)
	v := verified(t, cluster[1])
	if v.Homes != 8 || len(v.Nodes) != 3 || v.Differs != 0 {
		t.Errorf("%+v", v)
	}
	mended, pairs := 0, 0
	states := allCompared(t, cluster[2])
	for _, s := range states {
		if s.Error != "" || s.Verify.Wrong > 0 || s.Verify.Running {
			t.Errorf("%+v", s)
		}
		mended += s.Received + s.Sent
		pairs += s.Pairs
	}
	if mended < 100 || pairs != 24 {
		t.Errorf("%d objects were mended among %d pairs; 100 were missed, and there are 24", mended, pairs)
	}
	exchanges, objects := exchangesAndObjects(t, cluster)
	for _, n := range cluster { // as if all others had come back
		for _, peer := range cluster {
			n.menders.changed(membership.Sighting{Node: peer.Name(), Up: true})
		}
	}
	end := time.After(30 * time.Second)
	for {
		now, mended := exchangesAndObjects(t, cluster)
		if mended != objects {
			t.Fatalf("of equal replicas %v objects were mended", mended-objects)
		}
		if now >= exchanges+24 {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-end:
			t.Fatalf("%v exchanges, and no more", now)
		}
	}
}

// With a node that has begun anew all that is shared is compared, though it was never held to
// be down.
func TestWhoHasBegunAnewIsComparedWith(t *testing.T) {
	t.Parallel()
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8, RepairEvery: 24 * time.Hour})
	allCompared(t, cluster[0])
	before, _ := exchangesAndObjects(t, cluster)
	for _, n := range cluster[:2] {
		peerSide{n}.Restarted(cluster[2].Name())
	}
	waitFor(t, "their replicas are compared again", func() bool {
		now, _ := exchangesAndObjects(t, cluster)
		return now > before
	})
}

// A home of which a replica has not confirmed a write is compared soon, and not only once
// in a period.
func TestWhatIsNotConfirmedIsCompared(t *testing.T) {
	t.Parallel()
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8, RepairEvery: 24 * time.Hour})
	allCompared(t, cluster[0])
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{N: 1, W: kv.All}); err != nil {
		t.Fatal(err) // two replicas know nothing of it
	}
	home := cluster[0].state().Ring().Home(k)
	for range 3 {
		cluster[1].menders.heard(&vnode.Store{Home: home, Key: k}, nil)
	}
	cluster[1].menders.heard(&vnode.Store{Home: 60_000, Key: k}, nil) // of no ring of this size
	verified(t, cluster[2])
}

// allCompared waits until all pairs have been compared, and none is due.
func allCompared(t *testing.T, n *Node) []RepairState {
	t.Helper()
	end := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		states, err := n.Repairs(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(states, func(s RepairState) bool { return s.Never+s.Due+len(s.Running) > 0 }) {
			return states
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not all pairs have been compared: %+v", states)
		}
	}
}

// counted is the sum of a counter's values over all labels.
func counted(t *testing.T, n *Node, name string) float64 {
	t.Helper()
	families, err := n.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func exchangesAndObjects(t *testing.T, cluster []*Node) (exchanges, objects float64) {
	t.Helper()
	for _, n := range cluster {
		exchanges += counted(t, n, "tanodb_repair_exchanges_total")
		objects += counted(t, n, "tanodb_repair_objects_total")
	}
	return exchanges, objects
}

func eventuallyUp(t *testing.T, n *Node, up int) {
	t.Helper()
	end := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n.membersUp() != up {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s sees %d members up; want %d", n.Name(), n.membersUp(), up)
		}
	}
}

// A tree that is not that of the objects is found, set right and counted.
func TestVerifySetsATreeRight(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	putAll(t, cluster[0], 50, "v", kv.WriteOptions{W: kv.All})
	n := cluster[1]
	var b storage.Batch
	sums, entries := 0, 0
	err := n.engine.Scan([]byte{4}, []byte{6}, func(key, _ []byte) bool {
		switch {
		case key[0] == 4 && sums < 3:
			sums++
			b.Merge(append([]byte(nil), key...), 12345)
		case key[0] == 5 && entries < 3:
			entries++
			b.Delete(append([]byte(nil), key...))
		}
		return true
	})
	if err == nil {
		_, err = n.engine.Apply(&b, true)
	}
	if err != nil || sums < 3 || entries < 3 {
		t.Fatal(sums, entries, err)
	}
	v, err := cluster[0].RepairVerify(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	s := v.Nodes[0].Verify
	if len(v.Nodes) != 1 || v.Nodes[0].Node != "n2" || s.Wrong == 0 || s.Mended != s.Wrong || s.Done != s.Trees || !v.OK {
		t.Errorf("%+v", v)
	}
	if got := counted(t, n, "tanodb_repair_wrong_trees_total"); got != float64(s.Wrong) {
		t.Errorf("the metric says %v", got)
	}
	if v := verified(t, cluster[0]); v.Nodes[1].Verify.Wrong != 0 {
		t.Errorf("once it is right: %+v", v.Nodes[1].Verify)
	}
}

func TestRepairIsPausedAndResumed(t *testing.T) {
	cluster, _ := NewTestCluster(t, 3, Options{Partitions: 8, RepairEvery: time.Minute, RepairBytes: -1, RepairObjects: 7})
	states, err := cluster[0].RepairPause(t.Context(), "")
	if err != nil || len(states) != 3 {
		t.Fatal(states, err)
	}
	for _, s := range states {
		if !s.Paused || s.Every != time.Minute || s.BytesPerSecond != 0 || s.ObjectsPerSecond != 7 || s.Error != "" {
			t.Errorf("%+v", s)
		}
	}
	if states, err = cluster[1].RepairResume(t.Context(), "n3"); err != nil || len(states) != 1 || states[0].Paused {
		t.Errorf("%+v, %v", states, err)
	}
	if states, err = cluster[1].Repairs(t.Context(), ""); err != nil || !states[0].Paused || states[2].Paused {
		t.Errorf("%+v, %v", states, err)
	}
	if _, err := cluster[0].Repairs(t.Context(), "n9"); err == nil || !strings.Contains(err.Error(), "n9 is not a member") {
		t.Errorf("of a stranger: %v", err)
	}
	if err := cluster[2].Close(); err != nil {
		t.Fatal(err)
	}
	eventuallyUp(t, cluster[0], 2)
	if states, err = cluster[0].Repairs(t.Context(), ""); err != nil || states[2].Error == "" {
		t.Errorf("%+v, %v", states, err)
	}
	v, err := cluster[0].RepairVerify(t.Context(), "")
	if err != nil || v.OK {
		t.Errorf("with a node down all is well: %+v, %v", v, err)
	}
}

func TestRepairOptionsThatCannotBeMeant(t *testing.T) {
	for _, o := range []Options{{RepairEvery: -1}, {RepairBytes: -2}, {RepairObjects: -2}} {
		o.Storage = MemoryStorage()
		if _, err := Open("", o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// A single node has nobody to compare with, and verifies itself.
func TestASingleNodeVerifiesItself(t *testing.T) {
	n, err := Open(t.TempDir(), Options{Replicas: 1, Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	putAll(t, n, 20, "v", kv.WriteOptions{})
	v, err := n.RepairVerify(t.Context(), "")
	if err != nil || !v.OK || v.Homes != 0 || v.Nodes[0].Verify.Objects != 20 || v.Nodes[0].Pairs != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// BenchmarkPutTrees is durable puts of 1 KB by 64 clients to three nodes on disk in
// this process, with hash trees and without, in turn, over 10,000 keys. It reports
// the medians over all turns: the throughput with trees in percent of that without,
// of which the promise is at least 90, and the same of CPU.
func BenchmarkPutTrees(b *testing.B) {
	sides := []*treeSide{newTreeSide(b, false), newTreeSide(b, true)}
	var throughput, cpu []float64
	for i := 0; b.Loop(); i++ {
		sides[i%2].round(b)
		sides[1-i%2].round(b)
		with, without := sides[0], sides[1]
		throughput = append(throughput, 100*without.took.Seconds()/with.took.Seconds())
		cpu = append(cpu, 100*without.cpu.Seconds()/with.cpu.Seconds())
	}
	slices.Sort(throughput)
	slices.Sort(cpu)
	b.ReportMetric(throughput[len(throughput)/2], "%throughput")
	b.ReportMetric(cpu[len(cpu)/2], "%cpu")
}

type treeSide struct {
	cluster []*Node
	at      atomic.Int64
	took    time.Duration // of the last round
	cpu     time.Duration
}

func newTreeSide(b *testing.B, treeless bool) *treeSide {
	open := func(string) (storage.Engine, error) { return disk.Open(b.TempDir(), disk.Options{}) }
	cluster, _ := NewTestCluster(b, 3, Options{Storage: open})
	for _, n := range cluster {
		n.menders.pause(true)
		n.vnodes.treeless = treeless // no vnode has begun yet
	}
	return &treeSide{cluster: cluster}
}

func cpuSoFar() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// round is 1024 puts.
func (s *treeSide) round(b *testing.B) {
	const clients, each = 64, 16
	value := make([]byte, 1024)
	start, cpu := time.Now(), cpuSoFar()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for range each {
				k := kv.Key{Bucket: "bench", Name: fmt.Sprint("key", s.at.Add(1)%10_000)}
				if _, err := s.cluster[c%3].Put(context.Background(), k, kv.Value{Data: value}, kv.WriteOptions{}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.took = time.Since(start)
	s.cpu = cpuSoFar() - cpu
}

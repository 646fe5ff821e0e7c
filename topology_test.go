package tanodb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/testports"
	"github.com/tanodb/tanodb/kv"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// eventually waits until a condition holds, and fails with what explain says
// otherwise.
func eventually(t *testing.T, what string, holds func() bool, explain func() string) {
	t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %v: %s\n%s", patience, what, explain())
		}
	}
}

// join opens a further node that joins the cluster, and commits it.
func join(t *testing.T, network *tanodb.MemoryNetwork, name, at string) *tanodb.Node {
	t.Helper()
	n, err := tanodb.Open("", tanodb.Options{
		Name: name, Network: network, Storage: tanodb.MemoryStorage(), Join: []string{at}, AutoJoin: true,
	})
	if err != nil {
		t.Fatalf("opening %s: %v", name, err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// settled waits until nothing moves any more, as all the nodes see it.
func settled(t *testing.T, nodes ...*tanodb.Node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "node "+n.Name()+" sees a cluster at rest", func() bool { return n.Cluster().Ready }, func() string {
			return fmt.Sprintf("%v\n%+v", n.Cluster().NotReady, n.Cluster().Transfers)
		})
	}
}

// apply stages a change, plans and commits it.
func apply(t *testing.T, n *tanodb.Node, c tanodb.Change) {
	t.Helper()
	if err := n.Stage(t.Context(), c); err != nil {
		t.Fatalf("staging %v: %v", c, err)
	}
	p, err := n.ClusterPlan(t.Context())
	if err == nil {
		err = n.ClusterCommit(t.Context(), p.ID)
	}
	if err != nil {
		t.Fatalf("committing %v: %v", c, err)
	}
}

// writer writes keys with W=2 as long as it runs, each once, and remembers which
// were acknowledged.
type writer struct {
	stop   chan struct{}
	done   sync.WaitGroup
	acked  atomic.Int64
	failed atomic.Pointer[string]
	mu     sync.Mutex
	keys   []string
}

func startWriter(t *testing.T, excused func(error) bool, nodes ...*tanodb.Node) *writer {
	w := &writer{stop: make(chan struct{})}
	for i, n := range nodes {
		w.done.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-w.stop:
					return
				default:
				}
				key := fmt.Sprintf("w%d-%d", i, j)
				_, err := n.Put(context.Background(), kv.Key{Bucket: "b", Name: key}, kv.Value{Data: []byte(key)}, kv.WriteOptions{})
				if err == nil {
					_, err = n.Get(context.Background(), kv.Key{Bucket: "b", Name: key}, kv.ReadOptions{})
				}
				if err != nil && (excused == nil || !excused(err)) {
					text := fmt.Sprintf("%s at %s: %v", key, n.Name(), err)
					w.failed.CompareAndSwap(nil, &text)
				}
				if err == nil {
					w.acked.Add(1)
					w.mu.Lock()
					w.keys = append(w.keys, key)
					w.mu.Unlock()
				}
			}
		})
	}
	return w
}

// end stops the writers, and reads all that was acknowledged from a node.
func (w *writer) end(t *testing.T, n *tanodb.Node) {
	t.Helper()
	close(w.stop)
	w.done.Wait()
	if text := w.failed.Load(); text != nil {
		t.Errorf("a request failed: %s", *text)
	}
	if len(w.keys) == 0 {
		t.Fatal("nothing was written")
	}
	for _, key := range w.keys {
		if _, err := n.Get(t.Context(), kv.Key{Bucket: "b", Name: key}, kv.ReadOptions{}); err != nil {
			t.Fatalf("%s was acknowledged, and now: %v", key, err)
		}
	}
	t.Logf("%d keys were written", len(w.keys))
}

// holds waits until a node owns something.
func holds(t *testing.T, seen *tanodb.Node, name string) {
	t.Helper()
	eventually(t, name+" owns something", func() bool { return owned(seen)[name] > 0 }, func() string { return fmt.Sprintf("%+v", seen.Cluster()) })
}

func owned(n *tanodb.Node) map[string]int {
	counts := make(map[string]int)
	for _, owner := range n.Cluster().Owners {
		counts[owner]++
	}
	return counts
}

func TestNodesJoinAndLeaveUnderLoad(t *testing.T) {
	t.Parallel()
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	w := startWriter(t, nil, cluster...)
	n4 := join(t, network, "n4", "n1")
	holds(t, cluster[0], "n4")
	settled(t, append(cluster, n4)...)
	if got := owned(cluster[0]); got["n4"] != 16 {
		t.Errorf("after n4 has joined the ring is %v", got)
	}
	n5 := join(t, network, "n5", "n2")
	holds(t, cluster[0], "n5")
	settled(t, append(cluster, n4, n5)...)
	if got := owned(n5); got["n5"] < 12 {
		t.Errorf("after n5 has joined the ring is %v", got)
	}
	apply(t, cluster[0], tanodb.Change{Kind: tanodb.ChangeLeave, Node: "n4"})
	eventually(t, "n4 has left", func() bool {
		select {
		case <-n4.Failed():
			return true
		default:
			return false
		}
	}, func() string { return fmt.Sprintf("%+v", cluster[0].Cluster()) })
	if err := n4.Close(); !errors.Is(err, tanodb.ErrLeft) {
		t.Errorf("closing a node that has left: %v", err)
	}
	rest := append(slices.Clone(cluster), n5)
	settled(t, rest...)
	if got := owned(cluster[1]); got["n4"] != 0 || len(got) != 4 {
		t.Errorf("after n4 has left the ring is %v", got)
	}
	w.end(t, n5)
}

func TestForceReplaceOfADeadNode(t *testing.T) {
	t.Parallel()
	cluster, network := tanodb.NewTestCluster(t, 4, tanodb.Options{})
	w := startWriter(t, nil, cluster[0], cluster[1])
	eventually(t, "some keys are written", func() bool { return w.acked.Load() > 300 }, func() string { return "" })
	close(w.stop)
	w.done.Wait()
	w.stop = make(chan struct{})

	cluster[3].Close()
	n5, err := tanodb.Open("", tanodb.Options{
		Name: "n5", Network: network, Storage: tanodb.MemoryStorage(), Join: []string{"n1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n5.Close() })
	before := owned(cluster[0])["n4"]
	apply(t, cluster[0], tanodb.Change{Kind: tanodb.ChangeForceReplace, Node: "n4", With: "n5"})
	settled(t, cluster[0], cluster[1], cluster[2], n5)
	if got := owned(cluster[0]); got["n5"] != before || got["n4"] != 0 {
		t.Errorf("n5 owns %d partitions; n4 had %d", got["n5"], before)
	}
	w.end(t, n5)
}

func TestAPlanThatHasChangedIsNotCommitted(t *testing.T) {
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	stage := func(name string) {
		n, err := tanodb.Open("", tanodb.Options{
			Name: name, Network: network, Storage: tanodb.MemoryStorage(), Join: []string{"n1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
	}
	stage("n4")
	p, err := cluster[0].ClusterPlan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stage("n5")
	var ce *tanodb.ClusterError
	if err := cluster[1].ClusterCommit(t.Context(), p.ID); !errors.As(err, &ce) || ce.Code != "plan_changed" {
		t.Errorf("committing a plan that has changed: %v", err)
	}
	if p, err = cluster[0].ClusterPlan(t.Context()); err == nil {
		err = cluster[2].ClusterCommit(t.Context(), p.ID)
	}
	if err != nil {
		t.Errorf("committing the plan as it is: %v", err)
	}
}

func TestRepairRebuildsAPartition(t *testing.T) {
	cluster, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	w := startWriter(t, nil, cluster[0])
	eventually(t, "some keys are written", func() bool { return w.acked.Load() > 100 }, func() string { return "" })
	if _, err := cluster[1].Repair(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	settled(t, cluster...)
	w.end(t, cluster[1])
}

// split cuts all connections between two groups of nodes.
func split(network *tanodb.MemoryNetwork, a, b []*tanodb.Node) {
	for _, x := range a {
		for _, y := range b {
			network.Cut(x.Name(), y.Name())
		}
	}
}

func TestWithoutAMajorityTheTopologyWaitsAndDataFlows(t *testing.T) {
	cluster, network := tanodb.NewTestCluster(t, 5, tanodb.Options{})
	minority, majority := cluster[:2], cluster[2:]
	eventually(t, "there are five voters", func() bool { return len(cluster[0].Cluster().Voters) == 5 }, func() string {
		return fmt.Sprint(cluster[0].Cluster().Voters)
	})
	split(network, minority, majority)
	eventually(t, "the minority is alone", func() bool { return cluster[0].Cluster().Waits != "" && !cluster[0].Cluster().Members[4].Up }, func() string {
		return fmt.Sprintf("%+v", cluster[0].Cluster())
	})
	k := kv.Key{Bucket: "b", Name: "during"}
	if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte("1")}, kv.WriteOptions{}); err != nil {
		t.Errorf("a put without a majority of the topology: %v", err)
	}
	if _, err := cluster[1].Get(t.Context(), k, kv.ReadOptions{}); err != nil {
		t.Errorf("a get without a majority of the topology: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var ce *tanodb.ClusterError
	err := cluster[0].Stage(ctx, tanodb.Change{Kind: tanodb.ChangeLeave, Node: "n5"})
	if !errors.As(err, &ce) || ce.Code != "no_majority" {
		t.Errorf("a change without a majority: %v", err)
	}
	t.Logf("a change without a majority: %v", err)

	done := make(chan error, 1)
	go func() {
		done <- cluster[1].Stage(context.Background(), tanodb.Change{Kind: tanodb.ChangeSet, Node: "n5", Zone: "z"})
	}()
	network.Heal()
	if err := <-done; err != nil {
		t.Errorf("a change that waited for the majority: %v", err)
	}
	tanodb.WaitUp(t, cluster...)
	for _, n := range cluster {
		if _, err := n.Get(t.Context(), k, kv.ReadOptions{R: kv.All}); err != nil {
			eventually(t, "what fallbacks took has been handed over", func() bool {
				_, err := n.Get(t.Context(), k, kv.ReadOptions{R: kv.All})
				return err == nil
			}, func() string { return err.Error() })
		}
	}
}

func TestRecoverFromSurvivors(t *testing.T) {
	t.Parallel()
	cluster, network := tanodb.NewTestCluster(t, 5, tanodb.Options{})
	eventually(t, "there are five voters, and one leads", func() bool {
		c := cluster[0].Cluster()
		return len(c.Voters) == 5 && c.Leader != "" && c.Waits == ""
	}, func() string {
		return fmt.Sprintf("%+v", cluster[0].Cluster())
	})
	var refused *tanodb.ClusterError
	if err := cluster[0].ClusterRecover(t.Context(), []string{"n1"}); !errors.As(err, &refused) || refused.Code != "not_lost" {
		t.Errorf("a recovery while the majority is up: %v", err)
	}
	survivors, lost := cluster[:2], cluster[2:]
	split(network, survivors, lost)
	for _, n := range lost {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the lost ones are missed", func() bool {
		return strings.HasPrefix(cluster[0].Cluster().Waits, "no leader") && !cluster[0].Cluster().Members[4].Up
	}, func() string {
		return fmt.Sprintf("%+v", cluster[0].Cluster())
	})
	if err := cluster[0].ClusterRecover(t.Context(), []string{"n1", "n5"}); err == nil {
		t.Error("a survivor that is dead was accepted")
	}
	if err := cluster[0].ClusterRecover(t.Context(), []string{"n1", "n2"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n2 knows of the recovery", func() bool { return cluster[1].Cluster().Epoch > 1<<20 }, func() string {
		return fmt.Sprintf("%+v", cluster[1].Cluster())
	})
	for _, dead := range []string{"n3", "n4", "n5"} {
		if err := cluster[1].Stage(t.Context(), tanodb.Change{Kind: tanodb.ChangeForceRemove, Node: dead}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := cluster[1].ClusterPlan(t.Context())
	if err == nil {
		err = cluster[1].ClusterCommit(t.Context(), p.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	settled(t, survivors...)
	if got := owned(cluster[0]); len(got) != 2 {
		t.Errorf("the ring after the recovery: %v", got)
	}
	if _, err := cluster[0].Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{}, kv.WriteOptions{}); err != nil {
		t.Error(err)
	}
}

// TestARestartedNodeMayMove restarts a node with another address: it keeps what
// it is and what it has, and the others find it.
func TestARestartedNodeMayMove(t *testing.T) {
	var members []tanodb.Member
	for i := range 3 {
		members = append(members, tanodb.Member{Name: fmt.Sprintf("n%d", i+1), Address: freeAddress(t)})
	}
	open := func(dir string, i int, listen string) *tanodb.Node {
		n, err := tanodb.Open(dir, tanodb.Options{Name: members[i].Name, Listen: listen, Advertise: listen, Bootstrap: members})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n
	}
	var cluster []*tanodb.Node
	dirs := make([]string, 3)
	for i := range members {
		dirs[i] = t.TempDir()
		cluster = append(cluster, open(dirs[i], i, members[i].Address))
	}
	tanodb.WaitUp(t, cluster...)
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	id := cluster[2].Status().NodeID
	if err := cluster[2].Close(); err != nil {
		t.Fatal(err)
	}
	moved := freeAddress(t)
	cluster[2] = open(dirs[2], 2, moved)
	tanodb.WaitUp(t, cluster...)
	if got := cluster[2].Status().NodeID; got != id {
		t.Errorf("the node's id is %s; it was %s", got, id)
	}
	for _, n := range cluster {
		eventually(t, n.Name()+" knows the new address", func() bool { return n.Cluster().Members[2].Address == moved }, func() string {
			return fmt.Sprintf("%+v", n.Cluster().Members)
		})
	}
	if _, err := cluster[0].Get(t.Context(), k, kv.ReadOptions{R: kv.All}); err != nil {
		t.Error(err)
	}
	// The others start anew, and know where it is.
	if err := cluster[0].Close(); err != nil {
		t.Fatal(err)
	}
	cluster[0] = open(dirs[0], 0, members[0].Address)
	tanodb.WaitUp(t, cluster...)
}

// TestANodeDoesNotJoinItself: by whatever address it is told to, it refuses, and
// goes on.
func TestANodeDoesNotJoinItself(t *testing.T) {
	address := freeAddress(t)
	n, err := tanodb.Open(t.TempDir(), tanodb.Options{Name: "n1", Listen: address})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{address, "localhost:" + port} {
		var refused *tanodb.ClusterError
		if err := n.Join(t.Context(), own, tanodb.JoinOptions{}); !errors.As(err, &refused) || refused.Code != "self_join" {
			t.Errorf("a node joins itself at %s: %v", own, err)
		}
	}
	if _, err := n.Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{}, kv.WriteOptions{}); err != nil {
		t.Errorf("a write after that: %v", err)
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := testports.Root.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestScenario16RingSizeIsFixed: a ring never changes its size under data. A
// node that asks for another one is refused, by the directory and by the
// cluster, and changes nothing.
func TestScenario16RingSizeIsFixed(t *testing.T) {
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	for _, o := range []tanodb.Options{{Partitions: 128}, {Replicas: 2}} {
		o.Name, o.Network, o.Storage, o.Join = "n4", network, tanodb.MemoryStorage(), []string{"n1"}
		n, err := tanodb.Open("", o)
		if err == nil {
			n.Close()
			t.Fatalf("a node with %d partitions and %d replicas has joined", o.Partitions, o.Replicas)
		}
		var ce *tanodb.ClusterError
		if !errors.As(err, &ce) || ce.Code != "different_ring_sizes" && ce.Code != "different_replicas" {
			t.Errorf("a node with %d partitions and %d replicas: %v", o.Partitions, o.Replicas, err)
		}
	}
	if c := cluster[0].Cluster(); len(c.Members) != 3 || len(c.Staged) != 0 {
		t.Errorf("the refused node has changed the cluster: %+v, staged %v", c.Members, c.Staged)
	}
}

// TestScenario17CoverageDuringHandoff lists the keys of a bucket all the while
// partitions move: each list is complete and has each key once.
func TestScenario17CoverageDuringHandoff(t *testing.T) {
	t.Parallel()
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	var want []string
	for i := range 500 {
		key := fmt.Sprintf("k%04d", i)
		if _, err := cluster[i%3].Put(t.Context(), kv.Key{Bucket: "b", Name: key}, kv.Value{Data: []byte(key)}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
	}
	list := func(n *tanodb.Node) (keys []string) {
		token := ""
		for {
			page, err := n.Keys(t.Context(), kv.Bucket{Name: "b"}, kv.ListOptions{Limit: 100, Token: token})
			if err != nil {
				t.Errorf("listing at %s: %v", n.Name(), err)
				return nil
			}
			keys = append(keys, page.Keys...)
			if token = page.Next; token == "" {
				slices.Sort(keys)
				return keys
			}
		}
	}
	n4 := join(t, network, "n4", "n1")
	tanodb.WaitUp(t, n4) // before that it knows nobody to ask, and says so
	all := append(slices.Clone(cluster), n4)
	lists, moving := 0, 0
	for atRest := false; !atRest; lists++ {
		c := cluster[0].Cluster()
		atRest = c.Ready && len(c.Members) == 4 && c.Members[3].Partitions > 0
		if len(c.Transfers) > 0 {
			moving++
		}
		if got := list(all[lists%len(all)]); !slices.Equal(got, want) {
			t.Fatalf("list %d, at %s, has %d keys; want %d", lists, all[lists%len(all)].Name(), len(got), len(want))
		}
	}
	t.Logf("%d lists, %d of them while partitions moved", lists, moving)
	if moving == 0 {
		t.Error("no list was taken while partitions moved")
	}
}

// TestScenario29BlackHoledPeer takes a node away so that nothing refuses what is
// sent to it. Requests go on, the ring can change once the operator has said that it is
// down, and it takes part again when it is back.
func TestScenario29BlackHoledPeer(t *testing.T) {
	t.Parallel()
	cluster, network := tanodb.NewTestCluster(t, 4, tanodb.Options{})
	away, rest := cluster[3], cluster[:3]
	if err := away.SetBucketProps(t.Context(), kv.Bucket{Name: "b"}, kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
	for _, n := range rest {
		network.CutOneWay(n.Name(), away.Name())
		network.CutOneWay(away.Name(), n.Name())
	}
	begun := time.Now()
	for i := range 30 {
		k := kv.Key{Bucket: "b", Name: fmt.Sprint(i)}
		if _, err := rest[i%3].Put(t.Context(), k, kv.Value{Data: []byte("v")}, kv.WriteOptions{}); err != nil {
			t.Errorf("a put while %s is silent: %v", away.Name(), err)
		}
		if _, err := rest[(i+1)%3].Get(t.Context(), k, kv.ReadOptions{}); err != nil {
			t.Errorf("a get while %s is silent: %v", away.Name(), err)
		}
	}
	if took := time.Since(begun); took > kv.DefaultTimeout/2 {
		t.Errorf("60 requests took %v: they have waited for the silent node", took)
	}
	for _, n := range rest {
		eventually(t, n.Name()+" misses "+away.Name(), func() bool { return !n.Cluster().Members[3].Up }, func() string { return "" })
	}
	if err := rest[0].ClusterDown(t.Context(), away.Name()); err != nil {
		t.Fatal(err)
	}
	n5 := join(t, network, "n5", "n1")
	holds(t, rest[0], "n5")
	network.Heal()
	settled(t, append(slices.Clone(rest), n5, away)...)
	if m := rest[0].Cluster().Members[3]; m.Status != "valid" || m.Partitions == 0 {
		t.Errorf("after it is back %s is %+v", away.Name(), m)
	}
	if got := owned(rest[0]); got["n5"] < 12 || got["n5"] > 13 {
		t.Errorf("the ring is %v", got)
	}
}

// TestARemovedNodeIsToldSo removes a node by force that is only cut off. When it is back,
// it learns that it is no member, serves nobody, and does not say that its data is elsewhere.
func TestARemovedNodeIsToldSo(t *testing.T) {
	t.Parallel()
	cluster, network := tanodb.NewTestCluster(t, 4, tanodb.Options{})
	away, rest := cluster[3], cluster[:3]
	split(network, rest, []*tanodb.Node{away})
	eventually(t, "n4 is missed", func() bool { return !rest[0].Cluster().Members[3].Up }, func() string { return "" })
	apply(t, rest[0], tanodb.Change{Kind: tanodb.ChangeForceRemove, Node: "n4"})
	settled(t, rest...)
	network.Heal()
	eventually(t, "n4 knows", func() bool {
		select {
		case <-away.Failed():
			return true
		default:
			return false
		}
	}, func() string { return fmt.Sprintf("%+v", away.Cluster()) })
	if _, err := away.Get(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{}); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("a read from a node that was removed: %v", err)
	}
	if err := away.Close(); !errors.Is(err, tanodb.ErrRemoved) || errors.Is(err, tanodb.ErrLeft) {
		t.Errorf("closing a node that was removed: %v", err)
	}
}

// TestAPlanWarnsOfWhoIsUp: what a node that is down is to get has to wait, and
// what one that is up has is not to be lost by force.
func TestAPlanWarnsOfWhoIsUp(t *testing.T) {
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	n4, err := tanodb.Open("", tanodb.Options{Name: "n4", Network: network, Storage: tanodb.MemoryStorage(), Join: []string{"n1"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the joining is staged", func() bool { return len(cluster[0].Cluster().Staged) == 1 }, func() string {
		return fmt.Sprintf("%+v", cluster[0].Cluster())
	})
	if err := n4.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cluster[0].Stage(t.Context(), tanodb.Change{Kind: tanodb.ChangeForceRemove, Node: "n2"}); err != nil {
		t.Fatal(err)
	}
	warned := func() string {
		p, err := cluster[0].ClusterPlan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(p.Warnings, "\n")
	}
	eventually(t, "the plan says who is up and who is not", func() bool {
		return strings.Contains(warned(), "n4 is down: what it is to get waits until it is up") &&
			strings.Contains(warned(), "n2 is up: by force, what only it has is lost")
	}, warned)
}

package tanodb_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// TestTutorial is the session of the tutorial, on a single node.
func TestTutorial(t *testing.T) {
	node, err := tanodb.Open(t.TempDir(), tanodb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	ctx := context.Background()
	k := kv.Key{Bucket: "mybucket", Name: "k1"}
	want := []string{
		"228359630832953580969325755111919221821239459840",
		"251195593916248939066258330623111144003363405824",
		"274031556999544297163190906134303066185487351808",
	}
	holders := func() (all []string) {
		census, err := node.ReplicaKeys(ctx, kv.Bucket{Name: "mybucket"}, kv.ListOptions{})
		if err != nil || len(census) != 64 {
			t.Fatalf("%d vnodes answered, error %v; want 64", len(census), err)
		}
		for _, c := range census {
			if len(c.Keys) > 0 {
				all = append(all, c.Partition.String())
			}
		}
		return all
	}
	linger := kv.WriteOptions{Linger: time.Second}
	check := func(what string, r kv.Receipt, result kv.Result) {
		t.Helper()
		if len(r.Replies) != 3 {
			t.Fatalf("%s: %d replies; want 3", what, len(r.Replies))
		}
		for i, reply := range r.Replies {
			if reply.Partition.String() != want[i] || reply.Result != result {
				t.Errorf("%s: reply %d is %v %s; want %s %s", what, i, reply.Partition, reply.Result, want[i], result)
			}
		}
	}
	if h := holders(); h != nil {
		t.Errorf("before the put, %v hold keys", h)
	}
	r, err := node.Put(ctx, k, kv.Value{Data: []byte("42")}, linger)
	if err != nil {
		t.Fatal(err)
	}
	check("put", r, kv.OK)
	if h := holders(); fmt.Sprint(h) != fmt.Sprint(want) {
		t.Errorf("after the put, %v hold keys; want %v", h, want)
	}
	obj, err := node.Get(ctx, k, kv.ReadOptions{})
	if err != nil || len(obj.Values) != 1 || string(obj.Values[0].Data) != "42" {
		t.Errorf("get: %+v, %v", obj, err)
	}
	page, err := node.Keys(ctx, kv.Bucket{Name: "mybucket"}, kv.ListOptions{})
	if err != nil || fmt.Sprint(page.Keys) != "[k1]" || page.Next != "" {
		t.Errorf("keys: %+v, %v", page, err)
	}
	r, err = node.Delete(ctx, k, linger)
	if err != nil {
		t.Fatal(err)
	}
	check("delete", r, kv.Found)
	r, err = node.Delete(ctx, k, linger)
	if !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("second delete: %v; want not found", err)
	}
	check("second delete", r, kv.NotFound)
	if h := holders(); h != nil {
		t.Errorf("after the delete, %v hold keys", h)
	}
}

func TestStoreSingleNode(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.Test(t, func(t *testing.T) kv.Store {
		node, err := tanodb.Open(t.TempDir(), tanodb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		kvtest.Prepare(t, node)
		return node
	}, kvtest.Options{})
}

func TestStoreMemoryCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("TestStoreTCPCluster takes the same paths, and more")
	}
	t.Parallel() // it waits for elections most of the time
	kvtest.Test(t, func(t *testing.T) kv.Store {
		cluster, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{})
		kvtest.Prepare(t, cluster[0])
		return cluster[1]
	}, kvtest.Options{Nodes: 3, Parallel: true})
}

// TestStoreForwarding asks a node that holds few of the keys, so that most
// writes are forwarded.
func TestStoreForwarding(t *testing.T) {
	if testing.Short() {
		t.Skip("TestStoreTCPCluster takes the same paths, and more")
	}
	t.Parallel() // it waits for elections most of the time
	kvtest.Test(t, func(t *testing.T) kv.Store {
		cluster, _ := tanodb.NewTestCluster(t, 7, tanodb.Options{})
		kvtest.Prepare(t, cluster[3])
		return cluster[6]
	}, kvtest.Options{Nodes: 3, Parallel: true})
}

func TestStoreTCPCluster(t *testing.T) {
	t.Parallel() // it waits for elections most of the time
	kvtest.Test(t, func(t *testing.T) kv.Store {
		cluster := openTCP(t, 3)
		kvtest.Prepare(t, cluster[1])
		return cluster[0]
	}, kvtest.Options{Nodes: 3, Parallel: true})
}

// TestLargeAnswersWaitForRoom reads more at once than a connection lets wait to be sent. That must
// not end the connection: all that is on it would be lost, and its node held to be down.
func TestLargeAnswersWaitForRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes hundreds of megabytes")
	}
	cluster := openTCP(t, 3)
	k := kv.Key{Bucket: "large", Name: "k"}
	if _, err := cluster[1].Put(t.Context(), k, kv.Value{Data: make([]byte, 2<<20)}, kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	for range 60 { // 120 MiB from each of the others, of 64 that may wait
		reading.Go(func() {
			if _, err := cluster[0].Get(t.Context(), k, kv.ReadOptions{R: kv.All, Timeout: patience}); err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
}

// openTCP opens a cluster on loopback, with files.
func openTCP(t testing.TB, nodes int) []*tanodb.Node {
	t.Helper()
	var members []tanodb.Member
	for i := range nodes {
		members = append(members, tanodb.Member{Name: fmt.Sprintf("n%d", i+1), Address: freeAddress(t)})
	}
	cluster := make([]*tanodb.Node, nodes)
	for i, m := range members {
		n, err := tanodb.Open(t.TempDir(), tanodb.Options{Name: m.Name, Listen: m.Address, Bootstrap: members})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		cluster[i] = n
	}
	tanodb.WaitUp(t, cluster...)
	return cluster
}

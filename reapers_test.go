package tanodb_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// TestTombstonesAreReaped deletes keys on a cluster, and sees their tombstones go, from all
// nodes, when they are old enough. What was written again since stays.
func TestTombstonesAreReaped(t *testing.T) {
	t.Parallel()
	cluster, _ := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	if err := cluster[1].SetDeletes(t.Context(), "", time.Second); err != nil {
		t.Fatal(err)
	}
	key := func(i int) kv.Key { return kv.Key{Bucket: "b", Name: fmt.Sprintf("k%d", i)} }
	for i := range 60 {
		if _, err := cluster[i%3].Put(t.Context(), key(i), kv.Value{Data: []byte("x")}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster[(i+1)%3].Delete(t.Context(), key(i), kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		if _, err := cluster[0].Put(t.Context(), key(i), kv.Value{Data: []byte("again")}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	tombstones := func() (n int) {
		for i := range 60 {
			o, err := cluster[i%3].Get(t.Context(), key(i), kv.ReadOptions{R: kv.All, Tombstones: true})
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				t.Fatal(err)
			}
			if i < 10 && len(o.Values) == 0 {
				t.Fatalf("%v is gone", key(i))
			}
			if i >= 10 {
				n += len(o.Values)
			}
		}
		return n
	}
	eventually(t, "no tombstone is left", func() bool { return tombstones() == 0 }, func() string {
		return fmt.Sprintf("%+v %+v %+v", cluster[0].Status().Tombstones, cluster[1].Status().Tombstones, cluster[2].Status().Tombstones)
	})
	reaped := int64(0)
	for _, n := range cluster {
		reaped += n.Status().Tombstones.Reaped
	}
	if reaped < 50 {
		t.Errorf("%d tombstones were reaped", reaped)
	}
}

// TestTombstonesAreKept does as it is told.
func TestTombstonesAreKept(t *testing.T) {
	cluster, _ := tanodb.NewTestCluster(t, 1, tanodb.Options{})
	n := cluster[0]
	if err := n.SetDeletes(t.Context(), "bury", 0); err == nil {
		t.Error("a mode that there is not is accepted")
	}
	if err := n.SetDeletes(t.Context(), "", time.Millisecond); err == nil {
		t.Error("a grace of a millisecond is accepted")
	}
	if err := n.SetDeletes(t.Context(), "keep", time.Second); err != nil {
		t.Fatal(err)
	}
	s := n.Status().Tombstones
	if s.Mode != "keep" || s.Grace != time.Second {
		t.Errorf("%+v", s)
	}
	eventually(t, "it says why nothing is reaped", func() bool { return n.Status().Tombstones.Waits != "" }, func() string { return fmt.Sprintf("%+v", n.Status().Tombstones) })
}

// TestADiskFromBeforeAReapingIsRebuilt puts a copy of a node's directory in its place that
// has values whose tombstones are gone everywhere, when nobody is left who remembers that
// the node was further: what the topology knows of the reaping is enough.
func TestADiskFromBeforeAReapingIsRebuilt(t *testing.T) {
	t.Parallel()
	cluster, dirs, open := onDisks(t)
	key := func(i int) kv.Key { return kv.Key{Bucket: "b", Name: fmt.Sprintf("k%d", i)} }
	for i := range 40 {
		if _, err := cluster[0].Put(t.Context(), key(i), kv.Value{Data: []byte("x")}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	backup := backedUp(t, cluster, dirs, open)
	if err := cluster[0].SetDeletes(t.Context(), "", time.Second); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := cluster[0].Delete(t.Context(), key(i), kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all tombstones are gone", func() bool {
		for i := range 20 {
			if o, _ := cluster[0].Get(t.Context(), key(i), kv.ReadOptions{R: kv.All, Tombstones: true}); len(o.Context) > 0 {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("%+v", cluster[0].Status().Tombstones) })

	for _, n := range cluster {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dirs[2] = restored(t, backup)
	for i := range cluster {
		open(i)
	}
	tanodb.WaitUp(t, cluster...)
	eventually(t, "n3 is rebuilt", func() bool {
		c := cluster[2].Cluster()
		return noted(t, cluster[2], "outdated_erased") > 0 && c.Ready && c.Waits == "" && len(c.Transfers) == 0
	}, func() string { return fmt.Sprintf("%+v", cluster[2].Cluster()) })
	for i := range 40 {
		for _, n := range cluster {
			o, err := n.Get(t.Context(), key(i), kv.ReadOptions{R: kv.All})
			if deleted := i < 20; deleted != errors.Is(err, kv.ErrNotFound) || deleted != (len(o.Values) == 0) {
				t.Errorf("%v by %s: %v, %v", key(i), n.Name(), o.Values, err)
			}
		}
	}
}

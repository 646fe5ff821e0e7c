package tanodb_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// TestARestoredDiskIsMadeSafe puts an older copy of a node's directory in its place,
// as from a backup. The others have heard it show a newer epoch: it takes no part in the
// topology under its old number, its vnodes are rebuilt, and reads that ask every
// replica find what it has lost.
func TestARestoredDiskIsMadeSafe(t *testing.T) {
	t.Parallel()
	cluster, dirs, open := onDisks(t)
	put := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			k := kv.Key{Bucket: "b", Name: fmt.Sprintf("k%d", i)}
			if _, err := cluster[0].Put(t.Context(), k, kv.Value{Data: []byte(k.Name)}, kv.WriteOptions{W: kv.All}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 50)
	backup := backedUp(t, cluster, dirs, open)
	put(50, 100)
	if err := cluster[1].SetTransferLimits(t.Context(), 3, -1); err != nil {
		t.Fatal(err)
	}
	epoch := cluster[1].Cluster().Epoch
	eventually(t, "all know the limit", func() bool {
		return cluster[0].Cluster().Members[2].Epoch >= epoch && cluster[1].Cluster().Members[2].Epoch >= epoch
	}, func() string { return fmt.Sprintf("%+v", cluster[0].Cluster().Members) })

	if err := cluster[2].Close(); err != nil {
		t.Fatal(err)
	}
	dirs[2] = restored(t, backup)
	open(2)
	eventually(t, "n3 votes again, and nothing moves", func() bool {
		c := cluster[2].Cluster()
		return c.Ready && len(c.Transfers) == 0 && len(c.Voters) == 3 && c.Waits == "" && c.Epoch > epoch
	}, func() string { return fmt.Sprintf("%+v", cluster[2].Cluster()) })
	if times := noted(t, cluster[2], "outdated_disk"); times != 1 {
		t.Errorf("an outdated disk is noted %v times", times)
	}
	for i := range 100 {
		k := kv.Key{Bucket: "b", Name: fmt.Sprintf("k%d", i)}
		o, err := cluster[2].Get(t.Context(), k, kv.ReadOptions{R: kv.All})
		if err != nil || len(o.Values) != 1 {
			t.Errorf("%s: %v, %v", k.Name, o.Values, err)
		}
		for _, r := range o.Replies {
			if r.Result != kv.Found {
				t.Errorf("%s: %+v", k.Name, r)
			}
		}
	}
	// A majority of n1 and n3 agrees on changes.
	if err := cluster[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := cluster[2].SetTransferLimits(t.Context(), 4, -1); err != nil {
		t.Error(err)
	}
}

// noted is how often a node has noted something of a kind.
func noted(t *testing.T, n *tanodb.Node, kind string) (times float64) {
	t.Helper()
	families, err := n.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "tanodb_notes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == kind {
				times += m.GetCounter().GetValue()
			}
		}
	}
	return times
}

// TestWhatWasWrittenToAnOlderDiskStays puts a copy of a node's directory in its place that is from
// before a reaping, and begins it where it reaches nobody. What it acknowledges then, in this
// life and in the next, is on all nodes when they have met; what was reaped is on none.
func TestWhatWasWrittenToAnOlderDiskStays(t *testing.T) {
	t.Parallel()
	cluster, dirs, open := onDisks(t)
	key := func(i int) kv.Key { return kv.Key{Bucket: "b", Name: fmt.Sprintf("k%d", i)} }
	const keys, deleted = 40, 20
	for i := range keys {
		if _, err := cluster[0].Put(t.Context(), key(i), kv.Value{Data: []byte("old")}, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	backup := backedUp(t, cluster, dirs, open)
	if err := cluster[0].SetDeletes(t.Context(), "", time.Second); err != nil {
		t.Fatal(err)
	}
	for i := range deleted {
		if _, err := cluster[0].Delete(t.Context(), key(i), kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all tombstones are gone", func() bool {
		for i := range deleted {
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
	want := func(i int) string {
		switch {
		case i%4 < 2:
			return "new"
		case i < deleted:
			return ""
		}
		return "old"
	}
	for life := range 2 {
		open(2)
		for i := range keys {
			if i%4 != life {
				continue
			}
			eventually(t, "it is written", func() bool {
				_, err := cluster[2].Put(t.Context(), key(i), kv.Value{Data: []byte("new")}, kv.WriteOptions{W: 1})
				return err == nil
			}, func() string { return fmt.Sprintf("%+v", cluster[2].Cluster()) })
		}
		if life == 0 {
			if err := cluster[2].Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	open(0)
	open(1)
	tanodb.WaitUp(t, cluster...)
	eventually(t, "n3 is rebuilt", func() bool {
		c := cluster[2].Cluster()
		return noted(t, cluster[2], "outdated_erased") > 0 && c.Ready && c.Waits == "" && len(c.Transfers) == 0
	}, func() string { return fmt.Sprintf("%+v", cluster[2].Cluster()) })
	for i := range keys {
		for _, n := range cluster {
			o, err := n.Get(t.Context(), key(i), kv.ReadOptions{R: kv.All})
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				t.Fatal(err)
			}
			got := ""
			for _, v := range o.Values {
				got += string(v.Data)
			}
			if got != want(i) {
				t.Errorf("%v by %s: %q, want %q", key(i), n.Name(), got, want(i))
			}
		}
	}
}

// onDisks are three nodes on disks, in a cluster, which are closed at the end; open begins the one of a number anew in its directory.
func onDisks(t *testing.T) (cluster []*tanodb.Node, dirs []string, open func(i int)) {
	t.Helper()
	members := make([]tanodb.Member, 3)
	for i := range members {
		members[i] = tanodb.Member{Name: fmt.Sprintf("n%d", i+1), Address: freeAddress(t)}
	}
	dirs, cluster = make([]string, len(members)), make([]*tanodb.Node, len(members))
	open = func(i int) {
		n, err := tanodb.Open(dirs[i], tanodb.Options{Name: members[i].Name, Listen: members[i].Address, Bootstrap: members})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		cluster[i] = n
	}
	for i := range members {
		dirs[i] = t.TempDir()
		open(i)
	}
	tanodb.WaitUp(t, cluster...)
	return cluster, dirs, open
}

// backedUp is a copy of the directory of the third node, which is closed for that.
func backedUp(t *testing.T, cluster []*tanodb.Node, dirs []string, open func(i int)) string {
	t.Helper()
	if err := cluster[2].Close(); err != nil {
		t.Fatal(err)
	}
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(dirs[2])); err != nil {
		t.Fatal(err)
	}
	open(2)
	tanodb.WaitUp(t, cluster...)
	return backup
}

// restored is a directory with what is in the backup.
func restored(t *testing.T, backup string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	return dir
}

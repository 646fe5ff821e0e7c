package tanodb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// TestARestoredDiskIsMadeSafe puts an older copy of a node's directory in its place,
// as from a backup. The others have heard it show a newer epoch: it takes no part in the
// topology under its old number, its vnodes are rebuilt, and reads that ask every
// replica find what it has lost.
func TestARestoredDiskIsMadeSafe(t *testing.T) {
	t.Parallel()
	members := make([]tanodb.Member, 3)
	for i := range members {
		members[i] = tanodb.Member{Name: fmt.Sprintf("n%d", i+1), Address: freeAddress(t)}
	}
	dirs := make([]string, len(members))
	cluster := make([]*tanodb.Node, len(members))
	open := func(i int) {
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
	if err := cluster[2].Close(); err != nil {
		t.Fatal(err)
	}
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(dirs[2])); err != nil {
		t.Fatal(err)
	}
	open(2)
	tanodb.WaitUp(t, cluster...)
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
	dirs[2] = filepath.Join(t.TempDir(), "restored")
	if err := os.CopyFS(dirs[2], os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
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

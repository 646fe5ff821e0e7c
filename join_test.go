package tanodb

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/kv"
)

// openOn opens a node with a directory on a memory network.
func openOn(t *testing.T, network *MemoryNetwork, dir, name string, o Options) *Node {
	t.Helper()
	o.Name, o.Network = name, network
	return open(t, dir, o)
}

func TestJoiningTakesNothingAlong(t *testing.T) {
	network := NewMemoryNetwork()
	n1 := openOn(t, network, t.TempDir(), "n1", Options{})
	dir := t.TempDir()
	n2 := openOn(t, network, dir, "n2", Options{})
	write(t, n2, "k", "mine")
	var ce *ClusterError
	if err := n2.Join(t.Context(), "n1", JoinOptions{}); !errors.As(err, &ce) || ce.Code != "not_empty" {
		t.Errorf("a node with data joins: %v", err)
	}
	if err := n2.Join(t.Context(), "nowhere", JoinOptions{}); err == nil {
		t.Error("a node joins nobody")
	}
	write(t, n2, "l", "still writes")
	if c := n1.Cluster(); len(c.Members) != 1 {
		t.Errorf("the refused node has become a member: %+v", c.Members)
	}
}

// TestAJoinThatFailsLeavesTheEndAlone: a node that sets out to join takes no requests, and takes them
// again if nothing comes of it, unless it has failed or was closed meanwhile.
func TestAJoinThatFailsLeavesTheEndAlone(t *testing.T) {
	network := NewMemoryNetwork()
	openOn(t, network, t.TempDir(), "n1", Options{})
	n2 := openOn(t, network, t.TempDir(), "n2", Options{})
	begun := make(chan struct{})
	asked, gone := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		n2.run(asked, &faulty{func(coordinator.Event) []coordinator.Effect { close(begun); return nil }}, nil)
	})
	<-begun
	for _, broken := range []error{nil, errors.New("the disk is broken")} {
		ctx, cancel := context.WithCancel(t.Context())
		joined := make(chan error)
		go func() { joined <- n2.Join(ctx, "n1", JoinOptions{}) }()
		waitFor(t, "the node takes no requests", n2.refuses)
		if broken != nil {
			n2.fail(broken)
		}
		cancel() // before the one request has ended
		if err := <-joined; err == nil {
			t.Fatal("it has joined")
		}
		if got := n2.refuses(); got != (broken != nil) {
			t.Errorf("after %v the node refuses requests: %t", broken, got)
		}
	}
	gone()
	asking.Wait()
}

func TestANodeThatWasAloneJoins(t *testing.T) {
	t.Parallel()
	network := NewMemoryNetwork()
	n1 := openOn(t, network, t.TempDir(), "n1", Options{})
	write(t, n1, "k", "v")
	dir := t.TempDir()
	n2 := openOn(t, network, dir, "n2", Options{})
	id, alone := n2.home.id, n2.Status().Cluster
	if err := n2.Join(t.Context(), "n1", JoinOptions{Auto: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n2.Reopen():
	default:
		t.Error("the node does not ask to be opened again")
	}
	if _, err := n2.Put(t.Context(), kv.Key{Bucket: "b", Name: "lost"}, kv.Value{}, kv.WriteOptions{}); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("a write that would be lost is accepted: %v", err)
	}
	join, err := os.ReadFile(filepath.Join(dir, joinFile))
	if err != nil {
		t.Fatal(err)
	}
	shut(t, n2)
	n2 = openOn(t, network, dir, "n2", Options{})
	if s := n2.Status(); s.NodeID != id || s.Cluster == alone || s.Cluster != n1.Status().Cluster {
		t.Errorf("the node is %s of cluster %s; it was %s of %s", s.NodeID, s.Cluster, id, alone)
	}
	WaitUp(t, n1, n2)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	joined := func() bool { c := n2.Cluster(); return c.Ready && c.Members[1].Partitions > 0 }
	for end := time.After(time.Minute); !joined(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("the node gets nothing: %+v", n2.Cluster())
		}
	}
	if _, err := n2.Get(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{}); err != nil {
		t.Error(err)
	}
	shut(t, n2)

	// A JOIN file that comes back from a backup is one of the past.
	if err := os.WriteFile(filepath.Join(dir, joinFile), join, 0o600); err != nil {
		t.Fatal(err)
	}
	n2 = openOn(t, network, dir, "n2", Options{})
	if _, err := os.Stat(filepath.Join(dir, joinFile)); !os.IsNotExist(err) {
		t.Errorf("the old JOIN file is still there: %v", err)
	}
	if held, err := n2.holdsNothing(); err != nil || held {
		t.Errorf("the node has given up what it held (%v)", err)
	}
}

// TestACrashWhileAClusterIsGivenUp: a node that joins others removes the engine of the cluster that
// it was alone in. Whatever of it is left by a crash, the next start goes on.
func TestACrashWhileAClusterIsGivenUp(t *testing.T) {
	network := NewMemoryNetwork()
	n1 := openOn(t, network, t.TempDir(), "n1", Options{})
	for name, left := range map[string]func(engine string) error{
		"all":     func(string) error { return nil },
		"a part":  func(engine string) error { return os.Remove(filepath.Join(engine, "FORMAT")) },
		"nothing": os.RemoveAll,
	} {
		dir := t.TempDir()
		n2 := openOn(t, network, dir, "n2", Options{})
		if err := n2.Join(t.Context(), "n1", JoinOptions{}); err != nil {
			t.Fatal(err)
		}
		shut(t, n2)
		h := &home{dir: dir, name: n2.home.name, id: n2.home.id}
		if err := h.keep(noCluster, "0", "0", "no"); err != nil {
			t.Fatal(err)
		}
		if err := left(h.engineDir()); err != nil {
			t.Fatal(err)
		}
		again, err := Open(dir, Options{Name: "n2", Network: network})
		if err != nil {
			t.Errorf("%s of the engine is left: %v", name, err)
		} else {
			if got := again.Status().Cluster; got != n1.Status().Cluster {
				t.Errorf("%s of the engine is left: the node is of cluster %s", name, got)
			}
			shut(t, again)
		}
		if err := n1.ClusterClear(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestADirectoryOfAnotherClusterSaysThatItStays: a node that is told to join, but
// whose directory is of a cluster already, does not let that pass in silence.
func TestADirectoryOfAnotherClusterSaysThatItStays(t *testing.T) {
	network := NewMemoryNetwork()
	openOn(t, network, t.TempDir(), "n1", Options{})
	dir := t.TempDir()
	n2 := openOn(t, network, dir, "n2", Options{})
	alone := n2.Status().Cluster
	shut(t, n2)
	said := make(lines, 100)
	openOn(t, network, dir, "n2", Options{Join: []string{"n1"}, AutoJoin: true, Logger: slog.New(slog.NewTextHandler(said, nil))})
	for end := time.After(time.Minute); ; {
		select {
		case line := <-said:
			if !strings.Contains(line, "the node stays where it is") {
				continue
			}
			if !strings.Contains(line, "cluster="+alone) || !strings.Contains(line, "at=n1") {
				t.Errorf("it does not say which: %s", line)
			}
			return
		case <-end:
			t.Fatal("nothing was said")
		}
	}
}

// lines are what was logged; what is too much is left out.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

func TestParseJoin(t *testing.T) {
	good := joinHeader + "\ncluster 00\naddress n1:1\nauto true\n"
	if j, cluster, err := parseJoin([]byte(good)); err != nil || cluster != "00" || len(j.addresses) != 1 || !j.options.Auto {
		t.Errorf("%+v, %q, %v", j, cluster, err)
	}
	for _, bad := range []string{"", "tanodb-join 2\n", joinHeader + "\n", strings.Replace(good, "address", "adress", 1), strings.Replace(good, "cluster", "clusters", 1)} {
		if _, _, err := parseJoin([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

package tanodb

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// olderProtocol is what a node of the version before users speaks.
const olderProtocol = securityProtocol - 1

// mixedCluster is n1 and n2 of this version and n3 of an earlier one, each on a directory.
func mixedCluster(t *testing.T) (nodes []*Node, network *MemoryNetwork, dirs []string, o Options) {
	t.Helper()
	network = NewMemoryNetwork()
	network.SpeakAtMost("n3", olderProtocol)
	o = Options{Partitions: 8, Bootstrap: []Member{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}}
	for _, m := range o.Bootstrap {
		dirs = append(dirs, t.TempDir())
		nodes = append(nodes, openOn(t, network, dirs[len(dirs)-1], m.Name, o))
	}
	WaitUp(t, nodes...)
	return nodes, network, dirs, o
}

// Nodes of two versions are one cluster: each writes what the others read, and the topology
// changes. What the older one cannot read is refused for all, with its name, and nothing of it
// gets into the topology. When it has the new version it is done.
func TestMixedVersions(t *testing.T) {
	nodes, network, dirs, o := mixedCluster(t)
	all := kv.All
	for _, writer := range nodes {
		k := kv.Key{Bucket: "b", Name: writer.Name()}
		if _, err := writer.Put(t.Context(), k, kv.Value{Data: []byte("by " + writer.Name())}, kv.WriteOptions{W: all}); err != nil {
			t.Fatalf("%s writes: %v", writer.Name(), err)
		}
		for _, reader := range nodes {
			got, err := reader.Get(t.Context(), k, kv.ReadOptions{R: all})
			if err != nil || len(got.Values) != 1 || string(got.Values[0].Data) != "by "+writer.Name() {
				t.Errorf("%s reads %+v, %v of %s", reader.Name(), got.Values, err, writer.Name())
			}
		}
	}
	if err := nodes[2].CreateBucketType(t.Context(), "t", kv.Properties{}); err != nil {
		t.Errorf("the older node changes the topology: %v", err)
	}
	user := SecurityChange{Do: "add-user", Names: []string{"anna"}, Password: "secret"}
	waitFor(t, "all know of the bucket type", func() bool {
		first := nodes[0].state().Epoch()
		return nodes[1].state().Epoch() == first && nodes[2].state().Epoch() == first
	})
	before := nodes[0].state().Epoch()
	for _, n := range nodes[:2] {
		var refused *ClusterError
		if err := n.ChangeSecurity(t.Context(), user); !errors.As(err, &refused) || refused.Code != "old_members" || !strings.HasSuffix(refused.Text, ": n3") {
			t.Errorf("%s takes a user that n3 cannot read: %v", n.Name(), err)
		}
		if n.state().Security().Known() || n.state().Epoch() != before {
			t.Errorf("%s has it in its topology", n.Name())
		}
	}
	shut(t, nodes[2])
	network.SpeakAtMost("n3", 0)
	nodes[2] = openOn(t, network, dirs[2], "n3", o)
	WaitUp(t, nodes...)
	if err := nodes[0].ChangeSecurity(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if s := nodes[2].Security(); len(s.Users) != 1 {
		t.Errorf("n3 knows %+v", s)
	}
}

// A member that goes back to an earlier version, or a new node of one, is kept out of a cluster
// that has users, and both sides say why. It comes in again with the version that knows them.
func TestOlderVersionIsKeptOut(t *testing.T) {
	nodes, network, dirs, o := mixedCluster(t)
	shut(t, nodes[2])
	network.SpeakAtMost("n3", 0)
	nodes[2] = openOn(t, network, dirs[2], "n3", o)
	WaitUp(t, nodes...)
	for _, c := range []SecurityChange{
		{Do: "add-user", Names: []string{"anna"}, Password: "secret"},
		{Do: "add-source", Names: []string{"all"}, CIDR: netip.MustParsePrefix("10.0.0.0/8"), Method: "password"},
	} {
		if err := nodes[0].ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, nodes[2])
	network.SpeakAtMost("n3", olderProtocol)
	network.SpeakAtMost("n4", olderProtocol)
	said := make(lines, 1000)
	back := o
	back.Logger = slog.New(slog.NewTextHandler(said, nil))
	n3 := openOn(t, network, dirs[2], "n3", back)
	const why = "speaks protocol 6, this node 5"
	awaitLine(t, said, why)
	n4 := openOn(t, network, t.TempDir(), "n4", Options{Partitions: 8})
	if err := n4.Join(t.Context(), "n1", JoinOptions{}); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("n4 joins: %v", err)
	}
	for _, n := range nodes[:2] {
		if len(n.members()) != 3 || n.membersUp() != 2 {
			t.Errorf("%s has %d of %d members up, want 2 of 3", n.Name(), n.membersUp(), len(n.members()))
		}
	}
	waitFor(t, "n1 says why n3 is away", func() bool {
		for _, p := range nodes[0].network.Stats().Peers {
			if p.Node == "n3" && strings.Contains(p.LastError, "speaks protocol 5, this node 6") {
				return true
			}
		}
		return false
	})
	shut(t, n3)
	network.SpeakAtMost("n3", 0)
	nodes[2] = openOn(t, network, dirs[2], "n3", o)
	WaitUp(t, nodes...)
}

// awaitLine waits until a line with this text is logged.
func awaitLine(t *testing.T, said lines, text string) {
	t.Helper()
	for end := time.After(time.Minute); ; {
		select {
		case line := <-said:
			if strings.Contains(line, text) {
				return
			}
		case <-end:
			t.Fatalf("nobody says %q", text)
		}
	}
}

package tanodb

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// testIterations is how often a test cluster hashes a password: often enough to be the same
// work, and not so often that tests of who may do what do little else.
const testIterations = 1000

// NewTestCluster opens a cluster of nodes n1, n2, … in this process, in memory
// and connected by the network that it returns, waits until all see each other,
// and closes it when the test ends. The options are those of every node; what
// makes them a cluster is filled in. New passwords are hashed with less work than elsewhere.
func NewTestCluster(t testing.TB, nodes int, o Options) ([]*Node, *MemoryNetwork) {
	t.Helper()
	network := NewMemoryNetwork()
	o.Network = network
	if o.Storage == nil {
		o.Storage = MemoryStorage()
	}
	o.Bootstrap = nil
	for i := range nodes {
		o.Bootstrap = append(o.Bootstrap, Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("memory:%d", i+1)})
	}
	cluster := make([]*Node, nodes)
	for i := range cluster {
		o.Name = o.Bootstrap[i].Name
		n, err := openWith("", o, newLogins(testIterations))
		if err != nil {
			t.Fatalf("opening node %s: %v", o.Name, err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil && !errors.Is(err, ErrLeft) && !errors.Is(err, ErrRemoved) {
				t.Errorf("closing node %s: %v", n.Name(), err)
			}
		})
		cluster[i] = n
	}
	WaitUp(t, cluster...)
	return cluster, network
}

// WaitUp waits until each of the nodes holds all members to be up.
func WaitUp(t testing.TB, cluster ...*Node) {
	t.Helper()
	const patience = 30 * time.Second
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, n := range cluster {
		for n.membersUp() < len(n.members()) {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("node %s sees %d of %d members up after %v", n.Name(), n.membersUp(), len(n.members()), patience)
			}
		}
	}
}

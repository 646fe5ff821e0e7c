package tanodb

import (
	"errors"
	"slices"
	"testing"
)

// A node says what keeps it from being ready, and is ready once that is over.
func TestReadiness(t *testing.T) {
	nodes, _ := NewTestCluster(t, 3, Options{})
	n := nodes[0]
	reasons := func() []string {
		var what []string
		r := n.Readiness()
		for _, reason := range r.Reasons {
			what = append(what, reason.What)
			if reason.Text == "" {
				t.Errorf("%s has no text", reason.What)
			}
		}
		if r.Ready != (len(what) == 0) || r.Node != n.Name() {
			t.Errorf("%+v", r)
		}
		return what
	}
	if got := reasons(); got != nil {
		t.Fatalf("a node of a whole cluster is not ready: %v", got)
	}
	n.lacking[3].Store(true)
	if got := reasons(); !slices.Equal(got, []string{"lacking"}) {
		t.Errorf("a vnode is rebuilt: %v", got)
	}
	n.lacking[3].Store(false)
	n.wiping.Store(true)
	if got := reasons(); !slices.Equal(got, []string{"outdated"}) {
		t.Errorf("the disk is outdated: %v", got)
	}
	n.wiping.Store(false)
	if err := nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "n1 sees n2 down", func() bool { return n.Readiness().MembersDown == 1 })
	if got := reasons(); got != nil {
		t.Errorf("another node is down: %v", got)
	}
}

func TestReadinessOfOneThatHasFailed(t *testing.T) {
	n, err := Open("", Options{Storage: MemoryStorage()})
	if err != nil {
		t.Fatal(err)
	}
	if r := n.Readiness(); !r.Ready || n.Alive() != nil {
		t.Errorf("%+v, %v", r, n.Alive())
	}
	gone := errors.New("the disk is gone")
	n.fail(gone)
	if r := n.Readiness(); r.Ready || r.Reasons[0] != (Reason{"failed", "the disk is gone"}) || !errors.Is(n.Alive(), gone) {
		t.Errorf("%+v, %v", r, n.Alive())
	}
	if err := n.Close(); !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestReadinessOfOneThatJoins(t *testing.T) {
	network := NewMemoryNetwork()
	openOn(t, network, t.TempDir(), "n1", Options{})
	n2 := openOn(t, network, t.TempDir(), "n2", Options{Join: []string{"n1"}})
	if r := n2.Readiness(); len(r.Reasons) != 1 || r.Reasons[0] != (Reason{"member", "its status in the cluster is joining"}) {
		t.Errorf("joining is staged, and not committed: %+v", r)
	}
}

package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// TestScenario26AllLosePower takes the power from all nodes of a cluster at one
// moment under load, several times, and with it all that was not synced: with the first
// loss the whole of it, later also parts, some of them torn. Nothing acknowledged may
// be missing.
func TestScenario26AllLosePower(t *testing.T) {
	t.Parallel() // it measures nothing
	r, err := losePower(t, mountLossy(t), *rounds, program, here)
	if v := r.Verified; err != nil || v.Lost+v.Wrong+v.Unreadable > 0 {
		t.Errorf("verification failed: %v\n%d lost, %d wrong, %d unreadable: %v", err, v.Lost, v.Wrong, v.Unreadable, v.Findings)
	}
}

// TestScenario26IsSeen does the same to nodes that acknowledge a write before it is
// durable. It must be found: otherwise the test above shows nothing.
func TestScenario26IsSeen(t *testing.T) {
	t.Parallel() // it measures nothing
	m := mountLossy(t)
	hasty, err := build("tanodb-planted", "-tags", "planted")
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 2 // one loses some dozens of writes
	r, _ := losePower(t, m, rounds, hasty, place{"env", "TANODB_PLANTED=ack-before-durable"})
	if r.Verified.Lost == 0 {
		t.Errorf("nodes that acknowledge too early have lost nothing of %d writes: the power was not gone", r.Verified.Acknowledged)
	}
	t.Logf("nodes that acknowledge too early have lost %d of %d writes", r.Verified.Lost, r.Verified.Acknowledged)
}

// losePower runs a cluster of a program on a lossy disk and takes its power under
// load, so many times. It returns what the load says in the end.
func losePower(t *testing.T, m *mounted, rounds int, program string, at place) (report, error) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	nodes := lossyNodes(t, m, program, at)
	start(nodes)
	// Hardly any key is written twice, so that no later write hides that one is lost.
	l := startLoadAt(t, here, "--workload", "put", "--keys", "100000", "--addr", bases(nodes))
	for round := range rounds {
		pass(t, between)
		m.cut()
		for _, n := range nodes {
			n.kill()
		}
		if round == 0 {
			m.restore(nil)
		} else {
			m.restore(chance)
		}
		start(nodes)
	}
	pass(t, between)
	r, err := l.stop()
	r.tell(t)
	for _, n := range nodes {
		n.stop() // before the disk goes
	}
	return r, err
}

// lossyNodes are three nodes on a lossy disk, not started yet.
func lossyNodes(t *testing.T, m *mounted, program string, at place) []*process {
	t.Helper()
	const count = 3
	port := freePorts(t, 2*count)
	var members []string
	for i := range count {
		members = append(members, fmt.Sprintf("n%d=%s", i+1, address(port+2*i+1)))
	}
	var nodes []*process
	for i := range count {
		n := newProcess(t, at, fmt.Sprintf("n%d", i+1), address(port+2*i), address(port+2*i+1), "--bootstrap", strings.Join(members, ","))
		n.dir, n.program = filepath.Join(m.dir, n.name), program
		nodes = append(nodes, n)
	}
	return nodes
}

// start starts nodes and waits until they all agree.
func start(nodes []*process) {
	for _, n := range nodes {
		n.start()
	}
	for _, n := range nodes {
		n.serves()
	}
	for _, n := range nodes {
		if _, errs, code := run(n.t, "cluster", "ready", "--wait", patience.String(), "--addr", n.base()); code != 0 {
			n.t.Fatalf("%s is not ready: %s", n.name, errs)
		}
	}
}

// bases are the URLs of nodes.
func bases(nodes []*process) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.base())
	}
	return strings.Join(all, ",")
}

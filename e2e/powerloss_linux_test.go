package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// TestScenario26AllLosePower takes the power from all nodes of a cluster at one
// moment under load, several times, and with it all that was not synced: with the first
// loss the whole of it, later also parts, some of them torn. Nothing acknowledged may
// be missing.
func TestScenario26AllLosePower(t *testing.T) {
	t.Parallel() // it measures nothing
	r, err := losePower(t, mountLossy(t), *rounds, program, here, "--rate", "1000")
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
	const rounds = 2                                                                                         // one loses some dozens of writes
	r, _ := losePower(t, m, rounds, hasty, place{"env", "TANODB_PLANTED=ack-before-durable"}, "--rate", "0") // the faster, the more is not durable yet
	if r.Verified.Lost == 0 {
		t.Errorf("nodes that acknowledge too early have lost nothing of %d writes: the power was not gone", r.Verified.Acknowledged)
	}
	t.Logf("nodes that acknowledge too early have lost %d of %d writes", r.Verified.Lost, r.Verified.Acknowledged)
}

// losePower runs a cluster of a program on a lossy disk and takes its power under
// a load with these arguments, so many times. It returns what the load says in the end.
func losePower(t *testing.T, m *mounted, rounds int, program string, at place, load ...string) (report, error) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	nodes := lossyNodes(t, m, program, at)
	start(nodes)
	// Hardly any key is written twice, so that no later write hides that one is lost.
	l := startLoadAt(t, here, append([]string{"--workload", "put", "--keys", "100000", "--addr", bases(nodes)}, load...)...)
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
	nodes := threeNodes(t, at)
	for _, n := range nodes {
		n.dir, n.program = filepath.Join(m.dir, n.name), program
	}
	return nodes
}

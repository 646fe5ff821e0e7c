package e2e

import (
	"strings"
	"testing"
	"time"
)

const (
	// detection is how long it may take until a failure is seen everywhere. Until
	// then requests may fail; after that none may.
	detection = 3 * time.Second

	// between is how long the load runs undisturbed between two events.
	between = 2 * time.Second
)

// TestKillAndPauseUnderLoad kills one of three nodes under load, brings it back,
// and freezes another. Requests with W=R=2 may fail only around these events,
// W=3 fails at once and says why, and all that was acknowledged is there in the
// end.
func TestKillAndPauseUnderLoad(t *testing.T) {
	needProgram(t)
	d := startDev(t, 3)
	l := startLoad(t, d, "--workload", "mixed")
	pass(t, between)

	var events []span
	events = append(events, d.dev("kill", "2"))
	d.waitSeen(1, "n2", false)
	d.waitSeen(3, "n2", false)
	wantPromptRefusal(t, d, "n2")
	pass(t, detection+between)

	events = append(events, d.dev("start", "2"))
	pass(t, detection+between)

	events = append(events, d.dev("pause", "3"))
	d.waitSeen(1, "n3", false)
	d.waitSeen(2, "n3", false)
	wantPromptRefusal(t, d, "n3")
	pass(t, detection+between)

	events = append(events, d.dev("resume", "3"))
	for node := 1; node <= 3; node++ {
		for _, other := range []string{"n1", "n2", "n3"} {
			d.waitSeen(node, other, true)
		}
	}
	pass(t, detection+between)
	wantErrorsOnlyAround(t, l.end(), events)
}

// wantPromptRefusal puts with W=3 while a node is down: that fails long before
// its timeout, and names the node.
func wantPromptRefusal(t *testing.T, d *devCluster, down string) {
	t.Helper()
	begun := time.Now()
	_, errs, code := run(t, "put", "e2e", "all", "1", "--replace", "-w", "3", "--addr", d.base(1), "--timeout", patience.String())
	if code != 1 || !strings.Contains(errs, "W wants 3") || !strings.Contains(errs, down+": ") || strings.Contains(errs, "timeout") {
		t.Errorf("put with W=3 while %s is down: exit code %d, %s", down, code, errs)
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("put with W=3 while %s is down took %v; it is certain at once that it fails", down, took)
	}
	out, errs, code := run(t, "put", "e2e", "two", "1", "--replace", "-w", "2", "--addr", d.base(1))
	if code != 0 {
		t.Errorf("put with W=2 while %s is down: exit code %d, %s%s", down, code, out, errs)
	}
}

// wantErrorsOnlyAround fails if a request failed in a second that is not within
// the detection time of an event, or if in such a second none succeeded.
func wantErrorsOnlyAround(t *testing.T, r report, events []span) {
	t.Helper()
	excused := func(second int) bool {
		begun := r.StartedAt.Add(time.Duration(second) * time.Second)
		ended := begun.Add(time.Second)
		for _, e := range events {
			if ended.After(e.begun) && begun.Before(e.ended.Add(detection)) {
				return true
			}
		}
		return false
	}
	for _, e := range events {
		t.Logf("event from %.2f to %.2f s", e.begun.Sub(r.StartedAt).Seconds(), e.ended.Sub(r.StartedAt).Seconds())
	}
	for _, s := range r.ErrorsBySecond {
		t.Logf("second %d: %v", s.Second, s.Errors)
		if !excused(s.Second) {
			t.Errorf("requests failed in second %d, when no event was near: %v", s.Second, s.Errors)
		}
	}
	if len(r.ErrorSamples) > 0 {
		t.Logf("for example %v", r.ErrorSamples)
	}
	for second, ops := range r.OpsBySecond[:max(0, len(r.OpsBySecond)-1)] { // the last one is not whole
		if ops == 0 && !excused(second) {
			t.Errorf("no request was answered in second %d, when no event was near", second)
		}
	}
}

// TestPowerLoss kills all nodes at once under load, as when the power fails, and
// starts them again, several times. Nothing acknowledged may be missing.
func TestPowerLoss(t *testing.T) {
	t.Parallel() // it measures nothing
	needProgram(t)
	d := startDev(t, 3)
	l := startLoad(t, d, "--workload", "put", "--keys", "500", "--rate", "1000")
	for range *rounds {
		pass(t, between)
		d.dev("kill", "all")
		d.dev("start", "all")
	}
	pass(t, between)
	l.end()
}

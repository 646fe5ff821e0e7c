package membership_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
)

const s = time.Second

func TestDetector(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n3", "n2", "n1", "n3"}, membership.DetectorOptions{})
	down := func(node, why string) membership.Change { return membership.Change{Node: node, Why: why} }
	up := func(node, why string) membership.Change { return membership.Change{Node: node, Up: true, Why: why} }
	for _, tc := range []struct {
		what string
		do   func() []membership.Change
		want []membership.Change
		then string
	}{
		{"peers are down until they are heard", func() []membership.Change { return d.Tick(1 * s) },
			nil, "n1: n2 down, n3 down"},
		{"n2 is heard", func() []membership.Change { return d.Heard(2*s, "n2") },
			[]membership.Change{up("n2", "heard for the first time")}, "n1: n2 up, n3 down"},
		{"n2 is heard once more", func() []membership.Change { return d.Heard(3*s, "n2") },
			nil, "n1: n2 up, n3 down"},
		{"who is down cannot be refused", func() []membership.Change { return d.Refused(3*s, "n3", "connection refused") },
			nil, "n1: n2 up, n3 down"},
		{"n3 is heard", func() []membership.Change { return d.Heard(4*s, "n3") },
			[]membership.Change{up("n3", "heard for the first time")}, "n1: n2 up, n3 up"},
		{"silent for as long as is allowed", func() []membership.Change { return d.Tick(5 * s) },
			nil, "n1: n2 up, n3 up"},
		{"silent for longer", func() []membership.Change { return d.Tick(5*s + time.Millisecond) },
			[]membership.Change{down("n2", "silent for 2.001s")}, "n1: n2 down, n3 up"},
		{"n3 is refused", func() []membership.Change { return d.Refused(5500*time.Millisecond, "n3", "connection refused") },
			[]membership.Change{down("n3", "connection refused")}, "n1: n2 down, n3 down"},
		{"n2 is up again at once", func() []membership.Change { return d.Heard(6*s, "n2") },
			[]membership.Change{up("n2", "heard again")}, "n1: n2 up, n3 down"},
		{"a message from before is no news", func() []membership.Change { return d.Heard(1*s, "n2") },
			nil, "n1: n2 up, n3 down"},
		{"a stranger is heard", func() []membership.Change { return d.Heard(7*s, "n9") },
			nil, "n1: n2 up, n3 down"},
		{"a stranger is refused", func() []membership.Change { return d.Refused(7*s, "n9", "x") },
			nil, "n1: n2 up, n3 down"},
		{"self is heard", func() []membership.Change { return d.Heard(7*s, "n1") },
			nil, "n1: n2 up, n3 down"},
		{"self is refused", func() []membership.Change { return d.Refused(7*s, "n1", "x") },
			nil, "n1: n2 up, n3 down"},
		{"n3 is up again", func() []membership.Change { return d.Heard(8*s, "n3") },
			[]membership.Change{up("n3", "heard again")}, "n1: n2 up, n3 up"},
		{"both have fallen silent", func() []membership.Change { return d.Tick(60 * s) },
			[]membership.Change{down("n2", "silent for 54s"), down("n3", "silent for 52s")}, "n1: n2 down, n3 down"},
		{"which is told once", func() []membership.Change { return d.Tick(61 * s) },
			nil, "n1: n2 down, n3 down"},
	} {
		if diff := cmp.Diff(tc.want, tc.do()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.what, diff)
		}
		if got := d.String(); got != tc.then {
			t.Errorf("%s: got %s, want %s", tc.what, got, tc.then)
		}
		if !d.Up("n1") || d.Up("n9") {
			t.Errorf("%s: self is up: %v, a stranger is up: %v", tc.what, d.Up("n1"), d.Up("n9"))
		}
	}
}

func TestSinceIsTheMomentOfTheLastChange(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n2"}, membership.DetectorOptions{SilentAfter: 5 * s})
	expect := func(node string, want time.Duration) {
		t.Helper()
		if got := d.Since(node); got != want {
			t.Errorf("%s since %v, want %v", node, got, want)
		}
	}
	expect("n2", 0)
	d.Heard(3*s, "n2")
	d.Heard(4*s, "n2")
	expect("n2", 3*s)
	d.Tick(9 * s)
	expect("n2", 3*s)
	d.Tick(9*s + 1)
	expect("n2", 9*s+1)
	expect("n1", 0)
	expect("stranger", 0)
}

// model is all that was ever heard and refused, looked through from the start
// for each answer.
type model struct {
	silentAfter time.Duration
	events      []event
}

type event struct {
	at   time.Duration
	kind string // "heard", "refused", "tick"
	node string // of the first two
}

func (m *model) up(node string) bool {
	up, last := false, time.Duration(0)
	for _, e := range m.events {
		switch {
		case e.kind == "heard" && e.node == node:
			up, last = true, e.at
		case e.kind == "refused" && e.node == node:
			up = false
		case e.kind == "tick" && e.at-last > m.silentAfter:
			up = false
		}
	}
	return up
}

func TestDetectorIsItsModel(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "stranger"}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{silentAfter: time.Duration(rapid.IntRange(1, 5).Draw(t, "silent after")) * s}
		d := membership.NewDetector("n1", nodes[:3], membership.DetectorOptions{SilentAfter: m.silentAfter})
		now := time.Duration(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 2).Draw(t, "later")) * s
			before := states(d, nodes)
			e := event{at: now, kind: rapid.SampledFrom([]string{"heard", "refused", "tick"}).Draw(t, "kind")}
			var changes []membership.Change
			switch e.kind {
			case "heard":
				e.node = rapid.SampledFrom(nodes).Draw(t, "node")
				changes = d.Heard(now, e.node)
			case "refused":
				e.node = rapid.SampledFrom(nodes).Draw(t, "node")
				changes = d.Refused(now, e.node, "why")
			case "tick":
				changes = d.Tick(now)
			}
			m.events = append(m.events, e)

			after := states(d, nodes)
			want := map[string]bool{"n1": true, "n2": m.up("n2"), "n3": m.up("n3"), "stranger": false}
			if diff := cmp.Diff(want, after); diff != "" {
				t.Fatalf("after %+v (-want +got):\n%s", e, diff)
			}
			for _, c := range changes {
				if before[c.Node] == c.Up || c.Why == "" || d.Since(c.Node) != now {
					t.Fatalf("after %+v: change %+v, since %v", e, c, d.Since(c.Node))
				}
				before[c.Node] = c.Up
			}
			if diff := cmp.Diff(after, before); diff != "" {
				t.Fatalf("the changes after %+v do not lead to the state:\n%s", e, diff)
			}
		}
	})
}

func states(d *membership.Detector, nodes []string) map[string]bool {
	up := make(map[string]bool)
	for _, n := range nodes {
		up[n] = d.Up(n)
	}
	return up
}

func TestHearingWithoutChangeDoesNotAllocate(t *testing.T) {
	var peers []string
	for i := range 100 {
		peers = append(peers, fmt.Sprintf("n%d", i))
	}
	d := membership.NewDetector("n1", peers, membership.DetectorOptions{})
	d.Heard(0, "n50")
	if n := testing.AllocsPerRun(100, func() { d.Heard(s, "n50"); d.Up("n50") }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}

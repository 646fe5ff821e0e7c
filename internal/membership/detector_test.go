package membership_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
)

const s = time.Second

func TestDetector(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n3", "n2", "n1", "n3"}, membership.DetectorOptions{})
	down := func(node, why string) membership.Sighting { return membership.Sighting{Node: node, Why: why} }
	up := func(node, why string) membership.Sighting { return membership.Sighting{Node: node, Up: true, Why: why} }
	for _, tc := range []struct {
		what string
		do   func() []membership.Sighting
		want []membership.Sighting
		then string
	}{
		{"peers are down until they are heard", func() []membership.Sighting { return d.Tick(1 * s) },
			nil, "n1: n2 down, n3 down"},
		{"n2 is heard", func() []membership.Sighting { return d.Heard(2*s, "n2") },
			[]membership.Sighting{up("n2", "heard for the first time")}, "n1: n2 up, n3 down"},
		{"n2 is heard once more", func() []membership.Sighting { return d.Heard(3*s, "n2") },
			nil, "n1: n2 up, n3 down"},
		{"who is down cannot be refused", func() []membership.Sighting { return d.Refused(3*s, "n3", "connection refused") },
			nil, "n1: n2 up, n3 down"},
		{"n3 is heard", func() []membership.Sighting { return d.Heard(4*s, "n3") },
			[]membership.Sighting{up("n3", "heard for the first time")}, "n1: n2 up, n3 up"},
		{"silent for as long as is allowed", func() []membership.Sighting { return d.Tick(5 * s) },
			nil, "n1: n2 up, n3 up"},
		{"silent for longer", func() []membership.Sighting { return d.Tick(5*s + time.Millisecond) },
			[]membership.Sighting{down("n2", "silent for 2.001s")}, "n1: n2 down, n3 up"},
		{"n3 is refused", func() []membership.Sighting { return d.Refused(5500*time.Millisecond, "n3", "connection refused") },
			[]membership.Sighting{down("n3", "connection refused")}, "n1: n2 down, n3 down"},
		{"n2 is up again at once", func() []membership.Sighting { return d.Heard(6*s, "n2") },
			[]membership.Sighting{up("n2", "heard again")}, "n1: n2 up, n3 down"},
		{"a message from before is no news", func() []membership.Sighting { return d.Heard(1*s, "n2") },
			nil, "n1: n2 up, n3 down"},
		{"a stranger is heard", func() []membership.Sighting { return d.Heard(7*s, "n9") },
			nil, "n1: n2 up, n3 down"},
		{"a stranger is refused", func() []membership.Sighting { return d.Refused(7*s, "n9", "x") },
			nil, "n1: n2 up, n3 down"},
		{"self is heard", func() []membership.Sighting { return d.Heard(7*s, "n1") },
			nil, "n1: n2 up, n3 down"},
		{"self is refused", func() []membership.Sighting { return d.Refused(7*s, "n1", "x") },
			nil, "n1: n2 up, n3 down"},
		{"n3 is up again", func() []membership.Sighting { return d.Heard(8*s, "n3") },
			[]membership.Sighting{up("n3", "heard again")}, "n1: n2 up, n3 up"},
		{"both have fallen silent", func() []membership.Sighting { return d.Tick(60 * s) },
			[]membership.Sighting{down("n2", "silent for 54s"), down("n3", "silent for 52s")}, "n1: n2 down, n3 down"},
		{"which is told once", func() []membership.Sighting { return d.Tick(61 * s) },
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

func TestFlappingPeerIsHeldDown(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n2"}, membership.DetectorOptions{})
	now := time.Duration(0)
	flap := func() []membership.Sighting {
		now += s
		d.Refused(now, "n2", "refused")
		now += s
		return d.Heard(now, "n2")
	}
	// hear says for how long it has to be heard before it is up.
	hear := func() time.Duration {
		for start := now; ; now += s {
			if len(d.Heard(now, "n2")) > 0 {
				return now - start
			}
			if now-start > 100*s {
				t.Fatal("it is held for ever")
			}
		}
	}
	d.Heard(now, "n2")
	for i := range 3 {
		if len(flap()) == 0 {
			t.Fatalf("return %d is delayed", i+1)
		}
	}
	if len(flap()) != 0 || d.Up("n2") || d.String() != "n1: n2 held" {
		t.Fatalf("the fourth return in a minute: %v", d)
	}
	now += 4 * s // longer than SilentAfter: a break
	if got := hear(); got != 5*s {
		t.Errorf("held for %v after a break, want 5s", got)
	}
	for _, want := range []time.Duration{10 * s, 20 * s, 40 * s} {
		for len(flap()) > 0 {
		}
		if got := hear(); got != want {
			t.Errorf("held for %v, want %v", got, want)
		}
	}
	for len(flap()) > 0 {
	}
	now += s
	d.Refused(now, "n2", "refused") // a break as well
	now += s
	if got := hear(); got < 39*s || got > 60*s {
		t.Errorf("held for %v", got)
	}
	now += 20 * time.Minute
	d.Heard(now, "n2")
	for range 3 {
		flap()
	}
	flap()
	if got := hear(); got != 5*s {
		t.Errorf("held for %v after a long time without a hold, want 5s", got)
	}
}

func TestSlowRestartsAreNotHeldDown(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n2"}, membership.DetectorOptions{})
	for i := range 20 {
		now := time.Duration(i) * 21 * s
		if len(d.Heard(now, "n2")) == 0 {
			t.Fatalf("restart %d is delayed", i)
		}
		d.Refused(now+s, "n2", "refused")
	}
}

func TestMissingRepliesAreEvidence(t *testing.T) {
	const ms = time.Millisecond
	d := membership.NewDetector("n1", []string{"n2"}, membership.DetectorOptions{})
	evidence := func(now time.Duration, want string) {
		t.Helper()
		got := ""
		for _, c := range d.Evidence(now, "n2") {
			got += c.Why
		}
		if got != want {
			t.Errorf("at %v: %q, want %q", now, got, want)
		}
	}
	for range 5 {
		evidence(0, "") // down is down
	}
	d.Heard(100*ms, "n2")
	for range 5 {
		evidence(600*ms, "") // heard too lately
	}
	d.Heard(700*ms, "n2")
	evidence(1201*ms, "")
	evidence(1201*ms, "")
	evidence(1201*ms, "3 replies in a row missing, and silent for 501ms")
	evidence(1201*ms, "")
	if d.Up("n2") || len(d.Evidence(0, "stranger")) != 0 || len(d.Evidence(0, "n1")) != 0 {
		t.Error("n2 is up, or others are not")
	}
	d.Heard(1300*ms, "n2")
	evidence(1900*ms, "")
	d.Heard(1300*ms, "n2")
	evidence(1900*ms, "")
	evidence(1900*ms, "")
}

func TestPeersChange(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n2", "n3"}, membership.DetectorOptions{})
	d.Heard(s, "n2")
	d.Heard(s, "n3")
	d.SetPeers([]string{"n4", "n1", "n3", "n3"})
	if got, want := d.String(), "n1: n3 up, n4 down"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d.Heard(2*s, "n2")
	if d.Up("n2") {
		t.Error("n2 is up, and is no peer any more")
	}
	d.SetPeers([]string{"n2"})
	if got := d.Heard(3*s, "n2"); len(got) != 1 || got[0].Why != "heard for the first time" || d.Since("n2") != 3*s {
		t.Errorf("%v", got)
	}
	d.SetPeers(nil)
	if got := d.String(); got != "n1:" {
		t.Errorf("%s", got)
	}
}

// model is all that was ever heard and refused, looked through from the start
// for each answer.
type model struct {
	silentAfter time.Duration
	events      []event
}

type event struct {
	at   time.Duration
	kind string // "heard", "refused", "missing", "tick", "peers"
	node string // of the first three
	list []string
}

func (m *model) up(node string) bool {
	peer := true
	var up, known, held bool
	var last, from, penalty, heldAt time.Duration
	var returns []time.Duration
	missing := 0
	for _, e := range m.events {
		switch {
		case e.kind == "peers" && slices.Contains(e.list, node) != peer:
			peer = !peer
			up, known, held, last, penalty, returns = false, false, false, 0, 0, nil
		case !peer || e.node != node && e.node != "":
		case e.kind == "heard":
			gap := e.at - last
			last, missing = e.at, 0
			lately := 0
			for _, r := range returns {
				if e.at-r <= 60*s {
					lately++
				}
			}
			switch {
			case up:
			case !known:
				up, known = true, true
			case held:
				if from < 0 || gap > m.silentAfter {
					from = e.at
				}
				if e.at-from >= penalty {
					up, held, returns = true, false, append(returns, e.at)
				}
			case lately > 2:
				penalty *= 2
				penalty = min(penalty, 60*s)
				for at := heldAt + 60*s; at <= e.at; at += 60 * s {
					penalty /= 2
				}
				penalty = max(penalty, 5*s)
				held, from, heldAt = true, e.at, e.at
			default:
				up, returns = true, append(returns, e.at)
			}
		case e.kind == "refused":
			up, from = false, -1
		case e.kind == "missing" && up:
			missing++
			up = missing < 3 || e.at-last <= m.silentAfter/4
		case e.kind == "tick" && e.at-last > m.silentAfter:
			up = false
		}
		if !up {
			missing = 0
		}
	}
	return up
}

func TestDetectorIsItsModel(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "stranger"}
	kinds := []string{"heard", "heard", "heard", "heard", "refused", "refused", "missing", "missing", "tick", "peers"}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{silentAfter: time.Duration(rapid.IntRange(1, 5).Draw(t, "silent after")) * s}
		d := membership.NewDetector("n1", nodes[:3], membership.DetectorOptions{SilentAfter: m.silentAfter})
		m.events = []event{{kind: "peers", list: nodes[:3]}}
		now := time.Duration(0)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 4).Draw(t, "later")) * s / 2
			if rapid.IntRange(0, 40).Draw(t, "much later") == 0 {
				now += 30 * s
			}
			before := states(d, nodes)
			e := event{at: now, kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
			var changes []membership.Sighting
			switch e.kind {
			case "heard":
				e.node = rapid.SampledFrom(nodes).Draw(t, "node")
				changes = d.Heard(now, e.node)
			case "refused":
				e.node = rapid.SampledFrom(nodes).Draw(t, "node")
				changes = d.Refused(now, e.node, "why")
			case "missing":
				e.node = rapid.SampledFrom(nodes).Draw(t, "node")
				changes = d.Evidence(now, e.node)
			case "tick":
				changes = d.Tick(now)
			case "peers":
				if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					continue
				}
				e.list = nodes[:rapid.IntRange(2, 3).Draw(t, "peers")]
				d.SetPeers(e.list)
				if len(e.list) == 2 {
					before["n3"] = false
				}
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

func TestANodeThatStoodStillBlamesNobody(t *testing.T) {
	d := membership.NewDetector("n1", []string{"n2"}, membership.DetectorOptions{})
	d.Heard(1*s, "n2")
	d.StoodStill(10 * s)
	if got := d.Tick(10 * s); got != nil || !d.Up("n2") {
		t.Errorf("after it stood still: %v", got)
	}
	if got := d.Tick(13 * s); len(got) != 1 || d.Up("n2") {
		t.Errorf("the peer is silent after that as well: %v", got)
	}
}

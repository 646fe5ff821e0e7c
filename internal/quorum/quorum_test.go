package quorum_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

func primary(r ring.Replica) bool { return r.Role == kv.Primary }

// replicas reads a plan such as "n1 n2 n3*": a star marks a fallback.
func replicas(plan string) []ring.Replica {
	var list []ring.Replica
	for i, node := range strings.Fields(plan) {
		r := ring.Replica{Partition: ring.Partition(i), Node: strings.TrimSuffix(node, "*"), Role: kv.Primary}
		if strings.HasSuffix(node, "*") {
			r.Role = kv.Fallback
		}
		list = append(list, r)
	}
	return list
}

// answer feeds answers such as "+0 -2": replica 0 grants, replica 2 denies.
func answer(t *testing.T, tally *quorum.Tally, answers string) {
	t.Helper()
	for _, a := range strings.Fields(answers) {
		var sign rune
		var i int
		if _, err := fmt.Sscanf(a, "%c%d", &sign, &i); err != nil {
			t.Fatal(err)
		}
		if sign == '+' {
			tally.Grant(i)
		} else {
			tally.Deny(i)
		}
	}
}

func TestTally(t *testing.T) {
	w := func(n int) quorum.Requirement { return quorum.Requirement{Name: "W", Need: n} }
	pw := func(n int) quorum.Requirement { return quorum.Requirement{Name: "PW", Need: n, Counts: primary} }
	nodes := func(n int) quorum.Requirement {
		return quorum.Requirement{Name: "node_confirms", Need: n, Distinct: true}
	}
	for _, tc := range []struct {
		name    string
		plan    string
		reqs    []quorum.Requirement
		answers string
		want    string
		failed  string
		got     int
	}{
		{"nothing asked, nothing needed", "", nil, "", "met ()", "", 0},
		{"nothing needed is met at once", "n1 n2", []quorum.Requirement{w(0), pw(-1)}, "", "W 0/0, PW 0/-1: met (n1 . n2 .)", "", 0},
		{"too few replicas are lost at once", "n1 n2", []quorum.Requirement{w(3)}, "", "W 0/3: lost (n1 . n2 .)", "W", 0},
		{"pending until enough", "n1 n2 n3", []quorum.Requirement{w(2)}, "+0", "W 1/2: pending (n1 + n2 . n3 .)", "W", 1},
		{"met when enough", "n1 n2 n3", []quorum.Requirement{w(2)}, "+0 +2", "W 2/2: met (n1 + n2 . n3 +)", "", 0},
		{"a denial may be survived", "n1 n2 n3", []quorum.Requirement{w(2)}, "-0 +1", "W 1/2: pending (n1 - n2 + n3 .)", "W", 1},
		{"lost when too few are left", "n1 n2 n3", []quorum.Requirement{w(2)}, "-0 -1", "W 0/2: lost (n1 - n2 - n3 .)", "W", 0},
		{"all requirements must hold", "n1* n2 n3", []quorum.Requirement{w(2), pw(2)}, "+0 +1", "W 2/2, PW 1/2: pending (n1 + n2 + n3 .)", "PW", 1},
		{"a fallback is no primary", "n1* n2* n3", []quorum.Requirement{w(2), pw(2)}, "", "W 0/2, PW 0/2: lost (n1 . n2 . n3 .)", "PW", 0},
		{"one lost requirement loses all", "n1 n2 n3*", []quorum.Requirement{w(2), pw(1)}, "-0 +2 -1", "W 1/2, PW 0/1: lost (n1 - n2 - n3 +)", "W", 1},
		{"the first that is lost is blamed, not the first that is open", "n1* n2* n3", []quorum.Requirement{w(2), pw(1)}, "-2", "W 0/2, PW 0/1: lost (n1 . n2 . n3 -)", "PW", 0},
		{"the second grant of one replica is none", "n1 n2 n3", []quorum.Requirement{w(2)}, "+0 +0", "W 1/2: pending (n1 + n2 . n3 .)", "W", 1},
		{"who has granted cannot deny", "n1 n2", []quorum.Requirement{w(2)}, "+0 -0 +1", "W 2/2: met (n1 + n2 +)", "", 0},
		{"who has denied cannot grant", "n1 n2", []quorum.Requirement{w(1)}, "-0 +0", "W 0/1: pending (n1 - n2 .)", "W", 0},
		{"what comes after met changes nothing", "n1 n2 n3", []quorum.Requirement{w(1)}, "+0 -1 -2", "W 1/1: met (n1 + n2 - n3 -)", "", 0},
		{"what comes after lost is told, and changes nothing", "n1 n2 n3", []quorum.Requirement{w(3)}, "-0 +1 +2", "W 2/3: lost (n1 - n2 + n3 +)", "W", 2},
		{"two replicas on one node are one node", "n1 n1 n2", []quorum.Requirement{nodes(2)}, "+0 +1", "node_confirms 1/2: pending (n1 + n1 + n2 .)", "node_confirms", 1},
		{"two nodes are two", "n1 n1 n2", []quorum.Requirement{nodes(2)}, "+1 +2", "node_confirms 2/2: met (n1 . n1 + n2 +)", "", 0},
		{"a node that has granted brings no further one", "n1 n1 n2", []quorum.Requirement{nodes(2)}, "+0 -2", "node_confirms 1/2: lost (n1 + n1 . n2 -)", "node_confirms", 1},
		{"a node may still come by its other replica", "n1 n1 n2", []quorum.Requirement{nodes(2)}, "-0 +2", "node_confirms 1/2: pending (n1 - n1 . n2 +)", "node_confirms", 1},
		{"too few nodes are lost at once", "n1 n1 n1", []quorum.Requirement{w(2), nodes(2)}, "", "W 0/2, node_confirms 0/2: lost (n1 . n1 . n1 .)", "node_confirms", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tally := quorum.New(replicas(tc.plan), tc.reqs)
			answer(t, tally, tc.answers)
			if got := tally.String(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if req, got := tally.Failed(); req.Name != tc.failed || got != tc.got {
				t.Errorf("failed is %q with %d, want %q with %d", req.Name, got, tc.failed, tc.got)
			}
		})
	}
}

func TestAddedReplicaMakesUpForAnother(t *testing.T) {
	tally := quorum.New(replicas("n1 n2"), []quorum.Requirement{{Name: "W", Need: 2}})
	i := tally.Add(ring.Replica{Node: "n3", Role: kv.Fallback})
	if i != 2 || tally.Open() != 3 {
		t.Errorf("added as %d, %d open; want 2 and 3", i, tally.Open())
	}
	tally.Deny(0)
	tally.Grant(1)
	tally.Grant(i)
	if got, want := tally.String(), "W 2/2: met (n1 - n2 + n3 +)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if tally.Open() != 0 {
		t.Errorf("%d open, want none", tally.Open())
	}
}

func TestReplicaAddedToALostTallyCountsForNothing(t *testing.T) {
	tally := quorum.New(replicas("n1 n2"), []quorum.Requirement{{Name: "W", Need: 2}, {Name: "nodes", Need: 1, Distinct: true}})
	tally.Deny(0)
	tally.Grant(tally.Add(ring.Replica{Node: "n3"}))
	if got, want := tally.String(), "W 0/2, nodes 0/1: lost (n1 - n2 . n3 +)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVerdictsPrintThemselves(t *testing.T) {
	for v, want := range map[quorum.Verdict]string{quorum.Pending: "pending", quorum.Met: "met", quorum.Lost: "lost", 9: "verdict 9"} {
		if got := v.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// model is a request as the slow judge sees it.
type model struct {
	replicas []ring.Replica
	reqs     []quorum.Requirement
	granted  []bool
	answered []bool
}

// judge tries every way in which the open replicas may still answer. Met means
// that the requirements hold already, lost that they hold in no future.
func (m *model) judge() quorum.Verdict {
	if m.hold(m.granted) {
		return quorum.Met
	}
	var open []int
	for i, a := range m.answered {
		if !a {
			open = append(open, i)
		}
	}
	for future := range 1 << len(open) {
		granted := append([]bool(nil), m.granted...)
		for bit, i := range open {
			granted[i] = future>>bit&1 == 1
		}
		if m.hold(granted) {
			return quorum.Pending
		}
	}
	return quorum.Lost
}

// hold reports whether all requirements hold with these grants.
func (m *model) hold(granted []bool) bool {
	for _, req := range m.reqs {
		n := 0
		nodes := make(map[string]bool)
		for i, r := range m.replicas {
			if granted[i] && (req.Counts == nil || req.Counts(r)) {
				n++
				nodes[r.Node] = true
			}
		}
		if req.Distinct {
			n = len(nodes)
		}
		if n < req.Need {
			return false
		}
	}
	return true
}

func TestVerdictIsThatOfAllFutures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{reqs: rapid.SliceOfN(rapid.Custom(drawRequirement), 0, 4).Draw(t, "requirements")}
		for range rapid.IntRange(0, 7).Draw(t, "replicas") {
			m.add(drawReplica(t))
		}
		tally := quorum.New(m.replicas, m.reqs)
		want := m.judge()
		for step := 0; ; step++ {
			check(t, tally, m, want)
			if len(m.replicas) == 0 || step == 16 {
				return
			}
			if len(m.replicas) < 9 && rapid.IntRange(0, 7).Draw(t, "add") == 0 {
				r := drawReplica(t)
				tally.Add(r)
				m.add(r) // after the verdict it is of no account: want stays
				if want == quorum.Pending {
					want = m.judge()
				}
				continue
			}
			i, grant := rapid.IntRange(0, len(m.replicas)-1).Draw(t, "replica"), rapid.Bool().Draw(t, "grant")
			if grant {
				tally.Grant(i)
			} else {
				tally.Deny(i)
			}
			if !m.answered[i] {
				m.answered[i], m.granted[i] = true, grant
			}
			if want == quorum.Pending {
				want = m.judge()
			}
		}
	})
}

func (m *model) add(r ring.Replica) {
	m.replicas = append(m.replicas, r)
	m.granted = append(m.granted, false)
	m.answered = append(m.answered, false)
}

func check(t *rapid.T, tally *quorum.Tally, m *model, want quorum.Verdict) {
	if got := tally.Verdict(); got != want {
		t.Fatalf("verdict is %v, want %v: %v", got, want, tally)
	}
	open := 0
	for _, a := range m.answered {
		if !a {
			open++
		}
	}
	if tally.Open() != open {
		t.Fatalf("%d open, want %d", tally.Open(), open)
	}
	req, got := tally.Failed()
	if (req.Name == "") != (want == quorum.Met) || want != quorum.Met && got >= req.Need {
		t.Fatalf("%v blames %q with %d of %d", tally, req.Name, got, req.Need)
	}
}

func drawReplica(t *rapid.T) ring.Replica {
	return ring.Replica{
		Node: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "node"),
		Role: rapid.SampledFrom([]kv.Role{kv.Primary, kv.Primary, kv.Fallback}).Draw(t, "role"),
	}
}

func drawRequirement(t *rapid.T) quorum.Requirement {
	req := quorum.Requirement{
		Name:     "X",
		Need:     rapid.IntRange(-1, 5).Draw(t, "need"),
		Distinct: rapid.Bool().Draw(t, "distinct"),
	}
	if rapid.Bool().Draw(t, "primaries only") {
		req.Counts = primary
	}
	return req
}

func TestAllocations(t *testing.T) {
	plan := replicas("n1 n2 n3*")
	reqs := []quorum.Requirement{{Name: "W", Need: 3}, {Name: "PW", Need: 1, Counts: primary}, {Name: "node_confirms", Need: 2, Distinct: true}}
	n := testing.AllocsPerRun(100, func() {
		tally := quorum.New(plan, reqs)
		tally.Grant(0)
		tally.Deny(2)
		tally.Add(plan[1])
	})
	if n > 1 {
		t.Errorf("a request's tally allocates %v times, want once", n)
	}
}

func BenchmarkTally(b *testing.B) {
	plan := replicas("n1 n2 n3")
	reqs := []quorum.Requirement{{Name: "W", Need: 2}, {Name: "PW", Need: 1, Counts: primary}, {Name: "node_confirms", Need: 2, Distinct: true}}
	b.ReportAllocs()
	for b.Loop() {
		tally := quorum.New(plan, reqs)
		tally.Grant(0)
		tally.Grant(1)
		tally.Grant(2)
	}
}

package quorum_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

func primary(p ring.Place) bool { return p.Role == kv.Primary }
func now(p ring.Place) bool     { return p.Now }
func next(p ring.Place) bool    { return p.Next }

// plan reads "n1 n2 n3*0 n4<": a star marks a fallback, and the number after it whom
// it stands in for; "<" is a place of the next owners only, ">" of the ones now.
func plan(text string) (places []ring.Place, groups []int) {
	for i, word := range strings.Fields(text) {
		node, of, standin := strings.Cut(word, "*")
		p := ring.Place{Replica: ring.Replica{Partition: ring.Partition(i), Node: strings.TrimRight(node, "<>"), Role: kv.Primary}}
		p.Now, p.Next = !strings.Contains(node, "<"), !strings.Contains(node, ">")
		group := i
		if standin {
			p.Role = kv.Fallback
			if n, err := strconv.Atoi(of); err == nil {
				group, p.Now, p.Next = n, places[n].Now, places[n].Next
			}
		}
		places, groups = append(places, p), append(groups, group)
	}
	return places, groups
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
	both := func(r quorum.Requirement) []quorum.Requirement {
		then := r
		r.Counts, then.Counts, then.Next = now, next, true
		return []quorum.Requirement{r, then}
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
		{"a stand-in and its primary count once", "n1 n2 n3 n4*0", []quorum.Requirement{w(2)}, "+0 +3", "W 1/2: pending ([n1 + n4 +] n2 . n3 .)", "W", 1},
		{"a stand-in does not count while its primary may answer", "n1 n2 n3 n4*0", []quorum.Requirement{w(2)}, "+1 +3", "W 1/2: pending ([n1 . n4 +] n2 + n3 .)", "W", 1},
		{"a stand-in makes up for its primary", "n1 n2 n3 n4*0", []quorum.Requirement{w(2)}, "-0 -1 +3 +2", "W 2/2: met ([n1 - n4 +] n2 - n3 +)", "", 0},
		{"a group is lost with the last of it", "n1 n2 n4*0", []quorum.Requirement{w(2)}, "-0 -2", "W 0/2: lost ([n1 - n4 -] n2 .)", "W", 0},
		{"a stand-in is no primary, though of a group with one", "n1 n2 n4*0", []quorum.Requirement{w(1), pw(2)}, "+2 -0", "W 1/1, PW 0/2: lost ([n1 - n4 +] n2 .)", "PW", 0},
		{"two stand-ins of one group count once", "n1 n2 n4*0 n5*0", []quorum.Requirement{w(2)}, "-0 +2 +3", "W 1/2: pending ([n1 - n4 + n5 +] n2 .)", "W", 1},
		{"a group of two nodes is one node", "n1 n2 n4*0", []quorum.Requirement{nodes(2)}, "+0 +2", "node_confirms 1/2: pending ([n1 + n4 +] n2 .)", "node_confirms", 1},
		{"a stand-in on another node frees the first for another group", "n1 n1 n4*0", []quorum.Requirement{nodes(2)}, "+0 +1 +2", "node_confirms 2/2: met ([n1 + n4 +] n1 +)", "", 0},
		{"both the owners now and the next must grant", "n1 n2 n3> n4<", both(w(2)), "+0 +2", "W 2/2, W next 1/2: pending (n1 + n2 . n3 + n4 .)", "W", 1},
		{"a place of both counts for both", "n1 n2 n3> n4<", both(w(2)), "+0 +1", "W 2/2, W next 2/2: met (n1 + n2 + n3 . n4 .)", "", 0},
		{"the next owners may be lost alone", "n1 n2 n3> n4<", both(w(2)), "-3 -1", "W 0/2, W next 0/2: lost (n1 . n2 - n3 . n4 -)", "W", 0},
		{"a stand-in of an incoming place counts for the next owners", "n1 n2> n3< n4*2", both(w(2)), "+0 -2 +3 +1", "W 2/2, W next 2/2: met (n1 + n2 + [n3 - n4 +])", "", 0},
		{"who is of neither counts for nothing", "n1 n2 n3<>", both(w(2)), "+0 +2", "W 1/2, W next 1/2: pending (n1 + n2 . n3 +)", "W", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			places, groups := plan(tc.plan)
			tally := quorum.New(places, groups, tc.reqs)
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
	places, _ := plan("n1 n2")
	tally := quorum.New(places, nil, []quorum.Requirement{{Name: "W", Need: 2}})
	i := tally.Add(ring.Place{Replica: ring.Replica{Node: "n3", Role: kv.Fallback}}, 0)
	if i != 2 || tally.Open() != 3 {
		t.Errorf("added as %d, %d open; want 2 and 3", i, tally.Open())
	}
	tally.Deny(0)
	tally.Grant(1)
	tally.Grant(i)
	if got, want := tally.String(), "W 2/2: met ([n1 - n3 +] n2 +)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if tally.Open() != 0 {
		t.Errorf("%d open, want none", tally.Open())
	}
}

// One that is added for a stand-in is of the group that this one is of.
func TestReplicaAddedForAStandInIsOfItsGroup(t *testing.T) {
	places, _ := plan("n1 n2")
	tally := quorum.New(places, nil, []quorum.Requirement{{Name: "W", Need: 2}})
	first := tally.Add(ring.Place{Replica: ring.Replica{Node: "n3"}}, 1)
	second := tally.Add(ring.Place{Replica: ring.Replica{Node: "n4"}}, first)
	tally.Deny(1)
	tally.Deny(first)
	tally.Grant(second)
	if got, want := tally.String(), "W 1/2: pending (n1 . [n2 - n3 - n4 +])"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A stand-in may stand before the place that it counts for: a later view has
// added that.
func TestAGroupMayBeCalledByALaterReplica(t *testing.T) {
	places, _ := plan("n1 n2 n3")
	tally := quorum.New(places, []int{2, 1, 2}, []quorum.Requirement{{Name: "W", Need: 2}})
	tally.Grant(0)
	tally.Grant(1)
	if got := tally.Verdict(); got != quorum.Pending {
		t.Errorf("%v: %v", got, tally)
	}
	tally.Deny(2)
	if got := tally.Verdict(); got != quorum.Met {
		t.Errorf("%v: %v", got, tally)
	}
}

func TestReplicaAddedToALostTallyCountsForNothing(t *testing.T) {
	places, _ := plan("n1 n2")
	tally := quorum.New(places, nil, []quorum.Requirement{{Name: "W", Need: 2}, {Name: "nodes", Need: 1, Distinct: true}})
	tally.Deny(0)
	tally.Grant(tally.Add(ring.Place{Replica: ring.Replica{Node: "n3"}}, 0))
	if got, want := tally.String(), "W 0/2, nodes 0/1: lost ([n1 - n3 +] n2 .)"; got != want {
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
	places   []ring.Place
	groups   []int
	reqs     []quorum.Requirement
	granted  []bool
	answered []bool
}

// judge tries every way in which the open replicas may still answer. Met means
// that the requirements hold already, lost that they hold in no future.
func (m *model) judge() quorum.Verdict {
	if m.hold(m.granted, m.answered) {
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
		if m.hold(granted, nil) {
			return quorum.Pending
		}
	}
	return quorum.Lost
}

// hold reports whether all requirements hold with these grants, when those that
// have answered are these; nil: all have. A stand-in's grant is one for its
// group when the replica that it stands in for has answered.
func (m *model) hold(granted, answered []bool) bool {
	for _, req := range m.reqs {
		groups := make(map[int][]string) // the nodes of each group that have granted
		for i, p := range m.places {
			early := i != m.groups[i] && answered != nil && !answered[m.groups[i]]
			if granted[i] && (req.Distinct || !early) && (req.Counts == nil || req.Counts(p)) {
				groups[m.groups[i]] = append(groups[m.groups[i]], p.Node)
			}
		}
		n := len(groups)
		if req.Distinct {
			n = m.most(groups, 0, nil)
		}
		if n < req.Need {
			return false
		}
	}
	return true
}

// most tries every choice of at most one node for each group from the given one
// on, and is the most distinct nodes.
func (m *model) most(groups map[int][]string, from int, chosen []string) int {
	if from == len(m.places) {
		return len(chosen)
	}
	best := m.most(groups, from+1, chosen)
	for _, node := range groups[from] {
		if !slices.Contains(chosen, node) {
			best = max(best, m.most(groups, from+1, append(chosen[:len(chosen):len(chosen)], node)))
		}
	}
	return best
}

func TestAStandInCountsAfterOneThatDoesNotCountItself(t *testing.T) {
	places := []ring.Place{
		{Replica: ring.Replica{Node: "a", Role: kv.Primary}, Now: true},
		{Replica: ring.Replica{Node: "b", Role: kv.Fallback}, Next: true},
	}
	tally := quorum.New(places, []int{0, 0}, []quorum.Requirement{{Name: "W", Need: 1, Counts: next, Next: true}})
	tally.Grant(1)
	if got := tally.Verdict(); got != quorum.Pending {
		t.Errorf("the verdict is %v before the replica that it stands in for has answered", got)
	}
	tally.Deny(0)
	if got := tally.Verdict(); got != quorum.Met {
		t.Errorf("the verdict is %v: %v", got, tally)
	}
}

func TestVerdictIsThatOfAllFutures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{reqs: rapid.SliceOfN(rapid.Custom(drawRequirement), 0, 4).Draw(t, "requirements")}
		for range rapid.IntRange(0, 6).Draw(t, "replicas") {
			m.add(t)
		}
		tally := quorum.New(m.places, m.groups, m.reqs)
		want := m.judge()
		for step := 0; ; step++ {
			check(t, tally, m, want)
			if len(m.places) == 0 || step == 16 {
				return
			}
			if len(m.places) < 8 && rapid.IntRange(0, 7).Draw(t, "add") == 0 {
				to := rapid.IntRange(0, len(m.places)-1).Draw(t, "to")
				p := drawPlace(t)
				tally.Add(p, to)
				m.put(p, m.groups[to]) // after the verdict it is of no account: want stays
				if want == quorum.Pending {
					want = m.judge()
				}
				continue
			}
			i, grant := rapid.IntRange(0, len(m.places)-1).Draw(t, "replica"), rapid.Bool().Draw(t, "grant")
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

// add draws a replica, of a group of its own or of another's.
func (m *model) add(t *rapid.T) {
	group := len(m.places)
	if group > 0 && rapid.IntRange(0, 2).Draw(t, "grouped") == 0 {
		group = m.groups[rapid.IntRange(0, group-1).Draw(t, "with")]
	}
	m.put(drawPlace(t), group)
}

func (m *model) put(p ring.Place, group int) {
	m.places = append(m.places, p)
	m.groups = append(m.groups, group)
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

func drawPlace(t *rapid.T) ring.Place {
	return ring.Place{
		Replica: ring.Replica{
			Node: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "node"),
			Role: rapid.SampledFrom([]kv.Role{kv.Primary, kv.Primary, kv.Fallback}).Draw(t, "role"),
		},
		Now:  rapid.IntRange(0, 2).Draw(t, "now") > 0,
		Next: rapid.IntRange(0, 2).Draw(t, "next") > 0,
	}
}

func drawRequirement(t *rapid.T) quorum.Requirement {
	req := quorum.Requirement{
		Name:     "X",
		Need:     rapid.IntRange(-1, 5).Draw(t, "need"),
		Distinct: rapid.Bool().Draw(t, "distinct"),
	}
	req.Counts = rapid.SampledFrom([]func(ring.Place) bool{nil, primary, now, next}).Draw(t, "counts")
	return req
}

func TestAllocations(t *testing.T) {
	places, groups := plan("n1 n2 n3 n4*0")
	reqs := []quorum.Requirement{{Name: "W", Need: 3}, {Name: "PW", Need: 1, Counts: primary}, {Name: "node_confirms", Need: 2, Distinct: true}}
	n := testing.AllocsPerRun(100, func() {
		tally := quorum.New(places, groups, reqs)
		tally.Grant(0)
		tally.Deny(2)
		tally.Add(places[1], 2)
	})
	if n > 1 {
		t.Errorf("a request's tally allocates %v times, want once", n)
	}
}

func BenchmarkTally(b *testing.B) {
	places, _ := plan("n1 n2 n3")
	reqs := []quorum.Requirement{{Name: "W", Need: 2}, {Name: "PW", Need: 1, Counts: primary}, {Name: "node_confirms", Need: 2, Distinct: true}}
	b.ReportAllocs()
	for b.Loop() {
		tally := quorum.New(places, nil, reqs)
		tally.Grant(0)
		tally.Grant(1)
		tally.Grant(2)
	}
}

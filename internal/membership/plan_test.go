package membership_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
)

func plan(t *testing.T, s *membership.State) *membership.Plan {
	t.Helper()
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanPrintsItself(t *testing.T) {
	p := plan(t, must(t, cluster(t, 2, 64), joins("n3"), membership.Stage{Change: membership.Change{Kind: membership.ChangeSet, Node: "n1", Weight: 200}}))
	want := []string{
		"=============================== Staged Changes ================================",
		"join n3",
		"set n1, weight 200",
		"================================= Membership ==================================",
		"Status     Ring     Pending    Node",
		"-------------------------------------------------------------------------------",
		fmt.Sprintf("valid      50.0%%    %6.1f%%    n1", percent(p, "n1")),
		fmt.Sprintf("valid      50.0%%    %6.1f%%    n2", percent(p, "n2")),
		fmt.Sprintf("valid       0.0%%    %6.1f%%    n3", percent(p, "n3")),
		"-------------------------------------------------------------------------------",
		"",
		"WARNING: Not all replicas will be on distinct nodes",
	}
	for _, w := range p.Warnings {
		want = append(want, "  "+w.String())
	}
	want = append(want, "", fmt.Sprintf("Transfers resulting from cluster changes: %d", p.Transfers()))
	for _, m := range p.Moves {
		want = append(want, fmt.Sprintf("  %d transfers from %s to %s", m.Partitions, m.From, m.To))
	}
	if diff := cmp.Diff(strings.Join(want, "\n")+"\n", p.String()); diff != "" {
		t.Error(diff)
	}
	if len(p.Warnings) == 0 || p.Transfers() == 0 {
		t.Errorf("%d warnings, %d transfers", len(p.Warnings), p.Transfers())
	}
}

func percent(p *membership.Plan, name string) float64 {
	for _, s := range p.Shares {
		if s.Name == name {
			return float64(s.After) / float64(p.Partitions) * 100
		}
	}
	return -1
}

func TestPlanAsJSON(t *testing.T) {
	p := plan(t, must(t, cluster(t, 4, 8), joins("n5"), stages(membership.ChangeReplace, "n4", "n5")))
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"` + p.ID + `","epoch":7,"partitions":8,` +
		`"changes":[{"kind":"join","node":"n5","address":"n5:1","id":"6964206f66206e350000000000000000"},{"kind":"replace","node":"n4","with":"n5"}],` +
		`"shares":[{"name":"n1","status":"valid","before":2,"after":2},{"name":"n2","status":"valid","before":2,"after":2},{"name":"n3","status":"valid","before":2,"after":2},` +
		`{"name":"n4","status":"leaving","before":2,"after":0},{"name":"n5","status":"valid","before":0,"after":2}],` +
		`"moves":[{"from":"n4","to":"n5","partitions":2}],"warnings":[]}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
}

// Two operators have seen different plans: what one has not seen is not
// carried out for him.
func TestScenario30TwoPlansCannotBothCommit(t *testing.T) {
	s := must(t, cluster(t, 4, 64), joins("n5"))
	first := plan(t, s)
	s = must(t, s, stages(membership.ChangeLeave, "n1", ""))
	second := plan(t, s)
	after, err := apply(t, s, membership.Commit{Plan: first.ID})
	checkCode(t, err, "plan_changed: the plan has changed since it was shown; look at it again, and commit it if it is still what you want")
	after = must(t, after, membership.Commit{Plan: second.ID})
	if _, err := apply(t, after, membership.Commit{Plan: second.ID}); err == nil || err.Error() != "nothing is staged; stage a change first" {
		t.Errorf("committed twice: %v", err)
	}
}

// A replacement takes exactly what the other had, and the operator is told what
// is wrong with that.
func TestReplacementIsWarnedOf(t *testing.T) {
	var members []membership.Member
	for i := range 8 {
		members = append(members, membership.Member{Name: fmt.Sprintf("n%d", i+1), Zone: fmt.Sprintf("z%d", i/2+1)})
	}
	s := bootstrap(t, members, 64, 4)
	if len(s.Warnings()) > 0 {
		t.Fatalf("%v", s.Warnings())
	}
	for zone, warned := range map[string]bool{"z1": false, "z4": true} {
		join := joins("n9").(membership.Stage)
		join.Zone, join.Weight = zone, 300
		staged := must(t, s, join, stages(membership.ChangeReplace, "n1", "n9"))
		p := plan(t, staged)
		told := map[string]bool{}
		for _, w := range p.Warnings {
			told[fmt.Sprintf("%T", w)] = true
		}
		if !told["ring.UnfairShare"] || told["ring.SharedZone"] != warned || p.Transfers() != s.Ring().Owned("n1") {
			t.Errorf("zone %s, %d transfers: %v", zone, p.Transfers(), p.Warnings)
		}
		again, err := membership.DecodeState(must(t, staged, commits{}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]ring.Warning(p.Warnings), again.Warnings()); diff != "" {
			t.Error(diff)
		}
	}
}

// What is told of a ring as it is, is what a claim tells of the same ring.
func TestWarningsAreThoseOfAClaim(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {2, 1}, {3, 1}, {5, 1}, {8, 2}, {8, 4}, {9, 4}} {
		nodes, zones := size[0], size[1]
		var members []membership.Member
		for i := range nodes {
			members = append(members, membership.Member{Name: fmt.Sprintf("n%d", i+1), Zone: fmt.Sprintf("z%d", i%zones), Weight: 100 + 40*(i%3)})
		}
		s := bootstrap(t, members, 32, 4)
		if diff := cmp.Diff(s.Warnings(), membership.Lacks(s)); diff != "" {
			t.Errorf("%d nodes in %d zones: %s", nodes, zones, diff)
		}
	}
}

// A plan stays the same while other things happen, and changes with what it
// would do.
func TestPlanID(t *testing.T) {
	s := must(t, cluster(t, 4, 64), joins("n5"))
	p := plan(t, s)
	if other := plan(t, must(t, s, membership.Noop{}, membership.Down{Name: "n1"}, membership.Announce{Name: "n1", ID: id("n1")})); other.ID != p.ID {
		t.Error("the plan has changed though nothing that matters has happened")
	}
	for name, c := range map[string]membership.Command{
		"another zone of one that joins": membership.Stage{Change: membership.Change{Kind: membership.ChangeSet, Node: "n5", Zone: "z"}},
		"one that leaves":                stages(membership.ChangeLeave, "n2", ""),
		"one that replaces":              stages(membership.ChangeReplace, "n2", "n5"),
	} {
		if plan(t, must(t, s, c)).ID == p.ID {
			t.Errorf("%s: the same id", name)
		}
	}
}

func TestPlansFor(t *testing.T) {
	s := cluster(t, 4, 64)
	for _, tc := range []struct {
		name string
		do   []membership.Command
		want string // shares after, by name
	}{
		{"a join", []membership.Command{joins("n5")}, "n1 13 n2 13 n3 13 n4 13 n5 12"},
		{"a leave", []membership.Command{stages(membership.ChangeLeave, "n4", "")}, "n1 22 n2 21 n3 21 n4 0"},
		{"a replacement", []membership.Command{joins("n5"), stages(membership.ChangeReplace, "n2", "n5")}, "n1 16 n2 0 n3 16 n4 16 n5 16"},
		{"a replacement by force", []membership.Command{joins("n5"), stages(membership.ChangeForceReplace, "n2", "n5")}, "n1 16 n2 0 n3 16 n4 16 n5 16"},
		{"a removal by force", []membership.Command{stages(membership.ChangeForceRemove, "n4", "")}, "n1 22 n2 21 n3 21 n4 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := must(t, s, tc.do...)
			var shares []string
			for _, share := range plan(t, state).Shares {
				shares = append(shares, fmt.Sprintf("%s %d", share.Name, share.After))
			}
			if got := strings.Join(shares, " "); sortedCounts(got) != sortedCounts(tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			done := finish(t, must(t, state, commits{}))
			for _, share := range plan(t, state).Shares {
				if n := done.Ring().Owned(share.Name); n != share.After {
					t.Errorf("%s owns %d partitions at the end, and the plan says %d", share.Name, n, share.After)
				}
			}
		})
	}
}

// sortedCounts is the text with its numbers in order, for whoever gets the odd
// partition does not matter.
func sortedCounts(s string) string {
	counts := map[string]int{}
	for _, f := range strings.Fields(s) {
		counts[f]++
	}
	var n13 []string
	for _, k := range []string{"0", "12", "13", "16", "21", "22"} {
		n13 = append(n13, fmt.Sprintf("%s×%d", k, counts[k]))
	}
	return strings.Join(n13, " ")
}

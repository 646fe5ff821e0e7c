//go:build planted

package sim

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
)

// budgets says how many seeds may be needed to find each planted bug, counted from
// seed 1.
var budgets = []struct {
	bug   planted.Bug
	seeds uint64
}{
	{planted.AckBeforeDurable, 20},
	{planted.AckNoopEarly, 20},
	{planted.ReuseActor, 20},
	{planted.SharedActor, 20},
	{planted.NoDots, 20},
	{planted.ContextIgnored, 20},
	{planted.StoreOverwrites, 20},
	{planted.HeadCacheStale, 20},
	{planted.CountWMinusOne, 20},
	{planted.CountDuplicates, 20},
	{planted.GetFirstAnswer, 20},
	{planted.RepairReplaces, 20},
	{planted.RepairSkipsAbsent, 20},
	{planted.ForwardAgain, 60},
	{planted.DeleteBlind, 60},
	{planted.DeleteErases, 20},
	{planted.NeverUp, 20},
	{planted.MapOrder, 20},
	{planted.ReceiptBlind, 20},
	{planted.LostAsRefused, 20},
}

// TestPlanted plants one bug after the other, and must find each within its budget.
// It prints the score.
func TestPlanted(t *testing.T) {
	t.Cleanup(func() { planted.Plant("") })
	var score strings.Builder
	found, slowest, most := 0, planted.Bug(""), uint64(0)
	for _, b := range budgets {
		planted.Plant(b.bug)
		seed, how := hunt(b.bug, b.seeds)
		if how == "" {
			t.Errorf("%s was not found in %d seeds", b.bug, b.seeds)
			fmt.Fprintf(&score, "%-20s not found in %d seeds\n", b.bug, b.seeds)
			continue
		}
		found++
		if seed > most {
			slowest, most = b.bug, seed
		}
		fmt.Fprintf(&score, "%-20s seed %3d of %3d: %s\n", b.bug, seed, b.seeds, how)
	}
	t.Logf("found %d/%d, slowest %s in %d seeds\n%s", found, len(budgets), slowest, most, score.String())
}

// hunt runs seed after seed until the planted bug shows, and tells the seed and how.
func hunt(bug planted.Bug, budget uint64) (uint64, string) {
	for seed := uint64(1); seed <= budget; seed++ {
		r := Run(DrawWeather(seed), Options{})
		if bug == planted.MapOrder && Run(DrawWeather(seed), Options{}).Hash != r.Hash {
			return seed, "replay: the trace hash differs"
		}
		if len(r.Violations) > 0 {
			return seed, r.Violations[0].String()
		}
	}
	return 0, ""
}

// TestAllHaveBudgets holds the table against the list of bugs.
func TestAllHaveBudgets(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../planted/bugs.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		listed++
		name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range budgets {
			if string(b.bug) == name {
				return true
			}
		}
		t.Errorf("%s has no budget", name)
		return true
	})
	if listed != len(budgets) {
		t.Errorf("%d bugs are listed, %d have a budget", listed, len(budgets))
	}
}

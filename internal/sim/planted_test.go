//go:build planted

package sim

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
)

var onlyBug = flag.String("bug", "", "the planted bug that TestPlanted hunts; empty: all")

// hunted asks for the score of the simulation and not only for its proof.
var hunted = flag.Bool("hunt", false, "have TestPlanted count how many seeds it takes from the first on, and not try those first that have found a bug before")

// budgets says how many seeds may be needed to find each planted bug, counted from
// seed 1. Those in whose weather it cannot show are passed over, and counted.
var budgets = []struct {
	bug   planted.Bug
	seeds uint64
	last  uint64              // the seed that has found it before; a change of the weather may make it another
	shows func(*Weather) bool // nil: in all
}{
	{planted.AckBeforeDurable, 20, 1, nil},
	{planted.AckNoopEarly, 20, 1, nil},
	{planted.ReuseActor, 20, 2, nil},
	{planted.SharedActor, 20, 1, nil},
	{planted.NoDots, 20, 2, nil},
	{planted.ContextIgnored, 20, 1, nil},
	{planted.StoreOverwrites, 20, 1, nil},
	{planted.HeadCacheStale, 20, 1, nil},
	{planted.CountWMinusOne, 20, 1, nil},
	{planted.CountDuplicates, 20, 1, nil},
	{planted.GetFirstAnswer, 20, 1, nil},
	{planted.RepairReplaces, 20, 1, nil},
	{planted.RepairSkipsAbsent, 20, 2, nil},
	{planted.ForwardAgain, 60, 14, nil},
	{planted.DeleteBlind, 60, 2, nil},
	{planted.DeleteErases, 20, 1, nil},
	{planted.NeverUp, 20, 1, nil},
	{planted.MapOrder, 20, 1, nil},
	{planted.ReceiptBlind, 20, 1, nil},
	{planted.LostAsRefused, 20, 2, nil},
	{planted.NoFence, 100, 5, changing},
	{planted.SingleQuorum, 100, 22, changing},
	{planted.FilledEarly, 100, 7, changing},
	{planted.DropUnconfirmed, 100, 27, standing},
	{planted.DropChanged, 100, 10, standing},
	{planted.DropKeepsActor, 100, 66, strange},
	{planted.FallbackAbsent, 100, 4, standing},
	{planted.FallbackTwice, 100, 4, standing},
	{planted.FallbackEarly, 100, 4, standing},
	{planted.SettleEarly, 100, 24, changing},
	{planted.AnyPlan, 100, 5, changing},
	{planted.LackingAnswers, 100, 1, standing},
	{planted.ExpiryUnseen, 40, 2, expiring},
	{planted.ExpiryErases, 40, 2, expiring},
	{planted.ExpiryHasty, 60, 5, expiring},
	{planted.RotUnseen, 60, 21, rotting},
	{planted.RotForgiven, 100, 21, rotting},
	{planted.FullGrants, 60, 9, filling},
	{planted.ExchangeSkips, 100, 9, unread},
	{planted.MendSkipsAbsent, 100, 8, unread},
	{planted.MendOverwrites, 100, 9, mending},
	{planted.TreeKeepsDropped, 20, 1, standing},
	{planted.ReapAtOnce, 400, 13, reaping},
	{planted.ReapUnasked, 400, 17, reaping},
	{planted.ReapStrays, 1000, 504, reaping},
	{planted.ReapWithoutDown, 400, 74, reaping},
	{planted.ReapUnfenced, 400, 13, reaping},
	{planted.ReapChanged, 400, 32, reaping},
	{planted.GraveKept, 20, 1, nil},
	{planted.OutdatedMerged, 400, 126, reaping},
	{planted.WipeTakesOwn, 200, 11, reaping},
	{planted.LatestByDot, 60, 18, latest},
	{planted.LatestListsAll, 2000, 1476, strangeLast},
	{planted.ClockUnguarded, 100, 14, latest},
	{planted.Unguarded, 100, 76, conditional},
	{planted.FirstStateOnly, 20, 2, typed},
	{planted.ContextWritten, 60, 3, typed},
	{planted.NamesForgotten, 60, 10, typed},
	{planted.BeginsUnseen, 100, 42, typed},
	{planted.DeleteUnseen, 20, 2, typed},
	{planted.IndexKept, 20, 1, nil},
	{planted.IndexOneSided, 20, 1, nil},
	{planted.BucketsDead, 100, 12, nil},
}

func reaping(w *Weather) bool { return w.Reaps }

func conditional(w *Weather) bool { return w.Conditional > 0 && w.Calm }

func latest(w *Weather) bool { return w.Latest }

func typed(w *Weather) bool { return w.Data }

func changing(w *Weather) bool { return w.Topology }
func standing(w *Weather) bool { return w.Fallbacks }
func expiring(w *Weather) bool { return w.Expiring > 0 }
func rotting(w *Weather) bool  { return w.RotEvery > 0 }
func filling(w *Weather) bool  { return w.FullEvery > 0 }
func mending(w *Weather) bool  { return w.MendEvery > 0 }
func unread(w *Weather) bool   { return w.Unread }

func strange(w *Weather) bool     { return w.Strangers && w.Fallbacks }
func strangeLast(w *Weather) bool { return w.Strangers && w.Latest }

// controls is how many runs without any bug there are: what is found must come of it.
const controls = uint64(5)

// TestPlanted plants one bug after the other, and must find each within its budget.
// It prints the score.
func TestPlanted(t *testing.T) {
	t.Cleanup(func() { planted.Plant("") })
	for seed := range controls {
		if how := find("", DrawWeather(1+seed)); how != "" {
			t.Errorf("seed %d shows %s, and nothing is planted", 1+seed, how)
		}
	}
	var score strings.Builder
	sum := newTally("planted")
	slowest, most := planted.Bug(""), uint64(0)
	for _, b := range budgets {
		if *onlyBug != "" && *onlyBug != string(b.bug) {
			continue
		}
		planted.Plant(b.bug)
		sum.Planted++
		seed, how := b.last, ""
		if !*hunted {
			how = find(b.bug, DrawWeather(b.last))
		}
		if how == "" {
			seed, how = hunt(b.bug, b.seeds, b.shows)
		}
		if how == "" {
			t.Errorf("%s was not found in %d seeds", b.bug, b.seeds)
			fmt.Fprintf(&score, "%-20s not found in %d seeds\n", b.bug, b.seeds)
			continue
		}
		sum.Found++
		if seed > most {
			slowest, most = b.bug, seed
		}
		fmt.Fprintf(&score, "%-20s seed %3d of %3d: %s\n", b.bug, seed, b.seeds, how)
	}
	t.Logf("found %d/%d, slowest %s in %d seeds\n%s", sum.Found, sum.Planted, slowest, most, score.String())
	sum.publish(t)
}

// hunt runs seed after seed until the planted bug shows, and tells the seed and how.
func hunt(bug planted.Bug, budget uint64, shows func(*Weather) bool) (uint64, string) {
	for seed := uint64(1); seed <= budget; seed++ {
		w := DrawWeather(seed)
		if shows != nil && !shows(&w) {
			continue
		}
		if how := find(bug, w); how != "" {
			return seed, how
		}
	}
	return 0, ""
}

// find is how the planted bug shows in a run of that weather; empty: it does not.
func find(bug planted.Bug, w Weather) string {
	r := Run(w, Options{})
	if bug == planted.MapOrder && Run(w, Options{}).Hash != r.Hash {
		return "replay: the trace hash differs"
	}
	if len(r.Violations) > 0 {
		return r.Violations[0].String()
	}
	return ""
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

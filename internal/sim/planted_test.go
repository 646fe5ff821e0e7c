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

// budgets says how many seeds may be needed to find each planted bug, counted from
// seed 1. Those in whose weather it cannot show are passed over, and counted.
var onlyBug = flag.String("bug", "", "the planted bug that TestPlanted hunts; empty: all")

var budgets = []struct {
	bug   planted.Bug
	seeds uint64
	shows func(*Weather) bool // nil: in all
}{
	{planted.AckBeforeDurable, 20, nil},
	{planted.AckNoopEarly, 20, nil},
	{planted.ReuseActor, 20, nil},
	{planted.SharedActor, 20, nil},
	{planted.NoDots, 20, nil},
	{planted.ContextIgnored, 20, nil},
	{planted.StoreOverwrites, 20, nil},
	{planted.HeadCacheStale, 20, nil},
	{planted.CountWMinusOne, 20, nil},
	{planted.CountDuplicates, 20, nil},
	{planted.GetFirstAnswer, 20, nil},
	{planted.RepairReplaces, 20, nil},
	{planted.RepairSkipsAbsent, 20, nil},
	{planted.ForwardAgain, 60, nil},
	{planted.DeleteBlind, 60, nil},
	{planted.DeleteErases, 20, nil},
	{planted.NeverUp, 20, nil},
	{planted.MapOrder, 20, nil},
	{planted.ReceiptBlind, 20, nil},
	{planted.LostAsRefused, 20, nil},
	{planted.NoFence, 100, changing},
	{planted.SingleQuorum, 100, changing},
	{planted.FilledEarly, 100, changing},
	{planted.DropUnconfirmed, 100, standing},
	{planted.DropChanged, 100, standing},
	{planted.DropKeepsActor, 100, strange},
	{planted.FallbackAbsent, 100, standing},
	{planted.FallbackTwice, 100, standing},
	{planted.FallbackEarly, 100, standing},
	{planted.SettleEarly, 100, changing},
	{planted.AnyPlan, 100, changing},
	{planted.LackingAnswers, 100, standing},
	{planted.ExpiryUnseen, 40, expiring},
	{planted.ExpiryErases, 40, expiring},
	{planted.ExpiryHasty, 60, expiring},
	{planted.RotUnseen, 60, rotting},
	{planted.RotForgiven, 100, rotting},
	{planted.FullGrants, 60, filling},
	{planted.ExchangeSkips, 100, unread},
	{planted.MendSkipsAbsent, 100, unread},
	{planted.MendOverwrites, 100, mending},
	{planted.TreeKeepsDropped, 20, standing},
	{planted.ReapAtOnce, 400, reaping},
	{planted.ReapUnasked, 400, reaping},
	{planted.ReapStrays, 400, reaping},
	{planted.ReapWithoutDown, 400, reaping},
	{planted.ReapUnfenced, 400, reaping},
	{planted.ReapChanged, 400, reaping},
	{planted.GraveKept, 20, nil},
	{planted.OutdatedMerged, 400, reaping},
	{planted.LatestByDot, 60, latest},
	{planted.LatestListsAll, 100, strangeLast},
	{planted.ClockUnguarded, 100, latest},
	{planted.Unguarded, 100, conditional},
	{planted.FirstStateOnly, 20, typed},
	{planted.ContextWritten, 60, typed},
	{planted.NamesForgotten, 60, typed},
	{planted.BeginsUnseen, 100, typed},
	{planted.DeleteUnseen, 20, typed},
	{planted.IndexKept, 20, nil},
	{planted.IndexOneSided, 20, nil},
	{planted.BucketsDead, 100, nil},
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

// TestPlanted plants one bug after the other, and must find each within its budget.
// It prints the score.
func TestPlanted(t *testing.T) {
	t.Cleanup(func() { planted.Plant("") })
	var score strings.Builder
	sum := newTally("planted")
	slowest, most := planted.Bug(""), uint64(0)
	for _, b := range budgets {
		if *onlyBug != "" && *onlyBug != string(b.bug) {
			continue
		}
		planted.Plant(b.bug)
		sum.Planted++
		seed, how := hunt(b.bug, b.seeds, b.shows)
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
		r := Run(w, Options{})
		if bug == planted.MapOrder && Run(w, Options{}).Hash != r.Hash {
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

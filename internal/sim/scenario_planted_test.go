//go:build planted

package sim

import (
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
)

// TestPlantedInScenarios plants into each scenario what it is there to find.
func TestPlantedInScenarios(t *testing.T) {
	t.Cleanup(func() { planted.Plant("") })
	lost, before := amnesia(), restarts()
	for _, c := range []struct {
		scenario scenario
		bugs     []planted.Bug
	}{
		{bothSides, []planted.Bug{planted.ContextIgnored, planted.StoreOverwrites, planted.NoDots, planted.GetFirstAnswer}},
		{doomstone, []planted.Bug{planted.ReapWithoutDown, planted.StoreOverwrites}},
		{lost[0], []planted.Bug{planted.ReuseActor}}, // its disk
		{lost[1], []planted.Bug{planted.ReuseActor}}, // its vnode
		{lost[2], []planted.Bug{planted.SharedActor, planted.ContextIgnored}},
		{lost[3], []planted.Bug{planted.DropKeepsActor}}, // what it stood in for
		{rollback, []planted.Bug{planted.ReuseActor}},
		{reapRace, []planted.Bug{planted.ReapUnfenced, planted.ReapAtOnce, planted.ReapStrays, planted.DeleteErases}},
		{before[0], []planted.Bug{planted.DeleteErases}},
		{before[1], []planted.Bug{planted.DeleteErases}},
		{before[2], []planted.Bug{planted.DeleteErases}},
		{sessions, []planted.Bug{planted.CountDuplicates, planted.CountWMinusOne, planted.AckNoopEarly, planted.DropUnconfirmed}},
	} {
		for _, bug := range c.bugs {
			planted.Plant(bug)
			how := ""
			for seed := uint64(0); seed < scenarioSeeds && how == ""; seed++ {
				if found := tell(c.scenario.weather(seed), c.scenario.lead); len(found) > 0 {
					how = found[0].String()
				}
			}
			if how == "" {
				t.Errorf("%s does not find %s", c.scenario.name, bug)
			}
			t.Logf("%s: %s: %s", c.scenario.name, bug, how)
		}
	}
}

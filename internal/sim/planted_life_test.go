//go:build planted

package sim

import (
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
)

// chaptersToFind is how many chapters of a life may be needed to find a planted bug.
const chaptersToFind = 12

// TestPlantedLife plants bugs of all kinds in a life, each of which must show.
func TestPlantedLife(t *testing.T) {
	t.Cleanup(func() { planted.Plant("") })
	for _, bug := range []planted.Bug{
		planted.AckBeforeDurable, planted.ReuseActor, planted.StoreOverwrites, planted.CountWMinusOne, planted.GetFirstAnswer,
		planted.RepairReplaces, planted.NoDots, planted.NoFence, planted.ExpiryErases, planted.TreeKeepsDropped,
	} {
		if *onlyBug != "" && *onlyBug != string(bug) {
			continue
		}
		planted.Plant(bug)
		r := RunLife(shortLife(1, chaptersToFind), Options{})
		if len(r.Violations) == 0 {
			t.Errorf("%s was not found in %d chapters", bug, r.Chapters)
			continue
		}
		t.Logf("%-20s chapter %2d: %v", bug, r.Chapters, r.Violations[0])
	}
}

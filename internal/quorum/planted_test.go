//go:build planted

package quorum_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/quorum"
)

// TestPlantedCountDuplicates shows what the planted bug does: one
// replica that answers twice passes for two.
func TestPlantedCountDuplicates(t *testing.T) {
	verdict := func() quorum.Verdict {
		places, _ := plan("n1 n2 n3")
		tally := quorum.New(places, nil, []quorum.Requirement{{Name: "W", Need: 2}})
		answer(t, tally, "+0 +0")
		return tally.Verdict()
	}
	if got := verdict(); got != quorum.Pending {
		t.Fatalf("without the bug: %v, want pending", got)
	}
	planted.Plant(planted.CountDuplicates)
	defer planted.Plant("")
	if got := verdict(); got != quorum.Met {
		t.Errorf("with the bug: %v, want met", got)
	}
}

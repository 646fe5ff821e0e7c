//go:build planted

package membership_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/planted"
)

// TestPlantedNeverUp shows what the planted bug does: a peer comes up
// for the first time, and never again.
func TestPlantedNeverUp(t *testing.T) {
	again := func() bool {
		d := membership.NewDetector("n1", []string{"n2"}, membership.DetectorOptions{})
		d.Heard(1*s, "n2")
		if !d.Up("n2") {
			t.Error("down though it was heard for the first time")
		}
		d.Refused(2*s, "n2", "refused")
		d.Heard(3*s, "n2")
		return d.Up("n2")
	}
	if !again() {
		t.Fatal("without the bug: down")
	}
	planted.Plant(planted.NeverUp)
	defer planted.Plant("")
	if again() {
		t.Error("with the bug: up")
	}
}

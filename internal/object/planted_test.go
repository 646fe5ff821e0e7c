//go:build planted

package object

import (
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
)

// TestPlantedNoDots shows what the planted bug does: a value
// that was replaced is there again after a merge with an older copy.
func TestPlantedNoDots(t *testing.T) {
	a1, b1, a2 := dot(1, 1), dot(2, 1), dot(1, 2)
	newer := obj(vec(2), a2) // a:2 has replaced a:1
	older := obj(vec(1, 1), a1, b1)
	if got, want := Merge(newer, older), obj(vec(2, 1), a2, b1); !same(got, want) {
		t.Fatalf("without the bug: %v, want %v", got, want)
	}
	planted.Plant(planted.NoDots)
	defer planted.Plant("")
	if got, want := Merge(newer, older), obj(vec(2, 1), a1, a2, b1); !same(got, want) {
		t.Errorf("with the bug: %v, want %v", got, want)
	}
}

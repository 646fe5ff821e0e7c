package main

import (
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
)

func TestStatusShowsWhatIsWrongWithTheDisk(t *testing.T) {
	if got := trouble(&tanodb.StorageState{}); got != "" {
		t.Errorf("of a good disk: %q", got)
	}
	got := trouble(&tanodb.StorageState{Trouble: "the disk stands still", ReadErrors: 1, Corruptions: 2, Rebuilding: []int{3, 40}, Damaged: []int{5}})
	for _, want := range []string{"steps back", "the disk stands still", "failed: 1", "data: 2", "partitions 3, 40", "partitions 5"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

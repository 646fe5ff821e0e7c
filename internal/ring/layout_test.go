package ring

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestLayoutByExample(t *testing.T) {
	want := []int{0, 1, 2, 3, 0, 1, 2, 0, 1, 3}
	if diff := cmp.Diff(want, layout([]int{3, 3, 2, 2})); diff != "" {
		t.Error(diff)
	}
	if got := layout([]int{0, 0}); len(got) != 0 {
		t.Errorf("a layout of nothing is %v", got)
	}
}

func TestLayoutKeepsTheSameApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.SliceOfN(rapid.IntRange(0, 12), 1, 12).Draw(t, "count")
		circle := layout(count)
		found := make([]int, len(count))
		for _, i := range circle {
			found[i]++
		}
		if diff := cmp.Diff(count, found); diff != "" {
			t.Fatalf("other counts than asked for: %s", diff)
		}
		apart := len(circle) / max(1, slices.Max(count))
		for i, m := range circle {
			for d := 1; d < apart; d++ {
				if circle[(i+d)%len(circle)] == m {
					t.Fatalf("%d is at %d and %d places on, in %v; at least %d were possible", m, i, d, circle, apart)
				}
			}
		}
	})
}

package membership_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
)

// TestLives: what was shown in this life says nothing about how it began, and
// what was shown before does, in whatever order it is heard.
func TestLives(t *testing.T) {
	type heard struct{ life, epoch uint64 }
	for _, c := range []struct {
		name       string
		heard      []heard
		life, want uint64
	}{
		{"nothing was heard", nil, 7, 0},
		{"only this life", []heard{{7, 3}, {7, 9}}, 7, 0},
		{"the life before", []heard{{7, 9}, {8, 4}}, 8, 9},
		{"the life before, and none of this one yet", []heard{{7, 9}}, 8, 9},
		{"this life has come further since", []heard{{7, 9}, {8, 4}, {8, 12}}, 8, 9},
		{"what is late speaks of the life before", []heard{{7, 8}, {8, 4}, {7, 9}, {8, 12}}, 8, 9},
		{"several lives before", []heard{{6, 3}, {7, 9}, {8, 4}, {9, 4}}, 9, 9},
		{"a life without a number", []heard{{0, 99}}, 8, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l membership.Lives
			for _, h := range c.heard {
				l.Hear(h.life, h.epoch)
			}
			if got := l.Shown(c.life); got != c.want {
				t.Errorf("before life %d it has shown %d, want %d: %+v", c.life, got, c.want, l)
			}
		})
	}
}

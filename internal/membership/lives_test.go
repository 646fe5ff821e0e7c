package membership_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/storage"
)

// TestLives: what was shown in this life says nothing about how it began, and
// what was shown before does, in whatever order it is heard.
func TestLives(t *testing.T) {
	type heard struct{ life, epoch uint64 }
	for _, c := range []struct {
		name       string
		heard      []heard
		chance     bool // the numbers are drawn by chance
		life, want uint64
	}{
		{"nothing was heard", nil, false, 7, 0},
		{"only this life", []heard{{7, 3}, {7, 9}}, false, 7, 0},
		{"the life before", []heard{{7, 9}, {8, 4}}, false, 8, 9},
		{"the life before, and none of this one yet", []heard{{7, 9}}, false, 8, 9},
		{"this life has come further since", []heard{{7, 9}, {8, 4}, {8, 12}}, false, 8, 9},
		{"what is late speaks of the life before", []heard{{7, 8}, {8, 4}, {7, 9}, {8, 12}}, false, 8, 9},
		{"several lives before", []heard{{6, 3}, {7, 9}, {8, 4}, {9, 4}}, false, 9, 9},
		{"what is late speaks of a life that was not heard of in its time", []heard{{8, 4}, {7, 9}, {8, 12}}, false, 8, 9},
		{"and so does more of it", []heard{{8, 4}, {7, 9}, {8, 12}, {7, 10}, {9, 12}}, false, 9, 12},
		{"numbers without an order", []heard{{7, 9}, {3, 4}, {7, 10}, {3, 12}}, true, 3, 10},
		{"a life without a number", []heard{{0, 99}}, false, 8, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l membership.Lives
			for _, h := range c.heard {
				l.Hear(h.life, h.epoch, !c.chance)
			}
			if got := l.Shown(c.life); got != c.want {
				t.Errorf("before life %d it has shown %d, want %d: %+v", c.life, got, c.want, l)
			}
		})
	}
}

// TestNumbersOfLives: each life has a higher number than those before, whatever the clock
// says, and than those that others know of.
func TestNumbersOfLives(t *testing.T) {
	s := cluster(t, 3, 16)
	engine := storage.NewMemory()
	keep := func(b *storage.Batch) {
		t.Helper()
		if _, err := engine.Apply(b, true); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(at, random uint64) uint64 {
		t.Helper()
		l, b, err := membership.BeginLife(engine, "n2", at, random, s)
		if err != nil {
			t.Fatal(err)
		}
		keep(&b)
		return l.Number
	}
	for _, x := range []struct{ at, random, want uint64 }{
		{0, 9, 1},
		{5000, 9, 5000},
		{6000, 9, 6000},
		{6000, 9, 6010}, // the clock stands
		{100, 0, 6011},  // it was set back
		{7000, 9, 7000}, // it is right again
		{7, 1 << 32, 7001},
	} {
		if got := begin(x.at, x.random); got != x.want {
			t.Errorf("at %d, the life has the number %d, want %d", x.at, got, x.want)
		}
	}
	var b storage.Batch
	membership.KeepMet(&b, 9000)
	keep(&b)
	if got := begin(8000, 2); got != 9003 {
		t.Errorf("after one that others have met, the life has the number %d", got)
	}
	if got := begin(9500, 2); got != 9500 {
		t.Errorf("and when the clock is right, %d", got)
	}
}

package object

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStampAlwaysRises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Stamp(rapid.Uint64Range(0, math.MaxUint64-1).Draw(t, "stamp"))
		wall := rapid.Int64().Draw(t, "wall")
		next := s.Next(wall)
		if next <= s {
			t.Errorf("%v after %v at %d", next, s, wall)
		}
		if wall >= 0 && wall <= maxWallMs && next.Wall().UnixMilli() < wall {
			t.Errorf("%v is before the wall clock %d", next, wall)
		}
	})
}

func TestStampFollowsTheWallClock(t *testing.T) {
	var s Stamp
	const ms = 1_700_000_000_000
	for _, c := range []struct {
		wall int64
		want string
	}{
		{ms, "1700000000000.0"},
		{ms, "1700000000000.1"},
		{ms - 5000, "1700000000000.2"}, // set back
		{-1, "1700000000000.3"},
		{ms + 1, "1700000000001.0"},
		{math.MaxInt64, "281474976710655.0"}, // clamped
	} {
		if s = s.Next(c.wall); s.String() != c.want {
			t.Errorf("at %d: %v, want %v", c.wall, s, c.want)
		}
	}
	full := Stamp(ms<<logicalBits | 0xffff)
	if got := full.Next(ms).String(); got != "1700000000001.0" {
		t.Errorf("after %v comes %v", full, got)
	}
	if got := Stamp(math.MaxUint64).Next(ms); got != math.MaxUint64 {
		t.Errorf("the last stamp is followed by %v", got)
	}
	if got, want := full.Wall(), time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC); got != want {
		t.Errorf("wall clock %v, want %v", got, want)
	}
}

package object

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestARemnantTakesNothingAway: what another copy has stays beside a remnant, unless the
// object that it is left of knew that it was replaced; and the remnant has what was to be
// kept, and no more.
func TestARemnantTakesNothingAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Two copies, written to and merged at will, by actors of which 5 and 6 are new.
		var copies [2]Object
		var counters [7]uint64
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "copy")
			if rapid.IntRange(0, 3).Draw(t, "merge") == 0 {
				copies[i] = Merge(copies[0], copies[1])
				continue
			}
			var seen Vector
			for _, s := range copies[i].Siblings {
				if rapid.Bool().Draw(t, "seen") {
					seen = seen.With(s.Dot)
				}
			}
			a := 2*rapid.IntRange(0, 2).Draw(t, "actor") + i + 1 // no actor writes to both
			counters[a]++
			copies[i] = Write(copies[i], seen, Sibling{Dot: Dot{Actor{byte(a)}, counters[a]}, Deleted: rapid.Bool().Draw(t, "deletes")})
		}
		o, other := copies[0], copies[1]
		since := rapid.Uint64Range(0, 3).Draw(t, "since") // of an actor that goes on, too
		keep := func(d Dot) bool { return d.Actor[0] >= 5 || d.Actor[0] == 1 && d.Counter > since }
		minted := uint64(0)
		left, some := o.Remnant(keep, func() Dot { minted++; return Dot{Actor{99}, minted} })
		kept := 0
		for _, s := range o.Siblings {
			if keep(s.Dot) {
				kept++
			}
		}
		if some != (kept > 0) || len(left.Siblings) != kept {
			t.Fatalf("of %v with %d to keep there is left %v, %v", o, kept, left, some)
		}
		for _, s := range left.Siblings {
			if !left.Clock.Covers(s.Dot) {
				t.Fatalf("%v does not cover %v", left, s.Dot)
			}
		}
		merged := Merge(left, other)
		has := func(o Object, d Dot) bool { return slices.ContainsFunc(o.Siblings, func(s Sibling) bool { return s.Dot == d }) }
		for _, s := range other.Siblings {
			replaced := o.Clock.Covers(s.Dot) && !has(o, s.Dot)
			if !replaced && !has(merged, s.Dot) {
				t.Fatalf("%v of %v is gone beside %v, which is left of %v", s.Dot, other, left, o)
			}
		}
	})
}

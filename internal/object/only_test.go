package object

import (
	"testing"

	"pgregory.net/rapid"
)

// TestOnlyLeavesWhatSomeActorsWrote: the laws that make it safe to merge what is left with any copy.
func TestOnlyLeavesWhatSomeActorsWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, other := genObject(t, "o"), genObject(t, "other")
		before := string(o.Encode())
		ours := rapid.SliceOfN(rapid.Bool(), modelActors+1, modelActors+1).Draw(t, "mine")
		mine := func(a Actor) bool {
			for n := range ours {
				if a == actor(n) {
					return ours[n]
				}
			}
			return false
		}
		kept, changed := o.Only(mine)
		checkInvariants(t, kept)
		stay, gone := set{}, set{}
		for d := range alive(o) {
			if mine(d.Actor) {
				stay[d] = true
			} else {
				gone[d] = true
			}
		}
		if !alive(kept).equal(stay) || changed != (len(gone) > 0) {
			t.Fatalf("of %v there is %v, changed %v", o, kept, changed)
		}
		if !changed && !same(kept, o) || before != string(o.Encode()) {
			t.Fatalf("%v was changed to %v", o, kept)
		}
		if again, changed := kept.Only(mine); changed || !same(again, kept) {
			t.Errorf("a second time %v changes to %v", kept, again)
		}
		if !o.Clock.Descends(kept.Clock) || len(covered(kept.Clock).minus(gone)) != len(covered(kept.Clock)) {
			t.Errorf("of %v there is %v, whose clock claims too much", o, kept)
		}
		if m := Merge(kept, o); !same(m, o) {
			t.Errorf("%v, merged with what was left of it, %v, is %v", o, kept, m)
		}
		m, whole := Merge(other, kept), Merge(other, o)
		replaced := covered(o.Clock).minus(alive(o))
		if lost := alive(other).minus(alive(m)); !replaced.contains(lost) {
			t.Errorf("%v takes %v from %v, which it has not seen replaced", kept, lost, other)
		}
		if brought := alive(m).minus(alive(other)); !stay.contains(brought) {
			t.Errorf("%v brings %v to %v", kept, brought, other)
		}
		for d := range stay {
			if alive(m)[d] != alive(whole)[d] {
				t.Errorf("%v of %v is alive in %v, in %v it is not, or the other way round", d, kept, m, whole)
			}
		}
	})
}

// TestOnlyKeepsTheClaimsOfWhatStays: what a sibling that stays has replaced does not come back.
func TestOnlyKeepsTheClaimsOfWhatStays(t *testing.T) {
	first := func(a Actor) bool { return a == actor(1) }
	for _, c := range []struct {
		what           string
		o, kept, other Object
		merged         Object
	}{
		{
			"a write that has replaced the old value",
			obj(vec(1, 3), dot(1, 1)), obj(vec(1, 3), dot(1, 1)),
			obj(vec(0, 3), dot(2, 3)), obj(vec(1, 3), dot(1, 1)),
		}, {
			"a write beside the old value",
			obj(vec(1, 3, 2), dot(1, 1), dot(2, 3)), obj(vec(1, 2, 2), dot(1, 1)),
			obj(vec(0, 3, 1), dot(2, 3), dot(3, 1)), obj(vec(1, 3, 2), dot(1, 1), dot(2, 3)),
		}, {
			"a write beside two old values of one actor",
			obj(vec(1, 4), dot(1, 1), dot(2, 2), dot(2, 4)), obj(vec(1, 1), dot(1, 1)),
			obj(vec(0, 2), dot(2, 1), dot(2, 2)), obj(vec(1, 2), dot(1, 1), dot(2, 2)),
		}, {
			"a write beside the first value of another actor",
			obj(vec(1, 1), dot(1, 1), dot(2, 1)), obj(vec(1), dot(1, 1)),
			Object{}, obj(vec(1), dot(1, 1)),
		}, {
			"no write",
			obj(vec(1, 3), dot(2, 3)), Object{},
			obj(vec(0, 3), dot(2, 3)), obj(vec(0, 3), dot(2, 3)),
		},
	} {
		kept, _ := c.o.Only(first)
		if !same(kept, c.kept) {
			t.Errorf("%s: of %v there is %v, want %v", c.what, c.o, kept, c.kept)
		}
		if m := Merge(c.other, kept); !same(m, c.merged) {
			t.Errorf("%s: merged with %v it is %v, want %v", c.what, c.other, m, c.merged)
		}
	}
}

package object

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestVectorAgreesWithSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, o := genVector(t, "v"), genVector(t, "o")
		d := dot(rapid.IntRange(1, modelActors).Draw(t, "actor"), rapid.Uint64Range(1, modelCounters+1).Draw(t, "counter"))
		vBefore, oBefore := slices.Clone(v), slices.Clone(o)

		if got, want := v.Covers(d), covered(v)[d]; got != want {
			t.Errorf("%v covers %v: %v, want %v", v, d, got, want)
		}
		if got, want := v.Descends(o), covered(v).contains(covered(o)); got != want {
			t.Errorf("%v descends from %v: %v, want %v", v, o, got, want)
		}
		if got, want := v.Equal(o), covered(v).equal(covered(o)); got != want {
			t.Errorf("%v equals %v: %v, want %v", v, o, got, want)
		}
		join := v.Join(o)
		checkInvariants(t, Object{Clock: join})
		if !covered(join).equal(covered(v).union(covered(o))) {
			t.Errorf("%v join %v is %v", v, o, join)
		}
		with := v.With(d)
		checkInvariants(t, Object{Clock: with})
		if !covered(with).equal(covered(v).union(covered(Vector{d}))) {
			t.Errorf("%v with %v is %v", v, d, with)
		}
		if !v.Equal(vBefore) || !o.Equal(oBefore) {
			t.Errorf("an operand was changed: %v was %v, %v was %v", v, vBefore, o, oBefore)
		}
	})
}

func TestVectorCounterIsZeroForOthers(t *testing.T) {
	v := vec(3, 0, 7)
	for n, want := range map[int]uint64{0: 0, 1: 3, 2: 0, 3: 7, 4: 0} {
		if got := v.Counter(actor(n)); got != want {
			t.Errorf("counter of actor %d is %d, want %d", n, got, want)
		}
	}
	if !v.With(dot(2, 0)).Equal(v) {
		t.Errorf("a dot of counter 0 was added: %v", v.With(dot(2, 0)))
	}
}

func TestVectorFastPathsDoNotAllocate(t *testing.T) {
	old, young := vec(1, 2, 3), vec(2, 2, 4)
	allocs := testing.AllocsPerRun(100, func() {
		if !young.Join(old).Equal(young) || !old.Join(young).Equal(young) || !young.With(dot(3, 4)).Equal(young) {
			t.Error("wrong result")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestStringsShowWhatTheyAre(t *testing.T) {
	s := sib(dot(1, 2))
	for _, c := range []struct{ got, want string }{
		{vec(1, 2).String(), "(0100000102030405:1 0200000102030405:2)"},
		{Vector(nil).String(), "()"},
		{s.String(), "0100000102030405:2 at 102.0 27 bytes expires 102"},
		{obj(vec(2, 1), dot(1, 1), dot(2, 1)).String(),
			"(0100000102030405:2 0200000102030405:1) {0100000102030405:1 at 101.0 0 bytes deleted, 0200000102030405:1 at 201.0 0 bytes deleted}"},
		{Equal.String() + Newer.String() + Older.String() + Concurrent.String(), "equalnewerolderconcurrent"},
	} {
		if c.got != c.want {
			t.Errorf("got %s\nwant %s", c.got, c.want)
		}
	}
}

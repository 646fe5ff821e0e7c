package object

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/tanodb/tanodb/kv"
	"pgregory.net/rapid"
)

// actor is the n-th test actor; the order of actors is that of n.
func actor(n int) (a Actor) {
	binary.BigEndian.PutUint64(a[:], uint64(n)<<56|0x0102030405)
	return a
}

func dot(n int, counter uint64) Dot { return Dot{actor(n), counter} }

// vec makes a vector of counters for actors 1, 2, …; 0 leaves the actor out.
func vec(counters ...uint64) Vector {
	var v Vector
	for i, c := range counters {
		if c > 0 {
			v = append(v, dot(i+1, c))
		}
	}
	return v
}

// sib is the sibling of a dot; all that it holds follows from the dot.
func sib(d Dot) Sibling {
	n := uint64(d.Actor[0])*100 + d.Counter
	s := Sibling{Dot: d, Stamp: Stamp(n << logicalBits)}
	switch n % 5 {
	case 1:
		s.Deleted = true
		return s
	case 2:
		s.Expires = int64(n)
	case 3:
		s.Request = kv.RequestID{1, byte(n)}
	}
	s.Body = AppendBody(nil, &kv.Value{Data: fmt.Appendf(nil, "value %d", n), ContentType: "text/plain"})
	s.Size = len(s.Body)
	return s
}

func obj(clock Vector, dots ...Dot) Object {
	o := Object{Clock: clock}
	for _, d := range dots {
		o.Siblings = append(o.Siblings, sib(d))
	}
	return o
}

func dots(o Object) []Dot {
	var ds []Dot
	for _, s := range o.Siblings {
		ds = append(ds, s.Dot)
	}
	return ds
}

// head is the object as DecodeHead would give it.
func head(o Object) Object {
	h := Object{Clock: o.Clock, Siblings: slices.Clone(o.Siblings)}
	for i := range h.Siblings {
		h.Siblings[i].Body = nil
	}
	return h
}

const (
	modelActors   = 3
	modelCounters = 4
)

// genVector draws a vector of the small world in which all properties are
// tested: 3 actors with up to 4 writes each.
func genVector(t *rapid.T, label string) Vector {
	return vec(rapid.SliceOfN(rapid.Uint64Range(0, modelCounters), modelActors, modelActors).Draw(t, label)...)
}

// genObject draws any object of the small world that keeps the invariants.
func genObject(t *rapid.T, label string) Object {
	o := Object{Clock: genVector(t, label+" clock")}
	for _, d := range o.Clock {
		for c := uint64(1); c <= d.Counter; c++ {
			if rapid.Bool().Draw(t, label+" has a sibling") {
				o.Siblings = append(o.Siblings, sib(Dot{d.Actor, c}))
			}
		}
	}
	return o
}

// set is the dumb second implementation of everything: sets of dots, written
// out one by one.
type set map[Dot]bool

func (s set) union(o set) set {
	u := set{}
	for d := range s {
		u[d] = true
	}
	for d := range o {
		u[d] = true
	}
	return u
}

func (s set) minus(o set) set {
	m := set{}
	for d := range s {
		if !o[d] {
			m[d] = true
		}
	}
	return m
}

func (s set) contains(o set) bool { return len(o.minus(s)) == 0 }

func (s set) equal(o set) bool { return s.contains(o) && o.contains(s) }

// covered are all dots that a vector covers.
func covered(v Vector) set {
	s := set{}
	for _, d := range v {
		for c := uint64(1); c <= d.Counter; c++ {
			s[Dot{d.Actor, c}] = true
		}
	}
	return s
}

// alive are the dots of an object's siblings.
func alive(o Object) set {
	s := set{}
	for _, d := range dots(o) {
		s[d] = true
	}
	return s
}

// checkInvariants fails the test if o is not as an Object must be.
func checkInvariants(t rapid.TB, o Object) {
	t.Helper()
	for i, d := range o.Clock {
		if d.Counter == 0 || i > 0 && o.Clock[i-1].Actor.Compare(d.Actor) >= 0 {
			t.Fatalf("the clock is out of order or has a zero: %v", o)
		}
	}
	for i, s := range o.Siblings {
		if !o.Clock.Covers(s.Dot) {
			t.Fatalf("sibling %v is not covered: %v", s.Dot, o)
		}
		if i > 0 && o.Siblings[i-1].Dot.Compare(s.Dot) >= 0 {
			t.Fatalf("siblings are out of order: %v", o)
		}
	}
}

func same(a, b Object) bool { return string(a.Encode()) == string(b.Encode()) }

func TestModelIsNotTrivial(t *testing.T) {
	o := obj(vec(3, 2), dot(1, 3), dot(2, 1))
	checkInvariants(t, o)
	if got := len(covered(o.Clock)); got != 5 {
		t.Errorf("the clock covers %d dots, want 5", got)
	}
	if got := len(covered(o.Clock).minus(alive(o))); got != 3 {
		t.Errorf("%d dots are replaced, want 3", got)
	}
}

package crdt

import (
	"fmt"
	"testing"
)

const benchElems = 1000

// benchSets are two copies of a set of 1000 elements, each with one element that
// the other lacks.
func benchSets(b *testing.B) (x, y State) {
	s := fresh(b, Set)
	for i := range benchElems - 1 {
		s = apply(b, s, adds(fmt.Sprintf("element-%04d", i)), dot(i%3+1, uint64(i+1)), nil)
	}
	return apply(b, s, adds("x"), dot(1, benchElems), nil), apply(b, s, adds("y"), dot(2, benchElems), nil)
}

func BenchmarkMergeSetsOf1000(b *testing.B) {
	x, y := benchSets(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Merge(x, y); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAddToSetOf1000(b *testing.B) {
	x, _ := benchSets(b)
	op := adds("z")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Apply(op, dot(3, benchElems), 1, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteToSetOf1000 is what a coordinator does for a write: decode two
// siblings, merge, add an element, encode.
func BenchmarkWriteToSetOf1000(b *testing.B) {
	x, y := benchSets(b)
	encX, encY := x.Append(nil), y.Append(nil)
	op := adds("z")
	b.ReportAllocs()
	b.SetBytes(int64(len(encX)))
	for b.Loop() {
		x, errX := Decode(encX)
		y, errY := Decode(encY)
		s, errM := Merge(x, y)
		s, err := s.Apply(op, dot(3, benchElems), 1, nil)
		if errX != nil || errY != nil || errM != nil || err != nil {
			b.Fatal(errX, errY, errM, err)
		}
		encZ := s.Append(make([]byte, 0, len(encX)+64))
		if len(encZ) < len(encX) {
			b.Fatal("an element was lost")
		}
	}
}

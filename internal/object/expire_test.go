package object

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// The bytes of an expired value may go at one copy and not yet at another, and
// at each of several values at another moment. Whatever the order in which the
// copies meet, they come to the same bytes, and nothing comes back.
func TestScenario21ExpiredCopiesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genObject(t, "a"), genObject(t, "b")
		const latest = 1000
		x, _ := a.Expire(rapid.Int64Range(0, latest).Draw(t, "clock of x"))
		y, _ := b.Expire(rapid.Int64Range(0, latest).Draw(t, "clock of y"))
		m := Merge(x, y)
		checkInvariants(t, m)
		if !same(m, Merge(y, x)) || !same(Merge(m, a), m) || !same(Merge(b, m), m) {
			t.Fatalf("the copies that have their bytes bring something back:\n%v\n%v\n%v", a, b, m)
		}
		if r := Compare(m, x); r != Equal && r != Newer {
			t.Fatalf("%v is %v than %v", m, r, x)
		}
		all, _ := Merge(a, b).Expire(latest)
		if end, _ := m.Expire(latest); !same(end, all) {
			t.Fatalf("expired before the merge %v\nand after it  %v", end, all)
		}
		if at := rapid.Int64Range(0, 2*latest).Draw(t, "instant"); m.Live(at) && !Merge(a, b).Live(at) {
			t.Fatalf("alive at %d, and dead before: %v", at, m)
		}
	})
}

func TestExpireKeepsAllButTheBytes(t *testing.T) {
	o := obj(vec(3, 1), dot(1, 3), dot(2, 1))
	o.Siblings[0].Expires, o.Siblings[1].Expires = 50, 0
	if at, ok := o.NextExpiry(); !ok || at != 50 {
		t.Errorf("expires next at %d, %v", at, ok)
	}
	if _, changed := o.Expire(49); changed {
		t.Error("expired before its time")
	}
	got, changed := o.Expire(50)
	if !changed || len(got.Siblings) != 2 || !got.Siblings[0].Deleted || got.Siblings[0].Size+len(got.Siblings[0].Body) > 0 {
		t.Fatalf("at its time: %v", got)
	}
	if s := got.Siblings[0]; s.Dot != o.Siblings[0].Dot || s.Stamp != o.Siblings[0].Stamp || s.Expires != 50 || s.Request != o.Siblings[0].Request {
		t.Errorf("something else has changed: %v", s)
	}
	if o.Siblings[0].Deleted {
		t.Error("the original has changed")
	}
	if _, ok := got.NextExpiry(); ok {
		t.Error("what has expired expires again")
	}
	if d, err := Decode(got.Encode()); err != nil || !same(d, got) {
		t.Errorf("its encoding: %v", err)
	}
}

func TestCheckIsThatOfDecode(t *testing.T) {
	enc := obj(vec(3, 1), dot(1, 3), dot(2, 1)).Encode()
	if err := Check(enc); err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(enc) {
		bad := append([]byte(nil), enc...)
		bad[i/8] ^= 1 << (i % 8)
		_, want := Decode(bad)
		if got := Check(bad); !errors.Is(want, ErrCorrupt) || !errors.Is(got, ErrCorrupt) {
			t.Fatalf("bit %d: Check says %v, Decode %v", i, got, want)
		}
	}
}

package crdt

import (
	"bytes"
	"errors"
	"testing"
)

// checkState fails the test if a state that was decoded does not do what all
// states do: encode to its bytes, merge, and take an operation.
func checkState(t *testing.T, s State, enc []byte) {
	t.Helper()
	if !bytes.Equal(s.Append(nil), enc) {
		t.Fatalf("accepted, but encodes to other bytes:\n%x\n%x", enc, s.Append(nil))
	}
	_ = s.String()
	if again := merge(t, s, s); !bytes.Equal(again.Append(nil), enc) {
		t.Fatalf("merged with itself, %v becomes %v", s, again)
	}
	ops := map[Kind]Op{Counter: CounterOp(0), Set: adds("x"), GSet: GSetOp(elems("x")), HLL: HLLOp(elems("x")), Map: update("s", adds("x"))}
	after, err := s.Apply(ops[s.Kind()], dot(200, 1), 1, vec(1))
	if err != nil {
		if !errors.Is(err, ErrSeen) {
			t.Fatalf("an operation on %v: %v", s, err)
		}
		return
	}
	checkReadable(t, after)
	checkReadable(t, after.Seen(vec(9, 9)))
	if both := merge(t, s, after); !bytes.Equal(both.Append(nil), after.Append(nil)) {
		t.Fatalf("%v and what became of it, %v, merge to %v", s, after, both)
	}
}

// checkReadable fails the test if a state breaks what Decode checks.
func checkReadable(t *testing.T, s State) {
	t.Helper()
	if again, err := Decode(s.Append(nil)); err != nil || again.String() != s.String() {
		t.Fatalf("%v decodes to %v, %v", s, again, err)
	}
}

func FuzzDecode(f *testing.F) {
	states, _ := samples(f)
	for _, s := range states {
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error %v is of no known kind", err)
			}
			return
		}
		checkState(t, s, b)
	})
}

// FuzzMerge merges any two states that can be decoded, also those that no
// history reaches.
func FuzzMerge(f *testing.F) {
	states, _ := samples(f)
	for _, s := range states {
		for _, o := range states {
			if s.Kind() == o.Kind() {
				f.Add(s.Append(nil), o.Append(nil))
			}
		}
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, errA := Decode(x)
		b, errB := Decode(y)
		if errA != nil || errB != nil {
			return
		}
		ab, err := Merge(a, b)
		if err != nil {
			var kind *KindError
			if !errors.As(err, &kind) {
				t.Fatalf("error %v is of no known kind", err)
			}
			return
		}
		checkReadable(t, ab)
		if ba := merge(t, b, a); !bytes.Equal(ba.Append(nil), ab.Append(nil)) {
			t.Fatalf("not commutative: %v and %v", a, b)
		}
		if again := merge(t, ab, b); !bytes.Equal(again.Append(nil), ab.Append(nil)) {
			t.Fatalf("not monotone: %v and %v", a, b)
		}
	})
}

func FuzzDecodeOp(f *testing.F) {
	_, ops := samples(f)
	for _, op := range ops {
		enc, err := AppendOp(nil, op)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		op, err := DecodeOp(b)
		if err != nil {
			var limit *LimitError
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.As(err, &limit) {
				t.Fatalf("error %v is of no known kind", err)
			}
			return
		}
		again, err := AppendOp(nil, op)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted, but encodes to other bytes: %v\n%x\n%x", err, b, again)
		}
		s, err := New(op.Kind(), 0)
		if err != nil {
			return // a register's or a flag's, which are not on their own
		}
		after, err := s.Apply(op, dot(1, 1), 1, vec(0, 1))
		if err != nil && !errors.Is(err, ErrOverflow) {
			t.Fatalf("applied to nothing: %v", err)
		}
		if err == nil {
			checkReadable(t, after)
		}
	})
}

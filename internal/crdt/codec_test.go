package crdt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files of this package")

// everything is a state of a map with all that can be in one: concurrent
// assignments, a counter of two actors, and removals that are pending at a
// field, an element and a flag.
func everything(t testing.TB) State {
	t.Helper()
	a := apply(t, fresh(t, Map), MapOp{Updates: []Update{
		{Field: Field{Name: "n", Kind: Counter}, Op: CounterOp(300)}, {Field: Field{Name: "s", Kind: Set}, Op: adds("x", "y")}, {Field: Field{Name: "r", Kind: Register}, Op: RegisterOp("a")},
		{Field: Field{Name: "m", Kind: Map}, Op: update("on", FlagOp(true))},
	}}, dot(1, 7), nil)
	b := apply(t, fresh(t, Map), MapOp{Updates: []Update{
		{Field: Field{Name: "n", Kind: Counter}, Op: CounterOp(-2)}, {Field: Field{Name: "s", Kind: Set}, Op: adds("y")}, {Field: Field{Name: "r", Kind: Register}, Op: RegisterOp("b")},
	}}, dot(2, 300), nil)
	ab := merge(t, a, b)
	ahead := vec(7, 300, 2)
	return apply(t, ab, MapOp{
		Removes: []Field{{Name: "gone", Kind: Map}},
		Updates: []Update{{Field: Field{Name: "s", Kind: Set}, Op: removes("x", "z")}, {Field: Field{Name: "m", Kind: Map}, Op: update("off", FlagOp(false))}},
	}, dot(2, 301), ahead)
}

// samples are states and operations of all kinds, by name.
func samples(t testing.TB) (states map[string]State, ops map[string]Op) {
	t.Helper()
	states = map[string]State{
		"an empty set": fresh(t, Set),
		"a counter":    merge(t, apply(t, fresh(t, Counter), CounterOp(5), dot(1, 1), nil), apply(t, fresh(t, Counter), CounterOp(-3), dot(2, 9), nil)),
		"a set":        apply(t, apply(t, fresh(t, Set), adds("x", "y"), dot(1, 1), nil), removes("x", "z"), dot(1, 2), vec(1, 4)),
		"a gset":       apply(t, fresh(t, GSet), GSetOp(elems("b", "a", "b")), dot(1, 1), nil),
		"a sparse hll": hllOf(t, 14, HLLOp(elems("a", "b"))),
		"a dense hll":  hllOf(t, 4, counted(0, 20)),
		"a map":        everything(t),
	}
	ops = map[string]Op{
		"a counter's":    CounterOp(-3),
		"a set's":        SetOp{Adds: elems("x", ""), Removes: elems("y")},
		"a gset's":       GSetOp(elems("x")),
		"an hll's":       HLLOp(elems("x", "y")),
		"a register's":   RegisterOp("v"),
		"a flag's":       FlagOp(true),
		"a map's":        MapOp{Removes: []Field{{Name: "g", Kind: Flag}}, Updates: []Update{{Field: Field{Name: "n", Kind: Counter}, Op: CounterOp(1)}, {Field: Field{Name: "m", Kind: Map}, Op: update("r", RegisterOp("v"))}}},
		"an empty map's": MapOp{},
	}
	return states, ops
}

func TestSamplesRoundTrip(t *testing.T) {
	states, ops := samples(t)
	for name, s := range states {
		enc := s.Append([]byte("before"))
		again, err := Decode(enc[6:])
		if err != nil || !bytes.Equal(again.Append(nil), enc[6:]) || again.String() != s.String() || again.Kind() != s.Kind() {
			t.Errorf("%s: %v decodes to %v, %v", name, s, again, err)
		}
		for n := range len(enc) - 6 {
			if _, err := Decode(enc[6 : 6+n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut to %d bytes: error %v", name, n, err)
			}
		}
		if _, err := Decode(append(enc[6:], 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte more: error %v", name, err)
		}
	}
	for name, op := range ops {
		enc, err := AppendOp(nil, op)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := DecodeOp(enc)
		if diff := cmp.Diff(op, again); err != nil || diff != "" {
			t.Errorf("%s: error %v, differs:\n%s", name, err, diff)
		}
		for n := range enc {
			if _, err := DecodeOp(enc[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut to %d bytes: error %v", name, n, err)
			}
		}
	}
}

func TestOperationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom([]Kind{Counter, Set, Register, Flag, Map, GSet, HLL}).Draw(t, "kind")
		op := genOp(k, 3).Draw(t, "op")
		enc, err := AppendOp(nil, op)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeOp(enc)
		if err != nil || again.Kind() != k {
			t.Fatalf("%v decodes to %v, %v", op, again, err)
		}
		if twice, err := AppendOp(nil, again); err != nil || !bytes.Equal(twice, enc) {
			t.Fatalf("%v encodes to other bytes once it was decoded: %v", op, err)
		}
	})
}

// TestGolden holds the formats: a change of them must show in review.
func TestGolden(t *testing.T) {
	op, err := AppendOp(nil, MapOp{Removes: []Field{{Name: "g", Kind: Flag}}, Updates: []Update{{Field: Field{Name: "s", Kind: Set}, Op: SetOp{Adds: elems("x"), Removes: elems("y")}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := "state\n" + hex.Dump(everything(t).Append(nil)) + "operation\n" + hex.Dump(op) +
		"sparse HyperLogLog\n" + hex.Dump(hllOf(t, 14, HLLOp(elems("a", "b"))).Append(nil)) +
		"dense HyperLogLog\n" + hex.Dump(hllOf(t, 4, counted(0, 20)).Append(nil))
	const path = "testdata/formats_v1.hex"
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if it must, run with -rewrite:\n%s", path, cmp.Diff(string(want), got))
	}
	wantValue(t, everything(t), `{m:map={off:flag=false on:flag=true} n:counter=298 r:register="b" s:set={"y"}}`)
}

// The bytes of the parts that the table below puts together.
const (
	oneActor = "\x01\x01\x00\x00\x00\x01\x02\x03\x04\x05" // a context (a:5)
	late     = "\x01\x01\x00\x00\x00\x01\x02\x03\x04\x09" // a vector (a:9)
)

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ name, bytes, problem string }{
		{"a version of later", "\x02\x02\x00\x00", "version 2"},
		{"a field's kind at the top", "\x01\x03\x00\x00", "no kind"},
		{"no kind", "\x01\x00\x00\x00", "no kind"},
		{"actors out of order", "\x01\x02\x02" + oneActor[1:] + oneActor[1:] + "\x00", "actors are out of order"},
		{"a counter of zero", "\x01\x02" + oneActor[:9] + "\x00\x00", "counter is zero"},
		{"a number in a longer form", "\x01\x02" + oneActor + "\x80\x00", "shortest form"},
		{"a number past 64 bits", "\x01\x02" + oneActor + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "past 64 bits"},
		{"more elements than bytes", "\x01\x02" + oneActor + "\xff\xff\xff\x7f", "more than the bytes can hold"},
		{"more dots than bytes", "\x01\x02" + oneActor + "\x01\x00\xfe\xff\xff\x7f", "more than the bytes can hold"},
		{"a dot of nobody", "\x01\x02" + oneActor + "\x01\x00\x02\x01\x01", "not in the context"},
		{"a dot past the context", "\x01\x02" + oneActor + "\x01\x00\x02\x00\x06", "not in the context"},
		{"a dot of counter zero", "\x01\x02" + oneActor + "\x01\x00\x02\x00\x00", "not in the context"},
		{"two dots of one actor", "\x01\x02" + oneActor + "\x01\x00\x04\x00\x01\x00\x02", "dots are out of order"},
		{"an element with nothing", "\x01\x02" + oneActor + "\x01\x01x\x00\x00", "no dot"},
		{"elements out of order", "\x01\x02" + oneActor + "\x02\x01x\x02\x00\x01\x01x\x02\x00\x01", "elements are out of order"},
		{"pending, but nothing", "\x01\x02" + oneActor + "\x01\x00\x03\x00\x01\x00", "nothing is pending"},
		{"pending, but seen", "\x01\x02" + oneActor + "\x01\x00\x01" + oneActor, "was seen"},
		{"a dot that is pending", "\x01\x02" + oneActor + "\x01\x00\x03\x00\x01" + late, "has killed"},
		{"a dot that is pending above", "\x01\x05" + oneActor + "\x01\x01f\x01\x01" + late + "\x01\x00\x01\x02", "has killed"},
		{"a field that is empty", "\x01\x05" + oneActor + "\x01\x01f\x01\x00\x00", "a field is empty"},
		{"a field that is of no kind", "\x01\x05" + oneActor + "\x01\x01f\x06\x02\x00\x01\x00", "no kind that a map"},
		{"fields out of order", "\x01\x05" + oneActor + "\x02\x01f\x05\x02\x00\x01\x00\x01f\x01\x02\x00\x01\x00", "fields are out of order"},
		{"elements of a gset out of order", "\x01\x06\x00\x02\x01x\x01x", "elements are out of order"},
		{"a low precision", "\x01\x07\x00\x03\x00\x00", "precision"},
		{"a high precision", "\x01\x07\x00\x11\x00\x00", "precision"},
		{"an unknown form", "\x01\x07\x00\x04\x02\x00", "form is unknown"},
		{"sparse where dense is shorter", "\x01\x07\x00\x04\x00\x04\x00\x01\x00\x01\x00\x01\x00\x01", "longer form"},
		{"dense where sparse is shorter", "\x01\x07\x00\x04\x01\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "longer form"},
		{"a register past the last", "\x01\x07\x00\x04\x00\x02\x0f\x01\x00\x01", "not among those"},
		{"an index past 64 bits", "\x01\x07\x00\x04\x00\x02\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01", "not among those"},
		{"a register of zero", "\x01\x07\x00\x04\x00\x01\x00\x00", "no hash has"},
		{"a register too full", "\x01\x07\x00\x04\x00\x01\x00\x3e", "no hash has"},
		{"a packed register too full", "\x01\x07\x00\x04\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "no hash has"},
	} {
		_, err := Decode([]byte(c.bytes))
		if err == nil || !strings.Contains(err.Error(), c.problem) || errors.Is(err, ErrVersion) == errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.problem)
		}
	}
	for _, c := range []struct{ name, bytes, problem string }{
		{"a version of later", "\x02\x01\x00", "version 2"},
		{"no kind", "\x01\x00\x00", "no known kind"},
		{"a kind of later", "\x01\x08\x00", "no known kind"},
		{"a flag between", "\x01\x04\x02", "neither on nor off"},
		{"more removals than bytes", "\x01\x05\xff\xff\x03", "more than the bytes can hold"},
		{"more updates than bytes", "\x01\x05\x00\xff\xff\x03", "more than the bytes can hold"},
		{"a field that no map has", "\x01\x05\x00\x01\x01f\x06\x00", "no kind that a map"},
		{"bytes left over", "\x01\x01\x00\x00", "left over"},
	} {
		if _, err := DecodeOp([]byte(c.bytes)); err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("operation: %s: error %v, want one with %q", c.name, err, c.problem)
		}
	}
}

// TestDecodersRefuseDepth nests maps deeper than any operation can.
func TestDecodersRefuseDepth(t *testing.T) {
	const levels = 100_000
	state := "\x01\x05" + oneActor + strings.Repeat("\x01\x00\x05\x02\x00\x01", levels)
	op := "\x01\x05" + strings.Repeat("\x00\x01\x00\x05", levels)
	if _, err := Decode([]byte(state + "\x00")); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("state: error %v", err)
	}
	if _, err := DecodeOp([]byte(op + "\x00\x00")); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("operation: error %v", err)
	}
}

// TestDecodersAllocateWithinTheirInput feeds counts that promise much and bytes
// that hold little.
func TestDecodersAllocateWithinTheirInput(t *testing.T) {
	tiny := "\x01\x00\x02\x00\x01"[1:] // an element "" with one dot
	inputs := map[string]string{
		"a count of the most":      "\x01\x02" + oneActor + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"elements of four bytes":   "\x01\x02" + oneActor + "\x80\x40" + strings.Repeat(tiny, 8192),
		"elements that hold a lot": "\x01\x06\x00\x80\x40" + strings.Repeat("\x00", 8192),
		"an operation of nothing":  "\x01\x06\x80\x40" + strings.Repeat("\x00", 8192),
		"updates of nothing":       "\x01\x05\x00\x80\x40" + strings.Repeat("\x00\x01\x00", 8192),
		"registers of two bytes":   "\x01\x07\x00\x10\x00\xff\x3f" + strings.Repeat("\x00\x01", 8191),
	}
	for name, in := range inputs {
		b := []byte(in)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = Decode(b) // accepted or not, it is what it takes that counts
		_, _ = DecodeOp(b)
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(32*len(b)+16<<10); got > most {
			t.Errorf("%s: %d bytes for %d, want at most %d", name, got, len(b), most)
		}
	}
}

func TestZeroStateIsNotEncoded(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was")
		}
	}()
	State{}.Append(nil)
}

package crdt

import (
	"bytes"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// naive is the registers of a HyperLogLog worked out bit by bit.
func naive(all [][]byte, precision uint8) map[uint32]int {
	registers := map[uint32]int{}
	for _, e := range all {
		full := hashRank(e, MaxPrecision) // index and rank with the most bits of index
		bitsOf := strconv.FormatUint(uint64(full.index())|1<<MaxPrecision, 2)[1:]
		for range full.rank() - 1 {
			bitsOf += "0"
		}
		bitsOf += "1"
		index, _ := strconv.ParseUint(bitsOf[:precision], 2, 32)
		rank := 1
		for bitsOf[int(precision)+rank-1] == '0' {
			rank++
		}
		registers[uint32(index)] = max(registers[uint32(index)], rank)
	}
	return registers
}

func counted(from, to int) HLLOp {
	var all HLLOp
	for i := from; i < to; i++ {
		all = append(all, []byte("element "+strconv.Itoa(i)))
	}
	return all
}

func hllOf(t rapid.TB, precision uint8, op HLLOp) State {
	t.Helper()
	s, err := New(HLL, precision)
	if err == nil {
		s, err = s.Apply(op, dot(1, 1), 1, nil)
	}
	return must(t, s, err)
}

// TestHyperLogLogRegisters compares the registers of added, merged and reduced
// states with those worked out bit by bit.
func TestHyperLogLogRegisters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.Uint8Range(MinPrecision, MaxPrecision).Draw(t, "precision")
		q := rapid.Uint8Range(MinPrecision, MaxPrecision).Draw(t, "other precision")
		from := rapid.IntRange(0, 100000).Draw(t, "from")
		a := counted(from, from+rapid.IntRange(0, 200).Draw(t, "elements"))
		b := counted(from+50, from+50+rapid.IntRange(0, 200).Draw(t, "other elements"))
		m, err := Merge(hllOf(t, p, a), hllOf(t, q, b))
		m = must(t, m, err)

		want := naive(append(a, b...), min(p, q))
		got := m.store.(hll)
		if got.precision != min(p, q) || len(got.ranks) != len(want) {
			t.Fatalf("%d registers of precision %d, want %d of %d", len(got.ranks), got.precision, len(want), min(p, q))
		}
		for _, r := range got.ranks {
			if want[r.index()] != r.rank() {
				t.Fatalf("register %d is %d, want %d", r.index(), r.rank(), want[r.index()])
			}
		}
		again, err := Decode(m.Append(nil))
		if !bytes.Equal(must(t, again, err).Append(nil), m.Append(nil)) {
			t.Fatalf("%v decodes to %v", m, again)
		}
	})
}

// TestHyperLogLogError estimates sets of all sizes with all precisions. The
// elements are always the same, so this is no matter of luck: four standard
// errors are what the worst of some hundred estimates may come to.
func TestHyperLogLogError(t *testing.T) {
	const most = 100_000
	all := counted(0, most)
	for p := uint8(MinPrecision); p <= MaxPrecision; p++ {
		s := hllOf(t, p, nil)
		wantValue(t, s, "0")
		bound := 4 * 1.04 / math.Sqrt(float64(int(1)<<p))
		var worst, squares, n float64
		before := 0
		for size := 1; size <= most; size = size*3/2 + 1 {
			added, err := s.Apply(all[before:size], dot(2, uint64(size)), 1, nil)
			s, before = must(t, added, err), size
			off := math.Abs(float64(s.Value().HLL)-float64(size)) / float64(size)
			if off > bound && math.Abs(float64(s.Value().HLL)-float64(size)) > 1 {
				t.Errorf("precision %d: %d elements are estimated as %d", p, size, s.Value().HLL)
			}
			worst, squares, n = max(worst, off), squares+off*off, n+1
		}
		t.Logf("precision %d: worst error %.3f, root mean square %.3f, of %.3f that one is to be", p, worst, math.Sqrt(squares/n), bound/4)
	}
}

// TestHyperLogLogExtremes estimates registers that no test could fill.
func TestHyperLogLogExtremes(t *testing.T) {
	for p := uint8(MinPrecision); p <= MaxPrecision; p++ {
		h := hll{precision: p}
		for i := range uint32(1) << p {
			h.ranks = append(h.ranks, makeRank(i, maxRank(p)))
		}
		if got := h.estimate(); got != math.MaxUint64 {
			t.Errorf("precision %d: all registers full are estimated as %d", p, got)
		}
		// With all others one rank short of full, each that is full counts.
		last := uint64(0)
		for full := range 4 {
			for i := range h.ranks {
				h.ranks[i] = makeRank(uint32(i), maxRank(p)-1)
				if i < full {
					h.ranks[i]++
				}
			}
			if got := h.estimate(); got <= last {
				t.Errorf("precision %d: with %d registers full %d, with one less %d", p, full, got, last)
			} else {
				last = got
			}
		}
		for i := range h.ranks {
			h.ranks[i] = makeRank(uint32(i), 1)
		}
		if m := float64(int(1) << p); math.Abs(float64(h.estimate())-m*1.44) > m/10 {
			t.Errorf("precision %d: all registers at 1 are estimated as %d", p, h.estimate())
		}
	}
}

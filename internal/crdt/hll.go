package crdt

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// hll is a HyperLogLog: an estimate of how many different elements were added,
// from 2^precision registers, with a standard error of 1.04/√(2^precision).
//
// An element is hashed to 64 bits, the first of its SHA-256. The upper precision
// bits choose a register, and the register keeps the greatest rank, which is the
// number of leading zeros in the other bits, plus one:
//
//	hash  ┌─ precision bits ─┬─ 64 − precision bits ──┐
//	      │ 0 1 1 0 … index  │ 0 0 0 1 … rank 4       │
//	      └──────────────────┴────────────────────────┘
//
// The structure is from Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the
// analysis of a near-optimal cardinality estimation algorithm" (2007); the
// estimator from Ertl, "New cardinality estimation algorithms for HyperLogLog
// sketches" (2017), which needs neither tables nor a switch for small numbers.
type hll struct {
	precision uint8
	ranks     []rank // of registers that are not 0, ordered by index
}

// rank is the index of a register in the upper bits, and below what it holds.
type rank uint32

const rankBits = 8

func makeRank(index uint32, r int) rank { return rank(index<<rankBits | uint32(r)) }

func (r rank) index() uint32 { return uint32(r) >> rankBits }
func (r rank) rank() int     { return int(r & (1<<rankBits - 1)) }

// maxRank is the rank of a hash whose other bits are all zero.
func maxRank(precision uint8) int { return 64 - int(precision) + 1 }

// hashRank is the register that an element goes to, and its rank there.
func hashRank(elem []byte, precision uint8) rank {
	sum := sha256.Sum256(elem)
	h := binary.BigEndian.Uint64(sum[:])
	return makeRank(uint32(h>>(64-precision)), min(bits.LeadingZeros64(h<<precision)+1, maxRank(precision)))
}

// greatest orders ranks by index, and leaves the greatest of each.
func greatest(rs []rank) []rank {
	slices.SortFunc(rs, func(x, y rank) int {
		return cmp.Or(cmp.Compare(x.index(), y.index()), cmp.Compare(y.rank(), x.rank()))
	})
	return slices.CompactFunc(rs, func(x, y rank) bool { return x.index() == y.index() })
}

// union is the greater of each register.
func union(a, b []rank) []rank {
	out := make([]rank, 0, max(len(a), len(b)))
	byIndex := func(x, y *rank) int { return cmp.Compare(x.index(), y.index()) }
	zip(a, b, byIndex, func(x, y *rank) {
		switch {
		case x == nil:
			out = append(out, *y)
		case y == nil:
			out = append(out, *x)
		default:
			out = append(out, max(*x, *y))
		}
	})
	return out
}

// reduced is what the same elements would have made with a lower precision: the
// bits that the index loses are now the first of those that are ranked.
func (h hll) reduced(precision uint8) hll {
	if precision >= h.precision {
		return h
	}
	lost := h.precision - precision
	out := make([]rank, len(h.ranks))
	for i, r := range h.ranks {
		now := int(lost) + r.rank()
		if low := r.index() & (1<<lost - 1); low != 0 {
			now = int(lost) - bits.Len32(low) + 1
		}
		out[i] = makeRank(r.index()>>lost, now)
	}
	return hll{precision, greatest(out)}
}

func (h hll) merge(other store, _ meeting) store {
	o := other.(hll)
	p := min(h.precision, o.precision)
	return hll{p, union(h.reduced(p).ranks, o.reduced(p).ranks)}
}

func (h hll) apply(op Op, _ *write) (store, error) {
	elems := op.(HLLOp)
	added := make([]rank, len(elems))
	for i, e := range elems {
		added[i] = hashRank(e, h.precision)
	}
	return hll{h.precision, union(h.ranks, greatest(added))}, nil
}

func (h hll) without(object.Vector) store { return h }
func (h hll) seen(object.Vector) store    { return h }
func (h hll) covers(object.Dot) bool      { return false }
func (h hll) alive() bool                 { return len(h.ranks) > 0 }
func (h hll) empty() bool                 { return len(h.ranks) == 0 }
func (h hll) items() int                  { return 0 }
func (h hll) value() Value                { return Value{Kind: HLL, HLL: h.estimate()} }

// estimate is Ertl's improved raw estimator, his algorithm 6:
//
//	α m² / (m σ(C[0]/m) + Σ C[k] 2^-k + m τ(1 − C[q+1]/m) 2^-q)
//
// where m registers have ranks up to q+1, C[k] of them rank k, and α = 1/(2 ln 2).
func (h hll) estimate() uint64 {
	if len(h.ranks) == 0 {
		return 0
	}
	m := float64(int(1) << h.precision)
	q := maxRank(h.precision) - 1
	var count [64]float64
	count[0] = m - float64(len(h.ranks))
	for _, r := range h.ranks {
		count[r.rank()]++
	}
	z := m * tau(1-count[q+1]/m)
	for k := q; k >= 1; k-- {
		z = (z + count[k]) / 2
	}
	z += m * sigma(count[0]/m)
	n := math.Round(m / (2 * math.Ln2) * m / z) // infinite, if all registers are full
	if n >= math.MaxUint64 {
		return math.MaxUint64
	}
	return uint64(n)
}

// sigma is x + Σ x^(2^k) 2^(k-1) for k from 1, for x below 1.
func sigma(x float64) float64 {
	y, z := 1.0, x
	for {
		x *= x
		before := z
		z += x * y
		y += y
		if z == before {
			return z
		}
	}
}

// tau is (1 − x − Σ (1 − x^(2^-k))² 2^-k) / 3 for k from 1.
func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for {
		x = math.Sqrt(x)
		before := z
		y /= 2
		z -= (1 - x) * (1 - x) * y
		if z == before {
			return z / 3
		}
	}
}

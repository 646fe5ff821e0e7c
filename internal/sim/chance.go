package sim

import (
	"math/rand/v2"
	"time"
)

// chance is a stream of random numbers. Each part of a run has its own, drawn
// from the seed and the part's name, so that a change in one part leaves the
// others as they were.
type chance struct{ *rand.Rand }

func newChance(seed uint64, part string) chance {
	const fnvOffset, fnvPrime = 14695981039346656037, 1099511628211
	h := uint64(fnvOffset)
	for i := range len(part) {
		h = (h ^ uint64(part[i])) * fnvPrime
	}
	return chance{rand.New(rand.NewPCG(seed, h))}
}

// hit is true with probability p.
func (c chance) hit(p float64) bool { return p > 0 && c.Float64() < p }

// upTo is a duration from 0 to d, exclusive of d.
func (c chance) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.Int64N(int64(d)))
}

// between is a number from lo to hi, inclusive.
func (c chance) between(lo, hi int) int { return lo + c.IntN(hi-lo+1) }

// about is a duration from half of d to one and a half of it.
func (c chance) about(d time.Duration) time.Duration { return d/2 + c.upTo(d) }

// pick is one of the choices.
func pick[T any](c chance, choices ...T) T { return choices[c.IntN(len(choices))] }

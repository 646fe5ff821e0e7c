package crdt

import (
	"math"
	"math/bits"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
)

// counter is the shares of the actors.
type counter []share

// share is what one actor has added, increments less decrements, since it began
// the counter. Since an actor's writes are made one after the other, the share
// with its later dot contains the earlier one, and one sum is enough where
// counters without dots need two that only grow.
type share struct {
	dot object.Dot // of the actor's last increment
	sum int64
}

func (s share) born() object.Dot       { return s.dot }
func (s share) less(o share) bool      { return s.sum < o.sum }
func (s share) actor(d object.Dot) int { return s.dot.Actor.Compare(d.Actor) }

func (c counter) merge(other store, m meeting) store {
	return counter(mergeDotted(c, other.(counter), m))
}

func (c counter) without(v object.Vector) store { return counter(without(c, v)) }
func (c counter) seen(object.Vector) store      { return c }
func (c counter) covers(object.Dot) bool        { return false }
func (c counter) alive() bool                   { return len(c) > 0 }
func (c counter) empty() bool                   { return len(c) == 0 }
func (c counter) items() int                    { return 0 }
func (c counter) value() Value                  { return Value{Kind: Counter, Counter: c.total().clamp()} }

// apply adds to the actor's share. It is refused if the share would leave 64
// bits, or the total would, unless it comes nearer again: concurrent increments
// may have taken it out.
func (c counter) apply(op Op, w *write) (store, error) {
	n := int64(op.(CounterOp))
	i, found := slices.BinarySearchFunc(c, w.dot, share.actor)
	mine := share{dot: w.dot, sum: n}
	if found {
		mine.sum += c[i].sum
		if n > 0 && mine.sum < c[i].sum || n < 0 && mine.sum > c[i].sum {
			return nil, ErrOverflow
		}
	}
	if out := c.total().plus(n).outside(); out > 0 && n > 0 || out < 0 && n < 0 {
		return nil, ErrOverflow
	}
	next := make(counter, 0, len(c)+1)
	next = append(next, c[:i]...)
	next = append(next, mine)
	if found {
		i++
	}
	return append(next, c[i:]...), nil
}

// total is the sum of all shares.
func (c counter) total() wide {
	var t wide
	for _, s := range c {
		t = t.plus(s.sum)
	}
	return t
}

// wide is a number of 128 bits in two's complement: no sum of shares leaves it.
type wide struct{ hi, lo uint64 }

func (w wide) plus(n int64) wide {
	lo, carry := bits.Add64(w.lo, uint64(n), 0)
	hi, _ := bits.Add64(w.hi, uint64(n>>63), carry)
	return wide{hi, lo}
}

// outside is 0 if the number has 64 bits, else its sign.
func (w wide) outside() int {
	switch {
	case w.hi == uint64(int64(w.lo)>>63):
		return 0
	case int64(w.hi) < 0:
		return -1
	}
	return 1
}

// clamp is the number, or the nearest that has 64 bits.
func (w wide) clamp() int64 {
	switch w.outside() {
	case 0:
		return int64(w.lo)
	case 1:
		return math.MaxInt64
	}
	return math.MinInt64
}

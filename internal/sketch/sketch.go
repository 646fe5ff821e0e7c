// Package sketch keeps what stands out among more keys than anybody can count: who is asked
// for most, and who has the highest value. What it holds has a fixed size, and it forgets.
package sketch

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// Counts are about how often each key was counted of late, of those that were counted most. It
// is the Space-Saving algorithm of Metwally, Agrawal and El Abbadi: a key that is not kept takes
// the place of the one with the lowest count, and goes on from that count, which is then the most by
// which its own is too high.
//
// Law: of n units counted with room for k keys, no key whose own units are more than n/k is
// missing, no count is below that of its key, and none is above it by more than its Error.
//
// All counts are halved once in a half-life, so that what was asked for yesterday makes room.
type Counts[K comparable] struct {
	room     int
	halfLife time.Duration
	begun    time.Duration // of the present half-life
	lives    int           // half-lives that are over, up to a few: counts need some until they are what they will be
	total    float64
	byKey    map[K]*count[K]
	heap     counts[K] // the lowest first
}

type count[K comparable] struct {
	key       K
	count     float64
	err       float64
	at        int    // in the heap
	numbering uint64 // the order of keys with equal counts: which came first
}

// Counted is one key of Counts.
type Counted[K comparable] struct {
	Key   K
	Count float64 // at least what the key has, after all halvings
	Error float64 // at most so much of it is another's
}

// NewCounts makes an empty one for so many keys. A half-life of 0 is for ever.
func NewCounts[K comparable](room int, halfLife time.Duration) *Counts[K] {
	return &Counts[K]{room: max(room, 1), halfLife: halfLife, byKey: make(map[K]*count[K], room)}
}

// Add counts a key. Time, of any origin, never goes back.
func (c *Counts[K]) Add(now time.Duration, key K, weight float64) {
	c.age(now)
	c.total += weight
	if e := c.byKey[key]; e != nil {
		e.count += weight
		heap.Fix(&c.heap, e.at)
		return
	}
	if len(c.heap) < c.room {
		e := &count[K]{key: key, count: weight, numbering: uint64(len(c.heap))}
		c.byKey[key] = e
		heap.Push(&c.heap, e)
		return
	}
	e := c.heap[0]
	delete(c.byKey, e.key)
	e.key, e.err, e.count = key, e.count, e.count+weight
	c.byKey[key] = e
	heap.Fix(&c.heap, 0)
}

// maxLives is how many half-lives it takes to forget all: less than a thousandth is left.
const maxLives = 10

// age halves everything once for each half-life that is over.
func (c *Counts[K]) age(now time.Duration) {
	if c.halfLife <= 0 || now-c.begun < c.halfLife {
		return
	}
	over := int((now - c.begun) / c.halfLife)
	c.begun += time.Duration(over) * c.halfLife
	c.lives = min(c.lives+min(over, maxLives), maxLives)
	if over >= maxLives {
		clear(c.byKey)
		c.heap, c.total = c.heap[:0], 0
		return
	}
	for range over {
		c.total /= 2
		for _, e := range c.heap {
			e.count, e.err = e.count/2, e.err/2 // the order stays
		}
	}
}

// Top are the keys with the highest counts, at most so many, the highest first.
func (c *Counts[K]) Top(now time.Duration, most int) []Counted[K] {
	c.age(now)
	sorted := slices.Clone(c.heap)
	slices.SortFunc(sorted, func(a, b *count[K]) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.err, b.err), cmp.Compare(a.numbering, b.numbering))
	})
	out := make([]Counted[K], 0, min(most, len(sorted)))
	for _, e := range sorted[:min(max(most, 0), len(sorted))] {
		out = append(out, Counted[K]{e.key, e.count, e.err})
	}
	return out
}

// Total is all that was counted, after all halvings.
func (c *Counts[K]) Total(now time.Duration) float64 {
	c.age(now)
	return c.total
}

// Rate is what a count comes to a second, had it been the same all the time: with a half-life h
// that much is gathered from r a second in the present one, of age a, and in those before,
// r (a + h/2 + h/4 + …).
func (c *Counts[K]) Rate(now time.Duration, count float64) float64 {
	c.age(now)
	span := (now - c.begun).Seconds()
	for i, part := 0, c.halfLife.Seconds()/2; i < c.lives; i++ {
		span += part
		part /= 2
	}
	if span <= 0 {
		return 0
	}
	return count / max(span, 1)
}

// counts is a heap.Interface.
type counts[K comparable] []*count[K]

func (h counts[K]) Len() int           { return len(h) }
func (h counts[K]) Less(i, j int) bool { return h[i].count < h[j].count }
func (h counts[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *counts[K]) Push(x any) {
	e := x.(*count[K])
	e.at = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *counts[K]) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

package main

import (
	"fmt"
	"slices"
)

// history is what is known of one key that one worker alone writes. Writes are
// numbered from 1 in the order in which they are sent. From it follows what a
// read may show and what it must.
//
//   - A write that was acknowledged must be there, unless a write that had seen it
//     has taken its place.
//   - A write in doubt may be there.
//   - A write that certainly reached nobody, and one that an acknowledged write
//     had seen, must not.
type history struct {
	sent    int    // the number of the last write
	acks    int    // how many were acknowledged
	unsure  int    // how many are in doubt
	context string // what the next write carries
	blind   bool   // context does not cover all that may be there: read before the next write

	// Invariant: must ⊆ open; covered ⊆ open.
	open    []int   // may be there
	must    []int   // of these, acknowledged ones that no acknowledged write has seen
	covered []int   // of these, the ones that context covers for sure
	doubts  []doubt // of these, the ones in doubt
}

// doubt is a write that may or may not have taken effect.
type doubt struct {
	number int
	seen   []int // what it replaces if it has
}

// next numbers the next write.
func (h *history) next() int {
	h.sent++
	return h.sent
}

// acknowledged notes that the last write is there, and with it a context that
// covers it and whatever its coordinator had.
func (h *history) acknowledged(context string) {
	h.acks++
	h.open = append(without(h.open, h.covered), h.sent)
	h.must = append(without(h.must, h.covered), h.sent)
	h.covered = []int{h.sent}
	h.context = context
	// The coordinator may have had another acknowledged write that was never shown
	// here, or not. Only a read tells what the next write replaces.
	h.blind = len(h.must) > 1 || context == ""
	h.doubts = slices.DeleteFunc(h.doubts, func(d doubt) bool { return !slices.Contains(h.open, d.number) })
}

// inDoubt notes that the last write may be there.
func (h *history) inDoubt() {
	h.unsure++
	h.open = append(h.open, h.sent)
	h.doubts = append(h.doubts, doubt{h.sent, slices.Clone(h.covered)})
	h.blind = true
}

// read notes what a read has shown, and its context.
func (h *history) read(shown []int, context string) {
	h.covered = nil
	for _, n := range h.open {
		if slices.Contains(h.reach(shown), n) {
			h.covered = append(h.covered, n)
		}
	}
	h.context, h.blind = context, false
}

// reach is the shown writes and all that they have seen, directly or through
// other writes in doubt.
func (h *history) reach(shown []int) []int {
	all := slices.Clone(shown)
	for i := 0; i < len(all); i++ {
		for _, d := range h.doubts {
			if d.number != all[i] {
				continue
			}
			for _, n := range d.seen {
				if !slices.Contains(all, n) {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// check judges what a read has shown after all writes: what was acknowledged
// and is lost, and what is there and may not be.
func (h *history) check(shown []int) (lost, wrong []int) {
	lost = without(h.must, h.reach(shown))
	wrong = without(shown, h.open)
	return lost, wrong
}

// without is a fresh slice of those of all that are not in some.
func without(all, some []int) []int {
	var out []int
	for _, n := range all {
		if !slices.Contains(some, n) {
			out = append(out, n)
		}
	}
	return out
}

// benchValue is a value of this size that names its run, key and number, as far
// as the size allows.
func benchValue(size int, run string, key, number int) []byte {
	head := fmt.Sprintf("%s %d %d ", run, key, number)
	b := make([]byte, size)
	n := copy(b, head)
	// What follows does not compress to nothing, in case somebody compresses.
	x := uint64(key)<<32 ^ uint64(number)*0x9e3779b97f4a7c15 | 1
	for i := n; i < size; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = 'a' + byte(x>>56)%26
	}
	return b
}

// parseBenchValue reads the head of a value of this run and key.
func parseBenchValue(b []byte, run string, key int) (number int, err error) {
	var gotRun string
	var gotKey int
	if _, err := fmt.Sscanf(string(b[:min(len(b), maxBenchHead)]), "%s %d %d ", &gotRun, &gotKey, &number); err != nil {
		return 0, fmt.Errorf("value %s was never written", preview(b))
	}
	if gotRun != run || gotKey != key {
		return 0, fmt.Errorf("value %s was never written to this key by this run", preview(b))
	}
	return number, nil
}

// maxBenchHead is how many bytes of a value its head may take: a run, two
// numbers and blanks.
const maxBenchHead = 64

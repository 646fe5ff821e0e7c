package sketch

import (
	"slices"
	"time"
)

// Highest are the keys whose last known values are the highest.
//
// Law: a key is kept if its last value, noted within the time to keep, is above every value that was
// turned away or has made room since; and what is said of it is that last value.
type Highest[K comparable] struct {
	room    int
	keep    time.Duration
	entries []Value[K] // the highest first; of equals, the one noted first
}

// Value is one key of Highest.
type Value[K comparable] struct {
	Key   K
	Value int64
	Seen  time.Duration // when it was noted last
}

// NewHighest makes an empty one for so many keys, each of which is forgotten when it was not
// noted for so long. 0: never.
func NewHighest[K comparable](room int, keep time.Duration) *Highest[K] {
	return &Highest[K]{room: max(room, 1), keep: keep}
}

// Note says what a key has now. Time, of any origin, never goes back.
func (h *Highest[K]) Note(now time.Duration, key K, value int64) {
	h.forget(now)
	if i := slices.IndexFunc(h.entries, func(e Value[K]) bool { return e.Key == key }); i >= 0 {
		h.entries = slices.Delete(h.entries, i, i+1)
	}
	if value <= h.Floor() {
		return
	}
	i, _ := slices.BinarySearchFunc(h.entries, value, func(e Value[K], v int64) int {
		if e.Value >= v {
			return -1
		}
		return 1
	})
	h.entries = slices.Insert(h.entries, i, Value[K]{key, value, now})
	h.entries = h.entries[:min(len(h.entries), h.room)]
}

// Floor is the value that a key must pass to be kept.
func (h *Highest[K]) Floor() int64 {
	if len(h.entries) < h.room {
		return 0
	}
	return h.entries[len(h.entries)-1].Value
}

// Top are the first of them, at most so many.
func (h *Highest[K]) Top(now time.Duration, most int) []Value[K] {
	h.forget(now)
	return slices.Clone(h.entries[:min(max(most, 0), len(h.entries))])
}

// forget drops what was not noted for too long.
func (h *Highest[K]) forget(now time.Duration) {
	if h.keep <= 0 {
		return
	}
	h.entries = slices.DeleteFunc(h.entries, func(e Value[K]) bool { return now-e.Seen > h.keep })
}

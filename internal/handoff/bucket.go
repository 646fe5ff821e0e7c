package handoff

import "time"

// bucket is the budget of bytes: it fills with time, up to that of a second, and
// may be overdrawn by what turns out larger than thought. The zero bucket is
// full.
type bucket struct {
	used  int64 // bytes taken and not yet earned again
	since time.Duration
}

// earn gives back what time has earned. The part of a byte stays in since.
func (b *bucket) earn(now time.Duration, perSecond int64) {
	if b.used <= 0 || perSecond <= 0 {
		b.used, b.since = 0, now
		return
	}
	whole := (now - b.since) / time.Second
	earned := int64(whole) * perSecond
	rest := now - b.since - whole*time.Second
	part := int64(float64(rest) * float64(perSecond) / float64(time.Second))
	if earned += part; earned <= 0 {
		return
	}
	b.used, b.since = max(0, b.used-earned), now
}

// open reports whether anything may be taken.
func (b *bucket) open(now time.Duration, perSecond int64) bool {
	b.earn(now, perSecond)
	return perSecond <= 0 || b.used < perSecond
}

// opens is when open will be true again.
func (b *bucket) opens(now time.Duration, perSecond int64) time.Duration {
	if b.open(now, perSecond) {
		return now
	}
	missing := float64(b.used-perSecond) + 1
	return now + time.Duration(missing/float64(perSecond)*float64(time.Second)) + time.Millisecond
}

func (b *bucket) take(now time.Duration, perSecond int64, bytes int) {
	b.earn(now, perSecond)
	b.used += int64(bytes)
}

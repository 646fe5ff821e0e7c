// Package pace is the budget of work that must stay behind that of clients: so
// much a second, of bytes or of anything else that can be counted.
package pace

import "time"

// Bucket is a budget: it fills with time, up to that of a second, and
// may be overdrawn by what turns out larger than thought. The zero Bucket is
// full. A budget of 0 a second has no limit.
type Bucket struct {
	used  int64 // taken and not yet earned again
	since time.Duration
}

// earn gives back what time has earned. The part of a unit stays in since.
func (b *Bucket) earn(now time.Duration, perSecond int64) {
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

// Open reports whether anything may be taken.
func (b *Bucket) Open(now time.Duration, perSecond int64) bool {
	b.earn(now, perSecond)
	return perSecond <= 0 || b.used < perSecond
}

// Opens is when Open will be true again.
func (b *Bucket) Opens(now time.Duration, perSecond int64) time.Duration {
	if b.Open(now, perSecond) {
		return now
	}
	missing := float64(b.used-perSecond) + 1
	return now + time.Duration(missing/float64(perSecond)*float64(time.Second)) + time.Millisecond
}

// Take takes an amount, whether there is as much or not.
func (b *Bucket) Take(now time.Duration, perSecond int64, amount int) {
	b.earn(now, perSecond)
	b.used += int64(amount)
}

// Full reports whether all may be taken that there ever is.
func (b *Bucket) Full(now time.Duration, perSecond int64) bool {
	b.earn(now, perSecond)
	return b.used == 0
}

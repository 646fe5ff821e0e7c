package main

import (
	"context"
	"sync"
	"time"
)

// pacer spreads the requests of a load over time.
type pacer struct {
	every time.Duration // 0: nobody waits

	mu   sync.Mutex
	next time.Time // the turn of the next request
}

// wait returns when it is the caller's turn, or false when the context ends before.
func (p *pacer) wait(ctx context.Context) bool {
	if p.every == 0 {
		return ctx.Err() == nil
	}
	turn := time.NewTimer(time.Until(p.turn(time.Now())))
	defer turn.Stop()
	select {
	case <-turn.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// turn is when the caller may begin. Turns that have passed while nobody asked are gone:
// requests that were late together would be a burst, and no load of this rate.
func (p *pacer) turn(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	turn := p.next
	p.next = turn.Add(p.every)
	return turn
}

package main

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Workers share one rate, and what was missed while nobody could send is not made up for.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacer{every: 100 * time.Millisecond}
		count := func(d time.Duration) int64 {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			var sent atomic.Int64
			var workers sync.WaitGroup
			for range 3 {
				workers.Go(func() {
					for p.wait(ctx) {
						sent.Add(1)
					}
				})
			}
			workers.Wait()
			return sent.Load()
		}
		if n := count(1950 * time.Millisecond); n != 20 {
			t.Errorf("%d requests in 1.95 seconds, 10 a second; want 20", n)
		}
		time.Sleep(time.Minute)
		if n := count(950 * time.Millisecond); n != 10 {
			t.Errorf("%d requests in 0.95 seconds after a minute in which nobody sent; want 10", n)
		}
	})
}

func TestPacerWithoutARate(t *testing.T) {
	var p pacer
	ctx, cancel := context.WithCancel(t.Context())
	if !p.wait(ctx) {
		t.Error("a request without a rate waits")
	}
	cancel()
	if p.wait(ctx) {
		t.Error("a request goes on when the load is over")
	}
}

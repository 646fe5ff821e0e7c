package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tanodb/tanodb/storage"
)

// Crash stages a power loss of the engine that it belongs to and returns the
// engine as it is after the next start, and what stages a power loss of that
// one. Chance decides how much of what was not durable survives; nil: nothing.
type Crash func(chance *rand.Rand) (storage.Engine, Crash)

// TestCrash checks what is there after power losses: every batch whose Wait
// has returned, and no batch without all those before it. Open returns a new,
// empty engine. There are so many power losses as losses says, four in a row
// of each engine.
func TestCrash(t *testing.T, losses int, open func(t *testing.T) (storage.Engine, Crash)) {
	t.Run("a later Wait makes earlier batches durable", func(t *testing.T) {
		e, crash := open(t)
		for i := range 10 {
			if _, err := e.Apply(numbered(i+1), false); err != nil {
				t.Fatal(err)
			}
		}
		write(t, e, numbered(11))
		after, _ := crash(nil)
		defer closeIfOpen(t, after)
		closeCrashed(e)
		if got := recovered(t, after); got != 11 {
			t.Fatalf("%d batches survived, want 11", got)
		}
	})
	t.Run("a crash keeps a prefix with all that was waited for", func(t *testing.T) {
		const depth = 4
		total, lost := 0, 0
		for seed := range uint64(max(losses/depth, 1)) {
			chance := rand.New(rand.NewPCG(seed, 0))
			e, crash := open(t)
			for range depth {
				p := lose(t, chance, e, crash)
				e, crash = p.after, p.crash
				total += p.acknowledged
				lost += p.applied - p.kept
			}
			closeIfOpen(t, e)
		}
		t.Logf("%d power losses: %d acknowledged batches, 0 lost; %d others were lost", losses, total, lost)
		if lost == 0 {
			t.Error("not one batch was lost that nobody had waited for: these are no crashes")
		}
	})
}

// power is one power loss and what it left.
type power struct {
	after        storage.Engine
	crash        Crash
	acknowledged int // batches whose Wait had returned before the loss
	applied      int // batches whose Apply had
	kept         int
}

// lose writes to the engine until the power goes at some moment, and checks
// what is there afterwards.
func lose(t *testing.T, chance *rand.Rand, e storage.Engine, crash Crash) power {
	t.Helper()
	start := recovered(t, e)
	w := &writer{e: e, next: start + 1, waits: 1 + chance.IntN(4), reached: make(chan struct{}), at: 1 + chance.IntN(100)}
	w.acknowledged.Store(int64(start))
	var running sync.WaitGroup
	running.Go(w.run)
	<-w.reached
	floor, applied := int(w.acknowledged.Load()), int(w.applied.Load())
	after, next := crash(chance)
	w.stop.Store(true)
	running.Wait()
	closeCrashed(e)
	if w.err != nil {
		t.Fatalf("before the crash: %v", w.err)
	}
	kept := recovered(t, after)
	if kept < floor {
		t.Fatalf("%d batches survived, but %d were durable", kept, floor)
	}
	return power{after, next, floor - start, applied, min(kept, applied)}
}

// writer applies numbered batches until it is stopped.
type writer struct {
	e       storage.Engine
	next    int
	waits   int           // one of so many batches is waited for
	at      int           // reached is closed after so many batches
	reached chan struct{} // tells that the crash may come

	applied      atomic.Int64 // number of the last batch applied
	acknowledged atomic.Int64 // number of the last batch waited for
	stop         atomic.Bool
	err          error
}

// crashBatches is how many batches a writer applies at most.
const crashBatches = 400

func (w *writer) run() {
	for i := range crashBatches {
		if i == w.at {
			close(w.reached)
		}
		if w.stop.Load() {
			return
		}
		if err := w.write(w.next + i); err != nil {
			if i < w.at {
				close(w.reached)
				w.err = err
			}
			return // the crash
		}
	}
}

func (w *writer) write(n int) error {
	sync := n%w.waits == 0
	c, err := w.e.Apply(numbered(n), sync)
	if err != nil {
		return err
	}
	w.applied.Store(int64(n))
	if !sync {
		return nil
	}
	if err := c.Wait(); err != nil {
		return err
	}
	w.acknowledged.Store(int64(n))
	return nil
}

// numbered returns batch n: it writes two keys of its own, removes one of the
// batch before, says its number, and merges it into a word, and into another one,
// which it removes first if the number is even.
func numbered(n int) *storage.Batch {
	b := set(
		fmt.Sprintf("kept/%06d", n), strconv.Itoa(n),
		fmt.Sprintf("last/%06d", n), strconv.Itoa(n),
		"number", strconv.Itoa(n),
	)
	b.Delete(fmt.Appendf(nil, "last/%06d", n-1))
	b.Merge([]byte("sum"), uint64(n))
	if n%2 == 0 {
		b.Delete([]byte("sum2"))
	}
	b.Merge([]byte("sum2"), uint64(n))
	return b
}

// sums are the words that the first n batches have merged.
func sums(n int) (all, last uint64) {
	for i := 1; i <= n; i++ {
		all ^= uint64(i)
		if i%2 == 0 {
			last = 0
		}
		last ^= uint64(i)
	}
	return all, last
}

// recovered returns how many of the numbered batches are there. It is an
// error if they are not the first ones, or not whole.
func recovered(t *testing.T, e storage.Engine) int {
	t.Helper()
	value, err := e.Get([]byte("number"))
	if errors.Is(err, storage.ErrNotFound) {
		wantScan(t, e, "", "")
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		t.Fatal(err)
	}
	wantPairs := []string{}
	for i := range n {
		wantPairs = append(wantPairs, fmt.Sprintf("kept/%06d=%d", i+1, i+1))
	}
	wantPairs = append(wantPairs, fmt.Sprintf("last/%06d=%d", n, n), fmt.Sprintf("number=%d", n))
	sum, sum2 := sums(n)
	wantPairs = append(wantPairs, "sum="+word(sum), "sum2="+word(sum2))
	wantScan(t, e, "", "", wantPairs...)
	return n
}

// closeCrashed ends the goroutines of an engine that has crashed. What it says
// matters no more.
func closeCrashed(e storage.Engine) { _ = e.Close() }

package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

const (
	watchEvery = time.Second
	stallEvery = 250 * time.Millisecond // a stall is looked for so often

	// Without Options.Reserve, this much must be free: the least of so many
	// bytes and one part in so many of the file system.
	maxReserve   = 1 << 30
	reservePart  = 20
	urgentPart   = 4 // a part in so many of the reserve must be free for urgent batches, and those that only delete
	hysteresis   = 4 // a part in so many of the reserve must be free beyond it to end read-only
	measureAfter = 8 // free space is measured again after a part in so many of the reserve is written
)

// FullError is the error of a write that is refused because the disk is nearly
// full.
type FullError struct {
	Dir  string
	Free uint64 // bytes that are free on the file system of Dir
	Need uint64 // bytes that must be free
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("%v: %d bytes are free on the file system of %s, %d are needed",
		storage.ErrFull, e.Free, e.Dir, e.Need)
}

// Unwrap returns storage.ErrFull.
func (e *FullError) Unwrap() error { return storage.ErrFull }

// space knows whether there is room for writes.
type space struct {
	full    atomic.Pointer[FullError] // nil: writes are accepted
	reserve atomic.Uint64             // as measured last; 0: the file system does not tell
	free    atomic.Uint64             // as measured last
	written atomic.Uint64             // bytes since then
	nudge   chan struct{}             // has an element when it is time to measure
}

// wrote counts a batch, so that a fast writer cannot use up the reserve
// between two measurements.
func (s *space) wrote(size int) {
	reserve := s.reserve.Load()
	if reserve > 0 && s.written.Add(uint64(size)) > reserve/measureAfter {
		signal(s.nudge)
	}
}

// watch measures the free space and looks for stalls until the engine closes.
func (e *Engine) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	stall := time.NewTicker(stallEvery)
	defer stall.Stop()
	for {
		select {
		case <-e.stop:
			return
		case now := <-stall.C:
			e.checkProgress(now)
			continue
		case <-ticker.C:
		case <-e.space.nudge:
		}
		e.measure()
	}
}

// measure decides anew whether writes are accepted.
func (e *Engine) measure() {
	usage, err := e.fs.GetDiskUsage(e.dir)
	if err != nil {
		if !errors.Is(err, vfs.ErrUnsupported) {
			e.background(fmt.Errorf("measuring the free space: %w", err))
		}
		return
	}
	need := e.options.Reserve
	if need == 0 {
		need = min(maxReserve, usage.TotalBytes/reservePart)
	}
	e.space.written.Store(0)
	e.space.reserve.Store(need)
	free := usage.AvailBytes
	e.space.free.Store(free)
	was := e.space.full.Load()
	switch {
	case was == nil && free < need:
		e.space.full.Store(&FullError{Dir: e.dir, Free: free, Need: need})
		e.options.Events(Event{Kind: ReadOnly, Dir: e.dir, Free: free, Need: need})
	case was != nil && free >= need+need/hysteresis:
		e.space.full.Store(nil)
		e.options.Events(Event{Kind: Writable, Dir: e.dir, Free: free, Need: need})
	case was != nil && was.Free != free:
		e.space.full.Store(&FullError{Dir: e.dir, Free: free, Need: need})
	}
}

// progress notices when the disk does nothing for those who wait for it.
type progress struct {
	waiting  atomic.Int64 // calls inside Apply or Wait
	finished atomic.Int64 // such calls that have ended

	stall atomic.Pointer[error] // why nobody should wait now; nil: they may

	// The rest belongs to the goroutine that calls check.
	seen    int64     // finished, at the last change
	since   time.Time // when that was noticed, or when nobody waited; zero: not yet
	stalled bool
}

func (p *progress) begin() { p.waiting.Add(1) }

func (p *progress) end() {
	p.finished.Add(1)
	p.waiting.Add(-1)
}

// check returns how long nothing has ended although somebody waits, and
// whether a stall began or ended with this check.
func (p *progress) check(now time.Time) (elapsed time.Duration, began, ended bool) {
	finished := p.finished.Load()
	if p.waiting.Load() == 0 || finished != p.seen || p.since.IsZero() {
		ended = p.stalled
		p.seen, p.since, p.stalled = finished, now, false
		return 0, false, ended
	}
	elapsed = now.Sub(p.since)
	began = !p.stalled && elapsed > stallAfter
	p.stalled = p.stalled || began
	return elapsed, began, false
}

// checkProgress reports the begin and the end of a stall.
func (e *Engine) checkProgress(now time.Time) {
	for _, p := range []*progress{&e.progress, &e.reading} {
		elapsed, began, ended := p.check(now)
		if began {
			err := fmt.Errorf("%w: nothing in %s has come from it, or got to it, for %v", storage.ErrStalled, e.dir, elapsed.Round(time.Millisecond))
			p.stall.Store(&err)
			e.options.Events(Event{Kind: Stalled, Dir: e.dir, Elapsed: elapsed})
		}
		if ended {
			p.stall.Store(nil)
			e.options.Events(Event{Kind: Resumed, Dir: e.dir})
		}
	}
}

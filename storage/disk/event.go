package disk

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Kind says what an Event is about.
type Kind uint8

// The kinds of events.
const (
	// Corruption: a read met damaged data, in Event.File, whose keys are those from
	// Event.Lower to Event.Upper. There is at most one
	// such event a second; Event.Repeats counts the reads since the one before.
	Corruption Kind = iota + 1

	// BackgroundError: a flush or a compaction failed, and will be tried again.
	// It is as rare as Corruption, and counted as well.
	BackgroundError

	// DiskSlow: one operation on Event.File has taken Event.Elapsed and goes on.
	DiskSlow

	// Stalled: no write, or no read, got anywhere for Event.Elapsed although some
	// wait.
	Stalled

	// Resumed: they go on after Stalled.
	Resumed

	// ReadOnly: Event.Free bytes are free, less than the Event.Need that must
	// be. Writes are refused.
	ReadOnly

	// Writable: Event.Free bytes are free, and writes are accepted again.
	Writable

	// Fatal: the engine has failed with Event.Err.
	Fatal
)

// String returns the kind as log lines name it.
func (k Kind) String() string {
	names := [...]string{"", "corruption", "background error", "disk slow", "stalled",
		"resumed", "read-only", "writable", "fatal"}
	if int(k) >= len(names) || k == 0 {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return names[k]
}

// Event is something that happened to an engine. Which fields are set beside
// Kind and Dir depends on the kind.
type Event struct {
	Kind    Kind
	Dir     string
	File    string
	Err     error
	Elapsed time.Duration
	Repeats int
	Free    uint64 // bytes
	Need    uint64 // bytes
	Lower   []byte // keys; both inclusive
	Upper   []byte
}

// String returns the event as a sentence.
func (e Event) String() string {
	switch e.Kind {
	case Corruption:
		return fmt.Sprintf("corruption: %s in %s: %v (%d times)", e.File, e.Dir, e.Err, e.Repeats)
	case BackgroundError:
		return fmt.Sprintf("background error: %s: %v (%d times)", e.Dir, e.Err, e.Repeats)
	case DiskSlow:
		return fmt.Sprintf("disk slow: an operation on %s has taken %v", e.File, e.Elapsed)
	case Stalled:
		return fmt.Sprintf("stalled: calls in %s have waited %v for the disk", e.Dir, e.Elapsed)
	case Resumed:
		return fmt.Sprintf("resumed: calls in %s go on", e.Dir)
	case ReadOnly:
		return fmt.Sprintf("read-only: %d bytes are free for %s, less than %d", e.Free, e.Dir, e.Need)
	case Writable:
		return fmt.Sprintf("writable: %d bytes are free for %s", e.Free, e.Dir)
	default:
		return fmt.Sprintf("%v: %v", e.Kind, e.Err)
	}
}

// listener turns the events of Pebble that somebody can act on into ours.
// DataCorruption must be set: without it Pebble ends the process.
func (e *Engine) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: e.background,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			e.corruptions.Add(1)
			if n := e.corruptionNoise.admit(time.Now()); n > 0 {
				e.options.Events(Event{Kind: Corruption, Dir: e.dir, File: info.Path, Err: info.Details, Repeats: n,
					Lower: bytes.Clone(info.Bounds.Start), Upper: bytes.Clone(info.Bounds.End.Key)})
			}
		},
	}
}

// diskSlow is called by the file system.
func (e *Engine) diskSlow(info vfs.DiskSlowInfo) {
	e.options.Events(Event{Kind: DiskSlow, Dir: e.dir, File: info.Path, Elapsed: info.Duration})
}

// background reports an error of Pebble's own goroutines.
func (e *Engine) background(err error) {
	if n := e.backgroundNoise.admit(time.Now()); n > 0 {
		e.options.Events(Event{Kind: BackgroundError, Dir: e.dir, Err: err, Repeats: n})
	}
}

// noiseEvery is the shortest time between two events of a kind that Pebble
// would repeat thousands of times a second: it tries again without a pause.
const noiseEvery = time.Second

// noise holds back events that come too often.
type noise struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

// admit counts one more event and returns how many it stands for, or 0 if it
// is to be held back.
func (n *noise) admit(now time.Time) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.skipped++
	if !n.last.IsZero() && now.Sub(n.last) < noiseEvery {
		return 0
	}
	count := n.skipped
	n.last, n.skipped = now, 0
	return count
}

package disk

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// smallDisk is a file system that says how much is free.
type smallDisk struct {
	vfs.FS
	free  atomic.Uint64
	total uint64
	err   atomic.Pointer[error]
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if err := d.err.Load(); err != nil {
		return vfs.DiskUsage{}, *err
	}
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: d.total}, nil
}

// tick lets the time for one more measurement pass.
func tick() {
	time.Sleep(watchEvery + time.Millisecond)
	synctest.Wait()
}

func TestAFullDiskRefusesWritesUntilThereIsSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &smallDisk{FS: vfs.NewMem(), total: 1 << 40}
		disk.free.Store(1000)
		var seen events
		e := open(t, "/data", Options{FS: disk, Reserve: 1000, Events: seen.add})
		put(t, e, "k", "v")

		disk.free.Store(999)
		tick()
		refused := storage.Batch{}
		refused.Set([]byte("k"), []byte("refused"))
		_, err := e.Apply(&refused, true)
		var full *FullError
		if !errors.Is(err, storage.ErrFull) || !errors.As(err, &full) || *full != (FullError{"/data", 999, 1000}) {
			t.Fatalf("Apply on a full disk: %v", err)
		}
		for _, part := range []string{"/data", "999", "1000"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not say %s: %v", part, err)
			}
		}
		if got, err := e.Get([]byte("k")); err != nil || string(got) != "v" {
			t.Errorf("Get on a full disk: %q, %v", got, err)
		}
		if !e.Metrics().ReadOnly {
			t.Error("Metrics do not say that the engine is read-only")
		}

		urgent := storage.Batch{Urgent: true}
		urgent.Set([]byte("urgent"), []byte("1"))
		var deletes storage.Batch
		deletes.Delete([]byte("none"))
		for _, b := range []*storage.Batch{&urgent, &deletes} {
			if c, err := e.Apply(b, true); err != nil || c.Wait() != nil {
				t.Errorf("%v has no room in the reserve: %v", b, err)
			}
		}
		disk.free.Store(249)
		tick()
		for _, b := range []*storage.Batch{&urgent, &deletes} {
			if _, err := e.Apply(b, true); !errors.As(err, &full) {
				t.Errorf("%v uses up the last of the reserve: %v", b, err)
			}
		}
		disk.free.Store(1249)
		tick()
		if _, err := e.Apply(&refused, true); !errors.As(err, &full) || full.Free != 1249 {
			t.Errorf("Apply with less than a quarter beyond the reserve: %v", err)
		}
		disk.free.Store(1250)
		tick()
		put(t, e, "k", "w")
		if e.Metrics().ReadOnly {
			t.Error("Metrics say that the engine is still read-only")
		}
		if ro, rw := seen.of(ReadOnly), seen.of(Writable); len(ro) != 1 || ro[0].Free != 999 || len(rw) != 1 || rw[0].Free != 1250 {
			t.Errorf("events: %v, %v", ro, rw)
		}
		closing(t, e)
	})
}

func TestTheReserveFollowsTheSizeOfTheFileSystem(t *testing.T) {
	for _, tt := range []struct {
		total, need uint64
	}{{1 << 40, 1 << 30}, {20 << 30, 1 << 30}, {2000, 100}} {
		disk := &smallDisk{FS: vfs.NewMem(), total: tt.total}
		disk.free.Store(tt.need - 1)
		e := open(t, "/data", Options{FS: disk})
		var full *FullError
		var b storage.Batch
		b.Set([]byte("k"), nil)
		if _, err := e.Apply(&b, true); !errors.As(err, &full) || full.Need != tt.need {
			t.Errorf("of %d bytes: %v, want a reserve of %d", tt.total, err, tt.need)
		}
		closing(t, e)
	}
}

// TestAFastWriterDoesNotUseUpTheReserve writes more than the reserve within
// one moment of the bubble's clock.
func TestAFastWriterDoesNotUseUpTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &smallDisk{FS: vfs.NewMem(), total: 1 << 40}
		disk.free.Store(1 << 40)
		e := open(t, "/data", Options{FS: disk, Reserve: 80_000})
		disk.free.Store(0)
		var err error
		for n := 0; err == nil && n < 100; n++ {
			b := &storage.Batch{}
			b.Set([]byte("k"), make([]byte, 1000))
			_, err = e.Apply(b, false)
			synctest.Wait()
		}
		if !errors.Is(err, storage.ErrFull) {
			t.Errorf("100,000 bytes were written over a reserve of 80,000: %v", err)
		}
		closing(t, e)
	})
}

func TestADiskThatDoesNotTellItsSpaceIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &smallDisk{FS: vfs.NewMem()}
		failure := error(syscall.EIO)
		disk.err.Store(&failure)
		var seen events
		e := open(t, "/data", Options{FS: disk, Events: seen.add})
		put(t, e, "k", "v")
		if got := seen.of(BackgroundError); len(got) != 1 || !errors.Is(got[0].Err, syscall.EIO) {
			t.Errorf("events: %v", got)
		}
		closing(t, e)
	})
}

func TestADiskThatHangsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var frozen atomic.Pointer[chan struct{}]
		disk := hookFS{vfs.NewMem(), func(op, _ string) error {
			if thaw := frozen.Load(); thaw != nil && op == "sync" {
				<-*thaw
			}
			return nil
		}}
		var seen events
		e := open(t, "/data", Options{FS: disk, Events: seen.add})
		time.Sleep(time.Minute)
		put(t, e, "k", "v")

		thaw := make(chan struct{})
		frozen.Store(&thaw)
		done := make(chan struct{})
		go func() {
			put(t, e, "k", "w")
			close(done)
		}()
		time.Sleep(stallAfter - 100*time.Millisecond)
		synctest.Wait()
		if got := seen.of(Stalled); len(got) != 0 {
			t.Errorf("reported too early: %v", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := seen.of(Stalled); len(got) != 1 || got[0].Elapsed <= stallAfter || got[0].Elapsed > stallAfter+2*stallEvery {
			t.Errorf("a write that hangs for a minute: %v", got)
		}
		reads, writes := e.Trouble()
		if reads != nil || !errors.Is(writes, storage.ErrStalled) {
			t.Errorf("in trouble: reads %v, writes %v", reads, writes)
		}
		if got, err := e.Get([]byte("k")); err != nil || string(got) != "w" {
			t.Errorf("a read meanwhile: %q, %v", got, err)
		}
		frozen.Store(nil)
		close(thaw)
		<-done
		tick()
		if reads, writes := e.Trouble(); reads != nil || writes != nil {
			t.Errorf("in trouble when it is over: reads %v, writes %v", reads, writes)
		}
		if got := seen.of(Resumed); len(got) != 1 {
			t.Errorf("after the write: %v", got)
		}
		closing(t, e)
	})
}

func TestNoiseIsHeldBack(t *testing.T) {
	var n noise
	start := time.Unix(1000, 0)
	for i, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Millisecond, 0}, {999 * time.Millisecond, 0}, {time.Second, 3}, {3 * time.Second, 1}} {
		if got := n.admit(start.Add(tt.after)); got != tt.want {
			t.Errorf("event %d stands for %d, want %d", i, got, tt.want)
		}
	}
}

func TestEventsAreSentences(t *testing.T) {
	cause := errors.New("no luck")
	tests := map[string]Event{
		"corruption: 000007.sst in /d: no luck (2 times)":       {Kind: Corruption, Dir: "/d", File: "000007.sst", Err: cause, Repeats: 2},
		"background error: /d: no luck (3 times)":               {Kind: BackgroundError, Dir: "/d", Err: cause, Repeats: 3},
		"disk slow: an operation on /d/000004.log has taken 6s": {Kind: DiskSlow, Dir: "/d", File: "/d/000004.log", Elapsed: 6 * time.Second},
		"stalled: calls in /d have waited 7s for the disk":      {Kind: Stalled, Dir: "/d", Elapsed: 7 * time.Second},
		"resumed: calls in /d go on":                            {Kind: Resumed, Dir: "/d"},
		"read-only: 10 bytes are free for /d, less than 20":     {Kind: ReadOnly, Dir: "/d", Free: 10, Need: 20},
		"writable: 30 bytes are free for /d":                    {Kind: Writable, Dir: "/d", Free: 30, Need: 20},
		"fatal: no luck":                                        {Kind: Fatal, Dir: "/d", Err: cause},
		"kind 99: <nil>":                                        {Kind: 99},
	}
	for want, event := range tests {
		if got := event.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestWhatPebbleLogsBecomesEvents calls what Pebble calls.
func TestWhatPebbleLogsBecomesEvents(t *testing.T) {
	var seen events
	e := open(t, "/data", Options{FS: vfs.NewMem(), Events: seen.add})
	defer closing(t, e)
	l := &logger{engine: e}
	l.Infof("nothing %s", "happened")
	l.Errorf("bad: %w", os.ErrInvalid)
	e.diskSlow(vfs.DiskSlowInfo{Path: "/data/000004.log", Duration: 6 * time.Second})
	if got := seen.of(BackgroundError); len(got) != 1 || !errors.Is(got[0].Err, os.ErrInvalid) {
		t.Errorf("background errors: %v", got)
	}
	if got := seen.of(DiskSlow); len(got) != 1 || got[0].File != "/data/000004.log" || got[0].Elapsed != 6*time.Second {
		t.Errorf("slow disks: %v", got)
	}
}

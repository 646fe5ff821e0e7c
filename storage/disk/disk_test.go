package disk

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/storagetest"
)

// testCache is the cache of engines in tests: the real one takes time to make.
const testCache = 1 << 20

func TestMain(m *testing.M) {
	runChild()
	goleak.VerifyTestMain(m)
}

// open opens an engine for a test, which must close it.
func open(t testing.TB, dir string, o Options) *Engine {
	t.Helper()
	if o.CacheBytes == 0 {
		o.CacheBytes = testCache
	}
	e, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// closing closes an engine, which must succeed.
func closing(t testing.TB, e storage.Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// put writes one key durably.
func put(t testing.TB, e storage.Engine, key, value string) {
	t.Helper()
	var b storage.Batch
	b.Set([]byte(key), []byte(value))
	c, err := e.Apply(&b, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestDiskIsAnEngine(t *testing.T) {
	storagetest.Test(t, func(t *testing.T) storage.Engine {
		return open(t, t.TempDir(), Options{})
	})
}

func TestDiskIsAnEngineOnTheMemoryFileSystem(t *testing.T) {
	storagetest.Test(t, func(t *testing.T) storage.Engine {
		return open(t, "/data/node", Options{FS: vfs.NewMem()})
	})
}

func TestDiskReopens(t *testing.T) {
	opener := Opener(Options{CacheBytes: testCache})
	storagetest.TestReopen(t, func(t *testing.T, dir string) storage.Engine {
		e, err := opener(dir)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

// TestDiskSurvivesPowerLosses runs on a file system that forgets what was not
// synced, names of files too.
func TestDiskSurvivesPowerLosses(t *testing.T) {
	losses := 300
	if testing.Short() {
		losses = 40
	}
	storagetest.TestCrash(t, losses, func(t *testing.T) (storage.Engine, storagetest.Crash) {
		fs := vfs.NewCrashableMem()
		return open(t, "/data/node", Options{FS: fs}), powerLoss(t, fs)
	})
}

// powerLoss stages power losses of an engine on fs.
func powerLoss(t *testing.T, fs *vfs.MemFS) storagetest.Crash {
	return func(chance *rand.Rand) (storage.Engine, storagetest.Crash) {
		after := crashed(fs, chance)
		return open(t, "/data/node", Options{FS: after}), powerLoss(t, after)
	}
}

// crashed returns the file system as a power loss leaves it now.
func crashed(fs *vfs.MemFS, chance *rand.Rand) *vfs.MemFS {
	if chance == nil {
		return fs.CrashClone(vfs.CrashCloneCfg{})
	}
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: chance.IntN(101), RNG: chance})
}

func TestUnsyncedBatchesAreDurableAfterTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		e := open(t, "/data", Options{FS: fs, SyncEvery: 100 * time.Millisecond})
		applyAt := func(key string) {
			var b storage.Batch
			b.Set([]byte(key), []byte("v"))
			if _, err := e.Apply(&b, false); err != nil {
				t.Fatal(err)
			}
		}
		has := func(key string) bool {
			after := open(t, "/data", Options{FS: crashed(fs, nil)})
			defer closing(t, after)
			_, err := after.Get([]byte(key))
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		applyAt("first")
		time.Sleep(50 * time.Millisecond)
		applyAt("second")
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		if has("first") {
			t.Error("the batch was synced before its interval, without anybody waiting")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if !has("first") || !has("second") {
			t.Error("a batch was lost by a power loss after its interval")
		}
		before := e.Metrics().WALSyncs
		time.Sleep(time.Second)
		synctest.Wait()
		if after := e.Metrics().WALSyncs; after > before+1 {
			t.Errorf("%d fsyncs while nothing was written", after-before)
		}
		closing(t, e)
	})
}

func TestCommitsShareSyncs(t *testing.T) {
	e := open(t, t.TempDir(), Options{})
	defer closing(t, e)
	before := e.Metrics()
	var commits []storage.Commit
	for range 1000 {
		c, err := e.Apply(&storage.Batch{Ops: []storage.Op{{Key: []byte("k"), Value: make([]byte, 100)}}}, true)
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, c)
	}
	for _, c := range commits {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	after := e.Metrics()
	if n := after.Commits - before.Commits; n != 1000 {
		t.Errorf("%d commits, want 1000", n)
	}
	if n := after.WALSyncs - before.WALSyncs; n < 1 || n > 900 {
		t.Errorf("%d fsyncs for 1000 commits that nobody waited for in between", n)
	}
	if n := after.WALBytes - before.WALBytes; n < 100_000 {
		t.Errorf("%d bytes in the log, want the 100,000 that were written", n)
	}
}

func TestMetricsFollowTheEngine(t *testing.T) {
	e := open(t, t.TempDir(), Options{})
	put(t, e, "k", "v")
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := e.Get([]byte("k")); err != nil {
			t.Fatal(err)
		}
	}
	m := e.Metrics()
	if m.Flushes == 0 || m.L0Files != 1 || m.CacheHits == 0 || m.DiskBytes == 0 {
		t.Errorf("after a flush and three reads: %+v", m)
	}
	closing(t, e)
	if m := e.Metrics(); m.Commits != 1 || m.DiskBytes != 0 {
		t.Errorf("of a closed engine: %+v", m)
	}
}

func TestCloseWaitsForScans(t *testing.T) {
	e := open(t, t.TempDir(), Options{})
	put(t, e, "a", "1")
	put(t, e, "b", "2")
	closed := make(chan error, 1)
	n := 0
	err := e.Scan(nil, nil, func(_, _ []byte) bool {
		if n == 0 {
			go func() { closed <- e.Close() }()
			for !e.closing.Load() {
				runtime.Gosched()
			}
			if _, err := e.Get([]byte("a")); !errors.Is(err, storage.ErrClosed) {
				t.Errorf("Get while the engine closes: %v", err)
			}
		}
		n++
		return true
	})
	if err != nil || n != 2 {
		t.Errorf("the scan saw %d keys, and %v", n, err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestOversizedBatchesAreRefused(t *testing.T) {
	e := open(t, t.TempDir(), Options{})
	defer closing(t, e)
	b := &storage.Batch{}
	part := make([]byte, 1<<20)
	for range MaxBatchBytes / len(part) {
		b.Set([]byte("k"), part)
	}
	if _, err := e.Apply(b, true); err == nil {
		t.Fatal("a batch of more than the limit was applied")
	}
	put(t, e, "k", "v")
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"CacheBytes": {CacheBytes: -1},
		"SyncEvery":  {SyncEvery: -time.Second},
	} {
		if e, err := Open(t.TempDir(), o); err == nil {
			closing(t, e)
			t.Errorf("negative %s was accepted", name)
		}
	}
}

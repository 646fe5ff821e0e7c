package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// moment is what two power losses at one moment leave: one that keeps nothing
// that was not synced, and one that keeps some of it.
type moment struct {
	durable int // keys that were durable before
	left    [2]*vfs.MemFS
}

// camera takes the moment before each write to a file system.
type camera struct {
	fs      *vfs.MemFS
	durable atomic.Int64

	mu      sync.Mutex
	chance  *rand.Rand
	moments []moment
}

// watched returns the file system on which the camera looks.
func (c *camera) watched() vfs.FS {
	all := errorfs.Wrap(c.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			c.shoot()
		}
		return nil
	}))
	// The former does not look at files that are used again.
	return hookFS{all, func(_, _ string) error {
		c.shoot()
		return nil
	}}
}

func (c *camera) shoot() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moments = append(c.moments, moment{
		durable: int(c.durable.Load()),
		left:    [2]*vfs.MemFS{crashed(c.fs, nil), crashed(c.fs, c.chance)},
	})
}

// check opens what each moment left. All that was durable must be there, and
// nothing without what came before.
func (c *camera) check(t *testing.T, dir string) {
	t.Helper()
	for i, m := range c.moments {
		for _, fs := range m.left {
			e, err := Open(dir, Options{FS: fs, CacheBytes: testCache})
			if err != nil {
				t.Errorf("moment %d of %d: %v", i, len(c.moments), err)
				continue
			}
			if n := prefix(t, e); n < m.durable {
				t.Errorf("moment %d of %d: %d keys are there, %d were durable", i, len(c.moments), n, m.durable)
			}
			closing(t, e)
		}
	}
}

// TestPowerLossAtEveryWrite makes a directory, writes, flushes, compacts,
// closes and opens again, and loses power before each write to a file.
func TestPowerLossAtEveryWrite(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		losePowerAtEveryWrite(t, seed)
	}
}

func losePowerAtEveryWrite(t *testing.T, seed uint64) {
	const keys, flushEach = 12, 3
	c := &camera{fs: vfs.NewCrashableMem(), chance: rand.New(rand.NewPCG(seed, seed))}
	e := open(t, "/a/b/c", Options{FS: c.watched()})
	for i := range keys {
		put(t, e, fmt.Sprintf("key %04d", i), damagedValue(i))
		c.durable.Store(int64(i + 1))
		if i%flushEach > 0 {
			continue
		}
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.db.Compact(context.Background(), []byte("key"), []byte("kez"), false); err != nil {
		t.Fatal(err)
	}
	closing(t, e)
	closing(t, open(t, "/a/b/c", Options{FS: c.watched()}))
	if len(c.moments) < 100 {
		t.Errorf("only %d moments", len(c.moments))
	}
	t.Logf("%d power losses", 2*len(c.moments))
	c.check(t, "/a/b/c")
}

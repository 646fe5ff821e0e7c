package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// eraseKeys is enough for a table of many blocks.
const eraseKeys = 400

// readable asks for every key: which are there, which cannot be read, and which
// are gone.
func readable(t *testing.T, e *Engine) (good, bad, gone []int) {
	t.Helper()
	for i := range eraseKeys {
		v, err := e.Get(fmt.Appendf(nil, "key %04d", i))
		switch {
		case errors.Is(err, storage.ErrCorrupt):
			bad = append(bad, i)
		case errors.Is(err, storage.ErrNotFound):
			gone = append(gone, i)
		case err != nil || string(v) != damagedValue(i):
			t.Fatalf("key %d: %.20q, %v", i, v, err)
		default:
			good = append(good, i)
		}
	}
	return good, bad, gone
}

// TestScenario32ErasedDamageHindersNobody flips bits of a table file one at a
// time, erases exactly the keys that cannot be read, and compacts everything:
// all other keys of the file are untouched.
func TestScenario32ErasedDamageHindersNobody(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "/data", Options{FS: fs})
	for i := range eraseKeys {
		put(t, e, fmt.Sprintf("key %04d", i), damagedValue(i))
	}
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	closing(t, e)
	table := filesOf(t, fs, ".sst")[0]
	info, err := fs.Stat(table)
	if err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(32, 1))
	erased := 0
	for range max(8, flips()/5) {
		damaged := flip(t, chance, fs, table, int(info.Size()))
		e, err := Open("/data", Options{CacheBytes: testCache, FS: damaged})
		if err != nil {
			continue // refused, which TestDamagedTables looks at
		}
		good, bad, _ := readable(t, e)
		if len(bad) == 0 || len(bad) == eraseKeys {
			closing(t, e)
			continue
		}
		lower, upper := fmt.Appendf(nil, "key %04d", bad[0]), []byte("key 9")
		if last := bad[len(bad)-1]; last+1 < eraseKeys {
			upper = fmt.Appendf(nil, "key %04d", last+1)
		}
		if bad[0] > 0 {
			// Inside of the damage the bounds of a table cannot be told.
			if err := e.Erase(fmt.Appendf(nil, "key %04d", bad[len(bad)-1]), upper); len(bad) > 1 && !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("erasing from within the damage: %v", err)
			}
			if now, _, _ := readable(t, e); len(now) != len(good) {
				t.Fatalf("a refused Erase has taken %d keys", len(good)-len(now))
			}
			lower = fmt.Appendf(nil, "key %04d", bad[0]-1) // the last one that can be read goes too
		}
		if err := e.Erase(lower, upper); err != nil {
			t.Errorf("erasing %q to %q: %v", lower, upper, err)
			closing(t, e)
			continue
		}
		erased++
		if err := e.db.Compact(t.Context(), []byte("a"), []byte("z"), false); err != nil {
			t.Errorf("a compaction after the damage was erased: %v", err)
		}
		closing(t, e)
		e = open(t, "/data", Options{FS: damaged})
		now, still, gone := readable(t, e)
		if len(still) > 0 || len(now) < len(good)-1 || len(now)+len(gone) != eraseKeys {
			t.Errorf("%d keys could be read, now %d; %d cannot", len(good), len(now), len(still))
		}
		put(t, e, string(lower), damagedValue(0))
		closing(t, e)
	}
	if erased == 0 {
		t.Error("no damage was erased")
	}
	t.Logf("%d times", erased)
}

package storage_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/storagetest"
)

func TestMemoryIsAnEngine(t *testing.T) {
	storagetest.Test(t, func(*testing.T) storage.Engine { return storage.NewMemory() })
}

func TestMemorySurvivesCrashes(t *testing.T) {
	storagetest.TestCrash(t, 400, func(*testing.T) (storage.Engine, storagetest.Crash) {
		m := storage.NewMemory()
		return m, memoryCrash(m)
	})
}

// memoryCrash stages power losses of m.
func memoryCrash(m *storage.Memory) storagetest.Crash {
	return func(chance *rand.Rand) (storage.Engine, storagetest.Crash) {
		keep := 0
		if chance != nil {
			keep = chance.IntN(10)
		}
		after := m.Crash(keep)
		return after, memoryCrash(after)
	}
}

func TestMemoryReopens(t *testing.T) {
	engines := map[string]*storage.Memory{}
	storagetest.TestReopen(t, func(_ *testing.T, dir string) storage.Engine {
		if closed, ok := engines[dir]; ok {
			engines[dir] = closed.Crash(0)
		} else {
			engines[dir] = storage.NewMemory()
		}
		return engines[dir]
	})
}

func apply(t testing.TB, m *storage.Memory, key, value string) storage.Commit {
	t.Helper()
	var b storage.Batch
	if value == "" {
		b.Delete([]byte(key))
	} else {
		b.Set([]byte(key), []byte(value))
	}
	c, err := m.Apply(&b, true)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func content(t testing.TB, m *storage.Memory) string {
	t.Helper()
	all := ""
	err := m.Scan(nil, nil, func(key, value []byte) bool {
		all += fmt.Sprintf("%s=%s ", key, value)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCrashKeepsThePrefixThatItIsTold(t *testing.T) {
	for keep, want := range map[int]string{
		-1: "a=1 b=1 ", 0: "a=1 b=1 ", 1: "a=2 b=1 ", 2: "a=2 ", 3: "a=2 b=3 ", 99: "a=2 b=3 ",
	} {
		m := storage.NewMemory()
		apply(t, m, "a", "1")
		apply(t, m, "b", "1")
		m.MakeDurable(2)
		apply(t, m, "a", "2")
		apply(t, m, "b", "")
		apply(t, m, "b", "3")
		after := m.Crash(keep)
		if got := content(t, after); got != want {
			t.Errorf("keep %d: %q, want %q", keep, got, want)
		}
		if after.Applied() != after.Durable() {
			t.Errorf("keep %d: %d applied, %d durable", keep, after.Applied(), after.Durable())
		}
		if _, err := m.Get([]byte("a")); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("keep %d: the crashed engine answers %v", keep, err)
		}
	}
}

func TestMemoryCountsBatches(t *testing.T) {
	m := storage.NewMemory()
	check := func(applied, durable uint64) {
		t.Helper()
		if m.Applied() != applied || m.Durable() != durable {
			t.Fatalf("%d applied, %d durable; want %d, %d", m.Applied(), m.Durable(), applied, durable)
		}
	}
	check(0, 0)
	apply(t, m, "a", "1")
	second := apply(t, m, "a", "2")
	apply(t, m, "a", "3")
	check(3, 0)
	m.MakeDurable(1)
	check(3, 1)
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	check(3, 2)
	m.MakeDurable(1)
	check(3, 2)
	m.MakeDurable(99)
	check(3, 3)
}

func TestMemoryBoundsWhatIsNotDurable(t *testing.T) {
	m := storage.NewMemory()
	for range 5000 {
		apply(t, m, "k", "v")
	}
	if m.Applied() != 5000 || m.Durable() != 5000-4096 {
		t.Fatalf("%d applied, %d durable", m.Applied(), m.Durable())
	}
}

func TestFailMakesEveryCallFail(t *testing.T) {
	m := storage.NewMemory()
	durable := apply(t, m, "a", "1")
	m.MakeDurable(1)
	volatile := apply(t, m, "a", "2")
	broken := errors.New("the disk broke")
	m.Fail(broken)
	m.Fail(errors.New("another"))
	m.MakeDurable(2)

	_, getErr := m.Get([]byte("a"))
	_, applyErr := m.Apply(&storage.Batch{}, true)
	scanErr := m.Scan(nil, nil, func(_, _ []byte) bool { return true })
	for name, err := range map[string]error{
		"Get": getErr, "Apply": applyErr, "Scan": scanErr, "Wait": volatile.Wait(), "Close": m.Close(),
	} {
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v, want %v", name, err, broken)
		}
	}
	if err := durable.Wait(); err != nil {
		t.Errorf("Wait for what was durable before: %v", err)
	}
	if got := content(t, m.Crash(0)); got != "a=1 " {
		t.Errorf("after the crash: %q", got)
	}
}

func TestCrashFailsTheWaitForWhatItLost(t *testing.T) {
	m := storage.NewMemory()
	lost := apply(t, m, "a", "1")
	m.Crash(0)
	if err := lost.Wait(); !errors.Is(err, storage.ErrClosed) {
		t.Fatalf("Wait: %v, want ErrClosed", err)
	}
}

func BenchmarkMemory(b *testing.B) {
	value := make([]byte, 100)
	keys := make([][]byte, 1000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key %06d", i)
	}
	b.Run("apply", func(b *testing.B) {
		m := storage.NewMemory()
		b.ReportAllocs()
		var batch storage.Batch
		for i := range b.N {
			batch.Reset()
			batch.Set(keys[i%len(keys)], value)
			c, err := m.Apply(&batch, true)
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		m := storage.NewMemory()
		for _, k := range keys {
			apply(b, m, string(k), "v")
		}
		b.ReportAllocs()
		for i := range b.N {
			if _, err := m.Get(keys[i%len(keys)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestImageIsWhatIsDurable: what was applied and is not durable is not in it,
// and neither engine sees what the other does from then on.
func TestImageIsWhatIsDurable(t *testing.T) {
	m := storage.NewMemory()
	put := func(e *storage.Memory, key, value string) {
		t.Helper()
		if _, err := e.Apply(&storage.Batch{Ops: []storage.Op{{Key: []byte(key), Value: []byte(value)}}}, true); err != nil {
			t.Fatal(err)
		}
	}
	put(m, "a", "1")
	m.MakeDurable(1)
	put(m, "a", "2")
	put(m, "b", "2")
	image := m.Image()
	put(image, "c", "3")
	for _, c := range []struct {
		e         *storage.Memory
		key, want string
	}{
		{m, "a", "2"}, {m, "b", "2"}, {m, "c", ""},
		{image, "a", "1"}, {image, "b", ""}, {image, "c", "3"},
	} {
		got, err := c.e.Get([]byte(c.key))
		if string(got) != c.want || (c.want == "") != errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s is %q, %v; want %q", c.key, got, err, c.want)
		}
	}
	if m.Applied() != 3 || image.Applied() != 2 || image.Durable() != 1 {
		t.Errorf("applied %d and %d, durable %d", m.Applied(), image.Applied(), image.Durable())
	}
	if _, err := m.Crash(0).Get([]byte("b")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after the crash: %v", err)
	}
}

package storagetest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/storage"
)

// modelOps is how many steps each random run of testModel takes at most.
const modelOps = 40

// testModel runs random operations on the engine and on a map, and compares.
func testModel(t *testing.T, e storage.Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		m := model{e: e, keys: map[string]string{}}
		m.empty(rt)
		for range rapid.IntRange(1, modelOps).Draw(rt, "operations") {
			switch rapid.IntRange(0, 3).Draw(rt, "operation") {
			case 0, 1:
				m.apply(rt)
			case 2:
				m.get(rt)
			case 3:
				m.scan(rt)
			}
		}
	})
}

// model is an engine beside a map that must hold the same.
type model struct {
	e    storage.Engine
	keys map[string]string
}

// empty removes what the run before left.
func (m *model) empty(t *rapid.T) {
	b := new(storage.Batch)
	err := m.e.Scan(nil, nil, func(key, _ []byte) bool {
		b.Delete(bytes.Clone(key))
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	if _, err := m.e.Apply(b, false); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// key draws one of few keys, so that they meet.
func key(t *rapid.T, label string) []byte {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 0, 3).Draw(t, label)
}

func (m *model) apply(t *rapid.T) {
	b := new(storage.Batch)
	for range rapid.IntRange(0, 6).Draw(t, "changes") {
		k := key(t, "key")
		if rapid.Bool().Draw(t, "delete") {
			b.Delete(k)
			delete(m.keys, string(k))
			continue
		}
		if rapid.IntRange(0, 3).Draw(t, "merge") == 0 {
			n := rapid.Uint64().Draw(t, "word")
			b.Merge(k, n)
			m.keys[string(k)] = word(storage.Word([]byte(m.keys[string(k)])) ^ n)
			continue
		}
		v := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
		b.Set(k, v)
		m.keys[string(k)] = string(v)
	}
	sync := rapid.Bool().Draw(t, "sync")
	c, err := m.e.Apply(b, sync)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if !sync {
		return
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("Wait: %v", err)
	}
}

func (m *model) get(t *rapid.T) {
	k := key(t, "key")
	got, err := m.e.Get(k)
	want, present := m.keys[string(k)]
	if !present {
		if !errors.Is(err, storage.ErrNotFound) {
			t.Fatalf("Get %q = %q, %v; want ErrNotFound", k, got, err)
		}
		return
	}
	if err != nil || string(got) != want {
		t.Fatalf("Get %q = %q, %v; want %q", k, got, err, want)
	}
}

func (m *model) scan(t *rapid.T) {
	lower, upper := key(t, "lower"), key(t, "upper")
	limit := rapid.IntRange(1, 10).Draw(t, "limit")
	var want, got []string
	for _, k := range slices.Sorted(maps.Keys(m.keys)) {
		inside := k >= string(lower) && (len(upper) == 0 || k < string(upper))
		if inside && len(want) < limit {
			want = append(want, k+"="+m.keys[k])
		}
	}
	err := m.e.Scan(lower, upper, func(key, value []byte) bool {
		got = append(got, string(key)+"="+string(value))
		return len(got) < limit
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Scan [%q, %q) (-want +got):\n%s", lower, upper, diff)
	}
}

// TestReopen checks that data outlives Close. Open opens the engine in a
// directory, which is empty at first.
func TestReopen(t *testing.T, open func(t *testing.T, dir string) storage.Engine) {
	t.Run("what was applied before Close is there after the next Open", func(t *testing.T) {
		dir := t.TempDir()
		wantKeys := []string{}
		for round := range 5 {
			e := open(t, dir)
			if diff := cmp.Diff(wantKeys, scan(t, e, "", "")); diff != "" {
				t.Fatalf("start %d (-want +got):\n%s", round, diff)
			}
			k := string(rune('a' + round))
			write(t, e, set(k, "synced", "z", "replaced"))
			b := set(k+k, "not synced")
			b.Delete([]byte("z"))
			if _, err := e.Apply(b, false); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			wantKeys = append(wantKeys, k+"=synced", k+k+"=not synced")
		}
	})
}

// Package storagetest holds what every storage.Engine must do, as tests that
// an engine's own tests run: Test for each engine, TestReopen for one whose
// data outlives Close, and TestCrash for one whose crashes can be staged.
package storagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/storage"
)

// Test checks the promises of storage.Engine that need no second start. Open
// returns a new, empty engine; Test closes it.
func Test(t *testing.T, open func(t *testing.T) storage.Engine) {
	tests := []struct {
		name string
		run  func(t *testing.T, e storage.Engine)
	}{
		{"Get answers ErrNotFound for an absent key", testAbsent},
		{"Get returns what was set, and a copy of it", testGetCopies},
		{"an empty value is there, and not absent", testEmptyValue},
		{"a batch happens as a whole, its changes in order", testBatchOrder},
		{"an empty batch can be applied and waited for", testEmptyBatch},
		{"a batch may be reused as soon as it is applied", testReuse},
		{"a batch is visible before it is durable", testVisible},
		{"Scan keeps to its bounds and to byte order", testScanBounds},
		{"Scan stops when told", testScanStops},
		{"Scan sees one moment, and may use the engine", testScanMoment},
		{"keys and values may hold any bytes", testBinary},
		{"values of a megabyte are kept", testBigValue},
		{"a batch without sync can be waited for", testUnsyncedWait},
		{"readers never see half a batch", testConcurrent},
		{"Wait may be called in any order", testWaitOrder},
		{"Merge is the exclusive or of words, whatever was there", testMerge},
		{"Merge goes by the order of the batch", testMergeOrder},
		{"Merges of many writers are all there", testMergeConcurrent},
		{"a snapshot stays as it is", testSnapshot},
		{"a closed engine answers ErrClosed", testClosed},
		{"the engine does what a map does", testModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t)
			defer closeIfOpen(t, e)
			tt.run(t, e)
		})
	}
}

// closeIfOpen ends an engine that the test has not ended itself.
func closeIfOpen(t *testing.T, e storage.Engine) {
	t.Helper()
	if err := e.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
}

// set returns a batch that writes the given keys and values, in turn.
func set(pairs ...string) *storage.Batch {
	b := new(storage.Batch)
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return b
}

// write applies a batch and waits until it is durable.
func write(t testing.TB, e storage.Engine, b *storage.Batch) {
	t.Helper()
	c, err := e.Apply(b, true)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("Wait: %v", err)
	}
}

// want checks the value of a key.
func want(t testing.TB, e storage.Engine, key, value string) {
	t.Helper()
	got, err := e.Get([]byte(key))
	if err != nil {
		t.Fatalf("Get %.40q: %v", key, err)
	}
	if string(got) != value {
		t.Fatalf("Get %.40q = %.40q, want %.40q", key, got, value)
	}
}

// wantAbsent checks that a key is not there.
func wantAbsent(t testing.TB, e storage.Engine, key string) {
	t.Helper()
	if got, err := e.Get([]byte(key)); !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("Get %.40q = %.40q, %v; want ErrNotFound", key, got, err)
	}
}

// scan returns the pairs between the bounds, as "key=value".
func scan(t testing.TB, e storage.Engine, lower, upper string) []string {
	t.Helper()
	pairs := []string{}
	err := e.Scan([]byte(lower), []byte(upper), func(key, value []byte) bool {
		pairs = append(pairs, string(key)+"="+string(value))
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return pairs
}

func wantScan(t testing.TB, e storage.Engine, lower, upper string, pairs ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, pairs...), scan(t, e, lower, upper)); diff != "" {
		t.Fatalf("Scan [%q, %q) (-want +got):\n%s", lower, upper, diff)
	}
}

func testAbsent(t *testing.T, e storage.Engine) {
	wantAbsent(t, e, "k")
	write(t, e, set("a", "1", "kk", "2"))
	wantAbsent(t, e, "k")
	b := set("k", "1")
	b.Delete([]byte("never there"))
	write(t, e, b)
	want(t, e, "k", "1")
	wantAbsent(t, e, "never there")
}

func testGetCopies(t *testing.T, e storage.Engine) {
	write(t, e, set("k", "value"))
	got, err := e.Get([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	want(t, e, "k", "value")

	kept, err := e.Get([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, e, set("k", "other"))
	if string(kept) != "value" {
		t.Fatalf("the value that was returned changed to %q", kept)
	}
}

func testEmptyValue(t *testing.T, e storage.Engine) {
	b := new(storage.Batch)
	b.Set([]byte("empty"), []byte{})
	b.Set([]byte("nil"), nil)
	write(t, e, b)
	for _, key := range []string{"empty", "nil"} {
		got, err := e.Get([]byte(key))
		if err != nil || got == nil || len(got) != 0 {
			t.Errorf("Get %q = %v, %v; want an empty slice", key, got, err)
		}
	}
	wantScan(t, e, "", "", "empty=", "nil=")
}

func testBatchOrder(t *testing.T, e storage.Engine) {
	write(t, e, set("c", "old"))
	b := set("a", "1", "a", "2", "b", "1")
	b.Delete([]byte("b"))
	b.Delete([]byte("c"))
	b.Set([]byte("c"), []byte("new"))
	write(t, e, b)
	wantScan(t, e, "", "", "a=2", "c=new")
}

func testEmptyBatch(t *testing.T, e storage.Engine) {
	if _, err := e.Apply(set("k", "v"), false); err != nil {
		t.Fatal(err)
	}
	write(t, e, new(storage.Batch))
	wantScan(t, e, "", "", "k=v")
}

func testReuse(t *testing.T, e storage.Engine) {
	key, value := []byte("k0"), []byte("v0")
	b := new(storage.Batch)
	var commits []storage.Commit
	for i := range 10 {
		key[1], value[1] = byte('0'+i), byte('0'+i)
		b.Reset()
		b.Set(key, value)
		c, err := e.Apply(b, i%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			commits = append(commits, c)
		}
	}
	clear(key)
	clear(value)
	for _, c := range commits {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	wantScan(t, e, "", "", "k0=v0", "k1=v1", "k2=v2", "k3=v3", "k4=v4",
		"k5=v5", "k6=v6", "k7=v7", "k8=v8", "k9=v9")
}

func testVisible(t *testing.T, e storage.Engine) {
	c, err := e.Apply(set("k", "v"), true)
	if err != nil {
		t.Fatal(err)
	}
	want(t, e, "k", "v")
	wantScan(t, e, "", "", "k=v")
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	want(t, e, "k", "v")
}

func testScanBounds(t *testing.T, e storage.Engine) {
	wantScan(t, e, "", "")
	write(t, e, set("b", "2", "\xff", "5", "a", "1", "ba", "3", "c", "4"))
	wantScan(t, e, "", "", "a=1", "b=2", "ba=3", "c=4", "\xff=5")
	wantScan(t, e, "b", "", "b=2", "ba=3", "c=4", "\xff=5")
	wantScan(t, e, "", "b", "a=1")
	wantScan(t, e, "b", "c", "b=2", "ba=3")
	wantScan(t, e, "b\x00", "c\x00", "ba=3", "c=4")
	wantScan(t, e, "b", "b")
	wantScan(t, e, "c", "b")
	wantScan(t, e, "d", "e")
	if err := e.Scan(nil, nil, func(_, _ []byte) bool { return true }); err != nil {
		t.Fatalf("Scan without bounds: %v", err)
	}
}

func testScanStops(t *testing.T, e storage.Engine) {
	write(t, e, set("a", "1", "b", "2", "c", "3"))
	var seen []string
	err := e.Scan(nil, nil, func(key, _ []byte) bool {
		seen = append(seen, string(key))
		return len(seen) < 2
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, seen); diff != "" {
		t.Fatal(diff)
	}
}

func testScanMoment(t *testing.T, e storage.Engine) {
	write(t, e, set("a", "1", "b", "1", "c", "1"))
	var seen []string
	err := e.Scan(nil, nil, func(key, value []byte) bool {
		seen = append(seen, string(key)+"="+string(value))
		b := set("b", "2", "bb", "2")
		b.Delete([]byte("c"))
		write(t, e, b)
		want(t, e, "b", "2")
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a=1", "b=1", "c=1"}, seen); diff != "" {
		t.Fatal(diff)
	}
	wantScan(t, e, "", "", "a=1", "b=2", "bb=2")
}

func testBinary(t *testing.T, e storage.Engine) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	keys := []string{"", "\x00", "\x00\x00", "\xff\xff", string(all)}
	for i, key := range keys {
		write(t, e, set(key, fmt.Sprint(i)+string(all)))
	}
	for i, key := range keys {
		want(t, e, key, fmt.Sprint(i)+string(all))
	}
	wantScan(t, e, "", "\x00\x00", "=0"+string(all), "\x00=1"+string(all))
}

func testBigValue(t *testing.T, e storage.Engine) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	long := bytes.Repeat([]byte("k"), 64<<10)
	b := new(storage.Batch)
	for i := range 4 {
		b.Set([]byte{byte(i)}, big)
	}
	b.Set(long, big)
	write(t, e, b)
	want(t, e, "\x03", string(big))
	want(t, e, string(long), string(big))
}

func testUnsyncedWait(t *testing.T, e storage.Engine) {
	c, err := e.Apply(set("k", "v"), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	want(t, e, "k", "v")
}

func word(n uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, n))
}

func testMerge(t *testing.T, e storage.Engine) {
	b := set("set", word(0xf0), "text", "not a word", "empty", "")
	b.Merge([]byte("new"), 1)
	write(t, e, b)
	want(t, e, "new", word(1))
	for _, n := range []uint64{2, 1 << 63, 2} {
		b := new(storage.Batch)
		for _, k := range []string{"new", "set", "text", "empty"} {
			b.Merge([]byte(k), n)
		}
		write(t, e, b)
	}
	want(t, e, "new", word(1<<63|1))
	wantScan(t, e, "", "", "empty="+word(1<<63), "new="+word(1<<63|1), "set="+word(1<<63|0xf0), "text="+word(1<<63))
	b = new(storage.Batch)
	b.Merge([]byte("new"), 1<<63|1)
	write(t, e, b)
	want(t, e, "new", word(0)) // and not absent
	b = new(storage.Batch)
	b.Delete([]byte("new"))
	write(t, e, b)
	wantAbsent(t, e, "new")
	b = new(storage.Batch)
	b.Merge([]byte("new"), 5)
	write(t, e, b)
	want(t, e, "new", word(5)) // what was before the deletion is forgotten
}

func testMergeOrder(t *testing.T, e storage.Engine) {
	b := new(storage.Batch)
	b.Merge([]byte("a"), 1)
	b.Merge([]byte("a"), 2)
	b.Merge([]byte("gone"), 3)
	b.Delete([]byte("gone"))
	b.Merge([]byte("anew"), 3)
	b.Delete([]byte("anew"))
	b.Merge([]byte("anew"), 4)
	b.Set([]byte("over"), []byte("x"))
	b.Merge([]byte("over"), 6)
	b.Merge([]byte("under"), 6)
	b.Set([]byte("under"), []byte("x"))
	write(t, e, b)
	wantScan(t, e, "", "", "a="+word(3), "anew="+word(4), "over="+word(6), "under=x")
}

func testMergeConcurrent(t *testing.T, e storage.Engine) {
	const writers, rounds = 4, 50
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for i := range rounds {
				b := new(storage.Batch)
				b.Merge([]byte("sum"), 1<<(w*rounds+i)%64|uint64(w*rounds+i)<<8)
				if _, err := e.Apply(b, false); err != nil {
					t.Errorf("Apply: %v", err)
					return
				}
			}
		})
	}
	running.Wait()
	sum := uint64(0)
	for n := range writers * rounds {
		sum ^= 1<<n%64 | uint64(n)<<8
	}
	want(t, e, "sum", word(sum))
}

func testSnapshot(t *testing.T, e storage.Engine) {
	from, ok := e.(storage.Snapshotter)
	if !ok {
		t.Fatalf("a %T has no snapshots", e)
	}
	b := set("a", "1", "b", "1")
	b.Merge([]byte("sum"), 1)
	write(t, e, b)
	s, err := from.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b = set("b", "2", "c", "2")
	b.Delete([]byte("a"))
	b.Merge([]byte("sum"), 2)
	write(t, e, b)
	wantAbsent(t, e, "a")
	pairs := []string{}
	err = s.Scan([]byte("a"), []byte("z"), func(key, value []byte) bool {
		pairs = append(pairs, string(key)+"="+string(value))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a=1", "b=1", "sum=" + word(1)}, pairs); diff != "" {
		t.Error(diff)
	}
	if got, err := s.Get([]byte("b")); err != nil || string(got) != "1" {
		t.Errorf("Get b = %q, %v", got, err)
	}
	if _, err := s.Get([]byte("c")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get c: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get([]byte("b")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Get of a closed snapshot: %v", err)
	}
	if err := s.Scan(nil, nil, func(_, _ []byte) bool { return true }); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Scan of a closed snapshot: %v", err)
	}
}

// testConcurrent has writers that change two keys together, and readers that
// check that the two agree.
func testConcurrent(t *testing.T, e storage.Engine) {
	const writers, readers, rounds = 4, 2, 50
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for i := range rounds {
				n := fmt.Sprint(i)
				c, err := e.Apply(set(fmt.Sprintf("%d/a", w), n, fmt.Sprintf("%d/b", w), n), i%3 > 0)
				if err != nil {
					t.Errorf("Apply: %v", err)
					return
				}
				if err := c.Wait(); err != nil {
					t.Errorf("Wait: %v", err)
					return
				}
			}
		})
	}
	for range readers {
		running.Go(func() {
			for range rounds {
				checkPairs(t, e)
			}
		})
	}
	running.Wait()
	if t.Failed() {
		return
	}
	for w := range writers {
		want(t, e, fmt.Sprintf("%d/a", w), fmt.Sprint(rounds-1))
		want(t, e, fmt.Sprintf("%d/b", w), fmt.Sprint(rounds-1))
	}
}

// checkPairs scans keys that end in a and b, which must hold the same.
func checkPairs(t *testing.T, e storage.Engine) {
	var a string
	err := e.Scan(nil, nil, func(key, value []byte) bool {
		if key[len(key)-1] == 'a' {
			a = string(value)
		} else if a != string(value) {
			t.Errorf("%q: the first half of a batch says %s, the second %s", key, a, value)
		}
		return true
	})
	if err != nil {
		t.Errorf("Scan: %v", err)
	}
}

func testWaitOrder(t *testing.T, e storage.Engine) {
	var commits []storage.Commit
	for i := range 20 {
		c, err := e.Apply(set(fmt.Sprintf("%02d", i), "v"), true)
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, c)
	}
	for i := len(commits) - 1; i >= 0; i-- {
		if err := commits[i].Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(scan(t, e, "", "")); n != 20 {
		t.Fatalf("%d keys, want 20", n)
	}
}

func testClosed(t *testing.T, e storage.Engine) {
	c, err := e.Apply(set("k", "v"), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("Wait for a batch that Close made durable: %v", err)
	}
	_, getErr := e.Get([]byte("k"))
	_, applyErr := e.Apply(set("k", "w"), true)
	called := false
	scanErr := e.Scan(nil, nil, func(_, _ []byte) bool { called = true; return true })
	for name, err := range map[string]error{
		"Get": getErr, "Apply": applyErr, "Scan": scanErr, "Close": e.Close(),
	} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	if called {
		t.Error("Scan of a closed engine called its function")
	}
}

package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// events collects what an engine reports.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// of returns the events of a kind.
func (e *events) of(kind Kind) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []Event
	for _, event := range e.all {
		if event.Kind == kind {
			found = append(found, event)
		}
	}
	return found
}

// The tables of TestDamagedTables hold damagedKeys keys, the log of
// TestDamagedLog loggedKeys: so few that no flush empties the log.
const (
	damagedKeys       = 200
	damagedValueBytes = 1000
	loggedKeys        = 200
)

// flips is how many bits are flipped in each kind of file, one at a time.
func flips() int {
	if testing.Short() {
		return 20
	}
	return 100
}

// damagedValue is the value of key i: bytes that cannot be compressed, so that
// the values are most of a table.
func damagedValue(i int) string {
	chance := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
	value := make([]byte, damagedValueBytes)
	_, _ = chance.Read(value) // never fails
	return string(value)
}

// filesOf returns the paths of the files in /data with a suffix.
func filesOf(t *testing.T, fs vfs.FS, suffix string) []string {
	t.Helper()
	names, err := fs.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var found []string
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			found = append(found, fs.PathJoin("/data", name))
		}
	}
	if len(found) == 0 {
		t.Fatalf("no file *%s among %v", suffix, names)
	}
	return found
}

// flip returns a copy of the file system in which one random bit of the first
// bytes of a file is another.
func flip(t *testing.T, chance *rand.Rand, fs vfs.FS, path string, first int) vfs.FS {
	t.Helper()
	copied := vfs.NewMem()
	if _, err := vfs.Clone(fs, copied, "/data", "/data"); err != nil {
		t.Fatal(err)
	}
	content, err := readFile(fs, path)
	if err != nil {
		t.Fatal(err)
	}
	content[chance.IntN(first)] ^= 1 << chance.IntN(8)
	writeFile(t, copied, path, content)
	return copied
}

// TestDamagedTables flips bits of table files. Each read must answer the right
// bytes or an error, and the process must live.
func TestDamagedTables(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "/data", Options{FS: fs})
	for i := range damagedKeys {
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
	chance := rand.New(rand.NewPCG(1, 1))
	refused, corrupt, told := 0, 0, 0
	for range flips() {
		r := readDamaged(t, flip(t, chance, fs, table, int(info.Size())))
		refused += r.refused
		corrupt += min(r.corrupt, 1)
		told += r.told
	}
	t.Logf("%d flipped bits: %d times ErrCorrupt, %d times refused to open", flips(), corrupt, refused)
	if corrupt < flips()*2/3 {
		t.Errorf("only %d of %d flipped bits were noticed by a read", corrupt, flips())
	}
	if told == 0 {
		t.Error("no event told of the corruption")
	}
}

// damage counts how an engine answered that has a damaged table.
type damage struct {
	refused, corrupt, told int
}

func readDamaged(t *testing.T, fs vfs.FS) damage {
	t.Helper()
	var seen events
	e, err := Open("/data", Options{CacheBytes: testCache, Events: seen.add, FS: fs})
	if err != nil {
		if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "/data") {
			t.Errorf("Open: %v", err)
		}
		return damage{refused: 1}
	}
	d := damage{}
	for i := range damagedKeys {
		got, err := e.Get(fmt.Appendf(nil, "key %04d", i))
		switch {
		case err == nil && string(got) != damagedValue(i):
			t.Errorf("wrong bytes for key %d: %.50q", i, got)
		case errors.Is(err, storage.ErrCorrupt):
			d.corrupt++
		case err != nil:
			t.Errorf("Get of key %d: %v", i, err)
		}
	}
	if err := scanDamaged(t, e); err != nil {
		d.corrupt++
	}
	put(t, e, "another", "value")
	closing(t, e)
	d.told = len(seen.of(Corruption))
	return d
}

// scanDamaged scans all keys: it must see each of them, or end with an error.
func scanDamaged(t *testing.T, e *Engine) error {
	t.Helper()
	n := 0
	err := e.Scan([]byte("key"), []byte("kez"), func(key, value []byte) bool {
		if string(key) != fmt.Sprintf("key %04d", n) || string(value) != damagedValue(n) {
			t.Errorf("the scan's pair %d is %q, %.50q", n, key, value)
			return false
		}
		n++
		return true
	})
	if err != nil && !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Scan: %v", err)
	}
	if err == nil && n != damagedKeys {
		t.Errorf("the scan saw %d keys of %d, and no error", n, damagedKeys)
	}
	return err
}

// TestDamagedLog flips bits of the write-ahead log. What the engine shows then
// is right, and nothing is missing in the middle. Damage in the last block of
// 32 KiB hides what follows it without an error: Pebble tells it from a write that the
// crash cut off only by later blocks.
func TestDamagedLog(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "/data", Options{FS: fs})
	for i := range loggedKeys {
		put(t, e, fmt.Sprintf("key %04d", i), damagedValue(i))
	}
	closing(t, e)
	logs := filesOf(t, fs, ".log")
	log := logs[len(logs)-1]
	chance := rand.New(rand.NewPCG(3, 3))
	refused, silent := 0, 0
	for range flips() {
		e, err := Open("/data", Options{CacheBytes: testCache, FS: flip(t, chance, fs, log, loggedKeys*damagedValueBytes)})
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "replaying WAL") {
				t.Errorf("Open: %v", err)
			}
			refused++
			continue
		}
		if prefix(t, e) < loggedKeys {
			silent++
		}
		closing(t, e)
	}
	t.Logf("%d flipped bits: %d times refused to open, %d times the end was missing", flips(), refused, silent)
	if silent > flips()/3 {
		t.Errorf("the end of the log was missing %d times of %d", silent, flips())
	}
}

// prefix returns how many of the keys 0, 1, 2 … are there, each with its
// value.
func prefix(t *testing.T, e *Engine) int {
	t.Helper()
	n := 0
	err := e.Scan(nil, nil, func(key, value []byte) bool {
		if string(key) != fmt.Sprintf("key %04d", n) || string(value) != damagedValue(n) {
			t.Errorf("pair %d is %q, %.20q", n, key, value)
		}
		n++
		return true
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

// TestDamagedManifest cuts and spoils the list of files at every byte. The
// engine says what is wrong; it never opens with less than there was.
func TestDamagedManifest(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, "/data", Options{FS: fs})
	for i := range 4 {
		put(t, e, fmt.Sprintf("key %04d", i), damagedValue(i))
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	closing(t, e)
	desc, err := pebble.Peek("/data", fs)
	if err != nil {
		t.Fatal(err)
	}
	manifest := desc.ManifestFilename
	whole, err := readFile(fs, manifest)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		writeFile(t, fs, manifest, whole[:n])
		wantRefusal(t, fmt.Sprintf("cut to %d bytes", n), fs, fs.PathBase(manifest))
		flipped := append([]byte{}, whole...)
		flipped[n] ^= 1 << (n % 8)
		writeFile(t, fs, manifest, flipped)
		wantRefusal(t, fmt.Sprintf("flipped at %d", n), fs, fs.PathBase(manifest))
	}
	if err := fs.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "missing", fs, fs.PathBase(manifest))
	writeFile(t, fs, manifest, append(whole, "what a crash cut short"...))
	e = open(t, "/data", Options{FS: fs})
	if n := prefix(t, e); n != 4 {
		t.Errorf("%d keys, want 4", n)
	}
	closing(t, e)
}

// writeFile makes a file of the given content.
func writeFile(t *testing.T, fs vfs.FS, path string, content []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(slices.Clone(content)) // see summedFile.Write
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// wantRefusal checks that Open names the directory and the file, and says what
// to do.
func wantRefusal(t *testing.T, name string, fs vfs.FS, file string) {
	t.Helper()
	e, err := Open("/data", Options{CacheBytes: testCache, FS: fs})
	if err == nil {
		closing(t, e)
		t.Fatalf("manifest %s: opened", name)
	}
	for _, part := range []string{"/data", file, "move the directory aside"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("manifest %s: the error does not say %q: %v", name, part, err)
		}
	}
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("manifest %s: not ErrCorrupt: %v", name, err)
	}
}

// tree returns the names and contents of a directory's files.
func tree(t *testing.T, fs vfs.FS, dir string) string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		return err.Error()
	}
	all := ""
	for _, name := range names {
		content, err := readFile(fs, fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%s: %q\n", name, content)
	}
	return all
}

func TestForeignDirectoriesAreRefusedAndLeftAlone(t *testing.T) {
	tests := []struct {
		name, file, content string
		want                string
	}{
		{"a newer version", "FORMAT", "tanodb-engine 3\n", `/data/FORMAT says version "3", this program knows only version 2; nothing was changed`},
		{"the version before merges", "FORMAT", "tanodb-engine 1\n", `/data/FORMAT says version "1", this program knows only version 2; nothing was changed`},
		{"an odd version", "FORMAT", "tanodb-engine 2 \n", `/data/FORMAT says version "2 "`},
		{"an empty FORMAT file", "FORMAT", "", `/data/FORMAT holds "", which is no version`},
		{"another FORMAT file", "FORMAT", strings.Repeat("x", 1000), `/data/FORMAT holds "` + strings.Repeat("x", formatMax) + `", which is no version`},
		{"files without FORMAT", "MANIFEST-000001", "", "directory /data holds MANIFEST-000001 but no FORMAT file"},
		{"somebody's files", "diary.txt", "dear diary", "directory /data holds diary.txt but no FORMAT file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := vfs.NewMem()
			if err := fs.MkdirAll("/data", 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, fs, "/data/"+tt.file, []byte(tt.content))
			before := tree(t, fs, "/data")
			_, err := Open("/data", Options{FS: fs})
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open: %v\nwant: %s", err, tt.want)
			}
			if after := tree(t, fs, "/data"); after != before {
				t.Errorf("the directory changed from\n%sto\n%s", before, after)
			}
		})
	}
}

func TestOpenTellsWhatTheFileSystemSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("Open of %s: %v", dir, err)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("tanodb-engine 1\n")
	f.Add("tanodb-engine 2\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, content string) {
		err := parseFormat("FORMAT", content)
		if (err == nil) != (content == "tanodb-engine 2\n") {
			t.Fatalf("%q: %v", content, err)
		}
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("%q: %v", content, err)
		}
	})
}

func FuzzSums(f *testing.F) {
	f.Add([]byte("12 00000000 "), int64(12), uint32(7))
	f.Add(appendSums(nil, 1, 2), int64(0), uint32(0))
	f.Add(appendSums(nil, 1, 2)[:10], int64(1)<<40, uint32(1)<<31)
	f.Fuzz(func(t *testing.T, before []byte, size int64, manifest uint32) {
		lastSums(before)
		if size < 0 {
			return
		}
		content := append(append([]byte{}, before...), '\n')
		content = appendSums(content, size, manifest)
		s, m, ok := lastSums(content)
		if !ok || s != size || m != manifest {
			t.Fatalf("%q: %d %x %v", content, s, m, ok)
		}
		// A line that a crash cut short must not count.
		cut, cutSum, ok := lastSums(appendSums(nil, size, manifest)[:len(appendSums(nil, size, manifest))-1])
		if ok {
			t.Fatalf("a cut line counts: %d %x", cut, cutSum)
		}
	})
}

package disk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

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

// damagedValue is the value of key i: bytes that cannot be compressed, so that
// the values are most of a table.
func damagedValue(i int) string {
	chance := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
	value := make([]byte, damagedValueBytes)
	_, _ = chance.Read(value) // never fails
	return string(value)
}

// tables fills a new directory and returns its table files.
func tables(t *testing.T, dir string) []string {
	t.Helper()
	e := open(t, dir, Options{})
	for i := range damagedKeys {
		var b storage.Batch
		b.Set(fmt.Appendf(nil, "key %04d", i), []byte(damagedValue(i)))
		if _, err := e.Apply(&b, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	closing(t, e)
	found, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(found) == 0 {
		t.Fatalf("tables: %v, %v", found, err)
	}
	return found
}

// TestDamagedTables flips bits of table files. Each read must answer the right
// bytes or an error, and the process must live.
func TestDamagedTables(t *testing.T) {
	dir := t.TempDir()
	table := tables(t, dir)[0]
	whole, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(1, 1))
	refused, corrupt, told := 0, 0, 0
	for range 60 {
		damaged := append([]byte{}, whole...)
		damaged[chance.IntN(len(damaged))] ^= 1 << chance.IntN(8)
		if err := os.WriteFile(table, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		r := readDamaged(t, dir)
		refused += r.refused
		corrupt += min(r.corrupt, 1)
		told += r.told
	}
	t.Logf("60 flipped bits: %d times ErrCorrupt, %d times refused to open", corrupt, refused)
	if corrupt < 40 {
		t.Errorf("only %d of 60 flipped bits were noticed by a read", corrupt)
	}
	if told == 0 {
		t.Error("no event told of the corruption")
	}
}

// damage counts how an engine answered that has a damaged table.
type damage struct {
	refused, corrupt, told int
}

func readDamaged(t *testing.T, dir string) damage {
	t.Helper()
	var seen events
	e, err := Open(dir, Options{CacheBytes: testCache, Events: seen.add})
	if err != nil {
		if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), dir) {
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
	dir := t.TempDir()
	e := open(t, dir, Options{})
	for i := range loggedKeys {
		put(t, e, fmt.Sprintf("key %04d", i), damagedValue(i))
	}
	closing(t, e)
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs: %v, %v", logs, err)
	}
	name := filepath.Base(logs[len(logs)-1])
	whole, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	written := len(strings.TrimRight(string(whole), "\x00"))
	chance := rand.New(rand.NewPCG(3, 3))
	refused, silent := 0, 0
	for range 60 {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		damaged := append([]byte{}, whole...)
		damaged[chance.IntN(written)] ^= 1 << chance.IntN(8)
		if err := os.WriteFile(filepath.Join(copied, name), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Open(copied, Options{CacheBytes: testCache})
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
	t.Logf("60 flipped bits: %d times refused to open, %d times the end was missing", refused, silent)
	if silent > 25 {
		t.Errorf("the end of the log was missing %d times of 60", silent)
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

// TestDamagedManifest spoils the list of files. The engine says what is wrong.
func TestDamagedManifest(t *testing.T) {
	dir := t.TempDir()
	tables(t, dir)
	found, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("manifests: %v, %v", found, err)
	}
	manifest := found[len(found)-1]
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string][]byte{
		"empty":   {},
		"zeroes":  make([]byte, len(whole)),
		"garbage": []byte(strings.Repeat("garbage ", 100)),
	}
	for name, content := range damages {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		damagedPath := filepath.Join(copied, filepath.Base(manifest))
		if err := os.WriteFile(damagedPath, content, 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, name, copied, filepath.Base(manifest))
	}
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "missing", dir, filepath.Base(manifest))
}

// wantRefusal checks that Open names the directory and the file, and says what
// to do.
func wantRefusal(t *testing.T, name, dir, file string) {
	t.Helper()
	e, err := Open(dir, Options{CacheBytes: testCache})
	if err == nil {
		defer closing(t, e)
		t.Errorf("manifest %s: opened %d keys", name, prefix(t, e))
		return
	}
	for _, part := range []string{dir, file, "move the directory aside"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("manifest %s: the error does not say %q: %v", name, part, err)
		}
	}
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("manifest %s: not ErrCorrupt: %v", name, err)
	}
}

// TestPowerLossWhileTheDirectoryIsMade stops the making of a directory at each
// write. Whatever is found then must open.
func TestPowerLossWhileTheDirectoryIsMade(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var moments []*vfs.MemFS
	chance := rand.New(rand.NewPCG(2, 2))
	watched := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			moments = append(moments, crashed(fs, nil), crashed(fs, chance))
		}
		return nil
	}))
	first := open(t, "/a/b/c", Options{FS: watched})
	made := moments
	closing(t, first)
	if len(made) < 20 {
		t.Fatalf("only %d moments", len(made))
	}
	for i, moment := range made {
		e, err := Open("/a/b/c", Options{FS: moment, CacheBytes: testCache})
		if err != nil {
			t.Errorf("moment %d of %d: %v", i, len(made), err)
			continue
		}
		put(t, e, "k", "v")
		closing(t, e)
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
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
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
		{"a newer version", "FORMAT", "tanodb-engine 2\n", `/data/FORMAT says version "2", this program knows only version 1; nothing was changed`},
		{"an odd version", "FORMAT", "tanodb-engine 1 \n", `/data/FORMAT says version "1 "`},
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
			f, err := fs.Create("/data/"+tt.file, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Write([]byte(tt.content))
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			before := tree(t, fs, "/data")
			_, err = Open("/data", Options{FS: fs})
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
		if (err == nil) != (content == "tanodb-engine 1\n") {
			t.Fatalf("%q: %v", content, err)
		}
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("%q: %v", content, err)
		}
	})
}

package tanodb

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

func open(t *testing.T, dir string, o Options) *Node {
	t.Helper()
	n, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// shut closes the node in order.
func shut(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, n *Node, name, value string) {
	t.Helper()
	if _, err := n.Put(t.Context(), kv.Key{Bucket: "b", Name: name}, kv.Value{Data: []byte(value)}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestACleanShutdownIsResumedOnce(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir, Options{})
	write(t, n, "k", "v")
	before := n.vnodes.incarnations()
	shut(t, n)

	n = open(t, dir, Options{})
	for p, inc := range n.vnodes.incarnations() {
		if inc != before[p] {
			t.Fatalf("vnode %d goes on as %v; it was %v", p, inc, before[p])
		}
	}
	if _, err := os.Stat(filepath.Join(dir, cleanFile)); !os.IsNotExist(err) {
		t.Errorf("the marker is still there: %v", err)
	}
}

func TestOtherStartsAreNewIncarnations(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"after a crash": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, cleanFile)); err != nil {
				t.Fatal(err)
			}
		},
		"from a copy of the marker": func(t *testing.T, dir string) {
			path := filepath.Join(dir, cleanFile)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".copy", b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".copy", path); err != nil {
				t.Fatal(err)
			}
		},
		"from a restored marker that has the number of the first": func(t *testing.T, dir string) {
			path := filepath.Join(dir, cleanFile)
			before := stampOf(path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o600); err != nil { // the same inode, as a file system may give to a new file
				t.Fatal(err)
			}
			if after := stampOf(path); after.inode != before.inode {
				t.Fatalf("the file has another number: %v, %v", before, after)
			}
		},
		"from a cut marker": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, cleanFile), 60); err != nil {
				t.Fatal(err)
			}
		},
		"from an older state of the engine": func(t *testing.T, dir string) {
			path := filepath.Join(dir, cleanFile)
			if err := os.Rename(path, path+".kept"); err != nil {
				t.Fatal(err)
			}
			n := open(t, dir, Options{})
			shut(t, n)
			if err := os.Rename(path+".kept", path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, dir, Options{})
			before := n.vnodes.incarnations()
			shut(t, n)
			spoil(t, dir)
			n = open(t, dir, Options{})
			for p, inc := range n.vnodes.incarnations() {
				if inc.actor == before[p].actor || inc.counter != 0 {
					t.Fatalf("vnode %d goes on as %v; it was %v", p, inc, before[p])
				}
			}
		})
	}
}

// A directory that is put back from a backup must not go on as the incarnations
// that it holds: they have gone on meanwhile. Neither do the numbers of inodes tell
// that, which file systems give out again, nor anything at all if the image of a
// disk is put back; but such an image is old.
func TestScenario06ARestoredDirectoryIsANewIncarnation(t *testing.T) {
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	n := open(t, dir, Options{})
	write(t, n, "k", "v")
	before := n.vnodes.incarnations()
	shut(t, n)
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(dir, cleanFile)
	stamp := stampOf(marker)
	e, err := disk.Open(filepath.Join(dir, engineName), disk.Options{CacheBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	written := time.Unix(0, stamp.changed)
	for after, want := range map[time.Duration]bool{0: true, markerLife: true, markerLife + 1: false, -1: false} {
		if got := (&home{dir: dir}).readMarker(e, written.Add(after)) != nil; got != want {
			t.Errorf("%v after it was written the marker counts: %v", after, got)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, dir, Options{})
	write(t, n, "k", "w")
	shut(t, n)

	// Yesterday's directory comes back, file by file into the files that are there,
	// which keep their numbers.
	if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || e.IsDir() || rel == cleanFile || rel == lockFile {
			return err
		}
		return os.Remove(path)
	}); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(backup, func(path string, e os.DirEntry, err error) error {
		rel, _ := filepath.Rel(backup, path)
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), b, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	n = open(t, dir, Options{})
	for p, inc := range n.vnodes.incarnations() {
		if inc.actor == before[p].actor {
			t.Fatalf("vnode %d goes on as %v, which it was before the restoration", p, inc)
		}
	}
}

func TestParseMarkerTakesNothingElse(t *testing.T) {
	session := []byte("0123456789abcdef")
	all := map[ring.Partition]incarnation{3: {object.Actor{1, 2, 3}, 17}, 60000: {object.Actor{9}, 1 << 60}}
	b := formatMarker(session, 42, all)
	got := parseMarker(b, session, 42)
	if len(got) != 2 || got[3] != all[3] || got[60000] != all[60000] {
		t.Fatalf("read back as %v; want %v", got, all)
	}
	for i := range b {
		spoilt := append([]byte(nil), b...)
		spoilt[i] ^= 1
		if parseMarker(spoilt, session, 42) != nil {
			t.Errorf("a marker with byte %d changed is taken", i)
		}
		if parseMarker(b[:i], session, 42) != nil {
			t.Errorf("a marker of %d bytes is taken", i)
		}
	}
	if parseMarker(b, []byte("0123456789abcdeg"), 42) != nil {
		t.Error("a marker of another session is taken")
	}
	if parseMarker(b, session, 43) != nil || parseMarker(formatMarker(session, 0, all), session, 0) != nil {
		t.Error("a marker of another file, or of an unknown one, is taken")
	}
}

func FuzzParseMarker(f *testing.F) {
	session := []byte("0123456789abcdef")
	f.Add(formatMarker(session, 42, map[ring.Partition]incarnation{3: {object.Actor{1}, 2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseMarker(b, session, 42)
		parseNode(b)
	})
}

func TestDirectoriesThatAreNotThisNodes(t *testing.T) {
	two := []Member{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		o     Options
		want  string
	}{
		"another name":         {nil, Options{Name: "n2"}, `belongs to node "n1", not to "n2"`},
		"another ring size":    {nil, Options{Partitions: 128}, "made with 64 partitions, and the options say 128"},
		"another N":            {nil, Options{Replicas: 2}, "made with 3 replicas, and the options say 2"},
		"another cluster":      {nil, Options{Bootstrap: two, Listen: "127.0.0.1:0"}, "names n2, which is no member"},
		"a later version":      {replace("NODE", nodeHeader, "tanodb-node 2"), Options{}, `is of format "tanodb-node 2"`},
		"no NODE at all":       {remove("NODE"), Options{}, "it is not a node's directory"},
		"a NODE of nothing":    {replace("NODE", nodeHeader, ""), Options{}, "is not a NODE file, or is damaged"},
		"a NODE that was cut":  {replace("NODE", "replicas 3\n", ""), Options{}, `says nothing of "replicas"`},
		"a NODE without value": {replace("NODE", "replicas 3", "replicas"), Options{}, "has no value"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, dir, Options{Name: "n1"})
			write(t, n, "k", "kept")
			shut(t, n)
			node, err := os.ReadFile(filepath.Join(dir, nodeFile))
			if err != nil {
				t.Fatal(err)
			}
			if tc.spoil != nil {
				tc.spoil(t, dir)
			}
			n, err = Open(dir, tc.o)
			if err == nil {
				n.Close()
				t.Fatal("the node was opened")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q; want one with %q", err, tc.want)
			}
			if err := os.WriteFile(filepath.Join(dir, nodeFile), node, 0o600); err != nil {
				t.Fatal(err)
			}
			n = open(t, dir, Options{Name: "n1"})
			if _, err := n.Get(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{}); err != nil {
				t.Errorf("after the mistake was mended: %v", err)
			}
		})
	}
}

func TestADamagedEngineIsRefused(t *testing.T) {
	dir := t.TempDir()
	shut(t, open(t, dir, Options{}))
	replace("engine/FORMAT", "tanodb-engine 2", "tanodb-engine 9")(t, dir)
	n, err := Open(dir, Options{})
	if err == nil {
		n.Close()
		t.Fatal("the node was opened")
	}
	if !strings.Contains(err.Error(), "FORMAT") && !strings.Contains(err.Error(), "version") {
		t.Errorf("error %q says nothing of the version", err)
	}
	replace("engine/FORMAT", "tanodb-engine 9", "tanodb-engine 2")(t, dir)
	open(t, dir, Options{})
}

func replace(name, old, now string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, now, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADirectoryServesOneNode(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "is open in this process already") {
		t.Errorf("a second node in the directory: %v", err)
	}
}

// TestADirectoryByAnotherNameServesOneNode: the locks of one process do not keep itself out, so
// that two nodes would write into one directory.
func TestADirectoryByAnotherNameServesOneNode(t *testing.T) {
	parent := t.TempDir()
	dir, link := filepath.Join(parent, "dir"), filepath.Join(parent, "link")
	n := open(t, dir, Options{})
	if err := os.Symlink("dir", link); err != nil {
		t.Skip(err) // not every file system has links
	}
	t.Chdir(parent)
	for _, name := range []string{link, "dir", "./link"} {
		second, err := Open(name, Options{})
		if err == nil {
			second.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "is open in this process already") {
			t.Errorf("a second node in the directory, as %s: %v", name, err)
		}
	}
	shut(t, n)
	shut(t, open(t, link, Options{}))
}

// Who cannot write to a directory must not be sent to look for a process that has it.
func TestADirectoryThatCannotBeLocked(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, lockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "cannot be locked: ") || strings.Contains(err.Error(), "in use") {
		t.Errorf("a directory in which LOCK cannot be written: %v", err)
	}
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	two := []Member{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}}
	for want, o := range map[string]Options{
		"number of partitions is 7":         {Partitions: 7},
		"number of partitions is -1":        {Partitions: -1},
		"Replicas is -1":                    {Replicas: -1},
		"Replicas is 9":                     {Replicas: 9, Partitions: 8},
		`Durability is "never"`:             {Durability: "never"},
		"must not be negative":              {MaxRequests: -1},
		"the list of members does not name": {Name: "n3", Bootstrap: two, Listen: "127.0.0.1:0"},
		"set Listen":                        {Name: "n1", Bootstrap: two},
		"needs a name":                      {Bootstrap: two, Listen: "127.0.0.1:0"},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		n, err := Open(dir, o)
		if err == nil {
			n.Close()
			t.Errorf("%+v was opened", o)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q; want one with %q", err, want)
		}
	}
	if _, err := Open("", Options{}); err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Errorf("no directory at all: %v", err)
	}
}

func TestRequestsOfAClosedNode(t *testing.T) {
	n := open(t, t.TempDir(), Options{})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := n.Get(context.Background(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{})
	if err != kv.ErrClosed {
		t.Errorf("a get after Close: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

// TestTheMarkerComesAfterWhatItCovers applies a batch that nobody waits for, as
// interval durability does: a marker that outlives it would let a vnode go on as
// the actor of writes that it has forgotten.
func TestTheMarkerComesAfterWhatItCovers(t *testing.T) {
	dir := t.TempDir()
	engine := storage.NewMemory()
	h := &home{dir: dir}
	if _, err := h.resume(engine); err != nil {
		t.Fatal(err)
	}
	var b storage.Batch
	b.Set([]byte("k"), []byte("v"))
	if _, err := engine.Apply(&b, false); err != nil {
		t.Fatal(err)
	}
	if err := h.mark(engine, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, cleanFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Crash(0).Get([]byte("k")); err != nil {
		t.Errorf("the marker is there, and what was applied before it is not: %v", err)
	}
	engine = storage.NewMemory()
	h = &home{dir: t.TempDir()}
	if _, err := h.resume(engine); err != nil {
		t.Fatal(err)
	}
	engine.Fail(storage.ErrFull)
	if err := h.mark(engine, nil); err == nil {
		t.Error("what was applied may not be durable, and nothing is said")
	}
	if _, err := os.Stat(filepath.Join(h.dir, cleanFile)); !os.IsNotExist(err) {
		t.Errorf("a marker was left all the same: %v", err)
	}
}

// TestNoMarkerWhileAWorkerRuns stands for a disk that holds a worker up past the end
// of its supervisor's patience: it may still give out dots.
func TestNoMarkerWhileAWorkerRuns(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir, Options{})
	n.vnodes.running.Add(1)
	shut(t, n)
	if _, err := os.Stat(filepath.Join(dir, cleanFile)); !os.IsNotExist(err) {
		t.Errorf("a marker was left: %v", err)
	}
}

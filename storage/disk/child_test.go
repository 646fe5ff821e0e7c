package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// The test binary runs itself again as a child that does what this variable
// says, for failures that may end a process or must come from another one.
const childEnv = "TANODB_DISK_TEST_CHILD"

// runChild does the work of a child, if this process is one, and ends it.
func runChild() {
	task, args, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		return
	}
	switch task {
	case "open":
		_, err := Open(args, Options{CacheBytes: testCache})
		fmt.Println(err)
	case "write":
		writeUntilBroken(args)
	}
	os.Exit(0)
}

// child starts this binary as a child.
func child(t *testing.T, task string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	return cmd
}

func TestTwoProcessesCannotShareADirectory(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, Options{})
	put(t, e, "k", "v")
	out, err := child(t, "open "+dir).Output()
	if err != nil {
		t.Fatalf("child: %v", err)
	}
	if want := "directory " + dir + " is in use by another process"; !strings.Contains(string(out), want) {
		t.Errorf("the second process says %q, want %q", out, want)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "already open in this process") {
		t.Errorf("the second Open of one process says: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err) // not every file system has links
	}
	if second, err := Open(link, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("the second Open of one process, by a link, says: %v", err)
		if err == nil {
			closing(t, second)
		}
	}
	put(t, e, "k", "w")
	closing(t, e)
	closing(t, open(t, dir, Options{}))
}

// childBatches is how many batches a child writes at most. After each
// flushEvery of them it flushes, so that log files change and the list of files
// is written.
const (
	childBatches = 400
	flushEvery   = 100
)

// writeUntilBroken writes numbered keys into dir, on a file system whose n-th
// write to a kind of file fails, and prints the number of each one that is
// durable, and how it ended. The argument is "KIND N DIR".
func writeUntilBroken(args string) {
	fields := strings.SplitN(args, " ", 3)
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		panic(err)
	}
	fatal := make(chan error, 1)
	var armed atomic.Bool
	e, err := Open(fields[2], Options{
		CacheBytes: testCache,
		FS:         hookFS{vfs.Default, failAt(fields[0], n, &armed)},
		OnFatal:    func(err error) { fatal <- err },
	})
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	armed.Store(true)
	done := make(chan error, 1)
	go func() { done <- writeNumbers(e) }()
	select {
	case err := <-fatal:
		reportFatal(e, err)
	case err := <-done:
		if err != nil {
			reportFatal(e, <-fatal)
			return
		}
		fmt.Println("finished:", e.Close())
	}
}

// reportFatal prints that the engine has failed, and checks that every call
// says so.
func reportFatal(e *Engine, err error) {
	_, getErr := e.Get([]byte("k"))
	_, applyErr := e.Apply(&storage.Batch{}, true)
	for _, got := range []error{getErr, applyErr, e.Close()} {
		if got == nil || got.Error() != err.Error() || !strings.Contains(got.Error(), syscall.EIO.Error()) {
			fmt.Printf("wrong: %v instead of %v\n", got, err)
		}
	}
	fmt.Println("fatal:", err)
}

// writeNumbers writes the keys 0, 1, 2 … and prints each when it is durable.
func writeNumbers(e *Engine) error {
	for i := range childBatches {
		b := &storage.Batch{}
		b.Set([]byte(strconv.Itoa(i)), make([]byte, 2<<10))
		c, err := e.Apply(b, true)
		if err != nil {
			return err
		}
		if err := c.Wait(); err != nil {
			return err
		}
		fmt.Println("durable:", i)
		if i%flushEvery > 0 {
			continue
		}
		if err := e.db.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// failAt lets the n-th writing operation after arming on files whose name
// contains kind fail, and all later ones on such files.
func failAt(kind string, n int, armed *atomic.Bool) func(op, path string) error {
	var seen atomic.Int64
	return func(op, path string) error {
		if !armed.Load() || !strings.Contains(path, kind) || seen.Add(1) < int64(n) {
			return nil
		}
		return &os.PathError{Op: op, Path: path, Err: syscall.EIO}
	}
}

// TestBrokenFilesAreFatal lets the operating system's writes fail in a child
// at many points. The child must report it, or die of it; nothing that was
// durable may be missing afterwards.
func TestBrokenFilesAreFatal(t *testing.T) {
	points := map[string][]int{
		".log":     {1, 2, 3, 4, 5, 10, 50, 100, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209, 500},
		"MANIFEST": {1, 2, 3},
	}
	if testing.Short() {
		points = map[string][]int{".log": {1, 100, 205}, "MANIFEST": {1}}
	}
	children, reported, died := 0, 0, 0
	for kind, at := range points {
		for _, n := range at {
			r := breakChild(t, kind, n)
			children++
			if r.reported {
				reported++
			}
			if r.died {
				died++
			}
		}
	}
	t.Logf("%d children reported the failure, %d died of it", reported, died)
	if reported < children/2 {
		t.Errorf("only %d of %d children reported the failure", reported, children)
	}
}

// broken is what became of a child.
type broken struct {
	reported, died bool
	durable        []string
}

// breakChild runs a child whose n-th write to files of a kind fails, and
// checks what it left.
func breakChild(t *testing.T, kind string, n int) broken {
	t.Helper()
	dir := t.TempDir()
	out, err := child(t, fmt.Sprintf("write %s %d %s", kind, n, dir)).Output()
	r := broken{died: err != nil}
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		what, rest, _ := strings.Cut(lines.Text(), ": ")
		switch what {
		case "durable":
			r.durable = append(r.durable, rest)
		case "fatal":
			r.reported = true
		case "wrong", "refused":
			t.Errorf("%s %d: %s", kind, n, lines.Text())
		case "finished":
			t.Errorf("%s %d: the child noticed nothing", kind, n)
		}
	}
	e := open(t, dir, Options{})
	defer closing(t, e)
	for _, key := range r.durable {
		if _, err := e.Get([]byte(key)); err != nil {
			t.Errorf("%s %d: key %s was durable, now: %v", kind, n, key, err)
		}
	}
	if !r.died && !r.reported {
		t.Errorf("%s %d: the child ended without a word", kind, n)
	}
	return r
}

//go:build unix

package pb

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

const (
	// idleConnections is how many clients are connected and quiet.
	idleConnections = 10_000

	// idleMemory is the most that one of them may hold, in bytes: its buffer of
	// smallFrame, the stack of its goroutine, and what the runtime and the net package
	// keep of a socket.
	idleMemory = 12 << 10

	// spareFiles are what this process needs beside the connections.
	spareFiles = 200
)

// TestManyIdleConnections: they cost little, keep nobody from being served, and are all
// closed by Shutdown. The other ends are a process of their own, which has its own files.
func TestManyIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	allowFiles(t, idleConnections+spareFiles)
	f := &fake{}
	s, addr, served := beginWith(t, f, Options{MaxConnections: idleConnections + 1})
	before := memory()
	clients := exec.Command(os.Args[0])
	clients.Env = append(os.Environ(), holdClients+"="+addr+" "+strconv.Itoa(idleConnections))
	clients.Stderr = os.Stderr
	out, err := clients.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		t.Fatal(err)
	}
	says := bufio.NewScanner(out)
	if !says.Scan() || says.Text() != "held" {
		t.Fatalf("the clients have not connected: %q, %v", says.Text(), errors.Join(says.Err(), clients.Wait()))
	}
	if n := s.connections(); n != idleConnections {
		t.Errorf("%d connections, want %d", n, idleConnections)
	}
	held := (memory() - before) / idleConnections
	t.Logf("a connection holds %d bytes", held)
	if held > idleMemory {
		t.Errorf("a connection holds %d bytes, and may hold %d", held, idleMemory)
	}
	one := connect(t, addr)
	one.alive()
	one.ask(riakpb.PutReq, putOf("k", "v"), riakpb.PutResp, nil)
	another := connect(t, addr)
	another.awaitError(turnedAway)
	another.ended()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	one.ended()
	if !says.Scan() || says.Text() != "closed" {
		t.Errorf("not all connections were closed: %q", says.Text())
	}
	if err := clients.Wait(); err != nil || s.connections() != 0 {
		t.Errorf("%d connections are left; the clients end with %v", s.connections(), err)
	}
}

// allowFiles has this process and those that it starts open so many files, or skips.
func allowFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip("the limit of open files is not known: ", err)
	}
	if uint64(limit.Max) < n {
		t.Skipf("needs %d open files, and the limit is %d", n, limit.Max)
	}
	if uint64(limit.Cur) >= n {
		return
	}
	old := limit
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip("the limit of open files cannot be raised: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}

// memory is how many bytes the heap and the stacks of this process hold.
func memory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools and stacks shrink by and by
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

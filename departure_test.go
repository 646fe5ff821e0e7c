//go:build unix

package tanodb

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
)

// TestCloseWaitsForADeparture: a node that has left its cluster says so in its directory, which takes
// as long as the disk does; here a pipe stands for that. One that is closed meanwhile neither lets
// go of the directory before, nor forgets why it has ended.
func TestCloseWaitsForADeparture(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir, Options{})
	slow := filepath.Join(dir, nodeFile+".tmp")
	if err := syscall.Mkfifo(slow, 0o600); err != nil {
		t.Skip(err)
	}
	n.topology.depart(membership.StatusExiting)
	const disk = 200 * time.Millisecond
	time.AfterFunc(disk, func() {
		if f, err := os.Open(slow); err == nil { // who writes waits for who reads
			f.Close()
		}
	})
	if err := n.Close(); !errors.Is(err, ErrLeft) {
		t.Errorf("Close says %v", err)
	}
}

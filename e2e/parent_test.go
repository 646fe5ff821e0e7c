package e2e

import (
	"net"
	"os"
	"runtime"
	"testing"
)

// TestDevNodesEndWithTheirParent kills tanodb dev itself, which can then stop
// nobody: its nodes must not stay behind, not even a frozen one.
func TestDevNodesEndWithTheirParent(t *testing.T) {
	t.Parallel() // it measures nothing
	needProgram(t)
	d := startDev(t, 3)
	if runtime.GOOS == "linux" { // elsewhere a frozen process cannot see that its parent is gone
		d.dev("pause", "3")
	}
	if err := d.cmd.Process.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err == nil {
		t.Error("a killed process ended without an error")
	}
	d.killed = true
	for _, address := range append(d.http, d.node...) {
		eventually(t, "nobody listens on "+address, func() bool {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return false
			}
			l.Close()
			return true
		})
	}
}

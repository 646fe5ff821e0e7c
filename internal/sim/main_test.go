package sim

import (
	"os"
	"runtime/debug"
	"testing"
)

// heapRoom is how much memory the collector may leave to what nobody needs any more.
const heapRoom = 3 << 29

// TestMain gives the collector more room: a run leaves much behind and needs
// little at a time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1600)
	debug.SetMemoryLimit(heapRoom)
	os.Exit(m.Run())
}

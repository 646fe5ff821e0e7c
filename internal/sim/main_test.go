package sim

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain gives the collector more room: a run leaves much behind and needs
// little at a time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1600)
	os.Exit(m.Run())
}

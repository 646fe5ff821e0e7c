package tanodb

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// TestALifeThatBeginsBehindTheClock: the clock of a node was ahead by an hour, and right when
// its disk was put back to what it was before that. Others have met it in a later life than
// the one that it begins. It ends, and says why; its next life is later again.
func TestALifeThatBeginsBehindTheClock(t *testing.T) {
	t.Parallel()
	network := NewMemoryNetwork()
	members := []Member{{Name: "n1", Address: "memory:1"}, {Name: "n2", Address: "memory:2"}}
	dirs := []string{t.TempDir(), t.TempDir()}
	begin := func(i int) *Node {
		return open(t, dirs[i], Options{Name: members[i].Name, Bootstrap: members, Partitions: 8, Network: network})
	}
	change := func(fn func(*storage.Batch)) {
		t.Helper()
		e, err := disk.Open(filepath.Join(dirs[1], engineName), disk.Options{CacheBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var b storage.Batch
		fn(&b)
		if _, err := e.Apply(&b, true); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, begin(1)) // it has a directory now
	ahead := membership.Life{Number: uint64(time.Now().Add(time.Hour).UnixNano()), Began: 1}
	change(func(b *storage.Batch) { membership.KeepLife(b, ahead) })
	n1, n2 := begin(0), begin(1)
	WaitUp(t, n1, n2)
	if n2.life <= ahead.Number {
		t.Errorf("life %d follows life %d", n2.life, ahead.Number)
	}
	shut(t, n2)

	change(func(b *storage.Batch) { membership.KeepLife(b, membership.Life{Number: 1, Began: 1}) })
	old := begin(1)
	select {
	case <-old.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the node goes on in a life that is earlier than one before")
	}
	if err := old.Close(); err == nil || !strings.Contains(err.Error(), "node n1 has met this node n2 in a later life") {
		t.Errorf("it ends with: %v", err)
	}
	again := begin(1)
	WaitUp(t, n1, again)
	if again.life <= n2.life {
		t.Errorf("life %d follows life %d", again.life, n2.life)
	}
}

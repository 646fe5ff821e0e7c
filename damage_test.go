package tanodb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// durables are three nodes on disks, each of which may be closed and opened again.
type durables struct {
	*testing.T
	network *MemoryNetwork
	dirs    []string
	nodes   []*Node
	o       Options
}

func openDurables(t *testing.T, o Options) *durables {
	d := &durables{T: t, network: NewMemoryNetwork(), o: o, nodes: make([]*Node, 3)}
	d.o.Network, d.o.CacheBytes, d.o.Partitions = d.network, 8<<20, 8
	for i := range d.nodes {
		d.dirs = append(d.dirs, t.TempDir())
		d.o.Bootstrap = append(d.o.Bootstrap, Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("memory:%d", i+1)})
	}
	for i := range d.nodes {
		d.open(i)
	}
	t.Cleanup(func() {
		for i, n := range d.nodes {
			if n != nil {
				d.close(i)
			}
		}
	})
	WaitUp(t, d.nodes...)
	return d
}

func (d *durables) open(i int) {
	d.Helper()
	o := d.o
	o.Name = fmt.Sprintf("n%d", i+1)
	n, err := Open(d.dirs[i], o)
	if err != nil {
		d.Fatal(err)
	}
	d.nodes[i] = n
}

func (d *durables) close(i int) {
	d.Helper()
	if err := d.nodes[i].Close(); err != nil {
		d.Error(err)
	}
	d.nodes[i] = nil
}

// table makes the engine write what it has into a table file, by a restart, and
// names the largest.
func (d *durables) table(i int) string {
	d.Helper()
	d.close(i)
	d.open(i)
	tables, err := filepath.Glob(filepath.Join(d.dirs[i], engineName, "*.sst"))
	if err != nil || len(tables) == 0 {
		d.Fatalf("no table: %v", err)
	}
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			d.Fatal(err)
		}
		return info.Size()
	}
	return slices.MaxFunc(tables, func(a, b string) int { return int(size(a) - size(b)) })
}

// rot flips a bit in so many places of the first half of a file, where its values are.
func rot(t *testing.T, path string, places int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(32, 2))
	for range places {
		at := chance.Int64N(info.Size() / 2)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << chance.IntN(8)
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// The data of these tests.
const rotKeys = 300

func rotKey(i int) kv.Key { return kv.Key{Bucket: "rot", Name: fmt.Sprintf("k%03d", i)} }

func rotValue(i int) []byte {
	chance, value := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), 1}), make([]byte, 2000)
	_, _ = chance.Read(value) // never fails
	return value
}

func (d *durables) fill() {
	d.Helper()
	for i := range rotKeys {
		if _, err := d.nodes[i%3].Put(d.Context(), rotKey(i), kv.Value{Data: rotValue(i)}, kv.WriteOptions{W: kv.All}); err != nil {
			d.Fatal(err)
		}
	}
}

// readAll reads all keys at a node. It may fail to read one, and is never wrong.
func (d *durables) readAll(i int) (failed int) {
	d.Helper()
	for k := range rotKeys {
		obj, err := d.nodes[i].Get(d.Context(), rotKey(k), kv.ReadOptions{R: kv.Quorum(2)})
		switch {
		case err != nil && !errors.Is(err, kv.ErrNotFound):
			failed++
		case err != nil || len(obj.Values) != 1 || !bytes.Equal(obj.Values[0].Data, rotValue(k)):
			d.Fatalf("n%d answers a read of %v with %d values, %v", i+1, rotKey(k), len(obj.Values), err)
		}
	}
	return failed
}

// whole reports whether all that a node should hold is there, and can be read.
func (d *durables) whole(i int) string {
	n := d.nodes[i]
	held, err := vnode.Held(n.engine)
	if err != nil {
		return err.Error()
	}
	objects := 0
	for _, p := range held {
		for from := []byte(nil); ; {
			got, err := vnode.Scrub(n.engine, p, from, 1<<20)
			if err != nil || len(got.Damage) > 0 {
				return fmt.Sprintf("vnode %d: %v, %v", p, got.Damage, err)
			}
			objects += got.Objects
			if from = got.Next; from == nil {
				break
			}
		}
	}
	if s := n.Status().Storage; len(s.Rebuilding)+len(s.Damaged) > 0 {
		return fmt.Sprintf("rebuilding %v, damaged %v", s.Rebuilding, s.Damaged)
	}
	if objects != rotKeys {
		return fmt.Sprintf("it holds %d objects of %d", objects, rotKeys)
	}
	return ""
}

// treesRight waits until the hash trees of a node are those of its objects.
func (d *durables) treesRight(i int) {
	d.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for wrong := d.wrongTrees(i); wrong != ""; wrong = d.wrongTrees(i) {
		select {
		case <-tick.C:
		case <-deadline:
			d.Fatalf("n%d: %s", i+1, wrong)
		}
	}
}

func (d *durables) wrongTrees(i int) string {
	moment, err := d.nodes[i].engine.(storage.Snapshotter).Snapshot()
	if err != nil {
		return err.Error()
	}
	defer moment.Close()
	trees, err := vnode.Trees(d.nodes[i].engine)
	if err != nil {
		return err.Error()
	}
	for _, tree := range trees {
		if v, err := vnode.Verify(moment, tree.Partition, tree.Home); err != nil || len(v.Segments) > 0 {
			return fmt.Sprintf("the tree of home %d in vnode %d is wrong in %d segments: %v", tree.Home, tree.Partition, len(v.Segments), err)
		}
	}
	return ""
}

// heals waits until a node is whole.
func (d *durables) heals(i int) {
	d.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for d.whole(i) != "" {
		select {
		case <-tick.C:
		case <-deadline:
			d.Fatalf("n%d does not heal: %s", i+1, d.whole(i))
		}
	}
}

// A table file that has rotted while its node was down is noticed though nobody
// reads the keys, and one of a running node as soon as anybody does. Both are made
// good from the other replicas; no read is ever wrong.
func TestScenario32BitRotHealsFromReplicas(t *testing.T) {
	d := openDurables(t, Options{})
	d.fill()
	table := d.table(2)
	d.close(2)
	rot(t, table, 12)
	d.open(2)
	WaitUp(t, d.nodes...)
	d.heals(2)
	if s := d.nodes[2].Status().Storage; s.Corruptions == 0 {
		t.Error("the status tells of no damage")
	}
	if failed := d.readAll(2); failed > 0 {
		t.Errorf("%d reads fail after the healing", failed)
	}

	table = d.table(1)
	WaitUp(t, d.nodes...)
	rot(t, table, 12)
	if failed := d.readAll(1); failed > 0 {
		t.Errorf("%d reads failed of two of three replicas, of which one had rotted", failed)
	}
	d.heals(1)
	if failed := d.readAll(1); failed > 0 {
		t.Errorf("%d reads fail after the healing", failed)
	}
	for i, n := range d.nodes {
		d.treesRight(i)
		select {
		case <-n.Failed():
			t.Errorf("n%d has failed", i+1)
		default:
		}
	}
}

// onlyObject is the storage key of the one object that an engine holds, and its vnode.
func onlyObject(t *testing.T, engine *storage.Memory) (dk []byte, p ring.Partition) {
	t.Helper()
	if err := engine.Scan([]byte{1}, []byte{2}, func(key, _ []byte) bool {
		dk = bytes.Clone(key)
		return false
	}); err != nil {
		t.Fatal(err)
	}
	return dk, ring.Partition(dk[1])<<8 | ring.Partition(dk[2])
}

// An object whose own checksum fails, though that of its block does not, is found
// as well, and its vnode rebuilt.
func TestScenario32ARottenObjectIsRebuilt(t *testing.T) {
	nodes, _ := NewTestCluster(t, 3, Options{Partitions: 8})
	if _, err := nodes[0].Put(t.Context(), key, kv.Value{Data: []byte("42")}, kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	n := nodes[1]
	engine := n.engine.(*storage.Memory)
	dk, p := onlyObject(t, engine)
	whole, err := engine.Get(dk)
	if err != nil {
		t.Fatal(err)
	}
	before := n.vnodes.incarnations()[p]
	engine.Damage(dk, 8*len(whole)-40)
	if f, ok := n.read(p, n.state().Epoch(), &vnode.Fetch{Home: ring.Partition(dk[3])<<8 | ring.Partition(dk[4]), Key: key}).(*vnode.Failure); !ok || f.Code != vnode.CodeCorrupt {
		t.Errorf("a fetch of the object says %+v", f)
	}
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		now, err := engine.Get(dk)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(now, whole) && !n.lacking[p].Load() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the object is not repaired")
		}
	}
	if after := n.vnodes.incarnations()[p]; after.actor == before.actor {
		t.Error("a vnode that has lost an object goes on as the same actor")
	}
}

// What no other replica has cannot be repaired. The vnode is not rebuilt over and
// over for it, and says what it is.
func TestDamageThatNobodyCanRepairIsShown(t *testing.T) {
	n := open(t, "", Options{Replicas: 1, Storage: MemoryStorage()})
	write(t, n, "k", "v")
	engine := n.engine.(*storage.Memory)
	dk, p := onlyObject(t, engine)
	engine.Damage(dk, 1000)
	for range 3 {
		n.scrub.lookAt(t.Context(), p)
	}
	if s := n.Status().Storage; len(s.Damaged) != 1 || s.Damaged[0] != int(p) {
		t.Errorf("the status says %+v", s)
	}
	_, err := n.Get(t.Context(), key, kv.ReadOptions{})
	if err == nil || errors.Is(err, kv.ErrNotFound) || !strings.Contains(err.Error(), "corrupt") && !strings.Contains(err.Error(), "waits for data") {
		t.Errorf("a get of it: %v", err)
	}
}

// A rotten tombstone is no damage that waits for others: where it was reaped nobody has it any more.
func TestScenario32ARottenTombstoneGoes(t *testing.T) {
	n := open(t, "", Options{Replicas: 1, Storage: MemoryStorage()})
	write(t, n, "k", "v")
	if _, err := n.Delete(t.Context(), key, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	engine := n.engine.(*storage.Memory)
	dk, p := onlyObject(t, engine)
	engine.Damage(dk, 1000)
	n.scrub.lookAt(t.Context(), p)
	if _, err := engine.Get(dk); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
	n.scrub.lookAt(t.Context(), p)
	if s := n.Status().Storage; len(s.Damaged) != 0 {
		t.Errorf("the status says %+v", s)
	}
}

// What of the files of a node may be damaged or missing, and what its start then
// says: which file it is, or which record, and what to do. It starts if the end of
// its log is torn, as a crash leaves it.
func TestScenario26AndScenario32StartsAfterDamage(t *testing.T) {
	newest := func(t *testing.T, dir, pattern string) string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(dir, engineName, pattern))
		if err != nil || len(all) == 0 {
			t.Fatalf("no file %s: %v", pattern, err)
		}
		slices.Sort(all)
		return all[len(all)-1]
	}
	flipAt := func(part int64) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[int64(len(b))*part/100] ^= 4
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name, file string
		spoil      func(*testing.T, string)
		starts     bool
		says       []string
	}{
		{"the log's end is torn", "*.log", func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, info.Size()-7); err != nil {
				t.Fatal(err)
			}
		}, true, nil},
		{"a bit of the log's middle", "*.log", flipAt(30), false, []string{".log", "move the directory aside", "force-replace"}},
		{"a bit of the list of tables", "MANIFEST-*", flipAt(50), false, []string{"MANIFEST-", "move the directory aside", "force-replace"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, dir, Options{})
			for i := range 100 {
				if _, err := n.Put(t.Context(), rotKey(i), kv.Value{Data: rotValue(i)}, kv.WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			shut(t, n)
			tt.spoil(t, newest(t, dir, tt.file))
			n, err := Open(dir, Options{})
			if tt.starts {
				if err != nil {
					t.Fatal(err)
				}
				for i := range 99 { // the last may be gone: a crash could not tell it from one that was not acknowledged
					obj, err := n.Get(t.Context(), rotKey(i), kv.ReadOptions{})
					if err != nil || !bytes.Equal(obj.Values[0].Data, rotValue(i)) {
						t.Fatalf("%v: %v", rotKey(i), err)
					}
				}
				shut(t, n)
				return
			}
			if err == nil {
				shut(t, n)
				t.Fatal("it starts")
			}
			for _, want := range append(tt.says, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("not of the right kind: %v", err)
			}
		})
	}
}

// A record of the topology log that has rotted: the node does not start, since a
// voter that has forgotten what it has agreed to is dangerous, and says so.
func TestScenario32ADamagedTopologyLogIsNamed(t *testing.T) {
	for _, what := range []byte{'h', 's', 'e'} {
		engine := storage.NewMemory()
		n := open(t, "", Options{Storage: func(string) (storage.Engine, error) { return engine, nil }})
		if err := n.Stage(t.Context(), Change{Kind: ChangeSet, Node: n.Name(), Zone: "z"}); err != nil {
			t.Fatal(err)
		}
		shut(t, n)
		engine = engine.Crash(0)
		var record []byte
		if err := engine.Scan([]byte{2, what}, []byte{2, what + 1}, func(key, _ []byte) bool {
			record = bytes.Clone(key)
			return false
		}); err != nil || record == nil {
			t.Fatalf("no record %c: %v", what, err)
		}
		engine.Damage(record, 50)
		_, err := Open("", Options{Storage: func(string) (storage.Engine, error) { return engine, nil }})
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("a damaged record %c: %v", what, err)
		}
		for _, want := range []string{"topology log", fmt.Sprintf("record %x", record), "force-replace"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
	}
}

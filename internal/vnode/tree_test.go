package vnode_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// tree is a hash tree as docs/formats.md says it: by segment, with the sums, and
// the versions by the rest of their storage keys.
type tree struct {
	Sums     map[uint16]uint64
	Versions map[uint16]map[string]uint64
}

func newTree() tree {
	return tree{Sums: map[uint16]uint64{}, Versions: map[uint16]map[string]uint64{}}
}

func (tr *tree) enter(segment uint16, rest string, version uint64) {
	if tr.Versions[segment] == nil {
		tr.Versions[segment] = map[string]uint64{}
	}
	tr.Versions[segment][rest] = version
}

func splitmix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// treeOf is the tree of some objects.
func treeOf(objects map[kv.Key]object.Object) tree {
	tr := newTree()
	for k, o := range objects {
		rest := vnode.DataKey(0, 0, k)[5:]
		sum := sha256.Sum256(rest)
		segment := binary.BigEndian.Uint16(sum[:]) / 16
		version := vnode.HashOf(o.Encode())
		tr.enter(segment, string(rest), version)
		tr.Sums[segment] ^= splitmix(binary.BigEndian.Uint64(sum[8:]) ^ splitmix(version))
	}
	return tr
}

// treeIn is the tree that vnode 3 keeps of home 1, which has nothing else.
func treeIn(t interface{ Fatal(...any) }, store storage.Reader) tree {
	tr := newTree()
	err := store.Scan([]byte{4}, []byte{6}, func(key, value []byte) bool {
		if string(key[1:5]) != "\x00\x03\x00\x01" {
			t.Fatal(fmt.Sprintf("there is a key %x", key))
		}
		segment := binary.BigEndian.Uint16(key[5:])
		if key[0] == 4 {
			tr.Sums[segment] = storage.Word(value)
		} else {
			tr.enter(segment, string(key[7:]), storage.Word(value))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (b *bench) read(m vnode.Message) vnode.Message {
	return vnode.Read(b.engine, 3, 1_000, m)
}

// grown is a vnode with n keys, and these.
func grown(t *testing.T, n int) (*bench, []kv.Key) {
	b := newBench(t, 1)
	var keys []kv.Key
	for i := range n {
		c := coordinate(fmt.Sprint("value ", i), nil, 0)
		c.Key.Name = fmt.Sprint("key ", i)
		keys = append(keys, c.Key)
		b.handle(c)
	}
	return b, keys
}

func TestSumsOfBranchesAndSegments(t *testing.T) {
	b, _ := grown(t, 500)
	root := b.read(&vnode.Sums{Home: 1, Branch: vnode.Root}).(*vnode.Summed)
	want := treeIn(t, b.engine)
	all := uint64(0)
	for branch, sum := range root.Sums {
		all ^= sum
		got := b.read(&vnode.Sums{Home: 1, Branch: branch}).(*vnode.Summed)
		if got.Sum != sum {
			t.Errorf("branch %d has sum %x, and %x at the root", branch, got.Sum, sum)
		}
		for i, s := range got.Sums {
			if s != want.Sums[uint16(branch*64+i)] {
				t.Errorf("segment %d of branch %d: %x", i, branch, s)
			}
		}
	}
	if all != root.Sum || all == 0 {
		t.Errorf("the root is %x; the branches come to %x", root.Sum, all)
	}
	if m := b.read(&vnode.Sums{Home: 1, Branch: vnode.Root, Known: root.Sum}).(*vnode.Summed); m.Sums != nil || m.Sum != root.Sum {
		t.Errorf("what the asker knows is answered with %v", m)
	}
	if m := b.read(&vnode.Sums{Home: 2, Branch: vnode.Root}).(*vnode.Summed); m.Sum != 0 || m.Sums != nil {
		t.Errorf("an empty tree: %v", m)
	}
	for _, branch := range []int{-2, vnode.Branches} {
		if m, ok := b.read(&vnode.Sums{Home: 1, Branch: branch}).(*vnode.Refusal); !ok || m.Code != vnode.CodeInvalid {
			t.Errorf("branch %d: %v", branch, m)
		}
	}
}

func TestVersionsComeInPages(t *testing.T) {
	b, keys := grown(t, 500)
	var in []vnode.Segment
	for s := range vnode.Segment(4096) {
		if s%3 != 0 {
			in = append(in, s)
		}
	}
	for _, limit := range []int{1, 300, 1 << 20} {
		got := map[kv.Key]uint64{}
		ask := vnode.Versions{Home: 1, Segments: in, Limit: limit}
		for pages := 0; ; pages++ {
			m := b.read(&ask).(*vnode.Versioned)
			for _, it := range m.Items {
				got[it.Key] = it.Hash
				if last := vnode.Position(it.Key); string(last) > string(m.Last) || string(last) <= string(ask.After) {
					t.Fatalf("%v is not between %x and %x", it.Key, ask.After, m.Last)
				}
			}
			if !m.More {
				break
			}
			if ask.After = m.Last; pages > 500 {
				t.Fatal("there is no end")
			}
		}
		want := map[kv.Key]uint64{}
		for _, k := range keys {
			if binary.BigEndian.Uint16(vnode.Position(k))%3 != 0 {
				enc, err := b.engine.Get(vnode.DataKey(3, 1, k))
				if err != nil {
					t.Fatal(err)
				}
				want[k] = vnode.HashOf(enc)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
	if m, ok := b.read(&vnode.Versions{Home: 1, After: []byte{1}}).(*vnode.Refusal); !ok {
		t.Errorf("half a place: %v", m)
	}
}

func TestPick(t *testing.T) {
	b, keys := grown(t, 3)
	if err := corrupt(b.engine, keys[1]); err != nil {
		t.Fatal(err)
	}
	ask := vnode.Pick{Home: 1, Keys: []kv.Key{keys[0], keys[1], {Bucket: "b", Name: "absent"}, keys[2]}, Limit: 1 << 20}
	m := b.read(&ask).(*vnode.Picked)
	if len(m.Items) != 4 || m.Items[1].Hash != 0 || m.Items[2].Hash != 0 || m.Items[1].Object != nil {
		t.Fatalf("picked %+v", m.Items)
	}
	for _, i := range []int{0, 3} {
		if it := m.Items[i]; it.Key != ask.Keys[i] || it.Hash != vnode.HashOf(it.Object) {
			t.Errorf("picked %+v", it)
		}
	}
	ask.Bare = true
	bareOnes := b.read(&ask).(*vnode.Picked)
	for _, i := range []int{0, 3} {
		full, err := object.DecodeHead(m.Items[i].Object)
		if err != nil {
			t.Fatal(err)
		}
		o, err := object.Decode(bareOnes.Items[i].Object)
		if err != nil || o.Siblings[0].Size != 0 || !o.Clock.Descends(full.Clock) || bareOnes.Items[i].Hash != m.Items[i].Hash {
			t.Errorf("bare %v, %v; it is %v", o, err, full)
		}
	}
	ask.Limit = 1
	if m := b.read(&ask).(*vnode.Picked); len(m.Items) != 1 {
		t.Errorf("with a limit of one byte %d items come", len(m.Items))
	}
}

// corrupt flips a bit of a stored object.
func corrupt(e *storage.Memory, k kv.Key) error {
	enc, err := e.Get(vnode.DataKey(3, 1, k))
	if err != nil {
		return err
	}
	enc[len(enc)-5] ^= 1
	var b storage.Batch
	b.Set(vnode.DataKey(3, 1, k), enc)
	_, err = e.Apply(&b, true)
	return err
}

// A vnode whose objects have all been dropped leaves no tree behind.
func TestAnEmptyVnodeHasNoTree(t *testing.T) {
	b, keys := grown(t, 200)
	for len(keys) > 0 {
		n := min(len(keys), 1+len(keys)/3)
		drop := &vnode.Drop{Home: 1}
		for _, k := range keys[:n] {
			enc, err := b.engine.Get(vnode.DataKey(3, 1, k))
			if err != nil {
				t.Fatal(err)
			}
			drop.Items = append(drop.Items, vnode.Item{Key: k, Hash: vnode.HashOf(enc)})
		}
		keys = keys[n:]
		again := coordinate("written and dropped in one batch", nil, 0)
		b.handle(drop, again, drop)
		enc, err := b.engine.Get(vnode.DataKey(3, 1, again.Key))
		if err != nil {
			t.Fatal(err)
		}
		b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{{Key: again.Key, Hash: vnode.HashOf(enc)}}})
	}
	if diff := cmp.Diff(newTree(), treeIn(t, b.engine)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An object that cannot be read is replaced by what comes from elsewhere, and the
// tree knows what it was.
func TestTheTreeFollowsACorruptObject(t *testing.T) {
	for _, cache := range []int{0, 1 << 20} {
		b := newBench(t, 1)
		b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, HeadCache: cache}, b.engine)
		b.handle(coordinate("x", nil, 1))
		if err := corrupt(b.engine, key); err != nil {
			t.Fatal(err)
		}
		b.handle(&vnode.Store{Home: 1, Key: key, Object: stranger(t, "y", nil)})
		if diff := cmp.Diff(treeOf(map[kv.Key]object.Object{key: b.stored()}), treeIn(t, b.engine)); diff != "" {
			t.Errorf("with a cache of %d (-want +got):\n%s", cache, diff)
		}
	}
}

// TestVerifyFindsAndRetreeMends breaks trees in all ways, and mends them while the
// vnode goes on.
func TestVerifyFindsAndRetreeMends(t *testing.T) {
	for seed := range uint64(30) {
		chance := rand.New(rand.NewPCG(seed, 7))
		b, keys := grown(t, 100)
		if v := b.verify(); len(v.Segments)+len(v.Keys) > 0 || v.Objects != 100 {
			t.Fatalf("of a tree that is right Verify says %+v", v)
		}
		b.damage(chance, keys)
		rounds := 0
		for v := b.verify(); len(v.Segments) > 0; v = b.verify() {
			if rounds++; rounds > 5 {
				t.Fatalf("seed %d: still %+v", seed, v)
			}
			busy := coordinate("meanwhile", nil, 0)
			busy.Key = keys[chance.IntN(len(keys))]
			b.handle(busy, &vnode.Retree{Home: 1, Keys: v.Keys, Segments: v.Segments}, busy)
		}
		if rounds == 0 {
			t.Errorf("seed %d: the damage was not found", seed)
		}
		objects := map[kv.Key]object.Object{}
		for _, k := range keys {
			enc, err := b.engine.Get(vnode.DataKey(3, 1, k))
			if err == nil {
				objects[k], err = object.Decode(enc)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(treeOf(objects), treeIn(t, b.engine)); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

func (b *bench) verify() vnode.Verdict {
	b.Helper()
	v, err := vnode.Verify(b.engine, 3, 1)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// damage changes the tree behind the vnode's back.
func (b *bench) damage(chance *rand.Rand, keys []kv.Key) {
	var batch storage.Batch
	for range 1 + chance.IntN(5) {
		at := vnode.Position(keys[chance.IntN(len(keys))])
		entry := append([]byte{5, 0, 3, 0, 1}, at...)
		sum := append([]byte{4, 0, 3, 0, 1}, at[:2]...)
		switch chance.IntN(5) {
		case 0:
			batch.Merge(sum, chance.Uint64())
		case 1:
			batch.Set(entry, []byte{0, 0, 0, 0, 0, 0, 0, byte(chance.IntN(256))})
		case 2:
			batch.Delete(entry)
		case 3:
			batch.Delete(sum)
		case 4: // filed under another segment
			entry[5] ^= 0x08
			batch.Set(entry, []byte{0, 0, 0, 0, 0, 0, 0, 1})
		}
	}
	if _, err := b.engine.Apply(&batch, true); err != nil {
		b.Fatal(err)
	}
}

func TestVerifyOfAnotherHomeSeesNothing(t *testing.T) {
	b, _ := grown(t, 10)
	for _, at := range [][2]ring.Partition{{3, 2}, {4, 1}, {3, 0}} {
		if v, err := vnode.Verify(b.engine, at[0], at[1]); err != nil || v.Objects+len(v.Segments) > 0 {
			t.Errorf("%v: %+v, %v", at, v, err)
		}
	}
}

package vnode_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// pullAll pulls page after page.
func pullAll(t failer, store storage.Reader, m vnode.Pull) (items []vnode.Item, bad []vnode.BadItem) {
	t.Helper()
	for range 1_000 {
		p, ok := vnode.Read(store, 3, 1, &m).(*vnode.Pulled)
		if !ok {
			t.Fatal("no page")
		}
		items, bad = append(items, p.Items...), append(bad, p.Bad...)
		if !p.More {
			return items, bad
		}
		if bytes.Compare(p.Last, m.After) <= 0 {
			t.Fatal("the next page begins where the last one did")
		}
		m.After = p.Last
	}
	t.Fatal("the pages never end")
	return nil, nil
}

// Pages of any size come to all objects of the home, and of no other.
func TestPullsComeToTheWholeHome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := storage.NewMemory()
		want := map[kv.Key]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "keys") {
			k := kv.Key{
				Type:   rapid.SampledFrom([]string{"", "\xff", "t"}).Draw(t, "type"),
				Bucket: rapid.SampledFrom([]string{"b", "\x00", strings.Repeat("\xff", 300)}).Draw(t, "bucket"),
				Name:   rapid.SampledFrom([]string{"k", "k\x00", "\xff\xff"}).Draw(t, "name"),
			}
			p := rapid.SampledFrom([]ring.Partition{3, 3, 3, 2, 4}).Draw(t, "vnode")
			home := rapid.SampledFrom([]ring.Partition{1, 1, 1, 0, 2}).Draw(t, "home")
			fill(t, e, p, home, kv.Bucket{Type: k.Type, Name: k.Bucket}, rapid.Bool().Draw(t, "deleted"), k.Name)
			if p == 3 && home == 1 {
				want[k] = true
			}
		}
		m := vnode.Pull{Home: 1, Limit: rapid.SampledFrom([]int{-1, 0, 1, 100, 300, 1 << 20, 1 << 40}).Draw(t, "limit"), Bare: rapid.Bool().Draw(t, "bare")}
		items, bad := pullAll(t, e, m)
		if len(items) != len(want) || len(bad) != 0 {
			t.Fatalf("%d items and %d bad ones; want %d", len(items), len(bad), len(want))
		}
		for _, it := range items {
			enc, err := e.Get(vnode.DataKey(3, 1, it.Key))
			if !want[it.Key] || err != nil || it.Hash != vnode.HashOf(enc) {
				t.Fatalf("%+v is not what is stored", it)
			}
			if m.Bare != (it.Object == nil) || !m.Bare && !bytes.Equal(it.Object, enc) {
				t.Fatalf("%v comes with %x", it.Key, it.Object)
			}
			delete(want, it.Key)
		}
	})
}

func TestAPullIsOfItsHomeOnly(t *testing.T) {
	e := storage.NewMemory()
	for _, after := range [][]byte{{1}, vnode.DataKey(3, 2, key), vnode.DataKey(4, 1, key), []byte("nonsense")} {
		r, ok := vnode.Read(e, 3, 1, &vnode.Pull{Home: 1, After: after}).(*vnode.Refusal)
		if !ok || r.Code != vnode.CodeInvalid {
			t.Errorf("after %x: %+v", after, r)
		}
	}
}

// The limit is of bytes, and one object that is larger still comes.
func TestAPageIsLimitedInBytes(t *testing.T) {
	b := newBench(t, 1)
	for i := range byte(5) {
		c := coordinate(strings.Repeat("x", 1_000), nil, i+1)
		c.Key.Name = fmt.Sprint("k", i)
		b.handle(c)
	}
	for limit, want := range map[int]int{1: 1, 1_000: 1, 1_200: 2, 10_000: 5} {
		p := vnode.Read(b.engine, 3, 1, &vnode.Pull{Home: 1, Limit: limit}).(*vnode.Pulled)
		if len(p.Items) != want || p.More != (want < 5) {
			t.Errorf("in %d bytes there are %d items, more %v; want %d", limit, len(p.Items), p.More, want)
		}
	}
}

func TestWhatCannotBeReadIsNamedAndSkipped(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	b.spoil(-6)
	fill(t, b.engine, 3, 1, bucket, false, "a", "z")
	var batch storage.Batch
	batch.Set([]byte{1, 0, 3, 0, 1, 200, 1}, []byte("x")) // cut short
	if _, err := b.engine.Apply(&batch, true); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 1 << 20} {
		for _, onlyHashes := range []bool{false, true} {
			items, bad := pullAll(t, b.engine, vnode.Pull{Home: 1, Limit: limit, Bare: onlyHashes})
			if len(items) != 2 || items[0].Key.Name != "a" || items[1].Key.Name != "z" {
				t.Errorf("items %v", items)
			}
			if len(bad) != 2 || bad[0].Key != key || bad[0].Text == "" || bad[1].Key != (kv.Key{}) {
				t.Errorf("bad items %v", bad)
			}
		}
	}
}

// holed is an engine in which all keys of [from, to) lie in a corrupt block.
type holed struct {
	*storage.Memory
	from, to []byte
}

func (h holed) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	hit := false
	err := h.Memory.Scan(lower, upper, func(key, value []byte) bool {
		hit = bytes.Compare(key, h.from) >= 0 && bytes.Compare(key, h.to) < 0
		return !hit && fn(key, value)
	})
	if hit {
		return fmt.Errorf("block 7: %w", storage.ErrCorrupt)
	}
	return err
}

// A corrupt block hides its own keys and no others, wherever it is.
func TestACorruptBlockIsPassedOver(t *testing.T) {
	e := storage.NewMemory()
	var all [][]byte
	for _, p := range []ring.Partition{3, 5} {
		for _, home := range []ring.Partition{0, 1} {
			for _, name := range []string{"a", "ab", "b\xff\xff", "c\x00", "d"} {
				fill(t, e, p, home, bucket, false, name)
				all = append(all, vnode.DataKey(p, home, kv.Key{Bucket: "b", Name: name}))
			}
		}
	}
	for from := range all {
		for to := from + 1; to < len(all); to++ {
			h := holed{e, all[from], all[to]}
			left := append(slices.Clone(all[:from]), all[to:]...)
			for _, limit := range []int{1, 100, 1 << 20} {
				items, bad := pullAll(t, h, vnode.Pull{Home: 1, Limit: limit})
				n := 0
				for _, dk := range left {
					if bytes.HasPrefix(dk, []byte{1, 0, 3, 0, 1}) {
						n++
					}
				}
				if len(items) != n || (len(bad) == 0) != (n == 5) {
					t.Errorf("without %d to %d there are %d items and %d bad ones; want %d", from, to, len(items), len(bad), n)
				}
			}
			wantHeld, wantHomes := map[byte]bool{}, map[byte]bool{}
			for _, dk := range left {
				wantHeld[dk[2]] = true
				if dk[2] == 3 {
					wantHomes[dk[4]] = true
				}
			}
			if held, err := vnode.Held(h); err != nil || len(held) != len(wantHeld) {
				t.Errorf("without %d to %d vnodes %v are held, %v; want %v", from, to, held, err, wantHeld)
			}
			if f, ok := vnode.Read(h, 3, 1, &vnode.Homes{}).(*vnode.HomesFound); !ok || len(f.Homes) != len(wantHomes) {
				t.Errorf("without %d to %d there are homes %+v; want %v", from, to, f, wantHomes)
			}
		}
	}
}

func TestHomesAndVnodesAreFound(t *testing.T) {
	e := storage.NewMemory()
	check := func(wantHeld, wantHomes []ring.Partition) {
		t.Helper()
		held, err := vnode.Held(e)
		if err != nil || !slices.Equal(held, wantHeld) {
			t.Errorf("held are %v, %v; want %v", held, err, wantHeld)
		}
		f, ok := vnode.Read(e, 3, 1, &vnode.Homes{}).(*vnode.HomesFound)
		if !ok || !slices.Equal(f.Homes, wantHomes) {
			t.Errorf("homes are %+v; want %v", f, wantHomes)
		}
	}
	check(nil, nil)
	for _, home := range []ring.Partition{0, 7, 0xff, 0x100, 0xffff} {
		fill(t, e, 3, home, bucket, true, "x", "y")
	}
	fill(t, e, 0, 9, bucket, false, "x")
	fill(t, e, 0xffff, 9, bucket, false, "x")
	var b storage.Batch
	b.Set([]byte{3, 0, 9, 'L'}, nil)
	if _, err := e.Apply(&b, true); err != nil {
		t.Fatal(err)
	}
	check([]ring.Partition{0, 3, 0xffff}, []ring.Partition{0, 7, 0xff, 0x100, 0xffff})
}

func TestPullsOfAnEngineThatFails(t *testing.T) {
	e := failing{storage.NewMemory(), errors.New("input/output error")}
	for _, m := range []vnode.Message{&vnode.Pull{Home: 1}, &vnode.Homes{}, &vnode.Resume{Home: 1}} {
		if f, ok := vnode.Read(e, 3, 1, m).(*vnode.Failure); !ok || f.Code != vnode.CodeStorage {
			t.Errorf("%T: %+v", m, f)
		}
	}
	if _, err := vnode.Held(e); err == nil {
		t.Error("nothing is held, without an error")
	}
	if _, err := vnode.Kept(e); err == nil {
		t.Error("nothing is kept, without an error")
	}
	// All of the home is corrupt: one page says so.
	p, ok := vnode.Read(failing{e, storage.ErrCorrupt}, 3, 1, &vnode.Pull{Home: 1}).(*vnode.Pulled)
	if !ok || len(p.Items) != 0 || len(p.Bad) != 1 || p.More {
		t.Errorf("of nothing but corrupt blocks: %+v", p)
	}
}

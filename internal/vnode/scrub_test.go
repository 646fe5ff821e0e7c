package vnode_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

func lacks(t *testing.T, e storage.Reader) bool {
	t.Helper()
	on, err := vnode.Lacking(e, 3)
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// What takes the place of a spoiled object may be less than it was, so the vnode
// lacks data from then on; but a job that fills it anyway need not begin again.
func TestScenario32AVnodeThatReplacedAnObjectLacksData(t *testing.T) {
	b := newBench(t, 1)
	whole := minted(t, b.handle(coordinate("x", nil, 1)))
	if out := b.handle(store(whole)); out.Lost || lacks(t, b.engine) {
		t.Fatal("a vnode that has lost nothing says so")
	}
	b.spoil(-6)
	if out := b.handle(store(stranger(t, "y", nil))); !out.Lost || !lacks(t, b.engine) {
		t.Error("a vnode that replaced a spoiled object goes on as if it had all")
	}
	b.spoil(-6)
	if out := b.handle(&vnode.Fill{Home: 1, Items: []vnode.Item{item(whole)}}); out.Lost {
		t.Error("a vnode that is being rebuilt is to be rebuilt again")
	}
	b.handle(&vnode.SetLacking{})
	b.spoil(-6)
	if out := b.handle(&vnode.Fill{Home: 1, Items: []vnode.Item{item(whole)}}); !out.Lost || !lacks(t, b.engine) {
		t.Error("a fill has replaced a spoiled object by what one source has, and all is held to be well")
	}
}

func TestScrubGoesThroughAll(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	size := len(b.bytes())
	for _, limit := range []int{1, 1 << 20} {
		objects, read := 0, 0
		for from, looks := []byte(nil), 0; looks == 0 || from != nil; looks++ {
			got, err := vnode.Scrub(b.engine, 3, from, limit)
			if err != nil || len(got.Damage) != 0 || looks > 5 {
				t.Fatalf("of a good vnode: %+v, %v", got, err)
			}
			objects, read, from = objects+got.Objects, read+got.Bytes, got.Next
		}
		if objects != 1 || read <= size {
			t.Errorf("%d objects, %d bytes", objects, read)
		}
	}
	b.spoil(-6)
	got, err := vnode.Scrub(b.engine, 3, nil, 1<<20)
	if err != nil || len(got.Damage) != 1 || got.Damage[0].Key != key || got.Damage[0].Span != nil {
		t.Errorf("of a spoiled object: %+v, %v", got, err)
	}
	if f, ok := vnode.Read(b.engine, 3, 0, &vnode.Fetch{Home: 1, Key: key}).(*vnode.Failure); !ok || f.Code != vnode.CodeCorrupt {
		t.Errorf("a fetch of it: %+v", f)
	}
	b.engine.Fail(errors.New("input/output error"))
	if _, err := vnode.Scrub(b.engine, 3, nil, 1); err == nil {
		t.Error("a disk that cannot be read is held to be good")
	}
}

func TestWithinNamesTheVnodesOfAFile(t *testing.T) {
	r := func(p ring.Partition) vnode.Span { return vnode.Span{From: vnode.Ranges(p)[0][0]} }
	for _, tt := range []struct {
		lower, upper []byte
		first, last  ring.Partition
		ok           bool
	}{
		{r(3).From, r(5).From, 3, 5, true},
		{[]byte{0}, r(2).From, 0, 2, true},
		{r(6).From, []byte{3, 0}, 6, 7, true},
		{r(6).From, []byte{5, 0}, 0, 7, true},
		{[]byte{4, 0, 2}, []byte{4, 0, 3}, 2, 3, true},
		{[]byte{6, 0, 2, 9}, []byte{6, 0, 3, 9}, 2, 3, true},
		{[]byte{5, 0, 2}, []byte{6, 0, 3}, 0, 7, true},
		{[]byte{0}, []byte{9}, 0, 7, true},
		{r(3).From, r(500).From, 3, 7, true},
		{r(500).From, r(501).From, 0, 0, false},
		{[]byte{0}, []byte{0, 1}, 0, 0, false},
		{[]byte{2}, []byte{3}, 0, 0, false},
		{nil, nil, 0, 0, false},
	} {
		first, last, ok := vnode.Within(tt.lower, tt.upper, 8)
		if ok != tt.ok || ok && (first != tt.first || last != tt.last) {
			t.Errorf("%x to %x: %d to %d, %v; want %d to %d, %v", tt.lower, tt.upper, first, last, ok, tt.first, tt.last, tt.ok)
		}
	}
}

// rotten is an engine that cannot read some keys.
type rotten struct {
	storage.Reader
	from, to []byte
}

func (r rotten) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	hit := false
	err := r.Reader.Scan(lower, upper, func(key, value []byte) bool {
		if hit = bytes.Compare(key, r.from) >= 0 && bytes.Compare(key, r.to) < 0; hit {
			return false
		}
		return fn(key, value)
	})
	if hit && err == nil {
		return storage.ErrCorrupt
	}
	return err
}

// What is kept beside the objects is looked at too, and told apart from them: it
// follows from them, and nothing of the vnode's data is lost with it.
func TestScenario32ATreeRots(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	for kind, r := range vnode.Ranges(3) {
		got, err := vnode.Scrub(rotten{b.engine, r[0], r[1]}, 3, nil, 1<<20)
		if kind >= 3 { // nothing expires here, and nothing is dead
			if err != nil || len(got.Damage) != 0 {
				t.Errorf("kind %d: %+v, %v", kind, got, err)
			}
			continue
		}
		if err != nil || len(got.Damage) != 1 || got.Damage[0].Span == nil || got.Damage[0].Beside != (kind > 0) {
			t.Fatalf("kind %d: %+v, %v", kind, got, err)
		}
		s := *got.Damage[0].Span
		if whole := s.Whole(); !bytes.Equal(whole.From, r[0]) || !bytes.Equal(whole.To, r[1]) || !bytes.Equal(s.From, r[0]) || bytes.Compare(s.To, r[1]) > 0 {
			t.Errorf("kind %d: %v, of %v", kind, s, whole)
		}
	}
}

// The tree of a home stays that of its objects when one that has rotted is
// written over, and a verification does not take what has rotted for what was
// written.
func TestScenario32TheTreeKnowsWhatHasRotted(t *testing.T) {
	right := func(b *bench, when string) {
		t.Helper()
		if v, err := vnode.Verify(b.engine, 3, 1); err != nil || len(v.Segments) > 0 || v.Objects != 1 {
			t.Errorf("%s: %+v, %v", when, v, err)
		}
	}
	for _, at := range []int{-6, 3} { // in a value, and in the head
		b := newBench(t, 1)
		whole := minted(t, b.handle(coordinate("x", nil, 1)))
		b.spoil(at)
		right(b, "it has rotted")
		b.handle(store(stranger(t, "y", nil)))
		right(b, "it was written over")
		b.handle(store(whole))
		right(b, "it is mended")
	}
}

// A tombstone that has rotted goes when its vnode is to be rebuilt: if it was reaped at all
// other places, nothing would ever take its place. What was alive stays, and is found
// again, and so is what can be read.
func TestScenario32ARottenTombstoneMakesRoom(t *testing.T) {
	rotten := [][]byte{vnode.DataKey(3, 1, key)}
	for _, bit := range []int{5 * 8, -1} { // in the head, and in the last checksum
		for _, dead := range []bool{true, false} {
			b := newBench(t, 1)
			whole := minted(t, b.handle(coordinate("x", nil, 1)))
			if dead {
				obj := b.stored()
				b.handle(erased(obj.Clock))
			}
			if b.handle(&vnode.SetLacking{On: true, Rotten: rotten}); b.bytes() == nil {
				t.Fatal("an object that can be read has gone")
			}
			at := bit
			if at < 0 {
				at = len(b.bytes())*8 - 1
			}
			b.engine.Damage(rotten[0], at)
			b.handle(&vnode.SetLacking{On: true, Rotten: rotten})
			if gone := b.bytes() == nil; gone != dead {
				t.Fatalf("bit %d, dead %t: gone: %t", bit, dead, gone)
			}
			if dead {
				if v := b.verify(); !v.Right() || len(b.graves(1<<60)) != 0 {
					t.Errorf("it leaves behind: %+v, graves %v", v, b.graves(1<<60))
				}
			}
			if b.handle(store(whole)); b.bytes() == nil || !lacks(t, b.engine) {
				t.Error("nothing can take its place")
			}
		}
	}
}

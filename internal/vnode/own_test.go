package vnode_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// begin begins the vnode anew in a life of its node.
func (b *bench) begin(life uint64, actor byte) {
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{actor}, Life: life, HeadCache: 1 << 20}, b.engine)
}

// owners are the lives of the actors that the vnode remembers, in order.
func (b *bench) owners() (lives []uint64) {
	b.Helper()
	err := b.engine.Scan([]byte{3, 0, 3, 'O'}, []byte{3, 0, 3, 'O' + 1}, func(key, _ []byte) bool {
		lives = append(lives, binary.BigEndian.Uint64(key[4:]))
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	return lives
}

// object is what the vnode holds of a key of home 1.
func (b *bench) object(name string) object.Object {
	b.Helper()
	f := vnode.Read(b.engine, 3, 0, &vnode.Fetch{Home: 1, Key: kv.Key{Bucket: "b", Name: name}}).(*vnode.Fetched)
	if f.Object == nil {
		return object.Object{}
	}
	o, err := object.Decode(f.Object)
	if err != nil {
		b.Fatal(err)
	}
	return o
}

// wipe erases home 1 page by page, and returns what that came to and how many pages it took. Each is
// applied before the next.
func (b *bench) wipe(partook uint64, limit int) (all vnode.Wiped, pages int) {
	b.Helper()
	for {
		m := only[*vnode.Wiped](b.T, b.handle(&vnode.Wipe{Home: 1, Partook: partook, After: all.Last, Limit: limit}))
		pages++
		if m.More && bytes.Compare(m.Last, all.Last) <= 0 {
			b.Fatalf("page %d ends at %x, the one before at %x", pages, m.Last, all.Last)
		}
		all.Gone, all.Kept, all.Last = all.Gone+m.Gone, all.Kept+m.Kept, m.Last
		if !m.More {
			return all, pages
		}
	}
}

// TestAWipeLeavesWhatWasMadeSince: what the vnode has made in a later life than the one that took
// part in a reaping, with the tree, the index and the graves of what is left.
func TestAWipeLeavesWhatWasMadeSince(t *testing.T) {
	b := newBench(t, 1)
	b.begin(4, 1)
	for _, name := range []string{"beside", "over", "old", "tomb"} {
		b.handle(indexedPut(name, nil, 1, 0, indexField, "old"))
	}
	b.handle(&vnode.Coordinate{Home: 1, Key: kv.Key{Bucket: "b", Name: "dead"}, Write: vnode.Write{Deleted: true}})
	before := b.object("beside")
	over := b.object("over").Clock
	b.begin(6, 2)
	b.handle(
		indexedPut("beside", nil, 2, 0, indexField, "new"),
		indexedPut("over", over, 3, 0, indexField, "new"),
		indexedPut("new", nil, 4, 0),
		&vnode.Coordinate{Home: 1, Key: kv.Key{Bucket: "b", Name: "tomb"}, Write: vnode.Write{Deleted: true}},
		indexedPut("dead", nil, 5, 0),
	)
	whole := b.object("over")
	if done, _ := b.wipe(5, 100); done.Gone != 1 || done.Kept != 5 {
		t.Errorf("%d are gone, %d stay", done.Gone, done.Kept)
	}
	rightIndex(t, b.engine)
	if got := queried(t, b.engine, false, 1, 10); !slices.Equal(got, []string{"new/beside", "new/over"}) {
		t.Errorf("the query finds %q", got)
	}
	for _, name := range []string{"beside", "new", "tomb", "dead"} {
		o := b.object(name)
		if len(o.Siblings) != 1 || o.Siblings[0].Dot.Actor != (object.Actor{2}) || o.Clock.Counter(object.Actor{1}) != 0 && name == "beside" {
			t.Errorf("%s is %v", name, o)
		}
	}
	if o := b.object("over"); !bytes.Equal(o.Encode(), whole.Encode()) {
		t.Errorf("what has replaced an old value was %v, and is %v", whole, o)
	}
	if n := len(b.object("old").Siblings); n != 0 {
		t.Errorf("of what is old there are %d siblings", n)
	}
	if due := b.graves(9_000); len(due) != 1 || due[0].Key.Name != "tomb" {
		t.Errorf("graves %v", due)
	}
	if m := object.Merge(b.object("beside"), before); len(m.Siblings) != 2 {
		t.Errorf("merged with a copy of what was erased, it is %v", m)
	}
	b.handle(indexedPut("beside", nil, 6, 0)) // its clock claims nothing that is not here
	if m := object.Merge(b.object("beside"), before); len(m.Siblings) != 3 {
		t.Errorf("after another write, merged with a copy of what was erased, it is %v", m)
	}
	for _, partook := range []uint64{0, 6, 7} {
		b := newBench(t, 1)
		b.begin(6, 2)
		b.handle(indexedPut("k", nil, 1, 0, indexField, "x"))
		if done, _ := b.wipe(partook, 100); done.Gone != 1 || done.Kept != 0 || len(b.object("k").Siblings) != 0 {
			t.Errorf("life %d took part: %+v", partook, done)
		}
		rightIndex(t, b.engine)
	}
}

// TestAWipeGoesOnBehindWhatStays, page by page, and comes to the same if a crash begins it anew in another
// life.
func TestAWipeGoesOnBehindWhatStays(t *testing.T) {
	const objects, limit = 40, 7
	grow := func() *bench {
		b := newBench(t, 1)
		for life := range uint64(3) {
			b.begin(4+life, byte(1+life))
			for i := range objects {
				if i%(3+int(life)) != 0 {
					b.handle(indexedPut(fmt.Sprintf("k%02d", i), nil, byte(life), 0, indexField, fmt.Sprint(life)))
				}
			}
		}
		return b
	}
	all := func(b *bench) map[string]string {
		found := make(map[string]string)
		for i := range objects {
			name := fmt.Sprintf("k%02d", i)
			found[name] = b.object(name).String()
		}
		return found
	}
	b := grow()
	if done, pages := b.wipe(4, limit); pages < objects/limit || done.Gone+done.Kept != objects-1 || done.Kept < objects/2 {
		t.Fatalf("%+v in %d pages", done, pages)
	}
	rightIndex(t, b.engine)
	want := all(b)
	for crash := range 6 {
		b := grow()
		var last []byte
		for range crash {
			last = only[*vnode.Wiped](t, b.handle(&vnode.Wipe{Home: 1, Partook: 4, After: last, Limit: limit})).Last
		}
		b.begin(7, 9)
		b.handle(indexedPut("taken", nil, 1, 0))
		b.wipe(4, limit)
		rightIndex(t, b.engine)
		if diff := cmp.Diff(want, all(b)); diff != "" || len(b.object("taken").Siblings) != 1 {
			t.Errorf("a crash after %d pages (-want +got):\n%s", crash, diff)
		}
	}
}

// TestAWipePassesWhatCannotBeRead: an object that is damaged goes as well, a part that the
// engine cannot read stays, and what is behind it goes.
func TestAWipePassesWhatCannotBeRead(t *testing.T) {
	grow := func() *bench {
		b := newBench(t, 1)
		b.begin(4, 1)
		b.handle(indexedPut("j", nil, 1, 0, indexField, "x"), indexedPut("k", nil, 2, 0, indexField, "x"), indexedPut("l", nil, 3, 0, indexField, "x"))
		return b
	}
	at := vnode.DataKey(3, 1, key)
	for _, mine := range []bool{false, true} {
		for _, bit := range []int{5 * 8, -1} { // in the head, and in the last checksum
			b := grow()
			b.begin(6, 2)
			if mine {
				b.handle(indexedPut("k", nil, 4, 0, indexField, "y"))
				b.begin(7, 3) // without the heads in memory
			}
			if bit < 0 {
				bit = len(b.bytes())*8 - 1
			}
			b.engine.Damage(at, bit)
			if done, _ := b.wipe(5, 100); done.Gone != 3 || b.bytes() != nil {
				t.Errorf("bit %d, mine %v: %+v", bit, mine, done)
			}
			rightIndex(t, b.engine)
			if got := queried(t, b.engine, true, 1, 10); len(got) != 0 {
				t.Errorf("bit %d, mine %v: the query finds %q", bit, mine, got)
			}
		}
	}
	for _, limit := range []int{1, 100} {
		b := grow()
		b.vnode = vnode.New(vnode.Config{Partition: 3, Life: 6}, rotten{b.engine, at, append(bytes.Clone(at), 0)})
		b.wipe(5, limit)
		if len(b.object("j").Siblings)+len(b.object("l").Siblings) != 0 {
			t.Errorf("limit %d: before it there is %v, behind it %v", limit, b.object("j"), b.object("l"))
		}
	}
}

// TestAWipeWritesNoMoreThanFitsIntoABatch at once.
func TestAWipeWritesNoMoreThanFitsIntoABatch(t *testing.T) {
	b := newBench(t, 1)
	for life, size := range []int{1, 3 << 20} {
		b.begin(uint64(4+life), byte(1+life))
		for i := range 3 {
			c := coordinate(string(make([]byte, size)), nil, byte(life))
			c.Key.Name = fmt.Sprint(i)
			b.handle(c)
		}
	}
	if done, pages := b.wipe(4, 100); pages != 2 || done.Kept != 3 {
		t.Errorf("%+v in %d pages", done, pages)
	}
}

// TestAnOperationOnAnOldStateCountsOnce, with what it was applied to.
func TestAnOperationOnAnOldStateCountsOnce(t *testing.T) {
	b := newBench(t, 1)
	b.begin(4, 1)
	b.handle(operate(kv.CounterOp(3), nil, 0))
	old := b.stored()
	b.begin(6, 2)
	b.handle(operate(kv.CounterOp(2), nil, 0))
	b.wipe(5, 100)
	if got := b.value(kv.Counter); got != "5" {
		t.Errorf("the counter is %s", got)
	}
	b.handle(&vnode.Store{Home: 1, Key: key, Object: old.Encode()})
	if got := b.value(kv.Counter); got != "5" {
		t.Errorf("with the copy of another, the counter is %s", got)
	}
}

// TestWhatAVnodeRemembersOfItsActors: each that has made something, by the life in which it began; the
// earlier ones until a reaping; and no more than so many.
func TestWhatAVnodeRemembersOfItsActors(t *testing.T) {
	b := newBench(t, 1)
	b.begin(4, 1)
	if b.handle(&vnode.SetLacking{On: true}); len(b.owners()) != 0 {
		t.Errorf("%v, and it has made nothing", b.owners())
	}
	b.handle(coordinate("v", nil, 1), coordinate("w", nil, 2))
	if got := b.owners(); !slices.Equal(got, []uint64{4}) {
		t.Errorf("after two writes: %v", got)
	}
	actor, counter := b.vnode.Incarnation()
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: actor, Counter: counter, Life: 5}, b.engine)
	if b.handle(coordinate("x", nil, 3)); !slices.Equal(b.owners(), []uint64{4}) {
		t.Errorf("an actor that goes on: %v", b.owners())
	}
	if b.handle(&vnode.SetLacking{On: true}, coordinate("y", nil, 4)); !slices.Equal(b.owners(), []uint64{4, 5}) {
		t.Errorf("another one after it: %v", b.owners())
	}
	b.handle(&vnode.Reap{Home: 1})
	if got := b.owners(); !slices.Equal(got, []uint64{5}) {
		t.Errorf("after a reaping: %v", got)
	}
	b.begin(6, 3)
	b.handle(&vnode.Coordinate{Home: 1, Key: key, Seen: b.stored().Clock, Write: vnode.Write{Deleted: true}})
	for range 1100 {
		b.handle(&vnode.SetLacking{On: true}, &vnode.Coordinate{Home: 1, Key: key, Seen: b.stored().Clock, Write: vnode.Write{Deleted: true}})
	}
	if got := b.owners(); len(got) != 1024 || got[0] != 6 {
		t.Errorf("%d are remembered, the first of life %d", len(got), got[0])
	}
	if done, _ := b.wipe(5, 100); done.Kept != 1 {
		t.Errorf("of the last write: %+v", done)
	}
}

// TestOneThatCannotReadWhatItRemembersSparesNothing: who cannot tell what is its own erases all.
func TestOneThatCannotReadWhatItRemembersSparesNothing(t *testing.T) {
	b := newBench(t, 1)
	b.begin(6, 1)
	b.handle(coordinate("v", nil, 1))
	b.vnode = vnode.New(vnode.Config{Partition: 3, Life: 6}, rotten{b.engine, []byte{3, 0, 3, 'O'}, []byte{3, 0, 3, 'P'}})
	if done, _ := b.wipe(5, 100); done.Gone != 1 || b.bytes() != nil {
		t.Errorf("%+v", done)
	}
	b.begin(6, 1)
	b.handle(coordinate("v", nil, 1))
	b.engine.Fail(storage.ErrFull)
	var batch storage.Batch
	if m := only[*vnode.Failure](t, b.vnode.Handle(1, []vnode.Message{&vnode.Wipe{Home: 1, Partook: 5}}, &batch)); m.Code != vnode.CodeStorage || len(batch.Ops) != 0 {
		t.Errorf("an engine that has failed: %+v", m)
	}
}

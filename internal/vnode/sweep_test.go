package vnode_test

import (
	"errors"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// lasting is a put of a value that expires.
func lasting(value string, id byte, expires int64) *vnode.Coordinate {
	c := coordinate(value, nil, id)
	c.Write.Expires = expires
	return c
}

// sweep lets the vnode sweep until it has nothing more to look at.
func (b *bench) sweep(before int64, limit int) (gone int) {
	b.Helper()
	for more := true; more; {
		s := only[*vnode.Swept](b.T, b.handle(&vnode.Sweep{Before: before, Limit: limit}))
		gone += s.Gone
		more = s.More
	}
	return gone
}

func due(t *testing.T, e storage.Reader, before int64) int {
	t.Helper()
	ps, err := vnode.Due(e, before)
	if err != nil {
		t.Fatal(err)
	}
	return len(ps)
}

// The bytes of expired values come back, and only theirs; what is left is a
// tombstone with the same clock and dots.
func TestScenario21ExpiredValuesGiveTheirBytesBack(t *testing.T) {
	b := newBench(t, 1)
	b.handle(lasting("first", 1, 500), lasting("second", 2, 700), coordinate("for ever", nil, 3))
	before, size := b.stored(), len(b.bytes())
	if n := due(t, b.engine, 499); n != 0 {
		t.Errorf("%d vnodes have something to sweep before its time", n)
	}
	if n := due(t, b.engine, 500); n != 1 {
		t.Errorf("%d vnodes have something to sweep", n)
	}
	if gone := b.sweep(500, 10); gone != 1 {
		t.Errorf("%d objects were swept at the first instant", gone)
	}
	if len(b.bytes()) >= size {
		t.Error("no bytes came back")
	}
	if gone := b.sweep(700, 10); gone != 1 {
		t.Errorf("%d objects were swept at the second instant", gone)
	}
	after := b.stored()
	if object.Compare(after, before) != object.Newer || after.Clock.String() != before.Clock.String() || len(after.Siblings) != 3 {
		t.Errorf("%v has become %v", before, after)
	}
	for i, s := range after.Siblings {
		if want := i < 2; s.Deleted != want || s.Dot != before.Siblings[i].Dot {
			t.Errorf("sibling %d: %v", i, s)
		}
	}
	if n := due(t, b.engine, 1<<50); n != 0 {
		t.Errorf("%d vnodes still have something to sweep", n)
	}
	if gone := b.sweep(1<<50, 10); gone != 0 {
		t.Errorf("%d objects were swept again", gone)
	}
}

// A replica that has its bytes still, or had them from elsewhere, brings nothing
// back; and one that gets the value after its instant sweeps it as well.
func TestScenario21AnExpiredValueDoesNotComeBack(t *testing.T) {
	b := newBench(t, 1)
	whole := minted(t, b.handle(lasting("x", 1, 500)))
	b.sweep(500, 1)
	swept := b.bytes()
	b.handle(&vnode.Store{Home: 1, Key: key, Object: whole})
	b.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{item(whole)}})
	b.handle(&vnode.Fill{Home: 1, Items: []vnode.Item{item(whole)}})
	if string(b.bytes()) != string(swept) {
		t.Errorf("it is back: %v", b.stored())
	}
	other := newBench(t, 2)
	other.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{item(whole)}})
	if other.sweep(500, 1) != 1 || string(other.bytes()) != string(swept) {
		t.Errorf("another replica comes to %v", other.stored())
	}
	other = newBench(t, 2)
	other.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{item(whole)}})
	other.handle(&vnode.Store{Home: 1, Key: key, Object: swept})
	if string(other.bytes()) != string(swept) {
		t.Errorf("a replica that is sent the tombstone has %v", other.stored())
	}
}

// What an entry speaks of may have been replaced, dropped or damaged since.
func TestSweepPassesOverWhatHasChanged(t *testing.T) {
	b := newBench(t, 1)
	clock := b.handle(lasting("x", 1, 500))
	obj, err := object.Decode(minted(t, clock))
	if err != nil {
		t.Fatal(err)
	}
	b.handle(coordinate("y", obj.Clock, 2))
	if gone := b.sweep(500, 1); gone != 0 || due(t, b.engine, 500) != 0 {
		t.Errorf("%d swept of a value that was replaced", gone)
	}
	b = newBench(t, 1)
	whole := minted(t, b.handle(lasting("x", 1, 500)))
	b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(whole)}})
	if gone := b.sweep(500, 1); gone != 0 || b.bytes() != nil {
		t.Errorf("%d swept of a value that was dropped", gone)
	}
	b = newBench(t, 1)
	b.handle(lasting("x", 1, 500))
	b.spoil(-6)
	out := b.handle(&vnode.Sweep{Before: 500, Limit: 1})
	if s := only[*vnode.Swept](t, out); s.Gone != 0 || len(out.Notes) != 1 || out.Notes[0].Kind != vnode.NoteCorrupt {
		t.Errorf("a damaged object: %+v, notes %v", s, out.Notes)
	}
}

func TestASweepThatCannotReadSaysSo(t *testing.T) {
	b := newBench(t, 1)
	b.engine.Fail(errors.New("input/output error"))
	var batch storage.Batch
	out := b.vnode.Handle(1_000, []vnode.Message{&vnode.Sweep{Before: 1, Limit: 1}}, &batch)
	if len(out.Early) != 1 || len(batch.Ops) != 0 {
		t.Fatalf("answers %+v", out)
	}
	if f, ok := out.Early[0].Msg.(*vnode.Failure); !ok || f.Code != vnode.CodeStorage {
		t.Errorf("answered %+v", out.Early[0].Msg)
	}
	if _, err := vnode.Due(b.engine, 1); err == nil {
		t.Error("a disk that cannot be read has nothing due")
	}
}

// Listings judge by the instant that they are sent.
func TestScenario21ListingsGoByOneClock(t *testing.T) {
	b := newBench(t, 1)
	b.handle(lasting("x", 1, 500))
	for at, want := range map[int64]int{1: 1, 499: 1, 500: 0, 0: 0} { // 0: by the vnode's own clock, which is at 1000
		bucket := kv.Bucket{Name: key.Bucket}
		l := vnode.Read(b.engine, 3, 1_000, &vnode.List{Home: 1, Bucket: bucket, Limit: 10, At: at}).(*vnode.Listed)
		c := vnode.Read(b.engine, 3, 1_000, &vnode.Census{Bucket: bucket, Limit: 10, At: at}).(*vnode.Listed)
		if len(l.Keys) != want || len(c.Keys) != want {
			t.Errorf("at %d: list %v, census %v", at, l.Keys, c.Keys)
		}
	}
}

package vnode_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// only is the one durable answer.
func only[M vnode.Message](t *testing.T, out vnode.Outcome) M {
	t.Helper()
	var none M
	if len(out.Early) != 0 || len(out.Durable) != 1 {
		t.Fatalf("answers %+v and %+v; want one, when durable", out.Early, out.Durable)
	}
	m, ok := out.Durable[0].Msg.(M)
	if !ok {
		t.Fatalf("answered %T %+v; want %T", out.Durable[0].Msg, out.Durable[0].Msg, none)
	}
	return m
}

func item(enc []byte) vnode.Item {
	return vnode.Item{Key: key, Hash: vnode.HashOf(enc), Object: enc}
}

func bare(enc []byte) vnode.Item { return vnode.Item{Key: key, Hash: vnode.HashOf(enc)} }

func TestADeliverIsAnsweredItemByItem(t *testing.T) {
	b := newBench(t, 1)
	x := minted(t, b.handle(coordinate("x", nil, 1)))
	y := stranger(t, "y", nil)
	other := kv.Key{Bucket: "b", Name: "other"}
	out := b.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{
		bare(x), bare(y), {Key: other, Hash: 5}, {Key: other, Object: []byte("no object")}, item(y), bare(y), bare(x),
	}})
	want := []vnode.ItemResult{vnode.ItemHeld, vnode.ItemWanted, vnode.ItemWanted, vnode.ItemBad, vnode.ItemHeld, vnode.ItemWanted, vnode.ItemWanted}
	if diff := cmp.Diff(want, only[*vnode.Delivered](t, out).Results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(b.stored().Siblings); n != 2 {
		t.Errorf("%d siblings; want both", n)
	}
	if len(out.Notes) != 1 || out.Notes[0].Kind != vnode.NoteBadItem || out.Notes[0].Key != other {
		t.Errorf("notes %v; want the bad item", out.Notes)
	}
}

// Two items of one key in one command see each other, as commands do.
func TestItemsOfOneCommandSeeEachOther(t *testing.T) {
	b := newBench(t, 1)
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}}, b.engine) // no head cache
	x, y := stranger(t, "x", nil), minted(t, newBench(t, 4).handle(coordinate("y", nil, 4)))
	b.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{item(x), item(y)}})
	if n := len(b.stored().Siblings); n != 2 {
		t.Errorf("%d siblings; want both", n)
	}
	both := b.bytes()
	out := b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(both), bare(both)}})
	if d := only[*vnode.Dropped](t, out); d.Gone != 1 || d.Kept != 0 {
		t.Errorf("dropped %+v; want one", d)
	}
}

// A version that arrives in a hand-off is merged, never put in the place of
// what is there.
func TestScenario10ReceiverOverwritesNewerWithOlder(t *testing.T) {
	for name, bring := range map[string]func(enc []byte) vnode.Message{
		"a Deliver": func(enc []byte) vnode.Message { return &vnode.Deliver{Home: 1, Items: []vnode.Item{item(enc)}} },
		"a Fill": func(enc []byte) vnode.Message {
			return &vnode.Fill{Home: 1, Items: []vnode.Item{item(enc)}, Cursor: []byte{1}}
		},
	} {
		for _, cache := range []int{0, 1 << 20} {
			b := newBench(t, 1)
			b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, HeadCache: cache}, b.engine)
			older := minted(t, b.handle(coordinate("older", nil, 1)))
			newer := minted(t, b.handle(coordinate("newer", b.stored().Clock, 2)))
			if r := only[*vnode.Delivered](t, b.handle(bring(older))).Results; r[0] != vnode.ItemHeld {
				t.Errorf("%s of the older version: %v", name, r)
			}
			if !bytes.Equal(b.bytes(), newer) {
				t.Errorf("after %s of the older version, with a cache of %d, %v is stored", name, cache, b.stored())
			}
		}
	}
}

// A vnode that hands its data over while it coordinates writes, and one that
// receives it, make no siblings for a writer who always reads first.
func TestScenario07DoubleCoordinationDuringHandoff(t *testing.T) {
	giver, taker := newBench(t, 1), newBench(t, 2)
	var seen object.Vector
	for round := range byte(6) {
		from, to := giver, taker
		if round%2 == 1 {
			from, to = taker, giver
		}
		enc := minted(t, from.handle(coordinate("x", seen, 2*round+1)))
		// The other side takes it by hand-off, coordinates the next write, and this one forgets.
		to.handle(&vnode.Fill{Home: 1, Items: []vnode.Item{item(enc)}, Cursor: []byte{round}})
		if d := only[*vnode.Dropped](t, from.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(enc)}})); d.Gone != 1 {
			t.Fatalf("round %d: dropped %+v", round, d)
		}
		enc = minted(t, to.handle(coordinate("y", to.stored().Clock, 2*round+2)))
		from.handle(store(enc))
		seen = from.stored().Clock
		for _, b := range []*bench{giver, taker} {
			if n := len(b.stored().Siblings); n != 1 {
				t.Fatalf("round %d: a sequential writer has made %d siblings: %v", round, n, b.stored())
			}
		}
	}
}

func TestADropIsOnlyOfWhatIsStillThere(t *testing.T) {
	b := newBench(t, 1)
	x := minted(t, b.handle(coordinate("x", nil, 1)))
	both := minted(t, b.handle(coordinate("y", nil, 2)))
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}})); d.Kept != 1 || d.Gone != 0 {
		t.Errorf("dropped %+v; it has changed", d)
	}
	if !bytes.Equal(b.bytes(), both) {
		t.Error("a changed object is gone")
	}
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Drop{Home: 2, Items: []vnode.Item{bare(both)}})); d.Kept != 0 || d.Gone != 0 {
		t.Errorf("of another home: %+v", d)
	}
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(both)}})); d.Gone != 1 || b.bytes() != nil {
		t.Errorf("dropped %+v, and %x is stored", d, b.bytes())
	}
}

// The sequence that loses a write if a vnode which has dropped an object goes
// on as the same actor: its next write has a clock that covers the dropped one.
func TestAVnodeThatHasDroppedIsANewActor(t *testing.T) {
	b, owner := newBench(t, 1), newBench(t, 2)
	x := minted(t, b.handle(coordinate("x", nil, 1)))
	owner.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{item(x)}})
	out := b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}}, coordinate("y", nil, 2))
	if a, n := b.vnode.Incarnation(); a == (object.Actor{1}) || n != 1 {
		t.Fatalf("it goes on as %v:%d", a, n)
	}
	owner.handle(store(minted(t, out)))
	if n := len(owner.stored().Siblings); n != 2 {
		t.Errorf("%d siblings; y has replaced x, which its writer has not seen", n)
	}
	// One that has never issued a dot has nothing to take back.
	b = newBench(t, 7)
	b.handle(store(x))
	if out = b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}}); len(out.Notes) != 0 {
		t.Errorf("notes %v", out.Notes)
	}
	if a, _ := b.vnode.Incarnation(); a != (object.Actor{7}) {
		t.Errorf("it goes on as %v", a)
	}
}

// The head cache does not remember what was dropped.
func TestADroppedObjectIsNotThere(t *testing.T) {
	b := newBench(t, 1)
	x := minted(t, b.handle(coordinate("x", nil, 1)))
	b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}})
	if out := b.handle(store(x)); only[*vnode.Stored](t, out).Live || !bytes.Equal(b.bytes(), x) {
		t.Error("what came again after the drop was not stored")
	}
}

func TestACorruptObjectIsWantedAndNotDropped(t *testing.T) {
	b := newBench(t, 1)
	x := minted(t, b.handle(coordinate("x", nil, 1)))
	b.spoil(-6)
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}})); d.Kept != 1 {
		t.Errorf("dropped %+v", d)
	}
	ask := &vnode.Deliver{Home: 1, Items: []vnode.Item{bare(x)}}
	if r := only[*vnode.Delivered](t, b.handle(ask)).Results; r[0] != vnode.ItemWanted {
		t.Errorf("a spoiled value is %v", r)
	}
	b.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{item(x)}})
	if !bytes.Equal(b.bytes(), x) {
		t.Error("the spoiled value was not replaced")
	}
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}}, failing{b.engine, storage.ErrCorrupt})
	if r := only[*vnode.Delivered](t, b.handle(ask)).Results; r[0] != vnode.ItemWanted {
		t.Errorf("in a corrupt block it is %v", r)
	}
}

// An engine that cannot read: nothing is held, nothing is dropped, and a fill
// does not believe that it has the page.
func TestMovesWithAnEngineThatFails(t *testing.T) {
	b := newBench(t, 1)
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}}, failing{b.engine, errors.New("input/output error")})
	x := stranger(t, "x", nil)
	for _, it := range []vnode.Item{item(x), bare(x)} {
		if r := only[*vnode.Delivered](t, b.handle(&vnode.Deliver{Home: 1, Items: []vnode.Item{it}})).Results; r[0] != vnode.ItemBad {
			t.Errorf("delivered: %v", r)
		}
	}
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}})); d.Kept != 1 {
		t.Errorf("dropped %+v", d)
	}
	f := only[*vnode.Failure](t, b.handle(&vnode.Fill{Home: 1, Items: []vnode.Item{item(x)}, Job: 1, Cursor: []byte{1}}))
	if f.Code != vnode.CodeStorage {
		t.Errorf("filled: %+v", f)
	}
	if r := vnode.Read(b.engine, 3, 1, &vnode.Resume{Home: 1, Job: 1}).(*vnode.Resumed); r.Cursor != nil {
		t.Errorf("the cursor %x is kept", r.Cursor)
	}
}

func TestAFillKeepsItsCursor(t *testing.T) {
	b := newBench(t, 1)
	x := stranger(t, "x", nil)
	b.handle(
		&vnode.Fill{Home: 1, Items: []vnode.Item{item(x)}, Job: 1, Cursor: []byte{1}},
		&vnode.Fill{Home: 1, Job: 2, Cursor: []byte{2}},
		&vnode.Fill{Home: 2, Job: 1, Cursor: []byte{3}},
		&vnode.SetLacking{On: true},
	)
	for _, tc := range []struct {
		m    vnode.Resume
		want []byte
	}{{vnode.Resume{Home: 1, Job: 1}, []byte{1}}, {vnode.Resume{Home: 1, Job: 2}, []byte{2}}, {vnode.Resume{Home: 2, Job: 1}, []byte{3}}, {vnode.Resume{Home: 2, Job: 2}, nil}} {
		if r := vnode.Read(b.engine, 3, 1, &tc.m).(*vnode.Resumed); !bytes.Equal(r.Cursor, tc.want) {
			t.Errorf("%+v: %x; want %x", tc.m, r.Cursor, tc.want)
		}
	}
	want := []vnode.Progress{{Partition: 3, Home: 1, Job: 1}, {Partition: 3, Home: 1, Job: 2}, {Partition: 3, Home: 2, Job: 1}}
	got, err := vnode.Kept(b.engine)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	b.handle(&vnode.Fill{Home: 1, Job: 1})
	if got, err = vnode.Kept(b.engine); err != nil || len(got) != 2 {
		t.Errorf("after one is forgotten: %v, %v", got, err)
	}
}

func TestAFenceWaitsForTheBatch(t *testing.T) {
	b := newBench(t, 1)
	out := b.handle(&vnode.Fence{})
	if len(out.Early) != 1 || len(out.Durable) != 0 {
		t.Fatalf("%+v", out)
	}
	if _, ok := out.Early[0].Msg.(*vnode.Fenced); !ok {
		t.Errorf("answered %T", out.Early[0].Msg)
	}
}

func TestLackingIsKept(t *testing.T) {
	b := newBench(t, 1)
	for _, on := range []bool{false, true, true, false} {
		only[*vnode.Stored](t, b.handle(&vnode.SetLacking{On: on}))
		if got, err := vnode.Lacking(b.engine, 3); got != on || err != nil {
			t.Errorf("lacking is %v, %v; want %v", got, err, on)
		}
		if got, err := vnode.Lacking(b.engine, 4); got || err != nil {
			t.Errorf("another vnode is lacking: %v, %v", got, err)
		}
	}
	if _, err := vnode.Lacking(failing{b.engine, storage.ErrCorrupt}, 3); err == nil {
		t.Error("an engine that cannot read knows that nothing is lacking")
	}
	for _, m := range []vnode.Message{&vnode.Fetch{}, &vnode.List{}, &vnode.Census{}, &vnode.Pull{Whole: true}} {
		if r := vnode.Lacks(3, m); r == nil || r.Code != vnode.CodeLacking {
			t.Errorf("%T: %+v", m, r)
		}
	}
	for _, m := range []vnode.Message{&vnode.Pull{}, &vnode.Homes{}, &vnode.Ping{}, &vnode.Store{}, &vnode.Coordinate{}} {
		if r := vnode.Lacks(3, m); r != nil {
			t.Errorf("%T: %+v", m, r)
		}
	}
}

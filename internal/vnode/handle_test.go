package vnode_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// refusal is the only answer, which must be a refusal.
func refusal(t *testing.T, out vnode.Outcome) *vnode.Refusal {
	t.Helper()
	if len(out.Early) == 1 && len(out.Durable) == 0 {
		if r, ok := out.Early[0].Msg.(*vnode.Refusal); ok {
			return r
		}
	}
	t.Fatalf("answers %+v and %+v; want one refusal", out.Early, out.Durable)
	return nil
}

// bytes is what is on disk.
func (b *bench) bytes() []byte {
	b.Helper()
	enc, err := b.engine.Get(vnode.DataKey(3, 1, key))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		b.Fatal(err)
	}
	return enc
}

// spoil changes one byte of what is on disk, counted from the end if negative.
func (b *bench) spoil(at int) {
	b.Helper()
	enc := b.bytes()
	if at < 0 {
		at += len(enc)
	}
	enc[at] ^= 0x40
	var batch storage.Batch
	batch.Set(vnode.DataKey(3, 1, key), enc)
	if _, err := b.engine.Apply(&batch, true); err != nil {
		b.Fatal(err)
	}
}

// stranger makes versions of the key as another replica does.
func stranger(t *testing.T, value string, seen object.Vector) []byte {
	return minted(t, newBench(t, 2).handle(coordinate(value, seen, 9)))
}

func store(enc []byte) *vnode.Store { return &vnode.Store{Home: 1, Key: key, Object: enc} }

// A stored value that is spoiled, with the head intact or in the cache, is
// found by the reader; what it then sends must take its place, though the head
// says that there is nothing new in it.
func TestAStoreReplacesASpoiledValue(t *testing.T) {
	for _, cached := range []bool{true, false} {
		b := newBench(t, 1)
		whole := minted(t, b.handle(coordinate("x", nil, 1)))
		b.spoil(-6) // in the body
		if !cached {
			b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, Counter: 1}, b.engine)
		}
		out := b.handle(store(whole))
		if len(out.Durable) != 1 || string(b.bytes()) != string(whole) {
			t.Fatalf("cached %v: answered %+v, and the spoiled value is still there", cached, out)
		}
		if len(out.Notes) == 0 || out.Notes[0].Kind != vnode.NoteCorrupt {
			t.Errorf("cached %v: notes %v", cached, out.Notes)
		}
	}
}

// A version beside a spoiled one takes its place: what cannot be read cannot be
// merged, and the vnode, which has forgotten it, goes on as a new actor.
func TestAStoreBesideASpoiledValueReplacesIt(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	b.spoil(-6)
	y := stranger(t, "y", nil)
	out := b.handle(store(y))
	if len(out.Durable) != 1 || string(b.bytes()) != string(y) {
		t.Fatalf("answered %+v, stored %v", out, b.stored())
	}
	actor, counter := b.vnode.Incarnation()
	if actor == (object.Actor{1}) || counter != 0 {
		t.Errorf("it goes on as %v:%d", actor, counter)
	}
	b.handle(coordinate("z", nil, 2))
	if d := b.stored().Siblings; len(d) != 2 || b.stored().Clock.Counter(actor) != 1 {
		t.Errorf("the next write is not of the new actor: %v", b.stored())
	}
}

func TestACoordinateOnASpoiledValueChangesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		at     int
		cached bool
		id     byte
	}{
		"the head, read anew":              {8, false, 2},
		"the value, read anew":             {-6, false, 2},
		"the value, its head in memory":    {-6, true, 2},
		"the value, of a repeated write":   {-6, true, 1},
		"the value, repeated, read anew":   {-6, false, 1},
		"the head, of a repeated write":    {8, false, 1},
		"the checksum of all, read anew":   {-1, false, 2},
		"the checksum of all, head cached": {-1, true, 2},
	} {
		b := newBench(t, 1)
		b.handle(coordinate("x", nil, 1))
		b.spoil(tc.at)
		if !tc.cached {
			b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, Counter: 1}, b.engine)
		}
		before := b.bytes()
		if r := refusal(t, b.handle(coordinate("y", nil, tc.id))); r.Code != vnode.CodeCorrupt || !strings.Contains(r.Text, "b/k") {
			t.Errorf("%s: %+v", name, r)
		}
		if string(b.bytes()) != string(before) {
			t.Errorf("%s: something was written", name)
		}
	}
}

// A write that has seen all there is needs none of it, spoiled or not.
func TestAWriteThatReplacesAllHealsASpoiledValue(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	seen := b.stored().Clock
	b.spoil(-6)
	b.handle(coordinate("y", seen, 2))
	if n := len(b.stored().Siblings); n != 1 {
		t.Errorf("%d siblings", n)
	}
}

func TestAStoreOfGarbageIsRefused(t *testing.T) {
	y := stranger(t, "y", nil)
	y[len(y)-6] ^= 1
	for name, enc := range map[string][]byte{"nothing": nil, "no object": {1, 2, 3}, "a spoiled value": y} {
		b := newBench(t, 1)
		if r := refusal(t, b.handle(store(enc))); r.Code != vnode.CodeInvalid {
			t.Errorf("%s: %+v", name, r)
		}
		if len(b.bytes()) != 0 {
			t.Errorf("%s is stored", name)
		}
	}
}

func TestOnlyWritesAreHandled(t *testing.T) {
	b := newBench(t, 1)
	if r := refusal(t, b.handle(&vnode.Fetch{Home: 1, Key: key})); r.Code != vnode.CodeInvalid {
		t.Errorf("%+v", r)
	}
}

// Another replica that has seen a write of this vnode which it never made knows
// of a life that it has lost.
func TestAVnodeThatHasForgottenIsANewActor(t *testing.T) {
	b := newBench(t, 1)
	known := stranger(t, "y", object.Vector{{Actor: object.Actor{1}, Counter: 5}})
	out := b.handle(store(known), coordinate("z", nil, 1))
	actor, counter := b.vnode.Incarnation()
	if actor == (object.Actor{1}) || counter != 1 {
		t.Errorf("after a version that has seen its write 5 it goes on as %v:%d", actor, counter)
	}
	if len(out.Notes) != 1 || out.Notes[0].Kind != vnode.NoteNewActor {
		t.Errorf("notes %v", out.Notes)
	}
	if n := len(b.stored().Siblings); n != 2 {
		t.Errorf("%d siblings; the new write may not count as seen", n)
	}
	again := newBench(t, 1)
	again.handle(store(known))
	if same, _ := again.vnode.Incarnation(); same != actor {
		t.Error("the next actor is left to chance")
	}
}

// An engine that cannot read refuses, and nothing changes, not even the head
// cache.
func TestAnEngineThatFailsRefuses(t *testing.T) {
	broken := errors.New("input/output error")
	b := newBench(t, 1)
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, HeadCache: 1 << 20}, failing{b.engine, broken})
	for name, m := range map[string]vnode.Message{"a Coordinate": coordinate("x", nil, 1), "a Store": store(stranger(t, "y", nil))} {
		if r := refusal(t, b.handle(m)); r.Code != vnode.CodeStorage || !strings.Contains(r.Text, "input/output error") {
			t.Errorf("%s: %+v", name, r)
		}
		if len(b.bytes()) != 0 {
			t.Errorf("%s was written", name)
		}
	}
	for name, m := range map[string]vnode.Message{
		"a Fetch":  &vnode.Fetch{Home: 1, Key: key},
		"a List":   &vnode.List{Home: 1, Bucket: kv.Bucket{Name: "b"}, Limit: 1},
		"a Census": &vnode.Census{Bucket: kv.Bucket{Name: "b"}, Limit: 1},
	} {
		if f, ok := vnode.Read(failing{b.engine, broken}, 3, 1_000, m).(*vnode.Failure); !ok || f.Code != vnode.CodeStorage {
			t.Errorf("%s: %+v", name, f)
		}
		if f, ok := vnode.Read(failing{b.engine, storage.ErrCorrupt}, 3, 1_000, m).(*vnode.Failure); !ok || f.Code != vnode.CodeCorrupt {
			t.Errorf("%s of a corrupt block: %+v", name, f)
		}
	}
}

// failing is an engine that cannot read.
type failing struct {
	storage.Reader
	err error
}

func (f failing) Get([]byte) ([]byte, error)                             { return nil, f.err }
func (f failing) Scan(_, _ []byte, _ func(key, value []byte) bool) error { return f.err }

// A block that the engine finds corrupt is replaced, as bytes are that do not
// decode.
func TestAStoreReplacesACorruptBlock(t *testing.T) {
	b := newBench(t, 1)
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}}, failing{b.engine, storage.ErrCorrupt})
	y := stranger(t, "y", nil)
	if out := b.handle(store(y)); len(out.Durable) != 1 || string(b.bytes()) != string(y) {
		t.Errorf("answered %+v", out)
	}
}

func TestObjectsAreLimited(t *testing.T) {
	b := newBench(t, 1)
	half := &vnode.Coordinate{Home: 1, Key: key, Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: make([]byte, kv.MaxObject/2)})}}
	b.handle(half)
	before := b.bytes()
	if r := refusal(t, b.handle(half)); r.Code != vnode.CodeTooLarge || !strings.Contains(r.Text, "the limit is 52428800") {
		t.Errorf("%+v", r)
	}
	if string(b.bytes()) != string(before) {
		t.Error("something was written")
	}
	half.Seen = b.stored().Clock
	if out := b.handle(half); len(out.Durable) != 1 {
		t.Errorf("one that replaces it: %+v", out.Early)
	}
}

// Replicas within the limits may merge to one past them: a Store is never
// refused for that, and a write that has seen it all mends it.
func TestMergesMayPassTheLimitOfSiblings(t *testing.T) {
	b, other := newBench(t, 1), newBench(t, 2)
	for i := range kv.MaxSiblings {
		b.handle(coordinate("x", nil, byte(i+1)))
		other.handle(coordinate("y", nil, byte(i+101)))
	}
	out := b.handle(store(other.bytes()))
	if n := len(b.stored().Siblings); n != 2*kv.MaxSiblings || len(out.Durable) != 1 {
		t.Fatalf("%d siblings, %+v", n, out.Early)
	}
	if r := refusal(t, b.handle(coordinate("z", nil, 250))); r.Code != vnode.CodeSiblings {
		t.Errorf("%+v", r)
	}
	b.handle(coordinate("all", b.stored().Clock, 251))
	if n := len(b.stored().Siblings); n != 1 {
		t.Errorf("%d siblings", n)
	}
}

// A tombstone and a value that has expired are no live value.
func TestStoredTellsWhatWasThere(t *testing.T) {
	b := newBench(t, 1)
	wasLive := func(m vnode.Message) bool {
		out := b.handle(m)
		if len(out.Durable) != 1 {
			t.Fatalf("%+v", out.Early)
		}
		return out.Durable[0].Msg.(*vnode.Stored).Live
	}
	del := func() *vnode.Coordinate {
		return &vnode.Coordinate{Home: 1, Key: key, Seen: b.stored().Clock, Write: vnode.Write{Deleted: true}}
	}
	expired := coordinate("x", nil, 0)
	expired.Write.Expires = 1_000 // the wall clock of the bench
	for i, step := range []struct {
		m    vnode.Message
		want bool
	}{{coordinate("x", nil, 1), false}, {del(), true}, {del(), false}, {expired, false}, {coordinate("y", nil, 2), false}, {coordinate("z", nil, 3), true}} {
		if c, ok := step.m.(*vnode.Coordinate); ok && c.Write.Deleted {
			c.Seen = b.stored().Clock
		}
		if got := wasLive(step.m); got != step.want {
			t.Errorf("step %d: live before is %v", i, got)
		}
	}
}

func TestAnIncarnationGoesOn(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	actor, counter := b.vnode.Incarnation()
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: actor, Counter: counter}, b.engine)
	b.handle(coordinate("y", nil, 2))
	if got := b.stored().Clock.Counter(actor); got != 2 || len(b.stored().Siblings) != 2 {
		t.Errorf("%v", b.stored())
	}
}

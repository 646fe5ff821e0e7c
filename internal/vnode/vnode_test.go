package vnode_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

var key = kv.Key{Bucket: "b", Name: "k"}

// bench is a vnode on an engine in memory.
type bench struct {
	*testing.T
	engine *storage.Memory
	vnode  *vnode.Vnode
}

func newBench(t *testing.T, actor byte) *bench {
	e := storage.NewMemory()
	return &bench{t, e, vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{actor}, HeadCache: 1 << 20}, e)}
}

// handle runs a batch and applies it.
func (b *bench) handle(msgs ...vnode.Message) vnode.Outcome {
	b.Helper()
	var batch storage.Batch
	out := b.vnode.Handle(1_000, msgs, &batch)
	if _, err := b.engine.Apply(&batch, true); err != nil {
		b.Fatal(err)
	}
	return out
}

func (b *bench) stored() object.Object {
	b.Helper()
	f, ok := vnode.Read(b.engine, 3, 1_000, &vnode.Fetch{Home: 1, Key: key}).(*vnode.Fetched)
	if !ok {
		b.Fatal("no answer to a Fetch")
	}
	if len(f.Object) == 0 {
		return object.Object{}
	}
	obj, err := object.Decode(f.Object)
	if err != nil {
		b.Fatal(err)
	}
	return obj
}

func coordinate(value string, seen object.Vector, id byte) *vnode.Coordinate {
	return &vnode.Coordinate{Home: 1, Key: key, Seen: seen, Request: kv.RequestID{id},
		Write: vnode.Write{Body: object.AppendBody(nil, &kv.Value{Data: []byte(value)})}}
}

func minted(t *testing.T, out vnode.Outcome) []byte {
	t.Helper()
	for _, a := range out.Early {
		if m, ok := a.Msg.(*vnode.Minted); ok {
			return m.Object
		}
	}
	t.Fatalf("nothing was minted: %+v", out)
	return nil
}

func TestCommandsOfABatchSeeEachOther(t *testing.T) {
	b := newBench(t, 1)
	out := b.handle(coordinate("x", nil, 1), coordinate("y", nil, 2))
	if len(out.Early) != 2 || len(out.Durable) != 2 {
		t.Fatalf("%d early and %d durable answers; want 2 and 2", len(out.Early), len(out.Durable))
	}
	if n := len(b.stored().Siblings); n != 2 {
		t.Errorf("%d siblings; want 2", n)
	}
}

func TestAWriteReplacesWhatItHasSeen(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	seen := b.stored().Clock
	b.handle(coordinate("y", nil, 2))
	b.handle(coordinate("z", seen, 3))
	if n := len(b.stored().Siblings); n != 2 {
		t.Errorf("%d siblings; want y and z", n)
	}
	b.handle(coordinate("all", b.stored().Clock, 4))
	if n := len(b.stored().Siblings); n != 1 {
		t.Errorf("%d siblings; want one", n)
	}
}

func TestARepeatedRequestIsMadeOnce(t *testing.T) {
	b := newBench(t, 1)
	first := minted(t, b.handle(coordinate("x", nil, 1)))
	if again := minted(t, b.handle(coordinate("x", nil, 1))); string(again) != string(first) {
		t.Error("the same request made a second version")
	}
}

func TestAForgedContextIsRefused(t *testing.T) {
	b := newBench(t, 1)
	out := b.handle(coordinate("x", object.Vector{{Actor: object.Actor{1}, Counter: 9}}, 1))
	r, ok := out.Early[0].Msg.(*vnode.Refusal)
	if !ok || r.Code != vnode.CodeContext || len(b.stored().Siblings) != 0 {
		t.Errorf("answer %+v, stored %v", out.Early[0].Msg, b.stored())
	}
}

func TestSiblingsAreLimited(t *testing.T) {
	b := newBench(t, 1)
	for i := range kv.MaxSiblings {
		b.handle(coordinate("x", nil, byte(i+1)))
	}
	out := b.handle(coordinate("one more", nil, 200))
	r, ok := out.Early[0].Msg.(*vnode.Refusal)
	if !ok || r.Code != vnode.CodeSiblings || len(b.stored().Siblings) != kv.MaxSiblings {
		t.Errorf("answer %+v with %d siblings stored", out.Early[0].Msg, len(b.stored().Siblings))
	}
}

func TestAReplicaMerges(t *testing.T) {
	one, two := newBench(t, 1), newBench(t, 2)
	x := minted(t, one.handle(coordinate("x", nil, 1)))
	y := minted(t, two.handle(coordinate("y", nil, 2)))
	for _, tc := range []struct {
		what string
		enc  []byte
		want int
	}{{"a concurrent one", y, 2}, {"an older one", x, 2}, {"the same again", y, 2}} {
		out := one.handle(&vnode.Store{Home: 1, Key: key, Object: tc.enc})
		if len(out.Early) != 0 || len(out.Durable) != 1 {
			t.Errorf("%s: answered early; what it repeats may not be durable", tc.what)
		}
		if n := len(one.stored().Siblings); n != tc.want {
			t.Errorf("after %s: %d siblings; want %d", tc.what, n, tc.want)
		}
	}
}

func TestACorruptObjectIsReplacedByANewActor(t *testing.T) {
	b, other := newBench(t, 1), newBench(t, 2)
	b.handle(coordinate("x", nil, 1))
	y := minted(t, other.handle(coordinate("y", nil, 2)))
	var spoil storage.Batch
	spoil.Set(vnode.DataKey(3, 1, key), []byte{1, 0, 99, 99})
	if _, err := b.engine.Apply(&spoil, true); err != nil {
		t.Fatal(err)
	}
	b.vnode = vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, Counter: 1}, b.engine)
	out := b.handle(coordinate("z", nil, 3))
	if r, ok := out.Early[0].Msg.(*vnode.Refusal); !ok || r.Code != vnode.CodeCorrupt {
		t.Errorf("a write onto a corrupt object: %+v", out.Early[0].Msg)
	}
	b.handle(&vnode.Store{Home: 1, Key: key, Object: y})
	if actor, _ := b.vnode.Incarnation(); actor == (object.Actor{1}) {
		t.Error("the vnode has forgotten an object and goes on as the same actor")
	}
	if n := len(b.stored().Siblings); n != 1 {
		t.Errorf("%d siblings; want y", n)
	}
}

func TestListsGoOnWhereTheyEnded(t *testing.T) {
	b := newBench(t, 1)
	names := []string{"a", "b", "c\x00", "c\xff", "d"}
	for i, n := range names {
		c := coordinate("x", nil, byte(i+1))
		c.Key.Name = n
		c.Write.Deleted = n == "b"
		b.handle(c)
	}
	var got []string
	after := ""
	for range 10 {
		l := vnode.Read(b.engine, 3, 1_000, &vnode.List{Home: 1, Bucket: kv.Bucket{Name: "b"}, After: after, Limit: 1}).(*vnode.Listed)
		got = append(got, l.Keys...)
		if !l.More {
			break
		}
		after = l.Last
	}
	want := []string{"a", "c\x00", "c\xff", "d"}
	if len(got) != len(want) {
		t.Fatalf("listed %q; want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("listed %q; want %q", got, want)
		}
	}
	c := vnode.Read(b.engine, 3, 1_000, &vnode.Census{Bucket: kv.Bucket{Name: "b"}, Limit: 10}).(*vnode.Listed)
	if len(c.Keys) != len(want) || c.More {
		t.Errorf("the census has %q, more %v", c.Keys, c.More)
	}
	if l := vnode.Read(b.engine, 4, 1_000, &vnode.Census{Bucket: kv.Bucket{Name: "b"}, Limit: 10}).(*vnode.Listed); len(l.Keys) != 0 {
		t.Errorf("another vnode has %q", l.Keys)
	}
}

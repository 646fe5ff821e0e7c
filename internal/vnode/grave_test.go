package vnode_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// graves are the dead objects that the vnode says are older than an instant.
func (b *bench) graves(beforeMs int64) []vnode.Item {
	b.Helper()
	m, ok := vnode.Read(b.engine, 3, 0, &vnode.Graves{Home: 1, Before: beforeMs, Limit: 100}).(*vnode.Buried)
	if !ok {
		b.Fatal("no answer to Graves")
	}
	return m.Items
}

func erased(seen object.Vector) *vnode.Coordinate {
	return &vnode.Coordinate{Home: 1, Key: key, Seen: seen, Write: vnode.Write{Deleted: true}}
}

// TestAGraveIsThereWhileTheObjectIsDead: no longer, and not before it is old enough.
func TestAGraveIsThereWhileTheObjectIsDead(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("v", nil, 1))
	if n := len(b.graves(9_000)); n != 0 {
		t.Fatalf("%d graves of what lives", n)
	}
	b.handle(erased(b.stored().Clock))
	due := b.graves(9_000)
	if len(due) != 1 || due[0].Key != key || due[0].Hash != vnode.HashOf(b.bytes()) {
		t.Fatalf("graves %v", due)
	}
	if n := len(b.graves(1_000)); n != 0 {
		t.Errorf("%d graves that are as young as the clock", n)
	}
	if n, err := vnode.CountGraves(b.engine, func() bool { return true }); n != 1 || err != nil {
		t.Errorf("%d graves are counted, %v", n, err)
	}
	b.handle(coordinate("again", nil, 2)) // beside the tombstone
	if n := len(b.graves(9_000)); n != 0 {
		t.Errorf("%d graves of what lives again", n)
	}
	b.handle(erased(b.stored().Clock))
	last := b.graves(9_000)[0]
	b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{last}})
	if n := len(b.graves(9_000)); n != 0 {
		t.Errorf("%d graves of what was handed over", n)
	}
}

// TestOnlyTheVersionNamedIsReaped, and by the same actor as before.
func TestOnlyTheVersionNamedIsReaped(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("v", nil, 1))
	b.handle(erased(b.stored().Clock))
	tomb := b.graves(9_000)
	other := vnode.Item{Key: key, Hash: tomb[0].Hash + 1}
	attested := only[*vnode.Delivered](t, b.handle(&vnode.Attest{Home: 1, Items: []vnode.Item{tomb[0], other}}))
	if attested.Results[0] != vnode.ItemHeld || attested.Results[1] == vnode.ItemHeld {
		t.Errorf("attested %v", attested.Results)
	}
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Reap{Home: 1, Items: []vnode.Item{other}})); d.Gone != 0 || d.Kept != 1 {
		t.Errorf("another version: %+v", d)
	}
	actor, _ := b.vnode.Incarnation()
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Reap{Home: 1, Items: tomb})); d.Gone != 1 || d.Kept != 0 {
		t.Errorf("the version: %+v", d)
	}
	if now, _ := b.vnode.Incarnation(); now != actor {
		t.Error("the vnode has taken a new actor")
	}
	if len(b.stored().Siblings) != 0 || len(b.graves(9_000)) != 0 {
		t.Errorf("it holds %v", b.stored())
	}
	v, err := vnode.Verify(b.engine, 3, 1)
	if err != nil || v.Objects != 0 || len(v.Segments) > 0 || v.Sum != 0 {
		t.Errorf("the tree: %+v, %v", v, err)
	}
	if d := only[*vnode.Dropped](t, b.handle(&vnode.Reap{Home: 1, Items: tomb})); d.Gone != 0 || d.Kept != 0 {
		t.Errorf("once more: %+v", d)
	}
}

// TestAVnodeThatLacksDataAttestsNothing, also if it has just been told so.
func TestAVnodeThatLacksDataAttestsNothing(t *testing.T) {
	b := newBench(t, 1)
	attest := &vnode.Attest{Home: 1, Items: []vnode.Item{{Key: key, Hash: 1}}}
	if out := b.handle(&vnode.SetLacking{On: true}, attest); len(out.Early) != 1 || out.Early[0].Cmd != 1 {
		t.Errorf("just told so, it answers %+v", out)
	}
	if r := refusal(t, b.handle(attest)); r.Code != vnode.CodeLacking {
		t.Errorf("%+v", r)
	}
	b.handle(&vnode.SetLacking{})
	only[*vnode.Delivered](t, b.handle(attest))
}

// TestAWipeLeavesNothing of a home, whatever it is, and a vnode that goes on as another actor.
func TestAWipeLeavesNothing(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("v", nil, 1))
	b.handle(erased(b.stored().Clock))
	actor, _ := b.vnode.Incarnation()
	b.handle(&vnode.Coordinate{Home: 1, Key: kv.Key{Bucket: "b", Name: "l"}, Write: vnode.Write{Deleted: true}})
	if done, pages := b.wipe(0, 1); done.Gone != 2 || pages != 2 {
		t.Errorf("%+v in %d pages", done, pages)
	}
	left := 0
	for _, r := range vnode.Ranges(3) {
		if err := b.engine.Scan(r[0], r[1], func(_, _ []byte) bool { left++; return true }); err != nil {
			t.Fatal(err)
		}
	}
	if now, _ := b.vnode.Incarnation(); left != 0 || now == actor || len(b.stored().Siblings) != 0 {
		t.Errorf("%d records are left; the actor was %v and is %v", left, actor, now)
	}
}

// TestGravesComeInPages, of so many items or so many bytes, and each once.
func TestGravesComeInPages(t *testing.T) {
	for _, c := range []struct{ keys, length, limit, pages int }{{10, 5, 3, 4}, {10, 5, 100, 1}, {40, 60_000, 100, 3}} {
		b := newBench(t, 1)
		for i := range c.keys {
			k := kv.Key{Bucket: "b", Name: strings.Repeat("x", c.length) + strconv.Itoa(i)}
			b.handle(&vnode.Coordinate{Home: 1, Key: k, Write: vnode.Write{Deleted: true}})
		}
		seen := make(map[kv.Key]bool)
		pages, ask := 0, &vnode.Graves{Home: 1, Before: 9_000, Limit: c.limit}
		for more := true; more; pages++ {
			m := vnode.Read(b.engine, 3, 0, ask).(*vnode.Buried)
			for _, it := range m.Items {
				if seen[it.Key] {
					t.Errorf("%d bytes of key come twice", len(it.Key.Name))
				}
				seen[it.Key] = true
			}
			more, ask.After = m.More, m.Last
		}
		if len(seen) != c.keys || pages != c.pages {
			t.Errorf("%+v: %d keys in %d pages", c, len(seen), pages)
		}
	}
}

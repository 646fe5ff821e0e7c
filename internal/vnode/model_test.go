package vnode_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// model is a vnode as the rules say it, with nothing but a map.
type model struct {
	actor   object.Actor
	counter uint64
	stamp   object.Stamp
	objects map[kv.Key]object.Object
	cursor  []byte
	renewed int // how many times it became a new actor
}

// handle is what each command is answered, without the siblings' limit.
func (m *model) handle(wallMs int64, cmd vnode.Message) (early, durable vnode.Message) {
	switch c := cmd.(type) {
	case *vnode.Store:
		in, err := object.Decode(c.Object)
		if err != nil {
			panic(err)
		}
		live := m.objects[c.Key].Live(wallMs)
		m.learn(in)
		m.objects[c.Key] = object.Merge(m.objects[c.Key], in)
		return nil, &vnode.Stored{Live: live}
	case *vnode.Coordinate:
		return m.coordinate(wallMs, c)
	case *vnode.Deliver:
		return nil, &vnode.Delivered{Results: m.items(c.Items)}
	case *vnode.Fill:
		m.cursor = c.Cursor
		return nil, &vnode.Delivered{Results: m.items(c.Items)}
	case *vnode.Drop:
		return nil, m.drop(c)
	case *vnode.Fence:
		return &vnode.Fenced{}, nil
	}
	panic("no command")
}

func (m *model) items(items []vnode.Item) []vnode.ItemResult {
	var results []vnode.ItemResult
	for _, it := range items {
		old, held := m.objects[it.Key]
		in, err := object.Decode(it.Object)
		switch {
		case it.Object == nil && held && vnode.HashOf(old.Encode()) == it.Hash:
			results = append(results, vnode.ItemHeld)
		case it.Object == nil:
			results = append(results, vnode.ItemWanted)
		case err != nil:
			results = append(results, vnode.ItemBad)
		default:
			m.learn(in)
			m.objects[it.Key] = object.Merge(old, in)
			results = append(results, vnode.ItemHeld)
		}
	}
	return results
}

// learn takes note of dots of its own that the vnode never made, since it is a new
// actor whenever it has forgotten anything.
func (m *model) learn(in object.Object) {
	if in.Clock.Counter(m.actor) > m.counter {
		m.renew()
	}
}

// renew leaves it to the vnode what its next actor is.
func (m *model) renew() {
	v := vnode.New(vnode.Config{Actor: m.actor, Counter: 1}, storage.NewMemory())
	var b storage.Batch
	v.Handle(0, []vnode.Message{&vnode.Store{Key: key, Object: object.Write(object.Object{}, nil,
		object.Sibling{Dot: object.Dot{Actor: m.actor, Counter: 2}}).Encode()}}, &b)
	m.actor, m.counter = v.Incarnation()
	m.renewed++
}

func (m *model) drop(c *vnode.Drop) *vnode.Dropped {
	d := &vnode.Dropped{}
	for _, it := range c.Items {
		old, held := m.objects[it.Key]
		switch {
		case held && vnode.HashOf(old.Encode()) == it.Hash:
			delete(m.objects, it.Key)
			d.Gone++
		case held:
			d.Kept++
		}
	}
	if d.Gone > 0 && m.counter > 0 {
		m.renew()
	}
	return d
}

func (m *model) coordinate(wallMs int64, c *vnode.Coordinate) (early, durable vnode.Message) {
	old := m.objects[c.Key]
	if c.Seen.Counter(m.actor) > m.counter {
		return &vnode.Refusal{Code: vnode.CodeContext}, nil
	}
	live := old.Live(wallMs)
	for _, s := range old.Siblings {
		if s.Request == c.Request && c.Request != (kv.RequestID{}) {
			return &vnode.Minted{Object: old.Encode()}, &vnode.Stored{Live: live}
		}
		m.stamp = max(m.stamp, s.Stamp)
	}
	m.counter++
	m.stamp = m.stamp.Next(wallMs)
	obj := object.Write(old, c.Seen, object.Sibling{
		Dot: object.Dot{Actor: m.actor, Counter: m.counter}, Stamp: m.stamp, Request: c.Request,
		Expires: c.Write.Expires, Deleted: c.Write.Deleted, Body: c.Write.Body,
	})
	m.objects[c.Key] = obj
	return &vnode.Minted{Object: obj.Encode()}, &vnode.Stored{Live: live}
}

// history draws the commands of one vnode: writes of its own, and versions that
// another replica has made of what both know.
type history struct {
	*rapid.T
	here  *model
	there *model
	known map[kv.Key][]object.Object // what was ever stored here or there
	ids   byte
}

func (h *history) command() vnode.Message {
	switch rapid.IntRange(0, 9).Draw(h.T, "kind") {
	case 0:
		return &vnode.Deliver{Home: 1, Items: h.items()}
	case 1:
		return &vnode.Fill{Home: 1, Items: h.items(), Job: 7, Cursor: rapid.SampledFrom([][]byte{nil, {}, {1}, {2, 3}}).Draw(h.T, "cursor")}
	case 2:
		return &vnode.Drop{Home: 1, Items: h.items()}
	case 3:
		return &vnode.Fence{}
	}
	return h.request()
}

// items are versions that were once here or there, with and without their
// objects, and some that are none.
func (h *history) items() []vnode.Item {
	var items []vnode.Item
	for range rapid.IntRange(1, 4).Draw(h.T, "items") {
		k := h.key()
		it := vnode.Item{Key: k, Hash: 1}
		if known := h.known[k]; len(known) > 0 {
			old := rapid.SampledFrom(known).Draw(h.T, "version")
			if rapid.Bool().Draw(h.T, "last") {
				old = known[len(known)-1]
			}
			it.Object = old.Encode()
			it.Hash = vnode.HashOf(it.Object)
		}
		switch rapid.IntRange(0, 4).Draw(h.T, "item") {
		case 0:
			it.Object = []byte("no object")
		case 1, 2:
			it.Object = nil
		}
		items = append(items, it)
	}
	return items
}

func (h *history) key() kv.Key {
	return kv.Key{Bucket: "b", Name: fmt.Sprint("k", rapid.IntRange(0, 2).Draw(h.T, "key"))}
}

func (h *history) request() vnode.Message {
	k := h.key()
	var seen object.Vector
	if known := h.known[k]; len(known) > 0 {
		old := rapid.SampledFrom(known).Draw(h.T, "known")
		seen = old.Clock
		if rapid.IntRange(0, 3).Draw(h.T, "store") == 0 {
			return &vnode.Store{Home: 1, Key: k, Object: old.Encode()}
		}
	}
	switch rapid.IntRange(0, 3).Draw(h.T, "seen") {
	case 0:
		seen = nil
	case 1:
		seen = seen.With(object.Dot{Actor: h.here.actor, Counter: h.here.counter + 1}) // forged
	}
	c := &vnode.Coordinate{Home: 1, Key: k, Seen: seen, Request: kv.RequestID{byte(rapid.IntRange(0, 9).Draw(h.T, "id"))}}
	switch rapid.IntRange(0, 3).Draw(h.T, "write") {
	case 0:
		c.Write.Deleted = true
	case 1:
		c.Write.Expires = rapid.Int64Range(1, 20).Draw(h.T, "expires")
		fallthrough
	default:
		h.ids++
		c.Write.Body = object.AppendBody(nil, &kv.Value{Data: []byte{h.ids}})
	}
	if c.Seen.Counter(h.here.actor) <= h.here.counter && rapid.Bool().Draw(h.T, "there") {
		h.there.coordinate(1, c)
		h.known[k] = append(h.known[k], h.there.objects[k])
		return &vnode.Store{Home: 1, Key: k, Object: h.there.objects[k].Encode()}
	}
	return c
}

// A vnode does the same whatever its head cache, and however its commands are
// batched: what the rules say.
func TestHistoriesAgainstAModel(t *testing.T) {
	caches := []int{0, 300, 1 << 20}
	rapid.Check(t, func(t *rapid.T) {
		fresh := func(actor byte) *model {
			return &model{actor: object.Actor{actor}, objects: make(map[kv.Key]object.Object)}
		}
		h := &history{T: t, here: fresh(1), there: fresh(2), known: make(map[kv.Key][]object.Object)}
		var engines []*storage.Memory
		var vnodes []*vnode.Vnode
		for _, cache := range caches {
			e := storage.NewMemory()
			engines = append(engines, e)
			vnodes = append(vnodes, vnode.New(vnode.Config{Partition: 3, Actor: object.Actor{1}, HeadCache: cache}, e))
		}
		for wall := range int64(rapid.IntRange(1, 8).Draw(t, "batches")) {
			var cmds []vnode.Message
			var want vnode.Outcome
			h.here.renewed = 0
			for i := range rapid.IntRange(1, 5).Draw(t, "commands") {
				c := h.command()
				cmds = append(cmds, c)
				early, durable := h.here.handle(wall, c)
				if early != nil {
					want.Early = append(want.Early, vnode.Answer{Cmd: i, Msg: early})
				}
				if durable != nil {
					want.Durable = append(want.Durable, vnode.Answer{Cmd: i, Msg: durable})
				}
				for k, o := range h.here.objects {
					h.known[k] = append(h.known[k], o)
				}
			}
			for i, v := range vnodes {
				var batch storage.Batch
				got := v.Handle(wall, cmds, &batch)
				news := 0
				for _, n := range got.Notes {
					if n.Kind == vnode.NoteNewActor {
						news++
					}
				}
				if got.Notes = nil; news != h.here.renewed {
					t.Fatalf("with a cache of %d it became a new actor %d times; want %d", caches[i], news, h.here.renewed)
				}
				for _, a := range got.Early {
					if r, ok := a.Msg.(*vnode.Refusal); ok {
						r.Text = ""
					}
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("with a cache of %d (-model +vnode):\n%s", caches[i], diff)
				}
				if _, err := engines[i].Apply(&batch, true); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, e := range engines {
			h.compare(e, caches[i])
			if a, n := vnodes[i].Incarnation(); a != h.here.actor || n != h.here.counter {
				t.Fatalf("with a cache of %d it is %v:%d; want %v:%d", caches[i], a, n, h.here.actor, h.here.counter)
			}
		}
	})
}

// compare checks that exactly the model's objects are stored.
func (h *history) compare(e *storage.Memory, cache int) {
	n := 0
	err := e.Scan(nil, []byte{2}, func([]byte, []byte) bool { n++; return true })
	if err != nil || n != len(h.here.objects) {
		h.Fatalf("with a cache of %d there are %d keys, %v; want %d", cache, n, err, len(h.here.objects))
	}
	if diff := cmp.Diff(treeOf(h.here.objects), treeIn(h.T, e)); diff != "" {
		h.Fatalf("with a cache of %d the tree is not that of the objects (-want +got):\n%s", cache, diff)
	}
	r, ok := vnode.Read(e, 3, 1, &vnode.Resume{Home: 1, Job: 7}).(*vnode.Resumed)
	if !ok || (r.Cursor == nil) != (h.here.cursor == nil) || !bytes.Equal(r.Cursor, h.here.cursor) {
		h.Fatalf("with a cache of %d the cursor is %x; want %x", cache, r.Cursor, h.here.cursor)
	}
	for k, o := range h.here.objects {
		got, err := e.Get(vnode.DataKey(3, 1, k))
		if err != nil || !bytes.Equal(got, o.Encode()) {
			h.Fatalf("with a cache of %d %v has %x, %v; want %v", cache, k, got, err, o)
		}
	}
}

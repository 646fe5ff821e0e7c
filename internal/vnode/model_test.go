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
		m.objects[c.Key] = object.Merge(m.objects[c.Key], in)
		return nil, &vnode.Stored{Live: live}
	case *vnode.Coordinate:
		return m.coordinate(wallMs, c)
	}
	panic("no command")
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
	k := kv.Key{Bucket: "b", Name: fmt.Sprint("k", rapid.IntRange(0, 2).Draw(h.T, "key"))}
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
	err := e.Scan(nil, nil, func([]byte, []byte) bool { n++; return true })
	if err != nil || n != len(h.here.objects) {
		h.Fatalf("with a cache of %d there are %d keys, %v; want %d", cache, n, err, len(h.here.objects))
	}
	for k, o := range h.here.objects {
		got, err := e.Get(vnode.DataKey(3, 1, k))
		if err != nil || !bytes.Equal(got, o.Encode()) {
			h.Fatalf("with a cache of %d %v has %x, %v; want %v", cache, k, got, err, o)
		}
	}
}

package vnode_test

import (
	"strconv"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// BenchmarkHandle is a put of 1 KB over a value that is there, as its
// coordinator and as another replica see it, without the engine's share. The
// heads are in memory.
func BenchmarkHandle(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run("coordinate/batch="+strconv.Itoa(size), func(b *testing.B) { benchmarkCoordinate(b, size) })
		b.Run("store/batch="+strconv.Itoa(size), func(b *testing.B) { benchmarkStore(b, size) })
	}
}

var body = object.AppendBody(nil, &kv.Value{Data: make([]byte, 1024)})

func benchmarkCoordinate(b *testing.B, size int) {
	v := vnode.New(vnode.Config{Actor: object.Actor{1}, HeadCache: 1 << 20}, storage.NewMemory())
	cmds := make([]vnode.Message, size)
	for i := range cmds {
		cmds[i] = &vnode.Coordinate{Key: benchKey(0, i), Write: vnode.Write{Body: body}}
	}
	seen := object.Vector{{Actor: object.Actor{1}}}
	var batch storage.Batch
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		batch.Reset()
		v.Handle(int64(i), cmds, &batch)
		// The next one has seen it.
		_, seen[0].Counter = v.Incarnation()
		for _, c := range cmds {
			c.(*vnode.Coordinate).Seen = seen
		}
	}
}

func benchmarkStore(b *testing.B, size int) {
	// A life of a key, each version newer than the one before it. When it has
	// been lived through, it begins anew with other keys.
	life := make([][]byte, 1024)
	for i := range life {
		dot := object.Dot{Actor: object.Actor{2}, Counter: uint64(i) + 1}
		life[i] = object.Write(object.Object{}, nil, object.Sibling{Dot: dot, Body: body}).Encode()
	}
	v := vnode.New(vnode.Config{Actor: object.Actor{1}, HeadCache: 1 << 20}, storage.NewMemory())
	cmds := make([]vnode.Message, size)
	for i := range cmds {
		cmds[i] = &vnode.Store{}
	}
	var batch storage.Batch
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		batch.Reset()
		for n, c := range cmds {
			s := c.(*vnode.Store)
			if i%len(life) == 0 {
				s.Key = benchKey(i, n)
			}
			s.Object = life[i%len(life)]
		}
		v.Handle(int64(i), cmds, &batch)
	}
}

func benchKey(life, n int) kv.Key {
	return kv.Key{Bucket: "b", Name: "life " + strconv.Itoa(life) + " key " + strconv.Itoa(n)}
}

// BenchmarkIndexed is BenchmarkHandle as the coordinator, of values with two index
// entries, over a value that has the same or others, in an engine in memory.
func BenchmarkIndexed(b *testing.B) {
	for _, terms := range []int{1, 2} {
		b.Run("terms="+strconv.Itoa(terms), func(b *testing.B) {
			e := storage.NewMemory()
			v := vnode.New(vnode.Config{Actor: object.Actor{1}, HeadCache: 1 << 20}, e)
			bodies := make([][]byte, terms)
			for i := range bodies {
				n := strconv.Itoa(i)
				bodies[i] = object.AppendBody(nil, &kv.Value{Data: make([]byte, 1024), Indexes: []kv.Pair{{Name: "a_int", Value: n}, {Name: "b_bin", Value: n}}})
			}
			seen := object.Vector{{Actor: object.Actor{1}, Counter: 1}}
			var batch storage.Batch
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				batch.Reset()
				v.Handle(int64(i), []vnode.Message{&vnode.Coordinate{Key: benchKey(0, 0), Seen: seen, Write: vnode.Write{Body: bodies[i%terms], Indexed: true}}}, &batch)
				if _, err := e.Apply(&batch, true); err != nil {
					b.Fatal(err)
				}
				e.MakeDurable(e.Applied())
				seen = object.Vector{{Actor: object.Actor{1}}}
				_, seen[0].Counter = v.Incarnation()
			}
		})
	}
}

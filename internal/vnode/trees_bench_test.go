package vnode

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// BenchmarkTrees is the puts of a vnode on a real disk, with hash trees and without,
// side by side: batches of 64 commands, values of 1 KB, half of them over a value that is
// there. It reports the throughput with trees in percent of that without. There is
// no request around these puts; BenchmarkPutTrees of package tanodb has whole ones.
func BenchmarkTrees(b *testing.B) {
	for _, durable := range []bool{true, false} {
		b.Run("fsync="+strconv.FormatBool(durable), func(b *testing.B) {
			with, without := newSide(b, false), newSide(b, true)
			for b.Loop() {
				with.round(b, durable)
				without.round(b, durable)
			}
			b.ReportMetric(100*without.took.Seconds()/with.took.Seconds(), "%")
			b.ReportMetric(float64(with.puts)/with.took.Seconds(), "puts/s")
			b.ReportMetric(float64(without.puts)/without.took.Seconds(), "treeless-puts/s")
		})
	}
}

// side is a vnode with an engine of its own.
type side struct {
	vnode  *Vnode
	engine *disk.Engine
	chance *rand.Rand
	puts   int
	took   time.Duration
	body   []byte
	batch  storage.Batch
}

func newSide(b *testing.B, treeless bool) *side {
	e, err := disk.Open(b.TempDir(), disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	s := &side{engine: e, chance: rand.New(rand.NewPCG(1, 1))}
	s.vnode = New(Config{Actor: object.Actor{1}, HeadCache: 32 << 20, Treeless: treeless}, e)
	noise := make([]byte, 1024)
	for i := range noise {
		noise[i] = byte(s.chance.Uint32())
	}
	s.body = object.AppendBody(nil, &kv.Value{Data: noise})
	return s
}

// round is 16 batches.
func (s *side) round(b *testing.B, durable bool) {
	start := time.Now()
	for range 16 {
		cmds := make([]Message, 64)
		var seen object.Vector
		if s.vnode.counter > 0 {
			seen = object.Vector{{Actor: object.Actor{1}, Counter: s.vnode.counter}}
		}
		for i := range cmds {
			n := s.chance.IntN(100_000)
			cmds[i] = &Coordinate{
				Home: ring.Partition(n % 3), Key: kv.Key{Bucket: "bucket", Name: "key " + strconv.Itoa(n)},
				Seen: seen, Write: Write{Body: s.body},
			}
		}
		s.batch.Reset()
		if out := s.vnode.Handle(1, cmds, &s.batch); len(out.Durable) != len(cmds) {
			b.Fatalf("%d of %d puts are taken", len(out.Durable), len(cmds))
		}
		commit, err := s.engine.Apply(&s.batch, durable)
		if err == nil && durable {
			err = commit.Wait()
		}
		if err != nil {
			b.Fatal(err)
		}
		s.puts += len(cmds)
	}
	s.took += time.Since(start)
}

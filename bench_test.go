package tanodb_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// The benchmarks measure the whole request path of three nodes in this process,
// over loopback, on disk, with 64 clients and values of 1 KB. cpu-µs/op is the
// CPU of all three nodes and the clients.

func BenchmarkPut(b *testing.B) {
	cluster := openTCP(b, 3)
	value := make([]byte, 1024)
	var at atomic.Uint64
	load(b, cluster, func(ctx context.Context, n *tanodb.Node) error {
		k := kv.Key{Bucket: "bench", Name: fmt.Sprint("key", at.Add(1)%100_000)}
		_, err := n.Put(ctx, k, kv.Value{Data: value}, kv.WriteOptions{ReturnBody: false})
		return err
	})
}

func BenchmarkGet(b *testing.B) {
	cluster := openTCP(b, 3)
	keys := min(b.N, 10_000) // what is written before takes most of the time of a single run
	value := make([]byte, 1024)
	for i := range keys {
		if _, err := cluster[0].Put(context.Background(), kv.Key{Bucket: "bench", Name: fmt.Sprint("key", i)}, kv.Value{Data: value}, kv.WriteOptions{W: kv.All}); err != nil {
			b.Fatal(err)
		}
	}
	var at atomic.Uint64
	load(b, cluster, func(ctx context.Context, n *tanodb.Node) error {
		_, err := n.Get(ctx, kv.Key{Bucket: "bench", Name: fmt.Sprint("key", at.Add(1)%uint64(keys))}, kv.ReadOptions{})
		return err
	})
}

// load runs op b.N times from 64 goroutines, spread over the nodes.
func load(b *testing.B, cluster []*tanodb.Node, op func(context.Context, *tanodb.Node) error) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(32)
	var worker atomic.Int64
	begun := cpuTime()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		n := cluster[int(worker.Add(1))%len(cluster)]
		for pb.Next() {
			if err := op(b.Context(), n); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpuTime()-begun).Microseconds())/float64(b.N), "cpu-µs/op")
}

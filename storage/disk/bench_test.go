package disk

import (
	"fmt"
	"sync"
	"testing"

	"github.com/tanodb/tanodb/storage"
)

// benchValue is the size of the values that the benchmarks write and read.
const benchValue = 1 << 10

// BenchmarkSyncPut reports what a durable put costs with few and with many
// writers, and how many fsyncs each takes.
func BenchmarkSyncPut(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			e := open(b, b.TempDir(), Options{})
			defer closing(b, e)
			before := e.Metrics()
			b.ReportAllocs()
			b.ResetTimer()
			putAll(b, e, writers)
			b.StopTimer()
			syncs := e.Metrics().WALSyncs - before.WALSyncs
			b.ReportMetric(float64(syncs)/float64(b.N), "syncs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

// putAll shares b.N durable puts among the writers.
func putAll(b *testing.B, e *Engine, writers int) {
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			value := make([]byte, benchValue)
			var batch storage.Batch
			for i := w; i < b.N; i += writers {
				batch.Reset()
				batch.Set(fmt.Appendf(nil, "key %09d", i), value)
				c, err := e.Apply(&batch, true)
				if err != nil {
					b.Error(err)
					return
				}
				if err := c.Wait(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// BenchmarkGet reads keys whose blocks are in the cache, and absent keys.
func BenchmarkGet(b *testing.B) {
	const keys = 10_000
	e := open(b, b.TempDir(), Options{CacheBytes: defaultCacheBytes})
	defer closing(b, e)
	for i := range keys {
		var batch storage.Batch
		batch.Set(fmt.Appendf(nil, "key %09d", i), make([]byte, benchValue))
		if _, err := e.Apply(&batch, false); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.db.Flush(); err != nil {
		b.Fatal(err)
	}
	for name, format := range map[string]string{"cached": "key %09d", "absent": "key %09d/"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				_, err := e.Get(fmt.Appendf(nil, format, i%keys))
				if (err == nil) != (name == "cached") {
					b.Fatal(err)
				}
			}
		})
	}
}

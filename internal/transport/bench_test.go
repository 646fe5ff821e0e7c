package transport

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// BenchmarkAsk measures a request with 1 KB and its answer between two nodes in
// this process, asked by goroutines that each wait for theirs: the time of one
// is that of both sides. Cpu-ns/op is what the system says of the processors.
func BenchmarkAsk(b *testing.B) {
	store := &vnode.Store{Key: kv.Key{Bucket: "mybucket", Name: "some-key"}, Object: make([]byte, 1100)}
	for _, n := range networks {
		for _, inFlight := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/inflight=%d", n.name, inFlight), func(b *testing.B) {
				benchmarkAsk(b, n.pair(b, answerWith(&vnode.Stored{})), store, inFlight)
			})
		}
	}
}

func benchmarkAsk(b *testing.B, p pairOfNodes, m vnode.Message, inFlight int) {
	p.ra.await(b, "n2 is connected", func() bool { return p.a.Stats().Peers[0].Connected })
	deadline := time.Now().Add(time.Hour)
	var askers sync.WaitGroup
	b.ReportAllocs()
	before := processorTime(b)
	b.ResetTimer()
	for i := range inFlight {
		askers.Go(func() {
			errs := make(chan error, 1)
			for n := i; n < b.N; n += inFlight {
				p.a.Ask("n2", Requests, Frame{Msg: m}, deadline, func(_ vnode.Message, err error) { errs <- err })
				if err := <-errs; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	askers.Wait()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	st := p.a.Stats().Peers[0]
	b.ReportMetric(float64(st.FramesOut)/float64(max(st.BatchesOut, 1)), "frames/batch")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

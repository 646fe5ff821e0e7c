package tanodb

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

const (
	readersPerCPU = 4
	maxReads      = 4_096 // reads of other nodes that may wait here; one more is refused
)

// readers do the reads that other nodes ask for. They are a few goroutines, so
// that a slow disk holds up neither the network nor each other. The reads of this
// node's own requests are done by whoever steps the request.
type readers struct {
	node  *Node
	queue chan readTask
	wg    sync.WaitGroup
}

type readTask struct {
	to    ring.Partition
	msg   vnode.Message
	reply func(vnode.Message)
}

func newReaders(n *Node) *readers {
	r := &readers{node: n, queue: make(chan readTask, maxReads)}
	for range readersPerCPU * runtime.GOMAXPROCS(0) {
		r.wg.Go(func() {
			for t := range r.queue {
				t.reply(n.read(t.to, t.msg))
			}
		})
	}
	return r
}

// submit queues a read, or refuses it.
func (r *readers) submit(t readTask) {
	select {
	case r.queue <- t:
	default:
		r.node.metrics.overload.Inc()
		t.reply(&vnode.Refusal{Code: vnode.CodeOverload, Text: fmt.Sprintf("%d reads wait, the limit", maxReads)})
	}
}

// close ends the readers; nothing may submit any more.
func (r *readers) close() {
	close(r.queue)
	r.wg.Wait()
}

// read answers a read from what is applied.
func (n *Node) read(p ring.Partition, m vnode.Message) (answer vnode.Message) {
	defer func() {
		if r := recover(); r != nil {
			n.metrics.panics.WithLabelValues("read").Inc()
			n.log.Error("a read has panicked; please report this", "partition", int(p), "panic", r, "stack", string(debug.Stack()))
			answer = &vnode.Failure{Code: vnode.CodeInternal, Text: "the read has panicked"}
		}
	}()
	if !n.vnodes.serves(p) {
		return n.notMine(p)
	}
	return vnode.Read(n.engine, p, n.o.Clock().UnixMilli(), m)
}

func (n *Node) notMine(p ring.Partition) vnode.Message {
	return &vnode.Refusal{Code: vnode.CodeNotMine, Text: fmt.Sprintf("node %s does not serve partition %d at epoch %d", n.self, p, n.state.Epoch())}
}

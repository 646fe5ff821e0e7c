package tanodb

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

const (
	readersPerCPU = 4
	maxReads      = 4_096 // reads of other nodes that may wait here; one more is refused

	// maxParked is how many of them may wait for room on their connections besides; one more is
	// refused.
	maxParked = 4_096
)

// readers do the reads that other nodes ask for. They are a few goroutines, so
// that a slow disk holds up neither the network nor each other, nor a request of
// this node that other replicas can answer. Only a node alone lets whoever
// steps a request do its reads: nobody could stand in for it.
type readers struct {
	node   *Node
	queue  chan readTask
	parked atomic.Int64 // reads that wait for room on their connections
	wg     sync.WaitGroup

	mu     sync.RWMutex
	closed bool
}

type readTask struct {
	to    ring.Partition
	msg   vnode.Message
	epoch uint64 // of the topology that the sender went by
	reply func(vnode.Message)

	room  func() <-chan struct{} // of its connection, see transport.Frame; nil: it is of this node
	until time.Duration          // when nobody waits for it any more; 0: somebody does
}

func newReaders(n *Node) *readers {
	r := &readers{node: n, queue: make(chan readTask, maxReads)}
	for range readersPerCPU * runtime.GOMAXPROCS(0) {
		r.wg.Go(func() {
			for t := range r.queue {
				r.serve(t)
			}
		})
	}
	return r
}

// serve does a read. Objects may be large, and come from the memory faster than they go
// through a network: where many answers wait to be sent, one more is read when they are few.
func (r *readers) serve(t readTask) {
	if t.room != nil {
		if room := t.room(); room != nil {
			r.park(t, room)
			return
		}
	}
	t.reply(r.node.read(t.to, t.epoch, t.msg))
}

// park queues a read anew when there is room for its answer.
func (r *readers) park(t readTask, room <-chan struct{}) {
	if r.parked.Add(1) > maxParked {
		r.parked.Add(-1)
		r.node.metrics.overload.reads.Inc()
		t.reply(&vnode.Refusal{Code: vnode.CodeOverload, Text: fmt.Sprintf("%d reads wait for room on their connections, the limit", maxParked)})
		return
	}
	r.wg.Go(func() {
		<-room
		r.parked.Add(-1)
		if t.until > 0 && r.node.elapsed() > t.until {
			t.reply(&vnode.Refusal{Code: vnode.CodeExpired, Text: "the deadline has passed before there was room for an answer"})
			return
		}
		r.submit(t)
	})
}

// submit queues a read, or refuses it.
func (r *readers) submit(t readTask) {
	if reads, _ := r.node.trouble(); reads != nil {
		t.reply(&vnode.Refusal{Code: vnode.CodeStorage, Text: reads.Error()})
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		t.reply(closing())
		return
	}
	select {
	case r.queue <- t:
	default:
		r.node.metrics.overload.reads.Inc()
		t.reply(&vnode.Refusal{Code: vnode.CodeOverload, Text: fmt.Sprintf("%d reads wait, the limit", maxReads)})
	}
}

// close ends the readers. What comes later is refused.
func (r *readers) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.queue)
	r.wg.Wait()
}

// read answers a read from what is applied.
func (n *Node) read(p ring.Partition, epoch uint64, m vnode.Message) (answer vnode.Message) {
	defer func() {
		if r := recover(); r != nil {
			n.metrics.panics.WithLabelValues("read").Inc()
			n.log.Error("a read has panicked; please report this", "partition", int(p), "panic", r, "stack", string(debug.Stack()))
			answer = &vnode.Failure{Code: vnode.CodeInternal, Text: "the read has panicked"}
		}
	}()
	if refusal := n.objection(n.state(), p, epoch, m); refusal != nil {
		return refusal
	}
	if m, ok := m.(*vnode.Strays); ok {
		return n.reapers.stands(m)
	}
	if n.lacking[p].Load() {
		if refusal := vnode.Lacks(p, m); refusal != nil {
			return refusal
		}
	}
	answer = vnode.Read(n.engine, p, n.o.Clock().UnixMilli(), m)
	if f, ok := answer.(*vnode.Failure); ok && f.Code == vnode.CodeCorrupt {
		n.scrub.suspect(p)
	}
	return answer
}

// guard turns a panic of what runs on a goroutine of its own into an error: nobody
// else would catch it, and it would end the process.
func (n *Node) guard(what string, do func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			n.metrics.panics.WithLabelValues("read").Inc()
			n.log.Error("a read has panicked; please report this", "what", what, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %s has panicked: %v", kv.ErrInternal, what, r)
		}
	}()
	do()
	return nil
}

// guarded is the answer of a function, or that it has panicked.
func (n *Node) guarded(what string, do func() vnode.Message) (answer vnode.Message) {
	if err := n.guard(what, func() { answer = do() }); err != nil {
		return &vnode.Failure{Code: vnode.CodeInternal, Text: err.Error()}
	}
	return answer
}

// objection is why this node, which goes by s, does not carry out a message to a vnode;
// nil: it does.
func (n *Node) objection(s *membership.State, p ring.Partition, epoch uint64, m vnode.Message) vnode.Message {
	if n.wiping.Load() {
		switch m.(type) {
		case *vnode.Wipe, *vnode.SetLacking:
		default:
			return &vnode.Refusal{Code: vnode.CodeLacking, Text: "the disk of node " + n.self + " is older than what was reaped, and is being erased"}
		}
	}
	return handoff.Objection(s, n.self, p, epoch, m)
}

// findLacking reads which vnodes wait for data that they should hold.
func (n *Node) findLacking() error {
	n.lacking = make([]atomic.Bool, n.state().Ring().Size())
	for p := range n.lacking {
		lacking, err := vnode.Lacking(n.engine, ring.Partition(p))
		switch {
		case errors.Is(err, storage.ErrCorrupt):
			n.log.Error("what a vnode knows of itself is damaged: it is rebuilt from its other replicas", "node", n.self, "partition", p, "error", err)
			lacking = true
		case err != nil:
			return fmt.Errorf("tanodb: reading what vnode %d lacks: %w", p, err)
		}
		n.lacking[p].Store(lacking)
	}
	return nil
}

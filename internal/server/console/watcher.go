package console

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/server/view"
)

const (
	// fresh is how old a look may be that a page begins with.
	fresh = 2 * time.Second

	// stale is how many times the usual time between two looks may pass, until the rates
	// between them are not worth showing.
	stale = 10

	// maxPoints is how many points of the past the charts have.
	maxPoints = 300
)

// moment is one look at the cluster, with all that is made of it.
type moment struct {
	snapshot view.Snapshot
	rates    []view.Rate

	mu     sync.Mutex        // guards what follows
	model  *piece            // what pieces are made of; nil: nobody has asked for any
	pieces map[string]string // HTML by the id of what it belongs into
}

// piece is a piece of HTML, made when the first page asks for it.
func (m *moment) piece(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.model == nil {
		m.model, m.pieces = newPiece(m), map[string]string{}
	}
	html, made := m.pieces[id]
	if !made {
		html = render("piece-"+id, m.model)
		m.pieces[id] = html
	}
	return html
}

// point is what the charts show of a moment.
type point struct {
	At  float64   `json:"at"` // Unix seconds
	Ops []opPoint `json:"ops"`
}

type opPoint struct {
	Op     string  `json:"op"`
	Rate   float64 `json:"rate"`
	Failed float64 `json:"failed"`
	P50    float64 `json:"p50"` // milliseconds
	P99    float64 `json:"p99"`
}

func newPoint(m *moment) point {
	p := point{At: float64(m.snapshot.At.UnixMilli()) / 1000, Ops: []opPoint{}}
	for _, r := range m.rates {
		p.Ops = append(p.Ops, opPoint{r.Op, r.PerSecond, r.Failed, millis(r.P50), millis(r.P99)})
	}
	return p
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// watcher looks at the cluster for all who watch.
type watcher struct {
	node  Node
	every time.Duration
	log   *slog.Logger
	ctx   context.Context
	stop  context.CancelFunc
	loops sync.WaitGroup

	looking sync.Mutex // held during a look, so that there is one at a time

	mu      sync.Mutex // guards what follows
	last    *moment
	past    []point
	readers int
	running bool
	next    chan struct{} // closed when there is a newer moment
}

func newWatcher(n Node, every time.Duration, log *slog.Logger) *watcher {
	w := &watcher{node: n, every: every, log: log, next: make(chan struct{})}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// close ends the looks.
func (w *watcher) close() {
	w.stop()
	w.loops.Wait()
}

// join says that somebody watches, until leave is called.
func (w *watcher) join() (leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readers++
	if !w.running && w.ctx.Err() == nil {
		w.running = true
		w.loops.Go(w.loop)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.readers--
	}
}

// loop looks again and again, as long as anybody watches.
func (w *watcher) loop() {
	pause := time.NewTimer(w.every)
	defer pause.Stop()
	for {
		w.lookSafely()
		pause.Reset(w.every) // two looks in a row would give rates of a moment
		select {
		case <-pause.C:
		case <-w.ctx.Done():
		}
		w.mu.Lock()
		if w.readers == 0 || w.ctx.Err() != nil {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// lookSafely looks, and survives a panic: a mistake of the console must not end the database.
func (w *watcher) lookSafely() {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("a look at the cluster has panicked; please report this", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	w.look()
}

// look looks at the cluster once. It takes as long as the slowest node may take to describe
// itself, which is not long.
func (w *watcher) look() *moment {
	w.looking.Lock()
	defer w.looking.Unlock()
	w.mu.Lock()
	before := w.last
	w.mu.Unlock()
	m := &moment{snapshot: view.Snapshot{
		Nodes: w.node.Nodes(w.ctx), Cluster: w.node.Cluster(), Routes: w.node.Routes(), At: time.Now(),
	}}
	m.snapshot.Reach = view.ReachOf(m.snapshot.Routes, m.snapshot.Cluster.Replicas)
	if before != nil && m.snapshot.At.Sub(before.snapshot.At) > stale*w.every {
		before = nil // nobody has watched for a while: a mean over that would tell nothing
	}
	if before != nil {
		m.rates = view.Rates(before.snapshot, m.snapshot)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = m
	if before == nil {
		w.past = nil
	} else {
		w.past = append(w.past, newPoint(m))
		w.past = w.past[max(0, len(w.past)-maxPoints):]
	}
	close(w.next)
	w.next = make(chan struct{})
	return m
}

// now is a moment that is not old.
func (w *watcher) now() *moment {
	w.mu.Lock()
	m := w.last
	w.mu.Unlock()
	if m != nil && time.Since(m.snapshot.At) < fresh {
		return m
	}
	return w.look()
}

// latest is the newest moment, if there is one, its past, and what is closed when there is a
// newer one.
func (w *watcher) latest() (*moment, []point, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.past, w.next
}

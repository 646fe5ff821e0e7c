package pb

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/internal/mapreduce"
	"github.com/tanodb/tanodb/internal/server/audit"
)

// Server serves a node on listeners, within the limits of its options.
type Server struct {
	node    Node
	o       Options
	metrics *metrics
	audit   *audit.Log
	jobs    *mapreduce.Runner
	tracer  trace.Tracer // nil: nothing is traced
	frames  atomic.Int64 // bytes of requests in memory. Invariant: 0 <= frames <= o.MaxFrames
	buffers sync.Pool    // of *frame

	requests context.Context // of all requests: it ends when they are cut off
	cut      context.CancelFunc

	stopping atomic.Bool
	mu       sync.Mutex // guards what follows
	conns    map[*conn]struct{}
	accepts  map[net.Listener]struct{}
	running  sync.WaitGroup // connections
}

// NewServer makes a server of a node.
func NewServer(n Node, o Options) *Server {
	o.ensureDefaults()
	s := &Server{node: n, o: o, jobs: mapreduce.New(n), conns: map[*conn]struct{}{}, accepts: map[net.Listener]struct{}{}}
	if o.Traces != nil {
		s.tracer = o.Traces.Tracer(tracerName)
	}
	s.metrics, s.audit = newMetrics(s), audit.New(o.Audit)
	s.buffers.New = func() any { return &frame{} }
	s.requests, s.cut = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until Shutdown, and returns nil then.
func (s *Server) Serve(l net.Listener) error {
	if !s.listens(l) {
		return l.Close()
	}
	for {
		c, err := l.Accept()
		if err == nil {
			s.begin(c)
			continue
		}
		if s.stopping.Load() {
			return nil
		}
		if !s.pause(err) {
			return err
		}
	}
}

// listens notes a listener, so that Shutdown can close it; false: it was called
// already.
func (s *Server) listens(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.accepts[l] = struct{}{}
	return true
}

// pause waits a moment after an error that may pass, such as too many open
// files; false: it will not.
func (s *Server) pause(err error) bool {
	const moment = 50 * time.Millisecond
	//lint:ignore SA1019 net/http asks the same: it is what tells these errors apart
	if temporary, ok := errors.AsType[net.Error](err); !ok || !temporary.Temporary() {
		return false
	}
	s.o.Logger.Warn("cannot accept a connection", "error", err)
	t := time.NewTimer(moment)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.requests.Done():
	}
	return true
}

// begin serves a connection, if there is room for it.
func (s *Server) begin(nc net.Conn) {
	c := &conn{raw: nc, net: nc, server: s}
	s.mu.Lock()
	full := len(s.conns) >= s.o.MaxConnections
	if full || s.stopping.Load() {
		s.mu.Unlock()
		if full {
			s.metrics.turnedAway.Inc()
			turnAway(nc)
			return
		}
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	s.metrics.connects.Inc()
	go c.run()
}

// ended forgets a connection.
func (s *Server) ended(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// connections is how many there are.
func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// turnAway tells a client that there are too many. The few bytes fit into the
// buffer of a new connection, so that this does not block.
func turnAway(nc net.Conn) {
	var f frame
	f.fail(turnedAway)
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = nc.Write(f.b)
	_ = nc.Close()
}

// Shutdown stops accepting, closes the connections that have no request, and
// waits until the others have answered theirs. When the context ends first,
// they are cut off, and the context's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping.Store(true)
	var errs []error
	for l := range s.accepts {
		errs = append(errs, l.Close())
	}
	clear(s.accepts)
	for c := range s.conns {
		c.closeIdle()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
		s.cutOff()
		<-done // a request heeds its context, and a closed socket no one can wait on
	}
	s.cut()
	return errors.Join(errs...)
}

// cutOff ends all requests.
func (s *Server) cutOff() {
	s.cut()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
}

// reserve takes memory for a request; false: too much is taken already.
func (s *Server) reserve(n int) bool {
	if s.frames.Add(int64(n)) > s.o.MaxFrames {
		s.frames.Add(-int64(n))
		return false
	}
	return true
}

// gathers counts so many bytes of an answer that goes out at once as memory of its request.
func (c *conn) gathers(n int) error {
	if !c.server.reserve(n) {
		return wireError(turnedAway)
	}
	c.req.held += n
	return nil
}

// buffer is an empty frame. It goes back with release.
func (s *Server) buffer() *frame { return s.buffers.Get().(*frame) }

// release gives a frame back, unless it has become too large to keep.
func (s *Server) release(f *frame) {
	if cap(f.b) > keptBuffer {
		return
	}
	f.reset()
	s.buffers.Put(f)
}

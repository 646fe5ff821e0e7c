package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// How gRPC is set up: few system calls, and windows large enough that they
// never limit a fast network.
const (
	streamWindow = 8 << 20   // bytes on their way on a stream
	ioBuffer     = 128 << 10 // bytes read or written by one system call

	handshakeTime = 5 * time.Second  // for TLS and HTTP/2
	idleTime      = 30 * time.Second // after which a connection without a stream is closed
	pingTime      = 10 * time.Second // after which a connection on which nothing comes is probed
)

const method = "/tanodb.Transport/Talk"

var talk = grpc.StreamDesc{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: serveTalk}

var service = grpc.ServiceDesc{
	ServiceName: "tanodb.Transport",
	HandlerType: (*any)(nil),
	Streams:     []grpc.StreamDesc{talk},
}

// Listen makes a node's part of the network over TCP, and begins to connect to
// its peers. An error says that the configuration cannot be meant, or that the
// address is not free.
func Listen(cfg Config) (*Mesh, error) {
	m, err := newMesh(cfg)
	if err != nil {
		return nil, err
	}
	dialling, accepting, err := secure(cfg.TLS)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	w := &grpcWires{mesh: m, listener: &countingListener{Listener: l, limit: maxConnections}, creds: dialling, drain: m.cfg.Timing.Drain}
	w.server = grpc.NewServer(
		grpc.Creds(accepting),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(streamWindow),
		grpc.WriteBufferSize(ioBuffer),
		grpc.ReadBufferSize(ioBuffer),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(1),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: pingTime, Timeout: handshakeTime}),
		grpc.WaitForHandlers(true),
	)
	w.server.RegisterService(&service, w)
	m.start(w)
	m.spawn(w.serve)
	return m, nil
}

// grpcWires makes connections over gRPC, one stream on each.
type grpcWires struct {
	mesh     *Mesh
	server   *grpc.Server
	listener *countingListener
	creds    credentials.TransportCredentials
	drain    time.Duration
}

func (w *grpcWires) address() string { return w.listener.Addr().String() }

func (w *grpcWires) advertised() string {
	if a := w.address(); w.names(a) {
		return a
	}
	return ""
}

// names is true of HOST:PORT, unless the host stands for all.
func (w *grpcWires) names(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || port == "0" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsUnspecified()
}

// serve accepts connections until the server stops. Any other end of it is one
// that nothing here can mend: the other nodes will find this one silent.
func (w *grpcWires) serve() {
	if err := w.server.Serve(w.listener); err != nil && w.mesh.ctx.Err() == nil {
		w.mesh.cfg.Logger.Error("the listener for other nodes has failed", "address", w.address(), "error", err)
	}
}

// close lets what was sent be delivered, for a while.
func (w *grpcWires) close() {
	late := time.AfterFunc(w.drain, w.server.Stop)
	defer late.Stop()
	w.server.GracefulStop()
}

// serveTalk is one accepted stream. GRPC ends the stream when it returns.
func serveTalk(srv any, stream grpc.ServerStream) error {
	w := srv.(*grpcWires)
	s := &serverWire{stream: stream, over: make(chan struct{})}
	if p, ok := grpcpeer.FromContext(stream.Context()); ok {
		if from, ok := p.Addr.(*countedAddr); ok {
			s.meter = from.meter
		}
	}
	if s.meter == nil || !w.mesh.spawn(func() { w.mesh.accept(s) }) {
		return ErrClosed
	}
	<-s.over
	return nil
}

// serverWire is an accepted stream.
type serverWire struct {
	stream grpc.ServerStream
	meter  *meter
	once   sync.Once
	over   chan struct{}
}

func (s *serverWire) send(b *[]byte) error  { return plain(s.stream.SendMsg(b)) }
func (s *serverWire) recv() ([]byte, error) { return receive(s.stream) }
func (s *serverWire) received() uint64      { return s.meter.count.Load() }
func (s *serverWire) allow(bytes uint64)    { s.meter.limit.Store(bytes) }
func (s *serverWire) close()                { s.once.Do(func() { close(s.over) }) }
func (s *serverWire) release()              { s.close() }

func (s *serverWire) secured() (tls.ConnectionState, bool) { return shown(s.stream.Context()) }

// clientWire is a dialled stream, with its connection.
type clientWire struct {
	conn    *grpc.ClientConn
	stream  grpc.ClientStream
	cancel  context.CancelFunc
	dialler *dialler
}

func (c *clientWire) send(b *[]byte) error  { return plain(c.stream.SendMsg(b)) }
func (c *clientWire) recv() ([]byte, error) { return receive(c.stream) }
func (c *clientWire) received() uint64      { return c.dialler.meter.count.Load() }
func (c *clientWire) allow(uint64)          {}

func (c *clientWire) secured() (tls.ConnectionState, bool) { return shown(c.stream.Context()) }

func (c *clientWire) close() {
	c.cancel()
	c.dialler.hangUp()
}

func (c *clientWire) release() {
	c.close()
	c.conn.Close()
}

// dial makes a connection with one stream. GRPC would connect again by itself,
// but out of our sight: here each attempt is a connection of its own.
func (w *grpcWires) dial(ctx context.Context, _, address string) (wire, error) {
	if address == "" {
		return nil, errors.New("no address of it is known")
	}
	d := &dialler{meter: newMeter(math.MaxUint64)}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(w.creds),
		grpc.WithContextDialer(d.dial),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(streamWindow),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the stream outlives the dialling
	stop := context.AfterFunc(ctx, cancel)
	stream, err := conn.NewStream(life, &talk, method)
	c := &clientWire{conn: conn, stream: stream, cancel: cancel, dialler: d}
	if !stop() || err != nil {
		c.release()
		return nil, d.reason(ctx, err)
	}
	return c, nil
}

// dialler connects to one address, counts what is read, and keeps the error of
// the network, which gRPC wraps in many words.
type dialler struct {
	meter *meter

	mu   sync.Mutex
	conn net.Conn // the newest
	err  error
	over bool // there shall be no more
}

func (d *dialler) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over && err == nil {
		conn.Close()
		return nil, ErrClosed
	}
	if d.err = err; err != nil {
		return nil, err
	}
	d.conn = &countedConn{Conn: conn, meter: d.meter}
	return d.conn, nil
}

// hangUp closes the connection beneath gRPC, which by itself would wait for a
// peer that does not read.
func (d *dialler) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.conn != nil {
		d.conn.Close()
	}
}

// reason is why no stream could be made.
func (d *dialler) reason(ctx context.Context, err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return errors.New("cannot be reached in time")
	case d.err != nil:
		return d.err
	}
	return plain(err)
}

// receive receives one message.
func receive(s interface{ RecvMsg(any) error }) ([]byte, error) {
	var b []byte
	err := s.RecvMsg(&b)
	return b, plain(err)
}

// plain is gRPC's error without its code, and io.EOF as it is.
func plain(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return errors.New(status.Convert(err).Message())
}

// rawCodec hands our bytes through gRPC: it sends the pooled buffer as it is, which
// goes back to the pool when gRPC has written it, and copies what was received
// into one piece of fresh memory.
type rawCodec struct{}

func (rawCodec) Name() string { return "tanodb" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("cannot send a %T", v)
	}
	return mem.BufferSlice{mem.NewBuffer(b, buffers)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("cannot receive a %T", v)
	}
	*b = data.Materialize()
	return nil
}

// countingListener accepts connections whose bytes are counted, up to a limit
// at a time. More are closed at once.
type countingListener struct {
	net.Listener
	limit int64
	open  atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > l.limit {
			l.open.Add(-1)
			c.Close()
			continue
		}
		return &countedConn{Conn: c, meter: newMeter(maxPrelude), closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
	}
}

// meter counts bytes up to a limit.
type meter struct{ count, limit atomic.Uint64 }

func newMeter(limit uint64) *meter {
	m := new(meter)
	m.limit.Store(limit)
	return m
}

var errTooMuch = errors.New("more came than this connection may bring")

// countedConn counts the bytes that are read, so that a peer is known to be
// there while a large message arrives, and that one who is not known can bring
// only few.
type countedConn struct {
	net.Conn
	meter  *meter
	closed func() // nil: nobody needs to know
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.meter.count.Add(uint64(n)) > c.meter.limit.Load() {
		return 0, errTooMuch
	}
	return n, err
}

func (c *countedConn) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}

// RemoteAddr carries the meter to where gRPC shows no more than an address.
func (c *countedConn) RemoteAddr() net.Addr {
	return &countedAddr{Addr: c.Conn.RemoteAddr(), meter: c.meter}
}

type countedAddr struct {
	net.Addr
	meter *meter
}

package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxHeaderBytes is how many bytes the head of a request may have: a value's metadata
// at its limit, and room for the path.
const maxHeaderBytes = 2 << 20

// Server serves a handler on listeners, within the limits of its options.
type Server struct {
	http http.Server
	o    Options
	max  int64
	open atomic.Int64 // connections. Invariant: 0 <= open <= max

	registry   *prometheus.Registry
	connects   prometheus.Counter
	turnedAway prometheus.Counter
}

// NewServer makes a server of a handler: that of New, or one around it.
func NewServer(handler http.Handler, o Options) *Server {
	o.ensureDefaults()
	s := &Server{o: o, max: int64(o.MaxConnections), registry: prometheus.NewRegistry()}
	s.measure()
	s.http = http.Server{
		Handler:           s.hurry(handler),
		ReadHeaderTimeout: o.HeaderTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	return s
}

// measure makes the metrics of connections.
func (s *Server) measure() {
	s.connects = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_http_connects_total", Help: "Connections of HTTP clients that were accepted."})
	s.turnedAway = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_http_turned_away_total", Help: "Connections of HTTP clients that were refused, since there were too many."})
	s.registry.MustRegister(s.connects, s.turnedAway, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tanodb_http_connections", Help: "HTTP clients that are connected."},
		func() float64 { return float64(s.open.Load()) }))
}

// Metrics are the server's Prometheus metrics.
func (s *Server) Metrics() prometheus.Gatherer { return s.registry }

// hurry gives each body a time to come, also one that the handler does not want: what is
// left of it is read before the answer is sent.
func (s *Server) hurry(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// A connection without deadlines, as in tests, has no slow clients either.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.o.allowance(r.ContentLength)))
		}
		if s.revoked(w, r) {
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// revoked refuses a request, and ends its connection, if the certificate that the client has
// shown when it was made is no longer good.
func (s *Server) revoked(w http.ResponseWriter, r *http.Request) bool {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || s.o.TLS == nil || s.o.TLS.VerifyConnection == nil {
		return false
	}
	err := s.o.TLS.VerifyConnection(*r.TLS)
	if err == nil {
		return false
	}
	s.o.Logger.Warn("a connection is ended", "from", r.RemoteAddr, "why", err)
	w.Header()["Connection"] = []string{"close"}
	writeText(w, http.StatusUnauthorized, textLogin)
	return true
}

// Serve accepts connections until Shutdown, and returns nil then.
func (s *Server) Serve(l net.Listener) error {
	var within net.Listener = &listener{Listener: l, server: s}
	if s.o.TLS != nil {
		within = tls.NewListener(within, s.o.TLS)
	}
	err := s.http.Serve(within)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and waits until the requests in progress are
// answered. When the context ends first, they are cut off, and the context's
// error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// listener hands out connections that keep to the limits.
type listener struct {
	net.Listener
	server *Server
}

// Accept waits for a connection that there is room for. Others are told so.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.server.open.Add(1) <= l.server.max {
			l.server.connects.Inc()
			return &conn{Conn: c, server: l.server}, nil
		}
		l.server.open.Add(-1)
		l.server.turnedAway.Inc()
		turnAway(c)
	}
}

// turnAway tells a client that there are too many. The few bytes fit into the
// buffer of a new connection, so that this does not block.
func turnAway(c net.Conn) {
	const answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 31\r\nConnection: close\r\nRetry-After: 1\r\n\r\noverload: too many connections\n"
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(answer))
	_ = c.Close()
}

// conn is a connection whose peer must take what it is sent.
type conn struct {
	net.Conn
	server *Server
	once   sync.Once
}

// Write gives the peer a time to take the bytes, as long as they are many.
func (c *conn) Write(b []byte) (int, error) {
	patience := c.server.o.patience(c.server.o.WriteGrace, int64(len(b)))
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite ends what the peer reads, so that it sees the end of an answer
// before the connection is closed on what it still sends.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close makes room for another connection.
func (c *conn) Close() error {
	c.once.Do(func() { c.server.open.Add(-1) })
	return c.Conn.Close()
}

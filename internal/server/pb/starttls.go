package pb

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// firstOfTLS is the first byte of a connection that begins with TLS. As a frame's first
// byte it would announce one that is larger than any.
const firstOfTLS = 0x16

// startTLS answers STARTTLS; what follows it is TLS. Bytes that came with it and before
// the answer are no part of that: somebody on the way may have put them there.
func (c *conn) startTLS(*request) error {
	switch {
	case c.server.o.TLS == nil:
		return wireError(noSecurity)
	case c.tls != nil:
		return wireError("the connection is secure already")
	case c.at != c.end:
		c.broken = errors.New("bytes after STARTTLS")
		return c.broken
	}
	c.out.empty(riakpb.StartTLS)
	c.starting = true
	return nil
}

// secure makes the connection one of TLS. First are bytes of it that have been read.
func (c *conn) secure(first []byte) error {
	o := &c.server.o
	under := &begun{Conn: c.net, first: first}
	s := tls.Server(under, o.TLS)
	ctx, cancel := context.WithTimeout(c.server.requests, o.patience(o.ReadGrace, smallFrame))
	defer cancel()
	c.readBy, c.writeBy = time.Time{}, time.Time{}
	if err := s.HandshakeContext(ctx); err != nil {
		c.server.metrics.badFrames.Inc()
		c.server.audit.Refused(c.raw.RemoteAddr().String(), "a client could not begin TLS", "error", err)
		return errors.Join(errEnded, err)
	}
	c.net, c.tls, c.starting = s, s, false
	if state := s.ConnectionState(); len(state.PeerCertificates) > 0 {
		c.shown = &state
	}
	return nil
}

// stillGood asks whether a client with the certificate of this one would still be let in.
func (c *conn) stillGood() error {
	verify := c.server.o.TLS.VerifyConnection
	if c.shown == nil || verify == nil {
		return nil
	}
	err := verify(*c.shown)
	if err != nil {
		c.server.o.Logger.Warn("a connection is ended", "from", c.raw.RemoteAddr().String(), "why", err)
	}
	return err
}

// begun is a connection of which the first bytes have been read.
type begun struct {
	net.Conn
	first []byte
}

// Read gives those first.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}

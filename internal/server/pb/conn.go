package pb

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// headSize is the length and the code of a frame.
const headSize = riakpb.LengthSize + 1

// conn is a client's connection. Only its own goroutine uses it, but for state.
type conn struct {
	raw      net.Conn             // what the client has connected to; others close it
	net      net.Conn             // the same, or TLS over it
	tls      *tls.Conn            // nil: the connection is plain
	shown    *tls.ConnectionState // with the client's certificate; nil: it has shown none
	server   *Server
	starting bool   // STARTTLS was answered: TLS comes next
	out      *frame // what is answered; nil between two requests

	user    *tanodb.User    // nil: nobody
	named   context.Context // what the user asks is done with it
	tries   int             // logins that have failed
	last    bool            // the connection ends after the answer
	strange time.Time       // since when it may ask for nothing but to be let in; zero: it may

	state    atomic.Int32
	small    [smallFrame]byte
	at, end  int       // the unread bytes of small
	readBy   time.Time // the deadline for reading that is set; zero: none
	writeBy  time.Time // the same for writing
	broken   error     // of a write: a part of a frame may have gone, and no other may follow it
	clientID []byte
	req      request         // the one that is served
	traced   context.Context // of req; nil: it is not recorded

	// The names of the last request: the next one is mostly about the same
	// bucket, and then they need no memory of their own.
	bucket, bucketType string
}

// The states of a connection.
const (
	serving int32 = iota // a request, or a part of one, has come
	idle
	closed // by Shutdown
)

// request is a frame that has come.
type request struct {
	code riakpb.Code
	body []byte // valid until the next frame is read, if it is not owned
	held int    // bytes that are reserved for the body; above 0: it is owned

	admitted bool // the connection may make it
}

// The ends of a connection that need no answer, or have one of their own.
var (
	errEnded = errors.New("the client has hung up, or is too slow")
	errStop  = errors.New("the server is shutting down")
)

// badFrame is a frame that cannot be served. Its text is the answer.
type badFrame struct {
	text string
	last bool // the connection cannot go on after it
}

func (e *badFrame) Error() string { return e.text }

// run serves requests until the connection ends.
func (c *conn) run() {
	defer c.server.ended(c)
	defer c.raw.Close()
	for {
		if c.starting {
			if err := c.secure(nil); err != nil {
				return
			}
		}
		var err error
		if c.req, err = c.next(); err != nil {
			if !c.refuse(err) {
				return
			}
			continue
		}
		again := c.answer(&c.req)
		c.server.frames.Add(-int64(c.req.held))
		c.req = request{} // its body may be large
		if !again {
			return
		}
	}
}

// refuse answers a frame that cannot be served; false: the connection ends.
func (c *conn) refuse(err error) bool {
	var bad *badFrame
	if !errors.As(err, &bad) {
		return false
	}
	c.server.metrics.badFrames.Inc()
	c.out = c.server.buffer()
	c.out.fail(bad.text)
	sent := c.flush()
	c.server.release(c.out)
	c.out = nil
	if sent == nil && bad.last {
		c.part()
	}
	return sent == nil && !bad.last
}

// part ends a connection on which there may be bytes that nobody will read, so
// that the client still sees the answer: it is told that no more will come, and
// has a moment to hang up.
func (c *conn) part() {
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	const moment = time.Second
	_ = c.net.SetReadDeadline(time.Now().Add(moment))
	_, _ = io.Copy(io.Discard, io.LimitReader(c.net, firstRead))
}

// answer serves a request and answers it; false: the connection ends.
func (c *conn) answer(r *request) (again bool) {
	c.out = c.server.buffer()
	defer func() {
		c.server.release(c.out)
		c.out = nil
	}()
	ended := func(bool) {}
	if c.server.tracer != nil {
		ended = c.trace(r)
	}
	failed, fatal := c.handle(r)
	ended(failed)
	c.server.metrics.answered(r.code, failed)
	c.audited(r, failed)
	if err := c.flush(); err != nil {
		return false
	}
	return !fatal && !c.last
}

// handle has a request served. What fails is the answer as well; after a panic
// the connection ends, as Riak's does after a crash.
func (c *conn) handle(r *request) (failed, fatal bool) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		c.server.metrics.panics.Inc()
		c.server.o.Logger.Error("a request has panicked", "code", int(r.code), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		c.out.reset()
		c.out.fail("Error processing incoming message: internal error")
		failed, fatal = true, true
	}()
	if err := serve(c, r); err != nil {
		c.out.abandon()
		c.out.failWith(err)
		return true, false
	}
	return false, false
}

// flush writes what there is to answer.
func (c *conn) flush() error {
	if len(c.out.b) == 0 || c.broken != nil {
		return c.broken
	}
	o := &c.server.o
	patience := o.patience(o.WriteGrace, c.out.size())
	// A deadline costs more than the write of a small answer: it is set to
	// twice the patience, and again when only one is left.
	if now := time.Now(); c.writeBy.Before(now.Add(patience)) {
		c.writeBy = now.Add(2 * patience)
		if err := c.net.SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	c.broken = c.out.writeTo(c.net)
	c.out.reset()
	return c.broken
}

// next waits for a request and reads it.
func (c *conn) next() (request, error) {
	if c.server.stopping.Load() {
		return request{}, errStop
	}
	why := c.barred()
	if err := c.linger(why); err != nil {
		return request{}, err
	}
	if c.at == c.end {
		if err := c.wait(c.patience(why)); err != nil {
			return request{}, err
		}
		why = c.barred() // it may have become one of TLS, and security may have been enabled
	}
	if err := c.fill(riakpb.LengthSize, 0); err != nil {
		return request{}, err
	}
	n := int64(binary.BigEndian.Uint32(c.small[c.at:])) // of the code and the body
	switch {
	case n == 0:
		return request{}, &badFrame{"Invalid message packet, reason: it is empty", true}
	case n > maxSkip:
		return request{}, &badFrame{tooLarge(n), true}
	case n > strangerFrame && why != nil:
		return request{}, &badFrame{why.Error(), true}
	}
	size := riakpb.LengthSize + int(n)
	if n > maxFrame {
		return request{}, c.skip(size, tooLarge(n))
	}
	if size > len(c.small) {
		return c.large(size)
	}
	if err := c.fill(size, size); err != nil {
		return request{}, err
	}
	f := c.small[c.at : c.at+size]
	c.at += size
	return request{code: riakpb.Code(f[riakpb.LengthSize]), body: f[headSize:]}, nil
}

// wait waits for the first bytes of a frame, as long as the connection may be idle.
func (c *conn) wait(patience time.Duration) error {
	c.at, c.end = 0, 0
	now := time.Now()
	if left := c.readBy.Sub(now); left < patience-patience/idlePart || left > patience {
		c.readBy = now.Add(patience)
		if err := c.net.SetReadDeadline(c.readBy); err != nil {
			return err
		}
	}
	c.state.Store(idle)
	if c.server.stopping.Load() {
		return errStop // Shutdown may have looked at the connection before it was idle
	}
	n, err := c.net.Read(c.small[:])
	c.end = n
	if !c.state.CompareAndSwap(idle, serving) {
		return errStop
	}
	if n == 0 {
		return errors.Join(errEnded, err)
	}
	if c.small[0] != firstOfTLS || c.tls != nil || c.server.o.TLS == nil {
		return nil
	}
	c.at, c.end = 0, 0
	if err := c.secure(bytes.Clone(c.small[:n])); err != nil {
		return err
	}
	return c.wait(patience)
}

// closeIdle closes the connection if it has no request.
func (c *conn) closeIdle() {
	if c.state.CompareAndSwap(idle, closed) {
		_ = c.raw.Close()
	}
}

// fill has at least n unread bytes in the small buffer. Size is that of the
// whole frame, as far as it is known.
func (c *conn) fill(n, size int) error {
	if c.end-c.at >= n {
		return nil
	}
	if c.at > 0 {
		c.end = copy(c.small[:], c.small[c.at:c.end])
		c.at = 0
	}
	if err := c.hurry(size); err != nil {
		return err
	}
	m, err := io.ReadAtLeast(c.net, c.small[c.end:], n-c.end)
	c.end += m
	if err != nil {
		return errors.Join(errEnded, err)
	}
	return nil
}

// hurry sets the deadline for the rest of a frame of this size.
func (c *conn) hurry(size int) error {
	c.readBy = time.Time{} // that of an idle connection is to be set again
	o := &c.server.o
	return c.net.SetReadDeadline(time.Now().Add(o.patience(o.ReadGrace, size)))
}

// large reads a frame that is longer than the small buffer, into memory of its
// own.
func (c *conn) large(size int) (request, error) {
	held := min(size, firstRead)
	if !c.server.reserve(held) {
		return request{}, c.skip(size, "overload")
	}
	b := make([]byte, held)
	have := copy(b, c.small[c.at:c.end])
	c.at, c.end = 0, 0
	if err := c.readFull(b[have:], size); err != nil {
		c.server.frames.Add(-int64(held))
		return request{}, err
	}
	if held < size {
		if !c.server.reserve(size - held) {
			c.server.frames.Add(-int64(held))
			return request{}, c.skip(size-held, "overload")
		}
		b = append(make([]byte, 0, size), b...)[:size]
		err := c.readFull(b[held:], size)
		held = size
		if err != nil {
			c.server.frames.Add(-int64(held))
			return request{}, err
		}
	}
	return request{code: riakpb.Code(b[riakpb.LengthSize]), body: b[headSize:], held: held}, nil
}

// readFull reads a part of a frame of this size.
func (c *conn) readFull(b []byte, size int) error {
	if err := c.hurry(size); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.net, b); err != nil {
		return errors.Join(errEnded, err)
	}
	return nil
}

// skip reads so many bytes of a frame, whose beginning is in the small buffer,
// and throws them away. It returns the refusal of the frame.
func (c *conn) skip(size int, text string) error {
	have := min(c.end-c.at, size)
	c.at += have
	if err := c.hurry(size); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c.net, int64(size-have)); err != nil {
		return errors.Join(errEnded, err)
	}
	return &badFrame{text, false}
}

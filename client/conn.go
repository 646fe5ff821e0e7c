package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// The limits of a connection.
const (
	maxAnswer  = kv.MaxObject + 16<<20 // bytes of an answer: an object at its limit, or a page of keys, and room for the rest
	readBuffer = 4 << 10
)

// frame is an answer.
type frame struct {
	code riakpb.Code
	body []byte
}

// conn is a connection that is used by one request at a time. Its reader is a
// goroutine of its own, which sees at once when the node hangs up, and
// ends the connection when something comes that nobody has asked for: so no late
// answer is taken for that of another request.
type conn struct {
	net     net.Conn
	asked   atomic.Bool // a request waits for its answer
	answers chan frame  // of one; closed by the reader
	why     error       // the connection has ended; to be read once answers is closed
	ended   atomic.Bool // the same, for those who do not wait
	since   time.Time   // when it became idle; guarded by the node's lock
}

// errUnasked ends a connection.
var errUnasked = errors.New("the node sent what was not asked for")

func (k *conn) close() { _ = k.net.Close() }

// read reads answers until the connection ends.
func (k *conn) read() {
	r := bufio.NewReaderSize(k.net, readBuffer)
	for {
		f, err := readFrame(r)
		if err == nil && !k.asked.CompareAndSwap(true, false) {
			err = errUnasked
			if f.code == riakpb.Error {
				err = refusal(f.body)
			}
		}
		if err != nil {
			k.why = err
			k.ended.Store(true)
			k.close()
			close(k.answers)
			return
		}
		k.answers <- f
	}
}

// readFrame reads one answer. Memory grows with what has come, not with what was
// announced.
func readFrame(r *bufio.Reader) (frame, error) {
	var head [riakpb.LengthSize + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n == 0 || n > maxAnswer {
		return frame{}, fmt.Errorf("the node sent a message of %d bytes; the limit is %d", n, maxAnswer)
	}
	f := frame{code: riakpb.Code(head[riakpb.LengthSize])}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, n-1); err != nil {
		return frame{}, errors.Join(io.ErrUnexpectedEOF, err)
	}
	f.body = body.Bytes()
	return f, nil
}

// lost is the end of a request without an answer. Sent: the node may have it.
type lost struct {
	sent bool
	err  error
}

func (e *lost) Error() string { return e.err.Error() }
func (e *lost) Unwrap() error { return e.err }

// ask sends a request and waits for its answer. Once the context has ended, the
// connection has too. After an error of type *lost it must not be used again.
func (k *conn) ask(ctx context.Context, code riakpb.Code, m message) (frame, error) {
	b, err := appendFrame(code, m)
	if err != nil {
		return frame{}, err
	}
	stop := context.AfterFunc(ctx, k.close)
	f, l := k.exchange(b)
	if !stop() { // the end of the context is why, or came just after the answer
		k.ended.Store(true)
		if l != nil {
			l.err = errors.Join(context.Cause(ctx), l.err)
		}
	}
	if l != nil {
		k.ended.Store(true)
		k.close()
		return frame{}, l
	}
	return f, nil
}

func (k *conn) exchange(b []byte) (frame, *lost) {
	k.asked.Store(true)
	if _, err := k.net.Write(b); err != nil {
		// A node serves no request of which it lacks a byte.
		k.close()
		for range k.answers { // the reader knows best why
		}
		return frame{}, &lost{false, errors.Join(err, k.why)}
	}
	f, open := <-k.answers
	if !open {
		return frame{}, &lost{true, k.why}
	}
	return f, nil
}

func appendFrame(code riakpb.Code, m message) ([]byte, error) {
	const head = riakpb.LengthSize + 1
	b := make([]byte, head, head+proto.Size(m))
	b[riakpb.LengthSize] = byte(code)
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-riakpb.LengthSize))
	return b, nil
}

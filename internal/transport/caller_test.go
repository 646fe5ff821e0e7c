package transport

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"
)

// rawCaller is a wire to a node without a mesh behind it, which may say what
// it likes.
type rawCaller struct {
	wire
	mine hello
	rest []byte // frames that have come and were not looked at
}

// caller connects to a node as n3. Change, if not nil, makes its hello
// another.
func caller(t testing.TB, j joiner, to string, change func(*hello)) *rawCaller {
	t.Helper()
	w := &rawCaller{mine: hello{low: lowProtocol, high: highProtocol, from: "n3", to: to}}
	if change != nil {
		change(&w.mine)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch j := j.(type) {
	case *memory:
		w.wire, err = (&memoryWires{net: j.net, self: "n3"}).dial(ctx, to, j.address(to))
	case *tcp:
		w.wire, err = (&grpcWires{creds: insecure.NewCredentials()}).dial(ctx, to, j.address(to))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.release)
	return w
}

// greet exchanges hellos.
func (w *rawCaller) greet() (hello, error) { return exchange(w.wire, &w.mine) }

// send sends a batch of one frame that has waited for some milliseconds.
func (w *rawCaller) send(t testing.TB, waited uint32, f Frame) error {
	t.Helper()
	b := make([]byte, batchHead)
	seal(b, head{waited: time.Duration(waited) * time.Millisecond, epoch: f.Epoch})
	b, err := AppendFrame(b, &f)
	if err != nil {
		t.Fatal(err)
	}
	return w.wire.send(&b)
}

// raw sends any bytes. Whether they arrive is not known.
func (w *rawCaller) raw(b []byte) {
	b = append([]byte(nil), b...)
	w.wire.send(&b)
}

// next is the next frame that comes.
func (w *rawCaller) next(t testing.TB) Frame {
	t.Helper()
	late := time.AfterFunc(patience, w.close)
	defer late.Stop()
	for len(w.rest) == 0 {
		b, err := w.recv()
		if err != nil {
			t.Fatal(err)
		}
		w.rest = b[batchHead:]
	}
	f, rest, err := DecodeFrame(w.rest)
	if err != nil {
		t.Fatal(err)
	}
	w.rest = rest
	return f
}

// ended waits until the node has closed the connection.
func (w *rawCaller) ended(t testing.TB) {
	t.Helper()
	var late error
	timer := time.AfterFunc(patience, func() {
		late = errors.New("the node does not close the connection")
		w.close()
	})
	for {
		if _, err := w.recv(); err != nil {
			break
		}
	}
	if !timer.Stop() && late != nil {
		t.Error(late)
	}
}

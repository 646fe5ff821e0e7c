package httpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tanodb/tanodb/kv"
)

// No test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server on loopback and returns its address.
func serve(t *testing.T, n Node, o Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(New(n, o), o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// raw sends bytes as they are and returns the status line of the answer.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The server may answer and hang up before it has read all.
	go func() { _, _ = io.WriteString(c, request) }()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return strings.TrimSpace(line)
}

// fetchAll gets a body, over a connection of its own.
func fetchAll(url string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestAbuse(t *testing.T) {
	f := newFake()
	addr := serve(t, f, Options{})
	const host = "Host: x\r\nConnection: close\r\n"
	const put = "PUT " + k1 + " HTTP/1.1\r\n" + host + "Content-Type: text/plain\r\n"
	for name, c := range map[string]struct{ request, want string }{
		"no HTTP":               {"\x00\x01\x02\x03\r\n\r\n", "HTTP/1.1 400"},
		"a broken escape":       {"GET /buckets/%zz/keys/k HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 400"},
		"a zero byte in a path": {"GET /buckets/\x00/keys/k HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 400"},
		"an asterisk":           {"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 200"},
		"huge headers":          {"GET /ping HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 3<<20) + "\r\n\r\n", "HTTP/1.1 431"},
		"a huge path":           {"GET /" + strings.Repeat("x", 3<<20) + " HTTP/1.1\r\n" + host + "\r\n", "HTTP/1.1 431"},
		"a huge body":           {put + fmt.Sprintf("Content-Length: %d\r\n\r\n", kv.MaxObject+1), "HTTP/1.1 413"},
		"an absurd body":        {put + "Content-Length: 9223372036854775807\r\n\r\n", "HTTP/1.1 413"},
		"a negative body":       {put + "Content-Length: -1\r\n\r\n", "HTTP/1.1 400"},
		"a smuggled length":     {put + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n1", "HTTP/1.1 400"},
		"a broken chunk":        {put + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400"},
		"no length":             {put + "Transfer-Encoding: chunked\r\n\r\n1\r\n4\r\n1\r\n2\r\n0\r\n\r\n", "HTTP/1.1 204"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := raw(t, addr, c.request); !strings.HasPrefix(got, c.want) {
				t.Errorf("answered %q, want %q", got, c.want)
			}
		})
	}
	obj, err := f.Memory.Get(t.Context(), kv.Key{Bucket: "b", Name: "k1"}, kv.ReadOptions{})
	if err != nil || len(obj.Values) != 1 || string(obj.Values[0].Data) != "42" {
		t.Errorf("k1 holds %v, error %v", obj.Values, err)
	}
}

func TestABodyThatEndsEarlyIsNotWritten(t *testing.T) {
	f := newFake()
	addr := serve(t, f, Options{})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "PUT "+k1+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Fatalf("answered %q, error %v", answer, err)
	}
	if f.writes != 0 {
		t.Fatal("half a value was written")
	}
}

func TestTooManyConnections(t *testing.T) {
	addr := serve(t, newFake(), Options{MaxConnections: 2})
	for range 3 { // room comes back when clients leave
		var held []net.Conn
		for range 2 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
				t.Fatalf("answered %q, error %v", line, err)
			}
		}
		third, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(third)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503") || !strings.HasSuffix(string(answer), "\r\n\r\noverload: too many connections\n") {
			t.Fatalf("answered %q, error %v", answer, err)
		}
		third.Close()
		for _, c := range held {
			hangUp(t, c)
		}
	}
}

// hangUp closes a connection and waits until the server has, too.
func hangUp(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestTooManyBytesOfBodies(t *testing.T) {
	h := New(newFake(), Options{MaxBodies: 100}).(*handler)
	c := &client{t, h}
	c.want(204, "PUT", k1, strings.Repeat("x", 100), plain)
	c.body(c.want(503, "PUT", k1, strings.Repeat("x", 101), plain), "overload: too many bytes of request bodies and lists are in progress\n")
	c.want(204, "PUT", k1, strings.Repeat("x", 100), plain) // all was released
	if n := h.bodies.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

func TestBodiesGrowAsTheyCome(t *testing.T) {
	for _, size := range []int{0, 1, firstRead - 1, firstRead, firstRead + 1, 5 * firstRead} {
		for _, known := range []int64{int64(size), -1} {
			if size == 0 && known == 0 {
				continue // such a body is not read at all
			}
			reserved := int64(0)
			body := strings.Repeat("x", size)
			got, err := readBody(&uneven{strings.NewReader(body)}, known, func(n int64) bool { reserved += n; return true })
			if err != nil || string(got) != body {
				t.Fatalf("%d bytes (%d): %d bytes, error %v", size, known, len(got), err)
			}
			if reserved != int64(cap(got)) {
				t.Errorf("%d bytes (%d): reserved %d, allocated %d", size, known, reserved, cap(got))
			}
			if known > 0 && cap(got) != size {
				t.Errorf("%d bytes (%d): allocated %d", size, known, cap(got))
			}
		}
	}
}

func TestALongBodyGetsItsMemoryOnlyWhenItComes(t *testing.T) {
	reserved := int64(0)
	_, err := readBody(strings.NewReader("little"), kv.MaxObject, func(n int64) bool { reserved += n; return true })
	if err != errBodyShort || reserved != firstRead {
		t.Errorf("error %v, reserved %d bytes", err, reserved)
	}
}

// uneven is a reader that hands out small and uneven pieces.
type uneven struct{ r io.Reader }

func (u *uneven) Read(p []byte) (int, error) { return u.r.Read(p[:(len(p)+1)/2]) }

// pipeListener is a network for the fake time of synctest: it accepts the other
// ends of pipes.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// inFakeTime runs a test with a connection to a server whose clock is fake.
func inFakeTime(t *testing.T, n Node, test func(t *testing.T, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := make(pipeListener)
		s := NewServer(New(n, Options{}), Options{})
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		ours, theirs := net.Pipe()
		l <- theirs
		test(t, ours)
		ours.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	inFakeTime(t, newFake(), func(t *testing.T, c net.Conn) {
		begun := time.Now()
		if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: x\r\n"); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(c)
		if took := time.Since(begun); err != nil || took > defaultHeaderTimeout+time.Second {
			t.Errorf("cut off after %v, error %v", took, err)
		}
	})
}

func TestSlowBodiesAreCutOff(t *testing.T) {
	f := newFake()
	inFakeTime(t, f, func(t *testing.T, c net.Conn) {
		begun := time.Now()
		const size = 10 * defaultSlowest
		if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", k1, size); err != nil {
			t.Fatal(err)
		}
		go func() {
			for range size {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 408") {
			t.Errorf("answered %q, error %v", line, err)
		}
		if took, want := time.Since(begun), defaultReadGrace+10*time.Second; took < want || took > want+time.Second {
			t.Errorf("cut off after %v, want %v", took, want)
		}
	})
	if f.writes != 0 {
		t.Error("half a value was written")
	}
}

func TestABodyThatNobodyWantsHasItsTimeToo(t *testing.T) {
	inFakeTime(t, newFake(), func(t *testing.T, c net.Conn) {
		begun := time.Now()
		if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx"); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(c)
		if took := time.Since(begun); err != nil || took > defaultReadGrace+time.Second {
			t.Errorf("cut off after %v, error %v", took, err)
		}
	})
}

func TestThePatienceWithClientsIsThatOfTheOptions(t *testing.T) {
	o := Options{HeaderTimeout: time.Second, IdleTimeout: 2 * time.Second, ReadGrace: 3 * time.Second, WriteGrace: 4 * time.Second, Slowest: 1000}
	s := NewServer(New(newFake(), o), o)
	if s.http.ReadHeaderTimeout != time.Second || s.http.IdleTimeout != 2*time.Second {
		t.Errorf("headers have %v, idle connections %v", s.http.ReadHeaderTimeout, s.http.IdleTimeout)
	}
	for n, want := range map[int64]time.Duration{0: 3 * time.Second, 500: 3500 * time.Millisecond, 1 << 62: 3*time.Second + kv.MaxObject*time.Millisecond, -1: 3*time.Second + kv.MaxObject*time.Millisecond} {
		if got := s.o.allowance(n); got != want {
			t.Errorf("a body of %d bytes has %v, want %v", n, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		begun := time.Now()
		_, err := (&conn{Conn: theirs, server: s}).Write(make([]byte, 1000))
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != 5*time.Second {
			t.Errorf("an answer that is not taken is given up after %v, error %v", took, err)
		}
	})
}

func TestSlowReadersAreCutOff(t *testing.T) {
	f := newFake()
	if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: "k1"}, kv.Value{Data: make([]byte, 1<<20)}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	inFakeTime(t, f, func(t *testing.T, c net.Conn) {
		if _, err := io.WriteString(c, "GET "+k1+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultWriteGrace + 2*time.Duration(1<<20)*time.Second/defaultSlowest)
		got, err := io.ReadAll(c)
		if err != nil || len(got) >= 1<<20 {
			t.Errorf("%d bytes came, error %v", len(got), err)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inFakeTime(t, newFake(), func(t *testing.T, c net.Conn) {
		if _, err := io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < defaultIdleTimeout || took > defaultIdleTimeout+time.Second {
			t.Errorf("closed after %v, want %v", took, defaultIdleTimeout)
		}
	})
}

func TestShutdownGivesUpAtItsDeadline(t *testing.T) {
	entered := make(chan struct{})
	stuck := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(stuck, Options{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	go func() { _, _ = fetchAll("http://" + l.Addr().String()) }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("a request is stuck, and the shutdown was in order")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestKeepAliveSurvivesABody(t *testing.T) {
	// The deadline of a body must not outlive it.
	inFakeTime(t, newFake(), func(t *testing.T, c net.Conn) {
		r := bufio.NewReader(c)
		for range 3 {
			if _, err := io.WriteString(c, "PUT "+k1+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n1"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != http.StatusNoContent {
				t.Fatalf("answered %v, error %v", resp, err)
			}
			time.Sleep(defaultReadGrace + 5*time.Second)
		}
	})
}

func TestAConnectionIsCountedOnce(t *testing.T) {
	s := NewServer(http.NotFoundHandler(), Options{})
	l := make(pipeListener, 1)
	ours, theirs := net.Pipe()
	defer ours.Close()
	l <- theirs
	c, err := (&listener{Listener: l, server: s}).Accept()
	if err != nil || s.open.Load() != 1 {
		t.Fatalf("%d connections, error %v", s.open.Load(), err)
	}
	c.Close()
	c.Close()
	if s.open.Load() != 0 {
		t.Fatalf("%d connections after closing one twice", s.open.Load())
	}
}

// onePipe is a listener with one connection, whose client sends a text, reads
// all answers and leaves.
type onePipe struct {
	pipeListener
	left chan struct{}
}

func newPipe(request string) *onePipe {
	p := &onePipe{make(pipeListener, 1), make(chan struct{})}
	ours, theirs := net.Pipe()
	p.pipeListener <- theirs
	go func() {
		defer close(p.left)
		sent := make(chan struct{})
		go func() {
			// The server may hang up before it has read all.
			_, _ = io.WriteString(ours, request)
			close(sent)
		}()
		go func() {
			<-sent
			ours.Close()
		}()
		_, _ = io.Copy(io.Discard, ours)
		ours.Close()
		<-sent
	}()
	return p
}

// waitClosed waits until the client has left.
func (p *onePipe) waitClosed() { <-p.left }

package pb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	const many = 300
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		var all []byte
		for i := range many {
			p := putOf(fmt.Sprint(i), strings.Repeat("x", 7*i)) // small and large frames, and all that is between
			all = append(all, frameOf(t, riakpb.PutReq, p)...)
			all = append(all, frameOf(t, riakpb.GetReq, getOf(fmt.Sprint(i)))...)
		}
		_, _ = c.Write(all)
	}()
	for i := range many {
		c.await(riakpb.PutResp, &riakpb.RpbPutResp{})
		var r riakpb.RpbGetResp
		c.await(riakpb.GetResp, &r)
		if len(r.Content) != 1 || len(r.Content[0].Value) != 7*i {
			t.Fatalf("answer %d: %v", i, r.Content)
		}
	}
	<-sent
}

func TestFramesInPieces(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	for _, size := range []int{1, 470, 600, 5000} {
		put := frameOf(t, riakpb.PutReq, putOf(fmt.Sprint(size), strings.Repeat("x", size)))
		step := max(1, size/100)
		for len(put) > 0 {
			n := min(step, len(put))
			c.send(put[:n])
			put = put[n:]
		}
		c.await(riakpb.PutResp, &riakpb.RpbPutResp{})
		var r riakpb.RpbGetResp
		c.ask(riakpb.GetReq, getOf(fmt.Sprint(size)), riakpb.GetResp, &r)
		if len(r.Content) != 1 || len(r.Content[0].Value) != size {
			t.Errorf("%d bytes: %v", size, r.Content)
		}
	}
}

func TestMessagesThatAreNone(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	frame := func(code riakpb.Code, body string) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
		return append(append(b, byte(code)), body...)
	}
	for _, tc := range []struct {
		code       riakpb.Code
		body, want string
	}{
		{99 - 10, "", "Unknown message code: 89"},
		{0, "", "Unknown message code: 0"},
		{2, "", "Unknown message code: 2"},
		{254, "", "Unknown message code: 254"},
		{255, "", noSecurity},
		{253, "\n\x01u\x12\x01p", noSecurity},
		{23, "", "Message decoding error: required field tanodb.riakpb.RpbMapRedReq.request not set"},
		{40, "", "message code 40 (cs_bucket): folds over a bucket, which Riak CS makes, are not supported by this server"},
		{92, "", "message code 92 (time_series): time series, another product than Riak KV, are not supported by this server"},
		{231, "", "message code 231 (aae_fold): folds over anti-entropy trees are not supported by this server"},
		{riakpb.GetReq, "\xff\xff\xff\xff", "Message decoding error: unexpected EOF"},
		{riakpb.GetReq, "\n\x05b", "Message decoding error: unexpected EOF"},
		{riakpb.GetReq, "\x00\x01", "Message decoding error: invalid field number"},
		{riakpb.GetReq, "", "Message decoding error: the key is missing"},
		{riakpb.GetReq, "\x12\x01k", "Message decoding error: the bucket is missing"},
		{riakpb.PutReq, "\n\x01b\x12\x01k", "Message decoding error: the content has no value"},
		{riakpb.PutReq, "\n\x01b\x12\x01k\"\x00", "Message decoding error: the content has no value"},
		{riakpb.PutReq, "\n\x01b\"\x04J\x02\x12\x00", "Message decoding error: a pair has no key"},
	} {
		c.send(frame(tc.code, tc.body))
		c.awaitError(tc.want)
	}
	c.send(frame(riakpb.DelReq, "junk"))
	var e riakpb.RpbErrorResp
	c.await(riakpb.Error, &e)
	if !strings.HasPrefix(string(e.Errmsg), "Message decoding error: ") {
		t.Errorf("a delete that is none: %q", e.Errmsg)
	}
	c.alive() // the frames were sound
}

func TestFramesThatAreNone(t *testing.T) {
	for name, tc := range map[string]struct {
		sent, want string
		ends       bool
	}{
		"empty":      {"\x00\x00\x00\x00", "Invalid message packet, reason: it is empty", true},
		"HTTP":       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "{too_large,1195725856}", true},
		"TLS":        {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", "{too_large,369295616}", true},
		"the widest": {"\xff\xff\xff\xff" + strings.Repeat("\xff", 600), "{too_large,4294967295}", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, &fake{}, Options{})
			c.send([]byte(tc.sent))
			c.awaitError(tc.want)
			c.ended()
		})
	}
}

func TestAFrameThatIsTooLargeIsPassedOver(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	const n = maxFrame + 1
	c.send(binary.BigEndian.AppendUint32(nil, n))
	piece := make([]byte, 1<<20)
	for left := n; left > 0; left -= len(piece) {
		piece = piece[:min(left, len(piece))]
		c.send(piece)
	}
	c.awaitError(fmt.Sprintf("{too_large,%d}", n))
	c.alive()
}

func TestTooManyBytesOfRequests(t *testing.T) {
	const most = 3 << 20
	s, addr := serveOn(t, &fake{}, Options{MaxFrames: most})
	c := connect(t, addr)
	c.ask(riakpb.PutReq, putOf("a", strings.Repeat("x", most-100)), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.fails(riakpb.PutReq, putOf("b", strings.Repeat("x", most)), "overload")
	if !s.reserve(most - firstRead + 1) {
		t.Fatal("all was released, and nothing can be reserved")
	}
	c.fails(riakpb.PutReq, putOf("c", strings.Repeat("x", firstRead)), "overload")
	c.ask(riakpb.PutReq, putOf("d", "small ones are always taken"), riakpb.PutResp, &riakpb.RpbPutResp{})
	s.frames.Add(-(most - firstRead + 1))
	c.ask(riakpb.PutReq, putOf("e", strings.Repeat("x", most-100)), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.alive()
	if n := s.frames.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

func TestHalfAFrameIsNotWritten(t *testing.T) {
	for _, size := range []int{100, 2000, 2 * firstRead} {
		f := &fake{}
		s, addr := serveOn(t, f, Options{})
		c := connect(t, addr)
		put := frameOf(t, riakpb.PutReq, putOf("k", strings.Repeat("x", size)))
		c.send(put[:len(put)-1])
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.ended()
		if f.writes != 0 || s.frames.Load() != 0 {
			t.Errorf("%d bytes: %d writes, %d bytes counted", size, f.writes, s.frames.Load())
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	s, addr := serveOn(t, &fake{}, Options{MaxConnections: 2})
	for range 3 { // room comes back when clients leave
		a, b := connect(t, addr), connect(t, addr)
		a.alive()
		b.alive()
		third := connect(t, addr)
		third.awaitError("overload")
		third.ended()
		for _, c := range []*client{a, b} {
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.ended()
		}
		waitFor(t, func() bool { return s.connections() == 0 })
	}
	if n := count(t, s.metrics.turnedAway); n != 3 {
		t.Errorf("%v connections are counted as turned away", n)
	}
}

// waitFor waits until something is so that no event tells.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for !so() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("it does not come")
		}
	}
}

func TestAPanicEndsOneConnection(t *testing.T) {
	f := &fake{boom: true}
	s, addr := serveOn(t, f, Options{})
	c, other := connect(t, addr), connect(t, addr)
	c.fails(riakpb.GetReq, getOf("k"), "Error processing incoming message: internal error")
	c.ended()
	other.alive()
	if n := count(t, s.metrics.panics); n != 1 {
		t.Errorf("%v panics are counted", n)
	}
}

// count is how far a counter has come.
func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestMetrics(t *testing.T) {
	f := &fake{}
	s, addr := serveOn(t, f, Options{})
	c := connect(t, addr)
	c.alive()
	c.fails(riakpb.GetReq, getOf(""), "Key cannot be zero-length")
	c.fails(77, nil, "Unknown message code: 77")
	for name, tc := range map[string]struct{ got, want float64 }{
		"pings":       {count(t, s.metrics.requests[riakpb.PingReq].ok), 1},
		"failed gets": {count(t, s.metrics.requests[riakpb.GetReq].failed), 1},
		"unknown":     {count(t, s.metrics.requests[77].failed), 1},
		"connects":    {count(t, s.metrics.connects), 1},
		"connections": {float64(s.connections()), 1},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", name, tc.got, tc.want)
		}
	}
	all, err := s.Metrics().Gather()
	if err != nil || len(all) != 7 {
		t.Errorf("%d metrics, error %v", len(all), err)
	}
}

// begin starts a server on a listener of the test's own.
func begin(t *testing.T, n Node) (s *Server, addr string, served <-chan error) {
	t.Helper()
	return beginWith(t, n, Options{})
}

func beginWith(t *testing.T, n Node, o Options) (s *Server, addr string, served <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = NewServer(n, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return s, l.Addr().String(), done
}

func TestShutdownLetsRequestsEnd(t *testing.T) {
	f := &fake{block: make(chan struct{}), entered: make(chan struct{}, 1)}
	s, addr, served := begin(t, f)
	quiet, busy := connect(t, addr), connect(t, addr)
	quiet.alive()
	busy.send(frameOf(t, riakpb.GetReq, getOf("k")))
	busy.send(frameOf(t, riakpb.PingReq, nil)) // that comes too late
	<-f.entered
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	quiet.ended()
	if err := <-served; err != nil {
		t.Error(err)
	}
	close(f.block)
	busy.await(riakpb.GetResp, &riakpb.RpbGetResp{})
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it still accepts")
	}
}

func TestShutdownGivesUpAtItsDeadline(t *testing.T) {
	f := &fake{block: make(chan struct{}), entered: make(chan struct{}, 1)}
	s, addr, served := begin(t, f)
	c := connect(t, addr)
	c.send(frameOf(t, riakpb.GetReq, getOf("k")))
	<-f.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if s.connections() != 0 {
		t.Errorf("%d connections are left", s.connections())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Errorf("serving after the shutdown: %v", err)
	}
}

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
func inFakeTime(t *testing.T, n Node, test func(t *testing.T, c *client)) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := inBubble(t, n, Options{})
		test(t, c)
		stop()
	})
}

// inBubble starts a server and connects to it, in a bubble of synctest.
func inBubble(t *testing.T, n Node, o Options) (c *client, stop func()) {
	l := make(pipeListener)
	s := NewServer(n, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	ours, theirs := net.Pipe()
	l <- theirs
	return &client{TB: t, Conn: ours, server: s}, func() {
		ours.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := s.frames.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inFakeTime(t, &fake{}, func(t *testing.T, c *client) {
		for range 5 {
			c.alive()
			time.Sleep(defaultIdleTimeout - 2*defaultIdleTimeout/idlePart)
		}
		c.alive()
		begun := time.Now()
		c.ended()
		if took := time.Since(begun); took < defaultIdleTimeout-defaultIdleTimeout/idlePart || took > defaultIdleTimeout {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestSlowFramesAreCutOff(t *testing.T) {
	for name, size := range map[string]int{"small": 100, "large": 10 * defaultSlowest} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			inFakeTime(t, f, func(t *testing.T, c *client) {
				begun := time.Now()
				put := frameOf(t, riakpb.PutReq, putOf("k", strings.Repeat("x", size)))
				left := make(chan struct{})
				go func() {
					defer close(left)
					for i := range put {
						if _, err := c.Write(put[i : i+1]); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				}()
				c.ended()
				defer func() { <-left }()
				// The size is known from the fifth byte on.
				least, most := defaultReadGrace, 5*time.Second+defaultReadGrace+time.Duration(size+200)*time.Second/defaultSlowest
				if took := time.Since(begun); took < least || took > most {
					t.Errorf("cut off after %v, want %v to %v", took, least, most)
				}
			})
			if f.writes != 0 {
				t.Error("half a value was written")
			}
		})
	}
}

func TestAFrameMayBeSlowAndTheNextLate(t *testing.T) {
	// The deadline of a frame must not outlive it.
	inFakeTime(t, &fake{}, func(t *testing.T, c *client) {
		for range 3 {
			put := frameOf(t, riakpb.PutReq, putOf("k", strings.Repeat("x", 1000)))
			for _, piece := range [][]byte{put[:3], put[3:200], put[200:]} {
				c.send(piece)
				time.Sleep(defaultReadGrace / 4)
			}
			c.await(riakpb.PutResp, &riakpb.RpbPutResp{})
			time.Sleep(4 * defaultReadGrace)
		}
	})
}

func TestSlowReadersAreCutOff(t *testing.T) {
	f := &fake{}
	if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{Data: make([]byte, 1<<20)}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	inFakeTime(t, f, func(t *testing.T, c *client) {
		c.send(frameOf(t, riakpb.GetReq, getOf("k")))
		time.Sleep(2*(defaultWriteGrace+(1<<20+1000)*time.Second/defaultSlowest) + time.Second)
		got, err := io.ReadAll(c)
		if err != nil || len(got) >= 1<<20 {
			t.Errorf("%d bytes came, error %v", len(got), err)
		}
	})
}

// A client whose machine is gone says nothing any more, not even that it is gone.
func TestHalfOpenConnectionsAreCutOff(t *testing.T) {
	put := frameOf(t, riakpb.PutReq, putOf("k", strings.Repeat("x", 2*smallFrame)))
	for _, sent := range []int{1, riakpb.LengthSize, headSize, smallFrame, len(put) - 1} {
		f := &fake{}
		inFakeTime(t, f, func(t *testing.T, c *client) {
			c.alive()
			begun := time.Now()
			c.send(put[:sent])
			c.ended()
			if took := time.Since(begun); took < defaultReadGrace || took > 2*defaultReadGrace {
				t.Errorf("%d bytes of a frame: cut off after %v", sent, took)
			}
		})
		if f.writes != 0 {
			t.Errorf("%d bytes of a frame were written", sent)
		}
	}
}

// A client that does not read keeps no shutdown from its end.
func TestShutdownCutsOffWhoDoesNotRead(t *testing.T) {
	f := &fake{}
	if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{Data: make([]byte, 1<<20)}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c, stop := inBubble(t, f, Options{})
		c.send(frameOf(t, riakpb.GetReq, getOf("k")))
		synctest.Wait() // the answer is being written
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := c.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begun); took != time.Second || c.server.connections() != 0 {
			t.Errorf("after %v %d connections are left", took, c.server.connections())
		}
		stop()
	})
}

// A client that sends and does not read has one request served, and the rest of
// what it sends waits with it.
func TestAClientThatDoesNotReadIsNotReadFrom(t *testing.T) {
	f := &fake{}
	inFakeTime(t, f, func(t *testing.T, c *client) {
		put := frameOf(t, riakpb.PutReq, putOf("k", "v"))
		sent := 0
		go func() {
			for {
				if _, err := c.Write(put); err != nil {
					return
				}
				sent++
			}
		}()
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.writes != 1 || sent > 1+smallFrame/len(put) {
			t.Errorf("%d requests are served and %d sent, and none is answered", f.writes, sent)
		}
	})
}

func TestAnswersAreWrittenWhole(t *testing.T) {
	var f frame
	large := bytes.Repeat([]byte("x"), largeValue)
	f.begin(riakpb.GetResp)
	f.bytes(1, large)
	f.abandon() // nothing is left of it
	f.begin(riakpb.GetResp)
	f.bytes(2, []byte("a"))
	f.bytes(1, large)
	f.bytes(2, []byte("b"))
	f.end()
	f.begin(riakpb.PutResp)
	f.bytes(1, large)
	f.end()
	f.begin(riakpb.PutResp)
	f.bytes(1, large)
	f.abandon()
	field := "\x0a\x80\x80\x01" + string(large)
	one := "\x12\x01a" + field + "\x12\x01b"
	want := string(binary.BigEndian.AppendUint32(nil, uint32(1+len(one)))) + "\x0a" + one +
		string(binary.BigEndian.AppendUint32(nil, uint32(1+len(field)))) + "\x0c" + field
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		if err := f.writeTo(theirs); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(ours)
	if err != nil || string(got) != want || f.size() != len(want) {
		t.Errorf("%d bytes of %d are written, or others; size %d, error %v", len(got), len(want), f.size(), err)
	}
}

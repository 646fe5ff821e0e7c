package transport

import (
	"io"
	"net"
	"strings"
	"testing"
)

// A port that accepts and says nothing, as that of a stopped process, is
// given up in time.
func TestStoppedProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRecorder(silent)
	member(t, &tcp{addresses: map[string]string{"n2": l.Addr().String()}}, "n1", Config{Timing: quick, Handler: r})
	if err := r.awaitRefused(t, "n2"); !strings.Contains(err.Error(), "cannot be reached in time") {
		t.Errorf("refused: %v", err)
	}
}

// A port on which somebody else answers is no node.
func TestAnotherService(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	r := newRecorder(silent)
	member(t, &tcp{addresses: map[string]string{"n2": l.Addr().String()}}, "n1", Config{Timing: quick, Handler: r})
	if err := r.awaitRefused(t, "n2"); !strings.Contains(err.Error(), "node n2 at ") {
		t.Errorf("refused: %v", err)
	}
	l.Close()
	<-over
}

// Whatever comes to the port of a node, the node goes on.
func TestGarbageOnThePort(t *testing.T) {
	j := networks[0].open()
	m := member(t, j, "n1", Config{Timing: quick, Handler: newRecorder(echo)})
	for _, s := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello", strings.Repeat("\xff", 1<<16), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 100)} {
		c, err := net.Dial("tcp", m.Address())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, s)
		c.Close()
	}
	healthy(t, j)
}

// Connections past the limit are closed at once, and there is room again when
// one of the others goes.
func TestConnectionLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countingListener{Listener: inner, limit: 1}
	accepted := make(chan net.Conn, 2)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := dial()
	defer first.Close()
	held := <-accepted
	second := dial()
	defer second.Close()
	if _, err := second.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the second connection: %v", err)
	}
	held.Close()
	held.Close() // counts once
	third := dial()
	defer third.Close()
	c := <-accepted
	c.Close()
	l.Close()
	<-over
	if n := l.open.Load(); n != 0 {
		t.Errorf("%d connections are counted as open", n)
	}
}

// Bytes count as life while a message is still on its way.
func TestReadsAreCounted(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &countedConn{Conn: a, meter: newMeter(5)}
	go func() {
		b.Write([]byte("12345"))
		b.Close()
	}()
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	if n := c.RemoteAddr().(*countedAddr).meter.count.Load(); n != 5 {
		t.Errorf("%d bytes counted", n)
	}
}

// Bytes beyond what a connection may bring end it.
func TestReadsAreLimited(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &countedConn{Conn: a, meter: newMeter(4)}
	go b.Write([]byte("12345"))
	if all, err := io.ReadAll(c); err != errTooMuch || len(all) > 0 {
		t.Errorf("read %q, %v", all, err)
	}
}

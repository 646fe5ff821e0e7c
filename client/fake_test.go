package client_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// server is a node that does what a test says, one function for each frame that
// comes after the greeting.
type server struct {
	t       testing.TB
	address string
	serve   func(c net.Conn, code riakpb.Code) // answers, or does not

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	most  int // connections at once
	codes map[riakpb.Code]int
}

// scripted starts such a node.
func scripted(t testing.TB, serve func(c net.Conn, code riakpb.Code)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, address: l.Addr().String(), serve: serve, conns: map[net.Conn]bool{}, codes: map[riakpb.Code]int{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.most = max(s.most, len(s.conns))
			s.mu.Unlock()
			running.Go(func() { s.run(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

func (s *server) run(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	for {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:]))-1); err != nil {
			return
		}
		code := riakpb.Code(head[4])
		if code == riakpb.RingReq {
			answer(c, riakpb.RingResp, &riakpb.TanoRingResp{Node: []byte(s.address)})
			continue
		}
		s.mu.Lock()
		s.codes[code]++
		s.mu.Unlock()
		s.serve(c, code)
	}
}

// got is how many requests of this code have come.
func (s *server) got(code riakpb.Code) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes[code]
}

// connections is how many there are, and how many there were at once.
func (s *server) connections() (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.most
}

// answer sends one message.
func answer(c net.Conn, code riakpb.Code, m proto.Message) {
	b := []byte{0, 0, 0, 0, byte(code)}
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, _ = c.Write(b)
}

// works answers everything as if it were done; a get finds this value.
func works(value string) func(net.Conn, riakpb.Code) {
	return func(c net.Conn, code riakpb.Code) {
		switch code {
		case riakpb.GetReq:
			answer(c, riakpb.GetResp, &riakpb.RpbGetResp{Content: []*riakpb.RpbContent{{Value: []byte(value)}}})
		case riakpb.PutReq:
			answer(c, riakpb.PutResp, &riakpb.RpbPutResp{})
		case riakpb.DelReq:
			answer(c, riakpb.DelResp, &riakpb.RpbPutResp{})
		case riakpb.ListKeysReq:
			answer(c, riakpb.ListKeysResp, &riakpb.RpbListKeysResp{Keys: [][]byte{[]byte(value)}})
		}
	}
}

// fails answers everything with an error.
func fails(text string, told *riakpb.TanoTold) func(net.Conn, riakpb.Code) {
	return func(c net.Conn, _ riakpb.Code) {
		answer(c, riakpb.Error, &riakpb.RpbErrorResp{Errmsg: []byte(text), Errcode: new(uint32), Told: told})
	}
}

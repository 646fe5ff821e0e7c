package pb

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// The benchmarks compare a request over loopback, with the client in this
// process and of the least that a client can be, with the same one of the node
// itself. What differs is the server, the client and the kernel.

func benchNode(b *testing.B, size int) (*tanodb.Node, kv.Key) {
	b.Helper()
	node, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { node.Close() })
	k := kv.Key{Bucket: "bench", Name: "key-000000042"}
	if _, err := node.Put(b.Context(), k, kv.Value{Data: make([]byte, size), ContentType: "application/octet-stream"}, kv.WriteOptions{W: kv.All}); err != nil {
		b.Fatal(err)
	}
	return node, k
}

func BenchmarkGet(b *testing.B) {
	for name, size := range map[string]int{"1KB": 1 << 10, "1MB": 1 << 20} {
		node, k := benchNode(b, size)
		b.Run("embedded/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := node.Get(b.Context(), k, kv.ReadOptions{Tombstones: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("pb/"+name, func(b *testing.B) {
			exchange(b, node, frameOf(b, riakpb.GetReq, &riakpb.RpbGetReq{Bucket: []byte(k.Bucket), Key: []byte(k.Name)}), riakpb.GetResp)
		})
	}
}

// still is a node that answers at once with the same object, so that only the
// server is measured.
type still struct {
	*fake
	obj kv.Object
}

func (s *still) Get(context.Context, kv.Key, kv.ReadOptions) (kv.Object, error) { return s.obj, nil }

func (s *still) Put(context.Context, kv.Key, kv.Value, kv.WriteOptions) (kv.Receipt, error) {
	return kv.Receipt{}, nil
}

// stillNode is a node whose object three replicas have given, and the get of it as our
// own client sends it.
func stillNode() (*still, *riakpb.RpbGetReq) {
	s := &still{fake: &fake{}, obj: kv.Object{Context: make(kv.Context, 40), Values: []kv.Value{{Data: make([]byte, 1024), ContentType: "application/octet-stream", VTag: "4OC3wNRBjxVkFGDvgX"}}}}
	for i := range 3 {
		s.obj.Replies = append(s.obj.Replies, kv.Reply{Partition: kv.Partition{Index: 10 + i, Of: 64}, Node: "node1", Role: kv.Primary, Result: kv.Found, Elapsed: 300 * time.Microsecond})
	}
	own := getOf("key-000000042")
	own.Ask = &riakpb.TanoAsk{Tombstones: proto.Bool(true)}
	return s, own
}

// sink is a connection on which nobody waits for the kernel.
type sink struct{ net.Conn }

func (sink) Write(b []byte) (int, error)      { return len(b), nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkAnswer is what a request costs in the server itself.
func BenchmarkAnswer(b *testing.B) {
	s, own := stillNode()
	for name, m := range map[string]*riakpb.RpbGetReq{"get": getOf("key-000000042"), "get own": own} {
		b.Run(name, func(b *testing.B) {
			c := &conn{raw: sink{}, net: sink{}, server: NewServer(s, Options{})}
			body := frameOf(b, riakpb.GetReq, m)[headSize:]
			b.ReportAllocs()
			for b.Loop() {
				if !c.answer(&request{code: riakpb.GetReq, body: body}) {
					b.Fatal("the connection has ended")
				}
			}
		})
	}
}

func BenchmarkServer(b *testing.B) {
	s, own := stillNode()
	b.Run("get", func(b *testing.B) { exchange(b, s, frameOf(b, riakpb.GetReq, getOf("key-000000042")), riakpb.GetResp) })
	b.Run("get own", func(b *testing.B) { exchange(b, s, frameOf(b, riakpb.GetReq, own), riakpb.GetResp) })
	b.Run("put", func(b *testing.B) {
		exchange(b, s, frameOf(b, riakpb.PutReq, putOf("key-000000042", string(make([]byte, 1024)))), riakpb.PutResp)
	})
	b.Run("ping", func(b *testing.B) { exchange(b, s, frameOf(b, riakpb.PingReq, nil), riakpb.PingResp) })
}

// exchange sends a frame over and over, and waits for its answer each time.
func exchange(b *testing.B, n Node, frame []byte, want riakpb.Code) {
	b.Helper()
	c := dial(b, n, Options{})
	answer := make([]byte, 2<<20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(frame); err != nil {
			b.Fatal(err)
		}
		have, err := io.ReadAtLeast(c, answer, headSize)
		if err != nil || riakpb.Code(answer[riakpb.LengthSize]) != want {
			b.Fatalf("code %d, error %v", answer[riakpb.LengthSize], err)
		}
		size := riakpb.LengthSize + int(binary.BigEndian.Uint32(answer))
		if _, err := io.ReadFull(c, answer[have:max(have, size)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle measures what a connection that has served a request and waits
// takes of memory: the heap and the stacks of both ends in this process.
func BenchmarkIdle(b *testing.B) {
	const many = 1000
	_, addr := serveOn(b, &still{fake: &fake{}, obj: kv.Object{Values: []kv.Value{{Data: make([]byte, 1024)}}}}, Options{})
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		conns := make([]*client, many)
		for i := range conns {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = &client{TB: b, Conn: nc}
			conns[i].ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &riakpb.RpbGetResp{})
		}
		runtime.GC()
		runtime.GC() // pools and stacks shrink by and by
		runtime.ReadMemStats(&after)
		held := int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)
		b.ReportMetric(float64(held)/many, "B/connection")
		for _, c := range conns {
			c.Close()
		}
	}
}

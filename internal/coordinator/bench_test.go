package coordinator

import (
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// BenchmarkPut is a whole write of 1 KB with N=3 and W=2, without the network
// and the vnodes.
func BenchmarkPut(b *testing.B) {
	v := calm(b, "n1")
	value := kv.Value{Data: make([]byte, 1024)}
	sibling := object.Sibling{Dot: object.Dot{Counter: 1}, Body: object.AppendBody(nil, &value)}
	minted := &vnode.Minted{Object: object.Write(object.Object{}, nil, sibling).Encode()}
	var out []Effect
	b.ReportAllocs()
	for b.Loop() {
		p := NewPut(v, PutRequest{Key: k1, Value: value})
		out = p.Step(0, Start{}, out[:0])
		out = p.Step(1, Replied{I: p.at, Msg: minted}, out[:0])
		out = p.Step(2, Replied{I: p.at, Msg: &vnode.Stored{}}, out[:0])
		out = p.Step(3, Replied{I: (p.at + 1) % 3, Msg: &vnode.Stored{}}, out[:0])
		if _, err := p.Result(); !p.Done() || err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGet is a whole read of 1 KB with N=3 and R=2 of replicas that agree.
func BenchmarkGet(b *testing.B) {
	v := calm(b, "n1")
	sibling := object.Sibling{Dot: object.Dot{Counter: 1}, Body: object.AppendBody(nil, &kv.Value{Data: make([]byte, 1024)})}
	fetched := &vnode.Fetched{Object: object.Write(object.Object{}, nil, sibling).Encode()}
	var out []Effect
	b.ReportAllocs()
	for b.Loop() {
		g := NewGet(v, GetRequest{Key: k1})
		out = g.Step(0, Start{}, out[:0])
		for i := range 3 {
			out = g.Step(1, Replied{I: i, Msg: fetched}, out[:0])
		}
		if _, err := g.Result(); !g.Done() || err != nil {
			b.Fatal(err)
		}
	}
}

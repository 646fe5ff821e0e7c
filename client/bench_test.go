package client_test

import (
	"testing"

	"github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/kv"
)

// BenchmarkGet reads a value of a kilobyte from three nodes in this process: in
// the process, and over loopback.
func BenchmarkGet(b *testing.B) {
	nodes, addresses, _ := cluster(b, 3)
	c := open(b, client.Options{Addresses: addresses})
	c.Look()
	if _, err := c.Put(b.Context(), key, kv.Value{Data: make([]byte, 1<<10)}, kv.WriteOptions{W: kv.All}); err != nil {
		b.Fatal(err)
	}
	for name, s := range map[string]kv.Store{"embedded": nodes[0], "client": c} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(b.Context(), key, kv.ReadOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package tanodb

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// Of a thousand requests, half of which are for one key, that key comes first; the largest
// object and the one with the most siblings are found among many.
func TestHotKeysStandOut(t *testing.T) {
	n, err := Open("", Options{Storage: MemoryStorage(), Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx := context.Background()
	put := func(name string, size int, o kv.WriteOptions) {
		t.Helper()
		if _, err := n.Put(ctx, kv.Key{Type: "sib", Bucket: "b", Name: name}, kv.Value{Data: bytes.Repeat([]byte("x"), size)}, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.CreateBucketType(ctx, "sib", kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
	if err := n.ActivateBucketType(ctx, "sib"); err != nil {
		t.Fatal(err)
	}
	put("large", 100_000, kv.WriteOptions{})
	for range 5 {
		put("many", 10, kv.WriteOptions{})
	}
	for i := range 200 {
		put(fmt.Sprintf("k%d", i), 10, kv.WriteOptions{})
	}
	many := kv.Key{Type: "sib", Bucket: "b", Name: "many"}
	for i := range 1000 {
		k := many
		if i%2 == 0 {
			k.Name = fmt.Sprintf("k%d", i%200)
		}
		if _, err := n.Get(ctx, k, kv.ReadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h := n.HotKeys(3)
	if len(h.Hot) != 3 || h.Hot[0].Key != many || h.Hot[0].Rate <= h.Hot[1].Rate {
		t.Errorf("hot: %+v", h.Hot)
	}
	if len(h.Largest) != 3 || h.Largest[0].Key.Name != "large" || h.Largest[0].Value < 100_000 {
		t.Errorf("largest: %+v", h.Largest)
	}
	if len(h.Most) != 1 || h.Most[0].Key != many || h.Most[0].Value != 5 {
		t.Errorf("siblings: %+v", h.Most)
	}
	put("large", 10, kv.WriteOptions{Context: contextOf(t, n, "large")})
	for range 200 { // what became small is noticed by one in 16 of the requests for it
		if _, err := n.Get(ctx, kv.Key{Type: "sib", Bucket: "b", Name: "large"}, kv.ReadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if h := n.HotKeys(1); h.Largest[0].Key.Name == "large" && h.Largest[0].Value > 1000 {
		t.Errorf("what was large is said to be so still: %+v", h.Largest)
	}
}

func contextOf(t *testing.T, n *Node, name string) kv.Context {
	t.Helper()
	obj, err := n.Get(context.Background(), kv.Key{Type: "sib", Bucket: "b", Name: name}, kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return obj.Context
}

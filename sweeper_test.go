package tanodb

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// movedClock is a clock that is moved by hand.
type movedClock struct{ ahead atomic.Int64 }

func (c *movedClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *movedClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// bytesHeld is what the values in an engine take.
func bytesHeld(t *testing.T, e storage.Engine) (size int) {
	t.Helper()
	if err := e.Scan([]byte{1}, []byte{2}, func(_, value []byte) bool {
		size += len(value)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return size
}

// One clock judges for all replicas, that of the node which is asked: get, head,
// listings and the vnodes' own answers change at one moment.
func TestScenario21AllPathsAgreeOnExpiry(t *testing.T) {
	clock := &movedClock{}
	nodes, _ := NewTestCluster(t, 3, Options{Clock: clock.now})
	n := nodes[0]
	expires := time.Now().Add(time.Hour)
	for _, k := range []string{"lasts", "ends"} {
		v := kv.Value{Data: make([]byte, 10_000)}
		if k == "ends" {
			v.Expires = expires
		}
		if _, err := n.Put(t.Context(), kv.Key{Bucket: "b", Name: k}, v, kv.WriteOptions{W: kv.All}); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(n *Node) (get, head bool, listed, replicas int) {
		k := kv.Key{Bucket: "b", Name: "ends"}
		for _, o := range []kv.ReadOptions{{}, {Head: true}} {
			_, err := n.Get(t.Context(), k, o)
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				t.Fatal(err)
			}
			if o.Head {
				head = err == nil
			} else {
				get = err == nil
			}
		}
		for token := ""; ; {
			page, err := n.Keys(t.Context(), kv.Bucket{Name: "b"}, kv.ListOptions{Limit: 1, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			listed += len(page.Keys)
			if token = page.Next; token == "" {
				break
			}
		}
		all, err := n.ReplicaKeys(t.Context(), kv.Bucket{Name: "b"}, kv.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			replicas += len(r.Keys)
		}
		return get, head, listed, replicas
	}
	if get, head, listed, replicas := sees(n); !get || !head || listed != 2 || replicas != 6 {
		t.Errorf("before: get %v, head %v, %d listed, %d on the replicas", get, head, listed, replicas)
	}
	held := bytesHeld(t, nodes[1].engine)
	clock.set(time.Hour + time.Second)
	if get, head, listed, replicas := sees(n); get || head || listed != 1 || replicas != 3 {
		t.Errorf("after: get %v, head %v, %d listed, %d on the replicas", get, head, listed, replicas)
	}
	for _, n := range nodes {
		n.sweep(t.Context())
	}
	if now := bytesHeld(t, nodes[1].engine); now != held {
		t.Errorf("%d bytes have gone within the grace", held-now)
	}
	clock.set(time.Hour + expiryGrace + time.Second)
	nodes[0].sweep(t.Context())
	nodes[1].sweep(t.Context())
	if now := bytesHeld(t, nodes[1].engine); held-now < 10_000 {
		t.Errorf("%d bytes have come back", held-now)
	}
	// n3 has not swept, and judges by a clock that is far behind. A read that asks
	// all shows nothing even then, and the replica follows the others.
	clock.set(0)
	if get, head, _, _ := sees(nodes[2]); get || head {
		t.Errorf("a clock that is behind brings it back: get %v, head %v", get, head)
	}
	deadline := time.Now().Add(time.Minute)
	for bytesHeld(t, nodes[2].engine) != bytesHeld(t, nodes[0].engine) {
		if time.Now().After(deadline) {
			t.Fatal("a replica that has been read keeps the bytes")
		}
		if _, err := nodes[2].Get(t.Context(), kv.Key{Bucket: "b", Name: "ends"}, kv.ReadOptions{R: kv.All}); err != nil && !errors.Is(err, kv.ErrNotFound) {
			t.Fatal(err)
		}
	}
}

// Values that have expired give their space back on a disk that takes no other
// writes.
func TestASweepIsUrgent(t *testing.T) {
	clock := &movedClock{}
	f := &fragile{Engine: storage.NewMemory(), reserve: true}
	n := open(t, "", Options{Clock: clock.now, Storage: func(string) (storage.Engine, error) { return f, nil }})
	if _, err := n.Put(t.Context(), key, kv.Value{Data: make([]byte, 1000), Expires: time.Now().Add(time.Minute)}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	clock.set(time.Minute + expiryGrace + time.Second)
	f.fail(storage.ErrFull, nil)
	n.sweep(t.Context())
	if size := bytesHeld(t, f.Engine); size > 1000 {
		t.Errorf("%d bytes are held", size)
	}
}

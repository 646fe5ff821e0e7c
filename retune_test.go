package tanodb

import (
	"errors"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

func TestRetune(t *testing.T) {
	n, err := Open("", Options{Storage: MemoryStorage(), TransferBytes: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ctx := t.Context()
	k := kv.Key{Bucket: "b", Name: "k"}
	large := kv.Value{Data: make([]byte, 4<<10)}
	if _, err := n.Put(ctx, k, large, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Retune(Options{MaxObject: 2 << 10, MaxSiblings: 1, RepairEvery: time.Minute, RepairBytes: 7, RepairObjects: 8, MaxClockOffset: time.Second, Partitions: 128}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Put(ctx, k, large, kv.WriteOptions{}); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("a large object: %v", err)
	}
	if err := n.SetBucketProps(ctx, kv.Bucket{Name: "s"}, kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
	s := kv.Key{Bucket: "s", Name: "k"}
	if _, err := n.Put(ctx, s, kv.Value{Data: []byte("1")}, kv.WriteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := n.Put(ctx, s, kv.Value{Data: []byte("2")}, kv.WriteOptions{}); !errors.Is(err, kv.ErrTooManySiblings) {
		t.Errorf("a second value: %v", err)
	}
	waitFor(t, "the budget of repair", func() bool {
		l := n.menders.status().Limits
		return l.Every == time.Minute && l.BytesPerSecond == 7 && l.ObjectsPerSecond == 8
	})
	if got := n.tuning().MaxClockOffset; got != time.Second {
		t.Errorf("clocks may be %v apart", got)
	}
	if err := n.Retune(Options{MaxSiblings: kv.MaxSiblings + 1}); err == nil {
		t.Error("more siblings than there can be")
	}
	if err := n.Retune(Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Put(ctx, k, large, kv.WriteOptions{}); err != nil {
		t.Errorf("with the defaults again: %v", err)
	}
}

func TestOptionsOfLimitsThatCannotBeMeant(t *testing.T) {
	for _, o := range []Options{{MaxObject: -1}, {MaxObject: kv.MaxObject + 1}, {MaxSiblings: -1}, {MaxSiblings: kv.MaxSiblings + 1}, {MaxClockOffset: -1}, {MaxRequests: -1}, {CacheBytes: -1}} {
		o.Storage = MemoryStorage()
		if n, err := Open("", o); err == nil {
			n.Close()
			t.Errorf("%+v is taken", o)
		}
	}
}

// A request in progress counts against the limit as it is now.
func TestFewerRequestsAtOnce(t *testing.T) {
	n, err := Open("", Options{Storage: MemoryStorage()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Retune(Options{MaxRequests: 1}); err != nil {
		t.Fatal(err)
	}
	r := &request{node: n}
	if err := n.requests.admit(r, n); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Get(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{}); !errors.Is(err, kv.ErrOverload) {
		t.Errorf("one request too many: %v", err)
	}
	n.requests.remove(r)
	if _, err := n.Get(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{}); !errors.Is(err, kv.ErrNotFound) {
		t.Error(err)
	}
}

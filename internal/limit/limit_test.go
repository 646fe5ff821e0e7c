package limit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

func TestRequestsASecond(t *testing.T) {
	var table Table[string]
	r := Rates{Requests: 10}
	enter := func(now time.Duration, key string) string {
		what, _ := table.Enter(now, key, r, 1<<30)
		return what
	}
	for i := range 10 {
		if what := enter(0, "a"); what != "" {
			t.Fatalf("request %d is refused for its %s", i, what)
		}
	}
	what, wait := table.Enter(0, "a", r, 0)
	if what != whatRequests || wait < 100*time.Millisecond || wait > 110*time.Millisecond {
		t.Errorf("one too many: %q for %v", what, wait)
	}
	if enter(0, "b") != "" {
		t.Error("another key is refused too")
	}
	if enter(wait-20*time.Millisecond, "a") == "" || enter(wait, "a") != "" || enter(wait, "a") == "" {
		t.Error("not one more after the wait")
	}
	let := 0
	for now := 10 * time.Second; now < 20*time.Second; now += time.Millisecond {
		if enter(now, "a") == "" {
			let++
		}
	}
	if let < 105 || let > 111 { // ten a second, and those that have gathered in one before
		t.Errorf("%d requests in ten seconds", let)
	}
}

func TestBytesASecond(t *testing.T) {
	var table Table[string]
	r := Rates{Bytes: 1000}
	if what, _ := table.Enter(0, "a", r, 5000); what != "" {
		t.Fatal("one that is larger than a second's is never let in")
	}
	what, wait := table.Enter(0, "a", r, 0)
	if what != whatBytes || wait < 4*time.Second || wait > 4100*time.Millisecond {
		t.Errorf("the next one: %q for %v", what, wait)
	}
	if what, _ := table.Enter(wait, "a", r, 0); what != "" {
		t.Errorf("refused for its %s after the wait", what)
	}
	table.Took(wait, "a", r, 3000)
	if _, more := table.Enter(wait, "a", r, 0); more < 2900*time.Millisecond || more > 3100*time.Millisecond {
		t.Errorf("what was read costs %v", more)
	}
	if what, _ := table.Enter(wait, "a", Rates{}, 1); what != "" {
		t.Errorf("refused for its %s without a limit", what)
	}
}

// However many names there are, the table is no larger than it may be, and the ones that
// have had their share are still known while there are others to forget.
func TestATableForgetsWhoHasHadNothingLately(t *testing.T) {
	var table Table[string]
	r := Rates{Requests: 1}
	for i := range maxKeys {
		table.Enter(0, fmt.Sprint(i), r, 0)
	}
	const later = time.Minute
	table.Enter(later, "0", r, 0)
	for i := range maxKeys {
		table.Enter(later, fmt.Sprint("x", i), r, 0)
	}
	if len(table.all) > maxKeys {
		t.Errorf("it has %d keys", len(table.all))
	}
	for i := range 1000 { // all have had theirs now
		table.Enter(later, fmt.Sprint("y", i), r, 0)
	}
	if len(table.all) > maxKeys {
		t.Errorf("it has %d keys", len(table.all))
	}
}

func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDoor()
		logs, carts := kv.Bucket{Name: "logs"}, kv.Bucket{Type: "maps", Name: "carts"}
		for range 1000 {
			if err := d.enter(t.Context(), logs, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		d.Set(Rules{Each: Rates{Requests: 2}, Buckets: map[kv.Bucket]Rates{carts: {Bytes: 100}}})
		for i := range 3 {
			err := d.enter(t.Context(), logs, 0)
			if i < 2 && err != nil {
				t.Fatal(err)
			}
			var e *Error
			if i == 2 && (!errors.As(err, &e) || !errors.Is(err, kv.ErrOverload) || e.RetryAfter() <= 0 || e.RetryAfter() > time.Second) {
				t.Errorf("the third one: %v", err)
			}
		}
		for range 10 {
			if err := d.enter(t.Context(), carts, 0); err != nil {
				t.Error(err)
			}
		}
		d.took(t.Context(), carts, 250)
		if err := d.enter(t.Context(), carts, 0); err == nil || !strings.Contains(err.Error(), "100 bytes") {
			t.Errorf("after its bytes: %v", err)
		}
		time.Sleep(1600 * time.Millisecond)
		if err := errors.Join(d.enter(t.Context(), carts, 0), d.enter(t.Context(), logs, 0)); err != nil {
			t.Error(err)
		}
		if !d.AllowsLists() {
			t.Error("lists are forbidden without a rule")
		}
		d.Set(Rules{NoLists: true})
		if d.AllowsLists() {
			t.Error("lists are allowed")
		}
		for what, want := range map[string]float64{whatRequests: 1, whatBytes: 1, whatLists: 1} {
			if got := counted(t, d, what); got != want {
				t.Errorf("%v refusals for %s are counted", got, what)
			}
		}
	})
}

// Users have shares of their own, whatever buckets they ask for; who is not known has none,
// and who has had his takes nothing from the bucket.
func TestUsersHaveShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDoor()
		a, b := kv.Bucket{Name: "a"}, kv.Bucket{Name: "b"}
		anna, bob := tanodb.WithUser(t.Context(), "anna"), tanodb.WithUser(t.Context(), "bob")
		d.Set(Rules{Each: Rates{Requests: 5}, User: Rates{Requests: 2}, Users: map[string]Rates{"bob": {Bytes: 100}}})
		if err := errors.Join(d.enter(anna, a, 0), d.enter(anna, b, 0)); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			var e *Error
			if err := d.enter(anna, a, 0); !errors.As(err, &e) || e.User != "anna" || e.What != whatRequests || e.Rate != 2 || e.RetryAfter() <= 0 || !strings.Contains(err.Error(), "user-requests") {
				t.Fatalf("after her share: %v", err)
			}
		}
		if err := errors.Join(d.enter(bob, a, 0), d.enter(bob, a, 0), d.enter(t.Context(), a, 0), d.enter(t.Context(), a, 0)); err != nil {
			t.Errorf("the bucket has four more: %v", err)
		}
		var e *Error
		if err := d.enter(t.Context(), a, 0); !errors.As(err, &e) || e.User != "" || e.Rate != 5 {
			t.Errorf("after the bucket's share: %v", err)
		}
		d.took(bob, b, 250)
		if err := d.enter(bob, b, 0); !errors.As(err, &e) || e.User != "bob" || e.What != whatBytes || e.Rate != 100 {
			t.Errorf("after his bytes: %v", err)
		}
		time.Sleep(1600 * time.Millisecond)
		if err := errors.Join(d.enter(bob, b, 0), d.enter(anna, a, 0)); err != nil {
			t.Error(err)
		}
		for what, want := range map[string]float64{whatRequests: 1, whatBytes: 0, ofUsers + whatRequests: 10, ofUsers + whatBytes: 1} {
			if got := counted(t, d, what); got != want {
				t.Errorf("%v refusals for %s are counted, not %v", got, what, want)
			}
		}
	})
}

// counted is how many refusals there were for a limit.
func counted(t *testing.T, d *Door, what string) float64 {
	t.Helper()
	var m dto.Metric
	if err := d.refused.WithLabelValues(what).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// Everything that a client asks of keys passes the door.
func TestNodeBehindADoor(t *testing.T) {
	n, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ctx := t.Context()
	d := NewDoor()
	behind := d.Behind(n)
	b := kv.Bucket{Name: "b"}
	k := kv.Key{Bucket: "b", Name: "k"}
	requests := map[string]func() error{
		"get":          func() error { _, err := behind.Get(ctx, k, kv.ReadOptions{}); return err },
		"put":          func() error { _, err := behind.Put(ctx, k, kv.Value{Data: []byte("v")}, kv.WriteOptions{}); return err },
		"delete":       func() error { _, err := behind.Delete(ctx, k, kv.WriteOptions{}); return err },
		"keys":         func() error { _, err := behind.Keys(ctx, b, kv.ListOptions{}); return err },
		"index":        func() error { _, err := behind.Index(ctx, b, kv.IndexQuery{Field: kv.IndexBucket}); return err },
		"fetch":        func() error { _, err := behind.Fetch(ctx, k, kv.ReadOptions{}); return err },
		"replica keys": func() error { _, err := behind.ReplicaKeys(ctx, b, kv.ListOptions{}); return err },
		"holdings":     func() error { _, err := behind.Holdings(ctx, k); return err },
		"update":       func() error { _, err := behind.Update(ctx, k, kv.CounterOp(1), kv.WriteOptions{}); return err },
	}
	for name, ask := range requests {
		d.Set(Rules{})
		if err := ask(); errors.Is(err, kv.ErrOverload) {
			t.Errorf("%s without a rule: %v", name, err)
		}
		// One that is used up, for longer than the test takes.
		d.Set(Rules{Each: Rates{Bytes: 1}})
		d.took(t.Context(), b, 1<<20)
		if err := ask(); !errors.Is(err, kv.ErrOverload) {
			t.Errorf("%s of a bucket that is used up: %v", name, err)
		}
	}
}

func TestWhatIsMovedIsPaidFor(t *testing.T) {
	n, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ctx := t.Context()
	k := kv.Key{Bucket: "b", Name: strings.Repeat("k", 1000)}
	v := kv.Value{Data: make([]byte, 100_000), Indexes: []kv.Pair{{Name: "f_bin", Value: "t"}}}
	// A list asks one replica of each key: all have it.
	if _, err := n.Put(ctx, k, v, kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func(*Node) error{
		"put":          func(n *Node) error { _, err := n.Put(ctx, k, v, kv.WriteOptions{}); return err },
		"get":          func(n *Node) error { _, err := n.Get(ctx, k, kv.ReadOptions{}); return err },
		"keys":         func(n *Node) error { _, err := n.Keys(ctx, bucketOf(k), kv.ListOptions{}); return err },
		"replica keys": func(n *Node) error { _, err := n.ReplicaKeys(ctx, bucketOf(k), kv.ListOptions{}); return err },
		"index": func(n *Node) error {
			_, err := n.Index(ctx, bucketOf(k), kv.IndexQuery{Field: "f_bin", Start: "t"})
			return err
		},
	} {
		d := NewDoor()
		d.Set(Rules{Each: Rates{Bytes: 10}})
		if err := ask(d.Behind(n)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var e *Error
		if err := d.enter(t.Context(), bucketOf(k), 0); !errors.As(err, &e) || e.Wait < time.Minute {
			t.Errorf("after a %s: %v", name, err)
		}
	}
}

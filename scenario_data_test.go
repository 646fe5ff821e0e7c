package tanodb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// TestScenario23CounterInDoubt: increments that time out since a node is cut off are in
// doubt, and said again with their id they count once; without one they may count twice, and
// never does one that was acknowledged go missing.
func TestScenario23CounterInDoubt(t *testing.T) {
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	kvtest.Prepare(t, cluster[0])
	ctx := t.Context()
	k := kv.Key{Type: "counters", Bucket: "b", Name: "k"}
	if _, err := cluster[0].Update(ctx, k, kv.CounterOp(1), kv.WriteOptions{W: kv.All}); err != nil {
		t.Fatal(err)
	}
	named := kv.WriteOptions{W: kv.All, SloppyQuorum: kv.Off, Timeout: time.Second, RequestID: kv.RequestID{23}}
	network.CutOneWay("n2", "n1")
	network.CutOneWay("n3", "n1") // what n1 sends arrives, and no answer comes back
	_, err := cluster[0].Update(ctx, k, kv.CounterOp(10), named)
	if !errors.Is(err, kv.ErrInDoubt) {
		t.Fatalf("error %v, want one in doubt", err)
	}
	network.Heal()
	tanodb.WaitUp(t, cluster...) // they may have missed each other on a busy machine
	for i := range 5 {
		// Others count meanwhile, and the one in doubt is said again at each node.
		if _, err := cluster[i%3].Update(ctx, k, kv.CounterOp(100), kv.WriteOptions{RequestID: kv.RequestID{1, byte(i)}}); err != nil {
			t.Fatal(err)
		}
		again := kv.WriteOptions{W: kv.All, RequestID: named.RequestID, ReturnBody: true}
		if _, err := cluster[i%3].Update(ctx, k, kv.CounterOp(10), again); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range cluster {
		d, err := n.Fetch(ctx, k, kv.ReadOptions{R: kv.All})
		if err != nil || d.Value.Counter != 511 {
			t.Errorf("the counter is %v, %v; want 511", d.Value, err)
		}
	}
}

// TestScenario24RemovalsWithoutTheNews: of a set that two sides of a partition change,
// removals with a stale context leave what they have not seen; those without one are
// refused where the element is not known, in Riak's words; and those with a context ahead of
// the replica that applies them reach what comes later.
func TestScenario24RemovalsWithoutTheNews(t *testing.T) {
	cluster, network := tanodb.NewTestCluster(t, 3, tanodb.Options{})
	kvtest.Prepare(t, cluster[0])
	ctx := t.Context()
	k := kv.Key{Type: "sets", Bucket: "b", Name: "k"}
	one := kv.WriteOptions{W: kv.One}
	update := func(n int, op kv.SetOp, c kv.Context) error {
		o := one
		o.Context = c
		_, err := cluster[n].Update(ctx, k, op, o)
		return err
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(n int, r kv.Quorum) kv.Data {
		t.Helper()
		d, err := cluster[n].Fetch(ctx, k, kv.ReadOptions{R: r, SloppyQuorum: kv.Off})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	elem := func(s string) [][]byte { return [][]byte{[]byte(s)} }
	_, err := cluster[0].Update(ctx, k, kv.SetOp{Adds: elem("old")}, kv.WriteOptions{W: kv.All})
	ok(err)
	stale := read(0, kv.All).Context

	network.Cut("n1", "n3")
	network.Cut("n2", "n3")
	ok(update(0, kv.SetOp{Adds: elem("x")}, nil))
	ahead := read(0, kv.Quorum(2)).Context
	ok(update(0, kv.SetOp{Adds: elem("old")}, nil)) // again, unseen by who has read before

	missing := update(2, kv.SetOp{Removes: elem("x")}, nil)
	if !errors.Is(missing, kv.ErrPrecondition) || missing.Error() != `{precondition,{not_present,<<"x">>}}` {
		t.Errorf("a removal of what is not known there: %v", missing)
	}
	ok(update(2, kv.SetOp{Removes: elem("x")}, ahead))   // deferred: it reaches the add when that comes
	ok(update(2, kv.SetOp{Removes: elem("old")}, stale)) // the concurrent add wins
	ok(update(2, kv.SetOp{Adds: elem("new")}, nil))
	network.Heal()
	var last kv.Data
	eventually(t, "all replicas have the same set", func() bool {
		last, err = cluster[1].Fetch(ctx, k, kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off, Timeout: time.Second})
		return err == nil
	}, func() string { return last.Value.String() })
	if got := last.Value.String(); got != `{"new" "old"}` {
		t.Errorf("the set is %s", got)
	}
}

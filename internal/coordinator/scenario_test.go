package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// turns is a view of node n1 on a ring of eight partitions whose owners take
// turns.
func turns(t *testing.T, nodes string, down ...string) View {
	t.Helper()
	names := strings.Fields(nodes)
	owners := make([]string, 8)
	for i := range owners {
		owners[i] = names[i%len(names)]
	}
	r, err := ring.New(owners)
	if err != nil {
		t.Fatal(err)
	}
	return View{
		Ring: r, Epoch: 1, Self: "n1", Replicas: 3, Wall: time.Unix(1, 0),
		Up: func(node string) bool { return !slices.Contains(down, node) },
	}
}

// asksOf are the Asks among effects.
func asksOf(effects []Effect) (all []Ask) {
	for _, e := range effects {
		if a, ok := e.(Ask); ok {
			all = append(all, a)
		}
	}
	return all
}

func minted(actor byte) *vnode.Minted { return &vnode.Minted{Object: encoded(actor)} }

func encoded(actor byte) []byte {
	body := object.AppendBody(nil, &kv.Value{Data: []byte{actor}})
	return object.Write(object.Object{}, nil, object.Sibling{Dot: object.Dot{Actor: object.Actor{actor}, Counter: 1}, Stamp: 1, Body: body}).Encode()
}

// confirm confirms a write wherever it is sent, until it is answered or nobody is left
// to answer, and gives the nodes that have it.
func confirm(t *testing.T, p *Put) (stored []string, err error) {
	t.Helper()
	queue := asksOf(p.Step(0, Start{}, nil))
	for len(queue) > 0 && !p.Done() {
		a := queue[0]
		queue = queue[1:]
		var out []Effect
		if _, ok := a.Msg.(*vnode.Coordinate); ok {
			out = p.Step(1, Replied{I: a.I, Msg: minted(1)}, nil)
		}
		stored = append(stored, a.To.Node)
		out = p.Step(1, Replied{I: a.I, Msg: &vnode.Stored{}}, out)
		queue = append(queue, asksOf(out)...)
	}
	if !p.Done() {
		t.Fatalf("nobody is left to ask, and it goes on: %v", p.tally)
	}
	_, err = p.Result()
	return stored, err
}

// A write that a node coordinates and refuses late, or whose forward is lost, is not
// sent to another one: the retry of an older write after a newer one would bring its value
// back.
func TestScenario08RetryAfterALostCoordinatorAck(t *testing.T) {
	v := turns(t, "n2 n3 n4 n5 n6 n7 n8 n1") // n1 holds no replica
	for name, ev := range map[string]func(i int) Event{
		"lost":     func(i int) Event { return Lost{I: i, Why: "broken"} },
		"failed":   func(i int) Event { return Replied{I: i, Msg: &vnode.Failure{Code: vnode.CodeStorage}} },
		"in doubt": func(i int) Event { return Replied{I: i, Msg: &Forwarded{Err: &kv.QuorumError{InDoubt: true}}} },
	} {
		p := NewPut(v, PutRequest{Key: k1})
		first := asksOf(p.Step(0, Start{}, nil))
		again := asksOf(p.Step(1, ev(first[0].I), nil))
		if _, err := p.Result(); len(again) > 0 || !p.Done() || !errors.Is(err, kv.ErrInDoubt) {
			t.Errorf("%s: asks %v, done %v, error %v; want doubt", name, again, p.Done(), err)
		}
	}
	// A slow forward is not hedged either: two nodes would make two versions.
	p := NewPut(v, PutRequest{Key: k1})
	p.Step(0, Start{}, nil)
	if again := asksOf(p.Step(10*HedgeAfter, Tick{}, nil)); len(again) > 0 {
		t.Errorf("a slow forward: asks %v", again)
	}
}

// The owner to be is written to before it has the data, and is not read. A vnode that
// still lacks data refuses, and one that stands in and has nothing has nothing to
// say: neither is a not found.
func TestScenario09ReadForwardedBeforeTheDataArrived(t *testing.T) {
	v := turns(t, "n1 n2 n3 n4 n5 n6 n7 n8")
	home := v.Ring.Home(k1)
	v.Next = v.Ring.With(home, "n8")
	g := NewGet(v, GetRequest{Key: k1})
	asks := asksOf(g.Step(0, Start{}, nil))
	if len(asks) != 3 {
		t.Fatalf("asks %v; want the three owners now", asks)
	}
	for _, a := range asks {
		if a.To.Node == "n8" {
			t.Errorf("the next owner is asked: %v", a)
		}
	}
	// Now n8 is the owner, and still lacks a piece; the others of the list fail.
	v.Ring, v.Next = v.Next, v.Ring
	g = NewGet(v, GetRequest{Key: k1})
	asks = asksOf(g.Step(0, Start{}, nil))
	lacking := asksOf(g.Step(1, Replied{I: asks[0].I, Msg: &vnode.Refusal{Code: vnode.CodeLacking, Text: "waits"}}, nil))
	if len(lacking) != 1 || lacking[0].To.Role != kv.Fallback {
		t.Fatalf("for one that lacks its data it asks %v; want one that stands in", lacking)
	}
	g.Step(2, Replied{I: lacking[0].I, Msg: &vnode.Fetched{}}, nil)
	g.Step(3, Replied{I: asks[1].I, Msg: &vnode.Fetched{Object: encoded(1)}}, nil)
	g.Step(4, Replied{I: asks[2].I, Msg: &vnode.Fetched{Object: encoded(1)}}, nil)
	if obj, err := g.Result(); err != nil || len(obj.Values) != 1 {
		t.Errorf("%d values, %v; want the value, with a quorum of primaries up", len(obj.Values), err)
	}
}

// Two of the three nodes of a key are down. Those that stand in are two different
// nodes, never one twice, nor the one that is up; and where there are not
// enough, W=2 is refused rather than met on one machine.
func TestScenario15FallbackTwiceOnOneNode(t *testing.T) {
	for nodes, ok := range map[string]bool{"n1 n2 n3 n4 n5": true, "n1 n2 n3": false} {
		v := turns(t, nodes)
		list := v.Ring.Primaries(v.Ring.Home(k1), 3)
		down := []string{list[1].Node, list[2].Node}
		v.Self = list[0].Node
		v.Up = func(node string) bool { return !slices.Contains(down, node) }
		for _, o := range []kv.WriteOptions{{W: 2}, {W: 1, NodeConfirms: 2}} {
			p := NewPut(v, PutRequest{Key: k1, Options: o})
			stored, err := confirm(t, p)
			if ok != (err == nil) {
				t.Errorf("of %s with %v down: %v", nodes, down, err)
			}
			if !ok && (len(stored) > 0 || errors.Is(err, kv.ErrInDoubt)) {
				t.Errorf("of %s with %v down: stored on %v, %v; want a refusal at once", nodes, down, stored, err)
			}
			slices.Sort(stored)
			if len(slices.Compact(stored)) != len(stored) {
				t.Errorf("of %s with %v down: stored on %v", nodes, down, stored)
			}
		}
	}
}

// Three replicas on one node are three acknowledgements and one copy: W is met, and
// node_confirms says what that is worth.
func TestScenario40MoreReplicasThanNodes(t *testing.T) {
	v := turns(t, "n1")
	if stored, err := confirm(t, NewPut(v, PutRequest{Key: k1, Options: kv.WriteOptions{W: 3, NodeConfirms: 1}})); err != nil || len(stored) != 3 {
		t.Errorf("W=3, node_confirms=1: stored on %v, %v", stored, err)
	}
	stored, err := confirm(t, NewPut(v, PutRequest{Key: k1, Options: kv.WriteOptions{W: 1, NodeConfirms: 2}}))
	var q *kv.QuorumError
	if !errors.As(err, &q) || q.Need != "node_confirms" || q.Want != 2 || q.Got != 0 || q.InDoubt || len(stored) > 0 {
		t.Errorf("W=1, node_confirms=2: stored on %v, %v; want a refusal at once", stored, err)
	}
	g := NewGet(v, GetRequest{Key: k1, Options: kv.ReadOptions{NodeConfirms: 2}})
	g.Step(0, Start{}, nil)
	if _, err := g.Result(); !errors.As(err, &q) || q.Need != "node_confirms" {
		t.Errorf("a read with node_confirms=2: %v", err)
	}
}

// A primary and the one that stands in for it, both with the write, are one replica
// of it, by W and by node_confirms.
func TestAPrimaryAndItsStandInCountOnce(t *testing.T) {
	for _, o := range []kv.WriteOptions{{W: 2}, {W: 1, NodeConfirms: 2}} {
		v := turns(t, "n1 n2 n3 n4 n5 n6 n7 n8")
		v.Self = v.Ring.Owner(v.Ring.Home(k1))
		p := NewPut(v, PutRequest{Key: k1, Options: o})
		first := asksOf(p.Step(0, Start{}, nil))
		p.Step(1, Replied{I: first[0].I, Msg: minted(1)}, nil)
		hedges := asksOf(p.Step(1+HedgeAfter, Tick{}, nil))
		if len(hedges) != 3 || hedges[0].To.Partition != first[0].To.Partition || hedges[0].To.Role != kv.Fallback {
			t.Fatalf("hedges are %v", hedges)
		}
		p.Step(2+HedgeAfter, Replied{I: hedges[0].I, Msg: &vnode.Stored{}}, nil)
		p.Step(3+HedgeAfter, Replied{I: first[0].I, Msg: &vnode.Stored{}}, nil)
		if p.Done() {
			t.Errorf("%+v: one replica twice is enough: %v", o, p.tally)
		}
		p.Step(4+HedgeAfter, Replied{I: hedges[1].I, Msg: &vnode.Stored{}}, nil)
		p.Step(5+HedgeAfter, NodeDown{Node: v.Ring.Owner(hedges[1].To.Partition)}, nil)
		if _, err := p.Result(); !p.Done() || err != nil {
			t.Errorf("%+v: done %v, %v: %v", o, p.Done(), err, p.tally)
		}
	}
}

// On a ring of many nodes that all refuse, as many are asked to stand in as there are
// replicas, and not the whole ring.
func TestStandInsAreLimited(t *testing.T) {
	owners := make([]string, 64)
	for i := range owners {
		owners[i] = fmt.Sprintf("n%d", i+1)
	}
	v := turns(t, "n1")
	v.Ring, _ = ring.New(owners)
	g := NewGet(v, GetRequest{Key: k1, Options: kv.ReadOptions{R: kv.One}})
	queue := asksOf(g.Step(0, Start{}, nil))
	asked := 0
	for len(queue) > 0 {
		asked++
		out := g.Step(1, Replied{I: queue[0].I, Msg: &vnode.Refusal{Code: vnode.CodeOverload, Text: "overload"}}, nil)
		queue = append(queue[1:], asksOf(out)...)
	}
	if _, err := g.Result(); asked != 6 || !g.Done() || !errors.Is(err, kv.ErrQuorum) {
		t.Errorf("%d were asked, done %v, %v; want 3 and 3 more", asked, g.Done(), err)
	}
}

// A node without a replica, to which a write was forwarded, coordinates it in the place of
// one; it does not stand in for another one besides.
func TestACoordinatorThatStandsInDoesSoOnce(t *testing.T) {
	v := turns(t, "n2 n3 n4 n5 n6 n7 n8 n1")
	list := v.Ring.Primaries(v.Ring.Home(k1), 3)
	v.Up = func(node string) bool { return node != list[1].Node }
	p := NewPut(v, PutRequest{Key: k1, Options: kv.WriteOptions{W: kv.One}, Forwarded: true})
	queue := asksOf(p.Step(0, Start{}, nil))
	if len(queue) != 1 || queue[0].To.Node != "n1" || queue[0].To.Role != kv.Fallback {
		t.Fatalf("it asks %v; want its own vnode", queue)
	}
	seen := []string{"n1"}
	queue = asksOf(p.Step(1, Replied{I: queue[0].I, Msg: minted(1)}, nil))
	for len(queue) > 0 {
		a := queue[0]
		if slices.Contains(seen, a.To.Node) {
			t.Fatalf("%v has another part already", a.To)
		}
		seen = append(seen, a.To.Node)
		queue = append(queue[1:], asksOf(p.Step(1, Lost{I: a.I, Why: "broken"}, nil))...)
	}
	if len(seen) < 6 {
		t.Errorf("only %v were asked", seen)
	}
}

// While one stands in for a slow replica, nobody else is asked when that one fails; nor
// twice, when both do.
func TestAPlaceHasOneStandInAtATime(t *testing.T) {
	v := turns(t, "n1 n2 n3 n4 n5 n6 n7 n8")
	g := NewGet(v, GetRequest{Key: k1, Options: kv.ReadOptions{R: kv.All}})
	first := asksOf(g.Step(0, Start{}, nil))
	for _, a := range first[1:] {
		g.Step(1, Replied{I: a.I, Msg: &vnode.Fetched{Object: encoded(1)}}, nil)
	}
	hedge := asksOf(g.Step(HedgeAfter, Tick{}, nil))
	if len(hedge) != 1 || hedge[0].To.Partition != first[0].To.Partition {
		t.Fatalf("of one slow replica it asks %v", hedge)
	}
	if more := asksOf(g.Step(HedgeAfter+1, Lost{I: first[0].I, Why: "broken"}, nil)); len(more) > 0 {
		t.Fatalf("the slow one is lost: it asks %v as well", more)
	}
	more := asksOf(g.Step(HedgeAfter+2, Lost{I: hedge[0].I, Why: "broken"}, nil))
	if len(more) != 1 || more[0].To.Node == hedge[0].To.Node {
		t.Fatalf("its stand-in is lost too: it asks %v", more)
	}
	g.Step(HedgeAfter+3, Replied{I: more[0].I, Msg: &vnode.Fetched{Object: encoded(1)}}, nil)
	if _, err := g.Result(); err != nil || !g.answered {
		t.Errorf("answered %v, %v", g.answered, err)
	}
}

// A request that ends before its slow replicas would get stand-ins asks for no tick, nor
// does one that has nobody to stand in.
func TestHedgesAskForATickOnlyWhereTheyCanHelp(t *testing.T) {
	wakes := func(v View, o kv.ReadOptions) (n int) {
		for _, e := range NewGet(v, GetRequest{Key: k1, Options: o}).Step(0, Start{}, nil) {
			if _, ok := e.(Wake); ok {
				n++
			}
		}
		return n
	}
	for _, tc := range []struct {
		name  string
		nodes string
		o     kv.ReadOptions
		want  int
	}{
		{"four nodes", "n1 n2 n3 n4", kv.ReadOptions{}, 2},
		{"three nodes", "n1 n2 n3", kv.ReadOptions{}, 1},
		{"one node", "n1", kv.ReadOptions{}, 1},
		{"primaries only", "n1 n2 n3 n4", kv.ReadOptions{SloppyQuorum: kv.Off}, 1},
		{"less time than that", "n1 n2 n3 n4", kv.ReadOptions{Timeout: HedgeAfter}, 1},
	} {
		if got := wakes(turns(t, tc.nodes), tc.o); got != tc.want {
			t.Errorf("%s: %d wakes, want %d", tc.name, got, tc.want)
		}
	}
}

// The partitions of a census that were not asked yet are asked of their owners by the newer
// view as well.
func TestACensusGoesOnWithTheNewerView(t *testing.T) {
	owners := make([]string, 2*maxCensus)
	for i := range owners {
		owners[i] = "n1"
	}
	v := turns(t, "n1")
	v.Ring, _ = ring.New(owners)
	c := NewCensus(v, KeysRequest{Bucket: kv.Bucket{Name: "b"}})
	queue := asksOf(c.Step(0, Start{}, nil))
	out := c.Step(1, Replied{I: 0, Msg: &vnode.Refusal{Code: vnode.CodeStale, Epoch: 2}}, nil)
	last := ring.Partition(len(owners) - 1)
	v.Ring, v.Epoch = v.Ring.With(last, "n2"), 2
	queue = append(queue[1:], asksOf(c.Step(2, Refreshed{View: v}, out))...)
	for len(queue) > 0 {
		a := queue[0]
		if a.To.Partition == last && a.To.Node != "n2" {
			t.Errorf("the last partition is asked of %s", a.To.Node)
		}
		queue = append(queue[1:], asksOf(c.Step(3, Replied{I: a.I, Msg: &vnode.Listed{}}, nil))...)
	}
	all, err := c.Result()
	if !c.Done() || err != nil || len(all) != len(owners) || all[last].Node != "n2" || all[0].Error != "" {
		t.Errorf("done %v with %d rows, %v", c.Done(), len(all), err)
	}
}

// What a later view says is taken over only if it can be of the same cluster.
func TestAViewOfAnotherClusterIsNotTaken(t *testing.T) {
	v := turns(t, "n1 n2 n3")
	other := turns(t, "n1 n2 n3")
	owners := make([]string, 16)
	for i := range owners {
		owners[i] = "n9"
	}
	other.Ring, _ = ring.New(owners)
	for name, later := range map[string]View{"empty": {}, "of another size": other, "without replicas": {Ring: v.Ring.With(0, "n9"), Epoch: 9}} {
		was := v
		v.refresh(&later)
		if v.Ring != was.Ring || v.Epoch != was.Epoch {
			t.Errorf("a view that is %s was taken", name)
		}
	}
	later := View{Ring: v.Ring.With(0, "n9"), Epoch: 9, Replicas: 3}
	if v.refresh(&later); v.Ring != later.Ring || v.Epoch != 9 || v.Up == nil || v.Self != "n1" {
		t.Errorf("the later view is %+v", v)
	}
}

package coordinator_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

var key = kv.Key{Bucket: "mybucket", Name: "k1"}

// view is what node self sees of four nodes on eight partitions.
func view(t *testing.T, self string, down ...string) coordinator.View {
	t.Helper()
	r, err := ring.New([]string{"n1", "n2", "n3", "n4", "n1", "n2", "n3", "n4"})
	if err != nil {
		t.Fatal(err)
	}
	return coordinator.View{Ring: r, Self: self, Replicas: 3, Wall: time.Unix(1, 0), Up: func(node string) bool {
		for _, d := range down {
			if d == node {
				return false
			}
		}
		return true
	}}
}

// stranger is the node that holds no replica of the key, and holders are the
// others in the order of the preference list.
func stranger(v coordinator.View) (out string, holders []string) {
	in := make(map[string]bool)
	for _, r := range v.Ring.Primaries(v.Ring.Home(key), 3) {
		in[r.Node] = true
		holders = append(holders, r.Node)
	}
	for _, n := range v.Ring.Nodes() {
		if !in[n] {
			out = n
		}
	}
	return out, holders
}

func version(actor byte, counter uint64, seen object.Vector) []byte {
	body := object.AppendBody(nil, &kv.Value{Data: []byte{actor}})
	return object.Write(object.Object{}, seen, object.Sibling{Dot: object.Dot{Actor: object.Actor{actor}, Counter: counter}, Stamp: 1, Body: body}).Encode()
}

// asks are the Asks among the effects.
func asks(effects []coordinator.Effect) (all []coordinator.Ask) {
	for _, e := range effects {
		if a, ok := e.(coordinator.Ask); ok {
			all = append(all, a)
		}
	}
	return all
}

func TestAPutIsAnsweredWithTheSecondConfirmation(t *testing.T) {
	_, holders := stranger(view(t, "n1"))
	p := coordinator.NewPut(view(t, holders[0]), coordinator.PutRequest{Key: key})
	first := asks(p.Step(0, coordinator.Start{}, nil))
	if len(first) != 1 || first[0].To.Node != holders[0] {
		t.Fatalf("it asks %+v; want one vnode of %s", first, holders[0])
	}
	others := asks(p.Step(1, coordinator.Replied{I: first[0].I, Msg: &vnode.Minted{Object: version(1, 1, nil)}}, nil))
	if len(others) != 2 {
		t.Fatalf("it sends the version to %d others; want 2", len(others))
	}
	p.Step(2, coordinator.Replied{I: first[0].I, Msg: &vnode.Stored{}}, nil)
	p.Step(3, coordinator.Replied{I: first[0].I, Msg: &vnode.Stored{}}, nil)
	if p.Done() {
		t.Fatal("one replica that answers twice counts twice")
	}
	p.Step(4, coordinator.Replied{I: others[0].I, Msg: &vnode.Stored{}}, nil)
	if _, err := p.Result(); !p.Done() || err != nil {
		t.Errorf("done %v, error %v", p.Done(), err)
	}
	if out := p.Step(5, coordinator.Replied{I: others[1].I, Msg: &vnode.Stored{}}, nil); len(out) != 0 {
		t.Errorf("after its answer it wants %+v", out)
	}
}

func TestAPutOutOfReachIsRefusedAtOnce(t *testing.T) {
	_, h := stranger(view(t, "n1"))
	p := coordinator.NewPut(view(t, h[0], h[1], h[2]), coordinator.PutRequest{Key: key, Options: kv.WriteOptions{SloppyQuorum: kv.Off}})
	out := p.Step(0, coordinator.Start{}, nil)
	_, err := p.Result()
	var q *kv.QuorumError
	if len(asks(out)) != 0 || !errors.As(err, &q) || q.InDoubt || q.Need != "W" || len(q.Failures) != 2 {
		t.Errorf("asks %v, error %v", asks(out), err)
	}
}

func TestALostConfirmationIsDoubt(t *testing.T) {
	_, h := stranger(view(t, "n1"))
	p := coordinator.NewPut(view(t, h[0]), coordinator.PutRequest{Key: key, Options: kv.WriteOptions{W: kv.All, SloppyQuorum: kv.Off}})
	first := asks(p.Step(0, coordinator.Start{}, nil))
	p.Step(1, coordinator.Replied{I: first[0].I, Msg: &vnode.Minted{Object: version(1, 1, nil)}}, nil)
	p.Step(2, coordinator.NodeDown{Node: h[2]}, nil)
	if _, err := p.Result(); !p.Done() || !errors.Is(err, kv.ErrInDoubt) || errors.Is(err, kv.ErrTimeout) {
		t.Errorf("done %v, error %v; want doubt at once", p.Done(), err)
	}
}

func TestAForwardedPutThatMayHaveArrivedIsNotSentAgain(t *testing.T) {
	out, _ := stranger(view(t, "n1"))
	for name, tc := range map[string]struct {
		ev    func(i int) coordinator.Event
		again bool
	}{
		"not sent": {func(i int) coordinator.Event { return coordinator.NotSent{I: i, Why: "refused"} }, true},
		"overload": {func(i int) coordinator.Event {
			return coordinator.Replied{I: i, Msg: &coordinator.Forwarded{Err: kv.ErrOverload}}
		}, true},
		"lost": {func(i int) coordinator.Event { return coordinator.Lost{I: i, Why: "broken"} }, false},
	} {
		p := coordinator.NewPut(view(t, out), coordinator.PutRequest{Key: key})
		first := asks(p.Step(0, coordinator.Start{}, nil))
		if _, ok := first[0].Msg.(*coordinator.Forward); !ok || len(first) != 1 {
			t.Fatalf("%s: a node without a replica asks %+v", name, first)
		}
		next := asks(p.Step(1, tc.ev(first[0].I), nil))
		if got := len(next) == 1; got != tc.again {
			t.Errorf("%s: asked another node: %v, want %v", name, got, tc.again)
		}
		if _, err := p.Result(); !tc.again && !errors.Is(err, kv.ErrInDoubt) {
			t.Errorf("%s: error %v, want doubt", name, err)
		}
	}
}

func TestAPutBesideSiblingsGivesNoContext(t *testing.T) {
	_, h := stranger(view(t, "n1"))
	x, _ := object.Decode(version(1, 1, nil))
	both := object.Write(x, nil, object.Sibling{Dot: object.Dot{Actor: object.Actor{1}, Counter: 2}, Stamp: 2, Body: object.AppendBody(nil, &kv.Value{})}).Encode()
	for _, body := range []bool{false, true} {
		p := coordinator.NewPut(view(t, h[0]), coordinator.PutRequest{Key: key, Options: kv.WriteOptions{W: kv.One, ReturnBody: body}})
		first := asks(p.Step(0, coordinator.Start{}, nil))
		p.Step(1, coordinator.Replied{I: first[0].I, Msg: &vnode.Minted{Object: both}}, nil)
		p.Step(2, coordinator.Replied{I: first[0].I, Msg: &vnode.Stored{}}, nil)
		r, err := p.Result()
		if err != nil || (len(r.Context) > 0) != body || (len(r.Values) == 2) != body {
			t.Errorf("return body %v: context of %d bytes, %d values, %v", body, len(r.Context), len(r.Values), err)
		}
	}
}

func TestAGetAnswersThenRepairs(t *testing.T) {
	_, h := stranger(view(t, "n1"))
	g := coordinator.NewGet(view(t, h[0]), coordinator.GetRequest{Key: key})
	all := asks(g.Step(0, coordinator.Start{}, nil))
	if len(all) != 3 {
		t.Fatalf("it asks %d replicas; want 3", len(all))
	}
	old, now := version(1, 1, nil), version(2, 1, object.Vector{{Actor: object.Actor{1}, Counter: 1}})
	g.Step(1, coordinator.Replied{I: 0, Msg: &vnode.Fetched{Object: old}}, nil)
	out := g.Step(2, coordinator.Replied{I: 1, Msg: &vnode.Fetched{Object: now}}, nil)
	obj, err := g.Result()
	if err != nil || len(obj.Values) != 1 || obj.Values[0].Data[0] != 2 || len(asks(out)) != 0 || g.Done() {
		t.Fatalf("answer %+v, %v; asks %v; done %v", obj, err, asks(out), g.Done())
	}
	repairs := asks(g.Step(3, coordinator.Replied{I: 2, Msg: &vnode.Fetched{}}, nil))
	if len(repairs) != 2 || repairs[0].To.Node != h[0] || repairs[1].To.Node != h[2] || !g.Done() {
		t.Fatalf("repairs %+v, done %v; want the stale and the empty one", repairs, g.Done())
	}
	if m := repairs[0].Msg.(*vnode.Store); string(m.Object) != string(now) {
		t.Error("the repair is not the merged object")
	}
}

// TestAConditionalPutReplacesWhatItsWriterHasSeen: who writes may have seen more than the
// replicas that are asked first.
func TestAConditionalPutReplacesWhatItsWriterHasSeen(t *testing.T) {
	_, h := stranger(view(t, "n1"))
	seen := object.Vector{{Actor: object.Actor{1}, Counter: 1}, {Actor: object.Actor{2}, Counter: 1}}
	p := coordinator.NewWrite(view(t, h[0]), coordinator.PutRequest{Key: key, Options: kv.WriteOptions{
		R: kv.One, IfNotModified: true, Context: object.EncodeContext(key, seen),
	}})
	reads := asks(p.Step(0, coordinator.Start{}, nil))
	made := asks(p.Step(1, coordinator.Replied{I: reads[0].I, Msg: &vnode.Fetched{Object: version(1, 1, nil)}}, nil))
	if len(made) != 1 {
		t.Fatalf("it asks %+v", made)
	}
	m, ok := made[0].Msg.(*vnode.Coordinate)
	if !ok || !m.Guarded || !slices.Equal(m.Seen, seen) {
		t.Errorf("the version is made by %+v", made[0].Msg)
	}
}

func TestADeleteReadsFirst(t *testing.T) {
	_, h := stranger(view(t, "n1"))
	d := coordinator.NewDelete(view(t, h[0]), coordinator.PutRequest{Key: key})
	d.Step(0, coordinator.Start{}, nil)
	x := version(1, 1, nil)
	d.Step(1, coordinator.Replied{I: 0, Msg: &vnode.Fetched{Object: x}}, nil)
	out := asks(d.Step(2, coordinator.Replied{I: 1, Msg: &vnode.Fetched{Object: x}}, nil))
	if len(out) != 1 {
		t.Fatalf("after the read it asks %+v", out)
	}
	c, ok := out[0].Msg.(*vnode.Coordinate)
	if !ok || !c.Write.Deleted || c.Seen.Counter(object.Actor{1}) != 1 {
		t.Errorf("it writes %+v; want a tombstone that has seen the value", out[0].Msg)
	}
	d = coordinator.NewDelete(view(t, h[0]), coordinator.PutRequest{Key: key})
	d.Step(0, coordinator.Start{}, nil)
	d.Step(1, coordinator.Replied{I: 0, Msg: &vnode.Fetched{}}, nil)
	out = asks(d.Step(2, coordinator.Replied{I: 1, Msg: &vnode.Fetched{}}, nil))
	if _, err := d.Result(); !d.Done() || !errors.Is(err, kv.ErrNotFound) || len(out) != 0 {
		t.Errorf("of nothing: done %v, error %v, asks %v", d.Done(), err, out)
	}
}

func TestKeysGoToAnotherReplica(t *testing.T) {
	k := coordinator.NewKeys(view(t, "n1"), coordinator.KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Limit: 2}})
	first := asks(k.Step(0, coordinator.Start{}, nil))
	if len(first) != 1 {
		t.Fatalf("it asks %d vnodes first; want 1", len(first))
	}
	second := asks(k.Step(1, coordinator.Lost{I: first[0].I}, nil))
	if len(second) != 1 || second[0].To.Node == first[0].To.Node {
		t.Fatalf("after a loss it asks %+v", second)
	}
	k.Step(2, coordinator.Replied{I: second[0].I, Msg: &vnode.Listed{Keys: []string{"a", "b"}, Last: "b", More: true}}, nil)
	page, err := k.Result()
	if err != nil || len(page.Keys) != 2 || page.Next == "" {
		t.Fatalf("page %+v, %v", page, err)
	}
	other := coordinator.NewKeys(view(t, "n1"), coordinator.KeysRequest{Bucket: kv.Bucket{Name: "c"}, Options: kv.ListOptions{Token: page.Next}})
	other.Step(0, coordinator.Start{}, nil)
	if _, err := other.Result(); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("a token of another bucket: %v", err)
	}
}

// TestACensusIsBounded has every vnode answer with 30 MiB of keys.
func TestACensusIsBounded(t *testing.T) {
	c := coordinator.NewCensus(view(t, "n1"), coordinator.KeysRequest{Bucket: kv.Bucket{Name: "b"}})
	long := string(make([]byte, 30<<20))
	for _, a := range asks(c.Step(0, coordinator.Start{}, nil)) {
		c.Step(1, coordinator.Replied{I: a.I, Msg: &vnode.Listed{Keys: []string{long}, Last: long}}, nil)
	}
	all, err := c.Result()
	if err != nil || !c.Done() || len(all) != 8 {
		t.Fatalf("%d vnodes, done %v, %v", len(all), c.Done(), err)
	}
	size := 0
	for i, r := range all {
		for _, k := range r.Keys {
			size += len(k)
		}
		if len(r.Keys) == 0 && !r.More {
			t.Errorf("vnode %d shows no keys, and does not say that there are more", i)
		}
	}
	if size == 0 || size > 96<<20 {
		t.Errorf("%d MiB of keys", size>>20)
	}
}

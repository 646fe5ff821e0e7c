package crdt

import (
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/kv"
)

// holding is an object of one sibling per body, of the actors 1, 2, … in turn.
func holding(bodies ...[]byte) object.Object {
	var o object.Object
	for i, b := range bodies {
		d := dot(i+1, 1)
		o = object.Merge(o, object.Write(object.Object{}, nil, object.Sibling{Dot: d, Stamp: object.Stamp(10 - i), Body: b, Deleted: b == nil}))
	}
	return o
}

func bodyOf(s State, ids ...kv.RequestID) []byte {
	return object.AppendState(nil, object.State{Requests: ids, Bytes: s.Append(nil)})
}

func TestReadersSeeOneStateOfEachKind(t *testing.T) {
	one := apply(t, fresh(t, Counter), CounterOp(1), dot(1, 1), nil)
	two := apply(t, fresh(t, Counter), CounterOp(20), dot(2, 1), nil)
	plain := object.AppendBody(nil, &kv.Value{Data: []byte("v")})
	o := holding(bodyOf(one), bodyOf(two), plain, nil, bodyOf(apply(t, fresh(t, GSet), GSetOp(elems("x")), dot(5, 1), nil)))
	o.Siblings[4].Expires = 100
	for at, want := range map[int64]int{50: 4, 100: 3} { // the counter, the value, the tombstone, and what expires
		got, err := Shown(o, at)
		if err != nil {
			t.Fatal(err)
		}
		values, err := got.Values(kv.Key{Bucket: "b", Name: "k"}, at, true, false)
		if err != nil || len(values) < 3 {
			t.Fatalf("%v, %v", values, err)
		}
		live := 0
		for _, v := range values {
			if !v.Deleted {
				live++
			}
			if v.ContentType == "application/riak_counter" {
				wantValue(t, must2(t, v.Data), "21")
			}
		}
		if live != want-1 {
			t.Errorf("at %d: %d live values, want %d", at, live, want-1)
		}
	}
	if same, err := Shown(holding(bodyOf(one), plain), 0); err != nil || len(same.Siblings) != 2 {
		t.Errorf("%v, %v", same, err)
	}
	if _, err := Shown(holding(bodyOf(one), []byte{2, 0, 0, 9}), 0); err == nil {
		t.Error("a state that does not decode is shown")
	}
}

func must2(t *testing.T, b []byte) State {
	t.Helper()
	s, err := Decode(b)
	return must(t, s, err)
}

// The operations that are remembered are those of all siblings, the latest last, and
// no more than may be.
func TestOperationsAreRemembered(t *testing.T) {
	var ids []kv.RequestID
	for i := range kv.MaxRemembered {
		ids = append(ids, kv.RequestID{byte(i + 1)})
	}
	s := apply(t, fresh(t, Counter), CounterOp(1), dot(1, 1), nil)
	h, err := Hold(holding(bodyOf(s, ids[8:]...), bodyOf(s, ids[:9]...)), Counter, 0)
	if err != nil || len(h.Requests) != len(ids) || h.Requests[0] != ids[0] || h.Requests[15] != ids[15] {
		t.Fatalf("%v, %v", h.Requests, err)
	}
	for _, id := range []kv.RequestID{{}, {99}} {
		got, err := object.DecodeState(h.Body(s, id))
		if err != nil || len(got.Requests) != kv.MaxRemembered {
			t.Fatalf("%d remembered, %v", len(got.Requests), err)
		}
		if last := got.Requests[15]; id != (kv.RequestID{}) && last != id {
			t.Errorf("the last is %v", last)
		}
	}
}

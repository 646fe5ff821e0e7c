package vnode_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// operate is an operation in a bucket of its kind.
func operate(op kv.Op, seen object.Vector, id byte) *vnode.Coordinate {
	p := kv.DefaultProps(3, true)
	p.DataType = op.Kind().String()
	m := &vnode.Coordinate{Home: 1, Key: key, Seen: seen, Write: vnode.Write{Op: op}, Props: &p}
	if id != 0 {
		m.Request = kv.RequestID{id}
	}
	return m
}

// value is what the key is.
func (b *bench) value(k kv.Kind) string {
	b.Helper()
	h, err := crdt.Hold(b.stored(), k, 1_000)
	if err != nil {
		b.Fatal(err)
	}
	return h.State.Value().String()
}

func set(adds, removes string) kv.SetOp {
	var op kv.SetOp
	if adds != "" {
		op.Adds = [][]byte{[]byte(adds)}
	}
	if removes != "" {
		op.Removes = [][]byte{[]byte(removes)}
	}
	return op
}

// An operation is applied to all siblings together, and one sibling is left.
func TestAnOperationMergesTheSiblings(t *testing.T) {
	b, other := newBench(t, 1), newBench(t, 2)
	b.handle(operate(kv.CounterOp(1), nil, 0))
	b.handle(store(minted(t, other.handle(operate(kv.CounterOp(10), nil, 0)))))
	if n := len(b.stored().Siblings); n != 2 || b.value(kv.Counter) != "11" {
		t.Fatalf("%d siblings of %s", n, b.value(kv.Counter))
	}
	out := b.handle(operate(kv.CounterOp(100), nil, 0), operate(kv.CounterOp(1000), nil, 0))
	if n := len(b.stored().Siblings); n != 1 || b.value(kv.Counter) != "1111" || len(out.Durable) != 2 {
		t.Errorf("%d siblings of %s", n, b.value(kv.Counter))
	}
	other.handle(store(b.bytes()))
	if got := other.value(kv.Counter); got != "1111" {
		t.Errorf("the other has %s", got)
	}
}

// The object says that it has seen what this vnode has, and not what the client has.
func TestAnObjectHasNotSeenWhatItsClientHas(t *testing.T) {
	b, other := newBench(t, 1), newBench(t, 2)
	b.handle(operate(set("a", ""), nil, 0))
	first := minted(t, other.handle(operate(set("x", ""), nil, 0)))
	second := minted(t, other.handle(operate(set("y", ""), nil, 0)))
	ahead := other.stored().Clock
	b.handle(operate(set("", "x"), ahead, 0)) // what it removes comes later
	if b.stored().Clock.Covers(object.Dot{Actor: object.Actor{2}, Counter: 1}) {
		t.Fatalf("the clock is %v", b.stored().Clock)
	}
	b.handle(store(first))
	if got := b.value(kv.Set); got != `{"a"}` {
		t.Errorf("the set is %s", got)
	}
	b.handle(store(second))
	if got := b.value(kv.Set); got != `{"a" "y"}` {
		t.Errorf("the set is %s", got)
	}
}

// A vnode whose dots somebody has seen before it made them goes on as another actor.
func TestAnOperationUnderASeenDotIsOfANewActor(t *testing.T) {
	b, other := newBench(t, 1), newBench(t, 2)
	other.handle(operate(set("a", ""), nil, 0))
	forged := object.Vector{{Actor: object.Actor{1}, Counter: 1 << 40}}
	other.handle(operate(set("", "x"), forged, 0))
	b.handle(store(other.bytes()))
	out := b.handle(operate(set("x", ""), nil, 0))
	if actor, _ := b.vnode.Incarnation(); actor == (object.Actor{1}) || len(out.Notes) != 1 || out.Notes[0].Kind != vnode.NoteNewActor {
		t.Errorf("actor %v, notes %v", actor, out.Notes)
	}
	if got := b.value(kv.Set); got != `{"a" "x"}` {
		t.Errorf("the set is %s", got)
	}
	if r := refusal(t, b.handle(operate(set("y", ""), object.Vector{{Actor: mine(b), Counter: 1 << 40}}, 0))); r.Code != vnode.CodeContext {
		t.Errorf("a context of what it never made: code %d", r.Code)
	}
}

func mine(b *bench) object.Actor {
	a, _ := b.vnode.Incarnation()
	return a
}

func TestOperationsThatAreRefusedChangeNothing(t *testing.T) {
	b := newBench(t, 1)
	if r := refusal(t, b.handle(operate(set("", "x"), nil, 0))); r.Code != vnode.CodePrecondition || r.Text != `{precondition,{not_present,<<"x">>}}` {
		t.Errorf("%+v", r)
	}
	if b.bytes() != nil {
		t.Error("something is there")
	}
	b.handle(operate(set("a", ""), nil, 0))
	before := string(b.bytes())
	large := operate(set(string(make([]byte, 1000)), ""), nil, 0)
	large.Props.SizeMax = 500
	for _, x := range []struct {
		m    *vnode.Coordinate
		code vnode.Code
	}{{large, vnode.CodeTooLarge}, {operate(kv.CounterOp(1), nil, 0), vnode.CodeDataType}} {
		if r := refusal(t, b.handle(x.m)); r.Code != x.code {
			t.Errorf("code %d (%s), want %d", r.Code, r.Text, x.code)
		}
	}
	if string(b.bytes()) != before {
		t.Error("something has changed")
	}
}

// After a delete nothing is left of what was deleted, on this replica and any other.
func TestWhatIsDeletedStaysDeleted(t *testing.T) {
	b, other := newBench(t, 1), newBench(t, 2)
	b.handle(operate(set("a", ""), nil, 0))
	old := b.bytes()
	del := operate(set("", ""), b.stored().Clock, 0)
	del.Write = vnode.Write{Deleted: true}
	b.handle(del)
	b.handle(operate(set("b", ""), nil, 0))
	other.handle(store(old))
	other.handle(operate(set("c", ""), nil, 0)) // it does not know of the delete
	b.handle(store(other.bytes()))
	if got := b.value(kv.Set); got != `{"b" "c"}` {
		t.Errorf("the set is %s", got)
	}
}

// A HyperLogLog sinks to the precision that its bucket has now, and never rises.
func TestPrecisionSinks(t *testing.T) {
	b := newBench(t, 1)
	for _, precision := range []int{14, 10, 16} {
		m := operate(kv.HLLOp{[]byte("a"), []byte("b")}, nil, 0)
		m.Props.Precision = precision
		b.handle(m)
	}
	h, err := crdt.Hold(b.stored(), kv.HLL, 0)
	if err != nil || h.State.Value().HLL != 2 {
		t.Fatalf("%v, %v", h.State, err)
	}
	const precisionAt = 2 + 1 + 8 + 1 // version, kind, a context of one actor
	if got := h.State.Append(nil)[precisionAt]; got != 10 {
		t.Errorf("precision %d", got)
	}
}

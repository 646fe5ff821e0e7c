package crdt

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/tanodb/tanodb/internal/object"
)

func fresh(t testing.TB, k Kind) State {
	t.Helper()
	s, err := New(k, 0)
	return must(t, s, err)
}

func apply(t testing.TB, s State, op Op, d object.Dot, ctx object.Vector) State {
	t.Helper()
	s, err := s.Apply(op, d, object.Stamp(d.Counter), ctx)
	return must(t, s, err)
}

func merge(t testing.TB, a, b State) State {
	t.Helper()
	s, err := Merge(a, b)
	return must(t, s, err)
}

func wantValue(t testing.TB, s State, want string) {
	t.Helper()
	if got := s.Value().String(); got != want {
		t.Errorf("the value is %s, want %s", got, want)
	}
}

func adds(all ...string) SetOp    { return SetOp{Adds: elems(all...)} }
func removes(all ...string) SetOp { return SetOp{Removes: elems(all...)} }

func update(name string, op Op) MapOp {
	return MapOp{Updates: []Update{{Field: Field{Name: name, Kind: op.Kind()}, Op: op}}}
}

func remove(name string, k Kind) MapOp { return MapOp{Removes: []Field{{Name: name, Kind: k}}} }

// TestScenario24RemoveWithStaleOrAbsentContext removes an element that was added
// under a:1, and that vnode b adds again as b:1. The removal arrives at a copy
// that has some of this, with a context that has some of it.
func TestScenario24RemoveWithStaleOrAbsentContext(t *testing.T) {
	types := []struct {
		kind        Kind
		add, remove Op
		with        string
		missing     string
	}{
		{Set, adds("x"), removes("x"), `{"x"}`, `{precondition,{not_present,<<"x">>}}`},
		{Map, update("f", RegisterOp("v")), remove("f", Register), `{f:register="v"}`, `{precondition,{not_present,{<<"f">>,riak_dt_lwwreg}}}`},
		{Map, update("f", CounterOp(7)), remove("f", Counter), `{f:counter=7}`, `{precondition,{not_present,{<<"f">>,riak_dt_emcntr}}}`},
		{Map, update("m", update("f", FlagOp(true))), remove("m", Map), `{m:map={f:flag=true}}`, `{precondition,{not_present,{<<"m">>,riak_dt_map}}}`},
		{Map, update("s", adds("x")), remove("s", Set), `{s:set={"x"}}`, `{precondition,{not_present,{<<"s">>,riak_dt_orswot}}}`},
		{Map, update("b", FlagOp(true)), remove("b", Flag), `{b:flag=true}`, `{precondition,{not_present,{<<"b">>,riak_dt_od_flag}}}`},
	}
	cases := []struct {
		name    string
		here    string // which adds the copy has seen
		context object.Vector
		refused bool
		stays   bool // here, after the removal
		wins    bool // once both adds have come
	}{
		{"the context has seen the add", "a", vec(1), false, false, true},
		{"the context has seen both adds", "ab", vec(1, 1), false, false, false},
		{"a stale context: the concurrent add wins", "ab", vec(1), false, true, true},
		{"a stale context that has seen the other add", "ab", vec(0, 1), false, false, false}, // b:1 has replaced a:1
		{"a context ahead of the copy: deferred", "a", vec(1, 1), false, false, false},
		{"a context ahead of a copy that has nothing: deferred", "", vec(1, 1), false, false, false},
		{"a context ahead of a copy that has nothing: the add it has not seen wins", "", vec(1), false, false, true},
		{"no context: what is here goes", "ab", nil, false, false, false},
		{"no context: what comes later wins", "a", nil, false, false, true},
		{"no context, and nothing is here", "", nil, true, false, true},
	}
	for _, ty := range types {
		a := apply(t, fresh(t, ty.kind), ty.add, dot(1, 1), nil)
		b := apply(t, a, ty.add, dot(2, 1), nil)
		if ty.with == `{f:counter=7}` { // it would add up: so b:1 removes it, and b:2 makes it again
			b = apply(t, apply(t, a, ty.remove, dot(2, 1), nil), ty.add, dot(2, 2), nil)
		}
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s %s/%s", ty.kind, ty.with, c.name), func(t *testing.T) {
				ctx := c.context
				if ctx.Counter(actor(2)) > 0 && ty.with == `{f:counter=7}` {
					ctx = ctx.With(dot(2, 2))
				}
				here := map[string]State{"": fresh(t, ty.kind), "a": a, "ab": b}[c.here]
				after, err := here.Apply(ty.remove, dot(3, 1), 1, ctx)
				var missing *PreconditionError
				if errors.As(err, &missing) != c.refused {
					t.Fatalf("error %v", err)
				}
				if c.refused {
					if err.Error() != ty.missing {
						t.Errorf("the error is %v, want %v", err, ty.missing)
					}
					return
				}
				want := map[bool]string{true: ty.with, false: "{}"}
				wantValue(t, after, want[c.stays])
				wantValue(t, merge(t, after, b), want[c.wins])
				wantValue(t, merge(t, merge(t, after, a), b), want[c.wins])
			})
		}
	}
}

// TestScenario23RepeatedOperationCountsOnce applies an operation again under its
// dot, and merges what it has made again and again.
func TestScenario23RepeatedOperationCountsOnce(t *testing.T) {
	for name, op := range map[string]struct {
		kind Kind
		op   Op
		want string
	}{
		"counter":          {Counter, CounterOp(5), "5"},
		"counter in a map": {Map, update("n", CounterOp(5)), "{n:counter=5}"},
		"counter two maps deep": {
			Map, update("m", update("n", CounterOp(5))), "{m:map={n:counter=5}}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := fresh(t, op.kind)
			once := apply(t, before, op.op, dot(1, 1), nil)
			if _, err := once.Apply(op.op, dot(1, 1), 1, nil); !errors.Is(err, ErrSeen) {
				t.Errorf("the second time: error %v, want ErrSeen", err)
			}
			again := apply(t, before, op.op, dot(1, 1), nil) // at a copy that lacks it
			twice := merge(t, merge(t, once, again), once)
			wantValue(t, twice, op.want)
			if !bytes.Equal(twice.Append(nil), once.Append(nil)) {
				t.Errorf("%v has become %v", once, twice)
			}
		})
	}
}

// TestCountersInMaps shows what is left of a counter in a field that is removed
// while others change it.
func TestCountersInMaps(t *testing.T) {
	inc := func(n int64) Op { return update("n", CounterOp(n)) }
	gone := remove("n", Counter)
	base := apply(t, fresh(t, Map), inc(10), dot(1, 1), nil) // a has added 10
	removed := apply(t, base, gone, dot(2, 1), vec(1))

	t.Run("a removed counter does not come back with an old copy", func(t *testing.T) {
		wantValue(t, merge(t, removed, base), "{}")
	})
	t.Run("one that is made again begins at nothing, by another actor", func(t *testing.T) {
		again := apply(t, removed, inc(1), dot(2, 2), nil)
		wantValue(t, again, "{n:counter=1}")
		wantValue(t, merge(t, base, again), "{n:counter=1}")
	})
	t.Run("and by the same actor", func(t *testing.T) {
		again := apply(t, merge(t, base, removed), inc(1), dot(1, 2), nil)
		wantValue(t, again, "{n:counter=1}")
		wantValue(t, merge(t, base, again), "{n:counter=1}")
		wantValue(t, merge(t, again, base), "{n:counter=1}")
	})
	t.Run("an increment by another actor wins, alone", func(t *testing.T) {
		other := apply(t, base, inc(3), dot(3, 1), nil)
		wantValue(t, other, "{n:counter=13}")
		wantValue(t, merge(t, removed, other), "{n:counter=3}")
	})
	t.Run("an increment by the same actor keeps its whole sum", func(t *testing.T) {
		more := apply(t, base, inc(3), dot(1, 2), nil)
		wantValue(t, merge(t, removed, more), "{n:counter=13}")
	})
	t.Run("removed and updated at once, it begins anew", func(t *testing.T) {
		both := MapOp{Removes: gone.Removes, Updates: inc(2).(MapOp).Updates}
		s := apply(t, base, both, dot(2, 1), vec(1))
		wantValue(t, s, "{n:counter=2}")
		wantValue(t, merge(t, s, base), "{n:counter=2}")
	})
	t.Run("two updates of one field in one operation add up", func(t *testing.T) {
		twice := MapOp{Updates: slices.Concat(inc(2).(MapOp).Updates, inc(4).(MapOp).Updates)}
		wantValue(t, apply(t, base, twice, dot(1, 2), nil), "{n:counter=16}")
	})
}

func TestCounterStaysIn64Bits(t *testing.T) {
	const most, least = math.MaxInt64, math.MinInt64
	shares := func(ns ...int64) counter {
		var c counter
		for i, n := range ns {
			c = append(c, share{dot(i+1, 1), n})
		}
		return c
	}
	for _, c := range []struct {
		name  string
		have  counter // shares of actors 1, 2, …
		shown int64
		actor int
		add   int64
		want  int64
		err   error
	}{
		{"up to the most", shares(most - 1), most - 1, 1, 1, most, nil},
		{"one more by the same actor", shares(most), most, 1, 1, 0, ErrOverflow},
		{"one more by another", shares(most), most, 2, 1, 0, ErrOverflow},
		{"down to the least", shares(least + 1), least + 1, 1, -1, least, nil},
		{"one less", shares(least), least, 2, -1, 0, ErrOverflow},
		{"the least at once", nil, 0, 1, least, least, nil},
		{"a share may not leave them, though the value would not", shares(most, least), -1, 1, 1, 0, ErrOverflow},
		{"past the most by merging, and nothing more", shares(most, most), most, 3, 0, most, nil},
		{"past the most by merging, and more", shares(most, most), most, 3, 1, 0, ErrOverflow},
		{"past the most by merging, and less", shares(most, most), most, 3, -5, most, nil},
		{"past the most by merging, and back", shares(most, 7), most, 3, -8, most - 1, nil},
		{"past the least by merging, and less", shares(least, least, least), least, 3, -1, 0, ErrOverflow},
		{"past the least by merging, and back", shares(least, -1), least, 3, 2, least + 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := State{kind: Counter, context: vec(1, 1, 1), store: c.have}
			if got := s.Value().Counter; got != c.shown {
				t.Errorf("before: %d, want %d", got, c.shown)
			}
			after, err := s.Apply(CounterOp(c.add), dot(c.actor, 2), 1, nil)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got := after.Value().Counter; err == nil && got != c.want {
				t.Errorf("after: %d, want %d", got, c.want)
			}
		})
	}
}

func TestRegister(t *testing.T) {
	assign := func(s State, v string, d object.Dot, stamp object.Stamp) State {
		s, err := s.Apply(update("r", RegisterOp(v)), d, stamp, nil)
		return must(t, s, err)
	}
	old := assign(fresh(t, Map), "old", dot(1, 1), 100)

	t.Run("what has read another is newer, whatever the clocks say", func(t *testing.T) {
		wantValue(t, assign(old, "new", dot(2, 1), 50), `{r:register="new"}`)
		wantValue(t, merge(t, old, assign(old, "new", dot(2, 1), 50)), `{r:register="new"}`)
	})
	t.Run("of concurrent ones the later stamp wins", func(t *testing.T) {
		a, b := assign(old, "a", dot(1, 2), 300), assign(old, "b", dot(2, 1), 200)
		wantValue(t, merge(t, a, b), `{r:register="a"}`)
		wantValue(t, merge(t, b, a), `{r:register="a"}`)
	})
	t.Run("then the greater dot", func(t *testing.T) {
		a, b := assign(old, "a", dot(1, 2), 300), assign(old, "b", dot(2, 1), 300)
		wantValue(t, merge(t, a, b), `{r:register="b"}`)
	})
	t.Run("if the one that won is removed, the other is left", func(t *testing.T) {
		a, b := assign(old, "a", dot(1, 2), 300), assign(old, "b", dot(2, 1), 200)
		noA := apply(t, a, remove("r", Register), dot(3, 1), vec(2))
		for _, s := range []State{merge(t, merge(t, a, b), noA), merge(t, a, merge(t, b, noA))} {
			wantValue(t, s, `{r:register="b"}`)
		}
	})
}

func TestFlagsAndFields(t *testing.T) {
	on, off := update("f", FlagOp(true)), update("f", FlagOp(false))
	s := apply(t, fresh(t, Map), off, dot(1, 1), nil)
	wantValue(t, s, "{f:flag=false}") // made, though disabling has nothing to do
	s = apply(t, s, on, dot(1, 2), nil)
	disabled := apply(t, s, off, dot(2, 1), vec(2))
	wantValue(t, disabled, "{f:flag=false}")
	enabled := apply(t, s, on, dot(1, 3), nil)
	wantValue(t, merge(t, disabled, enabled), "{f:flag=true}")

	t.Run("a field whose set is emptied stays", func(t *testing.T) {
		s := apply(t, fresh(t, Map), update("s", adds("x")), dot(1, 1), nil)
		wantValue(t, apply(t, s, update("s", removes("x")), dot(1, 2), nil), "{s:set={}}")
	})
	t.Run("fields of one name and several kinds", func(t *testing.T) {
		s := apply(t, fresh(t, Map), MapOp{Updates: []Update{
			{Field: Field{Name: "f", Kind: Map}, Op: MapOp{}}, {Field: Field{Name: "f", Kind: Flag}, Op: FlagOp(true)}, {Field: Field{Name: "f", Kind: Register}, Op: RegisterOp("v")},
			{Field: Field{Name: "f", Kind: Set}, Op: adds("x")}, {Field: Field{Name: "f", Kind: Counter}, Op: CounterOp(1)}, {Field: Field{Name: "e f", Kind: Map}, Op: MapOp{}},
		}}, dot(1, 1), nil)
		wantValue(t, s, `{"e f":map={} f:counter=1 f:set={"x"} f:register="v" f:flag=true f:map={}}`)
		s = apply(t, s, remove("f", Flag), dot(1, 2), nil)
		wantValue(t, s, `{"e f":map={} f:counter=1 f:set={"x"} f:register="v" f:map={}}`)
	})
	t.Run("a removed field keeps what was put below it concurrently", func(t *testing.T) {
		base := apply(t, fresh(t, Map), update("m", update("s", adds("x"))), dot(1, 1), nil)
		gone := apply(t, base, remove("m", Map), dot(2, 1), vec(1))
		more := apply(t, base, update("m", update("s", adds("y"))), dot(3, 1), nil)
		wantValue(t, more, `{m:map={s:set={"x" "y"}}}`)
		wantValue(t, merge(t, gone, more), `{m:map={s:set={"y"}}}`)
	})
	t.Run("what is pending below a field outlives the field", func(t *testing.T) {
		base := apply(t, fresh(t, Map), update("s", adds("x", "y")), dot(1, 1), nil)
		early := apply(t, fresh(t, Map), update("s", removes("x")), dot(2, 1), vec(1))
		wantValue(t, early, `{s:set={}}`)
		early = apply(t, early, remove("s", Set), dot(2, 2), vec(0, 1))
		wantValue(t, early, `{}`)
		wantValue(t, merge(t, early, base), `{s:set={"y"}}`)
	})
}

func TestSeen(t *testing.T) {
	t.Run("a state begun after a deletion takes nothing of it back", func(t *testing.T) {
		stale := apply(t, apply(t, fresh(t, Set), adds("x"), dot(1, 1), nil), adds("y"), dot(3, 1), nil)
		deleted := vec(1, 1) // a tombstone b:1 that had seen a:1
		again := apply(t, fresh(t, Set).Seen(deleted), adds("z"), dot(2, 2), nil)
		wantValue(t, merge(t, again, stale), `{"y" "z"}`)
	})
	t.Run("a removal does not wait for dots that are in no state", func(t *testing.T) {
		s := apply(t, fresh(t, Set), adds("x", "y"), dot(1, 1), nil)
		clock := vec(1, 5) // with a write of b that was a tombstone
		waits := apply(t, s, removes("x"), dot(1, 2), clock)
		if !slices.ContainsFunc(waits.store.(set), func(m member) bool { return len(m.pending) > 0 }) {
			t.Errorf("nothing is pending in %v", waits)
		}
		for _, s := range []State{waits.Seen(clock), apply(t, s.Seen(clock), removes("x"), dot(1, 2), clock)} {
			wantValue(t, s, `{"y"}`)
			if len(s.store.(set)) != 1 {
				t.Errorf("something is left of the removed element in %v", s.store)
			}
		}
	})
	t.Run("of the zero State", func(t *testing.T) {
		if got := (State{}).Seen(vec(1)).String(); got != "unknown () nothing" {
			t.Errorf("it is %s", got)
		}
	})
}

// TestDotsMustBeNew applies operations under dots that would count as seen
// somewhere.
func TestDotsMustBeNew(t *testing.T) {
	s := apply(t, fresh(t, Map), update("m", update("s", adds("x"))), dot(1, 5), nil)
	pendingSet := apply(t, s, update("m", update("s", removes("x"))), dot(1, 6), vec(5, 9))
	pendingFlag := apply(t, s, update("f", FlagOp(false)), dot(1, 6), vec(5, 9))
	pendingField := apply(t, s, remove("m", Map), dot(1, 6), vec(5, 9))
	for name, c := range map[string]struct {
		s   State
		dot object.Dot
		ctx object.Vector
		err error
	}{
		"new":                       {s, dot(2, 1), nil, nil},
		"zero":                      {s, dot(2, 0), nil, ErrSeen},
		"seen":                      {s, dot(1, 5), nil, ErrSeen},
		"before one that was seen":  {s, dot(1, 4), nil, ErrSeen},
		"seen by the client":        {s, dot(2, 3), vec(5, 3), ErrSeen},
		"pending at an element":     {pendingSet, dot(2, 9), nil, ErrSeen},
		"pending at a flag":         {pendingFlag, dot(2, 9), nil, ErrSeen},
		"pending at a field":        {pendingField, dot(2, 9), nil, ErrSeen},
		"past what is pending":      {pendingField, dot(2, 10), nil, nil},
		"past it, at an element":    {pendingSet, dot(2, 10), nil, nil},
		"of an actor without a dot": {pendingField, dot(3, 1), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			after, err := c.s.Apply(update("m", update("s", adds("y"))), c.dot, 1, c.ctx)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			// What is pending of the actor was seen by now, and is not kept.
			if _, err := Decode(after.Append(nil)); err != nil {
				t.Errorf("%v does not decode: %v", after, err)
			}
		})
	}
}

func TestKindsMustFit(t *testing.T) {
	if _, err := New(Register, 0); err == nil || err.Error() != "`register` is not a supported type" {
		t.Errorf("New of a register: %v", err)
	}
	if _, err := fresh(t, Set).Apply(CounterOp(1), dot(1, 1), 1, nil); err == nil ||
		err.Error() != "Operation type is `counter` but  bucket type is `set`." {
		t.Errorf("a counter's operation on a set: %v", err)
	}
	for name, op := range map[string]Op{
		"none":                         nil,
		"a field of another kind":      MapOp{Updates: []Update{{Field: Field{Name: "f", Kind: Set}, Op: CounterOp(1)}}},
		"a field without an operation": MapOp{Updates: []Update{{Field: Field{Name: "f", Kind: Set}}}},
		"a field that no map has":      MapOp{Updates: []Update{{Field: Field{Name: "f", Kind: HLL}, Op: HLLOp{}}}},
		"a removal of such a field":    remove("f", GSet),
		"a removal of no kind":         remove("f", 0),
		"a foreign operation":          MapOp{Updates: []Update{{Field: Field{Name: "f", Kind: Set}, Op: foreign{}}}},
	} {
		_, err := fresh(t, Map).Apply(op, dot(1, 1), 1, vec(1))
		var kind *KindError
		if !errors.As(err, &kind) {
			t.Errorf("%s: error %v, want a KindError", name, err)
		}
		if _, err := AppendOp(nil, op); op != nil && !errors.As(err, &kind) {
			t.Errorf("%s: encoded with error %v, want a KindError", name, err)
		}
	}
	for _, pair := range [][2]State{{fresh(t, Set), fresh(t, Map)}, {{}, {}}} {
		if _, err := Merge(pair[0], pair[1]); err == nil {
			t.Errorf("%v and %v were merged", pair[0], pair[1])
		} else {
			t.Log(err)
		}
	}
}

// foreign is an operation of nobody.
type foreign struct{}

func (foreign) Kind() Kind { return Set }

func TestLimits(t *testing.T) {
	deep := func(n int) Op {
		op := Op(MapOp{})
		for range n - 1 {
			op = update("m", op)
		}
		return op
	}
	long := string(make([]byte, MaxName+1))
	half := make([]byte, MaxOpBytes/2+1)
	many := make([][]byte, MaxItems+1)
	for name, c := range map[string]struct {
		op   Op
		kind Kind
		ok   bool
	}{
		"maps as deep as they may be":   {deep(MaxDepth), Map, true},
		"one deeper":                    {deep(MaxDepth + 1), Map, false},
		"a name as long as it may be":   {update(long[1:], CounterOp(1)), Map, true},
		"one byte more":                 {update(long, CounterOp(1)), Map, false},
		"a removed name that is longer": {remove(long, Set), Map, false},
		"too many bytes":                {SetOp{Adds: [][]byte{half, half}}, Set, false},
		"too many bytes in a register":  {update("r", RegisterOp(append(half, half...))), Map, false},
		"too many elements":             {GSetOp(many), GSet, false},
		"too many for a HyperLogLog":    {HLLOp(many), HLL, false},
	} {
		_, err := fresh(t, c.kind).Apply(c.op, dot(1, 1), 1, vec(0, 1))
		var limit *LimitError
		if errors.As(err, &limit) == c.ok || c.ok && err != nil {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, p := range []uint8{MinPrecision - 1, MaxPrecision + 1} {
		if _, err := New(HLL, p); err == nil {
			t.Errorf("a HyperLogLog of precision %d", p)
		} else {
			t.Log(err)
		}
	}
}

// TestStatesStayWithinTheirItems fills a state to the limit. Past it, which only
// merging can bring it, it still takes what does not make it grow.
func TestStatesStayWithinTheirItems(t *testing.T) {
	all := make(gset, MaxItems+1)
	for i := range all {
		all[i] = []byte(fmt.Sprintf("%08d", i))
	}
	full := State{kind: GSet, store: all[:MaxItems]}
	over := State{kind: GSet, store: all}
	var limit *LimitError
	if _, err := full.Apply(GSetOp{[]byte("x")}, dot(1, 1), 1, nil); !errors.As(err, &limit) {
		t.Errorf("one more than the limit: error %v", err)
	}
	for _, s := range []State{full, over} {
		if _, err := s.Apply(GSetOp{all[7]}, dot(1, 1), 1, nil); err != nil {
			t.Errorf("an element that is there: error %v", err)
		}
	}
}

func TestErlangTerms(t *testing.T) {
	for in, want := range map[string]string{
		"":            `<<>>`,
		"x":           `<<"x">>`,
		`a"b\`:        `<<"a\"b\\">>`,
		"\x00\xff":    `<<0,255>>`,
		"tab\t":       `<<116,97,98,9>>`,
		longText(300): `<<"` + longText(256) + `"...>>`,
	} {
		if got := erlang([]byte(in)); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
	if got := (&PreconditionError{Field: &Field{Name: "f", Kind: GSet}}).Error(); got != `{precondition,{not_present,{<<"f">>,gset}}}` {
		t.Errorf("the error is %s", got)
	}
}

func longText(n int) string { return string(bytes.Repeat([]byte("x"), n)) }

// TestBrokenTwinsMergeToOne merges different things under one dot, which no
// vnode makes: all copies must choose the same.
func TestBrokenTwinsMergeToOne(t *testing.T) {
	twins := func(a, b store) [2]State {
		f := func(k Kind, s store) State {
			return State{kind: Map, context: vec(1), store: fields{{Field: Field{Name: "f", Kind: k}, adds: []add{add(dot(1, 1))}, in: s}}}
		}
		k := a.value().Kind
		return [2]State{f(k, a), f(k, b)}
	}
	for name, p := range map[string][2]State{
		"counter":            twins(counter{{dot(1, 1), 3}}, counter{{dot(1, 1), 4}}),
		"register, by stamp": twins(register{{dot(1, 1), 2, nil}}, register{{dot(1, 1), 3, nil}}),
		"register, by bytes": twins(register{{dot(1, 1), 2, []byte("a")}}, register{{dot(1, 1), 2, []byte("b")}}),
	} {
		ab, ba := merge(t, p[0], p[1]), merge(t, p[1], p[0])
		if !bytes.Equal(ab.Append(nil), ba.Append(nil)) || !bytes.Equal(ab.Append(nil), p[1].Append(nil)) {
			t.Errorf("%s: %v and %v", name, ab, ba)
		}
	}
}

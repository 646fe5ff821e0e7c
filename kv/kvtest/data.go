package kvtest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// DataStore is a store that has data types.
type DataStore interface {
	kv.Store
	kv.DataTypes
}

// TestDataTypes is the suite of a store's data types. Open and o are as of Test.
func TestDataTypes(t *testing.T, open func(t *testing.T) DataStore, o Options) {
	store := open(t)
	for _, c := range dataTypes {
		t.Run(c.name, func(t *testing.T) {
			c.test(&dataRun{run{T: t, store: store, o: o}, store})
		})
	}
}

type dataCase struct {
	name string
	test func(*dataRun)
}

type dataRun struct {
	run
	data kv.DataTypes
}

func (r *dataRun) typed(typ string) kv.Key { return kv.Key{Type: typ, Bucket: r.Name(), Name: "k"} }

// update applies an operation on all replicas, and must succeed.
func (r *dataRun) update(k kv.Key, op kv.Op, c kv.Context) {
	r.Helper()
	if _, err := r.data.Update(r.Context(), k, op, kv.WriteOptions{Context: c, W: kv.All}); err != nil {
		r.Fatalf("update %v: %v", k, err)
	}
}

// refused applies an operation that must end in this error, with these words.
func (r *dataRun) refused(k kv.Key, op kv.Op, o kv.WriteOptions, target error, parts ...string) {
	r.Helper()
	_, err := r.data.Update(r.Context(), k, op, o)
	r.wants(err, target, parts...)
}

// is checks the value of a key, and returns its context.
func (r *dataRun) is(k kv.Key, want string) kv.Context {
	r.Helper()
	d, err := r.data.Fetch(r.Context(), k, kv.ReadOptions{})
	if err != nil {
		r.Fatalf("fetch %v: %v", k, err)
	}
	if got := d.Value.String(); got != want || d.Kind != d.Value.Kind {
		r.Fatalf("%v is the %v %s, want %s", k, d.Kind, got, want)
	}
	if len(d.Replies) == 0 || len(d.Context) == 0 {
		r.Fatalf("fetch %v: %d replies, and a context of %d bytes", k, len(d.Replies), len(d.Context))
	}
	return d.Context
}

// none checks that a key holds no data type.
func (r *dataRun) none(k kv.Key, kind kv.Kind) kv.Data {
	r.Helper()
	d, err := r.data.Fetch(r.Context(), k, kv.ReadOptions{})
	r.wants(err, kv.ErrNotFound)
	if d.Kind != kind {
		r.Fatalf("what is not found at %v is a %v, want a %v", k, d.Kind, kind)
	}
	return d
}

func elems(all ...string) [][]byte {
	out := make([][]byte, len(all))
	for i, s := range all {
		out[i] = []byte(s)
	}
	return out
}

func adds(all ...string) kv.Op    { return kv.SetOp{Adds: elems(all...)} }
func removes(all ...string) kv.Op { return kv.SetOp{Removes: elems(all...)} }

func updates(fs ...kv.FieldOp) kv.Op { return kv.MapOp{Updates: fs} }

func field(name string, op kv.Op) kv.FieldOp {
	return kv.FieldOp{Field: kv.Field{Name: name, Kind: op.Kind()}, Op: op}
}

var dataTypes = []dataCase{
	{"a counter adds up", func(r *dataRun) {
		k := r.typed("counters")
		r.none(k, kv.Counter)
		r.update(k, kv.CounterOp(5), nil)
		r.update(k, kv.CounterOp(-7), nil)
		r.update(k, kv.CounterOp(0), nil)
		r.is(k, "-2")
	}},
	{"an update returns the value and its context if asked to", func(r *dataRun) {
		k := r.typed("sets")
		d, err := r.data.Update(r.Context(), k, adds("b", "a"), kv.WriteOptions{ReturnBody: true})
		if err != nil || d.Kind != kv.Set || d.Value.String() != `{"a" "b"}` || len(d.Context) == 0 || len(d.Replies) == 0 {
			r.Fatalf("%v %v with a context of %d bytes and %d replies, %v", d.Kind, d.Value, len(d.Context), len(d.Replies), err)
		}
		r.update(k, removes("a"), d.Context)
		d, err = r.data.Update(r.Context(), k, adds("c"), kv.WriteOptions{})
		if err != nil || len(d.Context) != 0 || len(d.Value.Set) != 0 || len(d.Replies) == 0 {
			r.Fatalf("without being asked: %v with a context of %d bytes and %d replies, %v", d.Value, len(d.Context), len(d.Replies), err)
		}
		r.is(k, `{"b" "c"}`)
	}},
	{"a removal removes what its context has seen", func(r *dataRun) {
		k := r.typed("sets")
		r.update(k, adds("x", "y"), nil)
		old := r.is(k, `{"x" "y"}`)
		r.update(k, adds("x"), nil)
		r.update(k, removes("x", "y"), old)
		r.is(k, `{"x"}`) // the second add was not seen
		r.update(k, removes("x"), r.is(k, `{"x"}`))
		r.is(k, `{}`)
	}},
	{"a removal without a context removes what is there", func(r *dataRun) {
		k := r.typed("sets")
		const words = `{precondition,{not_present,<<"x">>}}`
		r.refused(k, removes("x"), kv.WriteOptions{}, kv.ErrPrecondition, words)
		r.none(k, kv.Set)
		r.update(k, adds("x"), nil)
		r.update(k, removes("x"), nil)
		r.is(k, `{}`)
		r.refused(k, removes("x"), kv.WriteOptions{}, kv.ErrPrecondition, words)
		r.update(k, removes("x"), r.is(k, `{}`)) // a context says that it is known to be gone
	}},
	{"an operation that is refused changes nothing", func(r *dataRun) {
		k := r.typed("sets")
		r.update(k, adds("a"), nil)
		r.refused(k, kv.SetOp{Adds: elems("b"), Removes: elems("a", "c")}, kv.WriteOptions{}, kv.ErrPrecondition)
		r.is(k, `{"a"}`)
	}},
	{"an element added and removed at once", func(r *dataRun) {
		k := r.typed("sets")
		both := kv.SetOp{Adds: elems("a", "b"), Removes: elems("b")}
		r.update(k, both, nil)
		c := r.is(k, `{"a"}`) // without a context it is out, though it was not there before
		r.update(k, both, c)
		r.is(k, `{"a" "b"}`) // the context has not seen the addition
		r.update(k, both, nil)
		r.is(k, `{"a"}`)
		k = r.typed("maps")
		r.update(k, updates(field("s", both)), nil)
		r.is(k, `{s:set={"a"}}`)
		r.update(k, updates(field("s", adds("c")), field("s", removes("c"))), nil)
		r.is(k, `{s:set={"a"}}`)
	}},
	{"a map holds all kinds of fields", func(r *dataRun) {
		k := r.typed("maps")
		r.update(k, updates(
			field("n", kv.CounterOp(3)), field("s", adds("x")), field("r", kv.RegisterOp("v")), field("f", kv.FlagOp(true)),
			field("m", updates(field("n", kv.CounterOp(1)))),
		), nil)
		c := r.is(k, `{f:flag=true m:map={n:counter=1} n:counter=3 r:register="v" s:set={"x"}}`)
		r.update(k, updates(field("m", updates(field("n", kv.CounterOp(1))))), nil)
		r.update(k, kv.MapOp{
			Removes: []kv.Field{{Name: "s", Kind: kv.Set}, {Name: "n", Kind: kv.Counter}, {Name: "f", Kind: kv.Flag}},
			Updates: []kv.FieldOp{field("r", kv.RegisterOp("w"))},
		}, c)
		r.is(k, `{m:map={n:counter=2} r:register="w"}`)
		r.refused(k, kv.MapOp{Removes: []kv.Field{{Name: "s", Kind: kv.Set}}}, kv.WriteOptions{}, kv.ErrPrecondition, `{precondition,{not_present,{<<"s">>,riak_dt_orswot}}}`)
	}},
	{"a grow-only set grows", func(r *dataRun) {
		k := r.typed("gsets")
		r.update(k, kv.GSetOp(elems("b", "a")), nil)
		r.update(k, kv.GSetOp(elems("a", "\xff")), nil)
		r.is(k, `{"a" "b" "\xff"}`)
	}},
	{"a HyperLogLog estimates", func(r *dataRun) {
		k := r.typed("hlls")
		var all [][]byte
		for i := range 1000 {
			all = append(all, []byte(fmt.Sprint(i)))
		}
		r.update(k, kv.HLLOp(all[:600]), nil)
		r.update(k, kv.HLLOp(all[400:]), nil)
		d, err := r.data.Fetch(r.Context(), k, kv.ReadOptions{})
		if err != nil || d.Value.HLL < 930 || d.Value.HLL > 1070 {
			r.Fatalf("%v, %v", d.Value, err)
		}
	}},
	{"an operation of another kind is refused", func(r *dataRun) {
		r.refused(r.typed("sets"), kv.CounterOp(1), kv.WriteOptions{}, kv.ErrDataType, "Operation type is `counter` but  bucket type is `set`.")
		r.refused(r.typed("maps"), updates(kv.FieldOp{Field: kv.Field{Name: "f", Kind: kv.Set}, Op: kv.CounterOp(1)}), kv.WriteOptions{}, kv.ErrDataType)
		r.refused(r.typed("counters"), nil, kv.WriteOptions{}, kv.ErrDataType)
		r.refused(r.typed("t"), kv.CounterOp(1), kv.WriteOptions{}, kv.ErrDataType, "`undefined` is not a supported type")
		r.refused(r.typed(Latest), kv.CounterOp(1), kv.WriteOptions{}, kv.ErrDataType, "Bucket must be allow_mult=true")
		r.refused(r.typed("nosuch"), kv.CounterOp(1), kv.WriteOptions{}, kv.ErrBucketType)
		_, err := r.data.Fetch(r.Context(), r.typed("t"), kv.ReadOptions{})
		r.wants(err, kv.ErrDataType)
	}},
	{"a value cannot be put where there are data types", func(r *dataRun) {
		k := r.typed("counters")
		_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("5")}, kv.WriteOptions{})
		r.wants(err, kv.ErrDataType, "`counter`")
		r.none(k, kv.Counter)
	}},
	{"requests that cannot be meant are refused", func(r *dataRun) {
		k := r.typed("counters")
		r.refused(k, kv.CounterOp(1), kv.WriteOptions{W: 9}, kv.ErrInvalid)
		r.refused(k, kv.CounterOp(1), kv.WriteOptions{Context: kv.Context("no context")}, kv.ErrContext)
		long := strings.Repeat("x", kv.MaxKey+1)
		r.refused(r.typed("maps"), updates(field(long, kv.CounterOp(1))), kv.WriteOptions{}, kv.ErrInvalid)
		r.update(k, kv.CounterOp(1), nil)
		r.refused(r.typed("sets"), adds("x"), kv.WriteOptions{Context: r.is(k, "1")}, kv.ErrContext)
	}},
	{"a counter does not overflow", func(r *dataRun) {
		k := r.typed("counters")
		r.update(k, kv.CounterOp(math.MaxInt64), nil)
		r.refused(k, kv.CounterOp(1), kv.WriteOptions{}, kv.ErrOverflow)
		r.is(k, fmt.Sprint(math.MaxInt64))
	}},
	{"an operation repeated with its id counts once", func(r *dataRun) {
		k := r.typed("counters")
		first := kv.WriteOptions{RequestID: kv.RequestID{1, 2, 3}, W: kv.All}
		for i := range kv.MaxRemembered {
			if _, err := r.data.Update(r.Context(), k, kv.CounterOp(100), first); err != nil {
				r.Fatal(err)
			}
			if _, err := r.data.Update(r.Context(), k, kv.CounterOp(1), kv.WriteOptions{RequestID: kv.RequestID{9, byte(i)}, W: kv.All}); err != nil {
				r.Fatal(err)
			}
		}
		r.is(k, "116")
		r.update(k, kv.CounterOp(1), nil) // without an id nothing is remembered
		r.update(k, kv.CounterOp(1), nil)
		r.is(k, "118")
	}},
	{"what was deleted begins anew", func(r *dataRun) {
		k := r.typed("counters")
		r.update(k, kv.CounterOp(5), nil)
		r.delete(k, r.is(k, "5"))
		if d := r.none(k, kv.Counter); len(d.Context) == 0 {
			r.Fatal("a deleted counter has no context")
		}
		r.update(k, kv.CounterOp(2), nil)
		r.is(k, "2")
		r.delete(k, nil)
		r.none(k, kv.Counter)
		s := r.typed("sets")
		r.update(s, adds("a", "b"), nil)
		old := r.is(s, `{"a" "b"}`)
		r.delete(s, nil)
		r.update(s, adds("b"), nil)
		r.update(s, removes("b"), old)
		r.is(s, `{"b"}`)
	}},
	{"a reader of values sees one, of Riak's content type", func(r *dataRun) {
		k := r.typed("sets")
		r.update(k, adds("a"), nil)
		obj := r.get(k, kv.ReadOptions{})
		if len(obj.Values) != 1 || obj.Values[0].ContentType != "application/riak_set" || len(obj.Values[0].Data) == 0 {
			r.Fatalf("%+v", obj.Values)
		}
		r.lists(kv.Bucket{Type: k.Type, Name: k.Bucket}, "k")
	}},
	{"a bucket without a type has counters, beside values", func(r *dataRun) {
		k := r.typed("")
		r.none(k, kv.Counter)
		r.update(k, kv.CounterOp(5), nil)
		r.put(k, "a value", nil)
		r.update(k, kv.CounterOp(5), nil)
		r.is(k, "10")
		obj := r.get(k, kv.ReadOptions{})
		if len(obj.Values) != 2 {
			r.Fatalf("the key holds %d values, want the counter and the value", len(obj.Values))
		}
		r.put(k, "instead of both", obj.Context)
		r.none(k, kv.Counter)
		r.update(k, kv.CounterOp(1), nil)
		r.is(k, "1")
		other := kv.Key{Bucket: r.Name(), Name: "only a value"}
		r.put(other, "a value", nil)
		r.none(other, kv.Counter)
		r.refused(k, adds("x"), kv.WriteOptions{}, kv.ErrDataType, "Operation type is `set` but  bucket type is `counter`.")
	}},
	{"nobody's increment is lost", func(r *dataRun) {
		if r.o.Sequential {
			r.Skip("this store serves one call at a time")
		}
		k := r.typed("counters")
		var wg sync.WaitGroup
		fail := make(chan error, 8)
		for i := range 8 {
			wg.Go(func() {
				for range 20 {
					if _, err := r.data.Update(r.Context(), k, kv.CounterOp(i+1), kv.WriteOptions{}); err != nil {
						fail <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(fail)
		if err := errors.Join(<-fail); err != nil {
			r.Fatal(err)
		}
		r.is(k, fmt.Sprint(20*36))
	}},
}

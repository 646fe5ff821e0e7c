package pb

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// dataClient is a client of a real node with the bucket types of kvtest.
func dataClient(t *testing.T) *client {
	t.Helper()
	node, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	kvtest.Prepare(t, node)
	return dial(t, node, Options{Properties: node, Data: node, Indexes: node})
}

func fetchOf(bucketType, key string) *riakpb.DtFetchReq {
	return &riakpb.DtFetchReq{Type: []byte(bucketType), Bucket: []byte("b"), Key: []byte(key)}
}

func updateOf(bucketType, key string, op *riakpb.DtOp) *riakpb.DtUpdateReq {
	return &riakpb.DtUpdateReq{Type: []byte(bucketType), Bucket: []byte("b"), Key: []byte(key), Op: op}
}

func bytesOf(all ...string) (out [][]byte) {
	for _, s := range all {
		out = append(out, []byte(s))
	}
	return out
}

func incrementOf(n int64) *riakpb.DtOp {
	return &riakpb.DtOp{CounterOp: &riakpb.CounterOp{Increment: &n}}
}

func addOf(all ...string) *riakpb.DtOp {
	return &riakpb.DtOp{SetOp: &riakpb.SetOp{Adds: bytesOf(all...)}}
}

func removeOf(all ...string) *riakpb.DtOp {
	return &riakpb.DtOp{SetOp: &riakpb.SetOp{Removes: bytesOf(all...)}}
}

// update makes an update that is answered with nothing.
func (c *client) update(m *riakpb.DtUpdateReq) {
	c.Helper()
	c.ask(riakpb.DataUpdateReq, m, riakpb.DataUpdateResp, nil)
}

// is fetches a data type and compares its value, as kv prints it.
func (c *client) is(bucketType string, kind kv.Kind, want string) *riakpb.DtFetchResp {
	c.Helper()
	a := &riakpb.DtFetchResp{}
	c.ask(riakpb.DataFetchReq, fetchOf(bucketType, "k"), riakpb.DataFetchResp, a)
	if a.Value == nil || a.KVKind() != kind || a.Value.KVValue(kind).String() != want || a.Told != nil {
		c.Fatalf("%s holds %v, want %s", bucketType, a, want)
	}
	return a
}

func TestDataTypes(t *testing.T) {
	c := dataClient(t)
	var absent riakpb.DtFetchResp
	for name, kind := range map[string]kv.Kind{"counters": kv.Counter, "sets": kv.Set, "gsets": kv.GSet, "hlls": kv.HLL, "maps": kv.Map} {
		if c.ask(riakpb.DataFetchReq, fetchOf(name, "k"), riakpb.DataFetchResp, &absent); absent.KVKind() != kind || absent.Value != nil || absent.Context != nil {
			t.Errorf("what is not there in %s is %v", name, &absent)
		}
	}
	c.update(updateOf("counters", "k", incrementOf(5)))
	c.update(updateOf("counters", "k", incrementOf(-7)))
	c.update(updateOf("counters", "k", &riakpb.DtOp{CounterOp: &riakpb.CounterOp{}})) // one more
	c.is("counters", kv.Counter, "-1")
	c.update(updateOf("sets", "k", addOf("b", "a", "\xff")))
	c.is("sets", kv.Set, `{"a" "b" "\xff"}`)
	c.update(updateOf("gsets", "k", &riakpb.DtOp{GsetOp: &riakpb.GSetOp{Adds: bytesOf("b", "a")}}))
	c.is("gsets", kv.GSet, `{"a" "b"}`)
	c.update(updateOf("hlls", "k", &riakpb.DtOp{HllOp: &riakpb.HllOp{Adds: bytesOf("b", "a", "b")}}))
	c.is("hlls", kv.HLL, "2")
	field := func(name string, typ riakpb.MapField_MapFieldType) *riakpb.MapField {
		return &riakpb.MapField{Name: []byte(name), Type: &typ}
	}
	inner := &riakpb.MapOp{Updates: []*riakpb.MapUpdate{{Field: field("r", riakpb.MapField_REGISTER), RegisterOp: []byte{}}}}
	c.update(updateOf("maps", "k", &riakpb.DtOp{MapOp: &riakpb.MapOp{Updates: []*riakpb.MapUpdate{
		{Field: field("n", riakpb.MapField_COUNTER), CounterOp: &riakpb.CounterOp{Increment: proto.Int64(3)}},
		{Field: field("s", riakpb.MapField_SET), SetOp: &riakpb.SetOp{Adds: bytesOf("x")}},
		{Field: field("r", riakpb.MapField_REGISTER), RegisterOp: []byte("v")},
		{Field: field("f", riakpb.MapField_FLAG), FlagOp: riakpb.MapUpdate_ENABLE.Enum()},
		{Field: field("g", riakpb.MapField_FLAG), FlagOp: riakpb.MapUpdate_DISABLE.Enum()},
		{Field: field("m", riakpb.MapField_MAP), MapOp: inner},
	}}}))
	seen := c.is("maps", kv.Map, `{f:flag=true g:flag=false m:map={r:register=""} n:counter=3 r:register="v" s:set={"x"}}`)
	remove := updateOf("maps", "k", &riakpb.DtOp{MapOp: &riakpb.MapOp{Removes: []*riakpb.MapField{field("n", riakpb.MapField_COUNTER), field("m", riakpb.MapField_MAP)}}})
	remove.Context = seen.Context
	c.update(remove)
	c.is("maps", kv.Map, `{f:flag=true g:flag=false r:register="v" s:set={"x"}}`)
}

// TestContextsOfDataTypes: counters, grow-only sets and HyperLogLogs have none, and what
// is removed needs one, unless it is there.
func TestContextsOfDataTypes(t *testing.T) {
	c := dataClient(t)
	ops := map[string]*riakpb.DtOp{
		"counters": incrementOf(1), "sets": addOf("a", "b"), "gsets": {GsetOp: &riakpb.GSetOp{Adds: bytesOf("a")}},
		"hlls": {HllOp: &riakpb.HllOp{Adds: bytesOf("a")}}, "maps": {MapOp: &riakpb.MapOp{}},
	}
	for name, op := range ops {
		for _, include := range []*bool{nil, proto.Bool(true), proto.Bool(false)} {
			q := updateOf(name, "k", op)
			q.ReturnBody, q.IncludeContext = proto.Bool(true), include
			var put riakpb.DtUpdateResp
			c.ask(riakpb.DataUpdateReq, q, riakpb.DataUpdateResp, &put)
			f := fetchOf(name, "k")
			f.IncludeContext = include
			var got riakpb.DtFetchResp
			c.ask(riakpb.DataFetchReq, f, riakpb.DataFetchResp, &got)
			want := (name == "sets" || name == "maps") && (include == nil || *include)
			if (put.Context != nil) != want || (got.Context != nil) != want {
				t.Errorf("%s, include_context %v: contexts %q and %q", name, include, put.Context, got.Context)
			}
			if put.Key != nil {
				t.Errorf("%s: the key %q is told to who gave it", name, put.Key)
			}
			if kind := got.KVKind(); put.Value().KVValue(kind).String() != got.Value.KVValue(kind).String() {
				t.Errorf("%s: the update says %v, the fetch %v", name, put.Value(), got.Value)
			}
		}
	}
	old := c.is("sets", kv.Set, `{"a" "b"}`).Context
	c.update(updateOf("sets", "k", addOf("a"))) // which the context has not seen
	q := updateOf("sets", "k", removeOf("a", "b"))
	q.Context = old
	c.update(q)
	c.is("sets", kv.Set, `{"a"}`)
	c.fails(riakpb.DataUpdateReq, updateOf("sets", "k", removeOf("x")), `{precondition,{not_present,<<"x">>}}`)
	c.update(updateOf("sets", "k", removeOf("a")))
	c.is("sets", kv.Set, `{}`)
	q.Context = []byte("no context")
	c.fails(riakpb.DataUpdateReq, q, "Invalid vclock: invalid context: it is not a context, or one of a later version")
}

func TestTheServerMakesKeysOfDataTypes(t *testing.T) {
	c := dataClient(t)
	keys := map[string]bool{}
	for range 3 {
		q := updateOf("counters", "", incrementOf(1))
		q.Key = nil
		var a riakpb.DtUpdateResp
		c.ask(riakpb.DataUpdateReq, q, riakpb.DataUpdateResp, &a)
		keys[string(a.Key)] = true
		var got riakpb.DtFetchResp
		c.ask(riakpb.DataFetchReq, fetchOf("counters", string(a.Key)), riakpb.DataFetchResp, &got)
		if got.Value.GetCounterValue() != 1 || a.CounterValue != nil {
			t.Errorf("a key that was made, %q, holds %v", a.Key, got.Value)
		}
	}
	if len(keys) != 3 {
		t.Errorf("keys %v", keys)
	}
}

func TestWordsOfDataTypes(t *testing.T) {
	c := dataClient(t)
	c.update(updateOf("counters", "full", incrementOf(math.MaxInt64)))
	mapped := func(us ...*riakpb.MapUpdate) *riakpb.DtOp { return &riakpb.DtOp{MapOp: &riakpb.MapOp{Updates: us}} }
	set := &riakpb.MapField{Name: []byte("s"), Type: riakpb.MapField_SET.Enum()}
	flag := &riakpb.MapField{Name: []byte("f"), Type: riakpb.MapField_FLAG.Enum()}
	for _, tc := range []struct {
		m    *riakpb.DtUpdateReq
		want string
	}{
		{updateOf("sets", "k", incrementOf(1)), "Operation type is `counter` but  bucket type is `set`."},
		{updateOf("sets", "k", &riakpb.DtOp{}), "Operation type is `undefined` but  bucket type is `set`."},
		{updateOf("t", "k", incrementOf(1)), "`undefined` is not a supported type"},
		{updateOf("default", "k", addOf("a")), "non-counter operation on default bucket"},
		{updateOf("default", "k", &riakpb.DtOp{}), "non-counter operation on default bucket"},
		{updateOf(kvtest.Latest, "k", incrementOf(1)), "Bucket must be allow_mult=true"},
		{updateOf("nosuch", "k", incrementOf(1)), "Error no bucket type `<<\"nosuch\">>`"},
		{updateOf("", "k", incrementOf(1)), string(errType)},
		{updateOf("sets", "", addOf("a")), string(errKey)},
		{updateOf("counters", "full", incrementOf(1)), "crdt: the counter would leave 64 bits"},
		{updateOf("maps", "k", mapped(&riakpb.MapUpdate{Field: set, CounterOp: &riakpb.CounterOp{}})), "Operation type is `counter` but  bucket type is `set`."},
		{updateOf("maps", "k", mapped(&riakpb.MapUpdate{Field: set})), "Message decoding error: the field s:set is updated by 0 operations, and takes one"},
		{updateOf("maps", "k", mapped(&riakpb.MapUpdate{Field: set, RegisterOp: []byte{}, SetOp: &riakpb.SetOp{}})), "Message decoding error: the field s:set is updated by 2 operations, and takes one"},
		{updateOf("maps", "k", mapped(&riakpb.MapUpdate{Field: flag, FlagOp: riakpb.MapUpdate_FlagOp(7).Enum()})), "Message decoding error: the field f:flag is neither enabled nor disabled"},
		{updateOf("maps", "k", mapped(&riakpb.MapUpdate{Field: &riakpb.MapField{Name: []byte("h"), Type: riakpb.MapField_MapFieldType(9).Enum()}, CounterOp: &riakpb.CounterOp{}})), "`unknown` is not a supported type"},
		{updateOf("sets", "k", &riakpb.DtOp{SetOp: &riakpb.SetOp{}, CounterOp: &riakpb.CounterOp{}}), "Message decoding error: there are operations of several types"},
		{updateOf("maps", "k", nested(kv.MaxMapDepth+1)), "operation crdt: maps within each other: 33; the limit is 32"},
	} {
		c.fails(riakpb.DataUpdateReq, tc.m, tc.want)
		c.alive()
	}
	c.update(updateOf("maps", "deep", nested(kv.MaxMapDepth)))
	c.fails(riakpb.DataFetchReq, fetchOf("t", "k"), "`undefined` is not a supported type")
	c.fails(riakpb.DataFetchReq, fetchOf("nosuch", "k"), "Error no bucket type `<<\"nosuch\">>`")
	q := fetchOf("sets", "k")
	q.R = proto.Uint32(4)
	c.fails(riakpb.DataFetchReq, q, "{n_val_violation,3}")
	c.fails(riakpb.PutReq, &riakpb.RpbPutReq{Type: []byte("sets"), Bucket: []byte("b"), Key: []byte("k"), Content: &riakpb.RpbContent{Value: []byte("v")}},
		"the bucket type of sets/b/k has the data type `set`: it takes operations, and no values")
	without := dial(t, &fake{}, Options{})
	without.fails(riakpb.DataFetchReq, fetchOf("sets", "k"), string(errNoData))
	without.fails(riakpb.DataUpdateReq, updateOf("sets", "k", addOf("a")), string(errNoData))
	without.fails(riakpb.CounterGetReq, &riakpb.RpbCounterGetReq{Bucket: []byte("b"), Key: []byte("k")}, string(errNoData))
	without.fails(riakpb.CounterUpdateReq, &riakpb.RpbCounterUpdateReq{Bucket: []byte("b"), Key: []byte("k"), Amount: proto.Int64(1)}, string(errNoData))
}

// nested is an operation on so many maps within each other.
func nested(depth int) *riakpb.DtOp {
	op := &riakpb.MapOp{}
	for range depth - 1 {
		op = &riakpb.MapOp{Updates: []*riakpb.MapUpdate{{Field: &riakpb.MapField{Name: []byte("m"), Type: riakpb.MapField_MAP.Enum()}, MapOp: op}}}
	}
	return &riakpb.DtOp{MapOp: op}
}

// Errors of the store have the same words as those of a get and a put.
func TestEveryErrorOfADataTypeHasItsWords(t *testing.T) {
	one := []kv.Reply{reply(kv.Primary, kv.Found), reply(kv.Primary, kv.Failed)}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{kv.ErrTimeout, "timeout"},
		{kv.ErrOverload, "overload"},
		{kv.ErrInDoubt, "timeout"},
		{kv.ErrClosed, "shutdown"},
		{quorumError("fetch", "R", 2, 1), "{r_val_unsatisfied,2,1}"},
		{quorumError("fetch", "PR", 2, 1), "{pr_val_unsatisfied,2,1}"},
		{quorumError("update", "W", 2, 1), "{w_val_unsatisfied,2,1}"},
		{quorumError("update", "DW", 2, 1), "{dw_val_unsatisfied,2,1}"},
		{quorumError("update", "PW", 2, 1), "{pw_val_unsatisfied,2,1}"},
		{&kv.InvalidError{What: "W", Problem: "is 9; there are 3 replicas"}, "{n_val_violation,3}"},
		{kv.ErrBucketType, "Error no bucket type `<<\"sets\">>`"},
		{fmt.Errorf("%w: it would be 52428900 bytes", kv.ErrTooLarge), "{too_large,52428900}"},
		{&kv.DataError{Cause: kv.ErrPrecondition, Text: "{precondition,why}"}, "{precondition,why}"},
	} {
		f := &fake{fail: tc.err, replies: one}
		c := dial(t, f, Options{Data: f})
		c.fails(riakpb.DataFetchReq, fetchOf("sets", "k"), tc.want)
		c.fails(riakpb.DataUpdateReq, updateOf("sets", "k", addOf("a")), tc.want)
		if !errors.Is(tc.err, kv.ErrBucketType) {
			c.fails(riakpb.CounterGetReq, &riakpb.RpbCounterGetReq{Bucket: []byte("b"), Key: []byte("k")}, tc.want)
			c.fails(riakpb.CounterUpdateReq, &riakpb.RpbCounterUpdateReq{Bucket: []byte("b"), Key: []byte("k"), Amount: proto.Int64(1)}, tc.want)
		}
		c.alive()
		c.Close()
	}
}

func TestOptionsOfDataTypesReachTheStore(t *testing.T) {
	f := &fake{data: kv.Data{Kind: kv.Set, Value: kv.DataValue{Kind: kv.Set}, Context: kv.Context("seen")}}
	c := dial(t, f, Options{Data: f})
	fetch := &riakpb.DtFetchReq{
		Type: []byte("sets"), Bucket: []byte("b"), Key: []byte("k"), R: proto.Uint32(riakpb.QuorumAll), Pr: proto.Uint32(1), BasicQuorum: proto.Bool(true),
		NotfoundOk: proto.Bool(false), Timeout: proto.Uint32(7), SloppyQuorum: proto.Bool(false), NVal: proto.Uint32(2), NodeConfirms: proto.Uint32(riakpb.QuorumAll),
	}
	c.ask(riakpb.DataFetchReq, fetch, riakpb.DataFetchResp, &riakpb.DtFetchResp{})
	if want := (kv.ReadOptions{N: 2, R: kv.All, PR: 1, NodeConfirms: 2, NotFoundOK: kv.Off, BasicQuorum: kv.On, SloppyQuorum: kv.Off, Timeout: 7 * time.Millisecond}); f.read != want {
		t.Errorf("a fetch has %+v, want %+v", f.read, want)
	}
	if want := (kv.Key{Type: "sets", Bucket: "b", Name: "k"}); f.key != want {
		t.Errorf("the key is %v", f.key)
	}
	update := &riakpb.DtUpdateReq{
		Type: []byte("sets"), Bucket: []byte("b"), Key: []byte("k"), Context: []byte("c"), Op: addOf("a"), W: proto.Uint32(riakpb.QuorumOne), Dw: proto.Uint32(2), Pw: proto.Uint32(0),
		ReturnBody: proto.Bool(true), Timeout: proto.Uint32(8), SloppyQuorum: proto.Bool(true), NVal: proto.Uint32(3), NodeConfirms: proto.Uint32(2),
	}
	var a riakpb.DtUpdateResp
	c.ask(riakpb.DataUpdateReq, update, riakpb.DataUpdateResp, &a)
	want := kv.WriteOptions{Context: kv.Context("c"), N: 3, W: kv.One, DW: 2, PW: kv.None, NodeConfirms: 2, SloppyQuorum: kv.On, ReturnBody: true, Timeout: 8 * time.Millisecond}
	if !reflect.DeepEqual(f.write, want) {
		t.Errorf("an update has %+v, want %+v", f.write, want)
	}
	if !reflect.DeepEqual(f.op, kv.SetOp{Adds: bytesOf("a")}) || string(a.Context) != "seen" {
		t.Errorf("the operation is %v, the context %q", f.op, a.Context)
	}
	get := &riakpb.RpbCounterGetReq{
		Bucket: []byte("b"), Key: []byte("k"), R: proto.Uint32(1), Pr: proto.Uint32(2), BasicQuorum: proto.Bool(false), NotfoundOk: proto.Bool(true), NodeConfirms: proto.Uint32(riakpb.QuorumMajority),
	}
	c.ask(riakpb.CounterGetReq, get, riakpb.CounterGetResp, &riakpb.RpbCounterGetResp{})
	if want := (kv.ReadOptions{R: 1, PR: 2, NodeConfirms: 2, NotFoundOK: kv.On, BasicQuorum: kv.Off}); f.read != want || f.key != (kv.Key{Bucket: "b", Name: "k"}) {
		t.Errorf("a counter's get has %+v of %v, want %+v", f.read, f.key, want)
	}
	count := &riakpb.RpbCounterUpdateReq{
		Bucket: []byte("b"), Key: []byte("k"), Amount: proto.Int64(-9), W: proto.Uint32(1), Dw: proto.Uint32(2), Pw: proto.Uint32(3), Returnvalue: proto.Bool(true), NodeConfirms: proto.Uint32(1),
	}
	c.ask(riakpb.CounterUpdateReq, count, riakpb.CounterUpdateResp, &riakpb.RpbCounterUpdateResp{})
	if want := (kv.WriteOptions{W: 1, DW: 2, PW: 3, NodeConfirms: 1, ReturnBody: true}); !reflect.DeepEqual(f.write, want) || f.op != kv.Op(kv.CounterOp(-9)) {
		t.Errorf("a counter's update has %+v and %v, want %+v", f.write, f.op, want)
	}
}

func TestCountersOfRiak14(t *testing.T) {
	c := dataClient(t)
	get := &riakpb.RpbCounterGetReq{Bucket: []byte("b"), Key: []byte("k")}
	add := &riakpb.RpbCounterUpdateReq{Bucket: []byte("b"), Key: []byte("k"), Amount: proto.Int64(5)}
	var got riakpb.RpbCounterGetResp
	c.ask(riakpb.CounterGetReq, get, riakpb.CounterGetResp, &got)
	if got.Value != nil {
		t.Errorf("a counter that is not there is %v", &got)
	}
	c.ask(riakpb.CounterUpdateReq, add, riakpb.CounterUpdateResp, nil)
	add.Amount, add.Returnvalue = proto.Int64(-7), proto.Bool(true)
	var value riakpb.RpbCounterUpdateResp
	c.ask(riakpb.CounterUpdateReq, add, riakpb.CounterUpdateResp, &value)
	c.ask(riakpb.CounterGetReq, get, riakpb.CounterGetResp, &got)
	if value.GetValue() != -2 || got.GetValue() != -2 {
		t.Errorf("the update says %v, the get %v", &value, &got)
	}
	// The messages of data types have them in the type "default".
	var data riakpb.DtFetchResp
	c.ask(riakpb.DataFetchReq, fetchOf("default", "k"), riakpb.DataFetchResp, &data)
	if data.KVKind() != kv.Counter || data.Value.GetCounterValue() != -2 || data.Context != nil {
		t.Errorf("as a data type it is %v", &data)
	}
	c.update(updateOf("default", "k", incrementOf(4)))
	update := updateOf("default", "k", &riakpb.DtOp{CounterOp: &riakpb.CounterOp{}})
	update.ReturnBody = proto.Bool(true)
	var updated riakpb.DtUpdateResp
	c.ask(riakpb.DataUpdateReq, update, riakpb.DataUpdateResp, &updated)
	c.ask(riakpb.CounterGetReq, get, riakpb.CounterGetResp, &got)
	if updated.CounterValue == nil || *updated.CounterValue != 3 || got.GetValue() != 3 {
		t.Errorf("after an update of the data type it says %v, the get %v", &updated, &got)
	}
	data.Reset()
	c.ask(riakpb.DataFetchReq, fetchOf("default", "nope"), riakpb.DataFetchResp, &data)
	if data.KVKind() != kv.Counter || data.Value != nil {
		t.Errorf("a data type that is not there is %v", &data)
	}
	c.ask(riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: []byte("b"), Props: &riakpb.RpbBucketProps{AllowMult: proto.Bool(false)}}, riakpb.SetBucketResp, nil)
	c.fails(riakpb.DataFetchReq, fetchOf("default", "k"), "Counters require bucket property 'allow_mult=true'")
	c.fails(riakpb.DataUpdateReq, update, "Counters require bucket property 'allow_mult=true'")
	c.fails(riakpb.CounterUpdateReq, add, "Counters require bucket property 'allow_mult=true'")
	c.fails(riakpb.CounterGetReq, get, "Counters require bucket property 'allow_mult=true'") // as over HTTP
	add.Key = []byte{}
	c.fails(riakpb.CounterUpdateReq, add, string(errKey))
	get.Bucket = []byte{}
	c.fails(riakpb.CounterGetReq, get, string(errBucket))
}

// An operation of many small pieces takes more memory than its frame, and is refused
// where there is not so much.
func TestOperationsTakeTheirMemory(t *testing.T) {
	const most = 8 << 20
	f := &fake{data: kv.Data{Kind: kv.Set, Value: kv.DataValue{Kind: kv.Set}}}
	s, addr := serveOn(t, f, Options{Data: f, MaxFrames: most})
	c := connect(t, addr)
	c.update(updateOf("sets", "k", addOf(strings.Repeat("x", most/2))))
	pieces := make([]string, most/fieldMemory)
	c.fails(riakpb.DataUpdateReq, updateOf("sets", "k", addOf(pieces...)), "overload")
	c.update(updateOf("sets", "k", addOf(pieces[:len(pieces)/2]...)))
	if op := f.op.(kv.SetOp); len(op.Adds) != len(pieces)/2 {
		t.Errorf("%d of %d elements have come", len(op.Adds), len(pieces)/2)
	}
	deep := frameOf(t, riakpb.DataUpdateReq, updateOf("maps", "k", nested(5000)))
	c.send(deep)
	var e riakpb.RpbErrorResp
	c.await(riakpb.Error, &e)
	if !strings.HasPrefix(string(e.Errmsg), "Message decoding error: ") {
		t.Errorf("maps without end: %q", e.Errmsg)
	}
	c.alive()
	if n := s.frames.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// TestOurClientIsToldOfDataTypes compares the answers to requests with an ask.
func TestOurClientIsToldOfDataTypes(t *testing.T) {
	replies := []kv.Reply{{Partition: kv.Partition{Index: 1, Of: 8}, Node: "n1", Role: kv.Primary, Result: kv.Found}}
	f := &fake{data: kv.Data{Kind: kv.Counter, Value: kv.DataValue{Kind: kv.Counter, Counter: 4}, Context: kv.Context("seen"), Replies: replies}, replies: replies}
	c := dial(t, f, Options{Data: f})
	fetch := fetchOf("default", "k")
	fetch.Ask = &riakpb.TanoAsk{Linger: proto.Uint32(5)}
	var got riakpb.DtFetchResp
	c.ask(riakpb.DataFetchReq, fetch, riakpb.DataFetchResp, &got)
	if got.Value.GetCounterValue() != 4 || string(got.Context) != "seen" || !slices.Equal(got.Told.KVReplies(), replies) || f.read.Linger != 5*time.Millisecond || f.key.Type != "" {
		t.Errorf("a fetch is told %v; it was asked with %+v of %v", &got, f.read, f.key)
	}
	update := updateOf("default", "k", incrementOf(1))
	update.ReturnBody, update.Ask = proto.Bool(true), &riakpb.TanoAsk{RequestId: []byte("0123456789abcdef")}
	var put riakpb.DtUpdateResp
	c.ask(riakpb.DataUpdateReq, update, riakpb.DataUpdateResp, &put)
	if put.GetCounterValue() != 4 || string(put.Context) != "seen" || len(put.Told.GetReplies()) != 1 || string(f.write.RequestID[:]) != "0123456789abcdef" {
		t.Errorf("an update is told %v; it was asked with %+v", &put, f.write)
	}
	update.Ask.RequestId = make([]byte, 17)
	c.fails(riakpb.DataUpdateReq, update, "Message decoding error: the request id is too long")
	f.fail = kv.ErrNotFound
	c.ask(riakpb.DataFetchReq, fetch, riakpb.DataFetchResp, &got)
	if got.Value != nil || got.KVKind() != kv.Counter || !errors.Is(got.Told.Err(), kv.ErrNotFound) || len(got.Told.Replies) != 1 {
		t.Errorf("of what is not there it is told %v", &got)
	}
	f.fail = &kv.DataError{Cause: kv.ErrOverflow, Text: "it is full"}
	update.Ask.RequestId = nil
	c.send(frameOf(t, riakpb.DataUpdateReq, update))
	var e riakpb.RpbErrorResp
	c.await(riakpb.Error, &e)
	if err := e.Told.Err(); string(e.Errmsg) != "it is full" || !errors.Is(err, kv.ErrOverflow) || err.Error() != "it is full" {
		t.Errorf("an error is told as %v", &e)
	}
}

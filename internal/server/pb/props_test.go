package pb

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// every is each property that has a field, with the fields that stand for it.
var every = []struct {
	p kv.Property
	m *riakpb.RpbBucketProps
}{
	{kv.Property{Name: "n_val", Value: "3"}, &riakpb.RpbBucketProps{NVal: proto.Uint32(3)}},
	{kv.Property{Name: "allow_mult", Value: "true"}, &riakpb.RpbBucketProps{AllowMult: proto.Bool(true)}},
	{kv.Property{Name: "last_write_wins", Value: "false"}, &riakpb.RpbBucketProps{LastWriteWins: proto.Bool(false)}},
	{kv.Property{Name: "precommit", Value: `[{"mod":"m","fun":"f"},{"name":"js"}]`}, &riakpb.RpbBucketProps{HasPrecommit: proto.Bool(true), Precommit: []*riakpb.RpbCommitHook{
		{Modfun: &riakpb.RpbModFun{Module: []byte("m"), Function: []byte("f")}}, {Name: []byte("js")}}}},
	{kv.Property{Name: "postcommit", Value: `[]`}, &riakpb.RpbBucketProps{HasPostcommit: proto.Bool(true)}},
	{kv.Property{Name: "chash_keyfun", Value: `{"mod":"riak_core_util","fun":"chash_std_keyfun"}`}, &riakpb.RpbBucketProps{
		ChashKeyfun: &riakpb.RpbModFun{Module: []byte("riak_core_util"), Function: []byte("chash_std_keyfun")}}},
	{kv.Property{Name: "linkfun", Value: `{"mod":"riak_kv_wm_link_walker","fun":"mapreduce_linkfun"}`}, &riakpb.RpbBucketProps{
		Linkfun: &riakpb.RpbModFun{Module: []byte("riak_kv_wm_link_walker"), Function: []byte("mapreduce_linkfun")}}},
	{kv.Property{Name: "old_vclock", Value: "86400"}, &riakpb.RpbBucketProps{OldVclock: proto.Uint32(86400)}},
	{kv.Property{Name: "young_vclock", Value: "20"}, &riakpb.RpbBucketProps{YoungVclock: proto.Uint32(20)}},
	{kv.Property{Name: "big_vclock", Value: "50"}, &riakpb.RpbBucketProps{BigVclock: proto.Uint32(50)}},
	{kv.Property{Name: "small_vclock", Value: "51"}, &riakpb.RpbBucketProps{SmallVclock: proto.Uint32(51)}},
	{kv.Property{Name: "pr", Value: "0"}, &riakpb.RpbBucketProps{Pr: proto.Uint32(0)}},
	{kv.Property{Name: "r", Value: "quorum"}, &riakpb.RpbBucketProps{R: proto.Uint32(4294967293)}},
	{kv.Property{Name: "w", Value: "one"}, &riakpb.RpbBucketProps{W: proto.Uint32(4294967294)}},
	{kv.Property{Name: "pw", Value: "all"}, &riakpb.RpbBucketProps{Pw: proto.Uint32(4294967292)}},
	{kv.Property{Name: "dw", Value: "default"}, &riakpb.RpbBucketProps{Dw: proto.Uint32(4294967291)}},
	{kv.Property{Name: "rw", Value: "2"}, &riakpb.RpbBucketProps{Rw: proto.Uint32(2)}},
	{kv.Property{Name: "basic_quorum", Value: "false"}, &riakpb.RpbBucketProps{BasicQuorum: proto.Bool(false)}},
	{kv.Property{Name: "notfound_ok", Value: "true"}, &riakpb.RpbBucketProps{NotfoundOk: proto.Bool(true)}},
	{kv.Property{Name: "backend", Value: "disk"}, &riakpb.RpbBucketProps{Backend: []byte("disk")}},
	{kv.Property{Name: "search", Value: "false"}, &riakpb.RpbBucketProps{Search: proto.Bool(false)}},
	{kv.Property{Name: "repl", Value: "realtime"}, &riakpb.RpbBucketProps{Repl: riakpb.RpbBucketProps_REALTIME.Enum()}},
	{kv.Property{Name: "search_index", Value: "idx"}, &riakpb.RpbBucketProps{SearchIndex: []byte("idx")}},
	{kv.Property{Name: "datatype", Value: "counter"}, &riakpb.RpbBucketProps{Datatype: []byte("counter")}},
	{kv.Property{Name: "consistent", Value: "false"}, &riakpb.RpbBucketProps{Consistent: proto.Bool(false)}},
	{kv.Property{Name: "write_once", Value: "true"}, &riakpb.RpbBucketProps{WriteOnce: proto.Bool(true)}},
	{kv.Property{Name: "hll_precision", Value: "14"}, &riakpb.RpbBucketProps{HllPrecision: proto.Uint32(14)}},
}

func TestEveryProperty(t *testing.T) {
	fields := (&riakpb.RpbBucketProps{}).ProtoReflect().Descriptor().Fields()
	if n := fields.Len() - 2; len(every) != n { // without has_precommit and has_postcommit
		t.Errorf("%d properties are tested, and there are %d", len(every), n)
	}
	for _, tc := range every {
		m, err := encodeProps(kv.Properties{tc.p})
		if err != nil {
			t.Errorf("%v: %v", tc.p, err)
			continue
		}
		if diff := cmp.Diff(tc.m, m, protocmp.Transform()); diff != "" {
			t.Errorf("%v: %s", tc.p, diff)
		}
		ps, err := decodeProps(tc.m)
		if diff := cmp.Diff(kv.Properties{tc.p}, ps); diff != "" || err != nil {
			t.Errorf("%v: error %v, %s", tc.p, err, diff)
		}
	}
}

func TestPropertiesThatHaveNoField(t *testing.T) {
	m, err := encodeProps(kv.Properties{{Name: "node_confirms", Value: "2"}, {Name: "has_precommit", Value: "true"}, {Name: "n_val", Value: "5"}, {Name: "dvv_enabled", Value: "true"}})
	if diff := cmp.Diff(&riakpb.RpbBucketProps{NVal: proto.Uint32(5)}, m, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("error %v, %s", err, diff)
	}
	for _, p := range (kv.Properties{{Name: "n_val", Value: "three"}, {Name: "n_val", Value: "quorum"}, {Name: "allow_mult", Value: "maybe"}, {Name: "repl", Value: "often"}, {Name: "precommit", Value: "none"}, {Name: "linkfun", Value: "[]"}}) {
		if _, err := encodeProps(kv.Properties{p}); err == nil || !strings.Contains(err.Error(), "bucket property "+p.Name+" is ") {
			t.Errorf("%v: %v", p, err)
		}
	}
	if _, err := decodeProps(&riakpb.RpbBucketProps{Repl: riakpb.RpbBucketProps_RpbReplMode(9).Enum()}); err == nil {
		t.Error("a mode of replication that is none was taken")
	}
}

func TestPropertiesOfBucketsAndTypes(t *testing.T) {
	b, typ := []byte("b"), []byte("t")
	three := &riakpb.RpbBucketProps{NVal: proto.Uint32(3)}
	none := dial(t, &fake{}, Options{})
	none.fails(riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: b}, string(errNoProps))
	none.fails(riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: typ, Props: three}, string(errNoProps))

	f := &fake{props: map[string]kv.Properties{"t": {{Name: "n_val", Value: "5"}}, "/b": {{Name: "r", Value: "quorum"}, {Name: "allow_mult", Value: "true"}}, "t/b": nil, "bad": {{Name: "n_val", Value: "x"}}}}
	c := dial(t, f, Options{Properties: f})
	show := func(code riakpb.Code, m proto.Message, want *riakpb.RpbBucketProps) {
		t.Helper()
		var r riakpb.RpbGetBucketResp
		c.ask(code, m, riakpb.GetBucketResp, &r)
		if diff := cmp.Diff(want, r.Props, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	show(riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: b}, &riakpb.RpbBucketProps{R: proto.Uint32(riakpb.QuorumMajority), AllowMult: proto.Bool(true)})
	show(riakpb.GetBucketTypeReq, &riakpb.RpbGetBucketTypeReq{Type: typ}, &riakpb.RpbBucketProps{NVal: proto.Uint32(5)})

	c.ask(riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: b, Type: typ, Props: three}, riakpb.SetBucketResp, nil)
	show(riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: b, Type: typ}, three)
	c.ask(riakpb.ResetBucketReq, &riakpb.RpbResetBucketReq{Bucket: b, Type: typ}, riakpb.ResetBucketResp, nil)
	show(riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: b, Type: typ}, &riakpb.RpbBucketProps{})
	c.ask(riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: typ, Props: three}, riakpb.SetBucketResp, nil)
	if !slices.Equal(f.props["t"], kv.Properties{{Name: "n_val", Value: "3"}}) {
		t.Errorf("type t has %v", f.props["t"])
	}

	zero := &riakpb.RpbBucketProps{NVal: proto.Uint32(0)}
	odd := &riakpb.RpbBucketProps{Repl: riakpb.RpbBucketProps_FALSE.Enum()}
	other := []byte("other")
	for _, tc := range []struct {
		code riakpb.Code
		m    proto.Message
		want string
	}{
		{riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: b, Type: other}, "No bucket-type named 'other'"},
		{riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: b, Type: other, Props: odd}, "No bucket-type named 'other'"},
		{riakpb.ResetBucketReq, &riakpb.RpbResetBucketReq{Bucket: b, Type: other}, "No bucket-type named 'other'"},
		{riakpb.GetBucketTypeReq, &riakpb.RpbGetBucketTypeReq{Type: other}, `Invalid bucket type: <<"other">>`},
		{riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: other, Props: three}, "Invalid bucket properties: not_active"},
		{riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: b, Props: zero}, "Invalid bucket properties: n_val must be from 1 to 64"},
		{riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: typ, Props: zero}, "Invalid bucket properties: n_val must be from 1 to 64"},
		{riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: []byte{}}, "Bucket cannot be zero-length"},
		{riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: b, Type: []byte{}, Props: three}, "Type cannot be zero-length"},
		{riakpb.ResetBucketReq, &riakpb.RpbResetBucketReq{Bucket: []byte{}}, "Bucket cannot be zero-length"},
		{riakpb.GetBucketTypeReq, &riakpb.RpbGetBucketTypeReq{Type: []byte{}}, "Type cannot be zero-length"},
		{riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: []byte{}, Props: three}, "Type cannot be zero-length"},
		{riakpb.GetBucketTypeReq, &riakpb.RpbGetBucketTypeReq{Type: []byte("bad")}, `bucket property n_val is "x": strconv.ParseUint: parsing "x": invalid syntax`},
	} {
		c.fails(tc.code, tc.m, tc.want)
	}
	c.alive()
}

package pb

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// every is each property that has a field, with the fields that stand for it.
var every = []struct {
	p Prop
	m *riakpb.RpbBucketProps
}{
	{Prop{"n_val", "3"}, &riakpb.RpbBucketProps{NVal: proto.Uint32(3)}},
	{Prop{"allow_mult", "true"}, &riakpb.RpbBucketProps{AllowMult: proto.Bool(true)}},
	{Prop{"last_write_wins", "false"}, &riakpb.RpbBucketProps{LastWriteWins: proto.Bool(false)}},
	{Prop{"precommit", `[{"mod":"m","fun":"f"},{"name":"js"}]`}, &riakpb.RpbBucketProps{HasPrecommit: proto.Bool(true), Precommit: []*riakpb.RpbCommitHook{
		{Modfun: &riakpb.RpbModFun{Module: []byte("m"), Function: []byte("f")}}, {Name: []byte("js")}}}},
	{Prop{"postcommit", `[]`}, &riakpb.RpbBucketProps{HasPostcommit: proto.Bool(true)}},
	{Prop{"chash_keyfun", `{"mod":"riak_core_util","fun":"chash_std_keyfun"}`}, &riakpb.RpbBucketProps{
		ChashKeyfun: &riakpb.RpbModFun{Module: []byte("riak_core_util"), Function: []byte("chash_std_keyfun")}}},
	{Prop{"linkfun", `{"mod":"riak_kv_wm_link_walker","fun":"mapreduce_linkfun"}`}, &riakpb.RpbBucketProps{
		Linkfun: &riakpb.RpbModFun{Module: []byte("riak_kv_wm_link_walker"), Function: []byte("mapreduce_linkfun")}}},
	{Prop{"old_vclock", "86400"}, &riakpb.RpbBucketProps{OldVclock: proto.Uint32(86400)}},
	{Prop{"young_vclock", "20"}, &riakpb.RpbBucketProps{YoungVclock: proto.Uint32(20)}},
	{Prop{"big_vclock", "50"}, &riakpb.RpbBucketProps{BigVclock: proto.Uint32(50)}},
	{Prop{"small_vclock", "51"}, &riakpb.RpbBucketProps{SmallVclock: proto.Uint32(51)}},
	{Prop{"pr", "0"}, &riakpb.RpbBucketProps{Pr: proto.Uint32(0)}},
	{Prop{"r", "quorum"}, &riakpb.RpbBucketProps{R: proto.Uint32(4294967293)}},
	{Prop{"w", "one"}, &riakpb.RpbBucketProps{W: proto.Uint32(4294967294)}},
	{Prop{"pw", "all"}, &riakpb.RpbBucketProps{Pw: proto.Uint32(4294967292)}},
	{Prop{"dw", "default"}, &riakpb.RpbBucketProps{Dw: proto.Uint32(4294967291)}},
	{Prop{"rw", "2"}, &riakpb.RpbBucketProps{Rw: proto.Uint32(2)}},
	{Prop{"basic_quorum", "false"}, &riakpb.RpbBucketProps{BasicQuorum: proto.Bool(false)}},
	{Prop{"notfound_ok", "true"}, &riakpb.RpbBucketProps{NotfoundOk: proto.Bool(true)}},
	{Prop{"backend", "disk"}, &riakpb.RpbBucketProps{Backend: []byte("disk")}},
	{Prop{"search", "false"}, &riakpb.RpbBucketProps{Search: proto.Bool(false)}},
	{Prop{"repl", "realtime"}, &riakpb.RpbBucketProps{Repl: riakpb.RpbBucketProps_REALTIME.Enum()}},
	{Prop{"search_index", "idx"}, &riakpb.RpbBucketProps{SearchIndex: []byte("idx")}},
	{Prop{"datatype", "counter"}, &riakpb.RpbBucketProps{Datatype: []byte("counter")}},
	{Prop{"consistent", "false"}, &riakpb.RpbBucketProps{Consistent: proto.Bool(false)}},
	{Prop{"write_once", "true"}, &riakpb.RpbBucketProps{WriteOnce: proto.Bool(true)}},
	{Prop{"hll_precision", "14"}, &riakpb.RpbBucketProps{HllPrecision: proto.Uint32(14)}},
}

func TestEveryProperty(t *testing.T) {
	fields := (&riakpb.RpbBucketProps{}).ProtoReflect().Descriptor().Fields()
	if n := fields.Len() - 2; len(every) != n { // without has_precommit and has_postcommit
		t.Errorf("%d properties are tested, and there are %d", len(every), n)
	}
	for _, tc := range every {
		m, err := encodeProps([]Prop{tc.p})
		if err != nil {
			t.Errorf("%v: %v", tc.p, err)
			continue
		}
		if diff := cmp.Diff(tc.m, m, protocmp.Transform()); diff != "" {
			t.Errorf("%v: %s", tc.p, diff)
		}
		ps, err := decodeProps(tc.m)
		if diff := cmp.Diff([]Prop{tc.p}, ps); diff != "" || err != nil {
			t.Errorf("%v: error %v, %s", tc.p, err, diff)
		}
	}
}

func TestPropertiesThatHaveNoField(t *testing.T) {
	m, err := encodeProps([]Prop{{"node_confirms", "2"}, {"has_precommit", "true"}, {"n_val", "5"}, {"dvv_enabled", "true"}})
	if diff := cmp.Diff(&riakpb.RpbBucketProps{NVal: proto.Uint32(5)}, m, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("error %v, %s", err, diff)
	}
	for _, p := range []Prop{{"n_val", "three"}, {"n_val", "quorum"}, {"allow_mult", "maybe"}, {"repl", "often"}, {"precommit", "none"}, {"linkfun", "[]"}} {
		if _, err := encodeProps([]Prop{p}); err == nil || !strings.Contains(err.Error(), "bucket property "+p.Name+" is ") {
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

	f := &fake{props: map[string][]Prop{"t": {{"n_val", "5"}}, "/b": {{"r", "quorum"}, {"allow_mult", "true"}}, "t/b": nil, "bad": {{"n_val", "x"}}}}
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
	if !slices.Equal(f.props["t"], []Prop{{"n_val", "3"}}) {
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
		{riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: other, Props: three}, `Invalid bucket type: <<"other">>`},
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

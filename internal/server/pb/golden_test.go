package pb

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

var update = flag.Bool("update", false, "write the golden frames anew")

const golden = "testdata/frames.txt"

// everyField is a map that has a field of each kind.
var everyField = kv.Data{Kind: kv.Map, Context: kv.Context("seen"), Value: kv.DataValue{Kind: kv.Map, Counter: 5, Map: []kv.FieldValue{
	{Field: kv.Field{Name: "f", Kind: kv.Flag}, Value: kv.DataValue{Kind: kv.Flag, Flag: true}},
	{Field: kv.Field{Name: "m", Kind: kv.Map}, Value: kv.DataValue{Kind: kv.Map, Map: []kv.FieldValue{
		{Field: kv.Field{Name: "n", Kind: kv.Counter}, Value: kv.DataValue{Kind: kv.Counter, Counter: -300}},
	}}},
	{Field: kv.Field{Name: "r", Kind: kv.Register}, Value: kv.DataValue{Kind: kv.Register}},
	{Field: kv.Field{Name: "s", Kind: kv.Set}, Value: kv.DataValue{Kind: kv.Set, Set: [][]byte{[]byte("a"), {}}}},
}}}

// everyReply are the parts of replicas with and without each field.
var everyReply = []kv.Reply{
	{Partition: kv.Partition{Index: 0, Of: 64}, Node: "n1", Role: kv.Primary, Result: kv.Found, Elapsed: 1500 * time.Microsecond, Repaired: true},
	{Partition: kv.Partition{Index: 63, Of: 64}, Node: strings.Repeat("n", 130), Role: kv.Fallback, Result: kv.Refused, Elapsed: -time.Second, Error: "why"},
}

// TestFramesAreTheSameToTheByte sends one frame after the other and compares
// what comes back, in hexadecimal, with what is kept. The frames sent are in
// the file too, so that it reads as a conversation.
func TestFramesAreTheSameToTheByte(t *testing.T) {
	now := time.Unix(1_700_000_000, 5_000)
	f := &fake{props: map[string]kv.Properties{"/b": nil, "t": nil}, buckets: []string{"b", "c"}}
	f.Now = func() time.Time { return now }
	for _, tc := range every {
		f.props["/b"] = append(f.props["/b"], tc.p)
	}
	f.data = everyField
	f.data.Replies = everyReply
	c := dial(t, f, Options{Properties: f, Buckets: f, Data: f, Indexes: f})
	b, k, typ := []byte("b"), []byte("k"), []byte("t")
	put := putOf("k", "v")
	put.Content.ContentType, put.Content.Usermeta = []byte("text/plain"), []*riakpb.RpbPair{{Key: []byte("m"), Value: []byte("1")}}
	put.Content.Indexes, put.Content.Links = []*riakpb.RpbPair{{Key: []byte("i_int"), Value: []byte("7")}}, []*riakpb.RpbLink{{Bucket: b, Key: []byte("l"), Tag: typ}}
	put.W, put.ReturnBody = proto.Uint32(riakpb.QuorumAll), proto.Bool(true)
	props := &riakpb.RpbBucketProps{NVal: proto.Uint32(3), W: proto.Uint32(riakpb.QuorumMajority)}
	ownGet, ownDel, ownFetch := getOf("k"), &riakpb.RpbDelReq{Bucket: b, Key: []byte("never"), Ask: &riakpb.TanoAsk{}}, fetchOf("t", "k")
	ownGet.Ask = &riakpb.TanoAsk{Tombstones: proto.Bool(true), Linger: proto.Uint32(3)}
	ownFetch.Ask = &riakpb.TanoAsk{}
	query := &riakpb.RpbIndexReq{
		Bucket: b, Index: []byte("i_int"), Qtype: riakpb.RpbIndexReq_range.Enum(), RangeMin: []byte("1"), RangeMax: []byte("9"),
		ReturnTerms: proto.Bool(true), Stream: proto.Bool(true),
	}
	mapOp := riakpb.OpOf(kv.MapOp{
		Removes: []kv.Field{{Name: "old", Kind: kv.Set}},
		Updates: []kv.FieldOp{
			{Field: kv.Field{Name: "n", Kind: kv.Counter}, Op: kv.CounterOp(-3)}, {Field: kv.Field{Name: "s", Kind: kv.Set}, Op: kv.SetOp{Adds: bytesOf("x"), Removes: bytesOf("y")}},
			{Field: kv.Field{Name: "r", Kind: kv.Register}, Op: kv.RegisterOp("v")}, {Field: kv.Field{Name: "f", Kind: kv.Flag}, Op: kv.FlagOp(true)},
			{Field: kv.Field{Name: "m", Kind: kv.Map}, Op: kv.MapOp{Updates: []kv.FieldOp{{Field: kv.Field{Name: "g", Kind: kv.Flag}, Op: kv.FlagOp(false)}}}},
		},
	})
	change := updateOf("t", "k", mapOp)
	change.Context, change.ReturnBody = []byte("c"), proto.Bool(true)
	var talk strings.Builder
	for _, ask := range []struct {
		name string
		code riakpb.Code
		m    proto.Message
	}{
		{"ping", riakpb.PingReq, nil},
		{"server info", riakpb.ServerInfoReq, nil},
		{"set client id", riakpb.SetClientIDReq, &riakpb.RpbSetClientIdReq{ClientId: []byte("me")}},
		{"get client id", riakpb.GetClientIDReq, nil},
		{"get, not found", riakpb.GetReq, getOf("k")},
		{"put", riakpb.PutReq, put},
		{"get", riakpb.GetReq, getOf("k")},
		{"get, of our own client", riakpb.GetReq, ownGet},
		{"get, an impossible key", riakpb.GetReq, getOf("")},
		{"list keys", riakpb.ListKeysReq, &riakpb.RpbListKeysReq{Bucket: b}},
		{"list keys, of our own client", riakpb.ListKeysReq, &riakpb.RpbListKeysReq{Bucket: b, Ask: &riakpb.TanoAsk{Limit: proto.Uint32(1)}}},
		{"index, streamed", riakpb.IndexReq, query},
		{"index", riakpb.IndexReq, equal("i_int", "7")},
		{"index, no term", riakpb.IndexReq, &riakpb.RpbIndexReq{Bucket: b, Index: []byte("i_int"), Qtype: riakpb.RpbIndexReq_eq.Enum()}},
		{"list buckets", riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{}},
		{"del", riakpb.DelReq, &riakpb.RpbDelReq{Bucket: b, Key: k, Rw: proto.Uint32(2)}},
		{"del, of our own client, not found", riakpb.DelReq, ownDel},
		{"get bucket", riakpb.GetBucketReq, &riakpb.RpbGetBucketReq{Bucket: b}},
		{"set bucket", riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: b, Props: props}},
		{"reset bucket", riakpb.ResetBucketReq, &riakpb.RpbResetBucketReq{Bucket: b}},
		{"set bucket type", riakpb.SetBucketTypeReq, &riakpb.RpbSetBucketTypeReq{Type: typ, Props: props}},
		{"get bucket type", riakpb.GetBucketTypeReq, &riakpb.RpbGetBucketTypeReq{Type: typ}},
		{"preflist", riakpb.PreflistReq, &riakpb.RpbGetBucketKeyPreflistReq{Bucket: b, Key: k, Type: typ}},
		{"mapred", riakpb.MapRedReq, jobOf(`{"inputs":[["b","never"]],"query":[` + counted + `]}`)},
		{"mapred, not JSON", riakpb.MapRedReq, &riakpb.RpbMapRedReq{Request: b, ContentType: []byte(jobErlang)}},
		{"counter update", riakpb.CounterUpdateReq, &riakpb.RpbCounterUpdateReq{Bucket: b, Key: k, Amount: proto.Int64(-2), Returnvalue: proto.Bool(true)}},
		{"counter get", riakpb.CounterGetReq, &riakpb.RpbCounterGetReq{Bucket: b, Key: k}},
		{"dt fetch", riakpb.DataFetchReq, fetchOf("t", "k")},
		{"dt fetch, of our own client", riakpb.DataFetchReq, ownFetch},
		{"dt update", riakpb.DataUpdateReq, change},
		{"dt update, two operations", riakpb.DataUpdateReq, updateOf("t", "k", &riakpb.DtOp{CounterOp: &riakpb.CounterOp{}, HllOp: &riakpb.HllOp{}})},
		{"start TLS", riakpb.StartTLS, nil},
		{"a code that is none", 89, nil},
	} {
		sent := frameOf(t, ask.code, ask.m)
		c.send(sent)
		fmt.Fprintf(&talk, "# %s\n> %s\n", ask.name, hex.EncodeToString(sent))
		for more := true; more; {
			code, body := c.recv()
			got := append([]byte{0, 0, 0, byte(1 + len(body)), byte(code)}, body...)
			if len(body) > 254 {
				got[2], got[3] = byte((1+len(body))>>8), byte(1+len(body))
			}
			fmt.Fprintf(&talk, "< %s\n", hex.EncodeToString(got))
			switch {
			case ask.code == riakpb.MapRedReq:
				more = code == riakpb.MapRedResp && !bytes.Equal(body, []byte{3 << 3, 1}) // until done
			case ask.name == "list keys":
				more = !bytes.Equal(body, []byte{2 << 3, 1}) // done is a message of its own
			default:
				more = ask.m == query && !bytes.HasSuffix(body, []byte{4<<3 | byte(isVarint), 1}) // done
			}
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(talk.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != talk.String() {
		t.Errorf("the frames have changed; with -update they are written anew:\n%s", talk.String())
	}
}

package pb

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

func TestAValueComesBackWhole(t *testing.T) {
	now := time.Unix(1_700_000_000, 123_456_000)
	f := &fake{}
	f.Now = func() time.Time { return now }
	c := dial(t, f, Options{})
	for _, size := range []int{0, 1, 400, 500, 505, 512, 1000, largeValue - 1, largeValue, 3 << 20} {
		content := &riakpb.RpbContent{
			Value:           bytes.Repeat([]byte{'v'}, size),
			ContentType:     []byte("text/plain"),
			Charset:         []byte("utf-8"),
			ContentEncoding: []byte("gzip"),
			Links: []*riakpb.RpbLink{
				{Bucket: []byte("people"), Key: []byte("ann"), Tag: []byte("friend")},
				{Bucket: []byte("b\x00"), Key: []byte{}, Tag: []byte{}},
			},
			Usermeta: []*riakpb.RpbPair{{Key: []byte("Colour"), Value: []byte("blue")}, {Key: []byte{0xff}, Value: []byte{}}},
			Indexes:  []*riakpb.RpbPair{{Key: []byte("age_int"), Value: []byte("42")}, {Key: []byte("name_bin"), Value: []byte("ann")}},
		}
		put := &riakpb.RpbPutReq{Bucket: []byte("b"), Key: []byte("k"), Content: content, ReturnBody: proto.Bool(true)}
		var before riakpb.RpbGetResp
		c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &before)
		put.Vclock = before.Vclock
		var written riakpb.RpbPutResp
		c.ask(riakpb.PutReq, put, riakpb.PutResp, &written)
		var read riakpb.RpbGetResp
		c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &read)

		content.LastMod, content.LastModUsecs = proto.Uint32(1_700_000_000), proto.Uint32(123_456)
		if len(read.Content) != 1 || len(read.Content[0].Vtag) == 0 {
			t.Fatalf("%d bytes: read %d values, vtag %q", size, len(read.Content), read.Content[0].GetVtag())
		}
		content.Vtag = read.Content[0].Vtag
		if !proto.Equal(content, read.Content[0]) {
			t.Errorf("%d bytes: read another value, of %d", size, len(read.Content[0].Value))
		}
		if len(written.Content) != 1 || !proto.Equal(content, written.Content[0]) {
			t.Errorf("%d bytes: another value was returned", size)
		}
		if len(read.Vclock) == 0 || !bytes.Equal(read.Vclock, written.Vclock) || written.Key != nil || read.Unchanged != nil {
			t.Errorf("%d bytes: vclocks %x and %x, key %q, unchanged %v", size, read.Vclock, written.Vclock, written.Key, read.Unchanged)
		}
	}
}

func TestTheStoreSetsWhatIsItsOwn(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	p := putOf("k", "v")
	p.Content.Vtag, p.Content.LastMod, p.Content.LastModUsecs, p.Content.Deleted = []byte("mine"), proto.Uint32(1), proto.Uint32(2), proto.Bool(false)
	c.ask(riakpb.PutReq, p, riakpb.PutResp, &riakpb.RpbPutResp{})
	var r riakpb.RpbGetResp
	c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &r)
	if got := r.Content[0]; string(got.Vtag) == "mine" || got.GetLastMod() < 1_700_000_000 || got.Deleted != nil {
		t.Errorf("read %v", got)
	}
}

func TestGetOptions(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	u, b := proto.Uint32, proto.Bool
	for name, tc := range map[string]struct {
		q    *riakpb.RpbGetReq
		want kv.ReadOptions
	}{
		"nothing":                {&riakpb.RpbGetReq{}, kv.ReadOptions{}},
		"r by number":            {&riakpb.RpbGetReq{R: u(3)}, kv.ReadOptions{R: 3}},
		"r one":                  {&riakpb.RpbGetReq{R: u(4294967294)}, kv.ReadOptions{R: kv.One}},
		"r quorum":               {&riakpb.RpbGetReq{R: u(4294967293)}, kv.ReadOptions{R: kv.Majority}},
		"r all":                  {&riakpb.RpbGetReq{R: u(4294967292)}, kv.ReadOptions{R: kv.All}},
		"r default":              {&riakpb.RpbGetReq{R: u(4294967291)}, kv.ReadOptions{}},
		"r none":                 {&riakpb.RpbGetReq{R: u(0)}, kv.ReadOptions{R: kv.None}},
		"pr":                     {&riakpb.RpbGetReq{Pr: u(2)}, kv.ReadOptions{PR: 2}},
		"basic_quorum":           {&riakpb.RpbGetReq{BasicQuorum: b(true)}, kv.ReadOptions{BasicQuorum: kv.On}},
		"basic_quorum off":       {&riakpb.RpbGetReq{BasicQuorum: b(false)}, kv.ReadOptions{BasicQuorum: kv.Off}},
		"notfound_ok off":        {&riakpb.RpbGetReq{NotfoundOk: b(false)}, kv.ReadOptions{NotFoundOK: kv.Off}},
		"head":                   {&riakpb.RpbGetReq{Head: b(true)}, kv.ReadOptions{Head: true}},
		"timeout":                {&riakpb.RpbGetReq{Timeout: u(1500)}, kv.ReadOptions{Timeout: 1500 * time.Millisecond}},
		"timeout of none":        {&riakpb.RpbGetReq{Timeout: u(0)}, kv.ReadOptions{}},
		"sloppy_quorum off":      {&riakpb.RpbGetReq{SloppyQuorum: b(false)}, kv.ReadOptions{SloppyQuorum: kv.Off}},
		"n_val":                  {&riakpb.RpbGetReq{NVal: u(2)}, kv.ReadOptions{N: 2}},
		"node_confirms":          {&riakpb.RpbGetReq{NodeConfirms: u(1)}, kv.ReadOptions{NodeConfirms: 1}},
		"node_confirms none":     {&riakpb.RpbGetReq{NodeConfirms: u(0)}, kv.ReadOptions{}},
		"node_confirms one":      {&riakpb.RpbGetReq{NodeConfirms: u(4294967294)}, kv.ReadOptions{NodeConfirms: 1}},
		"node_confirms quorum":   {&riakpb.RpbGetReq{NodeConfirms: u(4294967293)}, kv.ReadOptions{NodeConfirms: 2}},
		"node_confirms all":      {&riakpb.RpbGetReq{NodeConfirms: u(4294967292)}, kv.ReadOptions{NodeConfirms: 3}},
		"node_confirms all of 1": {&riakpb.RpbGetReq{NodeConfirms: u(4294967292), NVal: u(1)}, kv.ReadOptions{NodeConfirms: 1, N: 1}},
		"node_confirms default":  {&riakpb.RpbGetReq{NodeConfirms: u(4294967291)}, kv.ReadOptions{}},
	} {
		tc.q.Bucket, tc.q.Key = []byte("b"), []byte("k")
		c.send(frameOf(t, riakpb.GetReq, tc.q))
		c.recv()
		tc.want.Tombstones = true
		if diff := cmp.Diff(tc.want, f.read); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPutOptions(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	u, b := proto.Uint32, proto.Bool
	for name, tc := range map[string]struct {
		q    *riakpb.RpbPutReq
		want kv.WriteOptions
	}{
		"nothing":           {&riakpb.RpbPutReq{}, kv.WriteOptions{}},
		"w":                 {&riakpb.RpbPutReq{W: u(4294967292)}, kv.WriteOptions{W: kv.All}},
		"w none":            {&riakpb.RpbPutReq{W: u(0)}, kv.WriteOptions{W: kv.None}},
		"dw":                {&riakpb.RpbPutReq{Dw: u(2)}, kv.WriteOptions{DW: 2}},
		"pw":                {&riakpb.RpbPutReq{Pw: u(4294967294)}, kv.WriteOptions{PW: kv.One}},
		"return_body":       {&riakpb.RpbPutReq{ReturnBody: b(true)}, kv.WriteOptions{ReturnBody: true}},
		"return_head":       {&riakpb.RpbPutReq{ReturnHead: b(true)}, kv.WriteOptions{ReturnBody: true}},
		"timeout":           {&riakpb.RpbPutReq{Timeout: u(7)}, kv.WriteOptions{Timeout: 7 * time.Millisecond}},
		"sloppy_quorum on":  {&riakpb.RpbPutReq{SloppyQuorum: b(true)}, kv.WriteOptions{SloppyQuorum: kv.On}},
		"sloppy_quorum off": {&riakpb.RpbPutReq{SloppyQuorum: b(false)}, kv.WriteOptions{SloppyQuorum: kv.Off}},
		"n_val":             {&riakpb.RpbPutReq{NVal: u(1)}, kv.WriteOptions{N: 1}},
		"node_confirms":     {&riakpb.RpbPutReq{NodeConfirms: u(4294967293)}, kv.WriteOptions{NodeConfirms: 2}},
		"asis off":          {&riakpb.RpbPutReq{Asis: b(false)}, kv.WriteOptions{}},
		"conditions off":    {&riakpb.RpbPutReq{IfNoneMatch: b(false), IfNotModified: b(false)}, kv.WriteOptions{}},
	} {
		tc.q.Bucket, tc.q.Key, tc.q.Content = []byte("b"), []byte("k"), &riakpb.RpbContent{Value: []byte("v")}
		c.send(frameOf(t, riakpb.PutReq, tc.q))
		c.recv()
		if diff := cmp.Diff(tc.want, f.write); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDelOptions(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	u := proto.Uint32
	for name, tc := range map[string]struct {
		q    *riakpb.RpbDelReq
		want kv.WriteOptions
	}{
		"nothing":            {&riakpb.RpbDelReq{}, kv.WriteOptions{}},
		"rw":                 {&riakpb.RpbDelReq{Rw: u(4294967292)}, kv.WriteOptions{R: kv.All, W: kv.All}},
		"rw beside r":        {&riakpb.RpbDelReq{Rw: u(3), R: u(1)}, kv.WriteOptions{R: 1}},
		"rw beside w":        {&riakpb.RpbDelReq{Rw: u(3), W: u(2)}, kv.WriteOptions{W: 2}},
		"r, pr, w, pw, dw":   {&riakpb.RpbDelReq{R: u(1), Pr: u(2), W: u(3), Pw: u(4294967294), Dw: u(2)}, kv.WriteOptions{R: 1, PR: 2, W: 3, PW: kv.One, DW: 2}},
		"timeout and n_val":  {&riakpb.RpbDelReq{Timeout: u(100), NVal: u(2)}, kv.WriteOptions{Timeout: 100 * time.Millisecond, N: 2}},
		"sloppy_quorum":      {&riakpb.RpbDelReq{SloppyQuorum: proto.Bool(false)}, kv.WriteOptions{SloppyQuorum: kv.Off}},
		"sloppy_quorum on":   {&riakpb.RpbDelReq{SloppyQuorum: proto.Bool(true)}, kv.WriteOptions{SloppyQuorum: kv.On}},
		"a vclock":           {&riakpb.RpbDelReq{Vclock: []byte("seen")}, kv.WriteOptions{Context: kv.Context("seen")}},
		"an immense quorum":  {&riakpb.RpbDelReq{W: u(4294967290)}, kv.WriteOptions{W: maxQuorum}},
		"another immensity":  {&riakpb.RpbDelReq{NVal: u(4294967295)}, kv.WriteOptions{N: maxQuorum}},
		"a zero in the type": {&riakpb.RpbDelReq{Type: []byte("default")}, kv.WriteOptions{}},
	} {
		tc.q.Bucket, tc.q.Key = []byte("b"), []byte("k")
		c.send(frameOf(t, riakpb.DelReq, tc.q))
		c.recv()
		if diff := cmp.Diff(tc.want, f.write); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNamesThatCannotBe(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	none := []byte{}
	b, k := []byte("b"), []byte("k")
	content := &riakpb.RpbContent{Value: b}
	for _, tc := range []struct {
		code riakpb.Code
		m    proto.Message
		want string
	}{
		{riakpb.GetReq, &riakpb.RpbGetReq{Bucket: none, Key: k}, "Bucket cannot be zero-length"},
		{riakpb.GetReq, &riakpb.RpbGetReq{Bucket: b, Key: none}, "Key cannot be zero-length"},
		{riakpb.GetReq, &riakpb.RpbGetReq{Bucket: b, Key: k, Type: none}, "Type cannot be zero-length"},
		{riakpb.PutReq, &riakpb.RpbPutReq{Bucket: none, Key: k, Content: content}, "Bucket cannot be zero-length"},
		{riakpb.PutReq, &riakpb.RpbPutReq{Bucket: b, Key: none, Content: content}, "Key cannot be zero-length"},
		{riakpb.PutReq, &riakpb.RpbPutReq{Bucket: b, Key: k, Type: none, Content: content}, "Type cannot be zero-length"},
		{riakpb.DelReq, &riakpb.RpbDelReq{Bucket: none, Key: k}, "Bucket cannot be zero-length"},
		{riakpb.DelReq, &riakpb.RpbDelReq{Bucket: b, Key: none}, "Key cannot be zero-length"},
		{riakpb.DelReq, &riakpb.RpbDelReq{Bucket: b, Key: k, Type: none}, "Type cannot be zero-length"},
		{riakpb.ListKeysReq, &riakpb.RpbListKeysReq{Bucket: none}, "Bucket cannot be zero-length"},
		{riakpb.PreflistReq, &riakpb.RpbGetBucketKeyPreflistReq{Bucket: b, Key: none}, "Key cannot be zero-length"},
		{riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{Type: none}, "Type cannot be zero-length"},
		{riakpb.GetReq, &riakpb.RpbGetReq{Bucket: b, Key: bytes.Repeat(k, kv.MaxKey+1)}, "key is 65537 bytes long; the limit is 65536"},
		{riakpb.PreflistReq, &riakpb.RpbGetBucketKeyPreflistReq{Bucket: b, Key: bytes.Repeat(k, kv.MaxKey+1)}, "key is 65537 bytes long; the limit is 65536"},
		{riakpb.GetReq, &riakpb.RpbGetReq{Bucket: b, Key: k, Type: bytes.Repeat(k, kv.MaxType+1)}, "bucket type is 256 bytes long; the limit is 255"},
	} {
		c.fails(tc.code, tc.m, tc.want)
	}
	c.alive()
}

func TestBucketTypesPartKeys(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	for _, bucketType := range []string{"", "default", "t", "tt"} {
		p := putOf("k", "in "+strings.TrimPrefix(bucketType, "default"))
		if bucketType != "" {
			p.Type = []byte(bucketType)
		}
		var held riakpb.RpbGetResp
		q := &riakpb.RpbGetReq{Bucket: p.Bucket, Key: p.Key, Type: p.Type}
		c.ask(riakpb.GetReq, q, riakpb.GetResp, &held)
		p.Vclock = held.Vclock
		c.ask(riakpb.PutReq, p, riakpb.PutResp, &riakpb.RpbPutResp{})
	}
	for key, want := range map[kv.Key]string{
		{Bucket: "b", Name: "k"}: "in ", {Type: "t", Bucket: "b", Name: "k"}: "in t", {Type: "tt", Bucket: "b", Name: "k"}: "in tt",
	} {
		obj, err := f.Memory.Get(t.Context(), key, kv.ReadOptions{})
		if err != nil || len(obj.Values) != 1 || string(obj.Values[0].Data) != want {
			t.Errorf("%v holds %v, error %v", key, obj.Values, err)
		}
	}
}

func TestNotFoundAndTombstones(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	get := func(deletedVClock bool) *riakpb.RpbGetResp {
		t.Helper()
		q := getOf("k")
		if deletedVClock {
			q.Deletedvclock = proto.Bool(true)
		}
		var r riakpb.RpbGetResp
		c.ask(riakpb.GetReq, q, riakpb.GetResp, &r)
		return &r
	}
	if r := get(true); len(r.Content) > 0 || r.Vclock != nil {
		t.Errorf("a key that never was: %v", r)
	}
	del := &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("k")}
	c.ask(riakpb.DelReq, del, riakpb.DelResp, nil) // to delete what is not there succeeds
	c.ask(riakpb.PutReq, putOf("k", "v"), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.ask(riakpb.DelReq, del, riakpb.DelResp, nil)
	c.ask(riakpb.DelReq, del, riakpb.DelResp, nil)
	if r := get(false); len(r.Content) > 0 || r.Vclock != nil {
		t.Errorf("a deleted key: %v", r)
	}
	if r := get(true); len(r.Content) > 0 || len(r.Vclock) == 0 {
		t.Errorf("a deleted key, its vclock asked for: %v", r)
	}
	// A value beside the tombstone shows both.
	c.ask(riakpb.PutReq, putOf("k", "w"), riakpb.PutResp, &riakpb.RpbPutResp{})
	r := get(false)
	if len(r.Content) != 2 || !r.Content[0].GetDeleted() || len(r.Content[0].Value) > 0 || r.Content[1].Deleted != nil {
		t.Errorf("a tombstone beside a value: %v", r)
	}
}

// A key that is written anew, without a vclock, is one value to Riak's clients, once Riak would
// have reaped the tombstone; our own client sees it where it asks for it.
func TestAKeyThatIsWrittenAnew(t *testing.T) {
	node, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c := dial(t, node, Options{Properties: node})
	for _, tc := range []struct {
		mode string
		want int
	}{{"0", 1}, {"3600000", 2}, {"keep", 2}} {
		if err := node.SetBucketProps(t.Context(), kv.Bucket{Name: "b"}, kv.Properties{{Name: "allow_mult", Value: "true"}, {Name: "delete_mode", Value: tc.mode}}); err != nil {
			t.Fatal(err)
		}
		c.ask(riakpb.PutReq, putOf(tc.mode, "v"), riakpb.PutResp, &riakpb.RpbPutResp{})
		c.ask(riakpb.DelReq, &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte(tc.mode)}, riakpb.DelResp, nil)
		c.ask(riakpb.PutReq, putOf(tc.mode, "w"), riakpb.PutResp, &riakpb.RpbPutResp{})
		q := getOf(tc.mode)
		var r riakpb.RpbGetResp
		c.ask(riakpb.GetReq, q, riakpb.GetResp, &r)
		if len(r.Content) != tc.want {
			t.Errorf("delete_mode %s: it holds %v", tc.mode, r.Content)
		}
		q.Ask = &riakpb.TanoAsk{Tombstones: proto.Bool(true)}
		r.Reset()
		if c.ask(riakpb.GetReq, q, riakpb.GetResp, &r); len(r.Content) != 2 {
			t.Errorf("delete_mode %s: our own client is shown %v", tc.mode, r.Content)
		}
	}
}

func TestSiblings(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	c.ask(riakpb.PutReq, putOf("k", "1"), riakpb.PutResp, &riakpb.RpbPutResp{})
	second := putOf("k", "2")
	second.ReturnHead = proto.Bool(true)
	var r riakpb.RpbPutResp
	c.ask(riakpb.PutReq, second, riakpb.PutResp, &r)
	if len(r.Content) != 2 || len(r.Content[0].Value)+len(r.Content[1].Value) > 0 || string(r.Content[0].Vtag) == string(r.Content[1].Vtag) {
		t.Fatalf("heads of two siblings: %v", r.Content)
	}
	third := putOf("k", "3")
	third.Vclock = r.Vclock
	c.ask(riakpb.PutReq, third, riakpb.PutResp, &riakpb.RpbPutResp{})
	var got riakpb.RpbGetResp
	c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &got)
	if len(got.Content) != 1 || string(got.Content[0].Value) != "3" {
		t.Errorf("resolved: %v", got.Content)
	}
}

func TestHeadAndIfModified(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	c.ask(riakpb.PutReq, putOf("k", "v"), riakpb.PutResp, &riakpb.RpbPutResp{})
	q := getOf("k")
	q.Head = proto.Bool(true)
	var r riakpb.RpbGetResp
	c.ask(riakpb.GetReq, q, riakpb.GetResp, &r)
	if len(r.Content) != 1 || r.Content[0].Value == nil || len(r.Content[0].Value) > 0 || len(r.Vclock) == 0 {
		t.Fatalf("head: %v", &r)
	}
	q = getOf("k")
	q.IfModified = r.Vclock
	var same riakpb.RpbGetResp
	c.ask(riakpb.GetReq, q, riakpb.GetResp, &same)
	if !same.GetUnchanged() || len(same.Content) > 0 || same.Vclock != nil {
		t.Errorf("unchanged: %v", &same)
	}
	q.IfModified = []byte("other")
	var changed riakpb.RpbGetResp
	c.ask(riakpb.GetReq, q, riakpb.GetResp, &changed)
	if changed.Unchanged != nil || len(changed.Content) != 1 {
		t.Errorf("changed: %v", &changed)
	}
}

func TestConditionsOfAPut(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	put := func(value string, vclock []byte, noneMatch, notModified bool) *riakpb.RpbPutReq {
		p := putOf("k", value)
		p.Vclock, p.IfNoneMatch, p.IfNotModified = vclock, proto.Bool(noneMatch), proto.Bool(notModified)
		return p
	}
	held := func() *riakpb.RpbGetResp {
		t.Helper()
		var r riakpb.RpbGetResp
		q := getOf("k")
		q.Deletedvclock = proto.Bool(true)
		c.ask(riakpb.GetReq, q, riakpb.GetResp, &r)
		return &r
	}
	c.fails(riakpb.PutReq, put("x", nil, false, true), "notfound")
	c.ask(riakpb.PutReq, put("1", nil, true, false), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.fails(riakpb.PutReq, put("x", nil, true, false), "match_found")
	c.fails(riakpb.PutReq, put("x", nil, false, true), "modified")
	old := held().Vclock
	c.ask(riakpb.PutReq, put("2", old, false, true), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.fails(riakpb.PutReq, put("x", old, false, true), "modified")
	c.fails(riakpb.PutReq, put("x", held().Vclock, true, true), "match_found")
	c.ask(riakpb.DelReq, &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("k")}, riakpb.DelResp, nil)
	c.fails(riakpb.PutReq, put("x", held().Vclock, false, true), "notfound")
	// The tombstone is replaced, not put beside.
	c.ask(riakpb.PutReq, put("3", nil, true, false), riakpb.PutResp, &riakpb.RpbPutResp{})
	if r := held(); len(r.Content) != 1 || string(r.Content[0].Value) != "3" {
		t.Errorf("holds %v", r.Content)
	}
	f.fail = kv.ErrTimeout // not known is not absent
	c.fails(riakpb.PutReq, put("x", nil, true, false), "timeout")
}

func TestAPutWithoutAKeyGetsOne(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	seen := map[string]bool{}
	for _, body := range []bool{false, true} {
		p := putOf("", "v")
		p.Key, p.ReturnBody = nil, proto.Bool(body)
		var r riakpb.RpbPutResp
		c.ask(riakpb.PutReq, p, riakpb.PutResp, &r)
		if len(r.Key) < 16 || seen[string(r.Key)] || (len(r.Content) == 1) != body {
			t.Errorf("made key %q, %d values", r.Key, len(r.Content))
		}
		seen[string(r.Key)] = true
		var got riakpb.RpbGetResp
		c.ask(riakpb.GetReq, getOf(string(r.Key)), riakpb.GetResp, &got)
		if len(got.Content) != 1 || string(got.Content[0].Value) != "v" {
			t.Errorf("%q holds %v", r.Key, got.Content)
		}
	}
}

func TestPutsThatAreRefused(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	for want, change := range map[string]func(*riakpb.RpbPutReq){
		string(errAsIs):      func(p *riakpb.RpbPutReq) { p.Asis = proto.Bool(true) },
		string(errTombstone): func(p *riakpb.RpbPutReq) { p.Content.Deleted = proto.Bool(true) },
		"Unknown field type for field: 'age'.": func(p *riakpb.RpbPutReq) {
			p.Content.Indexes = []*riakpb.RpbPair{{Key: []byte("Age"), Value: []byte("1")}}
		},
		"Could not parse field 'age_int', value 'old'.": func(p *riakpb.RpbPutReq) {
			p.Content.Indexes = []*riakpb.RpbPair{{Key: []byte("Age_Int"), Value: []byte("old")}}
		},
		"Invalid vclock: invalid context for b/k": func(p *riakpb.RpbPutReq) { p.Vclock = []byte("junk") },
	} {
		p := putOf("k", "v")
		change(p)
		c.fails(riakpb.PutReq, p, want)
	}
	var r riakpb.RpbGetResp
	c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &r)
	if len(r.Content) > 0 {
		t.Errorf("was written: %v", r.Content)
	}
}

func TestIndexNamesBecomeLowerCase(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	p := putOf("k", "v")
	p.Content.Indexes = []*riakpb.RpbPair{{Key: []byte("Age_INT"), Value: []byte("-7")}, {Key: []byte("N_bin"), Value: []byte("A b")}}
	c.ask(riakpb.PutReq, p, riakpb.PutResp, &riakpb.RpbPutResp{})
	want := []kv.Pair{{Name: "age_int", Value: "-7"}, {Name: "n_bin", Value: "A b"}}
	if diff := cmp.Diff(want, f.value.Indexes); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasPutDoesNotChangeWithTheNextRequest(t *testing.T) {
	f := &fake{}
	c := dial(t, f, Options{})
	c.ask(riakpb.PutReq, putOf("k", strings.Repeat("a", 100)), riakpb.PutResp, &riakpb.RpbPutResp{})
	kept := f.value.Data // as a message to another node would keep it
	c.ask(riakpb.PutReq, putOf("k", strings.Repeat("b", 100)), riakpb.PutResp, &riakpb.RpbPutResp{})
	if string(kept) != strings.Repeat("a", 100) {
		t.Errorf("it is %q now", kept)
	}
}

func TestLinksAreMetadata(t *testing.T) {
	for _, l := range []api.Link{{}, {Bucket: "b", Key: "k", Tag: "t"}, {Bucket: strings.Repeat("x", 300), Key: "\x00", Tag: ""}} {
		got, ok := api.ParseLink(l.Pair())
		if !ok || got != l {
			t.Errorf("%v is read as %v, %v", l, got, ok)
		}
	}
	p := api.Link{Bucket: "bucket", Key: "key", Tag: "t"}.Pair()
	for cut := range 10 {
		if l, ok := api.ParseLink(kv.Pair{Name: p.Name, Value: p.Value[:cut]}); ok {
			t.Errorf("%d bytes are read as %v", cut, l)
		}
	}
	if _, ok := api.ParseLink(kv.Pair{Name: "link", Value: p.Value}); ok {
		t.Error("a user's metadata is a link")
	}
}

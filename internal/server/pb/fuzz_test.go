package pb

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// FuzzServe sends bytes to a server as they are. It must answer frames, end, and
// leave nothing behind.
func FuzzServe(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 0})
	var every []byte
	for code := range 256 {
		every = append(every, 0, 0, 0, 1, byte(code))
	}
	f.Add(every)
	long := putOf("k", string(make([]byte, 1000)))
	f.Add(bytes.Join([][]byte{frameOf(f, riakpb.PutReq, long), frameOf(f, riakpb.GetReq, getOf("k")), frameOf(f, riakpb.ListKeysReq, &riakpb.RpbListKeysReq{Bucket: []byte("b")})}, nil))
	f.Add(frameOf(f, riakpb.MapRedReq, jobOf(`{"inputs":[["b","k"]],"query":[`+values+`,`+sorted+`]}`)))
	f.Add(bytes.Join([][]byte{
		frameOf(f, riakpb.DataFetchReq, fetchOf("t", "k")), frameOf(f, riakpb.DataUpdateReq, updateOf("t", "k", nested(3))), frameOf(f, riakpb.IndexReq, equal("n_int", "7")),
		frameOf(f, riakpb.CounterUpdateReq, &riakpb.RpbCounterUpdateReq{Bucket: []byte("b"), Key: []byte("k"), Amount: proto.Int64(1)}),
		frameOf(f, riakpb.CounterGetReq, &riakpb.RpbCounterGetReq{Bucket: []byte("b"), Key: []byte("k")}),
	}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &fake{props: map[string]kv.Properties{"/b": nil}, data: everyField}
		s := NewServer(n, Options{Properties: n, Buckets: n, Data: n, Indexes: n, MaxFrames: 4 << 20})
		ours, theirs := net.Pipe()
		s.begin(theirs)
		go func() {
			_ = ours.SetWriteDeadline(time.Now().Add(time.Second)) // the server may wait for more, or not read any more
			_, _ = ours.Write(b)
			_ = ours.SetReadDeadline(time.Now()) // and what it answers has been read
		}()
		_, _ = io.Copy(io.Discard, ours)
		ours.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if held := s.frames.Load(); held != 0 {
			t.Errorf("%d bytes are still counted", held)
		}
		if n := count(t, s.metrics.panics); n != 0 {
			t.Errorf("%v panics", n)
		}
	})
}

// FuzzGet compares the decoder of gets with the generated one.
func FuzzGet(f *testing.F) {
	f.Add(frameOf(f, riakpb.GetReq, getOf("k"))[headSize:])
	f.Add(frameOf(f, riakpb.GetReq, &riakpb.RpbGetReq{
		Bucket: []byte("b"), Key: []byte("k"), R: proto.Uint32(riakpb.QuorumAll), Pr: proto.Uint32(1), BasicQuorum: proto.Bool(true),
		NotfoundOk: proto.Bool(false), IfModified: []byte("c"), Head: proto.Bool(true), Deletedvclock: proto.Bool(true), Timeout: proto.Uint32(1),
		SloppyQuorum: proto.Bool(true), NVal: proto.Uint32(3), Type: []byte("t"), NodeConfirms: proto.Uint32(2),
	})[headSize:])
	f.Add([]byte("\x0a\x01b\x12\x01k\x0a\x01c\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x7b\x7c\x80\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got getReq
		var want riakpb.RpbGetReq
		err := got.decode(b)
		if err == nil && got.bucket == nil {
			err = got.check()
		}
		if wantErr := proto.Unmarshal(b, &want); (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, the generated code's is %v", err, wantErr)
		}
		if err != nil {
			return
		}
		o := got.o
		same := string(got.bucket) == string(want.Bucket) && string(got.key) == string(want.Key) && string(got.bucketType) == string(want.Type) &&
			(got.bucketType == nil) == (want.Type == nil) && string(got.ifModified) == string(want.IfModified) &&
			o.R == optional(want.R) && o.PR == optional(want.Pr) && o.BasicQuorum == toggle(want.BasicQuorum) && o.NotFoundOK == toggle(want.NotfoundOk) &&
			o.SloppyQuorum == toggle(want.SloppyQuorum) && o.Head == want.GetHead() && got.deletedVClock == want.GetDeletedvclock() &&
			o.Timeout == milliseconds(want.GetTimeout()) && o.N == int(min(want.GetNVal(), maxQuorum)) && got.confirms == want.GetNodeConfirms()
		if !same {
			t.Errorf("%+v, the generated code has %v", got, &want)
		}
	})
}

// FuzzPut compares the decoder of puts with the generated one, and then the
// encoder of contents.
func FuzzPut(f *testing.F) {
	f.Add(frameOf(f, riakpb.PutReq, putOf("k", "v"))[headSize:])
	f.Add(frameOf(f, riakpb.PutReq, &riakpb.RpbPutReq{
		Bucket: []byte("b"), Key: []byte("k"), Vclock: []byte("c"), W: proto.Uint32(riakpb.QuorumOne), Dw: proto.Uint32(1), Pw: proto.Uint32(0),
		ReturnBody: proto.Bool(true), IfNotModified: proto.Bool(true), IfNoneMatch: proto.Bool(true), ReturnHead: proto.Bool(true), Timeout: proto.Uint32(9),
		Asis: proto.Bool(true), SloppyQuorum: proto.Bool(false), NVal: proto.Uint32(2), Type: []byte("t"), NodeConfirms: proto.Uint32(1),
		Content: &riakpb.RpbContent{
			Value: []byte("v"), ContentType: []byte("a/b"), Charset: []byte("c"), ContentEncoding: []byte("e"), Vtag: []byte("x"), LastMod: proto.Uint32(1), LastModUsecs: proto.Uint32(2),
			Links:    []*riakpb.RpbLink{{Bucket: []byte("b"), Key: []byte("k"), Tag: []byte("t")}},
			Usermeta: []*riakpb.RpbPair{{Key: []byte("n"), Value: []byte("v")}}, Indexes: []*riakpb.RpbPair{{Key: []byte("i_bin")}}, Deleted: proto.Bool(true),
		},
	})[headSize:])
	f.Add([]byte("\x0a\x01b\"\x03\x0a\x01v\"\x04J\x02\x0a\x00\"\x03\x0a\x01w"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got putReq
		var want riakpb.RpbPutReq
		err := got.decode(b)
		if err == nil && got.bucket == nil {
			err = got.check()
		}
		if wantErr := proto.Unmarshal(b, &want); (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, the generated code's is %v", err, wantErr)
		}
		if err != nil {
			return
		}
		o := got.o
		same := string(got.bucket) == string(want.Bucket) && string(got.key) == string(want.Key) && (got.key == nil) == (want.Key == nil) &&
			string(got.bucketType) == string(want.Type) && string(got.vclock) == string(want.Vclock) && o.W == optional(want.W) && o.DW == optional(want.Dw) &&
			o.PW == optional(want.Pw) && o.ReturnBody == want.GetReturnBody() && got.returnHead == want.GetReturnHead() && got.asIs == want.GetAsis() &&
			got.ifNoneMatch == want.GetIfNoneMatch() && got.ifNotModified == want.GetIfNotModified() && o.SloppyQuorum == toggle(want.SloppyQuorum) &&
			o.Timeout == milliseconds(want.GetTimeout()) && o.N == int(min(want.GetNVal(), maxQuorum)) && got.confirms == want.GetNodeConfirms()
		if !same {
			t.Errorf("%+v, the generated code has %v", got, &want)
		}
		sameContent(t, &got.content, want.Content)
	})
}

// sameContent encodes what was decoded by hand, and compares it with what the
// generated code has decoded.
func sameContent(t *testing.T, got *content, want *riakpb.RpbContent) {
	t.Helper()
	if slices.ContainsFunc(want.Usermeta, func(p *riakpb.RpbPair) bool { return string(p.Key) == (api.Link{}).Pair().Name }) {
		return // a client that keeps links as we do
	}
	v := got.v
	v.Deleted, v.VTag = got.deleted, string(want.Vtag)
	if want.LastMod != nil {
		v.Modified = time.Unix(int64(want.GetLastMod()), int64(want.GetLastModUsecs()%1e6)*1000)
		want.LastModUsecs = proto.Uint32(want.GetLastModUsecs() % 1e6)
	} else {
		want.LastModUsecs = nil
	}
	var f frame
	f.contents([]kv.Value{v}, false, false)
	var out bytes.Buffer
	if err := f.writeTo(&writer{Buffer: &out}); err != nil {
		t.Fatal(err)
	}
	var back riakpb.RpbGetResp
	if err := proto.Unmarshal(out.Bytes(), &back); err != nil || len(back.Content) != 1 {
		t.Fatalf("cannot read what was encoded: %v", err)
	}
	if plain(want); !proto.Equal(want, back.Content[0]) {
		t.Errorf("encoded %v, want %v", back.Content[0], want)
	}
}

// plain brings a content into the form in which it is encoded: without fields
// that are unknown or empty, and with the parts of links and pairs that are.
func plain(c *riakpb.RpbContent) {
	c.ProtoReflect().SetUnknown(nil)
	for _, b := range []*[]byte{&c.ContentType, &c.Charset, &c.ContentEncoding, &c.Vtag} {
		if len(*b) == 0 {
			*b = nil
		}
	}
	for _, l := range c.Links {
		l.ProtoReflect().SetUnknown(nil)
		l.Bucket, l.Key, l.Tag = append([]byte{}, l.Bucket...), append([]byte{}, l.Key...), append([]byte{}, l.Tag...)
	}
	for _, p := range append(slices.Clone(c.Usermeta), c.Indexes...) {
		p.ProtoReflect().SetUnknown(nil)
		p.Value = append([]byte{}, p.Value...)
	}
	if !c.GetDeleted() {
		c.Deleted = nil
	}
}

// FuzzOp decodes operations. One that has come must be the same after it was made a
// message again, as our own client makes it.
func FuzzOp(f *testing.F) {
	for _, op := range []*riakpb.DtOp{
		incrementOf(-9), {CounterOp: &riakpb.CounterOp{}}, addOf("a", ""), removeOf("a"), nested(3), {}, {CounterOp: &riakpb.CounterOp{}, GsetOp: &riakpb.GSetOp{}},
		{HllOp: &riakpb.HllOp{Adds: bytesOf("a")}}, {GsetOp: &riakpb.GSetOp{Adds: bytesOf("b")}},
		riakpb.OpOf(kv.MapOp{Removes: []kv.Field{{Name: "r", Kind: kv.Register}}, Updates: []kv.FieldOp{
			{Field: kv.Field{Name: "r", Kind: kv.Register}, Op: kv.RegisterOp("")}, {Field: kv.Field{Name: "f", Kind: kv.Flag}, Op: kv.FlagOp(false)}, {Field: kv.Field{Name: "s", Kind: kv.Set}, Op: kv.SetOp{}},
		}}),
	} {
		f.Add(frameOf(f, riakpb.DataUpdateReq, updateOf("t", "k", op))[headSize:])
	}
	s := NewServer(&fake{}, Options{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{server: s}
		r := &request{code: riakpb.DataUpdateReq, body: b}
		var m riakpb.DtUpdateReq
		err := c.decodeOp(r, &m)
		if held := c.server.frames.Load(); held != int64(r.held) || held > fieldMemory*int64(len(b)) {
			t.Fatalf("%d bytes are reserved, %d are to be given back", held, r.held)
		}
		s.frames.Add(-int64(r.held))
		if err != nil {
			return
		}
		op, err := m.Op.KVOp()
		if err != nil || op == nil {
			return
		}
		again, err := proto.Marshal(riakpb.OpOf(op))
		if err != nil {
			t.Fatal(err)
		}
		var back riakpb.DtOp
		if err := proto.Unmarshal(again, &back); err != nil {
			t.Fatal(err)
		}
		if same, err := back.KVOp(); err != nil || !proto.Equal(riakpb.OpOf(same), riakpb.OpOf(op)) || same.Kind() != op.Kind() {
			t.Errorf("%v came back as %v, %v", op, same, err)
		}
	})
}

// FuzzIndex reads queries: what is taken can be asked of a store, which says what is wrong
// with it and does not panic.
func FuzzIndex(f *testing.F) {
	for _, q := range []*riakpb.RpbIndexReq{
		equal("n_int", "7"), between("$key", "", "z"), between("w_bin", "b", "a"), {Bucket: []byte("b"), Index: []byte("n_int"), Qtype: riakpb.RpbIndexReq_range.Enum()},
		{
			Bucket: []byte("b"), Index: []byte("w_bin"), Qtype: riakpb.RpbIndexReq_range.Enum(), RangeMin: []byte{}, RangeMax: []byte("z"), ReturnTerms: proto.Bool(true), Stream: proto.Bool(true),
			MaxResults: proto.Uint32(1<<32 - 1), Continuation: []byte("c"), Timeout: proto.Uint32(1), Type: []byte("t"), TermRegex: []byte("("), PaginationSort: proto.Bool(true),
		},
	} {
		f.Add(frameOf(f, riakpb.IndexReq, q)[headSize:])
	}
	n := &fake{}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m riakpb.RpbIndexReq
		if decode(&request{body: b}, &m) != nil {
			return
		}
		q, err := parseIndex(&m)
		if err != nil {
			return
		}
		if q.Range != (m.GetQtype() == riakpb.RpbIndexReq_range) || q.most < 0 || q.most > maxResults || (q.most > 0 || q.Token != "") && !q.Sort || q.terms && !q.Range {
			t.Errorf("%v is read as %+v", &m, q)
		}
		q.Limit = kv.MaxPage
		if page, err := n.Index(t.Context(), kv.Bucket{Name: "b"}, q.IndexQuery); err == nil && len(page.Matches) > 0 {
			t.Errorf("%+v finds %v where nothing is", q, page)
		}
	})
}

// writer is a connection that keeps what is written.
type writer struct {
	net.Conn
	*bytes.Buffer
}

func (w *writer) Write(b []byte) (int, error) { return w.Buffer.Write(b) }
func (w *writer) Read(b []byte) (int, error)  { return w.Buffer.Read(b) }

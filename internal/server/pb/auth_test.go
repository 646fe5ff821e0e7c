package pb

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

const theirPassword = "correct horse"

// guarded are options with security on, and how a client trusts it: shop may get and put
// in the bucket b of the default type, nobody has no grant, and boss administers.
func guarded(t *testing.T) (*tanodb.Node, Options, *tls.Config) {
	t.Helper()
	nodes, _ := tanodb.NewTestCluster(t, 1, tanodb.Options{Partitions: 8})
	node := nodes[0]
	here := netip.MustParsePrefix("127.0.0.0/8")
	for _, c := range []tanodb.SecurityChange{
		{Do: "add-user", Names: []string{"boss"}},
		{Do: "add-user", Names: []string{"nobody"}},
		{Do: "add-user", Names: []string{"shop"}, Password: theirPassword},
		{Do: "add-source", Names: []string{"boss", "nobody"}, CIDR: here, Method: "trust"},
		{Do: "add-source", Names: []string{"shop"}, CIDR: here, Method: "password"},
		{Do: "grant", Names: []string{"boss"}, Permissions: []tanodb.Permission{tanodb.PermAdmin}, Any: true},
		{Do: "grant", Names: []string{"shop"}, Permissions: []tanodb.Permission{tanodb.PermGet, tanodb.PermPut}, Type: "default", Bucket: []byte("b")},
		{Do: "enable"},
	} {
		if err := node.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	o, conf := secured(t)
	o.Gate = node
	return node, o, conf
}

func authOf(user, password string) *riakpb.RpbAuthReq {
	return &riakpb.RpbAuthReq{User: []byte(user), Password: []byte(password)}
}

// The steps of a client of Riak: STARTTLS, its name and password, and then what it may.
func TestAuth(t *testing.T) {
	node, o, conf := guarded(t)
	var logs syncBuffer
	o.Audit = slog.New(slog.NewTextHandler(&logs, nil))
	c := dial(t, &fake{}, o)
	c.fails(riakpb.AuthReq, authOf("shop", theirPassword), riakErrorPlain) // a password in the clear is not looked at
	c.ask(riakpb.StartTLS, nil, riakpb.StartTLS, nil)
	s := c.over(conf)
	s.fails(riakpb.PingReq, nil, "Security is enabled, please authenticate first")
	s.fails(riakpb.GetReq, getOf("k"), "Security is enabled, please authenticate first")
	s.fails(riakpb.AuthReq, authOf("shop", "wrong horse"), "Authentication failed")
	s.fails(riakpb.GetReq, getOf("k"), "Security is enabled, please authenticate first")
	s.ask(riakpb.AuthReq, authOf("shop", theirPassword), riakpb.AuthResp, nil)
	s.alive()
	s.ask(riakpb.PutReq, putOf("k", "v"), riakpb.PutResp, &riakpb.RpbPutResp{})
	s.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &riakpb.RpbGetResp{})
	s.fails(riakpb.DelReq, &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("k")}, "Permission denied: User 'shop' does not have 'riak_kv.delete' on default/b")
	other := getOf("k")
	other.Bucket = []byte("c")
	s.fails(riakpb.GetReq, other, "Permission denied: User 'shop' does not have 'riak_kv.get' on default/c")
	s.fails(99, nil, "Permission denied: User 'shop' does not have 'tanodb.admin' on any")

	// What is taken away is gone with the next request, and a failed login ends the one before.
	if err := node.ChangeSecurity(t.Context(), tanodb.SecurityChange{Do: "revoke", Names: []string{"shop"}, Permissions: []tanodb.Permission{tanodb.PermGet}, Type: "default", Bucket: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	s.fails(riakpb.GetReq, getOf("k"), "Permission denied: User 'shop' does not have 'riak_kv.get' on default/b")
	returning := putOf("k", "v")
	returning.ReturnBody = proto.Bool(true)
	s.fails(riakpb.PutReq, returning, "Permission denied: User 'shop' does not have 'riak_kv.get' on default/b")
	if err := node.ChangeSecurity(t.Context(), tanodb.SecurityChange{Do: "del-user", Names: []string{"shop"}}); err != nil {
		t.Fatal(err)
	}
	s.fails(riakpb.PingReq, nil, "Security is enabled, please authenticate first")
	s.fails(riakpb.DelReq, &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("k")}, "Security is enabled, please authenticate first")
	if text := logs.String(); strings.Contains(text, "a request is served") || strings.Count(text, "riak_kv.delete") != 1 {
		t.Errorf("the audit of what was refused: %s", text)
	}
	if text := logs.String(); strings.Contains(text, "horse") || !strings.Contains(text, "a login has failed") || !strings.Contains(text, "user=shop") {
		t.Error(text)
	}
}

// What is revoked while a long answer is under way ends it with the next part.
func TestALongAnswerEndsWithItsPermission(t *testing.T) {
	index := func(stream bool) *riakpb.RpbIndexReq {
		return &riakpb.RpbIndexReq{
			Bucket: []byte("b"), Index: []byte("$key"), Qtype: riakpb.RpbIndexReq_range.Enum(),
			RangeMin: []byte("k"), RangeMax: []byte("l"), Stream: &stream,
		}
	}
	for name, x := range map[string]struct {
		code  riakpb.Code
		ask   proto.Message
		needs []tanodb.Permission
		on    string // "any", or what else they are on
		at    int    // the page before which they are revoked
	}{
		"keys":    {riakpb.ListKeysReq, &riakpb.RpbListKeysReq{Bucket: []byte("b")}, one(tanodb.PermListKeys), "default/b", 2},
		"buckets": {riakpb.ListBucketsReq, &riakpb.RpbListBucketsReq{Stream: proto.Bool(true)}, one(tanodb.PermListBuckets), "default", 2},
		"index":   {riakpb.IndexReq, index(true), one(tanodb.PermIndex), "default/b", 2},
		"at once": {riakpb.IndexReq, index(false), one(tanodb.PermIndex), "default/b", 1},
		"job":     {riakpb.MapRedReq, jobOf(`{"inputs":{"bucket":"b","index":"$key","start":"k","end":"l"},"query":[` + values + `]}`), []tanodb.Permission{tanodb.PermMapReduce, tanodb.PermGet}, "any", 1},
	} {
		t.Run(name, func(t *testing.T) {
			node, o, conf := guarded(t)
			change := func(do string) {
				c := tanodb.SecurityChange{Do: do, Names: []string{"shop"}, Permissions: x.needs, Any: x.on == "any"}
				if bucketType, bucket, whole := strings.Cut(x.on, "/"); !c.Any {
					c.Type = bucketType
					if whole {
						c.Bucket = []byte(bucket)
					}
				}
				if err := node.ChangeSecurity(t.Context(), c); err != nil {
					t.Error(err)
				}
			}
			change("grant")
			f := &fake{buckets: []string{"b", "c", "d", "e"}}
			o.Buckets, o.Indexes = f, f
			for i := range 2*listPage + 1 {
				if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: fmt.Sprintf("k%04d", i)}, kv.Value{Data: []byte("v")}, kv.WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			var pages int
			f.paged = func() {
				if pages++; pages == x.at {
					change("revoke")
				}
			}
			c := dial(t, f, o)
			c.ask(riakpb.StartTLS, nil, riakpb.StartTLS, nil)
			s := c.over(conf)
			s.ask(riakpb.AuthReq, authOf("shop", theirPassword), riakpb.AuthResp, nil)
			s.send(frameOf(t, x.code, x.ask))
			for range x.at - 1 {
				if code, body := s.recv(); code != x.code+1 {
					t.Fatalf("a message of code %d: %q", code, body)
				}
			}
			s.awaitError("Permission denied: User 'shop' does not have '" + string(x.needs[0]) + "' on " + x.on)
			s.alive()
		})
	}
}

// syncBuffer is written by a server while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Who guesses has three tries.
func TestThreeTries(t *testing.T) {
	_, o, conf := guarded(t)
	o.Gate = refusing{}
	c := dial(t, &fake{}, o).over(conf)
	for range maxTries {
		c.fails(riakpb.AuthReq, authOf("stranger", "x"), "Authentication failed")
	}
	c.ended()
}

// refusing lets nobody in.
type refusing struct{}

func (refusing) Secured() bool { return true }

func (refusing) Login(context.Context, tanodb.Login) (*tanodb.User, error) {
	return nil, tanodb.ErrLogin
}

// Each code: nobody gets anything over a plain connection or before he is known; who has no
// grant gets what everybody may who is known.
func TestEveryCodeIsGuarded(t *testing.T) {
	_, o, conf := guarded(t)
	plain := dial(t, &fake{}, o)
	unknown := dial(t, &fake{}, o).over(conf)
	poor := dial(t, &fake{}, o).over(conf)
	poor.ask(riakpb.AuthReq, authOf("nobody", ""), riakpb.AuthResp, nil)
	for code := range handlers {
		code := riakpb.Code(code)
		if code == riakpb.StartTLS {
			continue
		}
		plain.fails(code, nil, riakErrorPlain)
		if code == riakpb.AuthReq {
			continue
		}
		unknown.fails(code, nil, "Security is enabled, please authenticate first")
		if rules[code].known {
			continue
		}
		poor.send(frameOf(t, code, nil))
		var e riakpb.RpbErrorResp
		poor.await(riakpb.Error, &e)
		if !strings.HasPrefix(string(e.Errmsg), "Permission denied: User 'nobody' does not have '") {
			t.Errorf("code %d: %q", code, e.Errmsg)
		}
	}
	for code, h := range handlers {
		_, ruled := rules[riakpb.Code(code)]
		if served := h.serve != nil && riakpb.Code(code) != riakpb.StartTLS && riakpb.Code(code) != riakpb.AuthReq; served != ruled {
			t.Errorf("code %d, %s: served %t, with a rule %t", code, h.name, served, ruled)
		}
	}
}

// What a message is about is read as those who serve it read it: the last field counts.
func TestAbout(t *testing.T) {
	for code, p := range whereabouts {
		m := rules[code].message
		fields := m.ProtoReflect().Descriptor().Fields()
		if b := fields.ByName("bucket"); (b == nil) != (p.bucket == 0) || fields.ByName("type") != nil && p.bucketType == 0 {
			t.Errorf("code %d: the places are %+v", code, p)
		}
	}
	get := whereabouts[riakpb.GetReq]
	twice := protowire.AppendTag(nil, get.bucket, protowire.BytesType)
	twice = protowire.AppendString(twice, "mine")
	twice = protowire.AppendTag(twice, get.bucket, protowire.VarintType) // of another type: passed over
	twice = protowire.AppendVarint(twice, 7)
	twice = protowire.AppendTag(twice, get.bucket, protowire.BytesType)
	twice = protowire.AppendString(twice, "theirs")
	twice = protowire.AppendTag(twice, get.bucketType, protowire.BytesType)
	twice = protowire.AppendString(twice, "default")
	if b, _, err := about(get, twice); b != (kv.Bucket{Name: "theirs"}) || err != nil {
		t.Errorf("%+v, %v", b, err)
	}
	del, err := proto.Marshal(&riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("k"), Ask: &riakpb.TanoAsk{ReturnBody: proto.Bool(true)}})
	if err != nil {
		t.Fatal(err)
	}
	if b, reads, err := about(whereabouts[riakpb.DelReq], del); !reads || b.Name != "b" || err != nil {
		t.Errorf("%+v, reads %t, %v", b, reads, err)
	}
}

// No message of a login lets anybody in, or breaks the connection's goroutine; and what a
// get is about is the same to the guard and to who serves it.
func FuzzAuth(f *testing.F) {
	for _, m := range []proto.Message{authOf("a", "b"), getOf("k"), putOf("k", "v")} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, body []byte) {
		s := NewServer(&fake{}, Options{Gate: refusing{}})
		c := &conn{raw: nowhere{}, net: nowhere{}, tls: tls.Server(nowhere{}, &tls.Config{}), server: s, out: &frame{}}
		if err := c.auth(&request{code: riakpb.AuthReq, body: body}); err == nil || c.user != nil {
			t.Errorf("%x lets somebody in", body)
		}
		var m riakpb.RpbGetReq
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(body, &m); err != nil {
			return
		}
		if b, _, err := about(whereabouts[riakpb.GetReq], body); err != nil || b.Name != string(m.Bucket) || b.Type != kv.PlainType(string(m.Type)) {
			t.Errorf("%x is about %q of %q to the guard, %v, and %q of %q to who serves it", body, b.Name, b.Type, err, m.Bucket, m.Type)
		}
	})
}

// What a message is about, and whether it reads, is the same to the guard as to the code that is made
// of its definition, whatever the message and its bytes.
func FuzzAbout(f *testing.F) {
	for _, m := range []proto.Message{getOf("k"), putOf("k", "v"), &riakpb.DtUpdateReq{Bucket: []byte("b"), Type: []byte("t"), Op: &riakpb.DtOp{}, ReturnBody: proto.Bool(true)}} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for code := range whereabouts {
			f.Add(byte(code), b)
		}
	}
	f.Fuzz(func(t *testing.T, code byte, body []byte) {
		p, ok := whereabouts[riakpb.Code(code)]
		if !ok {
			return
		}
		m := rules[riakpb.Code(code)].message.ProtoReflect().New()
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(body, m.Interface()); err != nil {
			return
		}
		text := func(name protoreflect.Name) string {
			if field := m.Descriptor().Fields().ByName(name); field != nil {
				return string(m.Get(field).Bytes())
			}
			return ""
		}
		returns := false
		for _, name := range []protoreflect.Name{"return_body", "return_head", "returnvalue"} {
			if field := m.Descriptor().Fields().ByName(name); field != nil {
				returns = returns || m.Get(field).Bool()
			}
		}
		b, reads, err := about(p, body)
		if want := (kv.Bucket{Type: kv.PlainType(text("type")), Name: text("bucket")}); err != nil || b != want {
			t.Errorf("code %d, %x is about %+v to the guard, %v, and %+v to others", code, body, b, err, want)
		}
		if returns && !reads {
			t.Errorf("code %d, %x reads, and the guard does not see it", code, body)
		}
	})
}

// nowhere is a connection that leads nowhere.
type nowhere struct{ net.Conn }

func (nowhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (nowhere) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

package pb

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// fake is a node that holds its keys in memory, remembers the options that it
// was given, and fails when told to.
type fake struct {
	kvtest.Memory
	fail    error      // what every operation ends with; nil: none
	replies []kv.Reply // what comes with fail
	boom    bool       // a get panics
	block   chan struct{}
	entered chan struct{} // receives when a get waits for block
	props   map[string]kv.Properties
	buckets []string
	data    kv.Data // what every data type is
	paged   func()  // called before a page of a list, if it is not nil

	mu      sync.Mutex // guards what follows
	read    kv.ReadOptions
	write   kv.WriteOptions
	value   kv.Value
	writes  int
	key     kv.Key
	op      kv.Op
	query   kv.IndexQuery
	queries int
}

func (f *fake) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	f.mu.Lock()
	f.read = o
	f.mu.Unlock()
	if f.boom {
		panic("boom")
	}
	if f.block != nil {
		f.entered <- struct{}{}
		select {
		case <-f.block:
		case <-ctx.Done():
			return kv.Object{}, ctx.Err()
		}
	}
	if f.fail != nil {
		return kv.Object{Replies: f.replies}, f.fail
	}
	return f.Memory.Get(ctx, k, o)
}

func (f *fake) wrote(v kv.Value, o kv.WriteOptions) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value, f.write = v, o
	f.writes++
}

func (f *fake) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	f.wrote(v, o)
	if f.fail != nil {
		return kv.Receipt{Replies: f.replies}, f.fail
	}
	return f.Memory.Put(ctx, k, v, o)
}

func (f *fake) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	f.wrote(kv.Value{}, o)
	if f.fail != nil {
		return kv.Receipt{Replies: f.replies}, f.fail
	}
	return f.Memory.Delete(ctx, k, o)
}

func (f *fake) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	f.page()
	if f.fail != nil && (!f.boom || o.Token != "") {
		return kv.KeyPage{}, f.fail
	}
	return f.Memory.Keys(ctx, b, o)
}

func (f *fake) Fetch(_ context.Context, k kv.Key, o kv.ReadOptions) (kv.Data, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key, f.read = k, o
	if f.fail != nil {
		return kv.Data{Kind: f.data.Kind, Replies: f.replies}, f.fail
	}
	return f.data, nil
}

func (f *fake) Update(_ context.Context, k kv.Key, op kv.Op, o kv.WriteOptions) (kv.Data, error) {
	f.wrote(kv.Value{}, o)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key, f.op = k, op
	if f.fail != nil {
		return kv.Data{Kind: f.data.Kind, Replies: f.replies}, f.fail
	}
	return f.data, nil
}

func (f *fake) Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error) {
	f.mu.Lock()
	f.query = q
	f.queries++
	f.mu.Unlock()
	f.page()
	if f.fail != nil && (!f.boom || q.Token != "") {
		return kv.IndexPage{}, f.fail
	}
	return f.Memory.Index(ctx, b, q)
}

func (f *fake) page() {
	if f.paged != nil {
		f.paged()
	}
}

func (f *fake) Name() string { return "n1" }

func (f *fake) Explain(kv.Key) []kv.Reply {
	p := func(i int) kv.Partition { return kv.Partition{Index: i, Of: 64} }
	return []kv.Reply{
		{Partition: p(10), Node: "n1", Role: kv.Primary, Result: kv.Pending},
		{Partition: p(11), Node: "n2", Role: kv.Primary, Result: kv.Down},
		{Partition: p(12), Node: "n3", Role: kv.Primary, Result: kv.Pending},
		{Partition: p(10), Node: "n4", Role: kv.Incoming, Result: kv.Pending},
		{Partition: p(11), Node: "n4", Role: kv.Fallback, Result: kv.Pending},
	}
}

func (f *fake) Status() tanodb.Status { return tanodb.Status{Node: "n1", Replicas: 3} }

// The properties of a fake are those of its map, by bucket or type; what is not
// there is not found, and the property "bad" is invalid.
func (f *fake) BucketProps(_ context.Context, b kv.Bucket) (kv.Properties, error) {
	return f.propsOf(b.Type + "/" + b.Name)
}

func (f *fake) SetBucketProps(_ context.Context, b kv.Bucket, ps kv.Properties) error {
	return f.setProps(b.Type+"/"+b.Name, ps)
}

func (f *fake) ResetBucketProps(_ context.Context, b kv.Bucket) error {
	return f.setProps(b.Type+"/"+b.Name, kv.Properties{})
}

func (f *fake) BucketType(_ context.Context, name string) (tanodb.BucketType, error) {
	ps, err := f.propsOf(name)
	return tanodb.BucketType{Name: name, Props: ps}, err
}

func (f *fake) UpdateBucketType(_ context.Context, name string, ps kv.Properties) error {
	return f.setProps(name, ps)
}

func (f *fake) propsOf(name string) (kv.Properties, error) {
	ps, ok := f.props[name]
	if !ok {
		return nil, kv.ErrBucketType
	}
	return ps, nil
}

func (f *fake) setProps(name string, ps kv.Properties) error {
	if _, err := f.propsOf(name); err != nil {
		return err
	}
	if ps.Lookup("n_val") == "0" {
		return &kv.InvalidError{What: "n_val", Problem: "must be from 1 to 64"}
	}
	f.props[name] = ps
	return nil
}

// Buckets are listed two at a time.
func (f *fake) Buckets(_ context.Context, bucketType string, o kv.ListOptions) (kv.BucketPage, error) {
	if f.fail != nil {
		return kv.BucketPage{}, f.fail
	}
	f.page()
	at := len(o.Token)
	end := min(at+2, len(f.buckets))
	var page kv.BucketPage
	if end < len(f.buckets) {
		page.Next = "xxxxxxxx"[:end]
	}
	for _, b := range f.buckets[at:end] {
		page.Buckets = append(page.Buckets, bucketType+b)
	}
	return page, nil
}

// serveOn starts a server on loopback and returns its address.
func serveOn(t testing.TB, n Node, o Options) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(n, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// client is the other end of a connection.
type client struct {
	testing.TB
	net.Conn
	server *Server // of a bubble
}

// dial connects to a server of the node.
func dial(t testing.TB, n Node, o Options) *client {
	t.Helper()
	_, addr := serveOn(t, n, o)
	return connect(t, addr)
}

func connect(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{TB: t, Conn: c}
}

// frameOf is a message as it stands on a connection.
func frameOf(t testing.TB, code riakpb.Code, m proto.Message) []byte {
	t.Helper()
	b := []byte{0, 0, 0, 0, byte(code)}
	if m != nil {
		var err error
		if b, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(b, m); err != nil {
			t.Fatal(err)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-riakpb.LengthSize))
	return b
}

// send writes bytes as they are.
func (c *client) send(b []byte) {
	c.Helper()
	if _, err := c.Write(b); err != nil {
		c.Fatal(err)
	}
}

// recv reads one frame.
func (c *client) recv() (riakpb.Code, []byte) {
	c.Helper()
	head := make([]byte, headSize)
	if _, err := io.ReadFull(c, head); err != nil {
		c.Fatalf("no answer: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head)-1)
	if _, err := io.ReadFull(c, body); err != nil {
		c.Fatalf("half an answer: %v", err)
	}
	return riakpb.Code(head[riakpb.LengthSize]), body
}

// await reads an answer of this code.
func (c *client) await(code riakpb.Code, into proto.Message) {
	c.Helper()
	got, body := c.recv()
	if got != code {
		var e riakpb.RpbErrorResp
		_ = proto.Unmarshal(body, &e)
		c.Fatalf("answer has code %d, want %d; %q", got, code, e.Errmsg)
	}
	if into == nil {
		if len(body) > 0 {
			c.Fatalf("answer of code %d has %d bytes", code, len(body))
		}
		return
	}
	if err := proto.Unmarshal(body, into); err != nil {
		c.Fatalf("answer of code %d: %v", code, err)
	}
}

// awaitError reads the answer to a request that failed.
func (c *client) awaitError(text string) {
	c.Helper()
	var e riakpb.RpbErrorResp
	c.await(riakpb.Error, &e)
	if string(e.Errmsg) != text || e.GetErrcode() != 0 || e.Errcode == nil {
		c.Fatalf("error %q, code %d; want %q, code 0", e.Errmsg, e.GetErrcode(), text)
	}
}

// ask sends a request and reads its answer.
func (c *client) ask(code riakpb.Code, m proto.Message, want riakpb.Code, into proto.Message) {
	c.Helper()
	c.send(frameOf(c, code, m))
	c.await(want, into)
}

// fails sends a request that is answered with this error.
func (c *client) fails(code riakpb.Code, m proto.Message, text string) {
	c.Helper()
	c.send(frameOf(c, code, m))
	c.awaitError(text)
}

// ended reads until the server closes.
func (c *client) ended() {
	c.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		c.Fatalf("%d more bytes, error %v", len(b), err)
	}
}

// alive sends a ping, to see that the connection goes on.
func (c *client) alive() {
	c.Helper()
	c.ask(riakpb.PingReq, nil, riakpb.PingResp, nil)
}

func getOf(key string) *riakpb.RpbGetReq {
	return &riakpb.RpbGetReq{Bucket: []byte("b"), Key: []byte(key)}
}

func putOf(key, value string) *riakpb.RpbPutReq {
	return &riakpb.RpbPutReq{Bucket: []byte("b"), Key: []byte(key), Content: &riakpb.RpbContent{Value: []byte(value)}}
}

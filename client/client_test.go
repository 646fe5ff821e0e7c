package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/internal/server/pb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

var (
	key   = kv.Key{Bucket: "b", Name: "k"}
	value = kv.Value{Data: []byte("v")}
)

// calls makes one call of each kind.
func calls(ctx context.Context, c *client.Client) map[string]error {
	errs := map[string]error{}
	_, errs["get"] = c.Get(ctx, key, kv.ReadOptions{})
	_, errs["keys"] = c.Keys(ctx, kv.Bucket{Name: "b"}, kv.ListOptions{})
	_, errs["put"] = c.Put(ctx, key, value, kv.WriteOptions{})
	_, errs["delete"] = c.Delete(ctx, key, kv.WriteOptions{})
	return errs
}

// writes reports whether a call of this name writes.
func writes(name string) bool { return name == "put" || name == "delete" }

// firstAsks makes a client that asks the first node first, for every request.
func firstAsks(t *testing.T, nodes ...*server) *client.Client {
	t.Helper()
	var addresses []string
	for _, s := range nodes {
		addresses = append(addresses, s.address)
	}
	c := open(t, client.Options{Addresses: addresses, Refresh: time.Hour})
	c.Look()
	owns := &riakpb.TanoRingResp{Nodes: [][]byte{[]byte(nodes[0].address)}, Owners: make([]uint32, 8), Epoch: new(uint64)}
	c.Learn(owns)
	return c
}

func TestRequestsGoOnWhenANodeDies(t *testing.T) {
	nodes, addresses, stops := cluster(t, 3)
	c := open(t, client.Options{Addresses: addresses})
	const clients, each = 4, 60
	var wg sync.WaitGroup
	var kill sync.Once
	var doubts atomic.Int32
	for i := range clients {
		wg.Go(func() {
			for j := range each {
				if j == each/2 {
					kill.Do(func() {
						stops[1]()
						nodes[1].Close()
					})
				}
				k := kv.Key{Bucket: "b", Name: fmt.Sprintf("%d.%d", i, j)}
				_, err := c.Put(t.Context(), k, value, kv.WriteOptions{})
				if errors.Is(err, kv.ErrInDoubt) {
					doubts.Add(1) // it was on its way to the node that died
					continue
				}
				if err != nil {
					t.Errorf("put %v: %v", k, err)
					return
				}
				if obj, err := c.Get(t.Context(), k, kv.ReadOptions{}); err != nil || len(obj.Values) != 1 {
					t.Errorf("get %v: %v, %v", k, obj.Values, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := doubts.Load(); n > clients {
		t.Errorf("%d writes are in doubt; each of %d clients can have had one on its way", n, clients)
	}
}

// toldOf is what a server tells of a request that ended with this error.
func toldOf(t *testing.T, err error) *riakpb.TanoTold {
	t.Helper()
	field := riakpb.AppendTold(nil, 1000, nil, nil, err)
	var e riakpb.RpbErrorResp
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(field, &e); err != nil || e.Told == nil {
		t.Fatalf("the story %x is %v, error %v", field, e.Told, err)
	}
	return e.Told
}

// TestWhatIsRetried has the first node do something to each request, and the
// second serve it.
func TestWhatIsRetried(t *testing.T) {
	hangUp := func(c net.Conn, _ riakpb.Code) { c.Close() }
	nonsense := func(text string) func(net.Conn, riakpb.Code) {
		return func(c net.Conn, _ riakpb.Code) { _, _ = c.Write([]byte(text)) }
	}
	told := func(err error) *riakpb.TanoTold { return toldOf(t, err) }
	for _, tc := range []struct {
		name   string
		first  func(net.Conn, riakpb.Code)
		reads  bool  // are answered by the second node
		writes bool  // too
		want   error // of the writes that are not
	}{
		{"hangs up", hangUp, true, false, kv.ErrInDoubt},
		{"answers in HTTP", nonsense("HTTP/1.1 400 Bad Request\r\n\r\n"), true, false, kv.ErrInDoubt},
		{"answers with nothing", nonsense("\x00\x00\x00\x00\x00"), true, false, kv.ErrInDoubt},
		{"answers with another code", nonsense("\x00\x00\x00\x01\x02"), true, false, kv.ErrInDoubt},
		{"answers with junk", nonsense("\x00\x00\x00\x04\x0a\xff\xff\xff"), true, false, kv.ErrInDoubt},
		{"answers with an error of junk", nonsense("\x00\x00\x00\x04\x00\xff\xff\xff"), true, false, kv.ErrInDoubt},
		{"overload", fails("overload", nil), true, true, nil},
		{"overload, told", fails("overload", told(kv.ErrOverload)), true, true, nil},
		{"closing", fails("shutdown", told(kv.ErrClosed)), true, true, nil},
		{"closing, perhaps late", fails("shutdown", nil), true, false, kv.ErrInDoubt},
		{"too few vnodes", fails("{insufficient_vnodes,1,need,2}", nil), true, true, nil},
		{"no quorum", fails("x", told(&kv.QuorumError{Need: "W", Want: 2})), true, true, nil},
		{"no quorum, in doubt", fails("x", told(&kv.QuorumError{Need: "W", Want: 2, Got: 1, InDoubt: true})), true, false, kv.ErrInDoubt},
		{"in doubt", fails("timeout", told(fmt.Errorf("%w: %w", kv.ErrInDoubt, kv.ErrClosed))), true, false, kv.ErrInDoubt},
		{"timeout", fails("timeout", nil), true, false, kv.ErrInDoubt},
		{"not found", fails("x", told(kv.ErrNotFound)), false, false, kv.ErrNotFound},
		{"bad context", fails("x", told(kv.ErrContext)), false, false, kv.ErrContext},
		{"invalid", fails("x", told(&kv.InvalidError{What: "W", Problem: "is 9"})), false, false, kv.ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first, second := scripted(t, tc.first), scripted(t, works("second"))
			c := firstAsks(t, first, second)
			for name, err := range calls(t.Context(), c) {
				retried := tc.reads
				if writes(name) {
					retried = tc.writes
				}
				if name == "keys" {
					continue // any of the two may be first
				}
				if retried && err != nil || !retried && !errors.Is(err, tc.want) {
					t.Errorf("%s: %v; retried is to be %v", name, err, retried)
				}
			}
			if n := second.got(riakpb.PutReq); (n == 1) != tc.writes {
				t.Errorf("the second node got %d puts", n)
			}
			if n := first.got(riakpb.PutReq); n != 1 {
				t.Errorf("the first node got %d puts", n)
			}
		})
	}
}

func TestANodeThatCannotBeDialledIsPassedOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	second := scripted(t, works("second"))
	c := open(t, client.Options{Addresses: []string{l.Addr().String(), second.address}})
	for range 10 {
		for name, err := range calls(t.Context(), c) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	alone := open(t, client.Options{Addresses: []string{l.Addr().String()}})
	for name, err := range calls(t.Context(), alone) {
		if !errors.Is(err, client.ErrUnreachable) || errors.Is(err, kv.ErrInDoubt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// deadline is a context whose time is over when somebody says so.
type deadline struct {
	context.Context
	over chan struct{}
}

func newDeadline(t *testing.T) deadline { return deadline{t.Context(), make(chan struct{})} }

func (d deadline) Done() <-chan struct{} { return d.over }

func (d deadline) Err() error {
	select {
	case <-d.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestASlowNodeAndADeadline(t *testing.T) {
	late := make(chan net.Conn, 10)
	first := scripted(t, func(c net.Conn, code riakpb.Code) {
		if code == riakpb.GetReq {
			answer(c, riakpb.GetResp, &riakpb.RpbGetResp{Content: []*riakpb.RpbContent{{Value: []byte("prompt")}}})
			return
		}
		late <- c
	})
	c := open(t, client.Options{Addresses: []string{first.address}})
	over, asked := newDeadline(t), make(chan net.Conn, 1)
	go func() {
		asked <- <-late
		close(over.over) // the node has the request, and the time for it is over
	}()
	_, err := c.Put(over, key, value, kv.WriteOptions{})
	if !errors.Is(err, kv.ErrInDoubt) || !errors.Is(err, kv.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a put without an answer: %v", err)
	}
	// The answer comes now, and must not be that of the next request.
	answer(<-asked, riakpb.PutResp, &riakpb.RpbPutResp{})
	if obj, err := c.Get(t.Context(), key, kv.ReadOptions{}); err != nil || string(obj.Values[0].Data) != "prompt" {
		t.Errorf("the next get: %v, %v", obj.Values, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		<-late
		stop()
	}()
	if _, err = c.Put(ctx, key, value, kv.WriteOptions{}); !errors.Is(err, context.Canceled) || !errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a put that was cancelled: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err = c.Keys(ctx, kv.Bucket{Name: "b"}, kv.ListOptions{}); !errors.Is(err, kv.ErrTimeout) || errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a listing without an answer: %v", err)
	}
}

func TestASlowReadLeavesTimeForAnotherNode(t *testing.T) {
	t.Parallel()
	silent, second := scripted(t, func(net.Conn, riakpb.Code) {}), scripted(t, works("second"))
	c := firstAsks(t, silent, second)
	obj, err := c.Get(t.Context(), key, kv.ReadOptions{Timeout: 6 * time.Second}) // the first has half of it
	if err != nil || string(obj.Values[0].Data) != "second" || silent.got(riakpb.GetReq) != 1 {
		t.Errorf("%v, %v; the first was asked %d times", obj.Values, err, silent.got(riakpb.GetReq))
	}
}

func TestWhatNobodyHasAskedForEndsTheConnection(t *testing.T) {
	var count atomic.Int32
	s := scripted(t, func(c net.Conn, code riakpb.Code) {
		n := count.Add(1)
		works(strconv.Itoa(int(n)))(c, code)
		if n == 1 {
			works("a second answer")(c, code)
		}
	})
	c := open(t, client.Options{Addresses: []string{s.address}, MaxOpen: 1, Refresh: time.Hour})
	c.Look()
	if _, err := c.Get(t.Context(), key, kv.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for now, _ := s.connections(); now > 0; now, _ = s.connections() {
		<-tick.C // until the client has seen the second answer and hung up
	}
	if obj, err := c.Get(t.Context(), key, kv.ReadOptions{}); err != nil || string(obj.Values[0].Data) != "2" {
		t.Errorf("the next get: %v, %v", obj.Values, err)
	}
}

func TestConnectionsHaveLimits(t *testing.T) {
	const open1, idle, many = 3, 2, 24
	var in atomic.Int32
	full, release := make(chan struct{}), make(chan struct{})
	s := scripted(t, func(c net.Conn, code riakpb.Code) {
		if in.Add(1) == open1 {
			close(full)
		}
		<-release
		works("v")(c, code)
	})
	c := open(t, client.Options{Addresses: []string{s.address}, MaxOpen: open1, MaxIdle: idle, Refresh: time.Hour})
	c.Look()
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			if _, err := c.Get(t.Context(), key, kv.ReadOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	<-full
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Put(ctx, key, value, kv.WriteOptions{}); !errors.Is(err, kv.ErrTimeout) || errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a put that got no connection: %v", err)
	}
	close(release)
	wg.Wait()
	if _, most := s.connections(); most > open1+1 { // one that is being closed by the pool may still be there
		t.Errorf("%d connections at once, want %d", most, open1)
	}
	if n := c.Idle(0); n == 0 || n > idle {
		t.Errorf("%d idle connections, want 1 to %d", n, idle)
	}
}

func TestAServerThatIsFullIsPassedOver(t *testing.T) {
	nodes, _, _ := cluster(t, 1)
	full, _ := serve(t, nodes[0], pb.Options{Cluster: nodes[0], MaxConnections: 1})
	guest, err := net.Dial("tcp", full)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	// An answer shows that it has been let in.
	if _, err := guest.Write([]byte{0, 0, 0, 1, byte(riakpb.PingReq)}); err != nil {
		t.Fatal(err)
	}
	var pong [5]byte
	if _, err := guest.Read(pong[:]); err != nil {
		t.Fatal(err)
	}
	c := open(t, client.Options{Addresses: []string{full}})
	if _, err := c.Put(t.Context(), key, value, kv.WriteOptions{}); !errors.Is(err, client.ErrUnreachable) || errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a put to a full server: %v", err)
	}
}

func TestRequestsGoToWhoHoldsTheKey(t *testing.T) {
	nodes, addresses, stops := cluster(t, 5)
	c := open(t, client.Options{Addresses: addresses})
	c.Look()
	for i := range 200 {
		k := kv.Key{Type: "default", Bucket: "b", Name: strconv.Itoa(i)}
		first := slices.Index(addresses, c.Order(k)[0])
		k.Type = ""
		if home := nodes[0].Explain(k)[0].Node; nodes[first].Name() != home {
			t.Errorf("%v goes to %s first, and %s owns its home", k, nodes[first].Name(), home)
		}
	}
	stops[2]()
	c.Look()
	for i := range 200 {
		order := c.Order(kv.Key{Bucket: "b", Name: strconv.Itoa(i)})
		if len(order) != len(addresses) || order[len(order)-1] != addresses[2] {
			t.Fatalf("a node that is down is not the last of %v", order)
		}
	}
}

func TestARingThatBeganAgain(t *testing.T) {
	_, addresses, _ := cluster(t, 3)
	c := open(t, client.Options{Addresses: addresses, Refresh: time.Hour})
	c.Look()
	first := c.Order(key)[0]
	wrong := &riakpb.TanoRingResp{Epoch: proto.Uint64(1 << 40), Nodes: [][]byte{[]byte("gone")}, Owners: make([]uint32, 8)}
	c.Learn(wrong)
	c.Look()                       // forgets it
	c.Look()                       // asks for the right one
	for range 2 * len(addresses) { // in turn, if the ring were not known
		if got := c.Order(key)[0]; got != first {
			t.Errorf("%v goes to %s first, want %s", key, got, first)
		}
	}
}

func TestRingsThatCannotBe(t *testing.T) {
	s := scripted(t, works("v"))
	c := open(t, client.Options{Addresses: []string{s.address}})
	for _, a := range []*riakpb.TanoRingResp{
		{Owners: []uint32{0, 0, 0}, Nodes: [][]byte{[]byte("n")}},
		{Owners: []uint32{0, 1}, Nodes: [][]byte{[]byte("n")}},
		{Owners: make([]uint32, 1<<17), Nodes: [][]byte{[]byte("n")}},
		{Owners: []uint32{0}},
	} {
		c.Learn(a)
		if got := c.Order(key); len(got) != 1 {
			t.Errorf("order %v", got)
		}
	}
}

func TestAClosedClient(t *testing.T) {
	entered := make(chan struct{}, 10)
	s := scripted(t, func(net.Conn, riakpb.Code) { entered <- struct{}{} })
	c := open(t, client.Options{Addresses: []string{s.address}})
	go func() {
		<-entered
		c.Close()
	}()
	if _, err := c.Put(t.Context(), key, value, kv.WriteOptions{}); !errors.Is(err, kv.ErrClosed) || !errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a put that Close has ended: %v", err)
	}
	for name, err := range calls(t.Context(), c) {
		if !errors.Is(err, kv.ErrClosed) || errors.Is(err, kv.ErrInDoubt) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func TestModifyLosesNoUpdate(t *testing.T) {
	_, addresses, _ := cluster(t, 3)
	sum := func(_ kv.Key, vs []kv.Value) kv.Value {
		words := map[string]bool{}
		for _, v := range vs {
			for _, w := range strings.Fields(string(v.Data)) {
				words[w] = true
			}
		}
		var all []string
		for w := range words {
			all = append(all, w)
		}
		return kv.Value{Data: []byte(strings.Join(all, " "))}
	}
	c := open(t, client.Options{Addresses: addresses, Resolve: sum})
	const clients, each = 4, 8
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range each {
				_, err := c.Modify(t.Context(), key, kv.WriteOptions{}, func(v kv.Value, found bool) (kv.Value, error) {
					if !found && len(v.Data) > 0 {
						return v, errors.New("a value that is not there")
					}
					return kv.Value{Data: fmt.Appendf(v.Data, " %d.%d", i, j)}, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	v, _, err := c.GetOne(t.Context(), key, kv.ReadOptions{})
	if got := len(strings.Fields(string(v.Data))); err != nil || got != clients*each {
		t.Errorf("%d of %d updates are there; %v", got, clients*each, err)
	}
	mine := errors.New("mine")
	if _, err := c.Modify(t.Context(), key, kv.WriteOptions{}, func(v kv.Value, _ bool) (kv.Value, error) { return v, mine }); !errors.Is(err, mine) {
		t.Errorf("the error of the change: %v", err)
	}
}

func TestSiblingsWithoutResolve(t *testing.T) {
	nodes, addresses, _ := cluster(t, 1)
	if err := nodes[0].UpdateBucketType(t.Context(), "default", kv.Properties{{Name: "allow_mult", Value: "true"}}); err != nil {
		t.Fatal(err)
	}
	c := open(t, client.Options{Addresses: addresses})
	for range 2 {
		if _, err := c.Put(t.Context(), key, value, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, seen, err := c.GetOne(t.Context(), key, kv.ReadOptions{}); !errors.Is(err, client.ErrSiblings) || len(seen) == 0 {
		t.Errorf("context of %d bytes, %v", len(seen), err)
	}
}

func TestRiaksWords(t *testing.T) {
	for _, tc := range []struct {
		text    string
		want    error
		doubt   bool // of a write
		harmles bool // for another node to be asked to write
	}{
		{"timeout", kv.ErrTimeout, true, false},
		{"shutdown", kv.ErrClosed, true, false},
		{"overload", kv.ErrOverload, false, true},
		{"notfound", kv.ErrNotFound, false, false},
		{"match_found", kv.ErrExists, false, false},
		{"modified", kv.ErrModified, false, false},
		{"{n_val_violation,3}", kv.ErrInvalid, false, false},
		{"{too_large,52428801}", kv.ErrTooLarge, false, false},
		{"{too_many_siblings,101}", kv.ErrTooManySiblings, false, false},
		{"No bucket-type named 'x'", kv.ErrBucketType, false, false},
		{"Invalid vclock: of another key", kv.ErrContext, false, false},
		{"{insufficient_vnodes,1,need,2}", kv.ErrQuorum, false, true},
		{"{w_val_unsatisfied,2,1}", kv.ErrQuorum, true, false},
		{"Permission denied: User 'shop' does not have 'riak_kv.put' on default/b", client.ErrPermission, false, false},
		{"Security is enabled, please authenticate first", client.ErrLogin, false, false},
		{"Security is not set up yet: until it is, this node serves its own machine alone", client.ErrLogin, false, false},
		{"Authentication failed", client.ErrLogin, false, false},
		{"Bucket cannot be zero-length", kv.ErrInvalid, false, false},
		{"data types are not supported by this server", kv.ErrInvalid, false, false},
		{"something new", kv.ErrInternal, true, false},
	} {
		err := client.Worded("put", true, tc.text)
		if !errors.Is(err, tc.want) || errors.Is(err, kv.ErrInDoubt) != tc.doubt || client.Harmless(true, err) != tc.harmles {
			t.Errorf("%q is %v for a put", tc.text, err)
		}
		if err := client.Worded("get", false, tc.text); !errors.Is(err, tc.want) || errors.Is(err, kv.ErrInDoubt) {
			t.Errorf("%q is %v for a get", tc.text, err)
		}
	}
	var q *kv.QuorumError
	if err := client.Worded("get", false, "{pr_val_unsatisfied,2,1}"); !errors.As(err, &q) || q.Need != "PR" || q.Want != 2 || q.Got != 1 {
		t.Errorf("a quorum of primaries: %+v", q)
	}
	if err := client.Worded("get", false, "{insufficient_vnodes,1,need,2}"); !errors.As(err, &q) || q.Need != "R" || q.Want != 2 || q.Got != 1 {
		t.Errorf("too few vnodes: %+v", q)
	}
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	for name, o := range map[string]client.Options{
		"no address":   {},
		"no port":      {Addresses: []string{"localhost"}},
		"twice":        {Addresses: []string{"a:1", "a:1"}},
		"negative":     {Addresses: []string{"a:1"}, MaxOpen: -1},
		"before never": {Addresses: []string{"a:1"}, Refresh: -1},
	} {
		if c, err := client.New(o); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// FuzzAnswers has a node answer anything to all requests: no client panics, hangs
// or takes a write for made that was not.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x0c"))
	f.Add([]byte("\x00\x00\x00\x03\x00\x0a\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x0a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scripted(t, func(c net.Conn, _ riakpb.Code) {
			_, _ = c.Write(b)
			c.Close()
		})
		c := open(t, client.Options{Addresses: []string{s.address}, Refresh: time.Hour})
		for name, err := range calls(t.Context(), c) {
			if err == nil && writes(name) && (len(b) < 5 || b[4] != byte(riakpb.PutResp) && b[4] != byte(riakpb.DelResp)) {
				t.Errorf("%s is taken for made after the answer %q", name, b)
			}
		}
	})
}

var _ pb.Cluster = (*tanodb.Node)(nil)

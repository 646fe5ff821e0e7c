package pb

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

func quorumError(op, need string, want, got int) error {
	return &kv.QuorumError{Op: op, Need: need, Want: want, Got: got}
}

// reply is a replica as a request tells of it.
func reply(role kv.Role, result kv.Result) kv.Reply { return kv.Reply{Role: role, Result: result} }

func TestEveryErrorHasItsWords(t *testing.T) {
	twoDown := []kv.Reply{reply(kv.Primary, kv.Pending), reply(kv.Primary, kv.Down), reply(kv.Primary, kv.Down)}
	standIn := append(twoDown, reply(kv.Fallback, kv.Pending))
	one := []kv.Reply{reply(kv.Primary, kv.Found), reply(kv.Primary, kv.Failed), reply(kv.Primary, kv.Down)}
	for _, tc := range []struct {
		err     error
		replies []kv.Reply
		get     string // the answer to a get; empty: none
		put     string // to a put and a delete
	}{
		{err: kv.ErrTimeout, get: "timeout", put: "timeout"},
		{err: fmt.Errorf("waiting: %w", context.DeadlineExceeded), get: "timeout", put: "timeout"},
		{err: fmt.Errorf("%w: too many requests", kv.ErrOverload), get: "overload", put: "overload"},
		{err: kv.ErrClosed, get: "shutdown", put: "shutdown"},
		{err: context.Canceled, get: "shutdown", put: "shutdown"},
		{err: kv.ErrInDoubt, put: "timeout"},
		{err: kv.ErrInternal, get: "internal error", put: "internal error"},
		{err: &kv.QuorumError{Op: "get", Need: "R", Want: 2, Timeout: true}, get: "timeout", put: "timeout"},
		{err: &kv.QuorumError{Op: "put", Need: "W", Want: 2, Got: 1, InDoubt: true}, replies: one, put: "{w_val_unsatisfied,2,1}"},

		{err: quorumError("get", "R", 2, 1), replies: one, get: "{r_val_unsatisfied,2,1}"},
		{err: quorumError("get", "R", 2, 0), replies: twoDown, get: "{insufficient_vnodes,1,need,2}"},
		{err: quorumError("get", "R", 3, 0), replies: standIn, get: "{insufficient_vnodes,2,need,3}"},
		{err: quorumError("get", "R", 2, 1), get: "{r_val_unsatisfied,2,1}"},
		{err: quorumError("get", "PR", 2, 1), replies: one, get: "{pr_val_unsatisfied,2,1}"},
		{err: quorumError("get", "PR", 2, 0), replies: standIn, get: "{pr_val_unsatisfied,2,1}"},
		{err: quorumError("get", "node_confirms", 2, 1), get: "{insufficient_nodes,1,need,2}"},
		{err: quorumError("put", "W", 3, 2), replies: one, put: "{w_val_unsatisfied,3,2}"},
		{err: quorumError("put", "W", 2, 0), replies: twoDown, put: "{insufficient_vnodes,1,need,2}"},
		{err: quorumError("put", "DW", 3, 2), replies: one, put: "{dw_val_unsatisfied,3,2}"},
		{err: quorumError("put", "PW", 3, 2), replies: one, put: "{pw_val_unsatisfied,3,2}"},
		{err: quorumError("put", "PW", 3, 0), replies: standIn, put: "{pw_val_unsatisfied,3,1}"},
		{err: quorumError("put", "node_confirms", 2, 1), put: "{node_confirms_val_unsatisfied,2,1}"},

		{err: &kv.InvalidError{What: "R", Problem: "is 4; there are 3 replicas"}, get: "{n_val_violation,3}"},
		{err: &kv.InvalidError{What: "PR", Problem: "is 4; there are 3 replicas"}, get: "{n_val_violation,3}"},
		{err: &kv.InvalidError{What: "W", Problem: "is 4; there are 3 replicas"}, put: "{n_val_violation,3}"},
		{err: &kv.InvalidError{What: "DW", Problem: "is 4; there are 3 replicas"}, put: "{n_val_violation,3}"},
		{err: &kv.InvalidError{What: "PW", Problem: "is 4; there are 3 replicas"}, put: "{n_val_violation,3}"},
		{err: &kv.InvalidError{What: "node_confirms", Problem: "is 4; there are 3 replicas"}, get: "{n_val_violation,3}", put: "{n_val_violation,3}"},
		{err: &kv.InvalidError{What: "timeout", Problem: "must be from 0 to 24h0m0s"}, get: "timeout must be from 0 to 24h0m0s", put: "timeout must be from 0 to 24h0m0s"},

		{err: fmt.Errorf("%w: b/k would hold 101 values; the limit is 100", kv.ErrTooManySiblings), put: "{too_many_siblings,101}"},
		{err: fmt.Errorf("%w: b/k would hold 130 values; the limit is 100", kv.ErrTooManySiblings), put: "{too_many_siblings,130}"},
		{err: kv.ErrTooManySiblings, put: "{too_many_siblings,101}"},
		{err: fmt.Errorf("%w: b/k would be 52428900 bytes; the limit is 52428800", kv.ErrTooLarge), put: "{too_large,52428900}"},
		{err: kv.ErrTooLarge, put: "{too_large,52428801}"},
		{err: fmt.Errorf("%w: it is damaged", kv.ErrContext), put: "Invalid vclock: invalid context: it is damaged"},
	} {
		f := &fake{fail: tc.err, replies: tc.replies}
		c := dial(t, f, Options{})
		if tc.get != "" {
			c.fails(riakpb.GetReq, getOf("k"), tc.get)
		}
		if tc.put != "" {
			c.fails(riakpb.PutReq, putOf("k", "v"), tc.put)
			c.fails(riakpb.DelReq, &riakpb.RpbDelReq{Bucket: []byte("b"), Key: []byte("k")}, tc.put)
		}
		c.alive()
		c.Close()
	}
}

func TestReasonsAreAllDifferentErrors(t *testing.T) {
	for i, r := range reasons {
		if got := reason(fmt.Errorf("why: %w", r.is), &story{}).Error(); got != r.text {
			t.Errorf("reason %d, %v: answered %q, want %q", i, r.is, got, r.text)
		}
	}
}

// A real node says what the table above has been told.
func TestErrorsOfARealNode(t *testing.T) {
	node, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c := dial(t, node, Options{Properties: node})
	c.ask(riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: []byte("b"), Props: &riakpb.RpbBucketProps{AllowMult: proto.Bool(true)}}, riakpb.SetBucketResp, nil)
	q := getOf("k")
	q.R = proto.Uint32(4)
	c.fails(riakpb.GetReq, q, "{n_val_violation,3}")
	q.R, q.NVal = nil, proto.Uint32(5)
	c.fails(riakpb.GetReq, q, "{n_val_violation,5}")
	q.R, q.NVal = proto.Uint32(3), proto.Uint32(2)
	c.fails(riakpb.GetReq, q, "{n_val_violation,2}")
	q.R, q.NVal, q.Timeout = nil, nil, proto.Uint32(1<<32-1)
	c.fails(riakpb.GetReq, q, "timeout must be from 0 to 24h0m0s")
	p := putOf("k", "v")
	p.NodeConfirms = proto.Uint32(2) // one node holds all replicas
	c.fails(riakpb.PutReq, p, "{node_confirms_val_unsatisfied,2,0}")
	p.NodeConfirms, p.Vclock = nil, []byte{1, 2, 3}
	c.fails(riakpb.PutReq, p, "Invalid vclock: invalid context: it is cut short")
	for i := range kv.MaxSiblings {
		c.ask(riakpb.PutReq, putOf("k", fmt.Sprint(i)), riakpb.PutResp, &riakpb.RpbPutResp{})
	}
	c.fails(riakpb.PutReq, putOf("k", "one more"), "{too_many_siblings,101}")
	c.fails(riakpb.PutReq, putOf("large", strings.Repeat("x", kv.MaxObject+1)), "{too_large,52428801}")
	half := strings.Repeat("x", kv.MaxObject/2)
	c.ask(riakpb.PutReq, putOf("half", half), riakpb.PutResp, &riakpb.RpbPutResp{})
	c.send(frameOf(t, riakpb.PutReq, putOf("half", half)))
	var e riakpb.RpbErrorResp
	c.await(riakpb.Error, &e)
	if n := 0; !scan(string(e.Errmsg), "{too_large,%d}", &n) || n <= kv.MaxObject+1 || n > kv.MaxObject+1000 {
		t.Errorf("two halves: %q", e.Errmsg)
	}
}

// A bucket may have fewer replicas than the cluster.
func TestReplicasAreThoseOfTheBucket(t *testing.T) {
	node, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c := dial(t, node, Options{Properties: node, Data: node})
	set := func(n uint32) {
		c.ask(riakpb.SetBucketReq, &riakpb.RpbSetBucketReq{Bucket: []byte("b"), Props: &riakpb.RpbBucketProps{NVal: &n, AllowMult: proto.Bool(true)}}, riakpb.SetBucketResp, nil)
	}
	set(1)
	p, q := putOf("k", "v"), getOf("k")
	p.NodeConfirms, q.NodeConfirms = proto.Uint32(riakpb.QuorumAll), proto.Uint32(riakpb.QuorumMajority)
	c.ask(riakpb.PutReq, p, riakpb.PutResp, &riakpb.RpbPutResp{})
	c.ask(riakpb.GetReq, q, riakpb.GetResp, &riakpb.RpbGetResp{})
	count := &riakpb.RpbCounterUpdateReq{Bucket: []byte("b"), Key: []byte("n"), Amount: proto.Int64(1), NodeConfirms: proto.Uint32(riakpb.QuorumAll)}
	c.ask(riakpb.CounterUpdateReq, count, riakpb.CounterUpdateResp, &riakpb.RpbCounterUpdateResp{})
	p.W, q.R, count.W = proto.Uint32(2), proto.Uint32(2), proto.Uint32(2)
	c.fails(riakpb.PutReq, p, "{n_val_violation,1}")
	c.fails(riakpb.GetReq, q, "{n_val_violation,1}")
	c.fails(riakpb.CounterUpdateReq, count, "{n_val_violation,1}")
	set(2)
	c.fails(riakpb.PutReq, p, "{node_confirms_val_unsatisfied,2,0}") // both are on one node
	p.W = proto.Uint32(3)
	c.fails(riakpb.PutReq, p, "{n_val_violation,2}")
}

func scan(s, format string, into *int) bool {
	_, err := fmt.Sscanf(s, format, into)
	return err == nil
}

func TestBinariesAreErlangs(t *testing.T) {
	for s, want := range map[string]string{"": "<<>>", "t": `<<"t">>`, "a\x00": "<<97,0>>", `q"`: "<<113,34>>"} {
		if got := erlang(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
}

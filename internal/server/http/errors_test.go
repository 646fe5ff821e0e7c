package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

func TestErrorsOnRiaksRoutes(t *testing.T) {
	quorum := func(need string) *kv.QuorumError {
		return &kv.QuorumError{Op: "put", Need: need, Want: 2, Got: 1, Failures: []kv.Failure{{Node: "n2", Why: "down"}}}
	}
	late := &kv.QuorumError{Op: "put", Need: "W", Want: 2, Got: 1, Timeout: true, InDoubt: true}
	for _, c := range []struct {
		err     error
		status  int
		body    string
		inDoubt string
	}{
		{kv.ErrNotFound, 404, "not found\n", ""},
		{kv.ErrTimeout, 503, "request timed out\n", ""},
		{context.DeadlineExceeded, 503, "request timed out\n", ""},
		{context.Canceled, 503, "context canceled\n", ""},
		{quorum("R"), 503, "R-value unsatisfied: 1/2\n", ""},
		{quorum("PR"), 503, "PR-value unsatisfied: 1/2\n", ""},
		{quorum("W"), 503, "W-value unsatisfied: 1/2\n", ""},
		{quorum("PW"), 503, "PW-value unsatisfied: 1/2\n", ""},
		{quorum("DW"), 503, "DW-value unsatisfied: 1/2\n", ""},
		{quorum("node_confirms"), 503, "node_confirms-value unsatisfied: 1/2\n", ""},
		{late, 503, "request timed out\n", "true"},
		{fmt.Errorf("%w: 10000 requests are in progress", kv.ErrOverload), 503, "overload: 10000 requests are in progress\n", ""},
		{fmt.Errorf("%w: the answer was lost", kv.ErrInDoubt), 503, "in doubt: the answer was lost\n", "true"},
		{kv.ErrClosed, 503, "closed\n", ""},
		{kv.ErrContext, 400, "invalid context\n", ""},
		{&kv.InvalidError{What: "key", Problem: "cannot be zero-length"}, 400, "key cannot be zero-length\n", ""},
		{&kv.InvalidError{What: "W", Problem: "is 4; there are 3 replicas"}, 400, "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3\n", ""},
		{&kv.InvalidError{What: "R", Problem: "is 2; there is 1 replica"}, 400, "Specified w/dw/pw/node_confirms values invalid for bucket n value of 1\n", ""},
		{&kv.InvalidError{What: "N", Problem: "must be from 1 to the bucket's 5"}, 400, "Specified w/dw/pw/node_confirms values invalid for bucket n value of 5\n", ""},
		{kv.ErrTooManySiblings, 409, "too many siblings\n", ""},
		{kv.ErrTooLarge, 413, "object is too large\n", ""},
		{kv.ErrInternal, 500, "Error:\ninternal error\n", ""},
		{errors.New("something\r\nelse"), 500, "Error:\nsomething\r\nelse\n", ""},
	} {
		f := newFake()
		f.fail = c.err
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			cl := newClient(t, f)
			w := cl.want(c.status, method, k1, "1", plain)
			cl.body(w, c.body)
			cl.header(w, "Content-Type", "text/plain")
			cl.header(w, "X-Tanodb-In-Doubt", c.inDoubt)
		}
	}
}

// A put or get that could not have been granted asks no replica: what Riak counts
// then are the primaries that are up, as over Protocol Buffers.
func TestPrimariesThatAreUpAreCounted(t *testing.T) {
	f := newFake()
	f.replies = []kv.Reply{
		{Role: kv.Primary, Result: kv.Pending}, {Role: kv.Primary, Result: kv.Down}, {Role: kv.Primary, Result: kv.Down},
		{Role: kv.Fallback, Result: kv.Pending},
	}
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		for _, need := range []string{"PR", "PW"} {
			f.fail = &kv.QuorumError{Op: "put", Need: need, Want: 2}
			c := newClient(t, f)
			c.body(c.want(503, method, k1, "1", plain), need+"-value unsatisfied: 1/2\n")
		}
	}
}

func TestTheWholeErrorStandsInAHeader(t *testing.T) {
	f := newFake()
	f.fail = &kv.QuorumError{Op: "get", Need: "R", Want: 2, Got: 1, Failures: []kv.Failure{{Node: "n2", Why: "down\r\nfor good"}}}
	c := newClient(t, f)
	c.header(c.want(503, "GET", k1, ""), "X-Tanodb-Error", "get: R wants 2, got 1 (n2: down  for good)")
	f.fail = kv.ErrNotFound
	c.header(c.want(404, "GET", k1, ""), "X-Tanodb-Error", "")
}

func TestErrorsOnOurOwnRoutes(t *testing.T) {
	partition := kv.Partition{Index: 10, Of: 64}
	f := newFake()
	f.replies = []kv.Reply{{Partition: partition, Node: "n1", Role: kv.Primary, Result: kv.OK, Elapsed: 1234567}}
	f.fail = &kv.QuorumError{
		Op: "put", Need: "W", Want: 2, Got: 1, Timeout: true, InDoubt: true,
		Failures: []kv.Failure{{Partition: partition, Node: "n2", Why: "silent"}},
	}
	const position = "228359630832953580969325755111919221821239459840"
	got := 1
	want := api.Error{
		Text: f.fail.Error(), Code: api.CodeQuorum, Op: "put", Need: "W", Want: 2, Got: &got,
		Failures: []api.Failure{{Partition: position, Node: "n2", Why: "silent"}},
		InDoubt:  true, Timeout: true, Partitions: 64,
		Replies: []api.Reply{{Partition: position, Node: "n1", Role: kv.Primary, Result: kv.OK, ElapsedUS: 1234}},
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		c := newClient(t, f)
		w := c.want(503, method, "/_tanodb"+k1, "1", plain)
		c.header(w, "Content-Type", "application/json")
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(f.fail, e.Err()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestFaultsOfARequestOnOurOwnRoutes(t *testing.T) {
	for _, c := range []struct {
		status         int
		method, target string
		code           api.Code
	}{
		{404, "GET", "/_tanodb/nothing", api.CodeRequest},
		{404, "GET", "/_tanodb/buckets/b", api.CodeRequest},
		{400, "GET", "/_tanodb/buckets/b/index/age/7", api.CodeInvalid},
		{400, "GET", "/_tanodb/buckets?token=garbage", api.CodeInvalid},
		{404, "GET", "/_tanodb", api.CodeRequest},
		{405, "POST", "/_tanodb" + k1, api.CodeRequest},
		{415, "PUT", "/_tanodb" + k1, api.CodeRequest},
		{404, "GET", "/_tanodb" + k1, api.CodeNotFound},
		{400, "GET", "/_tanodb" + k1 + "?r=x", api.CodeInvalid},
		{400, "GET", "/_tanodb" + k1 + "?r=4", api.CodeInvalid},
		{400, "GET", "/_tanodb/buckets/b/keys?token=garbage", api.CodeInvalid},
		{400, "GET", "/_tanodb/buckets//keys/k1", api.CodeInvalid},
	} {
		w := newClient(t, newFake()).want(c.status, c.method, c.target, "1", "Content-Type: nonsense")
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != c.code || e.Text == "" || e.Replies == nil {
			t.Errorf("%s %s: body %s, error %v", c.method, c.target, w.Body, err)
		}
	}
}

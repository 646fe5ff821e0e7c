package httpd

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

const (
	clusterPath = "/_tanodb/cluster"
	jsonType    = "Content-Type: application/json"
)

func TestWhatANodeKnowsOfTheCluster(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	var state tanodb.ClusterState
	decode(t, c.want(200, "GET", clusterPath, ""), &state)
	if state.Node != "n1" || state.Epoch != 7 || !slices.Equal(state.Owners, []string{"n1", "n2"}) {
		t.Errorf("the cluster is %+v", state)
	}
	var nodes api.Nodes
	decode(t, c.want(200, "GET", clusterPath+"/nodes", ""), &nodes)
	if len(nodes.Nodes) != 2 || nodes.Nodes[0].Node != "n1" || nodes.Nodes[1].Error != "the node is down" || nodes.NoOwner != 1 || nodes.NoMajority != 1 {
		t.Errorf("the nodes are %+v", nodes)
	}
	c.want(405, "POST", clusterPath+"/nodes", "{}", jsonType)
	var plan tanodb.Plan
	decode(t, c.want(200, "GET", clusterPath+"/plan?timeout=1000", ""), &plan)
	if plan.ID != "p1" || plan.Transfers() != 3 {
		t.Errorf("the plan is %+v", plan)
	}
}

func TestTransfersOfTheNodesThatAnswer(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.body(c.want(200, "GET", clusterPath+"/transfers", ""), `{"transfers":[]}`+"\n")
	f.moving = []tanodb.TransferState{{Kind: "ownership", Index: 3, From: "n1", To: "n2", Phase: "copying"}}
	var got api.Transfers
	decode(t, c.want(200, "GET", clusterPath+"/transfers", ""), &got)
	if diff := cmp.Diff(api.Transfers{Transfers: f.moving}, got); diff != "" {
		t.Error(diff)
	}
	f.fail = errors.New("n3 did not answer")
	decode(t, c.want(200, "GET", clusterPath+"/transfers", ""), &got)
	if got.Error != "n3 did not answer" || len(got.Transfers) != 1 {
		t.Errorf("got %+v", got)
	}
	f.moving = nil
	c.want(500, "GET", clusterPath+"/transfers", "")
}

func TestRepairRoutes(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	var got api.Repairs
	decode(t, c.want(200, "GET", "/_tanodb/repair", ""), &got)
	if len(got.Nodes) != 2 || got.Nodes[0].Pairs != 7 || got.Nodes[1].Error != "down" {
		t.Errorf("%+v", got)
	}
	c.want(200, "POST", "/_tanodb/repair/pause", `{}`, jsonType)
	c.want(200, "POST", "/_tanodb/repair/resume", `{"node":"n2"}`, jsonType)
	var v tanodb.Verified
	decode(t, c.want(200, "POST", "/_tanodb/repair/verify", `{"node":"n1"}`, jsonType), &v)
	if !v.OK || v.Homes != 64 {
		t.Errorf("%+v", v)
	}
	if diff := cmp.Diff([]string{`pause ""`, `resume "n2"`, `verify "n1"`}, f.orders); diff != "" {
		t.Error(diff)
	}
	c.want(400, "POST", "/_tanodb/repair/pause", `{"nodes":"n1"}`, jsonType)
	c.want(405, "GET", "/_tanodb/repair/verify", "")
	c.want(405, "POST", "/_tanodb/repair", `{}`, jsonType)
}

func TestOrders(t *testing.T) {
	for _, c := range []struct{ order, body, want, answer string }{
		{"stage", `{"kind":"leave","node":"n3"}`, "stage leave n3", `{"kind":"leave","node":"n3"}`},
		{"stage", `{"kind":"leave"}`, "stage leave n1", `{"kind":"leave","node":"n1"}`},
		{"stage", `{"kind":"set","weight":50,"zone":"b"}`, "stage set n1, zone b, weight 50", `{"kind":"set","node":"n1","zone":"b","weight":50}`},
		{"stage", `{"kind":"replace","node":"n1","with":"n4"}`, "stage replace n1 with n4", `{"kind":"replace","node":"n1","with":"n4"}`},
		{"join", `{"address":"h:1"}`, "join h:1 {Zone: Weight:0 Auto:false}", `{"address":"h:1"}`},
		{"join", `{"address":"h:1","zone":"a","weight":50,"auto":true}`, "join h:1 {Zone:a Weight:50 Auto:true}", `{"address":"h:1","zone":"a","weight":50,"auto":true}`},
		{"commit", `{"plan":"p1"}`, "commit p1", `{"plan":"p1"}`},
		{"clear", `{}`, "clear", `{}`},
		{"down", `{"node":"n2"}`, "down n2", `{"node":"n2"}`},
		{"recover", `{"survivors":["n1","n2"],"i_know":true}`, "recover [n1 n2]", `{"survivors":["n1","n2"],"i_know":true}`},
		{"repair", `{"target":"12"}`, "repair 12", `{"target":"12","partitions":21}`},
		{"limits", `{"per_node":2,"bytes_per_second":1000}`, "limits 2 1000", `{"per_node":2,"bytes_per_second":1000}`},
		{"limits", `{"bytes_per_second":0}`, "limits 0 0", `{"bytes_per_second":0}`},
		{"limits", `{"per_node":2}`, "limits 2 -1", `{"per_node":2}`},
		{"deletes", `{"mode":"keep"}`, "deletes keep 0s", `{"mode":"keep"}`},
		{"deletes", `{"grace_ns":60000000000}`, "deletes  1m0s", `{"grace_ns":60000000000}`},
	} {
		f := newFake()
		cl := newClient(t, f)
		w := cl.want(200, "POST", clusterPath+"/"+c.order, c.body, "Content-Type: application/json; charset=utf-8")
		cl.body(w, c.answer+"\n")
		if !slices.Equal(f.orders, []string{c.want}) {
			t.Errorf("%s %s: %q, want %q", c.order, c.body, f.orders, c.want)
		}
	}
}

func TestOrdersThatAreNotUnderstood(t *testing.T) {
	f := newFake()
	cl := newClient(t, f)
	for _, c := range []struct {
		order, body, kind string
		status            int
		want              string
	}{
		{"stage", `{"kind":"leave"}`, "text/plain", 415, "Content-Type must be application/json"},
		{"clear", ``, "", 415, "Content-Type must be application/json"},
		{"clear", `{}`, "application/x-www-form-urlencoded", 415, "Content-Type"},
		{"stage", ``, "application/json", 400, "the body is not understood: EOF"},
		{"stage", `{`, "application/json", 400, "not understood"},
		{"stage", `[]`, "application/json", 400, "not understood"},
		{"stage", `{"kind":7}`, "application/json", 400, "not understood"},
		{"stage", `{"kind":"leave"}{}`, "application/json", 400, "more than one"},
		{"stage", `{"kind":"leave"}x`, "application/json", 400, "more than one"},
		{"stage", `{"kind":"leave","nod":"n2"}`, "application/json", 400, `unknown field \"nod\"`},
		{"stage", `{}`, "application/json", 400, "a kind and a node"},
		{"stage", `{"node":"n1"}`, "application/json", 400, "a kind and a node"},
		{"stage", `{"kind":"force-remove"}`, "application/json", 400, "a kind and a node"},
		{"stage", `{"kind":"replace","with":"n2"}`, "application/json", 400, "a kind and a node"},
		{"join", `{"zone":"a"}`, "application/json", 400, "address"},
		{"commit", `{}`, "application/json", 400, "names the plan"},
		{"down", `{}`, "application/json", 400, "node is missing"},
		{"recover", `{"i_know":true}`, "application/json", 400, "survivors are missing"},
		{"recover", `{"survivors":["n1"]}`, "application/json", 400, "i_know"},
		{"repair", `{}`, "application/json", 400, "to repair is missing"},
		{"limits", `{}`, "application/json", 400, "are missing"},
		{"deletes", `{}`, "application/json", 400, "are missing"},
		{"limits", `{"per_node":99999999999999999999,"bytes_per_second":0}`, "application/json", 400, "not understood"},
		{"stage", `{"kind":"` + strings.Repeat("x", maxOrder) + `"}`, "application/json", 413, "the limit is 65536 bytes"},
	} {
		w := cl.want(c.status, "POST", clusterPath+"/"+c.order, c.body, "Content-Type: "+c.kind)
		var e api.Error
		decode(t, w, &e)
		if !strings.Contains(w.Body.String(), c.want) || e.Code != api.CodeInvalid && e.Code != api.CodeRequest {
			t.Errorf("%s %.80s: %.200s, want %s", c.order, c.body, w.Body, c.want)
		}
	}
	// A body whose size nobody says is cut off too.
	r := httptest.NewRequest("POST", clusterPath+"/clear", strings.NewReader(strings.Repeat(" ", maxOrder+1)))
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	cl.handler.ServeHTTP(w, r)
	if w.Code != 413 {
		t.Errorf("an endless body: status %d, %s", w.Code, w.Body)
	}
	cl.want(400, "POST", clusterPath+"/clear?nonsense=1", "{}", jsonType)
	if len(f.orders) != 0 {
		t.Errorf("carried out: %q", f.orders)
	}
}

func TestOrdersThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   api.Code
	}{
		{&tanodb.ClusterError{Code: "not_member", Text: "n9 is not a member"}, 409, "not_member"},
		{&tanodb.ClusterError{Code: "plan_changed", Text: "the plan is another by now"}, 409, "plan_changed"},
		{fmt.Errorf("joining: %w", &tanodb.ClusterError{Code: "not_reachable", Text: "nobody is there"}), 409, "not_reachable"},
		{&tanodb.ClusterError{Code: "no_majority", Text: "2 of 3 voters are down"}, 503, api.CodeNoMajority},
		{&tanodb.ClusterError{Code: "timeout", Text: "no answer in time"}, 503, api.CodeTimeout},
		{&tanodb.ClusterError{Code: "invalid", Text: "a limit must not be negative"}, 400, api.CodeInvalid},
		{&tanodb.ClusterError{Text: "a code is missing"}, 409, api.CodeInternal},
		{context.DeadlineExceeded, 503, api.CodeTimeout},
		{kv.ErrClosed, 503, api.CodeClosed},
		{errors.New("something else"), 500, api.CodeInternal},
	} {
		f := newFake()
		f.fail = c.err
		cl := newClient(t, f)
		answers := []*httptest.ResponseRecorder{cl.want(c.status, "GET", clusterPath+"/plan", "")}
		for order, body := range map[string]string{
			"stage": `{"kind":"leave"}`, "join": `{"address":"h:1"}`, "commit": `{"plan":"p"}`, "clear": `{}`, "down": `{"node":"n2"}`,
			"recover": `{"survivors":["n1"],"i_know":true}`, "repair": `{"target":"0"}`, "limits": `{"bytes_per_second":0}`, "deletes": `{"mode":"reap"}`,
		} {
			answers = append(answers, cl.want(c.status, "POST", clusterPath+"/"+order, body, jsonType))
		}
		for _, w := range answers {
			var e api.Error
			decode(t, w, &e)
			if e.Code != c.code || e.Text != c.err.Error() || e.Timeout != (c.code == api.CodeTimeout) {
				t.Errorf("%v: answered %+v", c.err, e)
			}
		}
	}
}

// Whatever an order's body is, it is carried out or refused as the client's
// fault.
func FuzzOrders(f *testing.F) {
	f.Add("stage", `{"kind":"leave","node":"n1"}`)
	f.Add("limits", `{"per_node":-1,"bytes_per_second":1e400}`)
	f.Add("recover", `{"survivors":[null],"i_know":true}`)
	f.Fuzz(func(t *testing.T, order, body string) {
		r := httptest.NewRequest("POST", clusterPath, strings.NewReader(body))
		r.URL.Path, r.URL.RawPath = clusterPath+"/"+order, ""
		r.Header.Set("Content-Type", "application/json")
		n := newFake()
		w := httptest.NewRecorder()
		New(n, Options{}).ServeHTTP(w, r)
		if w.Code == 200 && len(n.orders) == 1 || w.Code >= 400 && w.Code < 500 && len(n.orders) == 0 {
			return
		}
		t.Fatalf("%s %q: status %d, carried out %q", order, body, w.Code, n.orders)
	})
}

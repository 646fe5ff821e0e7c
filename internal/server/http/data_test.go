package httpd

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// dataClient is a client of a node with the bucket types of the suite.
func dataClient(t *testing.T) *client {
	t.Helper()
	node, err := tanodb.Open(t.TempDir(), tanodb.Options{Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	kvtest.Prepare(t, node)
	return newClient(t, node)
}

const countersK, setsK, mapsK = "/types/counters/buckets/b/datatypes/k", "/types/sets/buckets/b/datatypes/k", "/types/maps/buckets/b/datatypes/k"

// read is what a GET of a data type shows.
type read struct {
	Type, Error, Context string
	Value                json.RawMessage
}

func (c *client) data(path string) (r read) {
	c.Helper()
	w := c.want(200, "GET", path, "")
	c.header(w, "Content-Type", "application/json")
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		c.Fatal(err)
	}
	return r
}

func (c *client) value(path, want string) {
	c.Helper()
	if r := c.data(path); string(r.Value) != want {
		c.Fatalf("%s has the value %s, want %s", path, r.Value, want)
	}
}

func TestCountersAreAdded(t *testing.T) {
	c := dataClient(t)
	w := c.want(404, "GET", countersK, "")
	c.body(w, `{"error":"notfound","type":"counter"}`+"\n")
	for _, op := range []string{"5", "-2", `"increment"`, `"decrement"`, `{"increment":10}`, `{"decrement":1}`, ` {"increment":-1} `} {
		c.want(204, "POST", countersK, op, asJSON)
	}
	if r := c.data(countersK); r.Type != "counter" || string(r.Value) != "11" || r.Context != "" {
		t.Errorf("%+v", r)
	}
	c.body(c.want(200, "POST", countersK+"?returnbody=true", "1", asJSON), `{"type":"counter","value":12}`+"\n")
	c.want(204, "DELETE", "/types/counters/buckets/b/keys/k", "")
	c.header(c.want(404, "GET", countersK, ""), "X-Riak-Deleted", "true")
}

// TestDatatypeOperationsThatCannotBeMeant: each is refused in Riak's words, and changes nothing.
func TestDatatypeOperationsThatCannotBeMeant(t *testing.T) {
	c := dataClient(t)
	for _, x := range []struct{ path, op, want string }{
		{countersK, "1.5", "Invalid operation on datatype 'counter': 1.5"},
		{countersK, "9223372036854775808", "Invalid operation on datatype 'counter'"},
		{countersK, `{"decrement":-9223372036854775808}`, "Invalid operation on datatype 'counter'"},
		{countersK, `{"increment":1,"decrement":1}`, "Invalid operation on datatype 'counter'"},
		{countersK, `{"increment":true}`, "Invalid operation on datatype 'counter'"},
		{countersK, `{}`, "Invalid operation on datatype 'counter'"},
		{countersK, `[]`, "Invalid operation on datatype 'counter'"},
		{countersK, `null`, "Invalid operation on datatype 'counter'"},
		{countersK, `{`, "Couldn't decode JSON"},
		{countersK, ``, "Couldn't decode JSON"},
		{setsK, `null`, "Invalid operation on datatype 'set'"},
		{setsK, `[]`, "Invalid operation on datatype 'set'"},
		{mapsK, `null`, "Invalid operation on datatype 'map'"},
		{setsK, `"x"`, "Invalid operation on datatype 'set'"},
		{setsK, `{"add":1}`, "Invalid operation on datatype 'set'"},
		{setsK, `{"add":null}`, "Invalid operation on datatype 'set'"},
		{setsK, `{"add_all":"x"}`, "Invalid operation on datatype 'set'"},
		{setsK, `{"add_all":["x",1]}`, "Invalid operation on datatype 'set'"},
		{setsK, `{"put":"x"}`, "Invalid operation on datatype 'set'"},
		{setsK, `{"add":"x","context":"?"}`, "invalid context"},
		{setsK, `{"add":"x","context":"AAAA"}`, "invalid context"},
		{"/types/gsets/buckets/b/datatypes/k", `{"remove":"x"}`, "Invalid operation on datatype 'gset'"},
		{"/types/hlls/buckets/b/datatypes/k", `{"remove":"x"}`, "Invalid operation on datatype 'hll'"},
		{mapsK, `{"update":{"x":1}}`, "Invalid map field name 'x'"},
		{mapsK, `{"update":{"x_hll":{"add":"y"}}}`, "Invalid map field name 'x_hll'"},
		{mapsK, `{"update":{"x_flag":"toggle"}}`, "Invalid operation on datatype 'flag'"},
		{mapsK, `{"update":{"x_register":{"assign":1}}}`, "Invalid operation on datatype 'register'"},
		{mapsK, `{"update":[]}`, "Invalid operation on datatype 'map'"},
		{mapsK, `{"remove":[1]}`, "Invalid operation on datatype 'map'"},
		{mapsK, strings.Repeat(`{"update":{"m_map":`, 33) + `{"update":{"n_counter":1}}` + strings.Repeat("}}", 33), "there are more than 32 maps within each other"},
		{mapsK, strings.Repeat(`{"update":{"m_map":`, 9000), "Couldn't decode JSON"},
		{countersK, "1 2", "Couldn't decode JSON"},
		{setsK, `{"add_all":null}`, "Invalid operation on datatype 'set'"},
		{mapsK, `{"update":{"x_register":{"assign":null}}}`, "Invalid operation on datatype 'register'"},
		{mapsK, `{"add":"x_flag"}`, "Invalid operation on datatype 'map'"},
		{setsK, `{"remove":"x"}`, `{precondition,{not_present,<<"x">>}}`},
	} {
		w := c.want(400, "POST", x.path, x.op, asJSON)
		if !strings.HasPrefix(w.Body.String(), x.want) || !strings.HasSuffix(w.Body.String(), "\n") {
			t.Errorf("%s: %q, want %q", x.op, w.Body, x.want)
		}
		c.want(404, "GET", x.path, "")
	}
	c.want(406, "POST", setsK, `{"add":"x"}`, plain)
	c.want(406, "POST", setsK, `{"add":"x"}`)
	c.want(406, "GET", setsK, "", "Accept: text/html")
	c.want(404, "GET", setsK, "", "Accept: text/html, application/*;q=0.1")
	c.want(405, "PUT", setsK, `{"add":"x"}`, asJSON)
	c.want(400, "POST", setsK+"?w=many", `{"add":"x"}`, asJSON)
	c.want(400, "POST", setsK+"?include_context=perhaps", `{"add":"x"}`, asJSON)
	c.want(400, "POST", setsK, `{"add":"x"}`, asJSON, "X-Tanodb-Request-Id: 1")
}

func TestBucketsWithoutDataTypes(t *testing.T) {
	c := dataClient(t)
	c.body(c.want(403, "POST", "/types/t/buckets/b/datatypes/k", "1", asJSON), "Bucket datatype 'undefined' is not a supported type.\n")
	c.body(c.want(403, "GET", "/types/latest/buckets/b/datatypes/k", ""), "Bucket must be allow_mult=true\n")
	c.body(c.want(404, "GET", "/types/nosuch/buckets/b/datatypes/k", ""), "Unknown bucket type: nosuch\n")
	w := c.want(301, "GET", "/buckets/b%2F/datatypes/k+1", "")
	c.header(w, "Location", "/buckets/b%2F/counters/k%201")
	if w := c.want(403, "PUT", "/types/sets/buckets/b/keys/k", "x", plain); !strings.Contains(w.Body.String(), "`set`") {
		t.Errorf("%q", w.Body)
	}
}

func TestSetsAreAddedToAndRemovedFrom(t *testing.T) {
	c := dataClient(t)
	c.want(204, "POST", setsK, `{"add":"b","add_all":["a","\u00e9","c"],"remove_all":[]}`, asJSON)
	c.value(setsK, `["a","b","c","é"]`)
	old := c.data(setsK).Context
	if _, err := base64.StdEncoding.DecodeString(old); err != nil || old == "" {
		t.Fatalf("context %q, %v", old, err)
	}
	c.want(204, "POST", setsK, `{"add":"a"}`, asJSON)
	c.want(204, "POST", setsK, fmt.Sprintf(`{"remove_all":["a","b"],"context":%q}`, old), asJSON)
	c.value(setsK, `["a","c","é"]`)
	if r := c.data(setsK + "?include_context=false"); r.Context != "" {
		t.Errorf("context %q", r.Context)
	}
	c.want(204, "POST", setsK, `{"add":{"base64":"/w=="}}`, asJSON)
	c.value(setsK, `["a","c","é",{"base64":"/w=="}]`)
	w := c.want(200, "HEAD", setsK, "")
	c.header(w, "Content-Type", "application/json")
}

func TestMapsAsJSON(t *testing.T) {
	c := dataClient(t)
	c.want(204, "POST", mapsK, `{"update":{"n_counter":3,"a_b_set":{"add":"x"},"r_register":{"assign":"v"},"q_register":"w","f_flag":"enable","m_map":{"update":{"n_counter":{"increment":1}}}}}`, asJSON)
	c.value(mapsK, `{"a_b_set":["x"],"f_flag":true,"m_map":{"n_counter":1},"n_counter":3,"q_register":"w","r_register":"v"}`)
	w := c.want(200, "POST", mapsK+"?returnbody=true", fmt.Sprintf(`{"remove":["a_b_set","m_map"],"update":{"f_flag":"disable"},"context":%q}`, c.data(mapsK).Context), asJSON)
	if !strings.HasPrefix(w.Body.String(), `{"type":"map","value":{"f_flag":false,"n_counter":3,"q_register":"w","r_register":"v"},"context":"`) {
		t.Errorf("%s", w.Body)
	}
	c.want(204, "POST", mapsK, `{"remove":"f_flag"}`, asJSON)
	c.value(mapsK, `{"n_counter":3,"q_register":"w","r_register":"v"}`)
}

func TestKeysOfDataTypesMayBeChosen(t *testing.T) {
	c := dataClient(t)
	w := c.want(201, "POST", "/types/hlls/buckets/b/datatypes?returnbody=true", `{"add_all":["a","b"]}`, asJSON)
	c.body(w, `{"type":"hll","value":2}`+"\n")
	c.value(w.Header().Get("Location"), "2")
	w = c.want(201, "POST", "/types/gsets/buckets/b/datatypes/", `{"add":"a"}`, asJSON)
	c.value(w.Header().Get("Location"), `["a"]`)
	c.want(404, "GET", "/types/gsets/buckets/b/datatypes", "")
}

func TestCountersOfRiak14(t *testing.T) {
	c := dataClient(t)
	const k = "/buckets/b/counters/k"
	c.body(c.want(404, "GET", k, ""), "not found\n")
	c.want(204, "POST", k, "5")
	c.want(204, "POST", k, "-7")
	c.body(c.want(200, "POST", k+"?returnvalue=true", "100"), "98")
	w := c.want(200, "GET", k, "")
	c.body(w, "98")
	c.header(w, "Content-Type", "text/plain")
	for _, body := range []string{"", "x", "1.5", "99999999999999999999"} {
		c.want(400, "POST", k, body)
	}
	c.header(c.want(200, "GET", "/buckets/b/keys/k", ""), "Content-Type", "application/riak_counter")
	c.want(204, "PUT", "/buckets/latest/props", `{"props":{"allow_mult":false}}`, asJSON)
	c.body(c.want(409, "POST", "/buckets/latest/counters/k", "1"), "Counters require bucket property 'allow_mult=true'\n")
	c.want(404, "POST", "/types/counters/buckets/b/counters/k", "1")
	c.want(404, "GET", "/buckets/b/counters", "")
}

// An operation that is sent again with its id counts once, on Riak's routes and our own.
func TestScenario23OperationSentAgain(t *testing.T) {
	c := dataClient(t)
	id := "X-Tanodb-Request-Id: " + strings.Repeat("ab", 16)
	for range 2 {
		c.want(204, "POST", countersK, "5", asJSON, id)
		c.want(204, "POST", countersK, "1", asJSON)
		c.want(200, "POST", "/_tanodb"+countersK, "5", asJSON, id)
		c.want(204, "POST", "/buckets/b/counters/k", "5", id)
	}
	c.value(countersK, "7")
	c.body(c.want(200, "GET", "/buckets/b/counters/k", ""), "5")
}

func TestOwnRouteOfDataTypes(t *testing.T) {
	c := dataClient(t)
	var got struct {
		Type    string
		Value   json.RawMessage
		Context string
		Replies []struct{ Node, Result string }
		Code    string
	}
	ask := func(status int, method, path, body string) {
		t.Helper()
		got.Value, got.Replies, got.Context = nil, nil, ""
		if err := json.Unmarshal(c.want(status, method, "/_tanodb"+path, body, asJSON).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
	}
	ask(200, "POST", setsK, `{"add":"x"}`)
	if got.Value != nil || len(got.Replies) != 3 {
		t.Errorf("%+v", got)
	}
	ask(200, "GET", setsK, "")
	if string(got.Value) != `["x"]` || len(got.Replies) != 3 || got.Context == "" {
		t.Errorf("%+v", got)
	}
	ask(400, "POST", setsK, `{"remove":"y"}`)
	if got.Code != "precondition" {
		t.Errorf("%+v", got)
	}
	ask(403, "POST", "/types/t/buckets/b/datatypes/k", `1`)
	if got.Code != "data_type" {
		t.Errorf("%+v", got)
	}
	ask(200, "POST", "/buckets/b/datatypes/k", `1`)
	ask(404, "GET", "/types/sets/buckets/b/datatypes/none", "")
	if got.Code != "not_found" {
		t.Errorf("%+v", got)
	}
}

// Each error of data types has its status.
func TestErrorsOfDataTypes(t *testing.T) {
	for err, status := range map[error]int{kv.ErrDataType: 403, kv.ErrPrecondition: 400, kv.ErrOverflow: 400} {
		if got := statusOf(&kv.DataError{Cause: err, Text: "text"}); got != status {
			t.Errorf("%v: status %d, want %d", err, got, status)
		}
	}
}

// An operation that does nothing makes what is not there, as in Riak: an empty set, or an
// empty map, or one with an empty set in it.
func TestOperationsThatDoNothing(t *testing.T) {
	c := dataClient(t)
	for _, tt := range []struct{ path, op, want string }{
		{setsK, `{}`, `[]`},
		{"/types/gsets/buckets/b/datatypes/k", `{}`, `[]`},
		{"/types/hlls/buckets/b/datatypes/k", `{"add_all":[]}`, `0`},
		{mapsK, `{}`, `{}`},
		{mapsK, `{"update":{"s_set":{},"m_map":{}}}`, `{"m_map":{},"s_set":[]}`},
	} {
		c.want(204, "POST", tt.path, tt.op, asJSON)
		c.value(tt.path, tt.want)
	}
}

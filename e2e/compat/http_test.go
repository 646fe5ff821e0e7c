package compat

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// step is one request of a feature, and what its answer must be.
type step struct {
	line    string   // METHOD PATH
	body    string   // of the request
	headers []string // NAME: VALUE, of the request
	status  int
	has     string // in the headers or the body of the answer
}

const (
	plain  = "Content-Type: text/plain"
	asJSON = "Content-Type: application/json"
)

// asked is, by feature, what a client of Riak's HTTP interface asks. testdata/http.json
// has the same names, with what is expected of each.
var asked = map[string][]step{
	"the resources by their names": {
		{line: "GET /", status: 200, has: `"riak_kv_wm_object":"/buckets"`},
	},
	"ping and statistics": {
		{line: "GET /ping", status: 200, has: "OK"},
		{line: "GET /stats", status: 200, has: `"riak_kv_version":"3.`},
		{line: "GET /stats", status: 200, has: `"ring_num_partitions":64`},
	},
	"store, fetch and delete": {
		{line: "PUT /buckets/kv/keys/k", body: "1", headers: []string{plain}, status: 204},
		{line: "GET /buckets/kv/keys/k", status: 200, has: "\n1"},
		{line: "HEAD /buckets/kv/keys/k", status: 200, has: "X-Riak-Vclock: "},
		{line: "DELETE /buckets/kv/keys/k", status: 204},
		{line: "GET /buckets/kv/keys/k", status: 404, has: "not found\n"},
		{line: "PUT /buckets/kv/keys/k", body: "1", status: 400, has: "Missing Content-Type"},
	},
	"generated keys": {
		{line: "POST /buckets/made/keys", body: "1", headers: []string{plain}, status: 201, has: "Location: /buckets/made/keys/"},
	},
	"user metadata, index entries and links": {
		{line: "PUT /buckets/more/keys/k", body: "1", status: 204, headers: []string{
			plain, "X-Riak-Meta-Who: me", "X-Riak-Index-Age_int: 7, 8", `Link: </buckets/people/keys/anna>; riaktag="friend"`,
		}},
		{line: "GET /buckets/more/keys/k", status: 200, has: "X-Riak-Meta-Who: me\n"},
		{line: "GET /buckets/more/keys/k", status: 200, has: "X-Riak-Index-Age_int: 7, 8\n"},
		{line: "GET /buckets/more/keys/k", status: 200, has: `Link: </buckets/people/keys/anna>; riaktag="friend", </buckets/more>; rel="up"`},
	},
	"siblings as a list, by vtag and as multipart/mixed": {
		{line: "PUT /buckets/siblings/props", body: `{"props":{"allow_mult":true}}`, headers: []string{asJSON}, status: 204},
		{line: "PUT /buckets/siblings/keys/k", body: "a", headers: []string{plain}, status: 204},
		{line: "PUT /buckets/siblings/keys/k", body: "b", headers: []string{plain}, status: 204},
		{line: "GET /buckets/siblings/keys/k", status: 300, has: "\nSiblings:\n"},
		{line: "GET /buckets/siblings/keys/k?vtag=none", status: 404},
		{line: "GET /buckets/siblings/keys/k", headers: []string{"Accept: multipart/mixed"}, status: 300, has: "Content-Type: multipart/mixed; boundary="},
	},
	"conditional requests": {
		{line: "PUT /buckets/conditions/keys/k", body: "1", headers: []string{plain, "If-None-Match: *"}, status: 204},
		{line: "PUT /buckets/conditions/keys/k", body: "2", headers: []string{plain, "If-None-Match: *"}, status: 412},
		{line: "PUT /buckets/conditions/keys/k", body: "2", headers: []string{plain, `If-Match: "x"`}, status: 412},
		{line: "GET /buckets/conditions/keys/k", headers: []string{"If-None-Match: *"}, status: 304},
	},
	"list keys": {
		{line: "PUT /buckets/listed/keys/k", body: "1", headers: []string{plain}, status: 204},
		{line: "GET /buckets/listed/keys?keys=true", status: 200, has: `{"keys":["k"]}`},
		{line: "GET /buckets/listed/keys?keys=stream", status: 200, has: `"k"`},
	},
	"bucket properties": {
		{line: "PUT /buckets/props/props", body: `{"props":{"n_val":2}}`, headers: []string{asJSON}, status: 204},
		{line: "GET /buckets/props/props", status: 200, has: `"n_val":2`},
		{line: "DELETE /buckets/props/props", status: 204},
		{line: "GET /buckets/props/props", status: 200, has: `"n_val":3`},
	},
	"bucket type properties": {
		{line: "PUT /types/plain/props", body: `{"props":{"w":"all"}}`, headers: []string{asJSON}, status: 204},
		{line: "GET /types/plain/props", status: 200, has: `"w":"all"`},
		{line: "GET /types/unknown/props", status: 404, has: "Unknown bucket type: unknown"},
	},
	"buckets of a type": {
		{line: "PUT /types/plain/buckets/b/keys/k", body: "typed", headers: []string{plain}, status: 204},
		{line: "GET /types/plain/buckets/b/keys/k", status: 200, has: "\ntyped"},
		{line: "GET /buckets/b/keys/k", status: 404},
		{line: "GET /types/unknown/buckets/b/keys/k", status: 404, has: "Unknown bucket type: unknown"},
	},
	"the old names of keys": {
		{line: "PUT /riak/old/k", body: "1", headers: []string{plain, `Link: </riak/people/anna>; riaktag="friend"`}, status: 204},
		{line: "GET /riak/old/k", status: 200, has: `Link: </riak/people/anna>; riaktag="friend", </riak/old>; rel="up"`},
		{line: "GET /buckets/old/keys/k", status: 200, has: "\n1"},
		{line: "DELETE /riak/old/k", status: 204},
	},
	"the old names of buckets": {
		{line: "POST /riak/olds", body: "1", headers: []string{plain}, status: 201, has: "Location: /riak/olds/"},
		{line: "PUT /riak/olds", body: `{"props":{"n_val":2}}`, headers: []string{asJSON}, status: 204},
		{line: "GET /riak/olds?keys=true", status: 200, has: `"n_val":2`},
		{line: "GET /riak?buckets=true", status: 200, has: `"olds"`},
	},
	"list buckets": {
		{line: "PUT /buckets/one/keys/k", body: "1", headers: []string{plain}, status: 204},
		{line: "GET /buckets?buckets=true", status: 200, has: `"one"`},
	},
	"secondary index queries": {
		{line: "PUT /buckets/indexed/keys/k", body: "1", headers: []string{plain, "X-Riak-Index-Age_int: 7"}, status: 204},
		{line: "GET /buckets/indexed/index/age_int/7", status: 200, has: `{"keys":["k"]}`},
		{line: "GET /buckets/indexed/index/age_int/1/9", status: 200, has: `{"keys":["k"]}`},
	},
	"counters of Riak 1.4": {
		{line: "PUT /buckets/counters/props", body: `{"props":{"allow_mult":true}}`, headers: []string{asJSON}, status: 204},
		{line: "POST /buckets/counters/counters/k", body: "5", headers: []string{plain}, status: 204},
		{line: "GET /buckets/counters/counters/k", status: 200, has: "\n5"},
	},
	"data types": {
		{line: "POST /types/sets/buckets/b/datatypes/k", body: `{"add":"x"}`, headers: []string{asJSON}, status: 204},
		{line: "GET /types/sets/buckets/b/datatypes/k", status: 200, has: `"value":["x"]`},
	},
	"MapReduce": {
		{line: "PUT /buckets/mapred/keys/k", body: "5", headers: []string{plain}, status: 204},
		{line: "POST /mapred", body: `{"inputs":"mapred","query":[]}`, headers: []string{asJSON}, status: 200, has: "\n" + `[["mapred","k"]]`},
		{line: "POST /mapred", body: `{"inputs":[["mapred","k"]],"query":[` + numbers + `]}`, headers: []string{asJSON}, status: 200, has: "\n[5]"},
		{line: "POST /mapred?chunked=true", body: `{"inputs":"mapred","query":[` + numbers + `]}`, headers: []string{asJSON}, status: 200, has: `{"phase":0,"data":[5]}`},
		{line: "POST /mapred", body: `{"inputs":"mapred"}`, headers: []string{asJSON}, status: 400, has: `{"error":"job has no query`},
		{line: "GET /mapred", status: 200, has: "Content-Type: text/html"},
		{line: "GET /", status: 200, has: `"riak_kv_wm_mapred":"/mapred"`},
	},
	"link walking": {
		{line: "PUT /buckets/walk/keys/k", body: "1", status: 204, headers: []string{
			plain, `Link: </buckets/walk/keys/k>; riaktag="self", </buckets/walk/keys/other>; riaktag="next"`,
		}},
		{line: "PUT /buckets/walk/keys/other", body: "2", headers: []string{plain}, status: 204},
		{line: "GET /buckets/walk/keys/k/_,self,1", status: 200, has: "Location: /buckets/walk/keys/k\r\n"},
		{line: "GET /buckets/walk/keys/k/walk,self,0/_,next,_", status: 200, has: "\r\n\r\n2\r\n"},
		{line: "GET /riak/walk/k/_,next,_", status: 200, has: "Location: /riak/walk/other\r\n"},
		{line: "GET /buckets/walk/keys/none/_,_,_", status: 404, has: "not found"},
	},
	"preference lists": {
		{line: "GET /buckets/kv/keys/k/preflist", status: 200, has: `"node":"n1","primary":true}`},
		{line: "GET /", status: 200, has: `"riak_kv_wm_preflist":"/buckets"`},
	},
}

// numbers is a phase of MapReduce: the values, as numbers.
const numbers = `{"map":{"language":"javascript","name":"Riak.mapValuesJson"}}`

// TestHTTPClients asks what clients of Riak's HTTP interface do.
func TestHTTPClients(t *testing.T) {
	t.Parallel() // it measures nothing
	if testing.Short() {
		t.Skip("starts real processes")
	}
	n := newNode(t, "n1")
	n.start()
	n.serves()
	n.makeTypes()
	tried := map[string]outcome{}
	for name, steps := range asked {
		o := outcome{Feature: name}
		for _, s := range steps {
			if err := s.ask("http://" + n.http); err != nil {
				o.Error = err.Error()
				break
			}
		}
		tried[name] = o
	}
	judge(t, features(t, "http.json"), tried)
}

// ask makes the request of a step.
func (s step) ask(base string) error {
	method, path, _ := strings.Cut(s.line, " ")
	r, err := http.NewRequest(method, base+path, strings.NewReader(s.body))
	if err != nil {
		return err
	}
	for _, header := range s.headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != s.status {
		return fmt.Errorf("%s: %d %s", s.line, answer.StatusCode, body)
	}
	var all strings.Builder
	for name, values := range answer.Header {
		fmt.Fprintf(&all, "%s: %s\n", name, strings.Join(values, ", "))
	}
	fmt.Fprintf(&all, "\n%s", body)
	if !strings.Contains(all.String(), s.has) {
		return fmt.Errorf("%s: %q is not in the answer:\n%s", s.line, s.has, all.String())
	}
	return nil
}

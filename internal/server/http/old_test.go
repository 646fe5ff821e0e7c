package httpd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

func TestOldNamesOfKeys(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", "/riak/a+b/k%2F1", "1", plain)
	c.body(c.want(200, "GET", "/buckets/a%20b/keys/k%2F1", ""), "1")
	w := c.want(200, "GET", "/riak/a+b/k%2F1", "")
	c.body(w, "1")
	c.header(w, "Link", `</riak/a%20b>; rel="up"`)
	c.want(200, "HEAD", "/riak/a+b/k%2F1", "")
	c.want(200, "POST", "/riak/a+b/k%2F1?returnbody=true", "2", plain, "X-Riak-Vclock: "+w.Header().Get("X-Riak-Vclock"))
	c.want(204, "DELETE", "/riak/a+b/k%2F1", "")
	c.body(c.want(404, "GET", "/riak/a+b/k%2F1", ""), "not found\n")

	at := c.want(201, "POST", "/riak/b", "3", plain).Header().Get("Location")
	if !strings.HasPrefix(at, "/riak/b/") {
		t.Fatalf("Location %q", at)
	}
	c.body(c.want(200, "GET", at, ""), "3")
}

// oldAnswer is what a GET of a bucket's old name shows, its pieces put together.
type oldAnswer struct {
	Props map[string]json.RawMessage `json:"props"`
	Keys  []string                   `json:"keys"`
}

func (c *client) oldBucket(path string) oldAnswer {
	c.Helper()
	var all oldAnswer
	for dec := json.NewDecoder(c.want(200, "GET", path, "").Body); dec.More(); {
		var piece oldAnswer
		if err := dec.Decode(&piece); err != nil {
			c.Fatal(err)
		}
		all.Keys = append(all.Keys, piece.Keys...)
		if piece.Props != nil {
			all.Props = piece.Props
		}
	}
	return all
}

func TestOldNamesOfBuckets(t *testing.T) {
	c := realClient(t)
	c.want(204, "PUT", "/riak/b", `{"props":{"n_val":2}}`, asJSON)
	c.want(204, "PUT", "/riak/b/k", "1", plain)
	for path, want := range map[string]struct{ props, keys bool }{
		"/riak/b":                         {true, false},
		"/riak/b/":                        {true, false},
		"/riak/b?keys=false":              {true, false},
		"/riak/b?keys=true":               {true, true},
		"/riak/b?keys=stream":             {true, true},
		"/riak/b?keys=true&props=false":   {false, true},
		"/riak/b?keys=stream&props=false": {false, true},
	} {
		got := c.oldBucket(path)
		if (got.Props != nil) != want.props || want.props && (string(got.Props["n_val"]) != "2" || string(got.Props["name"]) != `"b"`) {
			t.Errorf("%s: properties %s", path, got.Props)
		}
		if (len(got.Keys) == 1 && got.Keys[0] == "k") != want.keys {
			t.Errorf("%s: keys %q", path, got.Keys)
		}
	}
	if got := c.prop("/buckets/b/props", "n_val"); got != "2" {
		t.Errorf("n_val under the new name is %s", got)
	}
	c.want(404, "GET", "/riak/b?props=false", "")
	c.want(400, "GET", "/riak/b?r=x", "")
	c.want(400, "PUT", "/riak/b", `{"props":{"n_val":0}}`, asJSON)
}

func TestAnOldListingThatFails(t *testing.T) {
	f := newFake()
	f.fail = kv.ErrTimeout
	c := newClient(t, f)
	c.body(c.want(503, "GET", "/riak/b?keys=true&props=false", ""), "request timed out\n")
}

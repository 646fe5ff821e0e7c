package httpd

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

const asJSON = "Content-Type: application/json"

// realClient is a client of a node of its own.
func realClient(t *testing.T) *client {
	t.Helper()
	node, err := tanodb.Open(t.TempDir(), tanodb.Options{Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return newClient(t, node)
}

// prop is a property as a GET of the path shows it.
func (c *client) prop(path, name string) string {
	c.Helper()
	var body struct {
		Props map[string]json.RawMessage `json:"props"`
	}
	if err := json.Unmarshal(c.want(200, "GET", path, "").Body.Bytes(), &body); err != nil {
		c.Fatal(err)
	}
	return string(body.Props[name])
}

func TestBucketProperties(t *testing.T) {
	c := realClient(t)
	const path = "/buckets/b%00%22/props"
	if name, n := c.prop(path, "name"), c.prop(path, "n_val"); name != `"b\u0000\""` || n != "3" || c.prop(path, "allow_mult") != "false" || c.prop(path, "r") != `"quorum"` {
		t.Errorf("name %s, n_val %s", name, n)
	}
	c.want(204, "PUT", path, `{"props":{"n_val":2,"allow_mult":true,"w":"all","name":"b"}}`, asJSON)
	if c.prop(path, "n_val") != "2" || c.prop(path, "allow_mult") != "true" || c.prop(path, "w") != `"all"` {
		t.Error("the properties are not those that were set")
	}
	c.want(204, "PUT", "/buckets/b%00%22/keys/k", "a", plain)
	c.want(204, "PUT", "/buckets/b%00%22/keys/k", "b", plain)
	c.want(300, "GET", "/buckets/b%00%22/keys/k", "")
	c.want(204, "DELETE", path, "")
	if c.prop(path, "n_val") != "3" || c.prop(path, "allow_mult") != "false" {
		t.Error("the properties are not the defaults again")
	}
	c.body(c.want(200, "GET", "/buckets/b%00%22/keys/k", ""), "b")
	for body, want := range map[string]int{
		`{"props":{"n_val":7}}`: 400, `{"props":{"dance":1}}`: 400, `{"props":[]}`: 400, `{}`: 400, `{`: 400, `{"props":{"allow_mult":true,"last_write_wins":true}}`: 400,
		`{"props":{"datatype":"counter"}}`: 400, `{"props":{"write_once":true}}`: 400,
	} {
		c.want(want, "PUT", path, body, asJSON)
	}
	c.want(415, "PUT", path, `{"props":{}}`, plain)
	c.want(405, "PATCH", path, "")
}

func TestBucketTypes(t *testing.T) {
	c := realClient(t)
	const key = "/types/carts/buckets/b/keys/k"
	c.body(c.want(404, "GET", key, ""), "Unknown bucket type: carts\n")
	c.body(c.want(404, "PUT", key, "a", plain), "Unknown bucket type: carts\n")
	c.body(c.want(404, "GET", "/types/carts/props", ""), "Unknown bucket type: carts\n")
	c.body(c.want(404, "PUT", "/types/carts/props", `{"props":{"w":1}}`, asJSON), "Cannot modify unknown bucket type: carts\n")
	c.body(c.want(404, "PUT", "/types/carts/buckets/b/props", `{"props":{"w":1}}`, asJSON), "Unknown bucket type: carts\n")
	c.want(404, "GET", "/types/carts/buckets/b/props", "")

	c.want(200, "POST", "/_tanodb/types/create", `{"name":"carts","props":{"ttl":3600,"w":"one"}}`, asJSON)
	c.want(404, "GET", key, "")
	if c.prop("/types/carts/props", "w") != `"one"` || c.prop("/types/carts/props", "ttl") != `"1h0m0s"` {
		t.Error("the type is not as it was made")
	}
	c.want(200, "POST", "/_tanodb/types/activate", `{"name":"carts"}`, asJSON)
	c.want(204, "PUT", key, "a", plain)
	if got := c.want(200, "GET", key, "").Header().Get("X-Tanodb-Expires"); got == "" {
		t.Error("the value does not expire")
	}
	c.want(204, "PUT", "/types/carts/props", `{"props":{"w":"quorum","ttl":null}}`, asJSON)
	if c.prop("/types/carts/buckets/other/props", "w") != `"quorum"` || c.prop("/types/carts/props", "ttl") != `"0s"` {
		t.Error("the type is not as it was changed")
	}
	c.want(200, "POST", "/_tanodb/types/update", `{"name":"default","props":{"allow_mult":true}}`, asJSON)
	if c.prop("/types/default/props", "allow_mult") != "true" || c.prop("/buckets/x/props", "allow_mult") != "true" {
		t.Error("the default type is not as it was changed")
	}
	c.want(200, "POST", "/_tanodb/types/reset", `{"name":"default"}`, asJSON)
	c.want(409, "POST", "/_tanodb/types/create", `{"name":"carts"}`, asJSON)
	c.want(409, "POST", "/_tanodb/types/activate", `{"name":"other"}`, asJSON)
	c.want(400, "POST", "/_tanodb/types/create", `{"name":"a/b"}`, asJSON)
	c.want(400, "POST", "/_tanodb/types/create", `{"name":"a","props":{"dance":1}}`, asJSON)
	var list struct{ Types []tanodb.BucketType }
	if err := json.Unmarshal(c.want(200, "GET", "/_tanodb/types", "").Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range list.Types {
		names = append(names, x.Name)
		if !x.Active || x.Props.Lookup("n_val") != "3" {
			t.Errorf("%+v", x)
		}
	}
	if !slices.Equal(names, []string{"carts", "default"}) {
		t.Errorf("types %v", names)
	}
}

// What stands in an error of a type that a path names is that name, whatever it is.
func TestTheNameOfAnUnknownTypeIsAnyText(t *testing.T) {
	c := realClient(t)
	for _, name := range []string{"/", "%", "ключ", strings.Repeat("t", kv.MaxType)} {
		c.body(c.want(404, "GET", "/types/"+riakEscape(name)+"/buckets/b/keys/k", ""), "Unknown bucket type: "+name+"\n")
	}
}

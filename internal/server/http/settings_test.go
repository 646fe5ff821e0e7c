package httpd

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// fakeSettings are one option that takes any value but "bad".
type fakeSettings struct{ value string }

func (f *fakeSettings) Settings() api.Settings {
	return api.Settings{Node: "n1", Settings: []api.Setting{{Name: "log-level", Value: f.value, Source: "default", Live: true}}}
}

func (f *fakeSettings) Set(name, value string) (api.Setting, error) {
	if name != "log-level" || value == "bad" {
		return api.Setting{}, &kv.InvalidError{What: name, Problem: "is " + value}
	}
	f.value = value
	return api.Setting{Name: name, Value: value, Source: "set", Live: true}, nil
}

func TestSettings(t *testing.T) {
	f := &fakeSettings{"info"}
	c := &client{t, New(newFake(), Options{Settings: f})}
	var all api.Settings
	decode(t, c.want(200, "GET", "/_tanodb/settings", ""), &all)
	if diff := cmp.Diff(f.Settings(), all); diff != "" {
		t.Error(diff)
	}
	const isJSON = "Content-Type: application/json"
	var set api.Setting
	decode(t, c.want(200, "POST", "/_tanodb/settings/set", `{"name":"log-level","value":"debug"}`, isJSON), &set)
	if set.Source != "set" || f.value != "debug" {
		t.Errorf("%+v, and the value is %q", set, f.value)
	}
	for body, want := range map[string]int{
		`{"name":"log-level","value":"bad"}`:     400,
		`{"name":"cache","value":"1"}`:           400,
		`{"name":"log-level","valve":"debug"}`:   400,
		`{`:                                      400,
		fmt.Sprintf(`{"name":"%070000d"}`, 1):    413,
		`{"name":"log-level","value":{"a": 1 }}`: 400,
	} {
		c.want(want, "POST", "/_tanodb/settings/set", body, isJSON)
	}
	c.want(415, "POST", "/_tanodb/settings/set", `{"name":"log-level","value":"warn"}`)
	c.want(405, "GET", "/_tanodb/settings/set", "")
	c.want(405, "POST", "/_tanodb/settings", "{}", isJSON)
	if f.value != "debug" {
		t.Errorf("the value is %q", f.value)
	}
	c = newClient(t, newFake())
	c.want(404, "GET", "/_tanodb/settings", "")
	c.want(404, "POST", "/_tanodb/settings/set", `{"name":"log-level","value":"warn"}`, isJSON)
}

func TestListsThatAreNotAllowed(t *testing.T) {
	n := openNode(t)
	if _, err := n.Put(t.Context(), kv.Key{Bucket: "b", Name: "k1"}, kv.Value{Data: []byte("v")}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	allowed := false
	c := &client{t, New(n, Options{AllowsLists: func() bool { return allowed }})}
	for path, job := range map[string]string{
		"/buckets/b/keys?keys=true":    "list_keys",
		"/buckets/b/keys?keys=stream":  "stream_list_keys",
		"/riak/b?keys=true&props=true": "list_keys",
		"/riak/b?keys=stream":          "stream_list_keys",
		"/buckets?buckets=true":        "list_buckets",
		"/buckets?buckets=stream":      "stream_list_buckets",

		"/buckets/b/index/$bucket/_":                  "secondary_index",
		"/buckets/b/index/$KEY/a/z?stream=true":       "stream_secondary_index",
		"/buckets/b/index/$key/a/z?max_results=10001": "secondary_index",
	} {
		allowed = false
		c.body(c.want(403, "GET", path, ""), "Operation '{riak_kv,"+job+"}' is not enabled")
		allowed = true
		c.want(200, "GET", path, "")
	}
	allowed = false
	c.want(200, "GET", "/_tanodb/buckets/b/keys", "")
	c.want(200, "GET", "/_tanodb/buckets", "")
	c.want(200, "GET", "/buckets/b/index/$key/a/z?max_results=10000", "")
	c.want(200, "GET", "/buckets/b/index/f_bin/a/z", "")
	c.want(200, "GET", "/_tanodb/buckets/b/index/$bucket", "")
	c.want(200, "GET", "/buckets/b/keys/k1", "")
}

// limited is an overload that knows when it is over.
type limited struct{ wait time.Duration }

func (e *limited) Error() string             { return "overload: so much a second" }
func (e *limited) Is(target error) bool      { return target == kv.ErrOverload }
func (e *limited) RetryAfter() time.Duration { return e.wait }

func TestOverloadSaysWhenToComeAgain(t *testing.T) {
	for err, want := range map[error]string{
		kv.ErrOverload:                               "1",
		&limited{10 * time.Millisecond}:              "1",
		&limited{2500 * time.Millisecond}:            "3",
		fmt.Errorf("put: %w", &limited{time.Minute}): "60",
		kv.ErrTimeout:                                "",
	} {
		f := newFake()
		f.fail = err
		c := newClient(t, f)
		for _, path := range []string{k1, "/_tanodb" + k1} {
			if got := c.want(503, "GET", path, "").Header().Get("Retry-After"); got != want {
				t.Errorf("%v on %s: %q, want %q", err, path, got, want)
			}
		}
	}
	o := Options{MaxBodies: 10}
	c := &client{t, New(newFake(), o)}
	if got := c.want(503, "PUT", k1, "a body of more bytes", plain).Header().Get("Retry-After"); got != "1" {
		t.Errorf("too many bodies: %q", got)
	}
}

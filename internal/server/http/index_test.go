package httpd

import (
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

// indexed is a client of a bucket whose keys k1 to k5 have the numbers 1 to 5 and a word.
func indexed(t *testing.T) (*client, *fake) {
	t.Helper()
	f := newFake()
	c := newClient(t, f)
	for i := 1; i <= 5; i++ {
		n := strconv.Itoa(i)
		c.want(204, "PUT", "/buckets/b/keys/k"+n, "x", plain, "X-Riak-Index-N_int: "+n, "X-Riak-Index-W_bin: w"+n+", all")
	}
	return c, f
}

func TestIndexQueries(t *testing.T) {
	c, f := indexed(t)
	for _, tt := range []struct{ path, want string }{
		{"n_int/3", `{"keys":["k3"]}`},
		{"n_int/9", `{"keys":[]}`},
		{"N_INT/2/3", `{"keys":["k2","k3"]}`},
		{"n_int/2/3?return_terms=true", `{"results":[{"2":"k2"},{"3":"k3"}]}`},
		{"n_int/2?return_terms=true", `{"keys":["k2"]}`},
		{"n_int/6/9?return_terms=true", `{"results":[]}`},
		{"w_bin/a/w4?term_regex=w%5B34%5D", `{"keys":["k3","k4"]}`},
		{"$key/k4/k9", `{"keys":["k4","k5"]}`},
		{"$bucket/b", `{"keys":["k1","k2","k3","k4","k5"]}`},
		{"$bucket/_/_?return_terms=true", `{"keys":["k1","k2","k3","k4","k5"]}`},
		{"n_int/3?timeout=0", `{"keys":["k3"]}`},                 // Python's client says so that it would wait for ever
		{"n_int/3/-2", `{"keys":[]}`},                            // nothing is between them, as in Riak
		{"$key/k4/k9?return_terms=true", `{"keys":["k4","k5"]}`}, // of keys there are no terms, as in Riak
		{"w_bin/w9/w1?return_terms=true&max_results=3", `{"results":[]}`},
		{"w_bin/all?pagination_sort=true", `{"keys":["k1","k2","k3","k4","k5"]}`},
	} {
		c.body(c.want(200, "GET", "/buckets/b/index/"+tt.path, ""), tt.want+"\n")
	}
	for _, tt := range []struct{ path, want string }{
		{"n/3", "Unknown field type for field: 'n'.\n"},
		{"n_int/three", "Could not parse field 'n_int', value 'three'.\n"},
		{"n_int/3?term_regex=3", "Can not use term regular expression in integer query\n"},
		{"w_bin/3?term_regex=(", "Invalid term regular expression \"(\": error parsing regexp: missing closing ): `(`\n"},
		{"n_int/3?max_results=0", "Invalid \"max_results\". 0 is not a positive integer\n"},
		{"n_int/3?max_results=x", "Invalid \"max_results\". \"x\" is not a positive integer\n"},
		{"n_int/3?return_terms=maybe", "Invalid \"return_terms\". \"maybe\" is not a boolean\n"},
		{"n_int/3?pagination_sort=maybe", "Invalid \"pagination_sort\". \"maybe\" is not a boolean\n"},
		{"n_int/3?timeout=x", "Bad timeout value \"x\"\n"},
		{"n_int/3?continuation=x", "token is not one that this query has returned\n"},
	} {
		c.body(c.want(400, "GET", "/buckets/b/index/"+tt.path, ""), tt.want)
	}
	c.body(c.want(404, "GET", "/types/nope/buckets/b/index/n_int/3", ""), "Unknown bucket type: nope\n")
	f.fail = kv.ErrTimeout
	c.body(c.want(503, "GET", "/buckets/b/index/n_int/3", ""), "request timed out\n")
	c.body(c.want(503, "GET", "/buckets/b/index/n_int/3?stream=true", ""), "request timed out\n")
}

func TestIndexPagesGoOn(t *testing.T) {
	c, _ := indexed(t)
	var got []string
	path := "/buckets/b/index/n_int/1/5?max_results=2&return_terms=true"
	for next := ""; ; {
		var page struct {
			Results      []map[string]string
			Continuation string
		}
		decode(t, c.want(200, "GET", path+next, ""), &page)
		if len(page.Results) > 2 {
			t.Fatalf("%d results of 2", len(page.Results))
		}
		for _, r := range page.Results {
			for term, key := range r {
				got = append(got, term+key)
			}
		}
		if page.Continuation == "" {
			break
		}
		next = "&continuation=" + page.Continuation
	}
	if strings.Join(got, " ") != "1k1 2k2 3k3 4k4 5k5" {
		t.Errorf("the pages are %v", got)
	}
}

func TestIndexStream(t *testing.T) {
	c, _ := indexed(t)
	w := c.want(200, "GET", "/buckets/b/index/n_int/1/5?max_results=3&stream=true", "")
	media, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil || media != "multipart/mixed" {
		t.Fatalf("content type %s: %v", media, err)
	}
	var keys []string
	continuation := ""
	for parts := multipart.NewReader(w.Body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var piece struct {
			Keys         []string
			Continuation string
		}
		if err := json.NewDecoder(part).Decode(&piece); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, piece.Keys...)
		continuation = piece.Continuation
	}
	if strings.Join(keys, " ") != "k1 k2 k3" || continuation == "" {
		t.Errorf("streamed %v, then %q", keys, continuation)
	}
}

func TestABrokenIndexStreamIsSeen(t *testing.T) {
	f := newFake()
	for i := range listPage + 1 {
		v := kv.Value{Indexes: []kv.Pair{{Name: "n_int", Value: "1"}}}
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: strconv.Itoa(i)}, v, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f.fail, f.failLate = kv.ErrTimeout, true
	s := httptest.NewServer(New(f, Options{}))
	defer s.Close()
	body, err := fetchAll(s.URL + "/buckets/b/index/n_int/1?stream=true")
	if err == nil {
		t.Error("the query broke off, and the client has seen a good end")
	}
	if !strings.HasSuffix(body, `{"error":"timeout"}`) {
		t.Errorf("the query ends with %q", body[max(0, len(body)-50):])
	}
}

func TestListBuckets(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.body(c.want(200, "GET", "/buckets?buckets=true", ""), `{"buckets":[]}`+"\n")
	for _, k := range []kv.Key{{Bucket: "b2", Name: "k"}, {Bucket: "b1", Name: "k"}, {Bucket: "\xff/", Name: "k"}, {Type: "t", Bucket: "typed", Name: "k"}} {
		if _, err := f.Memory.Put(t.Context(), k, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const want = `{"buckets":["b1","b2"],"buckets_base64":["/y8="]}`
	for _, path := range []string{"/buckets", "/riak", "/riak/"} {
		c.body(c.want(200, "GET", path+"?buckets=true", ""), want+"\n")
		c.body(c.want(200, "GET", path+"?buckets=stream", ""), want)
		c.body(c.want(400, "GET", path, ""), "buckets query parameter must be true or stream\n")
	}
	c.body(c.want(200, "GET", "/types/t/buckets?buckets=true", ""), `{"buckets":["typed"]}`+"\n")
	var page api.Buckets
	decode(t, c.want(200, "GET", "/_tanodb/buckets?limit=2", ""), &page)
	if len(page.Buckets) != 2 || page.Next == "" {
		t.Errorf("page %+v", page)
	}
	f.fail = kv.ErrTimeout
	c.want(503, "GET", "/buckets?buckets=true", "")
	c.want(503, "GET", "/buckets?buckets=stream", "")
}

func TestIndexPageOnOurOwnRoutes(t *testing.T) {
	c, _ := indexed(t)
	var page api.Matches
	decode(t, c.want(200, "GET", "/_tanodb/buckets/b/index/w_bin/a/z?limit=6&sort=true&regex=^w", ""), &page)
	if len(page.Matches) != 5 || page.Matches[4] != (api.Match{Term: "w5", Key: "k5"}) || page.Next != "" {
		t.Errorf("page %+v", page)
	}
}

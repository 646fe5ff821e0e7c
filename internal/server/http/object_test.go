package httpd

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

const k1 = "/buckets/b/keys/k1"

func TestReadWriteDelete(t *testing.T) {
	c := newClient(t, newFake())
	c.body(c.want(404, "GET", k1, ""), "not found\n")
	c.body(c.want(204, "PUT", k1, "42", plain), "")
	w := c.want(200, "GET", k1, "")
	c.body(w, "42")
	c.header(w, "Content-Type", "text/plain")
	c.header(w, "Content-Length", "2")
	c.header(w, "Link", `</buckets/b>; rel="up"`)
	c.header(w, "Vary", "Accept")
	c.header(w, "Content-Security-Policy", "sandbox")
	for _, name := range []string{"X-Riak-Vclock", "Etag", "Last-Modified"} {
		if w.Header().Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	c.body(c.want(200, "HEAD", k1, ""), "")
	c.body(c.want(204, "DELETE", k1, ""), "")
	w = c.want(404, "GET", k1, "")
	c.body(w, "not found\n")
	c.header(w, "X-Riak-Deleted", "true")
	if w.Header().Get("X-Riak-Vclock") == "" {
		t.Error("a deleted key has no context")
	}
}

func TestDeleteOfAnAbsentKey(t *testing.T) {
	c := newClient(t, newFake())
	w := c.want(404, "DELETE", k1, "")
	c.body(w, "not found\n")
	c.header(w, "X-Riak-Deleted", "")

	c.want(204, "PUT", k1, "42", plain)
	seen := "X-Riak-Vclock: " + c.want(200, "GET", k1, "").Header().Get("X-Riak-Vclock")
	c.want(204, "DELETE", k1, "")
	c.header(c.want(404, "DELETE", k1, ""), "X-Riak-Deleted", "true")
	c.want(204, "DELETE", k1, "", seen) // with a context nothing is read first
}

func TestContextReplacesWhatWasSeen(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", k1, "1", plain)
	seen := "X-Riak-Vclock: " + c.want(200, "GET", k1, "").Header().Get("X-Riak-Vclock")
	c.want(204, "POST", k1, "2", plain, seen)
	c.body(c.want(200, "GET", k1, ""), "2")
	c.want(204, "PUT", k1, "3", plain, seen)
	c.want(300, "GET", k1, "")
	c.body(c.want(400, "PUT", k1, "4", plain, "X-Riak-Vclock: not base64!"), "X-Riak-Vclock is not base64\n")
	c.want(400, "PUT", k1, "4", plain, "X-Riak-Vclock: bm9uc2Vuc2U=")
	c.want(400, "DELETE", k1, "", "X-Riak-Vclock: bm9uc2Vuc2U=")
	c.want(400, "PUT", "/buckets/b/keys/other", "4", plain, seen)
}

func TestHeadersOfAValue(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", k1, "data", "Content-Type: text/html; charset=utf-8; level=1", "Content-Encoding: gzip",
		"X-Riak-Meta-Color: red", "X-Riak-Meta-Color: green", "X-Riak-Meta-Size: 1, 2",
		"X-Riak-Index-Age_int: 7, -8", "X-Riak-Index-name_bin: a", "X-Tanodb-Expires: 2101-02-03T04:05:06.789Z")
	w := c.want(200, "GET", k1, "")
	c.header(w, "Content-Type", "text/html; level=1; charset=utf-8")
	c.header(w, "Content-Encoding", "gzip")
	c.header(w, "X-Riak-Meta-Color", "red | green")
	c.header(w, "X-Riak-Meta-Size", "1, 2")
	c.header(w, "X-Riak-Index-Age_int", "7, -8")
	c.header(w, "X-Riak-Index-Name_bin", "a")
	c.header(w, "X-Tanodb-Expires", "2101-02-03T04:05:06.789Z")
	c.header(w, "X-Tanodb-Omitted", "")
}

func TestExpires(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", k1, "gone", plain, "X-Tanodb-Expires: Sun, 06 Nov 1994 08:49:37 GMT")
	c.header(c.want(404, "GET", k1, ""), "X-Riak-Deleted", "true")
	w := c.want(400, "PUT", k1, "1", plain, "X-Tanodb-Expires: tomorrow")
	c.body(w, "X-Tanodb-Expires must be a date as in HTTP or RFC 3339\n")
}

func TestWhatNoHeaderCanHoldIsCounted(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	_, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: "k1"}, kv.Value{
		ContentType: "text/plain\r\nX-Evil: 1",
		Meta:        []kv.Pair{{Name: "good", Value: "ключ"}, {Name: "a b", Value: "1"}, {Name: "evil", Value: "1\r\nX-Evil: 1"}, {Name: "blank", Value: " "}, {Name: "", Value: "1"}},
		Indexes:     []kv.Pair{{Name: "x_bin", Value: "a, b"}, {Name: "\x00y_bin", Value: "a"}},
	}, kv.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := c.want(200, "GET", k1, "")
	c.header(w, "Content-Type", "application/octet-stream")
	c.header(w, "X-Riak-Meta-Good", "ключ")
	c.header(w, "X-Riak-Meta-Blank", "")
	c.header(w, "X-Tanodb-Omitted", "6")
	c.header(w, "X-Evil", "")
}

func TestRefusedWrites(t *testing.T) {
	c := newClient(t, newFake())
	for _, method := range []string{"PUT", "POST"} {
		c.body(c.want(400, method, k1, "x"), "Missing Content-Type request header")
		c.body(c.want(415, method, k1, "x", "Content-Type: nonsense"), "\"nonsense\" is not a valid media type for the Content-type header.\n")
		c.want(415, method, k1, "x", "Content-Type: /")
		c.body(c.want(400, method, k1, "x", plain, "X-Riak-Index-age_int: old"), "Could not parse field 'age_int', value 'old'.\n")
		c.body(c.want(400, method, k1, "x", plain, "X-Riak-Index-age: 7"), "Unknown field type for field: 'age'.\n")
		c.want(400, method, k1, "x", plain, "X-Tanodb-Request-Id: 12")
		c.want(400, method, k1, "x", plain, "X-Tanodb-Request-Id: "+strings.Repeat("g", 32))
	}
	c.want(404, "GET", k1, "")
}

func TestRequestIDIsShownOnce(t *testing.T) {
	c := newClient(t, newFake())
	for range 3 {
		c.want(204, "PUT", k1, "once", plain, "X-Tanodb-Request-Id: "+strings.Repeat("ab", 16))
	}
	c.body(c.want(200, "GET", k1, ""), "once")
}

func TestReturnBody(t *testing.T) {
	c := newClient(t, newFake())
	w := c.want(200, "PUT", k1+"?returnbody=true", "1", plain)
	c.body(w, "1")
	c.header(w, "Content-Type", "text/plain")
	seen := "X-Riak-Vclock: " + w.Header().Get("X-Riak-Vclock")
	c.want(200, "POST", k1+"?returnbody=true", "2", plain, seen)
	w = c.want(300, "PUT", k1+"?returnbody=true", "3", plain)
	if !strings.HasPrefix(w.Body.String(), "Siblings:\n") {
		t.Errorf("body %q", w.Body)
	}
	w = c.want(204, "PUT", k1+"?returnbody=false", "4", plain)
	c.header(w, "X-Riak-Vclock", "")
}

func TestCreate(t *testing.T) {
	c := newClient(t, newFake())
	for _, bucket := range []string{"/buckets/a%2Fb", "/types/t/buckets/%00"} {
		first := c.want(201, "POST", bucket+"/keys", "1", plain)
		at := first.Header().Get("Location")
		if !strings.HasPrefix(at, bucket+"/keys/") || len(at) < len(bucket)+20 {
			t.Fatalf("Location %q", at)
		}
		c.body(c.want(200, "GET", at, ""), "1")
		second := c.want(201, "POST", bucket+"/keys?returnbody=true", "2", plain)
		c.body(second, "2")
		if second.Header().Get("Location") == at {
			t.Fatal("the same key twice")
		}
	}
	c.want(400, "POST", "/buckets/b/keys", "1")
	c.want(405, "PUT", "/buckets/b/keys", "1", plain)
	c.want(405, "DELETE", "/buckets/b/keys/", "")
}

// siblings writes two values of k1 and returns the client.
func siblings(t *testing.T) *client {
	c := newClient(t, newFake())
	c.want(204, "PUT", k1, "one", plain, "X-Riak-Meta-Who: first")
	c.want(204, "PUT", k1, "two\r\n--", "Content-Type: text/html")
	return c
}

func TestSiblingsAsText(t *testing.T) {
	c := siblings(t)
	for _, accept := range []string{"*/*", "text/plain", "text/plain, multipart/mixed;q=0.5", "text/*, */*;q=0.1", "multipart/mixed;q=0", "image/png"} {
		w := c.want(300, "GET", k1, "", "Accept: "+accept)
		c.header(w, "Content-Type", "text/plain")
		lines := strings.Split(w.Body.String(), "\n")
		if len(lines) != 4 || lines[0] != "Siblings:" || lines[3] != "" {
			t.Fatalf("accept %q: body %q", accept, w.Body)
		}
		got := c.want(200, "GET", k1+"?vtag="+lines[1], "").Body.String() + "|" + c.want(200, "GET", k1+"?vtag="+lines[2], "").Body.String()
		if got != "one|two\r\n--" {
			t.Fatalf("the siblings are %q", got)
		}
	}
	c.body(c.want(300, "HEAD", k1, ""), "")
	c.body(c.want(404, "GET", k1+"?vtag=none", ""), "not found\n")
}

func TestSiblingsAsMultipart(t *testing.T) {
	c := siblings(t)
	for _, accept := range []string{"multipart/mixed", "multipart/mixed, */*;q=0.5", "text/plain, multipart/mixed", "multipart/*, text/plain;q=0.9", "MULTIPART/MIXED"} {
		w := c.want(300, "GET", k1, "", "Accept: "+accept)
		_, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
		if err != nil || params["boundary"] == "" {
			t.Fatalf("accept %q: Content-Type %q", accept, w.Header().Get("Content-Type"))
		}
		parts := multipart.NewReader(w.Body, params["boundary"])
		for _, want := range []struct{ data, contentType, who string }{{"one", "text/plain", "first"}, {"two\r\n--", "text/html", ""}} {
			part, err := parts.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(part)
			if err != nil || string(data) != want.data || part.Header.Get("Content-Type") != want.contentType ||
				part.Header.Get("X-Riak-Meta-Who") != want.who || part.Header.Get("Etag") == "" || part.Header.Get("Last-Modified") == "" ||
				part.Header.Get("Link") != `</buckets/b>; rel="up"` {
				t.Fatalf("part %q %v, error %v", data, part.Header, err)
			}
		}
		if _, err := parts.NextPart(); err != io.EOF {
			t.Fatalf("more than two parts, or no end: %v", err)
		}
	}
}

func TestSiblingsAreResolvedWithTheirContext(t *testing.T) {
	c := siblings(t)
	seen := "X-Riak-Vclock: " + c.want(300, "GET", k1, "").Header().Get("X-Riak-Vclock")
	c.want(204, "PUT", k1, "both", plain, seen)
	c.body(c.want(200, "GET", k1, ""), "both")
}

func TestConditionalReads(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T) *client{
		"one value": func(t *testing.T) *client {
			c := newClient(t, newFake())
			c.want(204, "PUT", k1, "1", plain)
			return c
		},
		"siblings": siblings,
	} {
		t.Run(name, func(t *testing.T) {
			c := prepare(t)
			head := c.do("HEAD", k1, "").Header()
			ok := c.do("GET", k1, "").Code
			tag, modified := head.Get("Etag"), head.Get("Last-Modified")
			for _, method := range []string{"GET", "HEAD"} {
				w := c.want(304, method, k1, "", "If-None-Match: "+tag)
				c.header(w, "Etag", tag)
				c.header(w, "X-Riak-Vclock", head.Get("X-Riak-Vclock"))
				c.body(w, "")
				c.want(304, method, k1, "", `If-None-Match: "x", W/`+tag)
				c.want(304, method, k1, "", "If-None-Match: *")
				c.want(ok, method, k1, "", `If-None-Match: "x"`)
				c.want(304, method, k1, "", "If-Modified-Since: "+modified)
				c.want(ok, method, k1, "", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")
				c.want(ok, method, k1, "", "If-Modified-Since: yesterday")
				c.want(ok, method, k1, "", `If-None-Match: "x"`, "If-Modified-Since: "+modified)
				c.want(ok, method, k1, "", "If-Match: "+tag)
				c.want(412, method, k1, "", `If-Match: "x"`)
				c.want(412, method, k1, "", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT")
				c.want(404, method, "/buckets/b/keys/absent", "", "If-None-Match: *")
			}
		})
	}
}

func TestConditionalWrites(t *testing.T) {
	c := newClient(t, newFake())
	c.want(412, "PUT", k1, "0", plain, "If-Match: *")
	c.want(204, "PUT", k1, "1", plain, "If-None-Match: *")
	c.want(412, "PUT", k1, "2", plain, "If-None-Match: *")
	head := c.want(200, "GET", k1, "").Header()

	// What meets the condition is replaced, without a context of its own.
	c.want(204, "PUT", k1, "2", plain, "If-Match: "+head.Get("Etag"))
	c.body(c.want(200, "GET", k1, ""), "2")
	c.want(412, "PUT", k1, "3", plain, "If-Match: "+head.Get("Etag"))
	c.want(412, "DELETE", k1, "", "If-Match: "+head.Get("Etag"))
	c.want(412, "PUT", k1, "3", plain, "If-Unmodified-Since: "+time.Unix(1, 0).UTC().Format(http.TimeFormat))
	c.body(c.want(409, "PUT", k1, "3", plain, "X-Riak-If-Not-Modified: "+head.Get("X-Riak-Vclock")), "modified\n")
	now := c.want(200, "GET", k1, "").Header()
	c.want(204, "PUT", k1, "3", plain, "X-Riak-If-Not-Modified: "+now.Get("X-Riak-Vclock"))
	c.body(c.want(200, "GET", k1, ""), "3")
	c.want(204, "DELETE", k1, "", "If-Match: *")
	c.want(404, "GET", k1, "")
	c.want(204, "PUT", k1, "4", plain, "If-None-Match: *")
	c.body(c.want(200, "GET", k1, ""), "4")
}

func TestAConditionThatCannotBeReadFailsTheWrite(t *testing.T) {
	f := newFake()
	f.fail = kv.ErrOverload
	c := newClient(t, f)
	c.want(503, "PUT", k1, "1", plain, `If-Match: "x"`)
	if f.writes != 0 {
		t.Error("it was written")
	}
}

// A tombstone beside a value is a sibling, as long as Riak would have it; a key that is
// written anew later is one value.
func TestATombstoneBesideAValue(t *testing.T) {
	n := openNode(t)
	c := &client{t, New(n, Options{})}
	for _, tc := range []struct {
		mode   string
		status int
	}{{"0", 200}, {"3600000", 300}} {
		if err := n.SetBucketProps(t.Context(), kv.Bucket{Name: "b"}, kv.Properties{{Name: "allow_mult", Value: "true"}, {Name: "delete_mode", Value: tc.mode}}); err != nil {
			t.Fatal(err)
		}
		path := "/buckets/b/keys/k" + tc.mode
		c.want(204, "PUT", path, "1", plain)
		c.want(204, "DELETE", path, "")
		c.want(204, "PUT", path, "2", plain)
		w := c.want(tc.status, "GET", path, "", "Accept: multipart/mixed, */*")
		tag := w.Header().Get("Etag")
		if deleted := strings.Contains(w.Body.String(), "X-Riak-Deleted: true"); deleted != (tc.status == 300) {
			t.Errorf("%s: %s", tc.mode, w.Body)
		}
		c.want(tc.status, "HEAD", path, "")
		c.want(304, "GET", path, "", "If-None-Match: "+tag)
		c.want(204, "PUT", path, "3", plain, "If-Match: "+tag) // the condition sees the same, and the write resolves it
		c.want(200, "GET", path, "")
	}
}

// TestEmptyAnswersHaveAType shows that an answer without a body has the type that Riak tells:
// clients look at it before they look at the body.
func TestEmptyAnswersHaveAType(t *testing.T) {
	c := realClient(t)
	c.want(200, "POST", "/_tanodb/types/create", `{"name":"sets","props":{"datatype":"set"}}`, asJSON)
	c.want(200, "POST", "/_tanodb/types/activate", `{"name":"sets"}`, asJSON)
	for _, tc := range []struct {
		status             int
		method, path, body string
		sent, want         string
	}{
		{status: 204, method: "PUT", path: k1, body: "{}", sent: "application/json", want: "application/json"},
		{status: 204, method: "PUT", path: k1, body: "x", sent: "text/html; charset=utf-8", want: "text/html; charset=utf-8"},
		{status: 201, method: "POST", path: "/buckets/b/keys", body: "x", sent: "text/csv", want: "text/csv"},
		{status: 204, method: "DELETE", path: k1, want: "text/plain"},
		{status: 204, method: "PUT", path: "/buckets/b/props", body: `{"props":{"allow_mult":true}}`, sent: "application/json", want: "application/json"},
		{status: 204, method: "DELETE", path: "/buckets/b/props", want: "application/json"},
		{status: 204, method: "PUT", path: "/buckets/b/props", body: `{"props":{"allow_mult":true}}`, sent: "application/json", want: "application/json"},
		{status: 204, method: "POST", path: "/buckets/b/counters/n", body: "1", want: "text/plain"},
		{status: 204, method: "POST", path: "/types/sets/buckets/b/datatypes/s", body: `{"add":"x"}`, sent: "application/json", want: "application/json"},
		{status: 201, method: "POST", path: "/types/sets/buckets/b/datatypes", body: `{"add":"x"}`, sent: "application/json", want: "application/json"},
	} {
		var head []string
		if tc.sent != "" {
			head = append(head, "Content-Type: "+tc.sent)
		}
		c.header(c.want(tc.status, tc.method, tc.path, tc.body, head...), "Content-Type", tc.want)
	}
}

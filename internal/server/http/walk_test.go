package httpd

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

func TestLinkWalking(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", "/buckets/people/keys/anna", "a", plain, `Link: </buckets/people/keys/bert>; riaktag="friend", </buckets/people/keys/cleo>; riaktag="friend", </buckets/dogs/keys/rex>; riaktag="owns", </buckets/people/keys/gone>; riaktag="friend"`)
	c.want(204, "PUT", "/buckets/people/keys/bert", "b", plain, `Link: </buckets/people/keys/anna>; riaktag="friend", </buckets/people/keys/cleo>; riaktag="a+b,c"`)
	c.want(204, "PUT", "/buckets/people/keys/cleo", "c", plain, `Link: </buckets/people/keys/anna>; riaktag="friend"`)
	c.want(204, "PUT", "/buckets/people/keys/cleo", "c2", plain)
	c.want(204, "PUT", "/buckets/dogs/keys/rex", "r", plain, "X-Riak-Meta-Colour: brown")
	for path, want := range map[string]string{
		"/buckets/people/keys/anna/_,_,1":                             `[["/buckets/dogs/keys/rex r" "/buckets/people/keys/bert b" "/buckets/people/keys/cleo c" "/buckets/people/keys/cleo c2"]]`,
		"/buckets/people/keys/anna/_,friend,_":                        `[["/buckets/people/keys/bert b" "/buckets/people/keys/cleo c" "/buckets/people/keys/cleo c2"]]`,
		"/buckets/people/keys/anna/dogs,_,_":                          `[["/buckets/dogs/keys/rex r"]]`,
		"/buckets/people/keys/anna/dogs,friend,_":                     `[[]]`,
		"/buckets/people/keys/anna/dogs,_,0":                          `[]`,
		"/buckets/people/keys/anna/people,friend,_/people,friend,_":   `[["/buckets/people/keys/anna a"]]`,
		"/buckets/people/keys/anna/people,friend,1/people,friend,0":   `[["/buckets/people/keys/bert b" "/buckets/people/keys/cleo c" "/buckets/people/keys/cleo c2"]]`,
		"/buckets/people/keys/anna/people,friend,1/people,friend,1":   `[["/buckets/people/keys/bert b" "/buckets/people/keys/cleo c" "/buckets/people/keys/cleo c2"] ["/buckets/people/keys/anna a"]]`,
		"/buckets/people/keys/bert/people,a%20b%2cc,_":                `[["/buckets/people/keys/cleo c" "/buckets/people/keys/cleo c2"]]`,
		"/riak/people/anna/dogs,owns,_":                               `[["/riak/dogs/rex r"]]`,
		"/buckets/people/keys/bert/_,friend,_/_,friend,_/dogs,owns,_": `[[]]`,
	} {
		w := c.want(200, "GET", path, "")
		if got := fmt.Sprintf("%q", readParts(t, w.Header().Get("Content-Type"), w.Body, "Location")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	w := c.want(200, "GET", "/buckets/people/keys/anna/dogs,_,_", "")
	head := readParts(t, w.Header().Get("Content-Type"), w.Body, "Content-Type", "X-Riak-Meta-Colour", "Link", "X-Riak-Vclock")
	vclock := c.want(200, "GET", "/buckets/dogs/keys/rex", "").Header().Get("X-Riak-Vclock")
	if got := fmt.Sprint(head); got != `[[text/plain brown </buckets/dogs>; rel="up" `+vclock+` r]]` || vclock == "" {
		t.Error(got)
	}
	w = c.want(200, "HEAD", "/buckets/people/keys/anna/dogs,_,_", "")
	c.body(w, "")
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "multipart/mixed; boundary=") {
		t.Errorf("content type %q", w.Header().Get("Content-Type"))
	}
	c.want(204, "PUT", "/types/t/buckets/b/keys/k", "1", plain, `Link: </types/t/buckets/b/keys/k>; riaktag="self"`)
	w = c.want(200, "GET", "/types/t/buckets/b/keys/k/_,self,1", "")
	if got := fmt.Sprint(readParts(t, w.Header().Get("Content-Type"), w.Body, "Location")); got != "[[/types/t/buckets/b/keys/k 1]]" {
		t.Error(got)
	}
}

func TestLinkWalksThatAreNone(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.want(204, "PUT", k1, "1", plain, `Link: </buckets/b/keys/k1>; riaktag="self"`)
	for path, status := range map[string]int{
		"/a": 404, "/": 404, "/_,_": 400, "/_,_,_,_": 400, "/_,_,2": 400, "/,_,1": 400, "/_,,1": 400, "/_,_,1/x": 400, "/_,_,1/": 400,
		"/_,_,1?r=x": 400, strings.Repeat("/_,_,1", maxSteps): 200, strings.Repeat("/_,_,1", maxSteps+1): 400,
	} {
		w := c.want(status, "GET", k1+path, "")
		if status == 400 && !strings.Contains(path, "?") && !strings.HasPrefix(w.Body.String(), "Invalid link walk.") {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	for _, path := range []string{"/buckets/b/counters/k1/_,_,1", "/types/t/buckets/b/datatypes/k/_,_,1", "/_tanodb" + k1 + "/_,_,1", "/_tanodb/explain" + k1 + "/_,_,1", "/buckets/b/keys//_,_,1", "/riak/b/k1/a"} {
		c.want(404, "GET", path, "")
	}
	c.header(c.want(405, "PUT", k1+"/_,_,1", "1", plain), "Allow", "GET, HEAD")
	c.body(c.want(404, "GET", "/buckets/b/keys/none/_,_,1", ""), "not found\n")
	for _, steps := range []string{"%,_,1", "_,%,1"} {
		if _, err := (target{steps: steps}).walkSteps(); err != errWalk {
			t.Errorf("%s: %v", steps, err)
		}
	}
	f.fail = kv.ErrTimeout
	c.body(c.want(503, "GET", k1+"/_,_,1", ""), "request timed out\n")
}

func TestALinkWalkHasLimits(t *testing.T) {
	f := newFake()
	var meta []kv.Pair
	for i := range maxWalked + 1 {
		meta = append(meta, api.Link{Bucket: "b", Key: fmt.Sprint(i), Tag: "t"}.Pair())
	}
	for _, n := range []int{maxWalked, maxWalked + 1} {
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: fmt.Sprint("from", n)}, kv.Value{Meta: meta[:n]}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, f)
	c.want(200, "GET", fmt.Sprintf("/buckets/b/keys/from%d/_,_,1", maxWalked), "")
	c.body(c.want(400, "GET", fmt.Sprintf("/buckets/b/keys/from%d/_,_,1", maxWalked+1), ""), "a step of the link walk leads to too many objects\n")
	// Past the first part there is no status to tell it by.
	c.want(204, "PUT", k1, "1", plain, fmt.Sprintf(`Link: </buckets/b/keys/from%d>; riaktag="t"`, maxWalked+1))
	s := httptest.NewServer(c.handler)
	defer s.Close()
	answer, err := http.Get(s.URL + k1 + "/_,_,1/_,_,1")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err == nil || answer.StatusCode != 200 || !strings.HasSuffix(string(b), `{"error":"a step of the link walk leads to too many objects"}`) {
		t.Errorf("status %d, %v, %d bytes", answer.StatusCode, err, len(b))
	}
}

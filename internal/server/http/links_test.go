package httpd

import (
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

func TestLinks(t *testing.T) {
	const one, two = `</buckets/people/keys/anna%2F1>; riaktag="a+friend"`, `</buckets/a%2Cb/keys/%3E>; riaktag="%22"`
	const home = `</buckets/b>; rel="up"`
	f := newFake()
	c := newClient(t, f)
	for name, headers := range map[string][]string{
		"one header":   {"Link: " + one + ", " + two},
		"two headers":  {"Link: " + one, "Link: " + two},
		"what came":    {"Link: " + one + ", " + two + ", " + home},
		"old names":    {`Link: </riak/people/anna%2F1>; riaktag="a friend"`, `Link: </riak/a,b/%3E>; riaktag="%22"`},
		"other blanks": {`Link: </buckets/people/keys/anna%2F1>;riaktag="a+friend" ,` + two + ","},
		"no quotes":    {"Link: </buckets/people/keys/anna%2F1>; x=1; RIAKTAG=a+friend, " + two},
	} {
		t.Run(name, func(t *testing.T) {
			c.want(204, "PUT", k1, "1", append(headers, plain, "X-Riak-Meta-Who: me")...)
			w := c.want(200, "GET", k1, "")
			c.header(w, "Link", one+", "+two+", "+home)
			c.header(w, "X-Riak-Meta-Who", "me")
			c.header(w, "X-Tanodb-Omitted", "")
			c.header(c.want(200, "HEAD", k1, ""), "Link", one+", "+two+", "+home)
			obj, err := f.Memory.Get(t.Context(), kv.Key{Bucket: "b", Name: "k1"}, kv.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			// This is how Protocol Buffers keep them.
			want := []kv.Pair{
				{Name: "who", Value: "me"},
				api.Link{Bucket: "people", Key: "anna/1", Tag: "a friend"}.Pair(),
				api.Link{Bucket: "a,b", Key: ">", Tag: `"`}.Pair(),
			}
			if diff := cmp.Diff(want, obj.Values[0].Meta); diff != "" {
				t.Error(diff)
			}
			c.want(204, "DELETE", k1, "")
		})
	}
}

func TestLinksOfTypedAndOldNames(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", "/types/t/buckets/b/keys/k", "1", plain, `Link: </types/t/buckets/c/keys/x>; riaktag="p", </buckets/d/keys/y>; riaktag=""`)
	c.header(c.want(200, "GET", "/types/t/buckets/b/keys/k", ""), "Link",
		`</types/t/buckets/c/keys/x>; riaktag="p", </types/t/buckets/d/keys/y>; riaktag="", </types/t/buckets/b>; rel="up"`)
	c.want(204, "PUT", "/riak/b/k", "1", plain, `Link: </buckets/c/keys/x>; riaktag="p"`)
	c.header(c.want(200, "GET", "/riak/b/k", ""), "Link", `</riak/c/x>; riaktag="p", </riak/b>; rel="up"`)
	c.header(c.want(200, "GET", "/buckets/b/keys/k", ""), "Link", `</buckets/c/keys/x>; riaktag="p", </buckets/b>; rel="up"`)
}

func TestLinksThatAreNone(t *testing.T) {
	c := newClient(t, newFake())
	for _, header := range []string{
		"nonsense", "<", "</buckets/b/keys/k", "</buckets/b/keys/k>", "</buckets/b/keys/k>;", "</buckets/b/keys/k>; riaktag",
		`</buckets/b/keys/k>; riaktag="t`, `</buckets/b/keys/k>; riaktag="%"`, `</buckets/b/keys/k>; rel="next"`, `</buckets/b>; riaktag="t"`,
		`</ping>; riaktag="t"`, `</_tanodb/buckets/b/keys/k>; riaktag="t"`, `</types/t/buckets/b/keys/k>; riaktag="t"`,
		`</buckets/b/keys/k>; riaktag="t" x, </buckets/b/keys/k>; riaktag="t"`, `</buckets/b/keys/%>; riaktag="t"`,
	} {
		w := c.want(400, "PUT", k1, "1", plain, "Link: "+header)
		if !strings.HasPrefix(w.Body.String(), "Invalid Link header.") {
			t.Errorf("%s: %s", header, w.Body)
		}
	}
	c.want(404, "GET", k1, "")
}

func TestALinkThatNoHeaderCanHoldIsCounted(t *testing.T) {
	f := newFake()
	meta := []kv.Pair{api.Link{Bucket: "b"}.Pair(), api.Link{Bucket: "b", Key: "\r\nX-Evil: 1", Tag: "\r\n"}.Pair()}
	if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: "k1"}, kv.Value{Meta: meta}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, f)
	w := c.want(200, "GET", k1, "")
	c.header(w, "X-Tanodb-Omitted", "1")
	c.header(w, "Link", `</buckets/b/keys/%0D%0AX-Evil:%201>; riaktag="%0D%0A", </buckets/b>; rel="up"`)
}

func TestEachSiblingHasItsLinks(t *testing.T) {
	c := newClient(t, newFake())
	c.want(204, "PUT", k1, "1", plain, `Link: </buckets/c/keys/x>; riaktag="t"`)
	c.want(204, "PUT", k1, "2", plain)
	w := c.want(300, "GET", k1, "", "Accept: multipart/mixed")
	c.header(w, "Link", `</buckets/b>; rel="up"`)
	_, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(w.Body, params["boundary"])
	for _, want := range []string{`</buckets/c/keys/x>; riaktag="t", </buckets/b>; rel="up"`, `</buckets/b>; rel="up"`} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got := part.Header.Get("Link"); got != want {
			t.Errorf("Link %q, want %q", got, want)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("more than two parts: %v", err)
	}
}

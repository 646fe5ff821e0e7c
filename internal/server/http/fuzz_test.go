package httpd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tanodb/tanodb/kv"
)

// A path that is understood names a key within the limits, and the path that we
// would write for this key names it again.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/", "/ping", k1, "/types/t/buckets/%00/keys/%ff", "/_tanodb/explain/buckets/a+b/keys/..", "/_tanodb/buckets/b/keys?", "/riak/b/k", k1 + "/b,_,1/_,t,0", "/mapred"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := parsePath(path)
		if err != nil {
			if !errors.Is(err, kv.ErrInvalid) && err != error(errNoRoute) {
				t.Fatalf("%q: error %v", path, err)
			}
			return
		}
		if got.resource != object {
			return
		}
		if err := got.key.Validate(); err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		again := got.keyPath(got.key.Name)
		if back, err := parsePath(again); err != nil || back.key != got.key {
			t.Fatalf("%q: %+v became %+v through %q, error %v", path, got.key, back.key, again, err)
		}
	})
}

// Parameters are understood or refused; those that are understood are within
// what can be meant.
func FuzzParams(f *testing.F) {
	for _, query := range []string{"", "r=quorum&w=2", "timeout=1&&=", "linger=99999999999", "%=%", "n_val=-1"} {
		f.Add(query, true)
	}
	f.Fuzz(func(t *testing.T, query string, strict bool) {
		p, err := parseParams(query, strict)
		if err != nil {
			if !errors.Is(err, kv.ErrInvalid) || !strings.HasSuffix(err.(*requestError).text, "\n") {
				t.Fatalf("?%s: error %q", query, err)
			}
			return
		}
		if p.n < 0 || p.nodeConfirms < 0 || p.timeout < 0 || p.linger < 0 || p.limit < 0 || p.timeout > kv.MaxTimeout || p.r < kv.All || p.rw < kv.All {
			t.Fatalf("?%s: %+v", query, p)
		}
	})
}

// Whatever headers and bytes a write has, it is refused as the client's fault, or
// it is read back: alone, and as a part of siblings.
func FuzzValue(f *testing.F) {
	f.Add("text/plain; charset=utf-8", "gzip", "red", "7", "data")
	f.Add("a/b;;charset=\"x\";", "", " ", "-1, 2", "\r\n--")
	f.Fuzz(func(t *testing.T, contentType, encoding, meta, index, data string) {
		c := newClient(t, newFake())
		for range 2 {
			r := httptest.NewRequest("PUT", k1, strings.NewReader(data))
			r.Header = http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}, "X-Riak-Meta-M": {meta}, "X-Riak-Index-I_int": {index}}
			w := httptest.NewRecorder()
			c.handler.ServeHTTP(w, r)
			if w.Code == 400 || w.Code == 415 {
				return
			}
			if w.Code != 204 {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
		}
		w := c.want(300, "GET", k1, "", "Accept: multipart/mixed")
		_, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(w.Body, params["boundary"])
		for range 2 {
			part, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(part); err != nil || string(got) != data {
				t.Fatalf("%q became %q, error %v", data, got, err)
			}
		}
		tag := strings.Trim(strings.Split(c.want(300, "GET", k1, "").Body.String(), "\n")[1], `"`)
		c.body(c.want(200, "GET", k1+"?vtag="+url.QueryEscape(tag), ""), data)
	})
}

// No bytes on a connection make a handler panic.
func FuzzConnection(f *testing.F) {
	f.Add("GET " + k1 + " HTTP/1.1\r\nHost: x\r\nAccept: multipart/mixed\r\nIf-None-Match: *\r\n\r\n")
	f.Add("PUT " + k1 + "?returnbody=true HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\n1")
	f.Add("POST /buckets/b/keys HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n")
	f.Add("GET " + k1 + "/b,t,0/_,_,_ HTTP/1.1\r\nHost: x\r\n\r\n")
	job := `{"inputs":[["b","k"]],"query":[` + valuesPhase + `]}`
	f.Add(fmt.Sprintf("POST /mapred?chunked=true HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(job), job))
	f.Add("DELETE /_tanodb" + k1 + "?linger=1 HTTP/1.1\r\nHost: x\r\nX-Riak-Vclock: AAAA\r\n\r\n")
	f.Fuzz(func(t *testing.T, request string) {
		panics := &strings.Builder{}
		o := Options{Logger: slog.New(slog.NewTextHandler(panics, nil))}
		l := newPipe(request)
		s := NewServer(New(newFake(), o), o)
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		l.waitClosed()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-done
		if strings.Contains(panics.String(), "panic") {
			t.Fatalf("%q: %s", request, panics)
		}
	})
}

// Links are understood or refused; those that are understood are written so that they
// are understood again.
func FuzzLinks(f *testing.F) {
	for _, header := range []string{
		`</buckets/b/keys/k>; riaktag="t", </buckets/b>; rel="up"`, `</riak/a%2Fb/%00>;riaktag=t,`, `</types/t/buckets/b/keys/k>; x="," ; riaktag=""`, "<", `<>;=`,
	} {
		f.Add(header, false)
		f.Add(header, true)
	}
	f.Fuzz(func(t *testing.T, header string, old bool) {
		at := target{resource: object, old: old, key: kv.Key{Bucket: "b", Name: "k"}}
		links, err := parseLinks(http.Header{"Link": {header}}, at)
		if err != nil {
			if err != error(errLink) {
				t.Fatalf("%q: error %v", header, err)
			}
			return
		}
		again := http.Header{}
		setLinks(again, at, links)
		if back, err := parseLinks(again, at); err != nil || !slices.Equal(back, links) || !fits(again["Link"][0]) {
			t.Fatalf("%q: %q became %q through %q, error %v", header, links, back, again, err)
		}
	})
}

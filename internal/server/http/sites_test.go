package httpd

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// requestTo is a request without TLS to a host, with a header.
func requestTo(method, host, path, header string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader("v"))
	r.Host, r.RemoteAddr = host, "127.0.0.1:1"
	if name, value, ok := strings.Cut(header, ": "); ok {
		r.Header.Set(name, value)
	}
	return r
}

// Whatever changes anything is refused if the page of another site has sent it, on all
// routes, with and without users; what only looks is answered, and so is what is no browser.
func TestOtherSitesChangeNothing(t *testing.T) {
	var logs syncBuffer
	guard := &Guard{Gate: open{}, Audit: slog.New(slog.NewTextHandler(&logs, nil))}
	h := guard.Before(reached())
	paths := []string{
		"/buckets/b/keys/k", "/buckets/b/keys", "/riak/b/k", "/mapred", "/types/t/buckets/b/datatypes/k", "/buckets/b/props",
		"/_tanodb/cluster/commit", "/_tanodb/security/change", "/_tanodb/restore", "/_tanodb/console/watch", "/no/such/path",
	}
	for header, want := range map[string]int{
		"Sec-Fetch-Site: cross-site": 403, "Sec-Fetch-Site: same-site": 403, "Origin: http://evil.example": 403, "Origin: null": 403,
		"Origin: http://127.0.0.1:9999": 403, // another port is another site
		"Sec-Fetch-Site: same-origin":   http.StatusTeapot, "Sec-Fetch-Site: none": http.StatusTeapot, "Origin: http://127.0.0.1:8098": http.StatusTeapot, "": http.StatusTeapot,
	} {
		for _, path := range paths {
			for _, method := range []string{"POST", "PUT", "DELETE"} {
				if w := answerOf(h, requestTo(method, "127.0.0.1:8098", path, header)); w.Code != want {
					t.Errorf("%s %s, %q: %d, want %d", method, path, header, w.Code, want)
				}
			}
			if w := answerOf(h, requestTo("GET", "127.0.0.1:8098", path, header)); w.Code != http.StatusTeapot {
				t.Errorf("GET %s, %q: %d", path, header, w.Code)
			}
		}
	}
	if !strings.Contains(logs.String(), "a page of another site may change nothing here") {
		t.Error("the audit does not tell of it")
	}
	// The browser brings the right password along: that must not help.
	r := asUser("PUT", "/buckets/b/keys/k", "shop", theirPassword)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if w := answerOf((&Guard{Gate: guarded(t)}).Before(reached()), r); w.Code != 403 || !strings.Contains(w.Body.String(), "another site") {
		t.Errorf("with a password: %d %s", w.Code, w.Body)
	}
}

// A node that serves its own machine is not to be had by a name that others make, whether
// what is asked changes anything or not.
func TestNamesOfOthers(t *testing.T) {
	local := (&Guard{Gate: open{}, Names: []string{"node1.example"}}).Before(reached())
	anyone := (&Guard{Gate: open{}}).Before(reached())
	for host, want := range map[string]int{
		"127.0.0.1:8098": http.StatusTeapot, "127.0.0.1": http.StatusTeapot, "[::1]:8098": http.StatusTeapot, "[::1]": http.StatusTeapot, "10.0.0.1:8098": http.StatusTeapot,
		"localhost:8098": http.StatusTeapot, "LocalHost": http.StatusTeapot, "localhost.:8098": http.StatusTeapot, "a.localhost:8098": http.StatusTeapot,
		"node1.example:8098": http.StatusTeapot, "NODE1.example": http.StatusTeapot, "": http.StatusTeapot,
		"evil.example:8098": 403, "evil.example": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example:8098": 403, "notlocalhost": 403, "x.node1.example": 403, "node1": 403, "a:b:c": 403,
	} {
		for _, path := range []string{"/buckets/b/keys/k", "/_tanodb/status", "/_tanodb/console/", "/debug/pprof/heap", "/metrics"} {
			if w := answerOf(local, requestTo("GET", host, path, "")); w.Code != want {
				t.Errorf("GET %s of %q: %d, want %d", path, host, w.Code, want)
			}
			if w := answerOf(anyone, requestTo("GET", host, path, "")); w.Code != http.StatusTeapot {
				t.Errorf("GET %s of %q, where any name will do: %d", path, host, w.Code)
			}
		}
		if w := answerOf(local, requestTo("GET", host, "/healthz", "")); w.Code != http.StatusTeapot {
			t.Errorf("a probe of %q: %d", host, w.Code)
		}
	}
	secure := asUser("GET", "/_tanodb/status", "", "")
	secure.Host = "evil.example"
	if w := answerOf(local, secure); w.Code != http.StatusTeapot {
		t.Errorf("with TLS the certificate says who it is, and a name is refused: %d", w.Code)
	}
}

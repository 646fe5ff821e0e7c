package httpd

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// A probe that is nobody's has the status and what is wrong in a word; who may look at the
// node has the rest.
func TestProbesOfStrangers(t *testing.T) {
	gate := guarded(t)
	f := newFake()
	f.fail = kv.ErrClosed
	var logs syncBuffer
	secured := (&Guard{Gate: gate, Audit: slog.New(slog.NewTextHandler(&logs, nil))}).Before(New(f, Options{}))
	local := (&Guard{Gate: open{}, Names: []string{}}).Before(New(f, Options{}))
	reached := (&Guard{Gate: open{}, OwnMachine: true}).Before(New(f, Options{}))
	far := func(path string) *http.Request {
		r := requestTo("GET", "10.0.0.1", path, "")
		r.RemoteAddr = "10.0.0.2:1"
		return r
	}
	plainly := func(path string) *http.Request {
		r := asUser("GET", path, "admin", theirPassword)
		r.TLS = nil
		return r
	}
	const little, much = `{"ready":false,"reasons":[{"what":"failed"}]}`, `"text":"closed"`
	for name, tt := range map[string]struct {
		h    http.Handler
		r    func(path string) *http.Request
		more bool
	}{
		"nobody":                 {secured, func(p string) *http.Request { return asUser("GET", p, "", "") }, false},
		"a wrong password":       {secured, func(p string) *http.Request { return asUser("GET", p, "admin", "wrong horse") }, false},
		"one without a grant":    {secured, func(p string) *http.Request { return asUser("GET", p, "nobody", theirPassword) }, false},
		"a password in clear":    {secured, plainly, false},
		"an administrator":       {secured, func(p string) *http.Request { return asUser("GET", p, "admin", theirPassword) }, true},
		"the node's own machine": {local, func(p string) *http.Request { return requestTo("GET", "localhost", p, "") }, true},
		"another site's name":    {local, func(p string) *http.Request { return requestTo("GET", "evil.example", p, "") }, false},
		"another machine":        {reached, far, false},
	} {
		w := answerOf(tt.h, tt.r("/readyz"))
		if body := w.Body.String(); w.Code != 503 || tt.more != strings.Contains(body, much) || !tt.more && strings.TrimSpace(body) != little {
			t.Errorf("%s: /readyz %d %q", name, w.Code, body)
		}
		w = answerOf(tt.h, tt.r("/healthz"))
		if body := w.Body.String(); w.Code != 503 || tt.more != strings.Contains(body, "closed") {
			t.Errorf("%s: /healthz %d %q", name, w.Code, body)
		}
	}
	if n := strings.Count(logs.String(), "a login has failed"); n != 2 {
		t.Errorf("%d lines of the wrong password", n)
	}
	if got := shortened(tanodb.Readiness{Ready: true}); !got.Ready || got.Reasons == nil {
		t.Errorf("%+v", got)
	}
}

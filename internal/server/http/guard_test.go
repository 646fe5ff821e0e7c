package httpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// The users of the tests, with their passwords, and where they may come from.
const (
	theirPassword = "correct horse"
	theirRange    = "192.0.2.0/24" // where httptest's requests come from
)

// guarded is a node with security on: admin may do all that administrators may, nobody has
// no grant, and shop may read and write the bucket b of the default type.
func guarded(t *testing.T) *tanodb.Node {
	t.Helper()
	nodes, _ := tanodb.NewTestCluster(t, 1, tanodb.Options{Partitions: 8})
	node := nodes[0]
	for _, c := range []tanodb.SecurityChange{
		{Do: "add-user", Names: []string{"admin"}, Password: theirPassword},
		{Do: "add-user", Names: []string{"nobody"}, Password: theirPassword},
		{Do: "add-user", Names: []string{"shop"}, Password: theirPassword},
		{Do: "add-user", Names: []string{"carol"}},
		{Do: "add-source", Names: []string{"all"}, CIDR: netip.MustParsePrefix(theirRange), Method: "password"},
		{Do: "add-source", Names: []string{"carol"}, CIDR: netip.MustParsePrefix(theirRange), Method: "certificate"},
		{Do: "grant", Names: []string{"admin"}, Permissions: []tanodb.Permission{tanodb.PermAdmin, tanodb.PermReadAdmin}, Any: true},
		{Do: "grant", Names: []string{"shop", "carol"}, Permissions: []tanodb.Permission{tanodb.PermGet, tanodb.PermPut}, Type: "default", Bucket: []byte("b")},
		{Do: "enable"},
	} {
		if err := node.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return node
}

// reached is a handler that says that a request came through.
func reached() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
}

// asUser makes a request of somebody over TLS; an empty name: of nobody.
func asUser(method, path, user, password string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "", "", ""
	if parsed, err := r.URL.Parse(path); err == nil {
		r.URL = parsed
	}
	r.TLS = &tls.ConnectionState{}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return r
}

func answerOf(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// everyRoute has a path for each resource.
func everyRoute(t *testing.T) map[resource]string {
	t.Helper()
	all := map[resource]string{
		bucket: "/buckets/b/keys", object: "/buckets/b/keys/k", explain: "/_tanodb/explain/buckets/b/keys/k", oldBucket: "/riak/b",
		data: "/types/t/buckets/b/datatypes/k", counter: "/buckets/b/counters/k", buckets: "/buckets", index: "/buckets/b/index/f_bin/1",
		walk: "/buckets/b/keys/k/_,_,1", preflist: "/buckets/b/keys/k/preflist", bucketProps: "/buckets/b/props", typeProps: "/types/t/props",
	}
	for path, r := range simple {
		all[r] = "/" + path
	}
	for r := root; r <= securityChange; r++ {
		if got, err := parsePath(all[r]); err != nil || got.resource != r {
			t.Fatalf("resource %d has no path in this test: %q, %v", r, all[r], err)
		}
	}
	return all
}

// Each route, by each method: nobody comes in who does not prove who he is, whoever he says
// he is, and however; and who is known and has no grant comes to what everybody may who is
// known.
func TestEveryRouteIsGuarded(t *testing.T) {
	node := guarded(t)
	h := (&Guard{Gate: node}).Before(reached())
	for resource, path := range everyRoute(t) {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			if (resource == health || resource == readiness) && (method == "GET" || method == "HEAD") {
				if w := answerOf(h, asUser(method, path, "", "")); w.Code != http.StatusTeapot {
					t.Errorf("%s %s: %d for a probe", method, path, w.Code)
				}
				continue
			}
			w := answerOf(h, asUser(method, path, "", ""))
			if w.Code != http.StatusUnauthorized || w.Header().Get("Www-Authenticate") == "" || !strings.Contains(w.Body.String(), "Unauthorized") || len(w.Body.String()) > 64 {
				t.Errorf("%s %s: nobody gets %d %q", method, path, w.Code, w.Body)
			}
			malformed := asUser(method, path, "", "")
			malformed.Header.Set("Authorization", "Basic !!!")
			if w := answerOf(h, malformed); w.Code != http.StatusUnauthorized {
				t.Errorf("%s %s: a malformed header gets %d", method, path, w.Code)
			}
			plainly := asUser(method, path, "admin", theirPassword)
			plainly.TLS = nil
			if w := answerOf(h, plainly); w.Code != http.StatusUpgradeRequired {
				t.Errorf("%s %s: without TLS %d", method, path, w.Code)
			}
			want := http.StatusForbidden
			if resource == root || resource == ping {
				want = http.StatusTeapot
			}
			if w := answerOf(h, asUser(method, path, "nobody", theirPassword)); w.Code != want {
				t.Errorf("%s %s: who has no grant gets %d, want %d", method, path, w.Code, want)
			}
		}
	}
}

// consoleKeysNeed is what the console's view of values needs: it shows any of them.
const consoleKeysNeed = "any tanodb.read_admin, any riak_kv.list_buckets, any riak_kv.list_keys, any riak_kv.get"

// What each route needs, and that it is enough: by name, so that a change of it is seen.
func TestWhatEachRouteNeeds(t *testing.T) {
	for line, want := range map[string]string{
		"GET /":                                            "",
		"GET /ping":                                        "",
		"GET /stats":                                       "any tanodb.read_admin",
		"GET /metrics":                                     "any tanodb.read_admin",
		"GET /_tanodb/status":                              "any tanodb.read_admin",
		"GET /buckets/b/keys/k":                            "default/b riak_kv.get",
		"HEAD /riak/b/k":                                   "default/b riak_kv.get",
		"PUT /types/t/buckets/b/keys/k":                    "t/b riak_kv.put",
		"PUT /types/default/buckets/b/keys/k":              "default/b riak_kv.put",
		"PUT /buckets/b/keys/k?returnbody=true":            "default/b riak_kv.put, default/b riak_kv.get",
		"PUT /buckets/b/keys/k?x=;&return%62ody=true;":     "default/b riak_kv.put, default/b riak_kv.get",
		"DELETE /_tanodb/buckets/b/keys/k?returnbody=true": "default/b riak_kv.delete, default/b riak_kv.get",
		"DELETE /buckets/a%2Fb/keys/k":                     "default/a/b riak_kv.delete",
		"POST /buckets/b/keys":                             "default/b riak_kv.put",
		"GET /buckets/b/keys?keys=true":                    "default/b riak_kv.list_keys",
		"GET /_tanodb/buckets/b/keys":                      "default/b riak_kv.list_keys",
		"GET /types/t/buckets?buckets=true":                "t riak_kv.list_buckets",
		"GET /riak/b":                                      "default/b riak_core.get_bucket",
		"GET /riak/b?keys=true":                            "default/b riak_core.get_bucket, default/b riak_kv.list_keys",
		"POST /riak/b":                                     "default/b riak_kv.put",
		"PUT /riak/b":                                      "default/b riak_core.set_bucket",
		"GET /buckets/b/index/f_bin/1":                     "default/b riak_kv.index",
		"GET /buckets/b/keys/k/_,_,1":                      "any riak_kv.mapreduce, any riak_kv.get",
		"POST /mapred":                                     "any riak_kv.mapreduce, any riak_kv.get",
		"GET /types/t/buckets/b/datatypes/k":               "t/b riak_kv.get",
		"POST /types/t/buckets/b/datatypes/k":              "t/b riak_kv.put",
		"POST /buckets/b/counters/k":                       "default/b riak_kv.put",
		"POST /buckets/b/counters/k?returnvalue=true":      "default/b riak_kv.put, default/b riak_kv.get",
		"GET /buckets/b/props":                             "default/b riak_core.get_bucket",
		"DELETE /buckets/b/props":                          "default/b riak_core.set_bucket",
		"GET /types/t/props":                               "t riak_core.get_bucket_type",
		"PUT /types/t/props":                               "t riak_core.set_bucket_type",
		"GET /_tanodb/explain/buckets/b/keys/k":            "default/b riak_kv.get_preflist",
		"GET /_tanodb/cluster":                             "any tanodb.read_admin",
		"POST /_tanodb/cluster/commit":                     "any tanodb.admin",
		"POST /_tanodb/types/create":                       "any tanodb.admin",
		"GET /_tanodb/settings":                            "any tanodb.read_admin",
		"POST /_tanodb/settings/set":                       "any tanodb.admin",
		"GET /_tanodb/security":                            "any tanodb.admin",
		"POST /_tanodb/security/change":                    "any tanodb.admin",
		"GET /_tanodb/console":                             "any tanodb.read_admin",
		"GET /_tanodb/console/keys":                        consoleKeysNeed,
		"HEAD /_tanodb/console/keys?bucket=b&key=k":        consoleKeysNeed,
		"GET /_tanodb/console/%6beys/":                     consoleKeysNeed,
		"POST /_tanodb/console/put":                        "any tanodb.admin",
		"GET /debug/pprof/heap":                            "any tanodb.admin",
		"GET /nothing/at/all":                              "any tanodb.read_admin",
	} {
		method, path, _ := strings.Cut(line, " ")
		var got []string
		for _, n := range ask(asUser(method, path, "", "")).needs {
			on := "any"
			if !n.any {
				on = strings.TrimSuffix(strings.TrimSuffix(n.bucket.Type, "/")+"/"+n.bucket.Name, "/")
				if n.bucket.Type == "" {
					on = "default" + on
				}
			}
			got = append(got, on+" "+string(n.permission))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s needs %q, want %q", line, text, want)
		}
	}
}

// Whoever it is, and whatever is wrong, the answer is the same.
func TestNothingIsLeaked(t *testing.T) {
	node := guarded(t)
	if _, err := node.Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{Data: []byte("secret")}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	var logs syncBuffer
	guard := &Guard{Gate: node, Audit: slog.New(slog.NewTextHandler(&logs, nil))}
	h := guard.Before(New(node, Options{}))
	same := answerOf(h, asUser("GET", "/buckets/b/keys/k", "", ""))
	for name, r := range map[string]*http.Request{
		"a wrong password":          asUser("GET", "/buckets/b/keys/k", "shop", "wrong horse"),
		"an unknown user":           asUser("GET", "/buckets/b/keys/k", "stranger", theirPassword),
		"no password":               asUser("GET", "/buckets/b/keys/k", "shop", ""),
		"a user without a password": asUser("GET", "/buckets/b/keys/k", "carol", ""),
		"an absent key":             asUser("GET", "/buckets/b/keys/absent", "shop", "wrong horse"),
		"all":                       asUser("GET", "/buckets/b/keys/k", "all", ""),
		"a long password":           asUser("GET", "/buckets/b/keys/k", "shop", strings.Repeat("x", 1<<16)),
		"a long name":               asUser("GET", "/buckets/b/keys/k", strings.Repeat("x", 1<<16), "x"),
	} {
		w := answerOf(h, r)
		if w.Code != same.Code || w.Body.String() != same.Body.String() || fmt.Sprint(w.Header()) != fmt.Sprint(same.Header()) {
			t.Errorf("%s: %d %q %v", name, w.Code, w.Body, w.Header())
		}
	}
	far := asUser("GET", "/buckets/b/keys/k", "shop", theirPassword)
	far.RemoteAddr = "198.51.100.1:1"
	if w := answerOf(h, far); w.Code != same.Code {
		t.Errorf("from elsewhere: %d", w.Code)
	}
	if w := answerOf(h, asUser("GET", "/buckets/b/keys/k", "shop", theirPassword)); w.Code != 200 || w.Body.String() != "secret" {
		t.Errorf("who may gets %d %q", w.Code, w.Body)
	}
	for _, path := range []string{"/buckets/other/keys/k", "/types/t/buckets/b/keys/k", "/buckets/B/keys/k"} {
		if w := answerOf(h, asUser("GET", path, "shop", theirPassword)); w.Code != 403 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if text := logs.String(); strings.Contains(text, "horse") || !strings.Contains(text, "a login has failed") || !strings.Contains(text, "user=shop") {
		t.Error(text)
	}
}

// withCertificate adds a certificate of that name that was verified.
func withCertificate(r *http.Request, name string) *http.Request {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	return r
}

func TestCertificates(t *testing.T) {
	h := (&Guard{Gate: guarded(t)}).Before(reached())
	const path = "/buckets/b/keys/k"
	unverified := withCertificate(asUser("GET", path, "", ""), "carol")
	unverified.TLS.VerifiedChains = nil
	for name, tt := range map[string]struct {
		r    *http.Request
		want int
	}{
		"carol's":                       {withCertificate(asUser("GET", path, "", ""), "carol"), http.StatusTeapot},
		"carol's, who says so":          {withCertificate(asUser("GET", path, "carol", ""), "carol"), http.StatusTeapot},
		"carol's, by another":           {withCertificate(asUser("GET", path, "shop", ""), "carol"), 401},
		"one that is not verified":      {unverified, 401},
		"of one who needs a password":   {withCertificate(asUser("GET", path, "", ""), "shop"), 401},
		"of nobody that is known":       {withCertificate(asUser("GET", path, "", ""), "mallory"), 401},
		"carol's, and a broken header":  {withBroken(withCertificate(asUser("GET", path, "", ""), "carol")), 401},
		"carol's, for what she may not": {withCertificate(asUser("DELETE", path, "", ""), "carol"), 403},
	} {
		if w := answerOf(h, tt.r); w.Code != tt.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tt.want)
		}
	}
}

func withBroken(r *http.Request) *http.Request {
	r.Header.Set("Authorization", "Bearer x")
	return r
}

// What is taken away is gone with the next request.
func TestRevoked(t *testing.T) {
	node := guarded(t)
	h := (&Guard{Gate: node}).Before(reached())
	r := func() int { return answerOf(h, asUser("GET", "/buckets/b/keys/k", "shop", theirPassword)).Code }
	if code := r(); code != http.StatusTeapot {
		t.Fatal(code)
	}
	change := func(c tanodb.SecurityChange) {
		t.Helper()
		if err := node.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	change(tanodb.SecurityChange{Do: "alter-user", Names: []string{"shop"}, Password: "another"})
	if code := r(); code != 401 {
		t.Errorf("with the password of before: %d", code)
	}
	change(tanodb.SecurityChange{Do: "alter-user", Names: []string{"shop"}, Password: theirPassword})
	change(tanodb.SecurityChange{Do: "revoke", Names: []string{"shop"}, Permissions: []tanodb.Permission{tanodb.PermGet}, Type: "default", Bucket: []byte("b")})
	if code := r(); code != 403 {
		t.Errorf("without the grant: %d", code)
	}
	change(tanodb.SecurityChange{Do: "del-user", Names: []string{"shop"}})
	if code := r(); code != 401 {
		t.Errorf("without the user: %d", code)
	}
	change(tanodb.SecurityChange{Do: "disable"})
	if code := r(); code != http.StatusTeapot {
		t.Errorf("without security: %d", code)
	}
}

// open is a gate of a cluster without security.
type open struct{ Gate }

func (open) Secured() bool { return false }

// As long as nobody is known, a node that others reach serves its own machine.
func TestOwnMachine(t *testing.T) {
	h := (&Guard{Gate: open{}, OwnMachine: true}).Before(reached())
	for from, want := range map[string]int{"127.0.0.1:1": http.StatusTeapot, "[::1]:1": http.StatusTeapot, "10.0.0.1:9": http.StatusTeapot, "10.0.0.2:9": 403, "": 403, "@": 403} {
		r := asUser("GET", "/_tanodb/status", "", "")
		r.RemoteAddr = from
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8098}))
		if w := answerOf(h, r); w.Code != want {
			t.Errorf("from %q: %d, want %d", from, w.Code, want)
		}
	}
	if w := answerOf((&Guard{Gate: open{}}).Before(reached()), asUser("GET", "/", "", "")); w.Code != http.StatusTeapot {
		t.Errorf("a node that nobody else reaches: %d", w.Code)
	}
}

// syncBuffer is written by timers while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Properties are told of by both names of a bucket, values are not; and who has shown a
// certificate that is not enough is told of as who has a wrong password.
func TestAuditMissesNothing(t *testing.T) {
	node := guarded(t)
	if err := node.ChangeSecurity(t.Context(), tanodb.SecurityChange{Do: "grant", Names: []string{"shop"}, Permissions: []tanodb.Permission{tanodb.PermSetBucket}, Type: "default"}); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"PUT /riak/b":          "path=/riak/b status=418",
		"PUT /buckets/b/props": "path=/buckets/b/props status=418",
		"POST /riak/b":         "",
		"PUT /riak/b/k":        "",
		"GET /buckets/b/props": "",
	} {
		var logs syncBuffer
		h := (&Guard{Gate: node, Audit: slog.New(slog.NewTextHandler(&logs, nil))}).Before(reached())
		method, path, _ := strings.Cut(request, " ")
		answerOf(h, asUser(method, path, "shop", theirPassword))
		if text := logs.String(); want == "" && strings.Contains(text, "served") || !strings.Contains(text, want) {
			t.Errorf("%s: %q", request, text)
		}
	}
	var logs syncBuffer
	h := (&Guard{Gate: node, Audit: slog.New(slog.NewTextHandler(&logs, nil))}).Before(reached())
	answerOf(h, withCertificate(asUser("GET", "/ping", "", ""), "mallory"))
	if text := logs.String(); !strings.Contains(text, "a login has failed") || !strings.Contains(text, "user=mallory") {
		t.Errorf("a certificate of nobody: %q", text)
	}
	answerOf(h, asUser("GET", "/ping", "", ""))
	if text := logs.String(); strings.Count(text, "a login has failed") != 1 {
		t.Errorf("who says nothing has not failed: %q", text)
	}
}

// Who sends what is no login again and again does not fill the log with it.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	var logs syncBuffer
	h := (&Guard{Gate: guarded(t), Audit: slog.New(slog.NewTextHandler(&logs, nil))}).Before(reached())
	const many = 1000
	for range many {
		answerOf(h, withBroken(asUser("GET", "/ping", "", "")))
	}
	if n := strings.Count(logs.String(), "a login has failed"); n == 0 || n > many/2 {
		t.Errorf("%d lines", n)
	}
}

// What changes more than values is told to the audit, with who and how it ended.
func TestAudit(t *testing.T) {
	node := guarded(t)
	var logs syncBuffer
	h := (&Guard{Gate: node, Audit: slog.New(slog.NewTextHandler(&logs, nil))}).Before(New(node, Options{}))
	post := asUser("POST", "/_tanodb/security/change", "admin", theirPassword)
	post.Header.Set("Content-Type", "application/json")
	post.Body = http.NoBody
	answerOf(h, post)
	answerOf(h, asUser("GET", "/_tanodb/status", "admin", theirPassword))
	answerOf(h, asUser("DELETE", "/buckets/b/keys/k", "shop", theirPassword))
	lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "user=admin") || !strings.Contains(lines[0], "method=POST path=/_tanodb/security/change status=400") ||
		!strings.Contains(lines[1], "riak_kv.delete") {
		t.Errorf("%q", lines)
	}
}

// No header lets anybody in who is not known, or breaks the guard.
func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Basic", "Basic ", "Basic !!!", "basic YTpi", "Bearer x", "Basic " + base64.StdEncoding.EncodeToString([]byte("trusted:")), "Basic Og=="} {
		f.Add(s)
	}
	g := &fuzzGate{}
	h := (&Guard{Gate: g}).Before(reached())
	f.Fuzz(func(t *testing.T, header string) {
		r := asUser("GET", "/buckets/b/keys/k", "", "")
		r.Header["Authorization"] = []string{header}
		w := answerOf(h, r)
		user, _, ok := r.BasicAuth()
		if w.Code != http.StatusUnauthorized || ok != slices.Contains(g.asked, user) && ok {
			t.Errorf("%q: %d, asked for %q", header, w.Code, g.asked)
		}
		g.asked = g.asked[:0]
	})
}

// Whatever is asked for, and however its path is written, nobody who is not known comes to
// anything but what is open; and of what is served everything needs something, unless all who are
// known may have it.
func FuzzGuard(f *testing.F) {
	for _, s := range [][2]string{
		{"GET", "/healthz"}, {"POST", "/healthz"}, {"GET", "/healthz/"}, {"GET", "/%68ealthz"}, {"GET", "//healthz"}, {"GET", "/./readyz"}, {"HEAD", "/readyz?x"},
		{"GET", "/ping"}, {"GET", "/_tanodb/console/../healthz"}, {"GET", "/buckets/b/keys/k?returnbody"}, {"PUT", "/types/t/buckets/b/props"}, {"POST", "/_tanodb/security/change"},
	} {
		f.Add(s[0], s[1])
	}
	h := (&Guard{Gate: &fuzzGate{}}).Before(reached())
	f.Fuzz(func(t *testing.T, method, uri string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return // a server answers it by itself
		}
		r := asUser("GET", "/", "", "")
		r.Method, r.URL, r.RequestURI = method, u, uri
		at, err := parsePath(u.EscapedPath())
		probe := err == nil && (at.resource == health || at.resource == readiness) && (method == "GET" || method == "HEAD")
		if w := answerOf(h, r); (w.Code == http.StatusTeapot) != probe {
			t.Errorf("%s %s: %d to nobody", method, uri, w.Code)
		}
		if err != nil || probe {
			return
		}
		if known := at.resource == root || at.resource == ping; known == (len(needs(at, r)) > 0) {
			t.Errorf("%s %s needs %v", method, uri, needs(at, r))
		}
	})
}

// fuzzGate lets nobody in, and notes who has asked.
type fuzzGate struct{ asked []string }

func (*fuzzGate) Secured() bool { return true }

func (g *fuzzGate) Login(_ context.Context, l tanodb.Login) (*tanodb.User, error) {
	g.asked = append(g.asked, l.User)
	return nil, tanodb.ErrLogin
}

package httpd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

func TestPaths(t *testing.T) {
	for path, want := range map[string]target{
		"/":                                 {resource: root},
		"":                                  {resource: root},
		"/ping":                             {resource: ping},
		"/ping/":                            {resource: ping},
		"/stats":                            {resource: stats},
		"/metrics":                          {resource: metrics},
		"/healthz":                          {resource: health},
		"/_tanodb/ping":                     {resource: ping, own: true},
		"/readyz":                           {resource: readiness},
		"/_tanodb/hot":                      {resource: hotKeys, own: true},
		"/_tanodb/status":                   {resource: status, own: true},
		"/_tanodb/metrics":                  {resource: metrics, own: true},
		"/buckets/b/keys":                   {resource: bucket, key: kv.Key{Bucket: "b"}},
		"/buckets/b/keys/":                  {resource: bucket, key: kv.Key{Bucket: "b"}},
		"/types/t/buckets/b/keys":           {resource: bucket, key: kv.Key{Type: "t", Bucket: "b"}},
		"/types/default/buckets/b/keys":     {resource: bucket, key: kv.Key{Bucket: "b"}},
		"/buckets/b/keys/k":                 {resource: object, key: kv.Key{Bucket: "b", Name: "k"}},
		"/buckets/keys/keys/keys":           {resource: object, key: kv.Key{Bucket: "keys", Name: "keys"}},
		"/buckets/a%2Fb/keys/%00%ff":        {resource: object, key: kv.Key{Bucket: "a/b", Name: "\x00\xff"}},
		"/buckets/../keys/..":               {resource: object, key: kv.Key{Bucket: "..", Name: ".."}},
		"/types/t/buckets/b/keys/k":         {resource: object, key: kv.Key{Type: "t", Bucket: "b", Name: "k"}},
		"/buckets/a+b/keys/a%2Bb":           {resource: object, key: kv.Key{Bucket: "a b", Name: "a+b"}},
		"/_tanodb/buckets/a+b/keys/a%2Bb":   {resource: object, own: true, key: kv.Key{Bucket: "a+b", Name: "a+b"}},
		"/_tanodb/types/t/buckets/b/keys/k": {resource: object, own: true, key: kv.Key{Type: "t", Bucket: "b", Name: "k"}},
		"/_tanodb/buckets/b/keys":           {resource: bucket, own: true, key: kv.Key{Bucket: "b"}},
		"/_tanodb/explain/buckets/b/keys/k": {resource: explain, own: true, key: kv.Key{Bucket: "b", Name: "k"}},
		"/_tanodb/cluster":                  {resource: clusterState, own: true},
		"/_tanodb/cluster/":                 {resource: clusterState, own: true},
		"/_tanodb/cluster/nodes":            {resource: clusterNodes, own: true},
		"/_tanodb/cluster/plan":             {resource: clusterPlan, own: true},
		"/_tanodb/cluster/join":             {resource: clusterJoin, own: true},
		"/_tanodb/cluster/explode":          {},
		"/_tanodb/backup":                   {resource: backupInfo, own: true},
		"/_tanodb/backup/home":              {resource: backupHome, own: true},
		"/_tanodb/restore":                  {resource: restore, own: true},
		"/_tanodb/restore/types":            {resource: restoreTypes, own: true},
		"/_tanodb/backup/home/1":            {},
		"/_tanodb/cluster/plan/x":           {},
		"/cluster":                          {},
		"/_tanodb/explain/types/t/buckets/b/keys/k%": {},
		"/_tanodb/explain/buckets/b/keys":            {},
		"/_tanodb/explain/buckets/b/keys/":           {},
		"/_tanodb/buckets/b/keys/":                   {},
		"/_tanodb/stats":                             {},
		"/_tanodb/":                                  {},
		"/_tanodbx/ping":                             {},
		"/status":                                    {},
		"//ping":                                     {},
		"/buckets":                                   {resource: buckets},
		"/types/t/buckets/":                          {resource: buckets, key: kv.Key{Type: "t"}},
		"/_tanodb/buckets":                           {resource: buckets, own: true},
		"/_tanodb/explain/buckets":                   {},
		"/buckets/b/index":                           {},
		"/buckets/b/index/f_bin/a+b":                 {resource: index, key: kv.Key{Bucket: "b"}, field: "f_bin", start: "a b"},
		"/types/t/buckets/b/index/f_int/1/2/":        {resource: index, key: kv.Key{Type: "t", Bucket: "b"}, field: "f_int", start: "1", end: "2", ranged: true},
		"/_tanodb/buckets/b/index/f_bin//z%2F":       {resource: index, own: true, key: kv.Key{Bucket: "b"}, field: "f_bin", end: "z/", ranged: true},
		"/buckets/b/index/%24bucket":                 {resource: index, key: kv.Key{Bucket: "b"}, field: "$bucket"},
		"/buckets/b/index/f_bin/1/2/3":               {},
		"/buckets/b/index//1":                        {},
		"/buckets/b":                                 {},
		"/buckets/b/props/":                          {resource: bucketProps, key: kv.Key{Bucket: "b"}},
		"/types/t/buckets/b/props":                   {resource: bucketProps, key: kv.Key{Type: "t", Bucket: "b"}},
		"/_tanodb/buckets/b%2Fc/props":               {resource: bucketProps, own: true, key: kv.Key{Bucket: "b/c"}},
		"/types/t/props":                             {resource: typeProps, key: kv.Key{Type: "t"}},
		"/types/default/props":                       {resource: typeProps},
		"/_tanodb/types":                             {resource: typeList, own: true},
		"/_tanodb/types/create":                      {resource: typeCreate, own: true},
		"/types/t/props/x":                           {},
		"/types//props":                              {},
		"/_tanodb/types/t/props":                     {},
		"/buckets/b/props/x":                         {},
		"/buckets//props":                            {},
		"/buckets//keys":                             {},
		"/buckets//keys/k":                           {},
		"/buckets/b/keys/k/x":                        {},
		"/buckets/b/keys//":                          {},
		"/buckets/b/key/k":                           {},
		"/buckets/b/keys/%":                          {},
		"/buckets/%zz/keys/k":                        {},
		"/types//buckets/b/keys/k":                   {},
		"/types/t/b/keys/k":                          {},
		"/bucket/b/keys/k":                           {},
		"*":                                          {},
		"/riak/b":                                    {resource: oldBucket, old: true, key: kv.Key{Bucket: "b"}},
		"/riak/b/":                                   {resource: oldBucket, old: true, key: kv.Key{Bucket: "b"}},
		"/riak/a+b/%2Fk":                             {resource: object, old: true, key: kv.Key{Bucket: "a b", Name: "/k"}},
		"/riak/keys/props":                           {resource: object, old: true, key: kv.Key{Bucket: "keys", Name: "props"}},
		"/riak/b/k/x":                                {},
		"/riak//k":                                   {},
		"/riak":                                      {resource: buckets},
		"/riak/":                                     {resource: buckets},
		"/_tanodb/riak/b/k":                          {},
	} {
		got, err := parsePath(path)
		if want == (target{}) {
			if err == nil {
				t.Errorf("%q: %+v, want an error", path, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %+v, error %v, want %+v", path, got, err, want)
		}
	}
}

func TestNamesPastTheirLimits(t *testing.T) {
	c := newClient(t, newFake())
	long := strings.Repeat("k", kv.MaxKey)
	c.want(204, "PUT", "/buckets/b/keys/"+long, "1", plain)
	c.body(c.want(400, "GET", "/buckets/b/keys/"+long+"k", ""), "key is 65537 bytes long; the limit is 65536\n")
	c.want(400, "GET", "/buckets/"+long+"/keys/k", "")
	c.want(400, "GET", "/buckets/"+long+"/keys?keys=true", "")
	c.want(400, "GET", "/types/"+long+"/buckets/b/keys/k", "")
	c.body(c.want(400, "GET", "/buckets//keys/k", ""), "bucket cannot be zero-length\n")
	c.body(c.want(400, "GET", "/types//buckets/b/keys/k", ""), "bucket type cannot be zero-length\n")
}

func TestMethodsThatAreNotThere(t *testing.T) {
	c := newClient(t, newFake())
	for path, allow := range map[string]string{
		"/":                          "GET, HEAD",
		"/ping":                      "GET, HEAD",
		"/stats":                     "GET, HEAD",
		"/metrics":                   "GET, HEAD",
		"/_tanodb/status":            "GET, HEAD",
		"/_tanodb/buckets/b/keys":    "GET, HEAD",
		"/_tanodb/explain" + k1:      "GET, HEAD",
		"/buckets/b/keys":            "GET, HEAD, POST",
		k1:                           "GET, HEAD, PUT, POST, DELETE",
		"/_tanodb" + k1:              "GET, HEAD, PUT, DELETE",
		"/types/t/buckets/b/keys/":   "GET, HEAD, POST",
		"/riak/b":                    "GET, HEAD, PUT, POST",
		"/riak/b/k":                  "GET, HEAD, PUT, POST, DELETE",
		"/_tanodb/cluster":           "GET, HEAD",
		"/_tanodb/cluster/transfers": "GET, HEAD",
		"/_tanodb/cluster/plan":      "GET, HEAD",
		"/_tanodb/cluster/stage":     "POST",
		"/_tanodb/cluster/clear":     "POST",
	} {
		for _, method := range []string{"PATCH", "OPTIONS", "get", "BREW"} {
			c.header(c.want(405, method, path, ""), "Allow", allow)
		}
	}
}

func TestAnyBytesAreAName(t *testing.T) {
	names := []string{"/", "..", ".", "+", " ", "%", "%2F", "?", "#", ";", "&", "\x00", "\xff\xfe", "ключ", "\r\n", strings.Repeat("/", 100)}
	for _, prefix := range []string{"", "/_tanodb"} {
		c := newClient(t, newFake())
		escape := riakEscape
		if prefix != "" {
			escape = url.PathEscape
		}
		for _, name := range names {
			n := escape(name)
			path := prefix + "/types/t/buckets/" + n + "/keys/" + n
			w := c.do("PUT", path, name, plain)
			if w.Code >= 300 {
				t.Fatalf("%q: status %d, %s", path, w.Code, w.Body)
			}
		}
		for _, name := range names {
			obj, err := c.handler.(*handler).node.Get(t.Context(), kv.Key{Type: "t", Bucket: name, Name: name}, kv.ReadOptions{})
			if err != nil || string(obj.Values[0].Data) != name {
				t.Errorf("%q: %v, %v", name, obj.Values, err)
			}
		}
	}
}

func TestPing(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.body(c.want(200, "GET", "/ping", ""), "OK")
	c.body(c.want(200, "GET", "/healthz", ""), "OK\n")
	c.body(c.want(200, "GET", "/readyz", ""), `{"node":"n1","ready":true,"reasons":[],"handoff_jobs":2,"repair_pairs_due":0,"members_down":0}`+"\n")
	c.body(c.want(200, "GET", "/_tanodb/ping", ""), `{"partition":"22835963083295358096932575511191922182123945984","node":"n1","elapsed_us":1}`+"\n")
	f.fail = kv.ErrClosed
	c.want(200, "GET", "/ping", "")
	c.want(503, "GET", "/healthz", "")
	c.body(c.want(503, "GET", "/readyz", ""), `{"node":"n1","ready":false,"reasons":[{"what":"failed","text":"closed"}],"handoff_jobs":2,"repair_pairs_due":0,"members_down":0}`+"\n")
	c.want(503, "GET", "/_tanodb/ping", "")
}

func TestHotKeys(t *testing.T) {
	c := newClient(t, newFake())
	want := `{"node":"n1","sampled_one_in":3,"half_life_ms":60000,"requests_per_second":10,"hot":[{"bucket":"b","key":{"base64":"a/8="},"requests_per_second":2.5,"error":0.5}],"largest":[{"type":"t","bucket":"b","key":"l","value":4096,"seen_ago_ms":1000}],"siblings":[]}` + "\n"
	c.body(c.want(200, "GET", "/_tanodb/hot?limit=3", ""), want)
	c.body(c.want(200, "GET", "/_tanodb/hot", ""), strings.Replace(want, "in\":3", "in\":20", 1))
	c.want(400, "GET", "/_tanodb/hot?limit=x", "")
	c.want(405, "POST", "/_tanodb/hot", "")
}

func TestRootNamesWhatIsServed(t *testing.T) {
	c := newClient(t, newFake())
	w := c.want(200, "GET", "/", "")
	var got map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, path := range got {
		if link := "<" + path + `>; rel="` + name + `"`; !strings.Contains(w.Header().Get("Link"), link) {
			t.Errorf("the Link header lacks %s", link)
		}
	}
	if got["riak_kv_wm_object"] != "/buckets" || got["riak_kv_wm_ping"] != "/ping" {
		t.Errorf("got %v", got)
	}
}

func TestStatusAndMetrics(t *testing.T) {
	f := newFake()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "my_counter"})
	counter.Add(7)
	f.registry.MustRegister(counter)
	c := newClient(t, f)
	for _, path := range []string{"/metrics", "/_tanodb/metrics"} {
		if body := c.want(200, "GET", path, "").Body.String(); !strings.Contains(body, "my_counter 7") {
			t.Errorf("%s: %s", path, body)
		}
	}
	var got map[string]any
	if err := json.Unmarshal(c.want(200, "GET", "/_tanodb/status", "").Body.Bytes(), &got); err != nil || got["node"] != "n1" {
		t.Errorf("status %v, error %v", got, err)
	}
}

func TestStats(t *testing.T) {
	f := newFake()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tanodb_requests_total"}, []string{"op", "outcome"})
	requests.WithLabelValues("get", "ok").Add(3)
	requests.WithLabelValues("get", "not_found").Add(4)
	requests.WithLabelValues("put", "ok").Add(5)
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tanodb_request_seconds"}, []string{"op"})
	seconds.WithLabelValues("get").Observe(0.001)
	seconds.WithLabelValues("get").Observe(0.003)
	seconds.WithLabelValues("put")
	repairs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tanodb_read_repairs_total"}, []string{"kind"})
	repairs.WithLabelValues("stale").Add(1)
	repairs.WithLabelValues("missing").Add(2)
	siblings := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tanodb_get_siblings"})
	siblings.Observe(1)
	siblings.Observe(3)
	sizes := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tanodb_value_bytes"}, []string{"op"})
	sizes.WithLabelValues("get").Observe(300)
	sizes.WithLabelValues("put").Observe(9)
	f.registry.MustRegister(requests, seconds, repairs, siblings, sizes)
	connects := prometheus.NewCounter(prometheus.CounterOpts{Name: "tanodb_pb_connects_total"})
	connects.Add(9)
	open := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tanodb_pb_connections"})
	open.Set(2)
	others := prometheus.NewRegistry()
	others.MustRegister(connects, open)
	c := &client{t, New(f, Options{Metrics: others})}
	if body := c.want(200, "GET", "/metrics", "").Body.String(); !strings.Contains(body, "tanodb_pb_connections 2") || !strings.Contains(body, "tanodb_requests_total") {
		t.Errorf("the metrics are not those of both: %s", body)
	}
	var got map[string]any
	if err := json.Unmarshal(c.want(200, "GET", "/stats", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"node_gets_total": 7.0, "node_puts_total": 5.0, "node_get_fsm_time_mean": 2000.0, "node_get_fsm_time_median": 2500.0, "node_get_fsm_time_95": 4750.0, "node_get_fsm_time_99": 4950.0,
		"node_get_fsm_siblings_mean": 2.0, "node_get_fsm_objsize_mean": 300.0,
		"read_repairs_total": 3.0, "vnode_puts_total": 0.0,
		"nodename": "n1", "riak_kv_version": riakVersion, "riak_core_version": riakVersion, "storage_backend": "memory", "ring_members": []any{"n1", "n2", "n3"},
		"connected_nodes": []any{"n2"}, "ring_num_partitions": 64.0, "ring_creation_size": 64.0,
		"pbc_connects_total": 9.0, "pbc_active": 2.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPercentileAboveAllBounds(t *testing.T) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{0.001, 0.002}})
	h.Observe(7)
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	if got, ok := percentile([]*dto.Metric{&m}, 0.99); !ok || got != 2000 {
		t.Errorf("%d, %v", got, ok)
	}
	if _, ok := percentile(nil, 0.5); ok {
		t.Error("nothing has a median")
	}
}

// list writes keys and returns a client that lists them.
func list(t *testing.T, keys ...string) (*client, *fake) {
	f := newFake()
	c := newClient(t, f)
	for _, key := range keys {
		c.want(204, "PUT", "/buckets/b/keys/"+riakEscape(key), "1", plain)
	}
	return c, f
}

func TestListAll(t *testing.T) {
	c, _ := list(t)
	c.body(c.want(200, "GET", "/buckets/b/keys?keys=true", ""), `{"keys":[]}`+"\n")
	c, f := list(t, "k1", "\xff/")
	c.body(c.want(200, "GET", "/buckets/b/keys?keys=true", ""), `{"keys":["k1"],"keys_base64":["/y8="]}`+"\n")
	c.body(c.want(400, "GET", "/buckets/b/keys", ""), "keys query parameter must be true or stream\n")
	c.want(400, "GET", "/buckets/b/keys?keys=yes", "")
	f.fail = &kv.QuorumError{Op: "keys", Need: "R", Want: 1, Got: 0}
	c.body(c.want(503, "GET", "/buckets/b/keys?keys=true", ""), "R-value unsatisfied: 0/1\n")
	c.want(503, "GET", "/buckets/b/keys?keys=stream", "")
}

// Lists that go out at once are in memory, as bodies are, and have a limit with them.
func TestListsAtOnceCountAsBodies(t *testing.T) {
	f := newFake()
	for _, name := range []string{"key1", "key2", "key3"} {
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: name, Name: name}, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: name}, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h := New(f, Options{MaxBodies: 11}).(*handler)
	c := &client{t, h}
	for _, path := range []string{"/buckets/b/keys?keys=true", "/buckets?buckets=true", "/buckets/b/index/$key/k/l"} {
		r := c.want(503, "GET", path, "")
		c.body(r, "overload: too many bytes of request bodies and lists are in progress\n")
		if r.Header().Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
		if n := h.bodies.Load(); n != 0 {
			t.Errorf("%s: %d bytes are in progress", path, n)
		}
	}
	c.want(200, "GET", "/buckets/b/keys?keys=stream", "")
	h.o.MaxBodies = 24 // a match has its term too
	c.want(200, "GET", "/buckets/b/keys?keys=true", "")
	c.want(200, "GET", "/buckets?buckets=true", "")
	c.want(200, "GET", "/buckets/b/index/$key/k/l", "")
	if n := h.bodies.Load(); n != 0 {
		t.Errorf("%d bytes are in progress", n)
	}
}

// TestWholeAnswersTellTheirLength shows that a long answer that is not in pieces does not come in
// chunks: there are clients that take that for pieces.
func TestWholeAnswersTellTheirLength(t *testing.T) {
	const siblings = "/buckets/siblings/keys/k"
	c := realClient(t)
	c.want(204, "PUT", "/buckets/siblings/props", `{"props":{"allow_mult":true}}`, asJSON)
	long := strings.Repeat("x", 64<<10)
	c.want(204, "PUT", siblings, long, plain)
	c.want(204, "PUT", siblings, long, plain)
	for i := range 64 {
		c.want(204, "PUT", fmt.Sprintf("/buckets/b/keys/%0512d", i), "1", plain, "X-Riak-Index-n_int: 1")
	}
	s := httptest.NewServer(c.handler)
	defer s.Close()
	for _, tc := range []struct{ method, path, accept, body string }{
		{"GET", "/buckets/b/keys?keys=true", "", ""},
		{"GET", "/buckets/b/index/n_int/1", "", ""},
		{"GET", siblings, "multipart/mixed", ""},
		{"POST", "/mapred", "", `{"inputs":"b","query":[{"map":{"language":"erlang","module":"riak_kv_mapreduce","function":"map_identity"}}]}`},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, s.URL+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", tc.accept)
		r.Header.Set("Content-Type", "application/json")
		w, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(w.Body)
		w.Body.Close()
		if err != nil || len(body) < 32<<10 || w.ContentLength != int64(len(body)) {
			t.Errorf("%s %s: status %d, Content-Length %d of %d, error %v", tc.method, tc.path, w.StatusCode, w.ContentLength, len(body), err)
		}
	}
}

func TestListStream(t *testing.T) {
	f := newFake()
	for i := range listPage + 10 {
		k := kv.Key{Bucket: "b", Name: string(rune('a' + i))}
		if _, err := f.Memory.Put(t.Context(), k, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w := newClient(t, f).want(200, "GET", "/buckets/b/keys?keys=stream", "")
	seen := map[string]bool{}
	pieces := 0
	for dec := json.NewDecoder(w.Body); dec.More(); pieces++ {
		var piece riakKeys
		if err := dec.Decode(&piece); err != nil {
			t.Fatal(err)
		}
		for _, key := range piece.Keys {
			seen[key] = true
		}
	}
	if len(seen) != listPage+10 || pieces != 2 || !w.Flushed {
		t.Fatalf("%d keys in %d pieces, flushed: %v", len(seen), pieces, w.Flushed)
	}
}

func TestABrokenStreamIsSeen(t *testing.T) {
	f := newFake()
	for i := range listPage + 1 {
		if _, err := f.Memory.Put(t.Context(), kv.Key{Bucket: "b", Name: string(rune('a' + i))}, kv.Value{}, kv.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f.fail, f.failLate = kv.ErrTimeout, true
	s := httptest.NewServer(New(f, Options{}))
	defer s.Close()
	body, err := fetchAll(s.URL + "/buckets/b/keys?keys=stream")
	if err == nil {
		t.Error("the listing broke off, and the client has seen a good end")
	}
	if !strings.HasSuffix(body, `}{"error":"timeout"}`) { // nothing is between the pieces
		t.Errorf("the listing ends with %q", body[max(0, len(body)-50):])
	}
}

func TestExplainedRequests(t *testing.T) {
	c := newClient(t, newFake())
	var receipt api.Receipt
	decode(t, c.want(200, "PUT", "/_tanodb"+k1, "42", plain), &receipt)
	if len(receipt.Replies) != 3 || receipt.Replies[0].Result != kv.OK || len(receipt.Context) == 0 || receipt.Values != nil {
		t.Fatalf("receipt %+v", receipt)
	}
	var obj api.Object
	decode(t, c.want(200, "GET", "/_tanodb"+k1, ""), &obj)
	if len(obj.Values) != 1 || string(obj.Values[0].Data) != "42" || obj.Values[0].ContentType != "text/plain" ||
		len(obj.Replies) != 3 || obj.Replies[0].Result != kv.Found {
		t.Fatalf("object %+v", obj)
	}
	decode(t, c.want(200, "DELETE", "/_tanodb"+k1, ""), &receipt)
	if len(receipt.Replies) != 3 || receipt.Replies[0].Result != kv.Found {
		t.Fatalf("receipt %+v", receipt)
	}
	for _, method := range []string{"GET", "DELETE"} {
		var e api.Error
		decode(t, c.want(404, method, "/_tanodb"+k1, ""), &e)
		if len(e.Replies) != 3 || e.Replies[0].Result != kv.NotFound || e.Text != "not found" || len(e.Context) == 0 {
			t.Fatalf("error %+v", e)
		}
	}
}

func TestTheJSONOfAnExplainedPut(t *testing.T) {
	c := newClient(t, newFake())
	var got map[string]any
	decode(t, c.want(200, "PUT", "/_tanodb"+k1, "42", plain), &got)
	reply, _ := got["replies"].([]any)[0].(map[string]any)
	if reply["partition"] == "" || reply["node"] != "memory" || reply["role"] != "primary" || reply["result"] != "ok" {
		t.Errorf("reply %v", reply)
	}
	if _, ok := reply["elapsed_us"].(float64); !ok || len(reply) != 5 {
		t.Errorf("reply %v", reply)
	}
}

func TestPagesOfKeys(t *testing.T) {
	c, _ := list(t, "k1", "k2", "\xff")
	seen := map[string]bool{}
	token := ""
	for {
		var page api.Keys
		decode(t, c.want(200, "GET", "/_tanodb/buckets/b/keys?limit=1&token="+url.QueryEscape(token), ""), &page)
		if len(page.Keys) > 1 {
			t.Fatalf("page %+v", page)
		}
		for _, key := range page.KV().Keys {
			seen[key] = true
		}
		if token = page.Next; token == "" {
			break
		}
	}
	if len(seen) != 3 || !seen["\xff"] {
		t.Fatalf("seen %v", seen)
	}
	c.body(c.want(200, "GET", "/_tanodb/buckets/empty/keys", ""), `{"keys":[]}`+"\n")
}

func TestKeysOfReplicas(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	c.body(c.want(200, "GET", "/_tanodb/buckets/b/keys?replicas=true", ""),
		`[{"partition":"0","node":"n1","keys":["a",{"base64":"/w=="}]},{"partition":"730750818665451459101842416358141509827966271488","node":"n2","keys":[],"error":"down"}]`+"\n")
	f.fail = kv.ErrOverload
	c.want(503, "GET", "/_tanodb/buckets/b/keys?replicas=true", "")
}

func TestExplain(t *testing.T) {
	c := newClient(t, newFake())
	c.body(c.want(200, "GET", "/_tanodb/explain/types/t/buckets/b/keys/k", ""),
		`{"partitions":64,"replicas":[{"partition":"228359630832953580969325755111919221821239459840","node":"n1","role":"primary","result":"pending","elapsed_us":0}]}`+"\n")
}

func decode(t *testing.T, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
}

package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// fake is a node of a cluster of two, that keeps its keys in memory.
type fake struct {
	kvtest.Memory

	mu      sync.Mutex
	counter int64
	looks   int
	up      bool  // n2 is
	fail    error // of whatever is asked for
	hold    chan struct{}
}

func newFake() *fake { return &fake{up: true} }

func (f *fake) Cluster() tanodb.ClusterState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return tanodb.ClusterState{
		Node: "n1", Partitions: 4, Replicas: 1, Owners: []string{"n1", "n2", "n1", "n2"}, Next: make([]string, 4),
		Members: []tanodb.ClusterMember{{Name: "n1", Up: true, Partitions: 2, Pending: 2, Zone: "<zone>"}, {Name: "n2", Up: f.up, Partitions: 2, Pending: 2}},
	}
}

func (f *fake) Nodes(context.Context) []tanodb.NodeState {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	n2 := tanodb.NodeState{Node: "n2"}
	if !f.up {
		n2.Error = "the node is down"
	}
	return []tanodb.NodeState{{Node: "n1", Loads: []tanodb.Load{{Op: "get", Count: uint64(10 * f.looks), Bounds: []float64{0.001}, Within: []uint64{uint64(10 * f.looks)}}}}, n2}
}

func (f *fake) Routes() [][]tanodb.Replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := []tanodb.Replica{{Partition: 0, Node: "n1", Role: kv.Primary}}
	two := []tanodb.Replica{{Partition: 1, Node: "n2", Role: kv.Primary}}
	if !f.up {
		two = []tanodb.Replica{{Partition: 1, Node: "n1", Role: kv.Fallback}}
	}
	return [][]tanodb.Replica{one, two, one, two}
}

func (f *fake) BucketTypes(context.Context) ([]tanodb.BucketType, error) {
	return []tanodb.BucketType{{Name: "default"}, {Name: `"><b>`}}, f.fail
}

func (f *fake) Holdings(_ context.Context, k kv.Key) ([]tanodb.Holding, error) {
	return []tanodb.Holding{
		{Partition: kv.Partition{Index: 1, Of: 4}, Node: "n1", Role: kv.Primary, Result: kv.Found, Values: 1},
		{Partition: kv.Partition{Index: 2, Of: 4}, Node: "n2", Role: kv.Primary, Result: kv.NotFound, Behind: true},
	}, k.Validate()
}

func (f *fake) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return kv.Object{}, ctx.Err()
		}
	}
	if f.fail != nil {
		return kv.Object{}, f.fail
	}
	obj, err := f.Memory.Get(ctx, k, o)
	obj.Context = nil // it is none of a node's
	return obj, err
}

// A counter of the fake counts what it is sent.
func (f *fake) Fetch(context.Context, kv.Key, kv.ReadOptions) (kv.Data, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return kv.Data{Kind: kv.Counter, Value: kv.DataValue{Kind: kv.Counter, Counter: f.counter}}, f.fail
}

func (f *fake) Update(ctx context.Context, k kv.Key, op kv.Op, _ kv.WriteOptions) (kv.Data, error) {
	f.mu.Lock()
	f.counter += int64(op.(kv.CounterOp))
	f.mu.Unlock()
	return f.Fetch(ctx, k, kv.ReadOptions{})
}

// TestMain makes sure that no test of the package leaves anything running.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a console on a server.
type site struct {
	t *testing.T
	*httptest.Server
	console *Console
}

func serve(t *testing.T, n Node, o Options) *site {
	if o.Every == 0 {
		o.Every = 5 * time.Millisecond
	}
	c := New(n, o)
	s := &site{t, httptest.NewServer(c), c}
	t.Cleanup(func() {
		c.Close()
		s.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// ask asks for something; headers are "Name: value".
func (s *site) ask(method, path, form string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(form))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

func TestRoutes(t *testing.T) {
	f := newFake()
	if _, err := f.Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{Data: []byte("hello")}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, f, Options{})
	for _, c := range []struct {
		method, path string
		status       int
		contains     string
	}{
		{"GET", "", 200, "<h1>Overview</h1>"}, // by a redirection
		{"GET", "/", 200, "<h1>Overview</h1>"},
		{"HEAD", "/", 200, ""},
		{"GET", "/activity", 200, "<h1>Activity</h1>"},
		{"GET", "/ring", 200, "served by"},
		{"GET", "/keys", 200, "<h1>Keys</h1>"},
		{"GET", "/keys?bucket=b", 200, ">k</a>"},
		{"GET", "/keys?bucket=b&key=k", 200, "hello"},
		{"GET", "/keys?bucket=b&key=k", 200, "behind"},
		{"GET", "/keys?bucket=b&key=other", 200, "There is no live value"},
		{"GET", "/keys?bucket=%25zz&escaped=1", 400, "begins no escape"},
		{"GET", "/watch?bucket=b&key=k", 200, `value="k"`},
		{"GET", "/watch?key=%25&escaped=1", 400, "begins no escape"},
		{"GET", "/events", 400, "no such page"},
		{"GET", "/events?page=keys", 400, "no such page"},
		{"GET", "/static/console.js", 200, "use strict"},
		{"GET", "/static/vendored/htmx.min.js", 200, "htmx"},
		{"GET", "/static/", 404, ""},
		{"GET", "/static/vendored/README.md", 404, ""},
		{"GET", "/static/../templates/keys.html", 404, ""},
		{"GET", "/static/%2e%2e/console.go", 404, ""},
		{"GET", "/nothing", 404, ""},
		{"POST", "/", 405, ""},
		{"DELETE", "/keys", 405, ""},
		{"PUT", "/watch", 405, ""},
	} {
		resp, body := s.ask(c.method, Prefix+c.path, "")
		if resp.StatusCode != c.status || !strings.Contains(body, c.contains) {
			t.Errorf("%s %s: %d, want %d with %q:\n%s", c.method, c.path, resp.StatusCode, c.status, c.contains, body)
		}
		for name, want := range map[string]string{"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, got)
			}
		}
	}
	if resp, _ := s.ask("GET", Prefix+"x/", ""); resp.StatusCode != 404 {
		t.Errorf("a path beside the prefix: %d", resp.StatusCode)
	}
}

func TestPagesHaveNothingInline(t *testing.T) {
	s := serve(t, newFake(), Options{})
	for _, path := range []string{"/", "/activity", "/ring", "/keys", "/watch"} {
		_, body := s.ask("GET", Prefix+path, "")
		for _, bad := range []string{"<script>", "<style", " style=", " onclick=", "javascript:", "https://", "//cdn"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s contains %q", path, bad)
			}
		}
		if strings.Contains(body, "http://") {
			t.Errorf("%s names another host", path)
		}
	}
}

func TestStaticFilesAreKeptByBrowsers(t *testing.T) {
	s := serve(t, newFake(), Options{})
	resp, _ := s.ask("GET", Prefix+"/static/console.css", "")
	tag := resp.Header.Get("ETag")
	if resp.Header.Get("Content-Type") != "text/css; charset=utf-8" || tag == "" {
		t.Errorf("the headers are %v", resp.Header)
	}
	if resp, body := s.ask("GET", Prefix+"/static/console.css", "", "If-None-Match: "+tag); resp.StatusCode != 304 || body != "" {
		t.Errorf("the second time: %d, %d bytes", resp.StatusCode, len(body))
	}
}

func TestNamesAreEscaped(t *testing.T) {
	f := newFake()
	bucket, key := `<script>alert(1)</script>&"'`, "\x00\xff\u202e</td><img src=x onerror=alert(1)>/..%2F#?"
	value := kv.Value{Data: []byte("</pre><script>alert(2)</script>"), ContentType: "<b>", Meta: []kv.Pair{{Name: "<i>", Value: "\x1b[31m"}}}
	if _, err := f.Put(t.Context(), kv.Key{Bucket: bucket, Name: key}, value, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, f, Options{})
	check := func(path string) string {
		t.Helper()
		resp, body := s.ask("GET", path, "")
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s", path, resp.StatusCode, body)
		}
		for _, bad := range []string{"<script>alert", "<img", "<b>", "<i>", "\x00", "\xff", "\u202e", "\x1b"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s contains %q", path, bad)
			}
		}
		return body
	}
	link := keysAt("", bucket, key)
	if u, err := url.Parse(link); err != nil || u.Query().Get("key") != key || u.Query().Get("bucket") != bucket {
		t.Errorf("%q leads to %q, error %v", link, u, err)
	}
	check(keysAt("", "", ""))
	body := check(keysAt("", bucket, ""))
	if !strings.Contains(html.UnescapeString(body), `href="`+link+`"`) {
		t.Errorf("no link %s in\n%s", link, body)
	}
	if body = check(link); !strings.Contains(body, "&lt;/pre&gt;&lt;script&gt;alert(2)") {
		t.Errorf("the value is not shown:\n%s", body)
	}
	// The form has the names percent-encoded, and leads to the same key.
	b, k, escaped := typed(kv.Key{Bucket: bucket, Name: key})
	if body = check(watchAt("", bucket, key)); !escaped || !strings.Contains(body, `name="escaped" value="1" checked`) {
		t.Errorf("the form of a name that cannot be typed is not percent-encoded:\n%s", body)
	}
	_, body = s.ask("POST", Prefix+"/watch", url.Values{"op": {"get"}, "bucket": {b}, "key": {k}, "escaped": {"1"}}.Encode())
	if !strings.Contains(body, "one value") || strings.Contains(body, "<script>alert") {
		t.Errorf("the watched get:\n%s", body)
	}
}

func TestShow(t *testing.T) {
	for name, want := range map[string]string{
		"k1": "k1", "größe": "größe", "a b": "a b", "": `""`, " a": `" a"`, "\xff": `"\xff"`, "a\nb": `"a\nb"`, "\u202ex": `"\u202ex"`, `"`: `"\""`,
		strings.Repeat("k", 300): strings.Repeat("k", maxShown) + "…",
	} {
		if got := show(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}

func TestValues(t *testing.T) {
	long := strings.Repeat("ä", maxPreview) // cut within a character
	for _, c := range []struct {
		data     string
		hex, cut bool
	}{{"plain\n\ttext", false, false}, {"", false, false}, {"\x00\x01", true, false}, {"\xff", true, false}, {"a\u202eb", true, false}, {"a" + long, false, true}, {strings.Repeat("\x00", 9000), true, true}} {
		s := showValue(kv.Value{Data: []byte(c.data)})
		if s.Hex != c.hex || s.Cut != c.cut || s.Size != int64(len(c.data)) || !strings.HasPrefix(c.data, s.Text) && !s.Hex {
			t.Errorf("%.20q: hex %v, cut %v, size %d, text %.20q", c.data, s.Hex, s.Cut, s.Size, s.Text)
		}
	}
}

func TestOtherSitesMayAskForNothing(t *testing.T) {
	f := newFake()
	s := serve(t, f, Options{})
	form := "op=put&bucket=b&key=k&value=v"
	for _, c := range []struct {
		header string
		status int
	}{
		{"Sec-Fetch-Site: cross-site", 403}, {"Sec-Fetch-Site: same-site", 403}, {"Origin: http://evil.example", 403}, {"Origin: null", 403},
		{"Sec-Fetch-Site: same-origin", 200}, {"Origin: " + s.URL, 200}, {"X-Nothing: of the kind", 200}, // that is no browser
	} {
		f.Memory = kvtest.Memory{}
		resp, body := s.ask("POST", Prefix+"/watch", form, c.header)
		_, err := f.Memory.Get(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.ReadOptions{})
		if written := err == nil; resp.StatusCode != c.status || written != (c.status == 200) {
			t.Errorf("%s: %d, want %d, written: %v\n%s", c.header, resp.StatusCode, c.status, written, body)
		}
	}
}

func TestWatchRefusesWhatCannotBeMeant(t *testing.T) {
	s := serve(t, newFake(), Options{})
	for form, want := range map[string]string{
		"op=get&bucket=b":                                             "key cannot be zero-length",
		"op=get&key=k":                                                "bucket cannot be zero-length",
		"op=drop&bucket=b&key=k":                                      "must be one of those of the form",
		"op=increment&bucket=b&key=k&value=x":                         "must be a whole number",
		"op=get&bucket=b&key=k&quorum=most":                           "must be a number",
		"op=get&bucket=b&key=%25zz&escaped=1":                         "begins no escape",
		"op=put&bucket=b&key=k&value=" + strings.Repeat("v", maxForm): "too large",
	} {
		resp, body := s.ask("POST", Prefix+"/watch", form)
		if resp.StatusCode != 400 || !strings.Contains(body, want) {
			t.Errorf("%.40s: %d %s, want %s", form, resp.StatusCode, body, want)
		}
	}
}

// stream reads the events of a stream.
type stream struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
}

func (s *site) open(path string) *stream {
	s.t.Helper()
	resp, err := http.Get(s.URL + Prefix + path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		s.t.Fatalf("%s: %d", path, resp.StatusCode)
	}
	return &stream{s.t, resp, bufio.NewReader(resp.Body)}
}

// next is the next update.
func (s *stream) next() (u update) {
	s.t.Helper()
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &u); err != nil {
				s.t.Fatal(err)
			}
			return u
		}
	}
}

// until reads updates until one has a piece with the text.
func (s *stream) until(id, text string) {
	s.t.Helper()
	const most = 2000
	for range most {
		if strings.Contains(s.next().Pieces[id], text) {
			return
		}
	}
	s.t.Fatalf("%s does not show %q after %d updates", id, text, most)
}

func TestUpdatesTellWhatHasChanged(t *testing.T) {
	f := newFake()
	s := serve(t, f, Options{})
	st := s.open("/events?page=overview")
	st.until("alerts", "All is well")
	rated := false
	for range 100 {
		u := st.next()
		if _, again := u.Pieces["alerts"]; again {
			t.Error("alerts that have not changed are sent again")
		}
		rated = rated || u.Point != nil && len(u.Point.Ops) == 1 && u.Point.Ops[0].Rate > 0
	}
	if !rated {
		t.Error("no update has a rate")
	}
	f.mu.Lock()
	f.up = false
	f.mu.Unlock()
	st.until("alerts", "n2 is down")
	if u := s.open("/events?page=overview").next(); len(u.Past) == 0 || !strings.Contains(u.Pieces["alerts"], "n2 is down") {
		t.Errorf("a later page begins with %d points, and %q", len(u.Past), u.Pieces["alerts"])
	}
}

func TestNobodyLooksWhileNobodyWatches(t *testing.T) {
	f := newFake()
	s := serve(t, f, Options{})
	st := s.open("/events?page=activity")
	st.until("summary", "members up")
	st.resp.Body.Close()
	s.console.watcher.loops.Wait() // it ends by itself
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.looks == 0 {
		t.Error("nobody has looked")
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := serve(t, newFake(), Options{MaxStreams: 2})
	first := s.open("/events?page=ring")
	s.open("/events?page=ring").next()
	if resp, _ := s.ask("GET", Prefix+"/events?page=ring", ""); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third stream: %d", resp.StatusCode)
	}
	if resp, _ := s.ask("POST", Prefix+"/watch", "op=get&bucket=b&key=k"); resp.StatusCode != 503 {
		t.Errorf("a watched request beside two streams: %d", resp.StatusCode)
	}
	if resp, _ := s.ask("GET", Prefix+"/", ""); resp.StatusCode != 200 {
		t.Errorf("a page beside two streams: %d", resp.StatusCode)
	}
	first.resp.Body.Close()
	s.console.streams <- struct{}{} // as soon as its place is free
	<-s.console.streams
	s.open("/events?page=ring").next()
}

// One user cannot have all places, and gets his back when a page is closed.
func TestStreamsOfAUserAreBounded(t *testing.T) {
	type name struct{}
	c := New(newFake(), Options{MaxStreams: 4, MaxOfUser: 2, User: func(ctx context.Context) string {
		user, _ := ctx.Value(name{}).(string)
		return user
	}})
	defer c.Close()
	takes := func(user string) func() {
		r := httptest.NewRequest("GET", Prefix+"/events?page=ring", nil)
		return c.stream(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), name{}, user)))
	}
	first, second := takes("anna"), takes("anna")
	if first == nil || second == nil || takes("anna") != nil {
		t.Fatal("anna has not two, or has three")
	}
	if takes("") == nil || takes("ben") == nil {
		t.Fatal("others have none")
	}
	first()
	if takes("carol") == nil {
		t.Error("the place is not free")
	}
	second()
	if takes("anna") == nil || len(c.of) != 3 || c.of["anna"] != 1 {
		t.Errorf("what is left is %v", c.of)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	f := newFake()
	f.hold = make(chan struct{})
	s := serve(t, f, Options{})
	st := s.open("/events?page=overview")
	st.next()
	watching := make(chan string)
	go func() {
		_, body := s.ask("POST", Prefix+"/watch", "op=get&bucket=b&key=k", "Accept: text/event-stream")
		watching <- body
	}()
	for len(s.console.streams) < 2 {
		st.next() // it has come when there are two
	}
	s.console.Close()
	if _, err := io.Copy(io.Discard, st.r); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if body := <-watching; strings.Contains(body, "event: end") {
		t.Errorf("the watched request is over:\n%s", body)
	}
	if resp, _ := s.ask("GET", Prefix+"/events?page=overview", ""); resp.StatusCode != 503 {
		t.Errorf("a stream after Close: %d", resp.StatusCode)
	}
}

// TestSlowClientsAreDropped reads nothing of a stream: its place is free again when the
// connection is full and the time for a piece is over. The connection of the test ends that time
// at once.
func TestSlowClientsAreDropped(t *testing.T) {
	c := New(newFake(), Options{Every: time.Millisecond})
	defer c.Close()
	here, there := net.Pipe() // it has no buffer
	defer there.Close()
	ended := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		c.ServeHTTP(w, r)
	})}
	l := &one{make(chan net.Conn, 1), make(chan struct{})}
	l.conns <- impatient{here}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	fmt.Fprintf(there, "GET %s/events?page=overview HTTP/1.1\r\nHost: n1\r\n\r\n", Prefix)
	<-ended
	server.Close()
	<-served
}

// one is a listener of one connection.
type one struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *one) Close() error   { close(l.done); return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

// impatient shortens the time for a piece.
type impatient struct{ net.Conn }

func (c impatient) SetWriteDeadline(at time.Time) error {
	if at.IsZero() || time.Until(at) > takeWithin {
		return c.Conn.SetWriteDeadline(at)
	}
	return c.Conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
}

func TestErrorsAreShown(t *testing.T) {
	f := newFake()
	f.fail = errors.New("no <majority>")
	s := serve(t, f, Options{})
	for _, path := range []string{"/keys", "/watch"} {
		if resp, body := s.ask("GET", Prefix+path, ""); resp.StatusCode != 503 || !strings.Contains(body, "no &lt;majority&gt;") {
			t.Errorf("%s: %d\n%s", path, resp.StatusCode, body)
		}
	}
	if _, body := s.ask("POST", Prefix+"/watch", "op=get&bucket=b&key=k"); !strings.Contains(body, "Failed") || !strings.Contains(body, "no &lt;majority&gt;") {
		t.Errorf("the watched request:\n%s", body)
	}
}

package main

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/server/api"
)

func TestChooserStaysInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		choose := newChooser(rapid.SampledFrom([]string{"uniform", "zipf"}).Draw(t, "dist"), n, rapid.Uint64().Draw(t, "seed"))
		for range 100 {
			if i := choose(); i < 0 || i >= n {
				t.Fatalf("chose %d of %d", i, n)
			}
		}
	})
}

func TestUniformChoosesAllAlike(t *testing.T) {
	const n, draws = 10, 100_000
	counts := make([]int, n)
	choose := newChooser("uniform", n, 1)
	for range draws {
		counts[choose()]++
	}
	for i, c := range counts {
		if math.Abs(float64(c)-draws/n) > draws/n/10 {
			t.Errorf("%d was chosen %d times of %d; want about %d", i, c, draws, draws/n)
		}
	}
}

func TestZipfChoosesBySize(t *testing.T) {
	const n, draws = 1000, 200_000
	counts := make([]int, n)
	choose := newChooser("zipf", n, 1)
	for range draws {
		counts[choose()]++
	}
	// The k-th is chosen k^exponent times less often than the first.
	for _, k := range []int{2, 4, 8, 16} {
		want := float64(counts[0]) / math.Pow(float64(k), zipfExponent)
		if got := float64(counts[k-1]); math.Abs(got-want) > want/5 {
			t.Errorf("number %d was chosen %.0f times, the first %d times; want about %.0f", k, got, counts[0], want)
		}
	}
}

// store is what one key holds on a server that never forgets, for the
// histories: which writes are there, and which it has ever had.
type store struct{ live, had []int }

func (s *store) put(number int, seen []int) {
	s.live = append(without(s.live, seen), number)
	s.had = append(slices.Clone(s.had), number)
}

// TestHistoryAgreesWithStore drives a history and a store by chance: writes that are
// acknowledged, that are lost on the way, that arrive late, and reads that show
// an older state. In the end, the store must pass the check, and a store that
// has dropped an acknowledged write, or brought one back, must not.
func TestHistoryAgreesWithStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{}
		s := store{}
		states := []store{s}
		var context []int // what h.context covers
		late := map[int][]int{}
		for range rapid.IntRange(0, 30).Draw(t, "writes") {
			if h.blind {
				old := states[rapid.IntRange(max(0, len(states)-3), len(states)-1).Draw(t, "state")]
				context = old.had
				h.read(slices.Clone(old.live), "context")
			}
			number := h.next()
			switch rapid.SampledFrom([]string{"acknowledged", "acknowledged", "refused", "lost", "late", "applied"}).Draw(t, "outcome") {
			case "acknowledged":
				s.put(number, context)
				context = slices.Clone(s.had)
				h.acknowledged("context")
			case "applied":
				s.put(number, context)
				h.inDoubt()
			case "late":
				late[number] = context
				h.inDoubt()
			case "lost":
				h.inDoubt()
			}
			if len(late) > 0 && rapid.Bool().Draw(t, "arrive") {
				first := slices.Min(numbers(late))
				s.put(first, late[first])
				delete(late, first)
			}
			states = append(states, s)
		}
		if lost, wrong := h.check(s.live); len(lost)+len(wrong) > 0 {
			t.Fatalf("store holds %v: lost %v, wrong %v; %+v", s.live, lost, wrong, h)
		}
		for _, n := range h.must {
			kept := without(s.live, []int{n})
			lost, _ := h.check(kept)
			replaced := slices.Contains(h.reach(kept), n)
			if slices.Contains(s.live, n) && !replaced && !slices.Contains(lost, n) {
				t.Fatalf("store has lost write %d and holds %v: not noticed; %+v", n, kept, h)
			}
		}
		for n := 1; n <= h.sent; n++ {
			if _, wrong := h.check(append(slices.Clone(s.live), n)); !slices.Contains(h.open, n) && !slices.Contains(wrong, n) {
				t.Fatalf("write %d came back: not noticed; %+v", n, h)
			}
		}
	})
}

func numbers(m map[int][]int) []int {
	var out []int
	for n := range m {
		out = append(out, n)
	}
	return out
}

func TestHistory(t *testing.T) {
	h := &history{}
	h.next()
	h.acknowledged("c1")
	h.next()
	h.acknowledged("c2")
	for _, c := range []struct{ shown, lost, wrong []int }{
		{[]int{2}, nil, nil},
		{nil, []int{2}, nil},
		{[]int{1}, []int{2}, []int{1}},
		{[]int{1, 2}, nil, []int{1}},
		{[]int{2, 3}, nil, []int{3}},
	} {
		lost, wrong := h.check(c.shown)
		if !slices.Equal(lost, c.lost) || !slices.Equal(wrong, c.wrong) {
			t.Errorf("shown %v: lost %v, wrong %v; want %v, %v", c.shown, lost, wrong, c.lost, c.wrong)
		}
	}
	// A write in doubt that carried the context may have replaced the other.
	h.next()
	h.inDoubt()
	for _, shown := range [][]int{{2}, {3}} {
		if lost, wrong := h.check(shown); len(lost)+len(wrong) > 0 {
			t.Errorf("shown %v: lost %v, wrong %v; want none", shown, lost, wrong)
		}
	}
	if lost, _ := h.check(nil); !slices.Equal(lost, []int{2}) {
		t.Errorf("nothing is shown: lost %v; want [2]", lost)
	}
	if !h.blind {
		t.Error("after a write in doubt the next one does not read first")
	}
}

func TestBenchValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(maxBenchHead, 500).Draw(t, "size")
		key, number := rapid.IntRange(0, maxBenchKeys).Draw(t, "key"), rapid.IntRange(1, math.MaxInt32).Draw(t, "number")
		v := benchValue(size, "run", key, number)
		got, err := parseBenchValue(v, "run", key)
		if len(v) != size || err != nil || got != number {
			t.Fatalf("%q: %d, %v", v, got, err)
		}
		if _, err := parseBenchValue(v, "run", key+1); err == nil {
			t.Fatal("the value of another key is taken for this one's")
		}
		if _, err := parseBenchValue(v, "other", key); err == nil {
			t.Fatal("the value of another run is taken for this one's")
		}
	})
	for _, v := range []string{"", "x", "run", "run 1", "run 1 2", "run x 2 ", strings.Repeat("z", 100)} {
		if n, err := parseBenchValue([]byte(v), "run", 1); err == nil && v != "run 1 2" {
			t.Errorf("%q is taken for write %d", v, n)
		}
	}
}

func TestContextOf(t *testing.T) {
	enc, err := json.Marshal(api.Receipt{Context: []byte{1, 2, 3}, Replies: []api.Reply{}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		string(enc):                 "AQID",
		`{"context": "AQID"}`:       "AQID",
		`{"context":null}`:          "",
		`{"context":"`:              "",
		`{}`:                        "",
		``:                          "",
		`{"replies":[],"context":"`: "",
	} {
		if got := contextOf([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestWire sends requests over one connection to a server of net/http, and over
// a new one after the server has closed it.
func TestWire(t *testing.T) {
	conns := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns[r.RemoteAddr] = true
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/echo":
			_, _ = w.Write(append([]byte(r.Method+r.Header.Get("X-Riak-Vclock")), body...))
		case "/chunked":
			_, _ = w.Write([]byte("one "))
			w.(http.Flusher).Flush()
			_, _ = w.Write([]byte("two"))
		case "/close":
			w.Header().Set("Connection", "close")
		case "/abort":
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer server.Close()
	w := newWire(plainCaller, "")
	w.to(server.URL)
	defer w.close()
	end := time.Now().Add(time.Minute)
	for _, c := range []struct {
		method, path string
		header       []string
		body         []byte
		status       int
		answer       string
	}{
		{"GET", "/echo", nil, nil, 200, "GET"},
		{"PUT", "/echo", []string{"X-Riak-Vclock: ctx"}, []byte("body"), 200, "PUTctxbody"},
		{"PUT", "/echo", nil, []byte{}, 200, "PUT"},
		{"GET", "/chunked", nil, nil, 200, "one two"},
		{"GET", "/none", nil, nil, 204, ""},
	} {
		ans, err := w.do(end, c.method, c.path, c.header, c.body)
		if err != nil || ans.status != c.status || string(ans.body) != c.answer {
			t.Fatalf("%s %s: status %d, %q, %v", c.method, c.path, ans.status, ans.body, err)
		}
	}
	if len(conns) != 1 {
		t.Errorf("%d connections for requests one after the other", len(conns))
	}
	if _, err := w.do(end, "GET", "/close", nil, nil); err != nil {
		t.Error(err)
	}
	if ans, err := w.do(end, "GET", "/echo", nil, nil); err != nil || ans.status != 200 {
		t.Errorf("after the server has closed the connection: %v", err)
	}
	if _, err := w.do(end, "GET", "/abort", nil, nil); err == nil || wireKind(err) != "broken connection" {
		t.Errorf("an answer that breaks off: %v", err)
	}
	_, err := w.do(time.Now().Add(-time.Second), "GET", "/echo", nil, nil)
	if err == nil || wireKind(err) != "timeout" {
		t.Errorf("after the deadline: %v", err)
	}
	server.Close()
	if _, err := w.do(end, "GET", "/echo", nil, nil); !errors.Is(err, errNotSent) || wireKind(err) != "connect" {
		t.Errorf("a server that is gone: %v", err)
	}
}

func TestRecorder(t *testing.T) {
	start := time.Unix(1000, 0)
	r := newRecorder()
	note := func(at, took time.Duration, kind string) {
		r.note(outcome{begun: start.Add(at), took: took, kind: kind, text: kind + " text"})
	}
	note(0, time.Millisecond, "") // before the begin: not counted
	r.begin(start)
	note(0, time.Millisecond, "")
	note(1500*time.Millisecond, 2*time.Millisecond, "")
	note(900*time.Millisecond, 200*time.Millisecond, "timeout")
	note(3*time.Second, time.Hour, "")
	r.end(start.Add(4 * time.Second))
	note(4*time.Second, time.Millisecond, "")

	b := &bench{c: &benchCmd{Workload: "put"}, target: &benchTarget{size: 1}, rec: r, cpu: &cpuMeter{}}
	got := b.report()
	if got.Ops != 3 || got.OpsPerSec != 0.75 || got.Errors["timeout"] != 1 || got.ErrorSamples["timeout"] != "timeout text" {
		t.Errorf("%+v", got)
	}
	if len(got.ErrorsBySecond) != 1 || got.ErrorsBySecond[0].Second != 1 {
		t.Errorf("errors by second: %v", got.ErrorsBySecond)
	}
	if got.OpsBySecond[0] != 1 || got.OpsBySecond[1] != 1 || got.Max < maxLatency/1000 {
		t.Errorf("operations by second: %v, longest %v ms", got.OpsBySecond[:2], got.Max)
	}
}

func TestParseProcessTime(t *testing.T) {
	for text, want := range map[string]processTime{
		"# HELP\nprocess_cpu_seconds_total 12.5\nother 1\nprocess_start_time_seconds 1.7e+09\n": {started: 1.7e9, cpu: 12.5},
		"process_cpu_seconds_total x\nprocess_start_time_seconds 1\n":                           {},
		"process_cpu_seconds_total_more 3\n":                                                    {},
		"":                                                                                      {},
	} {
		if got := parseProcessTime([]byte(text)); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestCPUMeterKnowsRestarts(t *testing.T) {
	m := &cpuMeter{before: []processTime{{1, 2}, {1, 3}}, after: []processTime{{1, 5}, {1, 4}}}
	if used, ok := m.used(); !ok || used != 4 {
		t.Errorf("%v, %v; want 4", used, ok)
	}
	m.after[1].started = 2
	if _, ok := m.used(); ok {
		t.Error("a server that was started anew is not noticed")
	}
	m.before[0] = processTime{}
	if _, ok := m.used(); ok {
		t.Error("a server that did not tell is not noticed")
	}
}

func TestWorkersShareTheKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &benchCmd{Workers: rapid.IntRange(1, 20).Draw(t, "workers"), Dist: "uniform"}
		c.Keys = c.Workers + rapid.IntRange(0, 50).Draw(t, "more")
		b := newBench(c, time.Second, &benchTarget{carrier: func(int) carrier { return nil }})
		owned := make([]int, c.Keys)
		for _, w := range b.workers {
			for i := range w.own {
				owned[w.key(i)]++
			}
		}
		for key, n := range owned {
			if n != 1 {
				t.Fatalf("key %d has %d owners", key, n)
			}
		}
	})
}

func TestNodeHealth(t *testing.T) {
	n := newNodeHealth([]string{"a", "b", "c"}, plainCaller)
	if got := n.choose(4); got != 1 {
		t.Errorf("worker 4 of 3 nodes uses %d; want 1", got)
	}
	n.failed(1)
	if got := n.choose(4); got != 2 {
		t.Errorf("while 1 is down, worker 4 uses %d; want 2", got)
	}
	n.failed(0)
	n.failed(2)
	if n.anyUp() {
		t.Error("a node is up after all have failed")
	}
}

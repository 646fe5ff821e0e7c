package tanodb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// logBuffer is what a node has logged, as JSON.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all of it.
func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines are those with this message.
func (l *logBuffer) lines(t *testing.T, message string) (out []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == message {
			out = append(out, m)
		}
	}
	return out
}

// A request that takes too long is logged with all that there is to tell of it, and never with its
// value.
func TestASlowRequestIsToldOf(t *testing.T) {
	var log logBuffer
	nodes, _ := NewTestCluster(t, 3, Options{SlowRequest: 1, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	n := nodes[0]
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := n.Put(t.Context(), k, kv.Value{Data: []byte("secret")}, kv.WriteOptions{W: 3, Timeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Get(t.Context(), kv.Key{Bucket: "b", Name: "none"}, kv.ReadOptions{}); !errors.Is(err, kv.ErrNotFound) {
		t.Fatal(err)
	}
	lines := log.lines(t, "a request was slow")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	put := lines[0]
	if put["op"] != "put" || put["target"] != k.String() || put["outcome"] != "ok" || put["options"] != "W=3 Timeout=5s" || put["node"] != "n1" {
		t.Errorf("%v", put)
	}
	if rs, ok := put["replies"].([]any); !ok || len(rs) != 3 || !strings.Contains(rs[0].(string), " primary ok ") {
		t.Errorf("replies: %v", put["replies"])
	}
	if strings.Contains(log.String(), "secret") {
		t.Error("a value is in the log")
	}
	if lines[1]["outcome"] != "not_found" || lines[1]["error"] == nil {
		t.Errorf("%v", lines[1])
	}
	if got := counted(t, n, "tanodb_slow_requests_total"); got != 2 {
		t.Errorf("%v are counted", got)
	}
	o := n.o
	o.SlowRequest = -1
	if err := n.Retune(o); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Get(context.Background(), k, kv.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := counted(t, n, "tanodb_slow_requests_total"); got != 2 {
		t.Errorf("with the log off %v are counted", got)
	}
}

func TestSlowRequestsDoNotFloodTheLog(t *testing.T) {
	var l slowLog
	lines := 0
	for i := range 100 {
		if _, may := l.take(time.Duration(i) * time.Millisecond); may {
			lines++
		}
	}
	if lines != slowLines {
		t.Errorf("%d lines in a tenth of a second", lines)
	}
	if unlogged, may := l.take(slowPeriod); !may || unlogged != 100-slowLines {
		t.Errorf("the next one: %v, and %d before it were not logged", may, unlogged)
	}
	if unlogged, may := l.take(slowPeriod); !may || unlogged != 0 {
		t.Errorf("and the one after that: %v, %d", may, unlogged)
	}
}

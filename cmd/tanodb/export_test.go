package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"
)

// Ctrl-C leaves whole lines, and says how to go on.
func TestAnExportThatIsInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch token := r.URL.Query().Get("token"); {
		case path.Base(r.URL.Path) == "c":
			interrupt()
			fallthrough
		case path.Base(r.URL.Path) != "keys":
			_, _ = io.WriteString(w, `{"values":[{"data":"NDI="}]}`)
		case token == "":
			_, _ = io.WriteString(w, `{"keys":["a"],"next":"t1"}`)
		case token == "t1":
			_, _ = io.WriteString(w, `{"keys":["b"],"next":"t2"}`)
		default:
			_, _ = io.WriteString(w, `{"keys":["c","d"],"next":"t3"}`)
		}
	}))
	defer server.Close()
	var out, said bytes.Buffer
	a := &app{addrs: []string{server.URL}, timeout: time.Minute, stdout: &out, stderr: &said}
	bucket := "b/1"
	c := &exportCmd{Bucket: &bucket, exchangeFlags: exchangeFlags{Format: formatJSON, Parallel: 1}}
	err := c.export(ctx, a)
	if err == nil || err.Error() != "interrupted; to go on: --bucket b%2F1 --encoded --resume t2" {
		t.Errorf("it ended with: %v", err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	if len(lines) != 3 || lines[2] != "" || !strings.Contains(lines[1], `"key":"b"`) {
		t.Errorf("it has written %q", lines)
	}
}

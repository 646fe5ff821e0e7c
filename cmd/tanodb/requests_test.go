package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestSloppyFlag(t *testing.T) {
	for line, want := range map[string]string{
		"get b k":                "",
		"get b k --no-sloppy":    "false",
		"put b k 1 --no-sloppy":  "false",
		"put b k 1":              "",
		"del b k --no-sloppy":    "false",
		"del b k --no-sloppy -r": "-", // not understood
	} {
		var got []string
		server := httptest.NewServer(noted(func(query string) { got = append(got, query) }))
		code := run(append(strings.Fields(line), "--addr", server.URL), strings.NewReader(""), io.Discard, io.Discard)
		server.Close()
		if want == "-" {
			if code != exitUsage || len(got) != 0 {
				t.Errorf("%s: exit code %d, asked for %q", line, code, got)
			}
			continue
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%s: exit code %d, sloppy_quorum is %q, want %q", line, code, got, want)
		}
	}
}

// noted is a server that refuses everything, and hands on the parameter
// sloppy_quorum of each request.
func noted(note func(string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r.URL.Query().Get("sloppy_quorum"))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
}

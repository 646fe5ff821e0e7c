package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
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

// Who has taken another port for that of HTTP is told so.
func TestAnotherPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 64))
			_, _ = conn.Write([]byte{0, 0, 0, 5, 0, 'o', 'd', 'd', '\n'}) // as Protocol Buffers do
			conn.Close()
		}
	}()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	for addr, want := range map[string]string{
		"http://" + l.Addr().String():               "does not speak HTTP: is it the address of --pb or --listen?",
		"http://" + secure.Listener.Addr().String(): "speaks TLS: ask for https://" + secure.Listener.Addr().String(),
	} {
		a := &app{addrs: []string{addr}, timeout: time.Minute}
		err := a.get(t.Context(), "/status", &struct{}{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

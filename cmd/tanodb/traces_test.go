package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
)

// What a node records reaches a collector, as OTLP over HTTP, from the request of a client of either
// protocol down to the vnode.
func TestTracesReachACollector(t *testing.T) {
	got := make(chan *collector.ExportTraceServiceRequest, 100)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		m := new(collector.ExportTraceServiceRequest)
		if err != nil || proto.Unmarshal(body, m) != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, "not understood", http.StatusBadRequest)
			return
		}
		got <- m
	}))
	defer sink.Close()
	s, err := settingsFor(t, "--name n1 --trace-ratio 1 --trace-endpoint "+sink.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := s.nodeOptions(s.now())
	o.Storage = tanodb.MemoryStorage()
	node, err := tanodb.Open("", o)
	if err != nil {
		t.Fatal(err)
	}
	at := addresses{"127.0.0.1:0", "127.0.0.1:0"}
	d, err := at.listen()
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	running := s.serve(node, s.now(), signals)
	ended := make(chan error, 1)
	go func() { ended <- running.run(d) }()
	resp, err := http.Get("http://" + at.http + "/buckets/b/keys/k")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	signals <- os.Interrupt
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	endTraces(s.spans, s.log)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	names, service := map[string]bool{}, ""
	for !names["HTTP GET"] || !names["coordinate get"] || !names["ask fetch"] {
		select {
		case m := <-got:
			for _, r := range m.GetResourceSpans() {
				for _, a := range r.GetResource().GetAttributes() {
					service += a.GetKey() + "=" + a.GetValue().GetStringValue() + " "
				}
				for _, scope := range r.GetScopeSpans() {
					for _, span := range scope.GetSpans() {
						names[span.GetName()] = true
					}
				}
			}
		case <-ctx.Done():
			t.Fatalf("the collector has got %v", names)
		}
	}
	if !strings.Contains(service, "service.name=tanodb") || !strings.Contains(service, "service.instance.id=n1") {
		t.Errorf("the spans are of %s", service)
	}
}

func TestTraceURL(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://c:4318":          "http://c:4318/v1/traces",
		"https://c/":             "https://c/v1/traces",
		"http://c:4318/x/traces": "http://c:4318/x/traces",
	} {
		if got := traceURL(endpoint); got != want {
			t.Errorf("%s: %s; want %s", endpoint, got, want)
		}
	}
	for _, line := range []string{"--trace-endpoint collector:4318", "--trace-endpoint http://u:p@c:4318", "--trace-ratio 2", "--trace-ratio NaN", "--trace-ratio x"} {
		if _, err := settingsFor(t, line); err == nil {
			t.Errorf("%s is taken", line)
		}
	}
}

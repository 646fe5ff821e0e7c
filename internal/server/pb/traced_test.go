package pb

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// watcher sees within which spans the node is asked.
type watcher struct {
	fake
	spans []trace.SpanID
}

func (w *watcher) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	w.spans = append(w.spans, trace.SpanContextFromContext(ctx).SpanID())
	return w.fake.Get(ctx, k, o)
}

// Each request is a span of its own, by the name of its message, and the node is asked within it.
func TestRequestsAreTraced(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	w := &watcher{}
	s, addr := serveOn(t, w, Options{Traces: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))})
	c := connect(t, addr)
	c.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, nil)
	c.fails(riakpb.GetReq, getOf(""), "Key cannot be zero-length")
	c.fails(77, nil, "Unknown message code: 77")
	c.alive()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := spans.GetSpans()
	want := []struct {
		name   string
		status codes.Code
	}{{"PB get", codes.Unset}, {"PB get", codes.Error}, {"PB unknown", codes.Error}, {"PB ping", codes.Unset}}
	if len(got) != len(want) {
		t.Fatalf("%d spans: %v", len(got), got.Snapshots())
	}
	for i, w := range want {
		if got[i].Name != w.name || got[i].Status.Code != w.status || got[i].Parent.IsValid() {
			t.Errorf("%d: %s %v, below %v; want %v", i, got[i].Name, got[i].Status, got[i].Parent, w)
		}
	}
	if len(w.spans) != 1 || w.spans[0] != got[0].SpanContext.SpanID() {
		t.Errorf("the node is asked within %v", w.spans)
	}
}

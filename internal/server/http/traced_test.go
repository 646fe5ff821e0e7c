package httpd

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// A client's traceparent is honoured: the span of its request, and what is done for it, are within its
// trace, and a client that does not record decides so for us.
func TestTraceparentIsHonoured(t *testing.T) {
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, tt := range []struct {
		name, traceparent string
		spans             int
		id                string // empty: any
	}{
		{"recorded", "00-" + id + "-" + parent + "-01", 1, id},
		{"not recorded", "00-" + id + "-" + parent + "-00", 0, ""},
		{"broken", "00-zz-" + parent + "-01", 1, ""},
		{"none", "", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
			var within trace.SpanContext
			h := Traced(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				within = trace.SpanContextFromContext(r.Context())
				w.WriteHeader(http.StatusServiceUnavailable)
				if _, ok := w.(http.Flusher); ok {
					w.(http.Flusher).Flush()
				}
			}), p)
			r := httptest.NewRequestWithContext(context.Background(), "GET", "/buckets/b/keys/k%2F", nil)
			if tt.traceparent != "" {
				r.Header.Set("traceparent", tt.traceparent)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := spans.GetSpans()
			if len(got) != tt.spans || w.Code != http.StatusServiceUnavailable {
				t.Fatalf("%d spans, status %d", len(got), w.Code)
			}
			if tt.spans == 0 {
				return
			}
			s := got[0]
			if s.Name != "HTTP GET" || !w.Flushed || within.SpanID() != s.SpanContext.SpanID() {
				t.Errorf("%s, flushed %v, within %v", s.Name, w.Flushed, within)
			}
			if tt.id != "" && (s.SpanContext.TraceID().String() != id || s.Parent.SpanID().String() != parent) {
				t.Errorf("it is %v below %v", s.SpanContext, s.Parent)
			}
			seen := map[string]string{}
			for _, a := range s.Attributes {
				seen[string(a.Key)] = a.Value.String()
			}
			if seen["url.path"] != "/buckets/b/keys/k%2F" || seen["http.response.status_code"] != "503" || s.Status.Description == "" {
				t.Errorf("%v, %+v", seen, s.Status)
			}
		})
	}
}

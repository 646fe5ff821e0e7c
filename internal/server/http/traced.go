package httpd

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// tracerName is what our spans are said to come from.
const tracerName = "github.com/tanodb/tanodb/internal/server/http"

// Traced records the requests of a handler as spans, within the client's trace where it has
// sent a traceparent, as W3C's Trace Context has it.
func Traced(h http.Handler, p trace.TracerProvider) http.Handler {
	tracer, context := p.Tracer(tracerName), propagation.TraceContext{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, "HTTP "+methodName(r.Method), trace.WithSpanKind(trace.SpanKindServer))
		if !span.IsRecording() {
			h.ServeHTTP(w, r)
			return
		}
		span.SetAttributes(attribute.String("http.request.method", methodName(r.Method)), attribute.String("url.path", r.URL.EscapedPath()))
		out := &watched{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			span.SetAttributes(attribute.Int("http.response.status_code", out.status))
			if out.status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, http.StatusText(out.status))
			}
			span.End()
		}()
		h.ServeHTTP(out, r.WithContext(ctx))
	})
}

// methodName is a method as a name of spans, of which there are few.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete:
		return method
	}
	return "other"
}

// watched remembers the status of an answer.
type watched struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *watched) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher: lists are sent piece by piece.
func (w *watched) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

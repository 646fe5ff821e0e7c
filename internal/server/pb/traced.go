package pb

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracerName is what our spans are said to come from.
const tracerName = "github.com/tanodb/tanodb/internal/server/pb"

// context is that of the request at hand.
func (c *conn) context() context.Context {
	if c.traced != nil {
		return c.traced
	}
	return c.base()
}

// base is the context of all requests of the connection, as long as the same user makes them.
func (c *conn) base() context.Context {
	if c.user != nil {
		return c.named
	}
	return c.server.requests
}

// trace begins the span of a request, and returns what ends it. The protocol has no place for a
// client's own trace.
func (c *conn) trace(r *request) func(failed bool) {
	name := handlers[r.code].name
	if name == "" {
		name = "unknown"
	}
	ctx, span := c.server.tracer.Start(c.base(), "PB "+name, trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return func(bool) {}
	}
	span.SetAttributes(attribute.Int("tanodb.pb.code", int(r.code)), attribute.Int("tanodb.pb.bytes", len(r.body)))
	c.traced = ctx
	return func(failed bool) {
		c.traced = nil
		if failed {
			span.SetStatus(codes.Error, "answered with an error")
		}
		span.End()
	}
}

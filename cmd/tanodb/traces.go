package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/config"
)

const (
	// traceQueue is how many spans may wait to be sent; more are dropped.
	traceQueue = 4096

	// traceFlush is how long the last spans of a server that stops may take.
	traceFlush = 2 * time.Second
)

// newTraces makes what records spans and sends them by OTLP over HTTP; nil: no endpoint is
// given. Nothing is sent, and nobody is asked, before there is a span.
func newTraces(c *config.Config, log *slog.Logger) (*trace.TracerProvider, error) {
	if c.TraceEndpoint == "" {
		return nil, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("traces cannot be sent", "endpoint", c.TraceEndpoint, "error", err)
	}))
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(traceURL(c.TraceEndpoint)))
	if err != nil {
		return nil, fmt.Errorf("cannot send traces to %s: %w", c.TraceEndpoint, err)
	}
	about := []attribute.KeyValue{attribute.String("service.name", "tanodb"), attribute.String("service.version", tanodb.Version())}
	if c.Name != "" {
		about = append(about, attribute.String("service.instance.id", c.Name))
	}
	return trace.NewTracerProvider(
		trace.WithBatcher(exporter, trace.WithMaxQueueSize(traceQueue)),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(c.Ratio()))),
		trace.WithResource(resource.NewSchemaless(about...)),
	), nil
}

// traceURL is where an endpoint takes traces, unless it says so itself.
func traceURL(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Path != "" && u.Path != "/" {
		return endpoint
	}
	return u.JoinPath("v1", "traces").String()
}

// endTraces sends what is left.
func endTraces(p *trace.TracerProvider, log *slog.Logger) {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		log.Warn("the last traces could not be sent", "error", err)
	}
}

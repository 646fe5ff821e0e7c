package tanodb

import (
	"context"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/kv"
)

// recorder keeps the spans of a cluster in memory.
func recorder(t *testing.T, sampler sdktrace.Sampler) (*tracetest.InMemoryExporter, trace.TracerProvider) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sampler))
	t.Cleanup(func() {
		if err := p.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return spans, p
}

func attr(s tracetest.SpanStub, name string) string {
	for _, a := range s.Attributes {
		if a.Key == attribute.Key(name) {
			return a.Value.String()
		}
	}
	return ""
}

// One put is one trace: the request, what was asked of each vnode, and what the vnodes of other nodes
// did, each below the one who asked, with the states of the machine as events.
func TestAPutIsOneTraceOverAllNodes(t *testing.T) {
	spans, provider := recorder(t, sdktrace.AlwaysSample())
	nodes, _ := NewTestCluster(t, 3, Options{Traces: provider})
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := nodes[0].Put(t.Context(), k, kv.Value{Data: []byte("secret")}, kv.WriteOptions{W: 3}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all spans have ended", func() bool { return len(spans.GetSpans()) >= 6 })
	byName := map[string][]tracetest.SpanStub{}
	for _, s := range spans.GetSpans() {
		byName[s.Name] = append(byName[s.Name], s)
	}
	if len(byName["coordinate put"]) != 1 || len(byName["ask coordinate"]) != 1 || len(byName["ask store"]) != 2 || len(byName["vnode store"]) != 2 {
		t.Fatalf("spans: %v", spans.GetSpans().Snapshots())
	}
	root := byName["coordinate put"][0]
	var events []string
	for _, e := range root.Events {
		events = append(events, e.Name)
	}
	if want := []string{"prepare", "execute", "waiting", "ask more", "waiting", "answered"}; !slices.Equal(events, want) {
		t.Errorf("events %v; want %v", events, want)
	}
	if attr(root, "tanodb.key") != "k" || attr(root, "tanodb.outcome") != "ok" || attr(root, "tanodb.node") != "n1" {
		t.Errorf("%v", root.Attributes)
	}
	asks := map[trace.SpanID]tracetest.SpanStub{}
	for _, s := range append(byName["ask store"], byName["ask coordinate"]...) {
		asks[s.SpanContext.SpanID()] = s
		if s.Parent.SpanID() != root.SpanContext.SpanID() || s.SpanContext.TraceID() != root.SpanContext.TraceID() || attr(s, "tanodb.answer") != "stored" {
			t.Errorf("%s is not below the request, or ends otherwise: %v", s.Name, s.Attributes)
		}
	}
	for _, s := range byName["vnode store"] {
		ask, ok := asks[s.Parent.SpanID()]
		if !ok || !s.Parent.IsRemote() || attr(ask, "tanodb.replica") != attr(s, "tanodb.node") || attr(s, "tanodb.from") != "n1" || attr(ask, "tanodb.partition") != attr(s, "tanodb.partition") {
			t.Errorf("%v is not below the question to it: %v", s.Attributes, ask.Attributes)
		}
	}
	for _, s := range spans.GetSpans() {
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), "secret") {
				t.Errorf("%s tells of the value", s.Name)
			}
		}
	}
}

// A forwarded put goes on in the same trace, and a failure is marked as one.
func TestTracesFollowWhatIsForwarded(t *testing.T) {
	spans, provider := recorder(t, sdktrace.AlwaysSample())
	nodes, _ := NewTestCluster(t, 3, Options{Traces: provider, Replicas: 1})
	k := kv.Key{Bucket: "b", Name: "k"}
	other := slices.IndexFunc(nodes, func(n *Node) bool { return n.Explain(k)[0].Node != n.Name() })
	if _, err := nodes[other].Put(t.Context(), k, kv.Value{}, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[other].Get(t.Context(), k, kv.ReadOptions{R: 5}); err == nil {
		t.Fatal("five of one replica have answered")
	}
	find := func(name string) tracetest.SpanStub {
		for _, s := range spans.GetSpans() {
			if s.Name == name {
				return s
			}
		}
		return tracetest.SpanStub{}
	}
	waitFor(t, "the put has been traced", func() bool { return find("vnode forward").Name != "" && find("coordinate forwarded put").Name != "" })
	put := find("coordinate put")
	for _, name := range []string{"ask forward", "vnode forward", "coordinate forwarded put", "ask coordinate"} {
		if s := find(name); s.SpanContext.TraceID() != put.SpanContext.TraceID() {
			t.Errorf("%s is of another trace than the put", name)
		}
	}
	if s := find("coordinate get"); attr(s, "tanodb.outcome") != "invalid" {
		t.Errorf("a get that cannot be meant: %v %v", s.Status, s.Attributes)
	}
}

// Where the sampler records nothing there are no spans anywhere, and the parent's decision counts.
func TestTracesFollowTheSampler(t *testing.T) {
	spans, provider := recorder(t, sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0)))
	nodes, _ := NewTestCluster(t, 3, Options{Traces: provider})
	k := kv.Key{Bucket: "b", Name: "k"}
	if _, err := nodes[0].Put(t.Context(), k, kv.Value{}, kv.WriteOptions{W: 3}); err != nil {
		t.Fatal(err)
	}
	if got := spans.GetSpans(); len(got) != 0 {
		t.Errorf("%v", got.Snapshots())
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	if _, err := nodes[0].Get(trace.ContextWithRemoteSpanContext(t.Context(), parent), k, kv.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the vnodes of others have been traced", func() bool {
		far := 0
		for _, s := range spans.GetSpans() {
			if s.SpanContext.TraceID() != parent.TraceID() {
				t.Fatalf("%s is of another trace", s.Name)
			}
			if s.Name == "vnode fetch" {
				far++
			}
		}
		return far == 2
	})
}

// BenchmarkTraces is puts of 1 KB by 64 clients to three nodes in memory in this process: not
// traced, with one in a hundred recorded, and all, in turn. It reports the medians over all turns of
// the CPU that those with traces take, in percent of that without; what is recorded is thrown away.
func BenchmarkTraces(b *testing.B) {
	side := func(ratio float64) *treeSide {
		var o Options
		if ratio >= 0 {
			p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(tracetest.NewNoopExporter()), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))))
			b.Cleanup(func() { _ = p.Shutdown(context.Background()) })
			o.Traces = p
		}
		cluster, _ := NewTestCluster(b, 3, o)
		return &treeSide{cluster: cluster}
	}
	sides := []*treeSide{side(-1), side(0.01), side(1)}
	var some, all []float64
	for i := 0; b.Loop(); i++ {
		for j := range sides {
			sides[(i+j)%len(sides)].round(b)
		}
		off := sides[0].cpu.Seconds()
		some = append(some, 100*sides[1].cpu.Seconds()/off)
		all = append(all, 100*sides[2].cpu.Seconds()/off)
	}
	slices.Sort(some)
	slices.Sort(all)
	b.ReportMetric(some[len(some)/2], "%cpu-1%")
	b.ReportMetric(all[len(all)/2], "%cpu-all")
}

package tanodb

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// tracerName is what our spans are said to come from.
const tracerName = "github.com/tanodb/tanodb"

// call is a client's request from its arrival to its answer, for metrics, traces and the log.
type call struct {
	node  *Node
	op    string
	key   kv.Key // of a listing, without a name
	begun time.Time
	trail *trail // nil: it is not recorded
}

// called begins a call.
func (n *Node) called(ctx context.Context, op string, k kv.Key) call {
	if measured && k.Name != "" {
		n.sketches.asked(k)
	}
	return call{node: n, op: op, key: k, begun: time.Now(), trail: n.follow(ctx, op, k)}
}

// told ends it. Tale is called for what the log is to say of it, if that is anything.
func (c *call) told(err error, tale func() story) {
	took := c.node.metrics.request(c.op, c.begun, err)
	if c.trail != nil {
		c.trail.end(err)
	}
	if most := c.node.tuning().SlowRequest; most > 0 && took >= most {
		c.node.slow.tell(c, took, err, tale)
	}
}

// trail records a request as spans: one for the request, with what its machine does as events, and
// below it one for each vnode that is asked. The machines know nothing of it: what they want done
// tells what they are at.
type trail struct {
	tracer trace.Tracer
	ctx    context.Context // carries span
	span   trace.Span

	asked, answered bool // of the one who steps the machine

	mu   sync.Mutex
	near map[int]trace.Span // of asks to vnodes of this node, by their numbers
}

// follow begins the trail of a request; nil: it is not recorded.
func (n *Node) follow(ctx context.Context, op string, k kv.Key) *trail {
	if n.tracer == nil {
		return nil
	}
	ctx, span := n.tracer.Start(ctx, "coordinate "+op, trace.WithSpanKind(trace.SpanKindInternal))
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(attribute.String("tanodb.node", n.self), attribute.String("tanodb.op", op),
		attribute.String("tanodb.type", k.Type), attribute.String("tanodb.bucket", k.Bucket), attribute.String("tanodb.key", k.Name))
	span.AddEvent("prepare")
	return &trail{tracer: n.tracer, ctx: ctx, span: span, near: make(map[int]trace.Span)}
}

// effects records what a machine wants done.
func (t *trail) effects(effects []coordinator.Effect, done bool) {
	asks := 0
	for _, e := range effects {
		switch e := e.(type) {
		case coordinator.Ask:
			asks++
		case coordinator.Refresh:
			t.span.AddEvent("renewing", trace.WithAttributes(attribute.Int64("tanodb.epoch", int64(e.Epoch))))
		case coordinator.Answer:
			t.answered = true
			t.span.AddEvent("answered")
			if !done {
				t.span.AddEvent("repairing")
			}
		case coordinator.Note:
			t.span.AddEvent(string(e.Kind), trace.WithAttributes(replica(e.Replica)...))
		}
	}
	if asks == 0 || t.answered {
		return
	}
	name := "execute"
	if t.asked {
		name = "ask more" // the second half of a put, a stand-in, or the same by a newer view
	}
	t.asked = true
	t.span.AddEvent(name, trace.WithAttributes(attribute.Int("tanodb.vnodes", asks)))
	t.span.AddEvent("waiting")
}

func replica(r ring.Replica) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("tanodb.replica", r.Node), attribute.Int("tanodb.partition", int(r.Partition)), attribute.String("tanodb.role", string(r.Role))}
}

// ask begins the span of a question to a vnode.
func (t *trail) ask(e coordinator.Ask, kind trace.SpanKind) (context.Context, trace.Span) {
	return t.tracer.Start(t.ctx, "ask "+messageName(e.Msg), trace.WithSpanKind(kind), trace.WithAttributes(replica(e.To)...))
}

// far begins the span of a question to another node, and says what goes with the question.
func (t *trail) far(e coordinator.Ask) (transport.Trace, trace.Span) {
	_, span := t.ask(e, trace.SpanKindClient)
	c := span.SpanContext()
	return transport.Trace{ID: c.TraceID(), Span: c.SpanID(), Flags: byte(c.TraceFlags())}, span
}

// local begins the span of a question to a vnode of this node.
func (t *trail) local(e coordinator.Ask) {
	_, span := t.ask(e, trace.SpanKindInternal)
	t.mu.Lock()
	t.near[e.I] = span
	t.mu.Unlock()
}

// replied takes the answer of a vnode of this node. A Minted comes before the end: what it
// tells of is not durable.
func (t *trail) replied(i int, m vnode.Message) {
	_, early := m.(*vnode.Minted)
	t.mu.Lock()
	span := t.near[i]
	if !early {
		delete(t.near, i)
	}
	t.mu.Unlock()
	if span == nil {
		return
	}
	if early {
		span.AddEvent("applied")
		return
	}
	endAsk(span, m, nil)
}

// end ends the span of the request. Those of questions end when their answers come, whoever
// still hears them.
func (t *trail) end(err error) {
	t.span.SetAttributes(attribute.String("tanodb.outcome", outcome(err)))
	switch outcome(err) {
	case "ok", "not_found", "refused", "invalid":
	default:
		t.span.SetStatus(codes.Error, err.Error())
	}
	t.span.End()
}

// endAsk ends the span of a question with its answer.
func endAsk(span trace.Span, m vnode.Message, err error) {
	switch m := m.(type) {
	case *vnode.Refusal:
		span.SetStatus(codes.Error, m.Text)
	case *vnode.Failure:
		span.SetStatus(codes.Error, m.Text)
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	} else {
		span.SetAttributes(attribute.String("tanodb.answer", messageName(m)))
	}
	span.End()
}

// messageName is the name of a message: store, fetched.
func messageName(m vnode.Message) string {
	name := fmt.Sprintf("%T", m)
	return strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
}

// served begins the span of what another node asks for, within its trace, and returns the reply
// that ends it.
func (n *Node) served(from string, f transport.Frame, reply func(vnode.Message)) func(vnode.Message) {
	if n.tracer == nil {
		return reply
	}
	_, span := n.tracer.Start(remote(f.Trace), "vnode "+messageName(f.Msg), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("tanodb.node", n.self), attribute.String("tanodb.from", from), attribute.Int("tanodb.partition", int(f.To))))
	return func(m vnode.Message) {
		endAsk(span, m, nil)
		reply(m)
	}
}

// remote is a context below the span of another node.
func remote(t transport.Trace) context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: t.ID, SpanID: t.Span, TraceFlags: trace.TraceFlags(t.Flags), Remote: true,
	}))
}

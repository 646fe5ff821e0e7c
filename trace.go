package tanodb

import (
	"context"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// TraceKind says what a TraceEvent tells.
type TraceKind string

// The kinds of trace events.
const (
	TraceBegin   TraceKind = "begin"    // the request is prepared
	TraceAsk     TraceKind = "ask"      // a replica is asked for something
	TraceReply   TraceKind = "reply"    // a replica has answered
	TraceNotSent TraceKind = "not_sent" // what was asked has certainly reached nobody
	TraceLost    TraceKind = "lost"     // no answer will come
	TraceDown    TraceKind = "down"     // a node is now held to be down
	TraceRenew   TraceKind = "renew"    // a newer topology is fetched, or has come
	TraceRepair  TraceKind = "repair"   // a replica was found to have less than the others
	TraceAnswer  TraceKind = "answer"   // the client is answered
	TraceEnd     TraceKind = "end"      // nothing more will be done, or be told
)

// TraceEvent is one thing that happens to a request on the node that coordinates it. They
// come in the order in which they happen.
type TraceEvent struct {
	At      time.Duration // since the request began
	Phase   string        // prepare, execute, waiting, renewing, repairing or done; of a delete also reading and writing
	Kind    TraceKind
	Ask     int     // the number of the question, that its answer has too; -1: it is about none
	Replica Replica // who is asked, or has answered
	Text    string  // what is asked or answered
	OK      bool    // of a reply: the replica did what it was asked
	Tally   string  // how the counting stands after it, as in "R 1/2: pending (n1 + n2 . n3 .)"
}

type traceKey struct{}

// WithTrace has Get, Put, Delete, Fetch and Update tell fn what happens to the requests of the context. A read
// goes on after its answer, to repair replicas: fn may be called when Get has returned, until
// a TraceEnd has come. It is called by whoever brings an event, one call of a request after the
// other, and must return at once.
func WithTrace(ctx context.Context, fn func(TraceEvent)) context.Context {
	return context.WithValue(ctx, traceKey{}, fn)
}

// tracer tells what happens to one request. Nil tells nobody.
type tracer struct {
	tell  func(TraceEvent)
	begun time.Duration
	asked map[int]ring.Replica // by the number of the ask
	ended bool
}

func newTracer(ctx context.Context, now time.Duration) *tracer {
	fn, _ := ctx.Value(traceKey{}).(func(TraceEvent))
	if fn == nil {
		return nil
	}
	return &tracer{tell: fn, begun: now, asked: make(map[int]ring.Replica)}
}

// step tells of one step of the machine: the event, and then what it has led to. Before
// is the phase that the machine was in.
func (t *tracer) step(now time.Duration, before coordinator.Phase, ev coordinator.Event, effects []coordinator.Effect, m coordinator.Machine) {
	p, ok := m.(coordinator.Phased)
	if t == nil || !ok {
		return
	}
	base := TraceEvent{At: now - t.begun, Phase: string(before), Ask: -1, Tally: p.Count()}
	if e, ok := t.heard(base, ev); ok {
		t.tell(e)
	}
	base.Phase = string(leadingTo(before, p.Phase()))
	for _, effect := range effects {
		if e, ok := t.wanted(base, effect); ok {
			t.tell(e)
		}
		if _, ok := effect.(coordinator.Answer); ok && p.Phase() != coordinator.Done {
			base.Phase = string(p.Phase())
		} else if ok {
			base.Phase = string(coordinator.Repairing)
		}
	}
	if m.Done() {
		t.end(now)
	}
}

// leadingTo is the phase in which a machine wants what it wants, when it was in one phase and is in
// another. A delete has a phase for each of its two halves.
func leadingTo(before, after coordinator.Phase) coordinator.Phase {
	switch {
	case after == coordinator.Reading, after == coordinator.Writing:
		return after
	case before == coordinator.Preparing:
		return coordinator.Executing
	}
	return before
}

// phaseOf is the phase of a machine that has one.
func phaseOf(m coordinator.Machine) coordinator.Phase {
	if p, ok := m.(coordinator.Phased); ok {
		return p.Phase()
	}
	return ""
}

// heard is what an event means to those who watch; false: nothing.
func (t *tracer) heard(e TraceEvent, ev coordinator.Event) (TraceEvent, bool) {
	switch ev := ev.(type) {
	case coordinator.Start:
		e.Kind = TraceBegin
	case coordinator.Replied:
		e.Kind, e.Ask = TraceReply, ev.I
		e.Text, e.OK = answerText(ev.Msg)
	case coordinator.NotSent:
		e.Kind, e.Ask, e.Text = TraceNotSent, ev.I, ev.Why
	case coordinator.Lost:
		e.Kind, e.Ask, e.Text = TraceLost, ev.I, ev.Why
	case coordinator.NodeDown:
		e.Kind, e.Replica.Node = TraceDown, ev.Node
	case coordinator.Refreshed:
		e.Kind, e.Text = TraceRenew, fmt.Sprintf("the topology of epoch %d has come", ev.View.Epoch)
	default:
		return e, false
	}
	if r, ok := t.asked[e.Ask]; ok {
		e.Replica = Replica{int(r.Partition), r.Node, r.Role}
	}
	return e, true
}

// wanted is what an effect means to those who watch; false: nothing.
func (t *tracer) wanted(e TraceEvent, effect coordinator.Effect) (TraceEvent, bool) {
	switch w := effect.(type) {
	case coordinator.Ask:
		t.asked[w.I] = w.To
		e.Kind, e.Ask, e.Replica, e.Text = TraceAsk, w.I, Replica{int(w.To.Partition), w.To.Node, w.To.Role}, questionText(w.Msg)
	case coordinator.Refresh:
		e.Kind, e.Text = TraceRenew, fmt.Sprintf("%s knows the topology of epoch %d: it is fetched", w.Node, w.Epoch)
	case coordinator.Note:
		if w.Kind == coordinator.NoteSiblings {
			return e, false
		}
		e.Kind, e.Replica, e.Text = TraceRepair, Replica{int(w.Replica.Partition), w.Replica.Node, w.Replica.Role}, noteText(w)
	case coordinator.Answer:
		e.Kind = TraceAnswer
	default:
		return e, false
	}
	return e, true
}

// end tells that there will be no more, once.
func (t *tracer) end(now time.Duration) {
	if t == nil || t.ended {
		return
	}
	t.ended = true
	t.tell(TraceEvent{At: now - t.begun, Phase: string(coordinator.Done), Kind: TraceEnd, Ask: -1})
}

// questionText is what a replica is asked to do.
func questionText(m vnode.Message) string {
	switch m := m.(type) {
	case *vnode.Fetch:
		return "read"
	case *vnode.Coordinate:
		switch {
		case m.Write.Deleted:
			return "make the tombstone"
		case m.Write.Op != nil:
			return "apply the operation"
		}
		return "make the new version"
	case *vnode.Store:
		return "store this version"
	case *coordinator.Forward:
		return "coordinate this write"
	}
	return fmt.Sprintf("%T", m)
}

// answerText is what a replica says, and whether it did what it was asked.
func answerText(m vnode.Message) (text string, ok bool) {
	switch m := m.(type) {
	case *vnode.Fetched:
		if len(m.Object) == 0 {
			return "has nothing", true
		}
		return fmt.Sprintf("has %d bytes", len(m.Object)), true
	case *vnode.Minted:
		return "made the version", true
	case *vnode.Stored:
		return "stored", true
	case *coordinator.Forwarded:
		if m.Err != nil {
			return m.Err.Error(), false
		}
		return "coordinated", true
	}
	return refusalText(m), false
}

// noteText says why a replica is repaired.
func noteText(n coordinator.Note) string {
	switch n.Kind {
	case coordinator.NoteRepairStale:
		return "has an older version, and is sent the merged one"
	case coordinator.NoteRepairMissing:
		return "has nothing, and is sent the merged version"
	case coordinator.NoteRepairCorrupt:
		return "has what cannot be read, and is sent the merged version"
	}
	return n.Text
}

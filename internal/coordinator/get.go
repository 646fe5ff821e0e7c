package coordinator

import (
	"bytes"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// repairPatience is how long a get that is answered waits for the replicas
// that are late, to repair them too.
const repairPatience = 2 * time.Second

// GetRequest is what a Get is to do.
type GetRequest struct {
	Key     kv.Key
	Options kv.ReadOptions
}

// Get reads a key: the merge of what R replicas have. After the answer it
// waits for the late ones, and sends the merged object to every replica that
// was found to have less.
//
//	prepare ──▶ execute ──▶ waiting ──▶ repairing ──▶ done
//	            all N are   (answers    the late answer,
//	            asked       when R      the stale are sent
//	                        have)       the merged object
type Get struct {
	plan
	req        GetRequest
	view       View
	notFoundOK bool
	basic      bool
	ofDelete   bool // the get is the first half of a delete: it repairs nothing, since the write will

	merged   object.Object
	sample   []byte        // the first answer that was not empty
	sampled  object.Object // the same, decoded
	have     []have
	missing  int // replicas that answered and have nothing
	step     func(now time.Duration, ev Event, out []Effect) []Effect
	lingers  time.Duration // when the answer goes out though others are open; 0: not decided yet
	until    time.Duration // when an answered get waits for late replicas no more
	object   kv.Object
	err      error
	answered bool
	done     bool
}

// have is what one replica answered.
type have struct {
	answered bool
	corrupt  bool
	enc      []byte // nil: nothing
}

// NewGet returns the machine of a read.
func NewGet(v View, r GetRequest) *Get {
	g := &Get{req: r, view: v}
	g.step = g.prepare
	return g
}

// Result is the outcome, once an Answer effect has come.
func (g *Get) Result() (kv.Object, error) { return g.object, g.err }

// Done is true once the get is answered and nothing is left to repair.
func (g *Get) Done() bool { return g.done }

// Step consumes one event.
func (g *Get) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if g.done {
		return out
	}
	return g.step(now, ev, out)
}

// prepare resolves the options, chooses the replicas, and refuses what cannot
// succeed.
func (g *Get) prepare(now time.Duration, _ Event, out []Effect) []Effect {
	if err := g.resolve(); err != nil {
		return g.end(now, out, err)
	}
	if g.tally.Verdict() == quorum.Lost {
		return g.end(now, out, g.failure(false, false))
	}
	return g.execute(out)
}

func (g *Get) resolve() (err error) {
	o := &g.req.Options
	op := "get"
	if g.ofDelete {
		op = "delete"
	}
	if g.plan, err = newPlan(op, g.view, g.req.Key, o.N, o.Timeout, o.Linger); err != nil {
		return err
	}
	n := len(g.replicas)
	g.have = make([]have, n)
	g.notFoundOK = o.NotFoundOK.Or(true)
	g.absent = !g.notFoundOK
	g.basic = o.BasicQuorum.Or(false)
	reqs := make([]quorum.Requirement, 0, 3)
	if reqs, err = requirement(reqs, "R", atLeastOne(o.R), kv.Majority, n); err != nil {
		return err
	}
	if reqs, err = requirement(reqs, "PR", o.PR, kv.None, n); err != nil {
		return err
	}
	if reqs, err = confirms(reqs, o.NodeConfirms, n); err != nil {
		return err
	}
	g.count(reqs, g.view.Up)
	return nil
}

// execute asks every replica that is up.
func (g *Get) execute(out []Effect) []Effect {
	msg := &vnode.Fetch{Home: g.home, Key: g.key}
	for i, r := range g.replicas {
		if g.replies[i].Result != kv.Pending {
			continue
		}
		g.waits[i] = true
		out = append(out, Ask{I: i, To: r, Msg: msg})
	}
	g.step = g.waiting
	return append(out, Wake{At: g.deadline})
}

// waiting counts the answers until none still to come could change the outcome.
func (g *Get) waiting(now time.Duration, ev Event, out []Effect) []Effect {
	out = g.hear(now, ev, out)
	switch g.tally.Verdict() {
	case quorum.Met:
		if g.lingers == 0 && g.linger > 0 {
			g.lingers = now + g.linger
			out = append(out, Wake{At: g.lingers})
		}
		if now >= g.lingers || now >= g.deadline || !g.open() {
			return g.end(now, out, nil)
		}
	case quorum.Lost:
		return g.end(now, out, g.refused())
	default:
		if g.basic && !g.notFoundOK && g.missing > len(g.replicas)/2 {
			return g.end(now, out, g.refused())
		}
		if _, ok := ev.(Tick); ok && now >= g.deadline {
			return g.end(now, out, g.failure(true, false))
		}
	}
	return out
}

// refused is the error of a read that too few replicas granted. If they only
// had nothing, that is the answer.
func (g *Get) refused() error {
	for _, r := range g.replies {
		if r.Result != kv.NotFound && r.Result != kv.Pending {
			return g.failure(false, false)
		}
	}
	return kv.ErrNotFound
}

// hear takes one replica's answer, or its silence.
func (g *Get) hear(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		return g.replied(now, ev, out)
	case NotSent:
		g.deny(now, ev.I, kv.Refused, ev.Why)
	case Lost:
		g.deny(now, ev.I, kv.Failed, ev.Why)
	case NodeDown:
		g.nodeDown(now, ev.Node)
	}
	return out
}

func (g *Get) replied(now time.Duration, ev Replied, out []Effect) []Effect {
	switch m := ev.Msg.(type) {
	case *vnode.Fetched:
		return g.fetched(now, ev.I, m.Object, out)
	case *vnode.Refusal:
		g.deny(now, ev.I, kv.Refused, m.Text)
	case *vnode.Failure:
		if m.Code == vnode.CodeCorrupt {
			return g.spoiled(now, ev.I, m.Text, out)
		}
		g.deny(now, ev.I, kv.Failed, m.Text)
	default:
		g.deny(now, ev.I, kv.Failed, fmt.Sprintf("answered with %T", m))
	}
	return out
}

// fetched merges what a replica has.
func (g *Get) fetched(now time.Duration, i int, enc []byte, out []Effect) []Effect {
	h := &g.have[i]
	if h.answered || h.corrupt {
		g.tally.Grant(i) // a second answer of one replica counts once
		return out
	}
	obj, err := g.decode(enc)
	if err != nil {
		return g.spoiled(now, i, err.Error(), out)
	}
	h.answered, h.enc = true, enc
	if !planted.Is(planted.GetFirstAnswer) || len(g.merged.Clock) == 0 {
		g.merged = object.Merge(g.merged, obj)
	}
	if obj.Live(g.wallMs(now)) {
		g.grant(now, i, kv.Found)
		return out
	}
	g.missing++
	if g.notFoundOK {
		g.grant(now, i, kv.NotFound)
	} else {
		g.deny(now, i, kv.NotFound, "")
	}
	return out
}

// spoiled records that what a replica has cannot be read. It will be sent what
// the others have.
func (g *Get) spoiled(now time.Duration, i int, why string, out []Effect) []Effect {
	if h := &g.have[i]; h.answered || h.corrupt {
		return out
	}
	g.have[i].corrupt = true
	g.deny(now, i, kv.Failed, why)
	return append(out, Note{Kind: NoteCorrupt, Replica: g.replicas[i], Text: g.key.String() + ": " + why})
}

// decode decodes an answer. Mostly they are all the same, and one does for all.
func (g *Get) decode(enc []byte) (object.Object, error) {
	if len(enc) == 0 {
		return object.Object{}, nil
	}
	if bytes.Equal(g.sample, enc) {
		return g.sampled, nil
	}
	obj, err := object.Decode(enc)
	if err == nil && g.sample == nil {
		g.sample, g.sampled = enc, obj
	}
	return obj, err
}

func (g *Get) wallMs(now time.Duration) int64 {
	return g.view.Wall.Add(now - g.start).UnixMilli()
}

// end answers, and goes on to repair if the answer was one.
func (g *Get) end(now time.Duration, out []Effect, err error) []Effect {
	g.answered = true
	g.err = err
	g.object.Replies = g.replies
	if err == nil || err == kv.ErrNotFound {
		g.show(now)
	}
	if n := len(g.object.Values); n > 1 {
		out = append(out, Note{Kind: NoteSiblings, Replica: g.replicas[0], Text: g.key.String() + " has " + itoa(n) + " values"})
	}
	out = append(out, Answer{})
	if g.err != nil && g.err != kv.ErrNotFound || g.ofDelete {
		g.done = true
		return out
	}
	g.step = g.repairing
	if !g.open() {
		return g.repair(out)
	}
	g.until = now + repairPatience
	return append(out, Wake{At: g.until})
}

// show turns the merged object into what the caller sees. Replies is copied,
// since late answers still come in.
func (g *Get) show(now time.Duration) {
	g.object.Replies = append([]kv.Reply(nil), g.replies...)
	if want, differ := g.want(); differ && !g.ofDelete {
		for i := range g.object.Replies {
			g.object.Replies[i].Repaired = g.stale(i, want)
		}
	}
	if len(g.merged.Clock) > 0 {
		g.object.Context = object.EncodeContext(g.key, g.merged.Clock)
	}
	values, err := g.merged.Values(g.key, g.wallMs(now), g.req.Options.Tombstones, g.req.Options.Head)
	if err != nil {
		g.err = err
		return
	}
	g.object.Values = values
	if g.err == nil && !g.merged.Live(g.wallMs(now)) {
		g.err = kv.ErrNotFound
	}
}

// repairing collects the late answers.
func (g *Get) repairing(now time.Duration, ev Event, out []Effect) []Effect {
	out = g.hear(now, ev, out)
	_, tick := ev.(Tick)
	if g.open() && !(tick && now >= g.until) {
		return out
	}
	return g.repair(out)
}

// repair sends the merged object to every replica that has less.
func (g *Get) repair(out []Effect) []Effect {
	g.done = true
	want, differ := g.want()
	if !differ {
		return out
	}
	msg := &vnode.Store{Home: g.home, Key: g.key, Object: want}
	for i, r := range g.replicas {
		if !g.stale(i, want) {
			continue
		}
		kind := NoteRepairStale
		switch {
		case g.have[i].corrupt:
			kind = NoteRepairCorrupt
		case len(g.have[i].enc) == 0:
			kind = NoteRepairMissing
		}
		out = append(out, Ask{I: len(g.replicas) + i, To: r, Msg: msg}, Note{Kind: kind, Replica: r})
	}
	return out
}

// want is what every replica should have, and whether any that answered
// differs from it.
func (g *Get) want() ([]byte, bool) {
	var first []byte
	seen, differ := false, false
	for i := range g.have {
		h := &g.have[i]
		if h.corrupt {
			differ = true
		}
		if !h.answered {
			continue
		}
		if seen && !bytes.Equal(first, h.enc) {
			differ = true
		}
		if !seen {
			first, seen = h.enc, true
		}
	}
	if !differ || len(g.merged.Clock) == 0 {
		return nil, false
	}
	if planted.Is(planted.RepairReplaces) && first != nil {
		return first, true
	}
	return g.merged.Encode(), true
}

// stale reports whether replica i should be sent what is wanted.
func (g *Get) stale(i int, want []byte) bool {
	h := &g.have[i]
	if planted.Is(planted.RepairSkipsAbsent) && len(h.enc) == 0 {
		return false
	}
	return h.corrupt || h.answered && !bytes.Equal(h.enc, want)
}

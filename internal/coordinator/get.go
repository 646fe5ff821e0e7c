package coordinator

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/crdt"
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
//	   ▲        all N are   (answers    the late answer,
//	   │        asked       when R      the stale are sent
//	   │                    have)       the merged object
//	   └── stale view: a newer one ┘
//
// A node that stands in for another may not have been written to before: that
// it has nothing says nothing of the key.
type Get struct {
	plan
	req        GetRequest
	notFoundOK bool
	basic      bool
	ofData     bool // the get is of a data type, which its bucket must have
	ofDelete   bool // the get is the first half of a delete: it repairs nothing, since the write will

	merged   object.Object
	sample   []byte        // the first answer that was not empty
	sampled  object.Object // the same, decoded
	have     []have        // by replica
	missing  int           // places that answered and have nothing
	step     func(_ *Get, now time.Duration, ev Event, out []Effect) []Effect
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
	g := &Get{plan: plan{view: v}, req: r}
	g.step = (*Get).prepare
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
	return g.step(g, now, ev, out)
}

// prepare resolves the options, chooses the replicas, and refuses what cannot
// succeed.
func (g *Get) prepare(now time.Duration, _ Event, out []Effect) []Effect {
	if err := g.resolve(); err != nil {
		return g.end(now, out, err)
	}
	return g.execute(now, out)
}

// resolve resolves what the request says, and makes the plan.
func (g *Get) resolve() error {
	o := &g.req.Options
	op := "get"
	switch {
	case g.ofDelete:
		op = "delete"
	case g.ofData:
		op = "fetch"
	}
	if err := g.init(op, g.req.Key, o.N, o.Timeout, o.Linger); err != nil {
		return err
	}
	if g.ofData {
		if _, err := kindOf(g.key, g.props); err != nil {
			return err
		}
	}
	g.notFoundOK = o.NotFoundOK.Or(g.props.NotFoundOK)
	g.absent = !g.notFoundOK
	g.basic = o.BasicQuorum.Or(g.props.BasicQuorum)
	g.sloppy = o.SloppyQuorum.Or(g.props.SloppyQuorum)
	g.msg = &vnode.Fetch{Home: g.home, Key: g.key}
	return g.draw()
}

// draw makes the plan by the view. Reads are the owners' alone: those who come
// next may not have everything yet.
func (g *Get) draw() error {
	g.choose(nil)
	o := &g.req.Options
	n := g.size()
	reqs, err := requirement(make([]quorum.Requirement, 0, 3), "R", atLeastOne(o.R), atLeastOne(g.props.R), n)
	if err != nil {
		return err
	}
	if reqs, err = requirement(reqs, "PR", o.PR, g.props.PR, n); err != nil {
		return err
	}
	if reqs, err = confirms(reqs, cmp.Or(o.NodeConfirms, g.props.NodeConfirms), n); err != nil {
		return err
	}
	g.count(reqs)
	g.have = make([]have, len(g.places))
	return nil
}

// execute asks every replica that is up.
func (g *Get) execute(now time.Duration, out []Effect) []Effect {
	if g.tally.Verdict() == quorum.Lost {
		return g.end(now, out, g.failure(false, false))
	}
	g.step = (*Get).waiting
	out = g.askAll(out)
	if g.refreshes == 0 {
		out = append(out, Wake{At: g.deadline})
	}
	return g.hedgeLater(now, out)
}

// waiting counts the answers until none still to come could change the outcome.
func (g *Get) waiting(now time.Duration, ev Event, out []Effect) []Effect {
	out = g.hear(now, ev, out)
	if g.refreshing {
		return out
	}
	switch g.tally.Verdict() {
	case quorum.Met:
		if g.lingers == 0 {
			if g.lingers = now + g.patience(now); g.lingers > now {
				out = append(out, Wake{At: g.lingers})
			}
		}
		if now >= g.lingers || now >= g.deadline || !g.open() || g.linger == 0 && g.patience(now) == 0 {
			return g.end(now, out, nil)
		}
	case quorum.Lost:
		return g.end(now, out, g.refused(now))
	default:
		if g.basic && !g.notFoundOK && g.missing > g.size()/2 {
			return g.end(now, out, g.refused(now))
		}
		if _, ok := ev.(Tick); ok && now >= g.deadline {
			if g.lastResort(now); g.tally.Verdict() == quorum.Met {
				return g.end(now, out, nil)
			}
			return g.end(now, out, g.failure(true, false))
		} else if ok {
			return g.hedgeSlow(now, out)
		}
	}
	return out
}

// patience is how long a read that has what it needs waits for the other
// replicas. One that has found nothing gives them the time in which a replica that is up answers:
// what was acknowledged while some were away may be on one of them only.
func (g *Get) patience(now time.Duration) time.Duration {
	if g.ofDelete || g.live(now, g.merged) {
		return g.linger
	}
	return max(g.linger, HedgeAfter)
}

// renewing waits for a newer view, to begin again with it.
func (g *Get) renewing(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Refreshed:
		g.refreshed()
		g.view.refresh(&ev.View)
		g.merged, g.sample, g.sampled, g.missing = object.Object{}, nil, object.Object{}, 0
		if err := g.draw(); err != nil {
			return g.end(now, out, err)
		}
		return g.execute(now, out)
	case Tick:
		if now >= g.deadline {
			return g.end(now, out, g.failure(true, false))
		}
	}
	return out
}

// refused is the error of a read that too few replicas granted. If the places
// only had nothing, that is the answer.
func (g *Get) refused(now time.Duration) error {
	if g.live(now, g.merged) {
		return g.failure(false, false) // one that was given up has something after all
	}
	for i := range g.replies {
		switch g.replies[i].Result {
		case kv.NotFound, kv.Pending:
		case kv.Found:
			return g.failure(false, false)
		default:
			if g.isPlace(i) {
				return g.failure(false, false)
			}
		}
	}
	return kv.ErrNotFound
}

// hear takes one replica's answer, or its silence.
func (g *Get) hear(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		if i := g.find(ev.I); i >= 0 {
			return g.replied(now, i, ev.Msg, out)
		}
	case NotSent:
		return g.fail(now, g.find(ev.I), kv.Refused, ev.Why, out)
	case Lost:
		return g.fail(now, g.find(ev.I), kv.Failed, ev.Why, out)
	case NodeDown:
		return g.nodeDown(now, ev.Node, out)
	}
	return out
}

func (g *Get) replied(now time.Duration, i int, msg vnode.Message, out []Effect) []Effect {
	switch m := msg.(type) {
	case *vnode.Fetched:
		return g.fetched(now, i, m.Object, out)
	case *vnode.Refusal:
		if !g.answered && g.tally.Verdict() == quorum.Pending && g.replies[i].Result == kv.Pending && g.stale(m) {
			g.told(now, i, kv.Refused, m.Text) // it is not denied: who stands in for it by an old view counts for nothing
			g.step = (*Get).renewing
			return g.refresh(m, g.places[i].Node, out)
		}
		return g.fail(now, i, kv.Refused, m.Text, out)
	case *vnode.Failure:
		if m.Code == vnode.CodeCorrupt {
			return g.spoiled(now, i, m.Text, out)
		}
		return g.fail(now, i, kv.Failed, m.Text, out)
	}
	return g.fail(now, i, kv.Failed, fmt.Sprintf("answered with %T", msg), out)
}

// held is where replica i's answer is kept.
func (g *Get) held(i int) *have {
	for len(g.have) <= i {
		g.have = append(g.have, have{})
	}
	return &g.have[i]
}

// fetched merges what a replica has.
func (g *Get) fetched(now time.Duration, i int, enc []byte, out []Effect) []Effect {
	h := g.held(i)
	if h.answered || h.corrupt {
		g.tally.Grant(i) // a second answer of one replica counts once
		return out
	}
	standsIn := g.places[i].Role == kv.Fallback
	if standsIn && len(enc) == 0 && !planted.Is(planted.FallbackAbsent) {
		g.deny(now, i, kv.Refused, "it stands in, and has nothing")
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
	if g.live(now, obj) {
		g.grant(now, i, kv.Found)
		return out
	}
	if !standsIn {
		g.missing++
	}
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
	h := g.held(i)
	if h.answered || h.corrupt {
		return out
	}
	h.corrupt = true
	g.deny(now, i, kv.Failed, why)
	return append(out, Note{Kind: NoteCorrupt, Replica: g.places[i].Replica, Text: g.key.String() + ": " + why})
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

// live reports whether a reader would find a value in the object.
func (g *Get) live(now time.Duration, o object.Object) bool {
	return o.Shown(g.props).Live(g.wallMs(now))
}

// values are what the readers of a bucket see of an object; of a data type it is one
// value.
func values(o object.Object, p *kv.Props, k kv.Key, nowMs int64, tombstones, head bool) ([]kv.Value, error) {
	o, err := crdt.Shown(o.Shown(p), nowMs)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", kv.ErrInternal, k, err)
	}
	return o.Values(k, nowMs, tombstones, head)
}

func (g *Get) wallMs(now time.Duration) int64 {
	return g.view.Wall.Add(now - g.start).UnixMilli()
}

// end answers, and goes on to repair if the answer was one.
func (g *Get) end(now time.Duration, out []Effect, err error) []Effect {
	g.answered = true
	g.err = err
	g.object.Replies = g.story()
	if err == nil || err == kv.ErrNotFound {
		g.show(now)
	}
	if n := len(g.object.Values); n > 1 {
		out = append(out, Note{Kind: NoteSiblings, Replica: g.places[0].Replica, Text: g.key.String() + " has " + itoa(n) + " values"})
	}
	out = append(out, Answer{})
	if g.err != nil && g.err != kv.ErrNotFound || g.ofDelete {
		g.done = true
		return out
	}
	g.step = (*Get).repairing
	if !g.open() {
		return g.repair(out)
	}
	g.until = now + repairPatience
	return append(out, Wake{At: g.until})
}

// show turns the merged object into what the caller sees. Replies is copied,
// since late answers still come in.
func (g *Get) show(now time.Duration) {
	if want, differ := g.want(); differ && !g.ofDelete {
		for i := range g.replies {
			g.replies[i].Repaired = g.lacks(i, want)
		}
	}
	g.object.Replies = slices.Clone(g.story())
	if len(g.merged.Clock) > 0 {
		g.object.Context = object.EncodeContext(g.key, g.merged.Clock)
	}
	values, err := values(g.merged, g.props, g.key, g.wallMs(now), g.req.Options.Tombstones, g.req.Options.Head)
	if err != nil {
		g.err = err
		return
	}
	g.object.Values = values
	if g.err == nil && !g.live(now, g.merged) {
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

// repair sends the merged object to every place that has less. Who stands in
// will hand over what it has, and needs no more.
func (g *Get) repair(out []Effect) []Effect {
	g.done = true
	want, differ := g.want()
	if !differ {
		return out
	}
	msg := &vnode.Store{Home: g.home, Key: g.key, Object: want}
	for i := range g.have {
		if !g.lacks(i, want) {
			continue
		}
		kind := NoteRepairStale
		switch {
		case g.have[i].corrupt:
			kind = NoteRepairCorrupt
		case len(g.have[i].enc) == 0:
			kind = NoteRepairMissing
		}
		to := g.places[i].Replica
		out = append(out, Ask{I: g.nextNumber(), To: to, Epoch: g.view.Epoch, Msg: msg}, Note{Kind: kind, Replica: to})
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

// lacks reports whether replica i should be sent what is wanted.
func (g *Get) lacks(i int, want []byte) bool {
	if i >= len(g.have) || g.places[i].Role == kv.Fallback {
		return false
	}
	h := &g.have[i]
	if planted.Is(planted.RepairSkipsAbsent) && len(h.enc) == 0 {
		return false
	}
	return h.corrupt || h.answered && !bytes.Equal(h.enc, want)
}

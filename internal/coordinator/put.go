package coordinator

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// PutRequest is what a Put is to do.
type PutRequest struct {
	Key     kv.Key
	Value   kv.Value // of a put
	Deleted bool     // write a tombstone
	Options kv.WriteOptions

	// Forwarded says that the write comes from another node: it is
	// coordinated here or refused, and not forwarded again.
	Forwarded bool
}

// Put writes a new version of a key, or a tombstone.
//
//	prepare ──▶ execute ──────────▶ waiting ─────▶ done
//	   │        one vnode of the    the others     (answered)
//	   │        preference list     are sent the
//	   │        makes the version   version; count
//	   │          │        ▲
//	   │          └────────┘ refused, not reached: the next one
//	   ▼
//	 refused at once: cannot be meant, too few replicas up
//
// The coordinating vnode is one of this node, if this node is in the
// preference list. Its own commit and the sends to the others run in parallel.
// Otherwise the whole request is forwarded to a node that is in the list. A
// forwarded write that may have arrived is never sent again: carried out twice, it would
// stand under two dots, and overwriting the one would leave the other.
type Put struct {
	plan
	req        PutRequest
	view       View
	seen       object.Vector
	write      vnode.Write
	base       int   // added to the numbers of asks
	candidates []int // replicas that may coordinate, best first
	at         int   // the one that is asked now
	forwarded  bool  // it was asked by a Forward
	minted     []byte
	step       func(now time.Duration, ev Event, out []Effect) []Effect
	lingerEnd  time.Duration
	result     Forwarded
	answered   bool
}

// NewPut returns the machine of a write.
func NewPut(v View, r PutRequest) *Put {
	p := &Put{req: r, view: v}
	p.step = p.prepare
	return p
}

// Result is the outcome, once an Answer effect has come.
func (p *Put) Result() (kv.Receipt, error) { return p.result.Receipt, p.result.Err }

// Done is true once the write is answered: what other replicas still do with
// it is theirs.
func (p *Put) Done() bool { return p.answered }

// Step consumes one event.
func (p *Put) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if p.answered {
		return out
	}
	return p.step(now, ev, out)
}

// prepare resolves the options, chooses the replicas, and refuses what cannot succeed.
func (p *Put) prepare(now time.Duration, _ Event, out []Effect) []Effect {
	if err := p.resolve(); err != nil {
		return p.end(out, err)
	}
	if p.tally.Verdict() == quorum.Lost {
		return p.end(out, p.failure(false, false))
	}
	p.choose()
	if len(p.candidates) == 0 && p.req.Forwarded {
		return p.end(out, &kv.InvalidError{What: "forwarded write", Problem: "reached node " + p.view.Self + ", which holds no replica of " + p.key.String()})
	}
	out = append(out, Wake{At: p.deadline})
	p.step = p.execute
	return p.next(now, out, nil)
}

func (p *Put) resolve() (err error) {
	o := &p.req.Options
	op := "put"
	if p.req.Deleted {
		op = "delete"
	}
	if p.plan, err = newPlan(op, p.view, p.req.Key, o.N, o.Timeout, o.Linger); err != nil {
		return err
	}
	if p.seen, err = object.DecodeContext(p.req.Key, o.Context); err != nil {
		return err
	}
	p.write.Deleted = p.req.Deleted
	if !p.req.Deleted {
		if err = p.req.Value.Validate(); err != nil {
			return err
		}
		p.write.Body = object.AppendBody(nil, &p.req.Value)
		if e := p.req.Value.Expires; !e.IsZero() {
			p.write.Expires = max(1, e.UnixMilli())
		}
	}
	reqs, err := p.requirements()
	if err != nil {
		return err
	}
	p.count(reqs, p.view.Up)
	return nil
}

func (p *Put) requirements() ([]quorum.Requirement, error) {
	o := &p.req.Options
	n := len(p.replicas)
	reqs := make([]quorum.Requirement, 0, 4)
	var err error
	for _, q := range []struct {
		name    string
		is, def kv.Quorum
	}{{"W", o.W, kv.Majority}, {"DW", p.dw(), kv.None}, {"PW", o.PW, kv.None}} {
		if reqs, err = requirement(reqs, q.name, q.is, q.def, n); err != nil {
			return nil, err
		}
	}
	if planted.Is(planted.CountWMinusOne) {
		for i := range reqs {
			reqs[i].Need--
		}
	}
	return confirms(reqs, o.NodeConfirms, n)
}

// dw is the requirement DW. A replica confirms when the version is as durable
// as its node promises, so that DW counts the same answers as W, and is only told apart
// where it was asked for. At least one replica must have stored the write.
func (p *Put) dw() kv.Quorum {
	o := &p.req.Options
	if o.DW == kv.Default && o.W == kv.None {
		return kv.One
	}
	return atLeastOne(o.DW)
}

// choose orders the replicas that may coordinate: those of this node, then,
// unless the write was forwarded here, one of each other node, the least loaded
// first and equals by chance.
func (p *Put) choose() {
	p.candidates = make([]int, 0, len(p.replicas))
	for i, r := range p.replicas {
		if r.Node == p.view.Self {
			p.candidates = append(p.candidates, i)
		}
	}
	here := len(p.candidates)
	if p.req.Forwarded {
		return
	}
	for i, r := range p.replicas {
		known := slices.ContainsFunc(p.candidates, func(j int) bool { return p.replicas[j].Node == r.Node })
		if !known && p.view.Up(r.Node) {
			p.candidates = append(p.candidates, i)
		}
	}
	others := p.candidates[here:]
	if len(others) == 0 {
		return
	}
	// Begin at a random one: turn the list by that many places.
	turn := int(p.view.Random % uint64(len(others)))
	slices.Reverse(others[:turn])
	slices.Reverse(others[turn:])
	slices.Reverse(others)
	slices.SortStableFunc(others, func(a, b int) int {
		return p.view.load(p.replicas[a].Node) - p.view.load(p.replicas[b].Node)
	})
}

// next asks the next candidate to coordinate. Why is what the last one said; nil: nothing
// that the caller could branch on. If there is no other, nothing was written.
func (p *Put) next(now time.Duration, out []Effect, why error) []Effect {
	p.candidates = slices.DeleteFunc(p.candidates, p.hopeless)
	if len(p.candidates) == 0 {
		if why == nil {
			why = p.failure(false, false)
		}
		return p.end(out, why)
	}
	p.at, p.candidates = p.candidates[0], p.candidates[1:]
	to := p.replicas[p.at]
	p.waits[p.at] = true
	p.forwarded = to.Node != p.view.Self
	if p.forwarded {
		return append(out, Ask{I: p.base + p.at, To: to, Msg: p.forward(now)})
	}
	return append(out, Ask{I: p.base + p.at, To: to, Msg: &vnode.Coordinate{
		Home: p.home, Key: p.key, Seen: p.seen, Write: p.write, Request: p.req.Options.RequestID,
	}})
}

// hopeless reports whether candidate i is not worth asking: its node has gone
// down since, or it would coordinate here a write that cannot succeed any more.
// Another node may still reach those that this one does not.
func (p *Put) hopeless(i int) bool {
	here := p.replicas[i].Node == p.view.Self
	return p.replies[i].Result != kv.Pending || here && p.tally.Verdict() == quorum.Lost
}

// forward is the whole request for another node. It has a little less time
// there, so that its own time-out is heard here.
func (p *Put) forward(now time.Duration) vnode.Message {
	o := p.req.Options
	left := p.deadline - now
	o.Timeout = max(left-min(left/10, 50*time.Millisecond), time.Millisecond)
	return &Forward{Key: p.key, Value: p.req.Value, Deleted: p.req.Deleted, Options: o}
}

// execute waits until a vnode has made the version.
func (p *Put) execute(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		if ev.I == p.base+p.at {
			return p.coordinated(now, ev.Msg, out)
		}
	case NotSent:
		if ev.I == p.base+p.at {
			p.deny(now, p.at, kv.Refused, ev.Why)
			return p.next(now, out, nil)
		}
	case Lost:
		if ev.I == p.base+p.at {
			return p.lost(now, ev.Why, out)
		}
	case NodeDown:
		if ev.Node == p.replicas[p.at].Node {
			return p.lost(now, "the node went down", out)
		}
		for i, r := range p.replicas {
			if r.Node == ev.Node {
				p.deny(now, i, kv.Down, "the node went down")
			}
		}
	case Tick:
		if now >= p.deadline {
			return p.end(out, p.failure(true, !planted.Is(planted.LostAsRefused)))
		}
	}
	return out
}

// coordinated takes the answer of the candidate.
func (p *Put) coordinated(now time.Duration, msg vnode.Message, out []Effect) []Effect {
	switch m := msg.(type) {
	case *vnode.Minted:
		p.minted = m.Object
		p.step = p.waiting
		return p.spread(now, out)
	case *Forwarded:
		if undone(m.Err) {
			p.deny(now, p.at, kv.Refused, m.Err.Error())
			return p.next(now, out, m.Err)
		}
		p.answered = true
		p.result = *m
		return append(out, Answer{})
	case *vnode.Refusal:
		p.deny(now, p.at, kv.Refused, m.Text)
		err := refusalError(m.Code, m.Text)
		if !elsewhere(m.Code) {
			return p.end(out, err)
		}
		return p.next(now, out, err)
	case *vnode.Failure:
		return p.lost(now, m.Text, out)
	}
	return p.lost(now, fmt.Sprintf("answered with %T", msg), out)
}

// lost ends a write whose coordinator may or may not have carried it out.
func (p *Put) lost(now time.Duration, why string, out []Effect) []Effect {
	if planted.Is(planted.ForwardAgain) && p.forwarded {
		return p.next(now, out, nil)
	}
	p.deny(now, p.at, kv.Failed, why)
	return p.end(out, p.failure(false, !planted.Is(planted.LostAsRefused)))
}

// spread sends the version to the other replicas.
func (p *Put) spread(now time.Duration, out []Effect) []Effect {
	msg := &vnode.Store{Home: p.home, Key: p.key, Object: p.minted}
	for i, r := range p.replicas {
		if i == p.at || p.replies[i].Result != kv.Pending {
			continue // it coordinates, is down, or has refused already
		}
		p.waits[i] = true
		out = append(out, Ask{I: p.base + i, To: r, Msg: msg})
	}
	return p.judge(now, out)
}

// waiting counts the answers until none still to come could change the outcome.
func (p *Put) waiting(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		if i := ev.I - p.base; i >= 0 && i < len(p.replicas) {
			p.replied(now, i, ev.Msg)
		}
	case NotSent:
		if i := ev.I - p.base; i >= 0 && i < len(p.replicas) {
			p.deny(now, i, kv.Refused, ev.Why)
		}
	case Lost:
		if i := ev.I - p.base; i >= 0 && i < len(p.replicas) {
			p.deny(now, i, kv.Failed, ev.Why)
		}
	case NodeDown:
		p.nodeDown(now, ev.Node)
	case Tick:
		if now >= p.deadline && p.tally.Verdict() != quorum.Met {
			return p.end(out, p.failure(true, true))
		}
	}
	return p.judge(now, out)
}

func (p *Put) replied(now time.Duration, i int, msg vnode.Message) {
	switch m := msg.(type) {
	case *vnode.Stored:
		p.grant(now, i, p.resultOf(m))
	case *vnode.Minted:
		if i != p.at {
			p.deny(now, i, kv.Failed, "answered with a version of its own")
		} // or else it says again what is known; Stored is still to come
	case *vnode.Refusal:
		p.deny(now, i, kv.Refused, m.Text)
	case *vnode.Failure:
		p.deny(now, i, kv.Failed, m.Text)
	default:
		p.deny(now, i, kv.Failed, fmt.Sprintf("answered with %T", m))
	}
}

func (p *Put) resultOf(m *vnode.Stored) kv.Result {
	switch {
	case !p.req.Deleted:
		return kv.OK
	case m.Live:
		return kv.Found
	}
	return kv.NotFound
}

// judge answers once the outcome is certain, and the others had their time.
func (p *Put) judge(now time.Duration, out []Effect) []Effect {
	switch p.tally.Verdict() {
	case quorum.Lost:
		return p.end(out, p.failure(false, true))
	case quorum.Met:
		if p.lingerEnd == 0 && p.linger > 0 {
			p.lingerEnd = now + p.linger
			out = append(out, Wake{At: p.lingerEnd})
		}
		if now >= p.lingerEnd || now >= p.deadline || !p.open() {
			return p.end(out, nil)
		}
	}
	return out
}

// end answers.
func (p *Put) end(out []Effect, err error) []Effect {
	p.answered = true
	p.result = Forwarded{Receipt: kv.Receipt{Replies: p.replies}, Err: err}
	if err == nil {
		p.result.Err = p.accept()
	}
	return append(out, Answer{})
}

// accept fills the receipt of a successful write.
func (p *Put) accept() error {
	obj, err := object.Decode(p.minted)
	if err != nil {
		return fmt.Errorf("%w: the coordinator's own object: %v", kv.ErrInternal, err)
	}
	r := &p.result.Receipt
	body := p.req.Options.ReturnBody
	if len(obj.Siblings) == 1 || body || planted.Is(planted.ReceiptBlind) {
		r.Context = object.EncodeContext(p.key, obj.Clock)
	}
	if body {
		r.Values, err = obj.Values(p.key, p.view.Wall.UnixMilli(), false, false)
	}
	return err
}

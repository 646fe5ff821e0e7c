package coordinator

import (
	"cmp"
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
	Op      kv.Op    // apply it to a data type; nil: a put or a delete
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
//	   │          │        ▲           │     ▲
//	   │          └────────┘           └─────┘ stale view: a newer one, with the
//	   │  refused, not reached:                answers that there are
//	   │  the next one; stale view: prepare
//	   ▼
//	 refused at once: cannot be meant, too few replicas up
//
// The coordinating vnode is one of this node, if this node is in the
// preference list. Its own commit and the sends to the others run in parallel.
// Otherwise the whole request is forwarded to a node that is in the list, or, if none
// of them will have it, to one that stands in. A forwarded write that may have
// arrived is never sent again: carried out twice, it would stand under two
// dots, and overwriting the one would leave the other.
//
// A version goes by the epoch under which it was made. Behind the fence of a newer
// view nobody takes it any more, for what it stands beside may have been deleted, and
// forgotten, since. Then the vnode is asked what it has of the key now, and that is sent on.
//
// While a partition of the key is being transferred, the write goes to its owners now
// and to the next ones, and must succeed with both.
type Put struct {
	plan
	req        PutRequest
	seen       object.Vector
	write      vnode.Write
	candidates []int // places that may coordinate, best first
	at         int   // the replica that is asked to, now
	forwarded  bool  // it was asked by a Forward
	minted     []byte
	origin     uint64 // the epoch under which what is sent on was made, or read again
	rereading  int    // the number of the ask that reads it again; -1: there is none
	rereadBy   uint64 // the epoch of that ask
	step       func(_ *Put, now time.Duration, ev Event, out []Effect) []Effect
	lingerEnd  time.Duration
	result     Forwarded
	answered   bool
}

// NewPut returns the machine of a write.
func NewPut(v View, r PutRequest) *Put {
	p := &Put{plan: plan{view: v}, req: r, rereading: -1}
	p.step = (*Put).prepare
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
	return p.step(p, now, ev, out)
}

// prepare resolves the options, chooses the replicas, and refuses what cannot succeed.
func (p *Put) prepare(now time.Duration, _ Event, out []Effect) []Effect {
	if err := p.resolve(); err != nil {
		return p.end(out, err)
	}
	return p.begin(now, out)
}

// resolve resolves what the request says, and makes the plan.
func (p *Put) resolve() (err error) {
	o := &p.req.Options
	op := "put"
	switch {
	case p.req.Op != nil:
		op = "update"
	case p.req.Deleted:
		op = "delete"
	}
	if err = p.init(op, p.req.Key, o.N, o.Timeout, o.Linger); err != nil {
		return err
	}
	if p.seen, err = object.DecodeContext(p.req.Key, o.Context); err != nil {
		return err
	}
	if err = p.content(); err != nil {
		return err
	}
	p.sloppy = o.SloppyQuorum.Or(p.props.SloppyQuorum)
	return p.draw()
}

// content resolves what is to be written.
func (p *Put) content() error {
	p.write.Deleted = p.req.Deleted
	switch {
	case p.req.Op != nil:
		if err := p.checkOp(); err != nil {
			return err
		}
		p.write.Op = p.req.Op
		p.write.Expires = p.expires()
	case !p.req.Deleted:
		if p.props.DataType != "" {
			return p.errOfValues()
		}
		if err := p.req.Value.Validate(); err != nil {
			return err
		}
		if err := p.req.Value.ValidateIndexes(); err != nil {
			return err
		}
		p.write.Body = object.AppendBody(nil, &p.req.Value)
		p.write.Expires = p.expires()
		p.write.Indexed = len(p.req.Value.Indexes) > 0
	}
	return nil
}

// expires is when the value is to expire, in Unix milliseconds: when it says, or
// when its bucket says; 0: never.
func (p *Put) expires() int64 {
	if e := p.req.Value.Expires; !e.IsZero() {
		return max(1, e.UnixMilli())
	}
	if p.props.TTL == 0 {
		return 0
	}
	return p.view.Wall.Add(p.props.TTL).UnixMilli()
}

// draw makes the plan by the view.
func (p *Put) draw() error {
	p.choose(p.view.Next)
	reqs, err := p.requirements()
	if err != nil {
		return err
	}
	p.count(reqs)
	return nil
}

// begin asks the first candidate, if the write can succeed.
func (p *Put) begin(now time.Duration, out []Effect) []Effect {
	if p.tally.Verdict() == quorum.Lost {
		return p.end(out, p.failure(false, false))
	}
	if p.refreshes == 0 {
		out = append(out, Wake{At: p.deadline})
	}
	p.chooseCandidates()
	p.step = (*Put).execute
	return p.next(now, out, nil)
}

func (p *Put) requirements() ([]quorum.Requirement, error) {
	o := &p.req.Options
	n := p.size()
	reqs := make([]quorum.Requirement, 0, 4)
	var err error
	for _, q := range []struct {
		name    string
		is, def kv.Quorum
	}{{"W", o.W, p.props.W}, {"DW", p.dw(), kv.None}, {"PW", o.PW, p.props.PW}} {
		if reqs, err = requirement(reqs, q.name, q.is, q.def, n); err != nil {
			return nil, err
		}
	}
	if planted.Is(planted.CountWMinusOne) {
		for i := range reqs {
			reqs[i].Need--
		}
	}
	return confirms(reqs, cmp.Or(o.NodeConfirms, p.props.NodeConfirms), n)
}

// dw is the requirement DW. A replica confirms when the version is as durable
// as its node promises, so that DW counts the same answers as W, and is only told apart
// where the request or the bucket asks for it. At least one replica must have stored
// the write.
func (p *Put) dw() kv.Quorum {
	q := p.req.Options.DW
	if q == kv.Default && p.props.DW != kv.Majority {
		q = p.props.DW
	}
	if q == kv.Default && (p.req.Options.W == kv.None || p.req.Options.W == kv.Default && p.props.W == kv.None) {
		return kv.One
	}
	return atLeastOne(q)
}

// chooseCandidates orders the places that may coordinate: those of this node,
// then, unless the write was forwarded here, one of each other node: of the
// owners now, the least loaded first and equals by chance, and then of the
// next owners. Where the last write wins it is the first place, and so mostly the one that has made the
// version before: clocks alone cannot order writes that follow each other faster than they agree. A node to which a write was forwarded, and that has no place, stands in:
// whoever sent it here could not reach the places.
func (p *Put) chooseCandidates() {
	p.candidates = make([]int, 0, len(p.places))
	if p.req.Options.IfNotModified && !p.req.Forwarded { // all of a key meet at one vnode, wherever they come from
		p.addOthers(func(i int) bool { return p.places[i].Now })
		return
	}
	for i := range p.places {
		if p.isPlace(i) && p.places[i].Node == p.view.Self && !p.distrusted(p.view.Self) {
			p.candidates = append(p.candidates, i)
		}
	}
	if p.req.Forwarded {
		if p.sloppy && !p.uses(p.view.Self) {
			p.standInBy(p.view.Self, p.worst())
		}
		return
	}
	here := len(p.candidates)
	p.addOthers(func(i int) bool { return p.places[i].Now })
	if p.props.Latest() {
		p.prefer(p.candidates[here:])
	} else {
		p.shuffle(p.candidates[here:])
	}
	p.addOthers(p.isPlace)
}

// distrusted reports whether the node must not say when this write was made: it would
// decide which write is the last by a clock that is off.
func (p *Put) distrusted(node string) bool { return p.props.Latest() && p.view.skewed(node) }

// worst is a place that needs a stand-in: the first whose node is down, or else
// the first of all.
func (p *Put) worst() int {
	for i := range p.places {
		if p.isPlace(i) && p.replies[i].Result == kv.Down && !p.covered(i) {
			return i
		}
	}
	return 0
}

// addOthers adds one place of each node that is up and has none among the
// candidates.
func (p *Put) addOthers(may func(i int) bool) {
	for i := range p.places {
		node := p.places[i].Node
		known := slices.ContainsFunc(p.candidates, func(j int) bool { return p.places[j].Node == node })
		if !known && p.asked[i].group == i && may(i) && p.view.Up(node) && !p.distrusted(node) {
			p.candidates = append(p.candidates, i)
		}
	}
}

// shuffle orders candidates by load, and turns the list to begin at a random
// one of equals.
func (p *Put) shuffle(list []int) {
	if len(list) == 0 {
		return
	}
	turn := int(p.view.Random % uint64(len(list)))
	slices.Reverse(list[:turn])
	slices.Reverse(list[turn:])
	slices.Reverse(list)
	slices.SortStableFunc(list, func(a, b int) int {
		return p.view.load(p.places[a].Node) - p.view.load(p.places[b].Node)
	})
}

// prefer leaves the candidates in the order of the places, so that the first one makes
// the versions of all, and knows the write before. Those that seem not to answer come last.
func (p *Put) prefer(list []int) {
	least := 0
	for n, i := range list {
		if load := p.view.load(p.places[i].Node); n == 0 || load < least {
			least = load
		}
	}
	slices.SortStableFunc(list, func(a, b int) int {
		return p.busy(a, least) - p.busy(b, least)
	})
}

// busy is 1 if candidate i has much more to answer than the least busy one.
func (p *Put) busy(i, least int) int {
	if p.view.load(p.places[i].Node) > 2*least+2 {
		return 1
	}
	return 0
}

// next asks the next candidate to coordinate. Why is what the last one said; nil: nothing
// that the caller could branch on. If there is no other, nothing was written.
func (p *Put) next(now time.Duration, out []Effect, why error) []Effect {
	p.at = p.candidate()
	if p.at < 0 {
		p.at = 0
		if why == nil {
			why = p.nobody()
		}
		return p.end(out, why)
	}
	to := p.places[p.at]
	p.forwarded = to.Node != p.view.Self
	if p.forwarded {
		return p.ask(p.at, p.forward(now), out)
	}
	return p.ask(p.at, &vnode.Coordinate{
		Home: p.home, Key: p.key, Seen: p.seen, Write: p.write, Request: p.req.Options.RequestID, Props: p.props, Guarded: p.req.Options.IfNotModified,
	}, out)
}

// candidate is the next replica to be asked to coordinate: a place, or, when
// there is no more of them, one that stands in, of this node first. -1: there is
// none.
func (p *Put) candidate() int {
	for len(p.candidates) > 0 {
		i := p.candidates[0]
		p.candidates = p.candidates[1:]
		if !p.hopeless(i) {
			return i
		}
	}
	best := -1
	for i := range p.places {
		here := p.places[i].Node == p.view.Self
		if p.asked[i].group == i || p.hopeless(i) || p.req.Forwarded && !here || p.distrusted(p.places[i].Node) {
			continue
		}
		if here {
			return i
		}
		if best < 0 {
			best = i
		}
	}
	return best
}

// hopeless reports whether replica i is not worth asking: its node has gone
// down since, or it would coordinate here a write that cannot succeed any more.
// Another node may still reach those that this one does not.
func (p *Put) hopeless(i int) bool {
	here := p.places[i].Node == p.view.Self
	return p.replies[i].Result != kv.Pending || here && p.tally.Verdict() == quorum.Lost
}

// nobody is the error of a write that no vnode would make.
func (p *Put) nobody() error {
	for i := range p.places {
		if p.distrusted(p.places[i].Node) && p.view.Up(p.places[i].Node) {
			return fmt.Errorf("%w: the last write wins in this bucket, and who could say when this one was made, such as %s, has a clock that most others do not agree with", kv.ErrClock, p.places[i].Node)
		}
	}
	e := p.failure(false, false)
	if p.req.Forwarded && len(e.Failures) == 0 {
		e.Failures = []kv.Failure{{
			Partition: p.replies[0].Partition, Node: p.view.Self, Why: "it holds no replica of " + p.key.String(),
		}}
	}
	return e
}

// forward is the whole request for another node. It has a little less time
// there, so that its own time-out is heard here.
func (p *Put) forward(now time.Duration) vnode.Message {
	o := p.req.Options
	left := p.deadline - now
	o.Timeout = max(left-min(left/10, 50*time.Millisecond), time.Millisecond)
	return &Forward{Key: p.key, Value: p.req.Value, Deleted: p.req.Deleted, Options: o, Op: p.req.Op}
}

// execute waits until a vnode has made the version.
func (p *Put) execute(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		if p.find(ev.I) == p.at {
			return p.coordinated(now, ev.Msg, out)
		}
	case NotSent:
		if p.find(ev.I) == p.at {
			out = p.fail(now, p.at, kv.Refused, ev.Why, out)
			return p.next(now, out, nil)
		}
	case Lost:
		if p.find(ev.I) == p.at {
			return p.lost(now, ev.Why, out)
		}
	case NodeDown:
		if ev.Node == p.places[p.at].Node {
			return p.lost(now, "the node went down", out)
		}
		for i := range len(p.places) {
			if p.places[i].Node == ev.Node {
				out = p.fail(now, i, kv.Down, "the node went down", out)
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
		p.minted, p.origin = m.Object, p.asked[p.at].epoch
		p.step = (*Put).waiting
		return p.spread(now, out)
	case *Forwarded:
		if undone(m.Err) {
			out = p.fail(now, p.at, kv.Refused, m.Err.Error(), out)
			return p.next(now, out, m.Err)
		}
		p.answered = true
		p.result = *m
		return append(out, Answer{})
	case *vnode.Refusal:
		return p.refused(now, m, out)
	case *vnode.Failure:
		return p.lost(now, m.Text, out)
	}
	return p.lost(now, fmt.Sprintf("answered with %T", msg), out)
}

// refused goes on to another candidate, if the refusal is not about the write
// itself.
func (p *Put) refused(now time.Duration, m *vnode.Refusal, out []Effect) []Effect {
	err := refusalError(m.Code, m.Text)
	switch {
	case p.stale(m):
		p.deny(now, p.at, kv.Refused, m.Text)
		p.step = (*Put).renewing
		return p.refresh(m, p.places[p.at].Node, out)
	case elsewhere(m.Code):
		out = p.fail(now, p.at, kv.Refused, m.Text, out)
		return p.next(now, out, err)
	}
	p.deny(now, p.at, kv.Refused, m.Text)
	return p.end(out, err)
}

// renewing waits for a newer view, to begin again with it: nothing has been
// written.
func (p *Put) renewing(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Refreshed:
		p.refreshed()
		p.view.refresh(&ev.View)
		if err := p.draw(); err != nil {
			return p.end(out, err)
		}
		return p.begin(now, out)
	case Tick:
		if now >= p.deadline {
			return p.end(out, p.failure(true, false))
		}
	}
	return out
}

// lost ends a write whose coordinator may or may not have carried it out.
func (p *Put) lost(now time.Duration, why string, out []Effect) []Effect {
	if planted.Is(planted.ForwardAgain) && p.forwarded {
		return p.next(now, out, nil)
	}
	p.deny(now, p.at, kv.Failed, why)
	return p.end(out, p.failure(false, !planted.Is(planted.LostAsRefused)))
}

// spread sends the version to the other replicas, but for those that are down or
// have refused already.
func (p *Put) spread(now time.Duration, out []Effect) []Effect {
	p.msg = &vnode.Store{Home: p.home, Key: p.key, Object: p.minted}
	out = p.askAll(out)
	return p.judge(now, p.hedgeLater(now, out))
}

// waiting counts the answers until none still to come could change the outcome.
func (p *Put) waiting(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		if ev.I == p.rereading {
			out = p.reread(now, ev.Msg, out)
		} else if i := p.find(ev.I); i >= 0 {
			out = p.replied(now, i, ev.Msg, out)
		}
	case NotSent:
		out = p.fail(now, p.find(ev.I), kv.Refused, ev.Why, out)
	case Lost:
		out = p.fail(now, p.find(ev.I), kv.Failed, ev.Why, out)
	case NodeDown:
		out = p.nodeDown(now, ev.Node, out)
	case Refreshed:
		out = p.replan(now, ev, out)
	case Tick:
		if now >= p.deadline && p.tally.Verdict() != quorum.Met {
			if p.lastResort(now); p.tally.Verdict() != quorum.Met {
				return p.end(out, p.failure(true, true))
			}
		}
		out = p.hedgeSlow(now, out)
	}
	if p.answered {
		return out
	}
	return p.judge(now, out)
}

func (p *Put) replied(now time.Duration, i int, msg vnode.Message, out []Effect) []Effect {
	switch m := msg.(type) {
	case *vnode.Stored:
		p.grant(now, i, p.resultOf(m))
		return out
	case *vnode.Minted:
		if i == p.at {
			return out // it says again what is known; Stored is still to come
		}
		return p.fail(now, i, kv.Failed, "answered with a version of its own", out)
	case *vnode.Refusal:
		out, again := p.behind(i, m, out)
		switch {
		case again:
			return out
		case m.Code == vnode.CodeFull && planted.Is(planted.FullGrants):
			p.grant(now, i, kv.OK)
			return out
		case elsewhere(m.Code):
			return p.fail(now, i, kv.Refused, m.Text, out)
		}
		p.deny(now, i, kv.Refused, m.Text)
		return out
	case *vnode.Failure:
		return p.fail(now, i, kv.Failed, m.Text, out)
	}
	return p.fail(now, i, kv.Failed, fmt.Sprintf("answered with %T", msg), out)
}

// replan goes on with a newer view: replicas that have a place in it and were not
// asked are, and those that refused the older view are asked again.
func (p *Put) replan(now time.Duration, ev Refreshed, out []Effect) []Effect {
	if !p.refreshed() || p.tally.Verdict() != quorum.Pending {
		return out
	}
	p.view.refresh(&ev.View)
	p.renew()
	reqs, err := p.requirements()
	if err != nil {
		return p.end(out, p.failure(false, true)) // its N is not what it was
	}
	out = p.recount(now, reqs, out)
	if p.origin < p.view.Fence {
		p.msg, p.hedge = nil, 0
		p.rereading, p.rereadBy = p.nextNumber(), p.view.Epoch
		return append(out, Ask{I: p.rereading, To: p.places[p.at].Replica, Epoch: p.rereadBy, Msg: &vnode.Fetch{Home: p.home, Key: p.key}})
	}
	return p.hedgeLater(now, p.askAll(out))
}

// reread takes what the coordinating vnode has of the key now: the version, or what
// has replaced it. That is sent on.
func (p *Put) reread(now time.Duration, msg vnode.Message, out []Effect) []Effect {
	p.rereading = -1
	if m, ok := msg.(*vnode.Refusal); ok && p.stale(m) {
		return p.refresh(m, p.places[p.at].Node, out)
	}
	m, ok := msg.(*vnode.Fetched)
	if !ok || !contains(m.Object, p.minted) {
		return p.end(out, p.failure(false, true)) // it has forgotten it
	}
	p.origin, p.msg = p.rereadBy, &vnode.Store{Home: p.home, Key: p.key, Object: m.Object}
	return p.hedgeLater(now, p.askAll(out))
}

// contains reports whether an encoded object has seen all that another one has.
func contains(all, some []byte) bool {
	if len(all) == 0 {
		return false
	}
	a, err := object.Decode(all)
	b, other := object.DecodeHead(some)
	return err == nil && other == nil && a.Clock.Descends(b.Clock)
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
	p.result = Forwarded{Receipt: kv.Receipt{Replies: p.story()}, Err: err}
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
	if len(obj.Siblings) == 1 && p.req.Op == nil || body || planted.Is(planted.ReceiptBlind) {
		r.Context = object.EncodeContext(p.key, obj.Clock)
	}
	if body {
		r.Values, err = values(obj, p.props, p.key, p.view.Wall.UnixMilli(), false, false)
	}
	return err
}

package coordinator

import (
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// plan is what a get and a put have in common: who is asked, how many must
// agree, who has answered what, and until when.
type plan struct {
	view     View
	op       string
	key      kv.Key
	props    *kv.Props // of the key's bucket, as of the beginning
	home     ring.Partition
	n        int // replicas of this request
	start    time.Duration
	deadline time.Duration
	linger   time.Duration
	msg      vnode.Message // what the replicas are asked; nil: it is not known yet
	absent   bool          // a replica that has nothing does not grant: it is among the failures

	// By replica: the places of the key, and then those who stand in.
	places  []ring.Place
	asked   []asked
	replies []kv.Reply
	tally   *quorum.Tally
	number  int // of the next ask

	spares
	renewal
}

// asked is how far the request is with one replica.
type asked struct {
	number int    // of the ask to it
	epoch  uint64 // of that ask
	group  int    // the place that it counts for: itself, or the one that it stands in for
	sent   bool   // it has been asked
	waits  bool   // and has not answered
	hedged bool   // of a place: it is slow, and another was asked as well
	behind bool   // it has refused, since this view is too old for it: to be asked again under a newer one
}

// init takes what every request says, and refuses what cannot be meant.
func (p *plan) init(op string, k kv.Key, n int, timeout, linger time.Duration) error {
	v := &p.view
	k.Type = kv.PlainType(k.Type)
	p.op, p.key, p.n, p.start, p.linger = op, k, n, v.Now, linger
	err := k.Validate()
	if err != nil {
		return err
	}
	if p.props, err = v.props(kv.Bucket{Type: k.Type, Name: k.Bucket}); err != nil {
		return err
	}
	if n < 0 || n > p.props.N {
		return &kv.InvalidError{What: "N", Problem: "must be from 1 to the bucket's " + itoa(p.props.N)}
	}
	if n == 0 {
		p.n = p.props.N
	}
	if timeout, err = limitTimeout(timeout); err != nil {
		return err
	}
	if linger < 0 || linger > kv.MaxLinger {
		return &kv.InvalidError{What: "linger", Problem: "must be from 0 to " + kv.MaxLinger.String()}
	}
	p.deadline = v.Now + timeout
	p.home = v.Ring.Home(k)
	return nil
}

// limitTimeout is the timeout that holds: the default for 0.
func limitTimeout(d time.Duration) (time.Duration, error) {
	if d < 0 || d > kv.MaxTimeout {
		return 0, &kv.InvalidError{What: "timeout", Problem: "must be from 0 to " + kv.MaxTimeout.String()}
	}
	if d == 0 {
		return kv.DefaultTimeout, nil
	}
	return d, nil
}

// choose begins with nobody asked: the places of the key by the owners now, and
// by the next ones if they matter.
func (p *plan) choose(next *ring.Ring) {
	p.places = ring.Places(p.view.Ring, next, p.home, p.view.Replicas, p.n)
	p.asked = make([]asked, len(p.places))
	p.replies = make([]kv.Reply, len(p.places))
	for i := range p.places {
		p.asked[i] = asked{number: p.nextNumber(), group: i}
		p.replies[i] = p.pending(i)
	}
	p.spares = spares{sloppy: p.sloppy}
}

// add adds a replica that counts for a place; itself if group is -1.
func (p *plan) add(place ring.Place, group int) int {
	i := len(p.places)
	if group < 0 {
		group = i
	}
	p.places = append(p.places, place)
	p.asked = append(p.asked, asked{number: p.nextNumber(), group: group})
	p.replies = append(p.replies, p.pending(i))
	return i
}

// pending is replica i's part before its answer.
func (p *plan) pending(i int) kv.Reply {
	r := &p.places[i]
	return kv.Reply{Partition: p.view.Ring.Partition(r.Partition), Node: r.Node, Role: r.Role, Result: kv.Pending}
}

func (p *plan) nextNumber() int {
	p.number++
	return p.number - 1
}

// count begins the tally. For replicas whose nodes are down others stand in.
func (p *plan) count(reqs []quorum.Requirement) {
	p.tally = quorum.New(p.places, nil, joint(reqs, p.places))
	for i := range len(p.places) {
		p.checkUp(p.start, i)
	}
}

// checkUp denies a replica whose node is down, and has another stand in for it.
func (p *plan) checkUp(now time.Duration, i int) {
	if !p.view.Up(p.places[i].Node) {
		p.standIn(i)
		p.deny(now, i, kv.Down, "the node is down")
	}
}

// find is the replica to which the ask of this number went, or -1: it is none
// of this plan.
func (p *plan) find(number int) int {
	for i := range p.asked {
		if p.asked[i].number == number {
			return i
		}
	}
	return -1
}

// ask asks replica i.
func (p *plan) ask(i int, msg vnode.Message, out []Effect) []Effect {
	a := &p.asked[i]
	a.sent, a.waits, a.behind, a.epoch = true, true, false, p.view.Epoch
	return append(out, Ask{I: a.number, To: p.places[i].Replica, Epoch: a.epoch, Msg: msg})
}

// askAll asks every replica that has not been asked, and is not known to fail.
func (p *plan) askAll(out []Effect) []Effect {
	for i := range p.places {
		if p.replies[i].Result == kv.Pending && !p.asked[i].waits && p.current(i) {
			out = p.ask(i, p.msg, out)
		}
	}
	return out
}

// current reports whether replica i is one by the view that holds now.
func (p *plan) current(i int) bool { return p.places[i].Now || p.places[i].Next }

// isPlace reports whether replica i is a place of the key by the view that
// holds now, and no stand-in.
func (p *plan) isPlace(i int) bool { return p.asked[i].group == i && p.current(i) }

// size is how many places the owners now have for the key.
func (p *plan) size() (n int) {
	for i := range p.places {
		if p.places[i].Now && p.asked[i].group == i {
			n++
		}
	}
	return n
}

// grant records that replica i did what was asked.
func (p *plan) grant(now time.Duration, i int, result kv.Result) {
	p.asked[i].waits = false
	p.tally.Grant(i)
	if p.replies[i].Result == kv.Pending {
		p.replies[i].Result = result
		p.replies[i].Elapsed = now - p.start
	}
}

// deny records that replica i did not, and will not.
func (p *plan) deny(now time.Duration, i int, result kv.Result, why string) {
	p.told(now, i, result, why)
	p.tally.Deny(i)
}

// told records what replica i has said, and nothing that counts.
func (p *plan) told(now time.Duration, i int, result kv.Result, why string) {
	p.asked[i].waits = false
	if p.replies[i].Result == kv.Pending {
		p.replies[i].Result = result
		p.replies[i].Elapsed = now - p.start
		p.replies[i].Error = why
	}
}

// fail denies a replica in whose place another one may do better, and asks
// that.
func (p *plan) fail(now time.Duration, i int, result kv.Result, why string, out []Effect) []Effect {
	if i < 0 {
		return out
	}
	if p.replies[i].Result == kv.Pending {
		out = p.makeUp(i, out)
	}
	p.deny(now, i, result, why)
	return out
}

// nodeDown fails what the node was asked and has not answered.
func (p *plan) nodeDown(now time.Duration, node string, out []Effect) []Effect {
	for i := range len(p.places) {
		if p.places[i].Node == node && p.asked[i].waits {
			out = p.fail(now, i, kv.Down, "the node went down", out)
		}
	}
	return out
}

// open reports whether any replica that was asked may still answer.
func (p *plan) open() bool {
	for i := range p.asked {
		if p.asked[i].waits {
			return true
		}
	}
	return false
}

// story is the replies to show: all, but for those of stand-ins that were not
// asked after all.
func (p *plan) story() []kv.Reply {
	idle := func(i int) bool { return p.asked[i].group != i && !p.asked[i].sent }
	kept := p.replies
	for i := len(kept) - 1; i >= 0; i-- {
		if idle(i) {
			kept = slices.Concat(kept[:i], kept[i+1:])
		}
	}
	return kept
}

// failure is the error of a request that was not granted.
func (p *plan) failure(timeout, inDoubt bool) *kv.QuorumError {
	req, got := p.tally.Failed()
	e := &kv.QuorumError{Op: p.op, Need: req.Name, Want: req.Need, Got: got, Timeout: timeout, InDoubt: inDoubt}
	for i := range p.replies {
		r := &p.replies[i]
		why := p.why(i)
		if why == "" {
			continue
		}
		if r.Role == kv.Incoming {
			why = "on the other side of a transfer: " + why
		}
		e.Failures = append(e.Failures, kv.Failure{Partition: r.Partition, Node: r.Node, Why: why})
	}
	return e
}

// why is the reason why replica i has not granted; empty: it has, or was not
// asked.
func (p *plan) why(i int) string {
	r, a := &p.replies[i], &p.asked[i]
	switch {
	case r.Result == kv.OK, r.Result == kv.Found:
		return ""
	case r.Result == kv.NotFound && p.absent:
		return "it has no live value"
	case a.behind:
		return "this node's topology is older than its own"
	case a.waits:
		return "no answer yet"
	case r.Error == "" && r.Result != kv.Pending && r.Result != kv.NotFound:
		return string(r.Result)
	}
	return r.Error
}

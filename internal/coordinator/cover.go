package coordinator

import (
	"cmp"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// coverage asks for each of some home partitions one vnode that holds it. The vnodes
// are those of a minimal covering set, one for N successive homes, and others only
// where a node is down or slow, or its vnode still waits for data it should hold and
// refuses. A home of which nobody answers ends the request with an error.
type coverage struct {
	view     View
	op       string // for its errors
	n        int    // replicas of each key
	deadline time.Duration
	slots    []slot // those asked for now, in order
	asks     []cover
	wake     time.Duration // when the next Tick is due, besides that of the deadline
	err      error
	done     bool

	renewal
	request coverer
}

// coverer is the request that a coverage is of.
type coverer interface {
	// message is what to ask of a home.
	message(home ring.Partition) vnode.Message

	// judge says why a message is no answer for a home; empty: it is one.
	judge(home ring.Partition, m vnode.Message) (why string)

	// answered goes on after a slot has its answer.
	answered(now time.Duration, out []Effect) []Effect

	// again asks anew, by a newer view, for what has not come.
	again(now time.Duration, out []Effect) []Effect

	// end ends the request.
	end(err error, out []Effect) []Effect
}

// slot is one home on its way.
type slot struct {
	home     ring.Partition
	left     []ring.Replica // who else could be asked
	waiting  int            // asks without an answer
	answer   vnode.Message
	failures []kv.Failure
}

// cover is one ask: which slot it is for, and whom it went to.
type cover struct {
	slot   int
	to     ring.Replica
	at     time.Duration
	hedged bool // another replica was asked as well, since this one is slow
	closed bool
}

// begin sets the deadline.
func (c *coverage) begin(timeout time.Duration) Effect {
	c.deadline = c.view.Now + timeout
	return Wake{At: c.deadline}
}

// askAll asks for all slots.
func (c *coverage) askAll(now time.Duration, out []Effect) []Effect {
	for i := range c.slots {
		if out = c.ask(now, i, out); c.done {
			return out
		}
	}
	return c.tickAt(now, now+coverPatience, out)
}

// answeredAll reports whether all slots have their answers.
func (c *coverage) answeredAll() bool {
	return !slices.ContainsFunc(c.slots, func(s slot) bool { return s.answer == nil })
}

// tickAt asks for a Tick, unless one comes before that anyway.
func (c *coverage) tickAt(now, at time.Duration, out []Effect) []Effect {
	if c.wake > now && c.wake <= at {
		return out
	}
	c.wake = at
	return append(out, Wake{At: at})
}

// candidates is who can answer for a home, best first: the vnode of the covering set,
// which is the last that holds all homes of its run of N, then the others.
func (c *coverage) candidates(home ring.Partition) []ring.Replica {
	all := c.view.Ring.Primaries(home, c.n)
	best := c.n - 1 - int(home)%c.n
	slices.SortStableFunc(all, func(a, b ring.Replica) int {
		return cmp.Compare(c.rank(home, a, best), c.rank(home, b, best))
	})
	return all
}

// rank orders replicas: up before down, the covering one before the others.
func (c *coverage) rank(home ring.Partition, r ring.Replica, best int) int {
	rank := 0
	if !c.view.Up(r.Node) {
		rank += 2
	}
	if r.Partition != c.view.Ring.Next(home, best) {
		rank++
	}
	return rank
}

// ask asks the next replica for slot i.
func (c *coverage) ask(now time.Duration, i int, out []Effect) []Effect {
	s := &c.slots[i]
	for len(s.left) > 0 {
		to := s.left[0]
		s.left = s.left[1:]
		if !c.view.Up(to.Node) {
			s.fail(c.view.Ring, to, "the node is down")
			continue
		}
		s.waiting++
		c.asks = append(c.asks, cover{slot: i, to: to, at: now})
		return append(out, Ask{I: len(c.asks) - 1, To: to, Epoch: c.view.Epoch, Msg: c.request.message(s.home)})
	}
	if s.waiting == 0 {
		return c.request.end(c.uncovered(s, false), out)
	}
	return out
}

func (s *slot) fail(r *ring.Ring, to ring.Replica, why string) {
	s.failures = append(s.failures, kv.Failure{Partition: r.Partition(to.Partition), Node: to.Node, Why: why})
}

func (c *coverage) uncovered(s *slot, timeout bool) error {
	return &kv.QuorumError{Op: c.op, Need: "coverage", Want: 1, Failures: s.failures, Timeout: timeout}
}

// waiting collects the answers.
func (c *coverage) waiting(now time.Duration, ev Event, out []Effect) []Effect {
	switch ev := ev.(type) {
	case Replied:
		return c.replied(now, ev, out)
	case NotSent:
		return c.failed(now, ev.I, ev.Why, out)
	case Lost:
		return c.failed(now, ev.I, ev.Why, out)
	case NodeDown:
		for i := range c.asks {
			if !c.done && c.asks[i].to.Node == ev.Node {
				out = c.failed(now, i, "the node went down", out)
			}
		}
	case Refreshed:
		if c.refreshed() {
			c.view.refresh(&ev.View)
			return c.request.again(now, out)
		}
	case Tick:
		return c.tick(now, out)
	}
	return out
}

func (c *coverage) replied(now time.Duration, ev Replied, out []Effect) []Effect {
	switch m := ev.Msg.(type) {
	case *vnode.Refusal:
		if c.asked(ev.I) && c.slots[c.asks[ev.I].slot].answer == nil && c.stale(m) {
			return c.renew(ev.I, m, out)
		}
		return c.failed(now, ev.I, m.Text, out)
	case *vnode.Failure:
		return c.failed(now, ev.I, m.Text, out)
	}
	if !c.asked(ev.I) {
		return out
	}
	s := &c.slots[c.asks[ev.I].slot]
	if why := c.request.judge(s.home, ev.Msg); why != "" {
		return c.failed(now, ev.I, why, out)
	}
	c.close(ev.I)
	if s.answer == nil {
		s.answer = ev.Msg
	}
	return c.request.answered(now, out)
}

// renew gives up what has been asked: when a newer view comes, the request goes on
// with it from where it is.
func (c *coverage) renew(i int, m *vnode.Refusal, out []Effect) []Effect {
	a := c.asks[i]
	c.slots[a.slot].fail(c.view.Ring, a.to, m.Text)
	c.closeAll()
	return c.refresh(m, a.to.Node, out)
}

// failed asks another replica in the place of ask i.
func (c *coverage) failed(now time.Duration, i int, why string, out []Effect) []Effect {
	if !c.close(i) {
		return out
	}
	a := c.asks[i]
	c.slots[a.slot].fail(c.view.Ring, a.to, why)
	if c.slots[a.slot].answer != nil {
		return out
	}
	return c.ask(now, a.slot, out)
}

// asked reports whether ask i is open.
func (c *coverage) asked(i int) bool {
	return i >= 0 && i < len(c.asks) && !c.asks[i].closed
}

// close reports whether ask i was open, and closes it.
func (c *coverage) close(i int) bool {
	if !c.asked(i) {
		return false
	}
	c.asks[i].closed = true
	c.slots[c.asks[i].slot].waiting--
	return true
}

func (c *coverage) closeAll() {
	for i := range c.asks {
		c.asks[i].closed = true
	}
}

func (c *coverage) tick(now time.Duration, out []Effect) []Effect {
	if now >= c.deadline {
		for i := range c.slots {
			if c.slots[i].answer == nil {
				return c.request.end(c.overdue(i), out)
			}
		}
	}
	next := c.deadline
	for i := range c.asks {
		a := &c.asks[i]
		if a.closed || a.hedged || c.slots[a.slot].answer != nil {
			continue
		}
		if now < a.at+coverPatience {
			next = min(next, a.at+coverPatience)
			continue
		}
		a.hedged = true
		out = c.ask(now, a.slot, out)
		next = min(next, now+coverPatience)
	}
	if next == c.deadline {
		return out
	}
	return c.tickAt(now, next, out)
}

// overdue is the error of a request whose slot i had no answer in time.
func (c *coverage) overdue(i int) error {
	s := &c.slots[i]
	for _, a := range c.asks {
		if !a.closed && a.slot == i {
			s.fail(c.view.Ring, a.to, "no answer yet")
		}
	}
	return c.uncovered(s, true)
}

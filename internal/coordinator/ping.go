package coordinator

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// Ping asks a random partition whether it is there. If its node is down, or
// does not answer, a partition of the next node is asked. It fails when all
// have failed, or at its deadline.
//
//	prepare ──▶ waiting ──▶ done
//	               │ ▲
//	               └─┘ failed, or slow: the next one is asked as well
type Ping struct {
	view     View
	timeout  time.Duration
	deadline time.Duration
	to       []ring.Replica // one partition of each node that is up, in order of asking
	asked    int            // of them
	closed   []bool         // of those asked: no answer will come
	hedge    time.Duration  // when the next one is asked, though none has failed
	failures []kv.Failure
	reply    kv.Reply
	err      error
	done     bool
}

// pingPatience is how long one partition has to answer before the next is
// asked as well.
const pingPatience = 500 * time.Millisecond

// NewPing returns the machine of a ping; a timeout of 0 is the default.
func NewPing(v View, timeout time.Duration) *Ping {
	return &Ping{view: v, timeout: timeout}
}

// Result is the outcome, once an Answer effect has come.
func (p *Ping) Result() (kv.Reply, error) { return p.reply, p.err }

// Done is true once the ping is answered.
func (p *Ping) Done() bool { return p.done }

// Step consumes one event.
func (p *Ping) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if p.done {
		return out
	}
	switch ev := ev.(type) {
	case Start:
		return p.prepare(now, out)
	case Replied:
		if _, ok := ev.Msg.(*vnode.Pong); ok {
			return p.pong(now, ev.I, out)
		}
		return p.failed(now, ev.I, fmt.Sprintf("answered with %T", ev.Msg), out)
	case NotSent:
		return p.failed(now, ev.I, ev.Why, out)
	case Lost:
		return p.failed(now, ev.I, ev.Why, out)
	case NodeDown:
		for i := range p.asked {
			if !p.done && p.to[i].Node == ev.Node {
				out = p.failed(now, i, "the node went down", out)
			}
		}
	case Tick:
		return p.tick(now, out)
	}
	return out
}

// prepare chooses whom to ask, in the order of the ring from a random place on.
func (p *Ping) prepare(now time.Duration, out []Effect) []Effect {
	timeout, err := limitTimeout(p.timeout)
	if err != nil {
		return p.end(err, out)
	}
	p.deadline = p.view.Now + timeout
	r := p.view.Ring
	seen := make(map[string]bool)
	first := ring.Partition(p.view.Random % uint64(r.Size()))
	for i := range r.Size() {
		to := ring.Replica{Partition: r.Next(first, i), Role: kv.Primary}
		if to.Node = r.Owner(to.Partition); seen[to.Node] {
			continue
		}
		seen[to.Node] = true
		if p.view.Up(to.Node) {
			p.to = append(p.to, to)
			continue
		}
		p.fail(to, "the node is down")
	}
	p.closed = make([]bool, len(p.to))
	return p.next(now, append(out, Wake{At: p.deadline}))
}

// next asks the next partition, and fails if there is nobody left to hear of.
func (p *Ping) next(now time.Duration, out []Effect) []Effect {
	if p.asked < len(p.to) {
		i := p.asked
		p.asked++
		p.hedge = now + pingPatience
		return append(out, Ask{I: i, To: p.to[i], Epoch: p.view.Epoch, Msg: &vnode.Ping{}}, Wake{At: p.hedge})
	}
	if slices.Contains(p.closed, false) {
		return out
	}
	return p.end(p.failure(false), out)
}

// failed closes ask i and asks the next partition in its place.
func (p *Ping) failed(now time.Duration, i int, why string, out []Effect) []Effect {
	if i < 0 || i >= p.asked || p.closed[i] {
		return out
	}
	p.closed[i] = true
	p.fail(p.to[i], why)
	return p.next(now, out)
}

func (p *Ping) tick(now time.Duration, out []Effect) []Effect {
	if now >= p.deadline {
		for i := range p.asked {
			if !p.closed[i] {
				p.fail(p.to[i], "no answer yet")
			}
		}
		return p.end(p.failure(true), out)
	}
	if p.asked < len(p.to) && now >= p.hedge {
		return p.next(now, out)
	}
	return out
}

func (p *Ping) fail(r ring.Replica, why string) {
	p.failures = append(p.failures, kv.Failure{Partition: p.view.Ring.Partition(r.Partition), Node: r.Node, Why: why})
}

func (p *Ping) failure(timeout bool) error {
	return &kv.QuorumError{Op: "ping", Need: "nodes", Want: 1, Failures: p.failures, Timeout: timeout}
}

// pong ends the ping; a late answer is as good as any.
func (p *Ping) pong(now time.Duration, i int, out []Effect) []Effect {
	if i < 0 || i >= p.asked {
		return out
	}
	r := p.to[i]
	p.reply = kv.Reply{
		Partition: p.view.Ring.Partition(r.Partition),
		Node:      r.Node, Role: r.Role, Result: kv.OK, Elapsed: now - p.view.Now,
	}
	return p.end(nil, out)
}

func (p *Ping) end(err error, out []Effect) []Effect {
	p.done, p.err = true, err
	return append(out, Answer{})
}

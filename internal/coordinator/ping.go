package coordinator

import (
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// Ping asks a random partition whether it is there. If its node is down, or
// does not answer, the next partition of another node is asked.
type Ping struct {
	view     View
	deadline time.Duration
	to       []ring.Replica // one partition of each node that is up, in order of asking
	at       int
	failures []kv.Failure
	reply    kv.Reply
	err      error
	done     bool
}

// pingPatience is how long one partition has to answer before the next is
// asked.
const pingPatience = 500 * time.Millisecond

// NewPing returns the machine of a ping; a timeout of 0 is the default.
func NewPing(v View, timeout time.Duration) *Ping {
	if timeout <= 0 || timeout > kv.MaxTimeout {
		timeout = kv.DefaultTimeout
	}
	p := &Ping{view: v, deadline: v.Now + timeout}
	seen := make(map[string]bool)
	first := ring.Partition(v.Random % uint64(v.Ring.Size()))
	for i := range v.Ring.Size() {
		r := ring.Replica{Partition: v.Ring.Next(first, i), Role: kv.Primary}
		if r.Node = v.Ring.Owner(r.Partition); seen[r.Node] {
			continue
		}
		seen[r.Node] = true
		if v.Up(r.Node) {
			p.to = append(p.to, r)
			continue
		}
		p.fail(r, "the node is down")
	}
	return p
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
		return p.ask(now, append(out, Wake{At: p.deadline}))
	case Replied:
		if _, ok := ev.Msg.(*vnode.Pong); ok {
			return p.pong(now, ev.I, out)
		}
		return p.next(now, ev.I, fmt.Sprintf("answered with %T", ev.Msg), out)
	case NotSent:
		return p.next(now, ev.I, ev.Why, out)
	case Lost:
		return p.next(now, ev.I, ev.Why, out)
	case NodeDown:
		if p.at < len(p.to) && p.to[p.at].Node == ev.Node {
			return p.next(now, p.at, "the node went down", out)
		}
	case Tick:
		if now >= p.deadline {
			return p.end(p.failure(true), out)
		}
		if p.at < len(p.to) && now >= p.start(p.at) {
			return p.next(now, p.at, "no answer yet", out)
		}
	}
	return out
}

// start is when the asking of partition i has taken long enough.
func (p *Ping) start(i int) time.Duration {
	return p.view.Now + time.Duration(i+1)*pingPatience
}

func (p *Ping) ask(now time.Duration, out []Effect) []Effect {
	if p.at >= len(p.to) {
		return p.end(p.failure(false), out)
	}
	return append(out, Ask{I: p.at, To: p.to[p.at], Msg: &vnode.Ping{}}, Wake{At: max(now, p.start(p.at))})
}

// next asks the next partition, if i is the one that is asked now.
func (p *Ping) next(now time.Duration, i int, why string, out []Effect) []Effect {
	if i != p.at {
		return out
	}
	p.fail(p.to[i], why)
	p.at++
	return p.ask(now, out)
}

func (p *Ping) fail(r ring.Replica, why string) {
	p.failures = append(p.failures, kv.Failure{Partition: p.view.Ring.Partition(r.Partition), Node: r.Node, Why: why})
}

func (p *Ping) failure(timeout bool) error {
	return &kv.QuorumError{Op: "ping", Need: "nodes", Want: 1, Failures: p.failures, Timeout: timeout}
}

// pong ends the ping; a late answer is as good as any.
func (p *Ping) pong(now time.Duration, i int, out []Effect) []Effect {
	if i < 0 || i >= len(p.to) {
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

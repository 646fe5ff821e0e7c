package coordinator

import (
	"time"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// plan is what a get and a put have in common: who is asked, how many must
// agree, who has answered what, and until when.
type plan struct {
	op       string
	key      kv.Key
	start    time.Duration
	deadline time.Duration
	linger   time.Duration
	home     ring.Partition
	replicas []ring.Replica
	replies  []kv.Reply // one for each replica
	waits    []bool     // the replica has been asked and not answered
	absent   bool       // a replica that has nothing does not grant: it is among the failures
	tally    *quorum.Tally
}

// newPlan chooses the replicas, and refuses a request that cannot be meant.
func newPlan(op string, v View, k kv.Key, n int, timeout, linger time.Duration) (plan, error) {
	if err := k.Validate(); err != nil {
		return plan{}, err
	}
	if n < 0 || n > v.Replicas {
		return plan{}, &kv.InvalidError{What: "N", Problem: "must be from 1 to the bucket's " + itoa(v.Replicas)}
	}
	if n == 0 {
		n = v.Replicas
	}
	timeout, err := limitTimeout(timeout)
	if err != nil {
		return plan{}, err
	}
	if linger < 0 || linger > kv.MaxLinger {
		return plan{}, &kv.InvalidError{What: "linger", Problem: "must be from 0 to " + kv.MaxLinger.String()}
	}
	home := v.Ring.Home(k)
	p := plan{
		op: op, key: k,
		start: v.Now, deadline: v.Now + timeout, linger: linger,
		home:     home,
		replicas: v.Ring.Primaries(home, n),
	}
	p.replies = make([]kv.Reply, len(p.replicas))
	p.waits = make([]bool, len(p.replicas))
	for i, r := range p.replicas {
		p.replies[i] = kv.Reply{Partition: v.Ring.Partition(r.Partition), Node: r.Node, Role: r.Role, Result: kv.Pending}
	}
	return p, nil
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

// requirement resolves one option against N; a requirement of none is left out.
func requirement(reqs []quorum.Requirement, name string, q, def kv.Quorum, n int) ([]quorum.Requirement, error) {
	need, err := quorum.Resolve(name, q, def, n)
	if err != nil || need == 0 {
		return reqs, err
	}
	r := quorum.Requirement{Name: name, Need: need}
	if name == "PR" || name == "PW" {
		r.Counts = isPrimary
	}
	return append(reqs, r), nil
}

// atLeastOne raises an explicit quorum of none to one, for requests that mean
// nothing without an answer.
func atLeastOne(q kv.Quorum) kv.Quorum {
	if q == kv.None {
		return kv.One
	}
	return q
}

func isPrimary(r ring.Replica) bool { return r.Role == kv.Primary }

// confirms adds the requirement of distinct nodes.
func confirms(reqs []quorum.Requirement, nodes, n int) ([]quorum.Requirement, error) {
	if nodes < 0 || nodes > n {
		return nil, &kv.InvalidError{What: "node_confirms", Problem: "is " + itoa(nodes) + "; there are " + itoa(n) + " replicas"}
	}
	if nodes == 0 {
		return reqs, nil
	}
	return append(reqs, quorum.Requirement{Name: "node_confirms", Need: nodes, Distinct: true}), nil
}

// count begins the tally: replicas on nodes that are down are denied at once.
func (p *plan) count(reqs []quorum.Requirement, up func(string) bool) {
	p.tally = quorum.New(p.replicas, reqs)
	for i, r := range p.replicas {
		if !up(r.Node) {
			p.deny(p.start, i, kv.Down, "the node is down")
		}
	}
}

// grant records that replica i did what was asked.
func (p *plan) grant(now time.Duration, i int, result kv.Result) {
	p.waits[i] = false
	p.tally.Grant(i)
	if p.replies[i].Result == kv.Pending {
		p.replies[i].Result = result
		p.replies[i].Elapsed = now - p.start
	}
}

// deny records that replica i did not, and will not.
func (p *plan) deny(now time.Duration, i int, result kv.Result, why string) {
	p.waits[i] = false
	p.tally.Deny(i)
	if p.replies[i].Result == kv.Pending {
		p.replies[i].Result = result
		p.replies[i].Elapsed = now - p.start
		p.replies[i].Error = why
	}
}

// nodeDown denies what the node was asked and has not answered.
func (p *plan) nodeDown(now time.Duration, node string) {
	for i, r := range p.replicas {
		if r.Node == node && p.waits[i] {
			p.deny(now, i, kv.Down, "the node went down")
		}
	}
}

// open reports whether any replica that was asked may still answer.
func (p *plan) open() bool {
	for _, w := range p.waits {
		if w {
			return true
		}
	}
	return false
}

// failure is the error of a request that was not granted.
func (p *plan) failure(timeout, inDoubt bool) error {
	req, got := p.tally.Failed()
	e := &kv.QuorumError{Op: p.op, Need: req.Name, Want: req.Need, Got: got, Timeout: timeout, InDoubt: inDoubt}
	for i, r := range p.replies {
		why := r.Error
		switch r.Result {
		case kv.Pending:
			if !p.waits[i] {
				continue // it was not asked
			}
			why = "no answer yet"
		case kv.NotFound:
			if !p.absent {
				continue
			}
			why = "it has no live value"
		case kv.OK, kv.Found:
			continue
		}
		e.Failures = append(e.Failures, kv.Failure{Partition: r.Partition, Node: r.Node, Why: why})
	}
	return e
}

package coordinator

import (
	"time"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// maxRefreshes is how often a request asks for a newer view before it takes a
// refusal for what it is.
const maxRefreshes = 5

// renewal is how a request keeps up with the topology. A vnode that knows of
// a change of the key's places refuses what was planned before it, and has
// certainly changed nothing:
//
//	Refusal(stale, epoch 7) ──▶ Refresh(epoch 7) ──▶ Refreshed(view) ──▶ asked again
type renewal struct {
	refreshes  int
	refreshing bool // a Refresh is out
}

// stale reports whether a refusal is one for which a newer view is asked, or is
// on its way.
func (r *renewal) stale(m *vnode.Refusal) bool {
	return m.Code == vnode.CodeStale && (r.refreshing || r.refreshes < maxRefreshes)
}

// refresh asks for the view of a refusal's epoch, unless one is on its way.
func (r *renewal) refresh(m *vnode.Refusal, node string, out []Effect) []Effect {
	if r.refreshing {
		return out
	}
	r.refreshing = true
	r.refreshes++
	return append(out, Refresh{Epoch: m.Epoch, Node: node})
}

// refreshed reports whether a view was asked for, which has come now.
func (r *renewal) refreshed() bool {
	was := r.refreshing
	r.refreshing = false
	return was
}

// behind takes the refusal of a replica that knows of a newer topology, and
// reports whether it will be asked again. A request that has its verdict, and only
// lingers, needs no newer view.
func (p *plan) behind(i int, m *vnode.Refusal, out []Effect) ([]Effect, bool) {
	a := &p.asked[i]
	if m.Code != vnode.CodeStale || p.replies[i].Result != kv.Pending || !p.current(i) || p.tally.Verdict() != quorum.Pending {
		return out, false
	}
	newer := a.epoch < p.view.Epoch // it has come meanwhile
	if !newer && !p.stale(m) {
		return out, false
	}
	a.number = p.nextNumber() // what else comes of the old ask is of no account
	if newer && p.msg == nil {
		a.waits = false // it is asked when it is known what
		return out, true
	}
	if newer {
		return p.ask(i, p.msg, out), true
	}
	a.waits, a.behind = false, true
	return p.refresh(m, p.places[i].Node, out), true
}

// renew takes over the places of a newer view for a request whose message is out.
// Those who were asked stay in the list, with their answers; they count only
// as far as they have a place in the new view, or stand in for one that is there
// and have none of their own.
func (p *plan) renew() {
	for i := range p.places {
		p.places[i].Now, p.places[i].Next = false, false
	}
	for _, fresh := range ring.Places(p.view.Ring, p.view.Next, p.home, p.view.Replicas, p.n) {
		i := p.place(fresh.Replica)
		if i < 0 {
			p.add(fresh, -1)
			continue
		}
		p.places[i] = fresh
		p.asked[i].group = i
		p.replies[i].Role = fresh.Role
	}
	for i := range p.places {
		if p.asked[i].group != i && !p.hasPlace(p.places[i].Node) {
			group := p.heir(i)
			p.asked[i].group = group
			p.places[i].Now, p.places[i].Next = p.places[group].Now, p.places[group].Next
		}
	}
	p.known, p.later = false, 0
}

// heir is the place for which stand-in i counts by a newer view: the same as
// before, or another one of that partition, to which it will hand over as well.
func (p *plan) heir(i int) int {
	group := p.asked[i].group
	for j := range p.places {
		if !p.current(group) && p.isPlace(j) && p.places[j].Partition == p.places[i].Partition {
			return j
		}
	}
	return group
}

// hasPlace reports whether a node has a place of the key.
func (p *plan) hasPlace(node string) bool {
	for i := range p.places {
		if p.isPlace(i) && p.places[i].Node == node {
			return true
		}
	}
	return false
}

// place is the index of a partition on a node among the replicas; -1: it is
// none of them.
func (p *plan) place(r ring.Replica) int {
	for i := range p.places {
		if p.places[i].Partition == r.Partition && p.places[i].Node == r.Node {
			return i
		}
	}
	return -1
}

// recount begins a new tally, with the answers that there are. Replicas that are
// still to be asked are denied if their nodes are down by now.
func (p *plan) recount(now time.Duration, reqs []quorum.Requirement, out []Effect) []Effect {
	groups := make([]int, len(p.places))
	for i := range groups {
		groups[i] = p.asked[i].group
	}
	p.tally = quorum.New(p.places, groups, joint(reqs, p.places))
	for i := range groups {
		switch p.replies[i].Result {
		case kv.OK, kv.Found, kv.NotFound:
			p.tally.Grant(i)
		}
	}
	for i := range groups {
		switch p.replies[i].Result {
		case kv.Pending:
			if p.current(i) && !p.asked[i].waits {
				p.checkUp(now, i)
			}
		case kv.Down, kv.Refused, kv.Failed:
			out = p.makeUp(i, out)
			p.tally.Deny(i)
		}
	}
	return out
}

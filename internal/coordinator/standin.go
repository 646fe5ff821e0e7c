package coordinator

import (
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// HedgeAfter is how long a replica has to answer before another node is asked to
// stand in for it as well.
const HedgeAfter = 50 * time.Millisecond

// spares are the nodes that may stand in for replicas. One stands in for a node
// that is down from the beginning, and for one that refuses, fails or is slow
// when that is seen:
//
//	place    n1 ── refuses ──▶ n4 ── goes down ──▶ n5
//	place    n2 ── is slow ──▶ n6     counts when n2 has failed, or time is up
//
// A replica that is slow, but up, will be read; so what was asked of another one
// in its stead does not count before it is given up. That is at the deadline at the latest.
// A node has one part in a request at most. As many may come after the
// beginning as the key has places, so that a request which fails everywhere
// ends.
type spares struct {
	sloppy bool          // there are any
	known  bool          // nodes has been asked for
	nodes  []string      // those not in use, in the order of the ring
	later  int           // how many have come after the beginning
	hedge  time.Duration // when the slow ones get one; 0: never, or it is done
}

// standIn adds a stand-in for the place of replica i, which is not denied yet,
// and returns its index; -1: there is none, or it would change nothing.
func (p *plan) standIn(i int) int {
	if !p.sloppy || p.tally.Verdict() != quorum.Pending {
		return -1
	}
	node := p.spare()
	if node == "" {
		return -1
	}
	return p.standInBy(node, i)
}

// standInBy is standIn with a node that is known.
func (p *plan) standInBy(node string, i int) int {
	group := p.asked[i].group
	place := p.places[group]
	place.Node, place.Role = node, kv.Fallback
	p.tally.Add(place, group)
	return p.add(place, group)
}

// spare is the next node that has no part in the request and is up; empty: there
// is none.
func (p *plan) spare() string {
	if !p.known {
		p.known = true
		p.nodes = p.view.Ring.Standins(p.home, p.view.Replicas, p.view.Up, p.uses)
	}
	for len(p.nodes) > 0 {
		node := p.nodes[0]
		p.nodes = p.nodes[1:]
		if p.view.Up(node) && !p.uses(node) {
			return node
		}
	}
	return ""
}

// uses reports whether the node has a part in the request.
func (p *plan) uses(node string) bool {
	for i := range p.places {
		if p.places[i].Node == node {
			return true
		}
	}
	return false
}

// makeUp asks a stand-in for replica i, which is about to be denied, unless
// another one may still grant for the same place.
func (p *plan) makeUp(i int, out []Effect) []Effect {
	if p.later >= p.size() || !p.current(i) || p.covered(i) {
		return out
	}
	j := p.standIn(i)
	if j < 0 {
		return out
	}
	p.later++
	if p.msg == nil {
		return out
	}
	return p.ask(j, p.msg, out)
}

// covered reports whether another replica has granted for the place of replica
// i, or still may.
func (p *plan) covered(i int) bool {
	for j := range p.places {
		if j == i || p.asked[j].group != p.asked[i].group || !p.current(j) {
			continue
		}
		switch p.replies[j].Result {
		case kv.Down, kv.Refused, kv.Failed:
		default:
			return true
		}
	}
	return false
}

// hedgeLater asks for the Tick at which the slow replicas get stand-ins, if
// there are any to get.
func (p *plan) hedgeLater(now time.Duration, out []Effect) []Effect {
	at := now + HedgeAfter
	if !p.sloppy || at >= p.deadline || p.tally.Verdict() != quorum.Pending || !p.spared() {
		return out
	}
	p.hedge = at
	return append(out, Wake{At: p.hedge})
}

// spared reports whether some node of the ring has no part in the request.
func (p *plan) spared() bool {
	used := 0
	for i := range p.places {
		node := p.places[i].Node
		before := slices.ContainsFunc(p.places[:i], func(q ring.Place) bool { return q.Node == node })
		if !before && p.view.Ring.Owned(node) > 0 {
			used++
		}
	}
	return p.view.Ring.Copies(used+1) > used
}

// hedgeSlow asks a stand-in for each place that has been asked and not answered.
func (p *plan) hedgeSlow(now time.Duration, out []Effect) []Effect {
	if p.hedge == 0 || now < p.hedge || p.tally.Verdict() != quorum.Pending {
		return out
	}
	p.hedge = 0
	for i := range len(p.places) {
		if !p.isPlace(i) || p.asked[i].hedged || !p.slow(i) || p.later >= p.size() {
			continue
		}
		p.asked[i].hedged = true
		if j := p.standIn(i); j >= 0 {
			p.later++
			out = p.ask(j, p.msg, out)
		}
	}
	return out
}

// lastResort gives up the places that have not answered until the deadline,
// where another one has granted in their stead.
func (p *plan) lastResort(now time.Duration) {
	for i := range p.places {
		if !p.isPlace(i) || !p.asked[i].waits {
			continue
		}
		for j := range p.places {
			if j != i && p.asked[j].group == i && (p.replies[j].Result == kv.OK || p.replies[j].Result == kv.Found) {
				p.deny(now, i, kv.Failed, "no answer in time")
				break
			}
		}
	}
}

// slow reports whether an answer for place i is waited for, and none has granted.
func (p *plan) slow(i int) bool {
	waits := false
	for j := range p.places {
		if p.asked[j].group != i {
			continue
		}
		switch p.replies[j].Result {
		case kv.OK, kv.Found, kv.NotFound:
			return false
		}
		waits = waits || p.asked[j].waits
	}
	return waits
}

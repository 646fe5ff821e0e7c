package tanodb

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
)

// steward proposes what this node sees to: what is known of itself, and, as the
// leader, the end of transfers that everybody knows of.
func (t *topology) steward() {
	n := t.node
	s := t.current.Load()
	if !t.belongs(s) {
		t.depart("")
		return
	}
	t.keepLate()
	t.mu.Lock()
	leads := t.log.Leader() == n.self
	wanted := t.log.Wanted()
	epochs := maps.Clone(t.epochs)
	t.mu.Unlock()
	if wanted != 0 {
		t.renumber(s, wanted)
		return
	}
	t.announce(s)
	if !leads {
		return
	}
	for node := range epochs { // what one has shown before its present life it may have forgotten
		if n.network != nil {
			epochs[node] = n.network.Lives(node).Since
		}
	}
	epochs[n.self] = t.kept.Load()
	for _, id := range s.Settleable(epochs, n.live.up) {
		if time.Since(t.proposed[id]) < changeTimeout/3 {
			continue
		}
		t.proposed[id] = time.Now()
		t.background(membership.Settled{Transfer: id})
	}
	t.reapable(s)
	maps.DeleteFunc(t.proposed, func(_ uint64, at time.Time) bool { return time.Since(at) > changeTimeout })
}

// reapable proposes, as the leader, that all members have shown the mark.
func (t *topology) reapable(s *membership.State) {
	n := t.node
	if s.Mark() == s.Reaped() || t.agree.mark == s.Mark() && time.Since(t.agree.at) < changeTimeout/3 {
		return
	}
	lives := map[string]membership.Lives{n.self: {Now: n.life, Since: t.kept.Load()}}
	if n.network != nil {
		for _, m := range s.Members() {
			if m.Name != n.self {
				lives[m.Name] = n.network.Lives(m.Name)
			}
		}
	}
	if c, ok := s.Reapable(lives, n.live.up); ok {
		t.agree.at, t.agree.mark = time.Now(), c.Mark
		t.background(c)
	}
}

// announce makes the topology know this node's id and address.
func (t *topology) announce(s *membership.State) {
	n := t.node
	me, ok := s.Member(n.self)
	if !ok || me.Status == membership.StatusLeft || time.Since(t.announced) < 5*time.Second {
		return
	}
	address := n.advertised(me.Address)
	if me.ID == n.home.nodeID() && me.Address == address && me.Status != membership.StatusDown {
		return
	}
	t.announced = time.Now()
	t.background(membership.Announce{Name: n.self, ID: n.home.nodeID(), Address: address})
}

// background proposes a command that nobody waits for.
func (t *topology) background(c membership.Command) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), changeTimeout/3)
		defer cancel()
		if err := t.propose(ctx, c); err != nil && !t.node.closing.Load() {
			t.node.log.Debug("a change of the topology has to wait", "node", t.node.self, "change", fmt.Sprintf("%+v", c), "why", err)
		}
	}()
}

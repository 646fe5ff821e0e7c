package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
)

// operator changes the topology from time to time: it stages something, looks at
// the plan, and commits it. It talks to one node at a time, as people do, and
// does not know of other operators.
type operator struct {
	s    *Sim
	i    int
	rnd  chance
	busy bool // it waits for what becomes of a command
}

// leastMembers is how many members operators leave.
const leastMembers = 3

// operate lets the operators of the weather do their work, and somebody see to
// it in the end that nothing is left half done.
func (s *Sim) operate() {
	if !s.weather.Topology {
		return
	}
	for i := range s.weather.Operators {
		o := &operator{s: s, i: i, rnd: newChance(s.weather.Seed, fmt.Sprintf("operator %d", i))}
		s.operators = append(s.operators, o)
		o.again()
	}
}

// again does the next change after a while.
func (o *operator) again() {
	o.s.after(o.rnd.about(o.s.weather.ChangeEvery), func() {
		if !o.s.healed {
			o.act()
			return
		}
		o.finish()
	})
}

// contact is a member that can be talked to; nil: the one that was chosen cannot.
func (o *operator) contact() *node {
	members := o.s.members()
	n := members[o.rnd.IntN(len(members))]
	if !n.running || n.closing || o.s.now < n.frozen {
		return nil
	}
	return n
}

// act makes one change.
func (o *operator) act() {
	at := o.contact()
	if at == nil || o.i >= o.s.weather.Operators || o.s.rotten() != "" { // what cannot be read cannot be handed over: first it is mended
		o.again()
		return
	}
	if o.s.dead != nil && o.rnd.hit(0.9) {
		o.bury(at)
		return
	}
	member := o.s.members()[o.rnd.IntN(len(o.s.members()))]
	switch roll := o.rnd.IntN(100); {
	case roll < 40:
		o.join(at, func(string) { o.commit() })
	case roll < 60 && o.remaining() > leastMembers:
		o.stage(at, membership.Change{Kind: membership.ChangeLeave, Node: member.name})
	case roll < 75:
		o.join(at, func(with string) { o.replace(at, member, with) })
	case roll < 82:
		o.stage(at, membership.Change{Kind: membership.ChangeSet, Node: member.name, Zone: pick(o.rnd, "east", "west"), Weight: pick(o.rnd, 0, 0, 50, 100)})
	case roll < 90:
		o.down(at, member)
	case roll < 95:
		o.propose(at, membership.Set{Key: membership.TransferLimit, Value: pick(o.rnd, "1", "2", "8")}, func(error) { o.again() })
	default:
		o.propose(at, membership.Clear{}, func(error) { o.again() })
	}
}

// remaining is how many members would be left if all did as they are told.
func (o *operator) remaining() int {
	left := 0
	for _, n := range o.s.members() {
		if st := o.s.status(n); n != o.s.dead && (st == membership.StatusValid || st == membership.StatusDown) {
			left++
		}
	}
	for _, c := range o.s.newest.Staged() {
		if c.Kind != membership.ChangeJoin && c.Kind != membership.ChangeSet {
			left--
		}
	}
	return left
}

// propose gives a node a command for the topology, and tells done what becomes
// of it: also when the node is gone before that is known.
func (o *operator) propose(at *node, c membership.Command, done func(error)) {
	over := false
	once := func(err error) {
		if over {
			return
		}
		over, o.busy = true, false
		what := "done"
		var refusal *membership.ChangeError
		switch {
		case errors.As(err, &refusal):
			what = refusal.Code
		case err != nil:
			what = "not known"
		}
		o.s.count(fmt.Sprintf("operator: %s: %s", commandName(c), what))
		done(err)
	}
	o.busy = true
	at.topology.propose(c, once)
	o.s.after(proposeFor+time.Second, func() { once(errLost) })
}

func commandName(c membership.Command) string {
	switch c := c.(type) {
	case membership.Stage:
		return "stage " + string(c.Kind)
	case membership.Commit:
		return "commit"
	}
	return fmt.Sprintf("%T", c)[len("membership."):]
}

// stage stages a change and commits the plan.
func (o *operator) stage(at *node, c membership.Change) {
	o.s.happening(o.s.now, at.name, "is told to stage: "+c.String())
	o.propose(at, membership.Stage{Change: c}, func(err error) {
		if err != nil {
			o.again()
			return
		}
		o.commit()
	})
}

// commit looks at the plan, at some node, and after a while commits it at another.
func (o *operator) commit() {
	at := o.contact()
	if at == nil {
		o.again()
		return
	}
	plan, err := at.state.Plan()
	if err != nil {
		o.again()
		return
	}
	o.s.after(o.rnd.upTo(300*time.Millisecond), func() {
		at := o.contact()
		if at == nil {
			o.again()
			return
		}
		o.s.shown[plan.ID] = true
		o.propose(at, membership.Commit{Plan: plan.ID}, func(err error) {
			if err == nil {
				for _, c := range plan.Changes {
					o.s.count("committed: " + string(c.Kind))
					o.s.happening(o.s.now, at.name, "has committed: "+c.String())
				}
				if o.s.cutNow() {
					o.s.count("committed during a partition")
				}
			}
			o.again()
		})
	})
}

// join stages that a node which is none of the cluster joins it, and calls next
// when it is staged. If there is none, the operator does nothing.
func (o *operator) join(at *node, next func(name string)) {
	n := o.s.spare(o.rnd)
	if n == nil {
		o.again()
		return
	}
	n.renew()
	c := membership.Change{Kind: membership.ChangeJoin, Node: n.name, Address: n.name + ":1", ID: n.id}
	o.s.happening(o.s.now, n.name, "is to join")
	o.propose(at, membership.Stage{Change: c}, func(err error) {
		var refusal *membership.ChangeError
		if errors.As(err, &refusal) {
			n.claimed = false
		}
		if err != nil {
			o.again()
			return
		}
		next(n.name)
	})
}

// joined starts the nodes that the newest topology has as members and that wait
// for that, and ends those that it does not have any more: they may never hear of it,
// since nobody talks to them.
func (s *Sim) joined() {
	for _, n := range s.nodes {
		n, id := n, n.id
		m, ok := s.newest.Member(n.name)
		member := ok && m.ID == n.id && m.Status != membership.StatusLeft
		switch state := s.newest; {
		case n.claimed && member:
			n.claimed = false
			n.begin = state
			s.after(s.net.delay(), n.start)
		case n.running && !member && (m.ID != [16]byte{} || !ok):
			s.after(2*time.Second, func() {
				if n.id == id && n.running && !s.isMember(n) {
					n.leave()
				}
			})
		}
	}
}

// spare is a node that is of no cluster; nil: there is none.
func (s *Sim) spare(rnd chance) *node {
	var free []*node
	for _, n := range s.nodes {
		if m, ok := s.newest.Member(n.name); ok && (m.Status != membership.StatusLeft || s.newest.Ring().Owned(n.name) > 0) {
			continue
		}
		if !n.running && !n.claimed && n != s.dead && (n.begin == nil || n.gone) {
			free = append(free, n)
		}
	}
	if len(free) == 0 {
		return nil
	}
	return free[rnd.IntN(len(free))]
}

// renew gives a node that is of no cluster an empty directory.
func (n *node) renew() {
	n.times++
	n.newID(n.times)
	n.begin, n.gone, n.claimed, n.marker, n.shown, n.had = nil, false, true, nil, 0, 0
	n.disk.wipe()
}

// replace lets a node that has just been staged to join take a member's place.
func (o *operator) replace(at, old *node, with string) {
	kind := membership.ChangeReplace
	if old == o.s.dead {
		kind = membership.ChangeForceReplace
	}
	if !at.running {
		o.again()
		return
	}
	o.stage(at, membership.Change{Kind: kind, Node: old.name, With: with})
}

// bury removes the dead node by force, or lets another take its place.
func (o *operator) bury(at *node) {
	dead := o.s.dead
	switch {
	case o.rnd.hit(0.2):
		o.down(at, dead)
	case o.rnd.hit(0.6):
		o.join(at, func(with string) { o.replace(at, dead, with) })
	default:
		o.stage(at, membership.Change{Kind: membership.ChangeForceRemove, Node: dead.name})
	}
}

// down says that a node is not to be waited for, if it does not run.
func (o *operator) down(at, n *node) {
	if n.running || at.up(n.name) {
		o.again()
		return
	}
	o.propose(at, membership.Down{Name: n.name}, func(error) { o.again() })
}

// finish sees to what is left half done when all is healed: what is staged is
// taken back, and the dead are buried.
func (o *operator) finish() {
	at := o.contact()
	switch {
	case at != nil && len(o.s.newest.Staged()) > 0:
		o.propose(at, membership.Clear{}, func(error) { o.again() })
	case at != nil && o.s.dead != nil:
		o.bury(at)
	default:
		o.again()
	}
}

// cutNow reports whether some link is cut.
func (s *Sim) cutNow() bool {
	for i := range s.net.links {
		if s.net.links[i].cut > 0 {
			return true
		}
	}
	return false
}

package handoff

import (
	"slices"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
)

func (t *Topology) gone(node string) bool { return t.Gone != nil && t.Gone(node) }

// next is Next, which may be left out.
func (t *Topology) next() *ring.Ring {
	if t.Next == nil {
		return t.Ring
	}
	return t.Next
}

// places are the places of a home by the owners now and by the next ones, each
// once.
func (t *Topology) places(home ring.Partition) []ring.Replica {
	all := ring.Places(t.Ring, t.next(), home, t.Replicas, t.Replicas)
	list := make([]ring.Replica, len(all))
	for i, p := range all {
		list[i] = p.Replica
	}
	return list
}

func has(list []ring.Replica, p ring.Partition, node string) bool {
	return slices.ContainsFunc(list, func(r ring.Replica) bool { return r.Partition == p && r.Node == node })
}

// stray reports whether the node should hold nothing of this home in vnode q.
func (t *Topology) stray(node string, q, home ring.Partition) bool {
	return !has(t.places(home), q, node)
}

// known reports whether the partition is one of the ring. What the disk or an event
// says may be of another one.
func (t *Topology) known(p ring.Partition) bool { return int(p) < t.Ring.Size() }

// targets are the places that should hold what is stray in vnode q: those of the
// same partition or, if the home has none, all places of the home. If the node of
// the same partition is gone for ever there is no target until another one is to
// have it: what stands in for it is a copy that counts.
func (t *Topology) targets(q, home ring.Partition) []ring.Replica {
	all := t.places(home)
	if slices.ContainsFunc(all, func(r ring.Replica) bool { return r.Partition == q }) {
		all = slices.DeleteFunc(all, func(r ring.Replica) bool { return r.Partition != q })
	}
	return slices.DeleteFunc(all, func(r ring.Replica) bool { return t.gone(r.Node) })
}

// part is one place to be filled with one home, and all the places to pull it
// from.
type part struct {
	home    ring.Partition
	to      ring.Partition
	sources []ring.Replica
}

// fillParts are what the node has to pull for a transfer. Its source is the
// place that each new one takes over from. If that is dead, it is all others that
// may have what only the dead one and they were given: a write that two of
// three have acknowledged is on one of them.
func (t *Topology) fillParts(x membership.Transfer, self string) []part {
	if !t.known(x.Partition) || x.To == "" {
		return nil
	}
	var parts []part
	old := t.Ring.With(x.Partition, x.From)
	next := old.With(x.Partition, x.To)
	for _, f := range append(ring.Fills(old, next, t.Replicas), ring.Shifts(old, next, t.Replicas)...) {
		if f.To.Node != self {
			continue
		}
		p := part{home: f.Home, to: f.To.Partition, sources: []ring.Replica{f.From}}
		if x.Forced {
			p.sources = t.others(old.Primaries(f.Home, t.Replicas), f.To.Partition, self, x.From)
			if slices.ContainsFunc(parts, func(q part) bool { return q.home == p.home && q.to == p.to }) {
				continue // it pulls from all of them already
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// repairParts are what the node has to pull so that its vnode p has all that it
// should.
func (t *Topology) repairParts(p ring.Partition, self string) []part {
	if !t.known(p) {
		return nil
	}
	var parts []part
	for i := range min(2*max(t.Replicas, 1), t.Ring.Size()) {
		home := t.Ring.Next(p, -i)
		if all := t.places(home); has(all, p, self) {
			parts = append(parts, part{home: home, to: p, sources: t.others(all, p, self, "")})
		}
	}
	return parts
}

// others are the places but the one of partition p on the node self, those of a
// dead node, and those of nodes that have left.
func (t *Topology) others(all []ring.Replica, p ring.Partition, self, dead string) []ring.Replica {
	return slices.DeleteFunc(slices.Clone(all), func(r ring.Replica) bool {
		return r.Partition == p && r.Node == self || r.Node == dead || t.gone(r.Node)
	})
}

func sameParts(a, b []part) bool {
	return slices.EqualFunc(a, b, func(x, y part) bool {
		return x.home == y.home && x.to == y.to && slices.Equal(x.sources, y.sources)
	})
}

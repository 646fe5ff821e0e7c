package handoff

import (
	"slices"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// adopt goes on with another version of the topology: with the same jobs where
// nothing has changed for them.
func (m *Manager) adopt(t Topology) {
	if t.Ring == nil || m.top != nil && t.Epoch < m.top.Epoch {
		return
	}
	old := m.top
	m.top = &t
	if old == nil || old.Ring != t.Ring || old.next() != t.next() || old.Leaving != t.Leaving {
		m.empty = false
		m.lookSoon()
		m.recall()
	}
	for _, j := range slices.Clone(m.jobs) {
		m.reconcile(j)
	}
	for _, x := range t.Transfers {
		m.fill(x)
	}
	for _, p := range m.early {
		m.repair(p)
	}
	m.early = nil
}

// recall makes the drains forget what targets have said of the page in hand: a name may
// stand for another node now.
func (m *Manager) recall() {
	for _, j := range m.jobs {
		if j.key.kind == Draining {
			m.stop(j)
		}
	}
}

// reconcile ends a job that has no reason any more, and begins it anew if what it
// does has changed.
func (m *Manager) reconcile(j *job) {
	switch w := j.work.(type) {
	case *drain:
		m.reconcileDrain(j, w)
	case *copying:
		if j.key.kind == Repairing {
			if parts := m.top.repairParts(j.key.partition, m.self); !sameParts(parts, w.parts) {
				m.restart(j, m.repairWork(j, parts))
			}
			return
		}
		x, ok := m.copyingNow(j.key)
		if !ok || slices.Contains(x.Filled, m.self) {
			m.forget(w)
			m.remove(j)
			return
		}
		if parts := m.top.fillParts(x, m.self); !sameParts(parts, w.parts) {
			m.restart(j, m.fillWork(j, x, parts)) // of the sources that stay it finds the cursors
		}
	}
}

func (m *Manager) reconcileDrain(j *job, d *drain) {
	if !m.top.stray(m.self, d.q, d.home) {
		m.remove(j)
		return
	}
	if targets := m.top.targets(d.q, d.home); !slices.Equal(targets, d.targets) {
		m.restart(j, newDrain(&j.tally, d.q, d.home, targets))
	}
}

// copyingNow is the transfer of a fill, if it is still being copied.
func (m *Manager) copyingNow(k key) (membership.Transfer, bool) {
	for _, x := range m.top.Transfers {
		if x.ID == k.transfer && x.Epoch == k.epoch && x.Phase == membership.Copying {
			return x, true
		}
	}
	return membership.Transfer{}, false
}

// restart gives a job other work. An answer to the old one finds nobody.
func (m *Manager) restart(j *job, w work) {
	j.pending, j.running, j.over = 0, false, false
	j.fails, j.retryAt, j.blocked, j.failedAt, j.err = 0, 0, "", "", ""
	j.work = w
}

// forget lets the vnodes forget how far a fill was. Nobody waits for that: what
// is left is found by the next Look after a start.
func (m *Manager) forget(c *copying) {
	for i := range c.pulls {
		p := &c.pulls[i]
		m.forgetCursor(p.to, p.home, c.cursor(p))
	}
}

func (m *Manager) forgetCursor(to, home ring.Partition, id uint64) {
	m.asks++
	m.emit(Do{I: m.asks, To: to, Msg: &vnode.Fill{Home: home, Job: id}})
}

// fill begins what this node has to pull for a transfer.
func (m *Manager) fill(x membership.Transfer) {
	k := key{kind: Filling, transfer: x.ID, epoch: x.Epoch, partition: x.Partition}
	if x.Phase != membership.Copying || slices.Contains(x.Filled, m.self) || m.job(k) != nil {
		return
	}
	parts := m.top.fillParts(x, m.self)
	if len(parts) == 0 {
		return
	}
	j := m.add(k)
	j.from, j.to = x.From, x.To
	j.work = m.fillWork(j, x, parts)
	m.note(NoteBegun, k, "%d homes for partition %d from %s to %s", len(parts), x.Partition, x.From, x.To)
}

func (m *Manager) fillWork(j *job, x membership.Transfer, parts []part) work {
	for _, p := range parts {
		if len(p.sources) == 0 {
			m.note(NoteNowhere, j.key, "no replica of home %d is left to fill partition %d from", p.home, p.to)
		}
	}
	return newCopying(&j.tally, parts, func(p *pull) uint64 { return fillJob(x.ID, x.Epoch, p) })
}

// repair begins to bring a vnode of this node what it has lost, from the start if
// that has begun already.
func (m *Manager) repair(p ring.Partition) {
	if m.top == nil {
		m.early = append(m.early, p)
		return
	}
	if !m.top.known(p) {
		return
	}
	k := key{kind: Repairing, partition: p}
	j := m.job(k)
	if j == nil {
		j = m.add(k)
		j.to = m.self
		m.note(NoteBegun, k, "vnode %d has lost data", p)
	}
	m.restart(j, m.repairWork(j, m.top.repairParts(p, m.self)))
}

func (m *Manager) repairWork(j *job, parts []part) work {
	for _, p := range parts {
		if len(p.sources) == 0 {
			m.note(NoteNowhere, j.key, "no other replica of home %d is left to repair partition %d from", p.home, p.to)
		}
	}
	c := newCopying(&j.tally, parts, nil)
	c.repair = &j.key.partition
	return c
}

// stray begins to hand over what has just been stored here for others. A drain
// that is at work may have passed it by already: it makes another round.
func (m *Manager) stray(q, home ring.Partition) {
	if j := m.job(key{kind: Draining, partition: q, home: home}); j != nil {
		if d, ok := j.work.(*drain); ok {
			d.more = true
		}
		return
	}
	m.drain(q, home)
}

// drain begins to hand over what is stray here.
func (m *Manager) drain(q, home ring.Partition) {
	if m.top == nil || !m.top.known(q) || !m.top.known(home) || !m.top.stray(m.self, q, home) {
		return
	}
	k := key{kind: Draining, partition: q, home: home}
	if j := m.job(k); j != nil {
		return
	}
	targets := m.top.targets(q, home)
	j := m.add(k)
	j.from = m.self
	j.work = newDrain(&j.tally, q, home, targets)
	if len(targets) == 0 {
		m.note(NoteNowhere, k, "no place is left that should hold home %d of vnode %d", home, q)
	}
}

// found takes what a Look has found.
func (m *Manager) found(h Holdings) {
	if !m.looking {
		return
	}
	m.looking = false
	m.lookAt = m.now + lookEvery
	if m.again {
		m.lookAt = m.nextLook()
	}
	m.empty = len(h.Vnodes) == 0 && h.Err == "" && !m.stale
	if h.Err != "" {
		m.note(NoteLook, key{}, "%s", h.Err)
	}
	if m.top == nil {
		return
	}
	for _, v := range h.Vnodes {
		for _, home := range v.Homes {
			m.drain(v.Partition, home)
		}
	}
	for _, p := range h.Lacking {
		if m.job(key{kind: Repairing, partition: p}) == nil {
			m.repair(p)
		}
	}
	m.tidy(h.Kept)
}

// tidy lets the vnodes forget fills that are over.
func (m *Manager) tidy(kept []vnode.Progress) {
	var needed []vnode.Progress
	for _, j := range m.jobs {
		c, ok := j.work.(*copying)
		if !ok || c.cursor == nil {
			continue
		}
		for i := range c.pulls {
			p := &c.pulls[i]
			needed = append(needed, vnode.Progress{Partition: p.to, Home: p.home, Job: c.cursor(p)})
		}
	}
	for _, k := range kept {
		if !slices.Contains(needed, k) {
			m.forgetCursor(k.Partition, k.Home, k.Job)
		}
	}
}

package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// lossPatience is how long the loss of data is prepared before it is given up.
const lossPatience = 4 * time.Second

// lose takes data away, if lost says what, once it can be spared. A write whose
// only copies are on one disk cannot survive the loss of that disk, and that is
// no bug. So the clients pause, keys are read from all replicas, which
// repairs them, nothing is where others should have it, and the data is lost
// only if others hold durably all that it holds. The same rule keeps a second
// disk from being lost before the first one is made up for.
func (s *Sim) lose(ready func() bool, lost func()) {
	if s.paused {
		return
	}
	s.paused = true
	until := s.now + lossPatience
	var try func()
	try = func() {
		switch {
		case s.healed:
			return
		case s.stray() == "" && !s.anyLacks() && ready():
			s.wiped = s.now
			lost()
		case s.now < until:
			s.readSome(s.unequal(), nil)
			s.after(200*time.Millisecond, try)
			return
		}
		s.paused = false
	}
	s.after(s.weather.Timeout, try)
}

// wipe takes a node's disk away. Where the topology is fixed, the node comes
// back without it; otherwise a disk is what makes a node a member, and it is dead
// for ever.
func (s *Sim) wipe() {
	victim := s.anyNode()
	ready := func() bool { return victim.running && s.changing() == "" && s.covered(victim, everything) }
	if !s.weather.Topology {
		s.lose(ready, func() {
			s.count("disk lost")
			victim.crash("its disk is lost", 500*time.Millisecond)
			victim.disk.wipe()
			s.blurred()
		})
		return
	}
	if s.dead != nil {
		return
	}
	least := leastMembers
	if s.chapter > 0 { // a cluster in service does not shrink to two
		least++
	}
	spared := func() bool { return ready() && s.isMember(victim) && len(s.members()) >= least }
	s.lose(spared, func() {
		s.count("node dead")
		s.dead = victim
		victim.gone, victim.died = true, s.newest.Epoch()
		victim.silent = victim.rnd.hit(0.5)
		s.happening(s.now, victim.name, "is dead for ever")
		victim.stop()
		victim.disk.wipe()
	})
}

// inFill counts the crash of a node in the middle of a fill.
func (s *Sim) inFill(n *node) {
	if !s.weather.Topology {
		return
	}
	for _, t := range n.state.Transfers() {
		if t.Phase != membership.Copying {
			continue
		}
		if t.From == n.name {
			s.count("a source has crashed in a fill")
		}
		if t.To == n.name && !slices.Contains(t.Filled, n.name) {
			s.count("a receiver has crashed in a fill")
		}
	}
}

// blurred says that reads need not see what was written so far: a replica answers
// that has lost it, and does not know.
func (s *Sim) blurred() {
	s.history.Settled = false
	for i := range s.history.Ops {
		s.history.Ops[i].Fresh, s.history.Ops[i].Overlaps = false, false
	}
	for i := range s.data.entries {
		s.data.entries[i].fresh = false
	}
}

// forget takes the data of one vnode away, which is then rebuilt from the others.
func (s *Sim) forget() {
	p := ring.Partition(s.chaos.IntN(s.first.Ring().Size()))
	victim := s.byName[s.newest.Ring().Owner(p)]
	of := func(q ring.Partition) bool { return q == p }
	ready := func() bool {
		return victim.running && s.changing() == "" && s.newest.Ring().Owner(p) == victim.name && s.covered(victim, of)
	}
	s.lose(ready, func() {
		s.count("vnode lost")
		victim.crash(fmt.Sprintf("vnode %d is lost", p), 500*time.Millisecond)
		victim.disk.forget(p)
	})
}

// forget removes all that a vnode holds, and marks it as lacking it.
func (d *disk) forget(p ring.Partition) {
	var b storage.Batch
	var err error
	for _, r := range vnode.Ranges(p) {
		err = errors.Join(err, d.mem.Scan(r[0], r[1], func(key, _ []byte) bool {
			b.Delete(append([]byte(nil), key...))
			return true
		}))
	}
	if err == nil {
		vnode.New(vnode.Config{Partition: p}, d.mem).Handle(0, []vnode.Message{&vnode.SetLacking{On: true}}, &b)
		_, err = d.mem.Apply(&b, true)
	}
	if err != nil {
		d.n.s.fail("storage", noKey, "%s: %v", d.n.name, err)
	}
	d.mem.MakeDurable(d.mem.Applied())
	d.n.s.inv.forget(d.n)
}

// anyLacks reports whether some vnode is being rebuilt.
func (s *Sim) anyLacks() bool {
	for _, n := range s.members() {
		for p := range n.lacking {
			if n.lacking[p] {
				return true
			}
		}
	}
	return false
}

func everything(ring.Partition) bool { return true }

// covered reports whether for all that the node's disk shows of some vnodes,
// other disks hold at least as much, durably, where reads look for it.
func (s *Sim) covered(n *node, of func(ring.Partition) bool) bool {
	for _, holder := range s.members() {
		if holder != n && holder.disk.mem.Durable() < holder.disk.mem.Applied() {
			return false
		}
	}
	for _, k := range s.keys {
		var mine, others object.Object
		for _, r := range s.primaries(k) {
			holder := s.byName[r.Node]
			o := s.stored(holder, r, k)
			if holder == n && of(r.Partition) {
				mine = object.Merge(mine, o)
			} else {
				others = object.Merge(others, o)
			}
		}
		switch object.Compare(others, mine) {
		case object.Equal, object.Newer:
		default:
			return false
		}
	}
	return true
}

// stray names something that a member's disk holds and should not; empty: there
// is nothing of the kind.
func (s *Sim) stray() string {
	if !s.weather.Fallbacks {
		return ""
	}
	found := ""
	for _, n := range s.members() {
		last, fine := [dataHead]byte{}, false
		err := n.disk.mem.Scan([]byte{dataKind}, []byte{dataKind + 1}, func(key, _ []byte) bool {
			if head := [dataHead]byte(key[:dataHead]); head != last {
				p, home, _, _ := s.inv.object(key)
				last, fine = head, s.isPlace(n, p, home)
			}
			if !fine {
				p, home, k, _ := s.inv.object(key)
				found = fmt.Sprintf("%s/%d holds %v of home %d", n.name, p, k, home)
			}
			return fine
		})
		if err != nil {
			found = n.name + " cannot be read"
		}
		if found != "" {
			return found
		}
	}
	return ""
}

// isPlace reports whether the node should hold the keys of a home in vnode p.
func (s *Sim) isPlace(n *node, p, home ring.Partition) bool {
	for _, r := range s.places(home) {
		if r.Partition == p && r.Node == n.name {
			return true
		}
	}
	return false
}

// unequal are the keys to be read until all replicas are equal. Seeds read all; a life loses data
// so often that it reads only those whose replicas differ.
func (s *Sim) unequal() []kv.Key {
	if s.chapter == 0 {
		return s.keys
	}
	return slices.DeleteFunc(slices.Clone(s.keys), func(k kv.Key) bool { return len(check.Converged(s.copies(k))) == 0 })
}

// readAll is readSome for every key.
func (s *Sim) readAll(each func(kv.Key, error)) { s.readSome(s.keys, each) }

// readSome reads keys from all replicas, through some node each, and calls
// each with every result; it may be nil.
func (s *Sim) readSome(keys []kv.Key, each func(kv.Key, error)) {
	for _, k := range keys {
		n := s.anyNode()
		if !n.running || n.closing || s.now < n.frozen {
			continue
		}
		o := kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off, Timeout: time.Second}
		g := coordinator.NewGet(n.view(), coordinator.GetRequest{Key: k, Options: o})
		n.run(g, k, o.Timeout, func(*request) {
			_, err := g.Result()
			if errors.Is(err, kv.ErrNotFound) {
				err = nil
			}
			if each != nil {
				each(k, err)
			}
		}, nil)
	}
}

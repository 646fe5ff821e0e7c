package sim

import (
	"errors"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/kv"
)

// wipePatience is how long the loss of a disk is prepared before it is given up.
const wipePatience = 4 * time.Second

// wipe takes a node's disk away. A write whose only copies are on one disk
// cannot survive the loss of that disk, and that is no bug. So the clients
// pause, all keys are read from all replicas, which repairs them, and the disk is lost
// only if others hold durably all that it holds. The same rule keeps a
// second disk from being lost before the first one is repaired.
func (s *Sim) wipe() {
	if s.paused {
		return
	}
	s.paused = true
	victim := s.anyNode()
	until := s.now + wipePatience
	var try func()
	try = func() {
		switch {
		case s.healed:
			return
		case victim.running && s.covered(victim):
			s.count("disk lost")
			victim.crash("its disk is lost", 500*time.Millisecond)
			victim.disk.wipe()
			s.wiped = s.now
		case s.now < until:
			s.readAll(nil)
			s.after(200*time.Millisecond, try)
			return
		}
		s.paused = false
	}
	s.after(s.weather.Timeout, try)
}

// covered reports whether for all that the node's disk shows, other disks hold
// at least as much, durably.
func (s *Sim) covered(n *node) bool {
	ok := true
	for i := 0; ok && i < s.weather.Keys; i++ {
		k := keyAt(i)
		var mine, others object.Object
		for _, r := range s.primaries(k) {
			holder := s.byName[r.Node]
			if holder != n && holder.disk.mem.Durable() < holder.disk.mem.Applied() {
				return false
			}
			o := s.stored(holder, r, k)
			if holder == n {
				mine = object.Merge(mine, o)
			} else {
				others = object.Merge(others, o)
			}
		}
		switch object.Compare(others, mine) {
		case object.Equal, object.Newer:
		default:
			ok = false
		}
	}
	return ok
}

// readAll reads every key from all replicas, through some node each, and calls
// each with every result; it may be nil.
func (s *Sim) readAll(each func(kv.Key, error)) {
	for i := range s.weather.Keys {
		k := keyAt(i)
		n := s.anyNode()
		if !n.running || n.closing || s.now < n.frozen {
			continue
		}
		o := kv.ReadOptions{R: kv.All, Timeout: time.Second}
		g := coordinator.NewGet(n.view(), coordinator.GetRequest{Key: k, Options: o})
		n.run(g, k, o.Timeout, func() {
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

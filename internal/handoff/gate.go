package handoff

import (
	"fmt"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Objection is why node self, whose topology is s, does not carry out a message
// to its vnode p whose sender went by the given epoch; nil: it does. It is to be
// asked when the message is carried out, not when it arrives.
//
//   - A client's request that goes by places which have changed since is stale:
//     who has them now may not have been asked.
//   - A node gives data away only when it knows of the change that calls for it,
//     and so refuses the writes that the receiver was not sent. That is asked of the
//     fence already: what was taken before it is in what is given away.
//   - Versions that were read or made before the mark of a reaping are stale: the
//     tombstones of what they hold may be gone. Whoever sends versions goes by an epoch
//     that is not newer than that under which he has asked for them.
//   - What a reaping asks is answered only by a node that knows as much of the
//     topology, and whose vnode is a place of the home.
//   - A node that exits takes nothing in.
//   - A node drops nothing that it should hold. One that is far behind may be told to hold
//     something that it takes for a stray: who knows more takes no stray by places
//     that are none any more, and so does not confirm what would let it go.
//   - Replicas are compared only where both should hold the home: what the sender
//     takes for one is none any more if its places have changed since.
//
// A sender that knows more than this node is served: what it asks for does no
// harm.
func Objection(s *membership.State, self string, p ring.Partition, epoch uint64, m vnode.Message) vnode.Message {
	if size := s.Ring().Size(); int(p) >= size {
		return &vnode.Refusal{Code: vnode.CodeInvalid, Text: fmt.Sprintf("the ring has no partition %d", p)}
	}
	switch m := m.(type) {
	case *vnode.Coordinate:
		if m := exiting(s, self); m != nil {
			return m
		}
		return stale(s, m.Home, epoch)
	case *vnode.Store:
		if m := exiting(s, self); m != nil {
			return m
		}
		if m := unmarked(s, epoch); m != nil {
			return m
		}
		return stale(s, m.Home, epoch)
	case *vnode.Deliver:
		if m := exiting(s, self); m != nil {
			return m
		}
		if m := unmarked(s, epoch); m != nil {
			return m
		}
		if !m.Placed {
			return stale(s, m.Home, epoch)
		}
		return replica(s, self, p, m.Home, epoch)
	case *vnode.Sums:
		return replica(s, self, p, m.Home, epoch)
	case *vnode.Versions:
		return replica(s, self, p, m.Home, epoch)
	case *vnode.Pick:
		return replica(s, self, p, m.Home, epoch)
	case *vnode.Fill:
		return unmarked(s, epoch)
	case *vnode.Attest:
		if m := behind(s, self, m.Home, epoch); m != nil {
			return m
		}
		if m := stale(s, m.Home, epoch); m != nil {
			return m
		}
		return elsewhere(s, self, p, m.Home)
	case *vnode.Reap:
		return behind(s, self, m.Home, epoch)
	case *vnode.Strays:
		return behind(s, self, 0, epoch)
	case *vnode.Fence:
		return behind(s, self, 0, epoch)
	case *vnode.Fetch:
		return stale(s, m.Home, epoch)
	case *vnode.List:
		return stale(s, m.Home, epoch)
	case *vnode.Query:
		return stale(s, m.Home, epoch)
	case *vnode.Buckets:
		return stale(s, m.Home, epoch)
	case *vnode.Pull:
		return behind(s, self, m.Home, epoch)
	case *vnode.Drop:
		return needed(s, self, p, m.Home)
	}
	return nil
}

// exiting refuses what would make a node that goes hold anything again.
func exiting(s *membership.State, self string) vnode.Message {
	if me, ok := s.Member(self); !ok || me.Status != membership.StatusExiting {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeNotMine, Text: fmt.Sprintf("node %s leaves the cluster, and holds nothing any more", self)}
}

func outside(s *membership.State, home ring.Partition) vnode.Message {
	if int(home) < s.Ring().Size() {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeInvalid, Text: fmt.Sprintf("the ring has no partition %d", home)}
}

func stale(s *membership.State, home ring.Partition, epoch uint64) vnode.Message {
	if m := outside(s, home); m != nil {
		return m
	}
	since := s.Since(home)
	if epoch >= since || planted.Is(planted.NoFence) {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeStale, Epoch: s.Epoch(),
		Text: fmt.Sprintf("the request goes by epoch %d, and the places of its key have changed at %d", epoch, since)}
}

// unmarked refuses versions from before the mark.
func unmarked(s *membership.State, epoch uint64) vnode.Message {
	fence := s.Fence()
	if epoch >= fence || planted.Is(planted.ReapUnfenced) {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeStale, Epoch: s.Epoch(),
		Text: fmt.Sprintf("the versions are from epoch %d, and the tombstones of what is from before %d may be gone", epoch, fence)}
}

// elsewhere refuses what is about a place that the vnode is not.
func elsewhere(s *membership.State, self string, p, home ring.Partition) vnode.Message {
	if Placed(s, self, p, home) {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeStale, Epoch: s.Epoch(),
		Text: fmt.Sprintf("vnode %d of node %s is no place of home %d at epoch %d", p, self, home, s.Epoch())}
}

func behind(s *membership.State, self string, home ring.Partition, epoch uint64) vnode.Message {
	if m := outside(s, home); m != nil {
		return m
	}
	if epoch <= s.Epoch() || planted.Is(planted.NoFence) {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeStale, Epoch: s.Epoch(),
		Text: fmt.Sprintf("node %s is at epoch %d, and gives data away only at %d", self, s.Epoch(), epoch)}
}

func needed(s *membership.State, self string, p, home ring.Partition) vnode.Message {
	if m := outside(s, home); m != nil {
		return m
	}
	if !Placed(s, self, p, home) {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeStale, Epoch: s.Epoch(),
		Text: fmt.Sprintf("node %s should hold these keys at epoch %d, and drops none", self, s.Epoch())}
}

// replica refuses to be compared, or mended, as what vnode p is not.
func replica(s *membership.State, self string, p, home ring.Partition, epoch uint64) vnode.Message {
	if m := stale(s, home, epoch); m != nil {
		return m
	}
	if Placed(s, self, p, home) {
		return nil
	}
	return &vnode.Refusal{Code: vnode.CodeStale, Epoch: s.Epoch(),
		Text: fmt.Sprintf("vnode %d on node %s holds nothing of home %d at epoch %d", p, self, home, s.Epoch())}
}

// Placed reports whether vnode p of the node should hold the keys of a home, by
// what is now or by what a transfer makes of it.
func Placed(s *membership.State, node string, p, home ring.Partition) bool {
	for _, place := range ring.Places(s.Ring(), s.Next(), home, s.Replicas(), s.Replicas()) {
		if place.Partition == p && place.Node == node {
			return true
		}
	}
	return false
}

package handoff

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// Outdated is what makes a node safe again whose disk is older than what it has
// shown to others, as when a backup was put in its place. S is the topology that
// it has. Its part in the topology log is void until it has the number, which is drawn
// by chance, and each of its vnodes lacks what it may have confirmed since: they are to be repaired. The batch must be durable
// before the node goes by a newer topology, since then nobody could tell any more.
func Outdated(store storage.Reader, self string, s *membership.State, number uint64) (storage.Batch, []ring.Partition, error) {
	b, err := membership.VoidLog(store, self, s, number)
	if err != nil {
		return b, nil, err
	}
	var lack []ring.Partition
	for p := range ring.Partition(s.Ring().Size()) {
		if s.Ring().Owner(p) == self || s.Next().Owner(p) == self {
			vnode.MarkLacking(&b, p)
			lack = append(lack, p)
		}
	}
	return b, lack, nil
}

// Step is a message for a vnode of this node.
type Step struct {
	Partition ring.Partition
	Msg       vnode.Message
}

// Next is the step that follows when the vnode has answered; false: the step is done. The error
// says that it was not carried out, and is to be tried again.
func (x Step) Next(answer vnode.Message) (Step, bool, error) {
	switch m := answer.(type) {
	case *vnode.Stored:
		return x, false, nil
	case *vnode.Wiped:
		if w, ok := x.Msg.(*vnode.Wipe); ok && m.More {
			next := *w
			next.After = m.Last
			return Step{x.Partition, &next}, true, nil
		}
		return x, false, nil
	case *vnode.Refusal:
		return x, true, errors.New(m.Text)
	case *vnode.Failure:
		return x, true, errors.New(m.Text)
	}
	return x, true, fmt.Errorf("handoff: vnode %d answers with %T", x.Partition, answer)
}

// eraseAtOnce is how many objects of a home one Wipe looks at.
const eraseAtOnce = 4096

// Erasure is what a node is to do, step by step, whose data is older than a reaping: what
// others hold as well is not to be merged with theirs, but erased, and rebuilt. Partook is the life
// in which it has taken part in that; what it has made itself in later ones stays. Of a home that no
// other node has a place of, nothing is erased. See Step.Next.
func Erasure(store storage.Reader, self string, s *membership.State, partook uint64) ([]Step, error) {
	held, err := vnode.Held(store)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, p := range held {
		found, ok := vnode.Read(store, p, 0, &vnode.Homes{}).(*vnode.HomesFound)
		if !ok {
			return nil, fmt.Errorf("handoff: which homes vnode %d holds cannot be read", p)
		}
		var wipes []Step
		for _, home := range found.Homes {
			if int(home) >= s.Ring().Size() || slices.ContainsFunc(s.Ring().Primaries(home, s.Replicas()), func(r ring.Replica) bool { return r.Node != self }) {
				wipes = append(wipes, Step{p, &vnode.Wipe{Home: home, Partook: partook, Limit: eraseAtOnce}})
			}
		}
		if len(wipes) > 0 && (s.Ring().Owner(p) == self || s.Next().Owner(p) == self) {
			steps = append(steps, Step{p, &vnode.SetLacking{On: true}})
		}
		steps = append(steps, wipes...)
	}
	return steps, nil
}

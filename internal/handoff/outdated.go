package handoff

import (
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

package sim

import (
	"slices"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// treeEvery is after how many events one vnode's hash trees are computed anew and
// compared.
const treeEvery = 256

// checkSomeTree looks at a vnode of one node, in turn.
func (s *Sim) checkSomeTree() {
	if s.done%treeEvery != 0 {
		return
	}
	turn := int(s.done / treeEvery)
	n := s.nodes[turn%len(s.nodes)]
	if turn%8 == 0 {
		s.checkGraves(n)
	}
	s.checkTree(n, partition(turn/len(s.nodes)%s.first.Ring().Size()))
}

// checkTrees looks at all vnodes of all nodes.
func (s *Sim) checkTrees() {
	for _, n := range s.nodes {
		s.checkGraves(n)
		for p := range s.first.Ring().Size() {
			s.checkTree(n, partition(p))
		}
	}
}

// checkTree checks that the hash trees of a vnode are those of its objects.
func (s *Sim) checkTree(n *node, p ring.Partition) {
	var homes []ring.Partition
	ranges := vnode.Ranges(p)
	for _, r := range append(ranges[:3:3], ranges[5]) { // those that have a home, but for graves
		err := n.disk.mem.Scan(r[0], r[1], func(key, _ []byte) bool {
			home := ring.Partition(key[3])<<8 | ring.Partition(key[4])
			if !slices.Contains(homes, home) {
				homes = append(homes, home)
			}
			return true
		})
		if err != nil {
			return // the engine broke and the node is about to stop
		}
	}
	for _, home := range homes {
		v, err := vnode.Verify(n.disk.mem, p, home)
		if err == nil && len(v.Indexed) > 0 {
			s.fail("index", v.Indexed[0], "the index of home %d in %s/%d is not that of its objects: keys %v", home, n.name, p, v.Indexed)
			return
		}
		if err == nil && len(v.Segments) > 0 {
			s.fail("tree", noKey, "the tree of home %d in %s/%d is not that of its %d objects: segments %v, keys %v",
				home, n.name, p, v.Objects, v.Segments, v.Keys)
			return
		}
	}
}

package client

import (
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// ring is who owns what, as of an epoch of the topology. It is immutable.
type ring struct {
	epoch  uint64
	nodes  []string
	owners []uint32 // by partition, the index of its owner in nodes
}

// maxPartitions is the size of the largest ring.
const maxPartitions = 1 << 16

// learn takes the ring of an answer, if it is newer than what is known.
func (c *Client) learn(a *riakpb.TanoRingResp) {
	size := len(a.Owners)
	if size == 0 || size > maxPartitions || size&(size-1) != 0 {
		return
	}
	r := &ring{epoch: a.GetEpoch(), owners: a.Owners}
	for _, name := range a.Nodes {
		r.nodes = append(r.nodes, string(name))
	}
	for _, o := range r.owners {
		if int(o) >= len(r.nodes) {
			return
		}
	}
	for {
		known := c.ring.Load()
		if known != nil && known.epoch >= r.epoch || c.ring.CompareAndSwap(known, r) {
			return
		}
	}
}

// look asks all nodes, at once and then now and again, whether they are there.
func (c *Client) look() {
	t := time.NewTicker(c.o.Refresh)
	defer t.Stop()
	for {
		c.round()
		select {
		case <-t.C:
		case <-c.life.Done():
			return
		}
	}
}

// round asks all nodes once.
func (c *Client) round() {
	var all sync.WaitGroup
	for _, n := range c.nodes {
		all.Go(func() { n.check(c.life) })
	}
	all.Wait()
	c.forget()
}

// forget drops a ring that is newer than that of all nodes: the cluster was made
// anew at the same addresses, and its epochs began again.
func (c *Client) forget() {
	known := c.ring.Load()
	if known == nil {
		return
	}
	answered := false
	for _, n := range c.nodes {
		if n.name.Load() == nil || n.down.Load() {
			continue
		}
		if n.epoch.Load() >= known.epoch {
			return
		}
		answered = true
	}
	if answered {
		c.ring.CompareAndSwap(known, nil)
	}
}

// walk is how many partitions are looked at for the owners that hold a key: its
// replicas are on the first few of them.
const walk = 16

// order is all nodes, in the order in which a request asks them: those that hold
// the key first, as far as that is known, and those that do not answer last.
func (c *Client) order(k *kv.Key) []*node {
	list := make([]*node, 0, 2*len(c.nodes))
	if r := c.ring.Load(); r != nil && k != nil {
		list = c.holders(list, r, k)
	}
	first := int(c.turn.Add(1))
	for i := range c.nodes {
		list = appendNew(list, c.nodes[(first+i)%len(c.nodes)])
	}
	up := len(list)
	for i := 0; i < up; {
		if n := list[i]; n.down.Load() {
			copy(list[i:], list[i+1:])
			list[len(list)-1] = n
			up--
			continue
		}
		i++
	}
	return list
}

// holders appends the nodes that own the key's home and the partitions after it.
func (c *Client) holders(list []*node, r *ring, k *kv.Key) []*node {
	key := *k
	if key.Type == defaultType {
		key.Type = ""
	}
	home := key.Home(len(r.owners)).Index
	for i := range min(walk, len(r.owners)) {
		owner := r.nodes[r.owners[(home+i)%len(r.owners)]]
		for _, n := range c.nodes {
			if name := n.name.Load(); name != nil && *name == owner {
				list = appendNew(list, n)
			}
		}
	}
	return list
}

// defaultType is the name of the bucket type of keys that have none.
const defaultType = "default"

func appendNew(list []*node, n *node) []*node {
	for _, x := range list {
		if x == n {
			return list
		}
	}
	return append(list, n)
}

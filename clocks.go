package tanodb

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
)

// judgeClocks is how often the clocks of the nodes are compared.
const judgeClocks = time.Second

// clocks compares the wall clocks of the members, and tells the operator, and the
// requests of buckets in which the last write wins, whose are off.
type clocks struct {
	node *Node

	mu sync.Mutex
	c  membership.Clocks

	skewed atomic.Pointer[map[string]bool] // whose are off from most; replaced with every change
	apart  map[string]bool                 // whose are off from this node's; of judge alone
}

func newClocks(n *Node) *clocks {
	c := &clocks{node: n, apart: map[string]bool{}}
	c.skewed.Store(&map[string]bool{})
	return c
}

// off reports whether the clock of a node is off.
func (c *clocks) off(node string) bool { return (*c.skewed.Load())[node] }

// Say is what a peer is told.
func (c *clocks) Say(node string) transport.Said {
	s := transport.Said{Wall: c.node.o.Clock().UnixMilli(), Ahead: transport.Unsaid}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ahead, known := c.c.Seen(c.node.elapsed(), node); known {
		s.Ahead = ahead.Milliseconds()
	}
	return s
}

// Hear is what a peer has said.
func (c *clocks) Hear(node string, s transport.Said) {
	ahead := time.Duration(s.Wall-c.node.o.Clock().UnixMilli()) * time.Millisecond
	c.mu.Lock()
	defer c.mu.Unlock()
	c.c.Heard(c.node.elapsed(), node, ahead, time.Duration(s.Ahead)*time.Millisecond, s.Ahead != transport.Unsaid)
}

// ahead is how far a peer's clock is ahead of this node's, in the middle of what can
// be; 0: that is not known, or it is this node.
func (c *clocks) ahead(node string) time.Duration {
	if node == c.node.self {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	low, high, _ := c.c.Offset(c.node.elapsed(), node)
	return (low + high) / 2
}

// judge finds out whose clocks are off now, and logs what has changed.
func (c *clocks) judge() {
	peers := peerNames(c.node.self, c.node.state())
	now := c.node.elapsed()
	most := c.node.tuning().MaxClockOffset
	c.mu.Lock()
	c.c.Max = most
	c.c.Keep(peers)
	list := c.c.Skewed(now, c.node.self)
	apart := make(map[string]bool)
	for _, p := range peers {
		low, high, known := c.c.Offset(now, p)
		apart[p] = known && (low > most || high < -most)
	}
	c.mu.Unlock()
	skewed := make(map[string]bool, len(list))
	for _, name := range list {
		skewed[name] = true
	}
	was := *c.skewed.Swap(&skewed)
	if self := c.node.self; skewed[self] != was[self] {
		c.tell(skewed[self], self, "this node", 0)
	}
	for _, p := range peers {
		if apart[p] != c.apart[p] {
			c.tell(apart[p], p, "another node", c.ahead(p))
		}
	}
	c.apart = apart
}

// tell logs that a clock is off, or is not any more.
func (c *clocks) tell(off bool, name, who string, ahead time.Duration) {
	if !off {
		c.node.log.Info("the wall clock of "+who+" is right again", "node", c.node.self, "whose", name)
		return
	}
	c.node.log.Warn("the wall clock of "+who+" is off: set it right, and see to NTP; where the last write wins, a clock that most others do not agree with makes no versions",
		"node", c.node.self, "whose", name, "ahead", ahead, "limit", c.node.tuning().MaxClockOffset)
}

package tanodb

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
)

// detectorTick is how often silence is looked for.
const detectorTick = 100 * time.Millisecond

// liveness holds the node's failure detector: it feeds it what the network sees,
// and tells requests of nodes that went down.
type liveness struct {
	node *Node

	mu       sync.Mutex
	detector *membership.Detector

	peers atomic.Pointer[map[string]bool] // who is up; replaced with every change
}

func newLiveness(n *Node) *liveness {
	var peers []string
	for _, m := range n.state.Members() {
		if m.Name != n.self {
			peers = append(peers, m.Name)
		}
	}
	l := &liveness{node: n, detector: membership.NewDetector(n.self, peers, membership.DetectorOptions{})}
	l.publish()
	return l
}

// up reports whether a node is held to be up.
func (l *liveness) up(node string) bool { return (*l.peers.Load())[node] }

func (l *liveness) publish() {
	up := make(map[string]bool)
	for _, m := range l.node.state.Members() {
		up[m.Name] = l.detector.Up(m.Name)
	}
	l.peers.Store(&up)
}

// observe feeds the detector, and spreads what changes.
func (l *liveness) observe(see func(*membership.Detector, time.Duration) []membership.Change) {
	l.mu.Lock()
	changes := see(l.detector, l.node.elapsed())
	if len(changes) > 0 {
		l.publish()
	}
	l.mu.Unlock()
	for _, c := range changes {
		if c.Up {
			l.node.log.Info("a node is up", "node", l.node.self, "peer", c.Node)
			continue
		}
		l.node.log.Warn("a node is down", "node", l.node.self, "peer", c.Node, "why", c.Why)
		l.node.requests.nodeDown(c.Node)
	}
}

// Heard is called by the network when something came from a node.
func (l *liveness) heard(node string) {
	l.observe(func(d *membership.Detector, now time.Duration) []membership.Change { return d.Heard(now, node) })
}

// refused is called by the network when a node cannot be reached.
func (l *liveness) refused(node string, err error) {
	l.observe(func(d *membership.Detector, now time.Duration) []membership.Change {
		return d.Refused(now, node, err.Error())
	})
}

// since is how long a node has been up, or down.
func (l *liveness) since(node string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.node.elapsed()-l.detector.Since(node), 0)
}

// Serve looks for silence until the context ends. It is a suture.Service.
func (l *liveness) Serve(ctx context.Context) error {
	tick := time.NewTicker(detectorTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.observe((*membership.Detector).Tick)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

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

// stoodStill is how long this node may fail to look for silence before it takes
// itself for the one that was silent.
const stoodStill = time.Second

// liveness holds the node's failure detector: it feeds it what the network sees,
// and tells requests of nodes that went down.
type liveness struct {
	node *Node

	mu       sync.Mutex
	detector *membership.Detector

	peers atomic.Pointer[map[string]bool] // who is up; replaced with every change
}

func newLiveness(n *Node) *liveness {
	s := n.state()
	l := &liveness{node: n, detector: membership.NewDetector(n.self, peerNames(n.self, s), membership.DetectorOptions{})}
	l.publish(s)
	return l
}

// peerNames are the members that a node watches.
func peerNames(self string, s *membership.State) []string {
	var peers []string
	for _, m := range s.Members() {
		if m.Name != self && m.Status != membership.StatusLeft {
			peers = append(peers, m.Name)
		}
	}
	return peers
}

// members says that the node has a newer topology.
func (l *liveness) members(s *membership.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.detector.SetPeers(peerNames(l.node.self, s))
	l.publish(s)
}

// up reports whether a node is held to be up.
func (l *liveness) up(node string) bool { return (*l.peers.Load())[node] }

// publish makes known who is up. A member that the operator has marked as down is not, until it has
// announced itself.
func (l *liveness) publish(s *membership.State) {
	up := make(map[string]bool)
	for _, m := range s.Members() {
		switch m.Status {
		case membership.StatusLeft:
		case membership.StatusDown:
			up[m.Name] = m.Name == l.node.self
		default:
			up[m.Name] = l.detector.Up(m.Name)
		}
	}
	l.peers.Store(&up)
}

// observe feeds the detector, and spreads what changes.
func (l *liveness) observe(see func(*membership.Detector, time.Duration) []membership.Sighting) {
	l.mu.Lock()
	changes := see(l.detector, l.node.elapsed())
	if len(changes) > 0 {
		l.publish(l.node.state())
	}
	for _, c := range changes {
		l.node.movers.changed(c) // in their order
		l.node.menders.changed(c)
		l.node.reapers.changed(c)
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
	l.observe(func(d *membership.Detector, now time.Duration) []membership.Sighting { return d.Heard(now, node) })
}

// refused is called by the network when a node cannot be reached.
func (l *liveness) refused(node string, err error) {
	l.observe(func(d *membership.Detector, now time.Duration) []membership.Sighting {
		return d.Refused(now, node, err.Error())
	})
}

// allUp are the peers that are up, and what changes after that is told.
func (l *liveness) allUp() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var up []string
	for _, m := range l.node.state().Members() {
		if m.Name != l.node.self && l.detector.Up(m.Name) {
			up = append(up, m.Name)
		}
	}
	return up
}

// missed is called when a request to a node has had no answer.
func (l *liveness) missed(node string) {
	l.observe(func(d *membership.Detector, now time.Duration) []membership.Sighting { return d.Evidence(now, node) })
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
	last := l.node.elapsed()
	judged := last
	for {
		select {
		case <-tick.C:
			now := l.node.elapsed()
			if now-last > stoodStill {
				l.mu.Lock()
				l.detector.StoodStill(now)
				l.mu.Unlock()
			}
			last = now
			if now-judged >= judgeClocks {
				judged = now
				l.node.clocks.judge()
			}
			l.observe((*membership.Detector).Tick)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

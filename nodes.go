package tanodb

import (
	"context"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// NodeState is how a node describes itself to those who watch the whole cluster.
type NodeState struct {
	Node   string          `json:"node"`
	Error  string          `json:"error,omitempty"` // the node did not answer, and nothing below is known
	Status Status          `json:"status"`
	Loads  []Load          `json:"loads"`  // by operation, in their order; those that were never asked for are missing
	Work   []TransferState `json:"work"`   // fills, drains (of hints, too) and repairs that the node has to do
	Repair RepairState     `json:"repair"` // comparisons of replicas
}

// Load is what clients have asked one node for since its start, of one operation.
type Load struct {
	Op     string    `json:"op"`
	Count  uint64    `json:"count"`  // requests that were answered
	Failed uint64    `json:"failed"` // of these: too few replicas, no time, overload, in doubt, a fault
	Bounds []float64 `json:"bounds"` // seconds, rising
	Within []uint64  `json:"within"` // by bound: requests that took no longer
}

// failures are the outcomes that are the cluster's doing and not the client's.
var failures = []string{"quorum", "timeout", "overload", "in_doubt", "closed", "error"}

// askNodesWithin is how long the other nodes have to describe themselves: who watches
// wants to see soon that one does not answer.
const askNodesWithin = 1500 * time.Millisecond

// Nodes asks all members at once how they are, and gives them a second and a half. One
// that does not answer has an Error. Those that have left are not asked.
func (n *Node) Nodes(ctx context.Context) []NodeState {
	ctx, cancel := context.WithTimeout(ctx, askNodesWithin)
	defer cancel()
	var states []NodeState
	for _, m := range n.state().Members() {
		if m.Status != "left" {
			states = append(states, NodeState{Node: m.Name})
		}
	}
	var asked sync.WaitGroup
	for i := range states {
		s := &states[i]
		asked.Go(func() {
			var answer NodeState
			if err := n.order(ctx, s.Node, orderDescribe, &answer); err != nil {
				s.Error = err.Error()
				return
			}
			*s = answer
		})
	}
	asked.Wait()
	return states
}

// describe is this node's own NodeState.
func (n *Node) describe() (NodeState, error) {
	loads, err := n.loads()
	return NodeState{
		Node: n.self, Status: n.Status(), Loads: loads,
		Work: n.movers.states(n.state()), Repair: n.menders.state(),
	}, err
}

// loads reads what the metrics have counted.
func (n *Node) loads() ([]Load, error) {
	families, err := n.metrics.registry.Gather()
	if err != nil {
		return nil, err
	}
	loads := []Load{}
	for _, op := range operations {
		l := Load{Op: op, Bounds: []float64{}, Within: []uint64{}}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if labelOf(m, "op") == op {
					l.add(f.GetName(), m)
				}
			}
		}
		if l.Count > 0 {
			loads = append(loads, l)
		}
	}
	return loads, nil
}

// add takes over what a series says of the operation.
func (l *Load) add(name string, m *dto.Metric) {
	switch name {
	case "tanodb_requests_total":
		if slices.Contains(failures, labelOf(m, "outcome")) {
			l.Failed += uint64(m.GetCounter().GetValue())
		}
	case "tanodb_request_seconds":
		h := m.GetHistogram()
		l.Count = h.GetSampleCount()
		for _, b := range h.GetBucket() {
			l.Bounds = append(l.Bounds, b.GetUpperBound())
			l.Within = append(l.Within, b.GetCumulativeCount())
		}
	}
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Replica is who holds something, and why.
type Replica struct {
	Partition int // index
	Node      string
	Role      kv.Role
}

// Routes are, for each partition in the order of the ring, the replicas that a request for
// a key whose list begins there goes to now, by default: the owners that are up, and those
// who stand in for the others.
func (n *Node) Routes() [][]Replica {
	s := n.state()
	r := s.Ring()
	routes := make([][]Replica, r.Size())
	for home := range routes {
		for _, p := range r.Preflist(ring.Partition(home), s.Replicas(), n.live.up) {
			routes[home] = append(routes[home], Replica{int(p.Partition), p.Node, p.Role})
		}
	}
	return routes
}

// Package view turns what the nodes of a cluster say of themselves into what people
// look at: rates and latencies, alerts with what to do about them, work and how far it is,
// and who serves which part of the ring. It is pure: the web console and "tanodb top" show
// the same, each in its own way.
package view

import (
	"cmp"
	"slices"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Snapshot is a cluster at one moment, as one node has found it.
type Snapshot struct {
	At      time.Time
	Cluster tanodb.ClusterState
	Nodes   []tanodb.NodeState
	Routes  [][]tanodb.Replica // by partition; nil: not asked for
	Reach   Reach
}

// Reach is how many partitions have too few owners that are up, for the keys that begin there.
type Reach struct {
	Dark  int // none
	Minor int // some, and no majority
}

// ReachOf is that of the routes of a cluster with so many replicas of each key.
func ReachOf(routes [][]tanodb.Replica, replicas int) (r Reach) {
	for _, route := range routes {
		primaries := 0
		for _, p := range route {
			if p.Role == kv.Primary {
				primaries++
			}
		}
		switch {
		case primaries == 0:
			r.Dark++
		case primaries <= min(replicas, len(route))/2:
			r.Minor++
		}
	}
	return r
}

// node is what a node has said of itself; nil: it is none that was asked.
func (s *Snapshot) node(name string) *tanodb.NodeState {
	for i := range s.Nodes {
		if s.Nodes[i].Node == name {
			return &s.Nodes[i]
		}
	}
	return nil
}

// Rate is how much of one operation the cluster does, and how fast.
type Rate struct {
	Op        string
	PerSecond float64
	Failed    float64       // a second; of PerSecond
	P50, P99  time.Duration // interpolated within the buckets of the histogram; 0: there was nothing
}

// Rates are those between two moments, of all operations that were ever asked for, in
// order. Only nodes that have answered at both moments count: of the others it is not known.
func Rates(before, now Snapshot) []Rate {
	seconds := now.At.Sub(before.At).Seconds()
	var rates []Rate
	sums := map[string]*tanodb.Load{}
	for _, n := range now.Nodes {
		for _, l := range n.Loads {
			if sums[l.Op] == nil {
				sums[l.Op] = &tanodb.Load{Op: l.Op}
				rates = append(rates, Rate{Op: l.Op})
			}
		}
		old := before.node(n.Node)
		if n.Error != "" || old == nil || old.Error != "" {
			continue
		}
		for _, l := range n.Loads {
			add(sums[l.Op], since(old, l))
		}
	}
	slices.SortFunc(rates, func(a, b Rate) int { return cmp.Or(order(a.Op)-order(b.Op), cmp.Compare(a.Op, b.Op)) })
	for i := range rates {
		l := sums[rates[i].Op]
		if seconds > 0 {
			rates[i].PerSecond, rates[i].Failed = float64(l.Count)/seconds, float64(l.Failed)/seconds
		}
		rates[i].P50, rates[i].P99 = quantile(l, 0.5), quantile(l, 0.99)
	}
	return rates
}

// operations come in this order, and all others after them.
var operations = []string{"get", "put", "delete", "fetch", "update", "keys", "index", "buckets"}

func order(op string) int {
	if i := slices.Index(operations, op); i >= 0 {
		return i
	}
	return len(operations)
}

// since is what a node has done after it had done the old. One that was restarted counts
// from its new beginning.
func since(old *tanodb.NodeState, l tanodb.Load) tanodb.Load {
	i := slices.IndexFunc(old.Loads, func(o tanodb.Load) bool { return o.Op == l.Op })
	if i < 0 || old.Loads[i].Count > l.Count || len(old.Loads[i].Within) != len(l.Within) {
		return l
	}
	o := old.Loads[i]
	out := tanodb.Load{Op: l.Op, Count: l.Count - o.Count, Failed: l.Failed - min(o.Failed, l.Failed), Bounds: l.Bounds, Within: slices.Clone(l.Within)}
	for j := range out.Within {
		out.Within[j] -= min(o.Within[j], out.Within[j])
	}
	return out
}

// add sums up loads of one operation. Nodes of another version may have other buckets:
// those count in the rate, and not in the latency.
func add(sum *tanodb.Load, l tanodb.Load) {
	sum.Count += l.Count
	sum.Failed += l.Failed
	if sum.Bounds == nil {
		sum.Bounds, sum.Within = l.Bounds, make([]uint64, len(l.Within))
	}
	if !slices.Equal(sum.Bounds, l.Bounds) {
		return
	}
	for i := range l.Within {
		sum.Within[i] += l.Within[i]
	}
}

// quantile is the time within which this part of the requests were answered, as if those
// of a bucket were spread evenly over it. Past the last bound it is that bound.
func quantile(l *tanodb.Load, q float64) time.Duration {
	if len(l.Within) == 0 || l.Count == 0 {
		return 0
	}
	rank := q * float64(l.Count)
	low, below := 0.0, 0.0
	for i, n := range l.Within {
		if float64(n) >= rank && n > 0 {
			share := (rank - below) / max(float64(n)-below, 1)
			return time.Duration((low + share*(l.Bounds[i]-low)) * float64(time.Second))
		}
		low, below = l.Bounds[i], float64(n)
	}
	return time.Duration(low * float64(time.Second))
}

// Member is a member and what it says of itself.
type Member struct {
	tanodb.ClusterMember
	State string // up, down, silent (up, but it did not answer) or left
	Why   string // of silent: what came instead of an answer
	Color int    // that it has everywhere, from 0 on

	Known    bool // what follows is known: it has answered
	Uptime   time.Duration
	Requests int
	Storage  tanodb.StorageState
	Tombs    tanodb.TombstoneState
	Repair   tanodb.RepairState
}

// The states of a Member.
const (
	StateUp     = "up"
	StateDown   = "down"
	StateSilent = "silent"
	StateLeft   = "left"
)

// Members are all members that have not left, by name.
func Members(s Snapshot) []Member {
	var all []Member
	colors := Colors(s)
	for _, m := range s.Cluster.Members {
		if m.Status == StateLeft {
			continue
		}
		v := Member{ClusterMember: m, State: StateDown, Color: colors[m.Name]}
		n := s.node(m.Name)
		switch {
		case !m.Up:
		case n == nil || n.Error != "":
			v.State = StateSilent
			if n != nil {
				v.Why = n.Error
			}
		default:
			v.State, v.Known = StateUp, true
			v.Uptime, v.Requests, v.Storage, v.Tombs, v.Repair = n.Status.Uptime, n.Status.Requests, n.Status.Storage, n.Status.Tombstones, n.Repair
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b Member) int { return compareNames(a.Name, b.Name) })
	return all
}

// Colors numbers all nodes, by their names.
func Colors(s Snapshot) map[string]int {
	var names []string
	for _, m := range s.Cluster.Members {
		names = append(names, m.Name)
	}
	names = append(names, s.Cluster.Owners...)
	slices.SortFunc(names, compareNames)
	colors := map[string]int{}
	for i, name := range slices.Compact(names) {
		colors[name] = i
	}
	return colors
}

// compareNames has n2 before n10.
func compareNames(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// Arc is one partition of the ring.
type Arc struct {
	Index     int
	Owner     string
	OwnerDown bool
	Next      string           // the owner that it will have; empty: it stays
	Replicas  []tanodb.Replica // who serves keys whose list begins here, now; empty: not known
	Waiting   []string         // nodes for which others keep data of this partition
}

// Ring is the ring by partition.
func Ring(s Snapshot) []Arc {
	up := map[string]bool{}
	for _, m := range s.Cluster.Members {
		up[m.Name] = m.Up
	}
	arcs := make([]Arc, len(s.Cluster.Owners))
	for i, owner := range s.Cluster.Owners {
		arcs[i] = Arc{Index: i, Owner: owner, OwnerDown: !up[owner]}
		if i < len(s.Cluster.Next) && s.Cluster.Next[i] != owner {
			arcs[i].Next = s.Cluster.Next[i]
		}
		if i < len(s.Routes) {
			arcs[i].Replicas = s.Routes[i]
		}
	}
	for _, w := range Hints(s) {
		if w.Index < len(arcs) && !slices.Contains(arcs[w.Index].Waiting, w.To) {
			arcs[w.Index].Waiting = append(arcs[w.Index].Waiting, w.To)
		}
	}
	return arcs
}

// StandIns are the nodes that stand in for a node that is down, of the keys of an arc.
func (a Arc) StandIns() []string {
	var nodes []string
	for _, r := range a.Replicas {
		if r.Role == kv.Fallback {
			nodes = append(nodes, r.Node)
		}
	}
	return nodes
}

// Ownership are the changes of owner, those that are copied first.
func Ownership(s Snapshot) []tanodb.TransferState {
	var all []tanodb.TransferState
	for _, t := range s.Cluster.Transfers {
		if t.Kind == "ownership" {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b tanodb.TransferState) int { return phase(a) - phase(b) })
	return all
}

// phase orders the phases of changes of owner by how near they are to their end.
func phase(t tanodb.TransferState) int {
	return slices.Index([]string{"settling", "copying", "waiting"}, t.Phase)
}

// Hints are what nodes keep on behalf of others and hand over, as soon as they can; data that
// its former owner still has is among them.
func Hints(s Snapshot) []tanodb.TransferState {
	return work(s, func(t tanodb.TransferState) bool { return t.Kind == "drain" })
}

// Fills are what nodes fetch: as the next owner of a partition, or to rebuild one.
func Fills(s Snapshot) []tanodb.TransferState {
	return work(s, func(t tanodb.TransferState) bool { return t.Kind != "drain" })
}

func work(s Snapshot, is func(tanodb.TransferState) bool) []tanodb.TransferState {
	var all []tanodb.TransferState
	for _, n := range s.Nodes {
		for _, t := range n.Work {
			if is(t) {
				all = append(all, t)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b tanodb.TransferState) int {
		return cmp.Or(compareNames(a.To, b.To), compareNames(a.From, b.From), cmp.Compare(a.Index, b.Index))
	})
	return all
}

// HintsFor sums up the hints for one node.
type HintsFor struct {
	To      string
	Holders []string
	Ranges  int // of keys, of which something is kept
	Objects int64
	Bytes   int64  // of these, that were handed over
	Phase   string // what they do: of the first that moves, or of all
}

// HintsByNode sums up who waits for whom.
func HintsByNode(s Snapshot) []HintsFor {
	var all []HintsFor
	for _, t := range Hints(s) {
		if len(all) == 0 || all[len(all)-1].To != t.To {
			all = append(all, HintsFor{To: t.To, Phase: t.Phase})
		}
		h := &all[len(all)-1]
		if !slices.Contains(h.Holders, t.From) {
			h.Holders = append(h.Holders, t.From)
		}
		h.Ranges += max(t.Homes-t.HomesDone, 0)
		h.Objects += t.Objects
		h.Bytes += t.Bytes
		if t.Phase == "moving" {
			h.Phase = t.Phase
		}
	}
	return all
}

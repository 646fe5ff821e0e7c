package tanodb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// ChangeKind is what a staged change does.
type ChangeKind string

// The kinds of changes.
const (
	ChangeJoin         ChangeKind = "join"          // the node becomes a member and takes its share; made by Join
	ChangeLeave        ChangeKind = "leave"         // the node gives all it has to the others and goes
	ChangeReplace      ChangeKind = "replace"       // With takes exactly the partitions of the node, which goes
	ChangeForceReplace ChangeKind = "force-replace" // the same for a node that is dead: its data comes from the other replicas
	ChangeForceRemove  ChangeKind = "force-remove"  // a dead node goes, and the others share its partitions
	ChangeSet          ChangeKind = "set"           // the node's zone or weight
)

// Change is one staged change of the cluster. Nothing moves before a plan that
// contains it is committed.
type Change struct {
	Kind   ChangeKind `json:"kind"`
	Node   string     `json:"node"`
	With   string     `json:"with,omitempty"`   // of replace and force-replace: the node that takes over
	Zone   string     `json:"zone,omitempty"`   // of set; empty: as it is
	Weight int        `json:"weight,omitempty"` // of set, in percent of a usual node; 0: as it is
}

// Plan is what a commit of the staged changes would do.
type Plan struct {
	ID       string      `json:"id"` // which a commit must name
	Epoch    uint64      `json:"epoch"`
	Changes  []Change    `json:"changes"`
	Shares   []Share     `json:"shares"`
	Moves    []PairMoves `json:"moves"`
	Warnings []string    `json:"warnings"`
}

// Share is a member's part of the ring before and after.
type Share struct {
	Node          string  `json:"node"`
	Status        string  `json:"status"`
	Before        int     `json:"before"` // partitions
	After         int     `json:"after"`
	BeforePercent float64 `json:"before_percent"`
	AfterPercent  float64 `json:"after_percent"`
}

// PairMoves is how many partitions move from one node to another.
type PairMoves struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Partitions int    `json:"partitions"`
}

// Transfers is how many partitions change their owner.
func (p Plan) Transfers() int {
	n := 0
	for _, m := range p.Moves {
		n += m.Partitions
	}
	return n
}

// ClusterMember is a member as one node knows it.
type ClusterMember struct {
	Name       string        `json:"name"`
	ID         string        `json:"id,omitempty"` // empty: it has never been seen
	Address    string        `json:"address"`
	Zone       string        `json:"zone,omitempty"`
	Weight     int           `json:"weight"`
	Status     string        `json:"status"` // joining, valid, leaving, exiting, down or left
	Up         bool          `json:"up"`
	Since      time.Duration `json:"since_ns"`               // how long it has been up, or down
	Epoch      uint64        `json:"epoch"`                  // the newest that it is known to have; 0: unknown
	Partitions int           `json:"partitions"`             // that it owns
	Pending    int           `json:"pending"`                // that it will own when all transfers are done
	Voter      bool          `json:"voter"`                  // of the topology log
	Ahead      time.Duration `json:"clock_ahead_ns"`         // how far its wall clock is ahead of this node's, about
	Skewed     bool          `json:"clock_skewed,omitempty"` // by more than may be of most nodes' clocks
}

// TransferState is one movement of data.
type TransferState struct {
	Kind        string    `json:"kind"`         // ownership, fill, drain or repair
	ID          uint64    `json:"id,omitempty"` // of the ownership transfer, if it is part of one
	Partition   string    `json:"partition"`    // decimal position on the ring
	Index       int       `json:"index"`
	From        string    `json:"from"`
	To          string    `json:"to"`
	Phase       string    `json:"phase"` // of an ownership transfer waiting, copying or settling; of others what they do, in words
	Forced      bool      `json:"forced,omitempty"`
	Homes       int       `json:"homes,omitempty"` // ranges of keys to move
	HomesDone   int       `json:"homes_done,omitempty"`
	Objects     int64     `json:"objects,omitempty"`
	Bytes       int64     `json:"bytes,omitempty"`
	Rate        float64   `json:"bytes_per_second,omitempty"`
	Begun       time.Time `json:"begun,omitzero"`
	Progress    time.Time `json:"progress,omitzero"` // the last
	Deadline    time.Time `json:"deadline,omitzero"` // without progress until then it is held to be stuck
	LastError   string    `json:"last_error,omitempty"`
	RetryAt     time.Time `json:"retry_at,omitzero"`
	Skipped     int       `json:"skipped,omitempty"` // objects that cannot be read, and stay where they are
	SkippedKeys []string  `json:"skipped_keys,omitempty"`
	Node        string    `json:"node"` // that does the work and reports it
}

// ClusterState is the cluster as one node knows it.
type ClusterState struct {
	Cluster    string          `json:"cluster"`
	Node       string          `json:"node"`
	Epoch      uint64          `json:"epoch"`
	Partitions int             `json:"partitions"`
	Replicas   int             `json:"replicas"`
	Copies     int             `json:"distinct_copies"`
	Leader     string          `json:"leader"`          // of the topology log; empty: none is known
	Voters     []string        `json:"voters"`          // of the topology log
	Waits      string          `json:"waits,omitempty"` // why a topology command would wait; empty: it would not
	Members    []ClusterMember `json:"members"`
	Staged     []Change        `json:"staged"`
	Transfers  []TransferState `json:"transfers"`
	Warnings   []string        `json:"warnings"`
	Owners     []string        `json:"owners"` // by partition
	Next       []string        `json:"next"`   // by partition, the owner it will have when all transfers are done; empty: the same
	Ready      bool            `json:"ready"`  // all members are up and know this epoch, and nothing moves
	NotReady   []string        `json:"not_ready,omitempty"`
}

// ClusterError is a refused change of the cluster.
type ClusterError struct {
	Code string // as riak_core names it, where it does: not_member, only_member, plan_changed, …
	Text string // what is wrong, and what to do
}

// Error is the text.
func (e *ClusterError) Error() string { return e.Text }

// The codes of a ClusterError that do not come from the topology itself.
const (
	codeWaiting   = "no_majority"
	codeNoNetwork = "not_reachable"
	codeInDoubt   = "in_doubt" // it may have been made, or not
)

// ErrLeft says that a node has left its cluster, and handed over all that it had.
// It serves no more; its directory holds nothing of value.
var ErrLeft = errors.New("tanodb: this node has left its cluster, which has all its data; to take part again, begin with an empty directory")

// ErrRemoved says that a node is no member of its cluster any more without having
// left: it was removed or replaced by force, its staged joining was cleared, or the directory
// is another's. What it holds was not handed over.
var ErrRemoved = errors.New("tanodb: this node is no member of its cluster any more: it was removed or replaced by force, its joining was cleared, or another node has its name; " +
	"keep its directory as long as it may hold the only copy of anything; to take part again, begin with an empty one")

// changeTimeout bounds a change of the topology whose context has no end.
const changeTimeout = 30 * time.Second

// Stage adds a change to the plan. Join stages joins.
func (n *Node) Stage(ctx context.Context, c Change) error {
	if c.Kind == ChangeJoin {
		return &ClusterError{Code: "invalid", Text: "a node stages its own joining: run `tanodb cluster join` on the node that is to join"}
	}
	return n.topology.propose(ctx, membership.Stage{Change: membership.Change{
		Kind: membership.ChangeKind(c.Kind), Node: c.Node, With: c.With, Zone: c.Zone, Weight: c.Weight,
	}})
}

// ClusterPlan says what a commit would do now.
func (n *Node) ClusterPlan(context.Context) (Plan, error) {
	p, err := n.state().Plan()
	if err != nil {
		return Plan{}, clusterError(err)
	}
	plan := publicPlan(p)
	plan.Warnings = append(plan.Warnings, n.doubts(p)...)
	return plan, nil
}

// doubts are what in a plan does not fit with who is up.
func (n *Node) doubts(p *membership.Plan) []string {
	var list []string
	for _, c := range p.Changes {
		gets := c.With
		if c.Kind == membership.ChangeJoin {
			gets = c.Node
		}
		if gets != "" && !n.live.up(gets) {
			list = append(list, fmt.Sprintf("%s is down: what it is to get waits until it is up", gets))
		}
		if forced := c.Kind == membership.ChangeForceRemove || c.Kind == membership.ChangeForceReplace; forced && n.live.up(c.Node) {
			list = append(list, fmt.Sprintf("%s is up: by force, what only it has is lost; leave or replace hands it over", c.Node))
		}
	}
	return list
}

// ClusterCommit makes the plan of this id happen, unless it is no longer the
// plan: then nothing changes and the error's code is plan_changed.
func (n *Node) ClusterCommit(ctx context.Context, planID string) error {
	return n.topology.propose(ctx, membership.Commit{Plan: planID})
}

// ClusterClear takes back all staged changes.
func (n *Node) ClusterClear(ctx context.Context) error {
	return n.topology.propose(ctx, membership.Clear{})
}

// ClusterDown tells the cluster not to wait for a node that is gone for now.
// The node is a member again as soon as it is back.
func (n *Node) ClusterDown(ctx context.Context, node string) error {
	if node == n.self {
		return &ClusterError{Code: "is_up", Text: "node " + node + " is up: it is the one that was asked"}
	}
	if n.live.up(node) {
		return &ClusterError{Code: "is_up", Text: "node " + node + " is up; stop it first, or let it leave"}
	}
	return n.topology.propose(ctx, membership.Down{Name: node})
}

// SetTransferLimits sets, for the whole cluster, how many ownership transfers a
// node takes part in at once, and for each node how many bytes a second it may
// move. 0 leaves the former as it is, a negative number the latter, for which 0 is no limit.
func (n *Node) SetTransferLimits(ctx context.Context, perNode int, bytesPerSecond int64) error {
	if perNode < 0 {
		return &ClusterError{Code: "invalid", Text: "a limit must not be negative"}
	}
	if perNode > 0 {
		if err := n.topology.propose(ctx, membership.Set{Key: "transfer_limit", Value: strconv.Itoa(perNode)}); err != nil {
			return err
		}
	}
	if bytesPerSecond < 0 {
		return nil
	}
	return n.topology.propose(ctx, membership.Set{Key: settingRate, Value: strconv.FormatInt(bytesPerSecond, 10)})
}

// settingRate is the setting of the cluster that limits the bytes that each node moves a second.
const settingRate = "transfer_bytes_per_second"

// Repair rebuilds partitions of this node from their other replicas: all of
// them if target is the node's name, or the one of that index or position. It
// returns how many; Cluster shows the progress. Until a partition is rebuilt, reads go to
// the others.
func (n *Node) Repair(ctx context.Context, target string) (int, error) {
	r := n.state().Ring()
	var ps []ring.Partition
	if target == n.self {
		for p := range r.Size() {
			if r.Owner(ring.Partition(p)) == n.self {
				ps = append(ps, ring.Partition(p))
			}
		}
	} else {
		p, err := parsePartition(target, r.Size())
		if err != nil {
			return 0, err
		}
		if owner := r.Owner(p); owner != n.self {
			return 0, &ClusterError{Code: "not_mine", Text: fmt.Sprintf("partition %d is owned by %s: repair it there", p, owner)}
		}
		ps = append(ps, p)
	}
	if len(r.Nodes()) == 1 || n.network == nil {
		return 0, &ClusterError{Code: "only_member", Text: "there is no other node to rebuild from"}
	}
	return len(ps), n.movers.repair(ctx, ps)
}

// parsePartition reads an index, or a position on the ring.
func parsePartition(s string, size int) (ring.Partition, error) {
	if i, err := strconv.Atoi(s); err == nil && i >= 0 && i < size {
		return ring.Partition(i), nil
	}
	for p := range size {
		if (kv.Partition{Index: p, Of: size}).String() == s {
			return ring.Partition(p), nil
		}
	}
	return 0, &ClusterError{Code: "invalid", Text: fmt.Sprintf("%q is neither this node's name nor a partition: an index from 0 to %d, or a position", s, size-1)}
}

// ClusterRecover makes the survivors the only voters of the topology, when the
// majority of its voters is gone for ever. It is the last resort: what the lost voters have
// agreed on among themselves is forgotten, and if they are not really gone there are
// two topologies. Every survivor must be up; this node must be one of them. While the
// topology has a leader it is refused: then there is a majority.
func (n *Node) ClusterRecover(ctx context.Context, survivors []string) error {
	if !slices.Contains(survivors, n.self) {
		return &ClusterError{Code: "invalid", Text: "node " + n.self + " must be among the survivors: ask one that is"}
	}
	for _, name := range survivors {
		if _, ok := n.state().Member(name); !ok {
			return &ClusterError{Code: "not_member", Text: name + " is not a member"}
		}
		if !n.live.up(name) {
			return &ClusterError{Code: "not_reachable", Text: "node " + name + " cannot be reached, so it is no survivor"}
		}
	}
	if log := n.topology.status(); log.led {
		return &ClusterError{Code: "not_lost", Text: "nothing is to be recovered: a majority of the voters is up, and " + log.leader + " leads it; take dead nodes out with force-remove or force-replace"}
	}
	return n.topology.recover(ctx, survivors)
}

// Cluster is the cluster as this node knows it, with the progress of its own transfers.
func (n *Node) Cluster() ClusterState {
	s := n.state()
	r := s.Ring()
	log := n.topology.status()
	c := ClusterState{
		Cluster: clusterID(s.Cluster()), Node: n.self, Epoch: s.Epoch(),
		Partitions: r.Size(), Replicas: s.Replicas(), Copies: r.Copies(s.Replicas()),
		Leader: log.leader, Voters: log.voters, Waits: log.waits,
		Staged: publicChanges(s.Staged()), Transfers: n.transfers(s),
		Owners: make([]string, r.Size()), Next: make([]string, r.Size()),
		Warnings: []string{},
	}
	for _, w := range s.Warnings() {
		c.Warnings = append(c.Warnings, w.String())
	}
	for p := range c.Owners {
		c.Owners[p] = r.Owner(ring.Partition(p))
	}
	pending := make(map[string]int)
	for _, t := range s.Transfers() {
		if t.Phase == membership.Settling {
			continue // the ring shows the new owner already
		}
		c.Next[t.Partition] = t.To
		pending[t.From]--
		pending[t.To]++
	}
	for _, m := range s.Members() {
		c.Members = append(c.Members, ClusterMember{
			Name: m.Name, ID: nodeID(m.ID), Address: m.Address, Zone: m.Zone, Weight: cmp.Or(m.Weight, membership.DefaultWeight), Status: string(m.Status),
			Up: n.live.up(m.Name), Since: n.live.since(m.Name), Epoch: n.topology.epochOf(m.Name),
			Partitions: r.Owned(m.Name), Pending: r.Owned(m.Name) + pending[m.Name], Voter: slices.Contains(log.voters, m.Name),
			Ahead: n.clocks.ahead(m.Name), Skewed: n.clocks.off(m.Name),
		})
	}
	c.NotReady = notReady(&c)
	c.Ready = len(c.NotReady) == 0
	return c
}

// Owners are the nodes that own the partitions, in their order, and the epoch of
// the topology in which they do.
func (n *Node) Owners() (epoch uint64, owners []string) {
	s := n.state()
	r := s.Ring()
	owners = make([]string, r.Size())
	for p := range owners {
		owners[p] = r.Owner(ring.Partition(p))
	}
	return s.Epoch(), owners
}

// notReady says what the cluster still waits for.
func notReady(c *ClusterState) []string {
	var why []string
	for _, m := range c.Members {
		switch {
		case m.Status == string(membership.StatusLeft):
			continue
		case m.Status == string(membership.StatusJoining):
			why = append(why, m.Name+" is joining: commit the plan, or clear it")
		case !m.Up:
			why = append(why, m.Name+" is down")
		case m.Epoch != c.Epoch:
			why = append(why, fmt.Sprintf("%s has epoch %d, not %d", m.Name, m.Epoch, c.Epoch))
		}
	}
	pending, repairs := 0, 0
	for _, t := range c.Transfers {
		switch t.Kind {
		case "ownership":
			pending++
		case "repair":
			repairs++
		}
	}
	if repairs > 0 {
		why = append(why, fmt.Sprintf("%d partitions of %s are being rebuilt", repairs, c.Node))
	}
	if pending > 0 {
		why = append(why, fmt.Sprintf("%d ownership transfers are pending", pending))
	}
	if c.Waits != "" {
		why = append(why, c.Waits)
	}
	return why
}

// transfers are those of the topology, and what this node itself moves.
func (n *Node) transfers(s *membership.State) []TransferState {
	all := []TransferState{}
	for _, t := range s.Transfers() {
		all = append(all, TransferState{
			Kind: "ownership", ID: t.ID, Partition: s.Ring().Partition(t.Partition).String(), Index: int(t.Partition),
			From: t.From, To: t.To, Phase: string(t.Phase), Forced: t.Forced, Node: t.To,
		})
	}
	return append(all, n.movers.states(s)...)
}

func publicPlan(p *membership.Plan) Plan {
	out := Plan{ID: p.ID, Epoch: p.Epoch, Changes: publicChanges(p.Changes), Shares: []Share{}, Moves: []PairMoves{}, Warnings: []string{}}
	for _, s := range p.Shares {
		out.Shares = append(out.Shares, Share{
			Node: s.Name, Status: string(s.Status), Before: s.Before, After: s.After,
			BeforePercent: percent(s.Before, p.Partitions), AfterPercent: percent(s.After, p.Partitions),
		})
	}
	for _, m := range p.Moves {
		out.Moves = append(out.Moves, PairMoves{From: m.From, To: m.To, Partitions: m.Partitions})
	}
	for _, w := range p.Warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	return out
}

func percent(part, of int) float64 { return 100 * float64(part) / float64(of) }

func publicChanges(cs []membership.Change) []Change {
	out := make([]Change, len(cs))
	for i, c := range cs {
		out[i] = Change{Kind: ChangeKind(c.Kind), Node: c.Node, With: c.With, Zone: c.Zone, Weight: c.Weight}
	}
	return out
}

// String is the change in words.
func (c Change) String() string {
	s := string(c.Kind) + " " + c.Node
	if c.With != "" {
		s += " with " + c.With
	}
	if c.Zone != "" {
		s += ", zone " + c.Zone
	}
	if c.Weight != 0 {
		s += fmt.Sprintf(", weight %d", c.Weight)
	}
	return s
}

// clusterError is an error of package membership as users get it.
func clusterError(err error) error {
	var e *membership.ChangeError
	if errors.As(err, &e) {
		return &ClusterError{Code: e.Code, Text: e.Text}
	}
	if errors.Is(err, membership.ErrCommandInDoubt) {
		return &ClusterError{Code: codeInDoubt, Text: err.Error()}
	}
	return err
}

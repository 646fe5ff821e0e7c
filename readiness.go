package tanodb

import (
	"fmt"

	"github.com/tanodb/tanodb/internal/membership"
)

// Readiness says whether a node is to be sent requests, and why not. What it has to do
// besides keeps it from nothing, and stands there for whoever waits for it, as before the
// next node of a rolling restart.
type Readiness struct {
	Node    string   `json:"node"`
	Ready   bool     `json:"ready"`
	Reasons []Reason `json:"reasons"` // why it is not; empty: it is

	HandoffJobs int `json:"handoff_jobs"`     // fills, drains and repairs that it has to do
	RepairDue   int `json:"repair_pairs_due"` // pairs of replicas that it is to compare now
	MembersDown int `json:"members_down"`     // as it sees them
}

// Reason is one thing that keeps a node from being ready.
type Reason struct {
	What string `json:"what"` // closing, failed, member, outdated, lacking or disk
	Text string `json:"text"`
}

// Readiness is how it stands with the node now.
func (n *Node) Readiness() Readiness {
	r := Readiness{
		Node: n.self, Reasons: []Reason{},
		HandoffJobs: len(n.movers.list()), RepairDue: n.menders.status().Due, MembersDown: len(n.members()) - n.membersUp(),
	}
	not := func(what, text string) { r.Reasons = append(r.Reasons, Reason{what, text}) }
	if err := n.Alive(); err != nil {
		not("failed", err.Error())
	} else if n.refuses() {
		not("closing", "the node is shutting down")
	}
	if why := n.noMember(); why != "" {
		not("member", why)
	}
	if n.wiping.Load() {
		not("outdated", "the disk is older than what was reaped, and is being erased")
	}
	if lacking := n.lackingVnodes(); len(lacking) > 0 {
		not("lacking", fmt.Sprintf("%d vnodes are being rebuilt and answer no reads", len(lacking)))
	}
	reads, writes := n.trouble()
	if writes != nil {
		not("disk", writes.Error())
	} else if reads != nil {
		not("disk", reads.Error())
	}
	r.Ready = len(r.Reasons) == 0
	return r
}

// noMember is why the topology gives this node no requests; empty: it does.
func (n *Node) noMember() string {
	m, ok := n.state().Member(n.self)
	switch {
	case !ok:
		return "the topology that this node has does not name it"
	case m.Status == membership.StatusValid, m.Status == membership.StatusLeaving:
		return ""
	}
	return "its status in the cluster is " + string(m.Status)
}

// Alive is why the node can serve nothing any more until its process is restarted; nil: it
// is not so. A cluster without a quorum, or a disk that is full, is no such reason.
func (n *Node) Alive() error {
	if fault := n.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

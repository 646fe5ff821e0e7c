package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
)

// repairPath is where the routes of anti-entropy are.
const repairPath = ownPrefix + "/repair"

type repairCmd struct {
	Status repairStatusCmd `cmd:"" help:"Show how the nodes compare their replicas, and what they have mended."`
	Pause  repairPauseCmd  `cmd:"" help:"Stop comparing."`
	Resume repairResumeCmd `cmd:"" help:"Go on comparing."`
	Verify repairVerifyCmd `cmd:"" help:"Check all hash trees against the data, and all replicas against each other."`
}

// Help is the long part of the command's help.
func (*repairCmd) Help() string {
	return `Nodes compare the replicas of all keys by themselves, by hash trees that are part of each write, and mend what differs. These commands watch that, and hold it up.

    tanodb repair status
    tanodb repair verify`
}

// repairArg names the node that is meant.
type repairArg struct {
	Node string `arg:"" optional:"" help:"The node's name; none: all members."`
}

// order sends an order about anti-entropy.
func (r repairArg) order(a *app, order string, into any) error {
	body, err := json.Marshal(api.RepairOrder{Node: r.Node})
	if err != nil {
		return err
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{
		method: http.MethodPost,
		path:   repairPath + "/" + order,
		query:  a.clusterQuery(),
		header: http.Header{"Content-Type": {"application/json"}},
		body:   body,
	})
	if err != nil {
		return a.told(err)
	}
	return ans.decode(into)
}

type repairStatusCmd struct{}

// Help is the long part of the command's help.
func (*repairStatusCmd) Help() string {
	return `PAIRS are the pairs of replicas that a node compares, DUE those that are to be compared now, FAILING those whose last comparison was broken off. MENDED counts objects that were merged here and on the other node, BUSY keys that were just being written. All counts are since the node's start.

Example:

    tanodb repair status`
}

// Run prints the states of all nodes.
func (*repairStatusCmd) Run(a *app) error {
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: repairPath, query: a.clusterQuery()})
	if err != nil {
		return a.told(err)
	}
	var s repairStates
	if err := ans.decode(&s.Repairs); err != nil {
		return err
	}
	return a.print(s)
}

type repairPauseCmd struct{ repairArg }

// Help is the long part of the command's help.
func (*repairPauseCmd) Help() string {
	return `A node that is paused begins no comparison; others go on to compare with it. A restart ends the pause.

Example, all members, and then one:

    tanodb repair pause
    tanodb repair pause n2`
}

// Run pauses.
func (c *repairPauseCmd) Run(a *app) error {
	var s repairStates
	if err := c.order(a, "pause", &s.Repairs); err != nil {
		return err
	}
	return a.print(s)
}

type repairResumeCmd struct{ repairArg }

// Help is the long part of the command's help.
func (*repairResumeCmd) Help() string {
	return `Example:

    tanodb repair resume`
}

// Run resumes.
func (c *repairResumeCmd) Run(a *app) error {
	var s repairStates
	if err := c.order(a, "resume", &s.Repairs); err != nil {
		return err
	}
	return a.print(s)
}

type repairVerifyCmd struct{ repairArg }

// Help is the long part of the command's help.
func (*repairVerifyCmd) Help() string {
	return `Each node reads all its data, computes the hash trees anew, and sets right what is wrong in them; that is a bug or a damaged disk, and is logged. Then the replicas of all homes are compared. It takes as long as reading the data does: give it a --timeout. If that ends before, the nodes go on, and "tanodb repair status" shows how far they are. The exit code is 1 if anything is wrong.

Example:

    tanodb repair verify --timeout 1h`
}

// Run verifies, and prints what came of it.
func (c *repairVerifyCmd) Run(a *app) error {
	var v verified
	if err := c.order(a, "verify", &v.Verified); err != nil {
		return err
	}
	if err := a.print(v); err != nil {
		return err
	}
	if !v.OK {
		return errors.New("not all is well; see above")
	}
	return nil
}

// repairStates are the states of some nodes.
type repairStates struct{ api.Repairs }

// String is a line for each node, what is being compared, and what failed.
func (s repairStates) String() string {
	t := newTable("NODE", "STATE", "PAIRS", "DUE", "FAILING", "OLDEST", "COMPARED", "EQUAL", "MENDED", "BUSY", "BYTES")
	var more strings.Builder
	for _, n := range s.Nodes {
		if n.Error != "" {
			t.row(n.Node, "unknown")
			fmt.Fprintf(&more, "%s: %s\n", n.Node, n.Error)
			continue
		}
		state := "on"
		if n.Paused {
			state = "paused"
		}
		oldest := "-"
		if !n.Oldest.IsZero() {
			oldest = brief(time.Since(n.Oldest)) + " ago"
		}
		t.row(n.Node, state, fmt.Sprint(n.Pairs), fmt.Sprint(n.Due), fmt.Sprint(n.Failing), oldest,
			fmt.Sprint(n.Exchanges), fmt.Sprint(n.Equal), fmt.Sprint(n.Received+n.Sent), fmt.Sprint(n.Busy), bytesText(float64(n.Bytes)))
		for _, r := range n.Running {
			fmt.Fprintf(&more, "%s compares %s: %s differ, %d mended\n", n.Node, pairText(r.RepairPair), plural(r.Different, "key"), r.Received+r.Sent)
		}
		for _, e := range n.Errors {
			fmt.Fprintf(&more, "%s could not compare %s: %s\n", n.Node, pairText(e.RepairPair), e.Error)
		}
		if v := n.Verify; v.Running {
			fmt.Fprintf(&more, "%s verifies its trees: %d of %d\n", n.Node, v.Done, v.Trees)
		}
	}
	out := t.String()
	if more.Len() > 0 {
		out += "\n" + more.String()
	}
	return out
}

func pairText(p tanodb.RepairPair) string {
	return fmt.Sprintf("home %d in its vnode %d with %s/%d", p.Home, p.Partition, p.Peer, p.PeerPartition)
}

// verified is what came of a verification.
type verified struct{ tanodb.Verified }

// String is a line for each node, what is wrong, and how it stands with the replicas.
func (v verified) String() string {
	t := newTable("NODE", "TREES", "OBJECTS", "WRONG", "MENDED")
	var more strings.Builder
	for _, n := range v.Nodes {
		if n.Error != "" {
			t.row(n.Node, "unknown")
			fmt.Fprintf(&more, "%s: %s\n", n.Node, n.Error)
			continue
		}
		s := n.Verify
		t.row(n.Node, fmt.Sprint(s.Trees), fmt.Sprint(s.Objects), fmt.Sprint(s.Wrong), fmt.Sprint(s.Mended))
		for _, e := range s.Errors {
			fmt.Fprintf(&more, "%s: %s\n", n.Node, e)
		}
	}
	for _, d := range v.Differ {
		fmt.Fprintf(&more, "home %d differs: %s\n", d.Home, strings.Join(d.Replicas, ", "))
	}
	out := t.String() + "\n" + more.String()
	if v.Differs == 0 {
		return out + fmt.Sprintf("the replicas of %s are equal\n", plural(v.Homes, "home"))
	}
	return out + fmt.Sprintf("the replicas of %d of %s differ; repair finds that by itself\n", v.Differs, plural(v.Homes, "home"))
}

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
)

type clusterStatusCmd struct{}

// Help is the long part of the command's help.
func (*clusterStatusCmd) Help() string {
	return `Example:

    tanodb cluster status`
}

// Run prints the cluster as one node knows it.
func (*clusterStatusCmd) Run(a *app) error {
	var s clusterStatus
	if err := a.clusterGet("", &s.ClusterState); err != nil {
		return a.told(err)
	}
	return a.print(s)
}

// clusterStatus is the cluster as a node knows it.
type clusterStatus struct{ tanodb.ClusterState }

// String is a few lines of facts, the members, what is staged, and warnings.
func (s clusterStatus) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s as %s knows it, epoch %d\n", s.Cluster, s.Node, s.Epoch)
	fmt.Fprintf(&b, "ring: %d partitions, %d replicas on %s\n", s.Partitions, s.Replicas, plural(s.Copies, "distinct node"))
	leader := "no leader is known"
	if s.Leader != "" {
		leader = "led by " + s.Leader
	}
	fmt.Fprintf(&b, "topology: %s, voters %s\n", leader, strings.Join(s.Voters, ", "))
	if s.Waits != "" {
		fmt.Fprintf(&b, "changes of the cluster wait: %s; reads and writes go on\n", s.Waits)
	}
	fmt.Fprintf(&b, "transfers: %d pending\n", ownershipTransfers(s.Transfers))
	fmt.Fprintf(&b, "%s\n\n%s", newReadiness(s.ClusterState), clusterMembers{s.Partitions, s.Members})
	if len(s.Staged) > 0 {
		b.WriteString("\nStaged, not committed:\n")
		for _, c := range s.Staged {
			fmt.Fprintf(&b, "  %v\n", c)
		}
	}
	writeWarnings(&b, s.Warnings)
	return b.String()
}

// writeWarnings adds the warnings, each on a line of its own.
func writeWarnings(b *strings.Builder, warnings []string) {
	if len(warnings) > 0 {
		b.WriteString("\n")
	}
	for _, w := range warnings {
		fmt.Fprintf(b, "WARNING: %s\n", w)
	}
}

type clusterMembersCmd struct{}

// Help is the long part of the command's help.
func (*clusterMembersCmd) Help() string {
	return `RING is the part of the ring that the member owns, PENDING the part that it will own when all transfers are done.

Example:

    tanodb cluster members`
}

// Run prints the members.
func (*clusterMembersCmd) Run(a *app) error {
	var s tanodb.ClusterState
	if err := a.clusterGet("", &s); err != nil {
		return a.told(err)
	}
	return a.print(clusterMembers{s.Partitions, s.Members})
}

// clusterMembers are the members of a ring of so many partitions.
type clusterMembers struct {
	partitions int
	members    []tanodb.ClusterMember
}

// MarshalJSON is the array of the members.
func (m clusterMembers) MarshalJSON() ([]byte, error) { return json.Marshal(m.members) }

// statuses are what a member may be, in the order in which they are counted.
var statuses = []string{"valid", "leaving", "exiting", statusJoining, "down", statusLeft}

// usualWeight is the weight of a member that has none of its own.
const usualWeight = 100

// String is a line each member that has not left, and how many there are of each status.
func (m clusterMembers) String() string {
	t := newTable("MEMBER", "STATUS", "RING", "PENDING", "STATE", "SINCE", "EPOCH", "VOTER", "ZONE", "WEIGHT", "ADDRESS")
	count := map[string]int{}
	for _, x := range m.members {
		count[x.Status]++
		if x.Status == statusLeft {
			continue // what it was does not matter any more
		}
		pending, state, voter := "--", "down", "-"
		if x.Pending != x.Partitions {
			pending = share(x.Pending, m.partitions)
		}
		if x.Up {
			state = "up"
		}
		if x.Voter {
			voter = "yes"
		}
		t.row(x.Name, x.Status, share(x.Partitions, m.partitions), pending, state, brief(x.Since),
			fmt.Sprint(x.Epoch), voter, or(x.Zone), fmt.Sprint(cmp.Or(x.Weight, usualWeight)), x.Address)
	}
	var counts []string
	for _, s := range statuses {
		if count[s] > 0 {
			counts = append(counts, fmt.Sprintf("%s: %d", s, count[s]))
		}
	}
	return t.String() + strings.Join(counts, ", ") + "\n"
}

// share is a part of so many partitions, in percent.
func share(part, of int) string {
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(max(of, 1)))
}

type clusterReadyCmd struct {
	Wait time.Duration `help:"Keep looking this long until the cluster is ready." placeholder:"DURATION"`
}

// Help is the long part of the command's help.
func (*clusterReadyCmd) Help() string {
	return `The exit code is 0 if all members are up and agree on the topology and nothing moves, and 1 if not.

Example, before the next node is restarted:

    tanodb cluster ready --wait 5m`
}

// Run tells whether the cluster is ready.
func (c *clusterReadyCmd) Run(a *app) error {
	if err := checkWait(c.Wait); err != nil {
		return err
	}
	var last readiness
	err := persist(c.Wait, func() error {
		var s tanodb.ClusterState
		last = readiness{}
		if err := a.clusterGet("", &s); err != nil {
			return err
		}
		last = newReadiness(s)
		if !s.Ready {
			return errors.New(last.String())
		}
		return nil
	})
	switch {
	case err == nil:
		return a.print(ordered{last, last.String()})
	case last.Node != "" && a.json:
		return errors.Join(err, a.printJSON(last))
	}
	return a.told(err)
}

// readiness says whether all agree and nothing moves.
type readiness struct {
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`
	Node     string   `json:"node"`
	Epoch    uint64   `json:"epoch"`

	members []string
}

func newReadiness(s tanodb.ClusterState) readiness {
	r := readiness{Ready: s.Ready, NotReady: s.NotReady, Node: s.Node, Epoch: s.Epoch}
	for _, m := range s.Members {
		if m.Status != statusLeft {
			r.members = append(r.members, m.Name)
		}
	}
	return r
}

// String is one line, without its end.
func (r readiness) String() string {
	if !r.Ready {
		return "not ready: " + strings.Join(r.NotReady, "; ")
	}
	return fmt.Sprintf("ready: all nodes agree on the ring: %s", strings.Join(r.members, ", "))
}

type clusterTransfersCmd struct{}

// Help is the long part of the command's help.
func (*clusterTransfersCmd) Help() string {
	return `A transfer of ownership is a partition on its way from one node to another; the work on it, and what else is moved, stands on lines of its own: fill (a node fetches what it is to hold), drain (a node gives away what it does not hold any more, or held for another) and repair.

Example:

    tanodb cluster transfers`
}

// Run prints the transfers of all nodes that answer.
func (*clusterTransfersCmd) Run(a *app) error {
	ts := transfers{now: time.Now()}
	if err := a.clusterGet("/transfers", &ts.Transfers); err != nil {
		return a.told(err)
	}
	return a.print(ts)
}

// transfers are what is being moved.
type transfers struct {
	api.Transfers
	now time.Time
}

// String is a line each transfer, and then what is wrong with some.
func (ts transfers) String() string {
	var b strings.Builder
	if len(ts.Transfers.Transfers) == 0 {
		b.WriteString("No transfers are active or pending.\n")
	} else {
		t := newTable("KIND", "PARTITION", "FROM", "TO", "PHASE", "DONE", "OBJECTS", "BYTES", "RATE", "PROGRESS")
		for _, x := range ts.Transfers.Transfers {
			t.row(ts.row(x)...)
		}
		b.WriteString(t.String())
	}
	for _, x := range ts.Transfers.Transfers {
		if note := ts.note(x); note != "" {
			fmt.Fprintf(&b, "%s of partition %d from %s to %s: %s\n", x.Kind, x.Index, or(x.From), or(x.To), note)
		}
	}
	if ts.Error != "" {
		fmt.Fprintf(&b, "There may be more: %s\n", ts.Error)
	}
	return b.String()
}

// row is a transfer's line. What does not apply to it is a dash.
func (ts transfers) row(x tanodb.TransferState) []string {
	done, objects, size, rate, progress := "-", "-", "-", "-", "-"
	if x.Homes > 0 {
		done = fmt.Sprintf("%d/%d", x.HomesDone, x.Homes)
	}
	if x.Objects > 0 || x.Homes > 0 {
		objects, size = fmt.Sprint(x.Objects), bytesText(float64(x.Bytes))
	}
	if x.Rate > 0 {
		rate = bytesText(x.Rate) + "/s"
	}
	if !x.Progress.IsZero() {
		progress = brief(max(ts.now.Sub(x.Progress), 0)) + " ago"
	}
	phase := or(x.Phase)
	if x.Forced {
		phase += ", forced"
	}
	return []string{x.Kind, fmt.Sprint(x.Index), or(x.From), or(x.To), phase, done, objects, size, rate, progress}
}

// note is what an operator has to know of a transfer beyond its line.
func (ts transfers) note(x tanodb.TransferState) string {
	var notes []string
	if x.LastError != "" {
		notes = append(notes, "last error: "+showText(x.LastError))
	}
	if x.RetryAt.After(ts.now) {
		notes = append(notes, "tries again in "+brief(x.RetryAt.Sub(ts.now)))
	}
	if !x.Deadline.IsZero() && x.Deadline.Before(ts.now) {
		notes = append(notes, "is stuck: no progress by its deadline, "+brief(ts.now.Sub(x.Deadline))+" ago")
	}
	if x.Skipped > 0 {
		note := fmt.Sprintf("%s cannot be read and stay where they are", plural(x.Skipped, "object"))
		var keys []string
		for _, k := range x.SkippedKeys {
			keys = append(keys, showText(k))
		}
		if len(keys) > 0 {
			note += ", among them " + strings.Join(keys, " ")
		}
		notes = append(notes, note)
	}
	return strings.Join(notes, "; ")
}

// or is a word of a table, or a dash for none.
func or(s string) string { return cmp.Or(s, "-") }

type clusterRingCmd struct{}

// Help is the long part of the command's help.
func (*clusterRingCmd) Help() string {
	return `Each partition is a letter that stands for its owner. If partitions are to change their owner, a second picture shows these.

Example:

    tanodb cluster ring`
}

// Run prints the ring.
func (*clusterRingCmd) Run(a *app) error {
	var s tanodb.ClusterState
	if err := a.clusterGet("", &s); err != nil {
		return a.told(err)
	}
	return a.print(ringPicture{Epoch: s.Epoch, Partitions: s.Partitions, Owners: s.Owners, Next: s.Next})
}

// ringPicture is who owns which partition, and who will.
type ringPicture struct {
	Epoch      uint64   `json:"epoch"`
	Partitions int      `json:"partitions"`
	Owners     []string `json:"owners"`
	Next       []string `json:"next"` // empty: the same
}

// String is a table of the owners with a letter for each, and the ring in these
// letters.
func (r ringPicture) String() string {
	owned, pending := map[string]int{}, map[string]int{}
	letters := map[string]string{"": "."}
	for i, owner := range r.Owners {
		owned[owner]++
		letters[owner] = ""
		if i < len(r.Next) && r.Next[i] != "" {
			pending[r.Next[i]]++
			pending[owner]--
			letters[r.Next[i]] = ""
		}
	}
	delete(letters, "")
	var nodes []string
	for node := range letters {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	t := newTable("LETTER", "NODE", "PARTITIONS", "RING", "PENDING")
	width := letterWidth(len(nodes))
	for i, node := range nodes {
		letters[node] = letter(i, width)
		after := "--"
		if pending[node] != 0 {
			after = share(owned[node]+pending[node], len(r.Owners))
		}
		t.row(letters[node], node, fmt.Sprint(owned[node]), share(owned[node], len(r.Owners)), after)
	}
	letters[""] = strings.Repeat(".", width)
	out := fmt.Sprintf("%d partitions, epoch %d\n\n%s\n%s", r.Partitions, r.Epoch, t, picture(r.Owners, letters, width))
	if strings.Join(r.Next, "") != "" {
		out += "\nWhen all transfers are done, these are of:\n" + picture(r.Next, letters, width)
	}
	return out
}

// alphabet are the letters of a ring.
const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// letterWidth is how many letters each of n nodes needs.
func letterWidth(n int) int {
	width := 1
	for most := len(alphabet); most < n; most *= len(alphabet) {
		width++
	}
	return width
}

// letter is the name of node i in a picture, that many letters wide.
func letter(i, width int) string {
	b := make([]byte, width)
	for at := width - 1; at >= 0; at-- {
		b[at] = alphabet[i%len(alphabet)]
		i /= len(alphabet)
	}
	return string(b)
}

// picture shows a ring, in rows that begin with the index of their first partition
// and in groups of eight.
func picture(owners []string, letters map[string]string, width int) string {
	const row, group = 64, 8
	digits := len(fmt.Sprint(max(len(owners)-1, 0)))
	var b strings.Builder
	for i, owner := range owners {
		switch {
		case i%row == 0:
			fmt.Fprintf(&b, "%*d  ", digits, i)
		case i%group == 0, width > 1:
			b.WriteString(" ")
		}
		b.WriteString(letters[owner])
		if i%row == row-1 || i == len(owners)-1 {
			b.WriteString("\n")
		}
	}
	return b.String()
}

// plan is what a commit would do.
type plan struct{ tanodb.Plan }

// String is the plan, and how to commit it.
func (p plan) String() string {
	return p.text() + fmt.Sprintf("\nNothing has changed yet. Commit it with: tanodb cluster commit %s\n", p.ID)
}

// text is what the plan does: the changes, each member's share, the warnings, and the
// transfers.
func (p plan) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Plan %s for epoch %d:\n", p.ID, p.Epoch)
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "  %v\n", c)
	}
	t := newTable("MEMBER", "STATUS", "BEFORE", "", "AFTER", "")
	for _, s := range p.Shares {
		t.row(s.Node, s.Status, fmt.Sprint(s.Before), fmt.Sprintf("%.1f%%", s.BeforePercent), fmt.Sprint(s.After), fmt.Sprintf("%.1f%%", s.AfterPercent))
	}
	fmt.Fprintf(&b, "\n%s", t)
	writeWarnings(&b, p.Warnings)
	fmt.Fprintf(&b, "\nTransfers resulting from cluster changes: %d\n", p.Transfers())
	for _, m := range p.Moves {
		fmt.Fprintf(&b, "  %s from %s to %s\n", plural(m.Partitions, "transfer"), m.From, m.To)
	}
	return b.String()
}

// committed is a plan that was made to happen.
type committed struct {
	ID   string `json:"committed"`
	Plan *plan  `json:"plan,omitempty"` // if it was printed
	Done bool   `json:"done"`           // all its transfers are known to be done
}

// String is one line.
func (c committed) String() string {
	switch {
	case c.Done:
		return fmt.Sprintf("plan %s is committed, and no transfers are pending\n", c.ID)
	case c.Plan != nil && c.Plan.Transfers() == 0:
		return fmt.Sprintf("plan %s is committed; it moves nothing\n", c.ID)
	}
	return fmt.Sprintf("plan %s is committed; see tanodb cluster transfers\n", c.ID)
}

// joined is a node that has joined a cluster, or is to.
type joined struct {
	Node    string   `json:"node"`
	Cluster string   `json:"cluster"`
	Status  string   `json:"status"`
	Members []string `json:"members"`

	committed bool
}

func newJoined(s tanodb.ClusterState, committed bool) joined {
	return joined{
		Node: s.Node, Cluster: s.Cluster, Status: statusOf(s, s.Node), Members: newReadiness(s).members,
		committed: committed,
	}
}

// String is what has happened and what comes next.
func (j joined) String() string {
	others := slices.DeleteFunc(slices.Clone(j.Members), func(m string) bool { return m == j.Node })
	if j.committed {
		return fmt.Sprintf("%s is a member of cluster %s with %s; see tanodb cluster transfers\n", j.Node, j.Cluster, strings.Join(others, ", "))
	}
	return fmt.Sprintf("staged: %s joins cluster %s with %s\nNothing has changed yet. See what it would do with: tanodb cluster plan\n", j.Node, j.Cluster, strings.Join(others, ", "))
}

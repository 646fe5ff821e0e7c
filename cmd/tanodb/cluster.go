package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/internal/server/api"
)

type clusterCmd struct {
	Status    clusterStatusCmd    `cmd:"" help:"Show the cluster as the node knows it."`
	Members   clusterMembersCmd   `cmd:"" help:"Show the members and their parts of the ring."`
	Ring      clusterRingCmd      `cmd:"" help:"Show which node owns which partition."`
	Transfers clusterTransfersCmd `cmd:"" help:"Show what data is being moved, and how far that is."`
	Ready     clusterReadyCmd     `cmd:"" help:"Tell whether all nodes are up and agree, and nothing moves."`

	Join         clusterJoinCmd         `cmd:"" help:"Let the node join the cluster of another one."`
	Leave        clusterLeaveCmd        `cmd:"" help:"Stage that a node gives all it has to the others, and goes."`
	Replace      clusterReplaceCmd      `cmd:"" help:"Stage that a new node takes the place of another."`
	ForceReplace clusterForceReplaceCmd `cmd:"" help:"Stage that a new node takes the place of a dead one."`
	ForceRemove  clusterForceRemoveCmd  `cmd:"" help:"Stage that the others share what a dead node had."`
	Set          clusterSetCmd          `cmd:"" help:"Stage another zone or weight of a node."`
	Plan         clusterPlanCmd         `cmd:"" help:"Show what a commit would do."`
	Commit       clusterCommitCmd       `cmd:"" help:"Make the plan happen."`
	Clear        clusterClearCmd        `cmd:"" help:"Take back all that is staged."`

	Down    clusterDownCmd    `cmd:"" help:"Tell the cluster not to wait for a node that is gone for now."`
	Recover clusterRecoverCmd `cmd:"" help:"Give the topology new voters, when most of the old ones are lost for ever."`
	Repair  clusterRepairCmd  `cmd:"" help:"Rebuild partitions of the node from their other replicas."`
	Limits  clusterLimitsCmd  `cmd:"" help:"Limit the transfers of all nodes."`
	Deletes clusterDeletesCmd `cmd:"" help:"Say what becomes of tombstones."`
}

// Help is the long part of the command's help.
func (*clusterCmd) Help() string {
	return `A change of the members is staged first, then planned, then committed. Nothing moves before the commit, and a commit does what the plan has shown, or nothing:

    tanodb cluster join 10.0.0.1:7098 --addr http://10.0.0.4:8098
    tanodb cluster plan
    tanodb cluster commit
    tanodb cluster transfers

With --yes the commands that stage a change do all of that at once.`
}

// nodeArg names a node.
type nodeArg struct {
	Node string `arg:"" help:"The node's name."`
}

type clusterJoinCmd struct {
	Address string `arg:"" name:"host:port" help:"Where other nodes reach one of that cluster: its --listen, not its --http."`
	Zone    string `help:"Where the node stands: copies of a key are kept in distinct zones." placeholder:"ZONE"`
	Weight  int    `help:"The node's share, in percent of a usual node's; 0: 100." placeholder:"PERCENT"`
	stagingFlags
}

// Help is the long part of the command's help.
func (*clusterJoinCmd) Help() string {
	return `The node that is asked joins: it must be alone, hold no data, and have been started with --listen. It opens again as one of the other cluster, with the same name. A new node can do that by itself: tanodb serve --join, or --auto-join.

Example, on the new node:

    tanodb cluster join 10.0.0.1:7098
    tanodb cluster plan
    tanodb cluster commit`
}

// Run stages the joining, and waits until the node is there again.
func (c *clusterJoinCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := config.CheckHostPort(c.Address); err != nil {
		return usagef("%q: %v", c.Address, err)
	}
	if err := checkWeight(c.Weight); err != nil {
		return err
	}
	var before, after tanodb.ClusterState
	if err := a.clusterGet("", &before); err != nil {
		return a.told(err)
	}
	j := api.Join{Address: c.Address, Zone: c.Zone, Weight: c.Weight, Auto: c.Yes}
	if err := a.clusterPost("join", j, &j); err != nil {
		return a.told(err)
	}
	joined := func() error {
		if err := a.clusterGet("", &after); err != nil {
			return err
		}
		if after.Cluster == before.Cluster && len(after.Members) < 2 {
			return errors.New("the joining is staged, and the node has not opened again yet")
		}
		if c.Yes && statusOf(after, after.Node) == statusJoining {
			return errors.New("the joining is staged, and not committed yet: see tanodb cluster plan; it is left to you where other changes are staged too")
		}
		return nil
	}
	if err := persist(a.timeout, joined); err != nil {
		return err
	}
	if err := c.await(a); err != nil {
		return err
	}
	return a.print(newJoined(after, c.Yes))
}

type clusterLeaveCmd struct {
	Node string `arg:"" optional:"" help:"The node's name; none: the node that is asked."`
	stagingFlags
}

// Help is the long part of the command's help.
func (*clusterLeaveCmd) Help() string {
	return `The node goes on serving until the others have all it had; then its process ends. A node that is dead cannot leave: see force-remove and force-replace.

Example, the whole of it, for as long as it takes up to an hour:

    tanodb cluster leave n3 --yes --wait 1h`
}

// Run stages it.
func (c *clusterLeaveCmd) Run(a *app) error {
	return c.stage(a, tanodb.Change{Kind: tanodb.ChangeLeave, Node: c.Node})
}

// replaceArgs are the arguments of both kinds of replacement.
type replaceArgs struct {
	Old string `arg:"" help:"The node that goes."`
	New string `arg:"" help:"The node that takes its place; its joining is staged already."`
	stagingFlags
}

func (r replaceArgs) run(a *app, kind tanodb.ChangeKind) error {
	return r.stage(a, tanodb.Change{Kind: kind, Node: r.Old, With: r.New})
}

type clusterReplaceCmd struct{ replaceArgs }

// Help is the long part of the command's help.
func (*clusterReplaceCmd) Help() string {
	return `The new node gets exactly the partitions of the old one, which goes when it has handed them over. Nothing else moves.

Example, where n4 is new and n2 is to go:

    tanodb cluster join 10.0.0.1:7098 --addr http://10.0.0.4:8098
    tanodb cluster replace n2 n4
    tanodb cluster plan`
}

// Run stages it.
func (c *clusterReplaceCmd) Run(a *app) error { return c.run(a, tanodb.ChangeReplace) }

type clusterForceReplaceCmd struct{ replaceArgs }

// Help is the long part of the command's help.
func (*clusterForceReplaceCmd) Help() string {
	return `For a node that never comes back. The new node gets its partitions and fills them from the other replicas. What only the dead node had is lost.

Example:

    tanodb cluster force-replace n2 n4`
}

// Run stages it.
func (c *clusterForceReplaceCmd) Run(a *app) error { return c.run(a, tanodb.ChangeForceReplace) }

type clusterForceRemoveCmd struct {
	nodeArg
	stagingFlags
}

// Help is the long part of the command's help.
func (*clusterForceRemoveCmd) Help() string {
	return `For a node that never comes back. The others share its partitions and fill them from the other replicas. What only the dead node had is lost.

Example:

    tanodb cluster force-remove n2`
}

// Run stages it.
func (c *clusterForceRemoveCmd) Run(a *app) error {
	return c.stage(a, tanodb.Change{Kind: tanodb.ChangeForceRemove, Node: c.Node})
}

type clusterSetCmd struct {
	nodeArg
	Zone   string `help:"Where the node stands: copies of a key are kept in distinct zones." placeholder:"ZONE"`
	Weight *int   `help:"The node's share, in percent of a usual node's, 1 or more." placeholder:"PERCENT"`
	stagingFlags
}

// Help is the long part of the command's help.
func (*clusterSetCmd) Help() string {
	return `Example, for a machine with twice the disk, in another building:

    tanodb cluster set n3 --weight 200 --zone south`
}

// Run stages it.
func (c *clusterSetCmd) Run(a *app) error {
	if c.Zone == "" && c.Weight == nil {
		return usagef("nothing is to be set: give --zone or --weight")
	}
	change := tanodb.Change{Kind: tanodb.ChangeSet, Node: c.Node, Zone: c.Zone}
	if c.Weight != nil {
		if change.Weight = *c.Weight; change.Weight < 1 {
			return usagef("--weight is %d; it must be 1 or more: a node that is to own nothing leaves", change.Weight)
		}
	}
	return c.stage(a, change)
}

// checkWeight refuses a share that cannot be meant; how large it may be is for
// the cluster to say.
func checkWeight(weight int) error {
	if weight < 0 {
		return usagef("--weight is %d; it cannot be negative", weight)
	}
	return nil
}

type clusterPlanCmd struct{}

// Help is the long part of the command's help.
func (*clusterPlanCmd) Help() string {
	return `Example:

    tanodb cluster plan`
}

// Run prints what a commit would do.
func (*clusterPlanCmd) Run(a *app) error {
	p, err := a.plan()
	if err != nil {
		return a.told(err)
	}
	return a.print(p)
}

type clusterCommitCmd struct {
	Plan string        `arg:"" optional:"" help:"The plan's id, as plan has printed it; none: plan now, print it, and commit exactly that."`
	Wait time.Duration `help:"Wait this long until no transfers are pending." placeholder:"DURATION"`
}

// Help is the long part of the command's help.
func (*clusterCommitCmd) Help() string {
	return `If anything has changed since the plan was made, nothing happens but that the commit fails.

Example:

    tanodb cluster commit --wait 10m`
}

// Run commits the plan.
func (c *clusterCommitCmd) Run(a *app) error {
	if err := checkWait(c.Wait); err != nil {
		return err
	}
	if c.Plan != "" {
		return a.commit(committed{ID: c.Plan}, c.Wait)
	}
	p, err := a.plan()
	if err != nil {
		return a.told(err)
	}
	return a.commit(committed{ID: p.ID, Plan: &p}, c.Wait)
}

type clusterClearCmd struct{}

// Help is the long part of the command's help.
func (*clusterClearCmd) Help() string {
	return `Example:

    tanodb cluster clear`
}

// Run takes back all staged changes.
func (*clusterClearCmd) Run(a *app) error {
	var c api.Clear
	if err := a.clusterPost("clear", c, &c); err != nil {
		return a.told(err)
	}
	return a.print(ordered{c, "nothing is staged any more"})
}

type clusterDownCmd struct{ nodeArg }

// Help is the long part of the command's help.
func (*clusterDownCmd) Help() string {
	return `A node that is away for long should not vote on changes of the cluster: marked as down, another one votes in its place, and no transfer begins that needs it. It is a member again as soon as it is back.

Example:

    tanodb cluster down n3`
}

// Run marks it.
func (c *clusterDownCmd) Run(a *app) error {
	d := api.Down{Node: c.Node}
	if err := a.clusterPost("down", d, &d); err != nil {
		return a.told(err)
	}
	return a.print(ordered{d, d.Node + " is marked down: it does not vote, and no transfer begins that needs it"})
}

type clusterRecoverCmd struct {
	Survivors []string `arg:"" name:"node" help:"All nodes that are to vote from now on: those that are left."`
	IKnow     bool     `name:"i-know-what-i-lose" help:"Changes of the cluster that only the lost voters know are forgotten."`
}

// Help is the long part of the command's help.
func (*clusterRecoverCmd) Help() string {
	return `The last resort, when the majority of the voters will never come back, so that the members cannot change any more. Reads and writes need none of this. What the lost voters have agreed on among themselves is forgotten; should they still live, there are two clusters that disagree. Stop them first.

Example, with n1 left of n1, n2 and n3:

    tanodb cluster recover n1 --i-know-what-i-lose`
}

// Run forces the new voters.
func (c *clusterRecoverCmd) Run(a *app) error {
	if !c.IKnow {
		return usagef("changes that only the lost voters know are forgotten, and if these still live there are two clusters: say --i-know-what-i-lose if that is what you want")
	}
	r := api.Recover{Survivors: c.Survivors, IKnow: true}
	if err := a.clusterPost("recover", r, &r); err != nil {
		return a.told(err)
	}
	return a.print(ordered{r, "the topology's only voters are now " + strings.Join(r.Survivors, ", ")})
}

type clusterRepairCmd struct {
	Target string `arg:"" name:"node|partition" help:"The name of the node that is asked: all its partitions; or a partition by its index or position."`
}

// Help is the long part of the command's help.
func (*clusterRepairCmd) Help() string {
	return `The node that is asked rebuilds its partitions from their other replicas; until that is done, reads go to these.

Example, all partitions of n2 and then one of it:

    tanodb cluster repair n2 --addr http://10.0.0.2:8098
    tanodb cluster repair 17 --addr http://10.0.0.2:8098`
}

// Run begins the repair.
func (c *clusterRepairCmd) Run(a *app) error {
	var done api.Repaired
	if err := a.clusterPost("repair", api.Repair{Target: c.Target}, &done); err != nil {
		return a.told(err)
	}
	return a.print(ordered{done, fmt.Sprintf("repairing %s; see tanodb cluster transfers", plural(done.Partitions, "partition"))})
}

type clusterLimitsCmd struct {
	PerNode *int       `help:"Ownership transfers that a node takes part in at once, 1 or more; none: as it is." placeholder:"N"`
	Rate    *byteCount `help:"Bytes a second that each node moves, such as 10MiB; 0: no limit; none: as it is." placeholder:"BYTES"`
}

// Help is the long part of the command's help.
func (*clusterLimitsCmd) Help() string {
	return `The limits hold for the whole cluster until they are set again.

Example:

    tanodb cluster limits --per-node 2 --rate 10MiB`
}

// Run sets the limits.
func (c *clusterLimitsCmd) Run(a *app) error {
	if c.PerNode == nil && c.Rate == nil {
		return usagef("say --per-node, or --rate, or both")
	}
	var l api.Limits
	var texts []string
	if c.Rate != nil {
		rate := int64(*c.Rate)
		l.BytesPerSecond = &rate
		text := "each node moves as much as it can"
		if rate > 0 {
			text = "each node moves up to " + bytesText(float64(rate)) + " a second"
		}
		texts = append(texts, text)
	}
	if c.PerNode != nil {
		if l.PerNode = *c.PerNode; l.PerNode < 1 {
			return usagef("--per-node is %d; it must be 1 or more: without any no partition would move", l.PerNode)
		}
		texts = append(texts, fmt.Sprintf("each node takes part in up to %s at once", plural(l.PerNode, "transfer")))
	}
	if err := a.clusterPost("limits", l, &l); err != nil {
		return a.told(err)
	}
	return a.print(ordered{l, strings.Join(texts, "; ")})
}

type clusterDeletesCmd struct {
	Mode  string        `help:"reap: tombstones go when nothing that they have replaced is left anywhere; keep: they stay; none: as it is." enum:",reap,keep" default:"" placeholder:"MODE"`
	Grace time.Duration `help:"How old a tombstone is at least when it is reaped, from 1s to a year; none: as it is." placeholder:"DURATION"`
}

// Help is the long part of the command's help.
func (*clusterDeletesCmd) Help() string {
	return `A delete leaves a tombstone, which keeps older copies from coming back. It is removed from all replicas by agreement of all members, so all of them must be up for that. The settings hold for the whole cluster, and all buckets, until they are set again; tanodb status shows them, and how many tombstones a node holds.

Example:

    tanodb cluster deletes --grace 1h`
}

// Run sets what becomes of tombstones.
func (c *clusterDeletesCmd) Run(a *app) error {
	if c.Mode == "" && c.Grace == 0 {
		return usagef("say --mode, or --grace, or both")
	}
	if c.Grace < 0 {
		return usagef("--grace is %v; it cannot be negative", c.Grace)
	}
	d := api.Deletes{Mode: c.Mode, Grace: c.Grace}
	var texts []string
	switch c.Mode {
	case "reap":
		texts = append(texts, "tombstones go when nothing that they have replaced is left")
	case "keep":
		texts = append(texts, "tombstones stay")
	}
	if c.Grace > 0 {
		texts = append(texts, fmt.Sprintf("a tombstone is at least %v old when it is reaped", c.Grace))
	}
	if err := a.clusterPost("deletes", d, &d); err != nil {
		return a.told(err)
	}
	return a.print(ordered{d, strings.Join(texts, "; ")})
}

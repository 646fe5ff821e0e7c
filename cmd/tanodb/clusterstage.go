package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
)

// clusterPath is where the routes of the cluster are.
const clusterPath = ownPrefix + "/cluster"

// The words for a member and for what moves that the commands look at.
const (
	statusJoining = "joining"
	statusLeft    = "left"
	kindOwnership = "ownership"
)

// The times of a command that waits for transfers.
const (
	awaitEvery   = 250 * time.Millisecond // between two looks
	awaitSilence = 5 * time.Second        // without an answer from any address
)

// clusterGet reads one of the cluster's resources: "", "/plan" or "/transfers".
func (a *app) clusterGet(name string, into any) error {
	return a.exchange(http.MethodGet, clusterPath+name, nil, into)
}

// clusterPost sends an order and reads the answer.
func (a *app) clusterPost(order string, body, into any) error {
	return a.exchange(http.MethodPost, clusterPath+"/"+order, body, into)
}

func (a *app) clusterQuery() url.Values {
	return url.Values{"timeout": a.timing()["timeout"]}
}

// ordered is the answer to an order, and a line that says it for people.
type ordered struct {
	answer any
	text   string
}

// MarshalJSON is the answer.
func (o ordered) MarshalJSON() ([]byte, error) { return json.Marshal(o.answer) }

// String is one line.
func (o ordered) String() string { return o.text + "\n" }

// stagingFlags are the flags of commands that stage a change.
type stagingFlags struct {
	Yes  bool          `help:"Plan it, print the plan and commit it at once, unless other changes are staged."`
	Wait time.Duration `help:"With --yes: wait this long until no transfers are pending." placeholder:"DURATION"`
}

func (f stagingFlags) check() error {
	if f.Wait != 0 && !f.Yes {
		return usagef("--wait goes with --yes")
	}
	return checkWait(f.Wait)
}

func checkWait(wait time.Duration) error {
	if wait < 0 {
		return usagef("--wait is %v; it cannot be negative", wait)
	}
	return nil
}

// stage stages the change, and with --yes commits the plan that it makes.
func (f stagingFlags) stage(a *app, c tanodb.Change) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := a.clusterPost("stage", c, &c); err != nil {
		return a.told(err)
	}
	if !f.Yes {
		return a.print(ordered{c, fmt.Sprintf("staged: %v\nNothing has changed yet. See what it would do with: tanodb cluster plan", c)})
	}
	p, err := a.plan()
	if err != nil {
		return a.told(err)
	}
	if slices.ContainsFunc(p.Changes, func(x tanodb.Change) bool { return !partOf(x, c) }) {
		return fmt.Errorf("%v is staged, and not committed: other changes are staged too; look at them with tanodb cluster plan, and commit or clear them all", c)
	}
	return a.commit(committed{ID: p.ID, Plan: &p}, f.Wait)
}

// partOf reports whether a change is the one that was asked for, or the joining of
// the node that takes the place of another in it.
func partOf(x, asked tanodb.Change) bool {
	if x.Kind == tanodb.ChangeJoin {
		return x.Node == asked.With
	}
	return x.Kind == asked.Kind && x.Node == asked.Node
}

// await waits for the transfers, if that was asked for.
func (f stagingFlags) await(a *app) error {
	if f.Wait == 0 {
		return nil
	}
	return a.awaitTransfers(f.Wait)
}

// plan is what a commit would do now.
func (a *app) plan() (plan, error) {
	var p plan
	return p, a.clusterGet("/plan", &p.Plan)
}

// commit commits a plan. If it is known what that does, this is printed before:
// people are to see it also when the commit fails.
func (a *app) commit(c committed, wait time.Duration) error {
	if c.Plan != nil && !a.json {
		if _, err := io.WriteString(a.stdout, c.Plan.text()+"\n"); err != nil {
			return err
		}
	}
	if err := a.clusterPost("commit", api.Commit{Plan: c.ID}, &api.Commit{}); err != nil {
		return a.told(err)
	}
	if wait > 0 {
		if err := a.awaitTransfers(wait); err != nil {
			return fmt.Errorf("the plan is committed, but %w", err)
		}
		c.Done = true
	}
	return a.print(c)
}

// awaitTransfers waits until no ownership transfer is pending, and says on
// standard error how many are.
func (a *app) awaitTransfers(within time.Duration) error {
	last, heard := -1, time.Now()
	return poll(within, awaitEvery, func() (final bool, err error) {
		var s tanodb.ClusterState
		if err := a.clusterGet("", &s); err != nil {
			if errors.Is(err, errUnreachable) && time.Since(heard) > awaitSilence {
				return true, fmt.Errorf("nobody answers any more; a node that has left ends, so ask another one: %w", err)
			}
			return false, err
		}
		heard = time.Now()
		pending := ownershipTransfers(s.Transfers)
		if pending == 0 {
			return true, nil
		}
		if pending != last {
			fmt.Fprintf(a.stderr, "%s pending\n", plural(pending, "transfer"))
			last = pending
		}
		return false, fmt.Errorf("%s still pending after %v", plural(pending, "transfer"), within)
	})
}

// ownershipTransfers counts the partitions that change their owner.
func ownershipTransfers(ts []tanodb.TransferState) int {
	n := 0
	for _, t := range ts {
		if t.Kind == kindOwnership {
			n++
		}
	}
	return n
}

// statusOf is the status of a member; empty: it is none.
func statusOf(s tanodb.ClusterState, node string) string {
	for _, m := range s.Members {
		if m.Name == node {
			return m.Status
		}
	}
	return ""
}

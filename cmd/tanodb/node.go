package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/api"
)

// pollEvery is how often a command that waits looks again.
const pollEvery = 50 * time.Millisecond

type pingCmd struct {
	Wait time.Duration `help:"Keep trying this long until a node answers." placeholder:"DURATION"`
}

// Help is the long part of the command's help.
func (*pingCmd) Help() string {
	return `Example, in a script that has just started a node:

    tanodb ping --wait 10s`
}

// Run asks once, or until the wait is over.
func (c *pingCmd) Run(a *app) error {
	return persist(c.Wait, func() error {
		p, err := ping(a)
		if err != nil {
			return err
		}
		return a.print(p)
	})
}

// persist calls fn until it succeeds or the time is over, at least once.
func persist(within time.Duration, fn func() error) error {
	return poll(within, pollEvery, func() (bool, error) {
		err := fn()
		return err == nil, err
	})
}

// poll calls fn again and again until its answer is final or the time is over,
// at least once, and returns its last error.
func poll(within, every time.Duration, fn func() (final bool, err error)) error {
	end := time.NewTimer(within)
	defer end.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		final, err := fn()
		if final || within <= 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-end.C:
			return err
		}
		select {
		case <-end.C: // that long did fn take
			return err
		default:
		}
	}
}

func ping(a *app) (pong, error) {
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: ownPrefix + "/ping"})
	var p pong
	if err != nil {
		return p, err
	}
	return p, ans.decode(&p)
}

// pong is the answer of one partition.
type pong struct{ api.Ping }

// String is one line.
func (p pong) String() string {
	return fmt.Sprintf("pong from partition %s on %s in %s\n", p.Partition, p.Node, micros(p.ElapsedUS))
}

type statusCmd struct{}

// Help is the long part of the command's help.
func (*statusCmd) Help() string {
	return `Example:

    tanodb status
    tanodb status --addr http://127.0.0.1:8098 --json`
}

// Run prints the status of one node.
func (*statusCmd) Run(a *app) error {
	ctx, cancel := a.requestContext()
	defer cancel()
	s, err := nodeStatus(ctx, a)
	if err != nil {
		return a.told(err)
	}
	return a.print(s)
}

func nodeStatus(ctx context.Context, a *app) (status, error) {
	var s status
	ans, err := a.ask(ctx, request{method: http.MethodGet, path: ownPrefix + "/status"})
	if err != nil {
		return s, err
	}
	return s, ans.decode(&s)
}

// status is what a node knows of itself and its cluster.
type status struct{ tanodb.Status }

// String is a few lines of facts, the members, and services that were restarted.
func (s status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %s of cluster %s, up %v, version %s\n", s.Node, s.Cluster, brief(s.Uptime), s.Version)
	fmt.Fprintf(&b, "ring: %d partitions, %d replicas on %s, epoch %d\n", s.Partitions, s.Replicas, plural(s.Copies, "distinct node"), s.Epoch)
	fmt.Fprintf(&b, "durability: %s: %s\n", s.Durability, s.Explanation)
	fmt.Fprintf(&b, "storage: %s, %d bytes%s%s\n", s.Storage.Engine, s.Storage.Bytes, in(s.Storage.Dir), readOnly(s.Storage.ReadOnly))
	b.WriteString(trouble(&s.Storage))
	fmt.Fprintf(&b, "tombstones: %s\n", tombstones(s.Tombstones))
	fmt.Fprintf(&b, "requests in progress: %d\n", s.Requests)
	for _, c := range s.Certificates {
		fmt.Fprintf(&b, "certificate of %s: %s %s, until %s\n", c.Use, c.Kind, c.Name, c.Ends.UTC().Format(time.RFC3339))
		if c.Warning != "" {
			fmt.Fprintf(&b, "  WARNING: %s: %s\n", c.Path, c.Warning)
		}
	}
	b.WriteString("\n")
	t := newTable("MEMBER", "STATE", "SINCE", "PARTITIONS", "ADDRESS")
	for _, m := range s.Members {
		state := "down"
		switch {
		case m.Status == "left":
			state = m.Status
		case m.Up && m.Status != "valid" && m.Status != "":
			state = "up, " + m.Status
		case m.Up:
			state = "up"
		}
		t.row(m.Name, state, brief(m.Since), fmt.Sprint(m.Partitions), m.Address)
	}
	b.WriteString(t.String())
	for _, sv := range s.Services {
		if sv.Restarts > 0 {
			fmt.Fprintf(&b, "restarted %d times: %s: %s\n", sv.Restarts, sv.Name, sv.LastErr)
		}
	}
	return b.String()
}

// trouble is what is wrong with the disk, a line each; empty: nothing is known.
func trouble(s *tanodb.StorageState) string {
	var b strings.Builder
	if s.Trouble != "" {
		fmt.Fprintf(&b, "the node steps back, and others stand in for it: %s\n", s.Trouble)
	}
	if s.ReadErrors > 0 {
		fmt.Fprintf(&b, "reads that the disk has failed: %d\n", s.ReadErrors)
	}
	if s.Corruptions > 0 {
		fmt.Fprintf(&b, "reads that met damaged data: %d\n", s.Corruptions)
	}
	if len(s.Rebuilding) > 0 {
		fmt.Fprintf(&b, "rebuilt from other replicas, and not read from: partitions %s\n", listOf(s.Rebuilding))
	}
	if len(s.Damaged) > 0 {
		fmt.Fprintf(&b, "damaged, and no other replica has what is missing: partitions %s\n", listOf(s.Damaged))
	}
	return b.String()
}

func listOf(all []int) string {
	var b strings.Builder
	for i, n := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// tombstones says what is left of deletes, and what becomes of it.
func tombstones(t tanodb.TombstoneState) string {
	count := "not counted yet"
	if t.Count >= 0 {
		count = fmt.Sprintf("%d, counted %v ago", t.Count, brief(t.Age))
	}
	switch {
	case t.Mode == "keep":
		return count + "; they are kept"
	case t.Waits != "":
		return fmt.Sprintf("%s; %d reaped; waits: %s", count, t.Reaped, t.Waits)
	}
	return fmt.Sprintf("%s; reaped when %v old, %d so far", count, t.Grace, t.Reaped)
}

func in(dir string) string {
	if dir == "" {
		return ""
	}
	return " in " + dir
}

func readOnly(yes bool) string {
	if !yes {
		return ""
	}
	return "; READ ONLY, the disk is nearly full"
}

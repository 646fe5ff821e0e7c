package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/archive"
	"github.com/tanodb/tanodb/internal/backup"
)

type backupPruneCmd struct {
	From   string        `required:"" help:"The place." placeholder:"PLACE"`
	Keep   int           `help:"Keep the newest N whole backups of each cluster." placeholder:"N"`
	Within time.Duration `help:"Keep those that began so long ago or less, such as 720h." placeholder:"DURATION"`
	DryRun bool          `help:"Say what would be removed, and remove nothing."`
}

// Help is the long part of the command's help.
func (*backupPruneCmd) Help() string {
	return `What --keep or --within names is kept, and all that is newer; the newest whole backup of each cluster always is. First the other backups are removed, and then the files that no backup needs, those of backups that broke off too. Every backup that is kept is whole at each moment, also if this is killed; run it again then.

While a backup is being made nothing is removed, and the command says so. A backup that begins meanwhile waits. One that was killed is taken for dead after 15 minutes without a sign of life. Restore nothing that is being removed.

` + placeHelp + `

Example:

    tanodb backup prune --from /backups/shop --keep 7
    tanodb backup prune --from s3://backups/shop --within 720h --dry-run`
}

// Run prunes, and prints what.
func (c *backupPruneCmd) Run(a *app) error {
	switch {
	case c.Keep < 0 || c.Within < 0:
		return usagef("--keep and --within are above 0")
	case c.Keep == 0 && c.Within == 0:
		return usagef("say what is kept: --keep N, --within DURATION, or both")
	}
	place, err := archive.Open(c.From)
	if err != nil {
		return usagef("%v", err)
	}
	now := time.Now()
	o := archive.PruneOptions{
		ID: backup.NewID(now, rand.Uint32()), Keep: backup.Keep{Newest: c.Keep}, Only: c.DryRun, Now: time.Now,
	}
	if c.Within > 0 {
		o.Keep.Since = now.Add(-c.Within)
	}
	done, err := place.Prune(context.Background(), o)
	if err != nil {
		return err
	}
	return a.print(pruned{DryRun: c.DryRun, Removed: append([]string{}, done.Removed...), Kept: append([]string{}, done.Kept...), Chunks: done.Chunks, Others: done.Others})
}

// pruned is what a prune has done.
type pruned struct {
	DryRun  bool     `json:"dry_run,omitempty"`
	Removed []string `json:"removed"`
	Kept    []string `json:"kept"`
	Chunks  int      `json:"chunks"`
	Others  int      `json:"others"` // leftovers of what broke off
}

// String tells of it.
func (p pruned) String() string {
	var out strings.Builder
	is := func(n int) string {
		switch {
		case p.DryRun:
			return "would be"
		case n == 1:
			return "is"
		}
		return "are"
	}
	for _, id := range p.Removed {
		fmt.Fprintf(&out, "%s %s removed\n", id, is(1))
	}
	fmt.Fprintf(&out, "%s, %s and %s %s removed; %s %s kept\n", plural(len(p.Removed), "backup"), plural(p.Chunks, "chunk"), plural(p.Others, "leftover"),
		is(2), plural(len(p.Kept), "backup"), is(len(p.Kept)))
	return out.String()
}

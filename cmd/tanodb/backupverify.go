package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tanodb/tanodb/internal/archive"
	"github.com/tanodb/tanodb/internal/backup"
)

type backupVerifyCmd struct {
	From     string `required:"" help:"The place." placeholder:"PLACE"`
	ID       string `help:"The backup; without it, the newest." placeholder:"ID" xor:"which"`
	All      bool   `help:"All backups of the place." xor:"which"`
	Parallel int    `help:"Chunks that are read at once, 1 to 64." default:"4" placeholder:"N"`
}

// Help is the long part of the command's help.
func (*backupVerifyCmd) Help() string {
	return `Every chunk is read, and its hash, its order, its objects and their checksums, and the sums of the manifest are checked. What is damaged is named, file by file, and the exit code is 1; so it is if the backup was not whole when it was taken. The cluster is not asked.

` + placeHelp + `

Example:

    tanodb backup verify --from /backups/shop --all`
}

// Run verifies.
func (c *backupVerifyCmd) Run(a *app) error {
	if err := (paceFlags{Parallel: c.Parallel}).check(); err != nil {
		return err
	}
	ctx := context.Background()
	place, ids, err := openBackups(ctx, c.From, c.ID)
	if err == nil && !c.All {
		var id string
		id, err = newest(c.From, ids)
		ids = []string{id}
	}
	if err != nil {
		return err
	}
	v := &backupCheck{out: verifiedBackups{Backups: len(ids), Damaged: []string{}, Incomplete: []string{}}, seen: make(map[string]bool)}
	for _, id := range ids {
		o, err := openManifest(ctx, place, id)
		if archive.Damaged(err) {
			v.damaged(err)
			continue
		}
		if err != nil {
			return err
		}
		v.incomplete(o.Manifest)
		bar := newProgress(a.stderr, "homes", int64(o.Partitions))
		err = parallel(ctx, c.Parallel, o.Partitions, func(ctx context.Context, home int) error {
			defer bar.add(1, id)
			return v.home(ctx, o, home)
		})
		bar.end()
		if err != nil {
			return err
		}
	}
	if err := a.print(v.out); err != nil {
		return err
	}
	if n := len(v.out.Damaged); n > 0 {
		return fmt.Errorf("the backup is damaged in %s: see above", plural(n, "place"))
	}
	if n := len(v.out.Incomplete); n > 0 {
		return fmt.Errorf("%s did not get all that there was: see above", plural(n, "backup"))
	}
	return nil
}

// backupCheck checks backups.
type backupCheck struct {
	mu   sync.Mutex
	out  verifiedBackups
	seen map[string]bool // ranges that were found whole, by their chunks
}

// verifiedBackups is what came of it.
type verifiedBackups struct {
	Backups int      `json:"backups"`
	Chunks  int      `json:"chunks"`
	Objects int64    `json:"objects"`
	Damaged []string `json:"damaged"`

	// Incomplete are the backups that were not whole when they were taken, and why.
	Incomplete []string `json:"incomplete"`
}

// String tells of it.
func (v verifiedBackups) String() string {
	out := fmt.Sprintf("%s, %s, %d objects: ", plural(v.Backups, "backup"), plural(v.Chunks, "chunk"), v.Objects)
	switch {
	case len(v.Damaged) > 0:
		out += "DAMAGED\n"
	case len(v.Incomplete) > 0:
		out += "no file is damaged, but not all is in them\n"
	default:
		return out + "all whole\n"
	}
	for _, d := range slices.Concat(v.Damaged, v.Incomplete) {
		out += d + "\n"
	}
	return out
}

// incomplete notes a backup that was not whole when it was taken.
func (v *backupCheck) incomplete(m *backup.Manifest) {
	if m.Whole {
		return
	}
	unread, bad := 0, 0
	for _, h := range m.Homes {
		if !h.Read {
			unread++
		}
		bad += h.Bad
	}
	v.out.Incomplete = append(v.out.Incomplete, fmt.Sprintf(
		"backup %s was taken without too many nodes in %d of its %d homes, so that writes may be missing, and without %s that could not be read",
		m.ID, unread, m.Partitions, plural(bad, "object")))
}

func (v *backupCheck) damaged(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Damaged = append(v.out.Damaged, err.Error())
}

// home checks one home of a backup. What several backups share is read once.
func (v *backupCheck) home(ctx context.Context, o *opened, home int) error {
	for _, r := range o.Homes[home].Ranges {
		key := fmt.Sprint(o.Partitions, home, r)
		v.mu.Lock()
		seen := v.seen[key]
		v.seen[key] = true
		v.mu.Unlock()
		if seen {
			continue
		}
		objects, err := o.read(ctx, home, r, func(backup.Record) error { return nil }, func() error { return nil })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if archive.Damaged(err) {
			v.damaged(err)
		} else if err != nil {
			return err
		}
		v.mu.Lock()
		v.out.Chunks += len(r.Chunks)
		v.out.Objects += objects
		v.mu.Unlock()
	}
	return nil
}

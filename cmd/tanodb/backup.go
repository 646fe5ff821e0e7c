package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/archive"
	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

type backupCmd struct {
	Create  backupCreateCmd  `cmd:"" help:"Back the cluster up, while it works."`
	List    backupListCmd    `cmd:"" help:"List the backups of a place."`
	Verify  backupVerifyCmd  `cmd:"" help:"Read a backup, and check all of it."`
	Prune   backupPruneCmd   `cmd:"" help:"Remove old backups, and what no other needs."`
	Restore backupRestoreCmd `cmd:"" help:"Merge a backup into a cluster."`
}

const (
	backupPath       = ownPrefix + "/backup"
	homePath         = backupPath + "/home"
	restorePath      = ownPrefix + "/restore"
	restoreTypesPath = restorePath + "/types"

	objectStream = "application/x-tanodb-objects"

	homeTries   = 4 // for a home, and for a chunk of a restore
	retryPause  = 500 * time.Millisecond
	maxParallel = 64
	maxHomes    = 16 // at once: each home has a node keep up to two moments, and it keeps 64
)

// placeHelp is what the help of each command says of places.
const placeHelp = `A place is a directory, or s3://BUCKET/PREFIX in a store that speaks S3. Of the latter the environment says where it is, AWS_ENDPOINT_URL and AWS_REGION, and who is asking: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file ~/.aws/credentials.`

// paceFlags bound what a backup or a restore asks of the cluster.
type paceFlags struct {
	Parallel int       `help:"Homes or chunks that are worked on at once, 1 to 64; homes of a new backup 1 to 16." default:"4" placeholder:"N"`
	Rate     byteCount `help:"Bytes of objects that are moved in a second, such as 20MB; 0: no limit." default:"0" placeholder:"BYTES"`
}

func (f paceFlags) check() error {
	if f.Parallel < 1 || f.Parallel > maxParallel {
		return usagef("--parallel is %d; it must be from 1 to %d", f.Parallel, maxParallel)
	}
	return nil
}

// finalError is an error that trying again does not mend.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// retried does something until it is done, fails for good, or has failed too often.
func retried(ctx context.Context, do func(try int) error) error {
	var err error
	for try := range homeTries {
		if try > 0 {
			t := time.NewTimer(retryPause << (try - 1))
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return context.Cause(ctx)
			}
		}
		err = do(try)
		if err == nil || isFinal(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// isFinal reports whether trying again does not mend an error.
func isFinal(err error) bool {
	var final *finalError
	var answered *remoteError
	if errors.As(err, &final) {
		return true
	}
	if !errors.As(err, &answered) {
		return false // the connection, or a backup that has broken off
	}
	switch answered.body.Code {
	case api.CodeTimeout, api.CodeOverload, api.CodeQuorum, api.CodeInDoubt, api.CodeClosed, api.CodeInternal, api.CodeClock, api.CodeNoMajority:
		return false
	}
	return true
}

// parallel does so many things, some at once, and ends with the first error.
func parallel(ctx context.Context, width, count int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan int)
	var wg sync.WaitGroup
	var failed error
	var once sync.Once
	for range min(width, count) {
		wg.Go(func() {
			for i := range work {
				if err := do(ctx, i); err != nil {
					once.Do(func() {
						failed = err
						cancel(err)
					})
				}
			}
		})
	}
	for i := range count {
		select {
		case work <- i:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return failed
}

type backupListCmd struct {
	From string `required:"" help:"The place." placeholder:"PLACE"`
}

// Help is the long part of the command's help.
func (*backupListCmd) Help() string {
	return placeHelp + `

Example:

    tanodb backup list --from /backups/shop`
}

// Run prints the backups. One whose manifest is damaged is told of, and the others are listed.
func (c *backupListCmd) Run(a *app) error {
	ctx := context.Background()
	place, ids, err := openBackups(ctx, c.From, "")
	if err != nil {
		return err
	}
	list := backupList{Backups: []backupSummary{}}
	var errs []error
	for _, id := range ids {
		m, err := place.Manifest(ctx, id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list.Backups = append(list.Backups, summaryOf(m, 0))
	}
	return errors.Join(a.print(list), errors.Join(errs...))
}

// openBackups opens a place that has backups, and finds the one of that id; without one, all.
func openBackups(ctx context.Context, where, id string) (*archive.Archive, []string, error) {
	place, err := archive.Open(where)
	if err != nil {
		return nil, nil, usagef("%v", err)
	}
	if id != "" {
		return place, []string{id}, place.Check(ctx)
	}
	ids, err := place.IDs(ctx)
	return place, ids, err
}

// newest is the last of the backups.
func newest(where string, ids []string) (string, error) {
	if len(ids) == 0 {
		return "", fmt.Errorf("there are no whole backups in %s", where)
	}
	return ids[len(ids)-1], nil
}

// backupSummary is a backup in short.
type backupSummary struct {
	ID         string        `json:"id"`
	Began      time.Time     `json:"began"`
	Took       time.Duration `json:"took_ns"`
	Cluster    string        `json:"cluster"`
	Partitions int           `json:"partitions"`
	Replicas   int           `json:"replicas"`
	Objects    int64         `json:"objects"`
	Bytes      int64         `json:"bytes"`
	NewObjects int64         `json:"new_objects"`
	NewBytes   int64         `json:"new_bytes"`
	Written    int64         `json:"written_bytes,omitempty"` // compressed; only when it is taken
	Whole      bool          `json:"whole"`
	Missing    []string      `json:"missing,omitempty"` // replicas that were not read, and objects
}

func summaryOf(m *backup.Manifest, written int64) backupSummary {
	s := backupSummary{
		ID: m.ID, Began: m.Began, Took: m.Ended.Sub(m.Began), Cluster: m.Cluster, Partitions: m.Partitions, Replicas: m.Replicas,
		Objects: m.Objects, Bytes: m.Bytes, NewObjects: m.NewObjects, NewBytes: m.NewBytes, Written: written, Whole: m.Whole,
	}
	for _, h := range m.Homes {
		for _, x := range h.Missing {
			s.Missing = append(s.Missing, fmt.Sprintf("home %d was not read from %s", h.Home, x))
		}
		for _, x := range h.Unreadable {
			s.Missing = append(s.Missing, fmt.Sprintf("home %d: a version of %s cannot be read", h.Home, x))
		}
	}
	return s
}

const maxTold = 10 // lines about what is missing

// String tells of one backup.
func (s backupSummary) String() string {
	out := fmt.Sprintf("backup %s of cluster %s: %d objects, %s; %d of them are read anew, %s written\n",
		s.ID, s.Cluster, s.Objects, bytesText(float64(s.Bytes)), s.NewObjects, bytesText(float64(s.Written)))
	for i, x := range s.Missing {
		if i == maxTold {
			return out + fmt.Sprintf("… and %d more\n", len(s.Missing)-maxTold)
		}
		out += x + "\n"
	}
	return out
}

type backupList struct {
	Backups []backupSummary `json:"backups"`
}

// String is a line for each backup.
func (l backupList) String() string {
	t := newTable("BACKUP", "CLUSTER", "RING", "OBJECTS", "BYTES", "NEW", "TOOK", "STATE")
	for _, s := range l.Backups {
		state := "whole"
		if !s.Whole {
			state = "not whole"
		}
		t.row(s.ID, s.Cluster[:min(len(s.Cluster), 12)], fmt.Sprintf("%d×%d", s.Partitions, s.Replicas), fmt.Sprint(s.Objects),
			bytesText(float64(s.Bytes)), bytesText(float64(s.NewBytes)), brief(s.Took), state)
	}
	return t.String()
}

// opened is a backup that is read.
type opened struct {
	*backup.Manifest
	place *archive.Archive
	ring  *ring.Ring // of its size, for the homes of keys
}

func openManifest(ctx context.Context, place *archive.Archive, id string) (*opened, error) {
	m, err := place.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := ring.New(slices.Repeat([]string{"any"}, m.Partitions)) // whose the partitions were does not matter
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w: %w", id, backup.ErrCorrupt, err)
	}
	return &opened{m, place, r}, nil
}

// read reads a range of a home, checks all of it, and gives each object, chunk after chunk.
// After each chunk it calls done.
func (o *opened) read(ctx context.Context, home int, r backup.Range, each func(backup.Record) error, done func() error) (objects int64, err error) {
	check := backup.NewChecker(home, r, func(k kv.Key) int { return int(o.ring.Home(k)) })
	for _, c := range r.Chunks {
		err := o.place.Chunk(ctx, c, func(rec backup.Record) error {
			objects++
			if err := check.Add(rec); err != nil {
				return err
			}
			return each(rec)
		})
		if err == nil {
			err = done()
		}
		if err != nil {
			return objects, err
		}
	}
	if err := check.Done(); err != nil {
		return objects, fmt.Errorf("backup %s: %w", o.ID, err)
	}
	return objects, nil
}

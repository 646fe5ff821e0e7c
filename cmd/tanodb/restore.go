package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/backup"
	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/kv"
)

type backupRestoreCmd struct {
	From   string  `required:"" help:"The place." placeholder:"PLACE"`
	ID     string  `help:"The backup; without it, the newest." placeholder:"ID"`
	Bucket *string `help:"Only the keys of this bucket." placeholder:"BUCKET"`
	Type   *string `help:"Only the keys of this bucket type; of the default one: default." placeholder:"TYPE"`
	paceFlags
}

// Help is the long part of the command's help.
func (*backupRestoreCmd) Help() string {
	return `The objects of the backup are merged into the cluster that is running, as they are: what is newer in the cluster stays, and what was written without knowing of each other becomes siblings. The cluster may have another ring size and other nodes than the one that was backed up. Bucket types that it lacks are made; those that it has stay as they are.

A key that was deleted since the backup stays deleted as long as the cluster has its tombstone. If that was removed, which happens when all replicas agree and the grace of deletes is over, the key comes back: that is what restoring an older state means.

An object counts when a majority of its replicas has it on disk. If a restore breaks off, run it again: what is there already is merged once more and does not change.

` + placeHelp + `

Example:

    tanodb backup restore --from /backups/shop
    tanodb backup restore --from s3://backups/shop --bucket carts`
}

// Run restores, and prints how much.
func (c *backupRestoreCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx := context.Background()
	place, ids, err := openBackups(ctx, c.From, c.ID)
	id := ""
	if err == nil {
		id, err = newest(c.From, ids)
	}
	if err != nil {
		return err
	}
	o, err := openManifest(ctx, place, id)
	if err != nil {
		return err
	}
	r := &restoration{app: a, backup: o, filter: backup.Filter{Type: c.Type, Bucket: c.Bucket}, limit: newLimiter(int64(c.Rate))}
	r.out.ID, r.out.Whole, r.out.Types = o.ID, o.Whole, []string{}
	if !r.byNeed() {
		if err := r.types(ctx, r.filter); err != nil {
			return a.told(err)
		}
	}
	r.bar = newProgress(a.stderr, "homes", int64(o.Partitions))
	err = parallel(ctx, c.Parallel, o.Partitions, r.home)
	r.bar.end()
	if err != nil {
		return fmt.Errorf("%w; %d objects are restored: run it again to go on", err, r.out.Objects)
	}
	return a.print(r.out)
}

// restoration is a restore that goes on.
type restoration struct {
	*app
	backup *opened
	filter backup.Filter
	limit  *limiter
	bar    *progress

	making sync.Mutex // held while types are made by need
	made   []string   // types

	mu  sync.Mutex
	out restored
}

// byNeed reports whether bucket types are made when an object of them comes. A bucket alone
// does not say in which types it is, and the others are of no interest.
func (r *restoration) byNeed() bool { return r.filter.Bucket != nil && r.filter.Type == nil }

// need has the types of some objects made.
func (r *restoration) need(ctx context.Context, types []string) error {
	r.making.Lock()
	defer r.making.Unlock()
	for _, t := range types {
		if slices.Contains(r.made, t) {
			continue
		}
		if err := r.types(ctx, backup.Filter{Type: &t, Bucket: r.filter.Bucket}); err != nil {
			return r.told(err)
		}
		r.made = append(r.made, t)
	}
	return nil
}

// restored is what it has done.
type restored struct {
	ID      string   `json:"id"`
	Whole   bool     `json:"whole"` // the backup is
	Objects int64    `json:"objects"`
	Bytes   int64    `json:"bytes"`
	Behind  int64    `json:"behind"` // objects that not all their replicas have yet
	Types   []string `json:"types"`
}

// String tells of it.
func (r restored) String() string {
	out := ""
	for _, t := range r.Types {
		out += t + "\n"
	}
	out += fmt.Sprintf("backup %s: %d objects, %s are restored\n", r.ID, r.Objects, bytesText(float64(r.Bytes)))
	if r.Behind > 0 {
		out += fmt.Sprintf("%d of them are not on all their replicas yet, since not all could be reached; anti-entropy brings them there\n", r.Behind)
	}
	if !r.Whole {
		out += "the backup itself is not whole: see tanodb backup list\n"
	}
	return out
}

// types makes the bucket types that the cluster lacks, of those that are meant.
func (r *restoration) types(ctx context.Context, of backup.Filter) error {
	props := r.backup.Props.Of(of)
	body, err := json.Marshal(tanodb.BackupProps(props))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout+timeoutGrace)
	defer cancel()
	ans, err := r.ask(ctx, request{
		method: http.MethodPost, path: restoreTypesPath, query: r.clusterQuery(), body: body,
		header: http.Header{"Content-Type": {"application/json"}},
	})
	if err != nil {
		return err
	}
	var done api.RestoredProps
	err = ans.decode(&done)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Types = append(r.out.Types, done.Done...)
	return err
}

// home restores what a home has.
func (r *restoration) home(ctx context.Context, home int) error {
	defer r.bar.add(1, fmt.Sprintf("%d objects", r.soFar()))
	for _, rg := range r.backup.Homes[home].Ranges {
		b := &restorePart{restoration: r, home: home}
		if _, err := r.backup.read(ctx, home, rg, b.add, func() error { return b.send(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *restoration) soFar() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Objects
}

// restorePart is the objects of a chunk that are meant.
type restorePart struct {
	*restoration
	home  int
	body  bytes.Buffer
	count int
	types []string // of the objects
}

func (p *restorePart) add(r backup.Record) error {
	if !p.filter.Takes(kv.Bucket{Type: r.Key.Type, Name: r.Key.Bucket}) {
		return nil
	}
	p.count++
	if !slices.Contains(p.types, r.Key.Type) {
		p.types = append(p.types, r.Key.Type)
	}
	return backup.NewWriter(&p.body).Record(r)
}

// send brings them to the cluster.
func (p *restorePart) send(ctx context.Context) error {
	if p.count == 0 {
		return nil
	}
	if p.byNeed() {
		if err := p.need(ctx, p.types); err != nil {
			return err
		}
	}
	if err := p.limit.wait(ctx, p.body.Len()); err != nil {
		return err
	}
	if err := backup.NewWriter(&p.body).End(backup.End{Objects: p.count}); err != nil {
		return err
	}
	var done tanodb.Restored
	err := retried(ctx, func(try int) error {
		ctx, cancel := context.WithTimeout(ctx, p.timeout+timeoutGrace)
		defer cancel()
		ans, err := p.roundTrip(ctx, p.addrs[(p.home+try)%len(p.addrs)], request{
			method: http.MethodPost, path: restorePath, body: p.body.Bytes(),
			header: http.Header{"Content-Type": {objectStream}},
		})
		if err != nil {
			return err
		}
		return ans.decode(&done)
	})
	if err != nil {
		return fmt.Errorf("home %d: %w", p.home, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Objects += int64(done.Objects)
	p.out.Bytes += done.Bytes
	p.out.Behind += int64(done.Behind)
	p.body.Reset()
	p.count = 0
	return nil
}

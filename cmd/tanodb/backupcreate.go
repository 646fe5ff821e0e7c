package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/archive"
	"github.com/tanodb/tanodb/internal/backup"
)

type backupCreateCmd struct {
	To           string `required:"" help:"The place." placeholder:"PLACE"`
	Full         bool   `help:"Read and write everything, also what an earlier backup has."`
	AllowMissing bool   `help:"Go on where so many replicas of a home are down that writes may be missing."`
	paceFlags
}

// Help is the long part of the command's help.
func (*backupCreateCmd) Help() string {
	return `Every home of the ring is read from all nodes that are up, each from a moment of its engine, and what they differ in is merged. So every write that a majority of the replicas had confirmed when its home was read is in the backup. A home of which fewer than that can be read ends it, unless --allow-missing is said. What the newest backup of this cluster in the same place has and no replica has changed is taken over, and not read again.

` + placeHelp + `

Example:

    tanodb backup create --to /backups/shop
    tanodb backup create --to s3://backups/shop --rate 20MB`
}

// Run takes the backup, and prints what is in it.
func (c *backupCreateCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Parallel > maxHomes {
		return usagef("--parallel is %d; it must be from 1 to %d", c.Parallel, maxHomes)
	}
	ctx := context.Background()
	place, err := archive.Open(c.To)
	if err != nil {
		return usagef("%v", err)
	}
	if err := place.Begin(ctx); err != nil {
		return err
	}
	run := &creation{app: a, cmd: c, place: place, limit: newLimiter(int64(c.Rate))}
	leave, err := run.enter(ctx)
	if err != nil {
		return err
	}
	err = run.take(ctx)
	return errors.Join(err, leave())
}

// enter marks in the place that a backup is being made, and waits until nothing is removed
// there. Leave takes the mark away.
func (c *creation) enter(ctx context.Context) (leave func() error, err error) {
	began := time.Now().UTC().Truncate(time.Millisecond)
	c.m = backup.Manifest{Began: began, Made: thisVersion().Version, ID: backup.NewID(began, rand.Uint32())}
	if c.work, err = c.place.Make(ctx, c.m.ID, began); err != nil {
		return nil, err
	}
	renewing, stop := context.WithCancel(ctx)
	var renewer sync.WaitGroup
	renewer.Go(func() { c.renew(renewing) })
	leave = func() error {
		stop()
		renewer.Wait()
		return c.work.Done(ctx)
	}
	tick := time.NewTicker(pruneLook)
	defer tick.Stop()
	for told := false; ; <-tick.C {
		err := c.work.Clear(ctx, time.Now())
		if !errors.Is(err, archive.ErrBusy) {
			if err != nil {
				err = errors.Join(err, leave())
			}
			return leave, err
		}
		if !told {
			fmt.Fprintf(c.stderr, "waiting: %v\n", err)
			told = true
		}
	}
}

// pruneLook is how often a backup looks whether a prune has ended.
const pruneLook = time.Second

// renew says that the backup goes on, until it does not. A mark that cannot be renewed, and is
// taken for dead, is found out at the end.
func (c *creation) renew(ctx context.Context) {
	tick := time.NewTicker(archive.RenewEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = c.work.Renew(ctx, time.Now()) // the next may succeed
		case <-ctx.Done():
			return
		}
	}
}

// take reads the cluster, keeps the manifest, and prints what is in it.
func (c *creation) take(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return c.told(err)
	}
	c.bar = newProgress(c.stderr, "homes", int64(c.m.Partitions))
	err := parallel(ctx, c.cmd.Parallel, c.m.Partitions, c.home)
	c.bar.end()
	if err != nil {
		return err
	}
	c.m.Ended = time.Now().UTC().Truncate(time.Millisecond)
	c.m.Total()
	if err := c.place.PutManifest(ctx, &c.m); err != nil {
		return err
	}
	if dead, err := c.work.Revoked(ctx); dead || err != nil { // a prune has not counted it
		return errors.Join(err, archive.ErrRevoked)
	}
	if err := c.print(summaryOf(&c.m, c.written)); err != nil {
		return err
	}
	if !c.m.Whole {
		return errors.New("the backup is kept, but it is not whole: see above, and the manifest")
	}
	return nil
}

// creation is a backup that is being taken.
type creation struct {
	*app
	cmd    *backupCreateCmd
	place  *archive.Archive
	limit  *limiter
	bar    *progress
	parent *backup.Manifest // nil: there is none
	work   *archive.Work

	mu      sync.Mutex
	m       backup.Manifest
	written int64 // bytes, compressed
}

// begin asks for what a backup has of the cluster itself, and finds the last one.
func (c *creation) begin(ctx context.Context) error {
	ask, cancel := c.requestContext()
	defer cancel()
	ans, err := c.ask(ask, request{method: http.MethodGet, path: backupPath})
	if err != nil {
		return err
	}
	if err := ans.decode(&c.m.Info); err != nil {
		return err
	}
	c.m.Homes = make([]backup.Home, c.m.Partitions)
	if c.cmd.Full {
		return nil
	}
	ids, err := c.place.IDs(ctx)
	for i := len(ids) - 1; i >= 0 && err == nil; i-- {
		m, err := c.place.Manifest(ctx, ids[i])
		if err != nil {
			return fmt.Errorf("%w; --full takes a backup without it", err)
		}
		if m.Cluster == c.m.Cluster && m.Partitions == c.m.Partitions {
			c.parent, c.m.Parent = m, m.ID
			return nil
		}
	}
	return err
}

// home backs a home up.
func (c *creation) home(ctx context.Context, home int) error {
	ask := backup.Ask{Home: home}
	if c.parent != nil {
		ask.Known = c.parent.Homes[home].Ranges
		whole, err := c.hasAll(ctx, ask.Known)
		if err != nil {
			return err
		}
		if !whole {
			ask.Known = nil
		}
	}
	var got homeCopy
	err := retried(ctx, func(try int) error {
		got = homeCopy{creation: c, ask: ask}
		return got.read(ctx, c.addrs[(home+try)%len(c.addrs)])
	})
	if err != nil {
		return fmt.Errorf("home %d: %w", home, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.Homes[home] = got.home
	c.m.NewObjects += int64(got.end.Objects)
	c.m.NewBytes += got.bytes
	c.bar.add(1, fmt.Sprintf("%d objects read, %s written", c.m.NewObjects, bytesText(float64(c.written))))
	return nil
}

// hasAll reports whether the place has all chunks of the ranges.
func (c *creation) hasAll(ctx context.Context, ranges []backup.Range) (bool, error) {
	for _, r := range ranges {
		for _, chunk := range r.Chunks {
			if has, err := c.place.HasChunk(ctx, chunk.SHA256); !has || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// homeCopy reads one home.
type homeCopy struct {
	*creation
	ask   backup.Ask
	home  backup.Home
	end   backup.End
	count int
	bytes int64 // of new chunks
}

// read asks one node for the home.
func (h *homeCopy) read(ctx context.Context, base string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sent := backup.Ask{Home: h.ask.Home}
	for _, r := range h.ask.Known { // the node compares sums; the names of chunks would be many
		sent.Known = append(sent.Known, backup.Range{From: r.From, To: r.To, Sum: r.Sum})
	}
	body, err := h.openStream(ctx, cancel, base, homePath, sent)
	if err != nil {
		return err
	}
	defer body.Close()
	in := backup.NewReader(body)
	part, err := in.Next()
	if err != nil {
		return brokenOff(ctx, base, err)
	}
	head, ok := part.(backup.Head)
	if !ok || head.Home != h.ask.Home {
		return fmt.Errorf("%s gave an answer that is not understood; is it a TanoDB server of this version?", base)
	}
	if !head.Whole && !h.cmd.AllowMissing {
		return &finalError{fmt.Errorf("too few of its replicas can be read, so that writes may be missing: %v; wait until they are back, or say --allow-missing", head.Missing)}
	}
	b, err := backup.NewBuilder(h.ask, head.Same, func(name string, chunk []byte) error { return h.keep(ctx, name, chunk) })
	if err != nil {
		return err
	}
	if err := h.records(ctx, in, b); err != nil {
		return brokenOff(ctx, base, err)
	}
	ranges, err := b.Ranges()
	if err != nil {
		return err
	}
	h.home = backup.Home{
		Home: head.Home, Read: head.Whole, Replicas: head.Replicas, Missing: head.Missing,
		Bad: h.end.Bad, Unreadable: h.end.Unreadable, Ranges: ranges,
	}
	return nil
}

// records takes the objects of a home.
func (h *homeCopy) records(ctx context.Context, in *backup.Reader, b *backup.Builder) error {
	for {
		part, err := in.Next()
		if err != nil {
			return err
		}
		switch part := part.(type) {
		case backup.Record:
			h.count++
			if err := h.limit.wait(ctx, len(part.Object)); err != nil {
				return err
			}
			if err := b.Add(part); err != nil {
				return err
			}
		case backup.End:
			h.end = part
			switch {
			case part.Error != "":
				return errors.New(part.Error)
			case part.Objects != h.count:
				return fmt.Errorf("%d of %d objects have come", h.count, part.Objects)
			}
			return nil
		default:
			return fmt.Errorf("%w: two beginnings", backup.ErrCorrupt)
		}
	}
}

// keep keeps a chunk.
func (h *homeCopy) keep(ctx context.Context, name string, chunk []byte) error {
	n, err := h.place.PutChunk(ctx, name, chunk, h.cmd.Full)
	if err != nil {
		return &finalError{err}
	}
	h.bytes += int64(len(chunk))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written += int64(n)
	return nil
}

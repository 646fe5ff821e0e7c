package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
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

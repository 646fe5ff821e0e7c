// Package disk is the durable storage.Engine: one Pebble instance per node.
//
// All vnodes of a node share the engine, so all share its write-ahead log
// (WAL), and one fsync makes the batches of many callers durable. Metrics shows
// it: under load there are many more Commits than WALSyncs.
//
// # What it does about disks that misbehave
//
// A read that meets damaged data answers an error that wraps
// storage.ErrCorrupt, never wrong bytes, and the engine goes on with the rest.
//
// When the file system has less free space than Options.Reserve, writes are
// refused with a *FullError until there is space again. Pebble itself never
// fails on a full disk, it waits for ever; so whatever waits longer than 2
// seconds for the disk is reported as the event Stalled, and Trouble says so
// until something gets on again.
//
// When the WAL or the list of files cannot be written, the engine has failed:
// what it shows may be more than what the disk keeps. Every call answers that
// error from then on, the event Fatal is emitted and Options.OnFatal is called.
// The only way out is to stop the process in order and start it again: a
// failed engine may hold the lock on its directory, and may have goroutines
// that never end, because a goroutine on which Pebble gives up is halted rather
// than sent back into code that does not expect it. Calls that are in progress
// at that moment may never return. A panic on a goroutine of Pebble's own, and
// the unlocking of an unlocked mutex that follows some failures to change to a
// new WAL file, end the process at once; nothing can catch them. Both ways
// every batch whose Commit reported success is there after the restart.
//
// docs/formats.md describes the directory.
package disk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// Limits and defaults of the engine.
const (
	defaultCacheBytes = 256 << 20
	defaultSyncEvery  = 100 * time.Millisecond

	// MaxBatchBytes is the most that the keys and values of one batch may take.
	// Pebble's own limit is 4 GiB, and breaking it is a panic.
	MaxBatchBytes = 1 << 30

	// stallAfter is how long the disk may do nothing for a waiting caller
	// before that is reported.
	stallAfter = 2 * time.Second

	// closeGrace is how long Close waits for an engine that has failed.
	closeGrace = time.Second
)

// Options are how an engine is opened. The zero value is good for production.
type Options struct {
	// CacheBytes is the size of the cache of uncompressed blocks. 0: 256 MiB.
	CacheBytes int64

	// SyncEvery is the longest time before the fsync that makes a batch
	// durable that was applied with sync false. 0: 100 ms.
	SyncEvery time.Duration

	// Reserve is how many bytes must be free on the file system. With less,
	// writes are refused; they are accepted again when a quarter more than
	// this is free. 0: 1 GiB or 5 % of the file system, whichever is less.
	Reserve uint64

	// Events receives what happens to the engine. It is called by many
	// goroutines, some of which hold locks of the engine: it must not block and
	// must not call the engine. Nil: nobody is told.
	Events func(Event)

	// OnFatal is called once when the engine has failed, on a goroutine of its
	// own. It should begin the orderly end of the process. Nil: nobody is told,
	// but by the errors of later calls.
	OnFatal func(error)

	// FS is the file system, for tests. Nil: the operating system's.
	FS vfs.FS
}

// withDefaults returns the options with the zero values filled in.
func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = defaultSyncEvery
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	return o
}

// validate refuses what cannot be meant.
func (o Options) validate() error {
	if o.CacheBytes < 0 {
		return fmt.Errorf("storage/disk: CacheBytes is %d; it may not be negative", o.CacheBytes)
	}
	if o.SyncEvery < 0 {
		return fmt.Errorf("storage/disk: SyncEvery is %v; it may not be negative", o.SyncEvery)
	}
	return nil
}

// Engine is a storage.Engine whose data lives in a directory.
type Engine struct {
	dir     string
	options Options
	fs      vfs.FS
	closeFS func() error
	lock    *pebble.Lock
	db      *pebble.DB

	// write is held while a batch enters the WAL, so that no caller is inside
	// Pebble's commit pipeline when another one learns that the WAL is broken:
	// the pipeline's own lock is never released then.
	write sync.Mutex

	users   atomic.Int64  // calls that use db, and forbid to close it
	closing atomic.Bool   // no new user may begin
	idle    chan struct{} // has an element after the last user left a closing engine

	opened  atomic.Bool
	failure atomic.Pointer[error]
	failed  chan struct{} // closed when failure is set

	commits  atomic.Int64 // batches applied
	progress progress     // of Apply and Wait
	reading  progress     // of reads
	space    space

	readErrors atomic.Int64 // reads that the disk has failed

	corruptions     atomic.Int64 // reads that met damaged data
	backgroundNoise noise
	corruptionNoise noise

	unsynced chan struct{} // has an element when a batch was applied with sync false
	stop     chan struct{} // ends keepSynced and watch
	services sync.WaitGroup
}

var (
	_ storage.Watched     = (*Engine)(nil)
	_ storage.Snapshotter = (*Engine)(nil)
)

// Opener returns a storage.Opener that calls Open with these options.
func Opener(o Options) storage.Opener {
	return func(dir string) (storage.Engine, error) {
		e, err := Open(dir, o)
		if err != nil {
			return nil, err
		}
		return e, nil
	}
}

// Open opens the engine in dir, and makes the directory if there is none. Its
// errors name the directory, the damaged file if there is one, and what to do.
// They wrap ErrInUse when somebody has the directory open, ErrFormat when it
// was written by another version or is not an engine's, and storage.ErrCorrupt
// when its files are damaged. Nothing is changed on disk by an Open that fails for
// one of the first two reasons.
func Open(dir string, o Options) (*Engine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	fs, closeFS := o.FS, func() error { return nil }
	if fs == nil {
		dir = trueName(dir)
	}
	e := &Engine{
		dir: dir, options: o,
		idle:     make(chan struct{}, 1),
		failed:   make(chan struct{}),
		unsynced: make(chan struct{}, 1),
		stop:     make(chan struct{}),
		space:    space{nudge: make(chan struct{}, 1)},
	}
	if fs == nil {
		checked, closer := vfs.WithDiskHealthChecks(vfs.Default, stallAfter, nil, e.diskSlow)
		fs, closeFS = checked, closer.Close
	}
	e.fs, e.closeFS = sumsFS{fs}, closeFS
	if err := e.open(); err != nil {
		return nil, errors.Join(err, closeFS())
	}
	e.services.Go(e.keepSynced)
	e.services.Go(e.watch)
	return e, nil
}

// open claims the directory and opens Pebble in it.
func (e *Engine) open() error {
	lock, err := claim(e.fs, e.dir)
	if err != nil {
		return err
	}
	e.lock = lock
	e.db, err = e.openPebble()
	if err != nil {
		return errors.Join(err, e.lock.Close())
	}
	e.opened.Store(true)
	e.measure()
	return nil
}

// enter begins the use of the database, which leave ends.
func (e *Engine) enter() error {
	e.users.Add(1)
	if e.closing.Load() {
		e.leave()
		return storage.ErrClosed
	}
	if err := e.failure.Load(); err != nil {
		e.leave()
		return *err
	}
	return nil
}

func (e *Engine) leave() {
	if e.users.Add(-1) > 0 || !e.closing.Load() {
		return
	}
	select {
	case e.idle <- struct{}{}:
	default:
	}
}

// fail records the first error after which nothing can be trusted, and returns
// the error that all calls answer from now on.
func (e *Engine) fail(cause error) error {
	err := fmt.Errorf("storage/disk: the engine in %s has failed and must be restarted: %w", e.dir, cause)
	if !e.failure.CompareAndSwap(nil, &err) {
		return *e.failure.Load()
	}
	close(e.failed)
	e.options.Events(Event{Kind: Fatal, Dir: e.dir, Err: err})
	if e.opened.Load() {
		go e.options.OnFatal(err)
	}
	return err
}

// Get implements storage.Reader.
func (e *Engine) Get(key []byte) ([]byte, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	return e.get(e.db, key)
}

func (e *Engine) get(from pebble.Reader, key []byte) ([]byte, error) {
	e.reading.begin()
	defer e.reading.end()
	value, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, storage.ErrNotFound
	}
	if err != nil {
		return nil, e.readError(err)
	}
	owned := append([]byte{}, value...)
	if err := closer.Close(); err != nil {
		return nil, e.readError(err)
	}
	return owned, nil
}

// Scan implements storage.Reader. A scan that meets damaged data ends there
// with an error; fn has then seen the keys before it.
func (e *Engine) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	return e.scan(e.db, lower, upper, fn)
}

func (e *Engine) scan(from pebble.Reader, lower, upper []byte, fn func(key, value []byte) bool) (err error) {
	var bounds pebble.IterOptions
	if len(lower) > 0 {
		bounds.LowerBound = lower
	}
	if len(upper) > 0 {
		bounds.UpperBound = upper
	}
	e.reading.begin()
	iter, err := from.NewIter(&bounds)
	if err != nil {
		e.reading.end()
		return e.readError(err)
	}
	// Closed exactly once, also if fn panics: a closed iterator is already
	// somebody else's.
	defer func() {
		if closing := iter.Close(); closing != nil && err == nil {
			err = e.readError(closing)
		}
	}()
	if err := e.each(iter, fn); err != nil {
		return e.readError(err)
	}
	return nil
}

// each calls fn for the pairs of the iterator until it returns false. The scan
// counts as a read that waits until it has found its first key: what fn
// does then is not the disk's time.
func (e *Engine) each(iter *pebble.Iterator, fn func(key, value []byte) bool) error {
	ok := iter.First()
	e.reading.end()
	for ; ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return err
		}
		if !fn(iter.Key(), value) {
			return nil
		}
	}
	return iter.Error()
}

// Snapshot implements storage.Snapshotter. Close waits until it is closed.
func (e *Engine) Snapshot() (storage.Snapshot, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	return &snapshot{engine: e, at: e.db.NewSnapshot()}, nil
}

// snapshot is a moment of an engine, which it uses until it is closed.
type snapshot struct {
	engine *Engine
	at     *pebble.Snapshot
	closed atomic.Bool
}

// Get implements storage.Reader.
func (s *snapshot) Get(key []byte) ([]byte, error) {
	if s.closed.Load() {
		return nil, storage.ErrClosed
	}
	return s.engine.get(s.at, key)
}

// Scan implements storage.Reader.
func (s *snapshot) Scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	if s.closed.Load() {
		return storage.ErrClosed
	}
	return s.engine.scan(s.at, lower, upper, fn)
}

// Close implements storage.Snapshot.
func (s *snapshot) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return storage.ErrClosed
	}
	defer s.engine.leave()
	if err := s.at.Close(); err != nil {
		return s.engine.readError(err)
	}
	return nil
}

// readError tells a damaged disk from one that does not answer.
func (e *Engine) readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("storage/disk: reading in %s: %w: %w", e.dir, storage.ErrCorrupt, err)
	}
	e.readErrors.Add(1)
	err = fmt.Errorf("storage/disk: reading in %s: %w", e.dir, err)
	e.background(err)
	return err
}

// Trouble implements storage.Watched.
func (e *Engine) Trouble() (reads, writes error) {
	if err := e.reading.stall.Load(); err != nil {
		return *err, *err // who cannot read cannot write either
	}
	if err := e.progress.stall.Load(); err != nil {
		return nil, *err
	}
	if full := e.space.full.Load(); full != nil {
		return nil, full
	}
	return nil, nil
}

// Apply implements storage.Engine. It copies each key and value once, into
// memory that is used again. It returns a *FullError while the disk is nearly
// full, unless the batch only deletes and merges, or is urgent, and a quarter of the reserve is left;
// and an error for a batch larger than MaxBatchBytes. A batch that was
// applied with sync false may also be waited for: that makes it durable now,
// or answers storage.ErrClosed after Close, which has made it durable.
func (e *Engine) Apply(b *storage.Batch, sync bool) (storage.Commit, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	size, err := e.admit(b)
	if err != nil {
		return nil, err
	}
	batch, err := e.fill(b, size)
	if err != nil {
		return nil, err
	}
	if err := e.apply(batch, sync); err != nil {
		return nil, err
	}
	e.commits.Add(1)
	e.space.wrote(size)
	if sync {
		return &commit{engine: e, batch: batch}, nil
	}
	signal(e.unsynced)
	if err := batch.Close(); err != nil {
		return nil, e.fail(err)
	}
	return &commit{engine: e}, nil
}

// admit returns the size of the batch, or why it is refused.
func (e *Engine) admit(b *storage.Batch) (int, error) {
	size, adds := 0, false
	for _, op := range b.Ops {
		size += opBytes + len(op.Key) + len(op.Value)
		adds = adds || !op.Delete && !op.Merge
	}
	if full := e.space.full.Load(); full != nil && (adds && !b.Urgent || full.Free < full.Need/urgentPart) {
		return 0, full
	}
	if size > MaxBatchBytes {
		return 0, fmt.Errorf("storage/disk: a batch of %d bytes is larger than %d", size, MaxBatchBytes)
	}
	return size, nil
}

// What Pebble adds to a batch and to each operation in it, at most.
const (
	batchBytes = 12
	opBytes    = 11
)

// fill copies the batch into one of Pebble's.
func (e *Engine) fill(b *storage.Batch, size int) (*pebble.Batch, error) {
	batch := e.db.NewBatchWithSize(batchBytes + size)
	for _, op := range b.Ops {
		err := error(nil)
		switch {
		case op.Delete:
			err = batch.Delete(op.Key, nil)
		case op.Merge:
			err = batch.Merge(op.Key, op.Value, nil)
		default:
			err = batch.Set(op.Key, op.Value, nil)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("storage/disk: building a batch: %w", err), batch.Close())
		}
	}
	if len(b.Ops) > 0 {
		return batch, nil
	}
	// Pebble ignores empty batches, but the Wait of this one must make the
	// earlier batches durable.
	return batch, batch.LogData(nil, nil)
}

// apply hands the batch to Pebble. Pebble panics when the WAL cannot be
// written; that is how apply learns of it.
func (e *Engine) apply(batch *pebble.Batch, sync bool) (err error) {
	e.progress.begin()
	defer e.progress.end()
	e.write.Lock()
	defer e.write.Unlock()
	if err := e.failure.Load(); err != nil {
		return *err // it came while this call waited for the lock
	}
	defer func() {
		if r := recover(); r != nil {
			err = e.fail(fmt.Errorf("applying a batch: %v", r))
		}
	}()
	if sync {
		err = e.db.ApplyNoSyncWait(batch, pebble.Sync)
	} else {
		err = e.db.Apply(batch, pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("storage/disk: applying a batch in %s: %w", e.dir, err)
	}
	return nil
}

// commit is a batch that has been applied.
type commit struct {
	engine *Engine
	batch  *pebble.Batch // nil if it was applied with sync false
}

// Wait implements storage.Commit.
func (c *commit) Wait() error {
	if c.batch == nil {
		return c.engine.sync()
	}
	e := c.engine
	e.progress.begin()
	defer e.progress.end()
	if err := c.batch.SyncWait(); err != nil {
		return e.fail(fmt.Errorf("making a batch durable: %w", err))
	}
	return c.batch.Close()
}

// sync makes all batches durable that have been applied.
func (e *Engine) sync() error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	batch, err := e.fill(&storage.Batch{}, 0)
	if err != nil {
		return err
	}
	if err := e.apply(batch, true); err != nil {
		return err
	}
	return (&commit{engine: e, batch: batch}).Wait()
}

// keepSynced makes what was applied with sync false durable, SyncEvery after
// the first such batch at the latest. It ends with the engine, or when the
// engine has failed.
func (e *Engine) keepSynced() {
	for {
		select {
		case <-e.unsynced:
		case <-e.stop:
			return
		}
		select {
		case <-time.After(e.options.SyncEvery):
		case <-e.stop:
			return
		}
		// A batch whose signal is taken here has been applied, so the sync
		// covers it.
		select {
		case <-e.unsynced:
		default:
		}
		if e.sync() != nil {
			return // sync has told everybody
		}
	}
}

// signal puts an element into a channel of capacity one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close implements storage.Engine. It waits for the calls in progress. If the
// engine has failed, Close returns that error, after one second at the most.
func (e *Engine) Close() error {
	if !e.closing.CompareAndSwap(false, true) {
		return storage.ErrClosed
	}
	done := make(chan error, 1)
	go func() { done <- e.shutdown() }()
	select {
	case err := <-done:
		return e.outcome(err)
	case <-e.failed:
	}
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return e.outcome(err)
	case <-grace.C:
		return *e.failure.Load()
	}
}

// outcome is what Close answers: the failure if there was one, which is the
// reason of all other errors.
func (e *Engine) outcome(err error) error {
	if failure := e.failure.Load(); failure != nil {
		return *failure
	}
	if err != nil {
		return fmt.Errorf("storage/disk: closing %s: %w", e.dir, err)
	}
	return nil
}

// shutdown ends everything that Open began, in the opposite order.
func (e *Engine) shutdown() (err error) {
	close(e.stop)
	e.services.Wait()
	for e.users.Load() > 0 {
		<-e.idle
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return errors.Join(e.db.Close(), e.lock.Close(), e.closeFS())
}

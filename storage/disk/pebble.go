package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/tanodb/tanodb/storage"
)

// The settings of Pebble that differ from its defaults.
const (
	blockBytes     = 4 << 10  // a read from the file system fetches one block
	filterBits     = 10       // bits per key of the Bloom filters: 1 % false positives
	memTableBytes  = 32 << 20 // what is written between two flushes; in a larger one, reads miss the caches of the processor
	memTables      = 4        // how many may wait for their flush before writes wait
	stallReadAmp   = 24       // sublevels in level 0 before writes wait
	compactions    = 2        // that may run at once
	tableFileBytes = 16 << 20 // size of the table files of level 0; each level doubles it
	openFiles      = 1000
)

// pebbleOptions returns how Pebble is opened.
func (e *Engine) pebbleOptions(cache *pebble.Cache) *pebble.Options {
	o := &pebble.Options{
		FS:    e.fs,
		Lock:  e.lock,
		Cache: cache,
		// Older formats lose the end of a damaged WAL without a word.
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: memTables,
		L0StopWritesThreshold:       stallReadAmp,
		MaxOpenFiles:                openFiles,
		CompactionConcurrencyRange:  func() (int, int) { return 1, compactions },
		Merger:                      merger,
		Logger:                      &logger{engine: e},
		EventListener:               e.listener(),
	}
	o.TargetFileSizes[0] = tableFileBytes
	for i := range o.Levels {
		o.Levels[i].BlockSize = blockBytes
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
		o.Levels[i].Compression = func() *block.CompressionProfile { return block.FastestCompression }
	}
	return o
}

// openPebble opens the database. It does so on a goroutine of its own, because
// a Fatalf halts the goroutine it is called on.
func (e *Engine) openPebble() (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() { done <- r }()
		defer func() {
			if p := recover(); p != nil {
				// Pebble meets only one thing that it does not expect: files
				// that it did not write so.
				r.err = openError(e.fs, e.dir, fmt.Errorf("%w: panic: %v", storage.ErrCorrupt, p))
			}
		}()
		cache := pebble.NewCache(e.options.CacheBytes)
		defer cache.Unref() // the database has a reference of its own
		r.db, r.err = e.openNewest(cache)
		if r.err != nil {
			r.err = openError(e.fs, e.dir, r.err)
		}
	}()
	select {
	case r := <-done:
		return r.db, r.err
	case <-e.failed:
		return nil, *e.failure.Load()
	}
}

// openNewest opens the database so that what is written from now on has the
// newest format. Pebble makes a new database in its oldest format, with a WAL
// of it, and only then raises the format: that WAL would still lose its end
// without a word when it is damaged. A flush begins another.
func (e *Engine) openNewest(cache *pebble.Cache) (*pebble.DB, error) {
	if err := checkManifest(e.fs, e.dir); err != nil {
		return nil, err
	}
	raised := false
	o := e.pebbleOptions(cache)
	o.EventListener.FormatUpgrade = func(pebble.FormatMajorVersion) { raised = true }
	db, err := pebble.Open(e.dir, o)
	if err != nil || !raised {
		return db, err
	}
	if err := db.Flush(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// logger receives what Pebble would log.
type logger struct {
	engine *Engine
}

var _ pebble.Logger = (*logger)(nil)

// Infof implements pebble.Logger. Events say what matters.
func (l *logger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l *logger) Errorf(format string, args ...any) {
	l.engine.background(fmt.Errorf(format, args...))
}

// Fatalf implements pebble.Logger. Pebble calls it when it cannot go on, often
// with locks held, and expects it never to return. To return would let it run
// on in a state that it thinks impossible; to end the goroutine would run the
// deferred calls that unlock what is not locked. So the goroutine is halted for
// good, and the engine fails.
func (l *logger) Fatalf(format string, args ...any) {
	_ = l.engine.fail(fmt.Errorf(format, args...))
	select {}
}

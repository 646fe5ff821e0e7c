// Package storage defines Engine, the ordered key/value store on one machine
// that a node keeps its vnodes in, and Memory, an engine that forgets.
//
// One engine serves all vnodes of a node, so that one fsync makes the writes of
// many of them durable. What every Engine must do is written down, and tested,
// in package storagetest; package disk has the durable one.
package storage

import (
	"encoding/binary"
	"errors"
)

// ErrNotFound is what Get answers for a key that is not there.
var ErrNotFound = errors.New("storage: key not found")

// ErrCorrupt marks errors of data that fails its checksum. The rest of the
// engine may still be whole.
var ErrCorrupt = errors.New("storage: corrupt data")

// ErrFull marks errors of an engine that refuses writes because the disk is
// nearly full. Reads go on, and writes again when there is space.
var ErrFull = errors.New("storage: no space for writes")

// ErrStalled marks errors of an engine whose disk does nothing for those who wait
// for it. It may do so again.
var ErrStalled = errors.New("storage: the disk stands still")

// ErrClosed is what a closed engine answers.
var ErrClosed = errors.New("storage: engine is closed")

// Reader is the part of an Engine that only reads.
type Reader interface {
	// Get returns a copy of the value, which the caller owns, or ErrNotFound.
	Get(key []byte) ([]byte, error)

	// Scan calls fn for each key in [lower, upper), in byte order, until fn
	// returns false. An empty upper has no end. The scan sees one moment of
	// the engine. Key and value are valid during the call only.
	Scan(lower, upper []byte, fn func(key, value []byte) bool) error
}

// Engine is an ordered map of bytes that survives a crash. Its methods may be
// called by many goroutines at once.
type Engine interface {
	Reader

	// Apply makes all of the batch visible, atomically, before it returns, and
	// begins to make it durable. A crash keeps a prefix of the batches in the
	// order of their application, with at least those whose Commit has said so.
	// With sync false nobody waits: the batch becomes durable within the
	// engine's interval. The batch is not kept; the caller may reuse it.
	// An error means that the batch is not, and will not become, visible.
	Apply(b *Batch, sync bool) (Commit, error)

	// Close ends the engine in order; everything applied is durable when it
	// returns nil.
	Close() error
}

// Watched is an Engine that knows when it is in trouble.
type Watched interface {
	Engine

	// Trouble is why nobody should wait for a read now, or for a write: an error
	// that wraps ErrFull or ErrStalled; nil: there is no reason. It never waits.
	Trouble() (reads, writes error)
}

// Eraser is an Engine that can let go of what it cannot read.
type Eraser interface {
	Engine

	// Erase removes all keys in [lower, upper), durably, without reading them. An
	// error that wraps ErrCorrupt says that the bounds lie in what is damaged
	// themselves, so that nothing was changed. No Apply for such keys may be in
	// progress.
	Erase(lower, upper []byte) error
}

// Snapshotter is an Engine that can be read as it is at one moment for longer
// than one Scan.
type Snapshotter interface {
	// Snapshot returns the engine as it is now. What is read of it does not
	// change until it is closed, which must happen soon: it keeps the space of
	// what is written over meanwhile.
	Snapshot() (Snapshot, error)
}

// Snapshot is one moment of an engine.
type Snapshot interface {
	Reader
	Close() error
}

// Commit is an applied batch on its way to the disk.
type Commit interface {
	// Wait returns when the batch, and so every batch applied before it, is
	// durable, or will never be. It must be called exactly once, or, of a batch
	// that was applied with sync false, not at all. After an error the engine accepts no more batches: what it shows may be
	// more than what it kept.
	Wait() error
}

// Op is one change of a Batch.
type Op struct {
	Delete bool
	Merge  bool // Value is a word to be merged with what is there
	Key    []byte
	Value  []byte // nil for a delete
}

// WordSize is the length of the words that Merge works on.
const WordSize = 8

// Batch is a list of changes that happen all or not at all. The zero value is
// an empty batch.
type Batch struct {
	Ops []Op

	// Urgent says that the batch is small, and needed so that a node whose disk
	// is nearly full stays one: an engine takes it out of its reserve.
	Urgent bool
}

// Set adds the writing of a key. The batch keeps both slices.
func (b *Batch) Set(key, value []byte) { b.Ops = append(b.Ops, Op{Key: key, Value: value}) }

// Delete adds the removal of a key. The batch keeps the slice.
func (b *Batch) Delete(key []byte) { b.Ops = append(b.Ops, Op{Delete: true, Key: key}) }

// Merge adds the merging of a word into a key: afterwards its value is the
// exclusive or of the word and what was there, in WordSize bytes, the highest
// first. Nothing, or a value of another length, counts as 0. So words may be merged in
// any order, and without reading what is there; one that comes to 0 is a value like any
// other, and stays until it is deleted. The batch keeps the slice, and puts the word into
// the free space behind it, if there is any.
func (b *Batch) Merge(key []byte, word uint64) {
	b.Ops = append(b.Ops, Op{Merge: true, Key: key, Value: binary.BigEndian.AppendUint64(key[len(key):], word)})
}

// Word is the value of a key as Merge reads it.
func Word(value []byte) uint64 {
	if len(value) != WordSize {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Urgent = false
	clear(b.Ops)
	b.Ops = b.Ops[:0]
}

// Opener opens the engine of a node whose files live in dir.
type Opener func(dir string) (Engine, error)

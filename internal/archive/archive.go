// Package archive keeps the files of backups: in a directory, or in a store that speaks
// Amazon's S3. What is in them, package backup says; here a file is bytes under a name.
//
//	FORMAT               what this is, and its version
//	manifests/ID         a manifest; written last, so that a backup is whole or is none
//	chunks/AB/ABCDEF…    a packed chunk, under the hash of what is in it
//	making/ID            a backup that is being made, and when that was said last
//	pruning/ID           a prune, in the same way
//	revoked/ID           one of these that others have taken for dead
//
// Every file appears whole or not at all, and but for marks of work is never changed.
package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/backup"
)

// Store is where files are kept. Its methods may be called by many goroutines at once.
type Store interface {
	// Put keeps a file, durably, when it returns nil.
	Put(ctx context.Context, name string, data []byte) error

	// Get reads a file. One of more than limit bytes is an error, one that is not there
	// wraps fs.ErrNotExist.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)

	// Has reports whether a file is there.
	Has(ctx context.Context, name string) (bool, error)

	// List are the names of the files right below a folder, sorted.
	List(ctx context.Context, folder string) ([]string, error)

	// Unfinished are the names of files below a folder that were begun and never appeared.
	Unfinished(ctx context.Context, folder string) ([]string, error)

	// Remove removes files of one folder, durably. One that is not there is no error.
	Remove(ctx context.Context, names ...string) error

	// Where is the whole name of a file, for people.
	Where(name string) string
}

const (
	formatFile = "FORMAT"
	format     = "tanodb-backups 1\n"

	manifests = "manifests"
	chunks    = "chunks"

	maxManifest = 1 << 30

	getTries = 4 // for a file, with a longer pause after each
	getPause = 500 * time.Millisecond
)

// Archive is the backups in one place.
type Archive struct{ store Store }

// scheme begins the name of a place in an S3 store.
const scheme = "s3://"

// Open opens a place: a directory, or s3://BUCKET/PREFIX.
func Open(place string) (*Archive, error) {
	if rest, ok := strings.CutPrefix(place, scheme); ok {
		s, err := openS3(rest)
		return &Archive{s}, err
	}
	if place == "" || strings.Contains(place, "://") {
		return nil, fmt.Errorf("%q is no place for backups; name a directory, or %sBUCKET/PREFIX", place, scheme)
	}
	return &Archive{dir(place)}, nil
}

// Begin makes the place one for backups, if it is not yet. It writes, so a place that
// cannot be written to is known before anything is read for it.
func (a *Archive) Begin(ctx context.Context) error {
	err := a.Check(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return a.store.Put(ctx, formatFile, []byte(format))
}

// Check reports whether the place has backups that this program reads. An error that wraps
// fs.ErrNotExist says that it has none at all.
func (a *Archive) Check(ctx context.Context) error {
	b, err := a.store.Get(ctx, formatFile, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no backups in %s: %w", a.store.Where(""), err)
	}
	if err == nil && string(b) != format {
		err = fmt.Errorf("%w: it says %q, and this program reads %q", backup.ErrVersion, bytes.TrimSpace(b), strings.TrimSpace(format))
	}
	if err != nil {
		return a.name(formatFile, err)
	}
	return nil
}

// name names the file that an error is about.
func (a *Archive) name(file string, err error) error {
	return fmt.Errorf("%s: %w", a.store.Where(file), err)
}

// IDs are the backups, the oldest first. One that was taken for dead while it was made is
// none.
func (a *Archive) IDs(ctx context.Context) ([]string, error) {
	if err := a.Check(ctx); err != nil {
		return nil, err
	}
	names, err := a.store.List(ctx, manifests)
	if err != nil {
		return nil, a.name(manifests, err)
	}
	dead, err := a.store.List(ctx, revoked)
	if err != nil {
		return nil, a.name(revoked, err)
	}
	return slices.DeleteFunc(names, func(id string) bool { return !backup.ValidID(id) || slices.Contains(dead, id) }), nil
}

// Manifest reads that of a backup.
func (a *Archive) Manifest(ctx context.Context, id string) (*backup.Manifest, error) {
	if !backup.ValidID(id) {
		return nil, fmt.Errorf("%q is not the id of a backup: see tanodb backup list", id)
	}
	file := path.Join(manifests, id)
	b, err := a.get(ctx, file, maxManifest)
	if err != nil {
		return nil, a.name(file, err)
	}
	m, err := backup.DecodeManifest(b)
	if err == nil && m.ID != id {
		err = fmt.Errorf("%w: it is the manifest of %s", backup.ErrCorrupt, m.ID)
	}
	if err != nil {
		return nil, a.name(file, err)
	}
	return m, nil
}

// Damaged reports whether an error says that a file is not what it should be, or is gone. After
// any other it is not known what it is.
func Damaged(err error) bool {
	return errors.Is(err, backup.ErrCorrupt) || errors.Is(err, backup.ErrVersion) || errors.Is(err, fs.ErrNotExist)
}

// get reads a file, and tries again if that has failed.
func (a *Archive) get(ctx context.Context, file string, limit int64) ([]byte, error) {
	for try := 1; ; try++ {
		b, err := a.store.Get(ctx, file, limit)
		if err == nil || Damaged(err) || try == getTries || ctx.Err() != nil {
			return b, err
		}
		t := time.NewTimer(getPause << (try - 1))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
}

// PutManifest keeps a manifest. The backup is there from then on.
func (a *Archive) PutManifest(ctx context.Context, m *backup.Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	return a.store.Put(ctx, path.Join(manifests, m.ID), b)
}

// chunkFile is the file of a chunk.
func chunkFile(name string) string { return path.Join(chunks, name[:2], name) }

// PutChunk keeps a chunk, unless it is there already and anew is false. It says how many
// bytes it has written.
func (a *Archive) PutChunk(ctx context.Context, name string, chunk []byte, anew bool) (int, error) {
	file := chunkFile(name)
	if !anew {
		if has, err := a.store.Has(ctx, file); has || err != nil {
			return 0, err
		}
	}
	packed := pack(chunk)
	return len(packed), a.store.Put(ctx, file, packed)
}

// HasChunk reports whether there is a file for a chunk.
func (a *Archive) HasChunk(ctx context.Context, name string) (bool, error) {
	return a.store.Has(ctx, chunkFile(name))
}

// Chunk reads a chunk, and gives each record that is in it. An error names the file.
func (a *Archive) Chunk(ctx context.Context, c backup.Chunk, each func(backup.Record) error) error {
	file := chunkFile(c.SHA256)
	packed, err := a.get(ctx, file, int64(backup.MaxChunk+packHead))
	if err != nil {
		return a.name(file, err)
	}
	b, err := unpack(packed, c.Bytes)
	if err == nil {
		err = backup.DecodeChunk(b, c, each)
	}
	if err != nil {
		return a.name(file, err)
	}
	return nil
}

package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/backup"
)

// dir is a Store in a directory.
type dir string

const (
	dirMode    = 0o700  // backups are as secret as the data in them; files are made with 0600
	unfinished = ".tmp" // in the names of files that are being written
)

func (d dir) path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// Where implements Store.
func (d dir) Where(name string) string { return d.path(name) }

// Put implements Store.
func (d dir) Put(ctx context.Context, name string, data []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	file := d.path(name)
	if err := makeDirs(filepath.Dir(file)); err != nil {
		return fmt.Errorf("cannot write to %s: %w", string(d), err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+unfinished)
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", string(d), err)
	}
	err = fill(f, data)
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		err = fmt.Errorf("cannot write %s: %w", file, err)
		return errors.Join(err, ignoreMissing(os.Remove(f.Name())))
	}
	return nil
}

// fill writes a file, durably, and closes it.
func fill(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// makeDirs makes a directory and its missing parents, each durable in the one above.
func makeDirs(name string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(name, dirMode) // says what is in its place
	}
	parent := filepath.Dir(name)
	if err := makeDirs(parent); err != nil {
		return err
	}
	if err := os.Mkdir(name, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes the names in a directory durable.
func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		err = nil // a system on which directories are not synced
	}
	return errors.Join(err, f.Close())
}

// Get implements Store.
func (d dir) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, unwrapped(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: it is longer than %d bytes", backup.ErrCorrupt, limit)
	}
	return b, unwrapped(err)
}

// unwrapped is the error without the path, which the caller adds.
func unwrapped(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Has implements Store.
func (d dir) Has(_ context.Context, name string) (bool, error) {
	_, err := os.Stat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// List implements Store.
func (d dir) List(_ context.Context, folder string) ([]string, error) {
	return d.files(folder, func(name string) bool { return !strings.Contains(name, unfinished) })
}

// Unfinished implements Store.
func (d dir) Unfinished(_ context.Context, folder string) ([]string, error) {
	return d.files(folder, func(name string) bool { return strings.Contains(name, unfinished) })
}

// files are those right below a folder that are wanted, sorted.
func (d dir) files(folder string, wanted func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(d.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && wanted(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// Remove implements Store.
func (d dir) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := ignoreMissing(os.Remove(d.path(name))); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	return ignoreMissing(syncDir(filepath.Dir(d.path(names[0]))))
}

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// The FORMAT file of a directory holds one line, formatName and the version of
// everything else in the directory.
const (
	formatFile    = "FORMAT"
	formatDraft   = "FORMAT.new" // a FORMAT file before it has its name
	formatName    = "tanodb-engine "
	formatVersion = "2" // 1 had no merges, and no trees beside the objects
	formatMax     = 64  // bytes of the file that an error repeats; a valid one is shorter
	lockFile      = "LOCK"
)

// ErrFormat marks the errors of Open for a directory that was written by
// another version, or that is not an engine's.
var ErrFormat = errors.New("storage/disk: not a directory of this version")

// ErrInUse marks the errors of Open for a directory that is open already.
var ErrInUse = errors.New("storage/disk: directory is in use")

// claim makes the directory if there is none, checks that it is ours to use,
// and locks it.
func claim(files vfs.FS, dir string) (*pebble.Lock, error) {
	// The check before the lock leaves foreign directories as they are.
	if _, err := checkFormat(files, dir); err != nil {
		return nil, err
	}
	if err := makeDir(files, dir); err != nil {
		return nil, fmt.Errorf("storage/disk: making directory %s: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, files)
	if err != nil {
		return nil, lockError(dir, err)
	}
	if err := ensureFormat(files, dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// trueName is the path of a directory without links, or of one that is to be made. The lock
// of a process on a file keeps out other processes, but not this one, which only
// remembers the names of what it has locked: so there must be one name for each. A path that
// leads nowhere stays as it is, for Open to say why.
func trueName(dir string) string {
	path, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	real, err := filepath.EvalSymlinks(path)
	above := filepath.Dir(path)
	switch {
	case err == nil:
		return real
	case errors.Is(err, fs.ErrNotExist) && above != path:
		return filepath.Join(trueName(above), filepath.Base(path))
	}
	return path
}

// lockError says who has the directory.
func lockError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%w: directory %s is in use by another process", ErrInUse, dir)
	case strings.Contains(err.Error(), "lock held by current process"):
		return fmt.Errorf("%w: directory %s is already open in this process", ErrInUse, dir)
	default:
		return fmt.Errorf("storage/disk: locking directory %s: %w", dir, err)
	}
}

// makeDir makes the directory and its missing parents, each of them durable in
// the one above.
func makeDir(files vfs.FS, dir string) error {
	var missing []string
	for d := dir; ; d = files.PathDir(d) {
		_, err := files.Stat(d)
		if err == nil || files.PathDir(d) == d {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
	}
	if err := files.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, d := range missing {
		if err := syncDir(files, files.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(files vfs.FS, dir string) error {
	d, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ensureFormat checks the FORMAT file of a locked directory, and writes it if
// the directory is empty.
func ensureFormat(files vfs.FS, dir string) error {
	present, err := checkFormat(files, dir)
	if err != nil || present {
		return err
	}
	if err := writeFormat(files, dir); err != nil {
		return fmt.Errorf("storage/disk: writing %s: %w", files.PathJoin(dir, formatFile), err)
	}
	return nil
}

// checkFormat reports whether the directory has the FORMAT file of this
// version. A directory that is empty or missing has none; any other without it
// is an error.
func checkFormat(files vfs.FS, dir string) (present bool, err error) {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("storage/disk: reading directory %s: %w", dir, err)
	}
	if slices.Contains(names, formatFile) {
		return true, checkVersion(files, dir)
	}
	for _, name := range names {
		if name != lockFile && name != formatDraft {
			return false, fmt.Errorf("%w: directory %s holds %s but no %s file; "+
				"choose an empty directory, or restore the %s file if it was removed",
				ErrFormat, dir, name, formatFile, formatFile)
		}
	}
	return false, nil
}

// checkVersion compares the content of the FORMAT file.
func checkVersion(files vfs.FS, dir string) error {
	path := files.PathJoin(dir, formatFile)
	content, err := readFile(files, path)
	if err != nil {
		return fmt.Errorf("storage/disk: reading %s: %w", path, err)
	}
	return parseFormat(path, string(content[:min(len(content), formatMax)]))
}

// parseFormat explains what a FORMAT file says, if it is not this version.
func parseFormat(path, content string) error {
	if content == formatName+formatVersion+"\n" {
		return nil
	}
	version, ours := strings.CutPrefix(strings.TrimSuffix(content, "\n"), formatName)
	if !ours {
		return fmt.Errorf("%w: %s holds %q, which is no version of this engine", ErrFormat, path, content)
	}
	return fmt.Errorf("%w: %s says version %q, this program knows only version %s; nothing was changed",
		ErrFormat, path, version, formatVersion)
}

// writeFormat writes the FORMAT file so that after a crash it is there whole
// or not at all.
func writeFormat(files vfs.FS, dir string) error {
	draft := files.PathJoin(dir, formatDraft)
	f, err := files.Create(draft, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(formatName + formatVersion + "\n"))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := files.Rename(draft, files.PathJoin(dir, formatFile)); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// openError explains why the directory cannot be opened, and what to do.
func openError(files vfs.FS, dir string, err error) error {
	// Nobody but Pebble removes its files.
	damaged := errors.Is(err, storage.ErrCorrupt) || pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist)
	if !damaged {
		return fmt.Errorf("storage/disk: opening %s: %w", dir, err)
	}
	if !errors.Is(err, storage.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	if strings.Contains(err.Error(), "replaying WAL") { // Pebble does not say which
		err = fmt.Errorf("%w (the log is %s)", err, strings.Join(logsOf(files, dir), ", "))
	}
	return fmt.Errorf("storage/disk: opening %s: %w; move the directory aside, and put a backup in its place", dir, err)
}

// logsOf are the files of the WAL, by name.
func logsOf(files vfs.FS, dir string) []string {
	names, err := files.List(dir)
	if err != nil {
		return []string{err.Error()}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
	slices.Sort(names)
	return names
}

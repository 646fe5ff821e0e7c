package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tanodb/tanodb/storage"
)

// Pebble keeps the list of its table files in a log, the MANIFEST. It takes a
// log that is cut short, or damaged in its last block, for one that a crash
// ended early: it opens without the tables that it does not know of, and deletes
// them. So each MANIFEST-N has a SUMS-N beside it, to which a line is appended
// whenever the MANIFEST has been synced, before Pebble learns of the sync and
// removes what the tables replace:
//
//	SIZE SUM CHECK
//
// SIZE is the length of the MANIFEST in decimal, SUM its CRC-32C and CHECK the
// CRC-32C of "SIZE SUM", both as eight hexadecimal digits. A crash may cut the
// last line short; the last whole line counts.
const (
	manifestPrefix = "MANIFEST-"
	sumsPrefix     = "SUMS-"
	sumsLine       = "%d %08x" // SIZE SUM
	sumsCheck      = " %08x\n" // CHECK
)

// sum returns the CRC-32C of p, continued from an earlier one.
func sum(before uint32, p []byte) uint32 {
	return crc32.Update(before, crc32.MakeTable(crc32.Castagnoli), p)
}

// sumsFS is a file system that keeps the SUMS files.
type sumsFS struct {
	vfs.FS
}

// sumsName returns the path of the SUMS file of a MANIFEST.
func sumsName(files vfs.FS, path string) (name string, manifest bool) {
	number, manifest := strings.CutPrefix(files.PathBase(path), manifestPrefix)
	return files.PathJoin(files.PathDir(path), sumsPrefix+number), manifest
}

// Unwrap implements vfs.FS.
func (s sumsFS) Unwrap() vfs.FS { return s.FS }

// Create implements vfs.FS.
func (s sumsFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	sumsPath, manifest := sumsName(s.FS, name)
	if err != nil || !manifest {
		return f, err
	}
	sums, err := s.FS.Create(sumsPath, category)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &summedFile{File: f, sums: sums, syncDir: func() error { return syncDir(s.FS, s.PathDir(name)) }}, nil
}

// Remove implements vfs.FS.
func (s sumsFS) Remove(name string) error {
	err := s.FS.Remove(name)
	sumsPath, manifest := sumsName(s.FS, name)
	if err != nil || !manifest {
		return err
	}
	if err := s.FS.Remove(sumsPath); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // it was made before there were such files
}

// summedFile is a MANIFEST. Pebble only writes, syncs and closes it.
type summedFile struct {
	vfs.File
	sums    vfs.File
	size    int64
	sum     uint32
	syncDir func() error // makes the names of both files durable; nil: they are
}

// Write implements vfs.File. The sum is taken first: the memory file system
// spoils p in tests with the race detector.
func (f *summedFile) Write(p []byte) (int, error) {
	after := sum(f.sum, p)
	n, err := f.File.Write(p)
	if err != nil {
		return n, err // nothing is written to a MANIFEST after an error
	}
	f.size, f.sum = f.size+int64(n), after
	return n, nil
}

// Sync implements vfs.File.
func (f *summedFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	if _, err := f.sums.Write(appendSums(nil, f.size, f.sum)); err != nil {
		return err
	}
	if err := f.sums.Sync(); err != nil || f.syncDir == nil {
		return err
	}
	// Pebble now makes this MANIFEST the current one. A power loss must not
	// keep that fact and lose the name of the file.
	if err := f.syncDir(); err != nil {
		return err
	}
	f.syncDir = nil
	return nil
}

// Close implements vfs.File.
func (f *summedFile) Close() error { return errors.Join(f.File.Close(), f.sums.Close()) }

// appendSums appends a line of a SUMS file.
func appendSums(dst []byte, size int64, manifest uint32) []byte {
	line := fmt.Appendf(nil, sumsLine, size, manifest)
	return fmt.Appendf(append(dst, line...), sumsCheck, sum(0, line))
}

// lastSums returns what the last whole line of a SUMS file says.
func lastSums(content []byte) (size int64, manifest uint32, ok bool) {
	for line := range strings.Lines(string(content)) {
		var s int64
		var m uint32
		if _, err := fmt.Sscanf(line, sumsLine, &s, &m); err != nil || s < 0 {
			continue
		}
		if string(appendSums(nil, s, m)) == line {
			size, manifest, ok = s, m, true
		}
	}
	return size, manifest, ok
}

// checkManifest compares the current MANIFEST of a directory with its SUMS, if
// it has any.
func checkManifest(files vfs.FS, dir string) error {
	db, err := pebble.Peek(dir, files)
	if err != nil || !db.Exists {
		return err
	}
	sumsPath, _ := sumsName(files, db.ManifestFilename)
	content, err := readFile(files, sumsPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, want, ok := lastSums(content)
	if !ok {
		return nil
	}
	manifest, err := readFile(files, db.ManifestFilename)
	if err != nil {
		return err
	}
	if int64(len(manifest)) < size {
		return fmt.Errorf("%w: %s holds %d bytes, of %d that were written",
			storage.ErrCorrupt, db.ManifestFilename, len(manifest), size)
	}
	if sum(0, manifest[:size]) != want {
		return fmt.Errorf("%w: %s does not have the checksum that it was written with",
			storage.ErrCorrupt, db.ManifestFilename)
	}
	return nil
}

// readFile returns the content of a file.
func readFile(files vfs.FS, path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return content, errors.Join(err, f.Close())
}

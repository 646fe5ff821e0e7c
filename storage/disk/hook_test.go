package disk

import "github.com/cockroachdb/pebble/v2/vfs"

// hookFS is a file system that asks before it writes: the hook may block, and
// an error of it is the operation's. Op is "create", "write" or "sync".
type hookFS struct {
	vfs.FS
	hook func(op, path string) error
}

func (h hookFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := h.hook("create", name); err != nil {
		return nil, err
	}
	f, err := h.FS.Create(name, c)
	return &hookFile{f, h, name}, err
}

func (h hookFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := h.hook("create", to); err != nil {
		return nil, err
	}
	f, err := h.FS.ReuseForWrite(from, to, c)
	return &hookFile{f, h, to}, err
}

// hookFile is a file of a hookFS.
type hookFile struct {
	vfs.File
	fs   hookFS
	path string
}

func (f *hookFile) Write(p []byte) (int, error) {
	if err := f.fs.hook("write", f.path); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *hookFile) Sync() error {
	if err := f.fs.hook("sync", f.path); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *hookFile) SyncData() error {
	if err := f.fs.hook("sync", f.path); err != nil {
		return err
	}
	return f.File.SyncData()
}

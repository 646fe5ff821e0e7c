package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// syncTakes is how long a sync of a mounted lossy disk takes, about as long as one of
// a disk that turns. What is acknowledged before its end is lost with the power.
const syncTakes = 15 * time.Millisecond

// mounted is a lossy disk in a folder, for as long as the power is there. The kernel
// keeps nothing of it: each call of a process arrives here.
type mounted struct {
	fuse.RawFileSystem // answers what is not here: there is no such call
	t                  *testing.T
	dir                string
	server             *fuse.Server

	*lossy
	nodes map[uint64]*inode // that the kernel may speak of; lossy.mu guards it
}

// mountLossy mounts an empty lossy disk, or skips the test where that is not
// possible. It goes at the end of the test.
func mountLossy(t *testing.T) *mounted {
	t.Helper()
	needProgram(t)
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("needs file systems of processes: %v", err)
	} else {
		f.Close()
	}
	m := &mounted{RawFileSystem: fuse.NewDefaultRawFileSystem(), t: t, dir: t.TempDir(), lossy: newLossy()}
	if err := m.mount(); err != nil {
		t.Skipf("needs the right to mount file systems: %v", err)
	}
	t.Cleanup(m.unmount)
	return m
}

func (m *mounted) mount() error {
	m.nodes = map[uint64]*inode{fuse.FUSE_ROOT_ID: m.root}
	server, err := fuse.NewServer(m, m.dir, &fuse.MountOptions{
		Name: "lossy", FsName: "lossy", DirectMount: true, DisableXAttrs: true, DisableReadDirPlus: true,
	})
	if err != nil {
		return err
	}
	m.server = server
	go server.Serve() // ends when it is unmounted, which waits for it
	return server.WaitMount()
}

func (m *mounted) unmount() {
	m.t.Helper()
	if err := m.server.Unmount(); err != nil {
		m.t.Errorf("unmounting %s: %v", m.dir, err)
	}
}

// cut takes the power away: whoever waits for the disk waits until he dies.
func (m *mounted) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
}

// restore brings the power back, with what is left on the disk. All who had to do
// with it must be dead.
func (m *mounted) restore(chance *rand.Rand) {
	m.t.Helper()
	m.unmount()
	m.lossy = m.afterLoss(chance)
	if err := m.mount(); err != nil {
		m.t.Fatal(err)
	}
}

// at does something to an inode that the kernel speaks of. Without power it waits
// until the caller dies.
func (m *mounted) at(cancel <-chan struct{}, id uint64, do func(n *inode) syscall.Errno) fuse.Status {
	m.mu.Lock()
	if !m.off {
		defer m.mu.Unlock()
		n := m.nodes[id]
		if n == nil {
			return fuse.Status(syscall.ESTALE)
		}
		return fuse.Status(do(n))
	}
	m.mu.Unlock()
	<-cancel
	return fuse.EINTR
}

// in does something to what has a name in a directory.
func (m *mounted) in(cancel <-chan struct{}, id uint64, name string, do func(dir, n *inode) syscall.Errno) fuse.Status {
	return m.at(cancel, id, func(dir *inode) syscall.Errno {
		n := dir.names[name]
		if n == nil {
			return syscall.ENOENT
		}
		return do(dir, n)
	})
}

// number is what the kernel calls an inode.
func (m *mounted) number(n *inode) uint64 {
	if n == m.root {
		return fuse.FUSE_ROOT_ID
	}
	return n.number + fuse.FUSE_ROOT_ID
}

// show describes an inode to the kernel.
func (m *mounted) show(n *inode, out *fuse.Attr) {
	out.Ino, out.Nlink, out.Blksize = m.number(n), 1, 4096
	out.Mode = syscall.S_IFREG | n.mode
	if n.isDir() {
		out.Mode = syscall.S_IFDIR | n.mode
	}
	out.Size = uint64(len(n.data))
	out.Blocks = (out.Size + sector - 1) / sector
	out.SetTimes(nil, &n.changed, &n.changed)
}

// enter tells the kernel of an inode by which it may speak of it from now on.
func (m *mounted) enter(n *inode, out *fuse.EntryOut) {
	out.NodeId, out.Generation = m.number(n), 1
	m.nodes[out.NodeId] = n
	m.show(n, &out.Attr)
}

func (m *mounted) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return m.in(cancel, in.NodeId, name, func(_, n *inode) syscall.Errno {
		m.enter(n, out)
		return 0
	})
}

func (m *mounted) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return m.at(cancel, in.NodeId, func(n *inode) syscall.Errno {
		m.show(n, &out.Attr)
		return 0
	})
}

func (m *mounted) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return m.at(cancel, in.NodeId, func(n *inode) syscall.Errno {
		if mode, ok := in.GetMode(); ok {
			n.mode = mode & 0o7777
		}
		if size, ok := in.GetSize(); ok {
			n.resize(int(size))
		}
		m.show(n, &out.Attr)
		return 0
	})
}

func (m *mounted) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return m.at(cancel, in.NodeId, func(dir *inode) syscall.Errno {
		if dir.names[name] != nil {
			return syscall.EEXIST
		}
		n := m.newDir(in.Mode & 0o7777)
		dir.name(named{name, n})
		m.enter(n, out)
		return 0
	})
}

func (m *mounted) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return m.at(cancel, in.NodeId, func(dir *inode) syscall.Errno {
		if dir.names[name] != nil {
			return syscall.EEXIST
		}
		n := m.newFile(in.Mode & 0o7777)
		dir.name(named{name, n})
		m.enter(n, &out.EntryOut)
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
		return 0
	})
}

func (m *mounted) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.in(cancel, in.NodeId, name, func(dir, _ *inode) syscall.Errno {
		dir.name(named{name, nil})
		return 0
	})
}

func (m *mounted) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return m.in(cancel, in.NodeId, name, func(dir, n *inode) syscall.Errno {
		if len(n.names) > 0 {
			return syscall.ENOTEMPTY
		}
		dir.name(named{name, nil})
		return 0
	})
}

// Rename renames within one directory, which is all that anybody here does.
func (m *mounted) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	return m.in(cancel, in.NodeId, from, func(dir, n *inode) syscall.Errno {
		if in.Newdir != in.NodeId || in.Flags != 0 {
			return syscall.EXDEV
		}
		dir.name(named{to, n}, named{from, nil})
		return 0
	})
}

func (m *mounted) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return m.at(cancel, in.NodeId, func(n *inode) syscall.Errno {
		if in.Flags&syscall.O_TRUNC != 0 {
			n.resize(0)
		}
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
		return 0
	})
}

func (m *mounted) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	var read int
	status := m.at(cancel, in.NodeId, func(n *inode) syscall.Errno {
		read = copy(buf, n.data[min(int(in.Offset), len(n.data)):])
		return 0
	})
	return fuse.ReadResultData(buf[:read]), status
}

func (m *mounted) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return uint32(len(data)), m.at(cancel, in.NodeId, func(n *inode) syscall.Errno {
		n.write(data, int(in.Offset))
		return 0
	})
}

// Fsync makes a file durable, at the end of the time that it takes. As on a disk no signal
// ends that: Go's runtime sends its threads many.
func (m *mounted) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	turn := time.NewTimer(syncTakes)
	defer turn.Stop()
	<-turn.C
	return m.at(cancel, in.NodeId, func(n *inode) syscall.Errno {
		n.sync()
		return 0
	})
}

func (m *mounted) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return m.Fsync(cancel, in)
}

func (m *mounted) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	return m.at(cancel, in.NodeId, func(*inode) syscall.Errno { return 0 })
}

func (m *mounted) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.at(cancel, in.NodeId, func(dir *inode) syscall.Errno {
		names := slices.Sorted(maps.Keys(dir.names))
		for _, name := range names[min(int(in.Offset), len(names)):] {
			n, mode := dir.names[name], uint32(syscall.S_IFREG)
			if n.isDir() {
				mode = syscall.S_IFDIR
			}
			if !out.AddDirEntry(fuse.DirEntry{Name: name, Ino: m.number(n), Mode: mode}) {
				return 0
			}
		}
		return 0
	})
}

// StatFs tells of a disk that never fills.
func (m *mounted) StatFs(cancel <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 1 << 24
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail = blocks, blocks, blocks
	return m.at(cancel, fuse.FUSE_ROOT_ID, func(*inode) syscall.Errno { return 0 })
}

func (m *mounted) String() string { return fmt.Sprintf("the lossy disk at %s", m.dir) }

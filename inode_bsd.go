//go:build darwin || freebsd || netbsd

package tanodb

import (
	"os"
	"syscall"
)

// stampOf is what no copy of a file has in common with it; zero: unknown.
func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileStamp{}
	}
	return fileStamp{inode: s.Ino, changed: s.Ctimespec.Nano()}
}

//go:build unix

package tanodb

import (
	"os"
	"syscall"
)

// inode is the number of a file that a copy of it does not have; 0: unknown.
func inode(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return s.Ino
}

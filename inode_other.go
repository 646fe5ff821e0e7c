//go:build !linux && !darwin && !freebsd && !netbsd

package tanodb

// stampOf is unknown here: every start takes new incarnations.
func stampOf(string) fileStamp { return fileStamp{} }

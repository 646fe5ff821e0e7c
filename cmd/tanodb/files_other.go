//go:build !unix

package main

// fileLimit is how many files and connections this process may have open; 0: not known.
func fileLimit() uint64 { return 0 }

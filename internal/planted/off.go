//go:build !planted

// Package planted holds the switch for deliberate bugs that prove the
// simulation's worth. Built without the tag "planted", as every binary is, no
// bug can be switched on and the compiler removes them all.
package planted

// Is reports whether the named bug is switched on: never, in this build.
func Is(Bug) bool { return false }

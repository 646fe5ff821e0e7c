//go:build planted

package planted

var active Bug

// Is reports whether the named bug is switched on.
func Is(b Bug) bool { return active == b }

// Plant switches one bug on, and all others off. An empty name: all off. Only
// one goroutine may run the simulation while a bug is planted.
func Plant(b Bug) { active = b }

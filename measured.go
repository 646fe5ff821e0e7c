//go:build !unmeasured

package tanodb

// measured: requests are counted and timed, and keys that are asked for much are noted.
// The build tag unmeasured turns that into a constant false, which no released binary has:
// it is there to measure what measuring costs; see make cost.
const measured = true

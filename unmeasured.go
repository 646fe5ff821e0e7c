//go:build unmeasured

package tanodb

// measured: see measured.go.
const measured = false

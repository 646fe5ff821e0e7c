// Package console tries the web console as its users have it: a cluster of real processes,
// and a real browser without a window.
package console

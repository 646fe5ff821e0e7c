// Package testports gives tests addresses of loopback whose nodes do not listen yet, or
// do not listen for a while. Asking the system for any free port is not enough for them:
// until the node listens, the system may give the port to somebody else.
package testports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// A Range belongs to the tests of one package: those of several packages run at the same
// time. It hands out one port after the other, so that none is given again before all
// others were.
type Range struct {
	first, end int
	taken      func(port int) bool // nil: as the system says

	mu   sync.Mutex
	next int // 0: none was given yet
}

// The ranges. Systems give higher ports to connections that go out, which are many under
// load, and lower ones are the defaults of others.
var (
	Transport = &Range{first: 4_000, end: 6_000}
	Root      = &Range{first: 6_000, end: 8_000}
	Compat    = &Range{first: 8_200, end: 10_000}
	Commands  = &Range{first: 10_000, end: 17_000}
	Processes = &Range{first: 17_000, end: 25_000}
	Console   = &Range{first: 25_000, end: 32_000}
)

// Take finds n ports that follow one another and that nobody listens on, and returns the
// first.
func (r *Range) Take(n int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == 0 { // another process may run the same tests: it begins elsewhere
		r.next = r.first + rand.IntN(r.end-r.first)
	}
	for range r.end - r.first {
		if r.next+n > r.end {
			r.next = r.first
		}
		base := r.next
		if base+n > r.end {
			break
		}
		end := r.freeUntil(base, base+n)
		r.next = end
		if end == base+n {
			return base, nil
		}
		r.next++
	}
	return 0, fmt.Errorf("from %d to %d no %d ports in a row are free", r.first, r.end-1, n)
}

// Address is a free port as HOST:PORT.
func (r *Range) Address() (string, error) {
	port, err := r.Take(1)
	return At(port), err
}

// At is a port of loopback as HOST:PORT.
func At(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freeUntil is the first of some ports that somebody listens on, or their end.
func (r *Range) freeUntil(first, end int) int {
	taken := r.taken
	if taken == nil {
		taken = listens
	}
	for port := first; port < end; port++ {
		if taken(port) {
			return port
		}
	}
	return end
}

// listens reports whether somebody listens on a port of loopback.
func listens(port int) bool {
	l, err := net.Listen("tcp", At(port))
	if err != nil {
		return true
	}
	l.Close()
	return false
}

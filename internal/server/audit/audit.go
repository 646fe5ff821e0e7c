// Package audit writes the lines that tell who did what, and who was refused. Anybody who
// reaches a server can be refused as often as he likes: of those lines there are few a second
// from one address, and few in all, and the others are counted.
package audit

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The limits of lines about who is refused.
const (
	window      = time.Second // in which lines are counted
	maxLines    = 4           // from one place in a window
	maxPlaces   = 64          // that have lines of their own in a window
	addressBits = 64          // of an IPv6 address: who has one has all that begin with them
)

// Log is the audit log of a server.
type Log struct {
	log *slog.Logger

	mu     sync.Mutex
	places map[netip.Prefix]int // lines that were due in this window; nil: none has begun
	others int                  // lines that were due from more places than maxPlaces
}

// New makes an audit log that writes to a logger; nil: to nowhere.
func New(l *slog.Logger) *Log {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &Log{log: l}
}

// Served tells of a request that was served, in pairs as slog has them.
func (l *Log) Served(pairs ...any) { l.log.Info("a request is served", pairs...) }

// Refused tells of somebody at an address who was refused, if there is room for it.
func (l *Log) Refused(from, what string, pairs ...any) {
	if l.room(placeOf(from)) {
		l.log.Warn(what, append([]any{"from", from}, pairs...)...)
	}
}

// placeOf is what belongs to who has an address; one that is none is the zero value.
func placeOf(from string) netip.Prefix {
	at, err := netip.ParseAddrPort(from)
	if err != nil {
		return netip.Prefix{}
	}
	addr := at.Addr().Unmap().WithZone("")
	p, err := addr.Prefix(min(addr.BitLen(), addressBits))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// room counts a line, and reports whether it may be written.
func (l *Log) room(place netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.places == nil {
		l.places = map[netip.Prefix]int{}
		time.AfterFunc(window, l.turn)
	}
	if _, known := l.places[place]; !known && len(l.places) >= maxPlaces {
		l.others++
		return false
	}
	l.places[place]++
	return l.places[place] <= maxLines
}

// turn ends a window, and tells how many lines it has left out.
func (l *Log) turn() {
	l.mu.Lock()
	places, others := l.places, l.others
	l.places, l.others = nil, 0
	l.mu.Unlock()
	const text = "refusals have no line of their own"
	byPlace := func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	}
	for _, p := range slices.SortedFunc(maps.Keys(places), byPlace) {
		if n := places[p] - maxLines; n > 0 {
			l.log.Warn(text, "from", p.String(), "count", n)
		}
	}
	if others > 0 {
		l.log.Warn(text, "from", "other addresses", "count", others)
	}
}

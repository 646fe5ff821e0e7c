package coordinator

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

const (
	// maxGathered is how many homes one gather asks at once.
	maxGathered = 64

	// minPiece is how many matches are asked of a home at least.
	minPiece = 16
)

// gather merges what homes answer, each piece by piece and in order, into a page in
// order. It takes a window of successive homes at a time; over several windows, the
// page is in order only within each.
//
//	home 0   a c │ f …            up to the │ the home is known; what comes after it,
//	home 1   b d e g │ …          the next piece will tell
//	home 2   (nothing)
//	         ──────
//	page     a b c                nothing that is still to come belongs before these
type gather struct {
	coverage
	compare func(a, b kv.IndexMatch) int // the order of the page, which is that in which homes answer
	limit   int
	width   int      // homes in a window
	piece   int      // matches in a piece at most; 0: as many as it takes, spread over the homes
	next    int      // the first home of the window
	sources []source // of the window
	last    kv.IndexMatch
	page    []kv.IndexMatch
	size    int    // bytes in page
	token   cursor // where the next page begins
	over    bool   // there is no next page
}

// cursor is where a page ends: the window, and the last match of it.
type cursor struct {
	home int
	last kv.IndexMatch // zero: nothing of the window yet
}

// source is a home of a gather.
type source struct {
	matches []kv.IndexMatch // not in the page yet
	at      kv.IndexMatch   // as far as the home is known
	more    bool            // there may be more behind that
}

// open begins with the window at a cursor.
func (g *gather) open(at cursor) {
	g.next, g.last = at.home, at.last
	g.sources = g.sources[:0]
	for range min(g.width, g.view.Ring.Size()-at.home) {
		g.sources = append(g.sources, source{at: at.last, more: true})
	}
}

// source is that of a home.
func (g *gather) source(home ring.Partition) *source { return &g.sources[int(home)-g.next] }

// pieces is how many matches to ask of each home.
func (g *gather) pieces() int {
	if g.piece > 0 {
		return g.piece
	}
	room := g.limit - len(g.page)
	return min(max(2*room/len(g.sources), minPiece), room)
}

// fill asks the homes of which nothing more is known.
func (g *gather) fill(now time.Duration, out []Effect) []Effect {
	g.slots = g.slots[:0]
	for i := range g.sources {
		s := &g.sources[i]
		if len(s.matches) == 0 && s.more && len(g.slots) < maxGathered {
			home := ring.Partition(g.next + i)
			g.slots = append(g.slots, slot{home: home, left: g.candidates(home)})
		}
	}
	return g.askAll(now, out)
}

// again asks anew for what has not come.
func (g *gather) again(now time.Duration, out []Effect) []Effect {
	g.closeAll()
	return g.fill(now, out)
}

// took goes on when all that was asked has come: with the page, and then with homes
// of which more must be known.
func (g *gather) took(now time.Duration, out []Effect) []Effect {
	g.closeAll()
	if g.merge() {
		return g.request.end(nil, out)
	}
	if slices.ContainsFunc(g.sources, func(s source) bool { return s.more }) {
		return g.fill(now, out)
	}
	if g.next += len(g.sources); g.next >= g.view.Ring.Size() {
		g.over = true
		return g.request.end(nil, out)
	}
	g.open(cursor{home: g.next})
	if g.full() {
		g.token = cursor{home: g.next}
		return g.request.end(nil, out)
	}
	return g.fill(now, out)
}

// merge moves to the page what is certain to come next, and reports whether the page
// is full and ends within the window.
func (g *gather) merge() bool {
	bound, bounded := g.bound()
	var ready []kv.IndexMatch
	for i := range g.sources {
		s := &g.sources[i]
		n := len(s.matches)
		if bounded {
			n, _ = slices.BinarySearchFunc(s.matches, bound, func(m, b kv.IndexMatch) int {
				if g.compare(m, b) <= 0 {
					return -1
				}
				return 1
			})
		}
		ready = append(ready, s.matches[:n]...)
		s.matches = s.matches[n:]
	}
	slices.SortFunc(ready, g.compare)
	for _, m := range ready {
		if m == g.last {
			continue // several homes may say the same
		}
		if g.full() {
			g.token = cursor{home: g.next, last: g.last}
			return true
		}
		g.page = append(g.page, m)
		g.size += len(m.Term) + len(m.Key)
		g.last = m
	}
	if !g.full() || !slices.ContainsFunc(g.sources, func(s source) bool { return s.more || len(s.matches) > 0 }) {
		return false
	}
	g.token = cursor{home: g.next, last: g.last}
	return true
}

// bound is the match up to which all homes are known; false: all are known wholly.
func (g *gather) bound() (bound kv.IndexMatch, ok bool) {
	for i := range g.sources {
		if s := &g.sources[i]; s.more && (!ok || g.compare(s.at, bound) < 0) {
			bound, ok = s.at, true
		}
	}
	return bound, ok
}

func (g *gather) full() bool { return len(g.page) >= g.limit || g.size >= maxPageBytes }

// compareMatches orders matches by term and key.
func compareMatches(a, b kv.IndexMatch) int {
	return cmp.Or(strings.Compare(a.Term, b.Term), strings.Compare(a.Key, b.Key))
}

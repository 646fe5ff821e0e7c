package check

import (
	"fmt"
	"slices"
	"strings"
)

// Fresh finds stale reads: a Get with Fresh set misses a write with Fresh set
// that was acknowledged before the Get began, and that nothing in its result,
// and no delete, has replaced.
func Fresh(g *Graph) []Violation {
	var found []Violation
	for i := range g.Ops {
		op := &g.Ops[i]
		if op.Kind != Get || !op.Fresh || op.Outcome != Done {
			continue
		}
		latest := g.Latest != "" && strings.HasPrefix(op.Key, g.Latest)
		if w := g.line(op.Key).missed(op, latest); w != nil {
			found = append(found, Violation{"fresh", op.Key, fmt.Sprintf("a stale read, %v, misses %v", op, w)})
		}
	}
	return found
}

// missed is a write that the read should have shown; nil: there is none. Latest: it
// need not be shown if one with a later stamp is, or may be hidden itself.
func (l *line) missed(read *Op, latest bool) *Op {
	there := l.numbers(read.Read)
	l.replaced(there)
	for _, v := range there {
		l.visited[v] = l.round
	}
	for v, w := range l.ops {
		due := w.Kind == Put && w.Fresh && w.Outcome == Done && w.End < read.Start
		if due && l.visited[v] != l.round && l.deleted[v] > read.End && !(latest && l.outlasted(w, read)) {
			return w
		}
	}
	return nil
}

// outlasted reports whether a write that is later, by their stamps, is shown by the
// read, or hides behind its own end. Equal stamps are told apart by dots, which a
// history does not know.
func (l *line) outlasted(w, read *Op) bool {
	for _, u := range l.ops {
		hides := u.Kind == Delete || u.Expires != 0 || slices.Contains(read.Read, u.Write)
		if u != w && u.Stamp >= w.Stamp && hides && u.Start <= read.End {
			return true
		}
	}
	return false
}

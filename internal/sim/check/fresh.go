package check

import "fmt"

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
		if w := g.line(op.Key).missed(op); w != nil {
			found = append(found, Violation{"fresh", op.Key, fmt.Sprintf("a stale read, %v, misses %v", op, w)})
		}
	}
	return found
}

// missed is a write that the read should have shown; nil: there is none.
func (l *line) missed(read *Op) *Op {
	shown := make([]bool, len(l.ops))
	there := l.numbers(read.Read)
	for _, v := range append(l.replaced(there), there...) {
		shown[v] = true
	}
	for v, w := range l.ops {
		due := w.Kind == Put && w.Fresh && w.Outcome == Done && w.End < read.Start
		if due && !shown[v] && l.deleted[v] > read.End {
			return w
		}
	}
	return nil
}

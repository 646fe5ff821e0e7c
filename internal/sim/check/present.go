package check

import "fmt"

// Present finds reads that answer "not found" for a key that certainly had a
// value: some Fresh put was acknowledged before them, and no delete had begun, and nothing expired. Somebody
// may stand in for a replica in such a read, and have an older value; that
// it has none says nothing.
func Present(g *Graph) []Violation {
	var found []Violation
	for i := range g.Ops {
		op := &g.Ops[i]
		if op.Kind != Get || !op.Overlaps || op.Outcome != Done || len(op.Read) > 0 {
			continue
		}
		if w := g.line(op.Key).held(op); w != nil {
			found = append(found, Violation{"present", op.Key, fmt.Sprintf("nothing was found by %v, after %v", op, w)})
		}
	}
	return found
}

// held is a put that the read should have found, or one that followed it; nil:
// there is none, or a delete.
func (l *line) held(read *Op) *Op {
	var first *Op
	for _, w := range l.ops {
		if w.Kind == Delete && w.Start <= read.End || w.Expires != 0 && w.Expires <= read.End {
			return nil
		}
		if w.Kind == Put && w.Fresh && w.Outcome == Done && w.End < read.Start && first == nil {
			first = w
		}
	}
	return first
}

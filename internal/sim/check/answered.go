package check

import "fmt"

// Answered finds operations that were not answered by the time that they were
// due, though the node that ran them was there.
func Answered(g *Graph) []Violation {
	var found []Violation
	for i := range g.Ops {
		op := &g.Ops[i]
		switch {
		case op.Outcome == Open && !op.Gone:
			found = append(found, Violation{"answered", op.Key, fmt.Sprintf("never answered: %v", op)})
		case op.Outcome != Open && op.End > op.Due:
			found = append(found, Violation{"answered", op.Key, fmt.Sprintf("due at %v, answered late: %v", op.Due, op)})
		}
	}
	return found
}

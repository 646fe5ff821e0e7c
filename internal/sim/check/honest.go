package check

import "fmt"

// Honest finds writes that were reported as certainly not done, and yet were
// stored by some vnode or seen by some client.
func Honest(g *Graph) []Violation {
	var found []Violation
	seen := make(map[ID]bool)
	for i := range g.Ops {
		for _, id := range g.Ops[i].Read {
			seen[id] = true
		}
	}
	for i := range g.Ops {
		op := &g.Ops[i]
		if op.Write == 0 || op.Outcome != Failed {
			continue
		}
		if g.Stored[op.Write] || seen[op.Write] {
			found = append(found, Violation{"honest", op.Key, fmt.Sprintf("reported as certainly not done, but it was: %v", op)})
		}
	}
	return found
}

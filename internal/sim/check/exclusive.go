package check

import (
	"fmt"
	"slices"
)

// Exclusive finds two puts of a key that were both made on the condition that the
// key holds what their writers think, and neither of which has seen the other, though
// they have met at one vnode.
func Exclusive(g *Graph) []Violation {
	if !g.History.Exclusive {
		return nil
	}
	var found []Violation
	for _, key := range sortedKeys(g.lines) {
		l := g.lines[key]
		var made []int
		for v, op := range l.ops {
			if op.Guarded && op.Outcome == Done {
				made = append(made, v)
			}
		}
		for i, v := range made {
			below := l.replaced([]int{v})
			for _, u := range made[:i] {
				if !slices.Contains(below, u) && !slices.Contains(l.replaced([]int{u}), v) {
					found = append(found, Violation{"exclusive", key, fmt.Sprintf(
						"both were made, and neither has seen the other: %v, and %v", l.ops[u], l.ops[v])})
				}
			}
		}
	}
	return found
}

package check

import "fmt"

// Lost finds acknowledged writes that are gone: neither there at the end nor
// replaced, step by step, by a write that had seen them and is there.
func Lost(g *Graph) []Violation {
	var found []Violation
	for _, key := range sortedKeys(g.lines) {
		l := g.lines[key]
		survives := make([]bool, len(l.ops))
		there := append(l.numbers(g.Final[key]), l.numbers(g.Reaped[key])...)
		for _, v := range append(l.replaced(there), there...) {
			survives[v] = true
		}
		for v, op := range l.ops {
			if op.Outcome == Done && !survives[v] {
				found = append(found, Violation{"lost", key, fmt.Sprintf(
					"acknowledged %v is not among %v, and nothing there has seen it", op, g.Final[key])})
			}
		}
	}
	return found
}

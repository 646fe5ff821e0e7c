package check

import "fmt"

// Back finds writes that are there at the end although an acknowledged write
// has replaced them: an overwritten or deleted value that came back.
func Back(g *Graph) []Violation {
	var found []Violation
	for _, key := range sortedKeys(g.lines) {
		l := g.lines[key]
		for w, op := range l.ops {
			if op.Outcome != Done {
				continue
			}
			for _, v := range l.seen[w] {
				if l.present[v] {
					found = append(found, Violation{"back", key, fmt.Sprintf(
						"write %d is there at the end, but was replaced by %v", l.ops[v].Write, op)})
				}
			}
		}
	}
	return found
}

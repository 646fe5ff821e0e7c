package check

import "fmt"

// Back finds writes that are there at the end although an acknowledged write
// has replaced them: an overwritten or deleted value that came back. What had been
// replaced when the history before this one ended is back also when a read sees it,
// where reads must be fresh: every replica had what has replaced it.
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
	for _, key := range sortedKeys(g.Final) {
		for _, id := range g.Final[key] {
			if g.Past[id] == key {
				found = append(found, Violation{"back", key, fmt.Sprintf("write %d is there at the end, and was replaced long ago", id)})
			}
		}
	}
	for i := range g.Ops {
		op := &g.Ops[i]
		for _, id := range op.Read {
			if g.Settled && op.Kind == Get && op.Fresh && g.Past[id] == op.Key {
				found = append(found, Violation{"back", op.Key, fmt.Sprintf("write %d was replaced long ago, and is seen by %v", id, op)})
			}
		}
	}
	return found
}

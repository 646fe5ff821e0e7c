package check

import (
	"fmt"
	"maps"
	"slices"
)

// Siblings finds siblings that should not be: one that another, present one has
// replaced, and one write that is there twice. What is left is a subset of
// the attempted writes that none of them replaces, so a key cannot grow siblings
// by itself.
func Siblings(g *Graph) []Violation {
	var found []Violation
	for _, key := range sortedKeys(g.Final) {
		ids := slices.Clone(g.Final[key])
		slices.Sort(ids)
		for i := 1; i < len(ids); i++ {
			if ids[i-1] == ids[i] {
				found = append(found, Violation{"siblings", key, fmt.Sprintf("write %d is there twice", ids[i])})
			}
		}
		l := g.line(key)
		for _, v := range l.replaced(l.numbers(ids)) {
			if l.present[v] {
				found = append(found, Violation{"siblings", key, fmt.Sprintf("write %d is there beside one that replaced it: %v", l.ops[v].Write, ids)})
			}
		}
	}
	return found
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

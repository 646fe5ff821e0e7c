package check

import "fmt"

// Phantom finds values that nobody wrote to the key where they were seen.
func Phantom(g *Graph) []Violation {
	var found []Violation
	for i := range g.Ops {
		op := &g.Ops[i]
		for _, id := range op.Read {
			if g.foreign(id, op.Key) && g.Past[id] != op.Key {
				found = append(found, Violation{"phantom", op.Key, fmt.Sprintf("value %d was never written there, but seen by %v", id, op)})
			}
		}
	}
	for _, key := range sortedKeys(g.Final) {
		for _, id := range g.Final[key] {
			if g.foreign(id, key) && g.Past[id] != key {
				found = append(found, Violation{"phantom", key, fmt.Sprintf("value %d was never written there, but is there at the end", id)})
			}
		}
	}
	return found
}

func (g *Graph) foreign(id ID, key string) bool {
	w := g.writes[id]
	return w == nil || w.Key != key
}

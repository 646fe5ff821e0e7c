package check

import (
	"fmt"
	"time"
)

// spreads is how long an acknowledged write may take to reach the replicas that
// it did not wait for, one of which a list may ask.
const spreads = time.Second

// Listing finds lists with a key twice, with a key that nobody ever put, and,
// where Spread is set, without a key that certainly held a value all the while.
// The Key of a List is the beginning that the bucket's keys share.
func Listing(g *Graph) []Violation {
	var found []Violation
	for i := range g.Ops {
		op := &g.Ops[i]
		if op.Kind != List || op.Outcome != Done {
			continue
		}
		found = append(found, g.listed(op)...)
	}
	return found
}

func (g *Graph) listed(op *Op) []Violation {
	var found []Violation
	have := make(map[string]bool)
	for _, key := range op.Listed {
		if have[key] {
			found = append(found, Violation{"listing", key, fmt.Sprintf("listed twice by %v", op)})
		}
		have[key] = true
		if !g.Known[key] && !g.everPut(key, op) {
			found = append(found, Violation{"listing", key, fmt.Sprintf("never put, but listed by %v", op)})
		}
	}
	if !op.Spread {
		return found
	}
	for _, key := range sortedKeys(g.lines) {
		if inBucket(key, op.Key) && !have[key] && g.heldValue(key, op) {
			found = append(found, Violation{"listing", key, fmt.Sprintf("held a value, but is missing in %v", op)})
		}
	}
	return found
}

func inBucket(key, bucket string) bool {
	return len(key) > len(bucket) && key[:len(bucket)] == bucket
}

// everPut reports whether a put of the key had begun before the list ended.
func (g *Graph) everPut(key string, list *Op) bool {
	for _, w := range g.line(key).ops {
		if w.Kind == Put && w.Start <= list.End {
			return true
		}
	}
	return false
}

// heldValue reports whether some value of the key was acknowledged well before the
// list began, and no delete of the key had begun, and no value expired, before it ended.
func (g *Graph) heldValue(key string, list *Op) bool {
	held := false
	for _, w := range g.line(key).ops {
		if w.Kind == Delete && w.Start <= list.End || w.Expires != 0 && w.Expires <= list.End {
			return false
		}
		held = held || w.Kind == Put && w.Spread && w.Outcome == Done && w.End+spreads < list.Start
	}
	return held
}

package check

import (
	"bytes"
	"fmt"
)

// Copy is what one primary replica of a key holds at the end.
type Copy struct {
	Key    string
	Holder string // partition and node, for the story
	Bytes  []byte // as stored; nil: nothing
}

// Converged finds keys whose primary replicas are not byte for byte the same.
// Copies of one key must be next to each other.
func Converged(copies []Copy) []Violation {
	var found []Violation
	for i := 1; i < len(copies); i++ {
		a, b := copies[i-1], copies[i]
		if a.Key == b.Key && !bytes.Equal(a.Bytes, b.Bytes) {
			found = append(found, Violation{"converged", a.Key, fmt.Sprintf("%s and %s differ: %x, %x", a.Holder, b.Holder, a.Bytes, b.Bytes)})
		}
	}
	return found
}

package quorum

import (
	"fmt"

	"github.com/tanodb/tanodb/kv"
)

// Resolve turns a quorum of n replicas into a number from 0 to n. Default
// stands for def, and for 0 if def is Default as well. A number above n, and
// one below 0 that is no word, is a *kv.InvalidError about name.
func Resolve(name string, q, def kv.Quorum, n int) (int, error) {
	if q == kv.Default {
		q = def
	}
	need := int(q)
	switch q {
	case kv.Default, kv.None:
		need = 0
	case kv.One:
		need = 1
	case kv.Majority:
		need = n/2 + 1
	case kv.All:
		need = n
	}
	if need >= 0 && need <= n {
		return need, nil
	}
	problem := fmt.Sprintf("is %d; there are %d replicas", need, n)
	switch {
	case need < 0:
		problem = fmt.Sprintf("is %d; it cannot be negative", need)
	case n == 1:
		problem = fmt.Sprintf("is %d; there is 1 replica", need)
	}
	return 0, &kv.InvalidError{What: name, Problem: problem}
}

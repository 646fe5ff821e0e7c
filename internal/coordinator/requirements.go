package coordinator

import (
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// requirement resolves one option against N; a requirement of none is left out.
func requirement(reqs []quorum.Requirement, name string, q, def kv.Quorum, n int) ([]quorum.Requirement, error) {
	need, err := quorum.Resolve(name, q, def, n)
	if err != nil || need == 0 {
		return reqs, err
	}
	r := quorum.Requirement{Name: name, Need: need}
	if name == "PW" || name == "PR" {
		r.Counts = isPrimary
	}
	return append(reqs, r), nil
}

// atLeastOne raises an explicit quorum of none to one, for requests that mean
// nothing without an answer.
func atLeastOne(q kv.Quorum) kv.Quorum {
	if q == kv.None {
		return kv.One
	}
	return q
}

// confirms adds the requirement of distinct nodes.
func confirms(reqs []quorum.Requirement, nodes, n int) ([]quorum.Requirement, error) {
	if nodes < 0 || nodes > n {
		return nil, &kv.InvalidError{What: "node_confirms", Problem: "is " + itoa(nodes) + "; there are " + itoa(n) + " replicas"}
	}
	if nodes == 0 {
		return reqs, nil
	}
	return append(reqs, quorum.Requirement{Name: "node_confirms", Need: nodes, Distinct: true}), nil
}

// joint doubles the requirements if the places are not the same for the owners
// now and the next: each must hold of both, so that whichever of them is
// read, the write is there.
func joint(reqs []quorum.Requirement, places []ring.Place) []quorum.Requirement {
	same := true
	for i := range places {
		same = same && places[i].Now && places[i].Next
	}
	if same {
		return reqs
	}
	both := make([]quorum.Requirement, 0, 2*len(reqs))
	for _, r := range reqs {
		now, next := r, r
		now.Counts, next.Counts, next.Next = isNow, isNext, true
		if r.Counts != nil {
			now.Counts, next.Counts = isPrimaryNow, isPrimaryNext
		}
		if both = append(both, now); !planted.Is(planted.SingleQuorum) {
			both = append(both, next)
		}
	}
	return both
}

func isPrimary(p ring.Place) bool     { return p.Role != kv.Fallback }
func isNow(p ring.Place) bool         { return p.Now }
func isNext(p ring.Place) bool        { return p.Next }
func isPrimaryNow(p ring.Place) bool  { return p.Now && isPrimary(p) }
func isPrimaryNext(p ring.Place) bool { return p.Next && isPrimary(p) }

package ring

import (
	"fmt"
	"slices"
	"testing"
)

// A plan for a large cluster ends within seconds, whatever is asked for. What
// the search looks at is counted here, as a clock would measure the machine; a
// look takes some nanoseconds.
func TestPlanOfAThousandNodesIsBounded(t *testing.T) {
	const size, nodes, most = 16384, 1000, 1 << 26
	even, uneven := many(nodes, 1, 1), many(nodes, 3, 13)
	rezoned := slices.Clone(even)
	for i := range rezoned {
		rezoned[i].Zone = fmt.Sprintf("z%d", i/300)
	}
	for _, tc := range []struct {
		name          string
		before, after []Member
	}{
		{"from nothing", nil, even},
		{"one joins", even, many(nodes+1, 1, 1)},
		{"one leaves", even, even[1:]},
		{"half of them leave", even, even[nodes/2:]},
		{"as many again join", even, many(2*nodes, 1, 1)},
		{"all are in other zones, too few to be kept apart", even, rezoned},
		{"one joins three zones of uneven nodes", uneven, many(nodes+1, 3, 13)},
	} {
		var old *Ring
		if tc.before != nil {
			p := newPlan(size, 4, nil, tc.before)
			old = p.ring(p.best())
		}
		p := newPlan(size, 4, old, tc.after)
		p.best()
		if p.looks == 0 || p.looks > most {
			t.Errorf("%s: %d looks", tc.name, p.looks)
		}
	}
}

func many(nodes, zones, weights int) []Member {
	members := make([]Member, nodes)
	for i := range members {
		members[i] = Member{Name: fmt.Sprintf("n%04d", i+1), Zone: fmt.Sprintf("z%d", i%zones), Weight: 1 + i*7%weights}
	}
	return members
}

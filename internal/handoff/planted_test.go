//go:build planted

package handoff

import (
	"testing"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Each planted bug changes what a Manager does, and only while it is planted.

func TestPlantedDropUnconfirmed(t *testing.T) {
	drops := func() int {
		s := straying(t)
		answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1)})
		answer[*vnode.Deliver](s, results(wanted))
		s.feed(Lost{one[Ask](s).I, "no answer"})
		n := 0
		for _, d := range of[Do](s) {
			if _, ok := d.Msg.(*vnode.Drop); ok {
				n++
			}
		}
		return n
	}
	before := drops()
	planted.Plant(planted.DropUnconfirmed)
	defer planted.Plant("")
	if with := drops(); before != 0 || with != 1 {
		t.Errorf("%d drops without, %d with the bug", before, with)
	}
}

func TestPlantedFilledEarly(t *testing.T) {
	reported := func() int {
		s := newScript(t, Limits{})
		s.adopt(incoming(t, false))
		answer[*vnode.Resume](s, &vnode.Resumed{})
		answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1), Last: []byte{1}, More: true})
		answer[*vnode.Fill](s, results(held))
		return len(of[Propose](s))
	}
	before := reported()
	planted.Plant(planted.FilledEarly)
	defer planted.Plant("")
	if with := reported(); before != 0 || with != 1 {
		t.Errorf("%d reports without, %d with the bug", before, with)
	}
}

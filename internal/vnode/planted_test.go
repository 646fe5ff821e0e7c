//go:build planted

package vnode_test

import (
	"testing"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Each planted bug of hand-off changes what a vnode does, and only while it is
// planted.
func TestPlantedBugsOfHandoff(t *testing.T) {
	for bug, wrong := range map[planted.Bug]func() bool{
		planted.DropChanged: func() bool {
			b := newBench(t, 1)
			x := minted(t, b.handle(coordinate("x", nil, 1)))
			b.handle(coordinate("y", nil, 2))
			b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(x)}})
			return b.bytes() == nil
		},
		planted.DropKeepsActor: func() bool {
			b := newBench(t, 1)
			b.handle(&vnode.Drop{Home: 1, Items: []vnode.Item{bare(minted(t, b.handle(coordinate("x", nil, 1))))}})
			a, _ := b.vnode.Incarnation()
			return a == (object.Actor{1})
		},
		planted.WipeTakesOwn: func() bool {
			b := newBench(t, 1)
			b.begin(6, 1)
			b.handle(coordinate("x", nil, 1))
			b.wipe(5, 10)
			return b.bytes() == nil
		},
		planted.LackingAnswers: func() bool { return vnode.Lacks(3, &vnode.Fetch{}) == nil },
	} {
		planted.Plant("")
		if wrong() {
			t.Errorf("%s shows without being planted", bug)
		}
		planted.Plant(bug)
		if !wrong() {
			t.Errorf("%s does not show", bug)
		}
		planted.Plant("")
	}
}

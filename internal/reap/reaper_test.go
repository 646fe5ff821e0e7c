package reap

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

func TestATombstoneThatAllHoldGoes(t *testing.T) {
	w, _, _ := buried(t)
	w.run()
	if w.left() != 0 || w.reaper.Progress().Reaped != 1 {
		t.Errorf("%d places hold it; %+v, %v", w.left(), w.reaper.Progress(), w.notes)
	}
	if w.state.Reaped() == 0 || w.state.Fence() <= w.state.Reaped() {
		t.Errorf("reaped %d, fence %d", w.state.Reaped(), w.state.Fence())
	}
}

// A bucket's delete_mode in Riak's milliseconds is an age, and one that is reached
// keeps nothing.
func TestATombstoneThatIsOldEnoughForItsBucketGoes(t *testing.T) {
	w, _, _ := buried(t)
	w.deleteMode("3000")
	w.run()
	if w.left() != 0 {
		t.Errorf("%d places hold it; %v", w.left(), w.notes)
	}
}

func (w *world) deleteMode(mode string) {
	w.apply(membership.SetBucket{Bucket: kv.Bucket{Name: k1.Bucket}, Props: kv.Properties{{Name: "delete_mode", Value: mode}}})
}

// TestATombstoneStays: as long as anything may be left of what it has replaced.
func TestATombstoneStays(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*world, object.Object)
		during func(*world, object.Object, Phase)
		why    string
	}{
		{name: "it is young", before: func(w *world, _ object.Object) {
			w.apply(membership.Set{Key: membership.DeleteGrace, Value: "168h"})
		}},
		{name: "tombstones are kept", before: func(w *world, _ object.Object) {
			w.apply(membership.Set{Key: membership.DeleteMode, Value: membership.DeleteKeep})
		}},
		{name: "its bucket keeps them", before: func(w *world, _ object.Object) { w.deleteMode("keep") }},
		{name: "it is young for its bucket", before: func(w *world, _ object.Object) { w.deleteMode("604800000") }},
		{name: "a member is marked down", before: func(w *world, _ object.Object) {
			w.apply(membership.Down{Name: w.outsider().Node})
		}},
		{name: "a member is not heard", before: func(w *world, _ object.Object) {
			w.queue = append(w.queue, NodeDown{Node: w.outsider().Node})
		}},
		{name: "a stand-in holds the value", why: "for others", before: func(w *world, value object.Object) {
			w.store(w.outsider(), value, w.state.Epoch())
		}},
		{name: "one place has lost it", why: "not all places", before: func(w *world, _ object.Object) {
			r := w.places()[2]
			h := w.nodes[r.Node]
			h.engine, h.vnodes = storage.NewMemory(), make(map[ring.Partition]*vnode.Vnode)
		}},
		{name: "one place lacks data", why: "waits for data", before: func(w *world, _ object.Object) {
			r := w.places()[1]
			w.ask(r.Node, r.Partition, w.state.Epoch(), &vnode.SetLacking{On: true})
		}},
		{name: "a stand-in has held something meanwhile", why: "since", during: func(w *world, _ object.Object, p Phase) {
			if p == Assuring {
				w.nodes[w.outsider().Node].strayed++
			}
		}},
		{name: "a member has begun anew meanwhile", why: "since", during: func(w *world, _ object.Object, p Phase) {
			if p == Assuring {
				w.nodes[w.outsider().Node].life++
			}
		}},
		{name: "it was written again meanwhile", why: "not all places", during: func(w *world, _ object.Object, p Phase) {
			if p == Assuring && w.left() == 3 && !w.has(w.places()[0]).Live(0) {
				w.write(false, w.has(w.places()[0]).Clock)
			}
		}},
		{name: "a member goes down meanwhile", during: func(w *world, _ object.Object, p Phase) {
			if p == Bounding {
				w.queue = append([]Event{NodeDown{Node: w.outsider().Node}}, w.queue...)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, value, _ := buried(t)
			if c.before != nil {
				c.before(w, value)
			}
			if c.during != nil {
				w.at = func(p Phase, _ vnode.Message) { c.during(w, value, p) }
			}
			w.run()
			if w.left() < 2 || w.reaper.Progress().Reaped != 0 {
				t.Errorf("%d places hold it; %+v", w.left(), w.reaper.Progress())
			}
			if told := slices.ContainsFunc(w.notes, func(n Note) bool { return strings.Contains(n.Text, c.why) }); c.why != "" && !told {
				t.Errorf("nobody says %q: %v", c.why, w.notes)
			}
		})
	}
}

// TestTheMarkComesLast: it is newer than what any member had when all had answered.
func TestTheMarkComesLast(t *testing.T) {
	w, _, _ := buried(t)
	marks := 0
	w.at = func(p Phase, _ vnode.Message) {
		if p == Surveying && marks < 3 { // others reap as well
			marks++
			w.apply(membership.Mark{After: w.state.Mark()})
			w.show()
		}
		if p == Assuring && w.state.Reaped() <= w.reaper.round.base {
			t.Errorf("it goes on by the mark %d, and a member was at %d", w.state.Reaped(), w.reaper.round.base)
		}
	}
	w.run()
	if w.left() != 0 {
		t.Errorf("%d places hold it: %v", w.left(), w.notes)
	}
}

// TestAMarkThatIsNotShown ends the round, and the next one tries again.
func TestAMarkThatIsNotShown(t *testing.T) {
	w, _, _ := buried(t)
	w.shown = false
	w.run()
	if w.left() != 3 || w.reaper.Progress().Phase == Resting && w.reaper.Progress().Why == "" {
		t.Fatalf("%d places hold it; %+v", w.left(), w.reaper.Progress())
	}
	w.show()
	w.run()
	for range 5 {
		w.now += time.Minute
		w.shown = true
		w.queue = append(w.queue, Tick{})
		w.run()
	}
	if w.left() != 0 {
		t.Errorf("%d places hold it: %+v %v", w.left(), w.reaper.Progress(), w.notes)
	}
}

// TestScenario02Doomstone: a delete was given to two places and to one who stood in for the
// third. While he holds it nothing is reaped; and what is written after a reaping is not
// replaced by a tombstone that comes late.
func TestScenario02Doomstone(t *testing.T) {
	w, _, tomb := buried(t)
	standin := w.outsider()
	w.store(standin, tomb, w.state.Epoch())
	before := w.state.Epoch()
	w.run()
	if w.left() != 3 {
		t.Fatalf("it was reaped while a stand-in had it: %v", w.notes)
	}
	w.ask(standin.Node, standin.Partition, w.state.Epoch(), &vnode.Drop{Home: w.home(), Items: []vnode.Item{{Key: k1, Hash: vnode.HashOf(tomb.Encode())}}})
	w.now += time.Minute
	w.queue = append(w.queue, Tick{})
	w.run()
	if w.left() != 0 {
		t.Fatalf("%d places hold it: %v", w.left(), w.notes)
	}
	value := w.write(false, nil, w.places()[1:]...)
	if r, ok := w.store(w.places()[1], tomb, before).(*vnode.Refusal); !ok || r.Code != vnode.CodeStale {
		t.Errorf("a tombstone from before the mark is answered with %+v", r)
	}
	w.store(w.places()[1], tomb, w.state.Epoch()) // even if it were not refused
	for _, r := range w.places() {
		if o := w.has(r); !o.Live(0) || !o.Clock.Descends(value.Clock) {
			t.Errorf("%v holds %v", r, o)
		}
	}
}

// TestScenario18TombstoneReapRace: a value that was on its way when its tombstone was
// reaped is refused wherever it arrives.
func TestScenario18TombstoneReapRace(t *testing.T) {
	w, value, _ := buried(t)
	before := w.state.Epoch()
	w.run()
	if w.left() != 0 {
		t.Fatalf("%d places hold it: %v", w.left(), w.notes)
	}
	for _, r := range append(w.places(), w.outsider()) {
		if m, ok := w.store(r, value, before).(*vnode.Refusal); !ok || m.Code != vnode.CodeStale {
			t.Errorf("%v answers %+v", r, m)
		}
		m := &vnode.Deliver{Home: w.home(), Items: []vnode.Item{{Key: k1, Object: value.Encode()}}}
		if m, ok := w.ask(r.Node, r.Partition, before, m).(*vnode.Refusal); !ok || m.Code != vnode.CodeStale {
			t.Errorf("%v answers %+v", r, m)
		}
	}
	if w.left() != 0 {
		t.Error("a value is back whose tombstone was reaped")
	}
}

// TestScenario19RestartInsideTheWindow: the one who reaps begins anew at each step, and so does
// a place; the tombstone goes all the same.
func TestScenario19RestartInsideTheWindow(t *testing.T) {
	for _, phase := range []Phase{Gathering, Attesting, Surveying, Bounding, Assuring, Agreeing, Reaping} {
		for _, who := range []string{"reaper", "place"} {
			t.Run(string(phase)+" "+who, func(t *testing.T) {
				w, _, _ := buried(t)
				restarted := false
				w.at = func(p Phase, _ vnode.Message) {
					if p != phase || restarted {
						return
					}
					restarted = true
					if who == "place" {
						w.nodes[w.places()[1].Node].life += 100
						return
					}
					w.begin()
				}
				w.run()
				for range 3 {
					w.now += time.Minute
					w.queue = append(w.queue, Tick{})
					w.run()
				}
				if !restarted || w.left() != 0 {
					t.Errorf("restarted %t; %d places hold it: %v", restarted, w.left(), w.notes)
				}
			})
		}
	}
}

// TestAPlaceThatDoesNotRemove is told again, and what it keeps does no harm.
func TestAPlaceThatDoesNotRemove(t *testing.T) {
	w, _, tomb := buried(t)
	silent := w.places()[2].Node
	w.answer = func(node string, m vnode.Message) bool {
		_, reaps := m.(*vnode.Reap)
		return !reaps || node != silent
	}
	w.run()
	if w.left() != 1 {
		t.Fatalf("%d places hold it: %v", w.left(), w.notes)
	}
	w.answer = nil
	for _, r := range w.places() { // a read repairs
		w.store(r, tomb, w.state.Epoch())
	}
	w.now += time.Minute
	w.queue = append(w.queue, Tick{})
	w.run()
	if w.left() != 0 {
		t.Errorf("%d places hold it: %v", w.left(), w.notes)
	}
}

// TestAWriteThatHasNotSeenTheDeleteSurvives: it is an update, whether it comes before the reaping or
// after it; and it brings nothing else back.
func TestAWriteThatHasNotSeenTheDeleteSurvives(t *testing.T) {
	for _, late := range []bool{false, true} {
		w, value, _ := buried(t)
		if late {
			w.run()
		}
		o := w.write(false, value.Clock, w.places()[1:]...) // as one who has read the value before it was deleted
		w.run()
		for _, r := range w.places() {
			has := w.has(r)
			live := slices.DeleteFunc(slices.Clone(has.Siblings), func(s object.Sibling) bool { return s.Deleted })
			if len(live) != 1 || live[0].Dot == value.Siblings[0].Dot || !has.Clock.Descends(o.Clock) {
				t.Errorf("late %t: %v holds %v", late, r, has)
			}
		}
	}
}

// TestScenario20DeleteVersusRepair: a comparison of replicas, or a repair, that has read the value
// before it was reaped brings it to nobody, and one that reads afterwards finds nothing.
func TestScenario20DeleteVersusRepair(t *testing.T) {
	w, value, tomb := buried(t)
	read := w.state.Epoch() // when a repair has read the value of a place, and another one the tombstone
	w.run()
	for _, o := range []object.Object{value, tomb} {
		for _, r := range w.places() {
			item := vnode.Item{Key: k1, Hash: vnode.HashOf(o.Encode()), Object: o.Encode()}
			for _, m := range []vnode.Message{
				&vnode.Deliver{Home: w.home(), Items: []vnode.Item{item}}, &vnode.Fill{Home: w.home(), Items: []vnode.Item{item}},
				&vnode.Store{Home: w.home(), Key: k1, Object: o.Encode()},
			} {
				if refusal, ok := w.ask(r.Node, r.Partition, read, m).(*vnode.Refusal); !ok || refusal.Code != vnode.CodeStale {
					t.Errorf("%v takes a %T of what was read before the mark", r, m)
				}
			}
		}
	}
	if w.left() != 0 {
		t.Errorf("%d places hold something", w.left())
	}
}

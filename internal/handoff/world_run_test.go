package handoff

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

func fourNodes() []string { return []string{"n1", "n2", "n3", "n4", "n1", "n2", "n3", "n4"} }

// load writes so many keys.
func (w *world) load(keys int) {
	for i := range keys {
		from := w.nodes[w.names[w.rand.IntN(len(w.names))]]
		if from.alive {
			w.put(from, testKey(i), false)
		}
	}
}

// Whatever is lost, delayed, restarted and written meanwhile: transfers come to
// their end, what is stray comes to where it belongs, and no acknowledged write is
// lost.
func TestWorldsConverge(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { convergence(t, seed) })
	}
}

func convergence(t *testing.T, seed uint64) {
	w := newWorld(t, seed, fourNodes()...)
	w.join("n5")
	w.loss = []float64{0, 0.05, 0.3}[w.rand.IntN(3)]
	if w.rand.IntN(4) == 0 {
		w.limits.BytesPerSecond = 5_000
	}
	w.load(60)
	for range 30 {
		top := w.log[len(w.log)-1]
		n := w.nodes[w.names[w.rand.IntN(len(w.names))]]
		switch w.rand.IntN(8) {
		case 0, 1, 2:
			for range 10 {
				if n.alive {
					w.put(n, testKey(w.rand.IntN(60)), w.rand.IntN(2) == 0)
				}
			}
		case 3:
			if p := ring.Partition(w.rand.IntN(8)); len(top.Transfers) == 0 && top.Ring.Owner(p) != n.name {
				w.transfer(p, n.name, false)
			}
		case 4:
			if n.alive {
				n.restart()
			}
		case 5:
			if n.alive && w.up() == len(w.names) {
				n.crash()
			}
		case 6:
			for _, name := range w.names {
				if !w.nodes[name].alive {
					w.nodes[name].start()
				}
			}
		case 7:
			w.run(time.Second)
		}
		w.run(time.Duration(w.rand.IntN(100)) * time.Millisecond)
		w.check()
	}
	for _, name := range w.names {
		if !w.nodes[name].alive {
			w.nodes[name].start()
		}
	}
	w.settle()
	w.check()
	w.checkPlaces()
	if len(w.writes) < 30 {
		t.Errorf("only %d writes were acknowledged", len(w.writes))
	}
}

func (w *world) up() int {
	up := 0
	for _, name := range w.names {
		if w.nodes[name].alive {
			up++
		}
	}
	return up
}

// The same seed gives the same history.
func TestWorldsRepeat(t *testing.T) {
	history := func() string {
		w := newWorld(t, 7, fourNodes()...)
		w.join("n5")
		w.loss = 0.2
		w.load(30)
		w.transfer(3, "n5", false)
		w.settle()
		return fmt.Sprint(w.now, w.seq, w.notes, w.writes)
	}
	if a, b := history(), history(); a != b {
		t.Errorf("one seed has two histories:\n%s\n%s", a, b)
	}
}

// A partition is read where it is whole: the owner stays the owner until the
// node that takes over has all of it.
func TestScenario09ReadForwardedBeforeTheDataArrived(t *testing.T) {
	w := newWorld(t, 9, fourNodes()...)
	w.join("n5")
	w.load(60)
	w.checkPlaces()
	w.loss = 0.3
	w.transfer(2, "n5", false)
	for w.log[len(w.log)-1].Transfers != nil && w.step() {
		w.checkPlaces() // by the latest ring, at every moment
	}
	if owner := w.log[len(w.log)-1].Ring.Owner(2); owner != "n5" {
		t.Errorf("partition 2 is owned by %s", owner)
	}
	w.checkPlaces()
}

// Writes go on while a partition changes its owner, and none is dropped.
func TestScenario11WriteDroppedDuringHandoff(t *testing.T) {
	w := newWorld(t, 11, fourNodes()...)
	w.join("n5")
	w.load(40)
	w.transfer(2, "n5", false)
	acknowledged := 0
	for i := 0; w.log[len(w.log)-1].Transfers != nil && w.step(); i++ {
		if i%5 == 0 && w.put(w.nodes["n1"], testKey(i%80), i%2 == 0) {
			acknowledged++
		}
	}
	if acknowledged < 10 {
		t.Errorf("%d writes during the transfer", acknowledged)
	}
	w.settle()
	w.check()
	w.checkPlaces()
}

// A sender that dies when it has sent 60 of 100 is waited for, and the transfer
// goes on where it was; until then its end is not reported and nothing is
// dropped.
func TestScenario12PartialHandoffDeclaredComplete(t *testing.T) {
	for _, side := range []string{"sender", "receiver"} {
		t.Run(side, func(t *testing.T) {
			w := newWorld(t, 12, fourNodes()...)
			w.join("n5")
			w.load(150)
			w.transfer(2, "n5", false)
			all := w.total()
			victim := w.nodes["n3"]
			if side == "receiver" {
				victim = w.nodes["n5"]
			}
			for w.arrived() < all*6/10 && w.step() {
			}
			victim.crash()
			w.run(3 * time.Second)
			top := w.log[len(w.log)-1]
			if len(top.Transfers) != 1 || top.Transfers[0].Phase != "copying" || top.Ring.Owner(2) != "n3" {
				t.Fatalf("without the %s it is %v", side, top.Transfers)
			}
			if got := w.total(); got != all {
				t.Errorf("%d objects are left with the sender; want %d", got, all)
			}
			before := w.arrived()
			pulled := 0
			w.asked = func(_ *node, a Ask) bool {
				if p, ok := a.Msg.(*vnode.Pull); ok && len(p.After) == 0 {
					pulled++
				}
				return true
			}
			victim.start()
			for w.log[len(w.log)-1].Transfers != nil && w.step() {
			}
			if got := w.arrived(); got < all {
				t.Errorf("%d of %d arrived", got, all)
			}
			if before < all/2 || pulled > 4 {
				t.Errorf("with %d of %d it began anew with %d of the homes", before, all, pulled)
			}
			w.settle()
			w.check()
			w.checkPlaces()
		})
	}
}

// total counts the objects that n3 holds in partition 2 and that n5 is to have.
func (w *world) total() int { return w.count(w.nodes["n3"]) }

func (w *world) arrived() int { return w.count(w.nodes["n5"]) }

func (w *world) count(n *node) int {
	c := 0
	_ = n.mem.Scan([]byte{1, 0, 2}, []byte{1, 0, 3}, func([]byte, []byte) bool { c++; return true })
	return c
}

// The old owner keeps what it has until the topology that it knows says that
// the partition is another one's for good.
func TestScenario13VnodeDeletedBeforeTheRingIsConfirmed(t *testing.T) {
	w := newWorld(t, 13, fourNodes()...)
	w.join("n5")
	w.load(100)
	all := w.total()
	w.did = func(n *node, d Do) {
		if _, ok := d.Msg.(*vnode.Drop); !ok {
			return
		}
		if top := w.log[n.epoch-1]; len(top.Transfers) > 0 || top.Ring.Owner(d.To) == n.name {
			t.Errorf("%s drops of partition %d at epoch %d: %v", n.name, d.To, n.epoch, top.Transfers)
		}
	}
	w.transfer(2, "n5", false)
	w.settle()
	if n := w.total(); n != 0 || w.arrived() < all {
		t.Errorf("%d objects stayed and %d of %d arrived", n, w.arrived(), all)
	}
	w.checkPlaces()
	// The target dies, and the ring goes back: what was not dropped yet is no
	// longer stray, and nothing of it goes.
	w = newWorld(t, 13, fourNodes()...)
	w.join("n5")
	w.load(100)
	w.transfer(2, "n5", false)
	for w.log[len(w.log)-1].Transfers[0].Phase == "copying" && w.step() {
	}
	w.nodes["n5"].crash()
	old := w.log[0]
	old.Next, old.Transfers = nil, nil
	w.publish(old)
	w.run(5 * time.Second)
	if got := w.total(); got != all {
		t.Errorf("%d objects are left; want %d", got, all)
	}
	w.check()
	w.checkPlaces()
}

// A stand-in that was down when the node it stood in for was removed for ever
// still hands over what it alone holds.
func TestScenario14StaleFallbackHoldsTheLastCopy(t *testing.T) {
	w := newWorld(t, 14, fourNodes()...)
	n4 := w.nodes["n4"]
	k := testKey(0)
	home := w.log[0].Ring.Home(k)
	place := w.log[0].Ring.Primaries(home, replicas)[1]
	if !slices.Contains([]string{"n2", "n3"}, place.Node) {
		t.Fatal("another key is needed")
	}
	w.nodes[place.Node].crash()
	n4.handle(place.Partition, hint(home, k))
	actor, counter := n4.vnodes[place.Partition].Incarnation()
	w.writes = append(w.writes, write{key: k, dot: object.Dot{Actor: actor, Counter: counter}})
	n4.crash()
	// The dead node is removed by force: its partitions go to n1, filled from who is left.
	dead := place.Node
	gone := w.log[0]
	gone.Ring = gone.Ring.Rename(dead, "n1")
	gone.Gone = func(node string) bool { return node == dead }
	w.publish(gone)
	delete(w.nodes, dead)
	w.names = slices.DeleteFunc(w.names, func(n string) bool { return n == dead })
	w.run(2 * time.Second)
	n4.start()
	w.settle()
	for _, p := range w.log[len(w.log)-1].targets(place.Partition, home) {
		if !w.nodes[p.Node].object(p.Partition, home, k).Clock.Covers(w.writes[0].dot) {
			t.Errorf("the hint did not arrive at %+v", p)
		}
	}
	w.check()
}

// When the old owner is dead, what it and one other replica had acknowledged is
// on that other one alone. So the fill takes from all that are left, and waits
// for one that is down.
func TestAForcedFillTakesFromEveryReplica(t *testing.T) {
	w := newWorld(t, 16, fourNodes()...)
	w.join("n5")
	w.loss = 0.2
	w.load(150)
	w.loss = 0
	w.settle() // the stand-ins have handed over
	top := w.log[len(w.log)-1]
	top.Gone = func(node string) bool { return node == "n2" }
	w.publish(top)
	w.run(time.Second)
	w.nodes["n3"].crash()
	w.nodes["n2"].crash()
	w.transfer(1, "n5", true)
	w.run(5 * time.Second)
	if top := w.log[len(w.log)-1]; len(top.Transfers) != 1 || top.Transfers[0].Phase != "copying" {
		t.Fatalf("without n3 it came to its end: %v", top.Transfers)
	}
	jobs := w.nodes["n5"].m.Jobs()
	if len(jobs) != 1 || jobs[0].WaitsFor != "n3" || jobs[0].Done == 0 || jobs[0].Done == jobs[0].Total {
		t.Errorf("it has not pulled from those who are up, or does not say whom it waits for: %+v", jobs)
	}
	w.nodes["n3"].start()
	for w.log[len(w.log)-1].Transfers[0].Phase == "copying" && w.step() {
	}
	w.run(time.Second)
	top = w.log[len(w.log)-1]
	for _, x := range w.writes {
		copies, home := 0, top.Ring.Home(x.key)
		all := top.Ring.Primaries(home, replicas)
		if !has(all, 1, "n5") {
			continue // n2's other partition is not moved here
		}
		for _, p := range all {
			if n := w.nodes[p.Node]; n.alive && n.object(p.Partition, home, x.key).Clock.Covers(x.dot) {
				copies++
			}
		}
		if copies < 2 {
			t.Errorf("%v of %v is on %d primaries", x.dot, x.key, copies)
		}
	}
}

// A node that comes back with its name and an empty disk is handed all that
// stand-ins hold for it, and what it has lost it asks for.
func TestScenario15HintToAReplacedNode(t *testing.T) {
	w := newWorld(t, 15, fourNodes()...)
	w.load(80)
	n2 := w.nodes["n2"]
	n2.crash()
	w.loss = 0.1
	w.load(160) // with stand-ins for n2
	n2.mem = storage.NewMemory()
	n2.start()
	n2.feed(Repair{[]ring.Partition{1, 5}})
	w.run(30 * time.Millisecond)
	if lacking := n2.holdings().Lacking; len(lacking) != 2 {
		t.Errorf("vnodes %v are lacking", lacking)
	}
	n2.restart() // which goes on with the repair
	w.settle()
	if lacking := n2.holdings().Lacking; len(lacking) != 0 {
		t.Errorf("vnodes %v are still lacking", lacking)
	}
	w.check()
	w.checkPlaces()
}

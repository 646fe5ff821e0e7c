package sim

import (
	"slices"

	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// What is known of data types from inside: each version that a vnode has made of one, with what
// it had seen. This is what tells an operation that was sent again from one that was applied
// again, and a delete from what was concurrent with it. By it is judged:
//
//   - An operation with a request id is not applied by a vnode that has applied it, or has a
//     version which contains it, as long as fewer than MaxRemembered others with ids are in what
//     that vnode has, and no delete. Elsewhere it may be: then it counts as often as a reader has
//     seen it applied, no more and no less, and an element that it adds is there once.
//   - What a delete has not seen outlives it, if it was acknowledged.
//   - What a delete has seen is gone, unless a version that holds it was made by a vnode which did not
//     know of the delete, and the delete had not seen that version: the two are
//     concurrent, and then the whole of such a version comes back.
//   - It is gone nevertheless if some version has seen it and does not hold it, such as the one that
//     begins anew after a delete, unless that version was itself deleted.
//   - A counter is the sum of the entries that are there, but where a delete and a version are
//     concurrent: there the shares of it may come back while the entries stay gone. Nobody can
//     say what it must be then.

// edition is the version that a vnode has made of an operation or a delete.
type edition struct {
	dot     object.Dot
	actor   int           // the number of its actor
	clock   object.Vector // what it contains, with its dot
	request kv.RequestID
	adds    int  // the number of the element that the operation has added, or none
	elems   bits // the numbers of those that it holds
	lacks   bits // the earlier editions that it has seen, and whose elements it does not hold
	deleted bool
	seen    object.Vector // of a delete: what it replaces
	apart   []int         // of a delete: the operations of which it did not know, nor they of it
}

// none is the element of an operation that adds none.
const none = -1

// editions are those of a key, in the order in which they were made.
type editions struct {
	all     []edition
	deletes []int
	actors  actors
	number  map[string]int // of each element, from 0 on
	adders  [][]int        // by element, the editions that have added it
	struck  bits           // elements of which some delete has seen that they were added
}

// numberOf numbers an element.
func (h *editions) numberOf(elem []byte) int {
	n, ok := h.number[string(elem)]
	if !ok {
		n = len(h.adders)
		h.number[string(elem)] = n
		h.adders = append(h.adders, nil)
	}
	return n
}

// bits are a set of small numbers.
type bits []uint64

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// with is the set with i, in the same place if there is room.
func (b bits) with(i int) bits {
	for i/64 >= len(b) {
		b = append(b, 0)
	}
	b[i/64] |= 1 << (i % 64)
	return b
}

// and is the set with all of another one, in the same place if there is room.
func (b bits) and(o bits) bits {
	for len(b) < len(o) {
		b = append(b, 0)
	}
	for i, word := range o {
		b[i] |= word
	}
	return b
}

// made notes what a vnode has just made of a batch.
func (d *dataTypes) made(n *node, orders []order, answers []vnode.Answer) {
	if d.dots == nil {
		return // there are no clients of data types; the callers of a Cluster may use them
	}
	for _, a := range answers {
		m, ok := orders[a.Cmd].msg.(*vnode.Coordinate)
		if !ok || !isData(m.Key) {
			continue
		}
		minted, ok := a.Msg.(*vnode.Minted)
		if !ok {
			continue
		}
		obj, err := object.Decode(minted.Object)
		if err != nil {
			n.s.fail("encoding", m.Key, "%s makes an object that does not decode: %v", n.name, err)
			return
		}
		i := slices.IndexFunc(obj.Siblings, func(x object.Sibling) bool { return !d.dots[x.Dot] })
		if i < 0 {
			n.s.count("an operation that is there was not applied again")
			continue
		}
		d.dots[obj.Siblings[i].Dot] = true
		d.note(n, m, obj, obj.Siblings[i].Dot)
	}
}

// note notes one version, and checks that its operation was not there already.
func (d *dataTypes) note(n *node, m *vnode.Coordinate, obj object.Object, dot object.Dot) {
	v := edition{dot: dot, clock: obj.Clock, request: m.Request, adds: none, deleted: m.Write.Deleted, seen: m.Seen}
	h := d.editions[m.Key]
	if h == nil {
		h = &editions{actors: make(actors), number: make(map[string]int)}
		d.editions[m.Key] = h
	}
	if !v.deleted {
		held, err := crdt.Hold(obj, m.Write.Op.Kind(), 0)
		if err != nil {
			n.s.fail("encoding", m.Key, "%s makes a state that does not decode: %v", n.name, err)
			return
		}
		if elem := addedBy(m.Write.Op); len(elem) > 0 {
			v.adds = h.numberOf(elem)
		}
		for _, elem := range elementsOf(held.State.Value()) {
			v.elems = v.elems.with(h.numberOf(elem))
		}
		d.again(n, m.Key, h, &v)
	}
	h.add(v)
}

// add notes an edition, and which deletes and operations did not know of each other.
func (h *editions) add(v edition) {
	v.actor = h.actors.number(v.dot.Actor)
	if v.deleted {
		for i := range h.all {
			switch x := &h.all[i]; {
			case x.deleted:
			case v.seen.Covers(x.dot):
				if x.adds != none {
					h.struck = h.struck.with(x.adds)
				}
			case apart(&v, x):
				v.apart = append(v.apart, i)
			}
		}
		h.deletes = append(h.deletes, len(h.all))
	} else {
		for _, i := range h.deletes {
			if t := &h.all[i]; apart(t, &v) {
				t.apart = append(t.apart, len(h.all))
			}
		}
		v.lacks = h.lackedBy(&v)
	}
	if v.adds != none {
		h.adders[v.adds] = append(h.adders[v.adds], len(h.all))
	}
	h.all = append(h.all, v)
}

// lackedBy are the editions that a new one has seen, and whose elements it does not hold.
func (h *editions) lackedBy(v *edition) (lacks bits) {
	seen := h.actors.counters(v.clock)
	for i := range h.all {
		if x := &h.all[i]; x.adds != none && !v.elems.has(x.adds) && x.dot.Counter <= seen[x.actor] {
			lacks = lacks.with(i)
		}
	}
	return lacks
}

// again judges an operation that is applied though it was applied before.
func (d *dataTypes) again(n *node, k kv.Key, h *editions, v *edition) {
	if v.request == (kv.RequestID{}) {
		return
	}
	first := -1
	others := make(map[kv.RequestID]bool)
	for i := range h.all {
		switch x := &h.all[i]; {
		case x.request == v.request:
			n.s.count("an operation was applied again")
			if v.clock.Covers(x.dot) {
				first = i
			}
		case !v.clock.Covers(x.dot):
		case x.deleted:
			return // what was deleted remembers nothing
		case x.request != (kv.RequestID{}):
			others[x.request] = true
		}
	}
	if first >= 0 && len(others) < kv.MaxRemembered {
		n.s.fail("twice", k, "%s applies operation %x as %v, and has it as %v, with %d others that have ids", n.name, v.request, v.dot, h.all[first].dot, len(others))
	}
}

// addedBy is the element that an operation adds; empty: none.
func addedBy(op kv.Op) []byte {
	switch op := op.(type) {
	case kv.SetOp:
		if len(op.Adds) > 0 {
			return op.Adds[0]
		}
	case kv.MapOp:
		for _, u := range op.Updates {
			if elem := addedBy(u.Op); len(elem) > 0 {
				return elem
			}
		}
	}
	return nil
}

// elementsOf are those of a set, or of the entries of a ledger.
func elementsOf(v kv.DataValue) [][]byte {
	if v.Kind == kv.Map {
		_, elems := fieldsOf(v)
		return elems
	}
	return v.Set
}

// times is how often each operation that adds an element, by its number, is in what has this
// clock, without what deletes in it have seen.
func (h *editions) times(clock object.Vector) []int {
	times := make([]int, len(h.adders))
	seen := h.actors.counters(clock)
	gone := h.actors.counters(h.deleted(func(t *edition) bool { return clock.Covers(t.dot) }))
	for i := range h.all {
		if x := &h.all[i]; x.adds != none && x.dot.Counter <= seen[x.actor] && x.dot.Counter > gone[x.actor] {
			times[x.adds]++
		}
	}
	return times
}

// timesOf is how often the operation that adds an element is there, of what times says.
func (h *editions) timesOf(elem []byte, times []int) int {
	if n, ok := h.number[string(elem)]; ok {
		return times[n]
	}
	return 0
}

// wasStruck reports whether some delete has seen that an element was added.
func (h *editions) wasStruck(elem string) bool {
	n, ok := h.number[elem]
	return ok && h.struck.has(n)
}

// deleted is what these deletes have seen together.
func (h *editions) deleted(by func(*edition) bool) (seen object.Vector) {
	for _, i := range h.deletes {
		if t := &h.all[i]; by(t) {
			seen = seen.Join(t.seen)
		}
	}
	return seen
}

// concurrent reports whether this clock contains a delete and an operation that did not know of
// each other.
func (h *editions) concurrent(clock object.Vector) bool {
	return slices.ContainsFunc(h.deletes, func(i int) bool {
		t := &h.all[i]
		return clock.Covers(t.dot) && slices.ContainsFunc(t.apart, func(j int) bool { return clock.Covers(h.all[j].dot) })
	})
}

// apart reports whether a delete and an operation did not know of each other.
func apart(t, x *edition) bool { return !t.seen.Covers(x.dot) && !x.clock.Covers(t.dot) }

// back names the first element of those that are there under this clock which cannot be, and a
// reason why. Done are the deletes that must have come there since they were acknowledged.
func (h *editions) back(elems [][]byte, clock object.Vector, done map[kv.RequestID]check.Outcome) (elem, why string) {
	l := h.verdictsOf(clock, done)
	for _, e := range elems {
		if reason := h.gone(e, &l); reason != "" && (why == "" || string(e) < elem) {
			elem, why = string(e), reason
		}
	}
	return elem, why
}

// verdicts are what a reader with some clock knows: the versions that count, what these have seen
// and do not hold, and the deletes that do.
type verdicts struct {
	versions []int
	lacked   bits
	deletes  []int
}

// verdictsOf are those of the versions in what has this clock that none of the deletes has seen
// that are there too, or must be.
func (h *editions) verdictsOf(clock object.Vector, done map[kv.RequestID]check.Outcome) (l verdicts) {
	counts := func(t *edition) bool { return clock.Covers(t.dot) || done[t.request] == check.Done }
	seen, gone := h.actors.counters(clock), h.actors.counters(h.deleted(counts))
	for i := range h.all {
		switch x := &h.all[i]; {
		case x.deleted && counts(x):
			l.deletes = append(l.deletes, i)
		case !x.deleted && x.dot.Counter <= seen[x.actor] && x.dot.Counter > gone[x.actor]:
			l.versions = append(l.versions, i)
			l.lacked = l.lacked.and(x.lacks)
		}
	}
	return l
}

// gone names a reason why the element cannot be there; empty: there is none.
func (h *editions) gone(elem []byte, l *verdicts) string {
	why := "nobody has added it"
	n, ok := h.number[string(elem)]
	if !ok {
		return why
	}
	for _, i := range slices.Backward(h.adders[n]) { // the last one is mostly there
		if why = h.goneFor(i, l); why == "" {
			return ""
		}
	}
	return why
}

// goneFor is gone for one edition that has added the element. What has seen it was made later.
func (h *editions) goneFor(i int, l *verdicts) string {
	added := &h.all[i]
	if l.lacked.has(i) {
		j := slices.IndexFunc(l.versions, func(j int) bool { return h.all[j].lacks.has(i) })
		return "the version " + h.all[l.versions[j]].dot.String() + " has seen " + added.dot.String() + " and does not hold it"
	}
	for _, j := range l.deletes {
		x := &h.all[j]
		if j > i && x.seen.Covers(added.dot) && !slices.ContainsFunc(x.apart, func(u int) bool { return h.all[u].elems.has(added.adds) }) {
			return "the delete " + x.dot.String() + " has seen " + added.dot.String()
		}
	}
	return ""
}

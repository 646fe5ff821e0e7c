package sim

import (
	"maps"
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
	clock   object.Vector // what it contains, with its dot
	request kv.RequestID
	adds    string          // the element that the operation has added; empty: none
	elems   map[string]bool // that it holds
	deleted bool
	seen    object.Vector // of a delete: what it replaces
	apart   []int         // of a delete: the operations of which it did not know, nor they of it
}

// editions are those of a key, in the order in which they were made.
type editions struct {
	all     []edition
	deletes []int
	struck  map[string]bool // elements of which some delete has seen that they were added
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
	v := edition{dot: dot, clock: obj.Clock, request: m.Request, deleted: m.Write.Deleted, seen: m.Seen}
	h := d.editions[m.Key]
	if h == nil {
		h = &editions{struck: make(map[string]bool)}
		d.editions[m.Key] = h
	}
	if !v.deleted {
		v.adds = addedBy(m.Write.Op)
		held, err := crdt.Hold(obj, m.Write.Op.Kind(), 0)
		if err != nil {
			n.s.fail("encoding", m.Key, "%s makes a state that does not decode: %v", n.name, err)
			return
		}
		v.elems = elementsOf(held.State.Value())
		d.again(n, m.Key, h, &v)
	}
	h.add(v)
}

// add notes an edition, and which deletes and operations did not know of each other.
func (h *editions) add(v edition) {
	if v.deleted {
		for i := range h.all {
			switch x := &h.all[i]; {
			case x.deleted:
			case v.seen.Covers(x.dot):
				h.struck[x.adds] = true
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
	}
	h.all = append(h.all, v)
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
func addedBy(op kv.Op) string {
	switch op := op.(type) {
	case kv.SetOp:
		if len(op.Adds) > 0 {
			return string(op.Adds[0])
		}
	case kv.MapOp:
		for _, u := range op.Updates {
			if elem := addedBy(u.Op); elem != "" {
				return elem
			}
		}
	}
	return ""
}

// elementsOf are those of a set, or of the entries of a ledger.
func elementsOf(v kv.DataValue) map[string]bool {
	elems := v.Set
	if v.Kind == kv.Map {
		_, elems = fieldsOf(v)
	}
	found := make(map[string]bool, len(elems))
	for _, e := range elems {
		found[string(e)] = true
	}
	return found
}

// times is how often each operation that adds an element is in what has this clock, without
// what deletes in it have seen.
func (h *editions) times(clock object.Vector) map[string]int {
	times := make(map[string]int)
	for i := range h.all {
		x := &h.all[i]
		if x.adds == "" || !clock.Covers(x.dot) {
			continue
		}
		if !h.deleted(x.dot, func(t *edition) bool { return clock.Covers(t.dot) }) {
			times[x.adds]++
		}
	}
	return times
}

// deleted reports whether one of these deletes has seen the version of this dot.
func (h *editions) deleted(dot object.Dot, by func(*edition) bool) bool {
	return slices.ContainsFunc(h.deletes, func(i int) bool { return h.all[i].seen.Covers(dot) && by(&h.all[i]) })
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

// back names an element of those that are there under this clock which cannot be, and a reason why.
// Done are the deletes that must have come there since they were acknowledged.
func (h *editions) back(elems map[string]bool, clock object.Vector, done map[kv.RequestID]check.Outcome) (elem, why string) {
	for _, elem := range slices.Sorted(maps.Keys(elems)) {
		if why := h.gone(elem, clock, done); why != "" {
			return elem, why
		}
	}
	return "", ""
}

// gone names a reason why the element cannot be there; empty: there is none.
func (h *editions) gone(elem string, clock object.Vector, done map[kv.RequestID]check.Outcome) string {
	counts := func(t *edition) bool { return clock.Covers(t.dot) || done[t.request] == check.Done }
	why := "nobody has added it"
	for i := len(h.all) - 1; i >= 0; i-- { // the last one is mostly there
		if h.all[i].adds != elem {
			continue
		}
		if why = h.goneFor(i, counts, clock); why == "" {
			return ""
		}
	}
	return why
}

// goneFor is gone for one edition that has added the element. What has seen it was made later.
func (h *editions) goneFor(i int, counts func(*edition) bool, clock object.Vector) string {
	added := &h.all[i]
	for j := i + 1; j < len(h.all); j++ {
		x := &h.all[j]
		switch {
		case !x.deleted:
			if !x.elems[added.adds] && x.clock.Covers(added.dot) && clock.Covers(x.dot) && !h.deleted(x.dot, counts) {
				return "the version " + x.dot.String() + " has seen " + added.dot.String() + " and does not hold it"
			}
		case x.seen.Covers(added.dot) && counts(x):
			if !slices.ContainsFunc(x.apart, func(u int) bool { return h.all[u].elems[added.adds] }) {
				return "the delete " + x.dot.String() + " has seen " + added.dot.String()
			}
		}
	}
	return ""
}

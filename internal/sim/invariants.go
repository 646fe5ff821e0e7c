package sim

import (
	"bytes"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// invariants are what must hold at every step, seen from inside:
//
//   - a dot names one write for ever, and a write has one dot: it is carried out
//     once at most;
//   - what a vnode stores contains what it had stored;
//   - nothing is erased but what is stray, and that only while those who should
//     hold it do, durably;
//   - "stored" is said only of what is durable;
//   - a read answers, and repairs, with all that it has heard, and repairs
//     every replica that was heard to have less;
//   - a write is acknowledged only when as many replicas as were asked for hold
//     it durably;
//   - the hash tree of a home is that of the objects; see checkTree;
//   - all nodes with one epoch have one topology, and no change of owners takes
//     a copy away from an acknowledged write; see agreed, flip and fenced.
type invariants struct {
	dots   map[object.Dot]check.ID
	minted map[kv.Key]*lineage
	read   map[check.ID][]check.ID   // what a delete without a context had read itself, and what a last write replaces
	stamps map[check.ID]object.Stamp // of the writes of buckets in which the last one wins
	nodes  map[*node]held
	states map[uint64]*agreement // by epoch
	sums   map[uint64]uint64     // by epoch, of the topologies that are too old to be kept
	acks   map[kv.Key][]ack
	sought map[string]kv.Key                  // by what a storage key has after its home
	marks  map[uint64][]promise               // by transfer, what its receivers are to have
	rot    map[*node]map[string]object.Vector // by storage key, what an object had seen that has rotted
	gone   map[kv.Key]object.Vector           // what was reaped, and what that had replaced
	orphan map[check.ID]bool                  // writes whose replacement was erased with a disk from before a reaping
}

// lineage is the versions of a key that some vnode has made.
type lineage struct {
	mints  []mint
	marks  []mark // of them; what is looked at most
	dead   []int  // those that are deleted
	index  map[check.ID]int
	actors actors
}

func newLineage() *lineage {
	return &lineage{index: make(map[check.ID]int), actors: make(actors)}
}

// mint is one of them.
type mint struct {
	dot     object.Dot
	id      check.ID
	deleted bool    // a reader may not see it: it is a tombstone, or expires
	by      []int32 // the mints that replace it, but for the first
}

// mark is the dot of a mint, with the number of its actor, and the first mint that replaces it; or none.
type mark struct {
	counter uint64
	actor   int32
	first   int32
}

// held is what a node's engine holds, by storage key: the versions of each, the
// latest durable one first, then those that are on their way to the disk.
type held map[string][]version

// version is what a batch wrote under a storage key.
type version struct {
	seq  uint64
	head object.Object
}

// order is a command of a batch with the storage keys that it is about.
type order struct {
	msg  vnode.Message
	key  kv.Key
	data [][]byte
}

func newOrder(p ring.Partition, m vnode.Message) order {
	switch m := m.(type) {
	case *vnode.Coordinate:
		return order{m, m.Key, [][]byte{vnode.DataKey(p, m.Home, m.Key)}}
	case *vnode.Store:
		return order{m, m.Key, [][]byte{vnode.DataKey(p, m.Home, m.Key)}}
	case *vnode.Deliver:
		return order{msg: m, data: dataKeys(p, m.Home, m.Items)}
	case *vnode.Fill:
		return order{msg: m, data: dataKeys(p, m.Home, m.Items)}
	case *vnode.Drop:
		return order{msg: m, data: dataKeys(p, m.Home, m.Items)}
	case *vnode.Reap:
		return order{msg: m, data: dataKeys(p, m.Home, m.Items)}
	case *vnode.Attest:
		return order{msg: m, data: dataKeys(p, m.Home, m.Items)}
	}
	return order{msg: m}
}

func dataKeys(p, home ring.Partition, items []vnode.Item) [][]byte {
	keys := make([][]byte, len(items))
	for i := range items {
		keys[i] = vnode.DataKey(p, home, items[i].Key)
	}
	return keys
}

func (v *invariants) init() {
	v.dots = make(map[object.Dot]check.ID)
	v.minted = make(map[kv.Key]*lineage)
	v.read = make(map[check.ID][]check.ID)
	v.stamps = make(map[check.ID]object.Stamp)
	v.nodes = make(map[*node]held)
	v.states = make(map[uint64]*agreement)
	v.sums = make(map[uint64]uint64)
	v.acks = make(map[kv.Key][]ack)
	v.sought = make(map[string]kv.Key)
	v.marks = make(map[uint64][]promise)
	v.rot = make(map[*node]map[string]object.Vector)
	v.gone = make(map[kv.Key]object.Vector)
	v.orphan = make(map[check.ID]bool)
}

// forget forgets what a node's engine held: a crash may have taken some of it.
func (v *invariants) forget(n *node) {
	v.nodes[n] = make(held)
}

// batch checks what a vnode is about to write.
func (v *invariants) batch(n *node, orders []order, b *storage.Batch) {
	for _, o := range orders {
		m, ok := o.msg.(*vnode.Coordinate)
		if ok && (m.Write.Deleted || m.Guarded) && !n.s.latest(m.Key) {
			v.read[idOf(m.Request)] = v.covered(m.Key, m.Seen, false)
		}
	}
	for i := range b.Ops {
		op := &b.Ops[i]
		switch p, home, key, ok := v.object(op.Key); {
		case !ok:
		case op.Delete:
			v.erase(n, p, home, key, orders, op, n.before(b, i))
		default:
			head, err := object.DecodeHead(op.Value)
			if err != nil {
				n.s.fail("encoding", key, "%s writes an object that does not decode: %v", n.name, err)
				return
			}
			if v.sifted(n, key, orders, op, head) {
				continue
			}
			v.rotted(n, p, key, op, head, b)
			v.overwrites(n, key, orders, head)
			v.write(n, key, op, head)
			v.honest(n, key, orders, head)
			v.hasty(n, key, orders, op, head, func() []byte { return n.before(b, i) })
		}
	}
}

// sifted checks what a vnode leaves of an object that is older than a reaping, and reports whether it
// does: some of the siblings, and a clock that claims nothing of the others.
func (v *invariants) sifted(n *node, key kv.Key, orders []order, op *storage.Op, head object.Object) bool {
	if !slices.ContainsFunc(orders, func(o order) bool { _, ok := o.msg.(*vnode.Wipe); return ok }) {
		return false
	}
	old := v.latest(n, op.Key).head
	if !old.Clock.Descends(head.Clock) {
		n.s.fail("sifted", key, "%s leaves %v of %v, which claims more", n.name, head.Clock, old.Clock)
	}
	has := func(o object.Object, dot object.Dot) bool {
		return slices.ContainsFunc(o.Siblings, func(x object.Sibling) bool { return x.Dot == dot })
	}
	for _, x := range old.Siblings {
		if !has(head, x.Dot) && head.Clock.Covers(x.Dot) {
			n.s.fail("sifted", key, "%s leaves %v at %v, which claims %v that it has erased", n.name, idsOf(head), head.Clock, x.Dot)
		}
	}
	for _, x := range head.Siblings {
		if !has(old, x.Dot) {
			n.s.fail("sifted", key, "%s leaves %v of %v", n.name, idsOf(head), idsOf(old))
		}
	}
	for _, id := range v.covered(key, head.Clock, false) {
		if _, found := slices.BinarySearch(idsOf(head), id); !found {
			v.orphan[id] = true // what has replaced it is erased here, and is wherever that is known
		}
	}
	n.s.count("of an object from before a reaping a part was kept")
	v.add(n, op.Key, version{n.disk.mem.Applied() + 1, head})
	return true
}

// overwrites notes what the writes of a bucket replace in which the last one wins: all
// that their coordinator has. And it checks that this one may say which is the last.
func (v *invariants) overwrites(n *node, key kv.Key, orders []order, head object.Object) {
	if !n.s.latest(key) {
		return
	}
	for i := range head.Siblings {
		sib := &head.Siblings[i]
		id := idOf(sib.Request)
		v.stamps[id] = sib.Stamp
		made := slices.ContainsFunc(orders, func(o order) bool {
			m, ok := o.msg.(*vnode.Coordinate)
			return ok && m.Request == sib.Request
		})
		if _, known := v.dots[sib.Dot]; known || !made {
			continue
		}
		v.read[id] = v.covered(key, head.Clock, false)
		off := n.skew.Abs() > membership.MaxClockOffset+clockSlack
		if off && n.s.live && !n.s.weather.Topology && n.s.known(id) && n.s.history.Ops[n.s.writes[id]].Start >= n.s.alive {
			n.s.fail("skew", key, "%s, whose clock is off by %v, says when write %d was made", n.name, n.skew, id)
		}
	}
}

// clockSlack is by how much a clock may be off beyond the limit before it is known:
// messages take their time.
const clockSlack = 200 * time.Millisecond

// before is what the node holds under the storage key of a change of a batch,
// just before that.
func (n *node) before(b *storage.Batch, change int) []byte {
	for i := change - 1; i >= 0; i-- {
		if bytes.Equal(b.Ops[i].Key, b.Ops[change].Key) {
			return b.Ops[i].Value
		}
	}
	stored, _ := n.disk.mem.Get(b.Ops[change].Key) // else there is nothing, or it is about to crash
	return stored
}

// honest checks the clock of a version that a vnode has made itself: it covers
// no write that is neither there nor replaced by one that it covers as well.
func (v *invariants) honest(n *node, key kv.Key, orders []order, head object.Object) {
	made := slices.ContainsFunc(orders, func(o order) bool {
		_, ok := o.msg.(*vnode.Coordinate)
		return ok && o.key == key
	})
	if !made || !n.s.weather.Fallbacks {
		return
	}
	there := idsOf(head)
	for _, id := range v.covered(key, head.Clock, false) {
		if _, found := slices.BinarySearch(there, id); !found && !v.orphan[id] {
			n.s.fail("clock", key, "%s makes %v at %v, which claims to contain write %d", n.name, there, head.Clock, id)
			return
		}
	}
}

// dataHead is how long what comes before the name is in a storage key of an
// object, which begins with dataKind.
const (
	dataKind = 1
	dataHead = 5
)

// object is which object has the storage key, if that is one of an object.
func (v *invariants) object(data []byte) (p, home ring.Partition, k kv.Key, ok bool) {
	if len(data) < dataHead || data[0] != dataKind {
		return 0, 0, noKey, false
	}
	p = ring.Partition(data[1])<<8 | ring.Partition(data[2])
	home = ring.Partition(data[3])<<8 | ring.Partition(data[4])
	return p, home, v.sought[string(data[dataHead:])], true
}

// know remembers a key by its storage key.
func (v *invariants) know(k kv.Key) {
	v.sought[string(vnode.DataKey(0, 0, k)[dataHead:])] = k
}

// write checks one write of a batch.
func (v *invariants) write(n *node, key kv.Key, op *storage.Op, head object.Object) {
	s := n.s
	old := v.latest(n, op.Key).head
	if r := object.Compare(head, old); r != object.Newer && r != object.Equal {
		s.fail("monotone", key, "%s replaces %v at %v by %v at %v, which does not contain it",
			n.name, idsOf(old), old.Clock, idsOf(head), head.Clock)
		return
	}
	for i := range head.Siblings {
		v.dot(s, key, &head.Siblings[i])
	}
	if isData(key) && len(head.Siblings) > 1 {
		s.count("states beside each other")
	}
	v.swept(n, key, old, head)
	v.add(n, op.Key, version{n.disk.mem.Applied() + 1, head})
	if s.watches(key) {
		s.tell(s.now, n.name, "holds %v at %v", idsOf(head), head.Clock)
	}
}

// versions are what the node holds under a storage key, at least one.
func (v *invariants) versions(n *node, data []byte) []version {
	if all, ok := v.nodes[n][string(data)]; ok {
		return all
	}
	var first version
	if enc, err := n.disk.mem.Get(data); err == nil { // else it has nothing, or is about to crash
		first.head, err = object.Decode(enc) // one that has rotted is none
		if err != nil && n.s.weather.RotEvery == 0 {
			n.s.fail("encoding", noKey, "%s has an object that does not decode: %v", n.name, err)
		}
	}
	all := []version{first}
	v.nodes[n][string(data)] = all
	return all
}

func (v *invariants) latest(n *node, data []byte) version {
	all := v.versions(n, data)
	return all[len(all)-1]
}

// durable is the head that a crash now could not take.
func (v *invariants) durable(n *node, data []byte) object.Object {
	return v.standing(n, data)[0].head
}

// standing are the versions that a node may have after a crash now, the durable
// one first.
func (v *invariants) standing(n *node, data []byte) []version {
	all := v.versions(n, data)
	i := len(all) - 1
	for i > 0 && all[i].seq > n.disk.mem.Durable() {
		i--
	}
	return all[i:]
}

// add notes what the next batch writes, and forgets what is no longer needed.
func (v *invariants) add(n *node, data []byte, next version) {
	all := v.versions(n, data)
	for len(all) > 1 && all[1].seq <= n.disk.mem.Durable() {
		all = all[1:]
	}
	v.nodes[n][string(data)] = append(all, next)
}

// dot checks that the dot of a sibling belongs to its write alone.
func (v *invariants) dot(s *Sim, key kv.Key, sib *object.Sibling) {
	id := idOf(sib.Request)
	known, ok := v.dots[sib.Dot]
	if ok && known == id {
		return
	}
	if ok {
		s.fail("dots", key, "%v names write %d and write %d", sib.Dot, known, id)
		return
	}
	if s.isOver(id) {
		s.fail("late", key, "write %d of a chapter that is over is carried out as %v", id, sib.Dot)
		return
	}
	if l := v.minted[key]; l != nil && s.known(id) {
		if i, twice := l.index[id]; twice {
			s.fail("twice", key, "write %d was carried out twice: as %v, and as %v", id, l.mints[i].dot, sib.Dot)
			return
		}
	}
	v.dots[sib.Dot] = id
	if isData(key) {
		return // its operations are told from each other by what they have done; see dataTypes
	}
	s.history.Stored[id] = true
	v.mint(key, mint{dot: sib.Dot, id: id, deleted: sib.Deleted || sib.Expires != 0}, s.seenBy(id))
}

// mint notes a new version of a key.
func (v *invariants) mint(key kv.Key, m mint, seen []check.ID) {
	l := v.minted[key]
	if l == nil {
		l = newLineage()
		v.minted[key] = l
	}
	for _, id := range seen {
		if i, ok := l.index[id]; ok {
			l.replace(i, int32(len(l.mints)))
		}
	}
	l.add(m)
}

// replace notes that a mint is replaced by another one.
func (l *lineage) replace(i int, by int32) {
	if m := &l.marks[i]; m.first == none {
		m.first = by
		return
	}
	l.mints[i].by = append(l.mints[i].by, by)
}

func (l *lineage) add(m mint) {
	l.marks = append(l.marks, mark{m.dot.Counter, int32(l.actors.number(m.dot.Actor)), none})
	l.index[m.id] = len(l.mints)
	if m.deleted {
		l.dead = append(l.dead, len(l.mints))
	}
	l.mints = append(l.mints, m)
}

// covered are the writes of a key, or only its deletes, that a clock covers,
// without those that are replaced by another one that it covers.
func (v *invariants) covered(k kv.Key, clock object.Vector, deletes bool) []check.ID {
	l := v.minted[k]
	if l == nil {
		return nil
	}
	var ids []check.ID
	seen, gone := l.actors.counters(clock), l.actors.counters(v.gone[k])
	covers := func(i int32) bool { return l.marks[i].counter <= seen[l.marks[i].actor] }
	look := func(i int) {
		m := &l.marks[i]
		if m.counter > seen[m.actor] || m.counter <= gone[m.actor] || m.first != none && covers(m.first) {
			return
		}
		if !slices.ContainsFunc(l.mints[i].by, covers) {
			ids = append(ids, l.mints[i].id)
		}
	}
	if deletes {
		for _, i := range l.dead {
			look(i)
		}
		return ids
	}
	for i := range l.marks {
		look(i)
	}
	return ids
}

// actors numbers the actors of dots, from 0 on: a key that is written for long has thousands of
// dots, and few actors.
type actors map[object.Actor]int

func (as actors) number(a object.Actor) int {
	n, ok := as[a]
	if !ok {
		n = len(as)
		as[a] = n
	}
	return n
}

// counters are what a clock has of each actor, by its number.
func (as actors) counters(clock object.Vector) []uint64 {
	counters := make([]uint64, len(as))
	for _, dot := range clock {
		if n, ok := as[dot.Actor]; ok {
			counters[n] = dot.Counter
		}
	}
	return counters
}

// needs is the batch that must be durable before the command may be answered
// with "stored" or "held": the last one, so far, that wrote one of its keys.
func (v *invariants) needs(n *node, o order) uint64 {
	seq := uint64(0)
	for _, data := range o.data {
		seq = max(seq, v.latest(n, data).seq)
	}
	return seq
}

// Package vnode is one partition on one node: what it is asked, and how it
// changes what it stores.
//
// A Vnode takes a batch of writes and returns, as data, one engine batch and
// the answers to release: some as soon as the batch is applied, the others once
// it is durable. It never waits. Reads need nothing of a vnode but its
// storage, and so do not queue behind its writes; see Read.
//
// # The meaning of a dot
//
// A vnode that coordinates a write names it with a dot (actor, counter). The
// protocol rests on one sentence: a clock that covers (a, n) contains or
// supersedes everything that actor a issued on this key up to n. It holds
// because one vnode issues the dots of an actor, serialises its writes and sends
// out what it stores. It stops holding when the vnode forgets: after a crash that
// took unsynced writes with it, after a corrupt object was replaced. So an actor
// is good for one incarnation of a vnode only, and a vnode that has
// forgotten anything goes on as a new actor.
package vnode

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// Config is what a vnode begins with.
type Config struct {
	Partition ring.Partition

	// Actor is random for each incarnation. Only a vnode that was closed in
	// order and has lost nothing since may go on with its old Actor and
	// Counter.
	Actor   object.Actor
	Counter uint64

	// Life is the number of the node's present life, which is higher than those before.
	Life uint64

	// HeadCache is how many bytes of object heads are kept in memory, so that
	// a write seldom reads the disk. 0: none.
	HeadCache int

	// Treeless leaves the hash trees out, for benchmarks of what they cost.
	Treeless bool
}

// Vnode is the part of a partition that changes it. It is not safe for
// concurrent use.
type Vnode struct {
	partition ring.Partition
	store     storage.Reader
	heads     headCache

	// Invariant: no dot of actor with a counter above this one exists anywhere.
	counter uint64
	actor   object.Actor
	stamp   object.Stamp // the latest that this vnode gave out

	life     uint64
	partaken bool // it keeps no actor of an earlier life: see own.go
	treeless bool
}

// New returns the vnode that keeps its objects in store. Nothing but the batches of its
// own Handle may change them.
func New(c Config, store storage.Reader) *Vnode {
	return &Vnode{
		partition: c.Partition,
		store:     store,
		heads:     headCache{limit: c.HeadCache},
		actor:     c.Actor,
		counter:   c.Counter,
		life:      c.Life,
		treeless:  c.Treeless,
	}
}

// Incarnation is the actor of the vnode and the last counter it gave out, which
// a clean shutdown may keep for the next start.
func (v *Vnode) Incarnation() (object.Actor, uint64) { return v.actor, v.counter }

// Outcome is what comes of a batch of commands, besides the engine batch.
type Outcome struct {
	Early   []Answer // to release once the engine batch is applied
	Durable []Answer // to release once it, and all before it, are durable
	Notes   []Note

	// Lost says that the vnode has replaced something that it could not read by
	// what it was sent, which may be less. It is marked as Lacking in the same engine
	// batch, and is to be rebuilt from its other replicas.
	Lost bool
}

// Answer is the answer to a command of the batch.
type Answer struct {
	Cmd int // its number in the batch
	Msg Message
}

// Note is something worth a metric or a log line.
type Note struct {
	Kind NoteKind
	Key  kv.Key
	Text string
}

// NoteKind names what a Note tells of.
type NoteKind string

// The kinds of notes.
const (
	NoteCorrupt  NoteKind = "corrupt"   // a stored object failed its checksum
	NoteNewActor NoteKind = "new_actor" // the vnode has forgotten something, and goes on as a new actor
	NoteBadItem  NoteKind = "bad_item"  // an object that was handed over cannot be decoded, and was left out
	NoteUnread   NoteKind = "unread"    // the engine could not read a stored object
	NoteTree     NoteKind = "tree"      // the hash tree does not say what is stored
	NoteIndex    NoteKind = "index"     // the secondary indexes do not say what is stored, or cannot be read
	NoteSiblings NoteKind = "siblings"  // a key has so many values that its bucket wants to be warned
	NoteLarge    NoteKind = "large"     // the same of its bytes
)

// turn is the handling of one batch.
type turn struct {
	*Vnode
	wallMs  int64
	batch   *storage.Batch
	from    int               // where the changes of this turn begin in it
	left    int               // commands that follow the one at hand
	filling bool              // the command at hand is a Fill
	written map[string][]byte // what this batch has written so far, by storage key, for those
	read    reading           // what was read last of the store
	out     Outcome

	mending bool // the command at hand is of anti-entropy
	minting bool // it makes a new version
}

// reading is what the store has at a key; a command asks for the head and then for the rest.
type reading struct {
	dk, enc []byte // enc is nil: nothing
}

// Handle carries out a batch of commands, in order: Coordinate, Store, Deliver,
// Fill, Drop, Attest, Reap, Wipe, Retree, Fence, SetLacking and Sweep. It appends their changes to b, which must be applied before the next Handle.
// Should b not be applied, the vnode must not be used any more.
func (v *Vnode) Handle(wallMs int64, cmds []Message, b *storage.Batch) Outcome {
	t := turn{Vnode: v, wallMs: wallMs, batch: b, from: len(b.Ops)}
	t.out.Durable = make([]Answer, 0, len(cmds))
	for i, m := range cmds {
		t.left = len(cmds) - i - 1
		_, t.minting = m.(*Coordinate)
		switch m := m.(type) {
		case *Coordinate:
			t.coordinate(i, m)
		case *Store:
			t.merge(i, m)
		case *Deliver:
			t.deliver(i, m)
		case *Fill:
			t.fill(i, m)
		case *Drop:
			t.drop(i, m)
		case *Attest:
			t.attest(i, m)
		case *Reap:
			t.reap(i, m)
		case *Wipe:
			t.wipe(i, m)
		case *Retree:
			t.retree(i, m)
		case *SetLacking:
			t.setLacking(i, m)
		case *Sweep:
			t.sweep(i, m)
		case *Fence:
			// Early answers wait for the batch to be applied, and so for all that came before.
			t.out.Early = append(t.out.Early, Answer{i, &Fenced{}})
		default:
			t.refuse(i, CodeInvalid, fmt.Sprintf("a vnode does not handle %T", m))
		}
	}
	return t.out
}

// coordinate makes a new version of the key: what is stored and was not seen by
// the writer, and the new value beside it.
func (t *turn) coordinate(i int, m *Coordinate) {
	dk := DataKey(t.partition, m.Home, m.Key)
	head, err := t.head(dk)
	if err != nil {
		t.refuseRead(i, m.Key, err)
		return
	}
	if m.Seen.Counter(t.actor) > t.counter {
		t.refuse(i, CodeContext, "the context has seen writes that this vnode never made")
		return
	}
	if repeats(head.Object, m.Request) {
		t.repeat(i, dk, m, head.Object)
		return
	}
	if m.Write.Op != nil {
		t.operate(i, dk, m, head)
		return
	}
	if m.Guarded && !m.Seen.Descends(head.Clock) && !planted.Is(planted.Unguarded) {
		t.refuse(i, CodeModified, m.Key.String()+" holds something that the writer has not seen")
		return
	}
	props := m.props()
	seen := m.Seen
	if props.Latest() {
		seen = seen.Join(head.Clock) // the last write replaces all that is here, read or not
	}
	if planted.Is(planted.ContextIgnored) || planted.Is(planted.DeleteUnseen) && m.Write.Deleted && props.DataType != "" {
		seen = head.Clock
	}
	local := head.Object
	if survives(head.Object, seen) {
		if local, err = t.full(dk); err != nil {
			t.refuseRead(i, m.Key, err)
			return
		}
	}
	t.keep(i, dk, m, head, object.Write(local, seen, t.sibling(m, head.Object)))
}

// keep stores what a Coordinate has made of the object, unless that is past a limit,
// and answers.
func (t *turn) keep(i int, dk []byte, m *Coordinate, head stored, obj object.Object) {
	props := m.props()
	if len(obj.Siblings) > props.SiblingMax {
		t.refuse(i, CodeSiblings, fmt.Sprintf("%s would hold %d values; the limit is %d: read it, and write with the context of that read",
			m.Key, len(obj.Siblings), props.SiblingMax))
		return
	}
	enc := obj.Encode()
	if len(enc) > props.SizeMax {
		t.refuse(i, CodeTooLarge, fmt.Sprintf("%s would be %d bytes; the limit is %d", m.Key, len(enc), props.SizeMax))
		return
	}
	live := head.Shown(props).Live(t.wallMs)
	if err := t.write(dk, head, obj, enc, m.Write.Deleted); err != nil {
		t.refuseRead(i, m.Key, err)
		return
	}
	t.warn(m.Key, props, len(obj.Siblings), len(enc))
	t.out.Early = append(t.out.Early, Answer{i, &Minted{Object: enc}})
	t.stored(i, live)
}

// props are those of the bucket.
func (m *Coordinate) props() *kv.Props {
	if m.Props != nil {
		return m.Props
	}
	p := kv.DefaultProps(1, true)
	return &p
}

// warn tells of a key that grows towards a limit.
func (t *turn) warn(k kv.Key, p *kv.Props, siblings, size int) {
	if siblings >= p.SiblingWarn && siblings > 1 {
		t.note(NoteSiblings, k, fmt.Sprintf("it holds %d values that nothing replaces; writes are refused beyond %d", siblings, p.SiblingMax))
	}
	if size >= p.SizeWarn {
		t.note(NoteLarge, k, fmt.Sprintf("it has %d bytes; writes are refused beyond %d", size, p.SizeMax))
	}
}

// sibling mints the dot of a new version.
func (t *turn) sibling(m *Coordinate, head object.Object) object.Sibling {
	if t.counter++; t.counter == 1 {
		t.begins()
	}
	for _, s := range head.Siblings {
		t.stamp = max(t.stamp, s.Stamp)
	}
	t.stamp = t.stamp.Next(t.wallMs)
	return object.Sibling{
		Dot:     object.Dot{Actor: t.actor, Counter: t.counter},
		Stamp:   t.stamp,
		Request: m.Request,
		Expires: m.Write.Expires,
		Deleted: m.Write.Deleted,
		Indexed: m.Write.Indexed,
		Size:    len(m.Write.Body),
		Body:    m.Write.Body,
	}
}

// repeats reports whether the write of this id is among the siblings.
func repeats(head object.Object, id kv.RequestID) bool {
	if id == (kv.RequestID{}) {
		return false
	}
	for _, s := range head.Siblings {
		if s.Request == id {
			return true
		}
	}
	return false
}

// repeat answers a write that is here already: it is not made again, but sent
// out again.
func (t *turn) repeat(i int, dk []byte, m *Coordinate, head object.Object) {
	enc, err := t.bytes(dk)
	if err == nil {
		_, err = object.Decode(enc) // the head may come from the cache, and tells nothing of the values
	}
	if err != nil {
		t.refuseRead(i, m.Key, err)
		return
	}
	t.out.Early = append(t.out.Early, Answer{i, &Minted{Object: enc}})
	t.stored(i, head.Shown(m.props()).Live(t.wallMs))
}

// survives reports whether any sibling was not seen.
func survives(head object.Object, seen object.Vector) bool {
	for _, s := range head.Siblings {
		if !seen.Covers(s.Dot) {
			return true
		}
	}
	return false
}

// merge brings a version from elsewhere together with what is stored. All of
// it is checked first, since a replica that cannot be read is none.
func (t *turn) merge(i int, m *Store) {
	in, err := object.Decode(m.Object)
	if err != nil {
		t.refuse(i, CodeInvalid, fmt.Sprintf("the object of %s sent here: %v", m.Key, err))
		return
	}
	head, changed, err := t.absorb(m.Home, m.Key, m.Object, in)
	if err != nil {
		t.refuseRead(i, m.Key, err)
		return
	}
	live := head.Live(t.wallMs)
	if !changed && planted.Is(planted.AckNoopEarly) {
		t.out.Early = append(t.out.Early, Answer{i, &Stored{Live: live}})
		return
	}
	// A version that changed nothing is answered with the rest all the same: what
	// it repeats may not be durable yet.
	t.stored(i, live)
}

// absorb brings the object in, whose encoding is enc, together with what is
// stored. It returns the head of what was stored before, and whether in was
// anything new. An error means that nothing was changed.
func (t *turn) absorb(home ring.Partition, k kv.Key, enc []byte, in object.Object) (head stored, changed bool, err error) {
	if in.Clock.Counter(t.actor) > t.counter {
		t.forgot(k, "another replica knows writes of this vnode that it never made")
	}
	dk := DataKey(t.partition, home, k)
	changed = true
	head, err = t.head(dk)
	if err == nil {
		changed, err = t.join(dk, enc, in, head)
	}
	if isCorrupt(err) {
		if err := t.recover(dk, in); err != nil {
			return head, false, err
		}
		t.note(NoteCorrupt, k, err.Error())
		t.forgot(k, "a corrupt object was replaced")
		var old uint64
		if old, err = t.version(dk); err != nil {
			t.note(NoteTree, k, fmt.Sprintf("what the tree says of it cannot be read, so a sum is wrong from now on: %v", err))
		}
		t.unbury(dk) // whether it was dead cannot be told
		t.put(dk, stored{hash: old}, in, enc)
		t.lost()
		err = nil
	}
	return head, changed, err
}

// recover makes the index entries of an object that cannot be read those of the one
// that takes its place.
func (t *turn) recover(dk []byte, in object.Object) error {
	was, err := t.findEntries(dk, [][]byte{dk})
	if err == nil {
		t.replaceEntries(was[string(dk)], entriesOf(dk, in))
	}
	return err
}

// join stores the merge of in, whose encoding is enc, and what is stored. It
// reports whether that is anything new. If it is not, what is stored is
// looked at all the same: the sender may have found its values corrupt, which
// the head does not tell.
func (t *turn) join(dk, enc []byte, in object.Object, head stored) (changed bool, err error) {
	relation := object.Compare(in, head.Object)
	if relation == object.Newer || planted.Is(planted.StoreOverwrites) || t.mending && planted.Is(planted.MendOverwrites) {
		err = t.write(dk, head, in, enc, tombstone(in))
		return err == nil, err
	}
	local, err := t.full(dk)
	if err != nil || relation != object.Concurrent {
		return false, err
	}
	obj := object.Merge(local, in)
	err = t.write(dk, head, obj, obj.Encode(), tombstone(obj))
	return err == nil, err
}

// tombstone reports whether the object is nothing but tombstones.
func tombstone(o object.Object) bool {
	for _, s := range o.Siblings {
		if !s.Deleted {
			return false
		}
	}
	return true
}

// write puts the object into the engine batch, over the old one, with its index
// entries. An error means that nothing was changed.
func (t *turn) write(dk []byte, old stored, obj object.Object, enc []byte, deleted bool) error {
	if planted.Is(planted.DeleteErases) && deleted {
		return t.erase(dk, old)
	}
	if err := t.reindex(dk, old.Object, obj); err != nil {
		return err
	}
	t.put(dk, old, obj, enc)
	return nil
}

// put is write without the index entries.
func (t *turn) put(dk []byte, old stored, obj object.Object, enc []byte) {
	hash := old.hash
	if !t.treeless {
		hash = HashOf(enc)
	}
	t.batch.Set(dk, enc)
	if at, ok := obj.NextExpiry(); ok {
		t.batch.Set(expiryKey(t.partition, at, dk), nil)
	}
	t.plant(dk, old.hash, hash)
	t.tend(dk, old.Object, obj, enc)
	t.remember(dk, enc)
	if planted.Is(planted.HeadCacheStale) && t.heads.has(dk) {
		return
	}
	t.heads.put(dk, stored{headOf(obj), hash})
}

// remember keeps what was written for the rest of the batch, which the store
// does not show yet.
func (t *turn) remember(dk, enc []byte) {
	if t.left == 0 {
		return
	}
	if t.written == nil {
		t.written = make(map[string][]byte, t.left)
	}
	t.written[string(dk)] = enc
}

// stored answers a write that is in the batch.
func (t *turn) stored(i int, live bool) {
	a := Answer{i, &Stored{Live: live}}
	if planted.Is(planted.AckBeforeDurable) {
		t.out.Early = append(t.out.Early, a)
		return
	}
	t.out.Durable = append(t.out.Durable, a)
}

// head is the head of what is stored, or of what this batch will store. An
// object that is not there is the zero value.
func (t *turn) head(dk []byte) (stored, error) {
	if h, ok := t.heads.get(dk); ok {
		return h, nil
	}
	enc, err := t.bytes(dk)
	if err != nil || enc == nil {
		return stored{}, err
	}
	o, err := object.DecodeHead(enc)
	if err != nil {
		return stored{}, err
	}
	h := stored{o, HashOf(enc)}
	if object.Check(enc) != nil { // its values have rotted, and the tree knows what it was
		if h.hash, err = t.version(dk); err != nil {
			return stored{}, err
		}
	}
	t.heads.put(dk, h)
	return h, nil
}

// full is head with the bodies.
func (t *turn) full(dk []byte) (object.Object, error) {
	enc, err := t.bytes(dk)
	if err != nil || enc == nil {
		return object.Object{}, err
	}
	return object.Decode(enc)
}

// bytes is what is stored, or what this batch will store; nil: nothing.
func (t *turn) bytes(dk []byte) ([]byte, error) {
	if enc, ok := t.written[string(dk)]; ok {
		return enc, nil
	}
	if t.read.dk != nil && string(t.read.dk) == string(dk) {
		return t.read.enc, nil
	}
	enc, err := t.store.Get(dk)
	if errors.Is(err, storage.ErrNotFound) {
		enc, err = nil, nil
	}
	if err == nil {
		t.read = reading{dk, enc}
	}
	return enc, err
}

// forgot makes the vnode go on as a new actor, since its old one's dots have
// lost their meaning.
func (t *turn) forgot(k kv.Key, why string) {
	old := t.actor
	t.actor, t.counter = successor(old), 0
	t.note(NoteNewActor, k, fmt.Sprintf("%s: actor %s goes on as %s", why, old, t.actor))
}

// lost marks the vnode as one that lacks data. In the middle of a Fill it does so
// only if it is not marked already: the job that has marked it brings all that
// others have.
func (t *turn) lost() {
	if planted.Is(planted.RotForgiven) {
		return
	}
	if lacking, err := Lacking(t.store, t.partition); t.filling && lacking && err == nil {
		return
	}
	t.batch.Set(lackingKey(t.partition), nil)
	t.out.Lost = true
}

// successor is the actor that follows one whose vnode has forgotten something:
// as random as the first, by the mixing step of SplitMix64 (Steele, Lea and Flood, 2014).
func successor(a object.Actor) object.Actor {
	x := binary.BigEndian.Uint64(a[:]) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	binary.BigEndian.PutUint64(a[:], x^x>>31)
	return a
}

// headOf is the object without its bodies, so that it may be kept.
func headOf(o object.Object) object.Object {
	h := object.Object{Clock: o.Clock, Siblings: make([]object.Sibling, len(o.Siblings))}
	for i, s := range o.Siblings {
		s.Body = nil
		h.Siblings[i] = s
	}
	return h
}

func (t *turn) note(kind NoteKind, k kv.Key, text string) {
	t.out.Notes = append(t.out.Notes, Note{kind, k, text})
}

// refuse answers a command that has changed nothing.
func (t *turn) refuse(i int, c Code, text string) {
	t.out.Early = append(t.out.Early, Answer{i, &Refusal{Code: c, Text: text}})
}

// refuseRead answers a command whose object could not be read.
func (t *turn) refuseRead(i int, k kv.Key, err error) {
	code := CodeStorage
	if isCorrupt(err) {
		code = CodeCorrupt
		t.note(NoteCorrupt, k, err.Error())
	}
	t.refuse(i, code, fmt.Sprintf("%s: %v", k, err))
}

func isCorrupt(err error) bool {
	return errors.Is(err, object.ErrCorrupt) || errors.Is(err, storage.ErrCorrupt)
}

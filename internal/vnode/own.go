package vnode

import (
	"encoding/binary"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// A vnode keeps which actors it began to mint dots with in which life of its node.
//
// That is for a disk which turns out to be older than a reaping, as when a backup was put
// in its place. The reaping was agreed on when every member had shown its mark, and this node
// did so in a life that all know. Whatever it was that was reaped had been written before that.
// So what an actor has made that began in a later life is none of it. It may be all that
// there is of an acknowledged write, for until it meets others the node takes writes as
// ever. All else on that disk may be what others have forgotten.
//
// It goes by actors and not by dots, since a clock covers all of an actor up to a counter:
// one sibling of an actor cannot stay without the clock's claim on an earlier one
// that goes. An actor that goes on in the next life, after a clean shutdown, is of the life in which it began.
// None goes on when its disk was put back: the marker that lets it serves one start, of the
// directory that it was written into.
//
// The record is durable, and by lives, because a crash in the middle of the erasing begins
// another life, in which the rest is to be erased as the first part was.

// maxOwn bounds how many actors a vnode remembers so. Beyond it those of the earliest life go,
// and of one life any: what they have made is erased with the rest, if it ever comes to that. A vnode
// has so many only where it forgets things again and again, which is where it meets others.
const maxOwn = 1024

// owner is an actor, and the life in which it began.
type owner struct {
	life  uint64
	actor object.Actor
}

// ownKey says that an actor of vnode p has minted its first dot in a life of the node:
//
//	┌──────┬───────┬─────┬──────┬───────┐
//	│ 3    │ vnode │ "O" │ life │ actor │ → nothing
//	│ u8   │ u16   │ u8  │ u64  │ 8     │
//	└──────┴───────┴─────┴──────┴───────┘
func ownKey(p ring.Partition, o owner) []byte {
	return append(binary.BigEndian.AppendUint64(ownStart(p), o.life), o.actor[:]...)
}

func ownStart(p ring.Partition) []byte {
	b := make([]byte, 0, ownLen)
	return append(binary.BigEndian.AppendUint16(append(b, kindVnode), uint16(p)), 'O')
}

// ownLen is the length of an ownKey, which tells it from other keys of the kind.
const ownLen = vnodeLen + 1 + 8 + 8

// owners are those that the store knows of a vnode, the earliest life first. Of a part that cannot be read
// none are known.
func owners(store storage.Reader, p ring.Partition) ([]owner, error) {
	var all []owner
	start := ownStart(p)
	err := store.Scan(start, prefixEnd(start), func(key, _ []byte) bool {
		if len(key) == ownLen {
			o := owner{life: binary.BigEndian.Uint64(key[len(start):])}
			copy(o.actor[:], key[len(start)+8:])
			all = append(all, o)
		}
		return true
	})
	if isCorrupt(err) {
		err = nil
	}
	return all, err
}

// begins keeps that the actor mints its first dot now.
func (t *turn) begins() {
	t.batch.Set(ownKey(t.partition, owner{t.life, t.actor}), nil)
	known, err := owners(t.store, t.partition)
	if err != nil {
		return // the next actor looks again
	}
	for n := 0; n < len(known)-(maxOwn-1); n++ {
		t.batch.Delete(ownKey(t.partition, known[n]))
	}
}

// partakes says that the vnode reaps. So its node has taken part in that reaping, in this life
// or in one before, and what began in those before is of no use any more.
func (t *turn) partakes() {
	if t.partaken {
		return
	}
	known, err := owners(t.store, t.partition)
	if err != nil {
		return // the next reaping looks again
	}
	for _, o := range known {
		if o.life < t.life {
			t.batch.Delete(ownKey(t.partition, o))
		}
	}
	t.partaken = true
}

// mine are the actors that began after the life in which the node has taken part in a
// reaping; 0: in none, and then nobody knows what was written before it.
func (t *turn) mine(partook uint64) (map[object.Actor]bool, error) {
	if partook == 0 || planted.Is(planted.WipeTakesOwn) {
		return nil, nil
	}
	known, err := owners(t.store, t.partition)
	if err != nil {
		return nil, err
	}
	mine := make(map[object.Actor]bool)
	for _, o := range known {
		if o.life > partook {
			mine[o.actor] = true
		}
	}
	return mine, nil
}

// maxWiped bounds the bytes that one Wipe writes, to which the last object may add its own.
const maxWiped = maxPulled

// wipe erases a part of a home, but for what the vnode has made since. It goes by what the engine
// holds: meanwhile the node lets nothing else at its vnodes.
func (t *turn) wipe(i int, m *Wipe) {
	w := wiping{turn: t, done: Wiped{Last: m.After}}
	var err error
	if w.mine, err = t.mine(m.Partook); err == nil {
		err = w.page(m)
	}
	t.prune()
	if w.forgot {
		t.forgot(kv.Key{}, "what it held is older than what was reaped, and is erased")
	}
	if err != nil {
		t.out.Durable = append(t.out.Durable, Answer{i, &Failure{Code: CodeStorage, Text: err.Error()}})
		return
	}
	t.out.Durable = append(t.out.Durable, Answer{i, &w.done})
}

// wiping is the handling of one Wipe. A vnode that removes objects need not go on as a new actor here as
// long as no clock goes that claims something of the present one.
type wiping struct {
	*turn
	mine   map[object.Actor]bool
	size   int  // bytes written
	forgot bool // one is gone
	done   Wiped
}

func (w *wiping) spares(a object.Actor) bool { return w.mine[a] }

// page does the next objects of the home.
func (w *wiping) page(m *Wipe) error {
	keys, more, err := w.keys(m)
	if err != nil {
		return err
	}
	w.done.More = more
	for n, dk := range keys {
		if err := w.object(dk); err != nil {
			return err
		}
		w.done.Last = dk
		if w.size >= maxWiped && n < len(keys)-1 {
			w.done.More = true
			break
		}
	}
	return nil
}

// keys are the storage keys of the next objects, and whether there may be others behind them. A part that the
// engine cannot read is passed over: nothing can come back from there.
func (w *wiping) keys(m *Wipe) (keys [][]byte, more bool, err error) {
	from, end := homeStart(w.partition, m.Home), homeEnd(w.partition, m.Home)
	if len(m.After) > 0 {
		from = after(m.After)
	}
	limit := min(max(m.Limit, 1), maxLooked)
	look := func(key, _ []byte) bool {
		if more = len(keys) >= limit; !more {
			keys = append(keys, append([]byte(nil), key...))
		}
		return !more
	}
	err = w.store.Scan(from, end, look)
	if isCorrupt(err) && len(keys) == 0 {
		var next []byte
		if next, err = past(w.store, from, end); err == nil && next != nil {
			err = w.store.Scan(next, end, look)
		}
	}
	if isCorrupt(err) {
		return keys, len(keys) > 0, nil
	}
	return keys, more, err
}

// object does one of them.
func (w *wiping) object(dk []byte) error {
	k, ok := keyOf(dk)
	if !ok {
		w.batch.Delete(dk) // nobody could ever ask for it
		w.done.Gone++
		return nil
	}
	head, err := w.head(dk)
	if err == nil {
		err = w.sift(dk, head)
	}
	if !isCorrupt(err) {
		return err
	}
	w.note(NoteCorrupt, k, err.Error())
	if err := w.recover(dk, object.Object{}); err != nil {
		return err
	}
	w.strike(dk)
	w.done.Gone++
	w.forgot = w.forgot || w.counter > 0
	return nil
}

// sift leaves of an object what is to stay.
func (w *wiping) sift(dk []byte, head stored) error {
	kept, changed := head.Only(w.spares)
	if !changed && len(head.Siblings) > 0 {
		w.done.Kept++
		return nil
	}
	if len(kept.Siblings) == 0 {
		if err := w.erase(dk, head); err != nil {
			return err
		}
		w.done.Gone++
		w.forgot = w.forgot || head.Clock.Counter(w.actor) > 0
		return nil
	}
	full, err := w.full(dk)
	if err != nil {
		return err
	}
	kept, _ = full.Only(w.spares)
	enc := kept.Encode()
	if err := w.write(dk, head, kept, enc, tombstone(kept)); err != nil {
		return err
	}
	w.size += len(enc)
	w.done.Kept++
	return nil
}

// strike removes an object that cannot be read, with what the tree and the graves say of it.
func (t *turn) strike(dk []byte) {
	version, err := t.version(dk)
	if err != nil {
		k, _ := keyOf(dk)
		t.note(NoteTree, k, fmt.Sprintf("what the tree says of it cannot be read, so a sum is wrong from now on: %v", err))
	}
	t.batch.Delete(dk)
	t.unbury(dk)
	t.plant(dk, version, 0)
	t.remember(dk, nil)
	t.heads.put(dk, stored{})
}

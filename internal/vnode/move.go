package vnode

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// HashOf is the Hash of an Item whose object has this encoding. It is never 0.
// An object is dropped because somebody else holds one of this hash, so it is
// cut from a hash for which no one can make two objects meet at will.
func HashOf(encoding []byte) uint64 {
	sum := sha256.Sum256(encoding)
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// deliver takes what another vnode hands over. The answer waits until all of it
// is durable, also what was here before: the sender will forget it.
func (t *turn) deliver(i int, m *Deliver) {
	t.mending = m.Placed
	defer func() { t.mending = false }()
	d := &Delivered{Results: make([]ItemResult, len(m.Items))}
	after := t.left
	for n := range m.Items {
		t.left = after + len(m.Items) - n - 1
		d.Results[n], _ = t.item(m.Home, &m.Items[n])
	}
	t.out.Durable = append(t.out.Durable, Answer{i, d})
}

// fill takes a page that this vnode has asked for. How far the job is, it keeps
// only if nothing of the page is missing because the engine could not be read.
func (t *turn) fill(i int, m *Fill) {
	d := &Delivered{Results: make([]ItemResult, len(m.Items))}
	after := t.left
	t.filling = true
	defer func() { t.filling = false }()
	var broken error
	for n := range m.Items {
		t.left = after + len(m.Items) - n - 1
		var err error
		if d.Results[n], err = t.item(m.Home, &m.Items[n]); err != nil {
			broken = err
		}
	}
	if broken != nil {
		t.out.Durable = append(t.out.Durable, Answer{i, &Failure{Code: CodeStorage, Text: broken.Error()}})
		return
	}
	ck := cursorKey(t.partition, m.Home, m.Job)
	if m.Cursor == nil {
		t.batch.Delete(ck)
	} else {
		t.batch.Set(ck, m.Cursor)
	}
	t.out.Durable = append(t.out.Durable, Answer{i, d})
}

// item takes one object, or says whether it should be sent. The error is that
// of an engine that cannot be read, which a later try may mend.
func (t *turn) item(home ring.Partition, it *Item) (ItemResult, error) {
	if it.Object == nil {
		return t.offered(home, it)
	}
	in, err := object.Decode(it.Object)
	if err != nil {
		t.note(NoteBadItem, it.Key, err.Error())
		return ItemBad, nil
	}
	if _, _, err := t.absorb(home, it.Key, it.Object, in); err != nil {
		t.note(NoteUnread, it.Key, err.Error())
		return ItemBad, err
	}
	return ItemHeld, nil
}

// offered says whether this very version is here. Of any other one the hash does
// not tell which is newer, so the object must come. One that cannot be read is
// none.
func (t *turn) offered(home ring.Partition, it *Item) (ItemResult, error) {
	enc, err := t.bytes(DataKey(t.partition, home, it.Key))
	switch {
	case isCorrupt(err):
		t.note(NoteCorrupt, it.Key, err.Error())
		return ItemWanted, nil
	case err != nil:
		t.note(NoteUnread, it.Key, err.Error())
		return ItemBad, err
	case enc == nil || HashOf(enc) != it.Hash:
		return ItemWanted, nil
	}
	return ItemHeld, nil
}

// drop forgets objects that others hold. A vnode that has issued dots
// goes on as a new actor then: a clock of its old one would claim to contain
// what is not here any more.
func (t *turn) drop(i int, m *Drop) {
	d, last := t.discard(m.Home, m.Items, planted.DropChanged)
	if d.Gone > 0 && t.counter > 0 && !planted.Is(planted.DropKeepsActor) {
		t.forgot(last, "objects were handed over and dropped")
	}
	t.out.Durable = append(t.out.Durable, Answer{i, d})
}

// erase removes the object old in the engine batch, with its index entries, and its grave.
// An error means that nothing was changed.
func (t *turn) erase(dk []byte, old stored) error {
	if err := t.reindex(dk, old.Object, object.Object{}); err != nil {
		return err
	}
	t.batch.Delete(dk)
	if dead(old.Object) {
		t.unbury(dk)
	}
	if !planted.Is(planted.TreeKeepsDropped) {
		t.plant(dk, old.hash, 0)
	}
	t.remember(dk, nil)
	t.heads.put(dk, stored{})
	return nil
}

func (t *turn) setLacking(i int, m *SetLacking) {
	if !m.On {
		t.batch.Delete(lackingKey(t.partition))
		t.stored(i, false)
		return
	}
	MarkLacking(t.batch, t.partition)
	if t.counter > 0 {
		t.forgot(kv.Key{}, "it has lost data")
	}
	for _, dk := range m.Rotten {
		t.letGo(dk)
	}
	t.prune()
	t.stored(i, false)
}

// letGo removes a dead object that cannot be read from a vnode that lacks data. If others
// still have it, it comes with the rest; if it was reaped there, nothing would ever take its
// place. One that was alive stays: if nobody has it any more, who asks for it is to hear that it is lost.
func (t *turn) letGo(dk []byte) {
	k, _ := keyOf(dk)
	_, err := t.store.Get(graveKey(dk))
	if err == nil {
		var enc []byte
		if enc, err = t.bytes(dk); err == nil {
			err = object.Check(enc)
		}
	}
	switch {
	case err == nil, errors.Is(err, storage.ErrNotFound):
		return // it was alive, or another version has taken its place meanwhile
	case !isCorrupt(err):
		t.note(NoteUnread, k, err.Error())
		return // the next look finds it again
	}
	t.strike(dk)
}

// discard erases the objects that are still of the versions given, and tells the last of
// them. Bug is the planted one that erases the others too.
func (t *turn) discard(home ring.Partition, items []Item, bug planted.Bug) (d *Dropped, last kv.Key) {
	d = &Dropped{}
	after := t.left
	for n := range items {
		t.left = after + len(items) - n - 1
		it := &items[n]
		dk := DataKey(t.partition, home, it.Key)
		enc, err := t.bytes(dk)
		if err != nil {
			t.note(NoteUnread, it.Key, err.Error())
		}
		switch {
		case err != nil || enc != nil && HashOf(enc) != it.Hash && !planted.Is(bug):
			d.Kept++
		case enc != nil:
			head, err := object.DecodeHead(enc)
			if err == nil {
				err = t.erase(dk, stored{head, HashOf(enc)})
			}
			if err != nil {
				t.note(NoteUnread, it.Key, err.Error())
				d.Kept++
				continue
			}
			d.Gone++
			last = it.Key
		}
	}
	t.prune()
	return d, last
}

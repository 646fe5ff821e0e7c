package vnode

import (
	"bytes"
	"encoding/binary"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/storage"
)

// sweep gives back the bytes of values that have expired. What is left is the
// tombstone that the object has been, for every reader, since that instant:
// with the same clock and dots, so this vnode forgets nothing that it has
// issued. The entries that named the objects go in the same engine batch.
//
// An object that cannot be read is left to those who mend it. Its entry goes all
// the same: who writes it anew, writes that anew too.
func (t *turn) sweep(i int, m *Sweep) {
	due, more, err := t.due(m)
	if err != nil {
		t.out.Early = append(t.out.Early, Answer{i, readFailure(err)})
		return
	}
	before := m.Before
	if planted.Is(planted.ExpiryHasty) {
		before = t.wallMs
	}
	after, gone := t.left, 0
	for n, entry := range due {
		t.left = after + len(due) - n - 1
		did, err := t.expire(expiring(entry), before)
		if err != nil {
			k, _ := keyOf(expiring(entry))
			if !isCorrupt(err) {
				t.note(NoteUnread, k, err.Error())
				t.out.Durable = append(t.out.Durable, Answer{i, readFailure(err)})
				return
			}
			t.note(NoteCorrupt, k, err.Error())
		}
		t.batch.Delete(entry)
		if did {
			gone++
		}
	}
	t.out.Durable = append(t.out.Durable, Answer{i, &Swept{Gone: gone, More: more}})
}

// due are the entries of objects that have a value to be swept, and whether there
// are more of them than may be looked at.
func (t *turn) due(m *Sweep) (entries [][]byte, more bool, err error) {
	until := m.Before
	if planted.Is(planted.ExpiryHasty) {
		until = t.wallMs
	}
	err = t.store.Scan(expiryStart(t.partition, 0), expiryStart(t.partition, until+1), func(key, _ []byte) bool {
		if len(entries) >= max(m.Limit, 1) {
			more = true
			return false
		}
		entries = append(entries, bytes.Clone(key))
		return true
	})
	return entries, more, err
}

// expire writes the object without the bytes of what has expired, and reports
// whether there were any.
func (t *turn) expire(dk []byte, before int64) (bool, error) {
	enc, err := t.bytes(dk)
	if err != nil || enc == nil {
		return false, err
	}
	whole, err := object.Decode(enc)
	if err != nil {
		return false, err
	}
	obj, changed := whole.Expire(before)
	if !changed {
		return false, nil
	}
	if planted.Is(planted.ExpiryErases) {
		return true, t.erase(dk, stored{whole, HashOf(enc)})
	}
	err = t.write(dk, stored{whole, HashOf(enc)}, obj, obj.Encode(), false)
	return err == nil, err
}

// Due are the partitions whose vnodes have something to sweep before an instant,
// in Unix milliseconds, in order. A range that cannot be read has none.
func Due(store storage.Reader, beforeMs int64) ([]ring.Partition, error) {
	var all []ring.Partition
	end := []byte{kindExpiry + 1}
	for from := []byte{kindExpiry}; ; {
		entry, err := first(store, from, end)
		if err != nil || entry == nil {
			return all, err
		}
		p := ring.Partition(binary.BigEndian.Uint16(entry[1:]))
		if int64(binary.BigEndian.Uint64(entry[vnodeLen:])) <= beforeMs {
			all = append(all, p)
		}
		if from = expiryEnd(p); from == nil {
			return all, nil
		}
	}
}

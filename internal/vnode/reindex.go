package vnode

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// entrySum is what an index entry comes to.
func entrySum(e indexEntry) uint64 {
	b := make([]byte, 0, 4+len(e.key)+len(e.value))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.key)))
	sum := sha256.Sum256(append(append(b, e.key...), e.value...))
	return binary.BigEndian.Uint64(sum[:])
}

// verifyIndex names the segments of a home in which the index entries are not those
// of the objects, of which all is found. Of segments with an object that cannot be
// read, nobody can tell.
func (all findings) verifyIndex(store storage.Reader, p, home ring.Partition) ([]Segment, error) {
	err := eachIndexEntry(store, p, home, func(in Segment, _ []byte, e indexEntry) { all.of(in).indexed ^= entrySum(e) })
	if err != nil {
		return nil, err
	}
	var wrong []Segment
	for _, s := range slices.Sorted(maps.Keys(all)) {
		if f := all[s]; f.index != f.indexed && !f.unread && len(wrong) < maxWrongSegments {
			wrong = append(wrong, s)
		}
	}
	return wrong, nil
}

// eachIndexEntry calls fn for each entry of a home, with the segment of its object
// and the storage key of that. What it is called with is valid during the call only.
func eachIndexEntry(store storage.Reader, p, home ring.Partition, fn func(in Segment, dk []byte, e indexEntry)) error {
	from := homeStart(p, home)
	from[0] = kindIndex
	return store.Scan(from, prefixEnd(from), func(key, value []byte) bool {
		if dk, _, ok := indexed(key); ok {
			fn(hashKey(dk[homeLen:]).segment, dk, indexEntry{key, value})
		}
		return true
	})
}

// wrongIndexed are the keys in some segments whose index entries are not those of
// the objects.
func wrongIndexed(store storage.Reader, p, home ring.Partition, in []Segment) ([]kv.Key, error) {
	differ := make(map[string]uint64)
	err := eachObject(store, p, home, func(k keyHash, dk, value []byte, _ uint64) {
		if _, wrong := slices.BinarySearch(in, k.segment); !wrong {
			return
		}
		o, err := object.Decode(value)
		if err != nil {
			return
		}
		for _, e := range entriesOf(dk, o) {
			differ[string(dk)] ^= entrySum(e)
		}
	})
	if err != nil {
		return nil, err
	}
	err = eachIndexEntry(store, p, home, func(s Segment, dk []byte, e indexEntry) {
		if _, wrong := slices.BinarySearch(in, s); wrong {
			differ[string(dk)] ^= entrySum(e)
		}
	})
	var wrong []string
	for dk, sum := range differ { //det:ok sorted below
		if sum != 0 {
			wrong = append(wrong, dk)
		}
	}
	slices.Sort(wrong)
	var keys []kv.Key
	for _, dk := range wrong[:min(len(wrong), maxWrongKeys)] {
		if k, ok := keyOf([]byte(dk)); ok {
			keys = append(keys, k)
		}
	}
	return keys, err
}

// reindexAll sets the index entries of some objects right, and returns how many were
// wrong. Keys of one bucket that follow each other are looked for together.
func (t *turn) reindexAll(home ring.Partition, keys []kv.Key) (wrong int, err error) {
	for len(keys) > 0 {
		n := 1
		for n < len(keys) && keys[n].Type == keys[0].Type && keys[n].Bucket == keys[0].Bucket {
			n++
		}
		did, failed := t.reindexBucket(home, keys[:n])
		wrong += did
		err = errors.Join(err, failed)
		keys = keys[n:]
	}
	return wrong, err
}

func (t *turn) reindexBucket(home ring.Partition, keys []kv.Key) (wrong int, err error) {
	dks := make([][]byte, len(keys))
	for i, k := range keys {
		dks[i] = DataKey(t.partition, home, k)
	}
	there, err := t.findEntries(dks[0], dks)
	if err != nil {
		return 0, err
	}
	for _, dk := range dks {
		o, failed := t.full(dk)
		if failed != nil {
			if !isCorrupt(failed) {
				err = errors.Join(err, failed)
			}
			continue // what is to be there, nobody can tell
		}
		before := len(t.batch.Ops)
		t.replaceEntries(there[string(dk)], entriesOf(dk, o))
		wrong += len(t.batch.Ops) - before
	}
	return wrong, err
}

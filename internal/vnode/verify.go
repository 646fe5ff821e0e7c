package vnode

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// maxWrong bounds how many segments of a tree, and how many keys, one Verify names.
// What is wrong besides, the next one finds.
const (
	maxWrongSegments = 64
	maxWrongKeys     = 4096
)

// Tree names the tree of a home in a vnode.
type Tree struct {
	Partition, Home ring.Partition
}

// Trees are all trees that should be in the store, for the objects there, or are
// there, in order.
func Trees(store storage.Reader) ([]Tree, error) {
	var all []Tree
	for _, kind := range []byte{kindObject, kindSum, kindEntry, kindIndex} {
		end := prefixEnd([]byte{kind})
		for from := []byte{kind}; ; {
			key, err := first(store, from, end)
			if err != nil {
				return all, err
			}
			if len(key) < homeLen {
				break
			}
			p, home := placeOf(key)
			all = append(all, Tree{p, home})
			if from = prefixEnd(key[:homeLen]); from == nil {
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b Tree) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Home, b.Home))
	})
	return slices.Compact(all), nil
}

// Verdict is what came of comparing the tree of a home with the objects.
type Verdict struct {
	Objects int
	Sum     uint64 // the root, as the objects say

	// What a Retree is to set right.
	Keys     []kv.Key
	Segments []Segment
	Indexed  []kv.Key // whose index entries are wrong
}

// Right reports whether nothing is wrong.
func (v *Verdict) Right() bool { return len(v.Segments) == 0 && len(v.Indexed) == 0 }

// Verify computes the tree and the index entries of a home anew from the objects, and compares. The store
// must be one moment of the engine.
func Verify(store storage.Reader, p, home ring.Partition) (Verdict, error) {
	var v Verdict
	found := make(findings)
	err := eachObject(store, p, home, func(k keyHash, dk, value []byte, version uint64) {
		v.Objects++
		f := found.of(k.segment)
		f.objects ^= k.term(version)
		head, err := object.DecodeHead(value)
		if err == nil && head.Indexed() {
			head, err = object.Decode(value)
		}
		if err != nil {
			f.unread = true
			return
		}
		for _, e := range entriesOf(dk, head) {
			f.index ^= entrySum(e)
		}
	})
	if err != nil {
		return v, err
	}
	err = eachEntry(store, p, home, 0, segments, func(s Segment, rest, value []byte) {
		f, k := found.of(s), hashKey(rest)
		f.entries ^= k.term(storage.Word(value))
		if k.segment != s || storage.Word(value) == 0 {
			f.misfiled = true
		}
	})
	if err != nil {
		return v, err
	}
	err = store.Scan(sumKey(p, home, 0), sumKey(p, home, segments), func(key, value []byte) bool {
		found.of(segmentOf(key)).sum = storage.Word(value)
		return true
	})
	if err != nil {
		return v, err
	}
	for _, s := range slices.Sorted(maps.Keys(found)) {
		f := found[s]
		v.Sum ^= f.objects
		if (f.objects != f.entries || f.objects != f.sum || f.misfiled) && len(v.Segments) < maxWrongSegments {
			v.Segments = append(v.Segments, s)
		}
	}
	if len(v.Segments) > 0 {
		v.Keys, err = wrongKeys(store, p, home, v.Segments)
	}
	wrong, failed := found.verifyIndex(store, p, home)
	if err = errors.Join(err, failed); err == nil && len(wrong) > 0 {
		v.Indexed, err = wrongIndexed(store, p, home, wrong)
	}
	return v, err
}

// finding is what was found of a segment: exclusive ors of what its objects, and the entries
// of them, come to.
type finding struct {
	objects, entries uint64
	sum              uint64 // as it is kept
	index, indexed   uint64 // the index entries that the objects have, and those that are there
	misfiled         bool   // some entry is not of this segment
	unread           bool   // some object cannot be read
}

// findings are those of the segments of a home in which there is anything.
type findings map[Segment]*finding

func (all findings) of(s Segment) *finding {
	f := all[s]
	if f == nil {
		f = new(finding)
		all[s] = f
	}
	return f
}

// wrongKeys are the keys in some segments whose entries are not what is stored.
func wrongKeys(store storage.Reader, p, home ring.Partition, in []Segment) ([]kv.Key, error) {
	right := make(map[string]uint64)
	err := eachObject(store, p, home, func(k keyHash, dk, _ []byte, version uint64) {
		if _, wrong := slices.BinarySearch(in, k.segment); wrong {
			right[string(dk[homeLen:])] = version
		}
	})
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, s := range in {
		err := eachEntry(store, p, home, s, s+1, func(s Segment, rest, value []byte) {
			if hashKey(rest).segment != s {
				return // a Retree of the segment removes it
			}
			if right[string(rest)] != storage.Word(value) {
				wrong = append(wrong, string(rest))
			}
			delete(right, string(rest))
		})
		if err != nil {
			return nil, err
		}
	}
	for rest := range right { //det:ok sorted below
		wrong = append(wrong, rest)
	}
	slices.Sort(wrong)
	var keys []kv.Key
	for _, rest := range wrong[:min(len(wrong), maxWrongKeys)] {
		if k, ok := parseKey([]byte(rest)); ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// eachObject calls fn for each object with its storage key and its version. Of one that has rotted the
// tree still knows what it was; it is for those to mend who look for damage.
func eachObject(store storage.Reader, p, home ring.Partition, fn func(k keyHash, dk, value []byte, version uint64)) error {
	var failed error
	err := store.Scan(homeStart(p, home), homeEnd(p, home), func(key, value []byte) bool {
		k, version := hashKey(key[homeLen:]), HashOf(value)
		if object.Check(value) != nil {
			version, failed = wordAt(store, entryKey(p, home, k.segment, key[homeLen:]))
		}
		fn(k, key, value, version)
		return failed == nil
	})
	return errors.Join(err, failed)
}

func eachEntry(store storage.Reader, p, home ring.Partition, from, to Segment, fn func(s Segment, rest, value []byte)) error {
	return store.Scan(entryKey(p, home, from, nil), entryKey(p, home, to, nil), func(key, value []byte) bool {
		fn(segmentOf(key), key[entryLen:], value)
		return true
	})
}

// retree sets right what a Verify has found. That may be out of date by now: each
// entry is compared with the object as it is in this turn.
func (t *turn) retree(i int, m *Retree) {
	d := &Retreed{}
	for _, k := range m.Keys {
		if err := t.reenter(m.Home, k, d); err != nil {
			t.note(NoteUnread, k, err.Error())
		}
	}
	for _, s := range m.Segments {
		if s >= segments {
			continue
		}
		if err := t.resum(m.Home, s, d); err != nil {
			t.note(NoteTree, kv.Key{}, fmt.Sprintf("segment %d of home %d cannot be read: %v", s, m.Home, err))
		}
	}
	var err error
	if d.Indexed, err = t.reindexAll(m.Home, m.Indexed); err != nil {
		t.note(NoteIndex, kv.Key{}, err.Error())
	}
	if d.Indexed > 0 {
		t.note(NoteIndex, kv.Key{}, fmt.Sprintf("of home %d %d index entries were wrong, and are set right", m.Home, d.Indexed))
	}
	if d.Entries+d.Sums > 0 {
		t.note(NoteTree, kv.Key{}, fmt.Sprintf("of the tree of home %d %d entries and %d sums were wrong, and are set right", m.Home, d.Entries, d.Sums))
	}
	t.out.Durable = append(t.out.Durable, Answer{i, d})
}

// reenter sets an entry right. The sum of its segment is for resum.
func (t *turn) reenter(home ring.Partition, k kv.Key, d *Retreed) error {
	dk := DataKey(t.partition, home, k)
	enc, err := t.bytes(dk)
	if err != nil {
		return err
	}
	right := uint64(0)
	if enc != nil {
		if object.Check(enc) != nil {
			return nil // what it was, only the entry knows
		}
		right = HashOf(enc)
	}
	entry := entryKey(t.partition, home, hashKey(dk[homeLen:]).segment, dk[homeLen:])
	now := t.pending(entry)
	word, ok := now[string(entry)]
	if !ok {
		if word, err = wordAt(t.store, entry); err != nil {
			return err
		}
	}
	switch {
	case word == right:
		return nil
	case right == 0:
		t.batch.Delete(entry)
	default:
		t.batch.Set(entry, binary.BigEndian.AppendUint64(nil, right))
	}
	d.Entries++
	return nil
}

// resum sets the sum of a segment to that of its entries, without those that do not
// belong there.
func (t *turn) resum(home ring.Partition, s Segment, d *Retreed) error {
	start := entryKey(t.partition, home, s, nil)
	entries := t.pending(start)
	var foreign [][]byte
	err := t.store.Scan(start, prefixEnd(start), func(key, value []byte) bool {
		word, ok := entries[string(key)]
		if !ok {
			word = storage.Word(value)
		}
		entries[string(key)] = word
		if hashKey(key[entryLen:]).segment != s {
			foreign = append(foreign, slices.Clone(key))
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, key := range foreign {
		t.batch.Delete(key)
		delete(entries, string(key))
		d.Entries++
	}
	right := uint64(0)
	for key, word := range entries { //det:ok a sum
		right ^= hashKey([]byte(key)[entryLen:]).term(word)
	}
	key := sumKey(t.partition, home, s)
	was, err := wordAt(t.store, key)
	if err != nil {
		return err
	}
	for _, op := range t.batch.Ops[t.from:] {
		switch {
		case string(op.Key) != string(key):
		case op.Delete:
			was = 0
		default:
			was ^= storage.Word(op.Value)
		}
	}
	if was == right {
		return nil
	}
	t.batch.Merge(key, was^right)
	d.Sums++
	return nil
}

// pending are the entries with this prefix that this turn has changed, with their
// versions; 0 is one that it has removed.
func (t *turn) pending(prefix []byte) map[string]uint64 {
	changed := make(map[string]uint64)
	for _, op := range t.batch.Ops[t.from:] {
		if len(op.Key) < len(prefix) || string(op.Key[:len(prefix)]) != string(prefix) {
			continue
		}
		if op.Delete {
			changed[string(op.Key)] = 0
		} else {
			changed[string(op.Key)] = storage.Word(op.Value)
		}
	}
	return changed
}

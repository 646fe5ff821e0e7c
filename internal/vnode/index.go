package vnode

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// A secondary index is an entry in the engine for each term that the values of an
// object have under a field. The entries of an object are a function of the object
// alone, and change in the batch that changes it, so that a crash keeps both or
// neither. Whether a value has expired is judged when a query reads the entry; the
// entry goes when the bytes of the value do.
//
// To remove the entries of what is replaced, one must know them. The head of an object
// tells whether it has any, and only then its values are read. Where they cannot be
// read, the entries are looked for.

// indexEntry is one entry as it is stored.
type indexEntry struct {
	key, value []byte
}

// indexPrefix is what the entries of a field of a bucket begin with; dk is the
// storage key of any object of the bucket, or its bucketPrefix.
//
//	┌──────┬───────┬──────┬──────────┬──────┬────────────┬────────┬───────────┬───────┬──────┬──────┐
//	│ 8    │ vnode │ home │ len type │ type │ len bucket │ bucket │ len field │ field │ term │ name │ → when it ends
//	│ u8   │ u16   │ u16  │ u8       │      │ u16        │        │ u16       │       │      │      │
//	└──────┴───────┴──────┴──────────┴──────┴────────────┴────────┴───────────┴───────┴──────┴──────┘
//
// The term of a field of numbers is 8 bytes, with the sign turned over. Of any other one
// each zero byte is 00 ff, and after it comes 00 01: so terms sort as their bytes do, and
// none is the beginning of another.
func indexPrefix(dk []byte, field string) []byte {
	bucket := bucketPart(dk)
	return appendField(make([]byte, 0, len(bucket)+2+len(field)+64), bucket, field)
}

// appendField appends an indexPrefix; bucket is the bucketPart of a storage key.
func appendField(dst, bucket []byte, field string) []byte {
	dst = append(append(dst, kindIndex), bucket[1:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(field)))
	return append(dst, field...)
}

// bucketPart is what all storage keys of the objects of a bucket begin with.
func bucketPart(dk []byte) []byte {
	at := homeLen + 1 + int(dk[homeLen])
	return dk[:at+2+int(binary.BigEndian.Uint16(dk[at:]))]
}

func numeric(field string) bool { return strings.HasSuffix(field, "_int") }

// appendTerm appends a term of a field, as kv.SortIndexTerm gives it.
func appendTerm(dst []byte, field, term string) []byte {
	if numeric(field) {
		return append(dst, term...)
	}
	for i := range len(term) {
		if dst = append(dst, term[i]); term[i] == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 1)
}

// cutTerm parts a term from what follows it.
func cutTerm(b []byte, field string) (term string, rest []byte, ok bool) {
	if numeric(field) {
		first, rest, ok := cut(b, 8)
		return string(first), rest, ok
	}
	var t []byte
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 || i+1 >= len(b) {
			return "", nil, false
		}
		t = append(t, b[:i]...)
		switch b[i+1] {
		case 1:
			return string(t), b[i+2:], true
		case 0xff:
			t = append(t, 0)
		default:
			return "", nil, false
		}
		b = b[i+2:]
	}
}

// indexed is the name of the object that an entry is of, and the storage key of that.
func indexed(key []byte) (dk []byte, name string, ok bool) {
	if len(key) < homeLen+1 || len(key) < homeLen+1+int(key[homeLen])+2 {
		return nil, "", false
	}
	at := homeLen + 1 + int(key[homeLen])
	at += 2 + int(binary.BigEndian.Uint16(key[at:]))
	if len(key) < at+2 {
		return nil, "", false
	}
	field, rest, ok := cut(key[at+2:], int(binary.BigEndian.Uint16(key[at:])))
	if !ok {
		return nil, "", false
	}
	_, last, ok := cutTerm(rest, string(field))
	if !ok {
		return nil, "", false
	}
	dk = append(append(make([]byte, 0, at+len(last)), key[:at]...), last...)
	dk[0] = kindObject
	return dk, string(last), true
}

// The value of an entry is empty where the value that has it never expires, and is the
// object's last one. Otherwise it is
//
//	┌───────┬───────┬────────────┐
//	│ flags │ until │ last until │   flags: 1: the last value has the entry
//	│ u8    │ u64   │ u64        │   Unix milliseconds; 0: never
//	└───────┴───────┴────────────┘
const (
	flagLast  = 1
	untilSize = 1 + 8 + 8
)

func untilOf(t *object.Term) []byte {
	if t.Last && t.LastUntil == 0 && t.Until == 0 {
		return nil
	}
	b := make([]byte, 1, untilSize)
	if t.Last {
		b[0] = flagLast
	}
	b = binary.BigEndian.AppendUint64(b, uint64(t.Until))
	return binary.BigEndian.AppendUint64(b, uint64(t.LastUntil))
}

// shown reports whether an entry is of a value that is seen at an instant; latest is
// for a bucket in which the last write wins.
func shown(value []byte, atMs int64, latest bool) bool {
	if len(value) != untilSize {
		return len(value) == 0
	}
	until := int64(binary.BigEndian.Uint64(value[1:]))
	if latest {
		if value[0]&flagLast == 0 {
			return false
		}
		until = int64(binary.BigEndian.Uint64(value[1+8:]))
	}
	return until == 0 || until > atMs
}

// entriesOf are the entries of the object at dk, in order.
func entriesOf(dk []byte, o object.Object) []indexEntry {
	terms := o.Terms()
	if len(terms) == 0 {
		return nil
	}
	bucket := bucketPart(dk)
	name, size := dk[len(bucket):], 0
	for i := range terms {
		size += len(dk) + len(terms[i].Field) + len(terms[i].Term) + 2 + 2
	}
	keys := make([]byte, 0, size) // of all; a term with zero bytes may need more
	all := make([]indexEntry, len(terms))
	for i := range terms {
		t, start := &terms[i], len(keys)
		keys = append(appendTerm(appendField(keys, bucket, t.Field), t.Field, t.Term), name...)
		all[i] = indexEntry{keys[start:len(keys):len(keys)], untilOf(t)}
	}
	slices.SortFunc(all, func(a, b indexEntry) int { return bytes.Compare(a.key, b.key) })
	return all
}

// reindex makes the entries of the object at dk those of now, and no longer those of
// old, which needs no bodies. An error means that nothing was changed.
func (t *turn) reindex(dk []byte, old, now object.Object) error {
	if !old.Indexed() && !now.Indexed() {
		return nil
	}
	var was []indexEntry
	if old.Indexed() && !(planted.Is(planted.IndexKept) && tombstone(now)) {
		var err error
		if was, err = t.entries(dk); err != nil {
			return err
		}
	}
	if planted.Is(planted.IndexOneSided) && !t.minting {
		return nil
	}
	t.replaceEntries(was, entriesOf(dk, now))
	return nil
}

// entries are those of what is stored at dk. What cannot be read has those that are
// there.
func (t *turn) entries(dk []byte) ([]indexEntry, error) {
	o, err := t.full(dk)
	if isCorrupt(err) {
		found, err := t.findEntries(dk, [][]byte{dk})
		return found[string(dk)], err
	}
	return entriesOf(dk, o), err
}

// replaceEntries changes what differs.
func (t *turn) replaceEntries(was, now []indexEntry) {
	for len(was)+len(now) > 0 {
		c := 0
		switch {
		case len(was) == 0:
			c = 1
		case len(now) == 0:
			c = -1
		default:
			c = bytes.Compare(was[0].key, now[0].key)
		}
		if c < 0 {
			t.batch.Delete(was[0].key)
		}
		if c > 0 || c == 0 && !bytes.Equal(was[0].value, now[0].value) {
			t.batch.Set(now[0].key, now[0].value)
		}
		if c <= 0 {
			was = was[1:]
		}
		if c >= 0 {
			now = now[1:]
		}
	}
}

// findEntries looks for the entries of objects of one bucket, by their storage keys,
// among all of the bucket: the objects do not tell. A part of them that cannot be
// read is passed over, and is for those to mend who look for damage.
func (t *turn) findEntries(bucket []byte, dks [][]byte) (map[string][]indexEntry, error) {
	found := make(map[string][]indexEntry, len(dks))
	for _, dk := range dks {
		found[string(dk)] = nil
	}
	from := slices.Clone(bucketPart(bucket))
	from[0] = kindIndex
	changed := make(map[string]bool)
	for n := len(t.batch.Ops) - 1; n >= t.from; n-- {
		op := &t.batch.Ops[n]
		if !bytes.HasPrefix(op.Key, from) || changed[string(op.Key)] {
			continue
		}
		changed[string(op.Key)] = true
		if dk, _, ok := indexed(op.Key); ok && !op.Delete {
			if list, wanted := found[string(dk)]; wanted {
				found[string(dk)] = append(list, indexEntry{op.Key, op.Value})
			}
		}
	}
	err := t.store.Scan(from, prefixEnd(from), func(key, value []byte) bool {
		if dk, _, ok := indexed(key); ok && !changed[string(key)] {
			if list, wanted := found[string(dk)]; wanted {
				found[string(dk)] = append(list, indexEntry{bytes.Clone(key), bytes.Clone(value)})
			}
		}
		return true
	})
	for _, dk := range dks {
		slices.SortFunc(found[string(dk)], func(a, b indexEntry) int { return bytes.Compare(a.key, b.key) })
	}
	if isCorrupt(err) {
		t.note(NoteIndex, kv.Key{}, err.Error())
		err = nil
	}
	return found, err
}

// query reads a page of what a query finds in one home.
func query(store storage.Reader, p ring.Partition, wallMs int64, m *Query) Message {
	if m.Field == kv.IndexKey || m.Field == kv.IndexBucket {
		return queryKeys(store, p, wallMs, m)
	}
	f, refusal := newFinder(wallMs, m)
	if refusal != nil {
		return refusal
	}
	prefix := indexPrefix(bucketPrefix(p, m.Home, m.Bucket), m.Field)
	lower := appendTerm(slices.Clip(prefix), m.Field, m.Start)
	if m.AfterKey != "" {
		lower = after(append(appendTerm(slices.Clip(prefix), m.Field, m.AfterTerm), m.AfterKey...))
	}
	upper := prefixEnd(appendTerm(slices.Clip(prefix), m.Field, m.End))
	if bytes.Compare(lower, upper) >= 0 {
		return &f.out
	}
	err := store.Scan(lower, upper, func(key, value []byte) bool {
		if f.full() {
			return false
		}
		term, name, ok := cutTerm(key[len(prefix):], m.Field)
		if ok {
			f.look(term, string(name), shown(value, f.atMs, m.Latest))
		}
		return true
	})
	if err != nil {
		return readFailure(err)
	}
	return &f.out
}

// queryKeys is query for the fields whose terms are the keys, or are all alike: the
// objects themselves are in that order.
func queryKeys(store storage.Reader, p ring.Partition, wallMs int64, m *Query) Message {
	f, refusal := newFinder(wallMs, m)
	if refusal != nil {
		return refusal
	}
	prefix := bucketPrefix(p, m.Home, m.Bucket)
	lower, upper := prefix, prefixEnd(prefix)
	if m.Field == kv.IndexKey {
		lower = append(slices.Clip(prefix), m.Start...)
		upper = after(append(slices.Clip(prefix), m.End...))
	}
	if m.AfterKey != "" {
		lower = after(append(slices.Clip(prefix), m.AfterKey...))
	}
	if bytes.Compare(lower, upper) >= 0 {
		return &f.out
	}
	var corrupt error
	err := store.Scan(lower, upper, func(key, value []byte) bool {
		if f.full() {
			return false
		}
		var head object.Object
		if head, corrupt = object.DecodeHead(value); corrupt != nil {
			return false
		}
		if m.Latest {
			head = head.Latest()
		}
		name := string(key[len(prefix):])
		term := m.Bucket.Name
		if m.Field == kv.IndexKey {
			term = name
		}
		f.look(term, name, head.Live(f.atMs))
		return true
	})
	if err == nil {
		err = corrupt
	}
	if err != nil {
		return readFailure(err)
	}
	return &f.out
}

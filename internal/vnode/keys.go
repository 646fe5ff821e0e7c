package vnode

import (
	"encoding/binary"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// The kinds of storage keys: the first byte of each.
const (
	kindObject = 1
	kindVnode  = 3 // what a vnode keeps about itself
	kindSum    = 4 // sums of the segments of a tree
	kindEntry  = 5 // versions of the objects, by segment
	kindExpiry = 6 // which objects have values that expire, by when
	kindGrave  = 7 // which objects are dead
	kindIndex  = 8 // index entries of the objects, by term
)

// homeLen is the length of kind, vnode partition and home partition.
const homeLen = 1 + 2 + 2

// DataKey is where vnode p keeps the object of a key whose preference list
// begins at home. All that the vnode holds of one replica group, and of one
// bucket in it, is a range:
//
//	┌──────┬───────┬──────┬──────────┬──────┬────────────┬────────┬──────┐
//	│ 1    │ vnode │ home │ len type │ type │ len bucket │ bucket │ name │
//	│ u8   │ u16   │ u16  │ u8       │      │ u16        │        │      │
//	└──────┴───────┴──────┴──────────┴──────┴────────────┴────────┴──────┘
//
// Numbers are big-endian, so that they sort.
func DataKey(p, home ring.Partition, k kv.Key) []byte {
	b := make([]byte, 0, homeLen+3+len(k.Type)+len(k.Bucket)+len(k.Name))
	b = appendBucket(b, p, home, kv.Bucket{Type: k.Type, Name: k.Bucket})
	return append(b, k.Name...)
}

func bucketPrefix(p, home ring.Partition, b kv.Bucket) []byte {
	return appendBucket(nil, p, home, b)
}

func appendBucket(dst []byte, p, home ring.Partition, b kv.Bucket) []byte {
	dst = append(dst, kindObject)
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	dst = binary.BigEndian.AppendUint16(dst, uint16(home))
	dst = append(dst, byte(len(b.Type)))
	dst = append(dst, b.Type...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(b.Name)))
	return append(dst, b.Name...)
}

// keyOf is the key whose object is at dk, a key of the kind that DataKey makes.
func keyOf(dk []byte) (kv.Key, bool) {
	if len(dk) < homeLen {
		return kv.Key{}, false
	}
	return parseKey(dk[homeLen:])
}

// parseKey reads what a DataKey has after its home.
func parseKey(b []byte) (kv.Key, bool) {
	if len(b) == 0 {
		return kv.Key{}, false
	}
	typ, rest, ok := cut(b[1:], int(b[0]))
	if !ok || len(rest) < 2 {
		return kv.Key{}, false
	}
	bucket, name, ok := cut(rest[2:], int(binary.BigEndian.Uint16(rest)))
	if !ok {
		return kv.Key{}, false
	}
	return kv.Key{Type: string(typ), Bucket: string(bucket), Name: string(name)}, true
}

// cut parts b after n bytes.
func cut(b []byte, n int) (first, rest []byte, ok bool) {
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// cursorKey is where vnode p keeps how far a job that fills it has come with a home:
//
//	┌──────┬───────┬──────┬─────┐
//	│ 3    │ vnode │ home │ job │ → the Cursor of a Fill
//	│ u8   │ u16   │ u16  │ u64 │
//	└──────┴───────┴──────┴─────┘
func cursorKey(p, home ring.Partition, job uint64) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kindVnode}, uint16(p))
	b = binary.BigEndian.AppendUint16(b, uint16(home))
	return binary.BigEndian.AppendUint64(b, job)
}

// cursorLen is the length of a cursorKey, which tells it from other keys of the kind.
const cursorLen = homeLen + 8

// lackingKey is there while vnode p waits for data that it should hold:
//
//	┌──────┬───────┬─────┐
//	│ 3    │ vnode │ "L" │ → nothing
//	│ u8   │ u16   │ u8  │
//	└──────┴───────┴─────┘
func lackingKey(p ring.Partition) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kindVnode}, uint16(p)), 'L')
}

// expiryKey says that the object at dk of vnode p has a value that expires at an
// instant, in Unix milliseconds. It may say so of one that has it no more:
//
//	┌──────┬───────┬─────────┬──────┬─────┐
//	│ 6    │ vnode │ instant │ home │ …   │ → nothing; all from home on is as in dk
//	│ u8   │ u16   │ u64     │ u16  │     │
//	└──────┴───────┴─────────┴──────┴─────┘
func expiryKey(p ring.Partition, atMs int64, dk []byte) []byte {
	return append(expiryStart(p, atMs), dk[vnodeLen:]...)
}

const (
	vnodeLen   = 1 + 2        // bytes of kind and vnode partition
	instantEnd = vnodeLen + 8 // where the home begins in an expiryKey
)

// expiryStart is before all that expires at the instant, and after all that does
// before.
func expiryStart(p ring.Partition, atMs int64) []byte {
	b := make([]byte, 0, instantEnd+64)
	b = binary.BigEndian.AppendUint16(append(b, kindExpiry), uint16(p))
	return binary.BigEndian.AppendUint64(b, uint64(max(atMs, 0)))
}

func expiryEnd(p ring.Partition) []byte { return prefixEnd(expiryStart(p, 0)[:vnodeLen]) }

// expiring is the storage key of the object that an expiryKey speaks of.
func expiring(key []byte) []byte {
	dk := append(make([]byte, 0, len(key)), kindObject)
	dk = append(dk, key[1:vnodeLen]...)
	return append(dk, key[instantEnd:]...)
}

// sumKey is where vnode p keeps the sum of a segment of a home's tree:
//
//	┌──────┬───────┬──────┬─────────┐
//	│ 4    │ vnode │ home │ segment │ → a word that is merged
//	│ u8   │ u16   │ u16  │ u16     │
//	└──────┴───────┴──────┴─────────┘
func sumKey(p, home ring.Partition, s Segment) []byte {
	return treeKey(kindSum, p, home, s, nil)
}

// entryKey is where vnode p keeps the version of the object at DataKey, of
// which rest is what follows the home:
//
//	┌──────┬───────┬──────┬─────────┬──────────┬──────┬────────────┬────────┬──────┐
//	│ 5    │ vnode │ home │ segment │ len type │ type │ len bucket │ bucket │ name │ → its hash
//	│ u8   │ u16   │ u16  │ u16     │ u8       │      │ u16        │        │      │   u64
//	└──────┴───────┴──────┴─────────┴──────────┴──────┴────────────┴────────┴──────┘
func entryKey(p, home ring.Partition, s Segment, rest []byte) []byte {
	return treeKey(kindEntry, p, home, s, rest)
}

// entryLen is the length of an entryKey before the part that names the object.
const entryLen = homeLen + 2

func treeKey(kind byte, p, home ring.Partition, s Segment, rest []byte) []byte {
	return append(appendTreeKey(make([]byte, 0, entryLen+len(rest)), kind, p, home, s), rest...)
}

func appendTreeKey(dst []byte, kind byte, p, home ring.Partition, s Segment) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	dst = binary.BigEndian.AppendUint16(dst, uint16(home))
	return binary.BigEndian.AppendUint16(dst, uint16(s))
}

// graveKey is where vnode p notes that the object at dk is dead: all its siblings
// are tombstones.
//
//	┌──────┬───────┬──────┬──────────┬──────┬────────────┬────────┬──────┐
//	│ 7    │ vnode │ home │ len type │ type │ len bucket │ bucket │ name │ → the latest stamp of its siblings u64,
//	│ u8   │ u16   │ u16  │ u8       │      │ u16        │        │      │   its hash u64
//	└──────┴───────┴──────┴──────────┴──────┴────────────┴────────┴──────┘
func graveKey(dk []byte) []byte {
	k := append(make([]byte, 0, len(dk)), dk...)
	k[0] = kindGrave
	return k
}

// graveRange are the keys of the graves of a home in vnode p.
func graveRange(p, home ring.Partition) (from, to []byte) {
	from = graveKey(homeStart(p, home))
	return from, prefixEnd(from)
}

// placeOf is the vnode and the home that a key of an object or of a tree begins with.
func placeOf(key []byte) (p, home ring.Partition) {
	return ring.Partition(binary.BigEndian.Uint16(key[1:])), homeOf(key)
}

func homeOf(key []byte) ring.Partition {
	return ring.Partition(binary.BigEndian.Uint16(key[3:homeLen]))
}

func vnodeStart(p ring.Partition) []byte {
	return binary.BigEndian.AppendUint16([]byte{kindObject}, uint16(p))
}

func vnodeEnd(p ring.Partition) []byte { return prefixEnd(vnodeStart(p)) }

// Ranges are where vnode p keeps objects and what it knows of them: what is lost
// with the vnode.
func Ranges(p ring.Partition) [][2][]byte {
	var all [][2][]byte
	for _, kind := range []byte{kindObject, kindSum, kindEntry, kindExpiry, kindGrave, kindIndex} {
		start := binary.BigEndian.AppendUint16([]byte{kind}, uint16(p))
		all = append(all, [2][]byte{start, prefixEnd(start)})
	}
	return all
}

func homeStart(p, home ring.Partition) []byte {
	return binary.BigEndian.AppendUint16(vnodeStart(p), uint16(home))
}

func homeEnd(p, home ring.Partition) []byte {
	return prefixEnd(homeStart(p, home))
}

// prefixEnd is the first key after all that begin with the prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

package vnode

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// The hash tree of a home in a vnode tells two replicas where they differ
// without the reading of objects. It has three levels:
//
//	root ─┬─ branch 0 ─┬─ segment 0 ──── versions of the objects in it
//	      │            ├─ segment 1
//	      │            └─ … 63
//	      ├─ branch 1 …
//	      └─ … 63
//
// The hash of a key says in which segment it is. A segment is the versions of its
// objects, as entries in the engine, and their sum, the exclusive or of a term for
// each of them. The sum of a branch is that of its segments, the root that of the
// branches, and both are computed when somebody asks. Sums and entries change in
// the batch that changes the object, so they are never out of date and never
// built anew. A segment without objects takes no space.
//
// A version is HashOf the encoding of the object: its clock, siblings, expiry and
// tombstones, and the bodies. Two replicas that agree on it hold the same bytes.
const (
	Branches    = 64
	perBranch   = 64
	segments    = Branches * perBranch
	Root        = -1 // as the Branch of Sums: all branches
	segmentBits = 12
)

// Segment is the number of one part of a home's keys, from 0 to 4095.
type Segment uint16

// keyHash is what a tree needs to know of a key.
type keyHash struct {
	segment Segment
	salt    uint64
}

// hashKey hashes what a DataKey has after its home.
func hashKey(rest []byte) keyHash {
	sum := sha256.Sum256(rest)
	return keyHash{
		segment: Segment(binary.BigEndian.Uint16(sum[:]) >> (16 - segmentBits)),
		salt:    binary.BigEndian.Uint64(sum[8:]),
	}
}

// term is what an object of this version adds to the sum of its segment; 0, no
// object, adds nothing. Salt and version are from a hash that nobody can steer; what
// mixes them must only not be linear, or two keys could change their versions
// with each other.
func (k keyHash) term(version uint64) uint64 {
	if version == 0 {
		return 0
	}
	return mix(k.salt ^ mix(version))
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014), a permutation.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// plant makes the tree say that the object at dk has version now, and no longer
// was; 0 is no object.
func (t *turn) plant(dk []byte, was, now uint64) {
	if was == now {
		return
	}
	p, home := placeOf(dk)
	rest := dk[homeLen:]
	k := hashKey(rest)
	buf := make([]byte, 0, entryLen+len(rest)+storage.WordSize+entryLen+storage.WordSize) // for both
	buf = append(appendTreeKey(buf, kindEntry, p, home, k.segment), rest...)
	entry := buf
	if now == 0 {
		t.batch.Delete(entry)
	} else {
		buf = binary.BigEndian.AppendUint64(buf, now)
		t.batch.Set(entry, buf[len(entry):])
	}
	t.batch.Merge(appendTreeKey(buf[len(buf):], kindSum, p, home, k.segment), k.term(was)^k.term(now))
}

// version is the version of an object that the tree knows; 0: none.
func (t *turn) version(dk []byte) (uint64, error) {
	if enc, ok := t.written[string(dk)]; ok {
		if enc == nil {
			return 0, nil
		}
		return HashOf(enc), nil
	}
	p, home := placeOf(dk)
	return wordAt(t.store, entryKey(p, home, hashKey(dk[homeLen:]).segment, dk[homeLen:]))
}

// wordAt is the word at a key; 0 if there is none.
func wordAt(store storage.Reader, key []byte) (uint64, error) {
	b, err := store.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	return storage.Word(b), err
}

// prune removes the sums that this turn has brought to nothing, where it has
// erased objects, so that a vnode which is emptied leaves none behind.
func (t *turn) prune() {
	sums := make(map[string]uint64)
	var order []string
	for _, op := range t.batch.Ops[t.from:] {
		if op.Key[0] != kindSum {
			continue
		}
		k := string(op.Key)
		sum, known := sums[k]
		if !known {
			order = append(order, k)
			var err error
			if sum, err = wordAt(t.store, op.Key); err != nil {
				return // what cannot be read stays
			}
		}
		if op.Delete {
			sum = 0
		} else {
			sum ^= storage.Word(op.Value)
		}
		sums[k] = sum
	}
	for _, k := range order {
		if sums[k] == 0 {
			t.batch.Delete([]byte(k))
		}
	}
}

// sums answers from the sums of the segments.
func sums(store storage.Reader, p ring.Partition, m *Sums) Message {
	from, to := sumKey(p, m.Home, 0), prefixEnd(treeKey(kindSum, p, m.Home, 0, nil)[:homeLen])
	if m.Branch != Root {
		if m.Branch < 0 || m.Branch >= Branches {
			return &Refusal{Code: CodeInvalid, Text: fmt.Sprintf("a tree has no branch %d", m.Branch)}
		}
		from, to = sumKey(p, m.Home, Segment(m.Branch*perBranch)), sumKey(p, m.Home, Segment((m.Branch+1)*perBranch))
	}
	out := &Summed{Sums: make([]uint64, Branches)}
	err := store.Scan(from, to, func(key, value []byte) bool {
		s, word := segmentOf(key), storage.Word(value)
		out.Sum ^= word
		if m.Branch == Root {
			out.Sums[s/perBranch] ^= word
		} else {
			out.Sums[s%perBranch] = word
		}
		return true
	})
	if err != nil {
		return readFailure(err)
	}
	if out.Sum == m.Known {
		out.Sums = nil
	}
	return out
}

// segmentOf is the segment of a key of a tree.
func segmentOf(key []byte) Segment { return Segment(binary.BigEndian.Uint16(key[homeLen:])) }

// SegmentsOf are the segments of a branch whose sums differ.
func SegmentsOf(branch int, a, b []uint64) []Segment {
	var differ []Segment
	for i := range perBranch {
		if a[i] != b[i] {
			differ = append(differ, Segment(branch*perBranch+i))
		}
	}
	return differ
}

// versions reads a page of entries.
func versions(store storage.Reader, p ring.Partition, m *Versions) Message {
	if len(m.After) > 0 && len(m.After) < 2 {
		return &Refusal{Code: CodeInvalid, Text: fmt.Sprintf("a page of versions cannot begin after %x", m.After)}
	}
	out := &Versioned{}
	pos := treeKey(kindEntry, p, m.Home, 0, nil)[:homeLen]
	lower := pos
	if len(m.After) > 0 {
		lower = after(append(slices.Clip(pos), m.After...))
		out.Last = m.After
	}
	size, limit := 0, min(max(m.Limit, 1), maxPulled)
	for _, s := range m.Segments {
		start := entryKey(p, m.Home, s, nil)
		if slices.Compare(start, lower) < 0 {
			start = lower
		}
		end := prefixEnd(entryKey(p, m.Home, s, nil))
		if slices.Compare(start, end) >= 0 {
			continue
		}
		err := store.Scan(start, end, func(key, value []byte) bool {
			if size >= limit || len(out.Items) >= maxLooked {
				out.More = true
				return false
			}
			out.Last = slices.Clone(key[homeLen:])
			size += itemCost + len(key)
			if k, ok := parseKey(key[entryLen:]); ok {
				out.Items = append(out.Items, Item{Key: k, Hash: storage.Word(value)})
			}
			return true
		})
		if err != nil {
			return readFailure(err)
		}
		if out.More {
			break
		}
	}
	return out
}

// pick reads objects by their keys. One that cannot be read is none: whoever has
// it will send it, and it is replaced.
func pick(store storage.Reader, p ring.Partition, m *Pick) Message {
	out := &Picked{}
	size, limit := 0, min(max(m.Limit, 1), maxPulled)
	for _, k := range m.Keys {
		if len(out.Items) > 0 && size >= limit {
			break
		}
		it := Item{Key: k}
		enc, err := store.Get(DataKey(p, m.Home, k))
		switch {
		case err == nil:
			it = picked(k, enc, m.Bare)
		case !errors.Is(err, storage.ErrNotFound) && !isCorrupt(err):
			return readFailure(err)
		}
		size += itemCost + len(k.Name) + len(it.Object)
		out.Items = append(out.Items, it)
	}
	return out
}

func picked(k kv.Key, enc []byte, bare bool) Item {
	it := Item{Key: k, Hash: HashOf(enc), Object: enc}
	_, err := object.Decode(enc)
	if bare && err == nil {
		it.Object, err = object.Bare(enc)
	}
	if err != nil {
		return Item{Key: k}
	}
	return it
}

// Position is where the object of an item stands among the versions of a home:
// comparing positions as bytes is comparing places in the order of pages.
func Position(k kv.Key) []byte {
	dk := DataKey(0, 0, k)
	return treeKey(kindEntry, 0, 0, hashKey(dk[homeLen:]).segment, dk[homeLen:])[homeLen:]
}

// Term is what an object of this version adds to the sum of its branch, in a home of a
// ring of any size.
func Term(k kv.Key, version uint64) (branch int, term uint64) {
	h := hashKey(DataKey(0, 0, k)[homeLen:])
	return int(h.segment) / perBranch, h.term(version)
}

// SegmentsIn are the segments of the branches from one to before another.
func SegmentsIn(from, to int) []Segment {
	all := make([]Segment, 0, (to-from)*perBranch)
	for s := from * perBranch; s < to*perBranch; s++ {
		all = append(all, Segment(s))
	}
	return all
}

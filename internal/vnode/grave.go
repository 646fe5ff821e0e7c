package vnode

import (
	"encoding/binary"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/storage"
)

// An object is dead when all its siblings are tombstones. Which ones are is kept in
// an index, their graves, that changes in the batch that changes the object. So
// those that are due to be reaped are found, and counted, without reading what
// lives.
//
// # What reaping is to a dot
//
// A vnode that removes objects otherwise goes on as a new actor, for its clocks
// would claim to contain what is not here any more. One that reaps need not: all
// that the tombstone's clock covers is replaced, and nowhere any more. A clock that
// covers such a dot claims no more than that.

// The limits of a Buried: items, and the bytes of their keys, to which the last one
// may add its own. What asks for these versions must fit into a message.
const (
	maxGraves     = 10_000
	maxGraveBytes = 1 << 20
)

// dead reports whether the object is there, and all its siblings are tombstones.
func dead(o object.Object) bool { return len(o.Siblings) > 0 && tombstone(o) }

// tend keeps the grave of an object that takes the place of another one.
func (t *turn) tend(dk []byte, old, now object.Object, enc []byte) {
	if !dead(now) {
		if dead(old) && !planted.Is(planted.GraveKept) {
			t.unbury(dk)
		}
		return
	}
	var latest object.Stamp
	for i := range now.Siblings {
		latest = max(latest, now.Siblings[i].Stamp)
	}
	value := binary.BigEndian.AppendUint64(make([]byte, 0, graveLen), uint64(latest))
	t.batch.Set(graveKey(dk), binary.BigEndian.AppendUint64(value, HashOf(enc)))
}

func (t *turn) unbury(dk []byte) { t.batch.Delete(graveKey(dk)) }

// graveLen is the length of what is kept at a graveKey.
const graveLen = 8 + 8

// readGrave reads that; false: it is not one.
func readGrave(b []byte) (latest object.Stamp, hash uint64, ok bool) {
	if len(b) != graveLen {
		return 0, 0, false
	}
	return object.Stamp(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]), true
}

// graves reads a page of the graves of a home.
func graves(store storage.Reader, p ring.Partition, m *Graves) Message {
	from, to := graveRange(p, m.Home)
	if len(m.After) > 0 {
		from = after(append(from, m.After...))
	}
	out := &Buried{Last: m.After}
	looked, size, limit := 0, 0, min(max(m.Limit, 1), maxGraves)
	err := store.Scan(from, to, func(key, value []byte) bool {
		if len(out.Items) >= limit || size >= maxGraveBytes || looked >= maxLooked {
			out.More = true
			return false
		}
		looked++
		out.Last = append([]byte(nil), key[homeLen:]...)
		latest, hash, ok := readGrave(value)
		k, named := parseKey(key[homeLen:])
		if ok && named && latest.Wall().UnixMilli() < m.Before {
			out.Items = append(out.Items, Item{Key: k, Hash: hash})
			out.At = append(out.At, latest.Wall().UnixMilli())
			size += itemCost + len(key)
		}
		return true
	})
	if err != nil {
		return readFailure(err)
	}
	return out
}

// CountGraves is how many dead objects the store holds, in all vnodes. It gives up
// where it is told to go on no more.
func CountGraves(store storage.Reader, goOn func() bool) (n int, err error) {
	err = store.Scan([]byte{kindGrave}, []byte{kindGrave + 1}, func(_, _ []byte) bool {
		n++
		return n%maxGraves != 0 || goOn()
	})
	return n, err
}

// attest says which of the versions are here.
func (t *turn) attest(i int, m *Attest) {
	if lacks, err := t.lacks(); lacks || err != nil {
		t.refuse(i, CodeLacking, fmt.Sprintf("vnode %d waits for data that it should hold", t.partition))
		return
	}
	d := &Delivered{Results: make([]ItemResult, len(m.Items))}
	for n := range m.Items {
		d.Results[n], _ = t.offered(m.Home, &m.Items[n])
	}
	t.out.Durable = append(t.out.Durable, Answer{i, d})
}

// lacks reports whether the vnode is Lacking, by what this batch makes of it.
func (t *turn) lacks() (bool, error) {
	key := string(lackingKey(t.partition))
	for n := len(t.batch.Ops) - 1; n >= t.from; n-- {
		if op := &t.batch.Ops[n]; string(op.Key) == key {
			return !op.Delete, nil
		}
	}
	return Lacking(t.store, t.partition)
}

// reap removes dead objects.
func (t *turn) reap(i int, m *Reap) {
	t.partakes()
	d, _ := t.discard(m.Home, m.Items, planted.ReapChanged)
	t.out.Durable = append(t.out.Durable, Answer{i, d})
}

// Astray reports which of the homes the store holds anything of in a vnode that should
// not hold it.
func Astray(store storage.Reader, homes []ring.Partition, placed func(p, home ring.Partition) bool) ([]bool, error) {
	found := make([]bool, len(homes))
	held, err := Held(store)
	if err != nil {
		return nil, err
	}
	for _, p := range held {
		for i, home := range homes {
			if found[i] || placed(p, home) {
				continue
			}
			dk, err := first(store, homeStart(p, home), homeEnd(p, home))
			if err != nil {
				return nil, err
			}
			found[i] = dk != nil
		}
	}
	return found, nil
}

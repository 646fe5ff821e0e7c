package vnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/storage"
)

const (
	// maxPulled bounds the bytes of a Pulled, to which the last object may add its own.
	maxPulled = 4 << 20

	// itemCost is what an item takes in a page besides its object and name.
	itemCost = 32
)

// pull reads a page of one home.
func pull(store storage.Reader, p ring.Partition, m *Pull) Message {
	start := homeStart(p, m.Home)
	if len(m.After) > 0 && !bytes.HasPrefix(m.After, start) {
		return &Refusal{Code: CodeInvalid, Text: fmt.Sprintf("a page of home %d in vnode %d cannot begin after %x", m.Home, p, m.After)}
	}
	pg := page{bare: m.Bare, limit: min(max(m.Limit, 1), maxPulled), end: homeEnd(p, m.Home)}
	lower := start
	if len(m.After) > 0 {
		pg.out.Last = m.After
		lower = after(m.After)
	}
	err := store.Scan(lower, pg.end, pg.add)
	if isCorrupt(err) {
		err = pg.broken(store, lower, err)
	}
	if err != nil {
		return readFailure(err)
	}
	return &pg.out
}

// after is the next key in byte order.
func after(key []byte) []byte { return append(append(make([]byte, 0, len(key)+1), key...), 0) }

// page collects objects up to a limit.
type page struct {
	bare  bool
	limit int
	end   []byte
	size  int
	count int
	out   Pulled
}

// add takes the object at dk, unless the page is full.
func (pg *page) add(dk, value []byte) bool {
	if pg.count > 0 && (pg.size >= pg.limit || pg.count >= maxLooked) {
		pg.out.More = true
		return false
	}
	pg.count++
	pg.size += itemCost + len(dk)
	pg.out.Last = bytes.Clone(dk)
	k, ok := keyOf(dk)
	if !ok {
		pg.bad(BadItem{Text: fmt.Sprintf("there is no key in %x", dk)})
		return true
	}
	if _, err := object.Decode(value); err != nil {
		pg.bad(BadItem{Key: k, Text: err.Error()})
		return true
	}
	it := Item{Key: k, Hash: HashOf(value)}
	if !pg.bare {
		it.Object = bytes.Clone(value)
		pg.size += len(value)
	}
	pg.out.Items = append(pg.out.Items, it)
	return true
}

func (pg *page) bad(b BadItem) {
	pg.out.Bad = append(pg.out.Bad, b)
	pg.size += len(b.Text)
}

// broken ends a page at a part of the engine that cannot be read. The page after
// it, which would begin there, goes on behind that part and reports it as one
// bad item: what lies in it has no names.
func (pg *page) broken(store storage.Reader, lower []byte, why error) error {
	if pg.count > 0 {
		pg.out.More = true
		return nil
	}
	next, err := past(store, lower, pg.end)
	if err != nil {
		return err
	}
	if next == nil {
		pg.bad(BadItem{Text: fmt.Sprintf("all from %x on cannot be read: %v", lower, why)})
		return nil
	}
	pg.bad(BadItem{Text: fmt.Sprintf("all from %x to %x cannot be read: %v", lower, next, why)})
	err = store.Scan(next, pg.end, pg.add)
	if isCorrupt(err) {
		pg.out.More = pg.count > 0
		return nil
	}
	return err
}

// maxProbe bounds how many bytes of a key past looks for.
const maxProbe = 300

// past is the least key in [lower, end) from which on the engine can be read,
// when it cannot be read at lower; nil: there is none. It finds the key byte after
// byte, by halving, since what is corrupt is a run of keys.
func past(store storage.Reader, lower, end []byte) ([]byte, error) {
	var failed error
	readable := func(key []byte) bool {
		if bytes.Compare(key, lower) < 0 || bytes.Compare(key, end) >= 0 {
			return bytes.Compare(key, end) >= 0
		}
		err := store.Scan(key, end, func(_, _ []byte) bool { return false })
		if err != nil && !isCorrupt(err) {
			failed = err
		}
		return err == nil
	}
	var best, prefix []byte
	for range maxProbe {
		n := sort.Search(256, func(b int) bool { return readable(append(bytes.Clone(prefix), byte(b))) })
		if failed != nil {
			return nil, failed
		}
		if n < 256 {
			best = append(bytes.Clone(prefix), byte(n))
		}
		if n == 0 {
			break
		}
		prefix = append(prefix, byte(n-1))
	}
	if best == nil || bytes.Compare(best, end) >= 0 {
		return nil, nil
	}
	return best, nil
}

// first is the first key in [from, end) that can be read; nil: there is none.
func first(store storage.Reader, from, end []byte) ([]byte, error) {
	var key []byte
	look := func(dk, _ []byte) bool {
		key = bytes.Clone(dk)
		return false
	}
	err := store.Scan(from, end, look)
	if !isCorrupt(err) {
		return key, err
	}
	next, err := past(store, from, end)
	if err != nil || next == nil {
		return nil, err
	}
	err = store.Scan(next, end, look)
	return key, err
}

// homes looks from home to home for the next key after the last one's end. Of a
// home that cannot be read at all it does not know.
func homes(store storage.Reader, p ring.Partition) Message {
	out := &HomesFound{}
	end := vnodeEnd(p)
	for from := vnodeStart(p); ; {
		dk, err := first(store, from, end)
		if err != nil {
			return readFailure(err)
		}
		if dk == nil {
			return out
		}
		out.Homes = append(out.Homes, homeOf(dk))
		from = homeEnd(p, homeOf(dk))
	}
}

// Held are the partitions that the store holds objects of, in order: one vnode
// each.
func Held(store storage.Reader) ([]ring.Partition, error) {
	var all []ring.Partition
	end := prefixEnd([]byte{kindObject})
	for from := []byte{kindObject}; ; {
		dk, err := first(store, from, end)
		if err != nil || dk == nil {
			return all, err
		}
		p := ring.Partition(binary.BigEndian.Uint16(dk[1:]))
		all = append(all, p)
		from = vnodeEnd(p)
	}
}

func resume(store storage.Reader, p ring.Partition, m *Resume) Message {
	cursor, err := store.Get(cursorKey(p, m.Home, m.Job))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return readFailure(err)
	}
	return &Resumed{Cursor: cursor}
}

// Progress names a job that fills vnode Partition, and a home of which it has
// kept how far it is.
type Progress struct {
	Partition ring.Partition
	Home      ring.Partition
	Job       uint64
}

// Kept are all that the store keeps of jobs that fill vnodes, so that what no
// job needs any more can be forgotten.
func Kept(store storage.Reader) ([]Progress, error) {
	var all []Progress
	err := store.Scan([]byte{kindVnode}, []byte{kindVnode + 1}, func(key, _ []byte) bool {
		if len(key) == cursorLen {
			all = append(all, Progress{
				Partition: ring.Partition(binary.BigEndian.Uint16(key[1:])),
				Home:      homeOf(key),
				Job:       binary.BigEndian.Uint64(key[homeLen:]),
			})
		}
		return true
	})
	return all, err
}

// MarkLacking marks vnode p, which is not at work or is told so besides, as one
// that is Lacking.
func MarkLacking(b *storage.Batch, p ring.Partition) { b.Set(lackingKey(p), nil) }

// Lacking reports whether vnode p waits for data that it should hold, as
// SetLacking has said.
func Lacking(store storage.Reader, p ring.Partition) (bool, error) {
	_, err := store.Get(lackingKey(p))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Lacks is what a vnode that is Lacking answers to a message which its data
// would answer wrongly: that a key is not here says nothing. It is nil for all
// others, which are answered as ever. Sums are refused, since nobody need compare
// what is being brought anyway. A Pull is, unless it wants all or nothing:
// what is here may be what another one lacks.
func Lacks(p ring.Partition, m Message) *Refusal {
	wrong := false
	switch m := m.(type) {
	case *Fetch, *List, *Census, *Sums, *Query, *Buckets:
		wrong = true
	case *Pull:
		wrong = m.Whole
	}
	if !wrong || planted.Is(planted.LackingAnswers) {
		return nil
	}
	return &Refusal{Code: CodeLacking, Text: fmt.Sprintf("vnode %d waits for data that it should hold", p)}
}

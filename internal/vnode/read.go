package vnode

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

const (
	// maxLooked bounds how many objects one List or Census looks at, so that a
	// bucket full of tombstones cannot hold up a reader.
	maxLooked = 20_000

	// maxListed bounds the bytes of the keys in one answer, to which the last
	// key may add its own.
	maxListed = 4 << 20
)

// Read answers a Fetch, List, Census, Query, Buckets, Pull, Homes, Sums, Versions, Pick, Graves, Resume or Ping for partition
// p from what is applied. It needs no turn at the vnode, and may run beside its
// Handle. It does not look whether the vnode is Lacking: who serves it keeps that
// in memory, and asks Lacks first.
func Read(store storage.Reader, p ring.Partition, wallMs int64, msg Message) Message {
	switch m := msg.(type) {
	case *Fetch:
		return fetch(store, p, m)
	case *List:
		return list(store, p, wallMs, m)
	case *Query:
		return query(store, p, wallMs, m)
	case *Buckets:
		return buckets(store, p, wallMs, m)
	case *Census:
		return census(store, p, wallMs, m)
	case *Pull:
		return pull(store, p, m)
	case *Homes:
		return homes(store, p)
	case *Sums:
		return sums(store, p, m)
	case *Versions:
		return versions(store, p, m)
	case *Pick:
		return pick(store, p, m)
	case *Graves:
		return graves(store, p, m)
	case *Resume:
		return resume(store, p, m)
	case *Ping:
		return &Pong{}
	}
	return &Refusal{Code: CodeInvalid, Text: fmt.Sprintf("a vnode does not read %T", msg)}
}

func fetch(store storage.Reader, p ring.Partition, m *Fetch) Message {
	enc, err := store.Get(DataKey(p, m.Home, m.Key))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return readFailure(err)
	}
	if enc != nil {
		if err := object.Check(enc); err != nil {
			return readFailure(err)
		}
	}
	return &Fetched{Object: enc}
}

func list(store storage.Reader, p ring.Partition, wallMs int64, m *List) Message {
	l := lister{wallMs: cmp.Or(m.At, wallMs), limit: m.Limit, latest: m.Latest}
	if err := l.scan(store, p, m.Home, m.Bucket, m.After); err != nil {
		return readFailure(err)
	}
	return &l.out
}

// census lists home after home: the homes that hold anything are found by
// looking for the next key after the last home's end.
func census(store storage.Reader, p ring.Partition, wallMs int64, m *Census) Message {
	l := lister{wallMs: cmp.Or(m.At, wallMs), limit: m.Limit, latest: m.Latest}
	end := vnodeEnd(p)
	for from := vnodeStart(p); !l.out.More; {
		home, found := ring.Partition(0), false
		err := store.Scan(from, end, func(key, _ []byte) bool {
			home, found = homeOf(key), true
			return false
		})
		if err != nil {
			return readFailure(err)
		}
		if !found {
			break
		}
		if err := l.scan(store, p, home, m.Bucket, ""); err != nil {
			return readFailure(err)
		}
		from = homeEnd(p, home)
	}
	return &l.out
}

// lister collects live keys up to a limit.
type lister struct {
	wallMs int64
	limit  int
	latest bool // the last write wins
	looked int
	size   int // bytes of the keys in out
	out    Listed
}

func (l *lister) scan(store storage.Reader, p, home ring.Partition, b kv.Bucket, after string) error {
	prefix := bucketPrefix(p, home, b)
	lower := append([]byte(nil), prefix...)
	if after != "" {
		lower = append(append(lower, after...), 0) // the next key in byte order
	}
	var corrupt error
	err := store.Scan(lower, prefixEnd(prefix), func(key, value []byte) bool {
		if len(l.out.Keys) >= l.limit || l.looked >= maxLooked || l.size >= maxListed {
			l.out.More = true
			return false
		}
		l.looked++
		l.out.Last = string(key[len(prefix):])
		head, err := object.DecodeHead(value)
		if err != nil {
			corrupt = err
			return false
		}
		if l.latest && !planted.Is(planted.LatestListsAll) {
			head = head.Latest()
		}
		if head.Live(l.wallMs) {
			l.out.Keys = append(l.out.Keys, l.out.Last)
			l.size += len(l.out.Last)
		}
		return true
	})
	if err != nil {
		return err
	}
	return corrupt
}

func readFailure(err error) Message {
	code := CodeStorage
	if isCorrupt(err) {
		code = CodeCorrupt
	}
	return &Failure{Code: code, Text: err.Error()}
}

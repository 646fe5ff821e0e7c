package vnode

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// finder collects matches up to a limit.
type finder struct {
	atMs   int64
	limit  int
	wanted *regexp.Regexp // nil: every term
	looked int
	size   int // bytes of the matches in out
	out    Matched
}

func newFinder(wallMs int64, m *Query) (*finder, Message) {
	f := &finder{atMs: cmp.Or(m.At, wallMs), limit: m.Limit}
	if m.Regex != "" {
		var err error
		if f.wanted, err = regexp.Compile(m.Regex); err != nil {
			return nil, &Refusal{Code: CodeInvalid, Text: err.Error()}
		}
	}
	return f, nil
}

// full reports whether nothing more may be looked at.
func (f *finder) full() bool {
	f.out.More = len(f.out.Matches) >= f.limit || f.looked >= maxLooked || f.size >= maxListed
	return f.out.More
}

// look takes an entry; seen says whether readers see the value that has it.
func (f *finder) look(term, name string, seen bool) {
	f.looked++
	f.out.LastTerm, f.out.LastKey = term, name
	if seen && (f.wanted == nil || f.wanted.MatchString(term)) {
		f.out.Matches = append(f.out.Matches, kv.IndexMatch{Term: term, Key: name})
		f.size += len(term) + len(name)
	}
}

// buckets reads which buckets of a type have a live key in one home. It jumps from
// the first live key of a bucket to the next bucket.
func buckets(store storage.Reader, p ring.Partition, wallMs int64, m *Buckets) Message {
	b := bucketLister{atMs: cmp.Or(m.At, wallMs), limit: m.Limit}
	typed := append(homeStart(p, m.Home), byte(len(m.Type)))
	typed = append(typed, m.Type...)
	end := prefixEnd(typed)
	from := typed
	if m.After != "" {
		bucket := bucketPrefix(p, m.Home, kv.Bucket{Type: m.Type, Name: m.After})
		from = prefixEnd(bucket)
		if m.Inside != "" {
			from = after(append(bucket, m.Inside...))
			b.out.Last, b.out.Inside = m.After, m.Inside
		}
	}
	for from != nil && bytes.Compare(from, end) < 0 {
		if len(b.out.Found) >= b.limit || b.looked >= maxLooked || b.size >= maxListed {
			b.out.More = true
			break
		}
		dk, err := b.next(store, from, end)
		if err != nil {
			return readFailure(err)
		}
		if dk == nil {
			break
		}
		if from, err = b.bucket(store, dk); err != nil {
			return readFailure(err)
		}
	}
	return &b.out
}

// bucketLister collects the names of buckets up to a limit.
type bucketLister struct {
	atMs   int64
	limit  int
	looked int // objects
	size   int // bytes of the names in out
	out    BucketsFound
}

// next is the first storage key of an object from one on.
func (b *bucketLister) next(store storage.Reader, from, end []byte) (dk []byte, err error) {
	err = store.Scan(from, end, func(key, _ []byte) bool {
		dk = bytes.Clone(key)
		return false
	})
	return dk, err
}

// bucket looks for a live key in a bucket, from the object at dk on. It returns where
// to look next: in the next bucket, or further in this one if too many objects
// were looked at.
func (b *bucketLister) bucket(store storage.Reader, dk []byte) (from []byte, err error) {
	prefix := bucketPart(dk)
	k, ok := keyOf(dk)
	if !ok {
		return after(dk), nil
	}
	from = prefixEnd(prefix)
	found := FoundBucket{Name: k.Bucket}
	b.out.Last, b.out.Inside = k.Bucket, ""
	live := false
	var corrupt error
	err = store.Scan(dk, from, func(key, value []byte) bool {
		if b.looked >= maxLooked {
			from = bytes.Clone(key)
			return false
		}
		b.looked++
		b.out.Inside = string(key[len(prefix):])
		var head object.Object
		if head, corrupt = object.DecodeHead(value); corrupt != nil {
			return false
		}
		live = live || head.Live(b.atMs)
		found.Latest = head.Latest().Live(b.atMs) || planted.Is(planted.BucketsDead)
		return !found.Latest
	})
	if err == nil {
		err = corrupt
	}
	if err != nil {
		return nil, err
	}
	if live || found.Latest {
		b.out.Found = append(b.out.Found, found)
		b.size += len(found.Name)
	}
	if slices.Equal(from, prefixEnd(prefix)) {
		b.out.Inside = ""
	}
	return from, nil
}

package kvtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// Memory is the smallest Store that passes the suite: a map under one lock, with
// three replicas that always agree. It is the model that the suite is tested
// with, and it serves tests of code that takes a kv.Store. It has the bucket types of
// Types. Now is its wall clock; nil: time.Now.
type Memory struct {
	Now func() time.Time

	mu      sync.Mutex
	objects map[kv.Key]*object
	writes  uint64
}

const (
	memoryNode       = "memory"
	memoryPartitions = 8
	memoryReplicas   = 3
)

// object is what a key holds. There is one coordinator, so a context is the
// number of the last write that it has seen.
type object struct {
	clock    uint64
	siblings []sibling // in order of writing
}

type sibling struct {
	number  uint64
	request kv.RequestID
	value   kv.Value
}

// Get reads a key.
func (m *Memory) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	k.Type = kv.PlainType(k.Type)
	if err := firstError(ctx.Err(), k.Validate(), known(k.Type), checkRead(o)); err != nil {
		return kv.Object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, live := m.lookup(k)
	result := kv.NotFound
	if live > 0 {
		result = kv.Found
	}
	replies := m.replies(k, o.N, result)
	if err := confirms("get", o.NodeConfirms); err != nil {
		return kv.Object{Replies: replies}, err
	}
	out := kv.Object{Context: makeContext(k, obj.clock), Replies: replies}
	if live == 0 {
		return out, kv.ErrNotFound
	}
	out.Values = m.values(obj, o.Head, o.Tombstones)
	return out, nil
}

// Put writes a value.
func (m *Memory) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	k.Type = kv.PlainType(k.Type)
	seen, seenErr := readContext(k, o.Context)
	if err := firstError(ctx.Err(), k.Validate(), known(k.Type), v.Validate(), v.ValidateIndexes(), checkWrite(o), seenErr, confirms("put", o.NodeConfirms)); err != nil {
		return kv.Receipt{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, err := m.meets(k, seen, o)
	if err != nil {
		return kv.Receipt{}, err
	}
	v.Deleted = false
	if ttl := propsOf(k.Type).TTL; ttl > 0 && v.Expires.IsZero() {
		v.Expires = m.now().Add(ttl)
	}
	if err := m.write(k, seen, v, o.RequestID); err != nil {
		return kv.Receipt{}, err
	}
	obj := m.objects[k]
	receipt := kv.Receipt{Context: makeContext(k, obj.clock), Replies: m.replies(k, o.N, kv.OK)}
	if o.ReturnBody {
		receipt.Values = m.values(obj, false, false)
	}
	return receipt, nil
}

// meets checks the conditions of a put, and returns what it replaces.
func (m *Memory) meets(k kv.Key, seen uint64, o kv.WriteOptions) (uint64, error) {
	if !o.IfNoneMatch && !o.IfNotModified {
		return seen, nil
	}
	obj, live := m.lookup(k)
	switch {
	case o.IfNoneMatch && live > 0:
		return 0, kv.ErrExists
	case o.IfNotModified && live == 0:
		return 0, kv.ErrNotFound
	case o.IfNotModified && seen < obj.clock:
		return 0, kv.ErrModified
	}
	return obj.clock, nil
}

// Delete replaces what was seen by a tombstone.
func (m *Memory) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	k.Type = kv.PlainType(k.Type)
	seen, seenErr := readContext(k, o.Context)
	read := kv.ReadOptions{N: o.N, R: o.R, PR: o.PR}
	if err := firstError(ctx.Err(), k.Validate(), known(k.Type), checkWrite(o), checkRead(read), seenErr, confirms("delete", o.NodeConfirms)); err != nil {
		return kv.Receipt{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, live := m.lookup(k)
	if live == 0 && len(o.Context) == 0 {
		return kv.Receipt{Context: makeContext(k, obj.clock), Replies: m.replies(k, o.N, kv.NotFound)}, kv.ErrNotFound
	}
	if len(o.Context) == 0 {
		seen = obj.clock
	}
	if err := m.write(k, seen, kv.Value{Deleted: true}, o.RequestID); err != nil {
		return kv.Receipt{}, err
	}
	result := kv.Found
	if live == 0 {
		result = kv.NotFound
	}
	return kv.Receipt{Context: makeContext(k, m.objects[k].clock), Replies: m.replies(k, o.N, result)}, nil
}

// Keys lists a page of a bucket.
func (m *Memory) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	b.Type = kv.PlainType(b.Type)
	after, err := readToken(o.Token)
	if err := firstError(ctx.Err(), b.Validate(), known(b.Type), err, between("limit", o.Limit, kv.MaxPage), between("timeout", o.Timeout, kv.MaxTimeout)); err != nil {
		return kv.KeyPage{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []place
	for k := range m.objects {
		p := place{home(k), k.Name}
		if _, live := m.lookup(k); live > 0 && (kv.Bucket{Type: k.Type, Name: k.Bucket}) == b && p.compare(after) > 0 {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, place.compare)
	limit := cmp.Or(o.Limit, kv.DefaultPage)
	var page kv.KeyPage
	for i, p := range found {
		if i == limit {
			page.Next = found[i-1].token()
			break
		}
		page.Keys = append(page.Keys, p.name)
	}
	return page, nil
}

// Index answers a page of a query, by looking at every value.
func (m *Memory) Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error) {
	b.Type = kv.PlainType(b.Type)
	field, start, end, spanErr := q.Span()
	if err := firstError(ctx.Err(), b.Validate(), known(b.Type), spanErr, between("limit", q.Limit, kv.MaxPage), between("timeout", q.Timeout, kv.MaxTimeout)); err != nil {
		return kv.IndexPage{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	regex := regexp.MustCompile(q.TermRegex)
	seen := make(map[kv.Pair]kv.IndexMatch)
	for k, obj := range m.objects {
		if k.Type != b.Type || k.Bucket != b.Name {
			continue
		}
		for _, v := range m.values(obj, true, false) {
			for _, p := range append(v.Indexes, kv.Pair{Name: kv.IndexKey, Value: k.Name}, kv.Pair{Name: kv.IndexBucket, Value: b.Name}) {
				sorts, err := kv.SortIndexTerm(field, p.Value)
				within := start <= sorts && sorts <= end || field == kv.IndexBucket
				if err == nil && strings.ToLower(p.Name) == field && within && regex.MatchString(p.Value) {
					seen[kv.Pair{Name: sorts, Value: k.Name}] = kv.IndexMatch{Term: kv.ShowIndexTerm(field, sorts), Key: k.Name}
				}
			}
		}
	}
	pairs := slices.SortedFunc(maps.Keys(seen), func(x, y kv.Pair) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Value, y.Value))
	})
	from, to, next, err := slice(len(pairs), q.Token, q.Limit)
	var page kv.IndexPage
	for _, p := range pairs[from:to] {
		page.Matches = append(page.Matches, seen[p])
	}
	page.Next = next
	return page, err
}

// Buckets lists a page of the buckets of a type.
func (m *Memory) Buckets(ctx context.Context, bucketType string, o kv.ListOptions) (kv.BucketPage, error) {
	bucketType = kv.PlainType(bucketType)
	if err := firstError(ctx.Err(), known(bucketType), between("limit", o.Limit, kv.MaxPage), between("timeout", o.Timeout, kv.MaxTimeout)); err != nil {
		return kv.BucketPage{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[string]bool)
	for k := range m.objects {
		if _, live := m.lookup(k); live > 0 && k.Type == bucketType {
			found[k.Bucket] = true
		}
	}
	names := slices.SortedFunc(maps.Keys(found), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	})
	from, to, next, err := slice(len(names), o.Token, o.Limit)
	return kv.BucketPage{Buckets: names[from:to], Next: next}, err
}

// slice is the part of a list of n that a page has; its token is where it begins.
func slice(n int, token string, limit int) (from, to int, next string, err error) {
	if token != "" {
		if from, err = strconv.Atoi(token); err != nil || from < 0 || from > n {
			return 0, 0, "", &kv.InvalidError{What: "token", Problem: "is not one that this query has returned"}
		}
	}
	if to = min(n, from+cmp.Or(limit, kv.DefaultPage)); to < n {
		next = strconv.Itoa(to)
	}
	return from, to, next, nil
}

// lookup is what a key holds, and how many of its values are live.
func (m *Memory) lookup(k kv.Key) (*object, int) {
	obj := m.objects[k]
	if obj == nil {
		return &object{}, 0
	}
	return obj, len(m.values(obj, true, false))
}

// write adds a value that replaces all up to the number seen.
func (m *Memory) write(k kv.Key, seen uint64, v kv.Value, request kv.RequestID) error {
	old := m.objects[k]
	if old == nil {
		old = &object{}
	}
	m.writes++
	if request == (kv.RequestID{}) {
		binary.BigEndian.PutUint64(request[:], m.writes)
	}
	if p := propsOf(k.Type); p.Latest() {
		seen = m.writes
	}
	next := &object{clock: m.writes}
	for _, s := range old.siblings {
		if s.number > seen && s.request != request {
			next.siblings = append(next.siblings, s)
		}
	}
	v.Data = bytes.Clone(v.Data)
	v.VTag = strconv.FormatUint(m.writes, 36)
	v.Modified = m.now()
	next.siblings = append(next.siblings, sibling{m.writes, request, v})
	size := 0
	for _, s := range next.siblings {
		size += len(s.value.Data)
	}
	if len(next.siblings) > kv.MaxSiblings {
		return fmt.Errorf("%v would hold %d values: %w", k, len(next.siblings), kv.ErrTooManySiblings)
	}
	if size >= kv.MaxObject {
		return fmt.Errorf("%v would be %d bytes long: %w", k, size, kv.ErrTooLarge)
	}
	if m.objects == nil {
		m.objects = map[kv.Key]*object{}
	}
	m.objects[k] = next
	return nil
}

// values are copies of the live values, and of tombstones if asked for.
func (m *Memory) values(obj *object, head, tombstones bool) []kv.Value {
	var out []kv.Value
	for _, s := range obj.siblings {
		v := s.value
		expired := !v.Expires.IsZero() && !m.now().Before(v.Expires)
		if expired || v.Deleted && !tombstones {
			continue
		}
		v.Data = bytes.Clone(v.Data)
		if head {
			v.Data = nil
		}
		out = append(out, v)
	}
	return out
}

func (m *Memory) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// replies are those of all replicas, which always agree.
func (m *Memory) replies(k kv.Key, n int, result kv.Result) []kv.Reply {
	var out []kv.Reply
	for i := range cmp.Or(n, memoryReplicas) {
		p := kv.Partition{Index: (home(k) + i) % memoryPartitions, Of: memoryPartitions}
		out = append(out, kv.Reply{Partition: p, Node: memoryNode, Role: kv.Primary, Result: result})
	}
	return out
}

func home(k kv.Key) int {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q", []string{k.Type, k.Bucket, k.Name})
	return int(h.Sum32() % memoryPartitions)
}

// place is where a key stands in a listing.
type place struct {
	home int
	name string
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.home, q.home), cmp.Compare(p.name, q.name))
}

func (p place) token() string {
	return fmt.Sprintf("%d.%s", p.home, base64.RawURLEncoding.EncodeToString([]byte(p.name)))
}

func readToken(token string) (place, error) {
	if token == "" {
		return place{home: -1}, nil
	}
	bad := &kv.InvalidError{What: "token", Problem: "is not one of this store"}
	at, name, found := strings.Cut(token, ".")
	n, err := strconv.Atoi(at)
	if !found || err != nil {
		return place{}, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil {
		return place{}, bad
	}
	return place{n, string(b)}, nil
}

// makeContext is a number and a hash that binds it to the key. A key that was
// never written has none.
func makeContext(k kv.Key, number uint64) kv.Context {
	if number == 0 {
		return nil
	}
	c := binary.BigEndian.AppendUint64(nil, number)
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", []string{k.Type, k.Bucket, k.Name, string(c)})
	return h.Sum(c)
}

func readContext(k kv.Key, c kv.Context) (uint64, error) {
	if len(c) == 0 {
		return 0, nil
	}
	if len(c) == 16 {
		number := binary.BigEndian.Uint64(c)
		if bytes.Equal(makeContext(k, number), c) {
			return number, nil
		}
	}
	return 0, fmt.Errorf("%w for %v", kv.ErrContext, k)
}

// propsOf are the properties of a type.
func propsOf(name string) kv.Props {
	p := kv.DefaultProps(memoryReplicas, true)
	for _, t := range Types() {
		if kv.PlainType(t.Name) == name {
			p, _ = p.With(t.Props)
		}
	}
	return p
}

// known says that there is no such type; nil: there is.
func known(name string) error {
	if name == "" || slices.ContainsFunc(Types(), func(t Type) bool { return t.Name == name }) {
		return nil
	}
	return fmt.Errorf("%w: %q", kv.ErrBucketType, name)
}

func checkRead(o kv.ReadOptions) error {
	return checkOptions(o.N, o.NodeConfirms, o.Timeout, o.Linger, map[string]kv.Quorum{"R": o.R, "PR": o.PR})
}

func checkWrite(o kv.WriteOptions) error {
	return checkOptions(o.N, o.NodeConfirms, o.Timeout, o.Linger, map[string]kv.Quorum{"W": o.W, "DW": o.DW, "PW": o.PW})
}

func checkOptions(n, nodes int, timeout, linger time.Duration, quorums map[string]kv.Quorum) error {
	err := firstError(between("timeout", timeout, kv.MaxTimeout), between("linger", linger, kv.MaxLinger))
	switch {
	case err != nil:
		return err
	case n < 0 || n > memoryReplicas:
		return &kv.InvalidError{What: "N", Problem: fmt.Sprintf("must be from 1 to the bucket's %d", memoryReplicas)}
	case nodes < 0 || nodes > cmp.Or(n, memoryReplicas):
		return &kv.InvalidError{What: "node_confirms", Problem: fmt.Sprintf("is %d; there are %d replicas", nodes, cmp.Or(n, memoryReplicas))}
	}
	n = cmp.Or(n, memoryReplicas)
	for _, name := range slices.Sorted(maps.Keys(quorums)) {
		if q := quorums[name]; q < kv.All || int(q) > n {
			return &kv.InvalidError{What: name, Problem: fmt.Sprintf("is %v; there are %d replicas", q, n)}
		}
	}
	return nil
}

// confirms refuses more nodes than the one there is.
func confirms(op string, nodes int) error {
	if nodes <= 1 {
		return nil
	}
	return &kv.QuorumError{Op: op, Need: "node_confirms", Want: nodes, Got: 1}
}

func between[T int | time.Duration](what string, n, most T) error {
	if n >= 0 && n <= most {
		return nil
	}
	return &kv.InvalidError{What: what, Problem: fmt.Sprintf("is %v; it must be from 0 to %v", n, most)}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

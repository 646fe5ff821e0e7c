// Package kv is the vocabulary of TanoDB: keys, values, the options of a
// request, its receipt, its errors, and the Store interface.
//
// Portable code takes a kv.Store. The node inside your process, a client over
// the network and the simulated cluster all implement it, and all of them pass
// the suite in package kvtest.
//
// Counters, sets and maps, which are changed by operations, are in DataTypes.
//
// A key holds one value, or several ("siblings") that were written
// concurrently. Every read returns a Context, an opaque token of what was seen;
// a write that carries it replaces exactly that, and nothing else. A write
// without a Context replaces nothing: it becomes a sibling of what is there.
package kv

import (
	"context"
	"math/big"
	"time"
)

// Key names one object. An empty Type is the default bucket type.
type Key struct {
	Type   string
	Bucket string
	Name   string
}

// Bucket names a set of keys. An empty Type is the default bucket type.
type Bucket struct {
	Type string
	Name string
}

// Context is what a read saw, to be handed to the write that replaces it. It is
// opaque, belongs to one key, and an empty one has seen nothing.
type Context []byte

// Pair is a name and a value, both free bytes.
type Pair struct {
	Name  string
	Value string
}

// Value is what an application stores under a key.
type Value struct {
	Data            []byte
	ContentType     string // MIME type; kept, not interpreted
	Charset         string
	ContentEncoding string
	Meta            []Pair    // user metadata, in the writer's order
	Indexes         []Pair    // secondary index entries, in the writer's order
	Expires         time.Time // the value is gone from this instant on; zero: never

	// The rest is set by the store and ignored in a Put.

	Modified time.Time // wall clock of the coordinator that accepted it
	VTag     string    // names this version of this key; changes with every write
	Deleted  bool      // a tombstone; only seen where ReadOptions.Tombstones asks for it
}

// Object is what a key holds, and the story of the read.
type Object struct {
	Values  []Value // one, or several written concurrently; none: not found
	Context Context
	Replies []Reply
}

// Receipt is the story of a write.
type Receipt struct {
	// Context lets the next write replace this one without a read. It is empty
	// if the write was not accepted, and also if values that its writer has not
	// seen stand beside it: a context would cover them, so it takes a read, or
	// WriteOptions.ReturnBody, to get one.
	Context Context

	Values  []Value // what the key holds after the write; only with WriteOptions.ReturnBody
	Replies []Reply
}

// Role says why a replica holds a key.
type Role string

// The roles of a replica.
const (
	Primary  Role = "primary"  // on the node that owns the partition
	Fallback Role = "fallback" // on a node that stands in while the owner is down
	Incoming Role = "incoming" // on a node that is becoming the owner, and is written to already
)

// Result is what one replica answered.
type Result string

// The results of a replica.
const (
	OK       Result = "ok"        // stored, as durably as the bucket asks
	Found    Result = "found"     // has, or had before the delete, a live value
	NotFound Result = "not_found" // has, or had before the delete, no live value
	Down     Result = "down"      // not asked, or gone before it answered: its node is down
	Refused  Result = "refused"   // certainly did nothing; Reply.Error says why
	Failed   Result = "failed"    // answered with an error; Reply.Error says which
	Pending  Result = "pending"   // had not answered when the request was
)

// Reply is one replica's part in a request.
type Reply struct {
	Partition Partition
	Node      string
	Role      Role
	Result    Result
	Elapsed   time.Duration // from the start of the request to this reply
	Error     string        // for Refused and Failed
	Repaired  bool          // of a read: the replica was stale, and is sent the merged object right after the answer
}

// Partition is one arc of the ring: number Index of Of equal ones.
type Partition struct {
	Index int
	Of    int
}

// Position is where the partition starts on the ring of 2^160 points. It is
// the name that Riak gives the partition.
func (p Partition) Position() *big.Int {
	if p.Of <= 0 {
		return new(big.Int)
	}
	n := new(big.Int).Lsh(big.NewInt(1), 160)
	n.Div(n, big.NewInt(int64(p.Of)))
	return n.Mul(n, big.NewInt(int64(p.Index)))
}

// String is the decimal Position.
func (p Partition) String() string { return p.Position().String() }

// MarshalText is String: decimal, since JSON numbers lose digits.
func (p Partition) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// KeyPage is a piece of a bucket's keys.
type KeyPage struct {
	Keys []string
	Next string // ListOptions.Token of the next page; empty: this is the last
}

// ReplicaKeys is what one vnode holds of a bucket: its own answer, not merged
// with any other.
type ReplicaKeys struct {
	Partition Partition
	Node      string
	Keys      []string
	More      bool   // there are more keys than one answer may carry
	Error     string // why this vnode did not answer; empty: it did
}

// Store is a replicated key/value store. Its methods may be called by many
// goroutines at once.
//
// The Object, Receipt and their Replies are meaningful also when the error is
// not nil: they say how far the request came. Errors are those of this package.
type Store interface {
	// Get reads a key. ErrNotFound: it holds no live value; the Object then
	// still carries the Context of its tombstone, if there is one.
	Get(ctx context.Context, k Key, o ReadOptions) (Object, error)

	// Put writes a value that replaces what WriteOptions.Context has seen.
	Put(ctx context.Context, k Key, v Value, o WriteOptions) (Receipt, error)

	// Delete replaces what WriteOptions.Context has seen by a tombstone. Without
	// a Context it reads the key first, and answers ErrNotFound, having
	// written nothing, if there is no live value.
	Delete(ctx context.Context, k Key, o WriteOptions) (Receipt, error)

	// Keys lists a page of a bucket's keys, each once. Within a partition they
	// come in order; the order of partitions is that of the ring. Keys written
	// or deleted during the listing may or may not be in it.
	Keys(ctx context.Context, b Bucket, o ListOptions) (KeyPage, error)
}

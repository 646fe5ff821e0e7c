package tanodb

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// Get reads a key. See kv.Store.
func (n *Node) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	c := n.called(ctx, "get", k)
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewGet(n.view(), coordinator.GetRequest{Key: k, Options: o})
	err := n.run(ctx, m, c.trail)
	var obj kv.Object
	if err == nil {
		obj, err = m.Result()
	}
	c.told(err, func() story { return story{o, obj.Replies} })
	if measured && err == nil {
		n.metrics.read(obj.Values)
		n.sketches.read(k, obj.Values)
	}
	return obj, err
}

// Put writes a value. See kv.Store.
func (n *Node) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	c := n.called(ctx, "put", k)
	n.name(&o)
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewWrite(n.view(), coordinator.PutRequest{Key: k, Value: v, Options: o})
	err := n.runWrite(ctx, m, c.trail)
	var r kv.Receipt
	if err == nil {
		r, err = m.Result()
	}
	c.told(err, func() story { return story{o, r.Replies} })
	n.metrics.wrote(&v)
	return r, err
}

// Delete replaces values by a tombstone. See kv.Store.
func (n *Node) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	c := n.called(ctx, "delete", k)
	n.name(&o)
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewDelete(n.view(), coordinator.PutRequest{Key: k, Options: o})
	err := n.runWrite(ctx, m, c.trail)
	var r kv.Receipt
	if err == nil {
		r, err = m.Result()
	}
	c.told(err, func() story { return story{o, r.Replies} })
	return r, err
}

// Fetch reads a data type. See kv.DataTypes.
func (n *Node) Fetch(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Data, error) {
	c := n.called(ctx, "fetch", k)
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewFetch(n.view(), coordinator.GetRequest{Key: k, Options: o})
	err := n.run(ctx, m, c.trail)
	var d kv.Data
	if err == nil {
		d, err = m.Result()
	}
	c.told(err, func() story { return story{o, d.Replies} })
	return d, err
}

// Update applies an operation to a data type. See kv.DataTypes. One that its caller has
// not named needs no name: nobody can send it again.
func (n *Node) Update(ctx context.Context, k kv.Key, op kv.Op, o kv.WriteOptions) (kv.Data, error) {
	c := n.called(ctx, "update", k)
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewUpdate(n.view(), k, op, o)
	err := n.runWrite(ctx, m, c.trail)
	var d kv.Data
	if err == nil {
		d, err = m.Result()
	}
	c.told(err, func() story { return story{o, d.Replies} })
	return d, err
}

// Keys lists a page of a bucket. See kv.Store.
func (n *Node) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	c := n.called(ctx, "keys", ofBucket(b))
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewKeys(n.view(), coordinator.KeysRequest{Bucket: b, Options: o})
	err := n.run(ctx, m, c.trail)
	var page kv.KeyPage
	if err == nil {
		page, err = m.Result()
	}
	c.told(err, func() story { return story{o, nil} })
	return page, err
}

// Index answers a page of a query of a secondary index. See kv.Indexer.
func (n *Node) Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error) {
	c := n.called(ctx, "index", ofBucket(b))
	q.Timeout = within(ctx, q.Timeout)
	m := coordinator.NewIndex(n.view(), coordinator.IndexRequest{Bucket: b, Query: q})
	err := n.run(ctx, m, c.trail)
	var page kv.IndexPage
	if err == nil {
		page, err = m.Result()
	}
	c.told(err, func() story { return story{q, nil} })
	return page, err
}

// Buckets lists a page of the buckets of a type. See kv.BucketLister.
func (n *Node) Buckets(ctx context.Context, bucketType string, o kv.ListOptions) (kv.BucketPage, error) {
	c := n.called(ctx, "buckets", kv.Key{Type: bucketType})
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewBuckets(n.view(), coordinator.BucketsRequest{Type: bucketType, Options: o})
	err := n.run(ctx, m, c.trail)
	var page kv.BucketPage
	if err == nil {
		page, err = m.Result()
	}
	c.told(err, func() story { return story{o, nil} })
	return page, err
}

// ReplicaKeys asks every vnode of the ring which live keys of the bucket it
// holds, up to the limit of the options each. There is one element for each
// partition, in the order of the ring; one that did not answer says why.
func (n *Node) ReplicaKeys(ctx context.Context, b kv.Bucket, o kv.ListOptions) ([]kv.ReplicaKeys, error) {
	c := n.called(ctx, "replica_keys", ofBucket(b))
	o.Timeout = within(ctx, o.Timeout)
	m := coordinator.NewCensus(n.view(), coordinator.KeysRequest{Bucket: b, Options: o})
	err := n.run(ctx, m, c.trail)
	var all []kv.ReplicaKeys
	if err == nil {
		all, err = m.Result()
	}
	c.told(err, func() story { return story{o, nil} })
	return all, err
}

// Ping asks a random partition whether it is there, and others if it is not.
// The reply says which one answered.
func (n *Node) Ping(ctx context.Context) (kv.Reply, error) {
	c := n.called(ctx, "ping", kv.Key{})
	m := coordinator.NewPing(n.view(), within(ctx, 0))
	err := n.run(ctx, m, c.trail)
	var r kv.Reply
	if err == nil {
		r, err = m.Result()
	}
	c.told(err, func() story { return story{nil, []kv.Reply{r}} })
	return r, err
}

// Explain is who holds a key: its preference list, with a fallback for each
// primary whose node is down. Nobody is asked; the results are Pending for those that
// a request would ask now, and Down for the others.
func (n *Node) Explain(k kv.Key) []kv.Reply {
	s := n.state()
	r := s.Ring()
	home := r.Home(k)
	var replies []kv.Reply
	for _, p := range ring.Places(r, s.Next(), home, s.Replicas(), s.Replicas()) {
		reply := kv.Reply{Partition: r.Partition(p.Partition), Node: p.Node, Role: p.Role, Result: kv.Pending}
		if !n.live.up(p.Node) {
			reply.Result, reply.Error = kv.Down, "the node is down"
		}
		replies = append(replies, reply)
	}
	for _, p := range r.Preflist(home, s.Replicas(), n.live.up) {
		if p.Role == kv.Fallback {
			replies = append(replies, kv.Reply{Partition: r.Partition(p.Partition), Node: p.Node, Role: p.Role, Result: kv.Pending})
		}
	}
	return replies
}

// name gives a write an id, unless it has one.
func (n *Node) name(o *kv.WriteOptions) {
	if o.RequestID != (kv.RequestID{}) {
		return
	}
	binary.BigEndian.PutUint64(o.RequestID[:8], n.random())
	binary.BigEndian.PutUint64(o.RequestID[8:], n.random())
}

// random is chance that nobody needs to be safe from.
func (n *Node) random() uint64 {
	r := n.seeds.Get().(*rand.Rand)
	defer n.seeds.Put(r)
	return r.Uint64()
}

// freshActor is a name that no vnode ever had.
func freshActor() (a object.Actor) {
	if _, err := crand.Read(a[:]); err != nil {
		panic("tanodb: no randomness: " + err.Error()) // crypto/rand never fails on the systems we run on
	}
	return a
}

// within is the timeout of a request, or what the context leaves of it, less a
// little so that the machine's own answer comes first.
func within(ctx context.Context, timeout time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return timeout
	}
	left := time.Until(deadline)
	left = max(left-min(left/20, 20*time.Millisecond), time.Millisecond)
	if timeout == 0 {
		timeout = kv.DefaultTimeout
	}
	return min(timeout, left)
}

func clusterID(id [16]byte) string { return hex.EncodeToString(id[:]) }

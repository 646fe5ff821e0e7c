package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// Cluster is a simulated cluster as a kv.Store. Each call goes to a node drawn by
// chance, and runs the simulation until it is answered; calls from several
// goroutines take turns. Simulated time passes only during calls.
type Cluster struct {
	mu sync.Mutex
	s  *Sim
}

var (
	_ kv.Store     = (*Cluster)(nil)
	_ kv.DataTypes = (*Cluster)(nil)
)

// NewCluster starts a cluster in this weather, without its clients and its
// faults that come at intervals, and waits until all nodes are up.
func NewCluster(w Weather) (*Cluster, error) {
	s := newSim(w, Options{types: kvtest.Types()})
	if !s.runUntil(upWithin, s.allUp) {
		return nil, fmt.Errorf("the simulated cluster does not come up in %v: %v", upWithin, s.found)
	}
	return &Cluster{s: s}, nil
}

// Pass moves the wall clocks of all nodes on.
func (c *Cluster) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.s.nodes {
		n.turnClock(d)
	}
}

// Get implements kv.Store.
func (c *Cluster) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	return call(c, ctx, o.Timeout, func(v coordinator.View) machine[kv.Object] {
		return coordinator.NewGet(v, coordinator.GetRequest{Key: k, Options: o})
	})
}

// Put implements kv.Store.
func (c *Cluster) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	return call(c, ctx, o.Timeout, func(view coordinator.View) machine[kv.Receipt] {
		return coordinator.NewWrite(view, coordinator.PutRequest{Key: k, Value: v, Options: c.named(o)})
	})
}

// Delete implements kv.Store.
func (c *Cluster) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	return call(c, ctx, o.Timeout, func(view coordinator.View) machine[kv.Receipt] {
		return coordinator.NewDelete(view, coordinator.PutRequest{Key: k, Options: c.named(o)})
	})
}

// Fetch implements kv.DataTypes.
func (c *Cluster) Fetch(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Data, error) {
	return call(c, ctx, o.Timeout, func(view coordinator.View) machine[kv.Data] {
		return coordinator.NewFetch(view, coordinator.GetRequest{Key: k, Options: o})
	})
}

// Update implements kv.DataTypes.
func (c *Cluster) Update(ctx context.Context, k kv.Key, op kv.Op, o kv.WriteOptions) (kv.Data, error) {
	return call(c, ctx, o.Timeout, func(view coordinator.View) machine[kv.Data] {
		return coordinator.NewUpdate(view, k, op, o)
	})
}

// Keys implements kv.Store.
func (c *Cluster) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	return call(c, ctx, o.Timeout, func(view coordinator.View) machine[kv.KeyPage] {
		return coordinator.NewKeys(view, coordinator.KeysRequest{Bucket: b, Options: o})
	})
}

// named gives the write an id, if it has none.
func (c *Cluster) named(o kv.WriteOptions) kv.WriteOptions {
	if o.RequestID == (kv.RequestID{}) {
		binary.BigEndian.PutUint64(o.RequestID[:8], c.s.chaos.Uint64())
		binary.BigEndian.PutUint64(o.RequestID[8:], c.s.chaos.Uint64())
	}
	return o
}

// machine is a coordinator with a result.
type machine[T any] interface {
	coordinator.Machine
	Result() (T, error)
}

// call runs a machine, made from a node's view, until it answers.
func call[T any](c *Cluster, ctx context.Context, timeout time.Duration, start func(coordinator.View) machine[T]) (result T, err error) {
	switch ctx.Err() {
	case nil:
	case context.DeadlineExceeded:
		return result, kv.ErrTimeout
	default:
		return result, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return runOn(c.s, c.s.anyNode(), timeout, start)
}

// runOn runs a machine on a node, made from its view, until it answers or the node
// goes away.
func runOn[T any](s *Sim, n *node, timeout time.Duration, start func(coordinator.View) machine[T]) (result T, err error) {
	if timeout <= 0 || timeout > kv.MaxTimeout {
		timeout = kv.DefaultTimeout
	}
	m := start(n.view())
	answered, gone := false, false
	n.run(m, noKey, timeout, func(*request) { answered = true }, func() { gone = true })
	if !s.runUntil(s.now+timeout+answerSlack, func() bool { return answered || gone }) {
		return result, fmt.Errorf("%w: the simulated cluster did not answer: %v", kv.ErrInternal, s.found)
	}
	if gone {
		return result, fmt.Errorf("%w: %s has gone away", kv.ErrInDoubt, n.name)
	}
	return m.Result()
}

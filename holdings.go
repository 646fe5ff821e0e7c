package tanodb

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// Holding is what one vnode has of a key.
type Holding struct {
	Partition kv.Partition
	Node      string
	Role      kv.Role       // a Fallback is anybody who should not have it in the end
	Result    kv.Result     // Found, NotFound (nothing, or dead), Down, Refused or Failed
	Error     string        // for all but the first two
	Clock     []ClockEntry  // what it has seen of the key; empty: it has nothing, not even a tombstone
	Values    int           // live ones
	Dead      int           // tombstones and expired values
	Bytes     int64         // of all values
	Behind    bool          // some other vnode of the answer has seen something that this one has not
	Elapsed   time.Duration // until it had answered
}

// ClockEntry says that all writes of an actor up to the counter have been seen. An actor is
// one incarnation of a vnode.
type ClockEntry struct {
	Actor   string
	Counter uint64
}

// ReadClock is what a context has seen of its key.
func ReadClock(k kv.Key, c kv.Context) ([]ClockEntry, error) {
	v, err := object.DecodeContext(k, c)
	return clockEntries(v), err
}

func clockEntries(v object.Vector) []ClockEntry {
	var entries []ClockEntry
	for _, d := range v {
		entries = append(entries, ClockEntry{d.Actor.String(), d.Counter})
	}
	return entries
}

const (
	// holdingsWithin is how long the vnodes have to say what they hold.
	holdingsWithin = 2 * time.Second

	// maxHoldingAsks is how many vnodes are asked what they hold of a key. Where places
	// times nodes are more, only the places of the key are.
	maxHoldingAsks = 256
)

// Holdings asks what is held of a key, vnode by vnode: its places, in the order of its
// preference list, and then every other node for what it keeps on behalf of a place, if that is
// anything. Nothing is merged, and nothing is repaired.
func (n *Node) Holdings(ctx context.Context, k kv.Key) ([]Holding, error) {
	k.Type = kv.PlainType(k.Type)
	if err := k.Validate(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(holdingsWithin)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	s := n.state()
	home := s.Ring().Home(k)
	holders, places := n.holders(home)
	holdings := make([]Holding, len(holders))
	seen := make([]object.Vector, len(holders))
	var asked sync.WaitGroup
	for i, r := range holders {
		holdings[i] = Holding{Partition: s.Ring().Partition(r.Partition), Node: r.Node, Role: r.Role}
		asked.Go(func() {
			begun := time.Now()
			m, err := n.askVnode(r, s.Epoch(), &vnode.Fetch{Home: home, Key: k}, deadline)
			seen[i] = holdings[i].take(m, err, n.o.Clock().UnixMilli())
			holdings[i].Elapsed = time.Since(begun)
		})
	}
	asked.Wait()
	compareClocks(holdings, seen)
	return withoutIdle(holdings, places), nil
}

// holders are the vnodes to ask: so many places first, and then all others that may have
// something on their behalf.
func (n *Node) holders(home ring.Partition) (all []ring.Replica, places int) {
	s := n.state()
	for _, p := range ring.Places(s.Ring(), s.Next(), home, s.Replicas(), s.Replicas()) {
		all = append(all, p.Replica)
	}
	places = len(all)
	members := s.Members()
	if places*len(members) > maxHoldingAsks {
		return all, places
	}
	for _, p := range slices.Clone(all) {
		for _, m := range members {
			r := ring.Replica{Partition: p.Partition, Node: m.Name, Role: kv.Fallback}
			known := slices.ContainsFunc(all, func(o ring.Replica) bool { return o.Partition == r.Partition && o.Node == r.Node })
			if !known && n.live.up(m.Name) {
				all = append(all, r)
			}
		}
	}
	return all, places
}

// askVnode asks a vnode, on this node or another, and waits for its answer.
func (n *Node) askVnode(r ring.Replica, epoch uint64, m vnode.Message, deadline time.Time) (vnode.Message, error) {
	if r.Node == n.self {
		return n.read(r.Partition, epoch, m), nil
	}
	if n.network == nil || !n.live.up(r.Node) {
		return nil, errNodeDown
	}
	type outcome struct {
		m   vnode.Message
		err error
	}
	answered := make(chan outcome, 1)
	n.network.Ask(r.Node, transport.Requests, transport.Frame{Epoch: epoch, To: r.Partition, Msg: m, Timeout: time.Until(deadline)}, deadline,
		func(m vnode.Message, err error) { answered <- outcome{m, err} })
	a := <-answered // at the deadline at the latest
	return a.m, a.err
}

// take reads an answer, and returns what the vnode has seen of the key.
func (h *Holding) take(m vnode.Message, err error, nowMs int64) object.Vector {
	f, ok := m.(*vnode.Fetched)
	switch {
	case err == errNodeDown:
		h.Result, h.Error = kv.Down, err.Error()
		return nil
	case err != nil:
		h.Result, h.Error = kv.Failed, err.Error()
		return nil
	case !ok:
		if h.Result = kv.Failed; isRefusal(m) {
			h.Result = kv.Refused
		}
		h.Error = refusalText(m)
		return nil
	}
	h.Result = kv.NotFound
	if len(f.Object) == 0 {
		return nil
	}
	o, err := object.DecodeHead(f.Object)
	if err != nil {
		h.Result, h.Error = kv.Failed, err.Error()
		return nil
	}
	for i := range o.Siblings {
		h.Bytes += int64(o.Siblings[i].Size)
		if o.Siblings[i].Live(nowMs) {
			h.Values++
			h.Result = kv.Found
		} else {
			h.Dead++
		}
	}
	h.Clock = clockEntries(o.Clock)
	return o.Clock
}

func isRefusal(m vnode.Message) bool {
	_, ok := m.(*vnode.Refusal)
	return ok
}

// compareClocks finds who has not seen all that somebody else has.
func compareClocks(holdings []Holding, seen []object.Vector) {
	var all object.Vector
	for _, v := range seen {
		all = all.Join(v)
	}
	for i := range holdings {
		answered := holdings[i].Result == kv.Found || holdings[i].Result == kv.NotFound
		holdings[i].Behind = answered && !seen[i].Descends(all)
	}
}

// withoutIdle leaves out who holds nothing and need not, and orders the others.
func withoutIdle(holdings []Holding, places int) []Holding {
	out := holdings[:places:places]
	for _, h := range holdings[places:] {
		if len(h.Clock) > 0 {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out[places:], func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Partition.Index, b.Partition.Index), cmp.Compare(a.Node, b.Node))
	})
	return out
}

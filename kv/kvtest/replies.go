package kvtest

import (
	"github.com/tanodb/tanodb/kv"
)

// These requests show all replicas, and primaries alone: on a busy machine one of them may
// be so late that another node is asked to stand in for it.
var (
	lingerWrite = kv.WriteOptions{Linger: enough, SloppyQuorum: kv.Off}
	lingerRead  = kv.ReadOptions{Linger: enough, SloppyQuorum: kv.Off}
)

var replies = []testCase{
	{"a put that lingers shows all replicas", func(r *run) {
		receipt := r.putValue(r.key("k"), kv.Value{Data: []byte("a")}, lingerWrite)
		r.allReply(receipt.Replies, kv.OK)
	}},
	{"a get that lingers shows who has the key", func(r *run) {
		r.put(r.key("k"), "a", nil)
		r.allReply(r.get(r.key("k"), lingerRead).Replies, kv.Found)
	}},
	{"a get of an absent key shows that nobody has it", func(r *run) {
		obj, err := r.store.Get(r.Context(), r.key("never"), lingerRead)
		r.wants(err, kv.ErrNotFound)
		r.allReply(obj.Replies, kv.NotFound)
	}},
	{"a get of a deleted key shows that nobody has it", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.delete(k, nil)
		obj, err := r.store.Get(r.Context(), k, lingerRead)
		r.wants(err, kv.ErrNotFound)
		r.allReply(obj.Replies, kv.NotFound)
	}},
	{"reads and writes of a key go to the same replicas", func(r *run) {
		k := r.key("k")
		receipt := r.putValue(k, kv.Value{Data: []byte("a")}, lingerWrite)
		obj := r.get(k, lingerRead)
		at := map[kv.Partition]string{}
		for _, reply := range receipt.Replies {
			at[reply.Partition] = reply.Node
		}
		for _, reply := range obj.Replies {
			if at[reply.Partition] != reply.Node {
				r.Fatalf("partition %v: written on %q, read on %q", reply.Partition, at[reply.Partition], reply.Node)
			}
		}
	}},
	{"replies come without lingering too, as many as were asked for", func(r *run) {
		receipt := r.putValue(r.key("k"), kv.Value{Data: []byte("a")}, kv.WriteOptions{W: kv.All, SloppyQuorum: kv.Off})
		r.replied(receipt.Replies, kv.OK, r.o.Replicas)
		r.replied(r.get(r.key("k"), kv.ReadOptions{SloppyQuorum: kv.Off}).Replies, kv.Found, r.o.Replicas/2+1)
		r.replied(r.get(r.key("k"), kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off}).Replies, kv.Found, r.o.Replicas)
	}},
	{"the replicas of a key are on as many nodes as there are", func(r *run) {
		receipt := r.putValue(r.key("k"), kv.Value{Data: []byte("a")}, lingerWrite)
		nodes := map[string]bool{}
		for _, reply := range receipt.Replies {
			nodes[reply.Node] = true
		}
		if len(nodes) != r.o.Nodes {
			r.Fatalf("replicas on %d nodes, want %d: %+v", len(nodes), r.o.Nodes, receipt.Replies)
		}
	}},
}

// allReply checks that all replicas answered, as primaries, with one result.
func (r *run) allReply(rs []kv.Reply, want kv.Result) {
	r.Helper()
	if len(rs) != r.o.Replicas {
		r.Fatalf("%d replies, want %d: %+v", len(rs), r.o.Replicas, rs)
	}
	r.replied(rs, want, r.o.Replicas)
}

// replied checks that at least so many replicas answered with a result, and
// that every reply makes sense.
func (r *run) replied(rs []kv.Reply, want kv.Result, atLeast int) {
	r.Helper()
	seen := map[kv.Partition]bool{}
	got := 0
	for _, reply := range rs {
		p := reply.Partition
		if p.Of <= 0 || p.Index < 0 || p.Index >= p.Of || reply.Node == "" || reply.Elapsed < 0 || reply.Role != kv.Primary {
			r.Fatalf("reply %+v makes no sense in a healthy cluster", reply)
		}
		if seen[p] {
			r.Fatalf("partition %v replied twice: %+v", p, rs)
		}
		seen[p] = true
		if reply.Result == want {
			got++
		}
	}
	if got < atLeast {
		r.Fatalf("%d replies are %q, want at least %d: %+v", got, want, atLeast, rs)
	}
}

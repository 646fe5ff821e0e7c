// Package api is the JSON of TanoDB's own HTTP routes, those under /_tanodb/:
// the server writes it, the command line and other clients read it. Each type
// converts from the words of package kv and back.
//
//	GET, PUT, DELETE /_tanodb/buckets/B/keys/K           Object, Receipt
//	GET, PUT, DELETE /_tanodb/types/T/buckets/B/keys/K   the same in a bucket type
//	GET /_tanodb/buckets/B/keys                          Keys
//	GET /_tanodb/buckets/B/keys?replicas=true            []ReplicaKeys
//	GET /_tanodb/explain/buckets/B/keys/K                Explanation
//	GET /_tanodb/ping                                    Ping
//	GET /_tanodb/status                                  tanodb.Status
//	GET /_tanodb/cluster                                 tanodb.ClusterState
//	GET /_tanodb/cluster/transfers                       Transfers
//	GET /_tanodb/cluster/nodes                           Nodes
//	GET /_tanodb/cluster/plan                            tanodb.Plan
//	POST /_tanodb/cluster/stage                          tanodb.Change, and the same as answer
//	POST /_tanodb/cluster/join and so on                 Join, Commit, Clear, Down, Recover, Repair, Limits, Deletes
//	GET /_tanodb/hot                                     Hot
//	GET /_tanodb/settings                                Settings
//	POST /_tanodb/settings/set                           SetOrder, and Setting as answer
//	GET /_tanodb/repair                                  Repairs
//	POST /_tanodb/repair/pause, /resume                  RepairOrder, and Repairs as answer
//	POST /_tanodb/repair/verify                          RepairOrder, and tanodb.Verified as answer
//	GET /_tanodb/backup                                  tanodb.BackupInfo
//	POST /_tanodb/backup/home                            tanodb.BackupAsk, and a stream as answer
//	POST /_tanodb/restore                                a stream, and tanodb.Restored as answer
//	POST /_tanodb/restore/types                          tanodb.BackupProps, and RestoredProps as answer
//
// Every status from 400 on comes with an Error.
package api

import (
	"fmt"
	"math/big"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// Reply is one replica's part in a request.
type Reply struct {
	Partition string    `json:"partition"` // decimal position on the ring
	Node      string    `json:"node"`
	Role      kv.Role   `json:"role"`
	Result    kv.Result `json:"result"`
	ElapsedUS int64     `json:"elapsed_us"` // microseconds from the start of the request
	Error     string    `json:"error,omitempty"`
	Repaired  bool      `json:"repaired,omitempty"`
}

// Replies converts replies. The result is never nil, so that it is [] in JSON.
func Replies(rs []kv.Reply) []Reply {
	out := make([]Reply, len(rs))
	for i, r := range rs {
		out[i] = Reply{
			Partition: r.Partition.String(),
			Node:      r.Node,
			Role:      r.Role,
			Result:    r.Result,
			ElapsedUS: r.Elapsed.Microseconds(),
			Error:     r.Error,
			Repaired:  r.Repaired,
		}
	}
	return out
}

// KVReplies converts replies back. Partitions is the size of the ring.
func KVReplies(rs []Reply, partitions int) ([]kv.Reply, error) {
	var out []kv.Reply
	for _, r := range rs {
		p, err := ParsePartition(r.Partition, partitions)
		if err != nil {
			return nil, err
		}
		out = append(out, kv.Reply{
			Partition: p,
			Node:      r.Node,
			Role:      r.Role,
			Result:    r.Result,
			Elapsed:   time.Duration(r.ElapsedUS) * time.Microsecond,
			Error:     r.Error,
			Repaired:  r.Repaired,
		})
	}
	return out, nil
}

// ParsePartition reads the decimal position of one of so many partitions.
func ParsePartition(position string, partitions int) (kv.Partition, error) {
	pos, ok := new(big.Int).SetString(position, 10)
	if !ok {
		return kv.Partition{}, fmt.Errorf("partition %q is not a decimal number", position)
	}
	width := kv.Partition{Index: 1, Of: partitions}.Position()
	if width.Sign() <= 0 {
		return kv.Partition{}, fmt.Errorf("partition %s belongs to no ring of %d partitions", position, partitions)
	}
	index, rest := new(big.Int).QuoRem(pos, width, new(big.Int))
	if rest.Sign() != 0 || index.Sign() < 0 || index.Cmp(big.NewInt(int64(partitions))) >= 0 {
		return kv.Partition{}, fmt.Errorf("partition %s belongs to no ring of %d partitions", position, partitions)
	}
	return kv.Partition{Index: int(index.Int64()), Of: partitions}, nil
}

// ringSize is the number of partitions that the replies speak of; 0: there are
// no replies.
func ringSize(rs []kv.Reply) int {
	if len(rs) == 0 {
		return 0
	}
	return rs[0].Partition.Of
}

// Pair is a name and a value of metadata or of an index.
type Pair struct {
	Name  Text `json:"name"`
	Value Text `json:"value"`
}

func pairs(ps []kv.Pair) []Pair {
	var out []Pair
	for _, p := range ps {
		out = append(out, Pair{Text(p.Name), Text(p.Value)})
	}
	return out
}

func kvPairs(ps []Pair) []kv.Pair {
	var out []kv.Pair
	for _, p := range ps {
		out = append(out, kv.Pair{Name: string(p.Name), Value: string(p.Value)})
	}
	return out
}

// Value is a stored value.
type Value struct {
	Data            []byte    `json:"data"` // base64; null in a read of heads
	ContentType     Text      `json:"content_type,omitempty"`
	Charset         Text      `json:"charset,omitempty"`
	ContentEncoding Text      `json:"content_encoding,omitempty"`
	Meta            []Pair    `json:"meta,omitempty"`
	Indexes         []Pair    `json:"indexes,omitempty"`
	Expires         time.Time `json:"expires,omitzero"`
	Modified        time.Time `json:"modified,omitzero"`
	VTag            string    `json:"vtag,omitempty"`
	Deleted         bool      `json:"deleted,omitempty"`
}

// Values converts values. The result is never nil.
func Values(vs []kv.Value) []Value {
	out := make([]Value, len(vs))
	for i, v := range vs {
		out[i] = Value{
			Data:            v.Data,
			ContentType:     Text(v.ContentType),
			Charset:         Text(v.Charset),
			ContentEncoding: Text(v.ContentEncoding),
			Meta:            pairs(v.Meta),
			Indexes:         pairs(v.Indexes),
			Expires:         v.Expires,
			Modified:        v.Modified,
			VTag:            v.VTag,
			Deleted:         v.Deleted,
		}
	}
	return out
}

// KVValues converts values back.
func KVValues(vs []Value) []kv.Value {
	var out []kv.Value
	for _, v := range vs {
		out = append(out, kv.Value{
			Data:            v.Data,
			ContentType:     string(v.ContentType),
			Charset:         string(v.Charset),
			ContentEncoding: string(v.ContentEncoding),
			Meta:            kvPairs(v.Meta),
			Indexes:         kvPairs(v.Indexes),
			Expires:         v.Expires,
			Modified:        v.Modified,
			VTag:            v.VTag,
			Deleted:         v.Deleted,
		})
	}
	return out
}

// Object is the answer to a GET of a key.
type Object struct {
	Values     []Value    `json:"values"`
	Context    kv.Context `json:"context"`    // base64
	Partitions int        `json:"partitions"` // of the ring
	Replies    []Reply    `json:"replies"`
}

// NewObject converts an object.
func NewObject(o kv.Object) Object {
	return Object{
		Values:     Values(o.Values),
		Context:    o.Context,
		Partitions: ringSize(o.Replies),
		Replies:    Replies(o.Replies),
	}
}

// KV converts the object back.
func (o Object) KV() (kv.Object, error) {
	replies, err := KVReplies(o.Replies, o.Partitions)
	return kv.Object{Values: KVValues(o.Values), Context: o.Context, Replies: replies}, err
}

// Receipt is the answer to a PUT and to a DELETE of a key.
type Receipt struct {
	Context    kv.Context `json:"context"`          // base64
	Values     []Value    `json:"values,omitempty"` // only with returnbody=true
	Partitions int        `json:"partitions"`       // of the ring
	Replies    []Reply    `json:"replies"`
}

// NewReceipt converts a receipt.
func NewReceipt(r kv.Receipt) Receipt {
	out := Receipt{
		Context:    r.Context,
		Partitions: ringSize(r.Replies),
		Replies:    Replies(r.Replies),
	}
	if len(r.Values) > 0 {
		out.Values = Values(r.Values)
	}
	return out
}

// KV converts the receipt back.
func (r Receipt) KV() (kv.Receipt, error) {
	replies, err := KVReplies(r.Replies, r.Partitions)
	return kv.Receipt{Context: r.Context, Values: KVValues(r.Values), Replies: replies}, err
}

// Keys is a page of a bucket's keys.
type Keys struct {
	Keys []Text `json:"keys"`
	Next string `json:"next,omitempty"` // the token of the next page; absent: this is the last
}

// Match is a key that a query of an index has found.
type Match struct {
	Term Text `json:"term"`
	Key  Text `json:"key"`
}

// Matches is a page of what a query has found.
type Matches struct {
	Matches []Match `json:"matches"`
	Next    string  `json:"next,omitempty"`
}

// NewMatches converts a page.
func NewMatches(p kv.IndexPage) Matches {
	out := Matches{Matches: make([]Match, len(p.Matches)), Next: p.Next}
	for i, m := range p.Matches {
		out.Matches[i] = Match{Text(m.Term), Text(m.Key)}
	}
	return out
}

// Buckets is a page of buckets.
type Buckets struct {
	Buckets []Text `json:"buckets"`
	Next    string `json:"next,omitempty"`
}

// NewBuckets converts a page.
func NewBuckets(p kv.BucketPage) Buckets { return Buckets{Buckets: Texts(p.Buckets), Next: p.Next} }

// NewKeys converts a page.
func NewKeys(p kv.KeyPage) Keys { return Keys{Keys: Texts(p.Keys), Next: p.Next} }

// KV converts the page back.
func (k Keys) KV() kv.KeyPage { return kv.KeyPage{Keys: Strings(k.Keys), Next: k.Next} }

// ReplicaKeys is what one vnode holds of a bucket.
type ReplicaKeys struct {
	Partition string `json:"partition"` // decimal position on the ring
	Node      string `json:"node"`
	Keys      []Text `json:"keys"`            // never null
	More      bool   `json:"more,omitempty"`  // there are more keys than one answer may carry
	Error     string `json:"error,omitempty"` // why this vnode did not answer
}

// NewReplicaKeys converts the answers of all vnodes. The result is never nil.
func NewReplicaKeys(rs []kv.ReplicaKeys) []ReplicaKeys {
	out := make([]ReplicaKeys, len(rs))
	for i, r := range rs {
		out[i] = ReplicaKeys{
			Partition: r.Partition.String(),
			Node:      r.Node,
			Keys:      Texts(r.Keys),
			More:      r.More,
			Error:     r.Error,
		}
	}
	return out
}

// KVReplicaKeys converts the answers of all vnodes back: there is one for each
// partition of the ring.
func KVReplicaKeys(rs []ReplicaKeys) ([]kv.ReplicaKeys, error) {
	var out []kv.ReplicaKeys
	for _, r := range rs {
		p, err := ParsePartition(r.Partition, len(rs))
		if err != nil {
			return nil, err
		}
		out = append(out, kv.ReplicaKeys{
			Partition: p,
			Node:      r.Node,
			Keys:      Strings(r.Keys),
			More:      r.More,
			Error:     r.Error,
		})
	}
	return out, nil
}

// Explanation says who holds a key, as the asked node sees it now. The result
// of each replica is "down" or "pending" (it would be asked).
type Explanation struct {
	Partitions int     `json:"partitions"` // of the ring
	Replicas   []Reply `json:"replicas"`   // the preference list, in its order
}

// NewExplanation converts a preference list.
func NewExplanation(rs []kv.Reply) Explanation {
	return Explanation{Partitions: ringSize(rs), Replicas: Replies(rs)}
}

// KV converts the preference list back.
func (e Explanation) KV() ([]kv.Reply, error) { return KVReplies(e.Replicas, e.Partitions) }

// Ping is the answer of one partition, taken by chance.
type Ping struct {
	Partition string `json:"partition"` // decimal position on the ring
	Node      string `json:"node"`
	ElapsedUS int64  `json:"elapsed_us"`
}

// NewPing converts a reply.
func NewPing(r kv.Reply) Ping {
	return Ping{Partition: r.Partition.String(), Node: r.Node, ElapsedUS: r.Elapsed.Microseconds()}
}

package api

import (
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Join asks the node to join the cluster of another, one that is reached at the
// address. It is the answer too.
type Join struct {
	Address string `json:"address"` // HOST:PORT where nodes reach each other
	Zone    string `json:"zone,omitempty"`
	Weight  int    `json:"weight,omitempty"` // in percent of a usual node; 0: 100
	Auto    bool   `json:"auto,omitempty"`   // plan and commit it as well
}

// Commit names the plan to commit: the one that was shown. It is the answer too.
type Commit struct {
	Plan string `json:"plan"`
}

// Clear takes back what is staged. It is the answer too.
type Clear struct{}

// Down names a node that nobody should wait for. It is the answer too.
type Down struct {
	Node string `json:"node"`
}

// Recover names the only voters of the topology that are left. It is the answer
// too.
type Recover struct {
	Survivors []string `json:"survivors"`
	IKnow     bool     `json:"i_know"` // what may be lost by this
}

// Repair names what to rebuild from other replicas: a node, or a partition by
// its index or position.
type Repair struct {
	Target string `json:"target"`
}

// Repaired is the answer to Repair, when it has begun.
type Repaired struct {
	Target     string `json:"target"`
	Partitions int    `json:"partitions"`
}

// Limits bound the transfers of the whole cluster. It is the answer too.
type Limits struct {
	PerNode        int    `json:"per_node,omitempty"`         // transfers that a node takes part in at once; 0: as it is
	BytesPerSecond *int64 `json:"bytes_per_second,omitempty"` // that a node moves; 0: no limit; absent: as it is
}

// Deletes says what becomes of tombstones in the whole cluster. It is the answer too.
type Deletes struct {
	Mode  string        `json:"mode,omitempty"`     // reap or keep; absent: as it is
	Grace time.Duration `json:"grace_ns,omitempty"` // how old a tombstone is at least when it is reaped, 1 s to a year; 0: as it is
}

// BucketType names a bucket type and what to set of it. It is the answer too.
type BucketType struct {
	Name  string        `json:"name"`
	Props kv.Properties `json:"props,omitempty"`
}

// BucketTypes are all bucket types.
type BucketTypes struct {
	Types []tanodb.BucketType `json:"types"`
}

// Transfers are the transfers of all nodes that have answered.
type Transfers struct {
	Transfers []tanodb.TransferState `json:"transfers"`       // never null
	Error     string                 `json:"error,omitempty"` // why there may be more than these
}

// NewTransfers makes the answer of what a node has gathered.
func NewTransfers(ts []tanodb.TransferState, err error) Transfers {
	out := Transfers{Transfers: append([]tanodb.TransferState{}, ts...)}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// Nodes are all nodes of a cluster, by their own account.
type Nodes struct {
	Nodes []tanodb.NodeState `json:"nodes"`

	// How many partitions have too few owners that are up, for the keys that begin there.
	NoOwner    int `json:"partitions_without_owner"`    // none
	NoMajority int `json:"partitions_without_majority"` // some, and no majority
}

// RepairOrder names the node whose anti-entropy is meant; empty: all members.
type RepairOrder struct {
	Node string `json:"node,omitempty"`
}

// Repairs is how it stands with the anti-entropy of some nodes.
type Repairs struct {
	Nodes []tanodb.RepairState `json:"nodes"`
}

// RestoredProps is what has been done so that the cluster has the bucket types and
// properties of a backup.
type RestoredProps struct {
	Done []string `json:"done"`
}

package tanodb

import (
	"runtime/debug"
	"time"
)

// Status is what a node knows of itself and its cluster.
type Status struct {
	Node        string        `json:"node"`
	NodeID      string        `json:"node_id"` // random, kept in the directory
	Cluster     string        `json:"cluster"` // the cluster's id
	Version     string        `json:"version"`
	Uptime      time.Duration `json:"uptime_ns"`
	Listen      string        `json:"listen,omitempty"` // where other nodes reach this one
	Epoch       uint64        `json:"epoch"`
	Partitions  int           `json:"partitions"`
	Replicas    int           `json:"replicas"`
	Copies      int           `json:"distinct_copies"` // nodes that hold each key: Replicas, or fewer in a small cluster
	Durability  Durability    `json:"durability"`
	Explanation string        `json:"durability_explained"` // Durability in a sentence
	Members     []MemberState `json:"members"`
	Requests    int           `json:"requests_in_progress"`
	Services    []Service     `json:"services"` // the supervision tree, parents first
	Storage     StorageState  `json:"storage"`

	Tombstones TombstoneState `json:"tombstones"`

	Certificates []Certificate `json:"certificates,omitempty"` // that this node goes by
}

// Certificate is one that a node shows or goes by, and when it ends.
type Certificate struct {
	Use     string    `json:"use"` // nodes or clients
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	Path    string    `json:"path"`
	Ends    time.Time `json:"ends"`
	Warning string    `json:"warning,omitempty"`
}

// TombstoneState is what is left of deletes on a node, and what becomes of it.
type TombstoneState struct {
	Mode    string        `json:"mode"`            // reap or keep, of the whole cluster
	Grace   time.Duration `json:"grace_ns"`        // how old a tombstone is at least when it is reaped
	Count   int64         `json:"count"`           // tombstones in the vnodes of this node; -1: not counted yet
	Age     time.Duration `json:"counted_ago_ns"`  // how long ago they were counted
	Reaped  int64         `json:"reaped"`          // keys whose reaping this node has led since it was started
	Phase   string        `json:"phase"`           // what the reaping that this node leads is at
	InRound int           `json:"in_round"`        // tombstones that it is at
	Waits   string        `json:"waits,omitempty"` // why it does not go on
}

// MemberState is a member as this node sees it.
type MemberState struct {
	Name       string        `json:"name"`
	Address    string        `json:"address"`
	Status     string        `json:"status"` // joining, valid, leaving, exiting, down or left
	Up         bool          `json:"up"`
	Since      time.Duration `json:"since_ns"`               // how long it has been up, or down
	Partitions int           `json:"partitions"`             // of the ring, that it owns
	Ahead      time.Duration `json:"clock_ahead_ns"`         // how far its wall clock is ahead of this node's, about
	Skewed     bool          `json:"clock_skewed,omitempty"` // by more than may be of most nodes' clocks
}

// Service is one node of the supervision tree.
type Service struct {
	Name     string `json:"name"` // path, as in "node/vnodes/worker 0"
	Restarts int    `json:"restarts"`
	LastErr  string `json:"last_error,omitempty"`
}

// StorageState is the engine's condition.
type StorageState struct {
	Engine   string `json:"engine"` // "disk" or "memory"
	Dir      string `json:"dir,omitempty"`
	Bytes    int64  `json:"bytes"`    // on disk
	ReadOnly bool   `json:"readonly"` // refuses writes because the disk is nearly full

	Trouble     string    `json:"trouble,omitempty"`    // why the node steps back, and others stand in for it
	ReadErrors  int64     `json:"read_errors"`          // reads that the disk has failed since the start
	Corruptions int64     `json:"corruptions"`          // reads that met damage since the start
	Damaged     []int     `json:"damaged,omitempty"`    // vnodes with objects that cannot be read and that no other replica has brought
	Rebuilding  []int     `json:"rebuilding,omitempty"` // vnodes that lack data, and answer no reads until they have it
	Scrubbed    time.Time `json:"scrubbed_at,omitzero"` // when all that the node holds was last found to be whole, or repaired
}

// Status is what the node knows now.
func (n *Node) Status() Status {
	t := n.state()
	r := t.Ring()
	s := Status{
		Node:        n.self,
		NodeID:      n.home.id,
		Cluster:     clusterID(t.Cluster()),
		Version:     Version(),
		Uptime:      n.elapsed(),
		Listen:      n.Addr(),
		Epoch:       t.Epoch(),
		Partitions:  r.Size(),
		Replicas:    t.Replicas(),
		Copies:      r.Copies(t.Replicas()),
		Durability:  n.o.Durability,
		Explanation: n.o.Durability.explain(),
		Requests:    n.requests.count(),
		Services:    n.tree.list(),
		Storage:     n.storageState(),
		Tombstones:  n.reapers.state(),
	}
	if n.o.Certificates != nil {
		s.Certificates = n.o.Certificates()
	}
	for _, m := range t.Members() {
		s.Members = append(s.Members, MemberState{
			Name: m.Name, Address: m.Address, Status: string(m.Status),
			Up: n.live.up(m.Name), Since: n.live.since(m.Name), Partitions: r.Owned(m.Name),
			Ahead: n.clocks.ahead(m.Name), Skewed: n.clocks.off(m.Name),
		})
	}
	return s
}

// Version is the version of this build: that of the module, or the commit.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (info.Main.Version == "" || info.Main.Version == "(devel)") {
			return s.Value
		}
	}
	return info.Main.Version
}

package tanodb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tanodb/tanodb/storage"
)

// Durability says when a write is confirmed.
type Durability string

// The durabilities of a node.
const (
	// Sync confirms a write when it is on disk: one fsync shared by all writes
	// of the node that wait for one.
	Sync Durability = "sync"

	// Interval confirms a write when it is in memory and on its way to the
	// disk, where it is within 100 ms. A crash of a machine may lose that much.
	Interval Durability = "interval"
)

// Member is a node of the cluster, as the list of the first members names it.
type Member struct {
	Name    string `json:"name"`
	Address string `json:"address"` // HOST:PORT where other nodes reach it
}

// Options are how a node is opened. The zero value is a durable single node
// without a network.
type Options struct {
	// Name is this node's name, for ever; it is kept in the directory. Empty:
	// the kept one, or "tanodb" for a new directory without Bootstrap.
	Name string

	// Listen is the HOST:PORT on which other nodes reach this one. Empty: no
	// network between nodes. It may differ from the address in Bootstrap, say behind a
	// forwarded port.
	Listen string

	// Bootstrap is the list of all members, the same on every node. Empty: a
	// cluster of this node alone. It may not change once the directory holds
	// data, except for addresses.
	Bootstrap []Member

	// Partitions is the size of the ring: a power of two from 8 to 65536, fixed
	// for the cluster. 0: 64.
	Partitions int

	// Replicas is N, how many vnodes hold each key. 0: 3.
	Replicas int

	// Durability is when a write is confirmed. Empty: Sync.
	Durability Durability

	// Storage opens the engine. Nil: files under the directory. See
	// MemoryStorage for tests.
	Storage storage.Opener

	// Network replaces the network between nodes, for tests with several nodes in one
	// process; see NewMemoryNetwork. Nil: TCP.
	Network *MemoryNetwork

	// TLS secures the connections between nodes: both sides show a certificate
	// and check the other's. Nil: plain TCP.
	TLS *tls.Config

	// MaxRequests is how many client requests may be in progress on this node; one more
	// is refused with kv.ErrOverload. 0: 10000.
	MaxRequests int

	// CacheBytes is how much memory the engine's block cache and the object heads may take.
	// 0: 256 MiB.
	CacheBytes int64

	// Logger receives what the node has to say. Nil: nothing is logged.
	Logger *slog.Logger

	// Clock is the wall clock. Nil: time.Now. For tests.
	Clock func() time.Time
}

// The defaults of Options, and the limits of what a node does at once.
const (
	defaultPartitions  = 64
	defaultReplicas    = 3
	defaultMaxRequests = 10_000
	defaultCacheBytes  = 256 << 20
	maxReplicas        = 64 // N at most
	defaultName        = "tanodb"

	targetN = 4 // successive partitions that are on distinct nodes, where there are enough

	headCacheShare = 8 // one part in so many of CacheBytes is for object heads
)

// ensure fills in the defaults, and refuses what cannot be meant.
func (o *Options) ensure() error {
	if o.Partitions == 0 {
		o.Partitions = defaultPartitions
	}
	if o.Replicas == 0 {
		o.Replicas = defaultReplicas
	}
	if o.Replicas < 1 || o.Replicas > min(maxReplicas, o.Partitions) {
		return fmt.Errorf("tanodb: Replicas is %d; it must be from 1 to %d, and not more than the ring has partitions", o.Replicas, maxReplicas)
	}
	if o.Durability == "" {
		o.Durability = Sync
	}
	if o.Durability != Sync && o.Durability != Interval {
		return fmt.Errorf("tanodb: Durability is %q; it must be %q or %q", o.Durability, Sync, Interval)
	}
	if o.MaxRequests < 0 || o.CacheBytes < 0 {
		return errors.New("tanodb: MaxRequests and CacheBytes must not be negative")
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = defaultMaxRequests
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return nil
}

// probableName is the node's name as far as the options tell; a directory may
// know it better.
func (o *Options) probableName() string {
	switch {
	case o.Name != "":
		return o.Name
	case len(o.Bootstrap) > 0:
		return o.Bootstrap[0].Name
	}
	return defaultName
}

// explain is the durability in a sentence, for people.
func (d Durability) explain() string {
	if d == Interval {
		return "a write is confirmed when it is in memory and on its way to the disk, where it is within 100 ms; a crash of the machine may lose that much"
	}
	return "a write is confirmed when it is on disk; a crash loses no confirmed write"
}

func names(ms []Member) string {
	s := make([]string, len(ms))
	for i, m := range ms {
		s[i] = m.Name
	}
	return strings.Join(s, ", ")
}

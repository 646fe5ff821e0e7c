package tanodb

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/internal/antientropy"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
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

	// Bootstrap is the list of the first members, the same on every node. Empty: a
	// cluster of this node alone, or one that it joins. Once the directory is a member's, it only
	// serves to find the others.
	Bootstrap []Member

	// ClusterName tells a cluster that begins with Bootstrap from others that begin with members of the same
	// names: nodes of two clusters never connect, and their backups are not taken for each other's. The
	// same on every node; it only counts when the directory is made. Empty: none.
	ClusterName string

	// Join are addresses of nodes of a cluster that a new directory is to join:
	// each is tried, for two minutes. Of a directory that is a member already they are only
	// further places to look for the others at.
	Join []string

	// AutoJoin commits the joining as well, unless other changes are staged.
	AutoJoin bool

	// Advertise is the HOST:PORT that other nodes are told to reach this one
	// at. Empty: that of this node in Bootstrap, or Listen.
	Advertise string

	// Zone is where a node that joins stands: copies of a key are kept in
	// distinct zones. Empty: nowhere in particular.
	Zone string

	// Weight is the share of a node that joins, in percent of a usual node's.
	// 0: 100.
	Weight int

	// TransferBytes is how many bytes a second this node moves to others, as long as
	// the cluster has no setting of its own. 0: no limit.
	TransferBytes int64

	// RepairEvery is the period in which each pair of replicas is compared once. It is
	// sooner where a node has come back. 0: 1 hour.
	RepairEvery time.Duration

	// RepairBytes is how many bytes a second the comparisons of this node, and what
	// they mend, may send and receive. 0: 8 MiB; -1: no limit.
	RepairBytes int64

	// RepairObjects is how many objects a second they may mend. 0: 2000; -1: no limit.
	RepairObjects int

	// Partitions is the size of the ring: a power of two from 8 to 65536, fixed
	// for the cluster. 0: that of the directory or of the cluster that is joined, 64 for a new one.
	Partitions int

	// Replicas is N, how many vnodes hold each key. 0: as Partitions, 3 for a
	// new cluster.
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
	// and check the other's, which must be good for server and client authentication. Who
	// dials checks that it is for the host of the other's address. GetConfigForClient, if
	// that is set, gives the configuration of each new connection, so that a certificate
	// can change; one that is dialled gives it a nil hello. Nil: plain TCP.
	TLS *tls.Config

	// Certificates are shown by Status. Nil: none.
	Certificates func() []Certificate

	// MaxRequests is how many client requests may be in progress on this node; one more
	// is refused with kv.ErrOverload. 0: 10000.
	MaxRequests int

	// MaxObject is how many bytes an object may have, all siblings together, and
	// MaxSiblings how many values a key may hold beside each other, where the bucket
	// allows more. They hold for the writes that this node coordinates. 0: kv.MaxObject,
	// kv.MaxSiblings, which nothing can pass.
	MaxObject   int
	MaxSiblings int

	// SlowRequest is how long a client's request may take before it is logged with its
	// whole story, ten lines a second at most. 0: 1 s; -1: none is logged.
	SlowRequest time.Duration

	// MaxClockOffset is how far wall clocks of nodes may be apart; see the last write
	// wins. It should be the same on every node. 0: 500 ms.
	MaxClockOffset time.Duration

	// CacheBytes is how much memory the engine's block cache and the object heads may take.
	// 0: 256 MiB.
	CacheBytes int64

	// Traces records requests as OpenTelemetry spans, on every node that takes part in one.
	// Which are recorded is for its sampler to say. Nil: none, at no cost.
	Traces trace.TracerProvider

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

	defaultRepairEvery   = time.Hour
	defaultRepairBytes   = 8 << 20
	defaultRepairObjects = 2000

	defaultName = "tanodb"

	targetN = 4 // successive partitions that are on distinct nodes, where there are enough

	headCacheShare = 8 // one part in so many of CacheBytes is for object heads
)

// ensure fills in the defaults, and refuses what cannot be meant.
func (o *Options) ensure() error {
	o.Bootstrap, o.Join = slices.Clone(o.Bootstrap), slices.Clone(o.Join)                                 // they stay as they are now
	if o.Replicas < 0 || o.Replicas > min(maxReplicas, cmp.Or(max(o.Partitions, 0), defaultPartitions)) { // the ring refuses a size below 0
		return fmt.Errorf("tanodb: Replicas is %d; it must be from 1 to %d, and not more than the ring has partitions", o.Replicas, maxReplicas)
	}
	if o.Weight < 0 || o.TransferBytes < 0 {
		return errors.New("tanodb: Weight and TransferBytes must not be negative")
	}
	if err := o.repairDefaults(); err != nil {
		return err
	}
	if len(o.Join) > 0 && len(o.Bootstrap) > 0 {
		return errors.New("tanodb: a node either begins a cluster, by Bootstrap, or joins one, by Join")
	}
	if len(o.Join) > 0 && o.Listen == "" && o.Network == nil {
		return errors.New("tanodb: a node that joins others needs an address to listen on for them: set Listen")
	}
	if o.Durability == "" {
		o.Durability = Sync
	}
	if o.Durability != Sync && o.Durability != Interval {
		return fmt.Errorf("tanodb: Durability is %q; it must be %q or %q", o.Durability, Sync, Interval)
	}
	if err := o.limitDefaults(); err != nil {
		return err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return nil
}

// limitDefaults fills in the limits of memory and of clients.
func (o *Options) limitDefaults() error {
	if o.MaxRequests < 0 || o.CacheBytes < 0 || o.MaxClockOffset < 0 {
		return errors.New("tanodb: MaxRequests, CacheBytes and MaxClockOffset must not be negative")
	}
	if o.MaxObject < 0 || o.MaxObject > kv.MaxObject || o.MaxSiblings < 0 || o.MaxSiblings > kv.MaxSiblings {
		return fmt.Errorf("tanodb: MaxObject is %d and MaxSiblings %d; they must be from 1 to %d and %d", o.MaxObject, o.MaxSiblings, kv.MaxObject, kv.MaxSiblings)
	}
	o.SlowRequest = cmp.Or(o.SlowRequest, defaultSlowRequest)
	o.MaxRequests = cmp.Or(o.MaxRequests, defaultMaxRequests)
	o.CacheBytes = cmp.Or(o.CacheBytes, defaultCacheBytes)
	o.MaxObject = cmp.Or(o.MaxObject, kv.MaxObject)
	o.MaxSiblings = cmp.Or(o.MaxSiblings, kv.MaxSiblings)
	o.MaxClockOffset = cmp.Or(o.MaxClockOffset, membership.MaxClockOffset)
	return nil
}

// tuning are the options with what Retune has changed.
func (n *Node) tuning() *Options { return n.tuned.Load() }

// Retune changes, while the node runs, what of its options can change: MaxRequests,
// MaxObject, MaxSiblings, MaxClockOffset, SlowRequest, TransferBytes, RepairEvery, RepairBytes and
// RepairObjects. Nothing else of o is looked at. The next Open knows nothing of it.
func (n *Node) Retune(o Options) error {
	next := n.o
	next.MaxRequests, next.MaxObject, next.MaxSiblings, next.MaxClockOffset = o.MaxRequests, o.MaxObject, o.MaxSiblings, o.MaxClockOffset
	next.SlowRequest = o.SlowRequest
	next.TransferBytes, next.RepairEvery, next.RepairBytes, next.RepairObjects = o.TransferBytes, o.RepairEvery, o.RepairBytes, o.RepairObjects
	if err := next.ensure(); err != nil {
		return err
	}
	n.tuned.Store(&next)
	n.movers.limit()
	n.menders.feed(antientropy.SetLimits{Limits: n.menders.limits()})
	return nil
}

// settleSizes fills in what the directory knows, or the defaults of a new
// cluster.
func (o *Options) settleSizes(kept map[string]string) error {
	for _, size := range []struct {
		name  string
		value *int
		def   int
	}{{"partitions", &o.Partitions, defaultPartitions}, {"replicas", &o.Replicas, defaultReplicas}} {
		was, err := strconv.Atoi(cmp.Or(kept[size.name], "0"))
		if err != nil {
			return fmt.Errorf("tanodb: the NODE file says %s %q, which is no number; restore it from a backup", size.name, kept[size.name])
		}
		if was != 0 && *size.value != 0 && *size.value != was {
			return fmt.Errorf("tanodb: the directory was made with %d %s, and the options say %d; that cannot be changed", was, size.name, *size.value)
		}
		*size.value = cmp.Or(*size.value, was, size.def)
	}
	return nil
}

// check refuses a first topology that cannot be.
func (o Options) check() error {
	if err := o.settleSizes(nil); err != nil {
		return err
	}
	_, err := bootstrap(o.probableName(), &home{}, &o)
	return err
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

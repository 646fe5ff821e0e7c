package tanodb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// join brings the node onto its network; nil: it is alone.
func (n *Node) join() (*transport.Mesh, error) {
	c := transport.Config{
		Self:       n.self,
		ID:         n.home.nodeID(),
		Advertise:  n.o.Advertise,
		Cluster:    n.state().Cluster(),
		Partitions: n.state().Ring().Size(),
		Epoch:      n.topology.kept.Load,
		Life:       n.life,
		Reaped:     func(node string) (uint64, uint64) { return n.state().LastReaping(node) },
		Peers:      n.peers(n.state()),
		Handler:    peerSide{n},
		Clocks:     n.clocks,
		Listen:     n.o.Listen,
		TLS:        n.o.TLS,
		Logger:     n.log,
	}
	if n.o.Network != nil {
		return n.o.Network.network.Join(c)
	}
	if n.o.Listen == "" {
		return nil, nil
	}
	return transport.Listen(c)
}

// openEngine opens the engine of the options, or that of the directory.
func (n *Node) openEngine() (storage.Engine, error) {
	if n.o.Storage != nil {
		return n.o.Storage("")
	}
	open := disk.Opener(disk.Options{
		CacheBytes: n.o.CacheBytes - n.o.CacheBytes/headCacheShare,
		Events:     n.engineEvent,
		OnFatal:    n.fail,
	})
	e, err := open(n.home.engineDir())
	if err != nil {
		return nil, n.explain(err)
	}
	return e, nil
}

// explain adds to the error of a start that met damage what the node's operator
// can do about it. Data alone could be fetched from the other replicas. But the
// engine holds the topology log as well, and a voter that has forgotten what it
// has agreed to, and comes back under its name, could agree to something else.
func (n *Node) explain(err error) error {
	if !errors.Is(err, storage.ErrCorrupt) {
		return err
	}
	where := n.home.dir
	if where == "" {
		where = "the storage of the options"
	}
	return fmt.Errorf("tanodb: node %s cannot start from %s: %w. If the node is one of several, keep it down, move %s aside, and let a new node with another name take its place: `tanodb cluster force-replace %s NEW`. If it is alone, put a backup in its place",
		n.self, where, err, where, n.self)
}

// engineEvent logs what happens to the engine.
func (n *Node) engineEvent(e disk.Event) {
	level := slog.LevelWarn
	if e.Kind == disk.Corruption {
		n.scrub.damaged(e)
	}
	switch e.Kind {
	case disk.Corruption, disk.Fatal:
		level = slog.LevelError
	case disk.Resumed, disk.Writable:
		level = slog.LevelInfo
	}
	n.log.Log(context.Background(), level, e.String(), "node", n.self, "event", e.Kind.String())
}

// storageState is the engine's condition, for the status.
func (n *Node) storageState() StorageState {
	s := StorageState{Engine: "memory", Rebuilding: n.lackingVnodes()}
	s.Damaged, s.Scrubbed = n.scrub.state()
	if reads, writes := n.trouble(); writes != nil || reads != nil {
		s.Trouble = cmp.Or(writes, reads).Error()
	}
	if d, ok := n.engine.(*disk.Engine); ok {
		m := d.Metrics()
		s.Engine, s.Dir, s.Bytes, s.ReadOnly = "disk", n.home.dir, int64(m.DiskBytes), m.ReadOnly
		s.Corruptions, s.ReadErrors = m.Corruptions, m.ReadErrors
	}
	return s
}

// lackingVnodes are the vnodes that wait for data which they should hold.
func (n *Node) lackingVnodes() (all []int) {
	for p := range n.lacking {
		if n.lacking[p].Load() {
			all = append(all, p)
		}
	}
	return all
}

// load is how busy a peer seems: the requests of this node that it has not
// answered.
func (n *Node) load(node string) int {
	return int(n.busyWith(node).Load())
}

// busyWith counts the asks to a node that have no answer.
func (n *Node) busyWith(node string) *atomic.Int64 {
	if b, ok := n.busy.Load(node); ok {
		return b.(*atomic.Int64)
	}
	b, _ := n.busy.LoadOrStore(node, new(atomic.Int64))
	return b.(*atomic.Int64)
}

// engineCollector turns the engine's counts into metrics.
type engineCollector struct{ n *Node }

var (
	engineCommits = prometheus.NewDesc("tanodb_engine_commits_total", "Batches that the engine has applied.", nil, nil)
	engineSyncs   = prometheus.NewDesc("tanodb_engine_wal_syncs_total", "fsyncs of the engine's log. Fewer than commits: group commit works.", nil, nil)
	engineWAL     = prometheus.NewDesc("tanodb_engine_wal_bytes_total", "Bytes written to the engine's log.", nil, nil)
	engineHits    = prometheus.NewDesc("tanodb_engine_cache_hits_total", "Blocks that were read from the engine's cache.", nil, nil)
	engineMisses  = prometheus.NewDesc("tanodb_engine_cache_misses_total", "Blocks that were read from disk.", nil, nil)
	engineBytes   = prometheus.NewDesc("tanodb_engine_disk_bytes", "Size of the engine's files.", nil, nil)
	engineCorrupt = prometheus.NewDesc("tanodb_engine_corruptions_total", "Reads of the engine that met damaged data.", nil, nil)
	engineErrors  = prometheus.NewDesc("tanodb_engine_read_errors_total", "Reads that the disk has failed.", nil, nil)
	engineStalled = prometheus.NewDesc("tanodb_engine_stalled", "1 while the disk does nothing for those who wait for it, and this node steps back.", nil, nil)
	engineFull    = prometheus.NewDesc("tanodb_engine_read_only", "1 while writes are refused because the disk is nearly full.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c engineCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{engineCommits, engineSyncs, engineWAL, engineHits, engineMisses, engineBytes, engineFull, engineCorrupt, engineErrors, engineStalled} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c engineCollector) Collect(out chan<- prometheus.Metric) {
	d, ok := c.n.engine.(*disk.Engine)
	if !ok {
		return
	}
	m := d.Metrics()
	full := 0.0
	if m.ReadOnly {
		full = 1
	}
	counter(out, engineCommits, float64(m.Commits))
	counter(out, engineSyncs, float64(m.WALSyncs))
	counter(out, engineWAL, float64(m.WALBytes))
	counter(out, engineHits, float64(m.CacheHits))
	counter(out, engineMisses, float64(m.CacheMisses))
	gauge(out, engineBytes, float64(m.DiskBytes))
	gauge(out, engineFull, full)
	counter(out, engineCorrupt, float64(m.Corruptions))
	counter(out, engineErrors, float64(m.ReadErrors))
	stalled := 0.0
	if _, writes := d.Trouble(); errors.Is(writes, storage.ErrStalled) {
		stalled = 1
	}
	gauge(out, engineStalled, stalled)
}

// networkCollector turns the network's counts into metrics.
type networkCollector struct{ n *Node }

var (
	peerLabel     = []string{"peer"}
	peerConnected = prometheus.NewDesc("tanodb_peer_connected", "1 while this node has a connection to the peer.", peerLabel, nil)
	peerFramesOut = prometheus.NewDesc("tanodb_peer_frames_sent_total", "Messages sent to the peer.", peerLabel, nil)
	peerFramesIn  = prometheus.NewDesc("tanodb_peer_frames_received_total", "Messages received from the peer.", peerLabel, nil)
	peerBatches   = prometheus.NewDesc("tanodb_peer_batches_sent_total", "Writes to the peer's connections; each carries one or more messages.", peerLabel, nil)
	peerBytesOut  = prometheus.NewDesc("tanodb_peer_bytes_sent_total", "Bytes sent to the peer.", peerLabel, nil)
	peerBytesIn   = prometheus.NewDesc("tanodb_peer_bytes_received_total", "Bytes received from the peer.", peerLabel, nil)
	peerLost      = prometheus.NewDesc("tanodb_peer_requests_lost_total", "Requests to the peer whose connection broke before the answer.", peerLabel, nil)
	peerExpired   = prometheus.NewDesc("tanodb_peer_requests_expired_total", "Requests to the peer that had no answer in time.", peerLabel, nil)
	peerQueued    = prometheus.NewDesc("tanodb_peer_queued_bytes", "Bytes that wait to be sent to the peer.", peerLabel, nil)
)

// Describe implements prometheus.Collector.
func (c networkCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{peerConnected, peerFramesOut, peerFramesIn, peerBatches, peerBytesOut, peerBytesIn, peerLost, peerExpired, peerQueued} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c networkCollector) Collect(out chan<- prometheus.Metric) {
	if c.n.network == nil {
		return
	}
	for _, p := range c.n.network.Stats().Peers {
		connected := 0.0
		if p.Connected {
			connected = 1
		}
		gauge(out, peerConnected, connected, p.Node)
		counter(out, peerFramesOut, float64(p.FramesOut), p.Node)
		counter(out, peerFramesIn, float64(p.FramesIn), p.Node)
		counter(out, peerBatches, float64(p.BatchesOut), p.Node)
		counter(out, peerBytesOut, float64(p.BytesOut), p.Node)
		counter(out, peerBytesIn, float64(p.BytesIn), p.Node)
		counter(out, peerLost, float64(p.Lost), p.Node)
		counter(out, peerExpired, float64(p.Expired), p.Node)
		gauge(out, peerQueued, float64(p.Queued), p.Node)
	}
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

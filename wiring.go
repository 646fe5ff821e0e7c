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
		Least:      n.leastProtocol,
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
	return int(n.busyWith(node).open.Load())
}

// busyWith is what this node has asked a peer for.
func (n *Node) busyWith(node string) *asking {
	if b, ok := n.busy.Load(node); ok {
		return b.(*asking)
	}
	b, _ := n.busy.LoadOrStore(node, &asking{seconds: n.metrics.asked.WithLabelValues(node)})
	return b.(*asking)
}

// asking counts the asks of requests to a node.
type asking struct {
	open    atomic.Int64        // those that have no answer
	seconds prometheus.Observer // how long the answers took
}

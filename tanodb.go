// Package tanodb is a masterless, replicated key/value store that keeps
// answering, and keeps every acknowledged write, while nodes fail.
//
// Open gives a Node: alone, it is a durable store in a directory, without a
// network; with a list of members it is one of several nodes that hold each
// key N times. A Node is a kv.Store:
//
//	node, err := tanodb.Open("data", tanodb.Options{})
//	…
//	defer node.Close()
//	_, err = node.Put(ctx, kv.Key{Bucket: "mybucket", Name: "k1"}, kv.Value{Data: []byte("42")}, kv.WriteOptions{})
//	obj, err := node.Get(ctx, kv.Key{Bucket: "mybucket", Name: "k1"}, kv.ReadOptions{})
//
// Several nodes may live in one process: they share nothing.
//
// This package holds goroutines, timers, files and wiring. What the store
// decides, it decides in the pure packages below internal: a request is a
// machine of package coordinator, a partition one of package vnode. See
// docs/ARCHITECTURE.md.
package tanodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/thejerf/suture/v4"
	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// Node is one member of a cluster, or a store of its own. Its methods may be
// called by many goroutines at once.
type Node struct {
	o        Options
	tuned    atomic.Pointer[Options] // o, with what has changed since; see Retune
	log      *slog.Logger
	metrics  *metrics
	home     *home // the directory; nil: nothing on disk
	self     string
	engine   storage.Engine
	network  *transport.Mesh // nil: alone
	vnodes   *host
	reads    *readers
	sketches *sketches
	slow     slowLog
	tracer   trace.Tracer // nil: nothing is traced
	live     *liveness
	clocks   *clocks
	outlook  coordinator.View // what all views have in common
	begun    time.Time

	topology *topology
	movers   *movers
	scrub    *scrubber
	menders  *menders
	reapers  *reapers
	moments  *moments

	commitsJoin bool                               // the node commits its joining itself
	asked       struct{ partitions, replicas int } // what the options have asked for; 0: nothing
	hints       hints                              // addresses that the options name

	life     uint64        // drawn at each start, never 0: see membership.Lives
	wiping   atomic.Bool   // the data is older than a reaping, and is being erased
	requests requests      // in progress
	lacking  []atomic.Bool // by partition: the vnode waits for data that it should hold
	busy     sync.Map      // by peer, *asking
	seeds    sync.Pool
	logins   *logins

	tree     *supervision
	stop     context.CancelFunc
	stopped  <-chan error
	closing  atomic.Bool // it ends, and never takes requests again
	aside    atomic.Bool // it takes none, since it is to be opened again in another cluster
	closed   sync.Once
	closeErr error
	patience context.Context // of those who have asked for the end; ends with the first one's
	hurry    context.CancelFunc
	gone     chan struct{} // closed when requests that are still there get no answer any more
	failed   chan struct{} // closed by the first fatal error
	failOnce sync.Once
	fault    atomic.Pointer[error]

	joined     chan struct{} // closed when network is set
	leaves     chan struct{} // the node has asked to be no member any more; holds one
	leaving    sync.Once     // it is none
	departed   chan struct{} // closed when what follows from that is done; made under leaving
	reopen     chan struct{} // closed when the node has joined another cluster
	reopenOnce sync.Once
}

var (
	_ kv.Store        = (*Node)(nil)
	_ kv.DataTypes    = (*Node)(nil)
	_ kv.Indexer      = (*Node)(nil)
	_ kv.BucketLister = (*Node)(nil)
)

// Open opens the node of a directory, or makes one there. It answers requests
// at once; those that need other nodes may fail until these are reached. A new
// directory with Options.Join waits until a node of the cluster is reached, for two minutes at most.
func Open(dir string, o Options) (*Node, error) {
	return openWith(dir, o, newLogins(membership.PasswordIterations))
}

func openWith(dir string, o Options, l *logins) (*Node, error) {
	if err := o.ensure(); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err // before anything is made on disk
	}
	n := &Node{
		o: o, log: o.Logger, begun: time.Now(), logins: l, gone: make(chan struct{}), failed: make(chan struct{}), reopen: make(chan struct{}), joined: make(chan struct{}), leaves: make(chan struct{}, 1),
	}
	n.patience, n.hurry = context.WithCancel(context.Background())
	if o.Traces != nil {
		n.tracer = o.Traces.Tracer(tracerName)
	}
	n.tuned.Store(&o)
	n.scrub = newScrubber(n)
	n.asked.partitions, n.asked.replicas = o.Partitions, o.Replicas
	if err := n.open(dir); err != nil {
		return nil, errors.Join(err, n.release(nil))
	}
	s := n.state()
	n.log.Info("node is open", "node", n.self, "cluster", clusterID(s.Cluster()), "epoch", s.Epoch(), "partitions", s.Ring().Size(),
		"replicas", s.Replicas(), "members", len(s.Members()), "durability", string(o.Durability))
	return n, nil
}

// open does the steps of Open in order; release undoes those that were done.
func (n *Node) open(dir string) (err error) {
	if n.home, err = openHome(dir, &n.o); err != nil {
		return err
	}
	n.self = n.home.name
	n.seeds.New = func() any { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }
	first, err := n.first()
	if err != nil {
		return err
	}
	if n.engine, err = n.openEngine(); err != nil {
		return err
	}
	if n.topology, err = newTopology(n, first); err != nil {
		return err
	}
	if err = n.settle(); err != nil {
		return err
	}
	incarnations, err := n.home.resume(n.engine)
	if err != nil {
		return err
	}
	if err = n.findLacking(); err != nil {
		return err
	}
	n.metrics = newMetrics(n)
	n.requests.init()
	n.sketches = newSketches(n)
	n.hints.init(&n.o, n.state())
	n.live = newLiveness(n)
	n.movers = newMovers(n)
	n.clocks = newClocks(n)
	n.outlook = newOutlook(n)
	n.menders = newMenders(n)
	n.reapers = newReapers(n)
	n.moments = newMoments(n)
	n.reads = newReaders(n)
	n.vnodes = newHost(n, incarnations)
	if n.network, err = n.join(); err != nil {
		return err
	}
	close(n.joined)
	n.supervise()
	return nil
}

// first is the topology that a node begins with whose engine knows none; nil:
// it must know one.
func (n *Node) first() (*membership.State, error) {
	if err := n.home.dropEngine(); err != nil {
		return nil, err // a start before this one may not have come to its end
	}
	j, err := n.joins()
	if err != nil {
		return nil, err
	}
	if j != nil {
		n.commitsJoin = j.options.Auto
		if j.gaveUp {
			if err := n.giveUp(); err != nil {
				return nil, err
			}
		}
		if err := n.home.identify(noCluster, 0, 0); err != nil {
			return nil, err
		}
		return n.begin(j)
	}
	if err := n.o.settleSizes(n.home.kept); err != nil {
		return nil, err
	}
	if n.home.begun && len(n.o.Bootstrap) == 0 {
		return nil, nil
	}
	s, err := bootstrap(n.self, n.home, &n.o)
	if err != nil || n.home.begun {
		return nil, err
	}
	return s, n.home.identify(clusterID(s.Cluster()), n.o.Partitions, n.o.Replicas)
}

// settle compares the directory with the cluster that the node is of, and
// keeps what it is from now on.
func (n *Node) settle() error {
	s := n.state()
	n.o.Partitions, n.o.Replicas = s.Ring().Size(), s.Replicas()
	for _, m := range n.o.Bootstrap {
		if _, ok := s.Member(m.Name); !ok {
			return fmt.Errorf("tanodb: the list of members names %s, which is no member of the cluster of this directory; the list is for the first start, and later members join: see Options.Join, or `tanodb cluster join`", m.Name)
		}
	}
	if len(n.members()) > 1 && n.o.Listen == "" && n.o.Network == nil {
		return errors.New("tanodb: this directory is that of a member of a cluster of several: set Listen to the address on which the others reach it")
	}
	return n.home.settle(s.Cluster(), n.o.Partitions, n.o.Replicas)
}

// bootstrap is the first topology of a cluster: the list of the first members,
// or this node alone.
func bootstrap(self string, h *home, o *Options) (*membership.State, error) {
	if len(o.Bootstrap) == 0 {
		return membership.Alone(self, h.nodeID(), o.Listen, h.cluster(), o.Partitions, targetN, o.Replicas)
	}
	var members []membership.Member
	found := false
	for _, m := range o.Bootstrap {
		members = append(members, membership.Member{Name: m.Name, Address: m.Address})
		found = found || m.Name == self
	}
	if !found {
		return nil, fmt.Errorf("tanodb: this node is %q, and the list of members does not name it: %s", self, names(o.Bootstrap))
	}
	if len(members) > 1 && o.Listen == "" && o.Network == nil {
		return nil, errors.New("tanodb: a node of several needs an address to listen on for the others: set Listen")
	}
	return membership.BootstrapNamed(o.ClusterName, members, o.Partitions, targetN, o.Replicas)
}

// Name is this node's name.
func (n *Node) Name() string { return n.self }

// Addr is the address on which this node listens for others, with the port that
// the system has chosen if it was to; empty: no network.
func (n *Node) Addr() string {
	if n.network == nil {
		return ""
	}
	return n.network.Address()
}

// Metrics are the node's Prometheus metrics, with those of the process.
func (n *Node) Metrics() prometheus.Gatherer { return n.metrics.registry }

// Failed is closed when the node has met an error after which it serves no
// more, such as a disk that fails; Close then returns that error.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// refuses reports whether the node takes no requests.
func (n *Node) refuses() bool { return n.closing.Load() || n.aside.Load() }

// fail records a fatal error. The node answers nothing from then on. What finds the
// engine closed, since the node was closed meanwhile, is no failure.
func (n *Node) fail(err error) {
	select {
	case <-n.gone:
		if errors.Is(err, storage.ErrClosed) {
			return
		}
	default:
	}
	n.failOnce.Do(func() {
		n.fault.Store(&err)
		n.closing.Store(true)
		if errors.Is(err, ErrLeft) || errors.Is(err, ErrRemoved) {
			n.log.Warn("this node ends", "node", n.self, "why", err)
			close(n.failed)
			return
		}
		n.log.Error("the node has failed and serves no more; restart it once the cause is mended", "error", err)
		close(n.failed)
	})
}

// Shutdown ends the node in order: it takes no more requests, lets those in
// progress finish until the context ends, makes everything durable and leaves
// a marker so that the next start may go on where this one ended. Of several calls
// the one with the least patience counts, and all return when the node has ended.
func (n *Node) Shutdown(ctx context.Context) error {
	defer context.AfterFunc(ctx, n.hurry)()
	n.closed.Do(func() {
		n.closing.Store(true)
		n.requests.drain(n.patience)
		n.closeErr = n.release(n.clean)
	})
	return n.closeErr
}

// Close is Shutdown without patience: requests in progress end with an error.
func (n *Node) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return n.Shutdown(ctx)
}

// clean writes the marker of a clean shutdown. A node that has failed leaves none,
// nor one whose disk has held up a worker for longer than its supervisor waits: it may
// still give out dots.
func (n *Node) clean() {
	if n.fault.Load() != nil {
		return
	}
	if n.vnodes.running.Load() > 0 {
		n.log.Warn("a vnode worker has not ended; the next start takes new incarnations", "node", n.self)
		return
	}
	if err := n.home.mark(n.engine, n.vnodes.incarnations()); err != nil {
		n.log.Warn("this shutdown leaves no marker; the next start takes new incarnations, which is safe", "node", n.self, "error", err)
	}
}

// release ends whatever runs and closes whatever is open. Last is called when
// nothing runs any more and the engine is still open.
func (n *Node) release(last func()) error {
	var errs []error
	if n.network != nil {
		errs = append(errs, n.network.Close())
	}
	if n.stop != nil {
		n.stop()
		if err := <-n.stopped; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if n.reads != nil {
		n.reads.close()
	}
	if n.moments != nil {
		n.moments.close()
	}
	close(n.gone)
	n.requests.abandon()
	n.leaving.Do(func() {}) // from here on it has left, or does not
	if n.departed != nil {
		<-n.departed // it writes into the directory
	}
	if last != nil {
		last()
	}
	if n.engine != nil {
		if err := n.engine.Close(); err != nil && n.fault.Load() == nil {
			errs = append(errs, fmt.Errorf("tanodb: closing the engine: %w", err))
		}
	}
	if n.home != nil {
		errs = append(errs, n.home.close())
	}
	if fault := n.fault.Load(); fault != nil {
		errs = append(errs, *fault)
	}
	return errors.Join(errs...)
}

// supervise starts the node's services.
func (n *Node) supervise() {
	n.tree = newSupervision(n)
	n.tree.add("vnodes", n.vnodes.services())
	n.tree.add("membership", map[string]suture.Service{"detector": n.live, "topology": n.topology})
	n.tree.add("handoff", map[string]suture.Service{"movers": n.movers})
	n.tree.add("upkeep", map[string]suture.Service{"doctor": doctor{n}, "scrubber": n.scrub, "sweeper": sweeper{n}})
	n.tree.add("antientropy", map[string]suture.Service{"menders": n.menders})
	n.tree.add("deletes", map[string]suture.Service{"reapers": n.reapers})
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.stopped = n.tree.root.ServeBackground(ctx)
}

// elapsed is the node's monotonic clock.
func (n *Node) elapsed() time.Duration { return time.Since(n.begun) }

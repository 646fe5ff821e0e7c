package tanodb

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tanodb/tanodb/internal/antientropy"
	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/reap"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// metrics are a node's, in a registry of its own, so that several nodes may
// live in one process. docs/ARCHITECTURE.md lists them.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  map[string]prometheus.Observer
	outcomes map[string]map[string]prometheus.Counter
	repairs  *prometheus.CounterVec
	notes    *prometheus.CounterVec
	overload prometheus.Counter
	panics   *prometheus.CounterVec
	batches  prometheus.Counter
	commands prometheus.Counter
	moved    *prometheus.CounterVec
	swept    prometheus.Counter
	scrubbed prometheus.Counter
	damage   prometheus.Counter

	exchanges  *prometheus.CounterVec
	mended     *prometheus.CounterVec
	mendBytes  prometheus.Counter
	wrongTrees prometheus.Counter
	reaped     prometheus.Counter

	grown atomic.Int64 // when a key that grows was last logged, of the node's monotonic clock
}

var (
	operations = []string{"get", "put", "delete", "fetch", "update", "keys", "replica_keys", "ping"}
	outcomes   = []string{"ok", "not_found", "quorum", "timeout", "overload", "invalid", "in_doubt", "refused", "closed", "error"}
)

func newMetrics(n *Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tanodb_requests_total", Help: "Client requests answered by this node, by operation and outcome."}, []string{"op", "outcome"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tanodb_read_repairs_total", Help: "Replicas that a read has found stale, empty or corrupt, and sent the merged object."}, []string{"kind"}),
		notes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tanodb_notes_total", Help: "Things worth a look: corrupt objects, vnodes that began a new incarnation, reads that found siblings."}, []string{"kind"}),
		overload: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_overload_total", Help: "Requests and messages refused because a limit was reached."}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tanodb_panics_total", Help: "Panics that were caught, by where. Each is a bug."}, []string{"where"}),
		batches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_vnode_batches_total", Help: "Engine batches that the vnodes have applied."}),
		commands: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_vnode_writes_total", Help: "Writes that the vnodes have stored, or found stored."}),
	}
	m.moved = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tanodb_handoff_bytes_total", Help: "Bytes of objects that hand-off has pulled to this node (in), or sent to others (out)."}, []string{"direction"})
	m.swept = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_expired_objects_total", Help: "Objects whose expired values have given their bytes back on this node."})
	m.scrubbed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_scrub_bytes_total", Help: "Bytes of keys and objects whose checksums this node has looked at in search of damage."})
	m.damage = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_scrub_damage_total", Help: "Objects, and ranges of keys, that the search for damage could not read. Their vnodes are rebuilt."})
	m.exchanges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tanodb_repair_exchanges_total", Help: "Comparisons of two replicas by this node, by what came of them."}, []string{"outcome"})
	m.mended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tanodb_repair_objects_total", Help: "Objects that comparisons have merged here (in) or on other nodes (out), found busy, or could not mend (refused)."}, []string{"kind"})
	m.mendBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_repair_bytes_total", Help: "Bytes that comparisons have sent and received, about."})
	m.wrongTrees = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_repair_wrong_trees_total", Help: "Hash trees that a verification has found not to be those of the objects. Each is a bug, or a damaged disk."})
	m.reaped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tanodb_tombstones_reaped_total", Help: "Keys whose tombstones have been removed from all replicas, led by this node."})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tanodb_request_seconds", Help: "Time from a client request's arrival at this node to its answer.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18), // 100 µs to 13 s
	}, []string{"op"})
	m.seconds = make(map[string]prometheus.Observer)
	m.outcomes = make(map[string]map[string]prometheus.Counter)
	for _, op := range operations {
		m.seconds[op] = seconds.WithLabelValues(op)
		m.outcomes[op] = make(map[string]prometheus.Counter)
		for _, o := range outcomes {
			m.outcomes[op][o] = m.requests.WithLabelValues(op, o)
		}
	}
	m.registry.MustRegister(m.requests, seconds, m.repairs, m.notes, m.overload, m.panics, m.batches, m.commands, m.moved, m.swept, m.scrubbed, m.damage, m.reaped,
		m.exchanges, m.mended, m.mendBytes, m.wrongTrees,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_requests_in_progress", Help: "Requests that this node coordinates now."},
			func() float64 { return float64(n.requests.count()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_members", Help: "Members of the cluster."},
			func() float64 { return float64(len(n.members())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_members_up", Help: "Members that this node holds to be up, itself among them."},
			func() float64 { return float64(n.membersUp()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_topology_epoch", Help: "Version of the topology that this node has. It differs between nodes for moments only."},
			func() float64 { return float64(n.state().Epoch()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_ownership_transfers", Help: "Changes of ownership of the whole cluster that are not over."},
			func() float64 { return float64(len(n.state().Transfers())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_handoff_jobs", Help: "Fills, drains and repairs that this node has to do."},
			func() float64 { return float64(n.movers.jobs()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_vnodes_lacking", Help: "Vnodes of this node that are rebuilt, and answer no reads meanwhile."},
			func() float64 { return float64(len(n.lackingVnodes())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_repair_pairs", Help: "Pairs of replicas that this node compares."},
			func() float64 { return float64(n.menders.status().Pairs) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_repair_pairs_due", Help: "Of those, the ones that are to be compared now. For long above 0: the budget is too small, a node is down, or repair is paused."},
			func() float64 { return float64(n.menders.status().Due) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_repair_paused", Help: "1 while an operator has paused the comparisons of this node."},
			func() float64 {
				if n.menders.status().Paused {
					return 1
				}
				return 0
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_tombstones", Help: "Tombstones in the vnodes of this node, as counted last; -1: not yet."},
			func() float64 { return float64(n.reapers.count.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_ring_partitions", Help: "Partitions of the ring."},
			func() float64 { return float64(n.state().Ring().Size()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_ring_partitions_owned", Help: "Partitions that this node owns."},
			func() float64 { return float64(n.state().Ring().Owned(n.self)) }),
		engineCollector{n}, networkCollector{n})
	return m
}

// request counts a client's request.
func (m *metrics) request(op string, begun time.Time, err error) {
	m.seconds[op].Observe(time.Since(begun).Seconds())
	m.outcomes[op][outcome(err)].Inc()
}

// outcome is an error as a label.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range []struct {
		err  error
		name string
	}{
		{kv.ErrNotFound, "not_found"}, {kv.ErrTimeout, "timeout"}, {kv.ErrOverload, "overload"}, {kv.ErrInvalid, "invalid"},
		{kv.ErrContext, "invalid"}, {kv.ErrDataType, "invalid"}, {kv.ErrPrecondition, "invalid"}, {kv.ErrOverflow, "invalid"},
		{kv.ErrBucketType, "invalid"}, {kv.ErrTooLarge, "invalid"}, {kv.ErrTooManySiblings, "invalid"},
		{kv.ErrExists, "refused"}, {kv.ErrModified, "refused"},
		{kv.ErrQuorum, "quorum"}, {kv.ErrInDoubt, "in_doubt"}, {kv.ErrClosed, "closed"},
	} {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "error"
}

// note counts what a request has noted, and logs what is wrong.
func (m *metrics) note(n *Node, e coordinator.Note) {
	switch e.Kind {
	case coordinator.NoteRepairMissing:
		m.repairs.WithLabelValues("missing").Inc()
		return
	case coordinator.NoteRepairStale:
		m.repairs.WithLabelValues("stale").Inc()
		return
	case coordinator.NoteRepairCorrupt:
		m.repairs.WithLabelValues("corrupt").Inc()
		return
	case coordinator.NoteCorrupt:
		n.log.Error("a replica has answered with a corrupt object; it is repaired from the others",
			"replica", e.Replica.Node, "partition", int(e.Replica.Partition), "why", e.Text)
	}
	m.notes.WithLabelValues(string(e.Kind)).Inc()
}

// moverNote counts and logs what hand-off has noted.
func (m *metrics) moverNote(n *Node, e handoff.Note) {
	m.notes.WithLabelValues("handoff_" + string(e.Kind)).Inc()
	level := slog.LevelInfo
	switch e.Kind {
	case handoff.NoteFailed, handoff.NoteStuck, handoff.NoteSkipped, handoff.NoteNowhere, handoff.NoteLook:
		level = slog.LevelWarn
	}
	n.log.Log(context.Background(), level, "hand-off", "node", n.self, "what", string(e.Kind), "job", string(e.Job),
		"transfer", e.Transfer, "partition", int(e.Partition), "why", e.Text)
}

// menderNote counts and logs what anti-entropy has noted. That replicas are equal, or
// only busy, is no news.
func (m *metrics) menderNote(n *Node, e antientropy.Note) {
	m.exchanges.WithLabelValues(string(e.Kind)).Inc()
	m.mendBytes.Add(float64(e.Tally.Bytes))
	for kind, count := range map[string]int{"in": e.Tally.In, "out": e.Tally.Out, "busy": e.Tally.Busy, "refused": e.Tally.Refused} {
		m.mended.WithLabelValues(kind).Add(float64(count))
	}
	level := slog.LevelDebug
	switch {
	case e.Kind == antientropy.NoteFailed, e.Tally.Refused > 0:
		level = slog.LevelWarn
	case e.Kind == antientropy.NoteMended:
		level = slog.LevelInfo
	}
	n.log.Log(context.Background(), level, "anti-entropy", "node", n.self, "what", string(e.Kind), "pair", e.Pair.String(),
		"different", e.Tally.Different, "in", e.Tally.In, "out", e.Tally.Out, "why", e.Text)
}

// reapNote counts and logs what reaping has noted.
func (m *metrics) reapNote(n *Node, e reap.Note) {
	if e.Kind == reap.NoteReaped {
		m.reaped.Add(float64(e.Count))
	} else {
		m.notes.WithLabelValues("reap_" + string(e.Kind)).Inc()
	}
	n.log.Debug("reaping", "node", n.self, "what", string(e.Kind), "tombstones", e.Count, "why", e.Text)
}

// vnodeNote counts and logs what a vnode has noted.
func (m *metrics) vnodeNote(n *Node, p ring.Partition, e vnode.Note) {
	m.notes.WithLabelValues("vnode_" + string(e.Kind)).Inc()
	if e.Kind == vnode.NoteSiblings || e.Kind == vnode.NoteLarge {
		m.grows(n, e)
		return
	}
	n.log.Warn("a vnode has something to say", "partition", int(p), "kind", string(e.Kind), "key", e.Key.String(), "why", e.Text)
}

// growthEvery is how often keys that grow towards a limit are logged at most. All are
// counted.
const growthEvery = time.Second

// grows logs that a key grows towards a limit.
func (m *metrics) grows(n *Node, e vnode.Note) {
	now, last := int64(n.elapsed()), m.grown.Load()
	if last != 0 && now-last < int64(growthEvery) || !m.grown.CompareAndSwap(last, now) {
		return
	}
	n.log.Warn("a key grows towards its limit", "node", n.self, "key", e.Key.String(), "kind", string(e.Kind), "why", e.Text)
}

// members are those that have not left.
func (n *Node) members() []membership.Member {
	return slices.DeleteFunc(n.state().Members(), func(m membership.Member) bool { return m.Status == membership.StatusLeft })
}

func (n *Node) membersUp() int {
	up := 0
	for _, m := range n.members() {
		if n.live.up(m.Name) {
			up++
		}
	}
	return up
}

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
// live in one process. docs/metrics.md lists them: every series of a label with known values
// is there from the start, so that a rate is never of nothing, and no label can grow beyond
// what is known here, but for the names of peers and services.
type metrics struct {
	registry *prometheus.Registry
	seconds  map[string]prometheus.Observer
	outcomes map[string]map[string]prometheus.Counter // of requests, by operation and outcome
	unmet    map[string]map[string]prometheus.Counter // by operation and requirement
	slow     prometheus.Counter
	standIns prometheus.Counter
	asked    *prometheus.HistogramVec
	repairs  *prometheus.CounterVec
	notes    *prometheus.CounterVec
	overload overloads
	panics   *prometheus.CounterVec

	readBytes, wroteBytes prometheus.Observer
	siblings              prometheus.Observer

	batches   prometheus.Counter
	commands  prometheus.Counter
	batchSize prometheus.Observer
	queueWait prometheus.Observer
	moved     *prometheus.CounterVec
	swept     prometheus.Counter
	scrubbed  prometheus.Counter
	damage    prometheus.Counter

	exchanges  *prometheus.CounterVec
	mended     *prometheus.CounterVec
	mendBytes  prometheus.Counter
	wrongTrees prometheus.Counter
	reaped     prometheus.Counter

	grown atomic.Int64 // when a key that grows was last logged, of the node's monotonic clock
}

// overloads are the limits that a request or a message may meet.
type overloads struct{ requests, commands, reads, objectBytes, siblings prometheus.Counter }

var (
	operations = []string{"get", "put", "delete", "fetch", "update", "keys", "replica_keys", "index", "buckets", "ping"}
	outcomes   = []string{"ok", "not_found", "quorum", "timeout", "overload", "invalid", "in_doubt", "refused", "closed", "error"}

	// requirements are what a QuorumError may name.
	requirements = []string{"R", "PR", "W", "PW", "DW", "node_confirms", "coverage", "nodes"}

	noteKinds = []string{
		"siblings", "corrupt", "outdated_disk", "outdated_erased",
		"vnode_corrupt", "vnode_new_actor", "vnode_bad_item", "vnode_unread", "vnode_tree", "vnode_index", "vnode_siblings", "vnode_large",
		"handoff_begun", "handoff_ended", "handoff_failed", "handoff_stuck", "handoff_skipped", "handoff_nowhere", "handoff_look",
		"reap_ended", "reap_spared",
	}
)

// The buckets of histograms.
var (
	requestBuckets = prometheus.ExponentialBuckets(0.0001, 2, 18)   // 100 µs to 13 s
	askBuckets     = prometheus.ExponentialBuckets(0.0001, 2.5, 12) // 100 µs to 2.4 s
	waitBuckets    = prometheus.ExponentialBuckets(0.00001, 4, 10)  // 10 µs to 2.6 s
	batchBuckets   = prometheus.ExponentialBuckets(1, 2, 10)        // 1 to 512
	sizeBuckets    = prometheus.ExponentialBuckets(64, 4, 11)       // 64 B to 64 MiB
	siblingBuckets = []float64{1, 2, 3, 5, 10, 25, 50, 100}
)

func newMetrics(n *Node) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		engineCollector{n}, networkCollector{n}, nodeCollector{n})
	m.ofRequests()
	m.ofVnodes()
	m.ofUpkeep()
	return m
}

// ofRequests makes the metrics of requests.
func (m *metrics) ofRequests() {
	seconds := m.histograms("tanodb_request_seconds", "Time from a client request's arrival at this node to its answer.", requestBuckets, "op")
	requests := m.counters("tanodb_requests_total", "Client requests answered by this node, by operation and outcome.", "op", "outcome")
	unmet := m.counters("tanodb_requests_unmet_total", "Client requests that failed because too few replicas granted them, by operation and by the requirement that failed.", "op", "requirement")
	m.seconds = make(map[string]prometheus.Observer)
	m.outcomes = make(map[string]map[string]prometheus.Counter)
	m.unmet = make(map[string]map[string]prometheus.Counter)
	for _, op := range operations {
		m.seconds[op] = seconds.WithLabelValues(op)
		m.outcomes[op] = children(requests, outcomes, op)
		m.unmet[op] = children(unmet, requirements, op)
	}
	m.slow = m.counter("tanodb_slow_requests_total", "Client requests that took longer than the option slow-request. Some of them are in the log with their whole story.")
	m.standIns = m.counter("tanodb_stand_ins_asked_total", "Vnodes that requests of this node have asked in place of a primary that was down, slow or refused.")
	m.asked = m.histograms("tanodb_peer_ask_seconds", "Time from a question of a client's request to a vnode of another node to its answer.", askBuckets, "peer")
	m.repairs = m.known("tanodb_read_repairs_total", "Replicas that a read has found stale, empty or corrupt, and sent the merged object.", "kind", "missing", "stale", "corrupt")
	limits := m.counters("tanodb_overload_total", "Requests and messages refused because a limit of this node was reached.", "limit")
	m.overload = overloads{
		requests: limits.WithLabelValues("requests"), commands: limits.WithLabelValues("vnode_commands"), reads: limits.WithLabelValues("reads"),
		objectBytes: limits.WithLabelValues("object_bytes"), siblings: limits.WithLabelValues("siblings"),
	}
	m.panics = m.known("tanodb_panics_total", "Panics that were caught, by where. Each is a bug.", "where", "request", "vnode", "read", "service")
	sizes := m.histograms("tanodb_value_bytes", "Bytes of the values, all siblings together, that clients have read (get) or written (put).", sizeBuckets, "op")
	m.readBytes, m.wroteBytes = sizes.WithLabelValues("get"), sizes.WithLabelValues("put")
	m.siblings = m.histogram("tanodb_get_siblings", "Values that a read of a key has found beside each other.", siblingBuckets)
}

// ofVnodes makes the metrics of vnodes, and of what is worth a look.
func (m *metrics) ofVnodes() {
	m.notes = m.known("tanodb_notes_total", "Things worth a look: corrupt objects, vnodes that began a new incarnation, reads that found siblings, hand-off that does not get on.", "kind", noteKinds...)
	m.batches = m.counter("tanodb_vnode_batches_total", "Engine batches that the vnodes have applied.")
	m.commands = m.counter("tanodb_vnode_writes_total", "Writes that the vnodes have stored, or found stored.")
	m.batchSize = m.histogram("tanodb_vnode_batch_commands", "Commands that a vnode worker has taken at once: the size of the group that shares one engine batch.", batchBuckets)
	m.queueWait = m.histogram("tanodb_vnode_wait_seconds", "How long the first command of each batch has waited for its vnode, about.", waitBuckets)
}

// ofUpkeep makes the metrics of work in the background.
func (m *metrics) ofUpkeep() {
	m.moved = m.known("tanodb_handoff_bytes_total", "Bytes of objects that hand-off has pulled to this node (in), or sent to others (out).", "direction", "in", "out")
	m.swept = m.counter("tanodb_expired_objects_total", "Objects whose expired values have given their bytes back on this node.")
	m.scrubbed = m.counter("tanodb_scrub_bytes_total", "Bytes of keys and objects whose checksums this node has looked at in search of damage.")
	m.damage = m.counter("tanodb_scrub_damage_total", "Objects, and ranges of keys, that the search for damage could not read. Their vnodes are rebuilt.")
	m.exchanges = m.known("tanodb_repair_exchanges_total", "Comparisons of two replicas by this node, by what came of them; busy: they differed only in what was being written.", "outcome", "equal", "mended", "busy", "failed")
	m.mended = m.known("tanodb_repair_objects_total", "Objects that comparisons have merged here (in) or on other nodes (out), found busy, or could not mend (refused).", "kind", "in", "out", "busy", "refused")
	m.mendBytes = m.counter("tanodb_repair_bytes_total", "Bytes that comparisons have sent and received, about.")
	m.wrongTrees = m.counter("tanodb_repair_wrong_trees_total", "Hash trees that a verification has found not to be those of the objects. Each is a bug, or a damaged disk.")
	m.reaped = m.counter("tanodb_tombstones_reaped_total", "Keys whose tombstones have been removed from all replicas, led by this node.")
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

// known is counters of one label whose values are known.
func (m *metrics) known(name, help, label string, values ...string) *prometheus.CounterVec {
	c := m.counters(name, help, label)
	for _, v := range values {
		c.WithLabelValues(v)
	}
	return c
}

func (m *metrics) histogram(name, help string, buckets []float64) prometheus.Observer {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

func (m *metrics) histograms(name, help string, buckets []float64, label string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
	m.registry.MustRegister(h)
	return h
}

// children are the counters of an operation, by the values of the other label.
func children(c *prometheus.CounterVec, values []string, op string) map[string]prometheus.Counter {
	all := make(map[string]prometheus.Counter, len(values))
	for _, v := range values {
		all[v] = c.WithLabelValues(op, v)
	}
	return all
}

// request counts a client's request, and says how long it took.
func (m *metrics) request(op string, begun time.Time, err error) (took time.Duration) {
	took = time.Since(begun)
	if !measured {
		return took
	}
	m.seconds[op].Observe(took.Seconds())
	m.outcomes[op][outcome(err)].Inc()
	if err != nil {
		m.failed(op, err)
	}
	return took
}

// read counts what a read has found.
func (m *metrics) read(values []kv.Value) {
	size := 0
	for i := range values {
		size += len(values[i].Data)
	}
	m.readBytes.Observe(float64(size))
	m.siblings.Observe(float64(len(values)))
}

// wrote counts what a client has written.
func (m *metrics) wrote(v *kv.Value) {
	if measured {
		m.wroteBytes.Observe(float64(len(v.Data)))
	}
}

// batch counts what a vnode worker has taken at once, the first of which has waited so long.
func (m *metrics) batch(commands int, waited time.Duration) {
	if measured {
		m.batchSize.Observe(float64(commands))
		m.queueWait.Observe(waited.Seconds())
	}
}

// applied counts an engine batch, and stored the writes in it.
func (m *metrics) applied() {
	if measured {
		m.batches.Inc()
	}
}

func (m *metrics) stored(writes int) {
	if measured {
		m.commands.Add(float64(writes))
	}
}

// failed counts what a request has failed by.
func (m *metrics) failed(op string, err error) {
	var q *kv.QuorumError
	switch {
	case errors.As(err, &q):
		if c := m.unmet[op][q.Need]; c != nil {
			c.Inc()
		}
	case errors.Is(err, kv.ErrTooLarge):
		m.overload.objectBytes.Inc()
	case errors.Is(err, kv.ErrTooManySiblings):
		m.overload.siblings.Inc()
	}
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

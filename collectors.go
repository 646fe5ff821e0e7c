package tanodb

import (
	"errors"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb/internal/handoff"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// sample is a metric whose value is known elsewhere and read when somebody asks.
type sample struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gaugeSample(name, help string, labels ...string) sample {
	return sample{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

func counterSample(name, help string, labels ...string) sample {
	return sample{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func (s sample) send(out chan<- prometheus.Metric, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(s.desc, s.kind, v, labels...)
}

// one is a truth as a number.
func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// nodeCollector turns what the node knows of itself and its cluster into metrics.
type nodeCollector struct{ n *Node }

var (
	nodeBuild    = gaugeSample("tanodb_build_info", "1; the labels are the version of the program and of Go.", "version", "go")
	nodeRestarts = counterSample("tanodb_service_restarts_total", "Restarts of the services of the node by their supervisors, by the path in the tree. Each is a bug, or a disk that fails.", "service")
	nodeRequests = gaugeSample("tanodb_requests_in_progress", "Requests that this node coordinates now.")
	nodeHot      = counterSample("tanodb_sketched_requests_total", "Requests that the sketches of hot keys have counted, one in 16; see tanodb hot.")
	nodeReady    = gaugeSample("tanodb_ready", "1 while this node is ready for requests, as /readyz says.")

	topologyMembers   = gaugeSample("tanodb_members", "Members of the cluster.")
	topologyUp        = gaugeSample("tanodb_members_up", "Members that this node holds to be up, itself among them.")
	topologyEpoch     = gaugeSample("tanodb_topology_epoch", "Version of the topology that this node has. It differs between nodes for moments only.")
	topologyLeads     = gaugeSample("tanodb_topology_leads", "1 on the node that leads the topology log.")
	topologyLed       = gaugeSample("tanodb_topology_led", "1 while the topology can change, as far as this node knows: a leader is known, and has a majority.")
	topologyTerm      = gaugeSample("tanodb_topology_term", "Term of the topology log. It grows with each election.")
	topologyCommit    = gaugeSample("tanodb_topology_commit_index", "Last entry of the topology log that is agreed on, as far as this node knows.")
	topologyApplied   = gaugeSample("tanodb_topology_applied_index", "Last entry of the topology log that this node's topology contains.")
	topologyWaiting   = gaugeSample("tanodb_topology_commands_waiting", "Commands of this node that the topology log has not decided on.")
	topologyTransfers = gaugeSample("tanodb_ownership_transfers", "Changes of ownership of the whole cluster that are not over.")
	ringSize          = gaugeSample("tanodb_ring_partitions", "Partitions of the ring.")
	ringOwned         = gaugeSample("tanodb_ring_partitions_owned", "Partitions that this node owns.")

	vnodeQueue   = gaugeSample("tanodb_vnode_queue_commands", "Commands that wait for the vnodes of this node.")
	vnodeLongest = gaugeSample("tanodb_vnode_queue_longest", "Commands that wait for the vnode with the most; at 1000 more are refused.")
	vnodeReads   = gaugeSample("tanodb_read_queue", "Reads that wait for a reader; at 4096 more are refused.")
	vnodeLacking = gaugeSample("tanodb_vnodes_lacking", "Vnodes of this node that are rebuilt, and answer no reads meanwhile.")

	handoffJobs    = gaugeSample("tanodb_handoff_jobs", "Jobs that hand-off has to do on this node: fills of what it is to own, drains of what it holds for others (hints), repairs.", "kind")
	handoffFailing = gaugeSample("tanodb_handoff_jobs_failing", "Of those, the ones that met an error last, and are tried again.")
	handoffIdle    = gaugeSample("tanodb_handoff_idle_seconds", "How long the job that has got on least has not: above a few minutes it is stuck, or waits for a node that is down.")
	handoffSkipped = gaugeSample("tanodb_handoff_skipped_objects", "Objects that present jobs could not read and have left where they are.")

	repairPairs   = gaugeSample("tanodb_repair_pairs", "Pairs of replicas that this node compares.")
	repairDue     = gaugeSample("tanodb_repair_pairs_due", "Of those, the ones that are to be compared now. For long above 0: the budget is too small, a node is down, or repair is paused.")
	repairBlocked = gaugeSample("tanodb_repair_pairs_blocked", "Of those that are due, the ones whose other node is down.")
	repairFailing = gaugeSample("tanodb_repair_pairs_failing", "Pairs whose last comparison has failed.")
	repairNever   = gaugeSample("tanodb_repair_pairs_never", "Pairs that have not been compared since this node was started.")
	repairOldest  = gaugeSample("tanodb_repair_oldest_seconds", "How long ago the pair was compared that has waited longest, of those that were; 0: none was.")
	repairPaused  = gaugeSample("tanodb_repair_paused", "1 while an operator has paused the comparisons of this node.")
	tombstones    = gaugeSample("tanodb_tombstones", "Tombstones in the vnodes of this node, as counted last; -1: not yet.")

	clockSkewed = gaugeSample("tanodb_clock_skewed", "1 while the wall clock of this node is off from those of most: it makes no versions where the last write wins.")
	clockLimit  = gaugeSample("tanodb_clock_limit_seconds", "How far wall clocks may be apart: the option max-clock-offset.")

	nodeSamples = []sample{
		nodeBuild, nodeRestarts, nodeRequests, nodeReady, nodeHot,
		topologyMembers, topologyUp, topologyEpoch, topologyLeads, topologyLed, topologyTerm, topologyCommit, topologyApplied, topologyWaiting, topologyTransfers, ringSize, ringOwned,
		vnodeQueue, vnodeLongest, vnodeReads, vnodeLacking,
		handoffJobs, handoffFailing, handoffIdle, handoffSkipped,
		repairPairs, repairDue, repairBlocked, repairFailing, repairNever, repairOldest, repairPaused, tombstones,
		clockSkewed, clockLimit,
	}
)

// Describe implements prometheus.Collector.
func (c nodeCollector) Describe(out chan<- *prometheus.Desc) { describe(out, nodeSamples) }

func describe(out chan<- *prometheus.Desc, samples []sample) {
	for _, s := range samples {
		out <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(out chan<- prometheus.Metric) {
	n := c.n
	nodeBuild.send(out, 1, Version(), runtime.Version())
	if n.tree != nil {
		for _, s := range n.tree.list() {
			nodeRestarts.send(out, float64(s.Restarts), s.Name)
		}
	}
	nodeRequests.send(out, float64(n.requests.count()))
	nodeHot.send(out, float64(n.sketches.seen.Load()))
	nodeReady.send(out, one(len(n.Readiness().Reasons) == 0))
	c.topology(out)
	all, most := n.vnodes.queued()
	vnodeQueue.send(out, float64(all))
	vnodeLongest.send(out, float64(most))
	vnodeReads.send(out, float64(len(n.reads.queue)))
	vnodeLacking.send(out, float64(len(n.lackingVnodes())))
	c.handoff(out)
	c.repair(out)
	clockSkewed.send(out, one(n.clocks.off(n.self)))
	clockLimit.send(out, n.tuning().MaxClockOffset.Seconds())
}

func (c nodeCollector) topology(out chan<- prometheus.Metric) {
	n, s := c.n, c.n.state()
	log := n.topology.logStatus()
	topologyMembers.send(out, float64(len(n.members())))
	topologyUp.send(out, float64(n.membersUp()))
	topologyEpoch.send(out, float64(s.Epoch()))
	topologyLeads.send(out, one(log.Role == "leader"))
	topologyLed.send(out, one(n.topology.status().led))
	topologyTerm.send(out, float64(log.Term))
	topologyCommit.send(out, float64(log.Commit))
	topologyApplied.send(out, float64(log.Applied))
	topologyWaiting.send(out, float64(log.Waiting))
	topologyTransfers.send(out, float64(len(s.Transfers())))
	ringSize.send(out, float64(s.Ring().Size()))
	ringOwned.send(out, float64(s.Ring().Owned(n.self)))
}

func (c nodeCollector) handoff(out chan<- prometheus.Metric) {
	kinds := map[handoff.Kind]int{handoff.Filling: 0, handoff.Draining: 0, handoff.Repairing: 0}
	failing, skipped, now := 0, 0, c.n.elapsed()
	var idle time.Duration
	for _, j := range c.n.movers.list() {
		kinds[j.Kind]++
		skipped += j.Skipped
		if j.Error != "" {
			failing++
		}
		if !j.Finished {
			idle = max(idle, now-max(j.Progress, j.Begun))
		}
	}
	for kind, count := range kinds {
		handoffJobs.send(out, float64(count), string(kind))
	}
	handoffFailing.send(out, float64(failing))
	handoffIdle.send(out, idle.Seconds())
	handoffSkipped.send(out, float64(skipped))
}

func (c nodeCollector) repair(out chan<- prometheus.Metric) {
	s := c.n.menders.status()
	repairPairs.send(out, float64(s.Pairs))
	repairDue.send(out, float64(s.Due))
	repairBlocked.send(out, float64(s.Blocked))
	repairFailing.send(out, float64(s.Failing))
	repairNever.send(out, float64(s.Never))
	oldest := 0.0
	if s.Oldest > 0 {
		oldest = (c.n.elapsed() - s.Oldest).Seconds()
	}
	repairOldest.send(out, oldest)
	repairPaused.send(out, one(s.Paused))
	tombstones.send(out, float64(c.n.reapers.count.Load()))
}

// engineCollector turns the engine's counts into metrics.
type engineCollector struct{ n *Node }

var (
	engineCommits  = counterSample("tanodb_engine_commits_total", "Batches that the engine has applied.")
	engineSyncs    = counterSample("tanodb_engine_wal_syncs_total", "fsyncs of the engine's log. Fewer than commits: group commit works, and their ratio is the size of a group.")
	engineWAL      = counterSample("tanodb_engine_wal_bytes_total", "Bytes written to the engine's log.")
	engineHits     = counterSample("tanodb_engine_cache_hits_total", "Blocks that were read from the engine's cache.")
	engineMisses   = counterSample("tanodb_engine_cache_misses_total", "Blocks that were read from disk.")
	engineCache    = gaugeSample("tanodb_engine_cache_bytes", "Size of the engine's cache of blocks.")
	engineMem      = gaugeSample("tanodb_engine_memtable_bytes", "What is in memory and in the log, and not in tables yet.")
	engineFlushes  = counterSample("tanodb_engine_flushes_total", "Times that the engine has written memory to tables.")
	engineCompacts = counterSample("tanodb_engine_compactions_total", "Compactions that the engine has done.")
	engineRunning  = gaugeSample("tanodb_engine_compactions_running", "Compactions that run now.")
	engineDebt     = gaugeSample("tanodb_engine_compaction_debt_bytes", "Bytes that compactions have to write until all is in order. If it only grows, the disk cannot keep up.")
	engineFlushed  = counterSample("tanodb_engine_flushed_bytes_total", "Bytes written to tables from memory.")
	engineMoved    = counterSample("tanodb_engine_compacted_bytes_total", "Bytes written to tables by compactions. Over the flushed ones: how often each byte is written again.")
	engineL0       = gaugeSample("tanodb_engine_l0_files", "Files of the engine's first level. Many mean that compactions are behind, and that reads get dearer.")
	engineBytes    = gaugeSample("tanodb_engine_disk_bytes", "Size of the engine's files.")
	engineFree     = gaugeSample("tanodb_engine_disk_free_bytes", "Bytes that are free on the engine's file system.")
	engineReserve  = gaugeSample("tanodb_engine_disk_reserve_bytes", "With fewer free bytes this node refuses writes.")
	engineCorrupt  = counterSample("tanodb_engine_corruptions_total", "Reads of the engine that met damaged data.")
	engineErrors   = counterSample("tanodb_engine_read_errors_total", "Reads that the disk has failed.")
	engineStalled  = gaugeSample("tanodb_engine_stalled", "1 while the disk does nothing for those who wait for it, and this node steps back.")
	engineFull     = gaugeSample("tanodb_engine_read_only", "1 while writes are refused because the disk is nearly full.")

	engineSyncTime = prometheus.NewDesc("tanodb_engine_wal_sync_seconds", "Time that fsyncs of the engine's log have taken.", nil, nil)

	engineSamples = []sample{
		engineCommits, engineSyncs, engineWAL, engineHits, engineMisses, engineCache, engineMem, engineFlushes, engineCompacts, engineRunning, engineDebt, engineFlushed, engineMoved,
		engineL0, engineBytes, engineFree, engineReserve, engineCorrupt, engineErrors, engineStalled, engineFull,
	}
)

// Describe implements prometheus.Collector.
func (c engineCollector) Describe(out chan<- *prometheus.Desc) {
	describe(out, engineSamples)
	out <- engineSyncTime
}

// Collect implements prometheus.Collector.
func (c engineCollector) Collect(out chan<- prometheus.Metric) {
	d, ok := c.n.engine.(*disk.Engine)
	if !ok {
		return
	}
	m := d.Metrics()
	engineCommits.send(out, float64(m.Commits))
	engineSyncs.send(out, float64(m.WALSyncs))
	engineWAL.send(out, float64(m.WALBytes))
	engineHits.send(out, float64(m.CacheHits))
	engineMisses.send(out, float64(m.CacheMisses))
	engineCache.send(out, float64(m.CacheBytes))
	engineMem.send(out, float64(m.MemTable))
	engineFlushes.send(out, float64(m.Flushes))
	engineCompacts.send(out, float64(m.Compactions))
	engineRunning.send(out, float64(m.Compacting))
	engineDebt.send(out, float64(m.Debt))
	engineFlushed.send(out, float64(m.FlushedBytes))
	engineMoved.send(out, float64(m.CompactedBytes))
	engineL0.send(out, float64(m.L0Files))
	engineBytes.send(out, float64(m.DiskBytes))
	engineFree.send(out, float64(m.Free))
	engineReserve.send(out, float64(m.Reserve))
	engineCorrupt.send(out, float64(m.Corruptions))
	engineErrors.send(out, float64(m.ReadErrors))
	_, writes := d.Trouble()
	engineStalled.send(out, one(errors.Is(writes, storage.ErrStalled)))
	engineFull.send(out, one(m.ReadOnly))
	within := make(map[float64]uint64, len(m.SyncsWithin))
	for bound, count := range m.SyncsWithin {
		within[bound] = uint64(count)
	}
	out <- prometheus.MustNewConstHistogram(engineSyncTime, uint64(m.WALSyncs), m.SyncSeconds, within)
}

// networkCollector turns the network's counts into metrics.
type networkCollector struct{ n *Node }

var (
	peerUp        = gaugeSample("tanodb_peer_up", "1 while this node holds the peer to be up.", "peer")
	peerAhead     = gaugeSample("tanodb_peer_clock_ahead_seconds", "How far the wall clock of the peer is ahead of this node's, about; below 0: it is behind.", "peer")
	peerSkewed    = gaugeSample("tanodb_peer_clock_skewed", "1 while the wall clock of the peer is off from those of most nodes.", "peer")
	peerConnected = gaugeSample("tanodb_peer_connected", "1 while this node has a connection to the peer.", "peer")
	peerConnects  = counterSample("tanodb_peer_connects_total", "Connections that this node has made to the peer, for requests and for bulk; all but the first of each are reconnects.", "peer")
	peerFramesOut = counterSample("tanodb_peer_frames_sent_total", "Messages sent to the peer.", "peer")
	peerFramesIn  = counterSample("tanodb_peer_frames_received_total", "Messages received from the peer.", "peer")
	peerBatches   = counterSample("tanodb_peer_batches_sent_total", "Writes to the peer's connections; each carries one or more messages.", "peer")
	peerBytesOut  = counterSample("tanodb_peer_bytes_sent_total", "Bytes sent to the peer.", "peer")
	peerBytesIn   = counterSample("tanodb_peer_bytes_received_total", "Bytes received from the peer.", "peer")
	peerLost      = counterSample("tanodb_peer_requests_lost_total", "Requests to the peer whose connection broke before the answer.", "peer")
	peerExpired   = counterSample("tanodb_peer_requests_expired_total", "Requests to the peer that had no answer in time.", "peer")
	peerStrays    = counterSample("tanodb_peer_stray_answers_total", "Answers of the peer that nobody waited for any more.", "peer")
	peerQueued    = gaugeSample("tanodb_peer_queued_bytes", "Bytes that wait to be sent to the peer.", "peer")
	peerAsks      = gaugeSample("tanodb_peer_requests_waiting", "Requests to the peer that wait for an answer, of clients and of work in the background.", "peer")
	netRejected   = counterSample("tanodb_network_rejected_total", "Connections of other nodes that this node has refused: of another cluster, of no member, under a wrong name.")

	networkSamples = []sample{
		peerUp, peerAhead, peerSkewed, peerConnected, peerConnects, peerFramesOut, peerFramesIn, peerBatches, peerBytesOut, peerBytesIn,
		peerLost, peerExpired, peerStrays, peerQueued, peerAsks, netRejected,
	}
)

// Describe implements prometheus.Collector.
func (c networkCollector) Describe(out chan<- *prometheus.Desc) { describe(out, networkSamples) }

// Collect implements prometheus.Collector.
func (c networkCollector) Collect(out chan<- prometheus.Metric) {
	if c.n.network == nil {
		return
	}
	stats := c.n.network.Stats()
	netRejected.send(out, float64(stats.Rejected))
	for i := range stats.Peers {
		c.peer(out, &stats.Peers[i])
	}
}

func (c networkCollector) peer(out chan<- prometheus.Metric, p *transport.PeerStats) {
	peerUp.send(out, one(c.n.live.up(p.Node)), p.Node)
	peerAhead.send(out, c.n.clocks.ahead(p.Node).Seconds(), p.Node)
	peerSkewed.send(out, one(c.n.clocks.off(p.Node)), p.Node)
	peerConnected.send(out, one(p.Connected), p.Node)
	peerConnects.send(out, float64(p.Connects), p.Node)
	peerFramesOut.send(out, float64(p.FramesOut), p.Node)
	peerFramesIn.send(out, float64(p.FramesIn), p.Node)
	peerBatches.send(out, float64(p.BatchesOut), p.Node)
	peerBytesOut.send(out, float64(p.BytesOut), p.Node)
	peerBytesIn.send(out, float64(p.BytesIn), p.Node)
	peerLost.send(out, float64(p.Lost), p.Node)
	peerExpired.send(out, float64(p.Expired), p.Node)
	peerStrays.send(out, float64(p.Strays), p.Node)
	peerQueued.send(out, float64(p.Queued), p.Node)
	peerAsks.send(out, float64(p.Asks), p.Node)
}

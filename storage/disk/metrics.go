package disk

import (
	dto "github.com/prometheus/client_model/go"
)

// Metrics are counts since the engine was opened, unless a field says that it
// is as of now.
type Metrics struct {
	Commits     int64  // batches applied
	WALSyncs    int64  // fsyncs of the write-ahead log; fewer than Commits when callers share them
	WALBytes    uint64 // written to the write-ahead log
	Flushes     int64
	Compactions int64
	CacheHits   int64 // blocks that were read from the cache
	CacheMisses int64
	DiskBytes   uint64 // size of all files, now
	L0Files     int64  // table files in level 0, now; many mean that compactions are behind
	ReadOnly    bool   // writes are refused because the disk is nearly full, now
	Failed      bool   // the engine has failed, now
	Corruptions int64  // reads that met damaged data
	ReadErrors  int64  // reads that the disk has failed

	Free    uint64 // bytes that are free on the file system, as measured last
	Reserve uint64 // with fewer, writes are refused; 0: the file system does not tell

	CacheBytes uint64 // in the cache of blocks, now
	MemTable   uint64 // bytes that are in memory and in the log only, now
	Debt       uint64 // bytes that compactions have to write until all is in order, now
	Compacting int64  // compactions that run now

	FlushedBytes   uint64 // written to tables from memory
	CompactedBytes uint64 // written to tables by compactions

	SyncSeconds float64           // what the fsyncs of the log have taken together
	SyncsWithin map[float64]int64 // those that took so many seconds at most, by SyncBounds
}

// SyncBounds are the bounds of Metrics.SyncsWithin, in seconds.
var SyncBounds = []float64{0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}

// Metrics returns the engine's counts. Once it has failed or is closed, only
// Commits, ReadOnly, Failed, Corruptions, ReadErrors, Free and Reserve are known.
func (e *Engine) Metrics() Metrics {
	out := Metrics{
		Commits:  e.commits.Load(),
		ReadOnly: e.space.full.Load() != nil,
		Failed:   e.failure.Load() != nil,

		Corruptions: e.corruptions.Load(),
		ReadErrors:  e.readErrors.Load(),
		Free:        e.space.free.Load(),
		Reserve:     e.space.reserve.Load(),
	}
	if e.enter() != nil {
		return out
	}
	defer e.leave()
	m := e.db.Metrics()
	out.WALBytes = m.WAL.BytesWritten
	out.Flushes = m.Flush.Count
	out.Compactions = m.Compact.Count
	out.CacheHits = m.BlockCache.Hits
	out.CacheMisses = m.BlockCache.Misses
	out.DiskBytes = m.DiskSpaceUsage()
	out.L0Files = m.Levels[0].TablesCount
	out.CacheBytes = uint64(max(m.BlockCache.Size, 0))
	out.MemTable = m.MemTable.Size
	out.Debt = m.Compact.EstimatedDebt
	out.Compacting = m.Compact.NumInProgress
	total := m.Total()
	out.FlushedBytes, out.CompactedBytes = total.TableBytesFlushed, total.TableBytesCompacted
	var syncs dto.Metric
	if m.LogWriter.FsyncLatency.Write(&syncs) == nil {
		out.countSyncs(syncs.GetHistogram())
	}
	return out
}

// countSyncs takes over Pebble's histogram of fsyncs, which is of nanoseconds and has a hundred
// buckets. An fsync is counted under a bound when Pebble's own bucket lies wholly below it.
func (m *Metrics) countSyncs(h *dto.Histogram) {
	m.WALSyncs = int64(h.GetSampleCount())
	m.SyncSeconds = h.GetSampleSum() / 1e9
	m.SyncsWithin = make(map[float64]int64, len(SyncBounds))
	for _, bound := range SyncBounds {
		within := uint64(0)
		for _, b := range h.GetBucket() {
			if b.GetUpperBound() <= bound*1e9*(1+1e-9) {
				within = b.GetCumulativeCount()
			}
		}
		m.SyncsWithin[bound] = int64(within)
	}
}

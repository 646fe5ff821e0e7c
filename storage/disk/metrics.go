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
}

// Metrics returns the engine's counts. Once it has failed or is closed, only
// Commits, ReadOnly, Failed, Corruptions and ReadErrors are known.
func (e *Engine) Metrics() Metrics {
	out := Metrics{
		Commits:  e.commits.Load(),
		ReadOnly: e.space.full.Load() != nil,
		Failed:   e.failure.Load() != nil,

		Corruptions: e.corruptions.Load(),
		ReadErrors:  e.readErrors.Load(),
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
	var syncs dto.Metric
	if m.LogWriter.FsyncLatency.Write(&syncs) == nil {
		out.WALSyncs = int64(syncs.GetHistogram().GetSampleCount())
	}
	return out
}

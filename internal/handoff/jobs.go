package handoff

import (
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// key tells jobs apart.
type key struct {
	kind      Kind
	transfer  uint64 // of a fill
	epoch     uint64 // of a fill's transfer
	partition ring.Partition
	home      ring.Partition // of a drain
}

// job is a piece of work and how it goes.
type job struct {
	key      key
	work     work
	from, to string
	tally

	// Invariant: pending != 0 implies running.
	running bool
	turn    int // the number of its last one
	pending int // the Ask or Do that it waits for; 0: none
	asked   request
	sent    time.Duration
	page    time.Duration // what the page in hand has taken so far
	with    []string      // the nodes that it has kept busy

	over     bool // a fill that waits for the topology to show it
	fails    int  // in a row
	failedAt string
	blocked  string // the node that it waits for
	retryAt  time.Duration
	err      string

	begun, progress, warned time.Duration
}

// urgent reports whether somebody should hear that the job comes no further.
// That hints wait for a node that is down is no news.
func (j *job) urgent() bool { return !j.over && (j.key.kind != Draining || j.blocked == "") }

// tally is what a job has done.
type tally struct {
	done, total    int
	objects, bytes int64
	skipped        int
	bad            []vnode.BadItem // the first of the skipped ones
	last           vnode.BadItem   // and the last
}

// maxBad is how many of the skipped objects a job remembers by name.
const maxBad = 10

func (t *tally) skip(b vnode.BadItem) {
	t.skipped++
	t.last = b
	if len(t.bad) < maxBad {
		t.bad = append(t.bad, b)
	}
}

// job is nil if there is none.
func (m *Manager) job(k key) *job { return m.byKey[k] }

func (m *Manager) add(k key) *job {
	j := &job{key: k, begun: m.now, progress: m.now}
	m.jobs = append(m.jobs, j)
	m.byKey[k] = j
	return j
}

// Job is how a job goes, for those who watch.
type Job struct {
	Kind      Kind
	Transfer  uint64         // of a fill
	Partition ring.Partition // that changes owner, or the vnode that is drained or repaired
	Home      ring.Partition // of a drain
	From, To  string         // nodes; of a drain To, and of a repair From, are all that take part
	Done      int            // pieces of work that are done, of Total
	Total     int
	Objects   int64
	Bytes     int64
	Rate      int64 // bytes a second since it began

	Begun    time.Duration
	Progress time.Duration // the last time that it came further
	Deadline time.Duration // when it says that it is stuck, if it comes no further
	Retry    time.Duration // when it is tried again; 0: it is at work, has its turn to come, or waits for WaitsFor
	WaitsFor string        // the node that is down
	Error    string        // the last, or why it waits
	Finished bool          // all is copied; the topology does not show it yet

	Skipped int             // objects that were passed over
	Bad     []vnode.BadItem // the first of them
}

// Jobs are all jobs, in the order in which they began.
func (m *Manager) Jobs() []Job {
	list := make([]Job, len(m.jobs))
	for i, j := range m.jobs {
		list[i] = m.describe(j)
	}
	return list
}

func (m *Manager) describe(j *job) Job {
	out := Job{
		Kind: j.key.kind, Transfer: j.key.transfer, Partition: j.key.partition, Home: j.key.home,
		From: j.from, To: j.to, Done: j.done, Total: j.total, Objects: j.objects, Bytes: j.bytes,
		Begun: j.begun, Progress: j.progress, Deadline: max(j.progress, j.warned) + m.limits.Stuck,
		WaitsFor: j.blocked, Error: j.err, Finished: j.over,
		Skipped: j.skipped, Bad: slices.Clone(j.bad),
	}
	if s := (m.now - j.begun).Seconds(); s > 0 {
		out.Rate = int64(float64(j.bytes) / s)
	}
	if !j.running && !j.over && j.retryAt > m.now {
		out.Retry = j.retryAt
	}
	switch w := j.work.(type) {
	case *drain:
		out.To = nodesOf(w.targets)
	case *copying:
		if w.cursor == nil {
			var all []ring.Replica
			for _, p := range w.pulls {
				all = append(all, p.source)
			}
			out.From = nodesOf(all)
		}
	}
	return out
}

// nodesOf names the nodes of the places, each once.
func nodesOf(places []ring.Replica) string {
	var nodes []string
	for _, p := range places {
		nodes = append(nodes, p.Node)
	}
	slices.Sort(nodes)
	return strings.Join(slices.Compact(nodes), " ")
}

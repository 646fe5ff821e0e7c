package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/kv"
)

const (
	// zipfExponent is how unequal the keys of a zipf load are: the second is
	// chosen 2^1.1 times less often than the first. The usual 0.99 of other load
	// generators is nearly the same, and out of reach of Go's generator.
	zipfExponent = 1.1

	// probeEvery is how often a node that has failed is asked whether it answers again.
	probeEvery = 100 * time.Millisecond

	// probeWithin is how long it may take to answer that.
	probeWithin = time.Second

	// probeLogin is the same where the node has to look at a password, which it does
	// slowly on purpose.
	probeLogin = 10 * time.Second
)

// bench is a load in progress.
type bench struct {
	c       *benchCmd
	target  *benchTarget
	timeout time.Duration
	run     string // names this run in its values
	workers []*worker
	rec     *recorder
	cpu     *cpuMeter
	pacer   pacer
}

func newBench(c *benchCmd, timeout time.Duration, target *benchTarget) *bench {
	b := &bench{c: c, target: target, timeout: timeout, run: newRun()}
	blind := c.Prefix != ""
	if !blind {
		c.Prefix = b.run + "-"
	}
	b.rec = newRecorder()
	b.cpu = &cpuMeter{read: target.cpu}
	if c.Rate > 0 {
		b.pacer.every = time.Second / time.Duration(c.Rate)
	}
	for i := range c.Workers {
		b.workers = append(b.workers, newWorker(b, i, blind))
	}
	return b
}

// load runs the phases: fill, warm-up, measured. An end of the context ends the
// phase that it finds, and all after it.
func (b *bench) load(ctx context.Context) error {
	if err := b.target.nodes.probeAll(ctx); err != nil {
		return err
	}
	probes, stop := context.WithCancel(ctx)
	var probing sync.WaitGroup
	defer probing.Wait()
	defer stop()
	probing.Go(func() { b.target.nodes.watch(probes) })

	if b.c.Fill {
		b.each(func(w *worker) { w.fill(ctx) })
	}
	b.phase(ctx, b.c.Warmup)
	b.cpu.begin(ctx)
	b.rec.begin(time.Now())
	b.phase(ctx, b.c.Duration)
	b.rec.end(time.Now())
	b.cpu.end(context.WithoutCancel(ctx))
	return nil
}

// close closes what the workers have open.
func (b *bench) close() {
	for _, w := range b.workers {
		w.carrier.close()
	}
}

// phase runs all workers for so long.
func (b *bench) phase(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	b.each(func(w *worker) {
		for ctx.Err() == nil {
			if b.pacer.wait(ctx) {
				w.step(ctx)
			}
		}
	})
}

// each runs fn on all workers at once and returns when all are done.
func (b *bench) each(fn func(w *worker)) {
	var wg sync.WaitGroup
	for _, w := range b.workers {
		wg.Go(func() { fn(w) })
	}
	wg.Wait()
}

// benchPaths are the ends of the paths of all requests.
type benchPaths struct {
	riak, own string // up to the key's name: on Riak's routes, and on our own
	get, put  string // queries
}

func newBenchPaths(c *benchCmd, timeout time.Duration) benchPaths {
	b := kv.Bucket{Name: c.Bucket}
	query := func(r, w quorumValue) string {
		q := url.Values{"timeout": {fmt.Sprint(timeout.Milliseconds())}}
		r.set(q, "r")
		w.set(q, "w")
		return "?" + q.Encode()
	}
	return benchPaths{
		riak: bucketPath("", b) + "/", own: bucketPath(ownPrefix, b) + "/",
		get: query(c.R, quorumValue{}), put: query(quorumValue{}, c.W),
	}
}

// chooser chooses numbers from 0 up to a limit.
type chooser func() int

// newChooser is the chooser of a distribution over n numbers.
func newChooser(dist string, n int, seed uint64) chooser {
	r := rand.New(rand.NewPCG(seed, 0x7a6e6f6462)) // any constant will do
	if dist == "zipf" {
		z := rand.NewZipf(r, zipfExponent, 1, uint64(n-1))
		return func() int { return int(z.Uint64()) }
	}
	return func() int { return r.IntN(n) }
}

// worker sends one request after the other. It alone writes the keys whose
// number leaves its own number when divided by the number of workers.
type worker struct {
	b       *bench
	number  int
	carrier carrier
	own     []history // of its keys, in their order

	chance    *rand.Rand
	chooseAll chooser // of all keys, to read
	chooseOwn chooser // of its own, to write
}

func newWorker(b *bench, number int, blind bool) *worker {
	c := b.c
	own := (c.Keys - number + c.Workers - 1) / c.Workers
	seed := rand.Uint64()
	w := &worker{
		b: b, number: number, carrier: b.target.carrier(number), own: make([]history, own),
		chance:    rand.New(rand.NewPCG(seed, uint64(number))),
		chooseAll: newChooser(c.Dist, c.Keys, seed),
		chooseOwn: newChooser(c.Dist, own, seed+1),
	}
	for i := range w.own {
		w.own[i].blind = blind
	}
	return w
}

// key is the number of the worker's i-th key.
func (w *worker) key(i int) int { return i*w.b.c.Workers + w.number }

// step sends one request of the load.
func (w *worker) step(ctx context.Context) {
	read := w.b.c.Workload == "get" || w.b.c.Workload == "mixed" && w.chance.Float64() < w.b.c.ReadRatio
	if nodes := w.b.target.nodes; !nodes.anyUp() {
		// A closed loop would only spin on refusals.
		nodes.waitUp(ctx)
	}
	if read {
		w.get(w.chooseAll())
		return
	}
	w.put(w.chooseOwn())
}

// fill writes each of the worker's keys once.
func (w *worker) fill(ctx context.Context) {
	for i := range w.own {
		if ctx.Err() != nil {
			return
		}
		w.put(i)
	}
}

// get reads a key of any worker.
func (w *worker) get(key int) {
	begun := time.Now()
	ans := w.carrier.get(begun.Add(w.b.timeout), w.b.c.keyName(key), false)
	w.b.rec.note(outcome{read: true, begun: begun, took: time.Since(begun), notFound: ans.notFound, kind: ans.kind, text: ans.text})
}

// put writes the worker's i-th key, after a read if it does not know what is
// there. A read that fails is the failure of the put.
func (w *worker) put(i int) {
	h, key := &w.own[i], w.key(i)
	name := w.b.c.keyName(key)
	if h.blind {
		begun := time.Now()
		ans := w.carrier.get(begun.Add(w.b.timeout), name, true)
		if ans.kind != "" {
			w.b.rec.note(outcome{begun: begun, took: time.Since(begun), kind: ans.kind, text: ans.text})
			return
		}
		h.read(w.b.numbersOf(ans.values, key), ans.context)
	}
	value := benchValue(w.b.c.ValueSize, w.b.run, key, h.next())
	begun := time.Now()
	ans := w.carrier.put(begun.Add(w.b.timeout), name, h.context, value)
	done := outcome{begun: begun, took: time.Since(begun), kind: ans.kind, text: ans.text}
	switch {
	case ans.kind == "":
		h.acknowledged(ans.context)
	case ans.inDoubt:
		h.inDoubt()
	}
	w.b.rec.note(done)
}

// numbersOf is the numbers of a key's values. Values of other runs count as
// nothing.
func (b *bench) numbersOf(values [][]byte, key int) (numbers []int) {
	for _, v := range values {
		if n, err := parseBenchValue(v, b.run, key); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// nodeHealth knows which nodes answer. A node that has failed a request is not
// used until it answers a ping, which is not a request of the load.
type nodeHealth struct {
	bases []string // URLs
	as    *caller
	down  []atomic.Bool
	again chan struct{} // has something in it when a node has failed
	mu    sync.Mutex
	up    chan struct{} // closed and replaced when a node is up again
}

func newNodeHealth(bases []string, as *caller) *nodeHealth {
	return &nodeHealth{
		bases: bases,
		as:    as,
		down:  make([]atomic.Bool, len(bases)),
		again: make(chan struct{}, 1),
		up:    make(chan struct{}),
	}
}

// choose is the node for a worker: its own one, or the next that is up.
func (n *nodeHealth) choose(worker int) int {
	for i := range n.bases {
		if host := (worker + i) % len(n.bases); !n.down[host].Load() {
			return host
		}
	}
	return worker % len(n.bases)
}

// anyUp says whether a node may be asked. Nodes in this process always may.
func (n *nodeHealth) anyUp() bool {
	if len(n.bases) == 0 {
		return true
	}
	for i := range n.down {
		if !n.down[i].Load() {
			return true
		}
	}
	return false
}

// waitUp returns when a node is up, or may be, or the context ends.
func (n *nodeHealth) waitUp(ctx context.Context) {
	n.mu.Lock()
	up := n.up
	n.mu.Unlock()
	if n.anyUp() {
		return
	}
	select {
	case <-up:
	case <-ctx.Done():
	}
}

// allFailed notes that no node could be reached.
func (n *nodeHealth) allFailed() {
	for host := range n.bases {
		n.failed(host)
	}
}

// failed notes that a request to a node got no answer.
func (n *nodeHealth) failed(host int) {
	n.down[host].Store(true)
	select {
	case n.again <- struct{}{}:
	default: // watch has been told already
	}
}

// watch asks the nodes that have failed again and again, until the context ends.
func (n *nodeHealth) watch(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.again:
		case <-ctx.Done():
			return
		}
		for n.probeDown(ctx) > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// probeDown asks all nodes that are down, at once, and returns how many are
// down still.
func (n *nodeHealth) probeDown(ctx context.Context) int {
	var wg sync.WaitGroup
	var left atomic.Int64
	for i := range n.bases {
		if !n.down[i].Load() {
			continue
		}
		wg.Go(func() {
			if n.probe(ctx, n.bases[i]) != nil {
				left.Add(1)
				return
			}
			n.down[i].Store(false)
			n.mu.Lock()
			close(n.up)
			n.up = make(chan struct{})
			n.mu.Unlock()
		})
	}
	wg.Wait()
	return int(left.Load())
}

// probe asks one node for a sign of life.
func (n *nodeHealth) probe(ctx context.Context, base string) error {
	within := probeWithin
	if n.as.user != "" {
		within = probeLogin
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := n.as.roundTrip(ctx, base, request{method: http.MethodGet, path: "/ping"})
	return err
}

// probeAll asks all nodes; the error says that none answered.
func (n *nodeHealth) probeAll(ctx context.Context) error {
	var last error
	for i, base := range n.bases {
		if err := n.probe(ctx, base); err != nil {
			n.failed(i)
			last = err
		}
	}
	if n.anyUp() {
		return nil
	}
	return last
}

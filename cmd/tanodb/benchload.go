package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/server/api"
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
)

// bench is a load in progress.
type bench struct {
	c       *benchCmd
	hosts   []string
	timeout time.Duration
	run     string // names this run in its values
	paths   benchPaths
	nodes   *nodeHealth
	workers []*worker
	rec     *recorder
	cpu     *cpuMeter
}

func newBench(c *benchCmd, a *app, hosts []string) *bench {
	b := &bench{c: c, hosts: hosts, timeout: a.timeout, run: newRun(), nodes: newNodeHealth(hosts)}
	blind := c.Prefix != ""
	if !blind {
		c.Prefix = b.run + "-"
	}
	b.paths = newBenchPaths(c, a.timeout)
	b.rec = newRecorder()
	b.cpu = newCPUMeter(hosts)
	for i := range c.Workers {
		b.workers = append(b.workers, newWorker(b, i, blind))
	}
	return b
}

// load runs the phases: fill, warm-up, measured. An end of the context ends the
// phase that it finds, and all after it.
func (b *bench) load(ctx context.Context) error {
	if err := b.nodes.probeAll(ctx); err != nil {
		return err
	}
	probes, stop := context.WithCancel(ctx)
	var probing sync.WaitGroup
	defer probing.Wait()
	defer stop()
	probing.Go(func() { b.nodes.watch(probes) })

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

// phase runs all workers for so long.
func (b *bench) phase(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	b.each(func(w *worker) {
		for ctx.Err() == nil {
			w.step(ctx)
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
	b      *bench
	number int
	wire   wire
	own    []history // of its keys, in their order

	chance    *rand.Rand
	chooseAll chooser // of all keys, to read
	chooseOwn chooser // of its own, to write
	header    []string
}

func newWorker(b *bench, number int, blind bool) *worker {
	c := b.c
	own := (c.Keys - number + c.Workers - 1) / c.Workers
	seed := rand.Uint64()
	w := &worker{
		b: b, number: number, own: make([]history, own),
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
	if !w.b.nodes.anyUp() {
		// A closed loop would only spin on refusals.
		w.b.nodes.waitUp(ctx)
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
	ans, err := w.send(begun, http.MethodGet, w.b.paths.riak+w.b.c.keyName(key)+w.b.paths.get, nil, nil)
	done := outcome{read: true, begun: begun, took: time.Since(begun)}
	switch {
	case err != nil:
		done.kind, done.text = wireKind(err), err.Error()
	case ans.status == http.StatusOK, ans.status == http.StatusMultipleChoices:
	case ans.status == http.StatusNotFound:
		done.notFound = true
	default:
		done.kind, done.text = statusKind(ans), statusText(ans)
	}
	w.b.rec.note(done)
}

// put writes the worker's i-th key, after a read if it does not know what is
// there. A read that fails is the failure of the put. It takes our own route,
// whose answer has the context that the next write needs.
func (w *worker) put(i int) {
	h, key := &w.own[i], w.key(i)
	if h.blind {
		begun := time.Now()
		if kind, text := w.look(h, key); kind != "" {
			w.b.rec.note(outcome{begun: begun, took: time.Since(begun), kind: kind, text: text})
			return
		}
	}
	value := benchValue(w.b.c.ValueSize, w.b.run, key, h.next())
	w.header = w.header[:0]
	if h.context != "" {
		w.header = append(w.header, headerContext+": "+h.context)
	}
	begun := time.Now()
	ans, err := w.send(begun, http.MethodPut, w.b.paths.own+w.b.c.keyName(key)+w.b.paths.put, w.header, value)
	done := outcome{begun: begun, took: time.Since(begun)}
	switch {
	case errors.Is(err, errNotSent):
		done.kind, done.text = wireKind(err), err.Error()
	case err != nil:
		h.inDoubt()
		done.kind, done.text = wireKind(err), err.Error()
	case ans.status == http.StatusOK:
		h.acknowledged(contextOf(ans.body))
	case ans.status >= http.StatusInternalServerError:
		h.inDoubt()
		done.kind, done.text = statusKind(ans), statusText(ans)
	default:
		done.kind, done.text = statusKind(ans), statusText(ans)
	}
	w.b.rec.note(done)
}

// contextOf finds the context in the JSON of a receipt, without decoding what is
// not needed; empty: it is not in there.
func contextOf(receipt []byte) string {
	_, rest, found := bytes.Cut(receipt, []byte(`"context":`))
	rest = bytes.TrimLeft(rest, " ")
	if !found || len(rest) == 0 || rest[0] != '"' {
		return ""
	}
	context, _, found := bytes.Cut(rest[1:], []byte(`"`))
	if !found {
		return ""
	}
	return string(context)
}

// look reads a key to know what is there; an empty kind: that worked.
func (w *worker) look(h *history, key int) (kind, text string) {
	ans, err := w.send(time.Now(), http.MethodGet, w.b.paths.own+w.b.c.keyName(key)+w.b.paths.get, nil, nil)
	if err != nil {
		return wireKind(err), err.Error()
	}
	shown, context, err := w.b.shown(ans, key)
	if err != nil {
		return statusKind(ans), err.Error()
	}
	h.read(shown, context)
	return "", ""
}

// shown is the numbers of the values that an answer of our own route has, and
// its context. Values of other runs count as nothing.
func (b *bench) shown(ans wireAnswer, key int) (numbers []int, context string, err error) {
	if ans.status == http.StatusNotFound {
		var e api.Error
		if err := json.Unmarshal(ans.body, &e); err != nil {
			return nil, "", err
		}
		return nil, base64.StdEncoding.EncodeToString(e.Context), nil
	}
	if ans.status != http.StatusOK {
		return nil, "", errors.New(statusText(ans))
	}
	var o api.Object
	if err := json.Unmarshal(ans.body, &o); err != nil {
		return nil, "", err
	}
	for _, v := range o.Values {
		if n, err := parseBenchValue(v.Data, b.run, key); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, base64.StdEncoding.EncodeToString(o.Context), nil
}

// send sends a request to the worker's own node, or to the next one that
// answers.
func (w *worker) send(begun time.Time, method, path string, header []string, body []byte) (wireAnswer, error) {
	host := w.b.nodes.choose(w.number)
	if w.wire.host != w.b.hosts[host] {
		w.wire.close()
		w.wire.host = w.b.hosts[host]
	}
	ans, err := w.wire.do(begun.Add(w.b.timeout), method, path, header, body)
	if err != nil {
		w.b.nodes.failed(host)
	}
	return ans, err
}

// nodeHealth knows which nodes answer. A node that has failed a request is not
// used until it answers a ping, which is not a request of the load.
type nodeHealth struct {
	hosts []string
	down  []atomic.Bool
	again chan struct{} // has something in it when a node has failed
	mu    sync.Mutex
	up    chan struct{} // closed and replaced when a node is up again
}

func newNodeHealth(hosts []string) *nodeHealth {
	return &nodeHealth{
		hosts: hosts,
		down:  make([]atomic.Bool, len(hosts)),
		again: make(chan struct{}, 1),
		up:    make(chan struct{}),
	}
}

// choose is the node for a worker: its own one, or the next that is up.
func (n *nodeHealth) choose(worker int) int {
	for i := range n.hosts {
		if host := (worker + i) % len(n.hosts); !n.down[host].Load() {
			return host
		}
	}
	return worker % len(n.hosts)
}

func (n *nodeHealth) anyUp() bool {
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
	for i := range n.hosts {
		if !n.down[i].Load() {
			continue
		}
		wg.Go(func() {
			if n.probe(ctx, n.hosts[i]) != nil {
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
func (n *nodeHealth) probe(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	_, err := roundTrip(ctx, "http://"+host, request{method: http.MethodGet, path: "/ping"})
	return err
}

// probeAll asks all nodes; the error says that none answered.
func (n *nodeHealth) probeAll(ctx context.Context) error {
	var last error
	for i, host := range n.hosts {
		if err := n.probe(ctx, host); err != nil {
			n.failed(i)
			last = err
		}
	}
	if n.anyUp() {
		return nil
	}
	return last
}

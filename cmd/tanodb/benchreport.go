package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of the histograms: latencies from a microsecond to ten minutes, with
// three digits.
const (
	minLatency    = 1                 // microseconds
	maxLatency    = 10 * 60 * 1000000 // microseconds; what takes longer is counted as this
	latencyDigits = 3
)

// maxSample is how many bytes of an error's text the report keeps.
const maxSample = 300

// outcome is a request of the load that has ended.
type outcome struct {
	read     bool
	begun    time.Time
	took     time.Duration
	notFound bool   // a read that found nothing, which is an answer
	kind     string // of error; empty: none
	text     string // of the error
}

// recorder counts outcomes while it is switched on. One lock is cheap beside a
// request over the network.
type recorder struct {
	mu       sync.Mutex
	on       bool
	begun    time.Time
	ended    time.Time
	all      *hdrhistogram.Histogram
	reads    *hdrhistogram.Histogram
	writes   *hdrhistogram.Histogram
	notFound int64
	errors   map[string]int64
	samples  map[string]string // a text for each kind of error
	seconds  []second
}

// second is one second of the measured time.
type second struct {
	ops    int64
	errors map[string]int64
}

func newRecorder() *recorder {
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(minLatency, maxLatency, latencyDigits) }
	return &recorder{all: h(), reads: h(), writes: h(), errors: map[string]int64{}, samples: map[string]string{}}
}

func (r *recorder) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.begun = true, now
}

func (r *recorder) end(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.ended = false, now
}

// note counts an outcome in the second in which it came. An error counts by its
// kind, and nowhere else.
func (r *recorder) note(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on {
		return
	}
	i := max(0, int(o.begun.Add(o.took).Sub(r.begun)/time.Second))
	for len(r.seconds) <= i {
		r.seconds = append(r.seconds, second{errors: map[string]int64{}})
	}
	if o.kind != "" {
		r.errors[o.kind]++
		r.seconds[i].errors[o.kind]++
		if _, ok := r.samples[o.kind]; !ok {
			r.samples[o.kind] = strings.TrimSpace(o.text[:min(len(o.text), maxSample)])
		}
		return
	}
	if o.notFound {
		r.notFound++
	}
	r.seconds[i].ops++
	record(r.all, o.took)
	if o.read {
		record(r.reads, o.took)
	} else {
		record(r.writes, o.took)
	}
}

func record(h *hdrhistogram.Histogram, took time.Duration) {
	// The value is within the histogram's range, so it is taken.
	_ = h.RecordValue(min(max(took.Microseconds(), minLatency), maxLatency))
}

// figures are the latencies of one kind of request.
type figures struct {
	Ops       int64   `json:"ops"`
	OpsPerSec float64 `json:"ops_per_s"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
}

func newFigures(h *hdrhistogram.Histogram, took time.Duration) figures {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	f := figures{
		Ops:  h.TotalCount(),
		P50:  ms(h.ValueAtPercentile(50)),
		P99:  ms(h.ValueAtPercentile(99)),
		P999: ms(h.ValueAtPercentile(99.9)),
		Max:  ms(h.Max()),
	}
	if took > 0 {
		f.OpsPerSec = float64(f.Ops) / took.Seconds()
	}
	return f
}

// benchReport is what came of a load.
type benchReport struct {
	figures
	Errors map[string]int64 `json:"errors"` // by kind; these requests count nowhere else

	// ServerCPU is the processor time of all servers for each request, failed
	// ones too; with nodes in this process it is that of the load as well. Null:
	// it is not known, because a server did not tell or was started anew in the
	// meantime.
	ServerCPU *float64 `json:"server_cpu_us_per_op"`

	StartedAt      time.Time         `json:"started_at"` // of the measured time
	Seconds        float64           `json:"seconds"`    // of the measured time
	Gets           figures           `json:"gets"`
	Puts           figures           `json:"puts"`
	NotFound       int64             `json:"not_found"` // gets that found nothing
	OpsBySecond    []int64           `json:"ops_by_second"`
	ErrorsBySecond []secondErrors    `json:"errors_by_second"` // seconds without are left out
	ErrorSamples   map[string]string `json:"error_samples,omitempty"`
	Load           loadShape         `json:"load"`
	Verified       *verification     `json:"verified,omitempty"`
}

// secondErrors are the errors of one second, by kind.
type secondErrors struct {
	Second int              `json:"second"` // from the start of the measured time
	Errors map[string]int64 `json:"errors"`
}

// loadShape is what the load was.
type loadShape struct {
	Protocol  string  `json:"protocol"`
	TLS       bool    `json:"tls"`
	User      string  `json:"user,omitempty"`
	Workload  string  `json:"workload"`
	ReadRatio float64 `json:"read_ratio"`
	Workers   int     `json:"workers"`
	Keys      int     `json:"keys"`
	Prefix    string  `json:"prefix"`
	ValueSize int     `json:"value_size"`
	Dist      string  `json:"dist"`
	Nodes     int     `json:"nodes"`
	R         string  `json:"r"`
	W         string  `json:"w"`
}

// how is how the nodes were asked, and by whom.
func (l *loadShape) how() string {
	s := l.Protocol
	if l.TLS {
		s += " over TLS"
	}
	if l.User != "" {
		s += " as " + l.User
	}
	return s
}

// report sums up the load.
func (b *bench) report() *benchReport {
	r := b.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	took := r.ended.Sub(r.begun)
	out := &benchReport{
		figures: newFigures(r.all, took), Gets: newFigures(r.reads, took), Puts: newFigures(r.writes, took),
		Errors: r.errors, ErrorSamples: r.samples, NotFound: r.notFound,
		StartedAt: r.begun, Seconds: took.Seconds(),
		OpsBySecond: []int64{}, ErrorsBySecond: []secondErrors{},
		Load: b.shape(),
	}
	ended := r.all.TotalCount()
	for i, s := range r.seconds {
		out.OpsBySecond = append(out.OpsBySecond, s.ops)
		if len(s.errors) > 0 {
			out.ErrorsBySecond = append(out.ErrorsBySecond, secondErrors{i, s.errors})
		}
		for _, n := range s.errors {
			ended += n
		}
	}
	if used, ok := b.cpu.used(); ok && ended > 0 {
		each := used * 1e6 / float64(ended)
		out.ServerCPU = &each
	}
	return out
}

func (b *bench) shape() loadShape {
	c := b.c
	s := loadShape{
		Protocol: c.Protocol, Workload: c.Workload, ReadRatio: c.ReadRatio, Workers: c.Workers, Keys: c.Keys, Prefix: c.Prefix,
		ValueSize: c.ValueSize, Dist: c.Dist, Nodes: b.target.size, R: c.R.String(), W: c.W.String(),
		TLS: b.target.secure,
	}
	if b.target.as != nil {
		s.User = b.target.as.name()
	}
	switch c.Workload {
	case "get":
		s.ReadRatio = 1
	case "put":
		s.ReadRatio = 0
	}
	return s
}

// String is the report for people.
func (r *benchReport) String() string {
	var b strings.Builder
	l := r.Load
	fmt.Fprintf(&b, "%s load by %s, %.0f%% reads: %s, %s of %s, %s, on %s, R=%s W=%s, measured for %.1f s\n\n", l.Workload, l.how(), 100*l.ReadRatio,
		plural(l.Workers, "worker"), plural(l.Keys, "key"), plural(l.ValueSize, "byte"), l.Dist, plural(l.Nodes, "node"), l.R, l.W, r.Seconds)
	t := newTable("", "OPS", "OPS/S", "P50 MS", "P99 MS", "P99.9 MS", "MAX MS")
	for _, row := range []struct {
		name string
		f    figures
	}{{"all", r.figures}, {"get", r.Gets}, {"put", r.Puts}} {
		f := row.f
		t.row(row.name, fmt.Sprint(f.Ops), fmt.Sprintf("%.0f", f.OpsPerSec), fmt.Sprintf("%.2f", f.P50),
			fmt.Sprintf("%.2f", f.P99), fmt.Sprintf("%.2f", f.P999), fmt.Sprintf("%.2f", f.Max))
	}
	b.WriteString(t.String() + "\n")
	r.errorLines(&b)
	if r.NotFound > 0 {
		fmt.Fprintf(&b, "gets that found nothing: %d\n", r.NotFound)
	}
	switch {
	case r.ServerCPU != nil && l.Protocol == protocolEmbedded:
		fmt.Fprintf(&b, "CPU per operation: %.0f µs, all nodes and the load together\n", *r.ServerCPU)
	case r.ServerCPU != nil:
		fmt.Fprintf(&b, "server CPU per operation: %.0f µs, all nodes together\n", *r.ServerCPU)
	default:
		b.WriteString("server CPU per operation: not known\n")
		if l.User != "" {
			fmt.Fprintf(&b, "  a user needs tanodb.read_admin on any to see it: is it granted to %s?\n", l.User)
		}
	}
	if r.Verified != nil {
		b.WriteString(r.Verified.String())
	}
	return b.String()
}

func (r *benchReport) errorLines(b *strings.Builder) {
	if len(r.Errors) == 0 {
		b.WriteString("errors: none\n")
		return
	}
	t := newTable("ERROR", "COUNT", "FOR EXAMPLE")
	for _, kind := range sorted(r.Errors) {
		t.row(kind, fmt.Sprint(r.Errors[kind]), showText(r.ErrorSamples[kind]))
	}
	b.WriteString(t.String())
	t = newTable("SECOND", "ERRORS")
	for _, s := range r.ErrorsBySecond {
		var parts []string
		for _, kind := range sorted(s.Errors) {
			parts = append(parts, fmt.Sprintf("%d %s", s.Errors[kind], kind))
		}
		t.row(fmt.Sprint(s.Second), strings.Join(parts, ", "))
	}
	b.WriteString(t.String())
}

func sorted[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// cpuMeter reads the processor time of all servers at the begin and the end.
type cpuMeter struct {
	read   func(context.Context) []processTime
	before []processTime
	after  []processTime
}

// processTime is what a server says of its process.
type processTime struct {
	started float64 // seconds since 1970; 0: it did not say
	cpu     float64 // seconds of processor time since then
}

func (m *cpuMeter) begin(ctx context.Context) { m.before = m.read(ctx) }
func (m *cpuMeter) end(ctx context.Context)   { m.after = m.read(ctx) }

// used is the processor time between begin and end, in seconds; false: it is
// not known of every server.
func (m *cpuMeter) used() (float64, bool) {
	sum := 0.0
	for i := range m.before {
		if m.before[i].started == 0 || m.after[i].started != m.before[i].started {
			return 0, false
		}
		sum += m.after[i].cpu - m.before[i].cpu
	}
	return sum, len(m.before) > 0
}

// processTimes asks the servers at these URLs. One that does not let the caller look
// says nothing.
func processTimes(ctx context.Context, as *caller, bases []string) []processTime {
	out := make([]processTime, len(bases))
	var wg sync.WaitGroup
	for i, base := range bases {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeWithin)
			defer cancel()
			ans, err := as.roundTrip(ctx, base, request{method: http.MethodGet, path: "/metrics"})
			if err == nil {
				out[i] = parseProcessTime(ans.body)
			}
		})
	}
	wg.Wait()
	return out
}

// parseProcessTime finds what the text of a server's metrics says of its
// process.
func parseProcessTime(metrics []byte) processTime {
	var p processTime
	lines := bufio.NewScanner(bytes.NewReader(metrics))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		var to *float64
		switch name {
		case "process_cpu_seconds_total":
			to = &p.cpu
		case "process_start_time_seconds":
			to = &p.started
		default:
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return processTime{}
		}
		*to = f
	}
	return p
}

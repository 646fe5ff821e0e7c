package pb

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// metrics are a server's, in a registry of its own. docs/metrics.md lists
// them.
type metrics struct {
	registry   *prometheus.Registry
	connects   prometheus.Counter
	turnedAway prometheus.Counter
	badFrames  prometheus.Counter
	panics     prometheus.Counter
	requests   [256]outcomes // by code; those of no request are counted as unknown
}

// outcomes count the requests of one code.
type outcomes struct{ ok, failed prometheus.Counter }

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		connects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_pb_connects_total", Help: "Connections of Protocol Buffers clients that were accepted."}),
		turnedAway: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_pb_turned_away_total", Help: "Connections of Protocol Buffers clients that were refused, since there were too many."}),
		badFrames: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_pb_bad_frames_total", Help: "Frames of Protocol Buffers clients that were too large, empty, or past the memory for requests."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tanodb_pb_panics_total", Help: "Panics in Protocol Buffers requests that were caught. Each is a bug."}),
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tanodb_pb_requests_total", Help: "Protocol Buffers requests that were answered, by message and outcome."}, []string{"message", "outcome"})
	unknown := outcomes{requests.WithLabelValues("unknown", "ok"), requests.WithLabelValues("unknown", "error")}
	for code := range m.requests {
		m.requests[code] = unknown
		if h := &handlers[code]; h.name != "" {
			m.requests[code] = outcomes{requests.WithLabelValues(h.name, "ok"), requests.WithLabelValues(h.name, "error")}
		}
	}
	m.registry.MustRegister(m.connects, m.turnedAway, m.badFrames, m.panics, requests,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_pb_connections", Help: "Protocol Buffers clients that are connected."},
			func() float64 { return float64(s.connections()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tanodb_pb_frame_bytes", Help: "Memory that requests of Protocol Buffers clients hold, apart from small ones."},
			func() float64 { return float64(s.frames.Load()) }))
	return m
}

// answered counts a request.
func (m *metrics) answered(code riakpb.Code, failed bool) {
	if failed {
		m.requests[code].failed.Inc()
		return
	}
	m.requests[code].ok.Inc()
}

// Metrics are the server's Prometheus metrics.
func (s *Server) Metrics() prometheus.Gatherer { return s.metrics.registry }

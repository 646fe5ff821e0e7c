package httpd

import (
	"math"
	"net/http"

	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb"
)

// riakVersion is the version of Riak whose interface this is; clients choose
// by it what they may ask for.
const riakVersion = "3.2.0"

// counters are the statistics that are a sum over a metric's series, of counters or gauges. Where a label is
// named, only the series with that value of it count.
var counters = []struct {
	name, metric, label, value string
}{
	{"node_gets_total", "tanodb_requests_total", "op", "get"},
	{"node_puts_total", "tanodb_requests_total", "op", "put"},
	{"read_repairs_total", "tanodb_read_repairs_total", "", ""},
	{"vnode_puts_total", "tanodb_vnode_writes_total", "", ""},
	{"pbc_connects_total", "tanodb_pb_connects_total", "", ""},
	{"pbc_active", "tanodb_pb_connections", "", ""},
}

// means are the statistics that are a mean, in microseconds. Riak's are those of the last
// minute, ours are those since the node was started.
var means = []struct {
	name, metric, label, value string
}{
	{"node_get_fsm_time_mean", "tanodb_request_seconds", "op", "get"},
	{"node_put_fsm_time_mean", "tanodb_request_seconds", "op", "put"},
}

// sizes are the statistics that are a mean of something else than time.
var sizes = []struct {
	name, metric, label, value string
}{
	{"node_get_fsm_siblings_mean", "tanodb_get_siblings", "", ""},
	{"node_get_fsm_objsize_mean", "tanodb_value_bytes", "op", "get"},
}

// percentiles are the statistics by which Riak's names of a time end.
var percentiles = []struct {
	suffix string
	part   float64
}{{"median", 0.5}, {"95", 0.95}, {"99", 0.99}}

// stats answers with Riak's statistics, as far as there are numbers for them.
func (h *handler) stats(w http.ResponseWriter) {
	families, err := h.metrics.Gather()
	if err != nil {
		h.refuse(w, target{}, err)
		return
	}
	out := describe(h.node.Status())
	for _, c := range counters {
		out[c.name] = uint64(sum(series(families, c.metric, c.label, c.value))) // no series: nothing happened yet
	}
	for _, c := range means {
		if mean, ok := meanMicros(series(families, c.metric, c.label, c.value)); ok {
			out[c.name] = mean
		}
	}
	for _, c := range sizes {
		if total, count := gathered(series(families, c.metric, c.label, c.value)); count > 0 {
			out[c.name] = uint64(total / float64(count))
		}
	}
	for _, op := range []string{"get", "put"} {
		ms := series(families, "tanodb_request_seconds", "op", op)
		for _, p := range percentiles {
			if micros, ok := percentile(ms, p.part); ok {
				out["node_"+op+"_fsm_time_"+p.suffix] = micros
			}
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// percentile is about the time, in microseconds, that so large a part of what the first
// histogram has seen did not exceed: between the bounds of a bucket it is taken to be
// even. False: it holds nothing.
func percentile(ms []*dto.Metric, part float64) (uint64, bool) {
	if len(ms) == 0 || ms[0].GetHistogram().GetSampleCount() == 0 {
		return 0, false
	}
	h := ms[0].GetHistogram()
	rank := part * float64(h.GetSampleCount())
	lower, before := 0.0, 0.0
	for _, b := range h.GetBucket() {
		upper, upTo := b.GetUpperBound(), float64(b.GetCumulativeCount())
		if upTo >= rank && !math.IsInf(upper, 1) {
			return uint64((lower + (upper-lower)*(rank-before)/(upTo-before)) * 1e6), true
		}
		if !math.IsInf(upper, 1) {
			lower, before = upper, upTo
		}
	}
	return uint64(lower * 1e6), true // above all bounds
}

// describe is what Riak's statistics say of the cluster.
func describe(s tanodb.Status) map[string]any {
	members, connected := []string{}, []string{}
	for _, m := range s.Members {
		members = append(members, m.Name)
		if m.Up && m.Name != s.Node {
			connected = append(connected, m.Name)
		}
	}
	return map[string]any{
		"nodename":            s.Node,
		"riak_kv_version":     riakVersion,
		"riak_core_version":   riakVersion,
		"storage_backend":     s.Storage.Engine,
		"ring_members":        members,
		"connected_nodes":     connected,
		"ring_num_partitions": s.Partitions,
		"ring_creation_size":  s.Partitions,
	}
}

// series are the series of a metric whose label has this value, or all.
func series(families []*dto.MetricFamily, metric, label, value string) []*dto.Metric {
	var out []*dto.Metric
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || labelled(m, label, value) {
				out = append(out, m)
			}
		}
	}
	return out
}

func labelled(m *dto.Metric, label, value string) bool {
	for _, l := range m.GetLabel() {
		if l.GetName() == label {
			return l.GetValue() == value
		}
	}
	return false
}

func sum(ms []*dto.Metric) float64 {
	total := 0.0
	for _, m := range ms {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue() // it is one of them
	}
	return total
}

// meanMicros is the mean of histograms of seconds; false: they hold nothing.
func meanMicros(ms []*dto.Metric) (uint64, bool) {
	total, count := gathered(ms)
	if count == 0 {
		return 0, false
	}
	return uint64(total / float64(count) * 1e6), true
}

// gathered is the sum and the number of what histograms have seen.
func gathered(ms []*dto.Metric) (total float64, count uint64) {
	for _, m := range ms {
		total += m.GetHistogram().GetSampleSum()
		count += m.GetHistogram().GetSampleCount()
	}
	return total, count
}

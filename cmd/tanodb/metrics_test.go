package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// families are all that /metrics of a node of two shows, whose engine is the durable one.
func families(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	cluster, _ := tanodb.NewTestCluster(t, 2, tanodb.Options{
		Storage: func(string) (storage.Engine, error) { return disk.Open("db", disk.Options{FS: vfs.NewMem()}) },
	})
	s, err := settingsFor(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster[0].Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{}, kv.WriteOptions{W: 2}); err != nil {
		t.Fatal(err) // without, nobody has asked the other node for anything
	}
	all, err := s.serve(cluster[0], s.now(), make(chan os.Signal, 1)).metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "tanodb_") })
}

// openLabels are the labels whose values are not known beforehand, with what bounds them.
var openLabels = map[string]string{
	"peer": "a member", "service": "a path in the supervision tree", "version": "of the program", "go": "of Go",
}

// maxSeries bounds the series of a family on a node with one peer: what is past that has a
// label that grows with what clients do.
const maxSeries = 130

// labelsOf are the labels of a family, each with its values.
func labelsOf(f *dto.MetricFamily) (names []string, values map[string][]string) {
	values = make(map[string][]string)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(names, l.GetName()) {
				names = append(names, l.GetName())
			}
			if !slices.Contains(values[l.GetName()], l.GetValue()) {
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
		}
	}
	return names, values
}

// metricGroups are the headings of the page, by how names begin. The first that fits counts.
var metricGroups = []struct{ heading, prefixes string }{
	{"Requests", "request requests get value sketched slow stand read_repairs overload refused panics"},
	{"Vnodes", "vnode vnodes read_queue notes"},
	{"The engine and its disk", "engine scrub expired"},
	{"Other nodes", "peer network"},
	{"Cluster and topology", "members topology ownership ring clock ready build service"},
	{"Hand-off", "handoff"},
	{"Repair and deletes", "repair tombstones"},
	{"HTTP clients", "http"},
	{"Protocol Buffers clients", "pb"},
	{"Everything else", ""},
}

func groupOf(name string) string {
	rest := strings.TrimPrefix(name, "tanodb_")
	for _, g := range metricGroups {
		for _, p := range strings.Fields(g.prefixes) {
			if rest == p || strings.HasPrefix(rest, p+"_") {
				return g.heading
			}
		}
	}
	return metricGroups[len(metricGroups)-1].heading
}

// unitOf is the unit that the name says.
func unitOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.Contains(name, "_bytes"):
		return "bytes"
	}
	return ""
}

// kindOf is the type, and of a histogram what its buckets span.
func kindOf(f *dto.MetricFamily) string {
	kind := strings.ToLower(f.GetType().String())
	if f.GetType() == dto.MetricType_HISTOGRAM {
		b := f.GetMetric()[0].GetHistogram().GetBucket()
		kind += fmt.Sprintf(", %.3g to %.3g", b[0].GetUpperBound(), b[len(b)-1].GetUpperBound())
	}
	return kind
}

func labelText(f *dto.MetricFamily) string {
	names, values := labelsOf(f)
	var out []string
	for _, n := range names {
		switch {
		case openLabels[n] != "":
			out = append(out, fmt.Sprintf("`%s`: %s", n, openLabels[n]))
		case n == "message":
			out = append(out, "`message`: of [compatibility.md](compatibility.md), or unknown")
		default:
			slices.Sort(values[n])
			out = append(out, fmt.Sprintf("`%s`: %s", n, strings.Join(values[n], ", ")))
		}
	}
	return strings.Join(out, "; ")
}

const metricsHead = `# Metrics

This page is made from what a running node shows, and a test holds it to that:
` + "`go test ./cmd/tanodb -run MetricsPage -update`" + `.

` + "`GET /metrics`, or `/_tanodb/metrics`" + `, answers in Prometheus' text form; in a program that embeds a node,
` + "`Node.Metrics`" + ` has all but those of clients' connections and of limits at the door. Those of the Go runtime (` + "`go_…`" + `)
and of the process (` + "`process_…`" + `) are there as well. ` + "`deploy/`" + ` has a dashboard for Grafana and rules for alerts, whose names a test checks
against the same node.

A counter with known values of its labels shows all of them from the start, at 0. No label grows with what clients do: the
only open ones are the names of members, of services and of versions. Of a histogram there are
` + "`_bucket`, `_sum` and `_count`" + `. Metrics of the engine are missing on a node in memory, those of other nodes on one that is alone.
On a node with certificates there is also ` + "`tanodb_certificate_expiry_seconds{use,kind}`" + `: seconds until the first of that use and kind expires.
`

// page is docs/metrics.md.
func page(all []*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString(metricsHead)
	for _, g := range metricGroups {
		first := true
		for _, f := range all {
			if groupOf(f.GetName()) != g.heading {
				continue
			}
			if first {
				fmt.Fprintf(&b, "\n## %s\n\n| name | type | labels | unit | meaning |\n| --- | --- | --- | --- | --- |\n", g.heading)
				first = false
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.GetName(), kindOf(f), labelText(f), unitOf(f.GetName()), f.GetHelp())
		}
	}
	return b.String()
}

func TestMetricsPageIsThatOfTheProgram(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "metrics.md")
	want := page(families(t))
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/metrics.md is stale: go test ./cmd/tanodb -run MetricsPage -update\n%s", diff)
	}
}

func TestMetricsAreBoundedAndWellNamed(t *testing.T) {
	for _, f := range families(t) {
		name := f.GetName()
		if n := len(f.GetMetric()); n > maxSeries {
			t.Errorf("%s has %d series with one peer; more than %d mean that a label is not bounded", name, n, maxSeries)
		}
		if f.GetHelp() == "" || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: its help %q is no sentence", name, f.GetHelp())
		}
		if counts := f.GetType() == dto.MetricType_COUNTER; counts != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s: counters, and nothing else, end in _total", name, f.GetType())
		}
		if groupOf(name) == "Everything else" {
			t.Errorf("%s has no heading on the page", name)
		}
		names, values := labelsOf(f)
		for _, l := range names {
			for _, v := range values[l] {
				if v == "" {
					t.Errorf("%s has an empty %s", name, l)
				}
			}
		}
	}
}

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	costRounds = flag.Int("cost", 0, "rounds in TestCost; 0: it is not run")
	costEach   = flag.Duration("cost-each", 2*time.Second, "how long each load of TestCost is measured")
)

// costSide is a cluster of three nodes that differs from the others in one thing.
type costSide struct {
	name  string
	nodes []*process
	pb    []string // HOST:PORT of each node
	login []string // flags of who asks
	of    string   // the side that it is compared with; empty: none
}

// costLoad is what is done in turn on all sides.
type costLoad struct{ workload, protocol string }

var costLoads = []costLoad{{"get", "http"}, {"put", "http"}, {"get", "pb"}, {"put", "pb"}}

// costFigures are what came of one load on one side.
type costFigures struct {
	OpsPerSec float64        `json:"ops_per_s"`
	CPU       float64        `json:"server_cpu_us_per_op"`
	Errors    map[string]int `json:"errors"`
}

// TestCost measures what metrics, traces, TLS and users cost: clusters that differ in
// those alone stand side by side, and are loaded in turn, so that whatever else the machine
// does meets all of them. It says what came of it and asserts nothing, since a machine that
// others use may be slow at any time. It is run by make cost.
func TestCost(t *testing.T) {
	if *costRounds == 0 {
		t.Skip("measures for minutes; run it with make cost")
	}
	needProgram(t)
	sides := costSides(t)
	got := map[string]map[costLoad][]costFigures{}
	for _, s := range sides {
		got[s.name] = map[costLoad][]costFigures{}
		s.bench(t, "--workload", "get", "--fill", "--prefix", "c", "--duration", "100ms") // what is read later
	}
	for round := range *costRounds {
		for _, l := range costLoads {
			for i := range sides {
				s := sides[(round+i)%len(sides)]
				args := []string{"--workload", l.workload, "--protocol", l.protocol, "--duration", costEach.String()}
				if l.workload == "get" {
					args = append(args, "--prefix", "c")
				}
				got[s.name][l] = append(got[s.name][l], s.bench(t, args...))
			}
		}
	}
	fmt.Print(costReport(sides, got))
}

// costSides starts the clusters.
func costSides(t *testing.T) []*costSide {
	unmeasured, err := build("tanodb-unmeasured", "-tags", "unmeasured")
	if err != nil {
		t.Fatal(err)
	}
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(collector.Close)
	dir := t.TempDir()
	must(t, "cert", "init", "--ca-dir", filepath.Join(dir, "ca"))
	must(t, "cert", "node", "n", "--host", "127.0.0.1", "--ca-dir", filepath.Join(dir, "ca"), "--out", filepath.Join(dir, "tls"))
	t.Setenv("TANODB_CA", filepath.Join(dir, "tls", "ca.crt"))
	tls := []string{"--tls-dir", filepath.Join(dir, "tls")}

	none := newCostSide(t, "no metrics", "")
	for _, n := range none.nodes {
		n.program = unmeasured
	}
	sides := []*costSide{
		none,
		newCostSide(t, "metrics", none.name),
		newCostSide(t, "metrics, 1 % traced", none.name, "--trace-endpoint", collector.URL, "--trace-ratio", "0.01"),
		newCostSide(t, "TLS", "metrics", tls...),
		newCostSide(t, "TLS, users", "metrics", tls...),
	}
	for _, s := range sides {
		for _, n := range s.nodes {
			n.secure = strings.HasPrefix(s.name, "TLS")
		}
		start(s.nodes)
	}
	sides[len(sides)-1].secure(t, dir)
	return sides
}

// newCostSide is a cluster that has not been started.
func newCostSide(t *testing.T, name, of string, args ...string) *costSide {
	s := &costSide{name: name, of: of, nodes: threeNodes(t, here)}
	port := freePorts(t, len(s.nodes))
	for i, n := range s.nodes {
		s.pb = append(s.pb, address(port+i))
		n.args = append(append(n.args, "--pb", s.pb[i]), args...)
	}
	return s
}

// secure gives the cluster users, of whom one loads it.
func (s *costSide) secure(t *testing.T, dir string) {
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{
		"add-user loader --password-from " + file,
		"add-group loaders",
		"alter-user loader --groups loaders",
		"add-source all 127.0.0.0/8 password",
		"grant riak_kv.get,riak_kv.put on default bench to loaders",
		"grant tanodb.admin,tanodb.read_admin on any to loader",
		"enable",
	} {
		must(t, append([]string{"--addr", s.nodes[0].base(), "security"}, strings.Fields(c)...)...)
	}
	s.login = []string{"--user", "loader", "--password-file", file}
}

// must runs a command that has to do what it is asked.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := run(t, args...)
	if code != 0 {
		t.Fatalf("tanodb %s: %s", strings.Join(args, " "), errs)
	}
	return out
}

// bench loads the cluster.
func (s *costSide) bench(t *testing.T, args ...string) costFigures {
	t.Helper()
	all := append(append([]string{}, s.login...), "bench", "--json", "--addr", bases(s.nodes), "--pb", strings.Join(s.pb, ","),
		"--workers", "32", "--keys", "2000", "--value-size", "1024", "--warmup", "300ms")
	var f costFigures
	if err := json.Unmarshal([]byte(must(t, append(all, args...)...)), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Errors) > 0 || f.CPU == 0 {
		t.Fatalf("%s: %+v", s.name, f)
	}
	return f
}

// costReport is a table of medians, over all rounds, of what a side can do in percent of the
// one that it is compared with in the same round, and between which quarters they lie.
func costReport(sides []*costSide, got map[string]map[costLoad][]costFigures) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d rounds of %v each, medians (quartiles)\n\n", *costRounds, *costEach)
	b.WriteString("| load | side | requests/s | CPU a request | compared with | requests/s | CPU |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, l := range costLoads {
		for _, s := range sides {
			mine := got[s.name][l]
			fmt.Fprintf(&b, "| %s, %s | %s | %.0f | %.0f µs |", l.workload, l.protocol, s.name,
				quantile(each(mine, rate), 0.5), quantile(each(mine, cpu), 0.5))
			if s.of == "" {
				b.WriteString(" | | |\n")
				continue
			}
			fmt.Fprintf(&b, " %s | %s | %s |\n", s.of, percent(mine, got[s.of][l], rate), percent(mine, got[s.of][l], cpu))
		}
	}
	return b.String()
}

func rate(f costFigures) float64 { return f.OpsPerSec }
func cpu(f costFigures) float64  { return f.CPU }

func each(all []costFigures, of func(costFigures) float64) []float64 {
	var out []float64
	for _, f := range all {
		out = append(out, of(f))
	}
	return out
}

// percent compares the rounds of two sides, each with the same round of the other.
func percent(mine, others []costFigures, of func(costFigures) float64) string {
	var ratios []float64
	for i := range mine {
		ratios = append(ratios, 100*of(mine[i])/of(others[i]))
	}
	return fmt.Sprintf("%.0f %% (%.0f–%.0f)", quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
}

// quantile is the value below which this part of all lies; between two it takes the
// share of each.
func quantile(all []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	at := part * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// A table of known figures, so that what make cost says is not wrong for years.
func TestCostReport(t *testing.T) {
	l := costLoads[0]
	sides := []*costSide{{name: "a"}, {name: "b", of: "a"}}
	got := map[string]map[costLoad][]costFigures{"a": {}, "b": {}}
	for _, l := range costLoads {
		for i := range 5 {
			x := float64(i + 1)
			got["a"][l] = append(got["a"][l], costFigures{OpsPerSec: 100 * x, CPU: 10})
			got["b"][l] = append(got["b"][l], costFigures{OpsPerSec: 90 * x, CPU: 10 + x})
		}
	}
	report := costReport(sides, got)
	for _, want := range []string{
		"| " + l.workload + ", " + l.protocol + " | a | 300 | 10 µs | | | |\n",
		"| b | 270 | 13 µs | a | 90 % (90–90) | 130 % (120–140) |\n",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not in\n%s", want, report)
		}
	}
}

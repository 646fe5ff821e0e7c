package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	dto "github.com/prometheus/client_model/go"
)

// shown is what a node shows, as queries may name it.
type shown struct {
	series map[string]*dto.MetricFamily // by the names that a query may have
	labels map[string]bool
}

func newShown(all []*dto.MetricFamily) shown {
	s := shown{series: map[string]*dto.MetricFamily{"up": {}}, labels: map[string]bool{"instance": true, "job": true, "le": true}}
	for _, f := range all {
		names, _ := labelsOf(f)
		for _, l := range names {
			s.labels[l] = true
		}
		if f.GetType() != dto.MetricType_HISTOGRAM {
			s.series[f.GetName()] = f
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			s.series[f.GetName()+suffix] = f
		}
	}
	return s
}

var (
	promTokens = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9][0-9.a-z]*|=~|!~|!=|[<>=]=|[-+*/%^<>=(){},]`)
	promGroups = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	promWords  = []string{"and", "or", "unless", "bool"}
	promCalls  = []string{"sum", "max", "min", "avg", "count", "rate", "increase", "changes", "histogram_quantile", "predict_linear"}
)

// query is what a query of PromQL names, as far as names go: it is no parser of the rest.
type query struct {
	tokens []string
	at     int
	shown  shown
	wrong  []string
}

// judge says what is wrong with the names in a query: metrics that no node shows, labels and
// values that they do not have, functions that are unknown.
func (s shown) judge(expr string) []string {
	q := query{tokens: promTokens.FindAllString(expr, -1), shown: s}
	if left := strings.Fields(promTokens.ReplaceAllString(expr, "")); len(left) > 0 {
		return []string{fmt.Sprintf("cannot be read at %q", left)}
	}
	for _, pair := range []string{"()", "{}"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			q.wrong = append(q.wrong, "has an open "+pair[:1])
		}
	}
	found := false
	for q.at < len(q.tokens) {
		found = q.step() || found
	}
	if !found {
		q.wrong = append(q.wrong, "names no metric")
	}
	return q.wrong
}

func (q *query) peek() string {
	if q.at < len(q.tokens) {
		return q.tokens[q.at]
	}
	return ""
}

// step takes a token, with what belongs to it, and reports whether it was a metric.
func (q *query) step() bool {
	word := q.peek()
	q.at++
	switch {
	case !regexp.MustCompile(`^[a-zA-Z_:]`).MatchString(word), slices.Contains(promWords, word):
	case slices.Contains(promGroups, word):
		for ; q.at < len(q.tokens) && q.tokens[q.at-1] != ")"; q.at++ {
			if l := q.tokens[q.at]; l != "(" && l != "," && l != ")" && !q.shown.labels[l] {
				q.wrong = append(q.wrong, "groups by "+l+", a label that nothing has")
			}
		}
	case q.peek() == "(" || slices.Contains(promGroups, q.peek()):
		if !slices.Contains(promCalls, word) {
			q.wrong = append(q.wrong, "calls "+word+", which is unknown here")
		}
	default:
		q.metric(word)
		return true
	}
	return false
}

// metric looks at a metric and its matchers.
func (q *query) metric(name string) {
	f := q.shown.series[name]
	if f == nil {
		q.wrong = append(q.wrong, "names "+name+", which no node shows")
	}
	if q.peek() != "{" {
		return
	}
	for q.at++; q.at+2 < len(q.tokens) && q.peek() != "}"; {
		label, value := q.tokens[q.at], strings.Trim(q.tokens[q.at+2], `"`)
		if q.at += 3; q.peek() == "," {
			q.at++
		}
		q.matcher(f, name, label, value)
	}
}

func (q *query) matcher(f *dto.MetricFamily, name, label, value string) {
	if f == nil || label == "instance" || label == "job" {
		return
	}
	_, values := labelsOf(f)
	if values[label] == nil {
		q.wrong = append(q.wrong, name+" has no label "+label)
		return
	}
	for _, v := range strings.Split(value, "|") {
		if openLabels[label] == "" && !slices.Contains(values[label], v) {
			q.wrong = append(q.wrong, fmt.Sprintf("%s never has %s=%q", name, label, v))
		}
	}
}

func TestQueriesThatAreWrongAreFound(t *testing.T) {
	s := newShown(families(t))
	for expr, want := range map[string]string{
		`sum(rate(tanodb_requests_total{op="get",outcome=~"ok|quorum"}[5m])) by (instance)`: "",
		`histogram_quantile(0.99, sum by (le) (rate(tanodb_request_seconds_bucket[5m])))`:   "",
		`tanodb_request_seconds`:           "names tanodb_request_seconds, which no node shows",
		`tanodb_request_total > 1`:         "names tanodb_request_total, which no node shows",
		`tanodb_requests_total{opp="get"}`: "tanodb_requests_total has no label opp",
		`tanodb_requests_total{op="gett"}`: `tanodb_requests_total never has op="gett"`,
		`sum by (opp) (tanodb_members)`:    "groups by opp, a label that nothing has",
		`summ(tanodb_members)`:             "calls summ, which is unknown here",
		`sum(tanodb_members`:               "has an open (",
		`1 + 1`:                            "names no metric",
		`tanodb_members ; 1`:               `cannot be read at [";"]`,
	} {
		if got := strings.Join(s.judge(expr), "; "); got != want {
			t.Errorf("%s: %q; want %q", expr, got, want)
		}
	}
}

func TestDashboardNamesWhatNodesShow(t *testing.T) {
	b, err := os.ReadFile("../../deploy/grafana/tanodb.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID                       int
			Title, Type, Description string
			GridPos                  struct{ X, Y, W, H int }
			Targets                  []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	s, queries := newShown(families(t)), 0
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if taken[[2]int{x, y}] != "" || x >= 24 {
					t.Fatalf("%s lies over %s, or out of the page", p.Title, taken[[2]int{x, y}])
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("%s has no description, or shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			queries++
			for _, wrong := range s.judge(q.Expr) {
				t.Errorf("%s: %s\n\t%s", p.Title, wrong, q.Expr)
			}
		}
	}
	if queries < 40 {
		t.Errorf("the dashboard has %d queries; the test has read it wrongly", queries)
	}
}

// alert is a rule of deploy/prometheus/alerts.yml.
type alert struct{ name, expr, wait, severity, summary, runbook string }

// readAlerts reads the file line by line: it keeps to a shape that needs no YAML library.
func readAlerts(t *testing.T, path string) []alert {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []alert
	for i, line := range strings.Split(string(b), "\n") {
		text := strings.TrimSpace(line)
		key, value, _ := strings.Cut(strings.TrimPrefix(text, "- "), ": ")
		if strings.HasPrefix(value, `"`) {
			if value, err = strconv.Unquote(value); err != nil {
				t.Fatalf("%s:%d: %v", path, i+1, err)
			}
		} else if strings.Contains(value, ": ") || strings.Contains(value, " #") {
			t.Fatalf("%s:%d: %q must be in quotes", path, i+1, value)
		}
		if key == "alert" {
			all = append(all, alert{name: value})
			continue
		}
		if text == "" || text[0] == '#' || len(all) == 0 || key == "labels:" || key == "annotations:" {
			continue
		}
		last := &all[len(all)-1]
		field, ok := map[string]*string{"expr": &last.expr, "for": &last.wait, "severity": &last.severity, "summary": &last.summary, "runbook": &last.runbook}[key]
		if !ok {
			t.Fatalf("%s:%d: what is %q?", path, i+1, key)
		}
		*field = value
	}
	return all
}

var commandInText = regexp.MustCompile(`\btanodb ((?:[a-z-]+ ?)+)`)

func TestAlertsNameWhatNodesShow(t *testing.T) {
	s := newShown(families(t))
	alerts := readAlerts(t, "../../deploy/prometheus/alerts.yml")
	if len(alerts) < 15 {
		t.Fatalf("%d alerts; the test has read them wrongly", len(alerts))
	}
	seen := map[string]bool{}
	for _, a := range alerts {
		if seen[a.name] {
			t.Errorf("%s is there twice", a.name)
		}
		seen[a.name] = true
		for _, wrong := range s.judge(a.expr) {
			t.Errorf("%s: %s\n\t%s", a.name, wrong, a.expr)
		}
		if a.summary == "" || a.runbook == "" || a.severity != "page" && a.severity != "ticket" {
			t.Errorf("%s needs a summary, a runbook and a severity: %+v", a.name, a)
		}
		if a.wait != "" {
			if _, err := time.ParseDuration(strings.Replace(a.wait, "1d", "24h", 1)); err != nil {
				t.Errorf("%s: for: %v", a.name, err)
			}
		}
		for _, m := range commandInText.FindAllStringSubmatch(a.runbook, -1) {
			if !isCommand(t, strings.Fields(m[1])) {
				t.Errorf("%s: its runbook says tanodb %s, and there is no such command", a.name, m[1])
			}
		}
	}
}

// isCommand reports whether the words begin with a command of the program, and with one below it
// if it has any.
func isCommand(t *testing.T, words []string) bool {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	node := parser.Model.Node
	for _, w := range words {
		if len(node.Children) == 0 {
			return true
		}
		i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == w })
		if i < 0 {
			return false
		}
		node = node.Children[i]
	}
	return true
}

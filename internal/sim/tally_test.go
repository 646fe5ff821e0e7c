package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var reportFile = flag.String("report", "", "a file that the summaries of runs are added to, a line of JSON each")

// tally sums up what many runs did. As JSON, without Counts, it is what the page on
// reliability is made of.
type tally struct {
	mu    sync.Mutex
	began time.Time

	Kind       string         `json:"kind"` // "seeds", "lives" or "planted"
	Runs       int            `json:"runs"`
	Chapters   int            `json:"chapters,omitempty"` // of lives
	Operations int            `json:"operations"`
	Events     uint64         `json:"events"`
	Simulated  float64        `json:"simulated_seconds"`
	Passed     float64        `json:"wall_clock_hours,omitempty"` // between chapters
	Took       float64        `json:"seconds"`
	Rate       int            `json:"operations_per_minute"`
	Faults     map[string]int `json:"faults,omitempty"`
	Violations int            `json:"violations"`
	Found      int            `json:"found,omitempty"` // of the planted bugs
	Planted    int            `json:"planted,omitempty"`

	Counts map[string]int `json:"-"`
}

// faultKinds are the faults as a reader counts them, each with what the simulator counts
// as it happens, and not as it is meant to.
var faultKinds = []struct {
	name   string
	counts []string
}{
	{"crashes", []string{"crashed"}},
	{"losses of power everywhere", []string{"fault: power"}},
	{"restarts in order", []string{"shutdown in order"}},
	{"freezes", []string{"frozen"}},
	{"cuts", []string{"fault: cut"}},
	{"broken connections", []string{"connection lost"}},
	{"lost messages", []string{"message lost"}},
	{"doubled messages", []string{"message doubled"}},
	{"clock jumps", []string{"fault: clock"}},
	{"slow disks", []string{"fault: slow disk"}},
	{"full disks", []string{"fault: full disk"}},
	{"failed fsyncs", []string{"fsync failed"}},
	{"rotten objects", []string{"an object has rotted"}},
	{"lost vnodes", []string{"vnode lost"}},
	{"lost disks", []string{"disk lost", "node dead"}},
	{"older disks that came back", []string{"disk rewound"}},
	{"joins", []string{"committed: join"}},
	{"leaves", []string{"committed: leave"}},
	{"replacements", []string{"committed: replace", "committed: force-replace"}},
	{"removals by force", []string{"committed: force-remove"}},
}

func newTally(kind string) *tally {
	return &tally{Kind: kind, began: time.Now(), Counts: make(map[string]int), Faults: make(map[string]int)}
}

// add may be called by several goroutines.
func (s *tally) add(r Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Runs++
	s.Chapters += r.Chapters
	s.Operations += r.Operations
	s.Events += r.Events
	s.Simulated += r.Simulated.Seconds()
	s.Passed += r.Passed.Hours()
	s.Violations += len(r.Violations)
	for what, n := range r.Counts {
		s.Counts[what] += n
	}
}

// missing is what of all that was never counted.
func (s *tally) missing(all []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []string
	for _, what := range all {
		if s.Counts[what] == 0 {
			missing = append(missing, what)
		}
	}
	return missing
}

// publish prints the summary, and adds it to the file of reports.
func (s *tally) publish(t *testing.T) {
	t.Helper()
	took := time.Since(s.began)
	s.Took, s.Rate = took.Seconds(), int(float64(s.Operations)/took.Minutes())
	for _, kind := range faultKinds {
		for _, what := range kind.counts {
			s.Faults[kind.name] += s.Counts[what]
		}
	}
	line, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v\nsummary %s", s, line)
	if *reportFile == "" {
		return
	}
	f, err := os.OpenFile(*reportFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s\n", line); err != nil {
		t.Fatal(err)
	}
}

// String lists all that was counted.
func (s *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s, %d operations, %d events, %.0f s of cluster time, in %.1f s: %d operations/min, %.0f events/s",
		s.Runs, s.Kind, s.Operations, s.Events, s.Simulated, s.Took, s.Rate, float64(s.Events)/s.Took)
	for _, what := range slices.Sorted(maps.Keys(s.Counts)) {
		fmt.Fprintf(&b, "\n%9d %s", s.Counts[what], what)
	}
	return b.String()
}

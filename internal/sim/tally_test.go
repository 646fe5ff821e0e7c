package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tally sums up what many runs did.
type tally struct {
	seeds, operations int
	events            uint64
	simulated         time.Duration
	began             time.Time
	counts            map[string]int
}

func (s *tally) add(r Report) {
	if s.counts == nil {
		s.counts, s.began = make(map[string]int), time.Now()
	}
	s.seeds++
	s.operations += r.Operations
	s.events += r.Events
	s.simulated += r.Simulated
	for what, n := range r.Counts {
		s.counts[what] += n
	}
}

// String is the summary that a run prints at its end.
func (s *tally) String() string {
	var b strings.Builder
	took := time.Since(s.began).Seconds()
	fmt.Fprintf(&b, "%d seeds, %d operations, %d events, %v of cluster time, in %.1f s: %.0f seeds/s, %.0f operations/s, %.0f events/s",
		s.seeds, s.operations, s.events, s.simulated.Round(time.Second), took,
		float64(s.seeds)/took, float64(s.operations)/took, float64(s.events)/took)
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "\n%9d %s", s.counts[what], what)
	}
	return b.String()
}

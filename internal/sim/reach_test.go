package sim

import "testing"

// mustHappen is what the runs of TestReach must have seen at least once. A fault
// that never comes, or a rare branch that is never taken, proves nothing.
var mustHappen = []string{
	"batches lost", "connection lost", "disk lost", "forward", "fsync failed", "held to be down",
	"message doubled", "message lost", "not sent", "overload", "shutdown in order",
	"fault: break", "fault: clock", "fault: crash", "fault: cut", "fault: disk failure", "fault: freeze",
	"fault: power", "fault: restart", "fault: slow disk", "fault: wipe",
	"put done", "put doubt", "put failed", "delete done", "delete doubt", "delete failed",
	"get done", "get failed", "list done", "list failed",
	"repair_missing", "repair_stale", "siblings",
}

// TestReach runs a fixed range of seeds, and wants to have seen everything.
func TestReach(t *testing.T) {
	var sum tally
	for seed := uint64(1); seed <= 40; seed++ {
		r := Run(DrawWeather(seed), Options{})
		judge(t, r)
		sum.add(r)
	}
	for _, what := range mustHappen {
		if sum.counts[what] == 0 {
			t.Errorf("%q has not happened in %d seeds", what, sum.seeds)
		}
	}
}

package sim

import (
	"flag"
	"slices"
	"testing"
)

var reachAll = flag.Bool("reach-all", false, "have TestReach judge all its seeds, though it has seen everything")

// mustHappen is what the runs of TestReach must have seen at least once. A fault
// that never comes, or a rare branch that is never taken, proves nothing.
var mustHappen = []string{
	"batches lost", "connection lost", "disk lost", "forward", "fsync failed", "held to be down",
	"message doubled", "message lost", "not sent", "overload", "shutdown in order",
	"fault: break", "fault: clock", "fault: crash", "fault: cut", "fault: disk failure", "fault: freeze",
	"fault: backup", "fault: rewind", "fault: power", "fault: restart", "fault: slow disk", "fault: wipe",
	"put done", "put doubt", "put failed", "delete done", "delete doubt", "delete failed",
	"get done", "get failed", "list done", "list failed",
	"repair_missing", "repair_stale", "siblings", "swept",
	"fault: rot", "an object has rotted", "rot was found", "a vnode has replaced what had rotted",
	"fault: full disk", "refused by a full disk",

	// Anti-entropy.
	"exchange equal", "exchange mended", "exchange busy", "exchange failed", "mending", "agreed unread", "stale *vnode.Sums",

	// What comes and goes.
	"fallback asked", "stored for others", "drain ended", "drain failed", "dropped", "new_actor",
	"fault: forget", "vnode lost", "repair ended", "read refused by a vnode that lacks data",
	"node dead", "transfer forced", "transfer begun", "owner changed", "transfer over", "fill failed",
	"a receiver has crashed in a fill", "a source has crashed in a fill", "stale after minted",
	"a drop was refused", "stale *vnode.Fetch", "stale *vnode.List", "stale *vnode.Fence", "stale *vnode.Store", "refresh",
	"committed: join", "committed: leave", "committed: replace", "committed: force-remove", "committed: force-replace", "committed: set",
	"committed during a partition", "operator: commit: plan_changed", "operator: Down: done", "operator: Clear: done",
	"topology: given", "topology: caught up from far behind", "topology: a node has left", "topology: a log was cut",
	"disk rewound", "an outdated disk was made safe", "a void number was replaced",
	"topology: a command was given up", "stranger turned away",

	// The last write wins.
	"a last write has won",

	// What a write depends on.
	"condition not met",

	// Data types.
	"update done", "update doubt", "update failed", "fetch done", "fetch failed", "states beside each other",
	"an operation was sent again", "an operation that is there was not applied again", "an operation was applied again",
	"erase done", "erase doubt", "erase failed", "a delete and an operation did not know of each other",

	// What is deleted goes.
	"reaped during faults", "reap: ended", "reap: spared", "a disk from before a reaping was erased", "what only an outdated disk had was kept", "crashed in the middle of an erasing", "versions from before a mark were refused",
}

// reachSeeds is how many seeds are enough for that.
const reachSeeds = 220

// richSeeds are some of these that together have seen all when they were chosen. A change
// of the weather may take that from them: then the others are asked as well.
var richSeeds = []uint64{58, 115, 32, 174, 6, 2, 11, 102}

// TestReach runs seeds of a fixed range until it has seen everything, which it must have
// when the range is at its end.
func TestReach(t *testing.T) {
	seeds := slices.Clone(richSeeds)
	for seed := uint64(1); seed <= reachSeeds; seed++ {
		if !slices.Contains(richSeeds, seed) {
			seeds = append(seeds, seed)
		}
	}
	sum := newTally("seeds")
	crowd(func(i uint64) bool {
		if int(i) >= len(seeds) || !*reachAll && len(sum.missing(mustHappen)) == 0 {
			return false
		}
		r := Run(DrawWeather(seeds[i]), Options{})
		judge(t, r)
		sum.add(r)
		return true
	})
	for _, what := range sum.missing(mustHappen) {
		t.Errorf("%q has not happened in %d seeds", what, sum.Runs)
	}
	t.Logf("%d seeds have seen all", sum.Runs)
}

package sim

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/tanodb/tanodb/storage"
)

var (
	lives    = flag.Uint64("lives", 1000, "how many lives TestLife runs at most")
	lifeTime = flag.Duration("lifetime", 3*time.Second, "how long TestLife begins new chapters; 0: until its lives are over")
	lifeOps  = flag.Int("life-ops", fullLife, "how many operations a life has")
	lifeSeed = flag.Uint64("life", 0, "the seed of the first life of TestLife; 0: that of TANODB_SEED, or from the clock")
)

// fullLife is how many operations a whole life has.
const fullLife = 1_000_000

// TestLife runs lives, on each processor one after the other, for a time or to their end.
func TestLife(t *testing.T) {
	seed, start := freshSeed(t, *lifeSeed), time.Now()
	t.Logf("lives from %d on", seed)
	sum := newTally("lives")
	over := func() bool { return *lifeTime > 0 && time.Since(start) > *lifeTime || t.Failed() }
	crowd(func(i uint64) bool {
		if i >= *lives {
			return false
		}
		l := Life{Seed: seed + i, Operations: *lifeOps, Over: over}
		r := RunLife(l, Options{Watch: *watchKey, Out: os.Stdout})
		judge(t, r)
		sum.add(r)
		if r.Operations >= fullLife {
			wasEventful(t, r)
		}
		return !over()
	})
	sum.publish(t)
}

// wasEventful wants that a whole life has seen each kind of misfortune often enough. That a disk goes for good
// is too seldom for each, since it happens only where nothing else is amiss: see TestReach.
func wasEventful(t *testing.T, r Report) {
	t.Helper()
	for what, least := range map[string]int{
		"crashed": 200, "fault: cut": 200, "fault: clock": 100, "frozen": 50, "shutdown in order": 50, "fault: power": 20,
		"committed: join": 50, "committed: leave": 20, "topology: a node has left": 50,
		"vnode lost": 10, "disk rewound": 30,
	} {
		if r.Counts[what] < least {
			t.Errorf("life %d: %q has happened %d times, which is less than %d", r.Weather.Seed, what, r.Counts[what], least)
		}
	}
}

// shortLife is a life of a few chapters.
func shortLife(seed uint64, chapters int) Life {
	left := chapters
	return Life{Seed: seed, Operations: fullLife, Over: func() bool { left--; return left == 0 }}
}

// TestKeptLives runs chapters of lives that once found something.
func TestKeptLives(t *testing.T) {
	for _, l := range []struct {
		seed     uint64
		chapters int
		found    string
	}{
		{688631016589, 3, "a tombstone rotted after it was vouched for, was reaped everywhere else, and nothing took its place"},
	} {
		t.Log(l.seed, l.found)
		judge(t, RunLife(shortLife(l.seed, l.chapters), Options{}))
	}
}

// TestSameLifeSameTrace lives twice.
func TestSameLifeSameTrace(t *testing.T) {
	a, b := RunLife(shortLife(1, 2), Options{}), RunLife(shortLife(1, 2), Options{})
	judge(t, a)
	if a.Hash != b.Hash || a.Events != b.Events || a.Chapters != 2 {
		t.Errorf("one life has %d events in %d chapters with hash %016x, and then %d in %d with %016x", a.Events, a.Chapters, a.Hash, b.Events, b.Chapters, b.Hash)
	}
}

// TestLifeForgetsNothing gives all nodes at once the disks that they had a chapter ago, so that no
// invariant of a single node sees it: what was acknowledged since then is lost, and what was
// replaced is back, and the next chapter tells.
func TestLifeForgetsNothing(t *testing.T) {
	base := drawLife(1)
	base.Reaps = false // its marks are changes of the topology
	s := newLife(base, Options{})
	judge(t, s.calmChapter())
	s.turnPage()
	images := make(map[*node]*storage.Memory)
	for _, n := range s.members() {
		images[n] = n.disk.mem.Image()
	}
	judge(t, s.calmChapter())
	s.turnPage()
	for _, n := range s.members() {
		n.crash("all disks are those of a chapter ago", time.Millisecond)
		n.disk.mem, n.shown = images[n], 0
		s.inv.forget(n)
	}
	found := make(map[string]int)
	for _, v := range s.calmChapter().Violations {
		found[v.Checker]++
	}
	t.Log(found)
	for _, checker := range []string{"lost", "back"} {
		if found[checker] == 0 {
			t.Errorf("nothing was found by %q; found %v", checker, found)
		}
	}
}

// calmChapter is a chapter without faults, in which nobody comes or goes.
func (s *Sim) calmChapter() Report {
	s.weather, s.hot = s.base.chapter(s.chapter)
	s.weather.clear()
	s.weather.RewindEvery, s.weather.ForgetEvery, s.weather.RotEvery, s.weather.FullEvery, s.weather.Operators = 0, 0, 0, 0, 0
	s.ordeal()
	return s.report()
}

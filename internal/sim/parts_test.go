package sim

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestLoopKeepsOrder schedules events at random instants, some of them from within
// others: they come by time, and those of one instant as they were scheduled.
func TestLoopKeepsOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var l loop
	type mark struct {
		at time.Duration
		n  int
	}
	var came []mark
	scheduled := 0
	var schedule func(depth int)
	schedule = func(depth int) {
		m := mark{l.now + time.Duration(rnd.IntN(20)), scheduled}
		scheduled++
		l.at(m.at, func() {
			came = append(came, m)
			for range min(depth, 2) {
				schedule(depth - 1)
			}
		})
	}
	for range 200 {
		schedule(3)
	}
	for {
		ev, ok := l.pop()
		if !ok {
			break
		}
		if ev.at != l.now {
			t.Fatalf("an event of %v came at %v", ev.at, l.now)
		}
		ev.run()
	}
	if len(came) != scheduled {
		t.Fatalf("%d of %d events came", len(came), scheduled)
	}
	for i := 1; i < len(came); i++ {
		a, b := came[i-1], came[i]
		if a.at > b.at || a.at == b.at && a.n > b.n {
			t.Fatalf("event %d of %v came before event %d of %v", a.n, a.at, b.n, b.at)
		}
	}
}

// TestLoopNeverGoesBack: an event for an instant that has passed comes now.
func TestLoopNeverGoesBack(t *testing.T) {
	var l loop
	l.at(time.Second, func() {})
	l.pop()
	l.at(0, func() {})
	if ev, _ := l.pop(); ev.at != time.Second {
		t.Errorf("came at %v", ev.at)
	}
}

// TestTraceSeesEveryByte: any change of what is hashed changes the hash.
func TestTraceSeesEveryByte(t *testing.T) {
	seen := make(map[uint64]bool)
	for n := range 30 {
		for i := range n {
			b := make([]byte, n)
			b[i] = 1
			var tr trace
			tr.bytes(b)
			if seen[tr.hash] {
				t.Fatalf("%d bytes, of which number %d is set, have the hash of others", n, i)
			}
			seen[tr.hash] = true
		}
	}
	var a, b trace
	a.bytes([]byte("ab"))
	a.bytes([]byte("c"))
	b.bytes([]byte("a"))
	b.bytes([]byte("bc"))
	if a.hash == b.hash {
		t.Error("the borders between what is hashed do not count")
	}
}

// TestWeatherIsTheSeeds: a seed has one weather, it can be printed, and seeds differ.
func TestWeatherIsTheSeeds(t *testing.T) {
	if DrawWeather(7) != DrawWeather(7) {
		t.Error("seed 7 has two weathers")
	}
	if DrawWeather(7) == DrawWeather(8) {
		t.Error("seeds 7 and 8 have one weather")
	}
	calm := 0
	for seed := range uint64(500) {
		w := DrawWeather(seed)
		if w.R+w.W <= w.Replicas {
			t.Errorf("seed %d: reads and writes do not overlap: %v", seed, w)
		}
		if !w.Calm {
			continue
		}
		calm++
		if w.Loss+w.Straggle+w.Overload > 0 || w.CutEvery+w.CrashEvery+w.PowerEvery+w.WipeEvery+w.FreezeEvery+w.FailEvery > 0 {
			t.Errorf("seed %d: calm weather with faults: %v", seed, w)
		}
	}
	if calm < 20 || calm > 120 {
		t.Errorf("%d of 500 seeds are calm", calm)
	}
	if s := DrawWeather(7).String(); !strings.Contains(s, "Seed=7") || !strings.Contains(s, "Nodes=") {
		t.Errorf("printed as %q", s)
	}
}

// TestWatchTellsTheLifeOfAKey, and does not change it.
func TestWatchTellsTheLifeOfAKey(t *testing.T) {
	var out bytes.Buffer
	w := DrawWeather(2)
	watched := Run(w, Options{Watch: "k0", Out: &out})
	if plain := Run(w, Options{}); plain.Hash != watched.Hash {
		t.Error("a run that is watched differs from one that is not")
	}
	for _, part := range []string{"begins", "asks", "holds", "answers", "everything heals"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the life of the key does not tell what %s", part)
		}
	}
}

// TestBusyWeather: a seed below busyFrom has the weather that it has always had. Those above have
// it too, or are busier, and half of them have no index entries.
func TestBusyWeather(t *testing.T) {
	const seeds = 200
	busy, bare := 0, 0
	for seed := uint64(1); seed <= seeds; seed++ {
		if DrawWeather(seed) != drawWeather(seed) {
			t.Errorf("seed %d, which is below %d, has other weather", seed, uint64(busyFrom))
		}
		was, is := drawWeather(busyFrom+seed), DrawWeather(busyFrom+seed)
		if is.Bare {
			bare++
		}
		if is.Think < was.Think {
			busy++
		}
		is.Bare, is.Clients, is.Think, is.Keys = was.Bare, was.Clients, was.Think, was.Keys
		if is != was {
			t.Errorf("seed %d has other faults than without being busy: %v, %v", busyFrom+seed, is, was)
		}
	}
	if busy < seeds/2 || busy == seeds || bare < seeds/4 || bare > 3*seeds/4 {
		t.Errorf("of %d seeds %d are busy, and %d have no index entries", seeds, busy, bare)
	}
}

package sim

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simTime   = flag.Duration("simtime", 3*time.Second, "how long TestSeeds runs fresh seeds")
	fromSeed  = flag.Uint64("from", 0, "the first fresh seed of TestSeeds; 0: that of TANODB_SEED, or from the clock")
	replay    = flag.Uint64("seed", 0, "the seed of TestReplay; 0: skip it")
	watchKey  = flag.String("watch", "", "the name of the key whose life TestReplay tells")
	updateAll = flag.Bool("update", false, "rewrite the golden hashes")
)

// TestSeeds runs every seed that once found something, then fresh ones.
func TestSeeds(t *testing.T) {
	for _, seed := range keptSeeds(t) {
		judge(t, Run(DrawWeather(seed), Options{}))
	}
	seed := freshSeed(t, *fromSeed)
	t.Logf("fresh seeds from %d on", seed)
	sum := newTally("seeds")
	start := time.Now()
	crowd(func(i uint64) bool {
		r := Run(DrawWeather(seed+i), Options{})
		judge(t, r)
		sum.add(r)
		return time.Since(start) < *simTime && !t.Failed()
	})
	sum.publish(t)
}

// freshSeed is the seed that a flag says, or else one whose weather may be busy: by TANODB_SEED, or else
// by the clock.
func freshSeed(t *testing.T, flag uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv("TANODB_SEED")
	switch {
	case flag != 0:
		return flag
	case !ok:
		return busyFrom + uint64(time.Now().UnixNano())%1e12
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("TANODB_SEED: %v", err)
	}
	return busyFrom + seed
}

// crowd calls work with 0, 1, 2 and so on, on all processors, each until it says false.
func crowd(work func(i uint64) bool) {
	var wait sync.WaitGroup
	var next atomic.Uint64
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for work(next.Add(1) - 1) {
			}
		})
	}
	wait.Wait()
}

// TestReplay runs one seed and tells the life of a key.
func TestReplay(t *testing.T) {
	if *replay == 0 {
		t.Skip("no -seed")
	}
	w := DrawWeather(*replay)
	t.Logf("weather: %v", w)
	r := Run(w, Options{Watch: *watchKey, Out: os.Stdout})
	judge(t, r)
	t.Logf("hash %016x, %d events, %d operations, %v simulated, %v", r.Hash, r.Events, r.Operations, r.Simulated, r.Counts)
}

// judge fails the test with the story of what went wrong.
func judge(t *testing.T, r Report) {
	t.Helper()
	if len(r.Violations) == 0 {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\nweather: %v\n", r.Weather.Seed, r.Weather)
	key := ""
	for i, v := range r.Violations {
		if i == 5 {
			fmt.Fprintf(&b, "… and %d more\n", len(r.Violations)-i)
			break
		}
		fmt.Fprintf(&b, "%v\n", v)
		if key == "" {
			key = v.Key[strings.LastIndexByte(v.Key, '/')+1:]
		}
	}
	test, seed := "TestReplay", "seed"
	if r.Chapters > 0 {
		fmt.Fprintf(&b, "in chapter %d of a life\n", r.Chapters)
		test, seed = "TestLife -lives=1", "life"
	}
	fmt.Fprintf(&b, "replay: go test ./internal/sim -run %s -%s=%d -watch=%s", test, seed, r.Weather.Seed, key)
	t.Error(b.String())
}

// keptSeeds reads testdata/seeds.txt: a seed a line, and what it once found.
func keptSeeds(t *testing.T) []uint64 {
	t.Helper()
	f, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seeds []uint64
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		word, _, _ := strings.Cut(line, " ")
		seed, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			t.Fatalf("testdata/seeds.txt: %q: %v", line, err)
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

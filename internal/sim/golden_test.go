package sim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSameSeedSameTrace runs seeds twice: not a byte, not an instant may differ.
// Two seeds may not have one trace, or the hash would be worth nothing. It takes others
// than those whose hashes are committed, which are the same in any run as they are.
func TestSameSeedSameTrace(t *testing.T) {
	seeds := make(map[uint64]uint64) // by hash
	for seed := uint64(goldenSeeds + 1); seed <= 2*goldenSeeds; seed++ {
		a, b := Run(DrawWeather(seed), Options{}), Run(DrawWeather(seed), Options{})
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("seed %d: %d events with hash %016x, then %d with %016x", seed, a.Events, a.Hash, b.Events, b.Hash)
		}
		if other, ok := seeds[a.Hash]; ok {
			t.Errorf("seeds %d and %d have the same hash %016x", other, seed, a.Hash)
		}
		seeds[a.Hash] = seed
	}
}

// goldenSeeds is how many seeds have their hash committed.
const goldenSeeds = 8

// TestGolden compares the hashes of some seeds with those committed: a trace
// must be the same on every machine. A change of the protocol, of an encoding or
// of the simulator changes them all; then run it with -update.
func TestGolden(t *testing.T) {
	const file = "testdata/golden.txt"
	var b strings.Builder
	for seed := uint64(1); seed <= goldenSeeds; seed++ {
		fmt.Fprintf(&b, "%d %016x\n", seed, Run(DrawWeather(seed), Options{}).Hash)
	}
	if *updateAll {
		if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the traces differ from %s; if they should, run go test ./internal/sim -run TestGolden -update\ngot:\n%swant:\n%s", file, b.String(), want)
	}
}

package membership_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
)

// talk lets every node send every other one a message, each with a delay, and returns
// what each node holds to be skewed.
func talk(offsets []time.Duration, delay func(from, to int) time.Duration) [][]string {
	clocks := make([]membership.Clocks, len(offsets))
	name := func(i int) string { return fmt.Sprint("n", i) }
	for round := range 3 {
		now := time.Duration(round) * 500 * time.Millisecond
		for from := range offsets {
			for to := range offsets {
				if from == to {
					continue
				}
				seen, known := clocks[from].Seen(now, name(to))
				clocks[to].Heard(now, name(from), offsets[from]-offsets[to]-delay(from, to), seen, known)
			}
		}
	}
	all := make([][]string, len(offsets))
	for i := range clocks {
		all[i] = clocks[i].Skewed(1500*time.Millisecond, name(i))
	}
	return all
}

func TestWhoseClockIsOff(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name    string
		offsets []time.Duration
		want    []string
	}{
		{"alone", []time.Duration{time.Hour}, nil},
		{"two that differ: nobody can say which", []time.Duration{0, time.Hour}, nil},
		{"one of three ahead", []time.Duration{0, 600 * ms, 0}, []string{"n1"}},
		{"one of three behind", []time.Duration{0, -time.Hour, 100 * ms}, []string{"n1"}},
		{"within the limit", []time.Duration{0, 400 * ms, -90 * ms}, nil},
		{"all apart", []time.Duration{0, time.Hour, 2 * time.Hour}, []string{"n0", "n1", "n2"}},
		{"two of five", []time.Duration{0, 0, time.Hour, time.Hour, 0}, []string{"n2", "n3"}},
		{"two of four: half is not most", []time.Duration{0, 0, time.Hour, time.Hour}, nil},
	} {
		for i, got := range talk(tc.offsets, func(int, int) time.Duration { return ms }) {
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s: n%d holds %v to be off, not %v", tc.name, i, got, tc.want)
			}
		}
	}
}

// However slow messages are, and in whichever direction, nobody is blamed whose clock
// is right.
func TestSlowMessagesMakeNoClockSeemOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "nodes")
		offsets := make([]time.Duration, n)
		for i := range offsets {
			offsets[i] = time.Duration(rapid.IntRange(-2000, 2000).Draw(t, "offset")) * time.Millisecond
		}
		delays := rapid.SliceOfN(rapid.IntRange(0, 5000), n*n, n*n).Draw(t, "delays")
		for i, got := range talk(offsets, func(from, to int) time.Duration { return time.Duration(delays[from*n+to]) * time.Millisecond }) {
			for _, blamed := range got {
				apart := 0
				var b int
				fmt.Sscanf(blamed, "n%d", &b)
				for _, o := range offsets {
					if (o - offsets[b]).Abs() > membership.MaxClockOffset {
						apart++
					}
				}
				// Who blames may have heard of less than all, never of more.
				if apart == 0 || n == 2 {
					t.Fatalf("n%d blames %s, whose clock is right: %v", i, blamed, offsets)
				}
			}
		}
	})
}

func TestHowFarClocksMayBeApartCanBeSaid(t *testing.T) {
	for most, want := range map[time.Duration]int{0: 1, 100 * time.Millisecond: 1, time.Second: 0} {
		c := membership.Clocks{Max: most}
		for _, p := range []string{"n2", "n3"} {
			c.Heard(0, p, 600*time.Millisecond, -600*time.Millisecond, true)
		}
		if got := c.Skewed(time.Second, "n1"); len(got) != want {
			t.Errorf("with %v: %v are off, want %d", most, got, want)
		}
	}
}

func TestWhatIsHeardOfClocksIsForgotten(t *testing.T) {
	var c membership.Clocks
	heard := func(now time.Duration, ahead time.Duration) {
		for _, p := range []string{"n2", "n3"} {
			c.Heard(now, p, ahead, -ahead, true)
		}
	}
	heard(0, time.Hour)
	if got := c.Skewed(time.Second, "n1"); !slices.Equal(got, []string{"n1"}) {
		t.Errorf("skewed: %v", got)
	}
	for now := 2 * time.Second; now < 7*time.Second; now += 500 * time.Millisecond {
		heard(now, 0) // this node's clock was set right
	}
	if got := c.Skewed(7*time.Second, "n1"); len(got) > 0 {
		t.Errorf("skewed: %v, though its clock was set right", got)
	}
	if _, _, known := c.Offset(20*time.Second, "n2"); known {
		t.Error("what was heard long ago still counts")
	}
	c.Keep([]string{"n3"})
	if _, known := c.Seen(6*time.Second, "n2"); known {
		t.Error("a node that has gone is still known")
	}
}

package sketch

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The law of Counts, against counting all.
func TestCountsAreNotTooLowAndMissNobodyWhoMatters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := rapid.IntRange(1, 8).Draw(t, "room")
		c := NewCounts[int](room, 0)
		truth, total := map[int]float64{}, 0.0
		for range rapid.IntRange(0, 300).Draw(t, "adds") {
			key, weight := rapid.IntRange(0, 20).Draw(t, "key"), float64(rapid.IntRange(1, 5).Draw(t, "weight"))
			key = min(key, rapid.IntRange(0, 20).Draw(t, "other")) // some come more often
			truth[key] += weight
			total += weight
			c.Add(0, key, weight)
		}
		kept := map[int]Counted[int]{}
		top := c.Top(0, 1000)
		for i, e := range top {
			kept[e.Key] = e
			if i > 0 && top[i-1].Count < e.Count {
				t.Fatalf("not in order: %v", top)
			}
		}
		if len(top) > room || len(kept) != len(top) {
			t.Fatalf("%d keys, %d of them distinct, in room for %d", len(top), len(kept), room)
		}
		if got := c.Total(0); got != total {
			t.Fatalf("total %v; want %v", got, total)
		}
		for key, count := range truth {
			e, ok := kept[key]
			if !ok && count > total/float64(room) {
				t.Fatalf("key %d with %v of %v is missing", key, count, total)
			}
			if ok && (e.Count < count || e.Count-e.Error > count) {
				t.Fatalf("key %d: %+v, and truly %v", key, e, count)
			}
		}
	})
}

func TestCountsForgetByHalves(t *testing.T) {
	c := NewCounts[string](4, time.Minute)
	for range 80 {
		c.Add(0, "old", 1)
	}
	if top := c.Top(3*time.Minute, 9); len(top) != 1 || top[0].Count != 10 {
		t.Errorf("after three half-lives: %+v", top)
	}
	for range 11 {
		c.Add(3*time.Minute+time.Second, "new", 1)
	}
	if top := c.Top(3*time.Minute+time.Second, 1); len(top) != 1 || top[0].Key != "new" {
		t.Errorf("what is asked for now is not first: %+v", top)
	}
	if top := c.Top(time.Hour, 9); len(top) != 0 || c.Total(time.Hour) != 0 {
		t.Errorf("after an hour: %+v, %v", top, c.Total(time.Hour))
	}
}

func TestRateOfWhatIsSteady(t *testing.T) {
	for _, until := range []time.Duration{5 * time.Second, 59 * time.Second, 61 * time.Second, 5*time.Minute + 7*time.Second, 3 * time.Hour} {
		c := NewCounts[string](2, time.Minute)
		for now := time.Duration(0); now < until; now += 100 * time.Millisecond {
			c.Add(now, "k", 4)
		}
		if got := c.Rate(until, c.Top(until, 1)[0].Count); math.Abs(got-40) > 2 {
			t.Errorf("40 a second for %v are said to be %v", until, got)
		}
	}
	if got := NewCounts[string](2, time.Minute).Rate(0, 0); got != 0 {
		t.Errorf("nothing in no time is %v a second", got)
	}
}

// The law of Highest, against knowing all.
func TestHighestKeepsWhatIsAboveAllThatIsGone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := rapid.IntRange(1, 5).Draw(t, "room")
		h := NewHighest[string](room, time.Hour)
		last, seen, gone := map[string]int64{}, map[string]time.Duration{}, map[string]int64{}
		now := time.Duration(0)
		for range rapid.IntRange(0, 60).Draw(t, "notes") {
			now += time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute
			key := strconv.Itoa(rapid.IntRange(0, 9).Draw(t, "key"))
			last[key], seen[key] = int64(rapid.IntRange(0, 30).Draw(t, "value")), now
			h.Note(now, key, last[key])
			kept := map[string]bool{}
			for _, e := range h.Top(now, 99) {
				kept[e.Key] = true
			}
			for k := range last {
				if !kept[k] {
					gone[k] = last[k]
				}
			}
		}
		top := h.Top(now, 99)
		if len(top) > room || !slices.IsSortedFunc(top, func(a, b Value[string]) int { return int(b.Value - a.Value) }) {
			t.Fatalf("room for %d: %v", room, top)
		}
		highestGone := int64(0)
		for _, v := range gone {
			highestGone = max(highestGone, v)
		}
		for _, e := range top {
			if e.Value != last[e.Key] || e.Seen != seen[e.Key] || now-e.Seen > time.Hour {
				t.Fatalf("%+v, and truly %d at %v", e, last[e.Key], seen[e.Key])
			}
		}
		for k, v := range last {
			if v > highestGone && now-seen[k] <= time.Hour && !slices.ContainsFunc(top, func(e Value[string]) bool { return e.Key == k }) {
				t.Fatalf("key %s with %d is missing: %v", k, v, top)
			}
		}
	})
}

func TestHighestShrinks(t *testing.T) {
	h := NewHighest[string](2, 0)
	h.Note(0, "a", 10)
	h.Note(0, "b", 20)
	h.Note(0, "c", 5)
	if h.Floor() != 10 {
		t.Errorf("floor %d", h.Floor())
	}
	h.Note(1, "b", 0)
	h.Note(2, "c", 5)
	if top := h.Top(100*time.Hour, 9); !slices.Equal(top, []Value[string]{{"a", 10, 0}, {"c", 5, 2}}) {
		t.Errorf("%v", top)
	}
}

func BenchmarkAdd(b *testing.B) {
	c := NewCounts[int](128, time.Minute)
	for i := range b.N {
		c.Add(time.Duration(i), i*7919%1000, 1)
	}
}

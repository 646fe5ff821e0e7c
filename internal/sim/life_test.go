package sim

import (
	"flag"
	"testing"
	"time"
)

var (
	lifeTime = flag.Duration("lifetime", 3*time.Second, "how long TestLife begins new chapters")
	lifeOps  = flag.Int("life-ops", 1_000_000, "how many operations a life has")
	lifeSeed = flag.Uint64("life-seed", 0, "the seed of the first life; 0: from the clock")
)

func TestLife(t *testing.T) {
	start := time.Now()
	seed := *lifeSeed
	over := func() bool { return time.Since(start) > *lifeTime }
	for ; !over() && !t.Failed(); seed++ {
	began := time.Now()
	var sum tally
	last := began
	r := RunLife(Life{Seed: seed, Operations: *lifeOps, Over: func() bool { if time.Since(last)> 2*time.Second { last=last.Add(time.Since(last)); t.Log(time.Since(began)) }; return over() }}, Options{})
	sum.add(r)
	sum.began = began
	judge(t, r)
	t.Log(seed, r.Chapters, r.Passed, sum.String())
	}
}

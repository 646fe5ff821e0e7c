package sim

import (
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/kv"
)

// censusTimeout is more than a healed cluster needs.
const censusTimeout = time.Second

// takeCensus asks all vnodes which keys they hold, when nothing goes on any more: each
// must name its replicas of the live keys, and nothing else. Every node is pinged through too.
func (s *Sim) takeCensus() bool {
	open := 0
	for _, b := range buckets {
		n := s.anyNode()
		view := n.view()
		m := coordinator.NewCensus(view, coordinator.KeysRequest{
			Bucket: kv.Bucket{Name: b}, Options: kv.ListOptions{Timeout: censusTimeout},
		})
		open++
		n.run(m, noKey, censusTimeout, func(*request) {
			open--
			answers, err := m.Result()
			if err != nil {
				s.fail("liveness", noKey, "all is healed, but a census fails: %v", err)
			}
			s.checkCensus(b, answers, view.Wall.UnixMilli())
		}, nil)
	}
	for _, n := range s.members() {
		m := coordinator.NewPing(n.view(), censusTimeout)
		open++
		n.run(m, noKey, censusTimeout, func(*request) {
			open--
			if _, err := m.Result(); err != nil {
				s.fail("liveness", noKey, "all is healed, but a ping fails: %v", err)
			}
		}, nil)
	}
	return s.must(2*censusTimeout, "a census is answered", func() bool { return open == 0 })
}

// checkCensus compares the vnodes' own answers with what they should hold.
func (s *Sim) checkCensus(bucket string, answers []kv.ReplicaKeys, wallMs int64) {
	want := make([][]string, s.first.Ring().Size())
	for _, k := range s.keys {
		replicas := s.primaries(k)
		first := replicas[0]
		o := s.stored(s.byName[first.Node], first, k)
		if s.latest(k) {
			o = o.Latest()
		}
		if k.Bucket != bucket || !o.Live(wallMs) {
			continue
		}
		for _, r := range replicas {
			want[r.Partition] = append(want[r.Partition], k.Name)
		}
	}
	if len(answers) != len(want) {
		s.fail("census", noKey, "%d partitions answer, of %d", len(answers), len(want))
		return
	}
	for p, a := range answers {
		got := slices.Sorted(slices.Values(a.Keys)) // they come home by home
		slices.Sort(want[p])
		if a.Partition.Index != p || a.Error != "" || a.More || !slices.Equal(got, want[p]) {
			s.fail("census", noKey, "partition %d should hold %v of %s, and answers %+v", p, want[p], bucket, a)
			return
		}
	}
}

package sim

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/kv"
)

// A life is one cluster through many chapters, each a run of its own kind: its weather, its
// healing, its end with all comparisons. Disks, topology, clocks, backups and what the
// clients know go on from chapter to chapter.
//
//	chapter 1: weather ─▶ healing ─▶ end ─▶ judged ──┐ what is there then
//	chapter 2: weather ─▶ healing ─▶ end ─▶ judged ◀─┘ must stay, or be replaced
//
// A history of a million operations is too much for the checkers, so each chapter is
// judged alone, and the next begins with what all replicas hold then. That loses nothing: what
// was acknowledged is there at the end of its chapter, or replaced by what is there, and so on; and
// what was replaced is known for ever as something that must not come back.
type Life struct {
	Seed       uint64
	Operations int         // it ends after the chapter with so many
	Over       func() bool // and after one at whose end this says so; nil: never
}

// How a life goes.
const (
	lifeKeys  = 96            // that all chapters share
	mostNodes = 9             // with those that may join
	night     = 2 * time.Hour // passes by the wall clocks between two chapters: what was deleted or expires is due
	elsewhere = 0.02          // share of the operations on any key of all
	keptPages = 64            // of the newest topologies that are kept whole
)

// over is the number of an operation of a chapter that was judged.
const over = -1

// isOver reports whether a write is of a chapter that was judged, and was not there then.
func (s *Sim) isOver(id check.ID) bool {
	return id > 0 && id < check.ID(len(s.writes)) && s.writes[id] == over
}

// window is the keys that the clients of a chapter use.
type window struct {
	first, keys, of int
	stray           float64 // share of the operations on other keys
}

func (w window) key(c chance) int {
	if c.hit(w.stray) {
		return c.IntN(w.of)
	}
	return (w.first + c.IntN(w.keys)) % w.of
}

// RunLife runs a life to its end, or to the first violation.
func RunLife(l Life, o Options) Report {
	s := newLife(drawLife(l.Seed), o)
	for {
		r := s.nextChapter()
		if len(r.Violations) > 0 || r.Operations >= l.Operations || l.Over != nil && l.Over() {
			return r
		}
		s.turnPage()
	}
}

// newLife begins a life in the weather that stays.
func newLife(base Weather, o Options) *Sim {
	s := newSim(base, o)
	s.base, s.chapter = base, 1
	if s.populate() {
		s.operate()
	}
	return s
}

// nextChapter runs a chapter and judges it.
func (s *Sim) nextChapter() Report {
	if len(s.found) == 0 {
		s.weather, s.hot = s.base.chapter(s.chapter)
		s.happening(s.now, "", fmt.Sprintf("chapter %d: %v", s.chapter, s.weather))
		s.unleash()
		s.ordeal()
	}
	return s.report()
}

// drawLife draws what stays the same in all chapters: the cluster, and how its nodes are
// configured.
func drawLife(seed uint64) Weather {
	c := newChance(seed, "life")
	w := Weather{
		Seed:          seed,
		Nodes:         c.between(3, 6),
		Partitions:    pick(c, 8, 16, 32, 64),
		Replicas:      pick(c, 2, 3, 3, 3, 3, 3, 4, 5),
		HeadCache:     pick(c, 0, 2<<10, 1<<20),
		Clients:       c.between(8, 24),
		Keys:          lifeKeys,
		ValueSize:     pick(c, 16, 100, 1000),
		Skew:          pick(c, 0, time.Second, time.Minute),
		SweepEvery:    pick(c, 100*time.Millisecond, time.Second),
		Grace:         pick(c, 300*time.Millisecond, 2300*time.Millisecond),
		Fallbacks:     true,
		MoveJobs:      pick(c, 1, 4),
		PageBytes:     pick(c, 300, 4<<10, 256<<10),
		Topology:      true,
		Operators:     2,
		ChangeEvery:   time.Second,
		SnapshotEvery: pick(c, 8, 64, 256),
		Think:         20 * time.Millisecond,
		Timeout:       time.Second,
		Delay:         100 * time.Microsecond,
		Sync:          time.Millisecond,
	}
	w.Spares = min(3, mostNodes-w.Nodes)
	w.drawQuorums(c)
	if seed >= busyFrom {
		w.Bare = newChance(seed, "busy").hit(0.5)
	}
	if c.hit(0.5) {
		w.RotEvery = time.Second
	}
	if w.Reaps = c.hit(0.7); w.Reaps {
		w.ReapItems = pick(c, 1, 10, 1000)
	}
	if c.hit(0.7) {
		w.MendEvery = pick(c, 3*time.Second, 8*time.Second)
		w.Settle = pick(c, time.Millisecond, 50*time.Millisecond)
		w.MendBytes = pick(c, 300, 64<<10)
	}
	return w
}

// chapter draws the weather of a chapter and the keys that its clients use: all of any
// seed's weather that a cluster in service can meet.
func (w *Weather) chapter(number int) (Weather, window) {
	c := newChance(w.Seed, "chapter "+strconv.Itoa(number))
	x := drawWeather(c.Uint64())
	for range 2 { // mostly one in which members change
		if !x.Topology {
			x = drawWeather(c.Uint64())
		}
	}
	hot := window{first: c.IntN(w.Keys), keys: min(x.Keys, w.Keys), of: w.Keys, stray: elsewhere}
	if !x.Topology {
		x.Operators, x.ChangeEvery = 0, w.ChangeEvery
	}
	x.Operators = min(x.Operators, w.Operators)
	if !x.Fallbacks {
		x.Strict = 1
	}
	if !w.Reaps {
		x.Late = 0
	}
	switch {
	case w.RotEvery == 0:
		x.RotEvery = 0
	case x.RotEvery == 0:
		x.RotEvery = time.Hour // not in this chapter
	}
	if x.Topology {
		x.ChangeEvery = min(x.ChangeEvery, 1500*time.Millisecond)
	}
	if c.hit(0.25) {
		x.drawDisks(c)
	} else if !x.Calm && c.hit(0.5) {
		x.JumpEvery, x.FreezeEvery, x.CleanEvery = c.about(3*time.Second), c.about(5*time.Second), c.about(5*time.Second)
		x.FreezeFor, x.DownFor = max(x.FreezeFor, time.Second), max(x.DownFor, time.Second)
	}
	x.Unread = x.Unread && w.MendEvery > 0
	x.Think = time.Duration(w.Clients) * pick(c, 500*time.Microsecond, time.Millisecond, 2*time.Millisecond)

	x.Seed, x.Nodes, x.Partitions, x.Replicas, x.HeadCache = w.Seed, w.Nodes, w.Partitions, w.Replicas, w.HeadCache
	x.Clients, x.Keys, x.ValueSize, x.Bare, x.Skew = w.Clients, w.Keys, w.ValueSize, w.Bare, w.Skew
	x.SweepEvery, x.Grace, x.Fallbacks, x.MoveJobs, x.PageBytes = w.SweepEvery, w.Grace, true, w.MoveJobs, w.PageBytes
	x.Topology, x.Spares, x.SnapshotEvery, x.Reaps, x.ReapItems = true, w.Spares, w.SnapshotEvery, w.Reaps, w.ReapItems
	x.MendEvery, x.Settle, x.MendBytes = w.MendEvery, w.Settle, w.MendBytes
	x.Latest, x.Data = w.Latest, w.Data // never: whose clock is off is not certain where members change, and the ledgers of data types are of one chapter
	x.drawQuorums(c)
	return x, hot
}

// drawDisks makes a chapter one in which disks are lost and older ones come back, and little else
// happens: both wait for all to be well otherwise.
func (w *Weather) drawDisks(c chance) {
	w.clear()
	w.Calm, w.Plain, w.Late, w.Overload, w.FullEvery = false, 0.8, 0, 0, 0
	w.Operators, w.Timeout, w.Jitter = max(w.Operators, 1), 300*time.Millisecond, min(w.Jitter, 5*time.Millisecond)
	w.RewindEvery, w.WipeEvery, w.ForgetEvery = 500*time.Millisecond, c.about(4*time.Second), c.about(4*time.Second)
	w.JumpEvery = c.about(3 * time.Second)
	if c.hit(0.5) {
		w.WipeEvery = 0
	}
	w.Safety += 6 * time.Second
}

// landed waits in a life until no frame of the faults is on its way any more: what it brings is
// to be judged with its chapter.
func (s *Sim) landed() {
	if s.chapter > 0 {
		s.runFor(max(straggleMax, lateMax) + time.Second)
	}
}

// turnPage begins the next chapter, when all is at rest and was judged.
func (s *Sim) turnPage() {
	next := s.history.Next(s.now)
	s.judged += len(s.history.Ops) - len(next.Ops)
	for id := range s.writes[1:] {
		s.writes[id+1] = over
	}
	for i := range next.Ops {
		s.writes[next.Ops[i].Write] = i
	}
	s.history, s.reading = next, nil
	s.inv.turnPage(s)
	s.chapter++
	s.since = s.done
	s.healed, s.live, s.paused, s.stopped, s.net.calm = false, false, false, false, false
	s.passed += night
	for _, n := range s.nodes {
		n.skew = 0
		n.turnClock(s.passed + s.chaos.upTo(2*s.weather.Skew+1) - s.weather.Skew)
	}
	for _, c := range s.clients {
		c.turnPage()
		c.think()
	}
}

// turnPage forgets which writes its contexts have seen that no check asks for any more.
func (c *client) turnPage() {
	for i := range c.s.weather.Keys {
		for j := range c.known[keyAt(i)] {
			k := &c.known[keyAt(i)][j]
			k.seen = slices.DeleteFunc(k.seen, func(id check.ID) bool { return !c.s.known(id) })
		}
	}
}

// turnPage forgets what no check needs any more: the versions that were replaced, what
// was acknowledged of them, and all but the sums of topologies that nobody goes by. What is
// there now is with all its primaries, and from now on so many must have it.
func (v *invariants) turnPage(s *Sim) {
	held := make(map[kv.Key]*lineage)
	acks := make(map[kv.Key][]ack)
	for i := range s.weather.Keys {
		k := keyAt(i)
		l := v.minted[k]
		if l == nil {
			continue
		}
		now, clocks := newLineage(), v.clocks(s, s.primaries(k), k)
		for _, m := range l.mints {
			if !s.known(m.id) {
				continue
			}
			m.by = nil
			now.add(m)
			acks[k] = append(acks[k], ack{dot: m.dot, have: v.covering(clocks, k, m.dot), start: s.now})
		}
		held[k] = now
	}
	v.minted, v.acks = held, acks
	v.read = make(map[check.ID][]check.ID)
	v.marks = make(map[uint64][]promise)
	for _, epoch := range slices.Sorted(maps.Keys(v.states)) {
		if epoch+keptPages >= s.newest.Epoch() || slices.ContainsFunc(s.nodes, func(n *node) bool { return n.state != nil && n.state.Epoch() == epoch }) {
			continue
		}
		v.sums[epoch] = sumOf(v.encode(v.states[epoch]))
		delete(v.states, epoch)
	}
}

// sumOf tells encodings of topologies apart.
func sumOf(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

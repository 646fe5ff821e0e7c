package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// The times within which a healed cluster must be well again.
const (
	settle      = time.Second      // a silence from before the healing has ended, or was noticed
	upWithin    = 90 * time.Second // all nodes hold all nodes to be up, also those that came and went too often
	restWithin  = 3 * time.Minute  // all changes of the topology are over, and all data is where it should be
	restful     = 3 * time.Second  // clients go on while the cluster comes to rest
	clocksKnown = 5 * time.Second  // whose clock is off is known, though some were set before
	livePhase   = 2 * time.Second  // every operation must succeed
	doneWithin  = 10 * time.Second // every request that was begun is over
	mendWithin  = time.Minute      // the replicas are equal, though nobody reads them
	readWithout = 3 * time.Second  // every key is read from all replicas
)

// Report is what came of a run.
type Report struct {
	Weather    Weather
	Violations []check.Violation
	Hash       uint64 // of the whole trace
	Events     uint64
	Operations int
	Simulated  time.Duration
	Counts     map[string]int // how often what happened
	Chapters   int            // of a life
	Passed     time.Duration  // by the wall clocks, between its chapters
}

// Run runs the weather to its end, or to the first broken invariant.
func Run(w Weather, o Options) Report {
	s := newSim(w, o)
	s.phases()
	return s.report()
}

// report is what has come of the run so far.
func (s *Sim) report() Report {
	found := s.found
	if len(found) == 0 {
		found = check.All(&s.history)
	}
	return Report{
		Weather:    s.weather,
		Violations: found,
		Hash:       s.hash,
		Events:     s.done,
		Operations: s.judged + len(s.history.Ops) + s.data.begun,
		Simulated:  s.now,
		Counts:     s.counts,
		Chapters:   s.chapter,
		Passed:     s.passed,
	}
}

// phases runs the safety phase, the healing, the liveness phase, and the end.
func (s *Sim) phases() {
	if s.populate() {
		s.unleash()
		s.operate()
		s.ordeal()
	}
}

// populate waits until the cluster is up, and lets clients begin.
func (s *Sim) populate() bool {
	if s.runUntil(upWithin, s.allUp); len(s.found) > 0 {
		return false
	}
	if !s.setGrace() {
		return false
	}
	for i := range s.weather.Clients {
		c := newClient(s, i)
		s.clients = append(s.clients, c)
		c.think()
	}
	s.data.begin(s)
	return true
}

// ordeal runs everything from the first fault to the last comparison.
func (s *Sim) ordeal() {
	s.runFor(s.weather.Safety)
	s.heal()
	s.runFor(settle)
	chapter := s.chapter
	s.after(restful, func() { // what a slow replica has others store for it is never at rest
		if s.chapter == chapter {
			s.paused = s.weather.Fallbacks && !s.live
		}
	})
	if !s.must(restWithin, "the topology and the data are at rest", s.atRest()) {
		return
	}
	s.paused = false
	if !s.must(upWithin, "all nodes hold all nodes to be up", s.allUp) {
		return
	}
	if s.weather.Latest {
		s.runFor(clocksKnown)
	}
	s.live, s.alive = true, s.now
	s.happening(s.now, "", "every operation must succeed from now on")
	s.runFor(livePhase)
	s.stopped = true
	if !s.must(doneWithin, "every request is over", s.quiet) {
		return
	}
	s.landed()
	if !s.even() {
		return
	}
	if s.must(restWithin, "the data is at rest", s.atRest()) && s.allAgree() && s.readEverything() && s.takeCensus() && s.queryAll() && s.reapAll() {
		s.balanced()
		s.checkTrees()
		s.checkRoots()
		s.finish()
	}
}

// even makes the replicas equal: all keys are read, twice, or anti-entropy finds what
// differs. What a read repairs is refused if the mark of a reaping comes in between; then
// they are read again.
func (s *Sim) even() bool {
	if s.weather.Unread {
		return s.mended()
	}
	for i := range 12 {
		if !s.readEverything() {
			return false
		}
		if i > 0 && (!s.weather.Reaps || s.differing() == nil) {
			break
		}
	}
	return true
}

// restCheck is how often it is looked whether all is at rest, which is much work.
const restCheck = 200 * time.Millisecond

// atRest tells whether no change goes on, no data is where it should not be, and
// nobody lacks any. In a run without hand-off that is always so.
func (s *Sim) atRest() func() bool {
	next := time.Duration(0)
	return func() bool {
		if !s.weather.Fallbacks {
			return true
		}
		if s.now < next {
			return false
		}
		next = s.now + restCheck
		return s.unrest() == ""
	}
}

// unrest names something that still goes on, or is out of place; empty: there
// is nothing.
func (s *Sim) unrest() string {
	for i, o := range s.operators {
		if o.busy {
			return fmt.Sprintf("operator %d waits", i)
		}
	}
	if s.dead != nil {
		return s.dead.name + " is dead and still a member"
	}
	if what := s.changing(); what != "" {
		return what
	}
	for _, n := range s.members() {
		if !n.running {
			return n.name + " does not run"
		}
		if what := n.mover.working(); what != "" {
			return n.name + " is at work: " + what
		}
	}
	if s.anyLacks() {
		return "a vnode lacks data"
	}
	if what := s.rotten(); what != "" {
		return what
	}
	return s.stray()
}

// balanced checks that every member owns as much as it should, within one
// partition. Where weights or zones stand in the way of that, the topology says so.
func (s *Sim) balanced() {
	r, members := s.newest.Ring(), s.members()
	if !s.weather.Topology || len(s.newest.Warnings()) > 0 {
		return
	}
	for _, m := range s.newest.Members() {
		if m.Weight != 0 && m.Status != membership.StatusLeft {
			return
		}
	}
	for _, n := range members {
		if off := r.Owned(n.name)*len(members) - r.Size(); off > len(members) || -off > len(members) {
			s.fail("balance", noKey, "%s owns %d of %d partitions, among %d members", n.name, r.Owned(n.name), r.Size(), len(members))
			return
		}
	}
}

// must runs until the condition holds; it fails if that takes too long.
func (s *Sim) must(within time.Duration, what string, cond func() bool) bool {
	if s.runUntil(s.now+within, cond) {
		return true
	}
	if len(s.found) == 0 {
		work := ""
		for _, n := range s.members() {
			if w := n.mover.working(); w != "" {
				work += "; " + n.name + " is at work: " + w
			}
		}
		s.fail("liveness", noKey, "%v after the healing it does not hold that %s; %s; %s%s", within, what, s.unfinished(), s.unrest(), work)
	}
	return false
}

// allUp reports whether every node runs as it should, and is held to be up, and
// connected to, by every other.
func (s *Sim) allUp() bool {
	members := s.members()
	for _, n := range members {
		if !n.running || n.closing || s.now < n.frozen || s.now < n.disk.stalled {
			return false
		}
		for _, peer := range members {
			if peer != n && (!n.up(peer.name) || !s.net.current(n, peer)) {
				return false
			}
		}
	}
	return true
}

// quiet reports whether nothing is in progress anywhere.
func (s *Sim) quiet() bool { return s.unfinished() == "" }

// unfinished names something that is in progress; empty: there is nothing.
func (s *Sim) unfinished() string {
	for _, c := range s.clients {
		if c.busy {
			return fmt.Sprintf("client %d waits for %s", c.i, c.at.name)
		}
	}
	if what := s.data.unfinished(); what != "" {
		return what
	}
	for _, n := range s.nodes {
		for _, r := range n.requests {
			return fmt.Sprintf("a %T of %v runs on %s, answered %t", r.m, r.key, n.name, r.answered)
		}
		if !n.idle() {
			return n.name + " has writes that are not durable"
		}
	}
	return ""
}

// readEverything reads every key from all replicas, and waits until that has
// repaired what differed.
func (s *Sim) readEverything() bool {
	missing := len(s.keys)
	s.readAll(func(k kv.Key, err error) {
		missing--
		if err != nil {
			s.fail("liveness", k, "all is healed, but a read from all replicas fails: %v", err)
		}
	})
	if !s.must(readWithout, "every key can be read from all replicas", func() bool { return missing == 0 && s.quiet() }) {
		return false
	}
	s.runFor(2 * (s.weather.Delay + s.weather.Jitter)) // for the repairs, which nobody answers
	return s.must(doneWithin, "every write is durable", s.quiet)
}

// finish compares the replicas, and notes what they hold.
func (s *Sim) finish() {
	s.history.Final = make(map[string][]check.ID)
	for _, k := range s.keys {
		copies := s.copies(k)
		if found := check.Converged(copies); len(found) > 0 {
			s.found = append(s.found, found...)
			return
		}
		s.number(uint64(len(copies[0].Bytes)))
		s.bytes(copies[0].Bytes)
		obj, err := decode(copies[0].Bytes)
		if err != nil {
			s.fail("encoding", k, "at the end: %v", err)
			return
		}
		if isData(k) {
			s.data.settle(s, k, obj)
			continue
		}
		s.history.Final[k.String()] = idsOf(obj)
	}
	s.settleDeletes()
	s.settleLatest()
	for i := range s.history.Ops { // by the fastest clock that there was
		if op := &s.history.Ops[i]; op.Expires != 0 {
			op.Expires = max(1, op.Expires-s.fastest)
		}
	}
}

// copies are what the primary replicas of a key hold.
func (s *Sim) copies(k kv.Key) []check.Copy {
	var copies []check.Copy
	for _, r := range s.primaries(k) {
		copies = append(copies, check.Copy{
			Key:    k.String(),
			Holder: fmt.Sprintf("%s/%d", r.Node, r.Partition),
			Bytes:  s.raw(s.byName[r.Node], r, k),
		})
	}
	return copies
}

// raw is what a replica holds of a key, as stored; nil: nothing.
func (s *Sim) raw(n *node, r ring.Replica, k kv.Key) []byte {
	b, err := n.disk.mem.Get(vnode.DataKey(r.Partition, s.home(k), k))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		s.fail("storage", k, "%s: %v", n.name, err)
	}
	return b
}

// stored is raw, decoded.
func (s *Sim) stored(n *node, r ring.Replica, k kv.Key) object.Object {
	o, err := decode(s.raw(n, r, k))
	if err != nil && s.weather.RotEvery == 0 {
		s.fail("encoding", k, "%s: %v", n.name, err)
	}
	return o // one that has rotted is none
}

// decode reads an object as it is stored; nil is one that is not there.
func decode(b []byte) (object.Object, error) {
	if b == nil {
		return object.Object{}, nil
	}
	return object.Decode(b)
}

// decodeHead is decode without the values.
func decodeHead(b []byte) (object.Object, error) {
	if b == nil {
		return object.Object{}, nil
	}
	return object.DecodeHead(b)
}

// settleLatest adds to the writes of the bucket in which the last one wins what they
// have replaced, and their stamps; and to conditional ones what they have read themselves.
func (s *Sim) settleLatest() {
	if s.weather.Latest {
		s.history.Latest = latestBucket + "/"
	}
	s.history.Exclusive = s.weather.Calm && !s.weather.Topology
	for i := range s.history.Ops {
		op := &s.history.Ops[i]
		stamp, ok := s.inv.stamps[op.Write]
		if op.Guarded && !ok {
			op.Seen = slices.Concat(op.Seen, s.inv.read[op.Write])
		}
		if op.Write == 0 || !ok {
			continue
		}
		op.Stamp = uint64(stamp)
		op.Seen = slices.Concat(op.Seen, s.inv.read[op.Write])
	}
}

// settleDeletes adds to the deletes without a context what they had seen: what
// their own read covered, and, where reads must be fresh, all that was
// acknowledged before they began.
func (s *Sim) settleDeletes() {
	for _, i := range s.reading {
		op := &s.history.Ops[i]
		op.Seen = s.inv.read[op.Write]
		if !op.Fresh || op.Outcome != check.Done {
			continue
		}
		for j := range s.history.Ops[:i] {
			w := &s.history.Ops[j]
			if w.Kind == check.Put && w.Fresh && w.Key == op.Key && w.Outcome == check.Done && w.End < op.Start {
				op.Seen = append(op.Seen, w.Write)
			}
		}
	}
}

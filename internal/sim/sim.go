// Package sim runs a whole cluster on one goroutine, from a seed.
//
// The machines that decide (coordinators, vnodes, hand-off, the topology log,
// failure detectors, the ring) are the shipping ones. What is simulated is what lies around them: time, the
// network, the disks, the clocks, and clients that keep to the protocol. Every
// message between nodes passes through the codec of the real transport. A write
// to a disk is visible at once and durable later, and a crash keeps a random
// part of what was not.
//
//	weather ──▶ nemesis ──▶ network, disks, clocks, nodes
//	                              │      ▲
//	clients ──▶ nodes ──▶ machines ──▶ messages
//	   │                    vnodes ──▶ batches
//	   ▼                              │
//	history ──▶ checkers ◀──── invariants, at every step
//
// In some runs the cluster is fixed, and only those who own a key hold it. In
// others nodes stand in for each other and hand over what they took, and in
// half of all there is a topology log, and operators let nodes join, leave,
// and replace each other, also the dead ones.
//
// A run has a safety phase, with the faults that its weather has, then
// everything heals, all changes end and all data comes to where it should be, and in
// the liveness phase every operation must succeed. At
// the end all keys are read from all replicas, twice, or, in some of the runs in which nodes
// compare their replicas, nobody reads them; the replicas must be byte for byte the same, and the checkers of package check judge the history.
//
// Nothing here depends on anything but the seed, so a run can be repeated; its
// trace hash says whether it was.
package sim

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/kv/kvtest"
)

// epoch is the wall clock's reading at the start of every run.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// heartbeatEvery is how often each node tells the others that it is there.
const heartbeatEvery = 500 * time.Millisecond

// maxEvents is more than any run needs: beyond it something feeds on itself.
const maxEvents = 3_000_000

// Options are how a run is watched. The zero value watches nothing.
type Options struct {
	Watch string    // the name of a key whose life is told
	Out   io.Writer // where to; needed with Watch

	types []kvtest.Type // bucket types that the cluster has from the beginning
}

// Sim is one run.
type Sim struct {
	loop
	trace
	weather   Weather
	first     *membership.State // of the cluster, at its beginning
	newest    *membership.State // the last one that any node has adopted
	layout    layout
	homes     map[kv.Key]ring.Partition // as far as they were asked for
	nodes     []*node                   // members and others
	byName    map[string]*node
	net       network
	inv       invariants
	clients   []*client
	operators []*operator
	history   check.History
	writes    []int // by id, the number of the operation; 0 is none
	reading   []int // the operations that are deletes without a context

	chaos   chance   // of the faults
	images  chance   // of what befalls those whose disks were put back
	healed  bool     // the faults are over
	live    bool     // every operation must succeed now
	paused  bool     // clients wait
	keys    []kv.Key // all of the run
	data    dataTypes
	wiped   time.Duration     // when data was lost last
	fastest time.Duration     // how far the fastest clock has ever been ahead
	shown   map[string]bool   // the plans that operators have looked at
	dead    *node             // has lost its disk, and is not removed yet
	rewound *node             // has an older disk, and was not told so yet
	alive   time.Duration     // since when every operation must succeed
	stopped bool              // clients begin nothing more
	found   []check.Violation // broken invariants; the first one ends the run
	counts  map[string]int    // how often what happened
	mends   int               // messages of anti-entropy that vnodes were given to store
	flights []*flight         // frames with versions that have not arrived

	// Of a life; see life.go.
	base    Weather       // what stays in all chapters
	chapter int           // which it is; 0: the run is no life
	judged  int           // operations of the chapters before
	since   uint64        // the events before this chapter
	passed  time.Duration // by the wall clocks, between chapters
	hot     window        // the keys that clients use
}

// newSim builds the cluster of the weather and starts its nodes.
func newSim(w Weather, o Options) *Sim {
	s := &Sim{
		trace:   trace{watch: o.Watch, out: o.Out},
		weather: w,
		byName:  make(map[string]*node),
		chaos:   newChance(w.Seed, "chaos"),
		images:  newChance(w.Seed, "put back"),
		counts:  make(map[string]int),
		shown:   make(map[string]bool),
		homes:   make(map[kv.Key]ring.Partition),
		wiped:   -1,
	}
	s.writes = []int{0}
	s.history.Stored = make(map[check.ID]bool)
	s.inv.init()
	members := make([]membership.Member, w.Nodes)
	for i := range members {
		members[i] = membership.Member{Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("n%d:1", i+1)}
	}
	state, err := membership.Bootstrap(members, w.Partitions, max(w.Replicas, ring.DefaultTargetN), w.Replicas)
	if err != nil {
		panic(fmt.Sprintf("sim: the weather of seed %d has no cluster: %v", w.Seed, err))
	}
	state = settled(state, w, o.types)
	s.first, s.hot = state, window{keys: w.Keys, of: w.Keys}
	for i := range w.Keys {
		s.keys = append(s.keys, keyAt(i))
	}
	if w.Data {
		s.keys = append(s.keys, keysOfData()...)
	}
	for _, k := range s.keys {
		s.inv.know(k)
	}
	s.inv.agreed(s, state)
	for i := range w.Nodes + w.Spares {
		n := newNode(s, i, fmt.Sprintf("n%d", i+1))
		s.nodes = append(s.nodes, n)
		s.byName[n.name] = n
	}
	s.net.init(s)
	for _, n := range s.nodes[:w.Nodes] {
		n.begin = state
		n.start()
	}
	return s
}

// settled is the first topology with the properties of the buckets: siblings stay in
// all of them, but for the second one in some weather.
func settled(s *membership.State, w Weather, types []kvtest.Type) *membership.State {
	cs := []membership.Command{membership.SetType{Name: membership.DefaultType, Do: membership.TypeUpdate, Props: kv.Properties{{Name: "allow_mult", Value: "true"}}}}
	for _, t := range types {
		if t.Name != membership.DefaultType {
			cs = append(cs, membership.SetType{Name: t.Name, Do: membership.TypeCreate, Props: t.Props}, membership.SetType{Name: t.Name, Do: membership.TypeActivate})
		}
	}
	if w.Data {
		cs = append(cs, typesOfData()...)
	}
	if w.Latest {
		cs = append(cs, membership.SetBucket{Bucket: kv.Bucket{Name: latestBucket}, Props: kv.Properties{{Name: "allow_mult", Value: "false"}}})
	}
	s, err := s.Furnished(cs...)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	return s
}

// latest reports whether the last write wins where the key is.
func (s *Sim) latest(k kv.Key) bool { return s.weather.Latest && k.Bucket == latestBucket }

// step makes the next event happen, and reports whether the run goes on.
func (s *Sim) step() bool {
	ev, ok := s.pop()
	if !ok {
		return false
	}
	s.number(uint64(ev.at))
	ev.run()
	s.checkSomeTree()
	if s.done-s.since >= maxEvents {
		s.fail("runaway", noKey, "%d events, and no end", s.done-s.since)
	}
	return len(s.found) == 0
}

// runUntil runs until the condition holds, and reports whether it did by the
// instant.
func (s *Sim) runUntil(limit time.Duration, cond func() bool) bool {
	for !cond() {
		if s.now > limit || !s.step() {
			return false
		}
	}
	return true
}

// runFor runs for a time.
func (s *Sim) runFor(d time.Duration) {
	end := s.now + d
	over := false
	s.at(end, func() { over = true })
	s.runUntil(end, func() bool { return over })
}

// fail records a broken invariant, which ends the run.
func (s *Sim) fail(checker string, k kv.Key, format string, args ...any) {
	v := check.Violation{Checker: checker, Text: fmt.Sprintf("at %v: ", s.now) + fmt.Sprintf(format, args...)}
	if k != (kv.Key{}) {
		v.Key = k.String()
	}
	s.found = append(s.found, v)
}

// count counts something that happened, for the report.
func (s *Sim) count(what string) { s.counts[what]++ }

// newID names the write that the next operation is going to be.
func (s *Sim) newID() check.ID {
	s.writes = append(s.writes, len(s.history.Ops))
	return check.ID(len(s.writes) - 1)
}

// known reports whether the write is one of a client of this run, and not of a chapter that
// is over; the callers of a Cluster name their writes as they like.
func (s *Sim) known(id check.ID) bool {
	return id > 0 && id < check.ID(len(s.writes)) && s.writes[id] != over
}

// seenBy is what a write had seen: what its context covers, or, of a delete without
// one, what it had read itself.
func (s *Sim) seenBy(id check.ID) []check.ID {
	if !s.known(id) {
		return nil
	}
	if op := &s.history.Ops[s.writes[id]]; len(op.Seen) > 0 {
		return slices.Concat(op.Seen, s.inv.read[id])
	}
	return s.inv.read[id]
}

// home is the first partition of a key's list, which no change of owners moves.
func (s *Sim) home(k kv.Key) ring.Partition {
	home, ok := s.homes[k]
	if !ok {
		home = s.first.Ring().Home(k)
		s.homes[k] = home
	}
	return home
}

// layout is where the keys of each home are by a topology, as far as it was asked.
type layout struct {
	of        *membership.State
	primaries [][]ring.Replica
	places    [][]ring.Place
}

// lay is the layout by the newest topology.
func (s *Sim) lay() *layout {
	if l := &s.layout; l.of != s.newest {
		size := s.newest.Ring().Size()
		*l = layout{of: s.newest, primaries: make([][]ring.Replica, size), places: make([][]ring.Place, size)}
	}
	return &s.layout
}

// primaries are the nodes that hold the key, by the newest topology. Nobody may change the list.
func (s *Sim) primaries(k kv.Key) []ring.Replica {
	l, home := s.lay(), s.home(k)
	if l.primaries[home] == nil {
		l.primaries[home] = s.newest.Ring().Primaries(home, s.weather.Replicas)
	}
	return l.primaries[home]
}

// places are the nodes that should hold the keys of a home. Nobody may change the list.
func (s *Sim) places(home ring.Partition) []ring.Place {
	l := s.lay()
	if l.places[home] == nil {
		l.places[home] = ring.Places(s.newest.Ring(), s.newest.Next(), home, s.weather.Replicas, s.weather.Replicas)
	}
	return l.places[home]
}

// idOf is the id of a write, which its client has put in front of its request id.
func idOf(r kv.RequestID) check.ID {
	var id check.ID
	for _, b := range r[:8] {
		id = id<<8 | check.ID(b)
	}
	return id
}

// idsOf are the writes whose versions stand in the object.
func idsOf(o object.Object) []check.ID {
	ids := make([]check.ID, 0, len(o.Siblings))
	for _, s := range o.Siblings {
		ids = append(ids, idOf(s.Request))
	}
	slices.Sort(ids)
	return ids
}

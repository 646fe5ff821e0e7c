package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// The failures that stores of this family have had, by their numbers. Each is a course
// of events on a simulated cluster, with the invariants and the checkers of every run
// and an expectation of its own.

// story is a cluster that a test leads by hand. What it wants and does not get is a
// violation, as a broken invariant is.
type story struct {
	*Sim
	texts map[check.ID]string // what was written
}

// astray ends a story that has gone wrong.
type astray struct{}

// tell leads a cluster in this weather through a story, and returns what was wrong.
func tell(w Weather, lead func(*story)) []check.Violation {
	s := &story{newSim(w, Options{}), make(map[check.ID]string)}
	s.stopped = true // there are no clients but the story's
	s.course(func() {
		s.await(upWithin, "all nodes hold all nodes to be up", s.allUp)
		if !s.setGrace() {
			s.want(false, "a setting cannot be made")
		}
		lead(s)
		s.conclude()
	})
	if len(s.found) > 0 {
		return s.found
	}
	return check.All(&s.history)
}

// course runs what may end early.
func (s *story) course(run func()) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(astray); !ok {
				panic(p)
			}
		}
	}()
	run()
}

// conclude lets everything heal, come to rest and be read, and looks at what is left.
func (s *story) conclude() {
	s.heal()
	s.await(upWithin, "all nodes hold all nodes to be up", s.allUp)
	s.await(restWithin, "the data is at rest", s.atRest())
	for range 2 { // the second time what the first has repaired
		s.want(s.readEverything(), "not all is read")
	}
	s.await(restWithin, "the data is at rest", s.atRest())
	s.checkTrees()
	s.checkRoots()
	s.finish()
}

// want ends the story unless something holds.
func (s *story) want(holds bool, format string, args ...any) {
	if !holds && len(s.found) == 0 {
		s.fail("scenario", noKey, format, args...)
	}
	if len(s.found) > 0 {
		panic(astray{})
	}
}

// await runs until something holds.
func (s *story) await(within time.Duration, what string, holds func() bool) {
	s.want(s.runUntil(s.now+within, holds), "it does not come within %v that %s", within, what)
}

// pass runs for a time.
func (s *story) pass(d time.Duration) {
	s.runFor(d)
	s.want(true, "")
}

// sight is what a read shows.
type sight struct {
	knowledge
	values []string // in order, without tombstones
}

// beginGet begins a read at a node; then gets what comes of it.
func (s *story) beginGet(n *node, k kv.Key, o kv.ReadOptions, then func(sight, error)) {
	o.Timeout = s.weather.Timeout
	i := s.record(check.Op{Kind: check.Get, Key: k.String(), Node: n.name})
	g := coordinator.NewGet(n.view(), coordinator.GetRequest{Key: k, Options: o})
	n.run(g, k, o.Timeout, func(*request) {
		obj, err := g.Result()
		var saw sight
		for _, v := range obj.Values {
			if !v.Deleted {
				id := check.ID(binary.BigEndian.Uint64([]byte(v.Meta[0].Value)))
				saw.seen, saw.values = append(saw.seen, id), append(saw.values, string(v.Data))
			}
		}
		slices.Sort(saw.values)
		saw.context = obj.Context
		s.end(i, err, false).Read = saw.seen
		then(saw, err)
	}, func() {
		s.end(i, errLost, true)
		then(sight{}, errLost)
	})
}

// beginWrite begins a put, or without a text a delete, by one who knows something of the key.
func (s *story) beginWrite(n *node, k kv.Key, text string, with knowledge, o kv.WriteOptions, then func(knowledge, error)) {
	kind := check.Put
	if text == "" {
		kind = check.Delete
	}
	id := s.newID()
	s.texts[id] = text
	o.Timeout, o.Context = s.weather.Timeout, with.context
	binary.BigEndian.PutUint64(o.RequestID[:8], uint64(id))
	o.RequestID[15] = 1
	i := s.record(check.Op{Kind: kind, Key: k.String(), Node: n.name, Write: id, Seen: with.seen})
	req := coordinator.PutRequest{Key: k, Options: o}
	var m machine[kv.Receipt]
	if kind == check.Delete {
		m = coordinator.NewDelete(n.view(), req)
	} else {
		name := binary.BigEndian.AppendUint64(nil, uint64(id))
		req.Value = kv.Value{Data: []byte(text), Meta: []kv.Pair{{Name: "id", Value: string(name)}}}
		m = coordinator.NewPut(n.view(), req)
	}
	n.run(m, k, o.Timeout, func(r *request) {
		receipt, err := m.Result()
		if err == nil && !r.forwarded {
			s.confirmed(r, k, o)
		}
		s.end(i, err, false)
		then(knowledge{receipt.Context, append(slices.Clone(with.seen), id)}, err)
	}, func() {
		s.end(i, errLost, true)
		then(knowledge{}, errLost)
	})
}

// record notes an operation that begins.
func (s *story) record(op check.Op) int {
	op.Start, op.Due = s.now, s.now+s.weather.Timeout+answerSlack
	s.history.Ops = append(s.history.Ops, op)
	return len(s.history.Ops) - 1
}

// end notes how it has ended.
func (s *story) end(i int, err error, gone bool) *check.Op {
	op := &s.history.Ops[i]
	if op.Gone = gone; gone {
		return op
	}
	op.End, op.Outcome = s.now, outcome(op.Kind, err)
	op.Due = max(op.Due, s.byName[op.Node].thawed+answerSlack)
	if err != nil {
		op.Error = err.Error()
	}
	return op
}

// get reads a key at a node, which must answer.
func (s *story) get(n *node, k kv.Key, o kv.ReadOptions) (saw sight) {
	var got error
	done := false
	s.beginGet(n, k, o, func(x sight, err error) { saw, got, done = x, err, true })
	s.await(s.weather.Timeout+time.Second, "a read is answered", func() bool { return done })
	s.want(got == nil || errors.Is(got, kv.ErrNotFound), "a read of %v at %s: %v", k, n.name, got)
	return saw
}

// put writes a key at a node, which must succeed.
func (s *story) put(n *node, k kv.Key, text string, with knowledge, o kv.WriteOptions) (knows knowledge) {
	var got error
	done := false
	s.beginWrite(n, k, text, with, o, func(x knowledge, err error) { knows, got, done = x, err, true })
	s.await(s.weather.Timeout+time.Second, "a write is answered", func() bool { return done })
	s.want(got == nil, "a write of %v at %s: %v", k, n.name, got)
	return knows
}

// remove deletes a key at a node, which must succeed.
func (s *story) remove(n *node, k kv.Key, with knowledge, o kv.WriteOptions) {
	s.put(n, k, "", with, o)
}

// shows wants a key to have these values, in order, by a read from all replicas at each node.
func (s *story) shows(k kv.Key, want ...string) {
	for _, n := range s.members() {
		saw := s.get(n, k, kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off})
		s.want(slices.Equal(saw.values, want), "%v shows %v at %s; want %v", k, saw.values, n.name, want)
	}
}

// cast are the nodes that hold a key, and the others.
func (s *story) cast(k kv.Key) (primaries, others []*node) {
	primaries = make([]*node, 0, s.weather.Replicas)
	for _, r := range s.primaries(k) {
		primaries = append(primaries, s.byName[r.Node])
	}
	for _, n := range s.nodes {
		if !slices.Contains(primaries, n) {
			others = append(others, n)
		}
	}
	return primaries, others
}

// part cuts nodes off from all others, and waits until that is noticed on both sides.
func (s *story) part(side ...*node) {
	for _, a := range side {
		for _, b := range s.nodes {
			if !slices.Contains(side, b) {
				s.net.cutOff(a, b, time.Hour)
				s.net.cutOff(b, a, time.Hour)
			}
		}
	}
	s.await(time.Minute, "a cut is noticed", func() bool {
		for _, a := range side {
			for _, b := range s.nodes {
				if !slices.Contains(side, b) && (a.running && a.up(b.name) || b.running && b.up(a.name)) {
					return false
				}
			}
		}
		return true
	})
}

// join ends all cuts, and waits until all see each other that run.
func (s *story) join() {
	for i := range s.net.links {
		s.net.links[i].cut = 0
	}
	s.await(upWithin, "all nodes that run hold each other to be up", s.runningUp)
}

func (s *story) runningUp() bool {
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			if a != b && a.running && b.running && (!a.up(b.name) || !s.net.current(a, b)) {
				return false
			}
		}
	}
	return true
}

// kill ends nodes, which lose what is not durable and stay away until they are started, and waits
// until the others have noticed.
func (s *story) kill(nodes ...*node) {
	for _, n := range nodes {
		n.crash("killed", time.Hour)
	}
	s.await(time.Minute, "a death is noticed", func() bool {
		for _, a := range s.nodes {
			for _, b := range nodes {
				if a.running && a != b && a.up(b.name) {
					return false
				}
			}
		}
		return true
	})
}

// revive starts nodes that were killed.
func (s *story) revive(nodes ...*node) {
	for _, n := range nodes {
		n.start()
	}
	s.await(upWithin, "all nodes that run hold each other to be up", s.runningUp)
}

// turnClocks sets all wall clocks forward.
func (s *story) turnClocks(d time.Duration) {
	for _, n := range s.nodes {
		n.turnClock(d)
	}
}

// holds reports whether a node holds anything of a key, in whatever vnode.
func (s *story) holds(n *node, k kv.Key) bool {
	for p := range s.first.Ring().Size() {
		if s.raw(n, ring.Replica{Partition: partition(p)}, k) != nil {
			return true
		}
	}
	return false
}

// steady is a cluster of five nodes on which nothing happens by itself.
func steady(seed uint64) Weather {
	return Weather{
		Seed: seed, Nodes: 5, Partitions: 16, Replicas: 3, R: 2, W: 2, HeadCache: 2 << 10, Keys: 1,
		Timeout: time.Second, Delay: 500 * time.Microsecond, Jitter: 2 * time.Millisecond, Sync: time.Millisecond,
		Fallbacks: true, MoveJobs: 4, PageBytes: 4 << 10, Grace: time.Minute,
	}
}

// burying is a steady cluster on which tombstones are reaped when they are a second old.
func burying(seed uint64) Weather {
	w := steady(seed)
	w.Topology, w.SnapshotEvery = true, 64
	w.Reaps, w.ReapItems = true, 10
	return w
}

// everyReplica is how a write is stored by all primaries.
var everyReplica = kv.WriteOptions{W: kv.All, SloppyQuorum: kv.Off}

// scenario is a story, the weather of a seed for it, and the name of the failure.
type scenario struct {
	name    string
	weather func(seed uint64) Weather
	lead    func(*story)
}

// scenarioSeeds is how often each is told.
const scenarioSeeds = 6

// hold tells a scenario in the weather of some seeds.
func (x scenario) hold(t *testing.T) {
	t.Helper()
	for seed := range uint64(scenarioSeeds) {
		w := x.weather(seed)
		if found := tell(w, x.lead); len(found) > 0 {
			t.Fatalf("%s, in the weather %v: %v", x.name, w, found)
		}
	}
}

func TestScenario01SiblingsOnBothSides(t *testing.T) { bothSides.hold(t) }
func TestScenario02Doomstone(t *testing.T)           { doomstone.hold(t) }
func TestScenario18TombstoneReapRace(t *testing.T)   { reapRace.hold(t) }

func TestScenario03AmnesiacCoordinator(t *testing.T) {
	for _, x := range amnesia() {
		x.hold(t)
	}
}

func TestScenario05CounterAfterACrash(t *testing.T) { rollback.hold(t) }

func TestScenario19RestartInsideTheWindow(t *testing.T) {
	for _, x := range restarts() {
		x.hold(t)
	}
}

func TestScenario27SessionsByPrimaries(t *testing.T)    { sessions.hold(t) }
func TestScenario33NoRepairsUnderPressure(t *testing.T) { storms.hold(t) }

// bothSides: on both sides of a partition clients add elements to sets, which they read, change
// and write back. No element that was acknowledged is lost, and one write that has seen
// all siblings leaves one.
var bothSides = scenario{"scenario 1", func(seed uint64) Weather {
	w := steady(seed)
	w.Keys = 3
	return w
}, func(s *story) {
	for i := range s.weather.Keys {
		s.put(s.nodes[0], keyAt(i), "first", knowledge{}, everyReplica)
	}
	acked := make(map[kv.Key][]string)
	var adders []*adder
	for i := range 6 {
		sides := [][]*node{s.nodes[:2], s.nodes[2:]}
		a := &adder{story: s, rnd: newChance(s.weather.Seed, fmt.Sprint("adder ", i)), name: fmt.Sprint("a", i), at: sides[i%2], known: make(map[kv.Key]sight), acked: acked}
		adders = append(adders, a)
		a.act()
	}
	ended := func() bool { return !slices.ContainsFunc(adders, func(a *adder) bool { return a.did < addings }) }
	s.pass(30 * time.Millisecond)
	s.part(s.nodes[:2]...)
	s.await(time.Minute, "all is added", ended)
	for i, a := range adders {
		s.want(a.parted > 0, "adder %d has added nothing while the sides were apart", i)
	}
	s.join()
	s.await(restWithin, "the data is at rest", s.atRest())
	for i := range s.weather.Keys {
		k := keyAt(i)
		saw := s.get(s.nodes[i], k, kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off})
		all := union(saw.values)
		for _, element := range acked[k] {
			s.want(slices.Contains(all, element), "%v was acknowledged, and %v has only %v", element, k, all)
		}
		s.put(s.nodes[i], k, strings.Join(all, " "), saw.knowledge, everyReplica)
		s.shows(k, strings.Join(all, " "))
	}
}}

// addings is how many elements an adder adds.
const addings = 20

// adder adds elements to sets, one after the other.
type adder struct {
	*story
	rnd    chance
	name   string
	at     []*node
	known  map[kv.Key]sight    // what it has read last
	acked  map[kv.Key][]string // of all adders
	did    int
	parted int // acknowledged while the other side was away
}

// union are the elements of all sets.
func union(sets []string) []string {
	all := strings.Fields(strings.Join(sets, " "))
	slices.Sort(all)
	return slices.Compact(all)
}

// act reads a set, as far as it can, and writes it back with an element more.
func (a *adder) act() {
	if a.did == addings {
		return
	}
	k, n := keyAt(a.rnd.IntN(a.weather.Keys)), a.at[a.rnd.IntN(len(a.at))]
	a.beginGet(n, k, kv.ReadOptions{}, func(saw sight, err error) {
		if err == nil {
			a.known[k] = saw
		}
		element, known := fmt.Sprint(a.name, ".", a.did), a.known[k]
		set := union(append(slices.Clone(known.values), element))
		a.beginWrite(n, k, strings.Join(set, " "), known.knowledge, kv.WriteOptions{}, func(_ knowledge, err error) {
			a.did++
			if err == nil {
				a.acked[k] = append(a.acked[k], element)
			}
			if err == nil && a.net.link(a.nodes[0], a.nodes[4]).cut > 0 {
				a.parted++
			}
			a.after(a.rnd.about(200*time.Millisecond), a.act)
		})
	})
}

// doomstone: a delete comes to two primaries and to one who stands in for the third, and who then
// goes away with it. As long as he is away nothing is reaped; the key is written anew; and the
// tombstone that he brings back does not take the new value with it.
var doomstone = scenario{"scenario 2", burying, func(s *story) {
	k := keyAt(0)
	primaries, others := s.cast(k)
	at, away := primaries[0], primaries[2]
	knows := s.put(at, k, "old", knowledge{}, everyReplica)
	s.kill(away)
	s.remove(at, k, knows, kv.WriteOptions{W: kv.All})
	i := slices.IndexFunc(others, func(n *node) bool { return s.holds(n, k) })
	s.want(i >= 0, "nobody stands in for %s", away.name)
	standin := others[i]
	s.kill(standin)
	s.revive(away)
	s.nothingLeft(at, k)
	s.turnClocks(time.Hour)
	s.pass(20 * time.Second)
	for _, n := range primaries {
		s.want(s.holds(n, k), "%s has reaped its tombstone while %s has one, and is away", n.name, standin.name)
	}
	s.put(at, k, "new", knowledge{}, everyReplica)
	s.revive(standin)
	s.await(restWithin, "the data is at rest", s.atRest())
	s.want(!s.holds(standin, k), "%s keeps what it held for %s", standin.name, away.name)
	s.shows(k, "new")
}}

// nothingLeft wants a read from all replicas at one node to find nothing, which repairs them all.
func (s *story) nothingLeft(n *node, k kv.Key) {
	saw := s.get(n, k, kv.ReadOptions{R: kv.All, SloppyQuorum: kv.Off})
	s.want(len(saw.values) == 0, "%v shows %v; it was deleted", k, saw.values)
	s.pass(time.Second)
}

// reapRace: keys are deleted at one replica while another one is cut off, and messages with
// versions come seconds late. A read from all never shows what was deleted, and when all is
// quiet nothing is left of it, of the value or of the tombstone.
var reapRace = scenario{"scenario 18", func(seed uint64) Weather {
	w := burying(seed)
	w.Keys, w.Late, w.Timeout = 8, 0.3, lateMax+2*time.Second
	w.MendEvery, w.Settle, w.MendBytes = time.Second, 50*time.Millisecond, 300
	return w
}, func(s *story) {
	away := s.nodes[4]
	knows := make([]knowledge, s.weather.Keys)
	for i := range knows {
		knows[i] = s.put(s.nodes[i%4], keyAt(i), "old", knowledge{}, kv.WriteOptions{W: 2})
		knows[i] = s.put(s.nodes[i%4], keyAt(i), "newer", knows[i], kv.WriteOptions{W: 2})
	}
	s.part(away)
	for i := range knows {
		primaries, _ := s.cast(keyAt(i))
		at := primaries[0]
		if at == away {
			at = primaries[1]
		}
		s.remove(at, keyAt(i), knows[i], kv.WriteOptions{W: 1, SloppyQuorum: kv.Off})
	}
	s.join()
	s.turnClocks(time.Hour)
	for i := range knows {
		s.shows(keyAt(i))
	}
	s.await(restWithin, "nothing is left of what was deleted", func() bool {
		for i := range knows {
			for _, n := range s.nodes {
				if s.holds(n, keyAt(i)) {
					return false
				}
			}
		}
		return true
	})
	s.pass(lateMax + time.Second) // for what is on its way
	for i := range knows {
		s.shows(keyAt(i))
		for _, n := range s.nodes {
			s.want(!s.holds(n, keyAt(i)), "%s holds something of %v again", n.name, keyAt(i))
		}
	}
}}

// restarts: nodes begin anew between a delete and the end of its grace, in order or not. The
// tombstones are reaped all the same.
func restarts() []scenario {
	ways := map[string]func(*story){
		"one after the other": func(s *story) {
			for _, n := range s.nodes {
				n.shutdown(100 * time.Millisecond)
				s.pass(2 * time.Second)
				s.await(upWithin, "all are up again", s.allUp)
			}
		},
		"all at once": func(s *story) { s.powerLoss() },
		"the replicas": func(s *story) {
			primaries, _ := s.cast(keyAt(0))
			s.kill(primaries...)
			s.pass(time.Second)
			s.revive(primaries...)
		},
	}
	var all []scenario
	for _, way := range []string{"one after the other", "all at once", "the replicas"} {
		all = append(all, scenario{"scenario 19, " + way, func(seed uint64) Weather {
			w := burying(seed)
			w.Keys = 5
			return w
		}, func(s *story) {
			grace := -10 * time.Minute // what is deleted now is not due for that long
			s.turnClocks(-grace)
			for i := range s.weather.Keys {
				knows := s.put(s.nodes[i], keyAt(i), "old", knowledge{}, everyReplica)
				s.remove(s.nodes[i], keyAt(i), knows, everyReplica)
			}
			s.turnClocks(grace)
			ways[way](s)
			s.await(upWithin, "all are up again", s.allUp)
			for i := range s.weather.Keys {
				primaries, _ := s.cast(keyAt(i))
				s.want(s.holds(primaries[0], keyAt(i)), "the tombstone of %v is gone within the grace", keyAt(i))
			}
			s.turnClocks(-grace + time.Minute)
			s.await(restWithin, "all tombstones are reaped", func() bool { return s.unreaped() == "" })
		}})
	}
	return all
}

// amnesia: the replica that coordinates a key's writes loses its copy, and then coordinates the next
// one, of a client that knows the last value, an older one, or nothing. What it has
// acknowledged stays, and takes with it what its client had seen and nothing else.
func amnesia() []scenario {
	losses := []struct {
		name  string
		loses func(*story, *node, kv.Key)
	}{
		{"its disk", func(s *story, n *node, _ kv.Key) {
			n.crash("its disk is lost", time.Hour)
			n.disk.wipe()
			s.revive(n)
		}},
		{"its vnode", func(s *story, n *node, k kv.Key) {
			n.crash("a vnode is lost", time.Hour)
			n.disk.forget(s.primaries(k)[0].Partition)
			s.revive(n)
		}},
		{"its object", func(s *story, n *node, k kv.Key) { s.spoil(n, k) }},
	}
	var all []scenario
	for _, loss := range losses {
		all = append(all, scenario{"scenario 3, " + loss.name, func(seed uint64) Weather {
			w := steady(seed)
			w.RotEvery = time.Hour // something may rot
			w.Keys = 3
			return w
		}, func(s *story) { s.forgetful(loss.loses) }})
	}
	return append(all, scenario{"scenario 3, what it stood in for", steady, (*story).emptied})
}

// spoil lets what the first primary of a key holds of it rot.
func (s *story) spoil(n *node, k kv.Key) {
	data := vnode.DataKey(s.primaries(k)[0].Partition, s.home(k), k)
	s.inv.rot[n] = map[string]object.Vector{string(data): s.inv.latest(n, data).head.Clock}
	n.disk.mem.Damage(data, 8*10+3)
	delete(s.inv.nodes[n], string(data))
}

// forgetful writes a key at its first primary, takes that one's copy away, and writes again.
func (s *story) forgetful(loses func(*story, *node, kv.Key)) {
	for i, want := range [][]string{{"new", "v4"}, {"new", "v4"}, {"new"}} {
		k := keyAt(i)
		primaries, _ := s.cast(k)
		at := primaries[0]
		with := []knowledge{{}} // nothing, and what each write has told
		for j := range 5 {
			with = append(with, s.put(at, k, fmt.Sprint("v", j), with[j], everyReplica))
		}
		loses(s, at, k)
		s.put(at, k, "new", with[[]int{0, 2, 5}[i]], kv.WriteOptions{W: 1})
		s.await(restWithin, "the data is at rest", s.atRest())
		s.shows(k, want...)
	}
}

// emptied lets one stand in for all replicas of a key, hand over what it took, and stand in once more.
func (s *story) emptied() {
	k := keyAt(0)
	_, others := s.cast(k)
	for _, text := range []string{"1", "2", "3"} {
		s.part(others[0])
		s.put(others[0], k, text, knowledge{}, kv.WriteOptions{W: 1})
		s.want(s.holds(others[0], k), "%s does not stand in", others[0].name)
		s.join()
		s.await(restWithin, "the data is at rest", s.atRest())
		s.want(!s.holds(others[0], k), "%s keeps what it has handed over", others[0].name)
	}
	s.shows(k, "1", "2", "3")
}

// rollback: the replica that coordinates a write dies when others have it and its own disk has
// not. Whatever number it had given to it names nothing else when it is back.
var rollback = scenario{"scenario 5", func(seed uint64) Weather {
	w := steady(seed)
	w.SlowSync = 2 * time.Second
	return w
}, func(s *story) {
	k := keyAt(0)
	primaries, _ := s.cast(k)
	at := primaries[0]
	var want []string
	for i := range 6 {
		at.disk.slow = s.now + time.Hour
		text := fmt.Sprint("v", i)
		s.put(at, k, text, knowledge{}, kv.WriteOptions{W: 2, SloppyQuorum: kv.Off})
		want = append(want, text)
		s.get(at, k, kv.ReadOptions{R: kv.One})
		s.want(at.disk.mem.Durable() < at.disk.mem.Applied(), "the write is durable already")
		if i%3 == 2 { // a marker of a shutdown in order serves one start, and not the next after a crash
			at.disk.slow = 0
			at.shutdown(100 * time.Millisecond)
			s.pass(5 * time.Second)
			s.await(upWithin, "all are up again", s.allUp)
			continue
		}
		at.crash("killed", 100*time.Millisecond)
		s.await(upWithin, "all are up again", s.allUp)
	}
	s.shows(k, want...)
}}

// sessions: each client reads a key, from any node, and writes it, with PR and PW of two of three
// primaries, while nodes die, freeze and are cut off, and others stand in for them. A
// read that succeeds shows the last write that did, or one that has replaced it, and nothing that
// one of these had replaced; and one of a single replica is at times older, as it may be.
var sessions = scenario{"scenario 27", func(seed uint64) Weather {
	w := steady(seed)
	w.Keys, w.Timeout = 6, 500*time.Millisecond
	w.Loss, w.Straggle, w.Duplicate = 0.03, 0.02, 0.02
	w.CutEvery, w.CutFor, w.OneWay = 700*time.Millisecond, time.Second, 0.3
	w.CrashEvery, w.DownFor, w.Silent = 2*time.Second, time.Second, 0.3
	w.FreezeEvery, w.FreezeFor = 3*time.Second, time.Second
	w.SlowEvery, w.SlowSync = 3*time.Second, 200*time.Millisecond
	return w
}, func(s *story) {
	var all []*session
	for i := range s.weather.Keys {
		x := &session{story: s, rnd: newChance(s.weather.Seed, fmt.Sprint("session ", i)), key: keyAt(i), acked: make(map[int]bool)}
		all = append(all, x)
		x.act()
	}
	s.unleash()
	s.pass(40 * time.Second)
	ended, acked, fresh := 0, 0, 0
	for _, x := range all {
		x.stop = func() { ended++ }
		acked, fresh = acked+len(x.acked), fresh+x.fresh
	}
	s.await(time.Minute, "the sessions end", func() bool { return ended == len(all) })
	s.want(acked > 50 && fresh > 50, "%d writes and %d reads have succeeded, which shows nothing", acked, fresh)
	s.want(s.counts["stored for others"] > 0, "nobody has stood in for anybody")
	s.want(s.counts["stale at R=1"] > 0, "no read of one replica was older: the faults show nothing")
}}

// session is one client of one key, who numbers its writes.
type session struct {
	*story
	rnd   chance
	key   kv.Key
	tried int
	last  int          // that was acknowledged
	acked map[int]bool // all that were
	fresh int          // reads that succeeded
	stop  func()       // called in place of the next step
}

// act reads the key, looks at what it shows, and writes it.
func (x *session) act() {
	if x.stop != nil {
		x.stop()
		return
	}
	again := func() { x.after(x.rnd.about(40*time.Millisecond), x.act) }
	n := x.nodes[x.rnd.IntN(len(x.nodes))]
	if !n.running || n.closing || x.now < n.frozen {
		again()
		return
	}
	if x.rnd.hit(0.5) {
		x.beginGet(n, x.key, kv.ReadOptions{R: kv.One}, func(saw sight, err error) {
			if seq := newest(saw.values); seq < x.last && (err == nil || errors.Is(err, kv.ErrNotFound)) {
				x.count("stale at R=1")
			}
			again()
		})
		return
	}
	x.beginGet(n, x.key, kv.ReadOptions{R: 2, PR: 2}, func(saw sight, err error) {
		if err != nil && !errors.Is(err, kv.ErrNotFound) || n.s.now < n.frozen {
			again()
			return
		}
		x.fresh++
		x.look(n, saw)
		if !n.running {
			again()
			return
		}
		x.tried++
		seq := x.tried
		x.beginWrite(n, x.key, fmt.Sprintf("%06d", seq), saw.knowledge, kv.WriteOptions{W: 2, PW: 2}, func(_ knowledge, err error) {
			if err == nil {
				x.last, x.acked[seq] = seq, true
			}
			again()
		})
	})
}

// newest is the greatest number among values.
func newest(values []string) (seq int) {
	if len(values) > 0 {
		_, _ = fmt.Sscan(strings.TrimLeft(values[len(values)-1], "0"), &seq) // else it is 0
	}
	return seq
}

// look judges what a read shows.
func (x *session) look(n *node, saw sight) {
	if newest(saw.values) < x.last {
		x.fail("session", x.key, "%06d was acknowledged, and a read at %s shows %v", x.last, n.name, saw.values)
	}
	for _, v := range saw.values {
		if seq := newest([]string{v}); x.acked[seq] && seq < x.last {
			x.fail("session", x.key, "a read at %s shows %v, of which %s was replaced by %06d", n.name, saw.values, v, x.last)
		}
	}
}

// storms: replicas that are equal are not written to by those who compare them, though questions and
// pages are lost, late or refused, disks are slow, and nodes die, freeze, and begin anew.
var storms = scenario{"scenario 33", func(seed uint64) Weather {
	w := steady(seed)
	w.Keys = 60
	w.MendEvery, w.Settle, w.MendBytes = 300*time.Millisecond, 20*time.Millisecond, 200
	return w
}, func(s *story) {
	for i := range s.weather.Keys {
		knows := s.put(s.nodes[i%5], keyAt(i), fmt.Sprint("v", i), knowledge{}, everyReplica)
		if i%7 == 0 {
			s.remove(s.nodes[i%5], keyAt(i), knows, everyReplica)
		}
	}
	s.pass(2 * time.Second)
	s.want(s.agree()(), "the replicas differ")
	before, equal, failed := s.mends, s.counts["exchange equal"], s.counts["exchange failed"]
	w := &s.weather
	w.Loss, w.Straggle, w.Duplicate, w.Overload = 0.1, 0.05, 0.05, 0.1
	w.CutEvery, w.CutFor, w.OneWay = time.Second, time.Second, 0.3
	w.CrashEvery, w.DownFor, w.CleanEvery = 2*time.Second, 500*time.Millisecond, 2*time.Second
	w.FreezeEvery, w.FreezeFor = 3*time.Second, time.Second
	w.SlowEvery, w.SlowSync = 2*time.Second, 200*time.Millisecond
	s.unleash()
	s.pass(30 * time.Second)
	s.want(s.counts["exchange equal"] > equal+20, "only %d comparisons have ended", s.counts["exchange equal"]-equal)
	s.want(s.counts["exchange failed"] > failed+5, "only %d comparisons were disturbed", s.counts["exchange failed"]-failed)
	s.heal()
	s.pass(5 * time.Second)
	s.want(s.mends == before, "replicas that are equal were written to %d times", s.mends-before)
}}

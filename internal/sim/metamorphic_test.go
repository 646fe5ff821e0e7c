package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/kv"
)

// What every history of TestOneHistoryOneDatabase consists of.
const (
	authors     = 4
	authorSteps = 60
	authorKeys  = 5 // of each
)

// TestOneHistoryOneDatabase carries out one history of operations on clusters that
// have nothing in common: other numbers of nodes, partitions and replicas, with and
// without changes of members, and all kinds of faults. All must end as the same
// visible database, which is that of a single node in calm weather.
//
// Each author has keys of its own, repeats what fails, and looks again at what was
// left in doubt, when the faults are over: so the order in which the authors come,
// and what fails, has no part in the result.
func TestOneHistoryOneDatabase(t *testing.T) {
	for history := range uint64(3) {
		want := visible(t, Weather{Seed: history, Nodes: 1, Partitions: 8, Replicas: 1, R: 1, W: 1, Calm: true, Safety: time.Second, Timeout: time.Second}, history)
		if rows := strings.Count(want, "\n"); rows < authors*authorKeys/2 {
			t.Fatalf("history %d leaves %d keys: too few to tell anything:\n%s", history, rows, want)
		}
		for seed := range uint64(8) {
			w := DrawWeather(1000*history + seed)
			if got := visible(t, w, history); got != want && !t.Failed() {
				t.Errorf("history %d in the weather %v ends as\n%s\nand on one node as\n%s", history, w, got, want)
			}
		}
	}
}

// visible is the database as clients see it, after the history in this weather.
func visible(t *testing.T, w Weather, history uint64) string {
	t.Helper()
	w.Keys = authors * authorKeys
	w.Latest = false // what wins depends on who is asked
	s := newSim(w, Options{})
	all := make([]*author, authors)
	for i := range all {
		all[i] = newAuthor(s, history, i)
	}
	seen := s.perform(all)
	judge(t, Report{Weather: w, Violations: s.found})
	return seen
}

// perform runs the history, and reads what came of it.
func (s *Sim) perform(all []*author) string {
	if !s.must(upWithin, "all nodes hold all nodes to be up", s.allUp) || !s.setGrace() {
		return ""
	}
	for _, a := range all {
		a.act()
	}
	s.unleash()
	s.operate()
	s.runFor(s.weather.Safety)
	s.heal()
	s.runFor(settle)
	over := func() bool { return !slices.ContainsFunc(all, func(a *author) bool { return len(a.steps) > 0 }) }
	if !s.must(restWithin, "all steps are done", over) || !s.must(restWithin, "the topology and the data are at rest", s.atRest()) ||
		!s.must(upWithin, "all nodes hold all nodes to be up", s.allUp) || !s.even() {
		return ""
	}
	for _, a := range all {
		a.settle()
	}
	if !s.must(restWithin, "what was in doubt is settled", over) || !s.must(restWithin, "the data is at rest", s.atRest()) || !s.even() || !s.reapAll() {
		return ""
	}
	s.finish()
	return s.look()
}

// look is what clients see of all keys, a row each.
func (s *Sim) look() string {
	var rows, listed []string
	open := s.weather.Keys + len(buckets)
	at := func() *node { nodes := s.members(); return nodes[s.chaos.IntN(len(nodes))] }
	for i := range s.weather.Keys {
		k := keyAt(i)
		g := coordinator.NewGet(at().view(), coordinator.GetRequest{Key: k, Options: kv.ReadOptions{R: kv.Quorum(s.weather.R), Timeout: 2 * time.Second}})
		at().run(g, k, 2*time.Second, func(*request) {
			open--
			obj, err := g.Result()
			if err == nil {
				rows = append(rows, fmt.Sprintf("%v: %v\n", k, texts(obj.Values)))
			} else if !errors.Is(err, kv.ErrNotFound) {
				s.fail("liveness", k, "all is healed, but: %v", err)
			}
		}, nil)
	}
	for _, b := range buckets {
		m := coordinator.NewKeys(at().view(), coordinator.KeysRequest{Bucket: kv.Bucket{Name: b}, Options: kv.ListOptions{Timeout: 2 * time.Second}})
		at().run(m, noKey, 2*time.Second, func(*request) {
			open--
			page, err := m.Result()
			if err != nil || page.Next != "" {
				s.fail("liveness", noKey, "all is healed, but: %v, with a next page %q", err, page.Next)
			}
			slices.Sort(page.Keys)
			listed = append(listed, b+" has "+fmt.Sprint(page.Keys)+"\n")
		}, nil)
	}
	s.must(doneWithin, "all is read", func() bool { return open == 0 })
	slices.Sort(rows)
	slices.Sort(listed)
	return strings.Join(append(rows, listed...), "")
}

// texts are the different values among these, sorted: a put that was repeated may
// stand twice.
func texts(values []kv.Value) []string {
	var all []string
	for _, v := range values {
		if !v.Deleted {
			all = append(all, string(v.Data))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// The kinds of steps.
const (
	replace = iota // a put over all that is there
	beside         // a put without a context
	remove
)

// step is one operation of a history.
type step struct {
	key   kv.Key
	kind  int
	value string
}

// author does its part of a history, one step after the other.
type author struct {
	s        *Sim
	rnd      chance // of what it meets, never of what it does
	name     string
	steps    []step
	tries    uint64
	has      map[kv.Key][]string // what it believes is there
	doubtful map[kv.Key]bool
}

// newAuthor makes an author, whose steps come from the history alone.
func newAuthor(s *Sim, history uint64, i int) *author {
	name := authorName(i)
	return &author{
		s: s, rnd: newChance(s.weather.Seed, name), name: name, steps: drawSteps(history, i),
		has: make(map[kv.Key][]string), doubtful: make(map[kv.Key]bool),
	}
}

func authorName(i int) string { return fmt.Sprintf("author %d", i) }

// drawSteps draws the steps of an author from the history.
func drawSteps(history uint64, i int) (steps []step) {
	c, has := newChance(history, authorName(i)), make(map[kv.Key][]string)
	for j := range authorSteps {
		x := step{keyAt(i*authorKeys + c.IntN(authorKeys)), pick(c, replace, replace, replace, beside, remove), fmt.Sprintf("%d.%d", i, j)}
		if x.kind == remove && len(has[x.key]) == 0 || x.kind == beside && len(has[x.key]) > 2 {
			x.kind = replace
		}
		has[x.key] = x.over(has[x.key])
		steps = append(steps, x)
	}
	return steps
}

// over is what a key has after a step.
func (x step) over(has []string) []string {
	switch x.kind {
	case replace:
		return []string{x.value}
	case beside:
		return append(slices.Clone(has), x.value)
	}
	return nil
}

// act tries the next step.
func (a *author) act() {
	s := a.s
	nodes := s.members()
	n := nodes[a.rnd.IntN(len(nodes))]
	if !n.running || n.closing || s.now < n.frozen {
		s.after(a.rnd.about(50*time.Millisecond), a.act)
		return
	}
	x := a.steps[0]
	if x.kind == beside {
		a.write(n, x, nil)
		return
	}
	a.read(n, x.key, func(obj kv.Object, err error) {
		switch {
		case err != nil && !errors.Is(err, kv.ErrNotFound):
			s.after(a.rnd.about(50*time.Millisecond), a.act)
		case err != nil && x.kind == remove: // a try that was in doubt has done it
			a.did(x)
		default:
			a.write(n, x, obj.Context)
		}
	})
}

// again tries a step once more. It may have been carried out.
func (a *author) again(k kv.Key) {
	a.doubtful[k] = true
	a.s.after(a.rnd.about(100*time.Millisecond), a.act)
}

// did goes on to the next step.
func (a *author) did(x step) {
	a.has[x.key], a.steps = x.over(a.has[x.key]), a.steps[1:]
	if len(a.steps) > 0 {
		a.s.after(a.rnd.about(a.s.weather.Safety/(2*authorSteps)), a.act)
	}
}

// quorums overlap in any weather, also while owners change.
func (a *author) quorums() (r, w kv.Quorum) {
	if !a.s.overlap() {
		return kv.Majority, kv.Majority
	}
	return kv.Quorum(a.s.weather.R), kv.Quorum(a.s.weather.W)
}

func (a *author) read(n *node, k kv.Key, take func(kv.Object, error)) {
	r, _ := a.quorums()
	o := kv.ReadOptions{R: r, Timeout: a.s.weather.Timeout, SloppyQuorum: kv.Off}
	g := coordinator.NewGet(n.view(), coordinator.GetRequest{Key: k, Options: o})
	n.run(g, k, o.Timeout, func(*request) { take(g.Result()) }, func() { take(kv.Object{}, errLost) })
}

func (a *author) write(n *node, x step, context kv.Context) {
	r, w := a.quorums()
	o := kv.WriteOptions{R: r, W: w, Timeout: a.s.weather.Timeout, SloppyQuorum: kv.Off, Context: context}
	a.tries++
	copy(o.RequestID[:], fmt.Sprintf("%s %x", a.name, a.tries))
	req := coordinator.PutRequest{Key: x.key, Options: o}
	kind := check.Put
	var m coordinator.Machine
	var result func() (kv.Receipt, error)
	if x.kind == remove {
		d := coordinator.NewDelete(n.view(), req)
		kind, m, result = check.Delete, d, d.Result
	} else {
		req.Value = kv.Value{Data: []byte(x.value)}
		p := coordinator.NewPut(n.view(), req)
		m, result = p, p.Result
	}
	n.run(m, x.key, o.Timeout, func(*request) {
		_, err := result()
		switch outcome(kind, err) {
		case check.Done:
			a.did(x)
		case check.Doubt:
			a.again(x.key)
		default:
			a.s.after(a.rnd.about(50*time.Millisecond), a.act)
		}
	}, func() { a.again(x.key) })
}

// settle writes what was left in doubt once more, as it should be.
func (a *author) settle() {
	if a.steps = amends(a.doubtful, a.has); len(a.steps) > 0 {
		a.act()
	}
}

// amends are the steps that write what is in doubt as it should be.
func amends(doubtful map[kv.Key]bool, has map[kv.Key][]string) (steps []step) {
	for _, k := range slices.SortedFunc(maps.Keys(doubtful), func(x, y kv.Key) int { return strings.Compare(x.Name, y.Name) }) {
		if len(has[k]) == 0 {
			steps = append(steps, step{k, remove, ""})
		}
		for i, v := range has[k] {
			kind := beside
			if i == 0 {
				kind = replace
			}
			steps = append(steps, step{k, kind, v})
		}
	}
	return steps
}

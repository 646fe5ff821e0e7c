package handoff

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// script drives one Manager by hand: n5, beside n1 to n4 who own everything.
type script struct {
	*testing.T
	m   *Manager
	now time.Duration
	out []Effect // of the last event
}

func newScript(t *testing.T, l Limits) *script {
	s := &script{T: t, m: New("n5", l)}
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		s.feed(NodeUp{n})
	}
	return s
}

func (s *script) feed(ev Event) { s.out = s.m.Step(s.now, ev, nil) }

func (s *script) wait(d time.Duration) {
	s.now += d
	s.feed(Tick{})
}

// of are the effects of this kind among the last.
func of[E Effect](s *script) []E {
	var all []E
	for _, e := range s.out {
		if x, ok := e.(E); ok {
			all = append(all, x)
		}
	}
	return all
}

// one is the only effect of this kind.
func one[E Effect](s *script) E {
	s.Helper()
	all := of[E](s)
	if len(all) != 1 {
		s.Fatalf("%d effects %T in %+v; want one", len(all), *new(E), s.out)
	}
	return all[0]
}

func none[E Effect](s *script) {
	s.Helper()
	if all := of[E](s); len(all) != 0 {
		s.Fatalf("%+v; want none", all)
	}
}

// answer is a reply to the only Ask or Do of the last effects, which must bear this kind of
// message.
func answer[M vnode.Message](s *script, msg vnode.Message) M {
	s.Helper()
	asks, dos := of[Ask](s), of[Do](s)
	if len(asks)+len(dos) != 1 {
		s.Fatalf("%+v; want one Ask or Do", s.out)
	}
	i, asked := 0, vnode.Message(nil)
	if len(asks) == 1 {
		i, asked = asks[0].I, asks[0].Msg
	} else {
		i, asked = dos[0].I, dos[0].Msg
	}
	m, ok := asked.(M)
	if !ok {
		s.Fatalf("asked %T; want %T", asked, m)
	}
	s.feed(Replied{i, msg})
	return m
}

func testRing(t *testing.T) *ring.Ring {
	t.Helper()
	r, err := ring.New(fourNodes())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *script) adopt(t Topology) {
	if t.Replicas == 0 {
		t.Replicas = replicas
	}
	s.feed(Adopted{t})
}

func items(n int) []vnode.Item {
	all := make([]vnode.Item, n)
	for i := range all {
		all[i] = vnode.Item{Key: testKey(i), Hash: uint64(i + 1), Object: []byte{byte(i)}}
	}
	return all
}

func hashes(n ...int) []vnode.Item {
	var all []vnode.Item
	for _, i := range n {
		all = append(all, vnode.Item{Key: testKey(i), Hash: uint64(i + 1)})
	}
	return all
}

func results(r ...vnode.ItemResult) *vnode.Delivered { return &vnode.Delivered{Results: r} }

const (
	held   = vnode.ItemHeld
	wanted = vnode.ItemWanted
	refuse = vnode.ItemBad
)

// straying is a script in which n5 holds home 2 of partition 2 for n3, and has
// been told to pull it.
func straying(t *testing.T) *script {
	s := newScript(t, Limits{})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	one[Look](s)
	s.feed(Holdings{Vnodes: []Holding{{Partition: 2, Homes: []ring.Partition{2}}}})
	return s
}

func TestADrainDropsWhatItsTargetHolds(t *testing.T) {
	s := straying(t)
	if p := answer[*vnode.Pull](s, &vnode.Pulled{Items: items(4), Last: []byte{1}, More: true}); p.Home != 2 || p.Bare || p.Whole {
		t.Errorf("pulled %+v", p)
	}
	if a := one[Ask](s); a.Node != "n3" || a.To != 2 {
		t.Errorf("asked %+v", a)
	}
	if d := answer[*vnode.Deliver](s, results(held, wanted, refuse, wanted)); cmp.Diff(hashes(0, 1, 2, 3), d.Items) != "" {
		t.Errorf("offered %+v", d.Items)
	}
	if d := answer[*vnode.Deliver](s, results(held, refuse)); cmp.Diff([]vnode.Item{items(4)[1], items(4)[3]}, d.Items) != "" {
		t.Errorf("delivered %+v", d.Items)
	}
	if d := one[Do](s); d.To != 2 {
		t.Errorf("dropped %+v", d)
	}
	if d := answer[*vnode.Drop](s, &vnode.Dropped{Gone: 2}); cmp.Diff(hashes(0, 1), d.Items) != "" {
		t.Errorf("dropped %+v; want what the target holds", d.Items)
	}
	if p := answer[*vnode.Pull](s, &vnode.Pulled{Last: []byte{2}, Bad: []vnode.BadItem{{Key: testKey(9), Text: "spoiled"}}}); string(p.After) != "\x01" {
		t.Errorf("the next page is %+v", p)
	}
	none[Do](s)
	j := s.m.Jobs()[0]
	if j.Skipped != 3 || len(j.Bad) != 3 || j.Objects != 1 || j.Retry == 0 || !strings.Contains(j.Error, "3 objects") {
		t.Errorf("%+v", j)
	}
	s.wait(leftAgain)
	answer[*vnode.Pull](s, &vnode.Pulled{})
	if jobs := s.m.Jobs(); len(jobs) != 0 {
		t.Errorf("after a round that left nothing: %+v", jobs)
	}
}

func TestADrainGoesOnUntilNothingHasChanged(t *testing.T) {
	s := straying(t)
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1)})
	answer[*vnode.Deliver](s, results(held))
	answer[*vnode.Drop](s, &vnode.Dropped{Kept: 1})
	none[Do](s)
	s.wait(waitAgain)
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1)})
	answer[*vnode.Deliver](s, results(held))
	answer[*vnode.Drop](s, &vnode.Dropped{Gone: 1})
	if jobs := s.m.Jobs(); len(jobs) != 0 {
		t.Errorf("%+v", jobs)
	}
}

// Every failure, at every point of a round, leads back to before the page: no
// Drop follows it.
func TestNoErrorDrops(t *testing.T) {
	for name, fail := range map[string]func(s *script, i int){
		"refused":       func(s *script, i int) { s.feed(Replied{i, &vnode.Refusal{Text: "full"}}) },
		"failed":        func(s *script, i int) { s.feed(Replied{i, &vnode.Failure{Text: "broken"}}) },
		"not sent":      func(s *script, i int) { s.feed(NotSent{i, "no way"}) },
		"lost":          func(s *script, i int) { s.feed(Lost{i, "no answer"}) },
		"down":          func(s *script, _ int) { s.feed(NodeDown{"n3"}) },
		"late":          func(s *script, _ int) { s.wait(10 * time.Second) },
		"nonsense":      func(s *script, i int) { s.feed(Replied{i, &vnode.Pong{}}) },
		"too few":       func(s *script, i int) { s.feed(Replied{i, results()}) },
		"too many":      func(s *script, i int) { s.feed(Replied{i, results(held, held, held)}) },
		"new owner":     func(s *script, _ int) { s.adopt(Topology{Epoch: 2, Ring: testRing(t).With(2, "n1")}) },
		"new ring":      func(s *script, _ int) { s.adopt(Topology{Epoch: 2, Ring: testRing(t).With(7, "n1")}) },
		"own partition": func(s *script, _ int) { s.adopt(Topology{Epoch: 2, Ring: testRing(t).With(2, "n5")}) },
	} {
		for _, delivering := range []bool{false, true} {
			s := straying(t)
			answer[*vnode.Pull](s, &vnode.Pulled{Items: items(2)})
			if delivering {
				answer[*vnode.Deliver](s, results(held, wanted))
			}
			i := one[Ask](s).I
			fail(s, i)
			for range 3 {
				for _, d := range of[Do](s) {
					if _, ok := d.Msg.(*vnode.Drop); ok {
						t.Fatalf("%s: dropped after %+v", name, d)
					}
				}
				s.feed(Replied{i, results(held, held)}) // an answer that comes too late
			}
		}
	}
}

// When the owner changes during a round, the new one is asked from the start.
func TestADrainFollowsItsTarget(t *testing.T) {
	s := straying(t)
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(2), Last: []byte{1}, More: true})
	answer[*vnode.Deliver](s, results(held, held))
	answer[*vnode.Drop](s, &vnode.Dropped{Gone: 2})
	s.adopt(Topology{Epoch: 2, Ring: testRing(t).With(2, "n1")})
	if p := answer[*vnode.Pull](s, &vnode.Pulled{Items: items(2)}); len(p.After) != 0 {
		t.Errorf("it goes on with %+v", p)
	}
	if a := one[Ask](s); a.Node != "n1" {
		t.Errorf("it asks %s", a.Node)
	}
}

// What belongs on several places is dropped when all of them have it.
// What stands in for a dead owner is one of the copies of what it took. While
// no other node is to have the partition, it stays where it is: that the other replicas
// have it too would make one copy less of it.
func TestADrainWaitsForTheHeirOfADeadOwner(t *testing.T) {
	s := newScript(t, Limits{})
	gone := func(node string) bool { return node == "n3" }
	s.adopt(Topology{Epoch: 1, Ring: testRing(t), Gone: gone})
	one[Look](s)
	s.feed(Holdings{Vnodes: []Holding{{Partition: 2, Homes: []ring.Partition{2}}}})
	none[Ask](s)
	none[Do](s)
	jobs := s.m.Jobs()
	if len(jobs) != 1 || jobs[0].Error != "no node that should hold it is there yet" {
		t.Fatalf("%+v", jobs)
	}
	s.adopt(Topology{Epoch: 2, Ring: testRing(t), Next: testRing(t).With(2, "n4"), Gone: gone})
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1), Last: []byte{1}})
	if a := one[Ask](s); a.Node != "n4" || a.To != 2 {
		t.Errorf("offered to %+v; want n4", a)
	}
}

func TestADrainAsksEveryTarget(t *testing.T) {
	s := newScript(t, Limits{})
	now := testRing(t)
	s.adopt(Topology{Epoch: 1, Ring: now, Next: now.With(2, "n1")})
	s.feed(Stray{Partition: 2, Home: 2})
	if p := one[Do](s); p.To != 2 {
		t.Fatalf("%+v", p)
	}
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(2)})
	if a := one[Ask](s); a.Node != "n3" {
		t.Errorf("first it asks %s", a.Node)
	}
	answer[*vnode.Deliver](s, results(held, held))
	if a := one[Ask](s); a.Node != "n1" {
		t.Errorf("then it asks %s", a.Node)
	}
	answer[*vnode.Deliver](s, results(refuse, held))
	if d := answer[*vnode.Drop](s, &vnode.Dropped{Gone: 1}); cmp.Diff(hashes(1), d.Items) != "" {
		t.Errorf("dropped %+v", d.Items)
	}
}

// What comes while a drain is at work may lie where it has looked already.
func TestADrainLooksAgainForWhatHasComeMeanwhile(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	s.feed(Stray{Partition: 2, Home: 2})
	pull := one[Do](s)
	s.feed(Stray{Partition: 2, Home: 2})
	s.feed(Replied{I: pull.I, Msg: &vnode.Pulled{}})
	none[Do](s)
	s.wait(time.Second)
	answer[*vnode.Pull](s, &vnode.Pulled{})
	s.wait(time.Second)
	none[Do](s)
	if jobs := s.m.Jobs(); len(jobs) != 0 {
		t.Errorf("%+v", jobs)
	}
}

// A node that is down is waited for, and its hints go as soon as it is up.
func TestADrainWaitsForItsTarget(t *testing.T) {
	s := newScript(t, Limits{})
	s.feed(NodeDown{"n3"})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	s.feed(Stray{Partition: 2, Home: 2})
	none[Do](s)
	if j := s.m.Jobs()[0]; j.WaitsFor != "n3" || j.Error == "" {
		t.Errorf("%+v", j)
	}
	s.wait(time.Hour)
	if n := of[Note](s); len(n) != 0 {
		t.Errorf("hints for a node that is down are no news: %+v", n)
	}
	s.feed(Holdings{Vnodes: []Holding{{Partition: 2, Homes: []ring.Partition{2}}}})
	for _, w := range of[Wake](s) {
		if w.At < s.now+time.Second {
			t.Errorf("it does not sleep: at %v it wants to be woken at %v", s.now, w.At)
		}
	}
	s.feed(NodeUp{"n3"})
	answer[*vnode.Pull](s, &vnode.Pulled{})
}

// What all its places are gone for stays where it is.
func TestADrainWithoutTargetsDropsNothing(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t), Gone: func(string) bool { return true }})
	s.feed(Stray{Partition: 2, Home: 2})
	if n := one[Note](s); n.Kind != NoteNowhere {
		t.Errorf("%+v", n)
	}
	none[Do](s)
	s.wait(time.Hour)
	none[Do](s)
	if len(s.m.Jobs()) != 1 {
		t.Error("it is not shown any more")
	}
}

// incoming is the topology in which n5 gets partition 2.
func incoming(t *testing.T, forced bool) Topology {
	r := testRing(t)
	return Topology{Epoch: 2, Ring: r, Next: r.With(2, "n5"), Transfers: []membership.Transfer{
		{ID: 7, Partition: 2, From: "n3", To: "n5", Phase: membership.Copying, Forced: forced, Epoch: 2},
	}}
}

// Objects that are still being dropped could be dropped again after they were
// filled in.
func TestAFillWaitsForItsOwnDrops(t *testing.T) {
	s := straying(t)
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1)})
	answer[*vnode.Deliver](s, results(held))
	drop := one[Do](s)
	s.adopt(incoming(t, false))
	for range 20 {
		dos := of[Do](s)
		if len(dos) == 0 {
			s.wait(waitAgain)
			continue
		}
		if dos[0].Msg.(*vnode.Resume).Home == 2 {
			t.Fatal("the fill of home 2 has begun")
		}
		answer[*vnode.Resume](s, &vnode.Resumed{Cursor: encodeCursor(true, nil)})
	}
	if j := s.m.Jobs(); len(j) != 1 || j[0].Done != replicas-1 || !strings.Contains(j[0].Error, "dropped") {
		t.Errorf("%+v", j)
	}
	s.feed(Replied{drop.I, &vnode.Dropped{Gone: 1}})
	if len(of[Do](s)) == 0 {
		s.wait(waitAgain)
	}
	if r, ok := one[Do](s).Msg.(*vnode.Resume); !ok || r.Home != 2 {
		t.Errorf("after the drop: %+v", s.out)
	}
}

// The fill of one home, message by message; then Filled, until the topology
// shows it.
func TestAFillGoesPageByPage(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(incoming(t, false))
	homes := s.m.Jobs()[0].Total
	if homes != replicas {
		t.Fatalf("%d homes; want those that have partition 2 among their places", homes)
	}
	r := answer[*vnode.Resume](s, &vnode.Resumed{Cursor: encodeCursor(false, []byte{5})})
	a := one[Ask](s)
	if a.Node != "n3" || a.To != 2 {
		t.Errorf("it pulls from %+v", a)
	}
	p := answer[*vnode.Pull](s, &vnode.Pulled{Items: items(2), Last: []byte{6}, More: true, Bad: []vnode.BadItem{{Key: testKey(8), Text: "spoiled"}}})
	if p.Home != r.Home || string(p.After) != "\x05" || p.Bare || !p.Whole {
		t.Errorf("it pulls %+v", p)
	}
	f := answer[*vnode.Fill](s, results(held, held))
	if f.Home != r.Home || f.Job != r.Job || len(f.Items) != 2 || !slices.Equal(f.Cursor, encodeCursor(false, []byte{6})) {
		t.Errorf("it fills %+v", f)
	}
	if n := of[Note](s); len(n) != 1 || n[0].Kind != NoteSkipped || !strings.Contains(n[0].Text, "key 8") {
		t.Errorf("notes %+v", n)
	}
	if p = answer[*vnode.Pull](s, &vnode.Pulled{Last: []byte{6}}); string(p.After) != "\x06" {
		t.Errorf("it goes on with %+v", p)
	}
	if f = answer[*vnode.Fill](s, results()); !slices.Equal(f.Cursor, encodeCursor(true, []byte{6})) {
		t.Errorf("it ends with %+v", f)
	}
	for range homes - 1 {
		none[Propose](s)
		answer[*vnode.Resume](s, &vnode.Resumed{Cursor: encodeCursor(true, nil)})
	}
	want := Propose{membership.Filled{Transfer: 7, Node: "n5"}}
	for range 3 {
		if got := one[Propose](s); got != want {
			t.Errorf("%+v", got)
		}
		s.wait(proposeEvery)
	}
	shown := incoming(t, false)
	shown.Epoch, shown.Transfers[0].Filled = 3, []string{"n5"}
	s.adopt(shown)
	forgotten := 0
	for _, d := range of[Do](s) {
		if f, ok := d.Msg.(*vnode.Fill); ok && f.Cursor == nil && len(f.Items) == 0 {
			forgotten++
		}
	}
	if forgotten != homes || len(s.m.Jobs()) != 0 {
		t.Errorf("%d cursors are forgotten, jobs %+v", forgotten, s.m.Jobs())
	}
}

// A forced fill takes from every other place that is left, and from no dead one.
func TestTheSourcesOfAFill(t *testing.T) {
	top := incoming(t, true)
	top.Replicas = replicas
	for _, p := range top.fillParts(top.Transfers[0], "n5") {
		want := slices.DeleteFunc(top.Ring.Primaries(p.home, replicas), func(r ring.Replica) bool { return r.Node == "n3" })
		if len(want) != 2 || !slices.Equal(p.sources, want) {
			t.Errorf("home %d is filled from %v; want %v", p.home, p.sources, want)
		}
	}
	top.Gone = func(node string) bool { return node == "n4" }
	for _, p := range top.fillParts(top.Transfers[0], "n5") {
		if slices.ContainsFunc(p.sources, func(r ring.Replica) bool { return r.Node == "n4" || r.Node == "n3" }) {
			t.Errorf("home %d is filled from %v", p.home, p.sources)
		}
	}
	if parts := top.fillParts(membership.Transfer{Partition: 60_000, To: "n5"}, "n5"); parts != nil {
		t.Errorf("partition 60000 of 8 is filled from %v", parts)
	}
}

// When no replica is left there is nothing to wait for; it is said loudly.
func TestAFillWithoutAnySource(t *testing.T) {
	s := newScript(t, Limits{})
	top := incoming(t, true)
	top.Gone = func(node string) bool { return node != "n5" }
	s.adopt(top)
	nowhere := 0
	for _, n := range of[Note](s) {
		if n.Kind == NoteNowhere {
			nowhere++
		}
	}
	if one[Propose](s); nowhere != replicas {
		t.Errorf("%d notes", nowhere)
	}
}

// A page of a fill that does not lead on, or that was not filled in as a whole, is
// pulled again.
func TestAFillIsNotFooled(t *testing.T) {
	for name, tc := range map[string]struct{ pulled, filled vnode.Message }{
		"a page that goes back":   {&vnode.Pulled{Last: []byte{5}, More: true}, nil},
		"nonsense for a page":     {&vnode.Dropped{}, nil},
		"a source that lacks":     {&vnode.Refusal{Code: vnode.CodeLacking, Text: "lacks"}, nil},
		"a fill with few results": {&vnode.Pulled{Items: items(2)}, results(held)},
		"an engine that fails":    {&vnode.Pulled{Items: items(2)}, &vnode.Failure{Text: "broken"}},
		"nonsense for a fill":     {&vnode.Pulled{Items: items(2)}, &vnode.Pong{}},
	} {
		s := newScript(t, Limits{})
		s.adopt(incoming(t, false))
		answer[*vnode.Resume](s, &vnode.Resumed{Cursor: encodeCursor(false, []byte{5})})
		answer[*vnode.Pull](s, tc.pulled)
		if tc.filled != nil {
			answer[*vnode.Fill](s, tc.filled)
		}
		none[Ask](s)
		if j := s.m.Jobs()[0]; j.Error == "" || j.Done != 0 || j.Retry != time.Second {
			t.Errorf("%s: %+v", name, j)
		}
	}
}

func TestWaitsDouble(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	s.feed(Stray{Partition: 2, Home: 2})
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		answer[*vnode.Pull](s, &vnode.Refusal{Text: "not now"})
		if w := s.m.Jobs()[0].Retry - s.now; w != want*time.Second {
			t.Errorf("it waits %v; want %d s", w, want)
		}
		s.wait(want*time.Second - 1)
		none[Do](s)
		s.wait(1)
	}
	answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1)})
	i := one[Ask](s).I
	s.feed(NotSent{i, "n3 is away"})
	if w := s.m.Jobs()[0].Retry - s.now; w != time.Second {
		t.Errorf("after something went well it waits %v", w)
	}
	s.feed(NodeUp{"n3"})
	one[Do](s)
}

// A source that does not know of the transfer yet will in a moment.
func TestAStaleSourceIsAskedAgainSoon(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(incoming(t, false))
	answer[*vnode.Resume](s, &vnode.Resumed{})
	for range 5 {
		answer[*vnode.Pull](s, &vnode.Refusal{Code: vnode.CodeStale, Text: "at epoch 1"})
		none[Note](s)
		for range 3 { // other homes may be tried first
			if s.wait(staleAgain); len(of[Do](s)) == 1 {
				answer[*vnode.Resume](s, &vnode.Resumed{})
			}
			if len(of[Ask](s)) == 1 {
				break
			}
		}
	}
	one[Ask](s)
}

// Jobs with different nodes run side by side, as many as allowed; with one node
// there is one at a time, and they take turns.
func TestJobsTakeTurns(t *testing.T) {
	s := newScript(t, Limits{Jobs: 2})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	for _, p := range []ring.Partition{0, 1, 2, 4} { // of n1, n2, n3 and n1 again
		s.feed(Stray{Partition: p, Home: p})
	}
	var turns []ring.Partition
	running := map[int]ring.Partition{1: 0, 2: 1} // the first two, by the number of their Do
	for len(turns) < 8 {
		i := slices.Min(slices.Collect(func(yield func(int) bool) {
			for i := range running {
				if !yield(i) {
					return
				}
			}
		}))
		p := running[i]
		delete(running, i)
		turns = append(turns, p)
		s.feed(Replied{i, &vnode.Pulled{Last: []byte{byte(len(turns))}, More: true}})
		for _, d := range of[Do](s) {
			running[d.I] = d.To
		}
		if len(running) != 2 {
			t.Fatalf("%d jobs run", len(running))
		}
		nodes := map[string]bool{}
		for _, p := range running {
			nodes[testRing(t).Owner(p)] = true
		}
		if len(nodes) != 2 {
			t.Fatalf("two jobs deal with one node: %v", running)
		}
	}
	for _, p := range []ring.Partition{0, 1, 2, 4} {
		if !slices.Contains(turns, p) {
			t.Errorf("partition %d never had its turn: %v", p, turns)
		}
	}
}

// A node is sent one page at a time, also by jobs with several targets.
func TestANodeIsSentOnePageAtATime(t *testing.T) {
	s := newScript(t, Limits{})
	r := testRing(t)
	s.adopt(Topology{Epoch: 1, Ring: r, Next: r.With(2, "n1")})
	s.feed(Stray{Partition: 2, Home: 2}) // for n3, then n1
	first := one[Do](s).I
	s.feed(Stray{Partition: 0, Home: 0}) // for n1
	second := one[Do](s).I
	s.feed(Replied{second, &vnode.Pulled{Items: items(1)}})
	busy := one[Ask](s)
	s.feed(Replied{first, &vnode.Pulled{Items: items(1)}})
	answer[*vnode.Deliver](s, results(held))
	none[Ask](s)
	s.feed(Replied{busy.I, results(held)})
	if a := one[Ask](s); busy.Node != "n1" || a.Node != "n1" {
		t.Errorf("%+v, then %+v", busy, a)
	}
}

// Bytes are paced, whatever the size of the pages, and each object costs more than its bytes.
func TestBytesArePaced(t *testing.T) {
	s := newScript(t, Limits{BytesPerSecond: 1_000})
	s.adopt(incoming(t, false))
	answer[*vnode.Resume](s, &vnode.Resumed{})
	total, each := 0, 701+objectPrice
	for i := byte(1); s.now < 20*time.Second || len(of[Ask](s)) > 0; i++ {
		page := &vnode.Pulled{Items: []vnode.Item{{Key: kv.Key{Name: "k"}, Object: make([]byte, 700)}}, Last: []byte{i}, More: true}
		if len(of[Ask](s)) == 0 {
			if w := of[Wake](s); len(w) == 1 {
				s.wait(w[0].At - s.now)
			} else {
				s.wait(10 * time.Millisecond)
			}
			continue
		}
		answer[*vnode.Pull](s, page)
		answer[*vnode.Fill](s, results(held))
		total += each
	}
	if total < 20_000-each || total > 21_000+2*each { // a second in advance, and a page on either side of it
		t.Errorf("%d bytes in 20 s at 1000 a second", total)
	}
	s.feed(SetLimits{})
	one[Ask](s)
}

// A node is left alone after each page, for longer the longer that has taken.
func TestNodesRestBetweenPages(t *testing.T) {
	s := newScript(t, Limits{Rest: 2})
	s.adopt(incoming(t, false))
	answer[*vnode.Resume](s, &vnode.Resumed{})
	for i, took := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 4 * time.Second, 0} {
		s.now += took / 4
		answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1), Last: []byte{byte(i + 1)}, More: true})
		s.now += took - took/4
		answer[*vnode.Fill](s, results(held))
		rest := min(2*took, restMost)
		if rest == 0 {
			one[Ask](s)
			break
		}
		none[Ask](s)
		if w := one[Wake](s); w.At != s.now+rest {
			t.Errorf("after a page that took %v it is to be woken in %v; want %v", took, w.At-s.now, rest)
		}
		s.wait(rest - 1)
		none[Ask](s)
		s.wait(1)
	}
}

func TestAJobThatIsStuckSaysSo(t *testing.T) {
	s := newScript(t, Limits{})
	s.feed(NodeDown{"n3"})
	s.adopt(incoming(t, false))
	answer[*vnode.Resume](s, &vnode.Resumed{})
	s.wait(5*time.Minute - 1)
	none[Note](s)
	s.wait(1)
	if n := one[Note](s); n.Kind != NoteStuck || n.Transfer != 7 || !strings.Contains(n.Text, "n3 is down") {
		t.Errorf("%+v", n)
	}
	s.wait(time.Minute)
	none[Note](s)
	s.wait(4 * time.Minute)
	one[Note](s)
}

// A vnode that is repaired is lacking until all others have been asked, and a
// fill is not reported before that.
func TestARepair(t *testing.T) {
	s := newScript(t, Limits{})
	s.feed(Repair{[]ring.Partition{2}}) // before there is a topology
	s.adopt(Topology{Epoch: 1, Ring: testRing(t).With(2, "n5")})
	if set := answer[*vnode.SetLacking](s, &vnode.Stored{}); !set.On {
		t.Error("it begins without a mark")
	}
	sources := map[string]int{}
	for range 2 * replicas {
		sources[one[Ask](s).Node]++
		if p := answer[*vnode.Pull](s, &vnode.Pulled{Items: items(1), Last: []byte{1}}); p.Whole {
			t.Error("two that lack would wait for each other")
		}
		if f := answer[*vnode.Fill](s, results(held)); f.Cursor != nil {
			t.Errorf("a repair keeps the cursor %x", f.Cursor)
		}
	}
	if set := answer[*vnode.SetLacking](s, &vnode.Stored{}); set.On {
		t.Error("the mark stays")
	}
	if len(s.m.Jobs()) != 0 || len(sources) != 3 {
		t.Errorf("jobs %+v, sources %v", s.m.Jobs(), sources)
	}
	// One that is found by its mark goes on.
	s.feed(Holdings{Lacking: []ring.Partition{2}})
	if j := s.m.Jobs(); len(j) != 1 || j[0].Kind != Repairing {
		t.Errorf("%+v", j)
	}
}

func TestFilledWaitsForARepair(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(incoming(t, false))
	queue := of[Do](s)
	s.feed(Repair{[]ring.Partition{2}})
	queue = append(queue, of[Do](s)...)
	proposed := 0
	for refused := false; proposed == 0; {
		if len(queue) == 0 {
			s.wait(time.Second)
		} else {
			d := queue[0]
			queue = queue[1:]
			switch m := d.Msg.(type) {
			case *vnode.Resume:
				s.feed(Replied{d.I, &vnode.Resumed{Cursor: encodeCursor(true, nil)}})
			case *vnode.SetLacking:
				if !refused {
					refused = true
					s.feed(Replied{d.I, &vnode.Refusal{Text: "not now"}})
				} else {
					s.feed(Replied{d.I, &vnode.Stored{}})
				}
			case *vnode.Fill:
				s.feed(Replied{d.I, results()})
			default:
				t.Fatalf("%T", m)
			}
		}
		queue = append(queue, of[Do](s)...)
		for _, a := range of[Ask](s) {
			s.feed(Replied{a.I, &vnode.Pulled{}})
			queue = append(queue, of[Do](s)...)
		}
		if proposed = len(of[Propose](s)); proposed > 0 && s.m.job(key{kind: Repairing, partition: 2}) != nil {
			t.Fatal("it is reported while the vnode is being repaired")
		}
		if s.now > time.Minute {
			t.Fatalf("it is never reported: %+v", s.m.Jobs())
		}
	}
}

// A node that is exiting says Left when its disk is empty, and not before.
func TestLeftIsSaidWhenNothingIsHeld(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	s.feed(Holdings{})
	none[Propose](s)
	s.adopt(Topology{Epoch: 2, Ring: testRing(t), Leaving: true})
	none[Propose](s) // what the last Look has found may be out of date
	none[Look](s)
	s.wait(lookPause)
	one[Look](s)
	s.feed(Holdings{Vnodes: []Holding{{Partition: 2, Homes: []ring.Partition{2}}}})
	none[Propose](s)
	answer[*vnode.Pull](s, &vnode.Pulled{})
	none[Propose](s)
	s.wait(lookPause)
	one[Look](s) // is that all?
	s.feed(Holdings{Err: "input/output error"})
	none[Propose](s)
	s.wait(lookEvery)
	one[Look](s)
	s.feed(Holdings{})
	if p := one[Propose](s); p.Command != (membership.Left{Name: "n5"}) {
		t.Errorf("%+v", p)
	}
	s.wait(proposeEvery)
	one[Propose](s)
	s.feed(Stray{Partition: 2, Home: 2})
	s.wait(proposeEvery)
	none[Propose](s)
	s.wait(proposeEvery)
	for _, w := range of[Wake](s) {
		if w.At < s.now+time.Millisecond {
			t.Errorf("it does not sleep: at %v it wants to be woken at %v", s.now, w.At)
		}
	}
}

// Neither a stream of hints nor one of changes keeps the disk busy with looks; a
// change of the ring during one asks for another.
func TestLooksAreFew(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	one[Look](s)
	s.feed(Stray{Partition: 2, Home: 2})
	s.feed(Holdings{})
	none[Look](s)
	s.wait(lookEvery)
	one[Look](s)
	s.adopt(Topology{Epoch: 2, Ring: testRing(t).With(2, "n1")})
	none[Look](s)
	s.feed(Holdings{})
	none[Look](s)
	s.wait(lookPause)
	one[Look](s)
	s.feed(Holdings{})
	none[Look](s)
	s.adopt(Topology{Epoch: 3, Ring: testRing(t)})
	none[Look](s)
	s.wait(lookPause)
	one[Look](s)
}

// Cursors that no job needs are forgotten.
func TestOldCursorsAreForgotten(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(incoming(t, false))
	resume := one[Do](s)
	mine := vnode.Progress{Partition: resume.To, Home: resume.Msg.(*vnode.Resume).Home, Job: resume.Msg.(*vnode.Resume).Job}
	s.feed(Holdings{Kept: []vnode.Progress{mine, {Partition: 3, Home: 1, Job: 99}}})
	if f, ok := one[Do](s).Msg.(*vnode.Fill); !ok || f.Job != 99 || f.Home != 1 || f.Cursor != nil {
		t.Errorf("%+v", s.out)
	}
}

// An older topology is not gone back to.
func TestAnOlderTopologyIsIgnored(t *testing.T) {
	s := newScript(t, Limits{})
	s.adopt(incoming(t, false))
	s.adopt(Topology{Epoch: 1, Ring: testRing(t)})
	s.adopt(Topology{Epoch: 9})
	if len(s.m.Jobs()) != 1 {
		t.Error("the fill is gone")
	}
}

// Whatever comes, in whatever order, the Manager neither panics nor drops what
// it was not told is held; and the jobs never exceed their limits.
func TestRandomEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := New("n5", Limits{Jobs: 2, Rest: rapid.IntRange(0, 2).Draw(rt, "rest"), BytesPerSecond: rapid.SampledFrom([]int64{0, 10}).Draw(rt, "rate")})
		r := testRing(t)
		rings := []*ring.Ring{r, r.With(2, "n5"), r.With(6, "n1"), r.With(2, "n5").With(6, "n5")}
		node := rapid.SampledFrom([]string{"n1", "n2", "n3", "n4", "n5", "n9"})
		partition := rapid.SampledFrom([]ring.Partition{0, 1, 2, 6, 7, 8, 65535})
		var open []int
		pending := map[int]string{}
		now := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(rt, "events") {
			now += time.Duration(rapid.SampledFrom([]int{0, 1, 1_000, 60_000}).Draw(rt, "ms")) * time.Millisecond
			i := rapid.IntRange(0, 3).Draw(rt, "i")
			if len(open) > 0 && rapid.IntRange(0, 4).Draw(rt, "known") > 0 {
				i = rapid.SampledFrom(open).Draw(rt, "open")
			}
			var ev Event
			switch rapid.IntRange(0, 11).Draw(rt, "event") {
			case 0:
				x := membership.Transfer{ID: 1, Partition: partition.Draw(rt, "p"), From: node.Draw(rt, "from"), To: node.Draw(rt, "to"),
					Phase: membership.Copying, Forced: rapid.Bool().Draw(rt, "forced")}
				ev = Adopted{Topology{Epoch: uint64(rapid.IntRange(0, 5).Draw(rt, "epoch")), Ring: rapid.SampledFrom(rings).Draw(rt, "ring"),
					Next: rapid.SampledFrom(append(rings, nil)).Draw(rt, "next"), Replicas: rapid.IntRange(0, 4).Draw(rt, "n"),
					Transfers: []membership.Transfer{x}, Leaving: rapid.Bool().Draw(rt, "leaving")}}
			case 1:
				ev = NodeUp{node.Draw(rt, "up")}
			case 2:
				ev = NodeDown{node.Draw(rt, "down")}
			case 3:
				ev = NotSent{i, "why"}
			case 4:
				ev = Lost{i, "why"}
			case 5:
				ev = Holdings{Vnodes: []Holding{{partition.Draw(rt, "p"), []ring.Partition{partition.Draw(rt, "h")}}}, Lacking: []ring.Partition{partition.Draw(rt, "l")}}
			case 6:
				ev = Stray{partition.Draw(rt, "p"), partition.Draw(rt, "h")}
			case 7:
				ev = Repair{[]ring.Partition{partition.Draw(rt, "p")}}
			case 8:
				ev = Tick{}
			default:
				ev = Replied{i, rapid.SampledFrom([]vnode.Message{
					&vnode.Pulled{}, &vnode.Pulled{Items: items(2), Last: []byte{1}, More: true}, &vnode.Pulled{Items: items(1)},
					results(held), results(held, wanted), results(wanted, refuse), results(), &vnode.Dropped{Gone: 1}, &vnode.Dropped{Kept: 1},
					&vnode.Resumed{}, &vnode.Resumed{Cursor: []byte{1}}, &vnode.Resumed{Cursor: []byte{1, 1}}, &vnode.Stored{}, &vnode.Refusal{}, &vnode.Failure{}, nil,
				}).Draw(rt, "answer")}
			}
			for _, e := range m.Step(now, ev, nil) {
				switch e := e.(type) {
				case Ask:
					open = append(open, e.I)
					pending[e.I] = e.Node
					if e.Node == "n5" {
						rt.Fatal("it asks itself over the network")
					}
				case Do:
					open = append(open, e.I)
				case Wake:
					if e.At <= now {
						rt.Fatalf("at %v it wants to be woken at %v", now, e.At)
					}
				}
			}
			running := 0
			for _, j := range m.jobs {
				if j.pending != 0 && !j.running {
					rt.Fatalf("job %+v waits for an answer without its turn", j.key)
				}
				if j.running {
					running++
				}
			}
			if running > 2 {
				rt.Fatalf("%d jobs run", running)
			}
			m.Jobs()
		}
	})
}

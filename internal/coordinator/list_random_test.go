package coordinator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// denials are what a vnode may answer, or not, instead of what was asked.
func denials(i int) []Event {
	return []Event{
		NotSent{I: i, Why: "no connection"},
		Lost{I: i, Why: "broken"},
		Replied{I: i, Msg: &vnode.Refusal{Code: vnode.CodeLacking, Text: "waits for data"}},
		Replied{I: i, Msg: &vnode.Refusal{Code: vnode.CodeOverload, Text: "overload"}},
		Replied{I: i, Msg: &vnode.Failure{Code: vnode.CodeStorage, Text: "failed"}},
		Replied{I: i, Msg: &vnode.Pong{}},
	}
}

// listing is what the test knows of a Keys.
type listing struct {
	*world
	held [][]string // by home
}

// A page is what the vnodes hold, in the order of the ring, without a gap, or it is an
// error.
func TestPagesInAnyOrder(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		l := &listing{world: newWorld(t), held: make([][]string, 8)}
		var all []string
		for h := range l.held {
			for i := range rapid.IntRange(0, 3).Draw(t, "keys") {
				l.held[h] = append(l.held[h], fmt.Sprintf("%d.%d", h, i))
			}
			all = append(all, l.held[h]...)
		}
		o := kv.ListOptions{Limit: rapid.IntRange(1, 12).Draw(t, "limit"), Timeout: time.Second}
		from := rapid.IntRange(0, 7).Draw(t, "from")
		o.Token = formatToken(kv.Bucket{Name: "b"}, from, "")
		for _, held := range l.held[:from] {
			all = all[len(held):]
		}
		k := NewKeys(l.view, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: o})
		l.machine, l.asked, l.renewed = k, l.judgeAsk, func() {}
		l.over = func() {
			page, err := k.Result()
			if err != nil {
				return
			}
			want := all[:min(len(all), o.Limit)]
			if !slices.Equal(page.Keys, want) {
				l.Fatalf("the page is %v; want %v", page.Keys, want)
			}
			if page.Next == "" && len(want) < len(all) {
				l.Fatalf("the page ends the listing after %d of %d keys", len(want), len(all))
			}
		}
		l.live(l.outcome, time.Second)
	})
}

func (l *listing) judgeAsk(a Ask) {
	m := a.Msg.(*vnode.List)
	for _, r := range l.view.Ring.Primaries(m.Home, 3) {
		if r == a.To {
			return
		}
	}
	l.Fatalf("home %d is asked of %v", m.Home, a.To)
}

func (l *listing) outcome(a Ask) Event {
	switch rapid.IntRange(0, 5).Draw(l.T, "outcome") {
	case 0:
		return rapid.SampledFrom(denials(a.I)).Draw(l.T, "denied")
	case 1:
		return l.stale(a)
	}
	m := a.Msg.(*vnode.List)
	answer := &vnode.Listed{}
	for _, key := range l.held[m.Home] {
		switch {
		case key <= m.After:
		case len(answer.Keys) == m.Limit:
			answer.More = true
		default:
			answer.Keys, answer.Last = append(answer.Keys, key), key
		}
	}
	return Replied{I: a.I, Msg: answer}
}

// Each row of a census is the answer of the node that it names, which was the owner when
// it was asked; or it says why there is none.
func TestCensusesInAnyOrder(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		w := newWorld(t)
		c := NewCensus(w.view, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Timeout: time.Second}})
		w.machine, w.renewed = c, func() {}
		w.asked = func(a Ask) {
			if w.view.Ring.Owner(a.To.Partition) != a.To.Node {
				w.Fatalf("asked %v, whose owner is %s", a.To, w.view.Ring.Owner(a.To.Partition))
			}
		}
		w.over = func() {
			all, err := c.Result()
			if err != nil || len(all) != 8 {
				w.Fatalf("%d rows, %v", len(all), err)
			}
			for i, row := range all {
				if row.Partition.Index != i || (row.Error == "") != slices.Equal(row.Keys, []string{row.Node, fmt.Sprint(i)}) {
					w.Fatalf("row %d is %+v", i, row)
				}
			}
		}
		w.live(func(a Ask) Event {
			switch rapid.IntRange(0, 5).Draw(w.T, "outcome") {
			case 0:
				return rapid.SampledFrom(denials(a.I)).Draw(w.T, "denied")
			case 1:
				return w.stale(a)
			}
			return Replied{I: a.I, Msg: &vnode.Listed{Keys: []string{a.To.Node, fmt.Sprint(a.To.Partition)}}}
		}, time.Second)
	})
}

// Any request ends by its deadline, whatever it hears: answers to asks that were
// never made, of every kind, included.
func TestAnyEventsEndByTheDeadline(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		w := newWorld(t)
		write := kv.WriteOptions{Timeout: time.Second, W: drawQuorum(t, "W")}
		machines := []Machine{
			NewPut(w.view, PutRequest{Key: k1, Options: write}),
			NewPut(w.view, PutRequest{Key: k1, Options: write, Forwarded: true}),
			NewDelete(w.view, PutRequest{Key: k1, Options: write}),
			NewGet(w.view, GetRequest{Key: k1, Options: kv.ReadOptions{Timeout: time.Second}}),
			NewKeys(w.view, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Timeout: time.Second}}),
			NewCensus(w.view, KeysRequest{Bucket: kv.Bucket{Name: "b"}, Options: kv.ListOptions{Timeout: time.Second}}),
			NewPing(w.view, time.Second),
		}
		m := rapid.SampledFrom(machines).Draw(t, "machine")
		answers := 0
		step := func(now time.Duration, ev Event) {
			for _, e := range m.Step(now, ev, nil) {
				if _, ok := e.(Answer); ok {
					answers++
				}
			}
		}
		step(0, Start{})
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			step(time.Duration(rapid.IntRange(0, 999).Draw(t, "at"))*time.Millisecond, w.drawEvent())
		}
		step(time.Second, Tick{})
		step(time.Minute, Tick{})
		if !m.Done() || answers != 1 {
			t.Fatalf("done %v, with %d answers", m.Done(), answers)
		}
	})
}

func (w *world) drawEvent() Event {
	i := rapid.IntRange(-1, 12).Draw(w.T, "number")
	switch rapid.IntRange(0, 5).Draw(w.T, "event") {
	case 0:
		return rapid.SampledFrom(denials(i)).Draw(w.T, "denied")
	case 1:
		return NodeDown{Node: rapid.SampledFrom([]string{"n2", "n3", "n4", "nobody"}).Draw(w.T, "node")}
	case 2:
		return rapid.SampledFrom([]Event{Tick{}, Refreshed{}, Refreshed{View: w.view}}).Draw(w.T, "other")
	case 3:
		w.view.Epoch++
		w.drawTransfer()
		return Refreshed{View: w.view}
	}
	return Replied{I: i, Msg: rapid.SampledFrom([]vnode.Message{
		&vnode.Minted{Object: encoded(1)}, &vnode.Minted{}, &vnode.Stored{}, &vnode.Stored{Live: true},
		&vnode.Fetched{}, &vnode.Fetched{Object: encoded(2)}, &vnode.Fetched{Object: []byte{1}},
		&vnode.Listed{}, &vnode.Listed{Keys: []string{"a"}, Last: "a", More: true}, &vnode.Listed{More: true},
		&vnode.Refusal{Code: vnode.CodeStale, Epoch: 9}, &vnode.Refusal{Code: vnode.CodeStale}, &vnode.Refusal{Code: vnode.CodeLacking},
		&Forwarded{}, &Forwarded{Err: kv.ErrOverload}, &vnode.Delivered{}, nil,
	}).Draw(w.T, "message")}
}

// The plan of a write holds together, whatever it hears, and however often the places of
// its key change.
func TestPlansStayWhole(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		w := newWorld(t)
		p := NewPut(w.view, PutRequest{Key: k1, Options: kv.WriteOptions{W: kv.All, Timeout: time.Second}})
		p.Step(0, Start{}, nil)
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			p.Step(time.Duration(rapid.IntRange(0, 999).Draw(t, "at"))*time.Millisecond, w.drawEvent(), nil)
			if p.Done() {
				return
			}
			checkPlan(t, &p.plan)
		}
	})
}

// checkPlan checks the invariants of a plan.
func checkPlan(t *rapid.T, p *plan) {
	if len(p.asked) != len(p.places) || len(p.replies) != len(p.places) {
		t.Fatalf("%d places, %d asked, %d replies", len(p.places), len(p.asked), len(p.replies))
	}
	next := p.view.Next
	if next == nil {
		next = p.view.Ring
	}
	places := 0
	for i, place := range p.places {
		switch group := p.asked[i].group; {
		case group != i && p.current(i) && place.Role != kv.Fallback:
			t.Fatalf("replica %d stands in as %v", i, place)
		case group != i && p.current(i) && p.places[group].Partition != place.Partition:
			t.Fatalf("%v stands in for %v", place, p.places[group])
		case group != i && p.current(i) && !p.refreshing && p.hasPlace(place.Node):
			t.Fatalf("%v stands in, and has a place", place)
		case p.isPlace(i):
			places++
			if place.Now != holds(p.view.Ring, p, place) || place.Next != holds(next, p, place) {
				t.Fatalf("%+v is not what the rings say", place)
			}
		}
		for j := range i {
			if p.asked[i].number == p.asked[j].number {
				t.Fatalf("replicas %d and %d have the same number", i, j)
			}
			if p.places[j].Partition == place.Partition && p.places[j].Node == place.Node {
				t.Fatalf("%v is there twice", place)
			}
		}
	}
	if want := len(ring.Places(p.view.Ring, p.view.Next, p.home, 3, 3)); p.refreshing || places == want {
		return
	}
	t.Fatalf("%d places; %v", places, p.places)
}

// holds reports whether a ring has a replica of the plan's key there.
func holds(r *ring.Ring, p *plan, place ring.Place) bool {
	return slices.ContainsFunc(r.Primaries(p.home, 3), func(q ring.Replica) bool {
		return q.Partition == place.Partition && q.Node == place.Node
	})
}

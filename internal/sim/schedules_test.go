package sim

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// scheduleDepth is how many choices are tried in every combination; from there
// on what was first goes first.
const scheduleDepth = 6

// TestEverySchedule tries every order in which the first steps of two writes to
// one key can happen on three replicas, with at most one crash anywhere among
// them: messages, turns of vnodes, fsyncs. Whatever the order, an acknowledged write is there in the
// end, and the replicas agree.
func TestEverySchedule(t *testing.T) {
	for _, blind := range []bool{true, false} {
		t.Run(fmt.Sprintf("blind=%t", blind), func(t *testing.T) {
			var c choices
			schedules := 0
			for ; c.next(); schedules++ {
				w := newWorld(&c)
				w.play(blind)
				if err := w.judge(); err != "" {
					t.Fatalf("%s\n%s", err, w.log.String())
				}
			}
			t.Logf("%d schedules", schedules)
			if schedules < 1000 {
				t.Errorf("only %d schedules: the choices do not branch", schedules)
			}
		})
	}
}

// choices counts through all sequences of choices, as an odometer does whose
// wheels have as many figures as there were choices.
type choices struct {
	begun  bool
	digits []int // what to choose
	widths []int // among how many it was chosen
	at     int
}

// next moves on to the next sequence, and says whether there is one.
func (c *choices) next() bool {
	if !c.begun {
		c.begun = true
		return true
	}
	c.at = 0
	for n := len(c.digits); n > 0; n-- {
		if c.digits[n-1]++; c.digits[n-1] < c.widths[n-1] {
			c.digits, c.widths = c.digits[:n], c.widths[:n]
			return true
		}
	}
	return false
}

// choose is a number below n.
func (c *choices) choose(n int) int {
	if c.at == len(c.digits) {
		if c.at >= scheduleDepth {
			return 0
		}
		c.digits, c.widths = append(c.digits, 0), append(c.widths, n)
	}
	c.at++
	return c.digits[c.at-1]
}

// world is three replicas of one key, and the writes that go on.
type world struct {
	c       *choices
	log     bytes.Buffer
	ring    *ring.Ring
	key     kv.Key
	places  []*site // by replica
	writes  []*writing
	pending []action
	crashed bool
	actors  byte
}

// site is the vnode of one replica, with a disk of its own.
type site struct {
	r     ring.Replica
	mem   *storage.Memory
	v     *vnode.Vnode
	start int // counts starts
}

// writing is a write in progress.
type writing struct {
	id    byte
	at    *site
	start int
	m     *coordinator.Put
	over  bool
	done  bool // acknowledged
}

// action is something that may happen next.
type action struct {
	name string
	run  func()
}

func newWorld(c *choices) *world {
	w := &world{c: c, key: kv.Key{Bucket: "b", Name: "k"}}
	r, err := ring.New([]string{"n1", "n2", "n3", "n1", "n2", "n3", "n1", "n2"})
	if err != nil {
		panic(err)
	}
	w.ring = r
	for _, replica := range r.Primaries(r.Home(w.key), 3) {
		p := &site{r: replica, mem: storage.NewMemory()}
		w.places = append(w.places, p)
		w.begin(p)
	}
	return w
}

// begin starts the vnode of a site, as a new actor.
func (w *world) begin(p *site) {
	w.actors++
	p.start++
	p.v = vnode.New(vnode.Config{Partition: p.r.Partition, Actor: object.Actor{w.actors}}, p.mem)
}

func (w *world) may(name string, run func()) { w.pending = append(w.pending, action{name, run}) }

// play makes a first version that all have, unless the writes are blind, and
// then lets two writes go on in the order of the choices.
func (w *world) play(blind bool) {
	var context kv.Context
	if !blind {
		first := w.write(0, 1, nil)
		w.drain()
		receipt, _ := first.m.Result()
		context = receipt.Context
	}
	w.write(0, 2, context)
	w.write(1, 3, context)
	for len(w.pending) > 0 {
		n := len(w.pending)
		if !w.crashed {
			n += len(w.places)
		}
		i := w.c.choose(n)
		if i >= len(w.pending) {
			w.crash(w.places[i-len(w.pending)])
			continue
		}
		w.take(i)
	}
}

// drain lets everything happen in order, without choices.
func (w *world) drain() {
	for len(w.pending) > 0 {
		w.take(0)
	}
}

func (w *world) take(i int) {
	a := w.pending[i]
	w.pending = slices.Delete(w.pending, i, i+1)
	fmt.Fprintln(&w.log, a.name)
	a.run()
}

// crash loses all that the site has not made durable, and starts it anew.
func (w *world) crash(p *site) {
	fmt.Fprintf(&w.log, "%s crashes\n", p.r.Node)
	w.crashed = true
	p.mem = p.mem.Crash(0)
	w.begin(p)
}

// write begins a put at a replica.
func (w *world) write(at int, id byte, context kv.Context) *writing {
	p := w.places[at]
	view := coordinator.View{Ring: w.ring, Self: p.r.Node, Up: func(string) bool { return true }, Replicas: 3, Wall: epoch}
	wr := &writing{id: id, at: p, start: p.start, m: coordinator.NewPut(view, coordinator.PutRequest{
		Key: w.key, Value: kv.Value{Data: []byte{id}}, Options: kv.WriteOptions{Context: context, RequestID: kv.RequestID{7: id}},
	})}
	w.writes = append(w.writes, wr)
	w.feed(wr, coordinator.Start{})
	return wr
}

// feed steps a write, if the node where it runs has not crashed.
func (w *world) feed(wr *writing, ev coordinator.Event) {
	if wr.start != wr.at.start || wr.over {
		return
	}
	for _, e := range wr.m.Step(0, ev, nil) {
		switch e := e.(type) {
		case coordinator.Ask:
			w.ask(wr, e)
		case coordinator.Answer:
			_, err := wr.m.Result()
			wr.over, wr.done = true, err == nil
			fmt.Fprintf(&w.log, "write %d is answered: %v\n", wr.id, err)
		}
	}
}

// ask lets a message arrive at its replica some time.
func (w *world) ask(wr *writing, e coordinator.Ask) {
	p := w.places[slices.IndexFunc(w.places, func(p *site) bool { return p.r.Partition == e.To.Partition })]
	name := fmt.Sprintf("write %d: %T at %s", wr.id, e.Msg, p.r.Node)
	w.may(name, func() {
		if p.start != wr.start && p == wr.at {
			return // it was for the incarnation that crashed
		}
		var b storage.Batch
		out := p.v.Handle(epoch.UnixMilli(), []vnode.Message{e.Msg}, &b)
		if _, err := p.mem.Apply(&b, true); err != nil {
			panic(err)
		}
		for _, a := range out.Early {
			w.feed(wr, coordinator.Replied{I: e.I, Msg: a.Msg})
		}
		start, mem, seq := p.start, p.mem, p.mem.Applied()
		w.may(name+" is durable", func() {
			if p.start != start {
				w.feed(wr, coordinator.Lost{I: e.I, Why: "crashed"})
				return
			}
			mem.MakeDurable(seq)
			for _, a := range out.Durable {
				w.feed(wr, coordinator.Replied{I: e.I, Msg: a.Msg})
			}
		})
	})
}

// judge lets every replica send what it has to every other, and tells what is
// wrong then; empty: nothing.
func (w *world) judge() string {
	for range 2 {
		for _, from := range w.places {
			for _, to := range w.places {
				w.repair(from, to)
			}
		}
	}
	all := make([]object.Object, len(w.places))
	for i, p := range w.places {
		all[i] = w.holds(p)
		if !bytes.Equal(all[i].Encode(), all[0].Encode()) {
			return fmt.Sprintf("%s and %s differ: %v, %v", p.r.Node, w.places[0].r.Node, all[i], all[0])
		}
	}
	there := idsOf(all[0])
	dots := len(all[0].Siblings)
	for _, wr := range w.writes {
		if wr.done && wr.id != 1 && !slices.Contains(there, idOf(kv.RequestID{7: wr.id})) {
			return fmt.Sprintf("acknowledged write %d is not among %v", wr.id, there)
		}
		if wr.done && wr.id != 1 && slices.Contains(there, 1) {
			return fmt.Sprintf("write 1 was replaced by %d and is there: %v", wr.id, there)
		}
	}
	if slices.Sort(there); len(slices.Compact(there)) != dots {
		return fmt.Sprintf("a write stands twice: %v", all[0])
	}
	return ""
}

func (w *world) holds(p *site) object.Object {
	b, err := p.mem.Get(vnode.DataKey(p.r.Partition, w.ring.Home(w.key), w.key))
	if err != nil {
		return object.Object{}
	}
	o, err := object.Decode(b)
	if err != nil {
		panic(err)
	}
	return o
}

// repair sends what one replica holds to another.
func (w *world) repair(from, to *site) {
	o := w.holds(from)
	if from == to || len(o.Clock) == 0 {
		return
	}
	var b storage.Batch
	to.v.Handle(epoch.UnixMilli(), []vnode.Message{&vnode.Store{Home: w.ring.Home(w.key), Key: w.key, Object: o.Encode()}}, &b)
	if _, err := to.mem.Apply(&b, true); err != nil {
		panic(err)
	}
}

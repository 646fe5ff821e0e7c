package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/kv"
)

// The bucket types of a run with data types.
const (
	ledgerType = "ledgers" // maps of a counter, and of the set of the operations that have added to it
	setType    = "sets"
)

const (
	dataClients = 3
	perType     = 2 // keys
	poolSize    = 5 // elements of a set that are added and removed again and again
	resends     = 2 // of an operation that is in doubt
)

// deletedName is the name of the keys that are deleted at times.
const deletedName = "d1"

// dataTypes are the clients of data types, and what they did.
//
// Each operation on a ledger adds an amount to its counter and an element of its own
// to its set, under one dot. So what a reader sees of the set tells what the counter
// must be, whatever is in doubt. Some operations have a request id, and are sent again with it when
// they are in doubt; some keys are deleted at times. What can be said of these is said in editions.go.
type dataTypes struct {
	clients []*dataClient
	begun   int     // operations
	entries []entry // of the ledgers; the element of number i is i
	adds    []change
	removes []change
	deletes map[kv.RequestID]check.Outcome

	editions map[kv.Key]*editions
	dots     map[object.Dot]bool // of all of them
}

// entry is one operation on a ledger.
type entry struct {
	key     kv.Key
	amount  int64
	fresh   bool // reads that are fresh see it once it is acknowledged
	end     time.Duration
	outcome check.Outcome
}

// change is one element added to a set, or removed.
type change struct {
	key     kv.Key
	elem    string
	seen    time.Duration // of a removal: when the read was answered whose context it has
	start   time.Duration
	sent    int // how often
	outcome check.Outcome
}

// joined is what is known of an operation that was sent again.
func joined(x, y check.Outcome) check.Outcome {
	switch {
	case x == check.Done || y == check.Done:
		return check.Done
	case x == check.Doubt || y == check.Doubt:
		return check.Doubt
	}
	return y
}

// dataClient does one operation after the other.
type dataClient struct {
	*client
	read map[kv.Key]reading
}

// reading is what the client has read last of a set.
type reading struct {
	context kv.Context
	elems   []string
	at      time.Duration
}

// keysOfData are the keys that hold data types.
func keysOfData() []kv.Key {
	var keys []kv.Key
	for i := range perType {
		name := "d" + strconv.Itoa(i)
		keys = append(keys, kv.Key{Type: ledgerType, Bucket: "l", Name: name}, kv.Key{Type: setType, Bucket: "s", Name: name})
	}
	return keys
}

func isData(k kv.Key) bool { return k.Type == ledgerType || k.Type == setType }

// typesOfData makes their bucket types.
func typesOfData() (cs []membership.Command) {
	for name, kind := range map[string]string{ledgerType: "map", setType: "set"} { //det:ok the order of types does not show
		props := kv.Properties{{Name: "datatype", Value: kind}}
		cs = append(cs, membership.SetType{Name: name, Do: membership.TypeCreate, Props: props}, membership.SetType{Name: name, Do: membership.TypeActivate})
	}
	return cs
}

// begin lets the clients of data types begin.
func (d *dataTypes) begin(s *Sim) {
	if !s.weather.Data {
		return
	}
	d.editions, d.dots = make(map[kv.Key]*editions), make(map[object.Dot]bool)
	d.deletes = make(map[kv.RequestID]check.Outcome)
	for i := range dataClients {
		c := &dataClient{
			client: &client{s: s, i: i, rnd: newChance(s.weather.Seed, "data client "+strconv.Itoa(i))},
			read:   make(map[kv.Key]reading),
		}
		c.roam()
		d.clients = append(d.clients, c)
		c.think()
	}
}

// unfinished names a client that waits; empty: there is none.
func (d *dataTypes) unfinished() string {
	for _, c := range d.clients {
		if c.busy {
			return fmt.Sprintf("data client %d waits for %s", c.i, c.at.name)
		}
	}
	return ""
}

func (c *dataClient) think() {
	c.busy = false
	c.s.after(c.rnd.about(c.s.weather.Think), c.act)
}

// able reports whether the client's node takes operations.
func (c *dataClient) able() bool {
	n := c.at
	return !c.s.paused && n.running && !n.closing && c.s.now >= n.frozen && c.s.isMember(n)
}

// act begins an operation.
func (c *dataClient) act() {
	w := &c.s.weather
	if c.s.stopped {
		return
	}
	if c.rnd.hit(w.Roam) {
		c.roam()
	}
	if !c.able() {
		c.roam()
		c.think()
		return
	}
	c.busy = true
	c.s.data.begun++
	keys := keysOfData()
	k := keys[c.rnd.IntN(len(keys))]
	switch {
	case c.rnd.hit(0.4):
		c.fetch(k)
	case k.Name == deletedName && c.rnd.hit(0.07):
		c.erase(k)
	case k.Type == ledgerType:
		c.enter(k)
	default:
		c.change(k)
	}
}

// update sends an operation, and hands its outcome on. At times it is named, and then it is
// sent again while it is in doubt.
func (c *dataClient) update(k kv.Key, op kv.Op, o kv.WriteOptions, done func(check.Outcome)) {
	o.ReturnBody = false
	left := 0
	if c.rnd.hit(0.3) {
		o.RequestID, left = c.requestID(), resends
	}
	c.send(k, op, o, left, done)
}

// requestID is one that no put of the run has.
func (c *dataClient) requestID() (id kv.RequestID) {
	binary.BigEndian.PutUint64(id[:8], 1<<63|c.rnd.Uint64())
	binary.BigEndian.PutUint64(id[8:], c.rnd.Uint64())
	return id
}

// send sends an operation, and again up to so many times.
func (c *dataClient) send(k kv.Key, op kv.Op, o kv.WriteOptions, left int, done func(check.Outcome)) {
	n, start := c.at, c.s.now
	m := coordinator.NewUpdate(n.view(), k, op, o)
	next := c.think
	n.run(m, k, o.Timeout, func(*request) {
		_, err := m.Result()
		got := outcome(check.Put, err)
		if done(got); got == check.Doubt && left > 0 {
			next = func() { c.resend(k, op, o, left-1, done) }
		}
		c.ended("update", k, start, got, err)
		next()
	}, func() {
		done(check.Doubt)
		c.roam()
		if left > 0 {
			next = func() { c.resend(k, op, o, left-1, done) }
		}
		next()
	})
}

// resend sends an operation again after a while, if there is somebody to take it.
func (c *dataClient) resend(k kv.Key, op kv.Op, o kv.WriteOptions, left int, done func(check.Outcome)) {
	c.busy = false
	c.s.after(c.rnd.about(c.s.weather.Think), func() {
		if c.s.stopped {
			return
		}
		if c.rnd.hit(0.5) {
			c.roam()
		}
		if !c.able() {
			c.roam()
			c.think()
			return
		}
		c.busy = true
		c.s.count("an operation was sent again")
		c.send(k, op, o, left, done)
	})
}

// erase deletes a key: what its client has read, or what the delete reads itself.
func (c *dataClient) erase(k kv.Key) {
	n, s := c.at, c.s
	o, _ := c.writeOptions()
	o.ReturnBody, o.RequestID, o.Context = false, c.requestID(), c.context(k)
	start, done := s.now, s.data.deletes
	m := coordinator.NewDelete(n.view(), coordinator.PutRequest{Key: k, Options: o})
	n.run(m, k, o.Timeout, func(*request) {
		_, err := m.Result()
		done[o.RequestID] = outcome(check.Delete, err)
		c.ended("erase", k, start, done[o.RequestID], err)
		c.think()
	}, func() {
		done[o.RequestID] = check.Doubt
		c.roam()
		c.think()
	})
}

// ended counts an answer, and checks that it may be one.
func (c *dataClient) ended(what string, k kv.Key, start time.Duration, got check.Outcome, err error) {
	s := c.s
	s.count(what + " " + got.String())
	s.number(uint64(got))
	switch {
	case errors.Is(err, kv.ErrInternal), errors.Is(err, kv.ErrDataType), errors.Is(err, kv.ErrPrecondition), errors.Is(err, kv.ErrContext):
		s.fail("data type", k, "a client's %s ends with: %v", what, err)
	case s.live && start >= s.alive && err != nil && !errors.Is(err, kv.ErrNotFound):
		s.fail("liveness", k, "all is healed, but a client's %s ends with: %v", what, err)
	}
}

// enter adds to a ledger.
func (c *dataClient) enter(k kv.Key) {
	d := &c.s.data
	o, plain := c.writeOptions()
	i := len(d.entries)
	e := entry{key: k, amount: int64(c.rnd.IntN(2000)) - 1000, fresh: plain && c.s.overlap() && strict(o.SloppyQuorum)}
	d.entries = append(d.entries, e)
	o.Context = c.context(k)
	c.update(k, kv.MapOp{Updates: []kv.FieldOp{
		{Field: kv.Field{Name: "sum", Kind: kv.Counter}, Op: kv.CounterOp(e.amount)},
		{Field: kv.Field{Name: "entries", Kind: kv.Set}, Op: kv.SetOp{Adds: [][]byte{[]byte(strconv.Itoa(i))}}},
	}}, o, func(got check.Outcome) {
		e := &d.entries[i]
		if e.outcome = joined(e.outcome, got); got == check.Done {
			e.end = c.s.now
		}
	})
}

// context is what the client has read of a key, or, at times, nothing.
func (c *dataClient) context(k kv.Key) kv.Context {
	if c.rnd.hit(0.3) {
		return nil
	}
	return c.read[k].context
}

// change adds an element to a set, or removes one that the client has read there.
func (c *dataClient) change(k kv.Key) {
	d := &c.s.data
	o, _ := c.writeOptions()
	if r := c.read[k]; len(r.elems) > 0 && c.rnd.hit(0.5) {
		elem := r.elems[c.rnd.IntN(len(r.elems))]
		i := len(d.removes)
		d.removes = append(d.removes, change{key: k, elem: elem, seen: r.at, start: c.s.now})
		o.Context = r.context
		c.update(k, kv.SetOp{Removes: [][]byte{[]byte(elem)}}, o, func(got check.Outcome) {
			d.removes[i].outcome = joined(d.removes[i].outcome, got)
		})
		return
	}
	i := len(d.adds)
	elem := "once " + strconv.Itoa(i)
	if c.rnd.hit(0.5) {
		elem = "often " + strconv.Itoa(c.rnd.IntN(poolSize))
	}
	d.adds = append(d.adds, change{key: k, elem: elem, start: c.s.now})
	o.Context = c.context(k)
	c.update(k, kv.SetOp{Adds: [][]byte{[]byte(elem)}}, o, func(got check.Outcome) {
		d.adds[i].sent++
		d.adds[i].outcome = joined(d.adds[i].outcome, got)
	})
}

// fetch reads a data type.
func (c *dataClient) fetch(k kv.Key) {
	n, s := c.at, c.s
	o, plain := c.readOptions()
	plain = plain && s.overlap() && strict(o.SloppyQuorum)
	start := s.now
	m := coordinator.NewFetch(n.view(), coordinator.GetRequest{Key: k, Options: o})
	n.run(m, k, o.Timeout, func(*request) {
		got, err := m.Result()
		if err == nil || errors.Is(err, kv.ErrNotFound) {
			c.saw(k, got, start, plain)
		}
		c.ended("fetch", k, start, outcome(check.Get, err), err)
		c.think()
	}, func() {
		c.roam()
		c.think()
	})
}

// saw remembers what was read, and checks it. A fresh read sees what fresh writes had
// acknowledged before it began.
func (c *dataClient) saw(k kv.Key, got kv.Data, start time.Duration, fresh bool) {
	r := reading{context: got.Context, at: c.s.now}
	if k.Type == setType {
		for _, e := range got.Value.Set {
			r.elems = append(r.elems, string(e))
		}
	}
	c.read[k] = r
	clock, err := object.DecodeContext(k, got.Context)
	if err != nil {
		c.s.fail("context", k, "a context that was handed out is refused: %v", err)
		return
	}
	if k.Name == deletedName {
		if elem, why := c.s.data.of(k).back(elementsOf(got.Value), clock, nil); why != "" {
			c.s.fail("back", k, "a reader sees element %q, but %s", elem, why)
		}
	}
	if k.Type == setType {
		return
	}
	c.s.data.audit(c.s, k, got.Value, clock, func(e *entry) bool { return fresh && e.fresh && e.end < start })
}

// audit checks a ledger under the clock of what was read: its counter is the sum of the entries that
// are there, each as often as it was applied, and among these are all that are acknowledged and must be.
func (d *dataTypes) audit(s *Sim, k kv.Key, v kv.DataValue, clock object.Vector, must func(*entry) bool) {
	sum, found := fieldsOf(v)
	h := d.of(k)
	there, times := make([]bool, len(d.entries)), h.times(clock)
	want := int64(0)
	for _, elem := range found {
		i, err := strconv.Atoi(string(elem))
		if err != nil || i >= len(d.entries) || d.entries[i].key != k || d.entries[i].outcome == check.Failed {
			s.fail("phantom", k, "entry %q is there, and nobody has made it, or it was reported as not done", elem)
			return
		}
		there[i] = true
		want += d.entries[i].amount * int64(h.timesOf(elem, times))
	}
	if sum != want && !h.concurrent(clock) {
		s.fail("counter", k, "the counter is %d, and the %d entries that are there come to %d", sum, len(found), want)
		return
	}
	for i := range d.entries {
		e := &d.entries[i]
		if !there[i] && e.outcome == check.Done && e.key == k && must(e) && !h.wasStruck(strconv.Itoa(i)) {
			s.fail("lost", k, "entry %d, acknowledged at %v, is not there", i, e.end)
			return
		}
	}
}

// of is what is known of a key from inside.
func (d *dataTypes) of(k kv.Key) *editions {
	if h := d.editions[k]; h != nil {
		return h
	}
	return &editions{}
}

// fieldsOf are what a ledger has.
func fieldsOf(v kv.DataValue) (sum int64, entries [][]byte) {
	for _, f := range v.Map {
		switch f.Field.Kind {
		case kv.Counter:
			sum = f.Value.Counter
		case kv.Set:
			entries = f.Value.Set
		}
	}
	return sum, entries
}

// settle checks what the replicas of a key agree on at the end.
func (d *dataTypes) settle(s *Sim, k kv.Key, obj object.Object) {
	kind := kv.Map
	if k.Type == setType {
		kind = kv.Set
	}
	h, err := crdt.Hold(obj, kind, 0)
	switch {
	case err != nil:
		s.fail("encoding", k, "at the end: %v", err)
	case kind == kv.Map:
		d.audit(s, k, h.State.Value(), obj.Clock, func(*entry) bool { return true })
	default:
		d.settleSet(s, k, h.State.Value().Set)
	}
	if err != nil {
		return
	}
	if d.of(k).concurrent(obj.Clock) {
		s.count("a delete and an operation did not know of each other")
	}
	if elem, why := d.of(k).back(elementsOf(h.State.Value()), obj.Clock, d.deletes); why != "" {
		s.fail("back", k, "at the end element %q is there, but %s", elem, why)
	}
}

// settleSet checks each element of a set at the end. One is there if an add of it was
// acknowledged that no removal can have seen, and no delete has; it is not if nobody has added it,
// or if its only add, which was sent once, was seen by a removal that was acknowledged: a delete may
// bring back what was removed before.
func (d *dataTypes) settleSet(s *Sim, k kv.Key, found [][]byte) {
	there := make(map[string]bool, len(found))
	for _, e := range found {
		there[string(e)] = true
	}
	seen := make(map[string]time.Duration) // until when a removal may have seen adds
	removed := make(map[string]bool)
	for _, r := range d.removes {
		if r.key == k && r.outcome != check.Failed {
			seen[r.elem] = max(seen[r.elem], r.seen)
			removed[r.elem] = removed[r.elem] || r.outcome == check.Done && strings.HasPrefix(r.elem, "once")
		}
	}
	added, h := make(map[string]bool), d.of(k)
	for _, a := range d.adds {
		if a.key != k || a.outcome == check.Failed {
			continue
		}
		added[a.elem] = true
		removed[a.elem] = removed[a.elem] && a.sent == 1 && k.Name != deletedName
		until, any := seen[a.elem]
		if a.outcome == check.Done && !there[a.elem] && (!any || a.start > until) && !h.wasStruck(a.elem) {
			s.fail("lost", k, "element %q was added at %v, acknowledged, and nobody has removed that, but it is not there", a.elem, a.start)
			return
		}
	}
	for _, e := range found {
		elem := string(e)
		if !added[elem] || removed[elem] {
			s.fail("back", k, "element %q is there, though it was removed or never added", elem)
			return
		}
	}
}

package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/quorum"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/sim/check"
	"github.com/tanodb/tanodb/kv"
)

// answerSlack is how long after its deadline an answer may come.
const answerSlack = 10 * time.Millisecond

// remembered is how many contexts of a key a client keeps, to write with an old
// one at times.
const remembered = 4

// client does one operation after the other, from what it has seen itself.
type client struct {
	s     *Sim
	i     int
	rnd   chance
	at    *node
	known map[kv.Key][]knowledge // latest last
	busy  bool
}

// knowledge is a context, and the writes that its owner has seen with it.
type knowledge struct {
	context kv.Context
	seen    []check.ID
}

func newClient(s *Sim, i int) *client {
	c := &client{s: s, i: i, rnd: newChance(s.weather.Seed, "client "+strconv.Itoa(i)), known: make(map[kv.Key][]knowledge)}
	c.roam()
	return c
}

func (c *client) roam() {
	nodes := c.s.members()
	c.at = nodes[c.rnd.IntN(len(nodes))]
}

// think begins the next operation after a while.
func (c *client) think() {
	c.busy = false
	chapter := c.s.chapter
	c.s.after(c.rnd.about(c.s.weather.Think), func() {
		if c.s.chapter == chapter {
			c.act()
		}
	})
}

// act begins an operation.
func (c *client) act() {
	w := &c.s.weather
	if c.s.stopped {
		return
	}
	if c.rnd.hit(w.Roam) {
		c.roam()
	}
	if n := c.at; c.s.paused || !n.running || n.closing || c.s.now < n.frozen || !c.s.isMember(n) {
		c.roam()
		c.think()
		return
	}
	c.busy = true
	switch {
	case c.rnd.hit(0.02):
		c.list()
	case !c.rnd.hit(w.Writes):
		c.get(c.key())
	case c.rnd.hit(w.Deletes):
		c.write(c.key(), check.Delete)
	default:
		c.write(c.key(), check.Put)
	}
}

// The buckets, and the key of a number. Keys are spread over the buckets.
var buckets = [...]string{"a", latestBucket}

const latestBucket = "b"

func keyAt(i int) kv.Key {
	return kv.Key{Bucket: buckets[i%len(buckets)], Name: "k" + strconv.Itoa(i)}
}

func (c *client) key() kv.Key { return keyAt(c.s.hot.key(c.rnd)) }

// begin records an operation that begins, and returns its number.
func (c *client) begin(op check.Op, timeout time.Duration) int {
	op.Client, op.Node = c.i, c.at.name
	op.Start = c.s.now
	op.Due = c.s.now + timeout + answerSlack
	c.s.history.Ops = append(c.s.history.Ops, op)
	return len(c.s.history.Ops) - 1
}

// end records how an operation ended.
func (c *client) end(i int, k kv.Key, n *node, err error) *check.Op {
	s := c.s
	op := &s.history.Ops[i]
	op.End = s.now
	op.Due = max(op.Due, n.thawed+answerSlack)
	op.Outcome = outcome(op.Kind, err)
	if err != nil {
		op.Error = err.Error()
	}
	s.number(uint64(i)<<8 | uint64(op.Outcome))
	s.count(op.Kind.String() + " " + op.Outcome.String())
	if s.watches(k) {
		s.tell(s.now, n.name, "answers %v", op)
	}
	switch {
	case errors.Is(err, kv.ErrInternal):
		s.fail("internal", k, "%v", op)
	case op.Guarded && (errors.Is(err, kv.ErrExists) || errors.Is(err, kv.ErrModified)):
		s.count("condition not met")
	case errors.Is(err, kv.ErrClock) && s.latest(k) && s.allOff(k):
	case s.live && op.Start >= s.alive && err != nil && !errors.Is(err, kv.ErrNotFound):
		s.fail("liveness", k, "all is healed, but: %v", op)
	}
	c.think()
	return op
}

// allOff reports whether nobody who holds the key has a clock that agrees with most:
// then nobody can say which of its writes is the last.
func (s *Sim) allOff(k kv.Key) bool {
	return !slices.ContainsFunc(s.primaries(k), func(r ring.Replica) bool { return s.byName[r.Node].exact() })
}

// outcome is what an answer tells its client.
func outcome(k check.Kind, err error) check.Outcome {
	write := k == check.Put || k == check.Delete
	switch {
	case err == nil, !write && errors.Is(err, kv.ErrNotFound):
		return check.Done
	case write && errors.Is(err, kv.ErrInDoubt):
		return check.Doubt
	}
	return check.Failed
}

// gone records that the node that ran an operation went away.
func (c *client) gone(i int, k kv.Key) {
	op := &c.s.history.Ops[i]
	op.Gone = true
	if c.s.watches(k) {
		c.s.tell(c.s.now, op.Node, "takes with it: %v", op)
	}
	c.roam()
	c.think()
}

// strict reports whether an operation leaves nothing to those who only stand in:
// what they hold a read may not find.
func strict(sloppy kv.Toggle) bool { return !sloppy.Or(true) }

// get reads a key and remembers what it saw.
func (c *client) get(k kv.Key) {
	n := c.at
	o, plain := c.readOptions()
	plain = plain && c.s.overlap()
	i := c.begin(check.Op{Kind: check.Get, Key: k.String(), Fresh: plain && strict(o.SloppyQuorum), Overlaps: plain}, o.Timeout)
	view := n.view()
	g := coordinator.NewGet(view, coordinator.GetRequest{Key: k, Options: o})
	n.run(g, k, o.Timeout, func(*request) {
		obj, err := g.Result()
		if err == nil || errors.Is(err, kv.ErrNotFound) {
			c.s.history.Ops[i].Read = c.saw(k, obj.Values, o.Head)
			c.s.expired(k, obj.Values, view.Wall.Add(c.s.now-c.s.history.Ops[i].Start))
			if len(obj.Context) > 0 {
				c.learn(k, obj.Context, c.s.history.Ops[i].Read)
			}
		}
		c.end(i, k, n, err)
	}, func() { c.gone(i, k) })
}

// learn remembers a context. Deletes show no value: which of them it covers
// is told by the dots that they were given.
func (c *client) learn(k kv.Key, context kv.Context, seen []check.ID) {
	clock, err := object.DecodeContext(k, context)
	if err != nil {
		c.s.fail("context", k, "a context that was handed out is refused: %v", err)
		return
	}
	seen = append(slices.Clone(seen), c.s.inv.covered(k, clock, true)...)
	all := append(c.known[k], knowledge{context, seen})
	c.known[k] = all[max(0, len(all)-remembered):]
}

// recall is a context to write with: mostly the latest, at times an older one
// or none.
func (c *client) recall(k kv.Key) knowledge {
	all := c.known[k]
	switch {
	case len(all) == 0 || c.rnd.hit(c.s.weather.Blind):
		return knowledge{}
	case c.rnd.hit(c.s.weather.Stale):
		return all[c.rnd.IntN(len(all))]
	}
	return all[len(all)-1]
}

// write puts or deletes a key.
func (c *client) write(k kv.Key, kind check.Kind) {
	s, n := c.s, c.at
	id, with := s.newID(), c.recall(k)
	o, plain := c.writeOptions()
	plain = plain && c.s.overlap()
	o.Context = with.context
	binary.BigEndian.PutUint64(o.RequestID[:8], uint64(id))
	binary.BigEndian.PutUint64(o.RequestID[8:], c.rnd.Uint64())
	i := c.begin(check.Op{Kind: kind, Key: k.String(), Write: id, Seen: with.seen, Fresh: plain && strict(o.SloppyQuorum)}, o.Timeout)
	s.history.Ops[i].Spread = s.history.Ops[i].Fresh && (s.weather.Calm || s.live)
	if kind == check.Delete && len(o.Context) == 0 {
		s.reading = append(s.reading, i)
	}
	if s.watches(k) {
		s.tell(s.now, n.name, "begins %v", &s.history.Ops[i])
	}
	req := coordinator.PutRequest{Key: k, Options: o}
	var m coordinator.Machine
	var result func() (kv.Receipt, error)
	if kind == check.Delete {
		d := coordinator.NewDelete(n.view(), req)
		m, result = d, d.Result
	} else {
		req.Value = s.value(id)
		if c.rnd.hit(s.weather.Expiring) {
			req.Value.Expires = n.wall().Add(c.rnd.about(s.weather.Lasting)).Truncate(time.Millisecond)
			s.history.Ops[i].Expires = max(1, req.Value.Expires.Sub(epoch))
		}
		if s.weather.Conditional > 0 && c.rnd.hit(s.weather.Conditional) {
			req.Options.IfNotModified, req.Options.IfNoneMatch = len(o.Context) > 0, len(o.Context) == 0
			s.history.Ops[i].Guarded = true
		}
		p := coordinator.NewWrite(n.view(), req)
		m, result = p, p.Result
	}
	n.run(m, k, o.Timeout, func(r *request) {
		receipt, err := result()
		if err == nil {
			if !r.forwarded {
				s.confirmed(r, k, o)
			}
			c.wrote(k, i, receipt, o)
			a, _ := s.ackedBy(&s.history.Ops[i], o) // checked by confirmed
			s.inv.acknowledged(s, k, a)
		}
		c.end(i, k, n, err)
	}, func() { c.gone(i, k) })
}

// confirmed checks that a write is where its request says it is. A disk that
// was lost meanwhile may have taken a copy with it.
func (s *Sim) confirmed(r *request, k kv.Key, o kv.WriteOptions) {
	id := idOf(o.RequestID)
	if !s.known(id) {
		return
	}
	op := &s.history.Ops[s.writes[id]]
	if s.wiped >= op.Start {
		return
	}
	a, err := s.ackedBy(op, o)
	if err != nil {
		s.fail("acknowledged", k, "write %d is reported as done, though %v", op.Write, err)
		return
	}
	s.inv.confirmed(r, k, a)
}

// ackedBy is what the success of a write with these options says.
func (s *Sim) ackedBy(op *check.Op, o kv.WriteOptions) (acked, error) {
	a := acked{id: op.Write, n: o.N, sloppy: o.SloppyQuorum.Or(true), start: op.Start}
	if a.n == 0 {
		a.n = s.weather.Replicas
	}
	need, err := quorum.Resolve("W", o.W, kv.Majority, a.n)
	a.need = need
	return a, err
}

// wrote remembers the context of a write's receipt. A delete that had none
// read by itself, so its client does not know what its receipt covers.
func (c *client) wrote(k kv.Key, i int, r kv.Receipt, o kv.WriteOptions) {
	op := &c.s.history.Ops[i]
	c.s.inTurn(k, op, r.Replies, o)
	seen := append(slices.Clone(op.Seen), op.Write)
	if o.ReturnBody {
		op.Read = c.saw(k, r.Values, false)
		seen = append(slices.Clone(op.Read), op.Write)
	}
	if len(r.Context) > 0 && (op.Kind == check.Put || len(o.Context) > 0) {
		c.learn(k, r.Context, seen)
	}
}

// inTurn checks that a stand-in has counted only for a primary that was given up:
// one that is slow, and up, is read by the next request. While owners change the replies do not
// tell who stood in for whom.
func (s *Sim) inTurn(k kv.Key, op *check.Op, replies []kv.Reply, o kv.WriteOptions) {
	a, err := s.ackedBy(op, o)
	primaries := make(map[int]kv.Result)
	counted := 0
	for _, r := range replies {
		if r.Role == kv.Fallback {
			continue
		}
		if _, twice := primaries[r.Partition.Index]; twice || r.Role == kv.Incoming {
			return
		}
		primaries[r.Partition.Index] = r.Result
	}
	for _, r := range replies {
		if (r.Result == kv.OK || r.Result == kv.Found || r.Result == kv.NotFound) && (r.Role != kv.Fallback || primaries[r.Partition.Index] != kv.Pending) {
			counted++
		}
	}
	if err == nil && counted < a.need {
		s.fail("in turn", k, "write %d is reported as done by %d replicas, and some that stand in for primaries which may still answer", op.Write, a.need)
	}
}

// listTimeout is how long a page may take. Where each must succeed it has the time for as many
// rounds as there are for the largest ring: homes are asked for one after the other, more each time.
func (c *client) listTimeout() time.Duration {
	const rounds = 9
	w := &c.s.weather
	if !c.s.live {
		return w.Timeout
	}
	return max(w.Timeout, rounds*2*(w.Delay+w.Jitter))
}

// list reads all pages of a bucket, as one operation.
func (c *client) list() {
	b := kv.Bucket{Name: buckets[c.rnd.IntN(len(buckets))]}
	o := kv.ListOptions{Limit: pick(c.rnd, 1, 5, 50, 0), Timeout: c.listTimeout()}
	i := c.begin(check.Op{Kind: check.List, Key: b.Name + "/", Spread: c.s.weather.Calm || c.s.live}, o.Timeout)
	c.page(i, c.at, b, o)
}

func (c *client) page(i int, n *node, b kv.Bucket, o kv.ListOptions) {
	m := coordinator.NewKeys(n.view(), coordinator.KeysRequest{Bucket: b, Options: o})
	n.run(m, noKey, o.Timeout, func(*request) {
		page, err := m.Result()
		op := &c.s.history.Ops[i]
		for _, name := range page.Keys {
			op.Listed = append(op.Listed, kv.Key{Bucket: b.Name, Name: name}.String())
		}
		if err == nil && page.Next != "" {
			o.Token = page.Next
			op.Due = c.s.now + o.Timeout + answerSlack
			c.page(i, n, b, o)
			return
		}
		c.end(i, noKey, n, err)
	}, func() { c.gone(i, noKey) })
}

// value is the value of a write: it can be told from every other, and damage
// to it can be seen.
func (s *Sim) value(id check.ID) kv.Value {
	size := int(uint64(id) * mixer % uint64(s.weather.ValueSize+1))
	var entries []kv.Pair
	if !s.weather.Bare {
		entries = indexes(id)
	}
	return kv.Value{
		Data:        slices.Repeat([]byte{byte(id), byte(id >> 8), byte(size)}, size/3+1),
		ContentType: "text/" + strconv.Itoa(size%7),
		Meta:        []kv.Pair{{Name: "id", Value: strconv.FormatUint(uint64(id), 10)}},
		Indexes:     entries,
	}
}

// saw returns the writes whose values were read, and checks that these are
// what was written.
func (c *client) saw(k kv.Key, values []kv.Value, head bool) []check.ID {
	ids := make([]check.ID, 0, len(values))
	for _, v := range values {
		if v.Deleted {
			continue
		}
		id, err := c.s.identify(v, head)
		if err != nil {
			c.s.fail("phantom", k, "client %d read a value that nobody wrote: %v", c.i, err)
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

func (s *Sim) identify(v kv.Value, head bool) (check.ID, error) {
	if len(v.Meta) != 1 {
		return 0, fmt.Errorf("with metadata %v", v.Meta)
	}
	n, err := strconv.ParseUint(v.Meta[0].Value, 10, 64)
	if err != nil {
		return 0, err
	}
	want := s.value(check.ID(n))
	if head {
		want.Data = nil
	}
	if !slices.Equal(v.Data, want.Data) || v.ContentType != want.ContentType {
		return 0, fmt.Errorf("%d bytes of %s, as write %d but not the same", len(v.Data), v.ContentType, n)
	}
	return check.ID(n), nil
}

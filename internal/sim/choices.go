package sim

import (
	"time"

	"github.com/tanodb/tanodb/kv"
)

// plain draws whether an operation has the quorums of the weather.
func (c *client) plain() bool {
	w := &c.s.weather
	return w.Calm || c.s.live || c.rnd.hit(w.Plain)
}

// overlap reports whether reads with the quorums of the weather see all writes
// with them. While owners change, a minority of the former ones may go by the
// old topology for as long as it is cut off, and nobody waits for it: then
// only majorities meet.
func (s *Sim) overlap() bool {
	w := &s.weather
	return w.Calm || s.live || !w.Topology || 2*min(w.R, w.W) > w.Replicas
}

// readOptions draws the options of a get, and says whether they are plain.
func (c *client) readOptions() (o kv.ReadOptions, plain bool) {
	w := &c.s.weather
	o = kv.ReadOptions{Timeout: w.Timeout, SloppyQuorum: c.sloppy()}
	if c.lonely() {
		o.R = kv.One
		return o, false
	}
	if c.plain() {
		o.R = kv.Quorum(w.R)
		return o, true
	}
	o.R = c.quorum()
	if !c.rnd.hit(w.Odd) {
		return o, false
	}
	o.PR = c.maybeQuorum()
	o.N = c.maybe(w.Replicas)
	o.NodeConfirms = c.maybe(min(2, w.Replicas))
	o.NotFoundOK = pick(c.rnd, kv.Unset, kv.On, kv.Off)
	o.BasicQuorum = pick(c.rnd, kv.Unset, kv.On, kv.Off)
	o.Head = c.rnd.hit(0.3)
	o.Tombstones = c.rnd.hit(0.3)
	o.Linger = c.linger()
	return o, false
}

// writeOptions draws the options of a put or delete, and says whether they are
// plain.
func (c *client) writeOptions() (o kv.WriteOptions, plain bool) {
	w := &c.s.weather
	o = kv.WriteOptions{Timeout: w.Timeout, ReturnBody: c.rnd.hit(0.2), SloppyQuorum: c.sloppy()}
	if c.lonely() {
		o.W = kv.One
		return o, false
	}
	if c.plain() {
		o.R, o.W = kv.Quorum(w.R), kv.Quorum(w.W)
		return o, true
	}
	o.W = c.quorum()
	if !c.rnd.hit(w.Odd) {
		return o, false
	}
	o.R, o.PW, o.DW = c.maybeQuorum(), c.maybeQuorum(), c.maybeQuorum()
	o.N = c.maybe(w.Replicas)
	o.NodeConfirms = c.maybe(min(2, w.Replicas))
	o.Linger = c.linger()
	return o, false
}

// lonely draws whether a client of a node whose disk was put back asks for what that can do by itself.
func (c *client) lonely() bool {
	return c.s.weather.Reaps && c.s.rewound == c.at && c.rnd.hit(0.5)
}

// sloppy draws whether others may stand in.
func (c *client) sloppy() kv.Toggle {
	w := &c.s.weather
	if !w.Fallbacks || c.rnd.hit(w.Strict) {
		return kv.Off
	}
	return pick(c.rnd, kv.Unset, kv.On)
}

// quorum draws a number of replicas, now and then one that is too large.
func (c *client) quorum() kv.Quorum {
	switch c.rnd.IntN(10) {
	case 0:
		return kv.All
	case 1:
		return kv.One
	case 2:
		return kv.Quorum(c.rnd.between(1, c.s.weather.Replicas))
	case 3:
		return kv.Majority
	}
	if c.rnd.hit(c.s.weather.Odd * 0.02) {
		return kv.Quorum(c.s.weather.Replicas + 1)
	}
	return kv.Default
}

func (c *client) maybeQuorum() kv.Quorum {
	if c.rnd.hit(0.7) {
		return kv.Default
	}
	return pick(c.rnd, kv.None, kv.One, kv.Majority, kv.All)
}

// maybe is a number from 1 to most, or, mostly, 0.
func (c *client) maybe(most int) int {
	if c.rnd.hit(0.8) {
		return 0
	}
	return c.rnd.between(1, most)
}

func (c *client) linger() time.Duration {
	if c.rnd.hit(0.7) {
		return 0
	}
	return c.rnd.upTo(c.s.weather.Timeout)
}

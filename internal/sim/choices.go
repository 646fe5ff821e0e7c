package sim

import (
	"time"

	"github.com/tanodb/tanodb/kv"
)

// readOptions draws the options of a get.
func (c *client) readOptions() kv.ReadOptions {
	w := &c.s.weather
	o := kv.ReadOptions{Timeout: w.Timeout}
	if w.Calm || c.s.live {
		o.R = kv.Quorum(w.R)
		return o
	}
	o.R = c.quorum()
	if !c.rnd.hit(w.Odd) {
		return o
	}
	o.PR = c.maybeQuorum()
	o.N = c.maybe(w.Replicas)
	o.NodeConfirms = c.maybe(min(2, w.Replicas))
	o.NotFoundOK = pick(c.rnd, kv.Unset, kv.On, kv.Off)
	o.BasicQuorum = pick(c.rnd, kv.Unset, kv.On, kv.Off)
	o.Head = c.rnd.hit(0.3)
	o.Tombstones = c.rnd.hit(0.3)
	o.Linger = c.linger()
	return o
}

// writeOptions draws the options of a put or delete.
func (c *client) writeOptions() kv.WriteOptions {
	w := &c.s.weather
	o := kv.WriteOptions{Timeout: w.Timeout, ReturnBody: c.rnd.hit(0.2)}
	if w.Calm || c.s.live {
		o.R, o.W = kv.Quorum(w.R), kv.Quorum(w.W)
		return o
	}
	o.W = c.quorum()
	if !c.rnd.hit(w.Odd) {
		return o
	}
	o.R, o.PW, o.DW = c.maybeQuorum(), c.maybeQuorum(), c.maybeQuorum()
	o.N = c.maybe(w.Replicas)
	o.NodeConfirms = c.maybe(min(2, w.Replicas))
	o.Linger = c.linger()
	return o
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

package membership

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// MaxClockOffset is how far wall clocks of nodes may be apart, unless Clocks.Max says
// otherwise. Where the last write
// wins, a node that is farther off than most others does not say when a write was made.
const MaxClockOffset = 500 * time.Millisecond

// clockWindow is how long a bound counts at least; it is forgotten after two of them,
// since clocks are set, and drift.
const clockWindow = 2 * time.Second

// Clocks tells whose wall clock is off. Each message brings its sender's clock, and
// has been on its way for an unknown while, so what the receiver sees is less than how
// far the sender is ahead of it. What the sender has seen of the receiver in the same
// way is a bound from the other side:
//
//	what I see of p  <=  p's clock - mine  <=  -(what p sees of me)
//
// So neither slow networks nor busy nodes make a clock seem off. One that is known to
// be off by more than Max from more than half of all nodes, itself among them, is
// skewed. Of two nodes neither is: nobody can say which. This is half of the exchange
// of NTP (RFC 5905), of which nothing but certainty is wanted.
type Clocks struct {
	Max time.Duration // how far clocks may be apart; 0: MaxClockOffset

	peers []peerClock // sorted by name
}

// peerClock are the bounds of how far a peer is ahead.
type peerClock struct {
	name      string
	low, high bound
}

// bound is the tightest of a window, and of the one before.
type bound struct {
	now, before time.Duration
	until       time.Duration // of the window
}

// none is no bound: all that is seen is tighter.
const none = time.Duration(math.MinInt64)

// add takes a lower bound.
func (b *bound) add(now, x time.Duration) {
	b.roll(now)
	b.now = max(b.now, x)
}

// roll forgets what is too old.
func (b *bound) roll(now time.Duration) {
	switch {
	case now < b.until:
		return
	case now < b.until+clockWindow && b.until > 0:
		b.before, b.until = b.now, b.until+clockWindow
	default:
		b.before, b.until = none, now+clockWindow
	}
	b.now = none
}

// at is the bound that holds.
func (b *bound) at(now time.Duration) time.Duration {
	b.roll(now)
	return max(b.now, b.before)
}

// Heard takes what a message of a peer says: how far its clock seemed ahead when the
// message came, and, if it knows, how far this node's seems ahead to it.
func (c *Clocks) Heard(now time.Duration, peer string, ahead, behind time.Duration, known bool) {
	p := c.peer(peer)
	p.low.add(now, ahead)
	if known {
		p.high.add(now, behind)
	}
}

// peer is the one of that name.
func (c *Clocks) peer(name string) *peerClock {
	i, found := slices.BinarySearchFunc(c.peers, name, func(p peerClock, name string) int { return strings.Compare(p.name, name) })
	if !found {
		empty := bound{now: none, before: none}
		c.peers = slices.Insert(c.peers, i, peerClock{name: name, low: empty, high: empty})
	}
	return &c.peers[i]
}

// Keep forgets all peers but these.
func (c *Clocks) Keep(names []string) {
	c.peers = slices.DeleteFunc(c.peers, func(p peerClock) bool { return !slices.Contains(names, p.name) })
}

// Seen is how far a peer's clock is ahead at least, which is what it wants to hear.
func (c *Clocks) Seen(now time.Duration, peer string) (ahead time.Duration, known bool) {
	low := c.peer(peer).low.at(now)
	return low, low != none
}

// Offset is how far a peer's clock is ahead of this node's, at least and at most.
func (c *Clocks) Offset(now time.Duration, peer string) (low, high time.Duration, known bool) {
	p := c.peer(peer)
	low, high = p.low.at(now), p.high.at(now)
	if low == none || high == none {
		return 0, 0, false
	}
	return low, -high, true
}

// span is how far a node is ahead of this one, at least and at most.
type span struct {
	name      string
	low, high time.Duration
}

// Skewed are the nodes whose clocks are off, this one perhaps among them, in the order
// of their names.
func (c *Clocks) Skewed(now time.Duration, self string) []string {
	spans := []span{{name: self}}
	for i := range c.peers {
		if low, high, known := c.Offset(now, c.peers[i].name); known {
			spans = append(spans, span{c.peers[i].name, low, high})
		}
	}
	var skewed []string
	most := cmp.Or(c.Max, MaxClockOffset)
	for _, a := range spans {
		off := 0
		for _, b := range spans {
			if a.low-b.high > most || b.low-a.high > most {
				off++
			}
		}
		if 2*off > len(spans) {
			skewed = append(skewed, a.name)
		}
	}
	slices.Sort(skewed)
	return skewed
}

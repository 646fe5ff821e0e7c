package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/coordinator"
	"github.com/tanodb/tanodb/internal/transport"
)

// How connections behave.
const (
	dialEvery   = 200 * time.Millisecond // without a connection, until there is one
	silentAfter = 3 * time.Second        // a connection on which nothing was heard for so long is broken
	straggleMax = time.Second
	lateMax     = 6 * time.Second
)

// network carries frames between nodes. A node asks over the connection that it
// has dialled to the other; the answer comes back the same way.
type network struct {
	s     *Sim
	rnd   chance
	links []link // from node i to node j: links[i*nodes+j]
	calm  bool   // nothing is lost or very late any more
	frame []byte // room in which a frame is encoded
}

// link is one direction between two nodes.
type link struct {
	cut   int  // cuts in force; what is sent is lost in silence
	open  bool // the connection that the first node has dialled to the second
	boots [2]int
	heard time.Duration // when the first node last heard the second on it
}

func (net *network) init(s *Sim) {
	net.s = s
	net.rnd = newChance(s.weather.Seed, "network")
	net.links = make([]link, len(s.nodes)*len(s.nodes))
}

func (net *network) link(from, to *node) *link { return &net.links[from.i*len(net.s.nodes)+to.i] }

// reaches reports whether messages get through in both directions.
func (net *network) reaches(a, b *node) bool {
	return net.link(a, b).cut == 0 && net.link(b, a).cut == 0
}

// connected reports whether from has a connection to to.
func (net *network) connected(from, to *node) bool { return net.link(from, to).open }

// current reports whether from has a connection to the present incarnation of to.
func (net *network) current(from, to *node) bool {
	l := net.link(from, to)
	return l.open && l.boots == [2]int{from.boot, to.boot}
}

// send puts a frame on its way. It says false if the frame cannot be encoded.
func (net *network) send(from, to *node, f *transport.Frame) bool {
	s := net.s
	room, err := transport.AppendFrame(net.frame[:0], f)
	if err != nil {
		s.fail("codec", noKey, "%v", err)
		return false
	}
	net.frame = room
	b := slices.Clone(room) // the message that is decoded keeps parts of it
	s.number(uint64(from.i)<<8 | uint64(to.i))
	s.bytes(b)
	l := net.link(from, to)
	if l.cut > 0 || !net.calm && net.rnd.hit(s.weather.Loss) {
		s.count("message lost")
		return true
	}
	if l.open && l.boots[1] != to.boot && !f.Response {
		s.count("sent to a former life") // whose connection nobody has, and the sender does not know yet
		return true
	}
	net.deliverAfter(from, to, f, b)
	if _, forward := f.Msg.(*coordinator.Forward); !forward && net.rnd.hit(s.weather.Duplicate) {
		s.count("message doubled")
		net.deliverAfter(from, to, f, b)
	}
	return true
}

// delay draws how long a message travels.
func (net *network) delay() time.Duration {
	w := &net.s.weather
	d := w.Delay + net.rnd.upTo(w.Jitter)
	if !net.calm && net.rnd.hit(w.Straggle) {
		d += net.rnd.upTo(straggleMax)
	}
	return d
}

// delivery is a frame on its way.
type delivery struct {
	net      *network
	from, to *node
	boot     int    // of the receiver
	life     uint64 // of the sender
	said     said
	landed   func() // nil: nobody minds
	frame    []byte
}

// deliverAfter lets the bytes arrive, if the receiver is still the same incarnation
// then. The sender may be gone.
func (net *network) deliverAfter(from, to *node, f *transport.Frame, b []byte) {
	d := &delivery{net: net, from: from, to: to, boot: to.boot, life: from.life(), said: from.says(to), landed: net.s.fly(to, f), frame: b}
	delay := net.delay()
	if d.landed != nil && !net.calm && net.rnd.hit(net.s.weather.Late) {
		delay += net.rnd.upTo(lateMax)
	}
	net.s.after(delay, d.land)
}

// land gives the frame to its receiver when that is awake.
func (d *delivery) land() {
	to := d.to
	switch {
	case to.boot != d.boot || !to.running:
		return
	case d.net.s.now < to.frozen:
		d.net.s.at(to.frozen, d.land)
		return
	}
	if d.landed != nil {
		d.landed()
	}
	to.hears(d.from, d.said)
	d.net.arrive(d.from, to, d.life, d.frame)
}

// said is what goes with each message: the sender's clock, from the beginning of the run on, and how
// far the receiver's seems ahead to it.
type said struct {
	wall  time.Duration
	ahead time.Duration
	known bool
}

func (n *node) says(to *node) (s said) {
	if n.s.weather.Latest {
		s.wall = n.s.now + n.skew
		s.ahead, s.known = n.clocks.Seen(n.s.now, to.name)
	}
	return s
}

func (n *node) hears(from *node, s said) {
	if n.s.weather.Latest && n.knows(from) {
		n.clocks.Heard(n.s.now, from.name, s.wall-(n.s.now+n.skew), s.ahead, s.known)
	}
}

// arrive decodes a frame, which was sent in some life of its sender, and hands it
// to its node.
func (net *network) arrive(from, to *node, life uint64, b []byte) {
	f, rest, err := transport.DecodeFrame(b)
	if err != nil || len(rest) > 0 {
		net.s.fail("codec", noKey, "a frame of %s: %v, %d bytes left", from.name, err, len(rest))
		return
	}
	if !to.knows(from) {
		net.s.count("stranger turned away")
		return
	}
	net.s.number(uint64(to.i)<<8 | uint64(from.i))
	net.s.number(f.ID)
	to.heard(from, life, f.Epoch)
	if f.Response {
		to.replied(f)
		return
	}
	to.serve(from, f)
}

// dial connects one node to another, if it can.
func (net *network) dial(from, to *node) {
	l := net.link(from, to)
	if l.open || !net.reaches(from, to) {
		return
	}
	if !to.running {
		if !to.silent {
			from.refused(to, "connection refused")
		}
		return
	}
	if net.s.now < to.frozen || !to.knows(from) || !from.topology.meets(to) || !to.topology.meets(from) {
		return
	}
	l.open, l.boots, l.heard = true, [2]int{from.boot, to.boot}, net.s.now
	from.heard(to, to.life(), to.state.Epoch())
}

// breakLink ends a connection. What was asked on it and not answered is lost.
func (net *network) breakLink(from, to *node, why string) {
	l := net.link(from, to)
	if !l.open {
		return
	}
	l.open = false
	from.connectionLost(to, why)
}

// nodeGone breaks the connections of a node that has stopped: its own at once,
// those to it when its host says so, or after a silence.
func (net *network) nodeGone(n *node) {
	for _, other := range net.s.nodes {
		if other == n {
			continue
		}
		net.link(n, other).open = false
		l := net.link(other, n)
		if !l.open || n.silent || !net.reaches(n, other) {
			continue
		}
		boots := l.boots
		net.s.after(net.delay(), func() {
			other.whenAwake(boots[0], func() {
				if l.open && l.boots == boots {
					net.breakLink(other, n, "connection reset")
				}
			})
		})
	}
}

// keepAlive looks after the connections of a node: it breaks the silent ones
// and those to an incarnation that is gone.
func (net *network) keepAlive(n *node) {
	for _, other := range net.s.nodes {
		if other == n {
			continue
		}
		l := net.link(n, other)
		switch {
		case l.open && net.s.now-l.heard >= silentAfter:
			net.breakLink(n, other, "connection silent")
		case l.open && l.boots[1] != other.boot && other.running && net.reaches(n, other):
			net.breakLink(n, other, "connection reset")
		}
	}
}

// cutOff cuts the link from one node to another for a while.
func (net *network) cutOff(from, to *node, d time.Duration) {
	l := net.link(from, to)
	l.cut++
	net.s.happening(net.s.now, from.name, fmt.Sprintf("cut off from %s for %v", to.name, d))
	net.s.after(d, func() {
		if l.cut > 0 {
			l.cut--
		}
	})
}

// heal ends all cuts and makes the network behave.
func (net *network) heal() {
	net.calm = true
	for i := range net.links {
		net.links[i].cut = 0
	}
}

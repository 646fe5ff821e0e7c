package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
)

// node is one process of the cluster and the machine under it. It does for the
// machines what the shell of a real node does.
type node struct {
	s    *Sim
	i    int
	name string
	rnd  chance
	disk disk

	running bool
	closing bool          // shutting down in order: refuses what is new
	silent  bool          // it is down so that nobody hears a refusal either
	boot    int           // counts starts and stops: what was begun in an earlier one is void
	frozen  time.Duration // until then it does nothing
	thawed  time.Duration // when it last came to
	skew    time.Duration // of its wall clock

	id      [16]byte          // of its directory
	times   int               // how often it was given a new one
	begin   *membership.State // what it was told of the cluster when it was set up; nil: it is not of it
	gone    bool              // it has left the cluster, or died for ever
	died    uint64            // the newest epoch of all when it did
	claimed bool              // it is to join, and waits until it is known
	state   *membership.State // the newest topology that it knows
	shown   uint64            // the newest epoch that it has ever had
	image   image             // of its disk, at some time
	had     uint64            // the newest epoch that it had before its disk was an older one

	vnodes   []*vnode.Vnode // by partition; nil: not used yet in this incarnation
	boxes    []mailbox      // by partition
	lacking  []bool         // by partition
	marker   []incarnation  // by partition, from a shutdown in order that no start has used up; nil: none
	detector *membership.Detector
	clocks   membership.Clocks
	requests []*request // in progress
	asks     map[uint64]*ask
	others   []*ask // those of them that no request has asked, in order
	nextAsk  uint64
	topology topology
	mover    mover
	mender   mender
	reaper   reaper
	wiping   bool // its disk is older than a reaping, and is being erased
	methods  methods
}

// incarnation is what a vnode may go on with after a shutdown in order.
type incarnation struct {
	actor   object.Actor
	counter uint64
}

func newNode(s *Sim, i int, name string) *node {
	n := &node{s: s, i: i, name: name, rnd: newChance(s.weather.Seed, name)}
	n.disk = disk{n: n, mem: storage.NewMemory()}
	s.inv.forget(n)
	if skew := n.rnd.upTo(2*s.weather.Skew+1) - s.weather.Skew; !n.exact() {
		n.turnClock(skew)
	}
	n.newID(0)
	return n
}

// newID gives the node the id of a directory that is new for the time given.
func (n *node) newID(times int) {
	c := newChance(n.s.weather.Seed, fmt.Sprintf("id %s %d", n.name, times))
	binary.BigEndian.PutUint64(n.id[:8], c.Uint64())
	binary.BigEndian.PutUint64(n.id[8:], c.Uint64())
}

// wall is the node's idea of the time.
func (n *node) wall() time.Time { return epoch.Add(n.s.now + n.skew) }

func (n *node) wallMs() int64 { return n.wall().UnixMilli() }

// exact reports whether the node is one of those, which are most, whose clocks agree.
func (n *node) exact() bool { return n.s.weather.Latest && n.i <= n.s.weather.Nodes/2 }

// off reports whether a node's clock is off, as far as this one knows.
func (n *node) off(name string) bool {
	return n.s.weather.Latest && slices.Contains(n.clocks.Skewed(n.s.now, n.name), name)
}

// turnClock sets the node's wall clock forward, or back.
func (n *node) turnClock(d time.Duration) {
	n.skew += d
	n.s.fastest = max(n.s.fastest, n.skew)
}

// start begins an incarnation.
func (n *node) start() {
	if n.running || n.gone || n.begin == nil {
		return
	}
	n.running, n.closing, n.silent = true, false, false
	n.boot++
	n.frozen = 0
	size := n.begin.Ring().Size()
	n.vnodes = make([]*vnode.Vnode, size)
	n.boxes = make([]mailbox, size)
	n.asks = make(map[uint64]*ask)
	n.requests, n.others = nil, nil
	n.s.happening(n.s.now, n.name, "starts")
	n.topology.start(n)
	n.findLacking()
	n.clocks = membership.Clocks{}
	n.detector = membership.NewDetector(n.name, n.peers(), membership.DetectorOptions{})
	n.wiping = false
	n.mover.start(n)
	n.mender.start(n)
	n.reaper.start(n)
	n.every(heartbeatEvery, n.heartbeat)
	n.every(dialEvery, n.dialAll)
	if n.s.weather.RotEvery > 0 {
		n.every(scrubEvery, n.scrub)
	}
	if n.s.weather.SweepEvery > 0 {
		n.every(n.s.weather.SweepEvery, n.sweep)
	}
}

// findLacking reads which vnodes wait for data that they should hold.
func (n *node) findLacking() {
	n.lacking = make([]bool, len(n.vnodes))
	for p := range n.lacking {
		n.lacking[p], _ = vnode.Lacking(n.disk.mem, partition(p)) // a disk that has just started does not fail
	}
}

// peers are the members that a node watches.
func (n *node) peers() []string {
	var peers []string
	for _, m := range n.state.Members() {
		if m.Name != n.name && m.Status != membership.StatusLeft {
			peers = append(peers, m.Name)
		}
	}
	return peers
}

// up reports whether the node holds another one to be up.
func (n *node) up(name string) bool {
	if !n.s.weather.Topology {
		return n.detector.Up(name)
	}
	m, ok := n.state.Member(name)
	switch {
	case !ok || m.Status == membership.StatusLeft:
		return false
	case m.Status == membership.StatusDown:
		return name == n.name
	}
	return n.detector.Up(name)
}

// every calls fn at intervals as long as this incarnation lives, for the first
// time within one.
func (n *node) every(d time.Duration, fn func()) {
	boot := n.boot
	var again func()
	again = func() {
		n.whenAwake(boot, func() {
			fn()
			n.s.after(d, again)
		})
	}
	n.s.after(n.rnd.upTo(d), again)
}

// whenAwake calls fn now, or when the node thaws, unless the incarnation has
// ended.
func (n *node) whenAwake(boot int, fn func()) {
	switch {
	case n.boot != boot || !n.running:
	case n.s.now < n.frozen:
		n.s.at(n.frozen, func() { n.whenAwake(boot, fn) })
	default:
		fn()
	}
}

// later calls fn after a time, if the incarnation lives.
func (n *node) later(d time.Duration, fn func()) {
	boot := n.boot
	n.s.after(d, func() { n.whenAwake(boot, fn) })
}

// freeze stops the node for a while, without anybody being told.
func (n *node) freeze(d time.Duration) {
	if !n.running || n.s.now < n.frozen {
		return
	}
	n.frozen = n.s.now + d
	n.thawed = n.frozen
	n.s.count("frozen")
	n.s.happening(n.s.now, n.name, fmt.Sprintf("freezes for %v", d))
}

// crash ends the incarnation at once, with the loss of what the disk has not
// got, and starts the next after a time.
func (n *node) crash(why string, down time.Duration) {
	if !n.running {
		return
	}
	n.s.happening(n.s.now, n.name, "crashes: "+why)
	n.s.count("crashed")
	n.silent = n.rnd.hit(n.s.weather.Silent)
	n.marker = nil
	n.s.inFill(n)
	n.stop()
	n.disk.crash()
	n.restartAfter(down)
}

// stop ends the incarnation.
func (n *node) stop() {
	n.running = false
	n.boot++
	for _, r := range n.requests {
		r.abandon()
	}
	n.requests, n.others = nil, nil
	n.s.net.nodeGone(n)
}

func (n *node) restartAfter(d time.Duration) {
	boot := n.boot
	n.s.after(d, func() {
		if n.boot == boot {
			n.start()
		}
	})
}

// closeWithin is how long a shutdown in order waits for what is in progress.
const closeWithin = 3 * time.Second

// shutdown ends the incarnation in order, if that is done in time, and starts
// the next.
func (n *node) shutdown(down time.Duration) {
	if !n.running || n.closing {
		return
	}
	n.closing = true
	n.s.happening(n.s.now, n.name, "shuts down")
	until := n.s.now + closeWithin
	var poll func()
	poll = func() {
		switch {
		case n.idle():
			n.closeInOrder()
			n.restartAfter(down)
		case n.s.now >= until:
			n.crash("shutdown took too long", down)
		default:
			n.later(5*time.Millisecond, poll)
		}
	}
	n.later(5*time.Millisecond, poll)
}

// idle reports whether nothing is in progress.
func (n *node) idle() bool {
	if len(n.requests) > 0 || n.disk.mem.Durable() < n.disk.mem.Applied() {
		return false
	}
	for p := range n.boxes {
		if len(n.boxes[p].cmds) > 0 {
			return false
		}
	}
	return true
}

// closeInOrder leaves a marker with which the vnodes may go on.
func (n *node) closeInOrder() {
	n.marker = make([]incarnation, len(n.vnodes))
	for p, v := range n.vnodes {
		if v != nil {
			n.marker[p].actor, n.marker[p].counter = v.Incarnation()
		}
	}
	n.stop()
	n.disk.crash() // nothing is lost: all is durable
	n.s.count("shutdown in order")
}

// vnode is the vnode of a partition, begun when it is first needed.
func (n *node) vnode(p int) *vnode.Vnode {
	if v := n.vnodes[p]; v != nil {
		return v
	}
	inc := n.incarnation(p)
	n.vnodes[p] = vnode.New(vnode.Config{
		Partition: partition(p),
		Actor:     inc.actor,
		Counter:   inc.counter,
		Life:      n.life(),
		HeadCache: n.s.weather.HeadCache,
	}, n.disk.mem)
	return n.vnodes[p]
}

// incarnation is a fresh actor, or what a shutdown in order has left, which can
// be used once.
func (n *node) incarnation(p int) incarnation {
	if planted.Is(planted.ReuseActor) {
		return incarnation{actor: object.Actor{1, byte(n.i), byte(p >> 8), byte(p)}}
	}
	if planted.Is(planted.SharedActor) {
		return incarnation{actor: object.Actor{2, byte(n.i), byte(n.boot >> 8), byte(n.boot)}}
	}
	if n.marker != nil {
		inc := n.marker[p]
		n.marker[p] = incarnation{}
		if inc.actor != (object.Actor{}) {
			return inc
		}
	}
	var a object.Actor
	binary.BigEndian.PutUint64(a[:], n.rnd.Uint64())
	return incarnation{actor: a}
}

// heartbeat tells the others that this node is there, and looks at who is silent.
func (n *node) heartbeat() {
	n.changes(n.detector.Tick(n.s.now))
	n.s.net.keepAlive(n)
	beat := transport.Frame{Epoch: n.state.Epoch(), Msg: &vnode.Ping{}, Timeout: time.Second}
	for _, peer := range n.s.nodes {
		if n.knows(peer) {
			n.s.net.send(n, peer, &beat)
		}
	}
}

func (n *node) dialAll() {
	for _, peer := range n.s.nodes {
		if n.knows(peer) {
			n.s.net.dial(n, peer)
		}
	}
}

// knows reports whether the other is a member, for this node, and no namesake of
// one: they talk to nobody else.
func (n *node) knows(other *node) bool {
	if other == n || n.state == nil {
		return false
	}
	if !n.s.weather.Topology {
		return true
	}
	m, ok := n.state.Member(other.name)
	return ok && m.Status != membership.StatusLeft && (m.ID == other.id || m.ID == [16]byte{})
}

// heard says that a peer is there, with the epoch that it has shown.
func (n *node) heard(from *node, life, epoch uint64) {
	n.s.net.link(n, from).heard = n.s.now
	n.changes(n.detector.Heard(n.s.now, from.name))
	n.mender.met(from, life)
	n.topology.heard(from, life, epoch)
}

// refused says that a peer's host is there, but the peer is not.
func (n *node) refused(peer *node, why string) {
	n.changes(n.detector.Refused(n.s.now, peer.name, why))
}

// changes tells the requests in progress of nodes that went down.
func (n *node) changes(changes []membership.Sighting) {
	for _, c := range changes {
		n.s.number(uint64(n.s.byName[c.Node].i))
		n.mover.sighted(c)
		n.mender.sighted(c)
		n.reaper.sighted(c)
		if c.Up {
			n.s.happening(n.s.now, n.name, "holds "+c.Node+" to be up")
			continue
		}
		n.s.count("held to be down")
		n.s.happening(n.s.now, n.name, "holds "+c.Node+" to be down: "+c.Why)
		for _, r := range slices.Clone(n.requests) {
			r.nodeDown(c.Node)
		}
	}
}

package membership

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/planted"
)

// DetectorOptions are the options of a Detector. The zero value is good for a
// network within one data centre.
type DetectorOptions struct {
	// SilentAfter is how long a peer that is up may be silent before it is held
	// to be down. Peers with nothing to say must be made to speak several times
	// within it. 0: 2 s.
	SilentAfter time.Duration
}

const defaultSilentAfter = 2 * time.Second

// What a peer may do before it is no longer trusted to stay.
const (
	maxMissing = 3                // replies missing in a row, see Evidence
	maxReturns = 3                // returns within flapWindow; one more and the peer is held
	flapWindow = 60 * time.Second // and what takes a hold's penalty back by one step
	minPenalty = 5 * time.Second
	maxPenalty = 60 * time.Second
)

// Detector says which peers of a node are up:
//
//	            heard
//	     ┌────────────────────▶
//	down                        up
//	  │  ◀────────────────────┘          ▲
//	  │  refused, silent longer than     │ heard without a break
//	  │  SilentAfter, or replies missing │ for the penalty
//	  └──────────────────────────▶ held ─┘
//	    heard, but has come back three
//	    times within the last minute
//
// A peer is down until it is first heard. One that is held is heard, and counts
// as down all the same, so that fallbacks take its writes rather than that every
// request finds out anew. The penalty is 5 s, doubles with each hold up to 60 s,
// and is halved for each minute since the last one began.
//
// Now is always monotonic time since any fixed moment, the same one for all
// calls. The Detector is not for concurrent use.
type Detector struct {
	self        string
	silentAfter time.Duration
	peers       []peer // sorted by name, without self
}

type peer struct {
	name  string
	up    bool
	heard bool          // Invariant: true if up was ever true
	last  time.Duration // when it was last heard; means nothing before it was heard
	since time.Duration // when up last changed; 0 before the first change

	missing int // replies in a row, since it was last heard

	returns [maxReturns]time.Duration // when it last came back, the latest at the end
	count   int                       // how many of them are set

	held    bool          // Invariant: not while up
	from    time.Duration // since when it is heard without a break, while held
	broken  bool          // the break has not ended yet, while held
	penalty time.Duration // of the last hold; 0: none so far
	heldAt  time.Duration // when the last hold began
}

// Sighting says that a peer has come up or gone down.
type Sighting struct {
	Node string
	Up   bool
	Why  string // for logs and answers to users: "silent for 2.1s"
}

// NewDetector watches the peers for the node self. Self may be among the peers:
// it is not watched.
func NewDetector(self string, peers []string, o DetectorOptions) *Detector {
	d := &Detector{self: self, silentAfter: o.SilentAfter}
	if d.silentAfter <= 0 {
		d.silentAfter = defaultSilentAfter
	}
	d.SetPeers(peers)
	return d
}

// SetPeers watches these peers from now on. What is known of those that were
// watched before stays; the others are forgotten. Self may be among them: it is
// not watched.
func (d *Detector) SetPeers(names []string) {
	names = slices.Clone(names)
	slices.Sort(names)
	var peers []peer
	for _, name := range slices.Compact(names) {
		switch p := d.peer(name); {
		case name == d.self:
		case p != nil:
			peers = append(peers, *p)
		default:
			peers = append(peers, peer{name: name})
		}
	}
	d.peers = peers
}

// Heard says that something came from the node at now. A node that is not a
// peer changes nothing. Only a change allocates memory.
func (d *Detector) Heard(now time.Duration, node string) []Sighting {
	p := d.peer(node)
	if p == nil {
		return nil
	}
	silent := now - p.last
	p.last = max(p.last, now)
	p.missing = 0
	if p.up || p.heard && planted.Is(planted.NeverUp) {
		return nil
	}
	if !p.heard {
		p.heard = true
		return []Sighting{p.turn(now, true, "heard for the first time")}
	}
	if p.held {
		return p.probation(now, p.broken || silent > d.silentAfter)
	}
	if p.count == maxReturns && now-p.returns[0] <= flapWindow {
		p.hold(now)
		return nil
	}
	return []Sighting{p.comeBack(now, "heard again")}
}

// hold makes a peer that came back too often wait.
func (p *peer) hold(now time.Duration) {
	if p.penalty > 0 {
		p.penalty = max(minPenalty, min(maxPenalty, 2*p.penalty)>>min((now-p.heldAt)/flapWindow, 8))
	} else {
		p.penalty = minPenalty
	}
	p.held, p.from, p.broken, p.heldAt = true, now, false, now
}

// probation hears a held peer.
func (p *peer) probation(now time.Duration, broken bool) []Sighting {
	if broken {
		p.from, p.broken = now, false
	}
	if now-p.from < p.penalty {
		return nil
	}
	p.held = false
	return []Sighting{p.comeBack(now, fmt.Sprintf("heard for %v without a break, after it had come and gone too often", p.penalty))}
}

func (p *peer) comeBack(now time.Duration, why string) Sighting {
	if p.count < maxReturns {
		p.returns[p.count] = now
		p.count++
	} else {
		copy(p.returns[:], p.returns[1:])
		p.returns[maxReturns-1] = now
	}
	return p.turn(now, true, why)
}

// Refused says that the node cannot be reached at now: whoever tried was told
// so, or lost the connection.
func (d *Detector) Refused(now time.Duration, node, why string) []Sighting {
	p := d.peer(node)
	if p == nil {
		return nil
	}
	p.broken = true // of interest only while it is held
	if !p.up {
		return nil
	}
	return []Sighting{p.turn(now, false, why)}
}

// Evidence says that a request to the node had no reply when it should have
// had one. A few such in a row, and nothing else heard for a quarter of
// SilentAfter, are enough: a busy node notices sooner than by silence alone.
func (d *Detector) Evidence(now time.Duration, node string) []Sighting {
	p := d.peer(node)
	if p == nil || !p.up {
		return nil
	}
	p.missing++
	if silent := now - p.last; p.missing >= maxMissing && silent > d.silentAfter/4 {
		why := fmt.Sprintf("%d replies in a row missing, and silent for %v", p.missing, silent.Round(time.Millisecond))
		return []Sighting{p.turn(now, false, why)}
	}
	return nil
}

// StoodStill says that this node itself has done nothing until now: it was
// frozen, or had no processor. That it heard nobody says nothing of the peers, and
// their silence begins anew.
func (d *Detector) StoodStill(now time.Duration) {
	for i := range d.peers {
		p := &d.peers[i]
		p.last = max(p.last, now)
	}
}

// Tick looks for peers that have been silent for too long, and returns them by
// name. It is to be called several times within SilentAfter.
func (d *Detector) Tick(now time.Duration) []Sighting {
	var changes []Sighting
	for i := range d.peers {
		p := &d.peers[i]
		if silent := now - p.last; p.up && silent > d.silentAfter {
			why := fmt.Sprintf("silent for %v", silent.Round(time.Millisecond))
			changes = append(changes, p.turn(now, false, why))
		}
	}
	return changes
}

func (p *peer) turn(now time.Duration, up bool, why string) Sighting {
	p.up, p.since, p.missing = up, now, 0
	return Sighting{Node: p.name, Up: up, Why: why}
}

// Up reports whether the node is held to be up. Self always is, and a node that
// is not a peer never.
func (d *Detector) Up(node string) bool {
	if node == d.self {
		return true
	}
	p := d.peer(node)
	return p != nil && p.up
}

// Since is the moment, on the clock of now, from which on the node has been up
// or down without a break. It is 0 for what has been so from the start.
func (d *Detector) Since(node string) time.Duration {
	p := d.peer(node)
	if p == nil {
		return 0
	}
	return p.since
}

// String lists the peers: "n1: n2 up, n3 down, n4 held".
func (d *Detector) String() string {
	var b strings.Builder
	b.WriteString(d.self + ":")
	for i, p := range d.peers {
		if i > 0 {
			b.WriteByte(',')
		}
		state := "down"
		switch {
		case p.up:
			state = "up"
		case p.held:
			state = "held"
		}
		b.WriteString(" " + p.name + " " + state)
	}
	return b.String()
}

func (d *Detector) peer(name string) *peer {
	i, ok := slices.BinarySearchFunc(d.peers, name, func(p peer, name string) int { return strings.Compare(p.name, name) })
	if !ok {
		return nil
	}
	return &d.peers[i]
}

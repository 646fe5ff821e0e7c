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

// Detector says which peers of a node are up:
//
//	            heard
//	     ┌────────────────────▶
//	down                        up
//	     ◀────────────────────┘
//	     refused, or silent longer than SilentAfter
//
// A peer is down until it is first heard. Now is always monotonic time since
// any fixed moment, the same one for all calls. The Detector is not for
// concurrent use.
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
}

// Change says that a peer has come up or gone down.
type Change struct {
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
	names := slices.Clone(peers)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name != self {
			d.peers = append(d.peers, peer{name: name})
		}
	}
	return d
}

// Heard says that something came from the node at now. A node that is not a
// peer changes nothing. Only a change allocates memory.
func (d *Detector) Heard(now time.Duration, node string) []Change {
	p := d.peer(node)
	if p == nil {
		return nil
	}
	p.last = max(p.last, now)
	if p.up || p.heard && planted.Is(planted.NeverUp) {
		return nil
	}
	why := "heard again"
	if !p.heard {
		why = "heard for the first time"
	}
	p.heard = true
	return []Change{p.turn(now, true, why)}
}

// Refused says that the node cannot be reached at now: whoever tried was told
// so, or lost the connection.
func (d *Detector) Refused(now time.Duration, node, why string) []Change {
	p := d.peer(node)
	if p == nil || !p.up {
		return nil
	}
	return []Change{p.turn(now, false, why)}
}

// Tick looks for peers that have been silent for too long, and returns them by
// name. It is to be called several times within SilentAfter.
func (d *Detector) Tick(now time.Duration) []Change {
	var changes []Change
	for i := range d.peers {
		p := &d.peers[i]
		if silent := now - p.last; p.up && silent > d.silentAfter {
			why := fmt.Sprintf("silent for %v", silent.Round(time.Millisecond))
			changes = append(changes, p.turn(now, false, why))
		}
	}
	return changes
}

func (p *peer) turn(now time.Duration, up bool, why string) Change {
	p.up, p.since = up, now
	return Change{Node: p.name, Up: up, Why: why}
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

// String lists the peers: "n1: n2 up, n3 down".
func (d *Detector) String() string {
	var b strings.Builder
	b.WriteString(d.self + ":")
	for i, p := range d.peers {
		if i > 0 {
			b.WriteByte(',')
		}
		state := "down"
		if p.up {
			state = "up"
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

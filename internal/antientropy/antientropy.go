// Package antientropy finds what two replicas disagree on, and mends it, without
// anybody having to read a key.
//
// An Exchange is one comparison of two replicas of one home. It is a machine: it says
// what is to be asked of the one or the other, consumes the answer, and never waits.
// Its states are the levels of the hash trees that package vnode keeps:
//
//	roots ──▶ branches ──▶ keys ──▶ settle ──▶ clocks ──▶ fetch ──▶ send
//	  │ equal     ▲          │        a pause    which      what is   what is
//	  ▼           └──────────┘                   is newer   older     newer
//	 over          next branch                              here      here
//
// Whatever is sent is merged by who gets it, so neither side's knowledge is ever
// overwritten. A difference that is only a write on its way is none: a key counts
// when, after a pause, both sides still have the versions that differed. So
// replicas that are equal are never written to.
//
// An exchange that is broken off begins anew: what has been mended is equal by
// then, and costs a few sums. Nothing about it is kept.
//
// A Manager is one node's part in all of that. It knows which pairs of replicas there
// are, compares each within a period, sooner when a node has come back or a
// comparison has failed, and keeps to a budget of bytes and objects a second. A pair
// is the business of the one whose place comes first in the preference list.
//
// Who stands in for others holds data as well; that is handed over by drains
// of package handoff, which are a comparison of their own.
package antientropy

import (
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Pair is two replicas of a home. Here is on the node that does the work.
type Pair struct {
	Home        ring.Partition
	Here, There ring.Replica
}

// String is like "home 7: n1/7 with n2/8".
func (p Pair) String() string {
	return fmt.Sprintf("home %d: %s/%d with %s/%d", p.Home, p.Here.Node, p.Here.Partition, p.There.Node, p.There.Partition)
}

// Topology is what a Manager needs to know of a version of the topology.
type Topology struct {
	Epoch    uint64
	Ring     *ring.Ring
	Replicas int
}

// Limits bound what anti-entropy takes of a node. The zero value means the defaults.
type Limits struct {
	Every            time.Duration // each pair is compared once in so long; 0: 1 hour
	Exchanges        int           // at work at once, each with another node; 0: 2
	BytesPerSecond   int64         // of messages and objects, by all exchanges together; 0: no limit
	ObjectsPerSecond int64         // mended by them; 0: no limit
	PageBytes        int           // of versions, or of objects, in a message; 0: 256 KiB
	Settle           time.Duration // what differs must differ for so long; 0: 500 ms
	RetryFirst       time.Duration // wait after a failure, doubled by each one that follows; 0: 5 s
	RetryMost        time.Duration // the longest such wait; 0: 5 min
	AskTimeout       time.Duration // a question without an answer is given up; 0: 10 s
}

func (l Limits) withDefaults() Limits {
	l.Every = orDefault(l.Every, time.Hour)
	l.Exchanges = orDefault(l.Exchanges, 2)
	l.PageBytes = orDefault(l.PageBytes, 256<<10)
	l.Settle = orDefault(l.Settle, 500*time.Millisecond)
	l.RetryFirst = orDefault(l.RetryFirst, 5*time.Second)
	l.RetryMost = max(l.RetryFirst, orDefault(l.RetryMost, 5*time.Minute))
	l.AskTimeout = orDefault(l.AskTimeout, 10*time.Second)
	l.BytesPerSecond = max(0, l.BytesPerSecond)
	l.ObjectsPerSecond = max(0, l.ObjectsPerSecond)
	return l
}

func orDefault[T int | time.Duration](x, otherwise T) T {
	if x <= 0 {
		return otherwise
	}
	return x
}

// Event is what a Manager consumes.
type Event interface{ event() }

// The events.
type (
	// Adopted says that this version of the topology is now this node's. An
	// older one than the last is ignored.
	Adopted struct{ Topology Topology }

	// NodeUp says that a node is now held to be up. Until then all others are
	// held to be down. What is shared with it is compared soon.
	NodeUp struct{ Node string }

	// NodeDown says that a node is now held to be down.
	NodeDown struct{ Node string }

	// Restarted says that a node has begun anew, though it may never have been held to be
	// down: what was not durable it has lost. What is shared with it is compared soon.
	Restarted struct{ Node string }

	// Suspect says that a replica of a home may lack what another one has, such as a
	// write that it has not confirmed. The replicas of this node are compared soon.
	Suspect struct{ Home ring.Partition }

	// Replied is the answer to Ask or Do number I.
	Replied struct {
		I   int
		Msg vnode.Message
	}

	// Lost says that no answer to number I will come.
	Lost struct {
		I   int
		Why string
	}

	// Pause stops all work until Resume. What was being compared begins anew then.
	Pause struct{}

	// Resume ends a Pause.
	Resume struct{}

	// SetLimits changes the limits.
	SetLimits struct{ Limits Limits }

	// Tick says that the time of a Wake has come. An early one does no harm.
	Tick struct{}
)

// Doubtful reports whether what a vnode was sent, and has answered, makes the replicas of
// a home Suspect: a write that it has not confirmed, or what a stand-in has handed over to
// it, which others may have missed as well. The answer is nil if there was none.
func Doubtful(sent, answer vnode.Message) (home ring.Partition, doubtful bool) {
	switch m := sent.(type) {
	case *vnode.Store:
		_, stored := answer.(*vnode.Stored)
		return m.Home, !stored
	case *vnode.Deliver:
		_, taken := answer.(*vnode.Delivered)
		return m.Home, taken && !m.Placed // anti-entropy itself looks after the others
	}
	return 0, false
}

// Effect is what a Manager wants done.
type Effect interface{ effect() }

// The effects.
type (
	// Ask sends a message to a vnode of another node. Its outcome comes back
	// as Replied or Lost with the same I.
	Ask struct {
		I     int
		Node  string
		To    ring.Partition
		Epoch uint64 // that the node had when the exchange began: what it brings was read since
		Msg   vnode.Message
	}

	// Do gives a message to a vnode of this node, as if it had come from another
	// one. Its outcome comes back as that of an Ask.
	Do struct {
		I     int
		To    ring.Partition
		Epoch uint64 // as that of an Ask
		Msg   vnode.Message
	}

	// Wake asks for a Tick at this time; it replaces an earlier one.
	Wake struct{ At time.Duration }

	// Note is something worth a metric or a log line.
	Note struct {
		Kind  NoteKind
		Pair  Pair
		Tally Tally // of the exchange
		Text  string
	}
)

// NoteKind names what a Note tells of.
type NoteKind string

// The kinds of notes.
const (
	NoteEqual  NoteKind = "equal"  // two replicas were found equal
	NoteMended NoteKind = "mended" // they were not, and what differed is mended
	NoteBusy   NoteKind = "busy"   // they were not, but only in what was being written
	NoteFailed NoteKind = "failed" // an exchange was broken off, and will be tried again
)

func (Adopted) event()   {}
func (NodeUp) event()    {}
func (NodeDown) event()  {}
func (Restarted) event() {}
func (Suspect) event()   {}
func (Replied) event()   {}
func (Lost) event()      {}
func (Pause) event()     {}
func (Resume) event()    {}
func (SetLimits) event() {}
func (Tick) event()      {}

func (Ask) effect()  {}
func (Do) effect()   {}
func (Wake) effect() {}
func (Note) effect() {}

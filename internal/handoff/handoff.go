// Package handoff moves data between nodes: to the new owner of a partition,
// from a node that stood in back to where it belongs, and to a vnode that has
// lost what it held.
//
// A Manager is one node's part in that. It is a machine as a request is: events
// go in, effects come out, and it never waits. Three kinds of jobs share it.
//
// A fill serves a transfer of ownership. The node that is to have a place pulls
// the data page by page, keeps in its own vnode how far it is, and says Filled
// when it has all:
//
//	        Resume            Pull             Fill
//	start ─────────▶ page ─────────▶ in hand ─────────▶ page … ─▶ Filled
//
// A drain serves data that is stray: this node holds it, and should not. It is
// offered to the places that should, and dropped here once all of them have said
// that they hold it durably:
//
//	        Pull             Deliver hashes, then       Drop, if it
//	page ─────────▶ in hand ───────────────────▶ held ─────────────▶ page … ─▶ clean
//	                         what is wanted            is unchanged
//
// A repair serves a vnode that has lost data. It pulls from all other places of
// each of its homes, and is lacking, so that nobody reads from it, until
// it has.
//
// # What may be dropped
//
// The rule that keeps data is on one line: a Drop names versions to which every
// target has answered ItemHeld since the targets last changed. Whatever goes
// wrong, a restart on either side too, ends a round before its Drop; the next
// one begins with what is on disk.
package handoff

import (
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Topology is what a Manager needs to know of a version of the topology.
type Topology struct {
	Epoch     uint64
	Ring      *ring.Ring
	Next      *ring.Ring // nil, or the same as Ring: no transfer is active
	Replicas  int
	Transfers []membership.Transfer
	Gone      func(node string) bool // it has left and never comes back; nil: nobody has
	Leaving   bool                   // this node is exiting: it says Left when it holds nothing
}

// Limits bound what the jobs of a node take. The zero value means the defaults.
type Limits struct {
	Jobs           int           // at work at once, each with another node; 0: 4
	PageBytes      int           // of objects in a page; 0: 256 KiB
	BytesPerSecond int64         // sent and pulled by all jobs together, each object as 1 KiB more than it has; 0: no limit
	Rest           int           // after a page its nodes rest so many times as long as it has taken; 0: not at all
	RetryFirst     time.Duration // wait after a failure, doubled by each one that follows; 0: 1 s
	RetryMost      time.Duration // the longest such wait; 0: 30 s
	AskTimeout     time.Duration // an Ask without an answer is given up; 0: 10 s
	Stuck          time.Duration // a job that comes no further for so long says so; 0: 5 min
}

func (l Limits) withDefaults() Limits {
	l.Jobs = orDefault(l.Jobs, 4)
	l.PageBytes = orDefault(l.PageBytes, 256<<10)
	l.RetryFirst = orDefault(l.RetryFirst, time.Second)
	l.RetryMost = max(l.RetryFirst, orDefault(l.RetryMost, 30*time.Second))
	l.AskTimeout = orDefault(l.AskTimeout, 10*time.Second)
	l.Stuck = orDefault(l.Stuck, 5*time.Minute)
	l.BytesPerSecond = max(0, l.BytesPerSecond)
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
	// held to be down.
	NodeUp struct{ Node string }

	// NodeDown says that a node is now held to be down.
	NodeDown struct{ Node string }

	// Replied is the answer to Ask or Do number I. A Fence or Fill is answered
	// once, as all that a Manager asks.
	Replied struct {
		I   int
		Msg vnode.Message
	}

	// NotSent says that Ask or Do number I certainly reached nobody.
	NotSent struct {
		I   int
		Why string
	}

	// Lost says that no answer to number I will come. A Do is not carried out any
	// more after that, though it may have been.
	Lost struct {
		I   int
		Why string
	}

	// Holdings answers a Look.
	Holdings struct {
		Vnodes  []Holding
		Lacking []ring.Partition // the vnodes that lack data: vnode.Lacking
		Kept    []vnode.Progress // how far fills have come: vnode.Kept
		Err     string           // not empty: what could not be read is missing above
	}

	// Stray says that this node has stored something that it only holds for others.
	// It saves waiting for the next Look.
	Stray struct{ Partition, Home ring.Partition }

	// Repair says that these vnodes of this node have lost data.
	Repair struct{ Partitions []ring.Partition }

	// SetLimits changes the limits.
	SetLimits struct{ Limits Limits }

	// Tick says that the time of a Wake has come. An early one does no harm.
	Tick struct{}
)

// Holding is what a vnode of this node holds anything of.
type Holding struct {
	Partition ring.Partition
	Homes     []ring.Partition
}

// Effect is what a Manager wants done.
type Effect interface{ effect() }

// The effects.
type (
	// Ask sends a message to a vnode of another node. Its outcome comes back
	// as Replied, NotSent or Lost with the same I.
	Ask struct {
		I    int
		Node string
		To   ring.Partition
		Msg  vnode.Message
	}

	// Do gives a message to a vnode of this node, as if it had come from another
	// one. Its outcome comes back as that of an Ask.
	Do struct {
		I   int
		To  ring.Partition
		Msg vnode.Message
	}

	// Look asks for Holdings: what is on this node's disk.
	Look struct{}

	// Propose asks for a command to be carried out by the topology log. It is
	// repeated until the topology shows that it was.
	Propose struct{ Command membership.Command }

	// Wake asks for a Tick at this time; it replaces an earlier one.
	Wake struct{ At time.Duration }

	// Note is something worth a metric or a log line.
	Note struct {
		Kind      NoteKind
		Job       Kind
		Transfer  uint64 // of a fill
		Partition ring.Partition
		Text      string
	}
)

// NoteKind names what a Note tells of.
type NoteKind string

// The kinds of notes.
const (
	NoteBegun   NoteKind = "begun"   // a job begins
	NoteEnded   NoteKind = "ended"   // a job has done all it can
	NoteFailed  NoteKind = "failed"  // a job could not go on, and will be tried again
	NoteStuck   NoteKind = "stuck"   // a job has come no further for a long time
	NoteSkipped NoteKind = "skipped" // objects that cannot be read were passed over; they stay where they are
	NoteNowhere NoteKind = "nowhere" // no replica is left to pull from, or to hand over to
	NoteLook    NoteKind = "look"    // what the disk holds could not be read
)

// Kind names what a job is for.
type Kind string

// The kinds of jobs.
const (
	Filling   Kind = "fill"
	Draining  Kind = "drain"
	Repairing Kind = "repair"
)

func (Adopted) event()   {}
func (NodeUp) event()    {}
func (NodeDown) event()  {}
func (Replied) event()   {}
func (NotSent) event()   {}
func (Lost) event()      {}
func (Holdings) event()  {}
func (Stray) event()     {}
func (Repair) event()    {}
func (SetLimits) event() {}
func (Tick) event()      {}

func (Ask) effect()     {}
func (Do) effect()      {}
func (Look) effect()    {}
func (Propose) effect() {}
func (Wake) effect()    {}
func (Note) effect()    {}

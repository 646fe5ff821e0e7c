// Package reap removes tombstones when it is certain that nothing they have
// replaced is left anywhere.
//
// A Reaper is one node's part in that. It is a machine as a request is: events go
// in, effects come out, and it never waits. It sees to the homes whose first place
// is on this node, round after round. A round takes what is due, and asks
// everybody twice:
//
//	        Graves of           Attest           Strays           Strays
//	resting ───────▶ gathering ───────▶ attested ───────▶ surveyed ──────▶ bounded
//	   ▲             this node          by all places      all members     all members: their epochs
//	   │                                                                      │ Mark
//	   │    Reap               Strays again         Attest again              ▼
//	   └────────── reaping ◀────────────── agreed ◀────────────── marked ◀─ marking
//	               all places                                     Reaped
//
// What fails, changes or does not answer in between ends the round, or the part of
// it that is concerned. Nothing is kept: after a restart the next round begins with
// what is on the disks.
//
// # Why it is safe
//
// Let T be a tombstone, v something that it has replaced, and M the epoch of the
// mark. It is proposed when all members have said that they hold nothing of the home
// where they should not, after all places have attested T. A place that holds T never again
// holds v, and the second answers of a member say that it has not held any
// since the first ones, in the same life. So between its two answers nobody had v on
// a disk, and what there was of v in messages and memories was read from a disk, or
// made from one, before the first: under an epoch before M. Every member has shown
// M, and from then on refuses what goes by an epoch before (membership.State.Fence). So
// v is nowhere, and T may go: here now, there later, or not at all.
//
// No clock has a part in that. How old a tombstone is decides only when a round takes
// it. A disk that is older than a reaping is what membership.State.OutOfDate is for.
package reap

import (
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
)

// Limits bound what a Reaper takes. The zero value means the defaults.
type Limits struct {
	Items      int           // tombstones in a round; 0: 50,000
	PageItems  int           // of one home in a round; 0: 1,000
	Asks       int           // at a time without an answer; 0: 8
	Every      time.Duration // between two rounds, if the last one has left nothing that is due, but no more than a quarter of the grace; 0: 30 s
	Pause      time.Duration // between two rounds otherwise; 0: 5 s
	AskTimeout time.Duration // an Ask without an answer is given up; 0: 10 s
	MarkWithin time.Duration // a mark that not all have shown by then ends the round; 0: 1 min
}

func (l Limits) withDefaults() Limits {
	l.Items = orDefault(l.Items, 50_000)
	l.PageItems = orDefault(l.PageItems, 1000)
	l.Asks = orDefault(l.Asks, 8)
	l.Every = orDefault(l.Every, 30*time.Second)
	l.Pause = orDefault(l.Pause, 5*time.Second)
	l.AskTimeout = orDefault(l.AskTimeout, 10*time.Second)
	l.MarkWithin = orDefault(l.MarkWithin, time.Minute)
	return l
}

func orDefault[T int | time.Duration](x, otherwise T) T {
	if x <= 0 {
		return otherwise
	}
	return x
}

// Event is what a Reaper consumes.
type Event interface{ event() }

// The events.
type (
	// Adopted says that this version of the topology is now this node's. An older
	// one than the last is ignored.
	Adopted struct{ State *membership.State }

	// NodeUp says that a node is now held to be up. Until then all others are held
	// to be down.
	NodeUp struct{ Node string }

	// NodeDown says that a node is now held to be down.
	NodeDown struct{ Node string }

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

	// Tick says that the time of a Wake has come. An early one does no harm.
	Tick struct{}
)

// Effect is what a Reaper wants done.
type Effect interface{ effect() }

// The effects.
type (
	// Ask sends a message to a vnode of another node, or, if it is a Strays, to the
	// node. Its outcome comes back as Replied or Lost with the same I.
	Ask struct {
		I    int
		Node string
		To   ring.Partition
		Msg  vnode.Message
	}

	// Do is an Ask to this node itself.
	Do struct {
		I   int
		To  ring.Partition
		Msg vnode.Message
	}

	// Propose asks for a command to be carried out by the topology log. It is
	// repeated until the topology shows that it was.
	Propose struct{ Command membership.Command }

	// Wake asks for a Tick at this time; it replaces an earlier one.
	Wake struct{ At time.Duration }

	// Note is something worth a metric or a log line.
	Note struct {
		Kind  NoteKind
		Count int
		Text  string
	}
)

// NoteKind names what a Note tells of.
type NoteKind string

// The kinds of notes.
const (
	NoteReaped NoteKind = "reaped" // Count tombstones are gone
	NoteEnded  NoteKind = "ended"  // a round has ended before it has reaped anything, and Text says why
	NoteSpared NoteKind = "spared" // Count tombstones stay for now, since Text
)

func (Adopted) event()  {}
func (NodeUp) event()   {}
func (NodeDown) event() {}
func (Replied) event()  {}
func (Lost) event()     {}
func (Tick) event()     {}

func (Ask) effect()     {}
func (Do) effect()      {}
func (Propose) effect() {}
func (Wake) effect()    {}
func (Note) effect()    {}

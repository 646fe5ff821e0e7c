// Package coordinator runs each request of a client as a state machine: prepare →
// execute → waiting, and for reads → repairing.
package coordinator

import (
	"time"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

// A Machine is one request in progress. It consumes one event and appends what
// it wants done; it answers once, and may go on after that, for read repair,
// until it is done. A driver feeds it Start, then whatever comes back.
type Machine interface {
	// Step consumes one event. Now is monotonic time since any fixed moment.
	Step(now time.Duration, ev Event, out []Effect) []Effect

	// Done is true when no event can make the machine do anything more.
	Done() bool
}

// Event is what a machine consumes.
type Event interface{ event() }

// The events. I is the number that the machine gave the message in its Ask.
type (
	// Start begins the request.
	Start struct{}

	// Replied is an answer to Ask number I. Only a Coordinate gets two.
	Replied struct {
		I   int
		Msg vnode.Message
	}

	// NotSent says that Ask number I certainly reached nobody.
	NotSent struct {
		I   int
		Why string
	}

	// Lost says that no answer to Ask number I will come; whether it
	// was carried out is not known.
	Lost struct {
		I   int
		Why string
	}

	// NodeDown says that a node is now held to be down.
	NodeDown struct{ Node string }

	// Tick says that the time of a Wake has come. An early one does no harm.
	Tick struct{}

	// Refreshed brings what is now known of the cluster, after a Refresh: the
	// same as before if nothing newer could be had. One that was not asked for
	// does no harm.
	Refreshed struct{ View View }
)

// Effect is what a machine wants done.
type Effect interface{ effect() }

// The effects.
type (
	// Ask sends a message to a vnode, on this node or another. Its outcome
	// comes back as Replied, NotSent or Lost with the same I; a
	// node's death may come as NodeDown first. It travels under the epoch of the
	// view that chose the vnode, whatever this node has learnt since, so that
	// a vnode which knows better can refuse it.
	Ask struct {
		I     int
		To    ring.Replica
		Epoch uint64
		Msg   vnode.Message
	}

	// Refresh says that the machine's view is older than this epoch, which the node
	// has. The state of that epoch, or a later one, is fetched, and
	// comes back as Refreshed.
	Refresh struct {
		Epoch uint64
		Node  string
	}

	// Wake asks for a Tick at this time.
	Wake struct{ At time.Duration }

	// Answer says that the machine's result is now complete, for the caller to take.
	// It comes exactly once.
	Answer struct{}

	// Note is something worth a metric or a log line.
	Note struct {
		Kind    NoteKind
		Replica ring.Replica
		Text    string
	}
)

// NoteKind names what a Note tells of.
type NoteKind string

// The kinds of notes.
const (
	NoteRepairStale   NoteKind = "repair_stale"   // a replica had an older version and was sent the merged one
	NoteRepairMissing NoteKind = "repair_missing" // a replica had none and was sent the merged one
	NoteRepairCorrupt NoteKind = "repair_corrupt" // a replica had one that cannot be read and was sent the merged one
	NoteSiblings      NoteKind = "siblings"       // a read found several live values
	NoteCorrupt       NoteKind = "corrupt"        // a replica answered with bytes that do not decode, or that what it has fails its checksum
)

func (Start) event()     {}
func (Replied) event()   {}
func (NotSent) event()   {}
func (Lost) event()      {}
func (NodeDown) event()  {}
func (Tick) event()      {}
func (Refreshed) event() {}

func (Ask) effect()     {}
func (Refresh) effect() {}
func (Wake) effect()    {}
func (Answer) effect()  {}
func (Note) effect()    {}

// View is what a machine knows of the cluster and the moment when it begins. Of
// one that comes later it takes over what is about the cluster.
type View struct {
	Ring     *ring.Ring             // who owns
	Next     *ring.Ring             // who owns when what is being transferred has been, or has not; nil or Ring: nothing is
	Epoch    uint64                 // of both
	Fence    uint64                 // what was read or made by an older epoch is taken by nobody any more; 0: nothing is that old
	Self     string                 // this node
	Up       func(node string) bool // who is held to be up; asked whenever somebody is chosen
	Replicas int                    // copies that the cluster keeps of a key
	Now      time.Duration          // monotonic, of the same origin as Step's
	Wall     time.Time              // wall clock of this node
	Random   uint64                 // the request's share of chance
	Load     func(node string) int  // how busy a node seems; nil: all alike
	Skewed   func(node string) bool // whose clock is off by more than may be, as far as this node can tell; nil: nobody's

	// Props are the properties of a bucket. The error says that its type is not known, or
	// not active. Nil: siblings are kept, and all else is as by default.
	Props func(kv.Bucket) (*kv.Props, error)
}

// props are those that a request of the bucket goes by to its end.
func (v *View) props(b kv.Bucket) (*kv.Props, error) {
	if v.Props == nil {
		p := kv.DefaultProps(v.Replicas, true)
		return &p, nil
	}
	return v.Props(b)
}

// refresh takes over what a later view says of the cluster. The request keeps its
// moment, and its node.
func (v *View) refresh(later *View) {
	if later.Ring == nil || later.Ring.Size() != v.Ring.Size() || later.Replicas < 1 {
		return // it cannot be one of the same cluster
	}
	v.Ring, v.Next, v.Epoch, v.Fence, v.Replicas = later.Ring, later.Next, later.Epoch, later.Fence, later.Replicas
	if later.Up != nil {
		v.Up = later.Up
	}
	if later.Load != nil {
		v.Load = later.Load
	}
	if later.Skewed != nil {
		v.Skewed = later.Skewed
	}
}

func (v *View) skewed(node string) bool {
	return v.Skewed != nil && v.Skewed(node) && !planted.Is(planted.ClockUnguarded)
}

func (v *View) load(node string) int {
	if v.Load == nil {
		return 0
	}
	return v.Load(node)
}

// Forward is a whole write on its way to a node that can coordinate it. It is
// sent once: a write that may have arrived is never sent again. Forwarded
// answers.
type Forward struct {
	Key     kv.Key
	Value   kv.Value // of a put
	Deleted bool     // this is a delete, whose context is known
	Options kv.WriteOptions
	Op      kv.Op // of a data type; nil: a put or a delete
}

// Forwarded is the outcome of a Forward: the receipt, and the error if any.
type Forwarded struct {
	Receipt kv.Receipt
	Err     error
}

// Message makes the two messages of a vnode's kind, for the transport.
func (*Forward) Message()   {}
func (*Forwarded) Message() {}

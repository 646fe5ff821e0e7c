package transport

import "github.com/tanodb/tanodb/internal/vnode"

// What nodes say to each other about the topology and their own work. The byte slices are what
// package membership encodes; their meaning is nothing to this package.
type (
	// Log carries a message of the topology log to the log of another node. Logged
	// answers at once: it was received, and nothing more is known of it.
	Log struct {
		Data []byte
	}

	// Logged answers a Log.
	Logged struct{}

	// StateAsk asks for a topology newer than the epoch Have. StateGive answers.
	StateAsk struct {
		Have uint64
	}

	// StateGive carries a topology; an empty State: there is none newer.
	StateGive struct {
		State []byte
	}

	// JobsAsk asks for the hand-off work of a node. JobsGive answers.
	JobsAsk struct{}

	// JobsGive carries it, in JSON.
	JobsGive struct {
		Jobs []byte
	}

	// Order asks a node for something about its anti-entropy, in one word. Body is what
	// it needs for that, in JSON. Ordered answers.
	Order struct {
		Do   string
		Body []byte
	}

	// Moment asks a vnode for something as it was at one moment, which an Order has had the
	// node keep under a number. What it asks is a Sums, a Versions or a Pick, and what
	// answers that answers this.
	Moment struct {
		Number uint64
		Msg    vnode.Message
	}

	// Ordered carries what an Order has asked for, in JSON.
	Ordered struct {
		Answer []byte
	}

	// Propose asks a node to bring a command into the topology log. Proposed
	// answers when its outcome is known. The same ID may be proposed again: it
	// is carried out once.
	Propose struct {
		ID      [16]byte
		Command []byte
	}

	// Proposed is the outcome of a Propose. Without a Code the command was
	// carried out; else Code is a word of package membership for why it was not,
	// and Text says it to a person.
	Proposed struct {
		Code string
		Text string
	}

	// Knock is how a node that is not a member yet tells who it is, at the door
	// of one that is. Welcome answers.
	Knock struct {
		Name       string
		ID         [16]byte // of the node
		Cluster    [16]byte // that it is alone in; zero: it is in none
		Partitions uint32   // of its ring; 0: it takes the cluster's
		Replicas   uint32   // 0: it takes the cluster's
		Version    string   // of its program
		Address    string   // where others reach it
	}

	// Welcome says what a node that has knocked would be a member of, or why it
	// cannot be one.
	Welcome struct {
		Cluster    [16]byte
		Partitions uint32
		Replicas   uint32
		TargetN    uint32
		Name       string // of the node that answers
		Refusal    string // why the other cannot be a member; empty: it can
		State      []byte // the topology; empty: it is to be asked for
	}
)

// The limits of these messages, in bytes.
const (
	maxState   = 16 << 20         // a topology
	maxLog     = maxState + 1<<20 // a message of the log, which may carry a topology
	maxCommand = 1 << 20          // a command
	maxAddress = 512              // an address, or a version
)

// Message makes them messages of a vnode's kind.
func (*Log) Message()       {}
func (*Logged) Message()    {}
func (*StateAsk) Message()  {}
func (*StateGive) Message() {}
func (*JobsAsk) Message()   {}
func (*JobsGive) Message()  {}
func (*Order) Message()     {}
func (*Moment) Message()    {}
func (*Ordered) Message()   {}
func (*Propose) Message()   {}
func (*Proposed) Message()  {}
func (*Knock) Message()     {}
func (*Welcome) Message()   {}

// knocks is true of what one who is not a member may ask.
func knocks(m vnode.Message) bool {
	switch m.(type) {
	case *Knock, *Propose, *StateAsk:
		return true
	}
	return false
}

// moment appends a Moment: its number, and the kind and fields of what it asks.
func (e *encoder) moment(m *Moment) {
	e.u64(m.Number)
	k := kindOf(m.Msg)
	if !k.ofMoment() {
		e.fail("%T cannot be asked of a moment", m.Msg)
		return
	}
	e.u8(uint8(k))
	e.request(m.Msg)
}

// moment takes what moment has appended.
func (d *decoder) moment() *Moment {
	m := &Moment{Number: d.u64()}
	k := kind(d.u8())
	if !k.ofMoment() {
		d.fail("kind %#x cannot be asked of a moment", uint8(k))
		return m
	}
	m.Msg = d.request(k)
	return m
}

// ofMoment reports whether a moment can be asked this.
func (k kind) ofMoment() bool { return k == kindSums || k == kindVersions || k == kindPick }

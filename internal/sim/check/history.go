// Package check judges what a simulated cluster did by what its clients saw.
//
// It knows nothing of replicas, messages or clocks: a History lists the
// operations of all clients and what each key held at the end. Every write
// has an id of its own and carries the ids that its context had seen, so that
// "replaces" is a relation between ids, and each checker a few lines over it.
package check

import (
	"fmt"
	"time"
)

// ID names one write of a run, a put or a delete. Zero names none.
type ID uint64

// Kind says what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Put Kind = iota
	Delete
	Get
	List
)

// String is the kind's name in lower case.
func (k Kind) String() string { return [...]string{"put", "delete", "get", "list"}[k] }

// Outcome says what the client of an operation knows of it.
type Outcome uint8

// The outcomes.
const (
	Open   Outcome = iota // never answered
	Done                  // answered with success
	Failed                // answered with an error that says that nothing was changed, or will be
	Doubt                 // answered with an error that leaves that open
)

// String is the outcome's name in lower case.
func (o Outcome) String() string { return [...]string{"open", "done", "failed", "doubt"}[o] }

// Op is one operation of a client. Instants count from the start of the run.
type Op struct {
	Client   int
	Node     string // where the client sent it
	Kind     Kind
	Key      string // of a List, what its bucket's keys begin with
	Write    ID     // of a Put or Delete
	Seen     []ID   // what the context of a Put or Delete had seen, and, where the last write wins, what else it has replaced
	Stamp    uint64 // of a write where the last one wins, when it was made as its coordinator says; 0: nobody has it
	Start    time.Duration
	End      time.Duration // when it was answered; meaningless while Open
	Due      time.Duration // when it had to be answered at the latest
	Expires  time.Duration // of a Put: from when on some clock may hide its value; 0: never
	Gone     bool          // the node that ran it went away, so nobody can answer
	Outcome  Outcome
	Error    string // of a Failed or Doubt outcome
	Read     []ID   // what a Get, or a Put that returns the body, saw
	Listed   []string
	Guarded  bool // a Put that is made only if the key holds what its writer thinks
	Fresh    bool // the quorums overlap, and nobody stands in: reads see all writes acknowledged before them
	Overlaps bool // of a Get: as Fresh, but somebody may stand in
	Spread   bool // no fault is near, and nobody stands in: a write comes to all its replicas soon, and a list shows it
}

// String is the operation on one line.
func (o *Op) String() string {
	s := fmt.Sprintf("%v client %d at %s: %v %s", o.Start, o.Client, o.Node, o.Kind, o.Key)
	if o.Write != 0 {
		s += fmt.Sprintf(" write %d over %v", o.Write, o.Seen)
	}
	if o.Outcome == Open {
		return s + ": no answer"
	}
	s += fmt.Sprintf(": %v at %v", o.Outcome, o.End)
	if o.Error != "" {
		s += ": " + o.Error
	}
	if o.Kind == Get || len(o.Read) > 0 {
		s += fmt.Sprintf(", read %v", o.Read)
	}
	return s
}

// History is all that the clients of a run did, and how it ended.
type History struct {
	Ops       []Op
	Final     map[string][]ID // by key: what the replicas agree on at the end, tombstones included
	Stored    map[ID]bool     // the writes that any vnode has ever had
	Latest    string          // what the keys begin with of which only the last write is shown; empty: there are none
	Exclusive bool            // all Guarded puts of a key meet at one vnode
	Reaped    map[string][]ID // by key: deletes whose tombstones are gone, since nothing is left that they have replaced

	// Of a history that goes on where another one has ended; see Next.
	Past    map[ID]string   // by write, the key: it was stored once, and had been replaced when that one ended
	Known   map[string]bool // the keys that were put before
	Settled bool            // since then no replica has lost anything
}

// Violation is a promise broken.
type Violation struct {
	Checker string
	Key     string // empty: of no one key
	Text    string
}

// String is the violation on one line.
func (v Violation) String() string {
	if v.Key == "" {
		return v.Checker + ": " + v.Text
	}
	return v.Checker + ": " + v.Key + ": " + v.Text
}

// All runs every checker over the history, and returns what they found.
func All(h *History) []Violation {
	g := newGraph(h)
	var found []Violation
	found = append(found, Phantom(g)...)
	found = append(found, Lost(g)...)
	found = append(found, Back(g)...)
	found = append(found, Siblings(g)...)
	found = append(found, Exclusive(g)...)
	found = append(found, Honest(g)...)
	found = append(found, Fresh(g)...)
	found = append(found, Present(g)...)
	found = append(found, Listing(g)...)
	return append(found, Answered(g)...)
}

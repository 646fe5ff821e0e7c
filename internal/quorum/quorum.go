// Package quorum says how many answers are enough, and whether they have come.
//
// A request has a plan: which replicas are asked, and a list of requirements on
// their answers, such as "W: two of them" or "PW: one primary". The Tally takes
// the answers, and gives a verdict with three values:
//
//	         every requirement holds
//	        ┌───────────────────────▶ Met
//	Pending ┤
//	        └───────────────────────▶ Lost
//	         one requirement can no longer be reached
//
// Once met or lost, no later answer changes the verdict. A tally has no clock:
// a request that runs out of time ends with a verdict that is still pending.
package quorum

import (
	"fmt"
	"strings"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/internal/ring"
)

// Verdict is what the answers so far come to.
type Verdict uint8

// The verdicts.
const (
	Pending Verdict = iota // the answers to come decide
	Met                    // every requirement holds
	Lost                   // a requirement cannot be reached, whatever comes
)

// String is the verdict in lower case.
func (v Verdict) String() string {
	switch v {
	case Pending:
		return "pending"
	case Met:
		return "met"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// Requirement is one condition on the replicas that grant a request.
type Requirement struct {
	Name     string                  // as errors show it: "W", "PR", "node_confirms"
	Need     int                     // how many must grant; 0 or less: it always holds
	Counts   func(ring.Replica) bool // which replicas count; it always says the same of the same one. Nil: all
	Distinct bool                    // several replicas on one node count once
}

// Most requests have no more replicas and requirements than these; their tally
// takes one allocation.
const (
	usualReplicas     = 6
	usualRequirements = 4
)

// Tally counts the answers of the replicas of one request. It must not be
// copied.
type Tally struct {
	places  []place
	counts  []count
	open    int // places without an answer
	verdict Verdict
	failed  int // of a lost tally, the index of the requirement that cannot be reached

	placesBuf [usualReplicas]place
	countsBuf [usualRequirements]count
}

// place is a replica and its answer.
type place struct {
	replica ring.Replica
	answer  answer
	late    bool // added after the verdict: counts for nothing
}

type answer uint8

const (
	open answer = iota
	granted
	denied
)

// count is a requirement and how far it is.
//
// Invariant: got + left never grows by an answer, and got never shrinks.
type count struct {
	Requirement
	got  int // granted
	left int // open, and would add to got
}

// New is the tally of a request to these replicas, before any answer. The
// verdict may be there at once: lost if the replicas are too few, met if
// nothing is needed.
func New(replicas []ring.Replica, reqs []Requirement) *Tally {
	t := &Tally{}
	t.places = t.placesBuf[:0]
	t.counts = t.countsBuf[:0]
	for _, req := range reqs {
		t.counts = append(t.counts, count{Requirement: req})
	}
	for _, r := range replicas {
		t.add(r)
	}
	t.settle()
	return t
}

// Add adds a further replica and returns its index. A replica that makes up for
// another must be added before that one is denied, since a lost tally stays
// lost: what is added after the verdict is shown, but counts for nothing.
func (t *Tally) Add(r ring.Replica) int {
	i := t.add(r)
	t.settle()
	return i
}

func (t *Tally) add(r ring.Replica) int {
	t.places = append(t.places, place{replica: r, late: t.verdict != Pending})
	t.open++
	t.count(len(t.places)-1, 0, 1)
	return len(t.places) - 1
}

// Grant says that replica i, by its order in New and Add, has done what was
// asked. Only the first answer of a replica counts.
func (t *Tally) Grant(i int) {
	switch {
	case t.places[i].answer == open:
		t.answer(i, granted)
		t.count(i, 1, -1)
	case planted.Is(planted.CountDuplicates):
		t.count(i, 1, 0)
	}
	t.settle()
}

// Deny says that replica i has not done what was asked, and will not. Only the
// first answer of a replica counts.
func (t *Tally) Deny(i int) {
	if t.places[i].answer == open {
		t.answer(i, denied)
		t.count(i, 0, -1)
	}
	t.settle()
}

func (t *Tally) answer(i int, a answer) {
	t.places[i].answer = a
	t.open--
}

// count brings the requirements for which replica i counts up to date, but for
// the distinct ones, which settle counts anew.
func (t *Tally) count(i, got, left int) {
	for n := range t.counts {
		c := &t.counts[n]
		if !c.Distinct && c.has(&t.places[i]) {
			c.got += got
			c.left += left
		}
	}
}

// settle finds the verdict, unless there is one.
func (t *Tally) settle() {
	met := true
	for n := range t.counts {
		c := &t.counts[n]
		if c.Distinct {
			c.countNodes(t.places)
		}
		if t.verdict != Pending {
			continue
		}
		if c.got+c.left < c.Need {
			t.verdict, t.failed = Lost, n
		}
		met = met && c.got >= c.Need
	}
	if t.verdict == Pending && met {
		t.verdict = Met
	}
}

// has reports whether the replica counts for the requirement.
func (c *count) has(p *place) bool {
	return !p.late && (c.Counts == nil || c.Counts(p.replica))
}

// countNodes counts nodes instead of replicas: those with a grant, and those
// without one that may still give it.
func (c *count) countNodes(places []place) {
	c.got, c.left = 0, 0
	for i := range places {
		p := &places[i]
		switch {
		case !c.has(p):
		case p.answer == granted && !c.answered(places[:i], p.replica.Node, granted):
			c.got++
		case p.answer == open && !c.answered(places[:i], p.replica.Node, open) && !c.answered(places, p.replica.Node, granted):
			c.left++
		}
	}
}

// answered reports whether among the places there is one on the node that
// counts and has this answer.
func (c *count) answered(places []place, node string, a answer) bool {
	for i := range places {
		p := &places[i]
		if p.answer == a && p.replica.Node == node && c.has(p) {
			return true
		}
	}
	return false
}

// Verdict is what the answers so far come to. Once it is Met or Lost, it stays.
func (t *Tally) Verdict() Verdict { return t.verdict }

// Failed is the requirement to blame, and how many have granted it so far: of a
// lost tally the first one that could no longer be reached, of a pending one
// the first one that does not hold yet. Of a met tally it is the zero
// Requirement.
func (t *Tally) Failed() (req Requirement, got int) {
	if t.verdict == Lost {
		c := &t.counts[t.failed]
		return c.Requirement, c.got
	}
	for n := range t.counts {
		if c := &t.counts[n]; t.verdict == Pending && c.got < c.Need {
			return c.Requirement, c.got
		}
	}
	return Requirement{}, 0
}

// Open is how many replicas have not answered.
func (t *Tally) Open() int { return t.open }

// String shows each requirement as got/need, the verdict, and each replica's
// answer, "+" granted, "-" denied, "." open:
//
//	W 1/2, PW 0/1: pending (n1 + n2 . n3 -)
func (t *Tally) String() string {
	var b strings.Builder
	for n := range t.counts {
		if n > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d/%d", t.counts[n].Name, t.counts[n].got, t.counts[n].Need)
	}
	if len(t.counts) > 0 {
		b.WriteString(": ")
	}
	b.WriteString(t.verdict.String())
	b.WriteString(" (")
	for i := range t.places {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.places[i].replica.Node + " " + string(".+-"[t.places[i].answer]))
	}
	b.WriteByte(')')
	return b.String()
}

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
//
// A replica may be made up for by others that stand in for it. They are one
// group, and a group counts once, however many of it have granted:
//
//	W 2 of   (n1)  (n2 n4)  (n3)      n4 stands in for n2
//	           +     +  +     .       2: met
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
	Name   string                // as errors show it: "W", "PR", "node_confirms"
	Need   int                   // how many must grant; 0 or less: it always holds
	Counts func(ring.Place) bool // which replicas count; it always says the same of the same one. Nil: all

	// Distinct asks for grants on distinct nodes. A group still counts once: what
	// is on two nodes of one group will be on one of them in the end.
	Distinct bool

	// Next says that it is about the next owners, where the same holds of those
	// now. It only tells the two apart for the reader.
	Next bool
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
	voters  []voter
	counts  []count
	open    int // voters without an answer
	verdict Verdict
	failed  int // of a lost tally, the index of the requirement that cannot be reached

	votersBuf [usualReplicas]voter
	countsBuf [usualRequirements]count
}

// voter is a replica and its answer.
type voter struct {
	place  ring.Place
	group  int16 // a replica that its group is called by
	answer answer
	late   bool // added after the verdict: counts for nothing
	seat   seat // for Distinct
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
	got  int // groups, or distinct nodes, that have granted
	left int // those that would be added if all that are open granted
}

// New is the tally of a request to these replicas, before any answer. Groups
// says, of each replica, which group it is of, by the index of one of them that
// stands for all; nil: each is a group of its own. The verdict may be there at
// once: lost if the replicas are too few, met if nothing is needed.
func New(places []ring.Place, groups []int, reqs []Requirement) *Tally {
	t := &Tally{}
	t.voters = t.votersBuf[:0]
	t.counts = t.countsBuf[:0]
	for _, req := range reqs {
		t.counts = append(t.counts, count{Requirement: req})
	}
	for i, p := range places {
		group := i
		if groups != nil {
			group = groups[i]
		}
		t.add(p, int16(group))
	}
	t.settle()
	return t
}

// Add adds a further replica to the group of replica i, and returns its index. A
// replica that makes up for another must be added before that one is denied,
// since a lost tally stays lost: what is added after the verdict is shown, but
// counts for nothing.
func (t *Tally) Add(p ring.Place, i int) int {
	group := t.voters[i].group
	if planted.Is(planted.FallbackTwice) {
		group = int16(len(t.voters))
	}
	n := t.add(p, group)
	t.settle()
	return n
}

func (t *Tally) add(p ring.Place, group int16) int {
	i := len(t.voters)
	t.voters = append(t.voters, voter{place: p, group: group, late: t.verdict != Pending, answer: denied})
	t.answer(i, open)
	return i
}

// Grant says that replica i, by its order in New and Add, has done what was
// asked. Only the first answer of a replica counts.
func (t *Tally) Grant(i int) {
	switch {
	case t.voters[i].answer == open:
		t.answer(i, granted)
	case planted.Is(planted.CountDuplicates):
		t.countTwice(i)
	}
	t.settle()
}

// Deny says that replica i has not done what was asked, and will not. Only the
// first answer of a replica counts.
func (t *Tally) Deny(i int) {
	if t.voters[i].answer == open {
		t.answer(i, denied)
	}
	t.settle()
}

// answer takes an answer.
func (t *Tally) answer(i int, a answer) {
	v := &t.voters[i]
	t.recount(v, -1)
	v.answer = a
	t.recount(v, 1)
}

// recount takes a replica's group out of all that it counts for, or in again,
// but for the distinct requirements, which settle counts anew. The group may count
// where the replica itself does not: others of it may have waited for its answer.
func (t *Tally) recount(v *voter, n int) {
	if v.answer == open {
		t.open += n
	}
	for i := range t.counts {
		c := &t.counts[i]
		if c.Distinct {
			continue
		}
		switch t.group(c, v.group) {
		case granted:
			c.got += n
		case open:
			c.left += n
		}
	}
}

// group is what a group comes to for a requirement: granted by one of it, or
// still open, or denied by all. As long as the replica that the others stand in
// for is open, their grants do not count: it is up, and a read that asks it, and
// not them, must find what was granted.
func (t *Tally) group(c *count, group int16) answer {
	all := denied
	waits := int(group) < len(t.voters) && t.voters[group].answer == open && !planted.Is(planted.FallbackEarly)
	for i := range t.voters {
		v := &t.voters[i]
		switch {
		case v.group != group || !c.has(v):
		case v.answer == granted && waits:
			all = open
		case v.answer == granted:
			return granted
		case v.answer == open:
			all = open
		}
	}
	return all
}

// countTwice is a planted bug.
func (t *Tally) countTwice(i int) {
	for n := range t.counts {
		if c := &t.counts[n]; !c.Distinct && c.has(&t.voters[i]) {
			c.got++
		}
	}
}

// settle finds the verdict, unless there is one.
func (t *Tally) settle() {
	met := true
	for n := range t.counts {
		c := &t.counts[n]
		if c.Distinct {
			c.got = t.nodes(c, granted)
			c.left = t.nodes(c, open) - c.got
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
func (c *count) has(v *voter) bool {
	return !v.late && (c.Counts == nil || c.Counts(v.place))
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
// answer, "+" granted, "-" denied, "." open. Who stands in for another comes in
// brackets with it:
//
//	W 1/2, PW 0/1: pending (n1 + [n2 - n4 .] n3 -)
func (t *Tally) String() string {
	var b strings.Builder
	for n := range t.counts {
		c := &t.counts[n]
		if n > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Name)
		if c.Next {
			b.WriteString(" next")
		}
		fmt.Fprintf(&b, " %d/%d", c.got, c.Need)
	}
	if len(t.counts) > 0 {
		b.WriteString(": ")
	}
	b.WriteString(t.verdict.String())
	b.WriteString(" (")
	for i := range t.voters {
		if int(t.voters[i].group) != i {
			continue
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.describe(int16(i)))
	}
	b.WriteByte(')')
	return b.String()
}

// describe shows a group.
func (t *Tally) describe(group int16) string {
	var all []string
	for i := range t.voters {
		if v := &t.voters[i]; v.group == group {
			all = append(all, v.place.Node+" "+string(".+-"[v.answer]))
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return "[" + strings.Join(all, " ") + "]"
}

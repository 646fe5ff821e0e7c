package membership

import (
	"cmp"
	"slices"
	"strconv"
)

// ChangeKind is what a staged change does.
type ChangeKind string

// The kinds of changes.
const (
	ChangeJoin         ChangeKind = "join"          // the node becomes a member and takes its share
	ChangeLeave        ChangeKind = "leave"         // the node gives all it has to the others and goes
	ChangeReplace      ChangeKind = "replace"       // With takes exactly the partitions of the node, which goes
	ChangeForceReplace ChangeKind = "force-replace" // the same for a node that is dead: its data comes from the other replicas
	ChangeForceRemove  ChangeKind = "force-remove"  // a dead node goes, and the others share its partitions
	ChangeSet          ChangeKind = "set"           // the node's zone or weight
)

// Change is something that an operator wants. It is staged, and nothing moves
// before a plan that contains it is committed.
type Change struct {
	Kind    ChangeKind
	Node    string
	With    string   // of replace and force-replace: the node that takes over
	Address string   // of join
	Zone    string   // of join and set; empty: as it is
	Weight  int      // of join and set; 0: as it is
	ID      [16]byte // of join: the node's id
}

// ChangeError is a command that was refused, and has changed nothing.
type ChangeError struct {
	Code string // as riak_core names it, where it does
	Text string // what is wrong, and what to do
}

// Error is the text.
func (e *ChangeError) Error() string { return e.Text }

// String is the change in words: "replace n1 with n4".
func (c Change) String() string {
	s := string(c.Kind) + " " + c.Node
	if c.With != "" {
		s += " with " + c.With
	}
	if c.Zone != "" {
		s += ", zone " + c.Zone
	}
	if c.Weight != 0 {
		s += ", weight " + strconv.Itoa(c.Weight)
	}
	return s
}

// removes reports whether the change lets its node go.
func (c Change) removes() bool { return c.Kind != ChangeJoin && c.Kind != ChangeSet }

// force reports whether the change holds its node to be dead.
func (c Change) force() bool { return c.Kind == ChangeForceReplace || c.Kind == ChangeForceRemove }

// stage adds a change to the plan.
func (d *draft) stage(c Change) *ChangeError {
	if m := d.member(c.Node); c.Kind == ChangeSet && m != nil && m.Status == StatusJoining {
		c = d.amended(c)
	}
	d.staged = slices.DeleteFunc(d.staged, func(x Change) bool { return x.Node == c.Node })
	if err := d.refuses(c); err != nil {
		return err
	}
	d.staged = append(d.staged, c)
	if d.remaining() == 0 {
		return refused(codeOnlyMember, "node %s would be the last one to go; let another one join first", c.Node)
	}
	if c.Kind == ChangeJoin {
		d.admit(c)
	}
	return nil
}

// amended is the staged joining of a node whose zone or weight is set before it
// has joined.
func (d *draft) amended(c Change) Change {
	i := slices.IndexFunc(d.staged, func(x Change) bool { return x.Node == c.Node })
	join := d.staged[i]
	join.Zone, join.Weight = cmp.Or(c.Zone, join.Zone), cmp.Or(c.Weight, join.Weight)
	return join
}

// admit makes a node that is to join known to all.
func (d *draft) admit(c Change) {
	m := member{Member: Member{
		Name: c.Node, Address: c.Address, Zone: c.Zone, Weight: c.Weight, ID: c.ID,
		Raft: RaftID(d.cluster, c.Node, c.ID), Status: StatusJoining,
	}}
	i, found := d.search(c.Node)
	if found {
		d.members[i] = m
		return
	}
	d.members = slices.Insert(d.members, i, m)
}

// clear takes back what is staged.
func (d *draft) clear() {
	d.staged = nil
	d.members = slices.DeleteFunc(d.members, func(m member) bool { return m.Status == StatusJoining })
}

// remaining is how many members would own partitions after the staged changes.
func (s *State) remaining() int {
	n := 0
	for i := range s.members {
		m := &s.members[i]
		goes := slices.ContainsFunc(s.staged, func(c Change) bool { return c.Node == m.Name && c.removes() })
		if m.standing() == StatusValid && !goes {
			n++
		}
	}
	for _, c := range s.staged {
		if c.Kind == ChangeJoin {
			n++
		}
	}
	return n
}

// refuses says why a change cannot be staged, or carried out, along with the
// others that are staged.
func (s *State) refuses(c Change) *ChangeError {
	switch c.Kind {
	case ChangeJoin:
		return s.refusesJoin(c)
	case ChangeSet, ChangeLeave, ChangeReplace, ChangeForceReplace, ChangeForceRemove:
	default:
		return refused(codeInvalid, "a change of the kind %s is not known", quote(string(c.Kind)))
	}
	m := s.member(c.Node)
	switch {
	case m == nil || m.Status == StatusLeft:
		return s.notMember(c.Node)
	case m.Status == StatusJoining:
		return refused(codeStillJoining, "node %s has not joined yet; clear the staged changes if it is not to", c.Node)
	case m.standing() != StatusValid && !c.force():
		return refused(codeAlreadyLeaving, "node %s is leaving already", c.Node)
	}
	if by := s.replacing(c.Node); by != "" && c.Kind != ChangeSet {
		return refused(codeAlreadyReplacement, "node %s is to replace %s; stage something else for %s first", c.Node, by, by)
	}
	switch c.Kind {
	case ChangeSet:
		return refusesSet(c)
	case ChangeReplace, ChangeForceReplace:
		return s.refusesReplacement(c)
	}
	return nil
}

func refusesSet(c Change) *ChangeError {
	if c.Zone == "" && c.Weight == 0 {
		return refused(codeInvalid, "neither a zone nor a weight is given for node %s", c.Node)
	}
	if problem := settingProblem(c.Zone, c.Weight); problem != "" {
		return refused(codeInvalid, "node %s is given %s", c.Node, problem)
	}
	return nil
}

// replacing is the node that a staged change replaces with this one, or empty.
func (s *State) replacing(node string) string {
	for _, c := range s.staged {
		if c.With == node {
			return c.Node
		}
	}
	return ""
}

// refusesReplacement says why c.With cannot take the place of c.Node.
func (s *State) refusesReplacement(c Change) *ChangeError {
	m := s.member(c.With)
	switch {
	case m == nil || m.Status == StatusLeft:
		return refused(codeInvalidReplacement, "%s, so it cannot replace %s; let it join first, and do not commit in between", s.notMember(c.With).Text, c.Node)
	case c.With == c.Node:
		return refused(codeInvalidReplacement, "node %s cannot replace itself", c.Node)
	case m.Status != StatusJoining && m.Status != StatusValid:
		return refused(codeInvalidReplacement, "node %s is %s, so it cannot replace %s", c.With, m.Status, c.Node)
	case s.owns(c.With):
		return refused(codeInvalidReplacement, "node %s owns partitions, or soon will, so it cannot replace %s; let a new node join for that, and do not commit in between", c.With, c.Node)
	case slices.ContainsFunc(s.staged, func(x Change) bool { return x.With == c.With && x.Node != c.Node }):
		return refused(codeAlreadyReplacement, "node %s is to replace %s already", c.With, s.replacing(c.With))
	case slices.ContainsFunc(s.staged, func(x Change) bool { return x.Node == c.With && x.removes() }):
		return refused(codeInvalidReplacement, "node %s is to go itself, so it cannot replace %s", c.With, c.Node)
	}
	return nil
}

// refusesJoin says why a node cannot join. That it is joining already is no
// reason.
func (s *State) refusesJoin(c Change) *ChangeError {
	what := "the node " + quote(c.Node)
	switch {
	case nameProblem(c.Node) != "":
		return refused(codeInvalid, "%s %s", what, nameProblem(c.Node))
	case c.ID == [16]byte{}:
		return refused(codeInvalid, "%s has no id", what)
	case c.Address == "":
		return refused(codeInvalid, "%s has no address at which the others reach it; set the one that it advertises", what)
	case addressProblem(c.Address) != "":
		return refused(codeInvalid, "%s has the address %s, %s", what, quote(c.Address), addressProblem(c.Address))
	case settingProblem(c.Zone, c.Weight) != "":
		return refused(codeInvalid, "%s has %s", what, settingProblem(c.Zone, c.Weight))
	case s.isGone(c.ID):
		return refused(codeLeft, "%s has left the cluster for ever; to use it again, give it an empty directory, so that it gets a new id", what)
	}
	if other := s.withID(c.ID); other != nil && other.Name != c.Node {
		return refused(codeIDTaken, "%s is the member %s already; start it under that name", what, other.Name)
	}
	return s.refusesName(c)
}

// refusesName says why a node cannot join under its name.
func (s *State) refusesName(c Change) *ChangeError {
	m := s.member(c.Node)
	switch {
	case m == nil:
		if n := s.count(); n >= MaxMembers {
			return refused(codeTooMany, "there are %d members already, which is the limit", n)
		}
	case m.Status == StatusLeft && s.owns(c.Node):
		return refused(codeRingNotReady, "the partitions of the former node %s are not all with others yet; wait until its transfers are over", c.Node)
	case m.Status == StatusLeft:
	case m.ID != c.ID:
		return refused(codeNameTaken, "the name %s belongs to another node; give this one another name, and if it is to take the other's place let it replace that", c.Node)
	case m.Status != StatusJoining:
		return refused(codeAlreadyMember, "node %s is a member already", c.Node)
	}
	raft := RaftID(s.cluster, c.Node, c.ID)
	if slices.ContainsFunc(s.members, func(m member) bool { return m.Raft == raft && m.Name != c.Node }) {
		return refused(codeIDTaken, "the id of node %s is too much like that of another member; give it an empty directory, so that it gets a new one", c.Node)
	}
	return nil
}

// count is how many members have not left.
func (s *State) count() int {
	n := 0
	for _, m := range s.members {
		if m.Status != StatusLeft {
			n++
		}
	}
	return n
}

// Candidate is a node that wants to join, as it describes itself.
type Candidate struct {
	Name       string
	ID         [16]byte
	Cluster    [16]byte // of the cluster of which it is a member now
	Partitions int
	Replicas   int
	Members    int  // of its own cluster
	Keeps      bool // it holds data of its own
}

// Admits says why a node cannot join this cluster for what it is; nil: it can.
// The error is a *ChangeError. Stage has its own reasons to refuse it.
func (s *State) Admits(c Candidate) error {
	switch {
	case c.Cluster == s.cluster && s.withID(c.ID) != nil && s.count() == 1:
		return refused(codeSelfJoin, "node %s cannot join itself", c.Name)
	case c.Cluster == s.cluster:
		return refused(codeAlreadyMember, "node %s is of this cluster already", c.Name)
	case c.Members > 1:
		return refused(codeNotSingleNode, "node %s is a member of another cluster, with %d members; only a node that is alone can join", c.Name, c.Members)
	case c.Partitions != s.ring.Size():
		return refused(codeDifferentRingSizes, "node %s has a ring of %d partitions, and this cluster one of %d; start the node anew with %d", c.Name, c.Partitions, s.ring.Size(), s.ring.Size())
	case c.Replicas != s.replicas:
		return refused(codeDifferentReplicas, "node %s keeps %d replicas of each key, and this cluster %d; start the node anew with %d", c.Name, c.Replicas, s.replicas, s.replicas)
	case c.Keeps:
		return refused(codeNotSingleNode, "node %s holds data of its own, which would be lost; only an empty node can join", c.Name)
	}
	return nil
}

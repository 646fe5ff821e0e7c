package membership

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// ErrCommandInDoubt is the outcome of a command of which this node cannot find
// out any more whether it was carried out.
var ErrCommandInDoubt = errors.New("membership: it is not known whether this was carried out; look at the members and at the plan before you repeat it")

// ErrTooManyCommands is the outcome of a command that was not even proposed.
var ErrTooManyCommands = errors.New("membership: too many commands wait for the cluster to agree; nothing was changed, try again later")

// proposal is a command of this node that has had no outcome.
type proposal struct {
	id      CommandID
	command []byte
	from    uint64 // epoch at its proposal
	until   uint64 // see wish
	skipped bool   // epochs after from were not seen one by one
	sent    bool   // to the log or to the leader, at least once
	at      uint64 // tick when
}

// onPropose takes a command to be carried out.
func (l *Log) onPropose(ev LogPropose) {
	if ev.ID == (CommandID{}) || ev.Command == nil {
		l.outcome(ev.ID, errors.New("membership: a command without an id cannot be proposed"))
		return
	}
	if err, known := l.result(ev.ID); known {
		l.outcome(ev.ID, err)
		return
	}
	if slices.ContainsFunc(l.proposals, func(p *proposal) bool { return p.id == ev.ID }) {
		return
	}
	command := EncodeCommand(ev.Command)
	if len(command)+wishHead > maxProposal {
		l.outcome(ev.ID, fmt.Errorf("membership: a command of %d bytes is too long; the limit is %d", len(command), maxProposal-wishHead))
		return
	}
	if len(l.proposals) >= maxProposals {
		l.outcome(ev.ID, ErrTooManyCommands)
		return
	}
	p := &proposal{id: ev.ID, command: command}
	l.date(p)
	l.proposals = append(l.proposals, p)
	l.try(p)
}

// epoch is that of the state that the log has come to here.
func (l *Log) epoch() uint64 {
	if l.state == nil {
		return l.shown.Epoch()
	}
	return l.state.Epoch()
}

// result is what became of a command, if the state remembers it.
func (l *Log) result(id CommandID) (err error, known bool) {
	if l.state == nil {
		return nil, false
	}
	return l.state.Result(id)
}

// date makes the proposal one of this epoch.
func (l *Log) date(p *proposal) {
	p.from = l.epoch()
	p.until = p.from + validFor
	p.skipped, p.sent = false, false
}

// following is what a node has heard from the leader of a term, without a break.
type following struct {
	term   uint64
	at     uint64 // tick of the last word
	agreed uint64 // index up to which the leader has said that the log is agreed on
	beats  int    // heartbeats
	told   bool   // a message about entries has come
	caught bool   // this node had all that was agreed on, at some time in this term
}

// follow notes what the leader has said. Its messages about entries carry the
// index up to which it knows the log to be agreed on. Its heartbeats may carry
// a lower one; but it answers to the answer to one if this node is behind.
func (l *Log) follow(m *raftpb.Message) {
	f := &l.follows
	if f.term != l.seen.term || l.tick-f.at > uint64(2*l.election) {
		*f = following{term: l.seen.term}
	}
	f.at = l.tick
	f.agreed = max(f.agreed, m.GetCommit())
	switch m.GetType() {
	case raftpb.MsgApp:
		f.told = true
	case raftpb.MsgHeartbeat:
		f.beats++
	}
}

// caughtUp is true once this node has had all that its leader knew. Before, it
// may be so far behind that the outcome of a command would be hidden in a
// snapshot.
func (l *Log) caughtUp() bool {
	f := &l.follows
	if l.seen.role == raft.StateLeader {
		return true
	}
	if f.term == l.seen.term && (f.told || f.beats > 1) && l.applied >= f.agreed {
		f.caught = true
	}
	return f.term == l.seen.term && f.caught
}

// try gives a proposal to the leader, if there is one and nothing speaks
// against it.
func (l *Log) try(p *proposal) {
	if l.seen.leader == raft.None || l.state == nil || !l.caughtUp() {
		return
	}
	if !p.sent {
		l.date(p)
	}
	if err := l.node.Propose(encodeWish(p.id, p.until, p.command)); err != nil {
		l.dropped++
		return
	}
	p.sent, p.at = true, l.tick
}

// proposeAgain tries all proposals that have waited long enough; with all set,
// every one: there is a new leader.
func (l *Log) proposeAgain(all bool) {
	for _, p := range l.proposals {
		if all || !p.sent || l.tick-p.at >= retryTicks {
			l.try(p)
		}
	}
}

// settle ends the proposal of that id, which was just carried out.
func (l *Log) settle(id CommandID) {
	for i, p := range l.proposals {
		if p.id == id {
			l.proposals = slices.Delete(l.proposals, i, i+1)
			err, _ := l.state.Result(id)
			l.outcome(id, err)
			return
		}
	}
}

// skipped looks at all proposals after a snapshot, which hides what has become
// of them.
func (l *Log) skipped() {
	l.proposals = slices.DeleteFunc(l.proposals, func(p *proposal) bool {
		err, known := l.state.Result(p.id)
		if known {
			l.outcome(p.id, err)
		}
		p.skipped = true
		return known
	})
}

// renew dates the proposals anew that can no longer be carried out as they are.
func (l *Log) renew() {
	now := l.epoch()
	l.proposals = slices.DeleteFunc(l.proposals, func(p *proposal) bool {
		if now < p.until {
			return false
		}
		if p.skipped && p.sent && now > p.from+maxResults && l.state.forgets() {
			l.outcome(p.id, ErrCommandInDoubt)
			return true
		}
		l.date(p)
		return false
	})
	for _, p := range l.proposals {
		if p.from == now && !p.sent {
			l.try(p)
		}
	}
}

func (l *Log) outcome(id CommandID, err error) {
	l.outcomes = append(l.outcomes, LogOutcome{ID: id, Err: err})
}

// Waits says why a command waits, for whoever waits for it; empty: no reason to
// wait is known.
//
//	no leader: 2 of 5 voters are reachable (n1, n2); 3 are needed
func (l *Log) Waits() string {
	switch {
	case l.broken != nil:
		return l.broken.Error()
	case l.ready != nil && l.waited > l.election:
		return "this node has waited for its disk for too long"
	case l.state == nil:
		return "this node has not had the topology log from the leader yet"
	}
	if l.Leader() != "" {
		if l.seen.role == raft.StateLeader {
			if text := l.shortage(); text != "" {
				return "this node leads, but " + text
			}
		}
		if len(l.proposals) > 0 {
			return l.Leader() + " leads, and has not confirmed the command yet"
		}
		return ""
	}
	if !l.votes(l.id) {
		return fmt.Sprintf("no leader is heard from; a majority of the voters (%s) must be up", strings.Join(l.Voters(), ", "))
	}
	if text := l.shortage(); text != "" {
		return "no leader: " + text
	}
	return "no leader yet: the voters are about to elect one"
}

// Led reports whether the topology can change, as far as this node knows: it
// hears of a leader or, if it is that itself, of a majority of the voters.
func (l *Log) Led() bool {
	return l.Leader() != "" && (l.seen.role != raft.StateLeader || l.shortage() == "")
}

// shortage says how many voters are reachable if that is too few; empty: it is
// enough.
func (l *Log) shortage() string {
	for _, voters := range [][]uint64{l.conf.Voters, l.conf.VotersOutgoing} {
		var up []string
		for _, id := range voters {
			if l.reachable(id) {
				up = append(up, l.nameOf(id))
			}
		}
		slices.Sort(up)
		need := len(voters)/2 + 1
		if len(voters) == 0 || len(up) >= need {
			continue
		}
		verb := "are"
		if need == 1 {
			verb = "is"
		}
		return fmt.Sprintf("%d of %d voters are reachable (%s); %d %s needed", len(up), len(voters), strings.Join(up, ", "), need, verb)
	}
	return ""
}

// reachable is true for a node that was heard from lately, and for this one.
func (l *Log) reachable(id uint64) bool {
	at, ok := l.heard[id]
	return id == l.id || ok && l.tick-at <= uint64(heardFor*l.election)
}

// Leader is the name of the member that leads, or empty if none is known.
func (l *Log) Leader() string {
	id := l.seen.leader
	if id == raft.None || !l.reachable(id) {
		return ""
	}
	return l.nameOf(id)
}

// Voters are the members that vote, by name.
func (l *Log) Voters() []string { return l.namesOf(l.conf.Voters) }

// namesOf is sorted.
func (l *Log) namesOf(ids []uint64) []string {
	var names []string
	for _, id := range ids {
		name := l.nameOf(id)
		if name == "" {
			name = fmt.Sprintf("(unknown member %x)", id)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// LogStatus is a Log for a person's eyes.
type LogStatus struct {
	Role     string // "leader", "follower", "candidate", "learner"
	Leader   string // empty: none is known
	Term     uint64
	Commit   uint64 // index of the last entry that is agreed on
	Applied  uint64 // index of the last entry that the state contains
	Epoch    uint64 // of the state
	Voters   []string
	Learners []string
	Changing bool   // from one set of voters to another
	Waiting  int    // commands of this node without outcome
	Dropped  uint64 // messages that were of no use, since the start
	Lost     bool   // the leader has seen entries here that are not here any more
	Waits    string // see Waits
}

// Status is how the log stands on this node.
func (l *Log) Status() LogStatus {
	return LogStatus{
		Role: l.role(), Leader: l.Leader(), Term: l.seen.term, Commit: l.seen.commit,
		Applied: l.applied, Epoch: l.shown.Epoch(),
		Voters:   l.Voters(),
		Learners: l.namesOf(slices.Concat(l.conf.Learners, l.conf.LearnersNext)),
		Changing: len(l.conf.VotersOutgoing) > 0,
		Waiting:  len(l.proposals), Dropped: l.dropped, Lost: l.lost, Waits: l.Waits(),
	}
}

func (l *Log) role() string {
	switch {
	case l.seen.role == raft.StateLeader:
		return "leader"
	case l.seen.role == raft.StateCandidate, l.seen.role == raft.StatePreCandidate:
		return "candidate"
	case !l.votes(l.id):
		return "learner"
	}
	return "follower"
}

// String is the status on one line.
func (s LogStatus) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in term %d", s.Role, s.Term)
	if s.Leader != "" && s.Role != "leader" {
		fmt.Fprintf(&b, " of %s", s.Leader)
	}
	fmt.Fprintf(&b, ", agreed %d, applied %d, epoch %d, voters %s", s.Commit, s.Applied, s.Epoch, strings.Join(s.Voters, " "))
	if s.Changing {
		b.WriteString(" (changing)")
	}
	if len(s.Learners) > 0 {
		fmt.Fprintf(&b, ", learners %s", strings.Join(s.Learners, " "))
	}
	if s.Waits != "" {
		b.WriteString("; " + s.Waits)
	}
	if s.Lost {
		b.WriteString("; entries that this node had confirmed are lost")
	}
	return b.String()
}

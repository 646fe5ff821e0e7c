package membership

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A message between logs is
//
//	version u8 (1) | index uvarint | term uvarint | raft's protocol buffer Message
//
// where index and term are those of an entry that the sender knows to be agreed
// on: see learn. They are 0 unless the message is about a vote. Who sent it is for
// the network to know.
const messageVersion = 1

// place is the index and the term of an entry, which tell what it is.
type place struct{ index, term uint64 }

func encodeMessage(m *raftpb.Message, agreed place) []byte {
	b := binary.AppendUvarint([]byte{messageVersion}, agreed.index)
	b = binary.AppendUvarint(b, agreed.term)
	return append(b, marshal(m)...)
}

func decodeMessage(data []byte) (*raftpb.Message, place, error) {
	var p place
	if len(data) == 0 || data[0] != messageVersion {
		return nil, p, errors.New("membership: a message of the topology log is of an unknown version")
	}
	data = data[1:]
	for _, number := range []*uint64{&p.index, &p.term} {
		n := 0
		if *number, n = binary.Uvarint(data); n <= 0 {
			return nil, p, errors.New("membership: a message of the topology log is damaged")
		}
		data = data[n:]
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, p, fmt.Errorf("membership: a message of the topology log: %w", err)
	}
	return m, p, nil
}

// aboutVote is true for the messages of an election.
func aboutVote(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

// known is the last entry that this node knows to be agreed on, for a message
// about a vote.
func (l *Log) known(m *raftpb.Message) place {
	if !aboutVote(m) {
		return place{}
	}
	term, err := l.kept.Term(l.applied)
	if err != nil {
		return place{}
	}
	return place{l.applied, term}
}

// learn takes the word of another node for it that an entry is agreed on, if
// it is here. Without it an election can be impossible for ever: a voter does
// not know that the last change of voters is agreed on, so it asks for votes
// of nodes that do not vote any more. These refuse, since their log is longer by
// entries that never will be agreed on; and they do not stand for election either.
//
// raft is told by a heartbeat from a leader that it is made to forget at once.
func (l *Log) learn(from uint64, p place) {
	if l.seen.leader != raft.None || p.index <= l.seen.commit || l.ready != nil {
		return
	}
	if term, err := l.kept.Term(p.index); err != nil || term != p.term {
		return
	}
	l.ignore(l.node.Step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: &from, To: &l.id, Term: proto.Uint64(l.seen.term), Commit: &p.index,
	}))
	l.ignore(l.node.ForgetLeader())
	l.watch()
}

// fromLeader is true for the messages that only a leader sends.
func fromLeader(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		return true
	}
	return false
}

// admit says whether a message may go to raft, which trusts what it is given.
// A sender that is not known here is not turned away if it may lead: this node
// may be the one that is behind.
func (l *Log) admit(from string, m *raftpb.Message) bool {
	if m.GetTo() != l.id || m.GetFrom() == l.id || m.GetFrom() == raft.None || raft.IsLocalMsgTarget(m.GetFrom()) {
		return false
	}
	if (m.GetTerm() == 0) != (m.GetType() == raftpb.MsgProp) || len(m.GetContext()) > 0 || len(m.GetResponses()) > 0 {
		return false // of term 0 are raft's own messages to itself
	}
	return l.admitFrom(from, m) && l.admitContent(m)
}

// admitFrom checks that the sender is who it says.
func (l *Log) admitFrom(from string, m *raftpb.Message) bool {
	if from == "" {
		return false
	}
	id := m.GetFrom()
	if name, ok := l.names[id]; ok {
		if member, _ := l.shown.Member(name); member.Raft == id && member.Status == StatusLeft && !l.takesPart(id) {
			return false
		}
		return name == from
	}
	if !fromLeader(m) && m.GetType() != raftpb.MsgVote && m.GetType() != raftpb.MsgPreVote {
		return false
	}
	if known, ok := l.strangers[id]; ok {
		return known == from
	}
	if len(l.strangers) >= maxStrangers {
		clear(l.strangers)
	}
	l.strangers[id] = from
	return true
}

// takesPart says whether a node votes or follows.
func (l *Log) takesPart(id uint64) bool {
	for _, p := range l.peers() {
		if p == id {
			return true
		}
	}
	return id == l.id
}

// admitContent checks what raft would panic about.
func (l *Log) admitContent(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgHeartbeatResp:
		return len(m.GetEntries()) == 0
	case raftpb.MsgAppResp:
		return m.GetIndex() <= l.end || m.GetReject()
	case raftpb.MsgHeartbeat:
		l.checkCommit(m)
		return true
	case raftpb.MsgApp:
		return checkAppend(m) == nil
	case raftpb.MsgSnap:
		return l.checkSnapshot(m.GetSnapshot()) == nil
	case raftpb.MsgProp:
		return l.seen.role == raft.StateLeader && checkProposals(m.GetEntries()) == nil
	}
	return false
}

// checkCommit takes the commit index out of a heartbeat if the entry is not
// here. The leader has seen it here: what this node had promised to keep is
// lost.
func (l *Log) checkCommit(m *raftpb.Message) {
	if m.GetCommit() > l.end {
		l.lost = true
		m.Commit = proto.Uint64(0)
	}
}

// checkAppend checks that entries follow each other.
func checkAppend(m *raftpb.Message) error {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		if e.GetIndex() != index+1 || e.GetTerm() < term || e.GetTerm() > m.GetTerm() {
			return fmt.Errorf("entry %d of term %d follows entry %d of term %d", e.GetIndex(), e.GetTerm(), index, term)
		}
		if err := checkEntry(e); err != nil {
			return err
		}
		index, term = e.GetIndex(), e.GetTerm()
	}
	return nil
}

// checkEntry checks what an entry is, not what it means.
func checkEntry(e *raftpb.Entry) error {
	switch e.GetType() {
	case raftpb.EntryNormal:
		return nil
	case raftpb.EntryConfChangeV2:
		_, err := decodeConfChange(e.GetData())
		return err
	}
	return damaged("entry %d is of the unknown type %d", e.GetIndex(), e.GetType())
}

func decodeConfChange(data []byte) (*raftpb.ConfChangeV2, error) {
	c := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(data, c); err != nil {
		return nil, damaged("a change of voters: %v", err)
	}
	if c.GetTransition() != raftpb.ConfChangeTransitionAuto {
		return nil, damaged("a change of voters has the unknown transition %d", c.GetTransition())
	}
	for _, one := range c.GetChanges() {
		switch one.GetType() {
		case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeRemoveNode:
		default:
			return nil, damaged("a change of voters is of the unknown type %d", one.GetType())
		}
	}
	return c, nil
}

// checkSnapshot checks that a snapshot is one of this cluster.
func (l *Log) checkSnapshot(s *raftpb.Snapshot) error {
	m := s.GetMetadata()
	if m.GetIndex() == 0 || m.GetTerm() == 0 || len(m.GetConfState().GetVoters()) == 0 {
		return damaged("a snapshot of index %d and term %d with %d voters", m.GetIndex(), m.GetTerm(), len(m.GetConfState().GetVoters()))
	}
	state, err := DecodeState(s.GetData())
	if err != nil {
		return err
	}
	if state.Cluster() != l.shown.Cluster() {
		return damaged("a snapshot of another cluster")
	}
	return nil
}

// checkProposals checks what another node wants to have appended.
func checkProposals(entries []*raftpb.Entry) error {
	if len(entries) != 1 {
		return fmt.Errorf("%d entries are proposed at once", len(entries))
	}
	e := entries[0]
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) > maxProposal {
		return fmt.Errorf("an entry of type %d with %d bytes is proposed", e.GetType(), len(e.GetData()))
	}
	_, err := decodeWish(e.GetData())
	return err
}

// wish is a command on its way into the log. It may get there more than once,
// since whoever proposes it cannot know whether it got lost; and yet it is
// carried out once:
//
//   - As long as the state remembers its result, it is not carried out again.
//   - It is not carried out either once the epoch has come to until, which is
//     so close to the epoch at its proposal that the state still remembers.
//
// Who sees the epoch pass until without the command knows that it was not, and
// will not be carried out, and may propose it anew.
type wish struct {
	id      CommandID
	until   uint64
	command Command
}

// validFor is how many epochs a wish has before it.
const validFor = 48 // Invariant: not more than maxResults

// applyTo is the state after the command, or the same if it was or may have been
// carried out before.
func (w wish) applyTo(s *State) *State {
	if _, known := s.Result(w.id); known || s.Epoch() >= w.until {
		return s
	}
	return s.Apply(w.id, w.command)
}

// The encoding of a wish: version u8 (1) | id | until u64 | encoded command.
const (
	wishVersion = 1
	wishHead    = 1 + len(CommandID{}) + 8
)

func encodeWish(id CommandID, until uint64, command []byte) []byte {
	b := make([]byte, 0, wishHead+len(command))
	b = append(b, wishVersion)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, until)
	return append(b, command...)
}

func decodeWish(data []byte) (wish, error) {
	if len(data) < wishHead || data[0] != wishVersion {
		return wish{}, damaged("a command of %d bytes, or of an unknown version", len(data))
	}
	w := wish{id: CommandID(data[1:17]), until: binary.BigEndian.Uint64(data[17:])}
	var err error
	w.command, err = DecodeCommand(data[wishHead:])
	return w, err
}

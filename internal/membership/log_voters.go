package membership

import (
	"cmp"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// maxVoters is how many members vote at most. With five, two may fail.
const maxVoters = 5

// ChooseVoters are the members that should vote, by name, given those that vote
// now: up to five, an odd number, on as many zones as can be, and no other
// change than that needs. Members that are valid vote; if there are none,
// leaving and exiting ones; if there are none either, those that are down.
func ChooseVoters(s *State, now []string) []string {
	return chooseVoters(s, now, func(string) bool { return false })
}

// chooseVoters is ChooseVoters, but makes no voters of members that are behind:
// a majority could depend on one that is dead. Rather there are too few voters,
// and those that leave vote as long as there are.
func chooseVoters(s *State, now []string, behind func(string) bool) []string {
	able := candidates(s)
	size := min(len(able)-1+len(able)%2, maxVoters)
	votes := func(m Member) bool { return slices.Contains(now, m.Name) }
	ready := slices.DeleteFunc(able, func(m Member) bool { return !votes(m) && behind(m.Name) })
	chosen := spread(ready, size, nil, votes)
	if len(chosen) < size {
		stay := slices.DeleteFunc(s.Members(), func(m Member) bool {
			return !votes(m) || m.Status != StatusLeaving && m.Status != StatusExiting || slices.Contains(chosen, m)
		})
		chosen = spread(stay, size, chosen, votes)
	}
	names := make([]string, len(chosen))
	for i, m := range chosen {
		names[i] = m.Name
	}
	slices.Sort(names)
	return names
}

// candidates are the members from which the voters are chosen.
func candidates(s *State) []Member {
	for _, able := range [][]Status{{StatusValid}, {StatusLeaving, StatusExiting}, {StatusDown}} {
		var found []Member
		for _, m := range s.Members() {
			if slices.Contains(able, m.Status) && m.Raft != 0 {
				found = append(found, m)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// spread adds members to the chosen ones until there are size: each time one of
// the zone that has the fewest, who votes already if possible.
func spread(from []Member, size int, chosen []Member, votes func(Member) bool) []Member {
	inZone := map[string]int{}
	for _, m := range chosen {
		inZone[m.Zone]++
	}
	from = slices.Clone(from)
	for len(chosen) < size && len(from) > 0 {
		best := slices.MinFunc(from, func(a, b Member) int {
			return cmp.Or(
				cmp.Compare(inZone[a.Zone], inZone[b.Zone]),
				-compareBool(votes(a), votes(b)),
				strings.Compare(a.Name, b.Name),
			)
		})
		chosen = append(chosen, best)
		inZone[best.Zone]++
		from = slices.DeleteFunc(from, func(m Member) bool { return m == best })
	}
	return chosen
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// wishedVoters are the numbers of those who should vote, and of those who
// should follow: all members but those who have left.
func wishedVoters(s *State, now []string, behind func(string) bool) (voters, learners []uint64) {
	names := chooseVoters(s, now, behind)
	for _, m := range s.Members() {
		switch {
		case m.Raft == 0 || m.Status == StatusLeft:
		case slices.Contains(names, m.Name):
			voters = append(voters, m.Raft)
		default:
			learners = append(learners, m.Raft)
		}
	}
	slices.Sort(voters)
	slices.Sort(learners)
	return voters, learners
}

// firstConf is who votes and who follows in a cluster's first state.
func firstConf(s *State) *raftpb.ConfState {
	voters, learners := wishedVoters(s, nil, func(string) bool { return false })
	return &raftpb.ConfState{Voters: voters, Learners: learners}
}

// keepVoters proposes another set of voters if the state wishes it for a while.
// The delay lets a member that has left learn of it before it hears no more.
func (l *Log) keepVoters() {
	if l.seen.role != raft.StateLeader || len(l.conf.VotersOutgoing) > 0 || l.tick%uint64(l.beat) != 0 {
		return
	}
	if l.votersFor == l.state && l.votersOf == l.conf && l.wished == 0 && l.tick%uint64(l.election) != 0 {
		return // nothing is new
	}
	l.votersFor, l.votersOf = l.state, l.conf
	changes := l.voterChanges()
	switch {
	case len(changes) == 0:
		l.wished = 0
	case l.wished == 0:
		l.wished = l.tick
	case l.tick-l.wished >= uint64(settleVoters*l.beat):
		l.wished = l.tick
		l.ignore(l.node.ProposeConfChange(&raftpb.ConfChangeV2{Changes: changes}))
	}
}

// voterChanges lead from those who vote and follow now to those who should.
func (l *Log) voterChanges() []*raftpb.ConfChangeSingle {
	now := make([]string, 0, len(l.conf.Voters))
	for _, id := range l.conf.Voters {
		now = append(now, l.nameOf(id))
	}
	voters, learners := wishedVoters(l.state, now, l.lagging())
	if len(voters) == 0 {
		return nil
	}
	return changesTo(l.conf, voters, learners)
}

// changesTo lists the changes by number, the voters first.
func changesTo(conf *raftpb.ConfState, voters, learners []uint64) []*raftpb.ConfChangeSingle {
	var changes []*raftpb.ConfChangeSingle
	add := func(t raftpb.ConfChangeType, ids, except []uint64) {
		for _, id := range ids {
			if !slices.Contains(except, id) {
				changes = append(changes, &raftpb.ConfChangeSingle{Type: t.Enum(), NodeId: proto.Uint64(id)})
			}
		}
	}
	add(raftpb.ConfChangeAddNode, voters, conf.Voters)
	add(raftpb.ConfChangeAddLearnerNode, learners, conf.Learners)
	add(raftpb.ConfChangeRemoveNode, slices.Sorted(slices.Values(slices.Concat(conf.Voters, conf.Learners))), slices.Concat(voters, learners))
	return changes
}

// lagging says of a member whether it was not heard from lately, or lacks so
// much of the log that as a voter it could not help for a while.
func (l *Log) lagging() func(string) bool {
	progress := l.node.Status().Progress
	known := map[string]bool{l.o.Self: false}
	for _, id := range l.peers() {
		known[l.nameOf(id)] = !l.reachable(id) || progress[id].Match+uint64(l.o.SnapshotEvery) < l.end
	}
	return func(name string) bool {
		behind, ok := known[name]
		return behind || !ok
	}
}

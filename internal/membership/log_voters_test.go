package membership_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/membership"
)

// zoned is a state of members written "n1/a n2/b": name and zone. Those with a
// minus sign are down.
func zoned(t interface{ Fatal(...any) }, members string) *membership.State {
	var list []membership.Member
	var down []string
	for _, one := range strings.Fields(members) {
		one, isDown := strings.CutPrefix(one, "-")
		name, zone, _ := strings.Cut(one, "/")
		list = append(list, membership.Member{Name: name, Zone: zone})
		if isDown {
			down = append(down, name)
		}
	}
	s, err := membership.Bootstrap(list, 16, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range down {
		s = s.Apply(commandID(1000+i), membership.Down{Name: name})
		if err, _ := s.Result(commandID(1000 + i)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestChooseVoters(t *testing.T) {
	for _, c := range []struct{ members, now, want string }{
		{"n1", "", "n1"},
		{"n1 n2", "", "n1"},
		{"n1 n2", "n2", "n2"},
		{"n1 n2 n3", "n2", "n1 n2 n3"},
		{"n1 n2 n3 n4", "n2 n3 n4", "n2 n3 n4"},
		{"n1 n2 n3 n4 n5 n6 n7 n8", "n8", "n1 n2 n3 n4 n8"},
		{"n1/a n2/a n3/a n4/b n5/c", "", "n1 n2 n3 n4 n5"},
		{"n1/a n2/a n3/a n4/b n5/c n6/c", "", "n1 n2 n4 n5 n6"},
		{"n1/a n2/a n3/a n4/b", "n1 n2 n3", "n1 n2 n4"},
		{"n1/a n2/a n3/a n4/b", "n2 n3", "n2 n3 n4"},
		{"-n1 n2 n3 n4", "n1 n2 n3", "n2 n3 n4"},
		{"-n1 n2 n3", "n1 n2 n3", "n2"},
	} {
		got := membership.ChooseVoters(zoned(t, c.members), strings.Fields(c.now))
		if diff := cmp.Diff(strings.Fields(c.want), got); diff != "" {
			t.Errorf("%s, now %s (-want +got):\n%s", c.members, c.now, diff)
		}
	}
}

func TestChosenVotersAreOddSpreadAndStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var members []string
		zones := map[string]string{}
		perZone := map[string]int{}
		for i := range rapid.IntRange(1, 12).Draw(t, "members") {
			name := fmt.Sprintf("n%02d", i)
			zones[name] = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "zone")
			perZone[zones[name]]++
			members = append(members, name+"/"+zones[name])
		}
		s := zoned(t, strings.Join(members, " "))
		now := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Sorted(func(yield func(string) bool) {
			for _, m := range s.Members() {
				if !yield(m.Name) {
					return
				}
			}
		})), 0, min(5, len(members)), rapid.ID[string]).Draw(t, "now")
		got := membership.ChooseVoters(s, now)
		if len(got)%2 == 0 || len(got) > 5 || len(got) < min(5, len(members)-1) {
			t.Fatalf("%d voters of %d members", len(got), len(members))
		}
		chosen := map[string]int{}
		for _, name := range got {
			chosen[zones[name]]++
		}
		for _, a := range []string{"", "a", "b", "c"} {
			for _, b := range []string{"", "a", "b", "c"} {
				if chosen[a] > chosen[b]+1 && chosen[b] < perZone[b] {
					t.Fatalf("%d voters in zone %q, %d in %q", chosen[a], a, chosen[b], b)
				}
			}
		}
		if diff := cmp.Diff(got, membership.ChooseVoters(s, got)); diff != "" {
			t.Fatalf("they do not stay:\n%s", diff)
		}
	})
}

// TestMessagesThatAreNotTaken sends what raft would panic about, or what no
// node of the cluster sends.
func TestMessagesThatAreNotTaken(t *testing.T) {
	n := newNetwork(t, 1, weather{}, numbered(3)...)
	n.elect()
	n.carriedOut("n1", n.set("n1", 1))
	n.until("the same epoch", n.same)
	leader := n.leader()
	follower := n.names[(slices.Index(n.names, leader)+1)%3]
	third := n.names[(slices.Index(n.names, leader)+2)%3]
	state := n.nodes[leader].log.State()
	number := func(name string) uint64 {
		m, _ := state.Member(name)
		return m.Raft
	}
	status := n.nodes[leader].log.Status()
	term, commit := status.Term, status.Commit
	message := func(kind raftpb.MessageType, change func(*raftpb.Message)) *raftpb.Message {
		m := &raftpb.Message{
			Type: kind.Enum(), From: proto.Uint64(number(leader)), To: proto.Uint64(number(follower)),
			Term: &term, Index: proto.Uint64(commit), LogTerm: &term,
		}
		if change != nil {
			change(m)
		}
		return m
	}
	entry := func(index, term uint64, kind raftpb.EntryType, data []byte) *raftpb.Entry {
		return &raftpb.Entry{Index: &index, Term: &term, Type: kind.Enum(), Data: data}
	}
	snapshot := func(index uint64, data []byte) *raftpb.Snapshot {
		conf := &raftpb.ConfState{Voters: []uint64{number("n1"), number("n2"), number("n3")}}
		return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: conf}}
	}
	with := func(entries ...*raftpb.Entry) func(*raftpb.Message) {
		return func(m *raftpb.Message) { m.Entries = entries }
	}
	toLeader := func(m *raftpb.Message) {
		m.From, m.To = m.To, proto.Uint64(number(leader))
	}
	for what, m := range map[string]*raftpb.Message{
		"for another":     message(raftpb.MsgApp, func(m *raftpb.Message) { m.To = proto.Uint64(number(third)) }),
		"from oneself":    message(raftpb.MsgApp, func(m *raftpb.Message) { m.From = m.To }),
		"from nobody":     message(raftpb.MsgApp, func(m *raftpb.Message) { m.From = nil }),
		"another's name":  message(raftpb.MsgApp, func(m *raftpb.Message) { m.From = proto.Uint64(number(third)) }),
		"an answer":       message(raftpb.MsgHeartbeatResp, func(m *raftpb.Message) { m.From = proto.Uint64(99) }),
		"no term":         message(raftpb.MsgApp, func(m *raftpb.Message) { m.Term = nil }),
		"a local message": message(raftpb.MsgHup, nil),
		"of a local disk": message(raftpb.MsgStorageAppendResp, func(m *raftpb.Message) { m.From = proto.Uint64(1<<64 - 1) }),
		"no known type":   message(99, nil),
		"a forced vote":   message(raftpb.MsgVote, func(m *raftpb.Message) { m.Context = []byte("CampaignTransfer") }),
		"a gap":           message(raftpb.MsgApp, with(entry(commit+2, term, raftpb.EntryNormal, nil))),
		"terms backwards": message(raftpb.MsgApp, with(entry(commit+1, term-1, raftpb.EntryNormal, nil))),
		"a later term":    message(raftpb.MsgApp, with(entry(commit+1, term+1, raftpb.EntryNormal, nil))),
		"an old change":   message(raftpb.MsgApp, with(entry(commit+1, term, raftpb.EntryConfChange, nil))),
		"a bad change":    message(raftpb.MsgApp, with(entry(commit+1, term, raftpb.EntryConfChangeV2, []byte{0xff}))),
		"no snapshot":     message(raftpb.MsgSnap, nil),
		"a bad snapshot":  message(raftpb.MsgSnap, func(m *raftpb.Message) { m.Snapshot = snapshot(commit+9, []byte("x")) }),
		"another cluster": message(raftpb.MsgSnap, func(m *raftpb.Message) { m.Snapshot = snapshot(commit+9, zoned(t, "n1 n2 n3").Encode()) }),
		"no proposal":     message(raftpb.MsgProp, func(m *raftpb.Message) { m.Term = nil; toLeader(m) }),
		"a bad proposal": message(raftpb.MsgProp, func(m *raftpb.Message) {
			m.Term = nil
			toLeader(m)
			with(entry(0, 0, raftpb.EntryNormal, []byte("x")))(m)
		}),
		"proposed voters": message(raftpb.MsgProp, func(m *raftpb.Message) {
			m.Term = nil
			toLeader(m)
			with(entry(0, 0, raftpb.EntryConfChangeV2, nil))(m)
		}),
		"more than exists": message(raftpb.MsgAppResp, func(m *raftpb.Message) { toLeader(m); m.Index = proto.Uint64(commit + 9) }),
	} {
		from, to := leader, follower
		if m.GetTo() == number(leader) {
			from, to = follower, leader
		}
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		before := n.nodes[to].log.Status().Dropped
		n.step(n.nodes[to], membership.LogReceived{From: from, Data: append([]byte{1, 0, 0}, data...)})
		if got := n.nodes[to].log.Status().Dropped; got != before+1 {
			t.Errorf("%s: taken", what)
		}
	}
	for _, data := range [][]byte{nil, {}, {1}, {1, 0xff}, {1, 0, 0, 0xff}, {2}} {
		n.step(n.nodes[follower], membership.LogReceived{From: leader, Data: data})
	}
	n.carriedOut(follower, n.set(follower, 2))
	if n.nodes[follower].log.Status().Lost {
		t.Error("entries are held to be lost")
	}
	data, err := proto.Marshal(message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Commit = proto.Uint64(1000) }))
	if err != nil {
		t.Fatal(err)
	}
	n.step(n.nodes[follower], membership.LogReceived{From: leader, Data: append([]byte{1, 0, 0}, data...)})
	if s := n.nodes[follower].log.Status(); !s.Lost || !strings.HasSuffix(s.String(), "entries that this node had confirmed are lost") {
		t.Errorf("a leader has seen entries that are not here: %v", s)
	}
	n.carriedOut(follower, n.set(follower, 3))
}

// FuzzLogReceived gives a log bytes that may be a message. A log that contradicts
// itself may stop; nothing may panic.
func FuzzLogReceived(f *testing.F) {
	first := func() *membership.State {
		s, err := membership.Bootstrap([]membership.Member{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}, 8, 2, 2)
		if err != nil {
			f.Fatal(err)
		}
		return s
	}()
	f.Add([]byte{1, 0, 0, 8, 3})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		log, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, emptyStore(), first)
		if err != nil {
			t.Fatal(err)
		}
		log.Step(membership.LogReceived{From: "n2", Data: data}, nil)
		if got := log.State().Epoch(); got != 1 {
			t.Errorf("epoch %d by a single message", got)
		}
	})
}

package membership_test

import (
	"strings"
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/storage"
)

// restore puts an older disk in the place of a node's, and starts it.
func (n *network) restore(name string, image *storage.Memory) {
	node := n.nodes[name]
	n.crash(name, 0)
	node.disk, node.epoch = image, 0
	n.start(name)
}

// voids makes the log of a node void, as when another one has told it that its
// disk is an old one.
func (n *network) voids(name string, number uint64) {
	n.t.Helper()
	node := n.nodes[name]
	b, err := membership.VoidLog(node.disk, name, node.log.State(), number)
	if err != nil {
		n.t.Fatal(err)
	}
	n.durable(node, &b)
	n.crash(name, 0)
	n.start(name)
}

// gives hands a node the state of another one, and lets it begin anew with that.
func (n *network) gives(from, to string) {
	n.t.Helper()
	var b storage.Batch
	membership.KeepGiven(&b, n.nodes[from].log.State())
	n.durable(n.nodes[to], &b)
	n.crash(to, 0)
	n.start(to)
}

// TestRestoredDiskDoesNotVote: the disk of a voter is replaced by an older one,
// which lacks what it has helped to agree on. With the voter that was away at
// that time it would be a majority, and the two would agree on something else at
// the same epoch. As its log is void, they agree on nothing until the third is back,
// and then it votes under another number.
func TestRestoredDiskDoesNotVote(t *testing.T) {
	n := newNetwork(t, 31, weather{}, numbered(3)...)
	leader := n.elect()
	n.carriedOut(leader, n.set(leader, 1))
	n.until("the same epoch", n.same)
	var old, away string
	for _, name := range n.names {
		switch {
		case name == leader:
		case old == "":
			old = name
		default:
			away = name
		}
	}
	n.rounds(20)
	image := n.nodes[old].disk.Image()
	n.cut = func(from, to string) bool { return from == away || to == away }
	n.carriedOut(leader, n.set(leader, 2), n.set(leader, 3))
	n.until("the old disk's node has it, too", func() bool {
		return n.nodes[old].epoch == n.nodes[leader].epoch
	})
	shown := n.nodes[old].epoch

	n.restore(old, image)
	if n.nodes[old].epoch >= shown {
		t.Fatalf("the image has epoch %d already", n.nodes[old].epoch)
	}
	was, _ := n.nodes[old].log.State().Member(old)
	n.voids(old, 77)
	n.cut = func(from, to string) bool { return from == leader || to == leader }
	n.step(n.nodes[away], membership.LogPropose{ID: commandID(4), Command: membership.Set{Key: "other", Value: "1"}})
	n.rounds(200)
	for _, name := range []string{old, away} {
		if s := n.nodes[name].log.Status(); s.Role == "leader" || s.Leader != "" {
			t.Errorf("%s: %v", name, s)
		}
	}
	if waits := n.nodes[old].log.Waits(); !strings.Contains(waits, "void") || n.nodes[old].log.Wanted() != 77 {
		t.Errorf("wanted is %x, and it waits: %s", n.nodes[old].log.Wanted(), waits)
	}

	n.cut = func(string, string) bool { return false }
	n.carriedOut(away, commandID(4))
	n.step(n.nodes[away], membership.LogPropose{ID: commandID(5), Command: membership.Announce{Name: old, ID: [16]byte{1}, Void: was.Raft, Raft: 77}})
	n.carriedOut(away, commandID(5))
	n.gives(away, old)
	if n.nodes[old].log.Wanted() != 0 {
		t.Fatalf("still void: %v", n.nodes[old].log.Status())
	}
	n.until("three vote again", func() bool {
		s := n.nodes[old].log.Status()
		return len(s.Voters) == 3 && !s.Changing && s.Role != "learner" && n.same()
	})
	is, _ := n.nodes[old].log.State().Member(old)
	if is.Raft != 77 || n.nodes[old].log.State().Setting("other") != "1" {
		t.Errorf("%+v, other is %q", is, n.nodes[old].log.State().Setting("other"))
	}
	n.crash(leader, 0)
	n.carriedOut(old, n.set(old, 6))
}

// TestVoidLogWaitsForItsOwnNumber: that a node has another number than it had by
// its old disk does not mean that it is the one of its new log. It may have been given
// that number before, and have lost that log as well.
func TestVoidLogWaitsForItsOwnNumber(t *testing.T) {
	s := firstState(t, "n1", "n2")
	was, _ := s.Member("n1")
	announce := func(void, number uint64) membership.Announce {
		return membership.Announce{Name: "n1", ID: [16]byte{1}, Void: void, Raft: number}
	}
	store := storage.NewMemory()
	open := func(given *membership.State) *membership.Log {
		t.Helper()
		var b storage.Batch
		membership.KeepGiven(&b, given)
		if _, err := store.Apply(&b, true); err != nil {
			t.Fatal(err)
		}
		log, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, store, nil)
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	b, err := membership.VoidLog(store, "n1", s, 88)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Apply(&b, true); err != nil {
		t.Fatal(err)
	}
	s = s.Apply(commandID(1), announce(was.Raft, 77)) // of a time that the disk does not know of
	if log := open(s); log.Wanted() != 88 || len(log.Step(membership.LogTick{}, nil)) > 0 {
		t.Errorf("wanted is %d", log.Wanted())
	}
	s = s.Apply(commandID(2), announce(was.Raft, 88)) // it does not know of its last number
	if is, _ := s.Member("n1"); is.Raft != 77 {
		t.Errorf("the number is %d", is.Raft)
	}
	s = s.Apply(commandID(3), announce(77, 88))
	s = s.Apply(commandID(4), announce(was.Raft, 77)) // late
	if is, _ := s.Member("n1"); is.Raft != 88 {
		t.Errorf("the number is %d", is.Raft)
	}
	if log := open(s); log.Wanted() != 0 {
		t.Errorf("wanted is %d", log.Wanted())
	}
}

// TestTheOnlyVoterIsRestored: nobody is left to give it a number, until the other
// node is made the only voter by hand.
func TestTheOnlyVoterIsRestored(t *testing.T) {
	n := newNetwork(t, 32, weather{}, "n1", "n2")
	voter := n.elect()
	other := map[string]string{"n1": "n2", "n2": "n1"}[voter]
	n.carriedOut(voter, n.set(voter, 1))
	n.rounds(10)
	image := n.nodes[voter].disk.Image()
	n.carriedOut(voter, n.set(voter, 2), n.set(voter, 3))
	n.until("the same epoch", n.same)
	n.restore(voter, image)
	was, _ := n.nodes[voter].log.State().Member(voter)
	n.voids(voter, 77)
	n.step(n.nodes[other], membership.LogPropose{ID: commandID(4), Command: membership.Announce{Name: voter, ID: [16]byte{1}, Void: was.Raft, Raft: 77}})
	n.rounds(100)
	if waits := n.nodes[other].log.Waits(); !strings.Contains(waits, "no leader is heard from") {
		t.Errorf("it waits: %s", waits)
	}
	n.crash(other, 0)
	b, _, err := membership.Recover(n.nodes[other].disk, other, []string{other})
	if err != nil {
		t.Fatal(err)
	}
	n.durable(n.nodes[other], &b)
	n.start(other)
	n.until("it leads", func() bool { return n.nodes[other].log.Status().Role == "leader" })
	n.step(n.nodes[other], membership.LogPropose{ID: commandID(5), Command: membership.Announce{Name: voter, ID: [16]byte{1}, Void: was.Raft, Raft: 77}})
	n.carriedOut(other, commandID(5))
	n.gives(other, voter)
	n.until("both have the same again", n.same)
	n.carriedOut(voter, n.set(voter, 6))
}

// TestNumbersThatCannotBe are refused.
func TestNumbersThatCannotBe(t *testing.T) {
	s := firstState(t, "n1", "n2")
	n1, _ := s.Member("n1")
	n2, _ := s.Member("n2")
	for i, number := range []uint64{0, n2.Raft} {
		c := membership.Announce{Name: "n1", ID: [16]byte{1}, Void: n1.Raft, Raft: number}
		after := s.Apply(commandID(i), c)
		if err, _ := after.Result(commandID(i)); err == nil {
			t.Errorf("the number %d was taken", number)
		}
		if is, _ := after.Member("n1"); is.Raft != n1.Raft {
			t.Errorf("the number is %d", is.Raft)
		}
	}
	c := membership.Announce{Name: "n1", ID: [16]byte{1}, Void: n1.Raft, Raft: 1<<64 - 1}
	got, err := membership.DecodeCommand(membership.EncodeCommand(c))
	if err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestVoidLogThatCannotBe is refused with what is wrong.
func TestVoidLogThatCannotBe(t *testing.T) {
	s := firstState(t, "n1", "n2")
	if _, err := membership.VoidLog(emptyStore(), "n3", s, 1); err == nil || !strings.Contains(err.Error(), "not a member") {
		t.Errorf("no member: %v", err)
	}
	b, err := membership.VoidLog(emptyStore(), "n1", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Ops {
		store := storage.NewMemory()
		rest := storage.Batch{Ops: append(append([]storage.Op{}, b.Ops[:i]...), b.Ops[i+1:]...)}
		if _, err := store.Apply(&rest, true); err != nil {
			t.Fatal(err)
		}
		if _, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, store, nil); err == nil {
			t.Errorf("opened without %x", b.Ops[i].Key)
		}
	}
}

package membership_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/storage"
)

// weather is what happens to messages, writes and nodes.
type weather struct {
	loss, repeat float64 // of a message
	delay        int     // rounds that a message or a write takes at most, beyond one
	crash        float64 // of each node, each round
}

// network is a cluster's logs with all that is around them: disks that keep
// what was durable, and messages on their way. One round is one tick.
type network struct {
	t       *testing.T
	chance  *rand.Rand
	seed    uint64
	weather weather
	names   []string
	nodes   map[string]*logNode
	wire    []parcel
	round   int
	cut     func(from, to string) bool

	states  map[uint64][]byte // the state of each epoch, as the first node that adopted it encoded it
	leaders map[uint64]string // by term
	trace   []byte            // of everything that nodes wanted
	every   int               // SnapshotEvery
}

type parcel struct {
	at       int // round of its arrival
	from, to string
	data     []byte
}

type logNode struct {
	name     string
	disk     *storage.Memory
	log      *membership.Log // nil: down
	first    *membership.State
	epoch    uint64 // the highest that it has adopted
	writes   []writing
	outcomes map[membership.CommandID][]error
	bulk     int
	starts   uint64
	stuck    bool // its disk hangs
}

type writing struct {
	at     int
	number uint64
	commit storage.Commit
}

func newNetwork(t *testing.T, seed uint64, w weather, names ...string) *network {
	t.Helper()
	return newNetworkOf(t, seed, w, firstState(t, names...), names...)
}

func firstState(t *testing.T, names ...string) *membership.State {
	t.Helper()
	members := make([]membership.Member, len(names))
	for i, name := range names {
		members[i] = membership.Member{Name: name}
	}
	s, err := membership.Bootstrap(members, 8, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newNetworkOf(t *testing.T, seed uint64, w weather, first *membership.State, names ...string) *network {
	t.Helper()
	n := &network{
		t: t, seed: seed, chance: rand.New(rand.NewPCG(seed, 1)), weather: w, names: names, every: 20,
		nodes: map[string]*logNode{}, states: map[uint64][]byte{}, leaders: map[uint64]string{},
		cut: func(string, string) bool { return false },
	}
	for _, name := range names {
		n.add(name, first)
	}
	return n
}

// add gives the network a node with an empty disk.
func (n *network) add(name string, first *membership.State) {
	if !slices.Contains(n.names, name) {
		n.names = append(n.names, name)
	}
	n.nodes[name] = &logNode{name: name, disk: storage.NewMemory(), first: first, outcomes: map[membership.CommandID][]error{}}
	n.start(name)
}

// start opens the log of a node that is down.
func (n *network) start(name string) {
	n.t.Helper()
	node := n.nodes[name]
	node.starts++
	options := membership.LogOptions{Self: name, Seed: n.seed*1000 + node.starts, SnapshotEvery: n.every}
	log, err := membership.OpenLog(options, node.disk, node.first)
	if err != nil {
		n.t.Fatalf("seed %d, round %d: opening the log of %s: %v", n.seed, n.round, name, err)
	}
	batch := log.Init()
	n.durable(node, &batch)
	node.log = log
	n.adopted(node, log.State())
}

func (n *network) durable(node *logNode, b *storage.Batch) {
	n.t.Helper()
	c, err := node.disk.Apply(b, true)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// crash ends a node; of the writes that are not durable only the first keep
// are found again.
func (n *network) crash(name string, keep int) {
	node := n.nodes[name]
	node.disk = node.disk.Crash(keep)
	node.log, node.writes = nil, nil
}

// adopted checks a state: all nodes have the same one at an epoch, and no node
// goes back.
func (n *network) adopted(node *logNode, s *membership.State) {
	n.t.Helper()
	if s.Epoch() < node.epoch {
		n.t.Fatalf("seed %d, round %d: %s fell back from epoch %d to %d", n.seed, n.round, node.name, node.epoch, s.Epoch())
	}
	node.epoch = s.Epoch()
	encoded := s.Encode()
	if before, ok := n.states[s.Epoch()]; ok && !bytes.Equal(before, encoded) {
		n.t.Fatalf("seed %d, round %d: two states of epoch %d:\n%s\n%s", n.seed, n.round, s.Epoch(), before, encoded)
	}
	n.states[s.Epoch()] = encoded
}

// step gives a node an event, and does what it wants.
func (n *network) step(node *logNode, ev membership.LogEvent) {
	n.t.Helper()
	if node.log == nil {
		return
	}
	for _, e := range node.log.Step(ev, nil) {
		n.trace = fmt.Appendf(n.trace, "%d %s %T ", n.round, node.name, e)
		switch e := e.(type) {
		case membership.LogWrite:
			c, err := node.disk.Apply(&e.Batch, true)
			if err != nil {
				n.t.Fatal(err)
			}
			node.writes = append(node.writes, writing{n.later(), e.Write, c})
			for _, op := range e.Batch.Ops {
				n.trace = fmt.Appendf(n.trace, "%v %x %x ", op.Delete, op.Key, op.Value)
			}
		case membership.LogSend:
			n.trace = fmt.Appendf(n.trace, "%s %x", e.To, e.Data)
			if e.Bulk {
				node.bulk++
			}
			n.send(parcel{from: node.name, to: e.To, data: e.Data})
		case membership.LogAdopt:
			if got := node.log.State(); e.State.Epoch() > got.Epoch() {
				n.t.Fatalf("%s adopts epoch %d, and shows %d", node.name, e.State.Epoch(), got.Epoch())
			}
			n.adopted(node, e.State)
		case membership.LogOutcome:
			node.outcomes[e.ID] = append(node.outcomes[e.ID], e.Err)
		case membership.LogBroken:
			n.t.Fatalf("seed %d, round %d: %v", n.seed, n.round, e.Err)
		}
		n.trace = append(n.trace, '\n')
	}
	if s := node.log.Status(); s.Role == "leader" {
		if before, ok := n.leaders[s.Term]; ok && before != node.name {
			n.t.Fatalf("seed %d, round %d: %s and %s lead in term %d", n.seed, n.round, before, node.name, s.Term)
		}
		n.leaders[s.Term] = node.name
	}
}

func (n *network) later() int { return n.round + 1 + n.chance.IntN(n.weather.delay+1) }

func (n *network) send(p parcel) {
	if n.chance.Float64() < n.weather.loss || n.cut(p.from, p.to) {
		return
	}
	p.at = n.later()
	n.wire = append(n.wire, p)
	if n.chance.Float64() < n.weather.repeat {
		p.at = n.later() + n.chance.IntN(40)
		n.wire = append(n.wire, p)
	}
}

// turn is one round: ticks, writes that became durable, messages that arrive.
func (n *network) turn() {
	n.t.Helper()
	n.round++
	for _, name := range n.names {
		node := n.nodes[name]
		if n.weather.crash > 0 && n.chance.Float64() < n.weather.crash {
			if node.log == nil {
				n.start(name)
			} else {
				n.crash(name, n.chance.IntN(3))
			}
		}
		n.step(node, membership.LogTick{})
	}
	due := n.wire
	n.wire = nil
	n.chance.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, p := range due {
		if p.at > n.round {
			n.wire = append(n.wire, p)
			continue
		}
		if node := n.nodes[p.to]; node != nil && node.log != nil && !n.cut(p.from, p.to) {
			n.step(node, membership.LogReceived{From: p.from, Data: p.data})
		}
	}
	for _, name := range n.names {
		n.finishWrites(n.nodes[name])
	}
}

func (n *network) finishWrites(node *logNode) {
	n.t.Helper()
	for len(node.writes) > 0 && node.writes[0].at <= n.round && !node.stuck {
		w := node.writes[0]
		node.writes = node.writes[1:]
		if err := w.commit.Wait(); err != nil {
			n.t.Fatal(err)
		}
		n.step(node, membership.LogDurable{Write: w.number})
	}
}

// until runs rounds until the condition holds.
func (n *network) until(what string, ok func() bool) {
	n.t.Helper()
	for range 400 {
		if ok() {
			return
		}
		n.turn()
	}
	for _, name := range n.names {
		if node := n.nodes[name]; node.log != nil {
			n.t.Logf("%s: %v", name, node.log.Status())
		}
	}
	n.t.Fatalf("seed %d, round %d: %s does not happen", n.seed, n.round, what)
}

func (n *network) rounds(count int) {
	n.t.Helper()
	for range count {
		n.turn()
	}
}

// leader is who leads, as all nodes that are up and not cut off see it.
func (n *network) leader() string {
	leader := ""
	for _, name := range n.names {
		node := n.nodes[name]
		if node.log == nil {
			continue
		}
		l := node.log.Leader()
		if l == "" || leader != "" && l != leader {
			return ""
		}
		leader = l
	}
	if l := n.nodes[leader]; l == nil || l.log == nil || l.log.Status().Role != "leader" {
		return ""
	}
	return leader
}

func (n *network) elect() string {
	n.t.Helper()
	n.until("an election", func() bool { return n.leader() != "" })
	return n.leader()
}

func commandID(i int) (id membership.CommandID) {
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	return id
}

// set proposes the command of that number on a node.
func (n *network) set(node string, i int) membership.CommandID {
	n.t.Helper()
	n.step(n.nodes[node], membership.LogPropose{ID: commandID(i), Command: membership.Set{Key: fmt.Sprintf("k%d", i%7), Value: fmt.Sprint(i)}})
	return commandID(i)
}

// any proposes a command of any kind: some of them change who votes.
func (n *network) any(node string, i int) membership.CommandID {
	n.t.Helper()
	who := n.names[n.chance.IntN(len(n.names))]
	var c membership.Command
	switch n.chance.IntN(10) {
	case 0:
		c = membership.Down{Name: who}
	case 1, 2:
		c = membership.Announce{Name: who, ID: [16]byte{1, who[1]}, Address: who + ":1"}
	default:
		return n.set(node, i)
	}
	n.step(n.nodes[node], membership.LogPropose{ID: commandID(i), Command: c})
	return commandID(i)
}

func (n *network) done(node string, ids ...membership.CommandID) func() bool {
	return func() bool {
		for _, id := range ids {
			if len(n.nodes[node].outcomes[id]) == 0 {
				return false
			}
		}
		return true
	}
}

// same is true when all nodes that are up have the same epoch.
func (n *network) same() bool {
	epochs := map[uint64]bool{}
	for _, node := range n.nodes {
		if node.log != nil {
			epochs[node.log.State().Epoch()] = true
		}
	}
	return len(epochs) == 1
}

// carriedOut checks that commands had one outcome each, a good one.
func (n *network) carriedOut(node string, ids ...membership.CommandID) {
	n.t.Helper()
	n.until("the outcome", n.done(node, ids...))
	for _, id := range ids {
		if diff := cmp.Diff([]error{nil}, n.nodes[node].outcomes[id]); diff != "" {
			n.t.Errorf("command %x of %s: %s", id, node, diff)
		}
	}
}

func numbered(count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	return names
}

func TestLogAgreesOnCommands(t *testing.T) {
	for _, count := range []int{1, 2, 3, 5, 7} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			n := newNetwork(t, uint64(count), weather{}, numbered(count)...)
			n.elect()
			for i := range 10 {
				name := n.names[i%count]
				n.carriedOut(name, n.set(name, i))
			}
			n.until("the same epoch", n.same)
			if got := n.nodes["n1"].log.State(); got.Epoch() != 11 || got.Setting("k2") != "9" {
				t.Errorf("epoch %d, k2 = %s", got.Epoch(), got.Setting("k2"))
			}
			if w := n.nodes["n1"].log.Waits(); w != "" {
				t.Errorf("waits: %s", w)
			}
		})
	}
}

func TestSingleNodeLeadsAtItsFirstTick(t *testing.T) {
	n := newNetwork(t, 1, weather{}, "n1")
	n.set("n1", 1)
	n.rounds(6)
	n.carriedOut("n1", commandID(1))
	if n.round > 6 {
		t.Errorf("it took %d rounds", n.round)
	}
}

func TestRefusedCommandHasItsErrorAsOutcome(t *testing.T) {
	n := newNetwork(t, 1, weather{}, "n1", "n2", "n3")
	n.elect()
	n.step(n.nodes["n2"], membership.LogPropose{ID: commandID(1), Command: membership.Down{Name: "stranger"}})
	n.until("the outcome", n.done("n2", commandID(1)))
	var refused *membership.ChangeError
	if got := n.nodes["n2"].outcomes[commandID(1)]; len(got) != 1 || !errors.As(got[0], &refused) {
		t.Errorf("outcomes %v", got)
	}
	n.until("the same epoch", n.same)
	if got := n.nodes["n1"].log.State().Epoch(); got != 2 {
		t.Errorf("epoch %d, want 2: a refused command counts too", got)
	}
	n.step(n.nodes["n2"], membership.LogPropose{ID: commandID(1), Command: membership.Down{Name: "stranger"}})
	if got := n.nodes["n2"].outcomes[commandID(1)]; len(got) != 2 || !errors.As(got[1], &refused) {
		t.Errorf("asked again: outcomes %v", got)
	}
}

func TestCommandsThatAreNotEvenProposed(t *testing.T) {
	n := newNetwork(t, 1, weather{}, "n1", "n2", "n3")
	a := n.nodes["n1"]
	n.step(a, membership.LogPropose{Command: membership.Noop{}})
	n.step(a, membership.LogPropose{ID: commandID(1)})
	n.step(a, membership.LogPropose{ID: commandID(2), Command: membership.Commit{Plan: strings.Repeat("x", 1<<20)}})
	for i, x := range []membership.CommandID{{}, commandID(1), commandID(2)} {
		if got := a.outcomes[x]; len(got) != 1 || got[0] == nil {
			t.Errorf("%d: outcomes %v", i, got)
		}
	}
	for i := range 300 {
		n.set("n1", 1000+i)
	}
	if got := a.outcomes[commandID(1299)]; len(got) != 1 || !errors.Is(got[0], membership.ErrTooManyCommands) {
		t.Errorf("outcomes %v, want that there are too many", got)
	}
	if got := a.outcomes[commandID(1000)]; len(got) != 0 {
		t.Errorf("without a leader: outcomes %v", got)
	}
	for i := range 300 {
		n.step(a, membership.LogGiveUp{ID: commandID(1000 + i)})
	}
	n.elect()
	n.rounds(30)
	if got := n.nodes["n1"].log.State().Epoch(); got != 1 {
		t.Errorf("epoch %d though all was given up", got)
	}
}

func TestLeaderIsReplaced(t *testing.T) {
	n := newNetwork(t, 3, weather{}, numbered(3)...)
	old := n.elect()
	n.carriedOut(old, n.set(old, 1))
	n.crash(old, 0)
	n.until("another leader", func() bool { return n.leader() != "" && n.leader() != old })
	now := n.leader()
	n.carriedOut(now, n.set(now, 2))
	n.start(old)
	n.until("the old one follows", func() bool { return n.same() && n.nodes[old].log.Leader() == now })
	if got := n.nodes[old].log.State().Setting("k2"); got != "2" {
		t.Errorf("k2 = %q", got)
	}
}

func TestPartitionedLeaderChangesNothing(t *testing.T) {
	n := newNetwork(t, 4, weather{}, numbered(5)...)
	old := n.elect()
	minority := []string{old, n.names[(slices.Index(n.names, old)+1)%5]}
	inside := func(name string) bool { return slices.Contains(minority, name) }
	n.cut = func(from, to string) bool { return inside(from) != inside(to) }
	lost := n.set(old, 1)
	n.until("the leader gives up", func() bool { return n.nodes[old].log.Leader() == "" })
	n.until("it sees why", func() bool {
		return strings.Contains(n.nodes[old].log.Waits(), "no leader: 2 of 5 voters are reachable ("+strings.Join(slices.Sorted(slices.Values(minority)), ", ")+"); 3 are needed")
	})
	other := n.names[(slices.Index(n.names, old)+2)%5]
	n.carriedOut(other, n.set(other, 2))
	if len(n.nodes[old].outcomes[lost]) != 0 || n.nodes[old].log.State().Epoch() != 1 {
		t.Error("the minority has carried something out")
	}
	n.cut = func(string, string) bool { return false }
	n.carriedOut(old, lost)
	n.until("the same epoch", n.same)
	if got := n.nodes[other].log.State().Epoch(); got != 3 {
		t.Errorf("epoch %d, want 3", got)
	}
}

func TestThreeOfFiveAreLostAndComeBack(t *testing.T) {
	n := newNetwork(t, 5, weather{}, numbered(5)...)
	n.elect()
	for _, name := range []string{"n3", "n4", "n5"} {
		n.crash(name, 0)
	}
	n.rounds(60)
	asked := n.set("n1", 1)
	n.rounds(100)
	if len(n.nodes["n1"].outcomes[asked]) != 0 {
		t.Fatal("two of five have carried something out")
	}
	want := "no leader: 2 of 5 voters are reachable (n1, n2); 3 are needed"
	if got := n.nodes["n1"].log.Waits(); got != want {
		t.Errorf("waits: %s\nwant: %s", got, want)
	}
	if got := n.nodes["n1"].log.Status().String(); !strings.HasSuffix(got, want) {
		t.Errorf("status: %s", got)
	}
	n.start("n4")
	n.carriedOut("n1", asked)
}

func TestLearnerSaysWhoMustBeUp(t *testing.T) {
	n := newNetwork(t, 5, weather{}, numbered(2)...)
	n.elect()
	if got := n.nodes["n2"].log.Status(); got.Role != "learner" || got.Leader != "n1" {
		t.Fatalf("status %v", got)
	}
	n.crash("n1", 0)
	n.rounds(60)
	if got, want := n.nodes["n2"].log.Waits(), "no leader is heard from; a majority of the voters (n1) must be up"; got != want {
		t.Errorf("waits: %s\nwant: %s", got, want)
	}
}

func TestLogIsCutAndSentAsSnapshot(t *testing.T) {
	n := newNetwork(t, 6, weather{}, numbered(3)...)
	leader := n.elect()
	late := n.names[(slices.Index(n.names, leader)+1)%3]
	n.crash(late, 0)
	for i := range 60 {
		n.carriedOut(leader, n.set(leader, i))
	}
	kept := 0
	if err := n.nodes[leader].disk.Scan([]byte{2, 'e'}, []byte{2, 'f'}, func(_, _ []byte) bool { kept++; return true }); err != nil {
		t.Fatal(err)
	}
	if kept > 20+20/4+2 {
		t.Errorf("%d entries are kept", kept)
	}
	n.start(late)
	n.until("the same epoch", n.same)
	n.crash(leader, 0)
	n.start(leader)
	n.elect()
	n.until("the same epoch", n.same)
	if got := n.nodes[late].log.State().Epoch(); got != 61 {
		t.Errorf("epoch %d, want 61", got)
	}
}

// TestLostSnapshotIsSentAgain loses every snapshot for a while: raft by itself
// would wait for an answer for ever.
func TestLostSnapshotIsSentAgain(t *testing.T) {
	for _, told := range []bool{false, true} {
		n := newNetwork(t, 7, weather{}, numbered(3)...)
		leader := n.elect()
		late := n.names[(slices.Index(n.names, leader)+1)%3]
		n.crash(late, 0)
		for i := range 60 {
			n.carriedOut(leader, n.set(leader, i))
		}
		n.start(late)
		n.cut = func(_, to string) bool { return to == late && n.round%2 == 1 }
		n.rounds(40)
		n.cut = func(string, string) bool { return false }
		if told {
			n.step(n.nodes[leader], membership.LogUnreachable{Node: late})
		}
		n.until("the same epoch", n.same)
	}
}

func TestNodeWithAHangingDiskDoesNotLead(t *testing.T) {
	n := newNetwork(t, 8, weather{}, numbered(3)...)
	old := n.elect()
	n.nodes[old].stuck = true
	waits := n.set(old, 1)
	n.until("another leader", func() bool {
		for _, name := range n.names {
			if name != old && n.nodes[name].log.Status().Role == "leader" {
				return true
			}
		}
		return false
	})
	if got, want := n.nodes[old].log.Waits(), "this node has waited for its disk for too long"; got != want {
		t.Errorf("waits: %s\nwant: %s", got, want)
	}
	n.nodes[old].stuck = false
	n.carriedOut(old, waits)
	n.until("the same epoch", n.same)
}

func TestJoiningNodeGetsTheLogAndVotesLater(t *testing.T) {
	n := newNetwork(t, 9, weather{}, numbered(3)...)
	leader := n.elect()
	for i := range 4 {
		n.carriedOut(leader, n.set(leader, i))
	}
	newID := [16]byte{7}
	propose := func(i int, c membership.Command) {
		t.Helper()
		n.step(n.nodes[leader], membership.LogPropose{ID: commandID(i), Command: c})
		n.carriedOut(leader, commandID(i))
	}
	for i, name := range []string{"n4", "n5"} {
		newID[1] = byte(i)
		propose(10+i, membership.Stage{Change: membership.Change{Kind: membership.ChangeJoin, Node: name, Address: name + ":1", ID: newID}})
		n.add(name, n.nodes[leader].log.State())
	}
	if got := n.nodes["n4"].log.Waits(); got != "this node has not had the topology log from the leader yet" {
		t.Errorf("waits: %s", got)
	}
	n.carriedOut("n4", n.set("n4", 20))
	n.until("the same epoch", n.same)
	if got := n.nodes["n4"].log.Status(); got.Role != "learner" || len(got.Voters) != 3 {
		t.Errorf("status %v", got)
	}
	plan, err := n.nodes[leader].log.State().Plan()
	if err != nil {
		t.Fatal(err)
	}
	propose(30, membership.Commit{Plan: plan.ID})
	n.until("five voters", func() bool {
		s := n.nodes["n5"].log.Status()
		return len(s.Voters) == 5 && !s.Changing && n.same()
	})

	// The two that have joined are a majority with one of the first.
	for _, name := range []string{"n4", "n5"} {
		n.crash(name, 0)
		n.nodes[name].first = nil
		n.start(name)
	}
	n.crash("n1", 0)
	n.crash("n2", 0)
	n.carriedOut("n5", n.set("n5", 40))
}

// TestVoterIsReplacedWhileItIsDown takes a voter away that is dead, while
// another one is down.
func TestVoterIsReplacedWhileItIsDown(t *testing.T) {
	n := newNetwork(t, 10, weather{}, numbered(6)...)
	leader := n.elect()
	voters := n.nodes[leader].log.Voters()
	dead := slices.DeleteFunc(slices.Clone(voters), func(v string) bool { return v == leader })
	n.crash(dead[0], 0)
	n.crash(dead[1], 0)
	n.step(n.nodes[leader], membership.LogPropose{ID: commandID(1), Command: membership.Down{Name: dead[0]}})
	n.carriedOut(leader, commandID(1))
	n.until("other voters", func() bool { return !slices.Contains(n.nodes[leader].log.Voters(), dead[0]) })
	if got := n.nodes[leader].log.Voters(); len(got) != 5 {
		t.Errorf("voters %v", got)
	}
	n.start(dead[0])
	n.until("it follows", func() bool { return n.same() && n.nodes[dead[0]].log.Status().Role == "learner" })
}

// TestLogInAnyWeather runs clusters through loss, repetition, reordering and
// crashes that lose what is not durable. What all nodes adopt is checked at
// every step; then all heals, and every command must have its one outcome.
func TestLogInAnyWeather(t *testing.T) {
	seeds := []uint64{638, 692} // a snapshot comes while entries that change the voters are being written
	for seed := range uint64(24) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { inAnyWeather(t, seed) })
	}
}

func inAnyWeather(t *testing.T, seed uint64) *network {
	chance := rand.New(rand.NewPCG(seed, 2))
	w := weather{loss: 0.3 * chance.Float64(), repeat: 0.3 * chance.Float64(), delay: chance.IntN(5)}
	if seed%2 == 1 {
		w.crash = 0.02
	}
	n := newNetwork(t, seed, w, numbered([]int{1, 3, 5, 7}[seed%4/2+seed%8/4*2])...)
	proposed := map[string][]membership.CommandID{}
	count := 0
	for range 150 {
		n.turn()
		if chance.Float64() < 0.05 {
			half := n.names[:1+chance.IntN(len(n.names))]
			n.cut = func(from, to string) bool { return slices.Contains(half, from) != slices.Contains(half, to) }
		}
		if chance.Float64() < 0.1 {
			n.cut = func(string, string) bool { return false }
		}
		for range chance.IntN(3) {
			name := n.names[chance.IntN(len(n.names))]
			if n.nodes[name].log == nil {
				continue
			}
			count++
			proposed[name] = append(proposed[name], n.any(name, count))
		}
	}
	n.weather = weather{}
	n.cut = func(string, string) bool { return false }
	for _, name := range n.names {
		if n.nodes[name].log == nil {
			n.start(name)
		}
	}
	n.elect()
	n.until("the same epoch", n.same)
	n.carriedOut(n.names[0], n.set(n.names[0], count+1))
	if w.crash == 0 {
		for _, name := range n.names {
			n.until("every outcome", n.done(name, proposed[name]...))
		}
	}
	n.until("the same epoch", n.same)
	confirmed, doubtful := 1, 0
	for _, name := range n.names {
		for _, id := range proposed[name] {
			got := n.nodes[name].outcomes[id]
			switch {
			case len(got) == 1 && (got[0] == nil || errors.As(got[0], new(*membership.ChangeError))):
				confirmed++
			case len(got) == 0 && w.crash > 0: // its node crashed
				doubtful++
			case len(got) == 1 && errors.Is(got[0], membership.ErrCommandInDoubt):
				doubtful++
			default:
				t.Errorf("seed %d: %s has the outcomes %v for one command", seed, name, got)
			}
		}
	}
	epoch := int(n.nodes[n.names[0]].log.State().Epoch())
	if epoch < 1+confirmed || epoch > 1+confirmed+doubtful {
		t.Errorf("seed %d: epoch %d after %d commands, of which %d were confirmed and %d are in doubt", seed, epoch, count+1, confirmed, doubtful)
	}
	return n
}

func TestLogIsReplayedFromItsSeed(t *testing.T) {
	for _, seed := range []uint64{4, 5} {
		a, b := inAnyWeather(t, seed), inAnyWeather(t, seed)
		if x, y := sum(a.trace), sum(b.trace); x != y {
			t.Errorf("seed %d: two traces, %x of %d bytes and %x of %d", seed, x, len(a.trace), y, len(b.trace))
		}
	}
	if a, b := inAnyWeather(t, 4), inAnyWeather(t, 10); sum(a.trace) == sum(b.trace) {
		t.Error("two seeds have the same trace")
	}
}

func sum(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

func TestTwoOfFiveRecover(t *testing.T) {
	n := newNetwork(t, 12, weather{}, numbered(5)...)
	leader := n.elect()
	for i := range 30 {
		n.carriedOut(leader, n.set(leader, i))
	}
	n.until("the same epoch", n.same)
	survivors := slices.DeleteFunc(numbered(5), func(s string) bool { return s == leader })[:2]
	for _, name := range n.names {
		n.crash(name, 1)
	}
	one := n.nodes[survivors[0]]
	batch, state, err := membership.Recover(one.disk, one.name, survivors)
	if err != nil {
		t.Fatal(err)
	}
	if got := state.Epoch(); got != 31+1<<20 {
		t.Errorf("epoch %d", got)
	}
	n.durable(one, &batch)
	n.start(survivors[0])
	n.start(survivors[1])
	waiting := n.set(survivors[1], 100)
	n.carriedOut(survivors[1], waiting)
	n.until("the same epoch", n.same)
	n.rounds(50)
	if diff := cmp.Diff(survivors, n.nodes[survivors[1]].log.Voters()); diff != "" {
		t.Errorf("voters (-want +got):\n%s", diff)
	}
	for _, name := range n.names {
		if !slices.Contains(survivors, name) {
			n.start(name)
		}
	}
	n.until("the lost come back and vote", func() bool {
		s := n.nodes[survivors[0]].log.Status()
		return n.same() && len(s.Voters) == 5 && !s.Changing
	})
	for i := 101; i < 120; i++ {
		n.carriedOut(survivors[0], n.set(survivors[0], i))
	}
}

func TestRecoverRefuses(t *testing.T) {
	n := newNetwork(t, 13, weather{}, numbered(3)...)
	for _, c := range []struct {
		self      string
		store     storage.Reader
		survivors []string
		want      string
	}{
		{"n1", storage.NewMemory(), []string{"n1"}, "no topology log"},
		{"n1", n.nodes["n1"].disk, []string{"n2"}, "must be among the survivors"},
		{"n1", n.nodes["n1"].disk, []string{"n1", "n9"}, "cannot be a survivor"},
	} {
		if _, _, err := membership.Recover(c.store, c.self, c.survivors); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %v: %v, want %s", c.self, c.survivors, err, c.want)
		}
	}
}

func TestDamagedLogIsNotOpened(t *testing.T) {
	n := newNetwork(t, 14, weather{}, "n1")
	for i := range 30 {
		n.carriedOut("n1", n.set("n1", i))
	}
	whole := map[string][]byte{}
	disk := n.nodes["n1"].disk
	if err := disk.Scan([]byte{2}, []byte{3}, func(k, v []byte) bool { whole[string(k)] = bytes.Clone(v); return true }); err != nil {
		t.Fatal(err)
	}
	open := func(change func(*storage.Batch)) error {
		m := storage.NewMemory()
		var b storage.Batch
		for _, k := range slices.Sorted(maps.Keys(whole)) {
			b.Set([]byte(k), bytes.Clone(whole[k]))
		}
		change(&b)
		if _, err := m.Apply(&b, true); err != nil {
			t.Fatal(err)
		}
		_, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, m, nil)
		return err
	}
	if err := open(func(*storage.Batch) {}); err != nil {
		t.Fatal(err)
	}
	keys := slices.Sorted(maps.Keys(whole))
	for _, k := range keys {
		for _, at := range []int{0, len(whole[k]) / 2, len(whole[k]) - 1} {
			bad := bytes.Clone(whole[k])
			bad[at] ^= 0x10
			if err := open(func(b *storage.Batch) { b.Set([]byte(k), bad) }); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%x with another byte %d: %v", k, at, err)
			}
		}
		if err := open(func(b *storage.Batch) { b.Set([]byte(k), nil) }); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%x empty: %v", k, err)
		}
	}
	for _, k := range keys {
		err := open(func(b *storage.Batch) { b.Delete([]byte(k)) })
		if k == keys[0] && err == nil {
			continue // the oldest entry is older than the snapshot
		}
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("without %x: %v", k, err)
		}
	}
	entries := keys[:0:0]
	for _, k := range keys {
		if k[1] == 'e' {
			entries = append(entries, k)
		}
	}
	err := open(func(b *storage.Batch) {
		for _, k := range entries[1 : len(entries)-1] {
			b.Delete([]byte(k))
		}
	})
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("without all entries but the first and the last: %v", err)
	}
	if err := open(func(b *storage.Batch) { b.Set([]byte(keys[1]), whole[keys[0]]) }); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("an entry in the place of another: %v", err)
	}
}

func TestLogOfAnotherClusterIsNotOpened(t *testing.T) {
	n := newNetwork(t, 15, weather{}, "n1")
	open := func(self string, first *membership.State, store storage.Reader) error {
		_, err := membership.OpenLog(membership.LogOptions{Self: self}, store, first)
		return err
	}
	if err := open("n1", firstState(t, "n1", "n2"), n.nodes["n1"].disk); err == nil || !strings.Contains(err.Error(), "is that of cluster") {
		t.Errorf("another cluster: %v", err)
	}
	if err := open("n1", nil, storage.NewMemory()); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("nothing: %v", err)
	}
	if err := open("n9", firstState(t, "n1"), storage.NewMemory()); err == nil || !strings.Contains(err.Error(), "is not a member") {
		t.Errorf("no member: %v", err)
	}
	batch, err := membership.Discard(n.nodes["n1"].disk)
	if err != nil {
		t.Fatal(err)
	}
	n.durable(n.nodes["n1"], &batch)
	if err := open("n1", firstState(t, "n1", "n2"), n.nodes["n1"].disk); err != nil {
		t.Errorf("after Discard: %v", err)
	}
}

func emptyStore() storage.Reader { return storage.NewMemory() }

// TestJoiningNodeRestartsWithANewerState is told another state before it has the
// log; without one it begins with what it was told before.
func TestJoiningNodeRestartsWithANewerState(t *testing.T) {
	n := newNetwork(t, 16, weather{}, "n1")
	n.elect()
	join := membership.Change{Kind: membership.ChangeJoin, Node: "n2", Address: "n2:1", ID: [16]byte{9}}
	n.step(n.nodes["n1"], membership.LogPropose{ID: commandID(1), Command: membership.Stage{Change: join}})
	n.carriedOut("n1", commandID(1))
	n.cut = func(string, string) bool { return true }
	n.add("n2", n.nodes["n1"].log.State())
	n.carriedOut("n1", n.set("n1", 2))
	for _, c := range []struct {
		first *membership.State
		epoch uint64
	}{{nil, 2}, {n.nodes["n1"].log.State(), 3}, {nil, 3}} {
		n.rounds(30)
		n.crash("n2", 0)
		n.nodes["n2"].first = c.first
		n.start("n2")
		if got := n.nodes["n2"].log.State().Epoch(); got != c.epoch {
			t.Errorf("epoch %d, want %d", got, c.epoch)
		}
	}
	n.cut = func(string, string) bool { return false }
	n.carriedOut("n2", n.set("n2", 3))
}

// TestLongLogIsOpened opens a log of more entries than it is cut after, more
// than fit into one piece.
func TestLongLogIsOpened(t *testing.T) {
	n := newNetwork(t, 17, weather{}, "n1")
	n.every = 1000
	n.crash("n1", 0)
	n.start("n1")
	long := strings.Repeat("x", 200<<10)
	for i := range 15 {
		n.step(n.nodes["n1"], membership.LogPropose{ID: commandID(i), Command: membership.Set{Key: "k", Value: long}})
		n.until("the outcome", n.done("n1", commandID(i)))
	}
	n.every = 3
	n.crash("n1", 0)
	n.start("n1")
	if got := n.nodes["n1"].log.State().Epoch(); got != 16 {
		t.Errorf("epoch %d, want 16", got)
	}
	n.carriedOut("n1", n.set("n1", 20))
}

// TestProposalAcrossARecovery: a command that was on its way when the log was
// recovered is carried out by the new one. The epoch has gone far beyond what the
// command was dated for, but nothing was forgotten since.
func TestProposalAcrossARecovery(t *testing.T) {
	n := newNetwork(t, 17, weather{}, numbered(5)...)
	n.elect()
	n.until("the same epoch", n.same)
	for _, name := range []string{"n3", "n4", "n5"} {
		n.crash(name, 0)
	}
	id := n.set("n2", 1)
	n.rounds(100)
	n.crash("n1", 0)
	b, _, err := membership.Recover(n.nodes["n1"].disk, "n1", []string{"n1", "n2"})
	if err != nil {
		t.Fatal(err)
	}
	n.durable(n.nodes["n1"], &b)
	n.start("n1")
	n.carriedOut("n2", id)
}

package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/tanodb/tanodb/storage"
)

// The limits of a Log.
const (
	maxProposals = 256      // commands of this node that wait for their outcome
	maxProposal  = 1 << 20  // bytes of one command
	maxStrangers = 64       // senders that are members for others, but not yet here
	maxWaiting   = 1024     // messages taken while one write is on its way to the disk
	maxAppend    = 1 << 20  // bytes of entries in a message
	bulky        = 64 << 10 // bytes from which on a message is for the bulk connection
	fewLearners  = 16       // up to so many learners hear every heartbeat
	sparseBeat   = 10       // more hear only one of so many
)

// The times of a Log. An election timeout is about a second, a beat a tenth
// of it.
const (
	heardFor     = 3  // election timeouts: a peer that was heard within is reachable
	snapshotFor  = 5  // election timeouts: a snapshot without answer for so long is sent again
	settleVoters = 2  // beats for which other voters must be wished before they are proposed
	retryTicks   = 10 // ticks after which a command is proposed again
)

// LogOptions are the options of a Log.
type LogOptions struct {
	Self string // this node's name
	Raft uint64 // its number in the log; 0: that of the member called Self
	Seed uint64 // of the chance in election timeouts

	// Tick is how often LogTick comes. A leader that is lost is missed after
	// one to two seconds, or 10 to 20 ticks if they are longer. 0: 100 ms.
	Tick time.Duration

	// SnapshotEvery is the number of entries after which the log is cut. 0: 256.
	SnapshotEvery int
}

func (o LogOptions) withDefaults() LogOptions {
	if o.Tick <= 0 {
		o.Tick = 100 * time.Millisecond
	}
	if o.SnapshotEvery <= 0 {
		o.SnapshotEvery = 256
	}
	return o
}

// Log is one node's part in the log on which the cluster agrees about its
// State: etcd's raft as a machine that has neither clock nor chance nor disk
// nor network of its own. Up to five members vote; all others follow.
//
// A command goes this way:
//
//	LogPropose ─▶ leader appends ─▶ LogWrite, LogSend to the others
//	                                   │ LogDurable on a majority
//	                                   ▼
//	           committed: LogWrite of that fact ─▶ LogDurable ─▶ LogAdopt, LogOutcome
//
// The last write is why a node never falls back behind a state it has adopted:
// others count on the epoch it has shown them.
//
// raft draws its election timeouts from the machine's source of chance. They
// are not used here: a node that does not lead counts ticks itself, and draws
// from Seed.
//
// A Log is not for concurrent use.
type Log struct {
	o        LogOptions
	id       uint64
	election int // ticks of an election timeout
	beat     int // ticks between heartbeats
	node     *raft.RawNode
	kept     *keptLog
	chance   *rand.Rand
	init     storage.Batch
	opening  bool // nothing is written yet
	broken   error
	out      []LogEffect

	state   *State            // what the log has come to; nil until a joining node has the first snapshot
	shown   *State            // the newest state; that of joining until state is newer. Invariant: its epoch never falls
	applied uint64            // index of the last entry that state contains
	conf    *raftpb.ConfState // who votes and who follows, at applied
	names   map[uint64]string // by raft number, from shown and state
	named   [2]*State         // the states that names was made of
	encoded encodedState

	ready   *raft.Ready // what waits for LogDurable
	cut     *cut        // the cut of the log that is part of the same write
	write   uint64      // number of the last LogWrite
	waited  int         // ticks since it
	waiting int         // messages taken since it

	// late is the last snapshot that came while ready was on its way. raft takes
	// the voters of a snapshot at once, and must not do so before the entries of
	// ready are applied, which may change the voters as well.
	late *raftpb.Message

	tick    uint64
	elapsed int // ticks since this node had reason not to campaign
	timeout int // ticks after which it campaigns
	seen    standing

	heard     map[uint64]uint64 // tick at which a message came last, by raft number
	strangers map[uint64]string // names of senders that shown does not know
	snapshots map[uint64]uint64 // tick at which a snapshot was sent that has had no answer
	wished    uint64            // tick since which another set of voters is wished; 0: not
	votersFor *State            // state and conf that keepVoters has last looked at
	votersOf  *raftpb.ConfState
	proposals []*proposal
	outcomes  []LogOutcome // of this step
	follows   following
	end       uint64 // index of the last entry that raft has handed out to be written
	wanted    uint64 // see Wanted
	lost      bool   // see LogStatus
	dropped   uint64 // see LogStatus
}

// standing is a node's place in the election, as raft says it.
type standing struct {
	role       raft.StateType
	leader     uint64
	term, vote uint64
	commit     uint64
}

// encodedState is the encoding of the state at an index, kept because a leader
// may send it to many.
type encodedState struct {
	index uint64
	data  []byte
}

// OpenLog reads what the store keeps of the log. The store may be empty if
// first is given:
//
//   - a state of epoch 1 is where the log of its cluster begins. It must be the
//     same on all members that are there from the start.
//   - a newer state is what a joining node was told. It is used until the
//     cluster's leader sends the log; the node proposes and votes nothing before.
//
// If the store is not empty, first may be nil; it must be of the same cluster.
// What Init returns must be durable before the first Step. A log that is void
// does nothing, and says so: see VoidLog.
func OpenLog(o LogOptions, store storage.Reader, first *State) (*Log, error) {
	kept, err := loadLog(store)
	if err != nil {
		return nil, err
	}
	l := &Log{
		o: o.withDefaults(), kept: kept,
		heard: map[uint64]uint64{}, strangers: map[uint64]string{}, snapshots: map[uint64]uint64{},
	}
	wanted, err := readWanted(store)
	if err != nil {
		return nil, err
	}
	given, err := readGiven(store)
	if err != nil {
		return nil, err
	}
	switch {
	case wanted != 0:
		if err := l.resume(wanted, given); err != nil || l.wanted != 0 {
			return l, err
		}
	case kept.state == nil && first == nil:
		return nil, fmt.Errorf("membership: the topology log is empty, and there is no state to begin with")
	case kept.state != nil && first != nil && first.Cluster() != kept.state.Cluster():
		return nil, fmt.Errorf("membership: the topology log is that of cluster %x, not of %x", kept.state.Cluster(), first.Cluster())
	case kept.state == nil, first != nil && kept.index == 0 && first.Epoch() > kept.state.Epoch():
		if err := l.begin(first); err != nil {
			return nil, err
		}
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	l.recall(given)
	return l, nil
}

// begin makes first the beginning of an empty log, or the newer state of a node
// that is still joining.
func (l *Log) begin(first *State) error {
	index, conf := uint64(0), &raftpb.ConfState{}
	if first.Epoch() == 1 {
		index, conf = 1, firstConf(first)
		if len(conf.Voters) == 0 {
			return fmt.Errorf("membership: none of the first members can vote")
		}
	}
	snapshot := newSnapshot(index, index, conf, first.Encode())
	if l.kept.hard == nil {
		l.kept.hard = newHardState(index, 0, index) // the first term is 1, as is the first index
	}
	l.kept.restore(snapshot, first)
	putSnapshot(&l.init, snapshot)
	putHard(&l.init, l.kept.hard)
	return nil
}

// open makes the machine from what is kept.
func (l *Log) open() error {
	state := l.kept.state
	l.id = l.o.Raft
	if l.id == 0 {
		m, ok := state.Member(l.o.Self)
		if !ok || m.Raft == 0 {
			return fmt.Errorf("membership: %s is not a member of the cluster whose topology log is kept here", quote(l.o.Self))
		}
		l.id = m.Raft
	}
	l.shown, l.applied, l.conf = state, l.kept.index, l.kept.conf
	if l.applied > 0 {
		l.state = state
	}
	l.rename()
	l.election = min(max(int(time.Second/l.o.Tick), 10), 1000)
	l.beat = l.election / 10
	l.chance = rand.New(rand.NewPCG(l.o.Seed, l.id))
	l.kept.snapshot = l.snapshot
	l.end = l.kept.last()
	l.guard(func() {
		var err error
		if l.node, err = raft.NewRawNode(l.config()); err != nil {
			panic(err)
		}
		l.watch()
		l.timeout = l.drawTimeout()
		l.opening = true
		l.turn() // applies what is known to be committed
		l.opening = false
	})
	if l.broken == nil && l.ready != nil {
		l.broken = fmt.Errorf("membership: the topology log of %s would change by being opened", l.o.Self)
	}
	l.out = nil // State shows what was adopted, and there is nobody to send to
	return l.broken
}

func (l *Log) config() *raft.Config {
	return &raft.Config{
		ID:                        l.id,
		ElectionTick:              l.election,
		HeartbeatTick:             l.beat,
		Storage:                   l.kept,
		Applied:                   l.applied,
		MaxSizePerMsg:             maxAppend,
		MaxCommittedSizePerReady:  maxAppend,
		MaxUncommittedEntriesSize: 64 * maxAppend,
		MaxInflightMsgs:           64,
		CheckQuorum:               true,
		PreVote:                   true,
		StepDownOnRemoval:         true,
		Logger:                    silent{},
	}
}

// Init is what must be durable before the first Step; it is empty if the store
// had a log already.
func (l *Log) Init() storage.Batch { return l.init }

// Step takes an event and appends what is to be done to out.
func (l *Log) Step(ev LogEvent, out []LogEffect) []LogEffect {
	if l.broken != nil {
		return out
	}
	l.out = out
	l.guard(func() {
		l.take(ev)
		l.turn()
	})
	for _, o := range l.outcomes {
		l.out = append(l.out, o) // after the state that they are of
	}
	out, l.out, l.outcomes = l.out, nil, nil
	if l.broken != nil {
		out = append(out, LogBroken{Err: l.broken})
	}
	return out
}

// guard turns a panic, which is how raft reports that its log contradicts what
// it was told, into the end of this Log: a node can serve data without it.
func (l *Log) guard(f func()) {
	defer func() {
		if cause := recover(); cause != nil {
			l.broken = fmt.Errorf("membership: the topology log of %s has stopped: %v", l.o.Self, cause)
		}
	}()
	f()
}

func (l *Log) take(ev LogEvent) {
	switch ev := ev.(type) {
	case LogTick:
		l.onTick()
	case LogReceived:
		l.onReceived(ev)
	case LogDurable:
		l.onDurable(ev)
	case LogPropose:
		l.onPropose(ev)
	case LogGiveUp:
		l.proposals = slices.DeleteFunc(l.proposals, func(p *proposal) bool { return p.id == ev.ID })
	case LogUnreachable:
		l.onUnreachable(ev)
	}
	l.watch()
}

// onTick lets time pass. While a write is overdue it does not: a leader whose
// disk hangs falls silent, and another takes its place.
func (l *Log) onTick() {
	l.tick++
	if l.ready != nil {
		l.waited++
		if l.waited > l.election {
			return
		}
	}
	if l.seen.role == raft.StateLeader {
		l.node.Tick()
		l.watch()
		l.resendSnapshots()
		l.keepVoters()
	} else {
		l.node.TickQuiesced() // the lease of the leader runs out
		l.elapsed++
		if l.votes(l.id) && (l.elapsed >= l.timeout || l.alone() && l.seen.role == raft.StateFollower) {
			l.elapsed, l.timeout = 0, l.drawTimeout()
			l.ignore(l.node.Campaign())
		}
	}
	l.watch()
	l.proposeAgain(false)
}

// ignore is for errors of raft that say that it did nothing with a message.
func (l *Log) ignore(err error) {
	if err != nil {
		l.dropped++
	}
}

func (l *Log) drawTimeout() int { return l.election + l.chance.IntN(l.election) }

// votes says whether a node votes, in either half of a change of voters.
func (l *Log) votes(id uint64) bool {
	return slices.Contains(l.conf.Voters, id) || slices.Contains(l.conf.VotersOutgoing, id)
}

// alone is true if no other node votes.
func (l *Log) alone() bool {
	return len(l.conf.Voters) == 1 && l.conf.Voters[0] == l.id && len(l.conf.VotersOutgoing) == 0
}

// watch compares raft's standing with what it was. A new term, vote or role
// begins a new election timeout; a new leader gets the commands that wait.
func (l *Log) watch() {
	s := l.node.BasicStatus()
	now := standing{s.RaftState, s.Lead, s.GetTerm(), s.GetVote(), s.GetCommit()}
	was := l.seen
	l.seen = now
	if now.role != was.role || now.term != was.term || now.vote != was.vote {
		l.elapsed, l.timeout = 0, l.drawTimeout()
	}
	if now.role != was.role {
		l.wished = 0
		clear(l.snapshots)
	}
	if now.leader != was.leader {
		l.follows = following{}
		l.proposeAgain(true)
	}
}

// onReceived takes a message that could have come from a node of this cluster.
func (l *Log) onReceived(ev LogReceived) {
	m, agreed, err := decodeMessage(ev.Data)
	if err != nil || !l.admit(ev.From, m) {
		l.dropped++
		return
	}
	l.heard[m.GetFrom()] = l.tick
	if l.ready != nil {
		if l.waiting++; l.waiting > maxWaiting {
			l.dropped++ // as if it had been lost: raft sends it again
			return
		}
		if m.GetType() == raftpb.MsgSnap {
			l.late = m
			return
		}
	}
	if aboutVote(m) {
		l.learn(m.GetFrom(), agreed)
	}
	l.hear(m)
}

// hear gives raft a message.
func (l *Log) hear(m *raftpb.Message) {
	l.ignore(l.node.Step(m))
	l.watch()
	if fromLeader(m) && l.seen.role == raft.StateFollower && l.seen.leader == m.GetFrom() && l.seen.term == m.GetTerm() {
		l.elapsed = 0
		l.follow(m)
	}
}

// onUnreachable tells raft, and what was sent is held to be lost.
func (l *Log) onUnreachable(ev LogUnreachable) {
	for _, id := range l.peers() {
		if l.nameOf(id) != ev.Node {
			continue
		}
		delete(l.heard, id)
		l.node.ReportUnreachable(id)
		if _, ok := l.snapshots[id]; ok {
			delete(l.snapshots, id)
			l.node.ReportSnapshot(id, raft.SnapshotFailure)
		}
	}
}

// resendSnapshots gives up on snapshots that had no answer. raft waits for one
// for ever.
func (l *Log) resendSnapshots() {
	if l.tick%uint64(l.election) != 0 {
		return
	}
	for _, id := range l.peers() {
		if sent, ok := l.snapshots[id]; ok && l.tick-sent >= uint64(snapshotFor*l.election) {
			delete(l.snapshots, id)
			l.node.ReportSnapshot(id, raft.SnapshotFailure) // nothing, if it has arrived meanwhile
		}
	}
}

// peers are the numbers of all other nodes that vote or follow.
func (l *Log) peers() []uint64 {
	all := slices.Concat(l.conf.Voters, l.conf.VotersOutgoing, l.conf.Learners, l.conf.LearnersNext)
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(id uint64) bool { return id == l.id })
}

// turn hands out raft's work, and then gives it a snapshot that had to wait.
func (l *Log) turn() {
	l.work()
	if l.ready == nil && l.late != nil {
		m := l.late
		l.late = nil
		l.hear(m)
		l.work()
	}
}

// work hands out raft's work until some of it must become durable first.
func (l *Log) work() {
	for l.ready == nil && l.node.HasReady() {
		rd := l.node.Ready()
		for _, m := range rd.Messages {
			if !afterWrite(m) {
				l.send(m)
			}
		}
		if n := len(rd.Entries); n > 0 {
			l.end = rd.Entries[n-1].GetIndex()
		} else if !raft.IsEmptySnap(rd.Snapshot) {
			l.end = rd.Snapshot.GetMetadata().GetIndex()
		}
		batch, cut := l.persist(&rd)
		if len(batch.Ops) == 0 {
			l.finish(&rd)
			continue
		}
		l.ready, l.cut = &rd, cut
		l.write++
		l.waited, l.waiting = 0, 0
		l.out = append(l.out, LogWrite{Write: l.write, Batch: batch})
	}
}

// afterWrite is true for the messages that promise what must be durable: votes
// and the receipt of entries. raft wants all others sent at once.
func afterWrite(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgAppResp, raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

func (l *Log) onDurable(ev LogDurable) {
	if l.ready == nil || ev.Write != l.write {
		return
	}
	rd := l.ready
	l.kept.written(rd, l.cut)
	l.ready, l.cut = nil, nil
	l.finish(rd)
}

// finish does what had to wait for the write, and lets raft go on.
func (l *Log) finish(rd *raft.Ready) {
	if !raft.IsEmptySnap(rd.Snapshot) {
		l.install(rd.Snapshot)
	}
	for _, m := range rd.Messages {
		if afterWrite(m) {
			l.send(m)
		}
	}
	for _, e := range rd.CommittedEntries {
		l.apply(e)
	}
	l.adopt()
	l.node.Advance(*rd)
	l.watch()
	l.renew()
}

// install makes a snapshot the state. It was looked at when it came.
func (l *Log) install(s *raftpb.Snapshot) {
	state, err := DecodeState(s.GetData())
	if err != nil {
		panic(err)
	}
	l.state = state
	l.applied, l.conf = s.GetMetadata().GetIndex(), s.GetMetadata().GetConfState()
	l.skipped()
}

// apply carries out a committed entry. It depends on the state and the entry
// alone, so it comes to the same on all nodes. Only a command makes a new epoch.
func (l *Log) apply(e *raftpb.Entry) {
	l.applied = e.GetIndex()
	if e.GetType() == raftpb.EntryConfChangeV2 {
		c, err := decodeConfChange(e.GetData())
		if err != nil {
			panic(err)
		}
		l.conf = l.node.ApplyConfChange(c)
		return
	}
	if len(e.GetData()) == 0 {
		return // a new leader's first entry
	}
	w, err := decodeWish(e.GetData())
	if err != nil {
		panic(fmt.Errorf("entry %d, which the cluster has agreed on, cannot be read here (is this node of an older version?): %w", e.GetIndex(), err))
	}
	before := l.state
	if l.state = w.applyTo(l.state); l.state != before {
		l.settle(w.id)
	}
}

// adopt shows the state if it is newer than what was shown.
func (l *Log) adopt() {
	if l.state == nil || l.state.Epoch() <= l.shown.Epoch() {
		l.rename()
		return
	}
	l.shown = l.state
	l.rename()
	l.out = append(l.out, LogAdopt{State: l.state})
}

// rename reads the names of the members by their numbers.
func (l *Log) rename() {
	if now := [2]*State{l.shown, l.state}; now == l.named {
		return
	}
	l.named = [2]*State{l.shown, l.state}
	l.names = map[uint64]string{}
	for _, s := range l.named {
		if s == nil {
			continue
		}
		for _, m := range s.Members() {
			l.names[m.Raft] = m.Name
			delete(l.strangers, m.Raft)
		}
	}
}

// nameOf is the name of the node of that number, or empty.
func (l *Log) nameOf(id uint64) string {
	if name, ok := l.names[id]; ok {
		return name
	}
	return l.strangers[id]
}

// send hands a message of raft to the network. One to a node whose name is not
// known is dropped.
func (l *Log) send(m *raftpb.Message) {
	to := l.nameOf(m.GetTo())
	if to == "" || l.spared(m) {
		return
	}
	if m.GetType() == raftpb.MsgSnap {
		l.snapshots[m.GetTo()] = l.tick
	}
	data := encodeMessage(m, l.known(m))
	l.out = append(l.out, LogSend{To: to, Data: data, Bulk: len(data) > bulky})
}

// spared is true for a heartbeat that need not be sent: many learners hear only
// every tenth, each at its own time. They follow no election, and get entries as soon
// as there are any.
func (l *Log) spared(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgHeartbeat || len(l.conf.Learners) <= fewLearners || !slices.Contains(l.conf.Learners, m.GetTo()) {
		return false
	}
	round := l.tick / uint64(l.beat)
	return (round+m.GetTo())%sparseBeat != 0
}

// snapshot is the state as it is, for a node that is too far behind for
// entries.
func (l *Log) snapshot() (*raftpb.Snapshot, error) {
	if l.state == nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	term, err := l.kept.Term(l.applied)
	if err != nil {
		return nil, err
	}
	if l.encoded.data == nil || l.encoded.index != l.applied {
		l.encoded = encodedState{l.applied, l.state.Encode()}
	}
	return newSnapshot(l.applied, term, l.conf, l.encoded.data), nil
}

// State is the newest state that this node has adopted.
func (l *Log) State() *State { return l.shown }

// silent is raft's logger. raft's remarks are about its messages; what matters
// of them is in LogStatus. A fault it cannot live with is a panic.
type silent struct{}

func (silent) Debug(...any)            {}
func (silent) Debugf(string, ...any)   {}
func (silent) Info(...any)             {}
func (silent) Infof(string, ...any)    {}
func (silent) Warning(...any)          {}
func (silent) Warningf(string, ...any) {}
func (silent) Error(...any)            {}
func (silent) Errorf(string, ...any)   {}
func (silent) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (silent) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (silent) Panic(v ...any) { panic(fmt.Sprint(v...)) }
func (silent) Panicf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}

package tanodb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// RepairState is how it stands with the anti-entropy of one node: the comparison of its
// replicas with those on other nodes. Each pair of replicas is compared by one of
// its two nodes. Counts are since the node's start.
type RepairState struct {
	Node             string        `json:"node"`
	Error            string        `json:"error,omitempty"` // the node did not answer, and nothing below is known
	Paused           bool          `json:"paused"`
	Every            time.Duration `json:"every_ns"`
	BytesPerSecond   int64         `json:"bytes_per_second"`   // 0: no limit
	ObjectsPerSecond int64         `json:"objects_per_second"` // 0: no limit

	Pairs   int       `json:"pairs"`           // of replicas that this node compares
	Due     int       `json:"due"`             // that are to be compared now
	Blocked int       `json:"blocked"`         // of those, whose other node is down
	Never   int       `json:"never"`           // not compared since the start
	Failing int       `json:"failing"`         // the last comparison was broken off, or could not mend all
	Oldest  time.Time `json:"oldest,omitzero"` // when the pair was compared that was so the longest ago

	Exchanges int   `json:"exchanges"` // comparisons that went to their end
	Equal     int   `json:"equal"`     // of those that found nothing
	Failed    int   `json:"failed"`    // that were broken off
	Different int   `json:"different"` // keys that differed
	Busy      int   `json:"busy"`      // keys that were being written, and so are not counted as different
	Received  int   `json:"received"`  // objects merged here
	Sent      int   `json:"sent"`      // objects merged on the other node
	Refused   int   `json:"refused"`   // objects that cannot be read, or were not taken
	Bytes     int64 `json:"bytes"`     // of all messages, about

	Running []RepairExchange `json:"running"`
	Errors  []RepairError    `json:"errors"` // of the first pairs that are failing
	Verify  VerifyState      `json:"verify"`
}

// RepairPair is two replicas of the keys of a home.
type RepairPair struct {
	Home          int    `json:"home"`
	Partition     int    `json:"partition"`
	Peer          string `json:"peer"`
	PeerPartition int    `json:"peer_partition"`
}

// RepairExchange is a comparison that goes on.
type RepairExchange struct {
	RepairPair
	Begun     time.Time `json:"begun"`
	Different int       `json:"different"`
	Received  int       `json:"received"`
	Sent      int       `json:"sent"`
	Bytes     int64     `json:"bytes"`
}

// RepairError is why a pair could not be compared.
type RepairError struct {
	RepairPair
	Error   string    `json:"error"`
	RetryAt time.Time `json:"retry_at"`
}

// VerifyState is how a verification of a node's hash trees goes, or how the last one went.
type VerifyState struct {
	Running bool      `json:"running"`
	Begun   time.Time `json:"begun,omitzero"` // zero: there was none since the start
	Ended   time.Time `json:"ended,omitzero"`
	Trees   int       `json:"trees"` // of all homes in all vnodes, also those that stand in for others
	Done    int       `json:"done"`
	Objects int64     `json:"objects"`
	Wrong   int       `json:"wrong"`  // trees that were not those of the objects
	Mended  int       `json:"mended"` // of those, that are right now
	Errors  []string  `json:"errors"` // the first: what could not be read, or not be mended
}

// Verified is what came of RepairVerify.
type Verified struct {
	Nodes   []RepairState `json:"nodes"`
	Homes   int           `json:"homes"`   // whose replicas were compared
	Differ  []HomeDiffers `json:"differ"`  // the first of those whose replicas differ
	Differs int           `json:"differs"` // how many do
	OK      bool          `json:"ok"`      // all trees of all nodes are right, and all replicas are equal
}

// HomeDiffers names replicas that differ.
type HomeDiffers struct {
	Home     int      `json:"home"`
	Replicas []string `json:"replicas"` // node/partition and root
}

// The orders of one node to another, or to itself.
const (
	orderStatus = "status"
	orderPause  = "pause"
	orderResume = "resume"
	orderVerify = "verify"
	orderRoots  = "roots"

	orderDescribe = "describe" // the whole NodeState
	orderSuspect  = "suspect"  // a home whose replicas are to be compared soon
)

// errNodeDown is why a node is not asked.
var errNodeDown = errors.New("the node is down")

const (
	verifyPoll    = 200 * time.Millisecond // how often a verification of other nodes is looked at
	rootRounds    = 5                      // replicas differ that do so in each of so many looks
	rootPause     = 500 * time.Millisecond
	maxDiffer     = 20
	maxVerifyErrs = 10
	retreeRounds  = 1000 // each sets up to 64 segments right
)

// Repairs are the states of anti-entropy: of the node of that name, or of all
// members. One that does not answer has an Error.
func (n *Node) Repairs(ctx context.Context, node string) ([]RepairState, error) {
	return n.orderAll(ctx, node, orderStatus)
}

// RepairPause stops the comparisons that a node makes, or all members; those that
// others make with it go on. A restart ends it.
func (n *Node) RepairPause(ctx context.Context, node string) ([]RepairState, error) {
	return n.orderAll(ctx, node, orderPause)
}

// RepairResume ends RepairPause.
func (n *Node) RepairResume(ctx context.Context, node string) ([]RepairState, error) {
	return n.orderAll(ctx, node, orderResume)
}

// RepairVerify computes the hash trees of a node, or of all members, anew from the
// objects, and sets right what is wrong in them. Then it compares the roots of all
// replicas of all members. It takes as long as reading all data does; if the context
// ends before, the verification goes on, and Repairs shows how far it is.
func (n *Node) RepairVerify(ctx context.Context, node string) (Verified, error) {
	v := Verified{Differ: []HomeDiffers{}}
	states, err := n.orderAll(ctx, node, orderVerify)
	for err == nil && slices.ContainsFunc(states, func(s RepairState) bool { return s.Verify.Running }) {
		if err = pauseFor(ctx, verifyPoll); err == nil {
			states, err = n.orderAll(ctx, node, orderStatus)
		}
	}
	v.Nodes = states
	if err != nil {
		return v, fmt.Errorf("%w: the verification goes on, see the status of repair: %w", kv.ErrTimeout, err)
	}
	if err := n.compareRoots(ctx, &v); err != nil {
		return v, err
	}
	v.OK = v.Differs == 0 && !slices.ContainsFunc(states, func(s RepairState) bool {
		return s.Error != "" || len(s.Verify.Errors) > 0 || s.Verify.Mended < s.Verify.Wrong
	})
	return v, nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// orderAll gives an order to a node, or to all members if it has no name.
func (n *Node) orderAll(ctx context.Context, node, do string) ([]RepairState, error) {
	var states []RepairState
	for _, m := range n.members() {
		if node != "" && m.Name != node {
			continue
		}
		s := RepairState{Node: m.Name}
		if err := n.order(ctx, m.Name, do, &s); err != nil {
			if ctx.Err() != nil {
				return states, context.Cause(ctx)
			}
			s = RepairState{Node: m.Name, Error: err.Error(), Running: []RepairExchange{}, Errors: []RepairError{}, Verify: VerifyState{Errors: []string{}}}
		}
		states = append(states, s)
	}
	if len(states) == 0 {
		return nil, &ClusterError{Code: "not_member", Text: node + " is not a member"}
	}
	return states, nil
}

// order gives an order to one node, and reads what it answers.
func (n *Node) order(ctx context.Context, node, do string, into any) error {
	return n.orderWith(ctx, node, &transport.Order{Do: do}, into)
}

func (n *Node) orderWith(ctx context.Context, node string, o *transport.Order, into any) error {
	var answer vnode.Message
	switch {
	case node == n.self:
		answer = n.ordered(o)
	case n.network == nil || !n.live.up(node):
		return errNodeDown
	default:
		var err error
		if answer, err = n.askNode(ctx, node, o); err != nil {
			return err
		}
	}
	if r, ok := answer.(*vnode.Refusal); ok && r.Code == vnode.CodeOverload {
		return overloaded(r.Text)
	}
	a, ok := answer.(*transport.Ordered)
	if !ok {
		return errors.New(refusalText(answer))
	}
	if err := json.Unmarshal(a.Answer, into); err != nil {
		return fmt.Errorf("what it answers cannot be read: %w", err)
	}
	return nil
}

// askNode asks another node for something about itself.
func (n *Node) askNode(ctx context.Context, node string, m vnode.Message) (vnode.Message, error) {
	deadline := time.Now().Add(stateTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	type outcome struct {
		m   vnode.Message
		err error
	}
	answered := make(chan outcome, 1)
	n.network.Ask(node, transport.Requests, transport.Frame{Msg: m}, deadline, func(m vnode.Message, err error) {
		answered <- outcome{m, err}
	})
	select {
	case a := <-answered: // at the deadline at the latest
		return a.m, a.err
	case <-ctx.Done():
		return nil, cancelled(ctx)
	}
}

// ordered carries out an order.
func (n *Node) ordered(o *transport.Order) vnode.Message {
	var answer any
	switch o.Do {
	case orderStatus:
		answer = n.menders.state()
	case orderPause:
		n.menders.pause(true)
		answer = n.menders.state()
	case orderResume:
		n.menders.pause(false)
		answer = n.menders.state()
	case orderVerify:
		if err := n.menders.verify.begin(); err != nil {
			return &vnode.Refusal{Code: vnode.CodeInternal, Text: err.Error()}
		}
		answer = n.menders.state()
	case orderRoots:
		roots, err := n.roots()
		if err != nil {
			return &vnode.Failure{Code: vnode.CodeStorage, Text: err.Error()}
		}
		answer = roots
	case orderDescribe:
		state, err := n.describe()
		if err != nil {
			return &vnode.Failure{Code: vnode.CodeInternal, Text: err.Error()}
		}
		answer = state
	case orderSuspect:
		var home ring.Partition
		if err := json.Unmarshal(o.Body, &home); err != nil {
			return &vnode.Refusal{Code: vnode.CodeInvalid, Text: "the order is not understood: " + err.Error()}
		}
		n.menders.unconfirmed(home)
		answer = struct{}{}
	case orderMoment, orderRelease:
		held, err := n.moments.ordered(o)
		if errors.Is(err, kv.ErrOverload) {
			return &vnode.Refusal{Code: vnode.CodeOverload, Text: err.Error()}
		}
		if err != nil {
			return &vnode.Refusal{Code: vnode.CodeStorage, Text: err.Error()}
		}
		answer = held
	default:
		return &vnode.Refusal{Code: vnode.CodeUnsupported, Text: fmt.Sprintf("this node knows no order %q", o.Do)}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return &vnode.Failure{Code: vnode.CodeInternal, Text: err.Error()}
	}
	return &transport.Ordered{Answer: b}
}

// root is that of the tree of a home in a vnode.
type root struct {
	Partition ring.Partition `json:"p"`
	Home      ring.Partition `json:"h"`
	Sum       uint64         `json:"s"`
}

// roots are those of all replicas that this node should hold.
func (n *Node) roots() ([]root, error) {
	s := n.state()
	all := []root{}
	for home := range ring.Partition(s.Ring().Size()) {
		for _, r := range s.Ring().Primaries(home, s.Replicas()) {
			if r.Node != n.self {
				continue
			}
			m, ok := vnode.Read(n.engine, r.Partition, 0, &vnode.Sums{Home: home, Branch: vnode.Root}).(*vnode.Summed)
			if !ok {
				return nil, fmt.Errorf("the tree of home %d in vnode %d cannot be read", home, r.Partition)
			}
			all = append(all, root{r.Partition, home, m.Sum})
		}
	}
	return all, nil
}

// compareRoots compares the replicas of all homes. Those that differ are looked at again, since
// a write may be on its way.
func (n *Node) compareRoots(ctx context.Context, v *Verified) error {
	var differ map[ring.Partition][]string
	for round := range rootRounds {
		if round > 0 {
			if err := pauseFor(ctx, rootPause); err != nil {
				return err
			}
		}
		now, homes, err := n.rootsThatDiffer(ctx)
		if err != nil {
			return err
		}
		v.Homes = homes
		for home := range differ {
			if now[home] == nil {
				delete(differ, home)
			}
		}
		if differ == nil {
			differ = now
		}
		if len(differ) == 0 {
			return nil
		}
	}
	v.Differs = len(differ)
	for home := range ring.Partition(n.state().Ring().Size()) {
		if replicas := differ[home]; replicas != nil && len(v.Differ) < maxDiffer {
			v.Differ = append(v.Differ, HomeDiffers{int(home), replicas})
		}
	}
	return nil
}

// rootsThatDiffer asks all members for their roots, and returns those of the homes whose
// replicas are not equal, with the number of homes of which at least two were compared.
func (n *Node) rootsThatDiffer(ctx context.Context) (map[ring.Partition][]string, int, error) {
	type replica struct {
		name string
		sum  uint64
	}
	all := make(map[ring.Partition][]replica)
	for _, m := range n.members() {
		var roots []root
		if err := n.order(ctx, m.Name, orderRoots, &roots); err != nil {
			if ctx.Err() != nil {
				return nil, 0, context.Cause(ctx)
			}
			continue // its state says that it does not answer
		}
		for _, r := range roots {
			all[r.Home] = append(all[r.Home], replica{fmt.Sprintf("%s/%d %016x", m.Name, r.Partition, r.Sum), r.Sum})
		}
	}
	differ, homes := make(map[ring.Partition][]string), 0
	for home, replicas := range all {
		if len(replicas) > 1 {
			homes++
		}
		if slices.ContainsFunc(replicas, func(r replica) bool { return r.sum != replicas[0].sum }) {
			for _, r := range replicas {
				differ[home] = append(differ[home], r.name)
			}
		}
	}
	return differ, homes, nil
}

// verifier computes all trees of the node anew, one after the other.
type verifier struct {
	node *Node
	mu   sync.Mutex
	now  VerifyState
}

func (v *verifier) state() VerifyState {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.now
	s.Errors = append([]string{}, s.Errors...)
	return s
}

// begin begins a verification, unless one is going on.
func (v *verifier) begin() error {
	engine, ok := v.node.engine.(storage.Snapshotter)
	if !ok {
		return fmt.Errorf("the engine, a %T, cannot be read as it is at one moment", v.node.engine)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now.Running {
		return nil
	}
	if v.node.closing.Load() {
		return kv.ErrClosed
	}
	v.now = VerifyState{Running: true, Begun: time.Now().Round(time.Millisecond)}
	v.node.reads.wg.Go(func() {
		err := v.node.guard("a verification", func() { v.run(engine) })
		v.note(func(s *VerifyState) { s.Running, s.Ended = false, time.Now().Round(time.Millisecond) }, err)
	})
	return nil
}

// run verifies all that is on the disk.
func (v *verifier) run(engine storage.Snapshotter) {
	trees, err := vnode.Trees(v.node.engine)
	v.note(func(s *VerifyState) { s.Trees = len(trees) }, err)
	for _, t := range trees {
		if v.node.closing.Load() {
			v.note(nil, errors.New("the node is shutting down"))
			break
		}
		v.tree(engine, t)
		v.note(func(s *VerifyState) { s.Done++ }, nil)
	}
	if s := v.state(); s.Wrong > 0 || len(s.Errors) > 0 {
		v.node.log.Warn("not all hash trees are those of the objects", "node", v.node.self, "trees", s.Trees, "wrong", s.Wrong, "mended", s.Mended, "errors", s.Errors)
	}
}

// note changes the state, and keeps an error.
func (v *verifier) note(change func(*VerifyState), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if change != nil {
		change(&v.now)
	}
	if err != nil && len(v.now.Errors) < maxVerifyErrs {
		v.now.Errors = append(v.now.Errors, err.Error())
	}
}

// tree verifies one tree, and lets its vnode set right what is wrong.
func (v *verifier) tree(engine storage.Snapshotter, t vnode.Tree) {
	name := fmt.Sprintf("the tree of home %d in vnode %d", t.Home, t.Partition)
	wrong := false
	for range retreeRounds {
		found, err := v.look(engine, t)
		if err != nil {
			v.note(nil, fmt.Errorf("%s: %w", name, err))
			return
		}
		if found.Right() {
			v.note(func(s *VerifyState) {
				s.Objects += int64(found.Objects)
				if wrong {
					s.Mended++
				}
			}, nil)
			return
		}
		if !wrong {
			wrong = true
			v.note(func(s *VerifyState) { s.Wrong++ }, nil)
			v.node.metrics.wrongTrees.Inc()
			v.node.log.Error("a hash tree or an index is not that of the objects; it is set right", "node", v.node.self, "partition", int(t.Partition), "home", int(t.Home),
				"segments", len(found.Segments), "keys", len(found.Keys), "indexed", len(found.Indexed))
		}
		if err := v.mend(t, found); err != nil {
			v.note(nil, fmt.Errorf("%s: %w", name, err))
			return
		}
	}
	v.note(nil, fmt.Errorf("%s could not be set right", name))
}

// regrow sets the trees of a vnode right whose objects the engine has let go of
// unread: the trees speak of them still. What cannot be done now is left to the
// next verification.
func (v *verifier) regrow(p ring.Partition) {
	engine, ok := v.node.engine.(storage.Snapshotter)
	if !ok {
		return
	}
	trees, err := vnode.Trees(v.node.engine)
	for _, t := range trees {
		if t.Partition == p && err == nil {
			err = v.regrowTree(engine, t)
		}
	}
	if err != nil {
		v.node.log.Error("the hash trees of a vnode that was damaged are not right yet: verify the repair of this node",
			"node", v.node.self, "partition", int(p), "error", err)
	}
}

func (v *verifier) regrowTree(engine storage.Snapshotter, t vnode.Tree) error {
	for range retreeRounds {
		found, err := v.look(engine, t)
		if err != nil || found.Right() {
			return err
		}
		if err := v.mend(t, found); err != nil {
			return err
		}
	}
	return fmt.Errorf("the tree of home %d in vnode %d could not be set right", t.Home, t.Partition)
}

func (v *verifier) look(engine storage.Snapshotter, t vnode.Tree) (found vnode.Verdict, err error) {
	moment, err := engine.Snapshot()
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, moment.Close()) }() // also after a panic: the engine's Close waits for it
	return vnode.Verify(moment, t.Partition, t.Home)
}

// mend waits until the vnode has set a tree right.
func (v *verifier) mend(t vnode.Tree, found vnode.Verdict) error {
	n := v.node
	answered := make(chan vnode.Message, 1)
	n.vnodes.submit(command{to: t.Partition, msg: &vnode.Retree{Home: t.Home, Keys: found.Keys, Segments: found.Segments, Indexed: found.Indexed},
		epoch: n.state().Epoch(), reply: func(m vnode.Message) { answered <- m }})
	tick := time.NewTicker(verifyPoll)
	defer tick.Stop()
	for {
		select {
		case m := <-answered:
			if _, ok := m.(*vnode.Retreed); !ok {
				return errors.New(refusalText(m))
			}
			return nil
		case <-tick.C:
			if n.closing.Load() { // the vnode's worker may have ended, and answers no more
				return errors.New("the node is shutting down")
			}
		}
	}
}

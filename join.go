package tanodb

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/transport"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

const (
	// knockTimeout bounds one attempt to speak to a node that this one is no
	// peer of.
	knockTimeout = 10 * time.Second

	// joinPatience is how long a new node tries the addresses that it is to join
	// at: in containers all nodes may start at once.
	joinPatience = 2 * time.Minute

	// askEvery is how often a node that is up alone asks how the topology is.
	askEvery = 2 * time.Second

	// A node that has asked to be no member any more asks this often, so many times.
	askHurried = 100 * time.Millisecond
	hurried    = 50

	// joinRetry is the pause between two rounds over the addresses.
	joinRetry = time.Second
)

// JoinOptions are how a node joins a cluster.
type JoinOptions struct {
	Zone   string // where the node stands; empty: nowhere in particular
	Weight int    // its share, in percent of a usual node's; 0: 100
	Auto   bool   // commit the plan, if nothing but joins is staged
}

// joinFile holds what a node that was alone is to join when it is opened next.
const joinFile = "JOIN"

// Join makes this node, which must be alone and hold no data, a member of the
// cluster of which a node is reached by others at the address. The joining is staged there;
// ClusterPlan and ClusterCommit, or Auto, make it happen. This node must then
// be closed and opened again with the same options, as Reopen tells.
//
// A new directory joins more simply by Options.Join.
func (n *Node) Join(ctx context.Context, address string, o JoinOptions) error {
	if err := n.mayJoin(address); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	w, err := n.knock(ctx, address)
	if err != nil {
		return err
	}
	if w.Cluster == n.state().Cluster() {
		return errSelfJoin // by another name or address: of this cluster there is no other node
	}
	if err := n.comparable(address, w); err != nil {
		return err
	}
	// From here on nothing may be written that would be lost.
	if n.closing.Load() || n.aside.Swap(true) {
		return kv.ErrClosed
	}
	err = n.leaveAlone(ctx, address, w, o)
	if err != nil {
		n.aside.Store(false)
		return err
	}
	n.reopenOnce.Do(func() { close(n.reopen) })
	return nil
}

// leaveAlone stages the joining of a node that takes no requests any more, and
// leaves word of it to the next start.
func (n *Node) leaveAlone(ctx context.Context, address string, w *transport.Welcome, o JoinOptions) error {
	n.requests.drain(ctx)
	if ctx.Err() != nil {
		return &ClusterError{Code: "timeout", Text: "requests in progress have not ended in time; try again"}
	}
	if err := n.mayJoin(address); err != nil {
		return err
	}
	if err := n.stageJoin(ctx, address, w, o); err != nil {
		return err
	}
	text := fmt.Sprintf("%s\ncluster %s\naddress %s\nauto %t\n", joinHeader, clusterID(n.state().Cluster()), address, o.Auto)
	return n.home.write(joinFile, func(*os.File) ([]byte, error) { return []byte(text), nil })
}

const joinHeader = "tanodb-join 1"

// Reopen is closed when the node has joined a cluster by Join: it must be closed, and opened
// again with the same options.
func (n *Node) Reopen() <-chan struct{} { return n.reopen }

var errSelfJoin = &ClusterError{Code: "self_join", Text: "this node cannot join itself in a cluster"}

// mayJoin says why this node cannot join another cluster.
func (n *Node) mayJoin(address string) error {
	switch {
	case n.home.dir == "":
		return &ClusterError{Code: "invalid", Text: "a node without a directory joins when it is opened: set Options.Join"}
	case n.network == nil:
		return &ClusterError{Code: codeNoNetwork, Text: "this node has no network to others: start it with --listen HOST:PORT"}
	case len(n.members()) > 1:
		return &ClusterError{Code: "not_single_node", Text: fmt.Sprintf("this node is already a member of a cluster of %d nodes", len(n.members()))}
	case address == n.Addr() || address == n.advertised(""):
		return errSelfJoin
	}
	empty, err := n.holdsNothing()
	if err == nil && !empty {
		err = &ClusterError{Code: "not_empty", Text: "this node holds data of its own, and joining would mix it with the cluster's: start with an empty directory, and write the data through the cluster"}
	}
	return err
}

// holdsNothing reports whether the engine holds no object.
func (n *Node) holdsNothing() (bool, error) {
	held, err := vnode.Held(n.engine)
	return len(held) == 0, err
}

// knock speaks to a node that this one is no peer of.
func (n *Node) knock(ctx context.Context, address string) (*transport.Welcome, error) {
	m, err := n.door(ctx, address, &transport.Knock{
		Name: n.self, ID: n.home.nodeID(), Address: n.advertised(""), Version: Version(),
	})
	if err != nil {
		return nil, &ClusterError{Code: codeNoNetwork, Text: fmt.Sprintf("node at %s is not reachable: %v", address, err)}
	}
	w, ok := m.(*transport.Welcome)
	switch {
	case !ok:
		return nil, &ClusterError{Code: codeNoNetwork, Text: fmt.Sprintf("the node at %s does not answer as a node: %s", address, refusalText(m))}
	case w.Refusal != "":
		return nil, &ClusterError{Code: "refused", Text: fmt.Sprintf("the node at %s refuses this node: %s", address, w.Refusal)}
	}
	return w, nil
}

// comparable refuses a cluster of other sizes than the options ask for.
func (n *Node) comparable(address string, w *transport.Welcome) error {
	s, err := membership.DecodeState(w.State)
	if err != nil {
		return fmt.Errorf("tanodb: the topology of the node at %s: %w", address, err)
	}
	if q := s.Ring().Size(); n.asked.partitions != 0 && n.asked.partitions != q {
		return &ClusterError{Code: "different_ring_sizes", Text: fmt.Sprintf("the cluster at %s has a ring of %d partitions, and this node is to have one of %d; leave that out", address, q, n.asked.partitions)}
	}
	if r := s.Replicas(); n.asked.replicas != 0 && n.asked.replicas != r {
		return &ClusterError{Code: "different_replicas", Text: fmt.Sprintf("the cluster at %s has %d replicas of each key, and this node is to have %d; leave that out", address, r, n.asked.replicas)}
	}
	return nil
}

// door sends one message through a node's door for strangers.
func (n *Node) door(ctx context.Context, address string, m vnode.Message) (vnode.Message, error) {
	f := transport.Frame{Msg: m, Timeout: knockTimeout}
	c := transport.KnockConfig{Self: n.self, ID: n.home.nodeID(), TLS: n.o.TLS}
	if n.o.Network != nil {
		return n.o.Network.network.KnockAt(ctx, address, c, f)
	}
	return transport.KnockAt(ctx, address, c, f)
}

// stageJoin stages the joining of this node at the cluster that has said
// welcome.
func (n *Node) stageJoin(ctx context.Context, address string, w *transport.Welcome, o JoinOptions) error {
	s, err := membership.DecodeState(w.State)
	if err != nil {
		return fmt.Errorf("tanodb: the topology of the node at %s: %w", address, err)
	}
	if m, ok := s.Member(n.self); ok && m.ID == n.home.nodeID() && m.Status != membership.StatusLeft {
		return nil // it is a member, or about to be
	}
	return n.proposeAt(ctx, address, membership.Stage{Change: membership.Change{
		Kind: membership.ChangeJoin, Node: n.self, ID: n.home.nodeID(), Address: n.advertised(""), Zone: o.Zone, Weight: o.Weight,
	}})
}

// proposeAt proposes a change of the topology through the door of a node.
func (n *Node) proposeAt(ctx context.Context, address string, c membership.Command) error {
	p := &transport.Propose{Command: membership.EncodeCommand(c)}
	if _, err := crand.Read(p.ID[:]); err != nil {
		return fmt.Errorf("tanodb: no randomness: %w", err)
	}
	m, err := n.door(ctx, address, p)
	if err != nil {
		return &ClusterError{Code: codeNoNetwork, Text: fmt.Sprintf("node at %s is not reachable: %v", address, err)}
	}
	done, ok := m.(*transport.Proposed)
	switch {
	case !ok:
		return &ClusterError{Code: "refused", Text: refusalText(m)}
	case done.Code != "":
		return &ClusterError{Code: done.Code, Text: done.Text}
	}
	return nil
}

func refusalText(m vnode.Message) string {
	switch m := m.(type) {
	case *vnode.Refusal:
		return m.Text
	case *vnode.Failure:
		return m.Text
	}
	return fmt.Sprintf("it answers with %T", m)
}

// joining is what a node is to join when it is opened.
type joining struct {
	addresses []string
	options   JoinOptions
	gaveUp    bool // it was alone in a cluster of its own, which held nothing
}

// joins says what a node that is opened joins; nil: nothing. A node that is a
// member joins nothing any more.
func (n *Node) joins() (*joining, error) {
	o := JoinOptions{Zone: n.o.Zone, Weight: n.o.Weight, Auto: n.o.AutoJoin}
	if n.home.dir != "" {
		b, err := os.ReadFile(filepath.Join(n.home.dir, joinFile))
		switch {
		case err == nil:
			j, cluster, err := parseJoin(b)
			if err != nil {
				return nil, fmt.Errorf("tanodb: %s: %w; remove it to go on alone", filepath.Join(n.home.dir, joinFile), err)
			}
			switch n.home.kept["cluster"] {
			case cluster:
				j.gaveUp = true
				return j, nil
			case noCluster:
				return j, nil // a start before this one has given the cluster up already
			}
			// It speaks of a cluster that this directory is no more of.
			if err := n.home.dropJoin(); err != nil {
				return nil, err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("tanodb: %w", err)
		}
	}
	if len(n.o.Join) == 0 || n.home.begun {
		return nil, nil
	}
	return &joining{addresses: n.o.Join, options: o}, nil
}

// parseJoin reads a JOIN file, which also names the cluster that is given up.
func parseJoin(b []byte) (j *joining, cluster string, err error) {
	lines := bufio.NewScanner(strings.NewReader(string(b)))
	if !lines.Scan() || lines.Text() != joinHeader {
		return nil, "", errors.New("is not a JOIN file of this version")
	}
	j = &joining{}
	for lines.Scan() {
		k, v, _ := strings.Cut(lines.Text(), " ")
		switch k {
		case "address":
			j.addresses = []string{v}
		case "auto":
			j.options.Auto = v == "true"
		case "cluster":
			cluster = v
		}
	}
	if len(j.addresses) == 0 || cluster == "" {
		return nil, "", errors.New("names no address, or no cluster")
	}
	return j, cluster, nil
}

// giveUp makes a node that was alone one of no cluster, unless its engine holds
// anything after all.
func (n *Node) giveUp() error {
	e, err := n.openEngine()
	if err != nil {
		return err
	}
	held, err := vnode.Held(e)
	if err = errors.Join(err, e.Close()); err != nil {
		return fmt.Errorf("tanodb: looking whether the node holds anything: %w", err)
	}
	if len(held) > 0 {
		return fmt.Errorf("tanodb: %s says that the node is to join a cluster, but it holds data of its own; remove that file to go on alone", filepath.Join(n.home.dir, joinFile))
	}
	return n.home.forgetCluster()
}

// begin joins the cluster: it returns the topology that names this node. It
// tries the addresses in turn, for joinPatience.
func (n *Node) begin(j *joining) (*membership.State, error) {
	if err := n.canListen(); err != nil {
		return nil, err // before anybody is told
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinPatience)
	defer cancel()
	for {
		var last error
		for _, address := range j.addresses {
			s, err := n.joinAt(ctx, address, j.options)
			if err == nil {
				n.log.Info("this node is to join a cluster", "node", n.self, "cluster", clusterID(s.Cluster()), "at", address)
				return s, nil
			}
			var ce *ClusterError
			if !errors.As(err, &ce) || ce.Code != codeNoNetwork && ce.Code != codeWaiting {
				return nil, err // no other node will say otherwise
			}
			last = err
			n.log.Warn("cannot join yet", "node", n.self, "at", address, "why", err)
		}
		pause := time.NewTimer(joinRetry)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("tanodb: no cluster to join was found within %v: %w", joinPatience, last)
		}
	}
}

// canListen finds out whether the address to listen on is free.
func (n *Node) canListen() error {
	if n.o.Network != nil {
		return nil
	}
	l, err := net.Listen("tcp", n.o.Listen)
	if err != nil {
		return fmt.Errorf("tanodb: %w; another process uses the address, or this machine does not have it", err)
	}
	return l.Close()
}

// joinAt stages the joining at one address, and fetches the topology that
// follows from it.
func (n *Node) joinAt(ctx context.Context, address string, o JoinOptions) (*membership.State, error) {
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	w, err := n.knock(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := n.comparable(address, w); err != nil {
		return nil, err
	}
	if err := n.stageJoin(ctx, address, w, o); err != nil {
		return nil, err
	}
	if w, err = n.knock(ctx, address); err != nil {
		return nil, err
	}
	s, err := membership.DecodeState(w.State)
	if err != nil {
		return nil, fmt.Errorf("tanodb: the topology of the node at %s: %w", address, err)
	}
	if m, ok := s.Member(n.self); !ok || m.ID != n.home.nodeID() {
		return nil, &ClusterError{Code: codeWaiting, Text: "the node at " + address + " does not know of the joining yet"}
	}
	return s, nil
}

// knocked answers a node that is no peer.
func (n *Node) knocked(f transport.Frame, reply func(vnode.Message)) {
	switch m := f.Msg.(type) {
	case *transport.Knock:
		reply(n.welcome(m))
	case *transport.Propose:
		c, err := membership.DecodeCommand(m.Command)
		if err != nil || !forStrangers(c) {
			reply(&vnode.Refusal{Code: vnode.CodeInvalid, Text: "a node that is no member may only join"})
			return
		}
		n.topology.carry(m, reply)
	case *transport.StateAsk:
		reply(n.topology.give(m))
	default:
		reply(&vnode.Refusal{Code: vnode.CodeUnsupported, Text: fmt.Sprintf("a node that is no member may not send %T", m)})
	}
}

// forStrangers are the commands that a node which is no member may propose.
func forStrangers(c membership.Command) bool {
	s, ok := c.(membership.Stage)
	return ok && s.Change.Kind == membership.ChangeJoin
}

// welcome tells a stranger what it would join.
func (n *Node) welcome(m *transport.Knock) *transport.Welcome {
	s := n.state()
	w := &transport.Welcome{
		Cluster: s.Cluster(), Partitions: uint32(s.Ring().Size()), Replicas: uint32(s.Replicas()), TargetN: uint32(s.TargetN()),
		Name: n.self, State: s.Encode(),
	}
	known, ok := s.Member(m.Name)
	if ok && known.Status != membership.StatusLeft && known.ID != m.ID && known.ID != ([16]byte{}) {
		w.Refusal = fmt.Sprintf("the cluster has another node of the name %s; give this one another by --name, or take the old one's place by force-replace", m.Name)
	}
	return w
}

// arrive does what a node that joins, or has joined, does when it is open: it
// looks for the others where the options say, and commits its joining if it is to.
func (n *Node) arrive(ctx context.Context) {
	if n.network == nil {
		return
	}
	n.seek(ctx)
	if n.o.AutoJoin || n.commitsJoin {
		n.autoJoin(ctx)
	}
	n.askWhileAlone(ctx)
}

// ask asks at the door of members, one after the other, how the topology is now. That is
// for a node that reaches none of them as a member: it may be one no more.
func (n *Node) ask(ctx context.Context) {
	s := n.state()
	for _, m := range s.Members() {
		if m.Name == n.self || m.Status == membership.StatusLeft || m.Address == "" {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, stateTimeout)
		address := m.Address
		if n.o.Network != nil {
			address = m.Name
		}
		a, err := n.door(asking, address, &transport.StateAsk{Have: s.Epoch()})
		cancel()
		if give, ok := a.(*transport.StateGive); err == nil && ok && len(give.State) > 0 {
			n.topology.given(m.Name, give.State)
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// askWhileAlone asks whenever this node holds all others to be down, and for a
// while after askSoon.
func (n *Node) askWhileAlone(ctx context.Context) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	hurry := 0
	for {
		select {
		case <-tick.C:
		case <-n.leaves:
			hurry = hurried
		case <-ctx.Done():
			return
		}
		alone := len(n.members()) > 1 && n.membersUp() <= 1
		if hurry > 0 {
			hurry--
			tick.Reset(askHurried)
		} else {
			tick.Reset(askEvery)
		}
		if alone || hurry > 0 {
			n.ask(ctx)
		}
	}
}

// askSoon is for a node that has asked to be no member any more: when it is none,
// the others do not speak to it, and so cannot tell it.
func (n *Node) askSoon() {
	select {
	case n.leaves <- struct{}{}:
	default:
	}
}

// autoJoin commits the plan as soon as this node is known to the cluster,
// unless anything but joins is staged.
func (n *Node) autoJoin(ctx context.Context) {
	tick := time.NewTicker(stewardTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s := n.state()
		if m, ok := s.Member(n.self); !ok || m.Status != membership.StatusJoining {
			return
		}
		p, err := s.Plan()
		if err == nil && onlyJoins(s.Staged()) {
			err = n.topology.propose(ctx, membership.Commit{Plan: p.ID})
		}
		if err != nil {
			n.log.Info("the joining of this node is not committed yet", "node", n.self, "why", err)
		}
	}
}

func onlyJoins(cs []membership.Change) bool {
	for _, c := range cs {
		if c.Kind != membership.ChangeJoin {
			return false
		}
	}
	return len(cs) > 0
}

// advertised is the address that others are to reach this node at: what the
// options say, or where it listens. Known is what they have been told before.
func (n *Node) advertised(known string) string {
	if n.o.Advertise != "" {
		return n.o.Advertise
	}
	for _, m := range n.o.Bootstrap {
		if m.Name == n.self {
			return m.Address
		}
	}
	if n.o.Network != nil && n.o.Listen == "" {
		return n.self + ":1" // a memory network finds its nodes by their names
	}
	address := n.o.Listen
	if n.network != nil {
		address = n.network.Address()
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "0" {
		return known
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return known
	}
	return address
}

// peers are the members that this node connects to. An address that the
// options name holds until the topology learns of another one.
func (n *Node) peers(s *membership.State) map[string]transport.Peer {
	peers := make(map[string]transport.Peer)
	for _, m := range s.Members() {
		if m.Name == n.self || m.Status == membership.StatusLeft {
			continue
		}
		address := m.Address
		if h, ok := n.hints.get(m.Name); ok && h.instead == address {
			address = h.address
		}
		peers[m.Name] = transport.Peer{Address: address, ID: m.ID}
	}
	return peers
}

// newID is an id that nothing else has.
func newID() (id [16]byte) {
	if _, err := crand.Read(id[:]); err != nil {
		panic("tanodb: no randomness: " + err.Error()) // crypto/rand never fails on the systems we run on
	}
	return id
}

func parseID(s string) (id [16]byte, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return [16]byte(b), true
}

// hints are addresses of members that the options name. Each holds until the
// topology says another than it did when the node was opened.
type hints struct {
	mu  sync.Mutex
	all map[string]hint
}

type hint struct{ address, instead string }

func (h *hints) init(o *Options, s *membership.State) {
	h.all = make(map[string]hint)
	for _, b := range o.Bootstrap {
		h.set(b.Name, b.Address, s)
	}
}

func (h *hints) set(name, address string, s *membership.State) {
	m, ok := s.Member(name)
	if !ok || address == "" || m.Address == address {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[name] = hint{address: address, instead: m.Address}
}

func (h *hints) get(name string) (hint, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.all[name]
	return x, ok
}

// seek asks at the addresses of Options.Join who is there, so that members which
// have all moved at once find each other.
func (n *Node) seek(ctx context.Context) {
	for _, address := range n.o.Join {
		knocking, cancel := context.WithTimeout(ctx, knockTimeout)
		w, err := n.knock(knocking, address)
		cancel()
		if err != nil || w.Name == n.self {
			continue
		}
		if own := n.state().Cluster(); w.Cluster != own {
			n.log.Warn("this directory belongs to one cluster, and the option to join names another: the node stays where it is; to join, begin with an empty directory",
				"node", n.self, "cluster", clusterID(own), "at", address, "other", clusterID(w.Cluster))
			continue
		}
		n.hints.set(w.Name, address, n.state())
		n.network.SetPeers(n.peers(n.state()))
		n.topology.given(w.Name, w.State)
	}
}

package transport

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Network connects nodes within one process, for tests. It differs from TCP
// only in its wires: frames are encoded, queued, batched and decoded alike, in
// order between each pair of nodes, by goroutines.
type Network struct {
	mu      sync.Mutex
	nodes   map[string]*Mesh // by address
	severed map[route]bool   // connections break and cannot be made
	deaf    map[route]bool   // what is sent this way vanishes
	pipes   map[*pipe]struct{}
	most    map[string]int // the highest protocol, by node; none: that of this version
}

// route is one direction between two nodes.
type route struct{ from, to string }

// pipeDepth is how many messages a pipe holds before its sender waits.
const pipeDepth = 8

// NewMemory makes a network without nodes.
func NewMemory() *Network {
	return &Network{
		nodes:   map[string]*Mesh{},
		severed: map[route]bool{},
		deaf:    map[route]bool{},
		pipes:   map[*pipe]struct{}{},
		most:    map[string]int{},
	}
}

// Join adds a node, which leaves with Close. Its address is Config.Listen, or
// its name if that is empty: then it is found by its name, whatever address is
// known of it. Two nodes at one address at a time are an error.
func (n *Network) Join(cfg Config) (*Mesh, error) {
	cfg.Most = or(cfg.Most, n.mostOf(cfg.Self))
	m, err := newMesh(cfg)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &memoryWires{net: n, self: cfg.Self, at: cfg.Self, listen: cfg.Listen}
	if cfg.Listen != "" {
		w.at = cfg.Listen
	}
	if n.nodes[w.at] != nil {
		return nil, errors.New("transport: " + w.at + " is in the network already")
	}
	n.nodes[w.at] = m
	m.start(w)
	return m, nil
}

// SpeakAtMost has a node that joins later speak no higher protocol than this, as one of an
// earlier version.
func (n *Network) SpeakAtMost(node string, protocol int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.most[node] = protocol
}

func (n *Network) mostOf(node string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.most[node]
}

// at is the node at an address, or the one of a name that has no other address;
// nil: there is none.
func (n *Network) at(name, address string) *Mesh {
	if m := n.nodes[address]; m != nil {
		return m
	}
	if m := n.nodes[name]; m != nil && m.cfg.Listen == "" {
		return m
	}
	return nil
}

// Cut separates two nodes. Both ways: their connections break at once and new
// ones are refused. One way: what a sends to b vanishes, which only silence
// tells.
func (n *Network) Cut(a, b string, both bool) {
	n.mu.Lock()
	var broken []*pipe
	if both {
		n.severed[route{a, b}], n.severed[route{b, a}] = true, true
		for p := range n.pipes {
			if n.severed[p.route] {
				broken = append(broken, p)
			}
		}
	} else {
		n.deaf[route{a, b}] = true
	}
	n.mu.Unlock()
	for _, p := range broken {
		p.close()
	}
}

// Heal undoes every Cut.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.severed)
	clear(n.deaf)
}

func (n *Network) vanishes(r route) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf[r]
}

var errRefused = errors.New("connection refused")

// connect makes a pair of pipes, and lets the node at the far end accept one.
func (n *Network) connect(from, name, address string) (*pipe, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.at(name, address)
	if target == nil {
		return nil, errRefused
	}
	r := route{from, target.cfg.Self}
	if n.severed[r] {
		return nil, errRefused
	}
	there, back := make(chan []byte, pipeDepth), make(chan []byte, pipeDepth)
	ends := &ends{over: make(chan struct{})}
	near := &pipe{net: n, route: r, ends: ends, out: there, in: back}
	far := &pipe{net: n, route: route{r.to, r.from}, ends: ends, out: back, in: there}
	ends.forget = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.pipes, near)
	}
	if !target.spawn(func() { target.accept(far) }) {
		return nil, errRefused
	}
	n.pipes[near] = struct{}{}
	return near, nil
}

// memoryWires makes connections within the process.
type memoryWires struct {
	net    *Network
	self   string // the node's name
	at     string // its address
	listen string // as it was configured
}

func (w *memoryWires) dial(_ context.Context, name, address string) (wire, error) {
	near, err := w.net.connect(w.self, name, address)
	if err != nil {
		return nil, err // not a nil *pipe in a wire
	}
	return near, nil
}

func (w *memoryWires) address() string    { return w.at }
func (w *memoryWires) advertised() string { return w.listen }

func (w *memoryWires) names(address string) bool { return address != "" }

func (w *memoryWires) close() {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	delete(w.net.nodes, w.at)
}

// pipe is one side of a connection in memory.
type pipe struct {
	net   *Network
	route route
	ends  *ends
	out   chan<- []byte
	in    <-chan []byte
	count atomic.Uint64
}

// ends is what both sides of a connection share: either may close it.
type ends struct {
	once   sync.Once
	over   chan struct{}
	forget func()
}

func (p *pipe) send(b *[]byte) error {
	defer buffers.Put(b)
	if p.net.vanishes(p.route) {
		return nil
	}
	select {
	case p.out <- append([]byte(nil), *b...):
		return nil
	case <-p.ends.over:
		return io.EOF
	}
}

// recv prefers a message over the end, so that none is lost that was sent
// before it.
func (p *pipe) recv() ([]byte, error) {
	select {
	case b := <-p.in:
		p.count.Add(1)
		return b, nil
	default:
	}
	select {
	case b := <-p.in:
		p.count.Add(1)
		return b, nil
	case <-p.ends.over:
	}
	select {
	case b := <-p.in:
		p.count.Add(1)
		return b, nil
	default:
		return nil, io.EOF
	}
}

func (p *pipe) release() { p.close() }

func (p *pipe) received() uint64 { return p.count.Load() }

func (p *pipe) allow(uint64) {}

func (p *pipe) close() {
	p.ends.once.Do(func() {
		close(p.ends.over)
		p.ends.forget()
	})
}

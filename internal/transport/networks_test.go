package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tanodb/tanodb/internal/testports"
	"github.com/tanodb/tanodb/internal/vnode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test. It is only ever spent by a failing one.
const patience = 20 * time.Second

// quick makes a network whose intervals a test can wait for.
var quick = Timing{
	Tick: 2 * time.Millisecond, Heartbeat: 20 * time.Millisecond, Silence: 400 * time.Millisecond,
	News: time.Millisecond, BackoffMin: 2 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
}

// network is one of the two kinds: what holds for one must hold for the other.
type network struct {
	name string

	// open makes an empty network and returns how a node joins it.
	open func() joiner
}

// joiner makes nodes of one cluster: n1, n2 and n3, all of which know each
// other, and whoever else its configuration says.
type joiner interface {
	// join adds a node. Without peers in its configuration it knows the others of
	// n1, n2 and n3.
	join(name string, c Config) (*Mesh, error)

	// address is where a node of the name is, or would be.
	address(name string) string

	// elsewhere is an address at which nobody is.
	elsewhere() string

	// knock asks at the door of the node at an address.
	knock(ctx context.Context, address string, c KnockConfig, f Frame) (vnode.Message, error)
}

var networks = []network{
	{"grpc", func() joiner { return &tcp{addresses: map[string]string{}} }},
	{"memory", func() joiner { return &memory{net: NewMemory()} }},
}

// both runs a test on both kinds of network.
func both(t *testing.T, test func(t *testing.T, j joiner)) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) { test(t, n.open()) })
	}
}

// names are the members of every test cluster.
var names = []string{"n1", "n2", "n3"}

// others are the peers of a node.
func others(j joiner, name string) map[string]Peer {
	peers := map[string]Peer{}
	for _, n := range names {
		if n != name {
			peers[n] = Peer{Address: j.address(n)}
		}
	}
	return peers
}

type memory struct {
	net  *Network
	made int // addresses
}

func (m *memory) join(name string, c Config) (*Mesh, error) {
	c.Self = name
	if c.Peers == nil {
		c.Peers = others(m, name)
	}
	return m.net.Join(c)
}

func (m *memory) address(name string) string { return name }

func (m *memory) elsewhere() string {
	m.made++
	return fmt.Sprint("elsewhere ", m.made)
}

func (m *memory) knock(ctx context.Context, address string, c KnockConfig, f Frame) (vnode.Message, error) {
	return m.net.KnockAt(ctx, address, c, f)
}

type tcp struct{ addresses map[string]string }

func (n *tcp) join(name string, c Config) (*Mesh, error) {
	c.Self = name
	if c.Listen == "" {
		c.Listen = n.address(name)
	}
	if c.Peers == nil {
		c.Peers = others(n, name)
	}
	return Listen(c)
}

func (n *tcp) address(name string) string {
	if n.addresses[name] == "" {
		n.addresses[name] = freeAddress()
	}
	return n.addresses[name]
}

func (n *tcp) elsewhere() string { return freeAddress() }

func (n *tcp) knock(ctx context.Context, address string, c KnockConfig, f Frame) (vnode.Message, error) {
	return KnockAt(ctx, address, c, f)
}

// freeAddress is one on which nobody listens.
func freeAddress() string {
	address, err := testports.Transport.Address()
	if err != nil {
		panic(err)
	}
	return address
}

// recorder is a Handler that keeps what it is told, and serves with a function.
type recorder struct {
	server func(from string, f Frame, reply func(vnode.Message))
	door   func(f Frame, reply func(vnode.Message)) // nil: it never answers

	mu     sync.Mutex
	heard  map[string]int
	epochs map[string][]uint64 // that were told

	restarted []string // nodes that have begun another life

	reaped   uint64 // the last reaping that another node has told of
	partook  uint64 // and the life in which this one is said to have taken part
	outdated uint64 // the newest epoch that another node has heard of this one
	outlived uint64 // the life in which another node has met this one
	objects  error  // what Outdated answers
	moved    map[string][]string
	refused  map[string][]error
	changed  chan struct{} // closed and replaced with each news
}

func newRecorder(server func(from string, f Frame, reply func(vnode.Message))) *recorder {
	return &recorder{
		server: server, heard: map[string]int{}, epochs: map[string][]uint64{}, moved: map[string][]string{}, refused: map[string][]error{}, changed: make(chan struct{}),
	}
}

func (r *recorder) Serve(from string, f Frame, reply func(vnode.Message)) { r.server(from, f, reply) }

func (r *recorder) Heard(node string, epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[node]++
	r.epochs[node] = append(r.epochs[node], epoch)
	r.news()
}

func (r *recorder) Restarted(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restarted = append(r.restarted, node)
	r.news()
}

func (r *recorder) Reaped(_ string, reaped, partook uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reaped, r.partook = reaped, partook
	return r.objects
}

func (r *recorder) Outdated(_ string, epoch uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outdated = epoch
	r.news()
	return r.objects
}

func (r *recorder) Outlived(_ string, life uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outlived = life
	r.news()
	return errors.New("the clock is wrong")
}

func (r *recorder) Moved(node, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved[node] = append(r.moved[node], address)
	r.news()
}

func (r *recorder) Knocked(f Frame, reply func(vnode.Message)) {
	if r.door != nil {
		r.door(f, reply)
	}
}

func (r *recorder) Refused(node string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[node] = append(r.refused[node], err)
	r.news()
}

func (r *recorder) news() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until a condition holds of what the recorder was told.
func (r *recorder) await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := holds(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("never: %s; heard %v, last refused: %v", what, r.heard, r.last())
		}
	}
}

// last is the newest refusal of each node.
func (r *recorder) last() map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[string]error{}
	for node, errs := range r.refused {
		last[node] = errs[len(errs)-1]
	}
	return last
}

func (r *recorder) awaitHeard(t testing.TB, node string) {
	t.Helper()
	r.mu.Lock()
	before := r.heard[node]
	r.mu.Unlock()
	r.await(t, node+" is heard", func() bool { return r.heard[node] > before })
}

// awaitRefused waits for the next refusal of a node and returns it.
func (r *recorder) awaitRefused(t testing.TB, node string) (err error) {
	t.Helper()
	r.mu.Lock()
	before := len(r.refused[node])
	r.mu.Unlock()
	r.await(t, node+" is refused", func() bool {
		if len(r.refused[node]) > before {
			err = r.refused[node][before]
		}
		return err != nil
	})
	return err
}

// answerWith serves every request at once with one answer.
func answerWith(m vnode.Message) func(string, Frame, func(vnode.Message)) {
	return func(_ string, _ Frame, reply func(vnode.Message)) { reply(m) }
}

// silent never answers.
func silent(string, Frame, func(vnode.Message)) {}

// pairOfNodes is two nodes of one network.
type pairOfNodes struct {
	a, b   *Mesh
	ra, rb *recorder
}

// connect waits until both have heard of each other.
func (p pairOfNodes) connect(t testing.TB) {
	t.Helper()
	p.ra.awaitHeard(t, "n2")
	p.rb.awaitHeard(t, "n1")
}

// pair makes n1, which answers nothing, and n2, which serves as told.
func (n network) pair(t testing.TB, serve func(string, Frame, func(vnode.Message))) pairOfNodes {
	return pairIn(t, n.open(), Config{Timing: quick}, serve)
}

func pairIn(t testing.TB, j joiner, c Config, serve func(string, Frame, func(vnode.Message))) pairOfNodes {
	t.Helper()
	p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(serve)}
	ca, cb := c, c
	ca.Handler, cb.Handler = p.ra, p.rb
	p.a = member(t, j, "n1", ca)
	p.b = member(t, j, "n2", cb)
	return p
}

// member joins a node that leaves with the test.
func member(t testing.TB, j joiner, name string, c Config) *Mesh {
	t.Helper()
	m, err := j.join(name, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// outcome is how a request ended.
type outcome struct {
	msg vnode.Message
	err error
}

// ask sends a request and returns where its outcome will come. A second one
// fails the test.
func ask(t testing.TB, m *Mesh, node string, c Class, msg vnode.Message, timeout time.Duration) <-chan outcome {
	t.Helper()
	out := make(chan outcome, 1)
	m.Ask(node, c, Frame{Msg: msg}, time.Now().Add(timeout), func(msg vnode.Message, err error) {
		select {
		case out <- outcome{msg, err}:
		default:
			t.Error("done was called twice")
		}
	})
	return out
}

// await takes the outcome.
func await(t testing.TB, out <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-out:
		return o
	case <-time.After(patience):
		t.Fatal("the request has no outcome")
		return outcome{}
	}
}

// wants fails the test unless the request ended with the error.
func wants(t testing.TB, o outcome, target error) {
	t.Helper()
	if !errors.Is(o.err, target) {
		t.Errorf("message %v, error %v; want %v", o.msg, o.err, target)
	}
}

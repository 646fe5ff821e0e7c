package transport

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
)

// nobody are the peers of a node that is alone.
var nobody = map[string]Peer{}

// answers fails the test unless n2 answers n1.
func (p pairOfNodes) answers(t *testing.T) {
	t.Helper()
	p.ra.await(t, "n2 is connected", func() bool {
		st := p.a.Stats().Peers
		return len(st) > 0 && st[0].Connected
	})
	if o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)); o.err != nil {
		t.Error(o.err)
	}
}

// refusedWith waits until a node was refused for a reason.
func (r *recorder) refusedWith(t *testing.T, node, reason string) {
	t.Helper()
	r.await(t, fmt.Sprintf("%s is refused: %s", node, reason), func() bool {
		errs := r.refused[node]
		return len(errs) > 0 && strings.Contains(errs[len(errs)-1].Error(), reason)
	})
}

// A node that becomes a member is connected to and let in, and not before.
func TestPeerAdded(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
		p.a = member(t, j, "n1", Config{Timing: quick, Handler: p.ra, Peers: nobody})
		p.b = member(t, j, "n2", Config{Timing: quick, Handler: p.rb})
		p.rb.refusedWith(t, "n1", "refuses this node: node n2 is not a member")
		wants(t, await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)), ErrNotSent)

		p.a.SetPeers(map[string]Peer{"n1": {}, "": {}, "n2": {Address: j.address("n2")}})
		p.connect(t)
		p.answers(t)
		if st := p.a.Stats(); len(st.Peers) != 1 {
			t.Errorf("peers: %+v", st.Peers)
		}
	})
}

// Of a node that is a member no more, nothing is left when SetPeers returns.
func TestPeerRemoved(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		served := make(chan struct{}, 1)
		p := pairIn(t, j, Config{Timing: quick}, func(from string, f Frame, reply func(vnode.Message)) {
			if f.Msg.(*vnode.Fetch).Key.Name == "held" {
				served <- struct{}{}
				return
			}
			echo(from, f, reply)
		})
		p.connect(t)
		p.ra.await(t, "n2 is connected", func() bool { return p.a.Stats().Peers[0].Connected })
		out := ask(t, p.a, "n2", Requests, fetch("held"), patience)
		<-served
		p.ra.mu.Lock()
		before := len(p.ra.refused["n2"])
		p.ra.mu.Unlock()
		p.a.SetPeers(nobody)
		select {
		case o := <-out:
			wants(t, o, ErrLost)
			if !strings.Contains(o.err.Error(), "n2 is not a member any more") {
				t.Error(o.err)
			}
		default:
			t.Error("SetPeers has returned and the request has no outcome")
		}
		o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience))
		if wants(t, o, ErrNotSent); o.err.Error() != "not sent: n2 is not a member" {
			t.Error(o.err)
		}
		p.rb.refusedWith(t, "n1", "refuses this node: node n2 is not a member")
		p.ra.mu.Lock()
		if after := len(p.ra.refused["n2"]); after != before {
			t.Errorf("n2 counts as refused: %v", p.ra.refused["n2"][before:])
		}
		p.ra.mu.Unlock()

		p.a.SetPeers(map[string]Peer{"n2": {Address: j.address("n2")}})
		p.connect(t)
		p.answers(t)
	})
}

// A node whose address changes in the topology is dialled there at once, be
// there somebody at the old one or not.
func TestPeerMovedBySetPeers(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		slow := quick
		slow.BackoffMin, slow.BackoffMax = time.Hour, time.Hour
		p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
		p.a = member(t, j, "n1", Config{Timing: slow, Handler: p.ra, Peers: map[string]Peer{"n2": {Address: j.elsewhere()}}})
		p.ra.refusedWith(t, "n2", "connection refused")
		at := j.elsewhere()
		p.b = member(t, j, "n2", Config{Timing: slow, Handler: p.rb, Listen: at, Peers: map[string]Peer{"n1": {Address: j.elsewhere()}}})
		p.a.SetPeers(map[string]Peer{"n2": {Address: at}})
		p.answers(t)
		if got := p.a.Stats().Peers[0].Address; got != at {
			t.Errorf("n2 is reached at %s", got)
		}

		// The same address with another member beside it changes nothing.
		since := p.a.Stats().Peers[0].Since
		p.a.SetPeers(map[string]Peer{"n2": {Address: at}, "n3": {Address: j.address("n3")}})
		p.answers(t)
		if now := p.a.Stats().Peers[0].Since; now != since {
			t.Error("n2 was dialled again")
		}
	})
}

// An attempt at an address that does not answer is given up when the node is
// known to be elsewhere.
func TestPeerMovedFromASilentAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	j := networks[0].open()
	never := quick
	never.Silence = time.Hour
	p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
	p.a = member(t, j, "n1", Config{Timing: never, Handler: p.ra, Peers: map[string]Peer{"n2": {Address: l.Addr().String()}}})
	c, err := l.Accept() // the attempt is under way
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.b = member(t, j, "n2", Config{Timing: quick, Handler: p.rb})
	p.a.SetPeers(map[string]Peer{"n2": {Address: j.address("n2")}})
	p.answers(t)
	if err := p.ra.last()["n2"]; err != nil {
		t.Errorf("n2 counts as refused: %v", err)
	}
}

// A node that is restarted elsewhere, and says so, is reached at once, by those
// who only know its old address; and they tell.
func TestPeerMovedByItself(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		slow := quick
		slow.BackoffMin, slow.BackoffMax = time.Hour, time.Hour
		known := map[string]Peer{"n2": {Address: j.elsewhere(), ID: [16]byte{2}}}
		p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
		p.a = member(t, j, "n1", Config{Timing: slow, Handler: p.ra, Peers: known})
		p.ra.refusedWith(t, "n2", "connection refused")
		at := j.elsewhere()
		p.b = member(t, j, "n2", Config{Timing: quick, Handler: p.rb, Listen: at, ID: [16]byte{2}})
		p.connect(t)
		p.answers(t)
		p.ra.await(t, "n1 tells that n2 has moved", func() bool { return fmt.Sprint(p.ra.moved["n2"]) == fmt.Sprint([]string{at}) })

		// That others still believe the old address is no reason to dial it.
		since := p.a.Stats().Peers[0].Since
		p.a.SetPeers(known)
		p.a.SetPeers(map[string]Peer{"n2": {Address: at, ID: [16]byte{2}}})
		p.answers(t)
		if st := p.a.Stats().Peers[0]; st.Since != since || st.Address != at {
			t.Errorf("n2 was dialled again: %+v", st)
		}
	})
}

// A node that tells a wrong address of itself is reached where others say it is.
func TestPeerThatErrsAboutItself(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
		p.a = member(t, j, "n1", Config{Timing: quick, Handler: p.ra})
		p.b = member(t, j, "n2", Config{Timing: quick, Handler: p.rb, Advertise: j.elsewhere()})
		p.ra.await(t, "n1 hears that n2 is elsewhere", func() bool { return len(p.ra.moved["n2"]) == 1 })
		p.connect(t)
		p.answers(t)
	})
}

// An address that nobody can dial is not believed.
func TestAddressesOfNobody(t *testing.T) {
	w := &grpcWires{}
	for address, want := range map[string]bool{
		"10.0.0.1:7000": true, "[::1]:7000": true, "db1.example:7000": true, "[fe80::1%eth0]:7000": true,
		"": false, ":7000": false, "0.0.0.0:7000": false, "[::]:7000": false, "10.0.0.1": false, "10.0.0.1:0": false, "10.0.0.1:": false, "a:b:c": false,
	} {
		if got := w.names(address); got != want {
			t.Errorf("%q: %t", address, got)
		}
	}
	everywhere, err := Listen(Config{Self: "n1", Listen: "0.0.0.0:0", Handler: newRecorder(silent)})
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	if everywhere.address != "" {
		t.Errorf("advertises %s", everywhere.address)
	}
}

// A node of a name that the cluster knows by another id is refused by both
// sides, and told what to do.
func TestAnotherID(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
		p.a = member(t, j, "n1", Config{Timing: quick, Handler: p.ra, ID: [16]byte{1}, Peers: map[string]Peer{"n2": {Address: j.address("n2"), ID: [16]byte{2}}}})
		p.b = member(t, j, "n2", Config{Timing: quick, Handler: p.rb, ID: [16]byte{9}})
		p.rb.refusedWith(t, "n1", "refuses this node: node n2 has the id 09")
		p.rb.refusedWith(t, "n1", "start it with the data directory of that node")
		p.ra.refusedWith(t, "n2", "has the id 09")
		o := await(t, ask(t, p.b, "n1", Requests, fetch("k"), patience))
		if wants(t, o, ErrNotSent); !strings.Contains(o.err.Error(), "refuses this node: node n2 has the id 09") {
			t.Error(o.err)
		}
		if p.ra.heard["n2"] > 0 || p.rb.heard["n1"] > 0 {
			t.Error("they count as heard")
		}

		// The cluster learns that this is the node of the name.
		p.a.SetPeers(map[string]Peer{"n2": {Address: j.address("n2"), ID: [16]byte{9}}})
		p.connect(t)
		p.answers(t)

		// And then that it is not.
		p.a.SetPeers(map[string]Peer{"n2": {Address: j.address("n2"), ID: [16]byte{7}}})
		wants(t, await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)), ErrNotSent)
		p.ra.refusedWith(t, "n2", "has the id 09")
	})
}

// The epoch of a node is told when it is connected and at once when it grows,
// on an idle connection too, by a node that otherwise tells nothing.
func TestEpochsAreTold(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		var epoch atomic.Uint64
		epoch.Store(7)
		idle := quick
		idle.Heartbeat, idle.News, idle.Silence = time.Hour, time.Hour, time.Hour
		p := pairOfNodes{ra: newRecorder(silent), rb: newRecorder(echo)}
		p.a = member(t, j, "n1", Config{Timing: idle, Handler: p.ra})
		p.b = member(t, j, "n2", Config{Timing: idle, Handler: p.rb, Epoch: epoch.Load})
		told := func(e uint64) func() bool {
			return func() bool {
				n := len(p.ra.epochs["n2"])
				return n > 0 && p.ra.epochs["n2"][n-1] == e
			}
		}
		p.ra.await(t, "epoch 7 is told", told(7))
		for e := uint64(8); e < 12; e++ {
			epoch.Store(e)
			p.ra.await(t, fmt.Sprintf("epoch %d is told", e), told(e))
		}
		if st := p.a.Stats().Peers[0]; st.Epoch != 11 {
			t.Errorf("%+v", st)
		}
		if n := p.ra.heard["n2"]; n != 5 {
			t.Errorf("heard %d times: %v", n, p.ra.epochs["n2"])
		}
	})
}

// A node that comes back with an older epoch, as from a restored disk, is
// heard with that.
func TestEpochGoesBack(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		ra := newRecorder(silent)
		member(t, j, "n1", Config{Timing: quick, Handler: ra})
		for _, e := range []uint64{9, 4} {
			b := member(t, j, "n2", Config{Timing: quick, Handler: newRecorder(silent), Epoch: func() uint64 { return e }})
			ra.await(t, fmt.Sprintf("epoch %d is told", e), func() bool {
				n := len(ra.epochs["n2"])
				return n > 0 && ra.epochs["n2"][n-1] == e
			})
			b.Close()
		}
	})
}

// A node that begins with an older epoch than it has shown to another one before
// is told so, whoever dials, and has no connection until it says that it goes on with
// that. What it shows in this life says nothing.
func TestNodeBeginsWithAnOlderEpochThanItHasShown(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		ra := newRecorder(silent)
		var a *Mesh
		begin := func(epoch *atomic.Uint64, objects error) (*recorder, *Mesh) {
			r := newRecorder(silent)
			r.objects = objects
			return r, member(t, j, "n2", Config{Timing: quick, Handler: r, Epoch: epoch.Load})
		}
		var epoch atomic.Uint64
		epoch.Store(4)
		_, b := begin(&epoch, nil)
		a = member(t, j, "n1", Config{Timing: quick, Handler: ra})
		shown := func(e uint64) {
			t.Helper()
			ra.await(t, fmt.Sprintf("n2 shows epoch %d", e), func() bool {
				return len(ra.epochs["n2"]) > 0 && slices.Max(ra.epochs["n2"]) == e
			})
		}
		shown(4)
		epoch.Store(9) // it has come further, and restarts with what it has
		shown(9)
		b.Close()
		rb, b := begin(&epoch, errors.New("no"))
		rb.await(t, "n2 is back", func() bool { return rb.heard["n1"] > 0 })
		if rb.outdated != 0 {
			t.Errorf("epoch %d is held against a node that has it", rb.outdated)
		}
		b.Close()

		epoch.Store(7)
		rb, _ = begin(&epoch, errors.New("the disk is old"))
		ra.refusedWith(t, "n2", "refuses this node: node n1 has heard this node have epoch 9 before: the disk is old")
		rb.refusedWith(t, "n1", "node n1 has heard this node have epoch 9 before: the disk is old")
		if a.Stats().Peers[0].Connected || rb.heard["n1"] > 0 {
			t.Error("n1 and n2 are connected")
		}
		rb.mu.Lock()
		heard := ra.heard["n2"]
		rb.objects = nil
		rb.mu.Unlock()
		ra.await(t, "n1 hears n2", func() bool { return ra.heard["n2"] > heard })
		rb.await(t, "n2 hears n1", func() bool { return rb.heard["n1"] > 0 })
	})
}

// That a node has begun anew is told once for each life, however soon it is back, and not for
// the first life, nor for another connection in the same one.
func TestANodeThatHasBegunAnewIsTold(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		ra := newRecorder(silent)
		member(t, j, "n1", Config{Timing: quick, Handler: ra})
		for i, life := range []uint64{3, 3, 5, 9} {
			ra.mu.Lock()
			heard := ra.heard["n2"]
			ra.mu.Unlock()
			b := member(t, j, "n2", Config{Timing: quick, Handler: newRecorder(silent), Life: life})
			want := max(0, i-1)
			ra.await(t, fmt.Sprintf("n1 hears n2 in life %d", life), func() bool { return ra.heard["n2"] > heard && len(ra.restarted) >= want })
			b.Close()
			ra.mu.Lock()
			if len(ra.restarted) != want {
				t.Errorf("in life %d: told of %v", life, ra.restarted)
			}
			ra.mu.Unlock()
		}
	})
}

// A node that begins a life earlier than one in which another node has met it has no
// connection with that node, whoever dials, and is told why.
func TestNodeBeginsAnEarlierLife(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		ra := newRecorder(silent)
		a := member(t, j, "n1", Config{Timing: quick, Handler: ra})
		rb := newRecorder(silent)
		b := member(t, j, "n2", Config{Timing: quick, Handler: rb, Life: 9})
		ra.await(t, "n1 hears n2", func() bool { return ra.heard["n2"] > 0 })
		b.Close()

		rb = newRecorder(silent)
		member(t, j, "n2", Config{Timing: quick, Handler: rb, Life: 7})
		ra.refusedWith(t, "n2", "refuses this node: node n1 has met this node in another life: the clock is wrong")
		rb.refusedWith(t, "n1", "node n1 has met this node in another life: the clock is wrong")
		if rb.outlived != 9 || rb.outdated != 0 || a.Stats().Peers[0].Connected {
			t.Errorf("n2 was met in life %d, and has shown epoch %d before", rb.outlived, rb.outdated)
		}
	})
}

// A node that begins another life than the one in which it has taken part in a reaping is told which
// that was, and has no connection until it says that its data is in order.
func TestNodeIsToldOfAReaping(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		ra := newRecorder(silent)
		member(t, j, "n1", Config{Timing: quick, Handler: ra, Reaped: func(string) (uint64, uint64) { return 9, 4 }})
		rb := newRecorder(silent)
		rb.objects = errors.New("the disk is old")
		b := member(t, j, "n2", Config{Timing: quick, Handler: rb, Life: 4})
		rb.await(t, "n2 hears n1", func() bool { return rb.heard["n1"] > 0 })
		b.Close()
		if rb.reaped != 0 {
			t.Errorf("in the life that took part, n2 is told of %d", rb.reaped)
		}

		rb = newRecorder(silent)
		rb.objects = errors.New("the disk is old")
		member(t, j, "n2", Config{Timing: quick, Handler: rb, Life: 6})
		rb.refusedWith(t, "n1", "node n1 knows of a reaping that this node has not shown: the disk is old")
		rb.mu.Lock()
		defer rb.mu.Unlock()
		if rb.reaped != 9 || rb.partook != 4 || rb.heard["n1"] > 0 {
			t.Errorf("n2 is told of %d, in which it took part in life %d", rb.reaped, rb.partook)
		}
	})
}

// A request carries the epoch by which its node was chosen, and its answer the
// one of the node that answers.
func TestEpochsOfRequests(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		arrived := make(chan uint64, 1)
		p := pairIn(t, j, Config{Timing: quick, Epoch: func() uint64 { return 41 }}, func(_ string, f Frame, reply func(vnode.Message)) {
			arrived <- f.Epoch
			reply(&vnode.Pong{})
		})
		p.connect(t)
		p.ra.await(t, "n2 is connected", func() bool { return p.a.Stats().Peers[0].Connected })
		p.a.Ask("n2", Requests, Frame{Epoch: 40, Msg: &vnode.Ping{}}, time.Now().Add(patience), func(vnode.Message, error) {})
		if e := <-arrived; e != 40 {
			t.Errorf("epoch %d", e)
		}
		w := caller(t, j, "n2", nil)
		if h, err := w.greet(); err != nil || h.epoch != 41 {
			t.Errorf("greeted with %+v, %v", h, err)
		}
		if err := w.send(t, 0, Frame{ID: 5, Timeout: time.Hour, Msg: fetch("k")}); err != nil {
			t.Fatal(err)
		}
		<-arrived
		if f := w.next(t); f.Epoch != 41 {
			t.Errorf("answered with %+v", f)
		}
	})
}

// Members do not ask each other through the door.
func TestAskAtDoor(t *testing.T) {
	p := networks[1].pair(t, echo)
	for _, c := range []Class{Door, 200} {
		wants(t, await(t, ask(t, p.a, "n2", c, fetch("k"), patience)), ErrNotSent)
	}
}

// Members come, go and move while many ask: each request has exactly one
// outcome, and none that was reported as not sent was served.
func TestPeersChangeUnderTraffic(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		served := sync.Map{}
		serve := func(_ string, f Frame, reply func(vnode.Message)) {
			served.Store(f.Msg.(*vnode.Fetch).Key.Name, true)
			reply(&vnode.Pong{})
		}
		p := pairIn(t, j, Config{Timing: quick}, serve)
		member(t, j, "n3", Config{Timing: quick, Handler: newRecorder(serve)})
		p.connect(t)

		var mu sync.Mutex
		outcomes := map[string][]error{}
		var askers sync.WaitGroup
		stop := make(chan struct{})
		for g := range 3 {
			askers.Go(func() {
				var asked sync.WaitGroup
				defer asked.Wait()
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					name := fmt.Sprint(g, " ", i)
					asked.Add(1)
					p.a.Ask(names[1+i%2], Class(g%2), Frame{Msg: fetch(name)}, time.Now().Add(patience), func(_ vnode.Message, err error) {
						mu.Lock()
						outcomes[name] = append(outcomes[name], err)
						mu.Unlock()
						asked.Done()
					})
					if i%16 == 0 {
						asked.Wait()
						runtime.Gosched()
					}
				}
			})
		}
		full := others(j, "n1")
		for i := range 30 {
			changed := others(j, "n1")
			switch i % 3 {
			case 0:
				delete(changed, "n2")
			case 1:
				changed["n2"] = Peer{Address: j.elsewhere()}
			case 2:
				changed = nobody
			}
			p.a.SetPeers(changed)
			p.a.Stats()
			p.a.SetPeers(full)
			p.ra.awaitHeard(t, "n2")
			for late := time.Now().Add(patience); await(t, ask(t, p.a, "n2", Requests, fetch("between"), patience)).err != nil; {
				if time.Now().After(late) {
					t.Fatal("n2 never answers again")
				}
			}
		}
		close(stop)
		askers.Wait()
		p.a.Close()

		count := map[string]int{}
		for name, errs := range outcomes {
			if len(errs) != 1 {
				t.Fatalf("request %s: outcomes %v", name, errs)
			}
			_, arrived := served.Load(name)
			switch err := errs[0]; {
			case err == nil && !arrived:
				t.Fatalf("request %s was answered and not served", name)
			case err == nil:
				count["answered"]++
			case errors.Is(err, ErrNotSent) && arrived:
				t.Fatalf("request %s was served: %v", name, err)
			case errors.Is(err, ErrNotSent):
				count["not sent"]++
			default:
				wants(t, outcome{err: err}, ErrLost)
				count["lost"]++
			}
		}
		if count["answered"] == 0 || count["not sent"]+count["lost"] == 0 {
			t.Errorf("outcomes: %v", count)
		}
	})
}

// SetPeers may be called by several at once, and beside Close.
func TestSetPeersAtOnce(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, echo)
		var callers sync.WaitGroup
		for i := range 4 {
			callers.Go(func() {
				for range 50 {
					p.a.SetPeers(map[string]Peer{"n2": {Address: p.b.Address()}, fmt.Sprint("m", i): {Address: "127.0.0.1:1"}})
					p.a.SetPeers(nobody)
				}
			})
		}
		callers.Go(func() { p.a.Close() })
		callers.Wait()
		p.a.SetPeers(others(j, "n1"))
	})
}

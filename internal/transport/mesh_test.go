package transport

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
)

func fetch(name string) *vnode.Fetch { return &vnode.Fetch{Key: kv.Key{Bucket: "b", Name: name}} }

// echo answers a Fetch with the name of its key.
func echo(_ string, f Frame, reply func(vnode.Message)) {
	reply(&vnode.Fetched{Object: []byte(f.Msg.(*vnode.Fetch).Key.Name)})
}

// Each of many requests gets its own answer.
func TestAnswers(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, echo)
		p.connect(t)
		outcomes := map[string]<-chan outcome{}
		for i := range 1000 {
			name := fmt.Sprint("key ", i)
			outcomes[name] = ask(t, p.a, "n2", Requests, fetch(name), patience)
		}
		for name, out := range outcomes {
			o := await(t, out)
			if f, ok := o.msg.(*vnode.Fetched); o.err != nil || !ok || string(f.Object) != name {
				t.Fatalf("%s: %v, %v", name, o.msg, o.err)
			}
		}
	})
}

// Requests of one goroutine are served in the order in which they were asked.
func TestOrder(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		var mu sync.Mutex
		var served []string
		p := pairIn(t, j, Config{Timing: quick}, func(_ string, f Frame, reply func(vnode.Message)) {
			mu.Lock()
			defer mu.Unlock()
			served = append(served, f.Msg.(*vnode.Fetch).Key.Name)
			reply(&vnode.Pong{})
		})
		p.connect(t)
		var last <-chan outcome
		for i := range 500 {
			last = ask(t, p.a, "n2", Requests, fetch(fmt.Sprintf("%03d", i)), patience)
		}
		await(t, last)
		mu.Lock()
		defer mu.Unlock()
		for i, name := range served {
			if name != fmt.Sprintf("%03d", i) {
				t.Fatalf("number %d is %s", i, name)
			}
		}
	})
}

// What a request carries arrives: whence, whither, the epoch, what is left of
// its time.
func TestWhatARequestCarries(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		type arrival struct {
			from string
			f    Frame
		}
		arrived := make(chan arrival, 1)
		p := pairIn(t, j, Config{Timing: quick, Epoch: func() uint64 { return 41 }}, func(from string, f Frame, reply func(vnode.Message)) {
			arrived <- arrival{from, f}
			reply(&vnode.Pong{})
		})
		p.connect(t)
		done := make(chan struct{})
		p.a.Ask("n2", Requests, Frame{To: 9, Msg: &vnode.Ping{}}, time.Now().Add(time.Minute), func(vnode.Message, error) { close(done) })
		<-done
		got := <-arrived
		if got.from != "n1" || got.f.To != 9 || got.f.Epoch != 41 || got.f.Timeout <= 0 || got.f.Timeout > time.Minute {
			t.Errorf("from %s: %+v", got.from, got.f)
		}
	})
}

// These requests certainly reached nobody.
func TestNotSent(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, echo)
		p.connect(t)
		tests := map[string]struct {
			node    string
			msg     vnode.Message
			timeout time.Duration
			want    string
		}{
			"a node that is not a member":  {"n9", fetch("k"), time.Minute, "n9 is not a member"},
			"this node itself":             {"n1", fetch("k"), time.Minute, "n1 is not a member"},
			"a node that is absent":        {"n3", fetch("k"), time.Minute, ""},
			"a deadline that has passed":   {"n2", fetch("k"), -1, "the deadline has passed"},
			"a key that is past its limit": {"n2", fetch(strings.Repeat("x", kv.MaxKey+1)), time.Minute, "65537 bytes"},
			"a message that stays at home": {"n2", &vnode.Coordinate{}, time.Minute, "does not travel"},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				o := await(t, ask(t, p.a, tt.node, Requests, tt.msg, tt.timeout))
				wants(t, o, ErrNotSent)
				if o.err != nil && !strings.Contains(o.err.Error(), tt.want) {
					t.Errorf("error %q; want one with %q", o.err, tt.want)
				}
			})
		}
	})
}

// A long timeout is cut to what may travel; the deadline itself holds.
func TestLongTimeout(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, echo)
		p.connect(t)
		if o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), 10*kv.MaxTimeout)); o.err != nil {
			t.Error(o.err)
		}
	})
}

// A request without an answer ends at its deadline, and an answer that comes
// later is counted as a stray.
func TestExpired(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		replies := make(chan func(vnode.Message), 32)
		p := pairIn(t, j, Config{Timing: quick}, func(_ string, _ Frame, reply func(vnode.Message)) { replies <- reply })
		p.connect(t)
		// On a busy machine a request may expire before it arrives, and is then
		// not served: it is asked again, with more time.
		asked := uint64(0)
		for timeout := 50 * time.Millisecond; len(replies) == 0; timeout *= 2 {
			asked++
			wants(t, await(t, ask(t, p.a, "n2", Requests, fetch("k"), timeout)), ErrExpired)
		}
		before := p.a.Stats().Peers[0].Strays
		(<-replies)(&vnode.Pong{})
		p.ra.await(t, "the stray is counted", func() bool { return p.a.Stats().Peers[0].Strays > before })
		if st := p.a.Stats().Peers[0]; st.Expired != asked || st.Asks != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Requests that have arrived when their node goes are lost; the next is not
// sent; when the node is back, it is heard and answers.
func TestNodeGoesAndComesBack(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		served := make(chan struct{}, 1)
		p := pairIn(t, j, Config{Timing: quick}, func(string, Frame, func(vnode.Message)) { served <- struct{}{} })
		p.connect(t)
		out := ask(t, p.a, "n2", Requests, fetch("k"), patience)
		<-served
		p.b.Close()
		wants(t, await(t, out), ErrLost)
		if err := p.ra.awaitRefused(t, "n2"); !strings.Contains(err.Error(), "node n2 at ") {
			t.Errorf("refused: %v", err)
		}
		wants(t, await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)), ErrNotSent)
		if st := p.a.Stats().Peers[0]; st.Connected || st.LastError == "" || st.Lost != 1 {
			t.Errorf("%+v", st)
		}

		p.rb = newRecorder(echo)
		p.b = member(t, j, "n2", Config{Timing: quick, Handler: p.rb})
		p.ra.await(t, "n2 is connected", func() bool { return p.a.Stats().Peers[0].Connected })
		if o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)); o.err != nil {
			t.Error(o.err)
		}
	})
}

// An absent node is refused again and again.
func TestAbsentNodeIsRefused(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		r := newRecorder(silent)
		member(t, j, "n1", Config{Timing: quick, Handler: r})
		for range 3 {
			if err := r.awaitRefused(t, "n2"); !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("refused: %v", err)
			}
		}
	})
}

// Bulk is a connection of its own, made when first asked for.
func TestBulk(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, echo)
		p.connect(t)
		wants(t, await(t, ask(t, p.a, "n2", Bulk, fetch("k"), patience)), ErrNotSent)
		l := p.a.peer("n2").links[Bulk]
		p.ra.await(t, "bulk is connected", func() bool { return l.session.Load() != nil })
		if o := await(t, ask(t, p.a, "n2", Bulk, fetch("k"), patience)); o.err != nil {
			t.Error(o.err)
		}
	})
}

// Close ends what is in progress, honestly, and what comes after it.
func TestClose(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		served := make(chan struct{}, 1)
		p := pairIn(t, j, Config{Timing: quick}, func(string, Frame, func(vnode.Message)) { served <- struct{}{} })
		p.connect(t)
		out := ask(t, p.a, "n2", Requests, fetch("k"), patience)
		<-served
		for range 2 {
			if err := p.a.Close(); err != nil {
				t.Error(err)
			}
		}
		select {
		case o := <-out:
			wants(t, o, ErrLost)
			wants(t, o, ErrClosed)
		default:
			t.Error("Close has returned and the request has no outcome")
		}
		o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience))
		wants(t, o, ErrNotSent)
		wants(t, o, ErrClosed)
	})
}

// Answers that were given before Close reach those who asked.
func TestCloseWritesAnswers(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		const n = 200
		replies := make(chan func(vnode.Message), n)
		p := pairIn(t, j, Config{Timing: quick}, func(_ string, _ Frame, reply func(vnode.Message)) { replies <- reply })
		p.connect(t)
		var outcomes []<-chan outcome
		for range n {
			outcomes = append(outcomes, ask(t, p.a, "n2", Requests, fetch("k"), patience))
		}
		for range n {
			(<-replies)(&vnode.Fetched{Object: make([]byte, 10_000)})
		}
		p.b.Close()
		for _, out := range outcomes {
			if o := await(t, out); o.err != nil {
				t.Fatal(o.err)
			}
		}
	})
}

// A reply to a connection that has gone does nothing.
func TestReplyAfterTheEnd(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		replies := make(chan func(vnode.Message), 1)
		p := pairIn(t, j, Config{Timing: quick}, func(_ string, _ Frame, reply func(vnode.Message)) { replies <- reply })
		p.connect(t)
		out := ask(t, p.a, "n2", Requests, fetch("k"), patience)
		reply := <-replies
		p.a.Close()
		p.b.Close()
		reply(&vnode.Pong{})
		wants(t, await(t, out), ErrLost)
	})
}

// An answer that cannot travel becomes a Failure.
func TestAnswerThatCannotTravel(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, answerWith(&vnode.Fetched{Object: make([]byte, kv.MaxObject+1)}))
		p.connect(t)
		o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience))
		if f, ok := o.msg.(*vnode.Failure); !ok || !strings.Contains(f.Text, "object is") {
			t.Errorf("%v, %v", o.msg, o.err)
		}
	})
}

// The largest object travels.
func TestLargestObject(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: Timing{Tick: quick.Tick, Silence: patience}}, answerWith(&vnode.Fetched{Object: make([]byte, kv.MaxObject)}))
		p.connect(t)
		o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience))
		if f, ok := o.msg.(*vnode.Fetched); !ok || len(f.Object) != kv.MaxObject {
			t.Errorf("%T, %v", o.msg, o.err)
		}
	})
}

func TestTooManyRequests(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick, MaxAsks: 3}, silent)
		p.connect(t)
		for range 3 {
			ask(t, p.a, "n2", Requests, fetch("k"), patience)
		}
		o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience))
		wants(t, o, ErrNotSent)
		if !strings.Contains(o.err.Error(), "queue full: 3 requests") {
			t.Error(o.err)
		}
	})
}

// A peer that does not read fills its own queue and stops nobody else. What
// was reported as not sent it has never seen, also when the connection breaks
// with a full queue.
func TestStalledReader(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		stalled, seen := make(chan struct{}), sync.Map{}
		release := sync.OnceFunc(func() { close(stalled) })
		slow := func(_ string, f Frame, reply func(vnode.Message)) {
			if s, ok := f.Msg.(*vnode.Store); ok {
				<-stalled
				seen.Store(s.Key.Name, true)
				return
			}
			reply(&vnode.Pong{})
		}
		p := pairIn(t, j, Config{Timing: Timing{Tick: quick.Tick, Silence: patience}, MaxQueue: 4 << 20}, slow)
		t.Cleanup(release)
		p.connect(t)
		outcomes := map[string]<-chan outcome{}
		fill := func() {
			for i := 0; i < 1000; i++ {
				name := fmt.Sprint(len(outcomes))
				m := &vnode.Store{Key: kv.Key{Bucket: "b", Name: name}, Object: make([]byte, 1<<20)}
				out := ask(t, p.a, "n2", Requests, m, patience)
				select {
				case o := <-out:
					if wants(t, o, ErrNotSent); !strings.Contains(o.err.Error(), "queue full") {
						t.Fatal(o.err)
					}
					return
				default:
					outcomes[name] = out
				}
			}
			t.Fatal("the queue never fills")
		}
		ask(t, p.a, "n2", Bulk, &vnode.Ping{}, patience)
		l := p.a.peer("n2").links[Bulk]
		p.ra.await(t, "bulk is connected", func() bool { return l.session.Load() != nil })
		const more = 12 // MiB than the wire, the stalled reader and the writer hold, so that some wait in the queue
		for len(outcomes) <= more {
			fill()
			if o := await(t, ask(t, p.a, "n2", Bulk, &vnode.Ping{}, patience)); o.err != nil {
				t.Fatalf("bulk, beside a stalled connection: %v", o.err)
			}
		}
		p.a.Close()
		release()
		p.b.Close()
		ends := map[error]int{}
		for name, out := range outcomes {
			o := await(t, out)
			_, arrived := seen.Load(name)
			switch {
			case errors.Is(o.err, ErrNotSent) && arrived:
				t.Errorf("request %s: %v; but it was served", name, o.err)
			case errors.Is(o.err, ErrNotSent):
				ends[ErrNotSent]++
			default:
				wants(t, o, ErrLost)
				ends[ErrLost]++
			}
		}
		if ends[ErrNotSent] == 0 || ends[ErrLost] == 0 {
			t.Errorf("outcomes: %v; want some of both", ends)
		}
	})
}

// Who makes large answers can wait until there is room for one more: the peer takes
// them no faster than it can, and is not cut off for that.
func TestRoomForAnswers(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		full := make(chan (<-chan struct{}), 1)
		stalls := func(_ string, f Frame, reply func(vnode.Message)) {
			if room := f.Room(); room != nil {
				select {
				case full <- room:
				default:
				}
				return
			}
			reply(&vnode.Fetched{Object: make([]byte, 1<<20)})
		}
		r := newRecorder(stalls)
		m := member(t, j, "n1", Config{Timing: Timing{Tick: quick.Tick, Silence: patience}, Handler: r, MaxQueue: 4 << 20})
		w := caller(t, j, "n1", nil)
		if _, err := w.greet(); err != nil {
			t.Fatal(err)
		}
		var room <-chan struct{}
		for i := 0; room == nil; i++ {
			w.send(t, 0, Frame{ID: uint64(i), Timeout: time.Hour, Msg: fetch("k")})
			select {
			case room = <-full:
			case <-time.After(time.Millisecond):
			}
			if i > 1000 {
				t.Fatal("there is always room")
			}
		}
		if n := len(m.open()); n != 1 {
			t.Fatalf("%d connections; want one, which is full", n)
		}
		for open := true; open; {
			if _, err := w.recv(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-room:
				open = false
			default:
			}
		}
	})
}

// A peer that asks and never takes its answers is cut off.
func TestAnswersNotTaken(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		r := newRecorder(answerWith(&vnode.Fetched{Object: make([]byte, 1<<20)}))
		m := member(t, j, "n1", Config{Timing: quick, Handler: r, MaxQueue: 4 << 20})
		w := caller(t, j, "n1", nil)
		if _, err := w.greet(); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if w.send(t, 0, Frame{ID: uint64(i), Timeout: time.Hour, Msg: fetch("k")}) != nil {
				break
			}
		}
		r.await(t, "n3 is cut off", func() bool { return len(m.open()) == 0 })
	})
}

// An idle connection stays, since each side says that it is alive; a silent
// one is closed.
func TestHeartbeats(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		p := pairIn(t, j, Config{Timing: quick}, echo)
		p.connect(t)
		before := p.a.Stats().Peers[0] // an attempt before n2 was there may have left an error
		p.ra.await(t, "n2 is heard for longer than silence may last", func() bool { return time.Since(before.Since) > 2*quick.Silence })
		if st := p.a.Stats().Peers[0]; st.Since != before.Since || st.LastError != before.LastError {
			t.Errorf("%+v, and before %+v", st, before)
		}
	})
}

// A frozen node accepts and never says anything again.
func TestFrozenNode(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		served := make(chan struct{}, 1)
		ra, rb := newRecorder(silent), newRecorder(func(string, Frame, func(vnode.Message)) { served <- struct{}{} })
		a := member(t, j, "n1", Config{Timing: quick, Handler: ra})
		mute := quick
		mute.Heartbeat = time.Hour
		member(t, j, "n2", Config{Timing: mute, Handler: rb})
		ra.await(t, "n2 is connected", func() bool { return a.Stats().Peers[0].Connected })
		out := ask(t, a, "n2", Requests, fetch("k"), patience)
		ra.await(t, "n2 is silent", func() bool {
			for _, err := range ra.refused["n2"] {
				if strings.Contains(err.Error(), "silent for 400ms") {
					return true
				}
			}
			return false
		})
		<-served
		wants(t, await(t, out), ErrLost)
	})
}

// Nodes that do not belong together refuse each other, and both know why.
func TestForeignNodes(t *testing.T) {
	tests := map[string]struct {
		c    Config
		want string // what each says of the other
	}{
		"another cluster":   {Config{Cluster: [16]byte{7}, Partitions: 64}, "is of another cluster ("},
		"another ring size": {Config{Cluster: [16]byte{1}, Partitions: 128}, "has a ring of "},
	}
	both(t, func(t *testing.T, j joiner) {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				ra, rb := newRecorder(silent), newRecorder(silent)
				a := member(t, j, "n1", Config{Cluster: [16]byte{1}, Partitions: 64, Timing: quick, Handler: ra})
				tt.c.Timing, tt.c.Handler = quick, rb
				b := member(t, j, "n2", tt.c)
				defer a.Close()
				defer b.Close()
				says := func(r *recorder, m *Mesh, node string) func() bool {
					return func() bool {
						errs := r.refused[node]
						return len(errs) > 0 && strings.Contains(errs[len(errs)-1].Error(), tt.want) &&
							strings.Contains(m.Stats().LastRejection, "node "+node+" "+tt.want)
					}
				}
				ra.await(t, "n1 knows why", says(ra, a, "n2"))
				rb.await(t, "n2 knows why", says(rb, b, "n1"))
				if ra.heard["n2"] > 0 || rb.heard["n1"] > 0 {
					t.Error("they count as heard")
				}
			})
		}
	})
}

// A caller that cannot be one of us is told why; one that says nothing that
// can be understood is cut off. The node goes on.
func TestCallers(t *testing.T) {
	tests := map[string]struct {
		change func(h *hello)
		want   string
	}{
		"a later protocol":    {func(h *hello) { h.low, h.high = 7, 8 }, "node n3 speaks protocol 7 to 8, this node 5 to 6"},
		"an earlier protocol": {func(h *hello) { h.low, h.high = 1, 1 }, "node n3 speaks protocol 1, this node 5 to 6"},
		"an unknown member":   {func(h *hello) { h.from = "n9" }, "node n9 is not a member"},
		"itself":              {func(h *hello) { h.from = "n1" }, "node n1 is not a member"},
		"one who errs":        {func(h *hello) { h.to = "n2" }, `node n3 looks for a node "n2", this is n1`},
		"one of another":      {func(h *hello) { h.cluster[3] = 1 }, "node n3 is of another cluster"},
		"one without a name":  {func(h *hello) { h.from = "" }, ""},
		"an unknown class":    {func(h *hello) { h.class = 9 }, ""},
	}
	both(t, func(t *testing.T, j joiner) {
		r := newRecorder(echo)
		m := member(t, j, "n1", Config{Timing: quick, Handler: r})
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				before := m.Stats().Rejected
				theirs, err := caller(t, j, "n1", tt.change).greet()
				if tt.want == "" && err == nil {
					t.Errorf("it is answered %+v", theirs)
				}
				if !strings.HasPrefix(theirs.refusal, tt.want) {
					t.Errorf("it is told %q, error %v; want %q", theirs.refusal, err, tt.want)
				}
				r.await(t, "the rejection is counted", func() bool { return m.Stats().Rejected > before })
			})
		}
		healthy(t, j)
	})
}

// healthy is true of n1 if it answers.
func healthy(t *testing.T, j joiner) {
	t.Helper()
	w := caller(t, j, "n1", nil)
	if h, err := w.greet(); err != nil || h.refusal != "" {
		t.Fatalf("greeted with %+v, %v", h, err)
	}
	if err := w.send(t, 0, Frame{ID: 5, Timeout: time.Hour, Msg: fetch("k")}); err != nil {
		t.Fatal(err)
	}
	if f := w.next(t); f.ID != 5 || !f.Response {
		t.Fatalf("answered with %+v", f)
	}
}

// Bytes that break the protocol end their connection and nothing else.
func TestGarbage(t *testing.T) {
	ping, err := AppendFrame(make([]byte, batchHead), &Frame{Timeout: time.Hour, Msg: &vnode.Ping{}})
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), ping...)
	damaged[batchHead+7] ^= 1
	tests := map[string][]byte{
		"a batch too short":       {1, 2},
		"zeroes":                  make([]byte, 8192),
		"a damaged frame":         damaged,
		"half a frame":            ping[:len(ping)-3],
		"bytes after a frame":     append(append([]byte(nil), ping...), 1),
		"an HTTP request":         []byte("GET / HTTP/1.1\r\n\r\n"),
		"a frame that is too big": make([]byte, maxMessage+1),
	}
	both(t, func(t *testing.T, j joiner) {
		r := newRecorder(answerWith(&vnode.Pong{}))
		member(t, j, "n1", Config{Timing: quick, Handler: r})
		for name, b := range tests {
			t.Run(name, func(t *testing.T) {
				silent := caller(t, j, "n1", nil)
				silent.raw(b)
				silent.ended(t)

				w := caller(t, j, "n1", nil)
				if _, err := w.greet(); err != nil {
					t.Fatal(err)
				}
				w.raw(b)
				w.ended(t)
			})
		}
		healthy(t, j)
	})
}

// Requests that are not carried out are refused with the reason.
func TestRefusals(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		member(t, j, "n1", Config{Timing: quick, Handler: newRecorder(echo)})
		w := caller(t, j, "n1", nil)
		if _, err := w.greet(); err != nil {
			t.Fatal(err)
		}
		code := func(what string, want vnode.Code) {
			t.Helper()
			f := w.next(t)
			if r, ok := f.Msg.(*vnode.Refusal); !ok || r.Code != want {
				t.Errorf("%s: %+v", what, f.Msg)
			}
		}
		if err := w.send(t, 0, Frame{ID: 1, Msg: fetch("k")}); err != nil {
			t.Fatal(err)
		}
		code("a request without time", vnode.CodeExpired)
		if err := w.send(t, 2000, Frame{ID: 2, Timeout: 2 * time.Second, Msg: fetch("k")}); err != nil {
			t.Fatal(err)
		}
		code("a request whose time has passed in the queue", vnode.CodeExpired)
		w.raw(append(make([]byte, batchHead), sealed(0x33, []byte("of a later version"))...))
		code("an unknown kind", vnode.CodeUnsupported)
	})
}

// An answer of a kind that this node does not know ends the request: something
// may have been done.
func TestUnknownAnswer(t *testing.T) {
	s, outcome := lonelySession(t)
	b := append(make([]byte, batchHead), sealed(answerBit|0x33, nil)...)
	answers, err := s.receive(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	answers[0].id = 1
	s.settle(answers)
	wants(t, await(t, outcome), ErrLost)
}

// Requests do not come on a connection that this node has made.
func TestRequestOnAnsweringSide(t *testing.T) {
	s, _ := lonelySession(t)
	b, err := AppendFrame(make([]byte, batchHead), &Frame{Timeout: time.Hour, Msg: &vnode.Ping{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.receive(b, nil); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
}

// A process that stood still has heard nobody, which proves nothing.
func TestSilenceWhileAsleep(t *testing.T) {
	s, outcome := lonelySession(t)
	now := time.Now()
	later := now.Add(time.Hour)
	s.tick(later, later)
	if s.cause != nil {
		t.Fatalf("ended: %v", s.cause)
	}
	s.tick(later, now)
	if s.cause == nil {
		t.Fatal("goes on")
	}
	wants(t, await(t, outcome), ErrNotSent)
}

// lonelySession has one request and nobody who writes or reads.
func lonelySession(t *testing.T) (*session, <-chan outcome) {
	m, err := newMesh(Config{Self: "n1", Peers: map[string]Peer{"n2": {}}, Handler: newRecorder(silent)})
	if err != nil {
		t.Fatal(err)
	}
	near := &pipe{ends: &ends{over: make(chan struct{}), forget: func() {}}}
	s := newSession(m, m.peer("n2"), hello{from: "n2", low: lowProtocol, high: highProtocol}, near)
	s.dialled = true
	out := make(chan outcome, 1)
	s.ask(Frame{Msg: fetch("k")}, time.Now().Add(10*time.Hour), func(m vnode.Message, err error) { out <- outcome{m, err} })
	return s, out
}

// Young and small frames share a batch.
func TestBatches(t *testing.T) {
	s, _ := lonelySession(t)
	born := s.batches[0].born
	add := func(after time.Duration, size int) {
		f := Frame{Msg: &vnode.Store{Key: kv.Key{Bucket: "b", Name: "k"}, Object: make([]byte, size)}}
		b, err := encodeBatch(&f)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.push(b, born.Add(after), 0, pending{}); err != nil {
			t.Fatal(err)
		}
	}
	add(maxBatchAge-1, 10)
	add(maxBatchAge, 10)
	add(maxBatchAge, maxBatch)
	add(maxBatchAge, 10)
	var frames []uint64
	total := 0
	for _, b := range s.batches {
		frames = append(frames, b.frames)
		total += len(*b.b)
	}
	if fmt.Sprint(frames) != "[2 1 1 1]" || total != s.queued {
		t.Errorf("frames in batches: %v; %d bytes, counted as %d", frames, total, s.queued)
	}
	if b, ok := s.take(); !ok || b.frames != 2 || s.taken != 1 {
		t.Errorf("took %d frames as batch %d", b.frames, s.taken)
	}
}

func TestConfigErrors(t *testing.T) {
	r := newRecorder(silent)
	tests := map[string]struct {
		c    Config
		want string
	}{
		"no handler":        {Config{Self: "n1"}, "no Handler"},
		"no name":           {Config{Handler: r}, "name"},
		"a long name":       {Config{Self: strings.Repeat("x", 256), Handler: r}, "256 bytes"},
		"a nameless peer":   {Config{Self: "n1", Handler: r, Peers: map[string]Peer{"": {}}}, "name of a peer"},
		"a peer of itself":  {Config{Self: "n1", Handler: r, Peers: map[string]Peer{"n1": {}}}, "peer of itself"},
		"a long address":    {Config{Self: "n1", Handler: r, Advertise: strings.Repeat("x", maxAddress+1)}, "513 bytes"},
		"no such interface": {Config{Self: "n1", Handler: r, Listen: "192.0.2.1:1"}, "192.0.2.1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Listen(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
}

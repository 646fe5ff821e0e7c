package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/internal/vnode"
)

// welcoming answers at the door as a node does.
func welcoming(f Frame, reply func(vnode.Message)) {
	switch m := f.Msg.(type) {
	case *Knock:
		reply(&Welcome{Name: "n1", Cluster: [16]byte{1}, Partitions: 64, State: []byte("hello " + m.Name)})
	case *Propose:
		reply(&Proposed{Code: "refused", Text: string(m.Command)})
	case *StateAsk:
		reply(&StateGive{State: make([]byte, m.Have)})
	}
}

// doorkeeper joins n1 with a way to answer at the door.
func doorkeeper(t *testing.T, j joiner, timing Timing, door func(Frame, func(vnode.Message))) (*Mesh, *recorder) {
	t.Helper()
	r := newRecorder(echo)
	r.door = door
	return member(t, j, "n1", Config{Timing: timing, Handler: r, Cluster: [16]byte{1}, Partitions: 64}), r
}

// knockAt asks n1 one question.
func knockAt(t *testing.T, j joiner, m vnode.Message) (vnode.Message, error) {
	t.Helper()
	return j.knock(t.Context(), j.address("n1"), KnockConfig{Self: "n9"}, Frame{Msg: m})
}

// stranger connects to n1's door.
func stranger(t *testing.T, j joiner) *rawCaller {
	t.Helper()
	return caller(t, j, "n1", func(h *hello) { h.class, h.from, h.to = Door, "n9", "" })
}

// atDoor is true of n1 if a stranger is answered.
func atDoor(t *testing.T, j joiner) {
	t.Helper()
	if m, err := knockAt(t, j, &StateAsk{Have: 3}); err != nil || len(m.(*StateGive).State) != 3 {
		t.Errorf("%+v, %v", m, err)
	}
}

// One who is not a member, and knows neither the cluster nor the node's name,
// is answered at the door.
func TestKnock(t *testing.T) {
	tests := map[string]struct{ ask, want vnode.Message }{
		"a Knock":                 {&Knock{Name: "n9"}, &Welcome{Name: "n1", Cluster: [16]byte{1}, Partitions: 64, State: []byte("hello n9")}},
		"a Propose":               {&Propose{ID: [16]byte{3}, Command: []byte("join")}, &Proposed{Code: "refused", Text: "join"}},
		"a large Propose":         {&Propose{Command: make([]byte, maxCommand)}, &Proposed{Code: "refused", Text: string(make([]byte, maxText))}},
		"a StateAsk":              {&StateAsk{Have: 5}, &StateGive{State: make([]byte, 5)}},
		"a StateAsk for too much": {&StateAsk{Have: maxState + 1}, &vnode.Failure{Code: vnode.CodeInternal, Text: "encode *transport.StateGive: state is 16777217 bytes long; the limit is 16777216"}},
	}
	both(t, func(t *testing.T, j joiner) {
		doorkeeper(t, j, quick, welcoming)
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				got, err := knockAt(t, j, tt.ask)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
		if m, err := knockAt(t, j, &StateAsk{Have: maxState}); err != nil || len(m.(*StateGive).State) != maxState {
			t.Errorf("the largest state: %T, %v", m, err)
		}
	})
}

// What the handler learns of a question at the door.
func TestKnockCarries(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		arrived := make(chan Frame, 1)
		doorkeeper(t, j, quick, func(f Frame, reply func(vnode.Message)) {
			arrived <- f
			reply(&Welcome{Name: "first"})
			reply(&Welcome{Name: "second"})
		})
		m, err := j.knock(t.Context(), j.address("n1"), KnockConfig{Self: "n9"}, Frame{Epoch: 8, Timeout: 3 * time.Second, Msg: &Knock{Name: "n9"}})
		if err != nil || m.(*Welcome).Name != "first" {
			t.Errorf("%+v, %v", m, err)
		}
		if f := <-arrived; f.Epoch != 8 || f.Timeout <= 0 || f.Timeout > 3*time.Second {
			t.Errorf("%+v", f)
		}
	})
}

// These questions certainly reached nobody.
func TestKnockNotSent(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		doorkeeper(t, j, quick, welcoming)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		tests := map[string]struct {
			ctx     context.Context
			address string
			c       KnockConfig
			m       vnode.Message
			want    string
		}{
			"nobody is there":          {t.Context(), j.elsewhere(), KnockConfig{Self: "n9"}, &Knock{}, "connection refused"},
			"another cluster":          {t.Context(), j.address("n1"), KnockConfig{Self: "n9", Cluster: [16]byte{2}}, &Knock{}, "is of another cluster"},
			"no name":                  {t.Context(), j.address("n1"), KnockConfig{}, &Knock{}, "the name of who knocks"},
			"a message of members":     {t.Context(), j.address("n1"), KnockConfig{Self: "n9"}, fetch("k"), "does not go through the door"},
			"no message":               {t.Context(), j.address("n1"), KnockConfig{Self: "n9"}, nil, "does not go through the door"},
			"a command past its limit": {t.Context(), j.address("n1"), KnockConfig{Self: "n9"}, &Propose{Command: make([]byte, maxCommand+1)}, "command is"},
			"a deadline in the past":   {over, j.address("n1"), KnockConfig{Self: "n9"}, &Knock{}, "the deadline has passed"},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				m, err := j.knock(tt.ctx, tt.address, tt.c, Frame{Msg: tt.m})
				wants(t, outcome{m, err}, ErrNotSent)
				if err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %q; want one with %q", err, tt.want)
				}
			})
		}
	})
}

// A question that is not answered ends with its time, and one whose node goes
// is lost.
func TestKnockWithoutAnswer(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		knocked := make(chan struct{}, 1)
		m, _ := doorkeeper(t, j, quick, func(f Frame, _ func(vnode.Message)) {
			if f.Msg.(*Knock).Name == "second" {
				knocked <- struct{}{}
			}
		})
		got, err := j.knock(t.Context(), j.address("n1"), KnockConfig{Self: "n9"}, Frame{Timeout: 200 * time.Millisecond, Msg: &Knock{Name: "first"}})
		if err == nil || errors.Is(err, ErrLost) {
			t.Errorf("%v, %v; want %v", got, err, ErrExpired) // or not sent, where 200 ms are too short to connect
		}
		out := make(chan outcome, 1)
		go func() {
			got, err := knockAt(t, j, &Knock{Name: "second"})
			out <- outcome{got, err}
		}()
		<-knocked
		m.Close()
		wants(t, await(t, out), ErrLost)
	})
}

// At the door only those hellos and questions pass that are meant for it.
func TestWhatDoesNotPassTheDoor(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		doorkeeper(t, j, quick, welcoming)
		for name, tt := range map[string]struct {
			change func(h *hello)
			want   string
		}{
			"no cluster, for requests": {func(h *hello) { h.cluster, h.class = [16]byte{}, Requests }, "is of another cluster"},
			"no cluster, for bulk":     {func(h *hello) { h.cluster, h.class = [16]byte{}, Bulk }, "is of another cluster"},
			"one who errs":             {func(h *hello) { h.class, h.to = Door, "n2" }, `looks for a node "n2", this is n1`},
			"a later protocol":         {func(h *hello) { h.class, h.low, h.high = Door, 7, 7 }, "speaks protocol 7, this node 5 to 6"},
		} {
			t.Run(name, func(t *testing.T) {
				theirs, err := caller(t, j, "n1", tt.change).greet()
				if err != nil || !strings.Contains(theirs.refusal, tt.want) {
					t.Errorf("it is told %q, %v; want %q", theirs.refusal, err, tt.want)
				}
			})
		}
		for name, b := range map[string][]byte{
			"a request of members": mustEncode(t, &Frame{ID: 1, Timeout: time.Hour, Msg: fetch("k")}),
			"an unknown kind":      sealed(0x33, []byte("later")),
			"no question":          nil,
		} {
			t.Run(name, func(t *testing.T) {
				w := stranger(t, j)
				if _, err := w.greet(); err != nil {
					t.Fatal(err)
				}
				w.raw(append(make([]byte, batchHead), b...))
				if r, ok := w.next(t).Msg.(*vnode.Refusal); !ok || r.Code != vnode.CodeUnsupported {
					t.Errorf("%+v", r)
				}
				w.ended(t)
			})
		}
		w := stranger(t, j)
		if _, err := w.greet(); err != nil {
			t.Fatal(err)
		}
		if err := w.send(t, 5000, Frame{ID: 1, Timeout: time.Second, Msg: &Knock{}}); err != nil {
			t.Fatal(err)
		}
		if r, ok := w.next(t).Msg.(*vnode.Refusal); !ok || r.Code != vnode.CodeExpired {
			t.Errorf("%+v", r)
		}
	})
}

func mustEncode(t *testing.T, f *Frame) []byte {
	t.Helper()
	b, err := AppendFrame(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever comes to the door, the node goes on.
func TestGarbageAtTheDoor(t *testing.T) {
	knock := mustEncode(t, &Frame{ID: 1, Timeout: time.Hour, Msg: &Knock{}})
	head := make([]byte, batchHead)
	tests := map[string][]byte{
		"nothing":          {},
		"a short batch":    {1, 2, 3},
		"zeroes":           make([]byte, 8192),
		"a damaged frame":  append(append(head[:batchHead:batchHead], knock[:9]...), 1, 2, 3),
		"two questions":    append(append(head[:batchHead:batchHead], knock...), knock...),
		"an answer":        append(head[:batchHead:batchHead], mustEncode(t, &Frame{ID: 1, Response: true, Msg: &vnode.Pong{}})...),
		"an unknown reply": append(head[:batchHead:batchHead], sealed(answerBit|0x33, nil)...),
		"a flood":          make([]byte, 4<<20),
	}
	both(t, func(t *testing.T, j joiner) {
		m, r := doorkeeper(t, j, quick, welcoming)
		for name, b := range tests {
			t.Run(name, func(t *testing.T) {
				w := stranger(t, j)
				if _, err := w.greet(); err != nil {
					t.Fatal(err)
				}
				w.raw(b)
				w.ended(t)
			})
		}
		r.await(t, "all have gone", func() bool { return m.callers.Load() == 0 })
		atDoor(t, j)
	})
}

// Callers who stay at the door keep only each other waiting, and not for long:
// past their number the next is told, and there is room when their time is
// over.
func TestCrowdAtTheDoor(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		timing := quick
		timing.Door = 500 * time.Millisecond
		m, r := doorkeeper(t, j, timing, welcoming)
		var crowd []*rawCaller
		for range maxCallers {
			w := stranger(t, j)
			if h, err := w.greet(); err != nil || h.refusal != "" {
				t.Fatalf("%q, %v", h.refusal, err)
			}
			crowd = append(crowd, w)
		}
		got, err := knockAt(t, j, &StateAsk{})
		if m.callers.Load() == maxCallers { // else the first have gone already
			wants(t, outcome{got, err}, ErrNotSent)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("refuses this node: node n9 comes when there are %d others at the door", maxCallers)) {
				t.Error(err)
			}
		}
		for _, w := range crowd {
			w.ended(t)
		}
		r.await(t, "all have gone", func() bool { return m.callers.Load() == 0 })
		atDoor(t, j)
	})
}

// A caller who leaves makes room at once, though the handler still thinks.
func TestCallerLeaves(t *testing.T) {
	both(t, func(t *testing.T, j joiner) {
		knocked := make(chan struct{}, 1)
		m, r := doorkeeper(t, j, quick, func(Frame, func(vnode.Message)) { knocked <- struct{}{} })
		w := stranger(t, j)
		if _, err := w.greet(); err != nil {
			t.Fatal(err)
		}
		if err := w.send(t, 0, Frame{ID: 1, Timeout: time.Hour, Msg: &Knock{}}); err != nil {
			t.Fatal(err)
		}
		<-knocked
		began := time.Now()
		w.release()
		r.await(t, "it has gone", func() bool { return m.callers.Load() == 0 })
		if took := time.Since(began); took > doorTime/2 {
			t.Errorf("after %v", took)
		}
	})
}

// More than a hello may not come before it is known who speaks.
func TestFloodBeforeTheHello(t *testing.T) {
	j := networks[0].open()
	m, r := doorkeeper(t, j, quick, welcoming)
	w := caller(t, j, "n1", nil)
	w.raw(make([]byte, 8<<20))
	w.ended(t)
	r.await(t, "the rejection is counted", func() bool {
		return strings.Contains(m.Stats().LastRejection, "a caller sends no hello")
	})
	atDoor(t, j)
}

// The door is behind the same TLS as the rest.
func TestDoorTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	j := networks[0].open()
	r := newRecorder(echo)
	r.door = welcoming
	member(t, j, "n1", Config{Timing: quick, Handler: r, TLS: ca.config(t, later, ca)})
	ask := func(c KnockConfig) error {
		_, err := j.knock(t.Context(), j.address("n1"), c, Frame{Timeout: patience, Msg: &Knock{}})
		return err
	}
	if err := ask(KnockConfig{Self: "n9", TLS: ca.config(t, later, ca)}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]KnockConfig{
		"plain":             {Self: "n9"},
		"another authority": {Self: "n9", TLS: other.config(t, later, ca, other)},
		"not trusted":       {Self: "n9", TLS: ca.config(t, later, other)},
	} {
		wants(t, outcome{err: ask(c)}, ErrNotSent)
		if err := ask(c); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
}

// FuzzQuestion gives the door any batch.
func FuzzQuestion(f *testing.F) {
	for _, e := range examples() {
		b, err := AppendFrame(make([]byte, batchHead), &e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := question(b)
		if err == nil && (q.Response || q.Msg != nil && kindOf(q.Msg).answer()) {
			t.Fatalf("an answer as a question: %+v", q)
		}
	})
}

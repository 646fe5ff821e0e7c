package transport

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
)

// A cut breaks connections and refuses new ones; heal undoes it.
func TestCutBothWays(t *testing.T) {
	net := NewMemory()
	served := make(chan struct{}, 1)
	p := pairIn(t, &memory{net: net}, Config{Timing: quick}, func(string, Frame, func(vnode.Message)) { served <- struct{}{} })
	p.connect(t)
	out := ask(t, p.a, "n2", Requests, fetch("k"), patience)
	<-served
	net.Cut("n1", "n2", true)
	wants(t, await(t, out), ErrLost)
	for _, r := range []struct {
		*recorder
		other string
	}{{p.ra, "n2"}, {p.rb, "n1"}} {
		r.await(t, r.other+" cannot be reached", func() bool {
			errs := r.refused[r.other]
			return len(errs) > 0 && strings.Contains(errs[len(errs)-1].Error(), "connection refused")
		})
	}
	net.Heal()
	p.connect(t)
}

// A cut in one direction is noticed by the silence of the other.
func TestCutOneWay(t *testing.T) {
	net := NewMemory()
	p := pairIn(t, &memory{net: net}, Config{Timing: quick}, echo)
	p.connect(t)
	p.ra.await(t, "n2 is connected", func() bool { return p.a.Stats().Peers[0].Connected })
	net.Cut("n2", "n1", false)
	wants(t, await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)), ErrLost)
	p.ra.await(t, "n2 sends no hello any more", func() bool {
		errs := p.ra.refused["n2"]
		return len(errs) > 0 && strings.Contains(errs[len(errs)-1].Error(), "sends no hello in time")
	})
	net.Heal()
	p.connect(t)
}

func TestJoinTwice(t *testing.T) {
	j := &memory{net: NewMemory()}
	m := member(t, j, "n1", Config{Handler: newRecorder(silent)})
	if _, err := j.join("n1", Config{Handler: newRecorder(silent)}); err == nil {
		t.Error("n1 is there twice")
	}
	m.Close()
	member(t, j, "n1", Config{Handler: newRecorder(silent)})
}

// Whatever breaks while many ask: each request has exactly one outcome, and
// none that was reported as not sent was served.
func TestOutcomesAreHonest(t *testing.T) {
	net := NewMemory()
	served := sync.Map{}
	p := pairIn(t, &memory{net: net}, Config{Timing: quick}, func(_ string, f Frame, reply func(vnode.Message)) {
		served.Store(f.Msg.(*vnode.Fetch).Key.Name, true)
		reply(&vnode.Pong{})
	})
	p.connect(t)

	var mu sync.Mutex
	outcomes := map[string][]error{}
	var all, askers sync.WaitGroup
	for g := range 4 {
		askers.Go(func() {
			for i := range 3000 {
				name := fmt.Sprint(g, " ", i)
				all.Add(1)
				p.a.Ask("n2", Requests, Frame{Msg: fetch(name)}, time.Now().Add(patience), func(_ vnode.Message, err error) {
					mu.Lock()
					outcomes[name] = append(outcomes[name], err)
					mu.Unlock()
					all.Done()
				})
			}
		})
	}
	for range 20 {
		net.Cut("n1", "n2", true)
		net.Heal()
		p.ra.awaitHeard(t, "n2")
	}
	askers.Wait()
	all.Wait()
	p.b.Close()

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
	if len(outcomes) != 12000 {
		t.Errorf("%d outcomes: %v", len(outcomes), count)
	}
}

package membership_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/storage"
)

// TestGivenStateIsShownAfterARestart: a node that has gone by a state which
// another one gave it goes by none that is older when it begins again.
func TestGivenStateIsShownAfterARestart(t *testing.T) {
	first := cluster8(t, "n1", "n2", "n3")
	newer := first.Apply(membership.CommandID{1}, membership.Set{Key: "a", Value: "1"})
	other := cluster8(t, "n1", "n2", "n4").Apply(membership.CommandID{2}, membership.Noop{})
	for _, c := range []struct {
		name  string
		given *membership.State
		want  uint64
	}{
		{"nothing was given", nil, first.Epoch()},
		{"a newer one", newer, newer.Epoch()},
		{"an older one", first, first.Epoch()},
		{"one of another cluster", other.Jump(10), first.Epoch()},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := storage.NewMemory()
			log, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, store, first)
			if err != nil {
				t.Fatal(err)
			}
			b := log.Init()
			if c.given != nil {
				membership.KeepGiven(&b, c.given)
			}
			if _, err := store.Apply(&b, true); err != nil {
				t.Fatal(err)
			}
			if log, err = membership.OpenLog(membership.LogOptions{Self: "n1"}, store, nil); err != nil {
				t.Fatal(err)
			}
			if got := log.State().Epoch(); got != c.want {
				t.Errorf("begins with epoch %d, want %d", got, c.want)
			}
		})
	}
}

// TestDamagedGivenStateIsNotGoneBy: what fails its checksum is an error.
func TestDamagedGivenStateIsNotGoneBy(t *testing.T) {
	first := cluster8(t, "n1")
	store := storage.NewMemory()
	log, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, store, first)
	if err != nil {
		t.Fatal(err)
	}
	b := log.Init()
	membership.KeepGiven(&b, first.Jump(1))
	last := &b.Ops[len(b.Ops)-1]
	last.Value[len(last.Value)/2] ^= 1
	if _, err := store.Apply(&b, true); err != nil {
		t.Fatal(err)
	}
	if _, err := membership.OpenLog(membership.LogOptions{Self: "n1"}, store, nil); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("opened: %v", err)
	}
}

func cluster8(t *testing.T, names ...string) *membership.State {
	t.Helper()
	var members []membership.Member
	for _, name := range names {
		members = append(members, membership.Member{Name: name})
	}
	s, err := membership.Bootstrap(members, 8, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRecoveryKeepsWhatTheNodeWasGiven: a state that another node has given is
// committed, and this one has gone by it; a recovery from it falls behind no such
// state, and leaves out what its own log has in the place of it.
func TestRecoveryKeepsWhatTheNodeWasGiven(t *testing.T) {
	for _, c := range []struct {
		name  string
		alone bool // it has a command that nobody else has heard of
	}{
		{"its log lags behind", false},
		{"its log has come to something else", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, 15, weather{}, numbered(3)...)
			one := n.elect()
			n.cut = func(from, to string) bool { return from == one || to == one }
			if c.alone {
				n.set(one, 1)
			}
			n.until("it has given up", func() bool { return n.nodes[one].log.Leader() == "" })
			other := n.names[(slices.Index(n.names, one)+1)%3]
			n.carriedOut(other, n.set(other, 2))
			given := n.nodes[other].log.State()
			var b storage.Batch
			membership.KeepGiven(&b, given)
			n.durable(n.nodes[one], &b)

			n.crash(one, 0)
			_, got, err := membership.Recover(n.nodes[one].disk, one, []string{one})
			if err != nil {
				t.Fatal(err)
			}
			if want := given.Jump(1 << 20); !bytes.Equal(got.Encode(), want.Encode()) {
				t.Errorf("goes on from\n%s\nwant\n%s", got.Encode(), want.Encode())
			}
		})
	}
}

// TestRecoveryGoesOnAfterWhatWasGiven: a log that has come further than the
// state that was given counts as a whole.
func TestRecoveryGoesOnAfterWhatWasGiven(t *testing.T) {
	n := newNetwork(t, 16, weather{}, numbered(3)...)
	one := n.elect()
	n.carriedOut(one, n.set(one, 1))
	var b storage.Batch
	membership.KeepGiven(&b, n.nodes[one].log.State())
	n.durable(n.nodes[one], &b)
	n.carriedOut(one, n.set(one, 2))
	want := n.nodes[one].log.State().Jump(1 << 20)
	n.crash(one, 0)
	_, got, err := membership.Recover(n.nodes[one].disk, one, []string{one})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), want.Encode()) {
		t.Errorf("goes on from\n%s\nwant\n%s", got.Encode(), want.Encode())
	}
}

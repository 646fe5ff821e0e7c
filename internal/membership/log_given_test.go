package membership_test

import (
	"errors"
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

package membership_test

import (
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/storage"
)

// shownBy are lives in which all of the nodes have shown an epoch.
func shownBy(epoch uint64, nodes ...string) map[string]membership.Lives {
	lives := make(map[string]membership.Lives)
	for i, node := range nodes {
		lives[node] = membership.Lives{Now: uint64(i + 1), Since: epoch}
	}
	return lives
}

// TestMarksAndReapings: a mark is at its own epoch, and is reaped when every member has
// shown that, whoever it is.
func TestMarksAndReapings(t *testing.T) {
	s := must(t, cluster(t, 3, 16), membership.Mark{})
	mark := s.Epoch()
	if s.Mark() != mark || s.Fence() != mark || s.Reaped() != 0 {
		t.Fatalf("mark %d, fence %d, reaped %d at %d", s.Mark(), s.Fence(), s.Reaped(), s.Epoch())
	}
	if s = must(t, s, membership.Mark{After: mark - 1}); s.Mark() != mark {
		t.Errorf("a mark that is new enough was replaced by %d", s.Mark())
	}
	lives := shownBy(mark, "n1", "n2", "n3")
	late := shownBy(mark, "n1", "n2", "n3")
	late["n2"] = membership.Lives{Now: 9, Since: mark - 1, Before: mark}
	for name, ok := range map[string]bool{
		"all have shown it": true, "one is down": false, "one has shown it only in a life before": false, "one was never heard": false, "one is marked down": false,
	} {
		s, lives, up := s, lives, everybody
		switch name {
		case "one is down":
			up = func(node string) bool { return node != "n3" }
		case "one has shown it only in a life before":
			lives = late
		case "one was never heard":
			lives = shownBy(mark, "n1", "n2")
		case "one is marked down":
			s = must(t, s, membership.Down{Name: "n3"})
		}
		if _, can := s.Reapable(lives, up); can != ok {
			t.Errorf("%s: it can be reaped: %t", name, can)
		}
	}
	c, _ := s.Reapable(lives, everybody)
	s = must(t, s, c)
	if s.Reaped() != mark || s.Fence() != s.Epoch() {
		t.Errorf("reaped %d, fence %d at %d", s.Reaped(), s.Fence(), s.Epoch())
	}
	if reaped, life := s.LastReaping("n2"); reaped != mark || life != 2 {
		t.Errorf("n2 has shown %d in life %d", reaped, life)
	}
	if _, can := s.Reapable(lives, everybody); can {
		t.Error("it can be reaped twice")
	}
	again, err := membership.DecodeState(s.Encode())
	if err != nil || again.Mark() != s.Mark() || again.Reaped() != s.Reaped() || again.Fence() != s.Fence() || again.OutOfDate("n2", 2, 1) {
		t.Errorf("%v, %v", again, err)
	}
	for name, bad := range map[string]membership.Reaped{
		"an old mark": c, "one that is to come": {Mark: s.Epoch() + 5, Lives: c.Lives}, "without a member": {Mark: mark + 1, Lives: c.Lives[:2]},
	} {
		before := must(t, s, membership.Mark{After: s.Epoch()})
		if name == "without a member" {
			bad.Mark = before.Mark()
		}
		id := membership.CommandID{1}
		after := before.Apply(id, bad)
		if err, known := after.Result(id); !known || err == nil || after.Reaped() != mark {
			t.Errorf("%s: %v, reaped %d", name, err, after.Reaped())
		}
	}
}

// TestOutOfDate: who begins a life before a reaping, and was not there, is told by the
// topology alone.
func TestOutOfDate(t *testing.T) {
	s := must(t, cluster(t, 3, 16), membership.Mark{})
	mark := s.Epoch()
	c, _ := s.Reapable(shownBy(mark, "n1", "n2", "n3"), everybody)
	s = must(t, s, c)
	for _, x := range []struct {
		name        string
		life, began uint64
		want        bool
	}{
		{"the life in which it has shown the mark", 2, mark - 1, false},
		{"a later one", 7, mark, false},
		{"one of an older disk", 7, mark - 1, true},
	} {
		if got := s.OutOfDate("n2", x.life, x.began); got != x.want {
			t.Errorf("%s: %t", x.name, got)
		}
	}
}

// TestALifeThatEndsOutOfDateIsNotForgotten: a crash between the moment when a node learns of the
// reaping and the erasing of its data leaves the next life to do that.
func TestALifeThatEndsOutOfDateIsNotForgotten(t *testing.T) {
	first := cluster(t, 3, 16)
	engine := storage.NewMemory()
	begin := func(life uint64, s *membership.State) uint64 {
		t.Helper()
		l, b, err := membership.BeginLife(engine, "n2", life, 0, s)
		if err == nil {
			_, err = engine.Apply(&b, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.Number != life {
			t.Errorf("life %d has the number %d", life, l.Number)
		}
		return l.Began
	}
	if began := begin(11, first); began != first.Epoch() {
		t.Errorf("the first life begins with %d", began)
	}
	s := must(t, first, membership.Mark{})
	c, _ := s.Reapable(shownBy(s.Epoch(), "n1", "n2", "n3"), everybody)
	s = must(t, s, c)
	if began := begin(12, s); began != first.Epoch() || !s.OutOfDate("n2", 12, began) {
		t.Errorf("the life after one that was out of date begins with %d", began)
	}
	if began := begin(13, s); !s.OutOfDate("n2", 13, began) {
		t.Errorf("and the next with %d", began)
	}
	var b storage.Batch
	membership.KeepLife(&b, membership.Life{Number: 13, Began: s.Reaped()})
	if _, err := engine.Apply(&b, true); err != nil {
		t.Fatal(err)
	}
	if began := begin(14, s); s.OutOfDate("n2", 14, began) {
		t.Errorf("what was mended begins with %d", began)
	}
}

func TestTheSettingsOfDeletes(t *testing.T) {
	s := cluster(t, 3, 16)
	if grace, on := s.Reaps(); grace != 10*time.Minute || !on {
		t.Errorf("without settings: %v, %t", grace, on)
	}
	s = must(t, s, membership.Set{Key: membership.DeleteGrace, Value: "90s"}, membership.Set{Key: membership.DeleteMode, Value: membership.DeleteKeep})
	if grace, on := s.Reaps(); grace != 90*time.Second || on {
		t.Errorf("%v, %t", grace, on)
	}
	for key, values := range map[string][]string{
		membership.DeleteGrace: {"5", "10ms", "-1h", "9000h", "soon"}, membership.DeleteMode: {"never", "REAP"},
	} {
		for _, value := range values {
			id := membership.CommandID{1}
			if err, _ := s.Apply(id, membership.Set{Key: key, Value: value}).Result(id); err == nil {
				t.Errorf("%s can be %q", key, value)
			}
		}
	}
}

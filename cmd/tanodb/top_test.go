package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/view"
)

// topSnapshot is a cluster of two nodes, of which n2 is down, after so many gets on n1.
func topSnapshot(at time.Time, gets uint64) view.Snapshot {
	return view.Snapshot{
		At: at,
		Cluster: tanodb.ClusterState{
			Node: "n1", Partitions: 8, Replicas: 3, Epoch: 4, Owners: []string{"n1", "n2"}, Next: []string{"", "n1"},
			Members:   []tanodb.ClusterMember{{Name: "n1", Status: "valid", Up: true, Partitions: 4, Pending: 5}, {Name: "n2", Status: "valid", Partitions: 4, Pending: 3, Since: 5 * time.Second}},
			Transfers: []tanodb.TransferState{{Kind: "ownership", ID: 9, Index: 1, From: "n2", To: "n1", Phase: "copying"}},
		},
		Nodes: []tanodb.NodeState{
			{
				Node: "n1", Loads: []tanodb.Load{{Op: "get", Count: gets, Bounds: []float64{0.001}, Within: []uint64{gets}}},
				Work: []tanodb.TransferState{
					{Kind: "fill", ID: 9, Index: 1, From: "n2", To: "n1", Homes: 3, HomesDone: 1, Objects: 5, Bytes: 2048},
					{Kind: "drain", Index: 0, From: "n1", To: "n2", Phase: "waits for n2", Homes: 2},
				},
				Status: tanodb.Status{Storage: tanodb.StorageState{Bytes: 1 << 20}, Tombstones: tanodb.TombstoneState{Count: 6}},
				Repair: tanodb.RepairState{Pairs: 10, Due: 4},
			},
			{Node: "n2", Error: "the node is down"},
		},
	}
}

// seen is a model after two looks a second apart, in which 100 gets came.
func seen(t *testing.T) topModel {
	t.Helper()
	m := newTopModel("", time.Second, func() tea.Msg { return nil })
	begun := time.Unix(1_900_000_000, 0)
	for i := range 2 {
		next, cmd := m.Update(sawMsg{snapshot: topSnapshot(begun.Add(time.Duration(i)*time.Second), uint64(100*i))})
		if cmd == nil {
			t.Fatal("after a look nothing comes")
		}
		m = next.(topModel)
	}
	return m
}

// press gives a model a key.
func press(m topModel, text string) (topModel, tea.Cmd) {
	next, cmd := m.Update(tea.KeyPressMsg{Text: text, Code: []rune(text)[0]})
	return next.(topModel), cmd
}

func TestTopFrame(t *testing.T) {
	frame := seen(t).frame(plainStyles())
	for _, want := range []string{
		"TanoDB · seen by n1 · 1 of 2 members up · 8 partitions, 3 copies · epoch 4\n",
		"WARNING n2 is down. Others stand in for its 4 partitions",
		"  Start it again",
		"MEMBER  STATE  SINCE  ZONE  PARTITIONS  DISK     CLOCK  REQUESTS\n",
		"n1      up     0s     -     4 → 5       1.0 MiB  +0ms   0\n",
		"n2      down   5s     -     4 → 3       -        -      -\n",
		"get        100.0       0.0     500µs  990µs\n",
		"1         n2    n1  copying  1/3   5        2.0 KiB  0 B/s\n",
		"n2         n1       2       waits for n2  0 objects, 0 B\n",
		"n1      6/10",
		"n2      down: not known\n",
	} {
		if !strings.Contains(frame+"\n", want) {
			t.Errorf("no %q in\n%s", want, frame)
		}
	}
	if strings.Contains(frame, "\x1b") {
		t.Error("a plain frame has colours")
	}
}

func TestTopBeginsAndFails(t *testing.T) {
	m := newTopModel("", time.Second, func() tea.Msg { return sawMsg{} })
	if _, ok := m.Init()().(sawMsg); !ok {
		t.Error("it does not begin with a look")
	}
	if frame := m.frame(plainStyles()); frame != "TanoDB\nlooking …" {
		t.Errorf("it begins with %q", frame)
	}
	next, _ := seen(t).Update(sawMsg{err: errors.New("cannot reach it")})
	frame := next.(topModel).frame(plainStyles())
	if !strings.Contains(frame, "what you see is old: cannot reach it") || !strings.Contains(frame, "MEMBER") {
		t.Errorf("after a failed look:\n%s", frame)
	}
}

func TestTopKeys(t *testing.T) {
	m := seen(t)
	if _, cmd := press(m, "q"); cmd == nil || cmd() != tea.Quit() {
		t.Error("q does not end it")
	}
	paused, _ := press(m, "p")
	if _, cmd := paused.Update(tickMsg{}); cmd != nil || !strings.Contains(paused.frame(plainStyles()), "PAUSED") {
		t.Error("it looks although it is paused")
	}
	if _, cmd := press(paused, "p"); cmd == nil {
		t.Error("it does not look when it goes on")
	}
	if _, cmd := m.Update(tickMsg{}); cmd == nil {
		t.Error("a tick brings no look")
	}
	for _, want := range []string{"n1", "n2", ""} {
		if m, _ = press(m, "n"); m.node != want {
			t.Errorf("n leads to %q, want %q", m.node, want)
		}
	}
}

func TestTopOfOneNode(t *testing.T) {
	m := seen(t)
	m.node = "n2"
	frame := m.frame(plainStyles())
	if strings.Contains(frame, "\nn1 ") || strings.Contains(frame, "HINTS FOR") || !strings.Contains(frame, "only n2") {
		t.Errorf("of n2 it shows:\n%s", frame)
	}
	m.node = "n9"
	if frame := m.frame(plainStyles()); !strings.Contains(frame, "there is no node n9") {
		t.Errorf("of n9 it shows:\n%s", frame)
	}
}

func TestTopFitsTheTerminal(t *testing.T) {
	next, _ := seen(t).Update(tea.WindowSizeMsg{Width: 30, Height: 10})
	m := next.(topModel)
	lines := strings.Split(m.fit(m.frame(plainStyles())), "\n")
	if len(lines) != 10 || !strings.HasSuffix(lines[9], "lines more") {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 30 {
			t.Errorf("%q has %d characters", line, n)
		}
	}
	if v := m.View(); !v.AltScreen {
		t.Error("it writes over what the terminal shows")
	}
}

func TestTopPicture(t *testing.T) {
	p := seen(t).picture()
	if p.Hints != 2 || p.Moves != 1 || len(p.Alerts) != 1 || len(p.Members) != 2 || p.Members[1] != (topMember{"n2", "down"}) || p.Rates[0].PerSecond != 100 {
		t.Errorf("the picture is %+v", p)
	}
}

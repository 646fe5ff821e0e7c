package main

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The nodes of a dev cluster: the first ones begin it, others join them, and
// those that have left are none to join at.
func TestDevNodesThatJoin(t *testing.T) {
	s := newDevState(2, 16, 3)
	if err := s.choosePorts(0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.add(0); err != nil {
			t.Fatal(err)
		}
	}
	n := s.Nodes
	n[1].Left = true
	if n[2].Name != "n3" || n[3].Name != "n4" || n[3].HTTP == "" || n[3].Listen == "" || n[3].HTTP == n[2].HTTP {
		t.Errorf("the nodes are %+v", n)
	}
	first := []string{"--bootstrap=n1=" + n[0].Listen + ",n2=" + n[1].Listen, "--partitions=16", "--replicas=3"}
	if diff := cmp.Diff(first, s.into(n[0])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"--auto-join=" + n[0].Listen + "," + n[3].Listen}, s.into(n[2])); diff != "" {
		t.Error(diff)
	}
	dir := t.TempDir()
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	back, err := readDevState(dir)
	if diff := cmp.Diff(s, back); diff != "" || err != nil {
		t.Errorf("error %v, %s", err, diff)
	}
	for len(s.Nodes) < maxDevNodes {
		s.Nodes = append(s.Nodes, devNode{})
	}
	if err := s.add(0); err == nil || len(s.Nodes) != maxDevNodes {
		t.Errorf("one more than %d nodes was added: %v", maxDevNodes, err)
	}
}

// A port that is taken leaves the state as it was.
func TestDevAddWithoutAPort(t *testing.T) {
	taken, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := newDevState(1, 16, 3)
	base := taken.Addr().(*net.TCPAddr).Port - 2 // the second node's first port is the taken one
	if err := s.add(base); err == nil || len(s.Nodes) != 1 {
		t.Errorf("added %+v: %v", s.Nodes, err)
	}
}

func TestDevNodesThatHaveLeft(t *testing.T) {
	s := newDevState(3, 16, 3)
	s.Nodes[1].Left = true
	d := newDevCluster(t.TempDir(), "", s, nil, &app{stderr: os.Stderr})
	all, err := d.choose([]string{"all"})
	if err != nil || len(all) != 2 || all[0].name != "n1" || all[1].name != "n3" {
		t.Errorf("all are %v, %v", all, err)
	}
	for _, name := range []string{"2", "n2"} {
		if _, err := d.choose([]string{name}); err == nil || !strings.Contains(err.Error(), "n2 has left the cluster") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := d.processes()[1].State; got != "left" {
		t.Errorf("n2 is %s", got)
	}
}

package compat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// otherClients are the clients beside the official one: each is a package, and a script of its
// name in testdata. Those that turn to another node by themselves are given a node that is gone, too.
var otherClients = []struct {
	name  string
	turns bool
	least int // features that it has
}{
	{name: "no-riak", turns: true, least: 10},
	{name: "nodiak", least: 7},
	{name: "riak-js", turns: true, least: 8},
	{name: "riakpbc", least: 8},
}

// TestOtherClients runs each feature of the other clients against three nodes, and once more
// after one of them was killed. Meanwhile one client stores and fetches.
func TestOtherClients(t *testing.T) {
	t.Parallel() // it measures nothing
	needClient(t)
	dir := install(t)
	nodes := threeNodes(t)
	l := goOn(t, dir, "others.js", "no-riak", "survive", strings.Join(nodes.pb(), ","))
	l.rounds(1)
	for _, c := range otherClients {
		t.Run(c.name+" with all nodes", func(t *testing.T) { tryOther(t, dir, c.name, "all", c.least, nodes) })
	}
	nodes[2].kill()
	l.rounds(2) // in the second it is gone
	nodes[0].sees("n3", false)
	for _, c := range otherClients {
		left := nodes
		if !c.turns {
			left = nodes[:2]
		}
		t.Run(c.name+" without one", func(t *testing.T) { tryOther(t, dir, c.name, "left", c.least, left) })
	}
	l.rounds(1)
	l.end()
}

// tryOther tries the features of a client, all of which must work.
func tryOther(t *testing.T, dir, name, run string, least int, nodes cluster) {
	t.Helper()
	var http []string
	for _, n := range nodes {
		http = append(http, n.http)
	}
	tried := try(t, dir, "others.js", name, "features", run, strings.Join(nodes.pb(), ","), strings.Join(http, ","))
	if len(tried) < least {
		t.Errorf("%d features were tried, and should be %d", len(tried), least)
	}
	for _, o := range tried {
		if o.Error != "" {
			t.Errorf("%s: %s (after %d ms)", o.Feature, o.Error, o.Millis)
		}
	}
}

// TestThePageHasTheClients compares the table of other clients in docs/compatibility.md with
// what is installed.
func TestThePageHasTheClients(t *testing.T) {
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join("testdata", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var installed struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(b, &installed); err != nil {
		t.Fatal(err)
	}
	rows := tableBelow(string(page), "### Other clients")
	if len(rows) != len(otherClients) || len(installed.Dependencies) != len(rows)+1 {
		t.Fatalf("the table has %d rows, %d packages are installed, and %d clients are tried beside the official one", len(rows), len(installed.Dependencies), len(otherClients))
	}
	for i, c := range otherClients {
		if want := c.name + " " + installed.Dependencies[c.name]; len(rows[i]) != 3 || rows[i][0] != want {
			t.Errorf("the row %q should be of %s", rows[i], want)
		}
	}
}

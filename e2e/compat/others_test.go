package compat

import (
	"encoding/json"
	"os"
	"os/exec"
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
	allWork(t, try(t, dir, "others.js", name, "features", run, strings.Join(nodes.pb(), ","), strings.Join(http, ",")), least)
}

// allWork checks that at least so many features were tried, and that all work.
func allWork(t *testing.T, tried map[string]outcome, least int) {
	t.Helper()
	if len(tried) < least {
		t.Errorf("%d features were tried, and should be %d", len(tried), least)
	}
	for _, o := range tried {
		if o.Error != "" {
			t.Errorf("%s: %s (after %d ms)", o.Feature, o.Error, o.Millis)
		}
	}
}

// TestOtherClientsSignIn runs those that can sign in against a node with security.
func TestOtherClientsSignIn(t *testing.T) {
	t.Parallel() // it measures nothing
	needClient(t)
	dir := install(t)
	n := newNode(t, "n1")
	n.secure()
	for name, least := range map[string]int{"no-riak": 3, "riakpbc": 2} {
		t.Run(name, func(t *testing.T) { allWork(t, try(t, dir, "others.js", name, "secured", "once", n.pb), least) })
	}
}

// secure starts the node with certificates, and with security: a user shop, who may get and put.
func (p *process) secure() {
	p.t.Helper()
	dir := p.t.TempDir()
	authority, tls := filepath.Join(dir, "ca"), filepath.Join(dir, "n1")
	for _, args := range [][]string{{"cert", "init", "--ca-dir", authority}, {"cert", "node", "n1", "--host", "127.0.0.1", "--ca-dir", authority, "--out", tls}} {
		if out, err := exec.Command(p.program, args...).CombinedOutput(); err != nil {
			p.t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.args, p.ca = []string{"--tls-dir", tls}, filepath.Join(tls, "ca.crt")
	p.start()
	p.serves()
	for _, args := range [][]string{
		{"add-user", "admin", "--password-from", password},
		{"grant", "tanodb.admin", "on", "any", "to", "admin"},
		{"add-user", "shop", "--password-from", password},
		{"grant", "riak_kv.get,riak_kv.put", "on", "any", "to", "shop"},
		{"add-source", "all", "127.0.0.0/8", "password"},
		{"enable"},
	} {
		if out, err := p.run(append([]string{"security"}, args...)...); err != nil {
			p.t.Fatalf("%q: %v\n%s", args, err, out)
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

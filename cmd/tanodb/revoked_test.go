package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/certs"
	"github.com/tanodb/tanodb/internal/testports"
	"github.com/tanodb/tanodb/kv"
)

// startPair starts n1 and n2 with certificates of one authority, in the directories that are
// returned, and waits until they see each other.
func startPair(t *testing.T, x *secured) (nodes []*tanodb.Node, dirs []string) {
	t.Helper()
	port, err := testports.Commands.Take(2)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"n1", "n2"} {
		dir := t.TempDir()
		dirs = append(dirs, dir)
		x.certify(t, dir, name)
		s, err := settingsFor(t, fmt.Sprintf("--name %s --http 127.0.0.1:0 --pb off --partitions 8 --tls-dir %s --dir %s --listen 127.0.0.1:%d --bootstrap n1=127.0.0.1:%d,n2=127.0.0.1:%d",
			name, dir, filepath.Join(t.TempDir(), "d"), port+i, port, port+1))
		if err != nil {
			t.Fatal(err)
		}
		running, err := s.open(make(chan os.Signal))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := running.node.Close(); err != nil {
				t.Error(err)
			}
		})
		nodes = append(nodes, running.node)
	}
	tanodb.WaitUp(t, nodes...)
	return nodes, dirs
}

// A node whose certificate is on the list of the others is cut off while all of them run, and is
// back with a new one, without a restart.
func TestARevokedNodeIsCutOff(t *testing.T) {
	ca, err := certs.NewAuthority("ca", time.Now(), aDay)
	if err != nil {
		t.Fatal(err)
	}
	x := &secured{ca: ca}
	nodes, dirs := startPair(t, x)
	key := kv.Key{Bucket: "b", Name: "k"}
	if _, err := nodes[0].Put(t.Context(), key, kv.Value{Data: []byte("both")}, kv.WriteOptions{W: 2, NodeConfirms: 2}); err != nil {
		t.Fatal(err)
	}
	lost, err := os.ReadFile(filepath.Join(dirs[1], "node.crt"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := certs.ParseAll(lost)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.Revoke(nil, all, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certs.RevokedFile(filepath.Join(dirs[0], "ca.crt")), list, 0o600); err != nil {
		t.Fatal(err)
	}
	sees := func(want int) bool {
		up := 0
		for _, m := range nodes[0].Status().Members {
			if m.Up {
				up++
			}
		}
		return up == want
	}
	awaitTrue(t, "n1 has cut n2 off", func() bool { return sees(1) })
	if _, err := nodes[0].Put(t.Context(), key, kv.Value{Data: []byte("one")}, kv.WriteOptions{W: 2, NodeConfirms: 2}); err == nil {
		t.Error("a node whose certificate is revoked has confirmed a write")
	}
	x.certify(t, dirs[1], "n2")
	awaitTrue(t, "n2 is back with its new certificate", func() bool { return sees(2) })
	if _, err := nodes[0].Put(t.Context(), key, kv.Value{Data: []byte("both again")}, kv.WriteOptions{W: 2, NodeConfirms: 2}); err != nil {
		t.Error(err)
	}
}

// awaitTrue waits until something holds.
func awaitTrue(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

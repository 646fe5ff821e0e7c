//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A lab is a network of its own: each node is in a network namespace, and so
// are the clients, in a hub with a bridge between all of them.
//
//	 node 1        node 2        node 3
//	 10.77.0.1     10.77.0.2     10.77.0.3
//	   eth0          eth0          eth0
//	─────┼─────────────┼─────────────┼─────
//	     v1            v2            v3
//	     └──────────  br0  ──────────┘
//	              10.77.0.254
//	        the hub, with the clients
//
// Nothing of it can be seen outside of the namespaces. Packets are lost by
// switching a link off, or by giving somebody a wrong idea of a neighbour's
// hardware address, which loses what is sent in one direction only.
type lab struct {
	t     *testing.T
	nodes []*process
}

// The ports of all nodes of a lab.
const (
	labHTTP = "8098"
	labNode = "7098"
)

// nowhere is a hardware address that nobody has.
const nowhere = "02:00:00:00:00:ff"

// newLab makes a network of so many nodes, or skips the test where that is not
// possible. The namespaces go at the end of the test.
func newLab(t *testing.T, nodes int) *lab {
	t.Helper()
	needProgram(t)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the command ip, of the package iproute2")
	}
	l := &lab{t: t}
	if out, err := exec.Command("ip", "netns", "add", l.space(0)).CombinedOutput(); err != nil {
		t.Skipf("needs the right to make network namespaces: %v: %s", err, out)
	}
	t.Cleanup(func() { l.ip("netns", "del", l.space(0)) })
	l.in(0, "link", "set", "lo", "up")
	l.in(0, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
	l.in(0, "addr", "add", labIP(0)+"/24", "dev", "br0")
	l.in(0, "link", "set", "br0", "up")
	for i := 1; i <= nodes; i++ {
		l.ip("netns", "add", l.space(i))
		t.Cleanup(func() { l.ip("netns", "del", l.space(i)) })
		l.in(0, "link", "add", port(i), "type", "veth", "peer", "name", "eth0", "netns", l.space(i))
		l.in(0, "link", "set", port(i), "master", "br0", "up")
		l.in(i, "link", "set", "lo", "up")
		l.in(i, "link", "set", "eth0", "up")
		l.in(i, "addr", "add", labIP(i)+"/24", "dev", "eth0")
	}
	return l
}

// startLab makes a network and starts a cluster in it.
func startLab(t *testing.T, nodes int) *lab {
	t.Helper()
	l := newLab(t, nodes)
	var members []string
	for i := 1; i <= nodes; i++ {
		members = append(members, fmt.Sprintf("n%d=%s", i, net.JoinHostPort(labIP(i), labNode)))
	}
	for i := 1; i <= nodes; i++ {
		l.nodes = append(l.nodes, newProcess(t, l.place(i), fmt.Sprintf("n%d", i),
			net.JoinHostPort(labIP(i), labHTTP), net.JoinHostPort(labIP(i), labNode), "--bootstrap", strings.Join(members, ",")))
	}
	for _, n := range l.nodes {
		n.start()
	}
	l.whole()
	return l
}

// space is the name of a node's namespace; 0 is the hub's.
func (l *lab) space(i int) string { return fmt.Sprintf("tanodb-%d-%d", os.Getpid(), i) }

// port is the hub's end of the cable to a node.
func port(i int) string { return fmt.Sprintf("v%d", i) }

// labIP is the address of a node; 0 is the hub's.
func labIP(i int) string {
	if i == 0 {
		return "10.77.0.254"
	}
	return fmt.Sprintf("10.77.0.%d", i)
}

// place is a namespace as a place where commands run.
func (l *lab) place(i int) place { return place{"ip", "netns", "exec", l.space(i)} }

// ip runs the command of that name, which must succeed.
func (l *lab) ip(args ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		l.t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// in is ip in a namespace.
func (l *lab) in(i int, args ...string) {
	l.t.Helper()
	l.ip(append([]string{"-n", l.space(i)}, args...)...)
}

// must runs the program where the clients are; it has to succeed.
func (l *lab) must(args ...string) string {
	l.t.Helper()
	out, errs, code := runAt(l.t, l.place(0), args...)
	if code != 0 {
		l.t.Fatalf("tanodb %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// base is the URL of a node, counted from 1.
func (l *lab) base(i int) string { return l.nodes[i-1].base() }

// bases are the URLs of all nodes.
func (l *lab) bases() string {
	var all []string
	for _, n := range l.nodes {
		all = append(all, n.base())
	}
	return strings.Join(all, ",")
}

// whole waits until each node says that all are up and agree.
func (l *lab) whole() {
	l.t.Helper()
	for i := range l.nodes {
		l.must("cluster", "ready", "--wait", patience.String(), "--addr", l.base(i+1), "--timeout", "2s")
	}
}

// down waits until a node holds others to be down.
func (l *lab) down(by int, others ...string) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("n%d sees that %v are down", by, others), func() bool {
		s, err := cluster(l.t, l.place(0), l.base(by))
		for _, m := range s.Members {
			for _, name := range others {
				if m.Name == name && m.Up {
					return false
				}
			}
		}
		return err == nil
	})
}

// mute loses what a node sends to others from now on; 0 is the hub.
func (l *lab) mute(i int, to ...int) {
	l.t.Helper()
	for _, j := range to {
		l.in(i, "neigh", "replace", labIP(j), "lladdr", nowhere, "nud", "permanent", "dev", device(i))
	}
}

// unmute takes a mute back.
func (l *lab) unmute(i int, to ...int) {
	l.t.Helper()
	for _, j := range to {
		l.in(i, "neigh", "del", labIP(j), "dev", device(i))
	}
}

func device(i int) string {
	if i == 0 {
		return "br0"
	}
	return "eth0"
}

// measure loads the cluster for two seconds and returns what came of it.
func (l *lab) measure() report {
	l.t.Helper()
	var r report
	out := l.must("bench", "--json", "--addr", l.bases(), "--workers", "16", "--keys", "1000", "--value-size", "200",
		"--warmup", "0s", "--duration", "2s", "--rate", loadRate, "--timeout", opTimeout.String(), "-w", "2", "-r", "2")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		l.t.Fatal(err)
	}
	return r
}

// fault is something that happens to a node or a cable, and is mended.
type fault struct {
	name       string
	begin, end func(l *lab)
}

// faults are all that one node of three may suffer. They are spread over the
// nodes: one that comes back too often would not be trusted for a while.
var faults = []fault{
	{
		"n1 is killed",
		func(l *lab) { l.nodes[0].kill() },
		func(l *lab) { l.nodes[0].start() },
	},
	{
		"n2 is frozen",
		func(l *lab) { l.nodes[1].signal(syscall.SIGSTOP) },
		func(l *lab) { l.nodes[1].signal(syscall.SIGCONT) },
	},
	{
		"n3 is cut off",
		func(l *lab) { l.in(0, "link", "set", port(3), "down") },
		func(l *lab) { l.in(0, "link", "set", port(3), "up") },
	},
	{
		"nothing that n1 sends arrives",
		func(l *lab) { l.mute(1, 0, 2, 3) },
		func(l *lab) { l.unmute(1, 0, 2, 3) },
	},
	{
		"nothing arrives at n2",
		func(l *lab) { l.mute(0, 2); l.mute(1, 2); l.mute(3, 2) },
		func(l *lab) { l.unmute(0, 2); l.unmute(1, 2); l.unmute(3, 2) },
	},
	{
		"nothing that n1 sends arrives at n3",
		func(l *lab) { l.mute(1, 3) },
		func(l *lab) { l.unmute(1, 3) },
	},
	{
		"the cable between n2 and n3 is cut",
		func(l *lab) { l.mute(2, 3); l.mute(3, 2) },
		func(l *lab) { l.unmute(2, 3); l.unmute(3, 2) },
	},
}

// TestFaultsOfTheNetwork lets all that may happen to a node or a cable happen,
// under load with W=R=2. Requests may fail within the detection time of each fault and
// of its end, and not later; nothing acknowledged is lost; and afterwards the cluster is
// whole again. How long requests took meanwhile is in its log.
func TestFaultsOfTheNetwork(t *testing.T) {
	l := startLab(t, 3)
	calm := l.measure()
	load := startLoadAt(t, l.place(0), "--addr", l.bases())
	pass(t, between)
	var events []span
	for _, f := range faults {
		begun := time.Now()
		f.begin(l)
		events = append(events, span{begun, time.Now()})
		pass(t, detection)
		r := l.measure()
		t.Logf("%s: p99 %.1f ms; it was %.1f ms before", f.name, r.P99, calm.P99)
		if len(r.Errors) > 0 { // one that waits for the node that is away fails after opTimeout
			t.Errorf("%s, %v ago: errors %v, for example %v", f.name, detection, r.Errors, r.ErrorSamples)
		}
		begun = time.Now()
		f.end(l)
		l.whole()
		events = append(events, span{begun, time.Now()})
	}
	pass(t, detection)
	wantErrorsOnlyAround(t, load.end(), events)
}

// TestTwoOfThreeGone cuts two nodes off. A write to two fails at once and says who
// is missing; one to any node is stored; and all have it when they are back.
func TestTwoOfThreeGone(t *testing.T) {
	l := startLab(t, 3)
	l.in(0, "link", "set", port(2), "down")
	l.in(0, "link", "set", port(3), "down")
	l.down(1, "n2", "n3")

	begun := time.Now()
	_, errs, code := runAt(t, l.place(0), "put", "e2e", "two", "1", "-w", "2", "--addr", l.base(1), "--timeout", patience.String())
	if code != 1 || !strings.Contains(errs, "W wants 2") || !strings.Contains(errs, "n2: ") || !strings.Contains(errs, "n3: ") || strings.Contains(errs, "timeout") {
		t.Errorf("put with W=2 at one node of three: exit code %d, %s", code, errs)
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("that took %v; it is certain at once that it fails", took)
	}
	t.Logf("put with W=2 at one node of three: %s", errs)
	l.must("put", "e2e", "one", "v", "-w", "1", "--addr", l.base(1))
	if got := l.must("get", "e2e", "one", "-r", "1", "--addr", l.base(1)); got != "v" {
		t.Errorf("the one node answers %q; want v", got)
	}

	l.in(0, "link", "set", port(2), "up")
	l.in(0, "link", "set", port(3), "up")
	l.whole()
	for i := range l.nodes {
		if got := l.must("get", "e2e", "one", "-r", "3", "--addr", l.base(i+1)); got != "v" {
			t.Errorf("n%d answers %q when all are back; want v", i+1, got)
		}
	}
}

// TestNodeMoves starts a node again at another address and port: it is who it
// was and has what it had, and the others find it; also those that were away.
func TestNodeMoves(t *testing.T) {
	l := startLab(t, 3)
	l.must("put", "e2e", "k", "v", "-w", "3", "--addr", l.base(1))
	identity := func() string {
		var s struct {
			ID string `json:"node_id"`
		}
		if err := json.Unmarshal([]byte(l.must("status", "--json", "--addr", l.base(3))), &s); err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	before := identity()
	l.nodes[1].stop()
	l.nodes[2].stop()

	const ip = "10.77.0.33"
	l.in(3, "addr", "flush", "dev", "eth0", "scope", "global")
	l.in(3, "addr", "add", ip+"/24", "dev", "eth0")
	moved := l.nodes[2]
	moved.http, moved.node, moved.args = net.JoinHostPort(ip, "8198"), net.JoinHostPort(ip, "7198"), nil
	moved.start()
	eventually(t, "n1 knows where n3 is now", func() bool {
		s, err := cluster(t, l.place(0), l.base(1))
		return err == nil && s.Members[2].Address == moved.node && s.Members[2].Up
	})
	l.nodes[1].start()
	l.whole()
	if after := identity(); after != before {
		t.Errorf("n3 has become another: it was %s and is %s", before, after)
	}
	for i := range l.nodes {
		if got := l.must("get", "e2e", "k", "-r", "3", "--addr", l.base(i+1)); got != "v" {
			t.Errorf("n%d answers %q; want v", i+1, got)
		}
	}
}

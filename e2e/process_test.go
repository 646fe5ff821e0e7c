package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/storage"
	"github.com/tanodb/tanodb/storage/disk"
)

// process is one "tanodb serve" of a test.
type process struct {
	t    *testing.T
	name string
	dir  string // of its data
	log  string // the file that it writes to
	http string // HOST:PORT
	node string // HOST:PORT, for other nodes
	at   place
	args []string // that say how it becomes a member
	cmd  *exec.Cmd

	program string // what is run
	secure  bool   // it speaks TLS
}

// newProcess is a node that has not been started.
func newProcess(t *testing.T, at place, name, http, node string, args ...string) *process {
	dir := t.TempDir()
	return &process{
		t: t, name: name, at: at, http: http, node: node, args: args, program: program,
		dir: filepath.Join(dir, "data"), log: filepath.Join(dir, name+".log"),
	}
}

// threeNodes are the nodes of a cluster, not started yet.
func threeNodes(t *testing.T, at place) []*process {
	t.Helper()
	const count = 3
	port := freePorts(t, 2*count)
	var members []string
	for i := range count {
		members = append(members, fmt.Sprintf("n%d=%s", i+1, address(port+2*i+1)))
	}
	var nodes []*process
	for i := range count {
		nodes = append(nodes, newProcess(t, at, fmt.Sprintf("n%d", i+1), address(port+2*i), address(port+2*i+1), "--bootstrap", strings.Join(members, ",")))
	}
	return nodes
}

// start starts the node, and does not wait for it. It is stopped at the end of
// the test, and no panic may be in its log by then.
func (p *process) start() {
	p.t.Helper()
	if p.cmd == nil {
		p.t.Cleanup(func() {
			p.stop()
			checkLog(p.t, p.log)
		})
	}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close() // the process has its own handle
	p.cmd = p.at.command(context.Background(), p.program, append([]string{
		"serve", "--dir", p.dir, "--name", p.name, "--http", p.http, "--listen", p.node,
	}, p.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		p.t.Fatal(err)
	}
}

// serves waits until the node answers clients.
func (p *process) serves() {
	p.t.Helper()
	if _, errs, code := runAt(p.t, p.at, "ping", "--wait", patience.String(), "--addr", p.base()); code != 0 {
		p.t.Fatalf("%s does not serve: %s", p.name, errs)
	}
}

// base is the node's URL.
func (p *process) base() string {
	if p.secure {
		return "https://" + p.http
	}
	return "http://" + p.http
}

// signal sends a signal to the process.
func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("%s ended before its time: %v", p.name, err)
	}
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	_ = p.cmd.Wait() // it says that it was killed
}

// stop ends the process in order, if it runs.
func (p *process) stop() {
	p.t.Helper()
	if p.cmd == nil || p.cmd.ProcessState != nil {
		return
	}
	p.signal(os.Interrupt)
	p.ends()
}

// ends waits until the process has ended, which it must do well.
func (p *process) ends() {
	p.t.Helper()
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// cluster is what a node says of its cluster, or an error if it does not answer.
func cluster(t *testing.T, at place, base string) (tanodb.ClusterState, error) {
	t.Helper()
	var s tanodb.ClusterState
	out, errs, code := runAt(t, at, "cluster", "status", "--addr", base, "--json", "--timeout", "5s")
	if code != 0 {
		return s, errors.New(strings.TrimSpace(errs))
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// mustCluster is the same of a node that has to answer.
func mustCluster(t *testing.T, at place, base string) tanodb.ClusterState {
	t.Helper()
	s, err := cluster(t, at, base)
	if err != nil {
		t.Fatalf("%s: %v", base, err)
	}
	return s
}

// heldOnDisk is, by partition, the keys of which a stopped node's directory holds
// objects.
func heldOnDisk(t *testing.T, dir string) map[int][]string {
	t.Helper()
	e, err := disk.Open(filepath.Join(dir, "engine"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	held, err := vnode.Held(e)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[int][]string{}
	for _, p := range held {
		homes, ok := vnode.Read(e, p, 0, &vnode.Homes{}).(*vnode.HomesFound)
		if !ok {
			t.Fatalf("%s: the homes of partition %d cannot be read", dir, p)
		}
		for _, home := range homes.Homes {
			keys[int(p)] = append(keys[int(p)], heldOf(t, e, p, home)...)
		}
	}
	return keys
}

// heldOf is the keys of one home that a vnode holds.
func heldOf(t *testing.T, e storage.Reader, p, home ring.Partition) []string {
	t.Helper()
	const page = 1 << 20 // bytes
	var keys []string
	for pull := (&vnode.Pull{Home: home, Limit: page}); ; {
		found, ok := vnode.Read(e, p, 0, pull).(*vnode.Pulled)
		if !ok {
			t.Fatalf("home %d of partition %d cannot be read", home, p)
		}
		for _, it := range found.Items {
			keys = append(keys, it.Key.String())
		}
		for _, bad := range found.Bad {
			t.Errorf("%s in partition %d: %s", bad.Key, p, bad.Text)
		}
		if !found.More {
			return keys
		}
		pull.After = found.Last
	}
}

// start starts nodes and waits until they all agree.
func start(nodes []*process) {
	for _, n := range nodes {
		n.start()
	}
	for _, n := range nodes {
		n.serves()
	}
	for _, n := range nodes {
		if _, errs, code := run(n.t, "cluster", "ready", "--wait", patience.String(), "--addr", n.base()); code != 0 {
			n.t.Fatalf("%s is not ready: %s", n.name, errs)
		}
	}
}

// bases are the URLs of nodes.
func bases(nodes []*process) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.base())
	}
	return strings.Join(all, ",")
}

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
)

// TestBadInput sends a cluster what no program of ours would send, and starts
// nodes that do not belong to it. Each is refused, with a reason where there is
// somebody to read it, and the cluster goes on.
func TestBadInput(t *testing.T) {
	t.Parallel() // it measures nothing
	needProgram(t)
	d := startDev(t, 3)
	d.must("put", "e2e", "before", "1", "--addr", d.base(1))

	t.Run("bytes at the port between nodes", func(t *testing.T) {
		for _, b := range brokenFrames() {
			sendRaw(t, d.node[0], b)
		}
	})
	t.Run("bytes at the port of clients", func(t *testing.T) {
		for _, b := range brokenRequests() {
			wantRefusal(t, d.http[0], b)
		}
	})
	eventually(t, "all nodes have told who they are", func() bool {
		return !slices.ContainsFunc(mustCluster(t, here, d.base(1)).Members, func(m tanodb.ClusterMember) bool { return m.ID == "" })
	})
	const ofAnother = "of another cluster"
	t.Run("a node of another ring", func(t *testing.T) { strangerIsRefused(t, d, ofAnother, "n3", "--partitions", "128") })
	t.Run("a node of other replicas", func(t *testing.T) { strangerIsRefused(t, d, ofAnother, "n3", "--replicas", "2") })
	t.Run("a node of other members", func(t *testing.T) { strangerIsRefused(t, d, ofAnother, "n9") })
	t.Run("an empty directory under a member's name", func(t *testing.T) { strangerIsRefused(t, d, "the cluster knows the node of this name", "n3") })
	t.Run("nodes that cannot join", func(t *testing.T) { joinsAreRefused(t, d) })
	t.Run("a second process on a directory", func(t *testing.T) {
		_, errs, code := run(t, "serve", "--dir", filepath.Join(d.dir, "n1"), "--http", "127.0.0.1:0")
		if code != 1 || !strings.Contains(errs, "in use") {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})

	for node := 1; node <= 3; node++ {
		for _, other := range []string{"n1", "n2", "n3"} {
			d.waitSeen(node, other, true)
		}
		eventually(t, fmt.Sprintf("node %d reads from all three after all that", node), func() bool {
			out, _, code := run(t, "get", "e2e", "before", "--addr", d.base(node), "-r", "3")
			if code == 0 && out != "1" {
				t.Fatalf("node %d answers %q after all that; want 1", node, out)
			}
			return code == 0
		})
	}
	eventually(t, "all three store a write after all that", func() bool {
		_, _, code := run(t, "put", "e2e", "after", "2", "--replace", "--addr", d.base(1), "-w", "3")
		return code == 0
	})
}

// brokenFrames are bytes that are not of our protocol, or are up to some point.
func brokenFrames() [][]byte {
	random := make([]byte, 64<<10)
	chance := rand.NewChaCha8([32]byte{1})
	_, _ = chance.Read(random) // never fails
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	return [][]byte{
		{},
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		random,
		[]byte(preface),
		[]byte(preface + settings + string(random)),
		[]byte(preface + "\xff\xff\xff\x00\x00\x00\x00\x00\x01" + string(random)),       // a frame of 16 MB
		[]byte(preface + settings + "\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x87\x84"), // headers cut off
		bytes.Repeat([]byte{0}, 1<<20),
	}
}

// brokenRequests are HTTP requests that must be refused.
func brokenRequests() [][]byte {
	return [][]byte{
		[]byte("\x00\x01\x02\x03\r\n\r\n"),
		[]byte("NONSENSE\r\n\r\n"),
		[]byte("GET /buckets/b/keys/k HTTP/9.9\r\n\r\n"),
		[]byte("GET /buckets/%zz/keys/k HTTP/1.1\r\nHost: x\r\n\r\n"),
		[]byte("PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: -5\r\n\r\n"),
		[]byte("PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 999999999999\r\n\r\nx"),
		[]byte("PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
		[]byte("PUT /buckets/b/keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nX-Riak-Vclock: !!\r\nContent-Length: 1\r\n\r\nx"),
		[]byte("GET /buckets/b/keys/" + strings.Repeat("k", 70_000) + " HTTP/1.1\r\nHost: x\r\n\r\n"),
		[]byte("GET /buckets/b/keys/k?r=9 HTTP/1.1\r\nHost: x\r\n\r\n"),
		[]byte("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n"),
		[]byte("PUT /_tanodb/buckets/b/keys/k?nonsense=1 HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\nx"),
	}
}

// dial opens a connection that is given up after a time.
func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatalf("%s does not accept connections: %v", address, err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// sendRaw sends bytes, says that there are no more, and waits until the other
// side closes.
func sendRaw(t *testing.T, address string, b []byte) {
	t.Helper()
	conn := dial(t, address)
	defer conn.Close()
	// The other side may well cut the connection before it has read all.
	_, _ = conn.Write(b)
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
}

// wantRefusal sends a request and fails unless it is answered by a status of the
// client's fault, or cut off. The connection stays open meanwhile: a client that
// closes its half is taken for one that is gone, and then no answer is owed.
func wantRefusal(t *testing.T, address string, request []byte) {
	t.Helper()
	conn := dial(t, address)
	defer conn.Close()
	_, _ = conn.Write(request) // it may be cut off before its end
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	var broken *net.OpError
	cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken) && !broken.Timeout()
	if cut {
		return
	}
	if err != nil {
		t.Errorf("%.60q is not answered, or by nonsense: %v", request, err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	refused := resp.StatusCode >= 400 && resp.StatusCode < 500 || resp.StatusCode == http.StatusHTTPVersionNotSupported
	if !refused || bytes.Contains(body, []byte("goroutine ")) {
		t.Errorf("%.60q is answered by status %d: %.200q", request, resp.StatusCode, body)
	}
}

// strangerIsRefused starts a node under the name of the cluster's second one,
// with another third member or setting: the first refuses it, both say why, and
// the cluster is as before.
func strangerIsRefused(t *testing.T, d *devCluster, reason, third string, setting ...string) {
	t.Helper()
	listen := address(freePorts(t, 1))
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	log, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	members := fmt.Sprintf("n1=%s,n2=%s,%s=%s", d.node[0], listen, third, d.node[2])
	args := append([]string{"serve", "--dir", filepath.Join(dir, "data"), "--name", "n2", "--http", "127.0.0.1:0", "--listen", listen, "--bootstrap", members}, setting...)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	first := filepath.Join(d.dir, "n1.log")
	before := count(first, reason)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		err := cmd.Process.Signal(os.Interrupt)
		if ended := cmd.Wait(); err == nil && ended != nil {
			t.Errorf("the stranger did not stop in order: %v", ended)
		}
		if b, err := os.ReadFile(name); t.Failed() && err == nil {
			t.Logf("the stranger said:\n%s", b)
		}
	}()
	eventually(t, "the stranger's log says why it is refused", func() bool { return count(name, reason) > 0 })
	eventually(t, "the log of n1 says whom it has refused", func() bool { return count(first, reason) > before })
	for _, name := range []string{"n1", "n2", "n3"} { // the machine may be busy for a moment, and the stranger stays
		d.waitSeen(1, name, true)
	}
}

// joinsAreRefused lets nodes join that do not fit the cluster: each ends at once and
// says why.
func joinsAreRefused(t *testing.T, d *devCluster) {
	before := mustCluster(t, here, d.base(1))
	for what, try := range map[string]struct {
		args   []string
		reason string
	}{
		"another size of the ring":      {[]string{"--name", "n4", "--partitions", "128"}, "has a ring of 64 partitions, and this node is to have one of 128"},
		"another number of replicas":    {[]string{"--name", "n4", "--replicas", "2"}, "has 3 replicas of each key, and this node is to have 2"},
		"the name of one that is there": {[]string{"--name", "n2"}, "has another node of the name n2"},
	} {
		port := freePorts(t, 2)
		_, errs, code := run(t, append([]string{
			"serve", "--dir", t.TempDir(), "--http", address(port), "--listen", address(port + 1), "--auto-join", d.node[0],
		}, try.args...)...)
		if code != 1 || !strings.Contains(errs, try.reason) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", what, code, try.reason, errs)
		}
	}

	port := freePorts(t, 2)
	n := newProcess(t, here, "n4", address(port), address(port+1))
	n.start()
	n.serves()
	d.must("put", "e2e", "mine", "1", "--addr", n.base())
	_, errs, code := run(t, "cluster", "join", d.node[0], "--addr", n.base())
	if code != 1 || !strings.Contains(errs, "holds data of its own") {
		t.Errorf("a node with data: exit code %d, %s", code, errs)
	}
	if after := mustCluster(t, here, d.base(1)); len(after.Members) != 3 || len(after.Staged) > 0 || after.Epoch != before.Epoch {
		t.Errorf("the cluster has changed: %d members, %d changes are staged, epoch %d after %d", len(after.Members), len(after.Staged), after.Epoch, before.Epoch)
	}
}

// TestNewerFormats starts a node on directories that a later version of the
// program would have written. It touches nothing, and says what it can read.
func TestNewerFormats(t *testing.T) {
	t.Parallel() // it measures nothing
	needProgram(t)
	for _, file := range []struct{ name, is, newer, reason string }{
		{"NODE", " 1\n", " 2\n", "use the version that wrote it"},
		{filepath.Join("engine", "FORMAT"), " 2\n", " 3\n", "knows only version 2"},
	} {
		port := freePorts(t, 2)
		n := newProcess(t, here, "n1", address(port), address(port+1))
		n.start()
		n.serves()
		n.stop()
		name := filepath.Join(n.dir, file.name)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		newer := bytes.Replace(b, []byte(file.is), []byte(file.newer), 1)
		if err := os.WriteFile(name, newer, 0o600); err != nil {
			t.Fatal(err)
		}
		_, errs, code := run(t, "serve", "--dir", n.dir, "--http", n.http)
		if code != 1 || !strings.Contains(errs, file.reason) || bytes.Equal(b, newer) {
			t.Errorf("a newer %s: exit code %d, want 1 and %q:\n%s", file.name, code, file.reason, errs)
		}
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, newer) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
}

// count is how often a file holds a text; a file that cannot be read holds
// nothing.
func count(name, text string) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	return strings.Count(string(b), text)
}

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
	"strings"
	"testing"
	"time"
)

// TestBadInput sends a cluster what no program of ours would send, and starts
// nodes that do not belong to it. Each is refused, with a reason where there is
// somebody to read it, and the cluster goes on.
func TestBadInput(t *testing.T) {
	skipShort(t)
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
	t.Run("a node of another ring", func(t *testing.T) { strangerIsRefused(t, d, "--partitions", "128") })
	t.Run("a node of other replicas", func(t *testing.T) { strangerIsRefused(t, d, "--replicas", "2") })
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
		if got := d.must("get", "e2e", "before", "--addr", d.base(node), "-r", "3"); got != "1" {
			t.Errorf("node %d answers %q after all that; want 1", node, got)
		}
	}
	d.must("put", "e2e", "after", "2", "--addr", d.base(1), "-w", "3")
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

// strangerIsRefused starts a node under the name of the cluster's second one
// that differs in one setting: the first refuses it, both say why, and the
// cluster is as before.
func strangerIsRefused(t *testing.T, d *devCluster, setting ...string) {
	listen := address(freePorts(t, 1))
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	log, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	members := fmt.Sprintf("n1=%s,n2=%s,n3=%s", d.node[0], listen, d.node[2])
	args := append([]string{"serve", "--dir", filepath.Join(dir, "data"), "--name", "n2", "--http", "127.0.0.1:0", "--listen", listen, "--bootstrap", members}, setting...)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	const reason = "of another cluster"
	first := filepath.Join(d.dir, "n1.log")
	before := count(first, reason)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the stranger did not stop in order: %v", err)
		}
		if b, err := os.ReadFile(name); t.Failed() && err == nil {
			t.Logf("the stranger said:\n%s", b)
		}
	}()
	eventually(t, "the stranger's log says why it is refused", func() bool { return count(name, reason) > 0 })
	eventually(t, "the log of n1 says whom it has refused", func() bool { return count(first, reason) > before })
	if up := d.members(1); !up["n1"] || !up["n2"] || !up["n3"] {
		t.Errorf("the stranger has made a member look down: %v", up)
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

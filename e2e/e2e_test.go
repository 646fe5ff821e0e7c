// Package e2e tries whole clusters of real processes, as a user has them: it
// builds the program, starts it on loopback, loads it, and ends and freezes
// its processes meanwhile.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/testports"
)

// rounds is how often the tests of power losses take the power away.
var rounds = flag.Int("rounds", 3, "power losses in TestPowerLoss and TestScenario26AllLosePower")

// objects is how much there is to repair in TestReplicasHeal, and to move in
// TestTopologyUnderLoad.
var objects = flag.Int("objects", 5_000, "objects in TestReplicasHeal and TestTopologyUnderLoad")

// patience is how long anything may take that has no time of its own. The more
// objects there are, the more that is.
var patience = time.Minute

// lookEvery is how often a test looks again at what it waits for: a look is mostly a process
// that starts.
const lookEvery = 250 * time.Millisecond

// program is the path of the program under test.
var program string

// programs is the folder of the programs that tests build.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	patience += time.Duration(*objects) * time.Millisecond
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// testMain runs the tests, and removes what they have built.
func testMain(m *testing.M) (int, error) {
	if err := os.Setenv("TANODB_PB", "off"); err != nil { // one default port for all nodes
		return 0, err
	}
	if err := os.Setenv("TANODB_INSECURE", "true"); err != nil { // some have machines of their own, on networks that nobody else is on
		return 0, err
	}
	dir, err := os.MkdirTemp("", "tanodb-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	programs = dir
	return m.Run(), nil
}

// needProgram builds the program, if no test has yet, or skips a test of real
// processes under -short.
func needProgram(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes, and takes up to a minute")
	}
	if err := built(); err != nil {
		t.Fatal(err)
	}
}

var built = sync.OnceValue(func() (err error) {
	if err = seeSources(); err == nil {
		program, err = build("tanodb")
	}
	return err
})

// seeSources reads all folders of the module. "go test" takes note of what tests read,
// and runs these again when a file has changed in any of the folders: that they depend
// on the sources of the program it could not know otherwise.
func seeSources() error {
	return filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".." {
			return fs.SkipDir
		}
		return err
	})
}

// build builds the program under a name and returns its path. Unlike go build, go run
// keeps what it has linked for others who need the same.
func build(name string, flags ...string) (string, error) {
	path := filepath.Join(programs, name)
	args := append(append([]string{"run", "-exec", "cp"}, flags...), "github.com/tanodb/tanodb/cmd/tanodb", path)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
}

// devCluster is a running "tanodb dev".
type devCluster struct {
	t    *testing.T
	dir  string
	http []string // HOST:PORT of each node
	node []string // HOST:PORT of each node, for other nodes
	cmd  *exec.Cmd
	log  *bytes.Buffer // what it says; read it when cmd has ended

	basePort int  // of n1; the others follow
	killed   bool // the test has ended it, in its own way
}

// maxAdded is how many nodes a test may add to a dev cluster.
const maxAdded = 3

// startDev starts a cluster and waits until it is complete. It is stopped at
// the end of the test.
func startDev(t *testing.T, nodes int) *devCluster {
	t.Helper()
	base := freePorts(t, 2*(nodes+maxAdded))
	d := &devCluster{t: t, dir: filepath.Join(t.TempDir(), "cluster"), basePort: base, log: &bytes.Buffer{}}
	for range nodes {
		d.another()
	}
	d.cmd = exec.Command(program, "dev", "--dir", d.dir, "--nodes", strconv.Itoa(nodes), "--base-port", strconv.Itoa(base))
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	d.must("dev", "status", "--dir", d.dir, "--wait", patience.String())
	return d
}

// another notes the addresses of one more node.
func (d *devCluster) another() {
	port := d.basePort + 2*len(d.http)
	d.http = append(d.http, address(port))
	d.node = append(d.node, address(port+1))
}

// add starts one more node, which joins the cluster by itself.
func (d *devCluster) add() {
	d.t.Helper()
	d.must("dev", "add", "--dir", d.dir)
	d.another()
}

// stop ends the cluster as Ctrl-C does. No node may have panicked by then.
func (d *devCluster) stop() {
	if !d.killed {
		if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
			d.t.Errorf("tanodb dev ended before its time: %v", err)
		}
		if err := d.cmd.Wait(); err != nil {
			d.t.Errorf("tanodb dev: %v", err)
		}
	}
	if d.t.Failed() {
		d.t.Logf("tanodb dev said:\n%s", d.log)
	}
	for i := range d.http {
		checkLog(d.t, filepath.Join(d.dir, fmt.Sprintf("n%d.log", i+1)))
	}
}

// checkLog looks for panics in a node's log, and shows its end if the test has
// failed.
func checkLog(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
		return
	}
	log := string(b)
	if strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
		t.Errorf("a panic in %s", name)
	}
	if t.Failed() {
		const most = 3000 // bytes
		t.Logf("%s ends with:\n%s", name, log[max(0, len(log)-most):])
	}
}

// must runs the program, which has to succeed, and returns its output.
func (d *devCluster) must(args ...string) string {
	d.t.Helper()
	out, errs, code := run(d.t, args...)
	if code != 0 {
		d.t.Fatalf("tanodb %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// dev does something to nodes and returns when it began and ended.
func (d *devCluster) dev(action string, nodes ...string) span {
	d.t.Helper()
	begun := time.Now()
	d.must(append([]string{"dev", action, "--dir", d.dir}, nodes...)...)
	return span{begun, time.Now()}
}

// base is the URL of a node, counted from 1.
func (d *devCluster) base(node int) string { return "http://" + d.http[node-1] }

// members is whom a node, counted from 1, holds to be up.
func (d *devCluster) members(node int) map[string]bool {
	var status struct {
		Members []struct {
			Name string `json:"name"`
			Up   bool   `json:"up"`
		} `json:"members"`
	}
	out, _, code := run(d.t, "status", "--addr", d.base(node), "--json", "--timeout", "2s")
	if code != 0 || json.Unmarshal([]byte(out), &status) != nil {
		return nil
	}
	up := map[string]bool{}
	for _, m := range status.Members {
		up[m.Name] = m.Up
	}
	return up
}

// waitSeen waits until a node holds another to be up, or down.
func (d *devCluster) waitSeen(node int, other string, up bool) {
	d.t.Helper()
	eventually(d.t, fmt.Sprintf("node %d sees %s up=%v", node, other, up), func() bool {
		state, known := d.members(node)[other]
		return known && state == up
	})
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	eventuallyAt(t, lookEvery, what, holds)
}

// eventuallyAt does the same and looks as often as it is told.
func eventuallyAt(t *testing.T, every time.Duration, what string, holds func() bool) {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// span is a piece of time.
type span struct{ begun, ended time.Time }

// run runs the program to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runAt(t, here, args...)
}

// place is where commands run: how a command line begins that runs the program
// there.
type place []string

// here is this machine as it is.
var here place

// command is a program, to be run at the place.
func (p place) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	line := append(append(append([]string{}, p...), program), args...)
	return exec.CommandContext(ctx, line[0], line[1:]...)
}

// runAt runs the program at a place to its end.
func runAt(t *testing.T, at place, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := at.command(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		t.Fatalf("tanodb %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// load is a running "tanodb bench".
type load struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  bytes.Buffer
	errs bytes.Buffer
}

// report is what a load says at its end.
type report struct {
	Ops            int64            `json:"ops"`
	PerSecond      float64          `json:"ops_per_s"`
	Seconds        float64          `json:"seconds"`
	P50            float64          `json:"p50_ms"`
	P99            float64          `json:"p99_ms"`
	Errors         map[string]int64 `json:"errors"`
	StartedAt      time.Time        `json:"started_at"`
	OpsBySecond    []int64          `json:"ops_by_second"`
	ErrorsBySecond []struct {
		Second int              `json:"second"`
		Errors map[string]int64 `json:"errors"`
	} `json:"errors_by_second"`
	ErrorSamples map[string]string `json:"error_samples"`
	NotFound     int64             `json:"not_found"`
	Verified     struct {
		Keys         int   `json:"keys"`
		Acknowledged int   `json:"acknowledged"`
		InDoubt      int   `json:"in_doubt"`
		Lost         int   `json:"lost"`
		Wrong        int   `json:"wrong"`
		Unreadable   int   `json:"unreadable"`
		Findings     []any `json:"findings"`
	} `json:"verified"`
}

// startLoad starts a load of all nodes that a dev cluster has now.
func startLoad(t *testing.T, d *devCluster, args ...string) *load {
	t.Helper()
	return startLoadAt(t, here, append([]string{"--dir", d.dir}, args...)...)
}

// loadRate is how many requests a second a load sends, unless a test says otherwise: many
// in each second of a test, and so few that the nodes have what they need of a busy
// machine. A load at full speed is one that keeps them from telling each other that they
// are alive.
const loadRate = "150"

// startLoadAt starts a load that verifies, unless the arguments say otherwise, and
// goes on until end. Its requests give up after opTimeout.
func startLoadAt(t *testing.T, at place, args ...string) *load {
	t.Helper()
	l := &load{t: t}
	l.cmd = at.command(context.Background(), program, append([]string{
		"bench", "--json", "--verify", "--workers", "16", "--keys", "2000", "--value-size", "200",
		"--warmup", "0s", "--duration", "10m", "--rate", loadRate, "--timeout", opTimeout.String(), "-w", "2", "-r", "2",
	}, args...)...)
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.errs
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l.cmd.ProcessState == nil {
			_ = l.cmd.Process.Kill()
			_ = l.cmd.Wait()
		}
	})
	return l
}

// opTimeout is how long a request of a load may take: less than a failure may
// take to be seen, so that a frozen node has cost all that it can by then.
const opTimeout = 2 * time.Second

// end ends the load and reads its report, which must find nothing lost.
func (l *load) end() report {
	l.t.Helper()
	r, err := l.stop()
	r.tell(l.t)
	if v := r.Verified; err != nil || v.Lost+v.Wrong+v.Unreadable > 0 {
		l.t.Errorf("verification failed: %v\n%d lost, %d wrong, %d unreadable: %v", err, v.Lost, v.Wrong, v.Unreadable, v.Findings)
	}
	return r
}

// stop ends the load and reads its report, whatever that has found. The error is
// that of its process.
func (l *load) stop() (report, error) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		l.t.Fatalf("bench ended before its time: %v\n%s", err, l.errs.String())
	}
	err := l.cmd.Wait()
	var r report
	if jerr := json.Unmarshal(l.out.Bytes(), &r); jerr != nil {
		l.t.Fatalf("bench: %v, %v\n%s%s", err, jerr, l.out.String(), l.errs.String())
	}
	return r, err
}

// tell says what a load that verifies has done, which must not be nothing.
func (r *report) tell(t *testing.T) {
	t.Helper()
	v := r.Verified
	t.Logf("%d requests done, errors %v; %d keys, %d writes acknowledged, %d in doubt", r.Ops, r.Errors, v.Keys, v.Acknowledged, v.InDoubt)
	if r.Ops == 0 || v.Acknowledged == 0 {
		t.Errorf("the load has done nothing: %+v", *r)
	}
}

func address(port int) string { return testports.At(port) }

// freePorts finds ports of loopback that follow one another and are all free,
// and returns the first.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	port, err := testports.Processes.Take(n)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// pass lets the load run for a while.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// Package compat tries clients of Riak against the built program: the official one for
// Node.js and others, from their packages, and plain HTTP requests for what they cannot ask.
package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/testports"
)

const (
	// patience is how long anything may take that has no time of its own.
	patience = time.Minute

	// need names a variable of the environment. Where it is set, a machine on which the
	// clients cannot be tried is a failure, and no reason to skip.
	need = "TANODB_NEED_CLIENT"
)

// The verdicts on a feature.
const (
	supported   = "yes"
	unsupported = "no"               // refused with an error that says so
	clientFault = "the client fails" // at what Riak itself answers
)

// feature is what is expected of one feature: a row of testdata/features.json, and of
// the table in docs/compatibility.md.
type feature struct {
	Feature string `json:"feature"`
	At      string `json:"at"` // the codes or the route
	Verdict string `json:"verdict"`
	Error   string `json:"error"` // a part of the error, where the verdict is not "yes"
}

// outcome is what came of trying a feature: a line that run.js writes.
type outcome struct {
	Feature string `json:"feature"`
	Error   string `json:"error"`
	Millis  int    `json:"ms"`
}

// types are the bucket types that the features use.
var types = [][]string{{"plain"}, {"counters", "datatype=counter"}, {"sets", "datatype=set"}, {"gsets", "datatype=gset"}, {"maps", "datatype=map"}, {"hlls", "datatype=hll"}}

// TestOfficialClient runs the official Node.js client: each of its features against a
// node alone, and against three nodes of which one is killed meanwhile.
func TestOfficialClient(t *testing.T) {
	t.Parallel() // it measures nothing
	needClient(t)
	client := install(t)
	t.Run("features", func(t *testing.T) { tryFeatures(t, client) })
	t.Run("a node is killed", func(t *testing.T) { survive(t, client) })
}

func tryFeatures(t *testing.T, client string) {
	n := newNode(t, "n1")
	n.start()
	n.serves()
	n.makeTypes()
	tried := try(t, client, "run.js", "features", n.pb)
	judge(t, features(t, "features.json"), tried)
}

// try runs a client's script, and returns what came of each feature.
func try(t *testing.T, dir string, args ...string) map[string]outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := node(ctx, dir, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	tried := map[string]outcome{}
	for line := range bytes.Lines(out) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		tried[o.Feature] = o
	}
	return tried
}

// judge compares what came of each feature with what was expected.
func judge(t *testing.T, want []feature, tried map[string]outcome) {
	t.Helper()
	for _, f := range want {
		o, ok := tried[f.Feature]
		delete(tried, f.Feature)
		switch {
		case !ok:
			t.Errorf("%s: nothing tries it", f.Feature)
		case f.Verdict == supported && o.Error != "":
			t.Errorf("%s: %s (after %d ms)", f.Feature, o.Error, o.Millis)
		case f.Verdict != supported && o.Error == "":
			t.Errorf("%s: the verdict is %q, and it works", f.Feature, f.Verdict)
		case f.Verdict != supported && !strings.Contains(o.Error, f.Error):
			t.Errorf("%s: error %q, want one with %q", f.Feature, o.Error, f.Error)
		}
	}
	for name := range tried {
		t.Errorf("%s: there is no verdict on it", name)
	}
}

// survived is what run.js says at the end of survive.
type survived struct {
	Round   bool     `json:"round"` // it goes on, and has stored and fetched each key once more
	Stored  int      `json:"stored"`
	Fetched int      `json:"fetched"`
	Updated int      `json:"updated"`
	Queried int      `json:"queried"`
	Lost    int      `json:"lost"`
	Missed  []string `json:"missed"` // the first of them
	Errors  []string `json:"errors"`
}

// survive kills one of three nodes while the client stores, fetches, updates and queries,
// and starts it again. The client, which turns to another node when one fails, must see no error.
func survive(t *testing.T, client string) {
	nodes := threeNodes(t)
	l := goOn(t, client, "run.js", "survive", nodes.pb()...)
	l.rounds(1)
	nodes[2].kill()
	l.rounds(2) // in the second it is gone
	nodes[0].sees("n3", false)
	nodes[2].start()
	nodes[2].serves()
	nodes[0].sees("n3", true)
	l.rounds(2)
	if s := l.end(); s.Updated == 0 || s.Queried == 0 {
		t.Errorf("%d updates and %d queries", s.Updated, s.Queried)
	}
}

type cluster []*process

// threeNodes is a cluster that serves, with the bucket types.
func threeNodes(t *testing.T) cluster {
	t.Helper()
	nodes := cluster{newNode(t, "n1"), newNode(t, "n2"), newNode(t, "n3")}
	var members []string
	for _, n := range nodes {
		members = append(members, n.name+"="+n.listen)
	}
	for _, n := range nodes {
		n.args = []string{"--listen", n.listen, "--bootstrap", strings.Join(members, ",")}
		n.start()
	}
	for _, n := range nodes {
		n.serves()
	}
	nodes[0].makeTypes()
	return nodes
}

// pb is where the nodes serve Protocol Buffers.
func (c cluster) pb() []string {
	var all []string
	for _, n := range c {
		all = append(all, n.pb)
	}
	return all
}

// loop is a client that goes through all its keys until it is told to end.
type loop struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *json.Decoder
	open  io.Closer
	errs  bytes.Buffer
}

// goOn starts a client's script that goes on until it is told to end.
func goOn(t *testing.T, dir, script, task string, addresses ...string) *loop {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	l := &loop{t: t, cmd: node(ctx, dir, append([]string{script, task}, addresses...)...)}
	l.cmd.Stderr = &l.errs
	open, err := l.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.open, l.lines = open, json.NewDecoder(out)
	return l
}

// rounds waits until the client has gone through all keys so many times more. They may be
// over already, but for the last: its lines are read as they were written.
func (l *loop) rounds(n int) {
	l.t.Helper()
	for range n {
		var s survived
		if err := l.lines.Decode(&s); err != nil || !s.Round {
			l.t.Fatalf("the client has ended before its time: %+v, %v\n%s", s, err, l.errs.String())
		}
	}
}

// end ends the client. It must have lost nothing and seen no error.
func (l *loop) end() survived {
	l.t.Helper()
	l.open.Close()
	s, err := survived{Round: true}, error(nil)
	for s.Round && err == nil {
		s = survived{}
		err = l.lines.Decode(&s)
	}
	err = errors.Join(err, l.cmd.Wait())
	l.t.Logf("%d stored, %d fetched, %d updated, %d queries, errors %q", s.Stored, s.Fetched, s.Updated, s.Queried, s.Errors)
	if err != nil || s.Stored == 0 || s.Lost > 0 || len(s.Errors) > 0 {
		l.t.Errorf("%d acknowledged writes were not returned: %q; error %v\n%s", s.Lost, s.Missed, err, l.errs.String())
	}
	return s
}

// needClient skips where the client cannot be installed.
func needClient(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes, and takes up to a minute")
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "the clients need "+tool+", which is not installed")
		}
	}
}

// skip skips, unless the environment says that the client must be tried.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv(need) != "" {
		t.Fatalf("%s is set: %s", need, why)
	}
	t.Skip(why)
}

// install is the folder that the clients are installed in.
func install(t *testing.T) string {
	t.Helper()
	dir, err := clients()
	var away awayError
	if errors.As(err, &away) {
		skip(t, away.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// awayError is why the clients cannot be installed, where that is nobody's mistake.
type awayError string

func (e awayError) Error() string { return string(e) }

// clients installs what package-lock.json names, each package as its hash says, when it is
// first needed, and returns the folder.
var clients = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(programs, "clients")
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
		"--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return dir, nil
	}
	if ctx.Err() != nil {
		return "", awayError("npm has not come to an end")
	}
	for _, away := range []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"} {
		if bytes.Contains(out, []byte(away)) {
			return "", awayError("npm cannot reach its registry: " + away)
		}
	}
	return "", fmt.Errorf("npm ci: %w\n%s", err, out)
})

// node is a run of a script.
func node(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", append([]string{"--no-warnings"}, args...)...)
	cmd.Dir = dir
	return cmd
}

// features reads a table of testdata.
func features(t *testing.T, name string) []feature {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []feature
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, f := range all {
		if f.Feature == "" || f.At == "" || (f.Verdict == supported) != (f.Error == "") {
			t.Errorf("%s: %+v is not whole", name, f)
		}
	}
	return all
}

// program is the path of the program, which is built when it is first needed.
var program = sync.OnceValues(func() (string, error) {
	// "go test" takes note of what tests read, and runs these again when a file has
	// changed in any of the folders: that they depend on the sources it could not know.
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "../.." {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(programs, "tanodb")
	// Unlike go build, go run keeps what it has linked for others who need the same.
	if out, err := exec.Command("go", "run", "-exec", "cp", "github.com/tanodb/tanodb/cmd/tanodb", path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// programs is the folder that the program is built in.
var programs string

func TestMain(m *testing.M) {
	code := 1
	dir, err := os.MkdirTemp("", "tanodb-compat-")
	if err == nil {
		programs = dir
		code = m.Run()
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
	}
	os.Exit(code)
}

// process is one "tanodb serve".
type process struct {
	t                *testing.T
	program          string
	name             string
	dir              string   // of its data
	http, pb, listen string   // HOST:PORT
	args             []string // more of them
	ca               string   // who has signed its certificate; none: clients are plain
	cmd              *exec.Cmd
	log              string // the file that it writes to
}

// newNode is a node that has not been started.
func newNode(t *testing.T, name string) *process {
	t.Helper()
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return &process{
		t: t, program: program, name: name, dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"),
		http: freeAddress(t), pb: freeAddress(t), listen: freeAddress(t),
	}
}

// start starts the node, and does not wait for it. It is stopped at the end of the test.
func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close() // the process has its own handle
	first := p.cmd == nil
	p.cmd = exec.Command(p.program, append([]string{"serve", "--dir", p.dir, "--name", p.name, "--http", p.http, "--pb", p.pb}, p.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	if first {
		p.t.Cleanup(p.stop)
	}
}

// stop ends the node in order, and shows its log if the test has failed.
func (p *process) stop() {
	if p.cmd.ProcessState == nil {
		late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
		defer late.Stop()
		if err := errors.Join(p.cmd.Process.Signal(os.Interrupt), p.cmd.Wait()); err != nil {
			p.t.Errorf("%s: %v", p.name, err)
		}
	}
	if b, err := os.ReadFile(p.log); p.t.Failed() || err != nil || bytes.Contains(b, []byte("panic")) {
		p.t.Errorf("%s wrote, error %v:\n%s", p.name, err, b)
	}
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatalf("%s ended before its time: %v", p.name, err)
	}
	_ = p.cmd.Wait() // it says that it was killed
}

// run runs a command of the program against the node.
func (p *process) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience)
	defer cancel()
	at := []string{"--addr", "http://" + p.http}
	if p.ca != "" {
		at = []string{"--addr", "https://" + p.http, "--ca", p.ca}
	}
	out, err := exec.CommandContext(ctx, p.program, append(args, at...)...).CombinedOutput()
	return string(out), err
}

// serves waits until the node answers clients.
func (p *process) serves() {
	p.t.Helper()
	if out, err := p.run("ping", "--wait", patience.String()); err != nil {
		p.t.Fatalf("%s does not serve: %s", p.name, out)
	}
}

// makeTypes makes the bucket types that the features use. One of a data type that the
// server does not have is left out: its features show that.
func (p *process) makeTypes() {
	p.t.Helper()
	for _, typ := range types {
		if out, err := p.run(append([]string{"bucket-type", "create"}, typ...)...); err != nil {
			p.t.Logf("bucket type %s: %s", typ[0], out)
			continue
		}
		if out, err := p.run("bucket-type", "activate", typ[0]); err != nil {
			p.t.Fatalf("bucket type %s: %s", typ[0], out)
		}
	}
}

// sees waits until the node holds another to be up, or down.
func (p *process) sees(other string, up bool) {
	p.t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(fmt.Sprint(p.members()), fmt.Sprintf("%s:%v", other, up)) {
		select {
		case <-tick.C:
		case <-end.C:
			p.t.Fatalf("%s does not see that %s is up=%v", p.name, other, up)
		}
	}
}

// members is whom the node holds to be up.
func (p *process) members() map[string]bool {
	var status struct {
		Members []struct {
			Name string `json:"name"`
			Up   bool   `json:"up"`
		} `json:"members"`
	}
	out, err := p.run("status", "--json", "--timeout", "2s")
	if err != nil || json.Unmarshal([]byte(out), &status) != nil {
		return nil
	}
	up := map[string]bool{}
	for _, m := range status.Members {
		up[m.Name] = m.Up
	}
	return up
}

// freeAddress is an address of loopback on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := testports.Compat.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

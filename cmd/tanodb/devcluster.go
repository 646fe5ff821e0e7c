package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tanodb/tanodb"
)

// devCluster runs the processes of a dev cluster. One goroutine, that of run,
// starts and signals them all; requests of other processes come to it through
// a channel.
type devCluster struct {
	dir      string
	exe      string
	state    *devState
	flags    []string // of every node
	basePort int      // 0: any ports
	app      *app
	children []*child // one for each node of the state, in its order

	requests chan devRequest
	ended    chan *child     // children that have ended
	stop     context.Context // done at the first signal: stop in order
	abort    context.Context // done at the second: stop at once
}

// devRequest is what another process asks for.
type devRequest struct {
	action devAction
	nodes  []string
	answer chan<- devAnswer // has room for the answer
}

// child is a node's process.
type child struct {
	name string
	cmd  *exec.Cmd     // nil: never started
	line io.Closer     // our end of its standard input: it ends when this closes
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; valid when done is closed

	// wanted is what was last asked of it: running, paused, killed or stopped; or
	// that it has left, and nothing can be asked of it.
	wanted string
}

// The states of a child.
const (
	childRunning = "running"
	childPaused  = "paused"
	childKilled  = "killed"
	childStopped = "stopped"
	childLeft    = "left" // the cluster
)

var errInterrupted = errors.New("interrupted")

func newDevCluster(dir, exe string, state *devState, flags []string, a *app) *devCluster {
	d := &devCluster{
		dir: dir, exe: exe, state: state, flags: flags, app: a,
		requests: make(chan devRequest),
		ended:    make(chan *child, maxDevNodes),
	}
	for _, n := range state.Nodes {
		c := &child{name: n.Name, wanted: childStopped}
		if n.Left {
			c.wanted = childLeft
		}
		d.children = append(d.children, c)
	}
	return d
}

// run starts the nodes and keeps them until a signal comes, or all of them fail
// to start.
func (d *devCluster) run() error {
	// The kernel ends the children with the thread that has started them, so it
	// has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	release := d.watchSignals()
	defer release()
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		return fmt.Errorf("cannot listen for the commands of tanodb dev: %w", err)
	}
	d.state.Control, d.state.Token = listener.Addr().String(), rand.Text()
	if err := d.state.write(d.dir); err != nil {
		listener.Close()
		return err
	}
	server := &http.Server{Handler: d, ReadHeaderTimeout: dialTimeout}
	served := make(chan struct{})
	go func() {
		defer close(served)
		// It ends when it is closed below; a listener that fails leaves a
		// cluster that runs on and cannot be asked.
		_ = server.Serve(listener)
	}()
	err = d.serve()
	d.stopAll()
	server.Close()
	<-served
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// watchSignals makes the first signal stop the cluster and the second abort
// that.
func (d *devCluster) watchSignals() (release func()) {
	var stop, abort context.CancelFunc
	d.stop, stop = context.WithCancel(context.Background())
	d.abort, abort = context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	quit, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for _, cancel := range []context.CancelFunc{stop, abort} {
			select {
			case <-signals:
				cancel()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(quit)
		<-watched
		stop()
		abort()
	}
}

// serve starts all nodes, says what can be done with them, and then does what
// is asked for until the stop.
func (d *devCluster) serve() error {
	if err := d.start(d.present()); err != nil {
		return err
	}
	if err := d.announce(); err != nil {
		return err
	}
	for {
		select {
		case r := <-d.requests:
			r.answer <- d.handle(r)
		case c := <-d.ended:
			if !c.alive() && (c.wanted == childRunning || c.wanted == childPaused) {
				d.mourn(c)
			}
		case <-d.stop.Done():
			d.say("stopping %s", plural(len(d.children), "node"))
			return errInterrupted
		}
	}
}

// announce prints the nodes and what to try.
func (d *devCluster) announce() error {
	if err := d.app.print(d.processes()); err != nil || d.app.json {
		return err
	}
	_, err := io.WriteString(d.app.stdout, nextSteps(d.dir, d.state, programName(d.exe, os.Args[0])))
	return err
}

// say tells the one who watches the cluster's terminal.
func (d *devCluster) say(format string, args ...any) {
	fmt.Fprintln(d.app.stderr, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// handle does what was asked for.
func (d *devCluster) handle(r devRequest) devAnswer {
	chosen, err := d.choose(r.nodes)
	if err != nil {
		return devAnswer{Error: err.Error(), Usage: true}
	}
	switch r.action {
	case actionKill:
		err = d.kill(chosen)
	case actionPause:
		err = d.freeze(chosen, childPaused, signalPause)
	case actionResume:
		err = d.freeze(chosen, childRunning, signalResume)
	case actionStop:
		err = d.end(chosen)
	case actionStart:
		err = d.start(chosen)
	case actionAdd:
		err = d.add()
	case actionStatus:
	default:
		return devAnswer{Error: fmt.Sprintf("%q is nothing that a dev cluster can do", r.action), Usage: true}
	}
	if r.action != actionStatus {
		d.say("%s %s", r.action, strings.Join(r.nodes, " "))
	}
	ans := devAnswer{Processes: d.processes()}
	if err != nil {
		ans.Error = err.Error()
	}
	return ans
}

// choose is the children that the names or numbers mean.
func (d *devCluster) choose(names []string) ([]*child, error) {
	var chosen []*child
	for _, name := range names {
		if name == "all" {
			return d.present(), nil
		}
		i := slices.IndexFunc(d.children, func(c *child) bool { return c.name == name })
		if n, err := strconv.Atoi(name); err == nil {
			i = n - 1
		}
		if i < 0 || i >= len(d.children) {
			last := d.children[len(d.children)-1].name
			return nil, fmt.Errorf("there is no node %s: there are %s to %s", name, d.children[0].name, last)
		}
		if d.children[i].wanted == childLeft {
			return nil, fmt.Errorf("%s has left the cluster; for a new node: tanodb dev add", d.children[i].name)
		}
		if !slices.Contains(chosen, d.children[i]) {
			chosen = append(chosen, d.children[i])
		}
	}
	return chosen, nil
}

// present are the children that have not left the cluster.
func (d *devCluster) present() []*child {
	return slices.DeleteFunc(slices.Clone(d.children), func(c *child) bool { return c.wanted == childLeft })
}

// mourn tells of a process that has ended without being asked to. That of a node
// which has left the cluster is not started again.
func (d *devCluster) mourn(c *child) {
	if c.err != nil || !d.hasLeft(c.name) {
		d.say("%s has ended by itself: %s\n%s", c.name, c.how(), d.lastLines(c))
		return
	}
	c.wanted = childLeft
	d.state.Nodes[slices.Index(d.children, c)].Left = true
	if err := d.state.write(d.dir); err != nil {
		d.say("%v", err)
	}
	d.say("%s has left the cluster", c.name)
}

// hasLeft asks the others whether a node is a member no more. A node ends a little
// before all of them know.
func (d *devCluster) hasLeft(name string) bool {
	return nil == persist(devPollWithin, func() error {
		for i, c := range d.children {
			if c.name == name || !c.alive() || c.wanted == childPaused {
				continue
			}
			var s tanodb.ClusterState
			other := &app{addrs: []string{d.state.Nodes[i].base()}, timeout: devPollWithin}
			if err := other.clusterGet("", &s); err != nil {
				return err
			}
			if status := statusOf(s, name); status != "" && status != statusLeft {
				return fmt.Errorf("%s is %s", name, status)
			}
			return nil
		}
		return errors.New("nobody can be asked")
	})
}

// kill ends processes at once, all of them before it looks after any.
func (d *devCluster) kill(chosen []*child) error {
	for _, c := range chosen {
		c.wanted = childKilled
		if err := c.signal(os.Kill); err != nil {
			return fmt.Errorf("cannot kill %s: %w", c.name, err)
		}
	}
	for _, c := range chosen {
		c.wait()
	}
	return nil
}

// freeze sends a signal that pauses or resumes running processes.
func (d *devCluster) freeze(chosen []*child, wanted string, sig os.Signal) error {
	if sig == nil {
		return fmt.Errorf("this system cannot freeze a process")
	}
	for _, c := range chosen {
		if !c.alive() {
			return fmt.Errorf("%s does not run: it is %s", c.name, c.stateText())
		}
		if err := c.signal(sig); err != nil {
			return fmt.Errorf("cannot signal %s: %w", c.name, err)
		}
		c.wanted = wanted
	}
	return nil
}

// end stops processes in order, and kills those that take too long.
func (d *devCluster) end(chosen []*child) error {
	for _, c := range chosen {
		if !c.alive() {
			continue
		}
		c.wanted = childStopped
		// The end of its standard input asks it to stop; a frozen process has to
		// go on to see that. One that is gone meanwhile needs neither.
		_ = c.line.Close()
		if signalResume != nil {
			_ = c.signal(signalResume)
		}
	}
	patience := time.NewTimer(devStopWithin)
	defer patience.Stop()
	for _, c := range chosen {
		if c.cmd == nil {
			continue
		}
		select {
		case <-c.done:
			continue
		case <-patience.C:
		case <-d.abort.Done():
		}
		return d.kill(chosen)
	}
	return nil
}

// stopAll ends whatever runs.
func (d *devCluster) stopAll() {
	if err := d.end(d.children); err != nil {
		d.say("%v", err)
	}
	for _, c := range d.children {
		c.wait()
	}
}

// start starts those processes that do not run, and waits until they serve and
// every running node sees every other.
func (d *devCluster) start(chosen []*child) error {
	for _, c := range chosen {
		if c.alive() {
			continue
		}
		if err := d.spawn(c); err != nil {
			return fmt.Errorf("cannot start %s: %w", c.name, err)
		}
	}
	ctx, cancel := context.WithTimeout(d.stop, devReadyWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		missing := d.missing(ctx)
		if missing == "" {
			return nil
		}
		for _, c := range chosen {
			if !c.alive() {
				return fmt.Errorf("%s ended instead of serving: %s\n%s", c.name, c.how(), d.lastLines(c))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if d.stop.Err() != nil {
				return errInterrupted
			}
			return fmt.Errorf("the cluster is not complete after %v: %s", devReadyWithin, missing)
		}
	}
}

// add starts one more node, and keeps it for the next time if it has come up.
func (d *devCluster) add() error {
	if err := d.state.add(d.basePort); err != nil {
		return err
	}
	last := len(d.children)
	c := &child{name: d.state.Nodes[last].Name, wanted: childStopped}
	d.children = append(d.children, c)
	err := d.start([]*child{c})
	if err != nil && !c.alive() {
		c.wanted = childStopped
		d.children, d.state.Nodes = d.children[:last], d.state.Nodes[:last]
		return err
	}
	return errors.Join(err, d.state.write(d.dir))
}

// missing says what is still missing until all running nodes serve and see each
// other; empty: nothing.
func (d *devCluster) missing(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, devPollWithin)
	defer cancel()
	for i, c := range d.children {
		if !c.alive() || c.wanted == childPaused {
			continue
		}
		s, err := nodeStatus(ctx, &app{addrs: []string{d.state.Nodes[i].base()}})
		if err != nil {
			return fmt.Sprintf("%s does not serve: %v", c.name, err)
		}
		for _, m := range s.Members {
			if !m.Up && d.serving(m.Name) {
				return fmt.Sprintf("%s does not see %s", c.name, m.Name)
			}
		}
	}
	return ""
}

// serving reports whether the node of this name should be seen by the others.
func (d *devCluster) serving(name string) bool {
	return slices.ContainsFunc(d.children, func(c *child) bool {
		return c.name == name && c.alive() && c.wanted == childRunning
	})
}

// spawn starts a node's process.
func (d *devCluster) spawn(c *child) error {
	if c.cmd != nil {
		_ = c.line.Close() // of the last process; closed already if that was stopped
	}
	n := d.state.Nodes[slices.Index(d.children, c)]
	args := append([]string{
		"serve",
		"--dir=" + filepath.Join(d.dir, n.Name),
		"--name=" + n.Name,
		"--http=" + n.HTTP,
		"--pb=" + n.PB,
		"--listen=" + n.Listen,
		"--durability=" + d.state.Durability,
	}, append(d.state.into(n), d.flags...)...)
	log, err := os.OpenFile(d.logName(c), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own handle
	cmd := exec.Command(d.exe, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "TANODB_") })
	cmd.Stdout, cmd.Stderr = log, log
	detach(cmd)
	line, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		line.Close()
		return err
	}
	done := make(chan struct{})
	c.cmd, c.line, c.done, c.err, c.wanted = cmd, line, done, nil, childRunning
	go func() {
		c.err = cmd.Wait()
		close(done)
		select {
		case d.ended <- c:
		case <-d.stop.Done():
		}
	}()
	return nil
}

func (d *devCluster) logName(c *child) string { return filepath.Join(d.dir, c.name+".log") }

// lastLines is the end of a node's log.
func (d *devCluster) lastLines(c *child) string {
	const most = 5 // lines
	b, err := os.ReadFile(d.logName(c))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	lines = lines[max(0, len(lines)-most):]
	return d.logName(c) + " ends with:\n  " + strings.Join(lines, "\n  ")
}

// processes is how all nodes are.
func (d *devCluster) processes() devProcesses {
	var ps devProcesses
	for i, c := range d.children {
		p := devProcess{Node: c.name, State: c.stateText(), HTTP: d.state.Nodes[i].base(), PB: d.state.Nodes[i].PB, Log: d.logName(c)}
		if c.alive() {
			p.PID = c.cmd.Process.Pid
		}
		ps = append(ps, p)
	}
	return ps
}

// ServeHTTP takes a request of another process and answers what the cluster's own
// goroutine says to it.
func (d *devCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+d.state.Token)) != 1 {
		http.Error(w, "not allowed", http.StatusForbidden)
		return
	}
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	answer := make(chan devAnswer, 1)
	request := devRequest{action: devAction(strings.TrimPrefix(r.URL.Path, "/")), nodes: r.PostForm["node"], answer: answer}
	stopping := devAnswer{Error: "the dev cluster is stopping"}
	var ans devAnswer
	if request.action == actionAlive {
		writeDevAnswer(w, ans)
		return
	}
	select {
	case d.requests <- request:
		ans = <-answer
	case <-d.stop.Done():
		ans = stopping
	case <-r.Context().Done():
		ans = stopping
	}
	writeDevAnswer(w, ans)
}

func writeDevAnswer(w http.ResponseWriter, ans devAnswer) {
	w.Header().Set("Content-Type", "application/json")
	// Whoever has asked is gone if this fails.
	_ = json.NewEncoder(w).Encode(ans)
}

// alive reports whether the process runs, frozen or not.
func (c *child) alive() bool {
	if c.cmd == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to a process that runs.
func (c *child) signal(sig os.Signal) error {
	if !c.alive() {
		return nil
	}
	err := c.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// wait returns when the process has ended.
func (c *child) wait() {
	if c.cmd != nil {
		<-c.done
	}
}

// stateText is what the process does, or how it has ended.
func (c *child) stateText() string {
	if c.alive() || c.wanted == childKilled || c.wanted == childStopped || c.wanted == childLeft {
		return c.wanted
	}
	return "ended: " + c.how()
}

// how is how the process has ended.
func (c *child) how() string {
	if c.err != nil {
		return c.err.Error()
	}
	return "exit status 0"
}

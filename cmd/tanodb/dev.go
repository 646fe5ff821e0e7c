package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/server/console"
)

// defaultDevDir is where a dev cluster lives unless --dir says otherwise.
const defaultDevDir = "tanodb-dev"

// maxDevNodes is how many processes one machine is asked to run at most.
const maxDevNodes = 32

// devPorts is how many ports a node has: for HTTP, for other nodes, and for
// Riak's clients.
const devPorts = 3

type devCmd struct {
	Dir string `help:"Where the cluster keeps its data, logs and ports; it tells the other commands which cluster is meant." default:"tanodb-dev" placeholder:"DIR" env:"TANODB_DEV_DIR"`

	Run    devRunCmd    `cmd:"" default:"withargs" help:"Run the cluster until Ctrl-C. This is what dev alone does."`
	Kill   devKillCmd   `cmd:"" help:"End a node's process at once, as kill -9 does."`
	Pause  devPauseCmd  `cmd:"" help:"Freeze a node's process."`
	Resume devResumeCmd `cmd:"" help:"Let a frozen process go on."`
	Stop   devStopCmd   `cmd:"" help:"Stop a node in order."`
	Start  devStartCmd  `cmd:"" help:"Start a node that was killed or stopped."`
	Add    devAddCmd    `cmd:"" help:"Start one more node, which joins the cluster."`
	Status devStatusCmd `cmd:"" help:"Show the processes."`
}

// Help is the long part of the command's help.
func (*devCmd) Help() string {
	return `Without a command it runs the cluster: tanodb dev --nodes 3. The flags of that are explained by tanodb dev run --help. While it runs, the other commands act on its processes:

    tanodb dev kill 2
    tanodb dev start 2
    tanodb dev pause 1 3
    tanodb dev resume all
    tanodb dev add
    tanodb dev status`
}

type devRunCmd struct {
	Nodes      int    `help:"How many nodes; 0: as many as the directory has, or 3." placeholder:"N"`
	BasePort   int    `help:"Use ports from this one on; 0: the ports of the last time, or free ones, and 8098 for the first node's HTTP and 8087 for its Riak clients if they are free." placeholder:"PORT" env:"TANODB_BASE_PORT"`
	Partitions int    `help:"The size of the ring; 0: what the directory has, or 64." placeholder:"Q"`
	Replicas   int    `help:"How many vnodes hold each key; 0: what the directory has, or 3." placeholder:"N"`
	Durability string `help:"When a write is confirmed: sync or interval." enum:"sync,interval" default:"sync" placeholder:"WHEN"`
	Cache      int64  `help:"Memory of each node for what was read and written last, in MiB." default:"64" placeholder:"MIB"`
	Pprof      bool   `help:"Let every node serve profiles under /debug/pprof/."`
}

// Help is the long part of the command's help.
func (*devRunCmd) Help() string {
	return `Starts the nodes as real processes on loopback, prints what to try next, and stops them all on Ctrl-C. Data, ports and logs stay in --dir, so that the next start goes on where this one ended; remove the directory to begin anew.

Example, and what may be done while it runs, in another terminal:

    tanodb dev --nodes 3
    tanodb dev kill 2
    tanodb dev pause 3
    tanodb dev status`
}

// devNodes are the nodes that an action means.
type devNodes struct {
	Nodes []string `arg:"" name:"node" help:"Numbers or names of nodes, or all."`
}

type (
	devKillCmd   struct{ devNodes }
	devPauseCmd  struct{ devNodes }
	devResumeCmd struct{ devNodes }
	devStopCmd   struct{ devNodes }
	devStartCmd  struct{ devNodes }
	devAddCmd    struct{}
	devStatusCmd struct {
		Wait time.Duration `help:"Keep trying this long until the cluster is complete." placeholder:"DURATION"`
	}
)

func devHelp(action string) string {
	return fmt.Sprintf("Example, while tanodb dev runs in another terminal:\n\n    tanodb dev %s 2", action)
}

// Help is the long part of the command's help.
func (*devKillCmd) Help() string { return devHelp("kill") }

// Help is the long part of the command's help.
func (*devPauseCmd) Help() string { return devHelp("pause") }

// Help is the long part of the command's help.
func (*devResumeCmd) Help() string { return devHelp("resume") }

// Help is the long part of the command's help.
func (*devStopCmd) Help() string { return devHelp("stop") }

// Help is the long part of the command's help.
func (*devStartCmd) Help() string { return devHelp("start") }

// Help is the long part of the command's help.
func (*devAddCmd) Help() string {
	return `The node gets the next number. It joins at once; the partitions that it takes over follow.

Example, while tanodb dev runs in another terminal:

    tanodb dev add
    tanodb cluster transfers
    tanodb cluster ready --wait 1m`
}

// Help is the long part of the command's help.
func (*devStatusCmd) Help() string {
	return "Example, while tanodb dev runs in another terminal:\n\n    tanodb dev status"
}

// Run ends the processes.
func (c *devKillCmd) Run(a *app, d *devCmd) error { return d.act(a, actionKill, c.Nodes) }

// Run freezes the processes.
func (c *devPauseCmd) Run(a *app, d *devCmd) error { return d.act(a, actionPause, c.Nodes) }

// Run lets the processes go on.
func (c *devResumeCmd) Run(a *app, d *devCmd) error { return d.act(a, actionResume, c.Nodes) }

// Run stops the processes.
func (c *devStopCmd) Run(a *app, d *devCmd) error { return d.act(a, actionStop, c.Nodes) }

// Run starts the processes.
func (c *devStartCmd) Run(a *app, d *devCmd) error { return d.act(a, actionStart, c.Nodes) }

// Run starts one more.
func (c *devAddCmd) Run(a *app, d *devCmd) error { return d.act(a, actionAdd, nil) }

// Run shows the processes.
func (c *devStatusCmd) Run(a *app, d *devCmd) error {
	return persist(c.Wait, func() error { return d.act(a, actionStatus, nil) })
}

// act asks the running cluster for something and prints how it is then.
func (d *devCmd) act(a *app, action devAction, nodes []string) error {
	state, err := readDevState(d.Dir)
	if err != nil {
		return err
	}
	if state == nil {
		return fmt.Errorf("there is no dev cluster in %s: start one with: tanodb dev --dir %s", d.Dir, d.Dir)
	}
	processes, err := state.ask(d.Dir, action, nodes)
	if err != nil {
		return err
	}
	return a.print(processes)
}

// Run runs the cluster until a signal comes.
func (c *devRunCmd) Run(a *app, d *devCmd) error {
	state, err := c.prepare(d.Dir)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program to start it: %w", err)
	}
	cluster := newDevCluster(d.Dir, exe, state, c.flags(), a)
	cluster.basePort = c.BasePort
	return cluster.run()
}

// flags are the flags that every node gets.
func (c *devRunCmd) flags() []string {
	flags := []string{"--tether", fmt.Sprintf("--cache=%dMiB", c.Cache)}
	if c.Pprof {
		flags = append(flags, "--pprof")
	}
	return flags
}

// prepare makes the directory and decides the cluster's nodes and ports, the
// kept ones where there are.
func (c *devRunCmd) prepare(dir string) (*devState, error) {
	if c.Nodes < 0 || c.Nodes > maxDevNodes {
		return nil, usagef("--nodes is %d; it must be from 1 to %d", c.Nodes, maxDevNodes)
	}
	if c.BasePort < 0 || c.BasePort+devPorts*maxDevNodes > 1<<16 {
		return nil, usagef("--base-port is %d; it must be from 1 to %d", c.BasePort, 1<<16-devPorts*maxDevNodes)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the cluster: %w", err)
	}
	state, err := readDevState(dir)
	if err != nil {
		return nil, err
	}
	if state == nil {
		state = newDevState(cmp.Or(c.Nodes, 3), cmp.Or(c.Partitions, 64), cmp.Or(c.Replicas, 3))
	}
	if state.running() {
		return nil, fmt.Errorf("a dev cluster runs in %s already: stop it there, or choose another --dir", dir)
	}
	for _, kept := range []struct {
		what      string
		have, ask int
	}{
		{"nodes", len(state.Nodes), c.Nodes},
		{"partitions", state.Partitions, c.Partitions},
		{"replicas", state.Replicas, c.Replicas},
	} {
		if kept.ask != 0 && kept.ask != kept.have {
			return nil, fmt.Errorf("%s holds a cluster of %d %s, not %d: choose another --dir, or remove it", dir, kept.have, kept.what, kept.ask)
		}
	}
	state.Durability = c.Durability
	return state, state.choosePorts(c.BasePort)
}

// nextSteps is what may be tried with a cluster that has just come up.
func nextSteps(dir string, state *devState, program string) string {
	addr := ""
	if base := state.Nodes[0].base(); base != defaultAddr {
		addr = " --addr " + base
	}
	at := ""
	if dir != defaultDevDir {
		at = " --dir " + quoteForShell(dir)
	}
	steps := []string{"put mybucket k1 42" + addr, "get mybucket k1" + addr, "keys mybucket --replicas" + addr}
	if len(state.Nodes) > 2 {
		steps = append(steps, "dev kill 2"+at, "put mybucket k2 43"+addr, "dev start 2"+at, "dev pause 3"+at, "status"+addr, "dev resume 3"+at, "dev add"+at, "cluster ready --wait 1m"+addr, "cluster members"+addr)
	}
	steps = append(steps, "bench --dir "+quoteForShell(dir)+" --duration 5s", "del mybucket k1"+addr)
	var b strings.Builder
	b.WriteString("\nTry, in another terminal:\n\n")
	for _, s := range steps {
		fmt.Fprintf(&b, "    %s %s\n", program, s)
	}
	fmt.Fprintf(&b, "\nWatch it in a browser at %s%s, or in a terminal: %s top%s\n", state.Nodes[0].base(), console.Prefix, program, addr)
	fmt.Fprintf(&b, "\nData, ports and logs are kept in %s. Stop with Ctrl-C.\n", dir)
	return b.String()
}

// programName is how the one who started this program can start it again: as it
// was called, or through "go run" if it was built and started by that.
func programName(exe, arg0 string) string {
	built := filepath.Base(filepath.Dir(exe)) == "exe" && strings.Contains(exe, "go-build")
	if !built {
		return quoteForShell(arg0)
	}
	if _, err := os.Stat(filepath.Join("cmd", "tanodb", "main.go")); err == nil {
		return "go run ./cmd/tanodb"
	}
	return quoteForShell(exe) // it is there as long as this process runs
}

// quoteForShell makes a string one word of a shell, as it is where that is safe.
func quoteForShell(s string) string {
	safe := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._/=:,@%+~", r)
	}
	if s != "" && s[0] != '~' && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// The times of a dev cluster.
const (
	devReadyWithin = 60 * time.Second // until all nodes serve and see each other
	devStopWithin  = 15 * time.Second // until a node that was asked to stop is ended; longer than serve's --drain
	devPollWithin  = time.Second      // for one look at a node
)

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// The limits of a load.
const (
	maxBenchWorkers = 10_000
	maxBenchKeys    = 100_000_000
	maxBenchNodes   = 9
	maxBenchRate    = 10_000_000
)

// The protocols of a load.
const (
	protocolHTTP     = "http"
	protocolPB       = "pb"
	protocolEmbedded = "embedded"
)

type benchCmd struct {
	Protocol  string        `help:"How the nodes are asked: http; pb: Protocol Buffers, by the Go client; embedded: nodes in this process, started for the load." enum:"http,pb,embedded" default:"http" placeholder:"NAME"`
	Dir       string        `help:"Load the dev cluster of this directory instead of --addr." placeholder:"DIR"`
	PB        []string      `name:"pb" help:"With --protocol pb: where the nodes of --addr serve Protocol Buffers, in the same order." default:"127.0.0.1:8087" placeholder:"HOST:PORT"`
	Nodes     int           `help:"With --protocol embedded: how many nodes are started, with data in a new directory below the current one, which is removed in the end." default:"1" placeholder:"N"`
	Workload  string        `help:"What is done: put, get, or mixed." enum:"put,get,mixed" default:"mixed" placeholder:"NAME"`
	ReadRatio float64       `help:"Share of reads in a mixed load." default:"0.5" placeholder:"0…1"`
	Workers   int           `help:"How many requests are in progress at any moment." default:"16" placeholder:"N"`
	Rate      int           `help:"Requests a second at most, of all workers together; 0: each as soon as the one before is answered." placeholder:"N"`
	Keys      int           `help:"How many keys are used; each worker writes its own share of them." default:"10000" placeholder:"N"`
	ValueSize int           `help:"Bytes in a value." default:"1024" placeholder:"BYTES"`
	Dist      string        `help:"How keys are chosen: uniform or zipf." enum:"uniform,zipf" default:"uniform" placeholder:"NAME"`
	Duration  time.Duration `help:"How long is measured." default:"10s" placeholder:"DURATION"`
	Warmup    time.Duration `help:"How long the load runs before that." default:"1s" placeholder:"DURATION"`
	Bucket    string        `help:"The bucket." default:"bench" placeholder:"NAME"`
	Prefix    string        `help:"What the keys begin with; none: a new one for this run. With a given one, keys are read before they are first written." placeholder:"TEXT"`
	Fill      bool          `help:"Write every key once before the warm-up. A load of gets alone needs that, or the --prefix of a filled run."`
	Verify    bool          `help:"Remember every acknowledged write, and read all of them back at the end."`
	R         quorumValue   `name:"r" short:"r" help:"Replicas that must answer a read." placeholder:"N"`
	W         quorumValue   `name:"w" short:"w" help:"Replicas that must store a write." placeholder:"N"`
}

// Help is the long part of the command's help.
func (*benchCmd) Help() string {
	return `Every worker sends a request, waits for its answer, and sends the next: a closed loop. With --rate they also wait until it is their turn, and what a busy cluster has missed is not made up for. Workers are spread over the nodes; while a node does not answer, its workers use the others. No request is sent twice; each that failed is counted, by kind and by second. --timeout bounds each request.

With --verify the bucket is set to keep siblings (allow_mult=true), and the exit code is 1 if an acknowledged write is missing at the end, or a value is there that must not be. It is 1 too if no operation has succeeded.

The three protocols take the same load. Over HTTP a worker asks its own node; over Protocol Buffers the Go client chooses one that holds the key, as it does in a program. Embedded nodes share the process with the load, so that their CPU is that of both.

An address of https is loaded over TLS, by HTTP and by Protocol Buffers, and --ca, --user, --cert and --key say whom to trust and who asks; see tanodb security.

Examples, on a dev cluster, on any, and on none:

    tanodb bench --dir tanodb-dev --workers 64 --duration 10s --protocol pb
    tanodb bench --addr http://10.0.0.1:8098,http://10.0.0.2:8098 --workload put -w 2 --json
    tanodb bench --protocol embedded --nodes 3
    tanodb bench --addr https://10.0.0.1:8098 --ca ca.crt --user loader --password-file loader.pw --protocol pb --pb 10.0.0.1:8087`
}

// Run loads the cluster and prints what came of it.
func (c *benchCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release()
	target, err := c.target(a)
	if err != nil {
		return err
	}
	return errors.Join(c.measure(ctx, a, target), target.close())
}

// measure loads the target and prints what came of it.
func (c *benchCmd) measure(ctx context.Context, a *app, target *benchTarget) error {
	if c.Verify {
		if err := target.keepSiblings(ctx, kv.Bucket{Name: c.Bucket}); err != nil {
			return a.told(err)
		}
	}
	b := newBench(c, a.timeout, target)
	defer b.close()
	if err := b.load(ctx); err != nil {
		return err
	}
	report := b.report()
	if c.Verify {
		// The load may have been interrupted; what it has written is judged still.
		report.Verified = b.verify(context.Background())
	}
	if err := a.print(report); err != nil {
		return err
	}
	if v := report.Verified; v != nil && !v.good() {
		return fmt.Errorf("verification failed: %s", v.summary())
	}
	if report.Ops == 0 && len(report.Errors) > 0 {
		return errors.New("no operation has succeeded")
	}
	if report.Ops == 0 {
		return errors.New("it ended before any operation was measured")
	}
	return nil
}

// check refuses a load that cannot be meant.
func (c *benchCmd) check() error {
	switch {
	case c.Workers < 1 || c.Workers > maxBenchWorkers:
		return usagef("--workers is %d; it must be from 1 to %d", c.Workers, maxBenchWorkers)
	case c.Rate < 0 || c.Rate > maxBenchRate:
		return usagef("--rate is %d; it must be from 0 to %d", c.Rate, maxBenchRate)
	case c.Keys < c.Workers || c.Keys > maxBenchKeys:
		return usagef("--keys is %d; it must be from the number of workers, %d, to %d", c.Keys, c.Workers, maxBenchKeys)
	case c.ValueSize < 0 || c.ValueSize > kv.MaxObject/2:
		return usagef("--value-size is %d; it must be from 0 to %d", c.ValueSize, kv.MaxObject/2)
	case c.Verify && c.ValueSize < maxBenchHead:
		return usagef("--value-size is %d; --verify needs at least %d bytes to tell values apart", c.ValueSize, maxBenchHead)
	case c.ReadRatio < 0 || c.ReadRatio > 1:
		return usagef("--read-ratio is %v; it must be from 0 to 1", c.ReadRatio)
	case c.Duration < time.Millisecond || c.Duration > kv.MaxTimeout:
		return usagef("--duration is %v; it must be from 1ms to %v", c.Duration, kv.MaxTimeout)
	case c.Protocol == protocolEmbedded && (c.Nodes < 1 || c.Nodes > maxBenchNodes):
		return usagef("--nodes is %d; it must be from 1 to %d", c.Nodes, maxBenchNodes)
	case c.Protocol == protocolEmbedded && c.Dir != "":
		return usagef("--dir names a dev cluster; --protocol embedded starts nodes of its own")
	case c.Warmup < 0 || c.Warmup > kv.MaxTimeout:
		return usagef("--warmup is %v; it must be from 0s to %v", c.Warmup, kv.MaxTimeout)
	}
	return kv.Key{Bucket: c.Bucket, Name: c.keyName(0)}.Validate()
}

// keyName is the name of a key by its number. The prefix is settled by newBench.
func (c *benchCmd) keyName(i int) string { return fmt.Sprintf("%s%09d", c.Prefix, i) }

// newRun is a word that no other run has.
func newRun() string { return strings.ToLower(rand.Text()[:8]) }

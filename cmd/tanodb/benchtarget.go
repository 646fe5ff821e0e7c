package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tanodb/tanodb"
	goclient "github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/kv"
)

// benchTarget is what a load is sent to.
type benchTarget struct {
	size    int         // how many nodes
	as      *caller     // who asks; nil: it asks in this process
	secure  bool        // over TLS
	nodes   *nodeHealth // of those that are asked over HTTP whether they are there
	carrier func(worker int) carrier
	cpu     func(context.Context) []processTime

	// keepSiblings makes the bucket one that loses no write to another: what is
	// missing in the end is lost then, and not only beaten.
	keepSiblings func(context.Context, kv.Bucket) error
	close        func() error
}

// keptSiblings is the property that keepSiblings sets.
var keptSiblings = kv.Properties{{Name: "allow_mult", Value: "true"}}

// target is what the flags name. The caller closes it.
func (c *benchCmd) target(a *app) (*benchTarget, error) {
	if c.Protocol == protocolEmbedded {
		return c.embedded()
	}
	web, riak, err := c.addresses(a)
	if err != nil {
		return nil, err
	}
	as := a.as()
	if c.Dir != "" {
		as = plainCaller // a dev cluster has neither certificates nor users
	}
	password, err := as.secret()
	if err != nil {
		return nil, err
	}
	t := &benchTarget{size: len(web), nodes: newNodeHealth(web, as), as: as, close: func() error { return nil }}
	t.secure = strings.HasPrefix(web[0], "https://")
	t.cpu = func(ctx context.Context) []processTime { return processTimes(ctx, as, web) }
	t.keepSiblings = func(_ context.Context, b kv.Bucket) error {
		one := *a
		one.addrs, one.caller = web, as
		path := ownPrefix + "/buckets/" + url.PathEscape(b.Name) + "/props"
		return one.exchange(http.MethodPut, path, map[string]kv.Properties{"props": keptSiblings}, nil)
	}
	if c.Protocol == protocolHTTP {
		paths := newBenchPaths(c, a.timeout)
		t.carrier = func(i int) carrier {
			return &httpCarrier{worker: i, nodes: t.nodes, paths: paths, wire: newWire(as, password)}
		}
		return t, nil
	}
	// Every worker may have a connection to the same node, and keeps it.
	o := goclient.Options{Addresses: riak, MaxOpen: c.Workers, MaxIdle: c.Workers, User: as.name(), Password: password}
	if t.secure {
		o.TLS = as.secured("") // the client knows the host
		o.DialTimeout = probeLogin
	}
	remote, err := goclient.New(o)
	if err != nil {
		return nil, err
	}
	t.close = remote.Close
	t.carrier = func(int) carrier { return c.storeCarrier(remote, t.nodes) }
	return t, nil
}

func (c *benchCmd) storeCarrier(s kv.Store, nodes *nodeHealth) *storeCarrier {
	return &storeCarrier{store: s, bucket: kv.Bucket{Name: c.Bucket}, r: c.R.Quorum, w: c.W.Quorum, nodes: nodes}
}

// addresses are the URL of every node that the load is spread over, and HOST:PORT of
// its Protocol Buffers. If one is of https, all are, and Protocol Buffers are over TLS too.
func (c *benchCmd) addresses(a *app) (web, riak []string, err error) {
	if c.Dir != "" {
		return c.devAddresses()
	}
	web = a.addrs
	for _, base := range web {
		if strings.HasPrefix(base, "https://") != strings.HasPrefix(web[0], "https://") {
			return nil, nil, usagef("%s and %s: a load is over TLS to all nodes, or to none", web[0], base)
		}
	}
	if a.as().user != "" && !strings.HasPrefix(web[0], "https://") {
		return nil, nil, notOverPlain(web[0])
	}
	if c.Protocol == protocolPB && len(c.PB) != len(web) {
		return nil, nil, usagef("--pb names %s and --addr %d: give both of every node, since the processor time is asked for over HTTP", plural(len(c.PB), "node"), len(web))
	}
	return web, c.PB, nil
}

// devAddresses are the same of a dev cluster.
func (c *benchCmd) devAddresses() (web, riak []string, err error) {
	state, err := readDevState(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	if state == nil {
		return nil, nil, fmt.Errorf("there is no dev cluster in %s: start one with: tanodb dev --dir %s", c.Dir, c.Dir)
	}
	for _, n := range state.Nodes {
		if n.Left {
			continue
		}
		if c.Protocol == protocolPB && n.PB == "" {
			return nil, nil, fmt.Errorf("node %s has no port for Protocol Buffers yet: stop the dev cluster and start it again", n.Name)
		}
		web, riak = append(web, "http://"+n.HTTP), append(riak, n.PB)
	}
	return web, riak, nil
}

// embedded starts nodes in this process. Their data are below the current
// directory, since a temporary one may be in memory.
func (c *benchCmd) embedded() (*benchTarget, error) {
	dir, err := os.MkdirTemp(".", "tanodb-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory for the nodes: %w", err)
	}
	cluster := &embeddedCluster{dir: dir}
	if err := cluster.open(c.Nodes); err != nil {
		return nil, errors.Join(err, cluster.close())
	}
	t := &benchTarget{size: c.Nodes, nodes: newNodeHealth(nil, nil), close: cluster.close}
	t.carrier = func(i int) carrier { return c.storeCarrier(cluster.nodes[i%c.Nodes], t.nodes) }
	t.cpu = func(context.Context) []processTime { return []processTime{cluster.processTime()} }
	t.keepSiblings = func(ctx context.Context, b kv.Bucket) error {
		return cluster.nodes[0].SetBucketProps(ctx, b, keptSiblings)
	}
	return t, nil
}

// embeddedCluster is a cluster in this process, over loopback.
type embeddedCluster struct {
	dir   string
	nodes []*tanodb.Node
}

func (e *embeddedCluster) open(size int) error {
	var o tanodb.Options
	if size > 1 {
		var held ports
		defer held.release()
		for i := range size {
			address, err := held.hold(anyPort)
			if err != nil {
				return err
			}
			o.Bootstrap = append(o.Bootstrap, tanodb.Member{Name: fmt.Sprintf("n%d", i+1), Address: address})
		}
		held.release()
	}
	for i := range size {
		if size > 1 {
			o.Name, o.Listen = o.Bootstrap[i].Name, o.Bootstrap[i].Address
		}
		n, err := tanodb.Open(filepath.Join(e.dir, fmt.Sprintf("n%d", i+1)), o)
		if err != nil {
			return err
		}
		e.nodes = append(e.nodes, n)
	}
	return e.together()
}

// together waits until every node sees all others.
func (e *embeddedCluster) together() error {
	const patience, every = 30 * time.Second, 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for _, n := range e.nodes {
		for slices.ContainsFunc(n.Status().Members, func(m tanodb.MemberState) bool { return !m.Up }) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("node %s does not see all nodes after %v", n.Name(), patience)
			}
		}
	}
	return nil
}

// processTime is that of this process.
func (e *embeddedCluster) processTime() processTime {
	var p processTime
	families, err := e.nodes[0].Metrics().Gather()
	if err != nil {
		return p
	}
	for _, f := range families {
		switch f.GetName() {
		case "process_cpu_seconds_total":
			p.cpu = f.GetMetric()[0].GetCounter().GetValue()
		case "process_start_time_seconds":
			p.started = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return p
}

func (e *embeddedCluster) close() error {
	var errs []error
	for _, n := range e.nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/internal/server/console"
	httpd "github.com/tanodb/tanodb/internal/server/http"
	"github.com/tanodb/tanodb/internal/server/pb"
)

type serveCmd struct {
	serverFlags
	Tether bool `hidden:"" help:"Stop when standard input ends, that is, with the process that holds its other end."`
}

// Help is the long part of the command's help.
func (*serveCmd) Help() string {
	return `When it serves, one line that begins with "ready" is written to standard output; logs go to standard error. Every flag can be given in the environment too, and in a file; see tanodb config.

Example, a whole database, a node of three, and a fourth that joins them:

    tanodb serve --dir ./data
    tanodb serve --dir ./n1 --name n1 --http 10.0.0.1:8098 --pb 10.0.0.1:8087 --bootstrap n1=10.0.0.1:7098,n2=10.0.0.2:7098,n3=10.0.0.3:7098
    tanodb serve --dir ./n4 --name n4 --listen 10.0.0.4:7098 --auto-join 10.0.0.1:7098,10.0.0.2:7098`
}

// Run serves until it is told to stop. A node that has joined another cluster is closed
// and opened again, and serves on.
func (c *serveCmd) Run(a *app, k *kong.Kong) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := cfg.Exposed(); err != nil {
		return asUsage(err)
	}
	s, err := newSettings(cfg, a.stderr)
	if err != nil {
		return err
	}
	defer endTraces(s.spans, s.log)
	for _, text := range append(strays(k), tooFewFiles(cfg, fileLimit())) {
		if text != "" {
			s.log.Warn(text)
		}
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if c.Tether {
		go tether(a.stdin, signals)
	}
	at := addresses{cfg.HTTP, cfg.PB}
	for told := false; ; told = true {
		doors, err := at.listen()
		if err != nil {
			return err
		}
		running, err := s.open(signals)
		if err != nil {
			return errors.Join(err, doors.close())
		}
		if !told {
			if err := a.print(newReady(running.node.Status(), doors, s.users != nil)); err != nil {
				s.log.Warn("cannot write the ready line", "error", err)
			}
		}
		if err := running.run(doors); !errors.Is(err, errReopen) {
			return err
		}
	}
}

// filesOfNode is how many open files a node needs beside the connections of its clients: tables of
// the engine, its logs, and connections to other nodes.
const filesOfNode = 2000

// tooFewFiles says that more may be open than the system allows: then nobody gets in, and the engine
// cannot go on. Empty: there are enough.
func tooFewFiles(c *config.Config, limit uint64) string {
	need := uint64(filesOfNode + c.MaxConnections) // few nodes have clients of both protocols
	if limit == 0 || limit >= need {
		return ""
	}
	return fmt.Sprintf("the limit of open files is %d, and %d may be needed: raise it (ulimit -n, or LimitNOFILE of the unit), or lower max-connections", limit, need)
}

// addresses are where clients are to come in.
type addresses struct{ http, pb string } // pb may be config.PBOff

// doors are where clients come in.
type doors struct{ http, pb net.Listener } // pb is nil if it is off

// listen opens the doors. The next time they are the same, with the ports that the
// system may have chosen.
func (a *addresses) listen() (d doors, err error) {
	if d.http, err = net.Listen("tcp", a.http); err != nil {
		return d, fmt.Errorf("cannot serve HTTP: %w; choose another address with --http", err)
	}
	a.http = d.http.Addr().String()
	if a.pb == config.PBOff {
		return d, nil
	}
	if d.pb, err = net.Listen("tcp", a.pb); err != nil {
		return d, errors.Join(fmt.Errorf("cannot serve Protocol Buffers: %w; choose another address with --pb, or --pb off", err), d.http.Close())
	}
	a.pb = d.pb.Addr().String()
	return d, nil
}

func (d doors) close() error {
	err := d.http.Close()
	if d.pb != nil {
		err = errors.Join(err, d.pb.Close())
	}
	return err
}

// open opens the node, which may take minutes where it is to join a cluster that cannot
// be reached. A signal ends that, and with it the process.
func (s *settings) open(signals chan os.Signal) (*serving, error) {
	type opened struct {
		node *tanodb.Node
		err  error
	}
	c := s.now()
	done := make(chan opened, 1)
	go func() {
		node, err := tanodb.Open(c.Dir, s.nodeOptions(c))
		done <- opened{node, err}
	}()
	select {
	case sig := <-signals:
		return nil, fmt.Errorf("stopped by %v before %s was open", sig, c.Dir)
	case ans := <-done:
		if ans.err != nil {
			return nil, fmt.Errorf("cannot open %s: %w", c.Dir, ans.err)
		}
		return s.serve(ans.node, c, signals), nil
	}
}

// serve makes the servers of a node that is open.
func (s *settings) serve(node *tanodb.Node, c *config.Config, signals chan os.Signal) *serving {
	s.runs(node)
	guarded := s.door.Behind(node)
	riakOptions := s.pbOptions(c)
	riakOptions.Gate, riakOptions.OwnMachine, riakOptions.Audit = node, !c.Insecure && !config.IsLoopback(c.PB), s.audit()
	riakOptions.Properties, riakOptions.Buckets, riakOptions.Data, riakOptions.Indexes, riakOptions.Cluster = node, node, guarded, guarded, node
	if s.spans != nil {
		riakOptions.Traces = s.spans
	}
	riak := pb.NewServer(guarded, riakOptions)
	o := s.httpOptions(c)
	out := &serving{node: node, pb: riak, drain: c.Drain, log: s.log, signals: signals}
	clients := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return out.http.Metrics().Gather() })
	o.Metrics = prometheus.Gatherers{riak.Metrics(), s.door.Metrics(), s.certMetrics(), clients}
	out.metrics = prometheus.Gatherers{node.Metrics(), o.Metrics}
	out.console = console.New(guarded, console.Options{Logger: s.log, User: tanodb.UserOf})
	db := httpd.New(guarded, o)
	if s.spans != nil {
		db = httpd.Traced(db, s.spans)
	}
	handler := withConsole(db, out.console)
	if c.Pprof {
		handler = withProfiles(handler)
	}
	guard := httpd.Guard{Gate: node, OwnMachine: !c.Insecure && !config.IsLoopback(c.HTTP), Names: localNames(c), Audit: s.audit()}
	out.http = httpd.NewServer(guard.Before(handler), o) // the guard is outside of all else that is served
	return out
}

// localNames are the names by which a node is asked that serves its own machine alone, or that
// was told of them; nil: it serves others, and is called as they call it.
func localNames(c *config.Config) []string {
	if c.Insecure && !config.IsLoopback(c.HTTP) && len(c.AllowedHosts) == 0 {
		return nil
	}
	names := []string{}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	if host, _, err := net.SplitHostPort(c.HTTP); err == nil {
		names = append(names, host)
	}
	return append(names, c.AllowedHosts...)
}

// withConsole serves the console beside the database.
func withConsole(db, views http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.EscapedPath(), console.Prefix); ok && (rest == "" || rest[0] == '/') {
			views.ServeHTTP(w, r)
			return
		}
		db.ServeHTTP(w, r)
	})
}

// withProfiles serves profiles beside the database.
func withProfiles(db http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			mux.ServeHTTP(w, r)
			return
		}
		db.ServeHTTP(w, r)
	})
}

// ready is what is printed when a node serves.
type ready struct {
	Ready  bool   `json:"ready"`
	Node   string `json:"node"`
	HTTP   string `json:"http"`
	PB     string `json:"pb,omitempty"` // empty: off
	Listen string `json:"listen,omitempty"`
}

func newReady(s tanodb.Status, d doors, secure bool) ready {
	r := ready{Ready: true, Node: s.Node, HTTP: "http://" + d.http.Addr().String(), Listen: s.Listen}
	if secure {
		r.HTTP = "https://" + d.http.Addr().String()
	}
	if d.pb != nil {
		r.PB = d.pb.Addr().String()
	}
	return r
}

// String is one line.
func (r ready) String() string {
	s := "ready: node " + r.Node + " at " + r.HTTP
	if r.PB != "" {
		s += ", for Riak's clients at " + r.PB
	}
	if r.Listen != "" {
		s += ", for other nodes at " + r.Listen
	}
	return s + "\n"
}

// serving is a node and its servers while they run.
type serving struct {
	node    *tanodb.Node
	console *console.Console
	http    *httpd.Server
	pb      *pb.Server          // without a listener where it is off
	metrics prometheus.Gatherer // all that /metrics shows
	drain   time.Duration
	log     *slog.Logger
	signals chan os.Signal
	hurried bool // a signal has come while it stopped
}

// tether asks to stop when the reader ends.
func tether(r io.Reader, signals chan<- os.Signal) {
	// Whether the pipe ended or broke, its other end is gone.
	_, _ = io.Copy(io.Discard, r)
	signals <- syscall.SIGTERM
}

// errReopen says that the node was stopped in order to be opened again.
var errReopen = errors.New("the node is to be opened again")

// run serves until a signal comes, the server fails, or the node is to be opened again, and
// then stops in order.
func (s *serving) run(d doors) error {
	failed := s.serve(d)
	select {
	case sig := <-s.signals:
		s.log.Info("stopping: requests in progress may end", "signal", sig.String(), "within", s.drain)
		return s.stop(failed)
	case <-s.node.Reopen():
		s.log.Info("this node has joined a cluster: it is closed, and opened again as one of it")
		err := s.stop(failed)
		if s.hurried {
			return err // it was told to stop meanwhile
		}
		if err != nil {
			s.log.Warn("not all requests could end before the node was closed", "error", err)
		}
		return errReopen
	case <-s.node.Failed():
		return s.ended(s.stop(failed))
	case err := <-failed:
		// What is the other server's end, once this one has failed, is its own.
		return errors.Join(fmt.Errorf("cannot go on serving clients: %w", err), s.close(), s.node.Close())
	}
}

// serve starts the servers. The channel gets how they ended: the first failure,
// or nil when all have ended, and then it is closed.
func (s *serving) serve(d doors) <-chan error {
	failed := make(chan error, 2)
	var running sync.WaitGroup
	start := func(serve func(net.Listener) error, l net.Listener) {
		running.Go(func() {
			if err := serve(l); err != nil {
				failed <- err
			}
		})
	}
	start(s.http.Serve, d.http)
	if d.pb != nil {
		start(s.pb.Serve, d.pb)
	}
	go func() {
		running.Wait()
		close(failed)
	}()
	return failed
}

// shutdown stops the servers, all at once. The streams of the console would never end by
// themselves.
func (s *serving) shutdown(ctx context.Context) error {
	s.console.Close()
	other := make(chan error, 1)
	go func() { other <- s.pb.Shutdown(ctx) }()
	return errors.Join(s.http.Shutdown(ctx), <-other)
}

// close stops the servers without patience.
func (s *serving) close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.shutdown(ctx)
	if errors.Is(err, context.Canceled) {
		return nil // that is how it was meant
	}
	return err
}

// ended is how a node ends that cannot go on: well, if it has left its cluster.
func (s *serving) ended(err error) error {
	if errors.Is(err, tanodb.ErrLeft) {
		s.log.Info("this node has left its cluster in order, which has all its data: the directory can be removed")
		return nil
	}
	return errors.Join(errors.New("the node cannot go on"), err)
}

// stop drains the servers and then the node, until the deadline or a second
// signal.
func (s *serving) stop(failed <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		err := s.shutdown(ctx)
		stopped <- errors.Join(err, <-failed, s.node.Shutdown(ctx))
	}()
	select {
	case err := <-stopped:
		return s.stopped(err)
	case sig := <-s.signals:
		s.hurried = true
		s.log.Warn("stopping at once", "signal", sig.String())
		cancel()
		return s.stopped(<-stopped)
	}
}

func (s *serving) stopped(err error) error {
	if err != nil {
		return fmt.Errorf("stopped, not in order: %w", err)
	}
	s.log.Info("stopped in order")
	return nil
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/ring"
	httpd "github.com/tanodb/tanodb/internal/server/http"
	"github.com/tanodb/tanodb/internal/server/pb"
)

type serveCmd struct {
	Dir           string        `help:"Where the node keeps its data." default:"tanodb-data" placeholder:"DIR" env:"TANODB_DIR"`
	Name          string        `help:"This node's name, for ever; none: the one kept in the directory, or tanodb." placeholder:"NAME" env:"TANODB_NAME"`
	HTTP          string        `name:"http" help:"Where clients reach this node." default:"127.0.0.1:8098" placeholder:"HOST:PORT" env:"TANODB_HTTP"`
	PB            string        `name:"pb" help:"Where Riak's clients reach this node, by Protocol Buffers; off: nowhere." default:"127.0.0.1:8087" placeholder:"HOST:PORT" env:"TANODB_PB"`
	Listen        string        `help:"Where other nodes reach this one; none: no network between nodes, or the address of this node in --bootstrap." placeholder:"HOST:PORT" env:"TANODB_LISTEN"`
	Advertise     string        `help:"What other nodes are told to reach this one at, where that is not --listen." placeholder:"HOST:PORT" env:"TANODB_ADVERTISE"`
	Bootstrap     members       `help:"The first members of a new cluster, this one too, the same on every node; none: a cluster of this node alone." placeholder:"NAME=HOST:PORT,…" env:"TANODB_BOOTSTRAP"`
	Join          []string      `help:"Where nodes of a cluster listen that a new directory is to join; its joining is staged there, for you to plan and commit. Nothing, if it is a member already." placeholder:"HOST:PORT" env:"TANODB_JOIN"`
	AutoJoin      []string      `help:"The same, and the joining is committed too." placeholder:"HOST:PORT" env:"TANODB_AUTO_JOIN"`
	Zone          string        `help:"Where a node that joins stands: copies of a key are kept in distinct zones." placeholder:"ZONE" env:"TANODB_ZONE"`
	Weight        int           `help:"The share of a node that joins, in percent of a usual node's; 0: 100." placeholder:"PERCENT" env:"TANODB_WEIGHT"`
	Partitions    int           `help:"The size of the ring: a power of two from 8 to 65536, fixed for the cluster; 0: that of the directory or of the cluster that is joined, and 64 for a new one." placeholder:"Q" env:"TANODB_PARTITIONS"`
	Replicas      int           `help:"How many vnodes hold each key; 0: the same, and 3 for a new cluster." placeholder:"N" env:"TANODB_REPLICAS"`
	Durability    string        `help:"When a write is confirmed: when it is on disk (sync), or up to 100 ms before (interval)." enum:"sync,interval" default:"sync" placeholder:"WHEN" env:"TANODB_DURABILITY"`
	TLSCert       string        `name:"tls-cert" help:"This node's certificate towards other nodes, PEM." placeholder:"FILE" env:"TANODB_TLS_CERT"`
	TLSKey        string        `name:"tls-key" help:"The key of the certificate, PEM." placeholder:"FILE" env:"TANODB_TLS_KEY"`
	TLSCA         string        `name:"tls-ca" help:"Who has signed the certificates of other nodes, PEM." placeholder:"FILE" env:"TANODB_TLS_CA"`
	Transfer      byteCount     `name:"transfer-rate" help:"Bytes a second that this node moves to others, such as 10MiB, as long as the cluster has no limit of its own; 0: no limit." placeholder:"BYTES" env:"TANODB_TRANSFER_RATE"`
	RepairEvery   time.Duration `help:"Each pair of replicas is compared once in so long; sooner when a node is back." default:"1h" placeholder:"DURATION" env:"TANODB_REPAIR_EVERY"`
	RepairRate    byteCount     `help:"Bytes a second for that, and for what it mends; 0: no limit." default:"8MiB" placeholder:"BYTES" env:"TANODB_REPAIR_RATE"`
	RepairObjects int           `help:"Objects a second that it mends; 0: no limit." default:"2000" placeholder:"N" env:"TANODB_REPAIR_OBJECTS"`
	Cache         int64         `help:"Memory for what was read and written last, in MiB." default:"256" placeholder:"MIB" env:"TANODB_CACHE"`
	Drain         time.Duration `help:"How long requests in progress may take to end after SIGTERM or SIGINT; a second one ends them at once." default:"10s" placeholder:"DURATION" env:"TANODB_DRAIN"`
	LogLevel      string        `help:"What is logged to standard error: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL" env:"TANODB_LOG_LEVEL"`
	LogFormat     string        `help:"How it is logged: text or json." enum:"text,json" default:"text" placeholder:"FORMAT" env:"TANODB_LOG_FORMAT"`
	Pprof         bool          `help:"Serve CPU and memory profiles under /debug/pprof/ to whoever reaches --http."`
	Tether        bool          `hidden:"" help:"Stop when standard input ends, that is, with the process that holds its other end."`
}

// Help is the long part of the command's help.
func (*serveCmd) Help() string {
	return `When it serves, one line that begins with "ready" is written to standard output; logs go to standard error. Every flag can be given in the environment too, as TANODB_ and its name.

Example, a whole database, a node of three, and a fourth that joins them:

    tanodb serve --dir ./data
    tanodb serve --dir ./n1 --name n1 --http 10.0.0.1:8098 --pb 10.0.0.1:8087 --bootstrap n1=10.0.0.1:7098,n2=10.0.0.2:7098,n3=10.0.0.3:7098
    tanodb serve --dir ./n4 --name n4 --listen 10.0.0.4:7098 --auto-join 10.0.0.1:7098,10.0.0.2:7098`
}

// orUnlimited turns the 0 of a flag, no limit, into the -1 of an option.
func orUnlimited(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// members is a list of members as a flag: NAME=HOST:PORT,…
type members []tanodb.Member

// UnmarshalText reads the list.
func (m *members) UnmarshalText(b []byte) error {
	*m = nil
	if len(b) == 0 {
		return nil
	}
	for _, part := range strings.Split(string(b), ",") {
		name, address, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return fmt.Errorf("member %q must be NAME=HOST:PORT", part)
		}
		if err := checkHostPort(address); err != nil {
			return fmt.Errorf("member %q: %w", name, err)
		}
		*m = append(*m, tanodb.Member{Name: name, Address: address})
	}
	return nil
}

// checkHostPort reports whether the address is HOST:PORT with a number as port.
func checkHostPort(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q must be HOST:PORT", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("address %q has port %q; ports are from 0 to 65535", address, port)
	}
	return nil
}

// Run serves until it is told to stop. A node that has joined another cluster is closed
// and opened again, and serves on.
func (c *serveCmd) Run(a *app) error {
	o, err := c.options(a.stderr)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if c.Tether {
		go tether(a.stdin, signals)
	}
	for told := false; ; told = true {
		doors, err := c.listenForClients()
		if err != nil {
			return err
		}
		s, err := c.open(o, signals)
		if err != nil {
			return errors.Join(err, doors.close())
		}
		if !told {
			if err := a.print(newReady(s.node.Status(), doors)); err != nil {
				o.Logger.Warn("cannot write the ready line", "error", err)
			}
		}
		if err := s.run(doors); !errors.Is(err, errReopen) {
			return err
		}
	}
}

// doors are where clients come in.
type doors struct{ http, pb net.Listener } // pb is nil if it is off

// pbOff is the value of --pb that turns it off.
const pbOff = "off"

// listenForClients opens the doors. The next time they are the same, with the
// ports that the system may have chosen.
func (c *serveCmd) listenForClients() (d doors, err error) {
	if d.http, err = net.Listen("tcp", c.HTTP); err != nil {
		return d, fmt.Errorf("cannot serve HTTP: %w", err)
	}
	c.HTTP = d.http.Addr().String()
	if c.PB == pbOff {
		return d, nil
	}
	if d.pb, err = net.Listen("tcp", c.PB); err != nil {
		return d, errors.Join(fmt.Errorf("cannot serve Protocol Buffers: %w; choose another address with --pb, or --pb off", err), d.http.Close())
	}
	c.PB = d.pb.Addr().String()
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
func (c *serveCmd) open(o tanodb.Options, signals chan os.Signal) (*serving, error) {
	type opened struct {
		node *tanodb.Node
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		node, err := tanodb.Open(c.Dir, o)
		done <- opened{node, err}
	}()
	select {
	case sig := <-signals:
		return nil, fmt.Errorf("stopped by %v before %s was open", sig, c.Dir)
	case ans := <-done:
		if ans.err != nil {
			return nil, fmt.Errorf("cannot open %s: %w", c.Dir, ans.err)
		}
		riak := pb.NewServer(ans.node, pb.Options{Logger: o.Logger, Properties: ans.node, Buckets: ans.node, Data: ans.node, Indexes: ans.node, Cluster: ans.node})
		limits := httpd.Options{Logger: o.Logger, Metrics: riak.Metrics()}
		return &serving{
			node:    ans.node,
			http:    httpd.NewServer(c.handler(httpd.New(ans.node, limits)), limits),
			pb:      riak,
			drain:   c.Drain,
			log:     o.Logger,
			signals: signals,
		}, nil
	}
}

// options are the options of the node that the flags ask for.
func (c *serveCmd) options(logs io.Writer) (tanodb.Options, error) {
	if err := checkHostPort(c.HTTP); err != nil {
		return tanodb.Options{}, usagef("--http: %v", err)
	}
	if c.PB != pbOff {
		if err := checkHostPort(c.PB); err != nil {
			return tanodb.Options{}, usagef("--pb: %v, or off", err)
		}
	}
	if c.Listen != "" {
		if err := checkHostPort(c.Listen); err != nil {
			return tanodb.Options{}, usagef("--listen: %v", err)
		}
	}
	if c.Partitions != 0 && (c.Partitions < ring.MinPartitions || c.Partitions > ring.MaxPartitions || c.Partitions&(c.Partitions-1) != 0) {
		return tanodb.Options{}, usagef("--partitions is %d; it must be a power of two from %d to %d", c.Partitions, ring.MinPartitions, ring.MaxPartitions)
	}
	if c.Replicas < 0 {
		return tanodb.Options{}, usagef("--replicas is %d; it cannot be negative", c.Replicas)
	}
	if err := c.checkJoin(); err != nil {
		return tanodb.Options{}, err
	}
	const mostCache = 1 << 24 // MiB; what is more is a slip of the hand
	if c.Cache < 1 || c.Cache > mostCache {
		return tanodb.Options{}, usagef("--cache is %d; it must be from 1 to %d", c.Cache, mostCache)
	}
	security, err := c.tls()
	if err != nil {
		return tanodb.Options{}, err
	}
	return tanodb.Options{
		Name:          c.Name,
		Listen:        c.listen(),
		Advertise:     c.Advertise,
		Bootstrap:     c.Bootstrap,
		Join:          append(c.Join, c.AutoJoin...), // one of them is empty
		AutoJoin:      len(c.AutoJoin) > 0,
		Zone:          c.Zone,
		Weight:        c.Weight,
		Partitions:    c.Partitions,
		Replicas:      c.Replicas,
		Durability:    tanodb.Durability(c.Durability),
		TLS:           security,
		CacheBytes:    c.Cache << 20,
		TransferBytes: int64(c.Transfer),
		RepairEvery:   c.RepairEvery,
		RepairBytes:   orUnlimited(int64(c.RepairRate)),
		RepairObjects: int(orUnlimited(int64(c.RepairObjects))),
		Logger:        c.logger(logs),
	}, nil
}

// checkJoin refuses ways into a cluster that contradict each other.
func (c *serveCmd) checkJoin() error {
	if err := checkWeight(c.Weight); err != nil {
		return err
	}
	if c.Advertise != "" {
		if err := checkHostPort(c.Advertise); err != nil {
			return usagef("--advertise: %v", err)
		}
	}
	flag := "--join"
	switch {
	case len(c.Join) == 0 && len(c.AutoJoin) == 0:
		return nil
	case len(c.Join) > 0 && len(c.AutoJoin) > 0:
		return usagef("--join and --auto-join contradict each other: the joining is committed by you, or at once")
	case len(c.AutoJoin) > 0:
		flag = "--auto-join"
	}
	if len(c.Bootstrap) > 0 {
		return usagef("--bootstrap and %s contradict each other: a node begins a cluster, or joins one", flag)
	}
	if c.Listen == "" {
		return usagef("%s needs --listen: the other nodes have to reach this one", flag)
	}
	for _, address := range append(c.Join, c.AutoJoin...) {
		if err := checkHostPort(address); err != nil {
			return usagef("%s: %v", flag, err)
		}
	}
	return nil
}

// listen is the address for other nodes: the flag, or this node's own in the
// list of members.
func (c *serveCmd) listen() string {
	if c.Listen != "" {
		return c.Listen
	}
	for _, m := range c.Bootstrap {
		if m.Name == c.Name {
			return m.Address
		}
	}
	return ""
}

// tls is the security between nodes that the flags ask for; nil: none.
func (c *serveCmd) tls() (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" && c.TLSCA == "" {
		return nil, nil
	}
	if c.TLSCert == "" || c.TLSKey == "" || c.TLSCA == "" {
		return nil, usagef("--tls-cert, --tls-key and --tls-ca are needed together")
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate: %w", err)
	}
	pem, err := os.ReadFile(c.TLSCA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", c.TLSCA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS13,
	}, nil
}

func (c *serveCmd) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // the flag's enum lets no other name through
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// handler serves the database, and profiles if that was asked for.
func (c *serveCmd) handler(db http.Handler) http.Handler {
	if !c.Pprof {
		return db
	}
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

func newReady(s tanodb.Status, d doors) ready {
	r := ready{Ready: true, Node: s.Node, HTTP: "http://" + d.http.Addr().String(), Listen: s.Listen}
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
	http    *httpd.Server
	pb      *pb.Server // without a listener where it is off
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

// shutdown stops the servers, all at once.
func (s *serving) shutdown(ctx context.Context) error {
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

package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// Server are the values of all options. What each means is in the table.
type Server struct {
	Dir        string
	Name       string
	Durability string
	Drain      time.Duration

	HTTP      string
	PB        string
	Listen    string
	Advertise string

	Bootstrap   []string
	ClusterName string
	Join        []string
	AutoJoin    []string
	Zone        string
	Weight      int
	Partitions  int
	Replicas    int

	TLSDir        string
	TLSCert       string
	TLSKey        string
	TLSCA         string
	ClientTLSCert string
	ClientTLSKey  string
	ClientTLSCA   string
	Insecure      bool
	AllowedHosts  []string

	MemoryLimit   Bytes
	Cache         Bytes
	RequestMemory Bytes

	MaxRequests    int
	MaxConnections int
	MaxObject      Bytes
	MaxSiblings    int
	AllowKeyLists  bool
	BucketRequests int
	BucketBytes    Bytes
	BucketLimits   []string
	UserRequests   int
	UserBytes      Bytes
	UserLimits     []string

	HTTPHeaderTimeout time.Duration
	HTTPIdleTimeout   time.Duration
	PBIdleTimeout     time.Duration
	ReadTimeout       time.Duration
	WriteTimeout      time.Duration
	SlowestClient     Bytes

	TransferRate   Bytes
	RepairEvery    time.Duration
	RepairRate     Bytes
	RepairObjects  int
	MaxClockOffset time.Duration

	LogLevel  string
	LogFormat string

	SlowRequest   time.Duration
	TraceEndpoint string
	TraceRatio    string
	Pprof         bool
}

// Option describes one of them.
type Option struct {
	Name    string
	Group   string // the heading that it stands under
	Help    string // one sentence
	Default string
	Sign    string // what stands for its value in a synopsis: HOST:PORT

	Min, Max   int64  // of a number; sizes in bytes, durations in nanoseconds
	PowerOfTwo bool   // only those between are values
	Zero       string // what 0 means, though it is not between; empty: nothing

	Words []string           // the only values of a text
	Check func(string) error // of a text, or of each of a list, that is not empty

	Live   bool // can be changed while the node runs
	Secret bool // its value is never shown

	field func(*Server) any // a pointer to the value, whose type is the option's
}

// Env is the name of the option's variable in the environment.
func (o Option) Env() string {
	return "TANODB_" + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
}

// IsBool reports whether the option is a switch.
func (o Option) IsBool() bool { _, ok := o.field(&Server{}).(*bool); return ok }

// IsList reports whether the option is a list.
func (o Option) IsList() bool { _, ok := o.field(&Server{}).(*[]string); return ok }

// PBOff is the value of pb that turns it off.
const PBOff = "off"

// The limits of the table that are used more than once.
const (
	mostMemory = 16 << 40 // bytes; what is more is a slip of the hand
	mostRate   = 1 << 40  // bytes a second
	mostCount  = 1_000_000

	oneHour = int64(time.Hour)
)

// Options are all options, in the order in which they are shown.
var Options = []Option{
	{Name: "dir", Group: "The node", Sign: "DIR", Default: "tanodb-data",
		Help:  "Where the node keeps its data.",
		field: func(s *Server) any { return &s.Dir }},
	{Name: "name", Group: "The node", Sign: "NAME", Check: membership.CheckName,
		Help:  "This node's name, for ever; none: the one kept in the directory, or tanodb.",
		field: func(s *Server) any { return &s.Name }},
	{Name: "durability", Group: "The node", Sign: "WHEN", Default: "sync", Words: []string{"sync", "interval"},
		Help:  "When a write is confirmed: when it is on disk (sync), or up to 100 ms before (interval).",
		field: func(s *Server) any { return &s.Durability }},
	{Name: "drain", Group: "The node", Sign: "DURATION", Default: "10s", Min: 0, Max: oneHour,
		Help:  "How long requests in progress may take to end after SIGTERM or SIGINT; a second one ends them at once.",
		field: func(s *Server) any { return &s.Drain }},

	{Name: "http", Group: "Addresses", Sign: "HOST:PORT", Default: "127.0.0.1:8098", Check: CheckHostPort,
		Help:  "Where clients reach this node.",
		field: func(s *Server) any { return &s.HTTP }},
	{Name: "pb", Group: "Addresses", Sign: "HOST:PORT", Default: "127.0.0.1:8087", Check: checkPB,
		Help:  "Where Riak's clients reach this node, by Protocol Buffers; off: nowhere.",
		field: func(s *Server) any { return &s.PB }},
	{Name: "listen", Group: "Addresses", Sign: "HOST:PORT", Check: CheckHostPort,
		Help:  "Where other nodes reach this one; none: no network between nodes, or the address of this node in bootstrap.",
		field: func(s *Server) any { return &s.Listen }},
	{Name: "advertise", Group: "Addresses", Sign: "HOST:PORT", Check: CheckHostPort,
		Help:  "What other nodes are told to reach this one at, where that is not listen.",
		field: func(s *Server) any { return &s.Advertise }},

	{Name: "bootstrap", Group: "The cluster", Sign: "NAME=HOST:PORT,…", Check: checkMember,
		Help:  "The first members of a new cluster, this one too, the same on every node; none: a cluster of this node alone.",
		field: func(s *Server) any { return &s.Bootstrap }},
	{Name: "cluster-name", Group: "The cluster", Sign: "NAME", Check: membership.CheckName,
		Help:  "Tells a cluster that begins with bootstrap from others with members of the same names, whose nodes it never talks to; the same on every node. It only counts at the first start.",
		field: func(s *Server) any { return &s.ClusterName }},
	{Name: "join", Group: "The cluster", Sign: "HOST:PORT,…", Check: CheckHostPort,
		Help:  "Where nodes of a cluster listen that a new directory is to join; its joining is staged there, for you to plan and commit. Nothing, if it is a member already.",
		field: func(s *Server) any { return &s.Join }},
	{Name: "auto-join", Group: "The cluster", Sign: "HOST:PORT,…", Check: CheckHostPort,
		Help:  "As join, and the joining is committed too.",
		field: func(s *Server) any { return &s.AutoJoin }},
	{Name: "zone", Group: "The cluster", Sign: "ZONE", Check: membership.CheckName,
		Help:  "Where a node that joins stands: copies of a key are kept in distinct zones.",
		field: func(s *Server) any { return &s.Zone }},
	{Name: "weight", Group: "The cluster", Sign: "PERCENT", Default: "0", Min: 1, Max: mostCount, Zero: "100",
		Help:  "The share of a node that joins, in percent of a usual node's.",
		field: func(s *Server) any { return &s.Weight }},
	{Name: "partitions", Group: "The cluster", Sign: "Q", Default: "0", Min: ring.MinPartitions, Max: ring.MaxPartitions, PowerOfTwo: true,
		Zero:  "that of the directory or of the cluster that is joined, and 64 for a new one",
		Help:  "The size of the ring, fixed for the cluster.",
		field: func(s *Server) any { return &s.Partitions }},
	{Name: "replicas", Group: "The cluster", Sign: "N", Default: "0", Min: 1, Max: 64,
		Zero:  "that of the directory or of the cluster that is joined, and 3 for a new one",
		Help:  "How many vnodes hold each key.",
		field: func(s *Server) any { return &s.Replicas }},

	{Name: "tls-dir", Group: "Security", Sign: "DIR",
		Help:  "A directory that tanodb cert node has made, with node.crt, node.key and ca.crt, and ca.crl if certificates are revoked: they secure the connections between nodes and those of clients. What changes in it is used without a restart.",
		field: func(s *Server) any { return &s.TLSDir }},
	{Name: "tls-cert", Group: "Security", Sign: "FILE",
		Help:  "This node's certificate towards other nodes alone, PEM, in place of tls-dir.",
		field: func(s *Server) any { return &s.TLSCert }},
	{Name: "tls-key", Group: "Security", Sign: "FILE",
		Help:  "The key of tls-cert, PEM.",
		field: func(s *Server) any { return &s.TLSKey }},
	{Name: "tls-ca", Group: "Security", Sign: "FILE",
		Help:  "Who has signed the certificates of other nodes, PEM.",
		field: func(s *Server) any { return &s.TLSCA }},
	{Name: "client-tls-cert", Group: "Security", Sign: "FILE",
		Help:  "This node's certificate towards clients, PEM; none: that of tls-dir, and plain connections without it.",
		field: func(s *Server) any { return &s.ClientTLSCert }},
	{Name: "client-tls-key", Group: "Security", Sign: "FILE",
		Help:  "The key of client-tls-cert, PEM.",
		field: func(s *Server) any { return &s.ClientTLSKey }},
	{Name: "client-tls-ca", Group: "Security", Sign: "FILE",
		Help:  "Who has signed the certificates of users, PEM; none: that of tls-dir, and nobody without it.",
		field: func(s *Server) any { return &s.ClientTLSCA }},
	{Name: "insecure", Group: "Security", Default: "false",
		Help:  "Listen beyond this machine without TLS, and serve everybody there as long as security is not enabled: for networks that keep strangers out by other means.",
		field: func(s *Server) any { return &s.Insecure }},
	{Name: "allowed-hosts", Group: "Security", Sign: "NAME,…", Check: checkHost,
		Help:  "Further names by which this node may be asked without TLS: those that a proxy before it passes on. With insecure these alone, beside its own and addresses; none: any.",
		field: func(s *Server) any { return &s.AllowedHosts }},

	{Name: "memory-limit", Group: "Memory", Sign: "BYTES", Default: "0", Min: 64 << 20, Max: mostMemory, Live: true,
		Zero:  "what GOMEMLIMIT says, or no limit",
		Help:  "Memory that the process tries to stay below, by collecting garbage more often; set it somewhat below what the machine or container has. A change while the node runs leaves the caches as large as they are.",
		field: func(s *Server) any { return &s.MemoryLimit }},
	{Name: "cache", Group: "Memory", Sign: "BYTES", Default: "0", Min: 1 << 20, Max: mostMemory,
		Zero:  "a quarter of memory-limit, and 256MiB without one",
		Help:  "Memory for what was read and written last.",
		field: func(s *Server) any { return &s.Cache }},
	{Name: "request-memory", Group: "Memory", Sign: "BYTES", Default: "0", Min: 1 << 20, Max: mostMemory,
		Zero:  "an eighth of memory-limit but at most 1GiB, and 1GiB without one",
		Help:  "Memory for the bodies of requests that are in progress, and for lists that are answered at once, of HTTP and of Protocol Buffers each; a request past that is refused, and one that is larger by itself is refused always.",
		field: func(s *Server) any { return &s.RequestMemory }},

	{Name: "max-requests", Group: "Limits", Sign: "N", Default: "10000", Min: 1, Max: mostCount, Live: true,
		Help:  "Requests of clients in progress on this node; one more is refused.",
		field: func(s *Server) any { return &s.MaxRequests }},
	{Name: "max-connections", Group: "Limits", Sign: "N", Default: "10000", Min: 1, Max: mostCount,
		Help:  "Clients that are connected, by HTTP and by Protocol Buffers each; one more is told so and cut off.",
		field: func(s *Server) any { return &s.MaxConnections }},
	{Name: "max-object", Group: "Limits", Sign: "BYTES", Default: Bytes(kv.MaxObject).String(), Min: 1 << 10, Max: kv.MaxObject, Live: true,
		Help:  "Size of an object, all siblings together, whatever its bucket allows; a write that would pass it is refused.",
		field: func(s *Server) any { return &s.MaxObject }},
	{Name: "max-siblings", Group: "Limits", Sign: "N", Default: strconv.Itoa(kv.MaxSiblings), Min: 1, Max: kv.MaxSiblings, Live: true,
		Help:  "Values that a key may hold beside each other, whatever its bucket allows; a write that would leave more is refused.",
		field: func(s *Server) any { return &s.MaxSiblings }},
	{Name: "allow-key-lists", Group: "Limits", Default: "true", Live: true,
		Help:  "Serve lists of all keys of a bucket, and of all buckets, in one request, as Riak's clients ask for them, by an index too; false: only lists page by page, such as those of tanodb keys and tanodb buckets.",
		field: func(s *Server) any { return &s.AllowKeyLists }},
	{Name: "bucket-requests", Group: "Limits", Sign: "N", Default: "0", Min: 1, Max: mostCount * 1000, Zero: "no limit", Live: true,
		Help:  "Requests a second of any one bucket through this node, with as many at once.",
		field: func(s *Server) any { return &s.BucketRequests }},
	{Name: "bucket-bytes", Group: "Limits", Sign: "BYTES", Default: "0", Min: 1 << 10, Max: mostRate, Zero: "no limit", Live: true,
		Help:  "Bytes a second of values read and written of any one bucket through this node.",
		field: func(s *Server) any { return &s.BucketBytes }},
	{Name: "bucket-limits", Group: "Limits", Sign: "[TYPE/]BUCKET=N:BYTES,…", Check: checkBucketLimit, Live: true,
		Help:  "Buckets with a limit of their own in place of bucket-requests and bucket-bytes, 0 for none: logs=100:1MiB. Names are percent-encoded where they have a slash, a comma or an equals sign.",
		field: func(s *Server) any { return &s.BucketLimits }},
	{Name: "user-requests", Group: "Limits", Sign: "N", Default: "0", Min: 1, Max: mostCount * 1000, Zero: "no limit", Live: true,
		Help:  "Requests a second of any one user through this node, with as many at once, once security is enabled.",
		field: func(s *Server) any { return &s.UserRequests }},
	{Name: "user-bytes", Group: "Limits", Sign: "BYTES", Default: "0", Min: 1 << 10, Max: mostRate, Zero: "no limit", Live: true,
		Help:  "Bytes a second of values read and written by any one user through this node.",
		field: func(s *Server) any { return &s.UserBytes }},
	{Name: "user-limits", Group: "Limits", Sign: "USER=N:BYTES,…", Check: checkUserLimit, Live: true,
		Help:  "Users with a limit of their own in place of user-requests and user-bytes, 0 for none: web1=1000:10MiB. Names are percent-encoded where they have an equals sign.",
		field: func(s *Server) any { return &s.UserLimits }},

	{Name: "http-header-timeout", Group: "Slow clients", Sign: "DURATION", Default: "10s", Min: int64(time.Millisecond), Max: oneHour,
		Help:  "For the head of an HTTP request to arrive.",
		field: func(s *Server) any { return &s.HTTPHeaderTimeout }},
	{Name: "http-idle-timeout", Group: "Slow clients", Sign: "DURATION", Default: "2m", Min: int64(time.Millisecond), Max: 24 * oneHour,
		Help:  "For the next request of an HTTP connection to begin.",
		field: func(s *Server) any { return &s.HTTPIdleTimeout }},
	{Name: "pb-idle-timeout", Group: "Slow clients", Sign: "DURATION", Default: "1h", Min: int64(time.Millisecond), Max: 24 * oneHour,
		Help:  "For the next request of a Protocol Buffers connection to begin; Riak's clients keep theirs.",
		field: func(s *Server) any { return &s.PBIdleTimeout }},
	{Name: "read-timeout", Group: "Slow clients", Sign: "DURATION", Default: "10s", Min: int64(time.Millisecond), Max: oneHour,
		Help:  "For the body of a request to arrive, and as long as slowest-client needs for its size.",
		field: func(s *Server) any { return &s.ReadTimeout }},
	{Name: "write-timeout", Group: "Slow clients", Sign: "DURATION", Default: "30s", Min: int64(time.Millisecond), Max: oneHour,
		Help:  "For a piece of an answer to be taken, and as long as slowest-client needs for its size.",
		field: func(s *Server) any { return &s.WriteTimeout }},
	{Name: "slowest-client", Group: "Slow clients", Sign: "BYTES", Default: "64KiB", Min: 1 << 10, Max: 1 << 30,
		Help:  "Bytes a second that a client must send and take at least.",
		field: func(s *Server) any { return &s.SlowestClient }},

	{Name: "transfer-rate", Group: "Work in the background", Sign: "BYTES", Default: "0", Min: 1, Max: mostRate, Zero: "no limit", Live: true,
		Help:  "Bytes a second that this node moves to others, as long as the cluster has no limit of its own.",
		field: func(s *Server) any { return &s.TransferRate }},
	{Name: "repair-every", Group: "Work in the background", Sign: "DURATION", Default: "1h", Min: int64(time.Second), Max: 365 * 24 * oneHour, Live: true,
		Help:  "Each pair of replicas is compared once in so long; sooner when a node is back.",
		field: func(s *Server) any { return &s.RepairEvery }},
	{Name: "repair-rate", Group: "Work in the background", Sign: "BYTES", Default: "8MiB", Min: 1, Max: mostRate, Zero: "no limit", Live: true,
		Help:  "Bytes a second for comparing replicas, and for what that mends.",
		field: func(s *Server) any { return &s.RepairRate }},
	{Name: "repair-objects", Group: "Work in the background", Sign: "N", Default: "2000", Min: 1, Max: mostCount * 1000, Zero: "no limit", Live: true,
		Help:  "Objects a second that comparing replicas mends.",
		field: func(s *Server) any { return &s.RepairObjects }},
	{Name: "max-clock-offset", Group: "Work in the background", Sign: "DURATION", Default: "500ms", Min: int64(10 * time.Millisecond), Max: oneHour, Live: true,
		Help:  "A wall clock that is farther than this from those of most nodes is off, and orders no writes where the last one wins; the same on every node.",
		field: func(s *Server) any { return &s.MaxClockOffset }},

	{Name: "log-level", Group: "Logs and profiles", Sign: "LEVEL", Default: "info", Words: []string{"debug", "info", "warn", "error"}, Live: true,
		Help:  "What is logged to standard error.",
		field: func(s *Server) any { return &s.LogLevel }},
	{Name: "log-format", Group: "Logs and profiles", Sign: "FORMAT", Default: "text", Words: []string{"text", "json"},
		Help:  "How it is logged.",
		field: func(s *Server) any { return &s.LogFormat }},
	{Name: "slow-request", Group: "Logs and profiles", Sign: "DURATION", Default: "1s", Min: int64(time.Millisecond), Max: oneHour, Zero: "none is logged", Live: true,
		Help:  "A client's request that takes longer is logged with its whole story: key, options, each replica's part; ten a second at most.",
		field: func(s *Server) any { return &s.SlowRequest }},
	{Name: "trace-endpoint", Group: "Logs and profiles", Sign: "URL", Check: checkEndpoint,
		Help:  "Where traces of requests are sent, by OTLP over HTTP: http://collector:4318; none: no request is traced.",
		field: func(s *Server) any { return &s.TraceEndpoint }},
	{Name: "trace-ratio", Group: "Logs and profiles", Sign: "PART", Default: "0.01", Check: checkRatio,
		Help:  "The part of requests that is traced, from 0 to 1, where the client has not decided it by a traceparent.",
		field: func(s *Server) any { return &s.TraceRatio }},
	{Name: "pprof", Group: "Logs and profiles", Default: "false",
		Help:  "Serve CPU and memory profiles under /debug/pprof/ to whoever reaches http.",
		field: func(s *Server) any { return &s.Pprof }},
}

// CheckHostPort reports whether the address is HOST:PORT with a number as port.
func CheckHostPort(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("an address must be HOST:PORT")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("its port is %q; ports are from 0 to 65535", clip(port))
	}
	return nil
}

func checkHost(name string) error {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return errors.New("a host is a name such as db.example, without a port")
	}
	return nil
}

func checkPB(address string) error {
	if address == PBOff {
		return nil
	}
	if err := CheckHostPort(address); err != nil {
		return fmt.Errorf("%w, or off", err)
	}
	return nil
}

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("an endpoint must be a URL such as http://collector:4318")
	}
	if u.User != nil {
		return errors.New("an endpoint must hold no password, since it is shown: OTEL_EXPORTER_OTLP_HEADERS can carry one")
	}
	return nil
}

// Ratio is the trace-ratio as a number.
func (s *Server) Ratio() float64 {
	r, err := parseRatio(s.TraceRatio)
	if err != nil {
		return 0 // the table lets no such text through
	}
	return r
}

// parseRatio reads a number from 0 to 1.
func parseRatio(text string) (float64, error) {
	r, err := strconv.ParseFloat(text, 64)
	if err != nil || !(r >= 0 && r <= 1) {
		return 0, errors.New("a part must be a number from 0 to 1")
	}
	return r, nil
}

func checkRatio(text string) error {
	_, err := parseRatio(text)
	return err
}

func checkMember(member string) error {
	_, err := ParseMember(member)
	return err
}

func checkBucketLimit(limit string) error {
	_, err := ParseBucketLimit(limit)
	return err
}

func checkUserLimit(limit string) error {
	_, err := ParseUserLimit(limit)
	return err
}

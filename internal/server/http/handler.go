// Package httpd serves a node over HTTP: Riak's interface, so that its clients
// work, and TanoDB's own routes below /_tanodb/ for what Riak has not.
//
//	GET                    /                                what is served, by Riak's names
//	GET                    /ping  /healthz  /readyz  /stats  /metrics
//	GET                    /buckets?buckets=true|stream
//	GET                    /buckets/B/index/F/V[/V]         a query of an index; see index.go
//	GET                    /buckets/B/keys?keys=true|stream
//	POST                   /buckets/B/keys                  a write whose key the server chooses
//	GET HEAD PUT POST DEL  /buckets/B/keys/K
//	GET HEAD               /buckets/B/keys/K/BUCKET,TAG,KEEP/…   a link walk; see walk.go
//	GET HEAD               /buckets/B/keys/K/preflist   who would be asked for the key
//	GET HEAD POST          /mapred                          MapReduce; see mapred.go
//	GET HEAD POST          /types/T/buckets/B/datatypes/K, and /buckets/B/counters/K; see data.go
//	GET PUT DELETE         /buckets/B/props, and /types/T/props; see props.go
//	GET HEAD PUT POST DEL  /riak/B and /riak/B/K            Riak's old names; see old.go
//	GET                    /_tanodb/ping  /_tanodb/status  /_tanodb/metrics
//	GET                    /_tanodb/buckets?limit&token
//	GET                    /_tanodb/buckets/B/keys?limit&token, or ?replicas=true
//	GET                    /_tanodb/buckets/B/index/F/V[/V]?limit&token&sort&regex
//	GET PUT DELETE         /_tanodb/buckets/B/keys/K        with each replica's reply
//	GET                    /_tanodb/explain/buckets/B/keys/K
//	GET                    /_tanodb/cluster  and below it  /transfers  /nodes  /plan
//	POST                   /_tanodb/cluster/join  and so on; see cluster.go
//	GET                    /_tanodb/hot?limit
//	GET                    /_tanodb/settings
//	POST                   /_tanodb/settings/set            see settings.go
//	GET                    /_tanodb/security
//	POST                   /_tanodb/security/change         see security.go; who may do what is in guard.go
//	GET                    /_tanodb/repair
//	POST                   /_tanodb/repair/pause  /resume  /verify
//	GET POST               /_tanodb/backup  /backup/home  /restore  /restore/types; see backup.go
//
// Every /buckets may be /types/T/buckets; the type "default" is the default
// one. Names are percent-encoded and may hold any bytes, an escaped slash too;
// in Riak's routes a plus sign stands for a space, as there. The parameters are
// described in params.go, the headers of a value in headers.go and links.go. JSON is
// that of package api.
//
// Errors on Riak's routes are text, word by word Riak's where Riak has the
// error. What Riak has no words for stands in headers beside it:
//
//	X-Tanodb-Error     the whole error: what was wanted, what came, from whom
//	X-Tanodb-In-Doubt  "true": the write may or may not take effect
package httpd

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/mapreduce"
	"github.com/tanodb/tanodb/kv"
)

// Node is what is served. *tanodb.Node is one.
type Node interface {
	kv.Store
	kv.DataTypes
	kv.Indexer
	kv.BucketLister
	Cluster
	Properties
	Backups
	Security

	// Ping asks a partition that is taken by chance.
	Ping(ctx context.Context) (kv.Reply, error)

	// ReplicaKeys is every vnode's own answer, one for each partition in ring order.
	ReplicaKeys(ctx context.Context, b kv.Bucket, o kv.ListOptions) ([]kv.ReplicaKeys, error)

	// Explain says who holds a key: each Result is Down or Pending.
	Explain(k kv.Key) []kv.Reply

	Status() tanodb.Status

	// Alive is why only another start can help; Readiness, whether to send requests here.
	Alive() error
	HotKeys(most int) tanodb.HotKeys
	Readiness() tanodb.Readiness
	Metrics() prometheus.Gatherer
}

// The defaults of Options.
const (
	defaultMaxConnections = 10_000
	defaultMaxBodies      = 1 << 30
	defaultHeaderTimeout  = 10 * time.Second
	defaultIdleTimeout    = 2 * time.Minute
	defaultReadGrace      = 10 * time.Second
	defaultWriteGrace     = 30 * time.Second
	defaultSlowest        = 64 << 10
)

// Options are the limits of the server. The zero value has the defaults.
type Options struct {
	// MaxConnections is how many clients may be connected; one more is told
	// so with status 503 and cut off. 0: 10000.
	MaxConnections int

	// MaxBodies is how many bytes of request bodies may be in memory at once;
	// a request past that is answered with status 503. 0: 1 GiB.
	MaxBodies int64

	// HeaderTimeout is how long the head of a request may take to arrive, and
	// IdleTimeout how long a connection may be without one. 0: 10 s, 2 minutes.
	HeaderTimeout time.Duration
	IdleTimeout   time.Duration

	// ReadGrace is how long the body of a request may take to arrive, and WriteGrace how
	// long a piece of an answer may take to be taken; each and as long as Slowest, in bytes
	// a second, needs for its size. 0: 10 s, 30 s, 64 KiB.
	ReadGrace  time.Duration
	WriteGrace time.Duration
	Slowest    int64

	// AllowsLists reports whether all keys, or all buckets, may be listed in one
	// request. Nil: they may.
	AllowsLists func() bool

	// Settings are shown, and changed, if they are given.
	Settings Settings

	// Metrics are shown with those of the node: of what else serves it. Nil:
	// none.
	Metrics prometheus.Gatherer

	// TLS secures the connections; a plain one is refused then. Its VerifyConnection, if it is
	// set, is asked before each request of a client with a certificate too. Nil: they are plain.
	TLS *tls.Config

	// Logger receives what goes wrong with connections, and panics. Nil:
	// nothing is logged.
	Logger *slog.Logger
}

func (o *Options) ensureDefaults() {
	if o.MaxConnections == 0 {
		o.MaxConnections = defaultMaxConnections
	}
	if o.MaxBodies == 0 {
		o.MaxBodies = defaultMaxBodies
	}
	o.HeaderTimeout = cmp.Or(o.HeaderTimeout, defaultHeaderTimeout)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, defaultIdleTimeout)
	o.ReadGrace = cmp.Or(o.ReadGrace, defaultReadGrace)
	o.WriteGrace = cmp.Or(o.WriteGrace, defaultWriteGrace)
	o.Slowest = cmp.Or(o.Slowest, defaultSlowest)
	if o.AllowsLists == nil {
		o.AllowsLists = func() bool { return true }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// handler serves requests.
type handler struct {
	node    Node
	jobs    *mapreduce.Runner
	metrics prometheus.Gatherer // the node's and others
	o       Options
	bodies  atomic.Int64 // bytes of request bodies, and of lists, in memory. Invariant: 0 <= bodies <= o.MaxBodies
}

// New serves a node. A Server adds the limits of connections.
func New(n Node, o Options) http.Handler {
	o.ensureDefaults()
	all := prometheus.Gatherers{n.Metrics()}
	if o.Metrics != nil {
		all = append(all, o.Metrics)
	}
	return &handler{node: n, jobs: mapreduce.New(n), metrics: all, o: o}
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := parsePath(r.URL.EscapedPath())
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	if !t.allows(r.Method) {
		w.Header()["Allow"] = []string{t.methods()}
		h.refuse(w, t, errMethod)
		return
	}
	switch t.resource {
	case object:
		h.object(w, r, t)
	case bucket:
		h.bucket(w, r, t)
	case oldBucket:
		h.oldBucket(w, r, t)
	case data:
		h.dataType(w, r, t)
	case counter:
		h.counter(w, r, t)
	case buckets:
		h.buckets(w, r, t)
	case index:
		h.index(w, r, t)
	case walk:
		h.walk(w, r, t)
	case mapred:
		h.mapReduce(w, r)
	case explain:
		h.explain(w, t)
	case preflist:
		h.preflist(w, r, t)
	case bucketProps:
		h.bucketProps(w, r, t)
	case typeProps:
		h.typeProps(w, r, t)
	case root:
		h.root(w)
	case ping:
		h.ping(w, r, t)
	case health:
		h.health(w, r)
	case readiness:
		h.readiness(w, r)
	case stats:
		h.stats(w)
	case status:
		writeJSON(w, http.StatusOK, h.node.Status())
	case metrics:
		promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	case hotKeys:
		h.hot(w, r, t)
	case settings, setSetting:
		h.settings(w, r, t)
	case backupHome:
		h.backupHome(w, r, t)
	case restore:
		h.restore(w, r, t)
	default:
		h.cluster(w, r, t)
	}
}

// object serves a key.
func (h *handler) object(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if t.own {
			h.getExplained(w, r, t, p)
			return
		}
		h.get(w, r, t, p)
	case http.MethodPut, http.MethodPost:
		h.put(w, r, t, p)
	case http.MethodDelete:
		h.delete(w, r, t, p)
	}
}

// bucket serves a bucket's keys.
func (h *handler) bucket(w http.ResponseWriter, r *http.Request, t target) {
	p, err := h.params(r, t)
	if err != nil {
		h.refuse(w, t, err)
		return
	}
	switch {
	case r.Method == http.MethodPost:
		h.create(w, r, t, p)
	case t.own && p.replicas:
		h.listReplicas(w, r, t, p)
	case t.own:
		h.listPage(w, r, t, p)
	case p.keys == keysAll || p.keys == keysStream:
		h.list(w, r, t, p, nil)
	default:
		h.refuse(w, t, errKeysParam)
	}
}

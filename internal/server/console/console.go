// Package console is the web console that every node serves:
//
//	GET  /_tanodb/console/           the ring, members, alerts, throughput and latency
//	GET  /_tanodb/console/activity   transfers, hints, repair, tombstones
//	GET  /_tanodb/console/ring       the ring as a table
//	GET  /_tanodb/console/keys       buckets, keys, and what each replica holds
//	GET  /_tanodb/console/watch      a form, and
//	POST /_tanodb/console/watch      the story of one request as it happens
//	GET  /_tanodb/console/events     what has changed, about once a second, as server-sent events
//	GET  /_tanodb/console/static/…   style, scripts, and the libraries of others
//
// Pages are made here, by html/template. The browser is sent whole pieces of HTML that
// replace others, so that changing the console needs nothing but Go. It asks no other host for
// anything, and runs no script that is not a file of ours.
//
// All who look share one look a second at the cluster, and there is none while nobody does.
package console

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Prefix is the path below which a Console serves.
const Prefix = "/_tanodb/console"

// Node is what is shown. *tanodb.Node is one.
type Node interface {
	kv.Store
	kv.BucketLister
	kv.DataTypes

	BucketTypes(ctx context.Context) ([]tanodb.BucketType, error)
	Cluster() tanodb.ClusterState

	// Nodes are all members by their own account; one that does not answer soon has an error.
	Nodes(ctx context.Context) []tanodb.NodeState

	// Routes are who serves the keys of each partition now.
	Routes() [][]tanodb.Replica

	// Holdings are what each vnode holds of a key.
	Holdings(ctx context.Context, k kv.Key) ([]tanodb.Holding, error)
}

// The defaults of Options.
const (
	defaultMaxStreams = 64
	defaultMaxOfUser  = 16
	defaultEvery      = time.Second
)

// Options are the limits of a console. The zero value has the defaults.
type Options struct {
	// MaxStreams is how many pages may be kept up to date, and requests be watched, at once;
	// one more is refused with status 503. 0: 64.
	MaxStreams int

	// MaxOfUser is how many of these one user may have. 0: 16.
	MaxOfUser int

	// User is the name of who has asked, by the context of his request. Nil, or an empty name:
	// users are not told apart.
	User func(context.Context) string

	// Every is how often the cluster is looked at while anybody watches. 0: once a second.
	Every time.Duration

	// Logger receives what should not happen. Nil: nothing is logged.
	Logger *slog.Logger
}

// Console serves the console of one node. It is an ordinary handler: whatever is to be
// asked of those who use it is asked by a handler around it.
type Console struct {
	node    Node
	watcher *watcher
	streams chan struct{} // one place for each stream
	user    func(context.Context) string
	most    int // of streams of one user
	mu      sync.Mutex
	of      map[string]int // streams by user. Invariant: none is above most
	closed  chan struct{}
	once    sync.Once // of Close
	log     *slog.Logger
	guard   *http.CrossOriginProtection
	mux     *http.ServeMux
}

// New makes the console of a node. It is to be closed before its server is shut down.
func New(n Node, o Options) *Console {
	if o.MaxStreams == 0 {
		o.MaxStreams = defaultMaxStreams
	}
	if o.MaxOfUser == 0 {
		o.MaxOfUser = defaultMaxOfUser
	}
	if o.User == nil {
		o.User = func(context.Context) string { return "" }
	}
	if o.Every == 0 {
		o.Every = defaultEvery
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{
		node: n, watcher: newWatcher(n, o.Every, o.Logger), log: o.Logger,
		streams: make(chan struct{}, o.MaxStreams), user: o.User, most: o.MaxOfUser, of: map[string]int{}, closed: make(chan struct{}),
		guard: http.NewCrossOriginProtection(), mux: http.NewServeMux(),
	}
	c.mux.HandleFunc("GET /{$}", c.live("overview"))
	c.mux.HandleFunc("GET /activity", c.live("activity"))
	c.mux.HandleFunc("GET /ring", c.live("ring"))
	c.mux.HandleFunc("GET /keys", c.keys)
	c.mux.HandleFunc("GET /watch", c.watchForm)
	c.mux.HandleFunc("POST /watch", c.watch)
	c.mux.HandleFunc("GET /events", c.events)
	c.mux.HandleFunc("GET /static/", static)
	return c
}

// Close ends all streams, so that the server need not wait for them.
func (c *Console) Close() {
	c.once.Do(func() {
		close(c.closed)
		c.watcher.close()
	})
}

// policy is what a page may do: nothing but with files of this server.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// ServeHTTP answers one request.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if r.URL.Path == Prefix {
		http.Redirect(w, r, Prefix+"/", http.StatusMovedPermanently)
		return
	}
	if err := c.guard.Check(r); err != nil {
		http.Error(w, "a page of another site may not ask this console for anything: "+err.Error(), http.StatusForbidden)
		return
	}
	if !strings.HasPrefix(r.URL.Path, Prefix+"/") {
		http.NotFound(w, r)
		return
	}
	http.StripPrefix(Prefix, c.mux).ServeHTTP(w, r)
}

// stream takes a place for a stream, and returns what gives it back; nil: there is none, and
// the client has been told.
func (c *Console) stream(w http.ResponseWriter, r *http.Request) (leave func()) {
	select {
	case <-c.closed:
		http.Error(w, "this node is stopping", http.StatusServiceUnavailable)
		return nil
	default:
	}
	user := c.user(r.Context())
	if !c.takes(user) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "you watch this node's console in too many pages; close one", http.StatusServiceUnavailable)
		return nil
	}
	select {
	case c.streams <- struct{}{}:
		return func() {
			<-c.streams
			c.gives(user)
		}
	default:
		c.gives(user)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many watch this node's console; use that of another node, or close a page", http.StatusServiceUnavailable)
		return nil
	}
}

// takes counts a stream of a user, if he may have one more.
func (c *Console) takes(user string) bool {
	if user == "" {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[user] >= c.most {
		return false
	}
	c.of[user]++
	return true
}

// gives counts a stream of a user no more.
func (c *Console) gives(user string) {
	if user == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[user]--; c.of[user] == 0 {
		delete(c.of, user)
	}
}

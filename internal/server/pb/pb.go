// Package pb serves a node over Riak's Protocol Buffers protocol, so that
// Riak's clients work. The protocol is in package riakpb; docs/compatibility.md
// lists what of it is served.
//
// A connection has one goroutine. It reads a frame, serves it, answers, and
// reads the next: requests that a client sends without waiting are answered in
// their order, one at a time, and what is not read yet waits in the client's
// socket. Between two requests a connection holds half a kilobyte and no other
// buffer.
//
// A get and a put are decoded and encoded by hand (decode.go, encode.go), and a
// large value goes to the socket from where it is; all other messages go
// through the generated code, but for listings and matches that are answered. What a request can ask for is the table of
// handlers.go; how an error reads is that of errors.go.
package pb

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Node is what is served. *tanodb.Node is one.
type Node interface {
	kv.Store

	// Name is the node's name.
	Name() string

	// Explain says who holds a key: each Result is Down or Pending.
	Explain(k kv.Key) []kv.Reply

	Status() tanodb.Status
}

// Properties are those of buckets and of bucket types; see *tanodb.Node.
type Properties interface {
	BucketProps(ctx context.Context, b kv.Bucket) (kv.Properties, error)
	SetBucketProps(ctx context.Context, b kv.Bucket, props kv.Properties) error
	ResetBucketProps(ctx context.Context, b kv.Bucket) error
	BucketType(ctx context.Context, name string) (tanodb.BucketType, error)
	UpdateBucketType(ctx context.Context, name string, props kv.Properties) error
}

// Cluster says who owns the partitions, in their order, as of an epoch.
type Cluster interface {
	Owners() (epoch uint64, owners []string)
}

// The limits of a connection.
const (
	smallFrame  = 512                  // a frame up to so long is read into the connection's own buffer
	maxFrame    = kv.MaxObject + 4<<20 // a frame's length: an object at its limit, and room for the rest
	maxSkip     = 2 * maxFrame         // one past maxFrame, up to so long, is read and thrown away, and the connection goes on
	firstRead   = 1 << 20              // how much memory a frame gets on the word of its length; the rest once so much has come
	keptBuffer  = 64 << 10             // a buffer for answers that has grown past this is not used again
	largeValue  = 16 << 10             // a value from this size on goes to the socket from where it is
	listPage    = kv.DefaultPage       // keys or buckets in one message of a listing
	maxClientID = 256                  // bytes, since a connection keeps it
	maxBuckets  = 64 << 20             // bytes of names in a listing of buckets that is one message
	maxMatches  = 64 << 20             // bytes of an answer to a query of an index that is one message
	maxResults  = 1 << 30              // matches that are asked for; numbers past this are all the same
	maxNesting  = 100                  // messages within each other in an operation: each map, of which the store takes kv.MaxMapDepth, is two
	fieldMemory = 64                   // bytes that a field of an operation takes in memory, beside those of its frame, about
	maxQuorum   = 1 << 20              // numbers past this are all the same: there are not so many replicas
	idlePart    = 16                   // the idle deadline is renewed once one part in so many of it has passed
	turnedAway  = "overload"           // what one connection too many is told
)

// The defaults of Options.
const (
	defaultMaxConnections = 10_000
	defaultMaxFrames      = 1 << 30
	defaultIdleTimeout    = time.Hour
	defaultReadGrace      = 10 * time.Second
	defaultWriteGrace     = 30 * time.Second
	defaultSlowest        = 64 << 10
)

// Options are the limits of the server, and what it serves beside the Node. The
// zero value has the defaults.
type Options struct {
	// MaxConnections is how many clients may be connected; one more is told so
	// and cut off. 0: 10000.
	MaxConnections int

	// MaxFrames is how many bytes of requests, and of lists that are answered at once, may be in
	// memory, apart from small ones; a request past that is refused. 0: 1 GiB.
	MaxFrames int64

	// IdleTimeout is how long a connection may be without a request. Riak has
	// no such limit, and its clients keep connections: it is there for those
	// whose peers are gone without a word. 0: an hour.
	IdleTimeout time.Duration

	// ReadGrace is how long a request may take to arrive whose first byte has come, and
	// WriteGrace how long an answer may take to be taken; each and as long as Slowest, in
	// bytes a second, needs for its size. 0: 10 s, 30 s, 64 KiB.
	ReadGrace  time.Duration
	WriteGrace time.Duration
	Slowest    int64

	// AllowsLists reports whether all keys, or all buckets, may be listed in one
	// request. Nil: they may.
	AllowsLists func() bool

	// Traces records requests as spans. Nil: none.
	Traces trace.TracerProvider

	// Properties are served if they are given, and refused otherwise.
	Properties Properties

	// Buckets are listed if they are given, and refused otherwise.
	Buckets kv.BucketLister

	// Data are the data types, which are served if they are given, and refused
	// otherwise.
	Data kv.DataTypes

	// Indexes answer queries of secondary indexes if they are given; they are
	// refused otherwise.
	Indexes kv.Indexer

	// Cluster is what our own client is told of the ring if it is given.
	Cluster Cluster

	// TLS secures the connections of clients that begin with it, or ask for it by
	// STARTTLS; without it they can ask for nothing else. Its VerifyConnection, if it is set, is
	// asked before each request of a client with a certificate too. Nil: connections are plain.
	TLS *tls.Config

	// Gate knows who may come in. Nil: everybody may, and do everything.
	Gate Gate

	// OwnMachine: as long as security is not enabled, only those are served who come from
	// the node's own machine. For nodes that others can reach.
	OwnMachine bool

	// Audit is told of changes of properties, of deletes and of who is refused. Nil:
	// nobody is.
	Audit *slog.Logger

	// Logger receives what goes wrong with connections, and panics. Nil:
	// nothing is logged.
	Logger *slog.Logger
}

func (o *Options) ensureDefaults() {
	if o.MaxConnections == 0 {
		o.MaxConnections = defaultMaxConnections
	}
	if o.MaxFrames == 0 {
		o.MaxFrames = defaultMaxFrames
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = defaultIdleTimeout
	}
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

// patience is the grace, and as long as the slowest client needs for n bytes.
func (o *Options) patience(grace time.Duration, n int) time.Duration {
	return grace + time.Duration(float64(n)/float64(o.Slowest)*float64(time.Second))
}

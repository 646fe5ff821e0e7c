package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config is how a node takes part in the network of its cluster.
type Config struct {
	Self       string            // this node's name, 1 to 255 bytes
	Cluster    [16]byte          // the cluster's id; nodes of another one are refused
	Partitions int               // the size of the ring; nodes with another one are refused
	Epoch      func() uint64     // the version of the topology that this node has, sent with each frame; nil: always 0
	Peers      map[string]string // name → HOST:PORT of every other member
	Handler    Handler           // receives requests and news

	// Listen is the HOST:PORT for other nodes to dial. A memory network needs
	// none.
	Listen string

	// TLS secures the connections: both sides show a certificate and check the
	// other's against RootCAs (and ClientCAs, if that is set). Nil: plain TCP. A memory
	// network has no use for it.
	TLS *tls.Config

	// Logger hears of connections made, broken and refused. Nil: nobody does.
	Logger *slog.Logger

	MaxAsks  int // requests without an answer on one connection; 0: 16384
	MaxQueue int // bytes waiting to be written on one connection; 0: 64 MiB
	Timing   Timing
}

// Timing holds the intervals of a network. Zero fields take their defaults.
// All nodes of a cluster should have the same.
type Timing struct {
	Tick       time.Duration // how often deadlines and silence are looked at; 0: 50 ms
	Heartbeat  time.Duration // an idle connection says that it is alive this often; 0: 500 ms
	Silence    time.Duration // a connection on which nothing comes for so long is closed, as is one without a hello; 0: 2 s
	News       time.Duration // the least time between two calls of Handler.Heard for a node; 0: 100 ms
	BackoffMin time.Duration // the wait after the first failed attempt to connect; it doubles up to BackoffMax; 0: 50 ms
	BackoffMax time.Duration // 0: 2 s
	Drain      time.Duration // how long Close waits for answers to be written; 0: 500 ms
}

// The limits that are the same for all.
const (
	maxBatch       = 256 << 10             // bytes after which a batch takes no more frames
	maxBatchAge    = 10 * time.Millisecond // the same in time
	maxMessage     = MaxFrame + maxBatch + batchHead
	maxConnections = 4096 // that a node accepts
)

func (c *Config) setDefaults() {
	if c.Epoch == nil {
		c.Epoch = func() uint64 { return 0 }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.MaxAsks = or(c.MaxAsks, 16384)
	c.MaxQueue = or(c.MaxQueue, 64<<20)
	t := &c.Timing
	t.Tick = or(t.Tick, 50*time.Millisecond)
	t.Heartbeat = or(t.Heartbeat, 500*time.Millisecond)
	t.Silence = or(t.Silence, 2*time.Second)
	t.News = or(t.News, 100*time.Millisecond)
	t.BackoffMin = or(t.BackoffMin, 50*time.Millisecond)
	t.BackoffMax = or(t.BackoffMax, 2*time.Second)
	t.Drain = or(t.Drain, 500*time.Millisecond)
}

// or is v, or def if v is zero.
func or[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (c *Config) validate() error {
	if c.Handler == nil {
		return errors.New("transport: no Handler")
	}
	if err := nameable(c.Self); err != nil {
		return fmt.Errorf("transport: this node's name: %w", err)
	}
	for name := range c.Peers {
		if err := nameable(name); err != nil {
			return fmt.Errorf("transport: the name of a peer: %w", err)
		}
		if name == c.Self {
			return fmt.Errorf("transport: %s is a peer of itself", name)
		}
	}
	return nil
}

func nameable(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%d bytes long; it must be between 1 and %d", len(name), maxName)
	}
	return nil
}

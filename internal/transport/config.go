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
	Self       string          // this node's name, 1 to 255 bytes
	ID         [16]byte        // this node's id, which others know it by besides its name; zero: it has none
	Cluster    [16]byte        // the cluster's id; nodes of another one are refused
	Partitions int             // the size of the ring; nodes with another one are refused
	Epoch      func() uint64   // the version of the topology that this node has, sent with all that it sends; nil: always 0
	Life       uint64          // the number of this node's life, see membership.Lives; 0: what the clock says
	Peers      map[string]Peer // every other member by its name, at first; see Mesh.SetPeers
	Handler    Handler         // receives requests and news

	// Least is the lowest protocol that a node must speak to read what is in the topology.
	// Others are refused. Nil, and below the lowest of this version: that one.
	Least func() int

	// Most is the highest protocol to speak, as an earlier version would; 0: the highest of
	// this version. It is for tests of mixed versions.
	Most int

	// Clocks says and hears what wall clocks show. Nil: nobody asks.
	Clocks Clocks

	// Reaped is the last reaping that this node knows of, and the life in which a peer has
	// shown its mark. Nil: there is none.
	Reaped func(node string) (reaped, life uint64)

	// Listen is the HOST:PORT for other nodes to dial. In a memory network it is
	// any word, and empty means the node's name.
	Listen string

	// Advertise is the HOST:PORT that other nodes are told to dial. Empty: that
	// of Listen as it was resolved, or none if it names no one interface, as
	// 0.0.0.0 does.
	Advertise string

	// TLS secures the connections: both sides show a certificate and check the
	// other's against RootCAs (and ClientCAs, if that is set). A certificate that may not
	// serve is no node's. GetConfigForClient, if that is set, gives the configuration of
	// each new connection, and of one that is dialled with a nil hello. VerifyConnection, if
	// that is set, is asked about open connections too, again and again: an error ends them. Nil: plain TCP. A
	// memory network has no use for it.
	TLS *tls.Config

	// Logger hears of connections made, broken and refused. Nil: nobody does.
	Logger *slog.Logger

	MaxAsks  int // requests without an answer on one connection; 0: 16384
	MaxQueue int // bytes waiting to be written on one connection before it takes no more requests; 0: 64 MiB
	Timing   Timing
}

// Clocks compares this node's wall clock with those of others. Its methods are called
// by several goroutines at once and must not block.
type Clocks interface {
	Say(node string) Said
	Hear(node string, s Said)
}

// Peer is another member, as the topology knows it.
type Peer struct {
	Address string   // HOST:PORT; empty: not known, until the peer itself tells
	ID      [16]byte // zero: not known; else a node of the name with another id is refused
}

// Timing holds the intervals of a network. Zero fields take their defaults.
// All nodes of a cluster should have the same.
type Timing struct {
	Tick       time.Duration // how often deadlines and silence are looked at; 0: 50 ms
	Heartbeat  time.Duration // an idle connection says that it is alive this often; 0: 500 ms
	Silence    time.Duration // a connection on which nothing comes for so long is closed, as is one without a hello; 0: 2 s
	News       time.Duration // the least time between two calls of Handler.Heard for a node, unless its epoch is new; 0: 100 ms
	BackoffMin time.Duration // the wait after the first failed attempt to connect; it doubles up to BackoffMax; 0: 50 ms
	BackoffMax time.Duration // 0: 2 s
	Drain      time.Duration // how long Close waits for answers to be written; 0: 500 ms
	Door       time.Duration // how long a connection at the door may last; 0: 10 s
}

// The limits that are the same for all.
const (
	maxBatch       = 256 << 10             // bytes after which a batch takes no more frames
	maxBatchAge    = 10 * time.Millisecond // the same in time
	roomPart       = 2                     // one part in so many of MaxQueue waits to be written: there is no room for more answers
	answersBeyond  = 16                    // times MaxQueue: what answers may take that were being made when there was none
	maxMessage     = MaxFrame + maxBatch + batchHead
	maxConnections = 4096 // that a node accepts
	maxCallers     = 64   // of them at the door

	doorTime = 10 * time.Second // the default of Timing.Door, and the most that KnockAt takes

	// What may come on a connection before it is known who speaks: a hello,
	// and what TLS and HTTP/2 say before it; and through the door.
	maxPrelude = 256 << 10
	maxKnock   = maxCommand + maxPrelude
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
	t.Door = or(t.Door, doorTime)
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
	if len(c.Advertise) > maxAddress {
		return fmt.Errorf("transport: the address to advertise is %d bytes long; the limit is %d", len(c.Advertise), maxAddress)
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

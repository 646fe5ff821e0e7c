package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// node is one address, with its connections.
type node struct {
	client  *Client
	address string
	name    atomic.Pointer[string] // as the node has said; nil: it has not yet
	epoch   atomic.Uint64          // of its ring
	down    atomic.Bool            // it did not answer the last time

	open chan struct{} // holds one thing for each connection that is in use or being made
	mu   sync.Mutex    // guards what follows
	idle []*conn       // the one that was used last is the last
	shut bool          // by Close
}

// errBusy says that all connections that a node gets are in use.
var errBusy = errors.New("all connections are in use")

// take gets a connection for one request; give takes it back. An error is a *lost.
func (n *node) take(ctx context.Context) (*conn, error) {
	select {
	case n.open <- struct{}{}:
	default:
		select {
		case n.open <- struct{}{}:
		case <-ctx.Done():
			return nil, &lost{false, fmt.Errorf("%s: %w: %w", n.address, errBusy, context.Cause(ctx))}
		}
	}
	if k := n.pop(); k != nil {
		return k, nil
	}
	k, err := n.dial(ctx)
	if err != nil {
		<-n.open
		return nil, &lost{false, err}
	}
	return k, nil
}

// pop is an idle connection that has not ended; nil: there is none.
func (n *node) pop() *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.idle) > 0 {
		last := len(n.idle) - 1
		k := n.idle[last]
		n.idle[last] = nil
		n.idle = n.idle[:last]
		if !k.ended.Load() {
			return k
		}
	}
	return nil
}

func (n *node) give(k *conn) {
	defer func() { <-n.open }()
	n.mu.Lock()
	defer n.mu.Unlock()
	if k.ended.Load() || n.shut || len(n.idle) >= n.client.o.MaxIdle {
		k.close()
		return
	}
	k.since = time.Now()
	n.idle = append(n.idle, k)
}

// expire closes the connections that have been idle for too long.
func (n *node) expire(before time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.idle = slices.DeleteFunc(n.idle, func(k *conn) bool {
		old := k.ended.Load() || k.since.Before(before)
		if old {
			k.close()
		}
		return old
	})
}

func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shut = true
	for _, k := range n.idle {
		k.close()
	}
	n.idle = nil
}

// dial makes a connection, on which the node has said who it is.
func (n *node) dial(ctx context.Context) (*conn, error) {
	c := n.client
	dctx, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(dctx, "tcp", n.address)
	if err == nil && c.o.TLS != nil {
		nc, err = n.secure(dctx, nc)
	}
	if err == nil {
		var k *conn
		if k, err = n.start(nc); err == nil {
			err = n.enter(dctx, k)
		}
		if err == nil {
			err = n.greet(dctx, k)
		}
		if err == nil {
			return k, nil
		}
		_ = nc.Close()
	}
	if ctx.Err() == nil {
		n.mark(err)
	}
	return nil, fmt.Errorf("%s: %w", n.address, err)
}

// secure makes a connection one of TLS.
func (n *node) secure(ctx context.Context, nc net.Conn) (net.Conn, error) {
	conf := n.client.o.TLS.Clone()
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(n.address) // New has looked at it
	}
	s := tls.Client(nc, conf)
	if err := s.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return s, nil
}

// enter says who the client is.
func (n *node) enter(ctx context.Context, k *conn) error {
	o := &n.client.o
	if o.User == "" {
		return nil
	}
	f, err := k.ask(ctx, riakpb.AuthReq, &riakpb.RpbAuthReq{User: []byte(o.User), Password: []byte(o.Password)})
	if err != nil {
		return err
	}
	if f.code == riakpb.Error {
		return fmt.Errorf("%w: %w", ErrLogin, refusal(f.body))
	}
	if f.code != riakpb.AuthResp {
		return fmt.Errorf("this is no node of TanoDB: its answer has code %d; %w", f.code, kv.ErrInternal)
	}
	return nil
}

// start gives a connection its reader, unless the client is closed.
func (n *node) start(nc net.Conn) (*conn, error) {
	n.mu.Lock() // so that Close waits for no reader that begins after it
	defer n.mu.Unlock()
	if n.shut {
		return nil, kv.ErrClosed
	}
	k := &conn{net: nc, answers: make(chan frame, 1)}
	n.client.running.Go(k.read)
	return k, nil
}

// mark notes whether the node answers.
func (n *node) mark(err error) {
	if down := err != nil; n.down.Swap(down) != down {
		if down {
			n.client.o.Logger.Warn("a node does not answer", "address", n.address, "error", err)
			return
		}
		n.client.o.Logger.Info("a node answers again", "address", n.address)
	}
}

// greet asks the node who it is, and for the ring.
func (n *node) greet(ctx context.Context, k *conn) error {
	var m riakpb.TanoRingReq
	if r := n.client.ring.Load(); r != nil {
		m.Epoch = &r.epoch
	}
	f, err := k.ask(ctx, riakpb.RingReq, &m)
	if err != nil {
		return err
	}
	if f.code == riakpb.Error {
		return refusal(f.body)
	}
	var a riakpb.TanoRingResp
	if err := proto.Unmarshal(f.body, &a); f.code != riakpb.RingResp || err != nil {
		return fmt.Errorf("this is no node of TanoDB: its answer has code %d; %w", f.code, errors.Join(err, kv.ErrInternal))
	}
	name := string(a.Node)
	n.name.Store(&name)
	n.epoch.Store(a.GetEpoch())
	n.mark(nil)
	n.client.learn(&a)
	return nil
}

// check finds out whether the node answers.
func (n *node) check(ctx context.Context) {
	n.expire(time.Now().Add(-n.client.o.IdleTimeout))
	ctx, cancel := context.WithTimeout(ctx, n.client.o.DialTimeout)
	defer cancel()
	k, err := n.take(ctx)
	if err != nil {
		return // dial has marked it, or it is busy, which says nothing
	}
	defer n.give(k)
	if err := n.greet(ctx, k); err != nil {
		k.ended.Store(true)
		if n.client.life.Err() == nil {
			n.mark(err)
		}
	}
}

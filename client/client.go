// Package client is a TanoDB cluster over the network, as a kv.Store with data types
// and queries of indexes.
//
// It knows who owns what, and sends each request to a node that holds the key,
// if that node's address is among those it was given. Where that node does not
// answer, others are asked, as long as that is safe: a read always, a write only
// if it certainly reached nobody or certainly wrote nothing. A write of which
// nothing is known ends with kv.ErrInDoubt, and what to do then is the caller's
// to decide.
//
//	conn     one connection: one request at a time, and its end with every doubt
//	node     an address: its connections, and whether it answers
//	look     asks all nodes now and then who they are, and one for the ring
//	request  one request: which nodes, in which order, and for how long
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// The errors that a node does not have.
var (
	// ErrUnreachable: no node took the request; nothing was done.
	ErrUnreachable = errors.New("no node can be reached")

	// ErrLogin: the nodes do not take the client for who it says it is.
	ErrLogin = errors.New("the nodes do not let this user in")

	// ErrPermission: the user may not do that; nothing was done.
	ErrPermission = errors.New("the user may not do that")

	// ErrSiblings: a key holds several values, and Options.Resolve is not there.
	ErrSiblings = errors.New("the key holds several values")
)

// The defaults of Options.
const (
	defaultMaxOpen     = 64
	defaultMaxIdle     = 16
	defaultDialTimeout = 2 * time.Second
	defaultIdleTimeout = 5 * time.Minute
	defaultRefresh     = 5 * time.Second
)

// Options are how a cluster is reached. Only Addresses must be given.
type Options struct {
	// Addresses are HOST:PORT of the nodes' Protocol Buffers listeners. A node
	// that is not among them is reached through the others, which costs a step.
	Addresses []string

	// TLS secures the connections from their first byte. Its ServerName may be empty: it is
	// the host of the address. Nil: they are plain, unless User is there.
	TLS *tls.Config

	// User and Password are who the client is, where the cluster asks for it. They go over
	// TLS only. With a certificate in TLS the password may be empty.
	User, Password string

	// MaxOpen is how many connections a node gets at once; a request past
	// that waits for one. 0: 64.
	MaxOpen int

	// MaxIdle is how many connections to a node are kept without a request.
	// 0: 16.
	MaxIdle int

	// DialTimeout bounds the making of a connection, with the first word of
	// the node on it. 0: 2 s.
	DialTimeout time.Duration

	// IdleTimeout is how long a connection is kept without a request. 0: 5 min.
	IdleTimeout time.Duration

	// Refresh is how often the nodes are asked whether they are there, and for
	// the ring. 0: 5 s.
	Refresh time.Duration

	// Resolve makes one value of those that were written concurrently, for
	// GetOne and Modify. Nil: they fail with ErrSiblings.
	Resolve func(k kv.Key, values []kv.Value) kv.Value

	// Logger is told of nodes that come and go. Nil: nothing is logged.
	Logger *slog.Logger
}

func (o *Options) ensureDefaults() {
	if o.TLS == nil && o.User != "" {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.MaxOpen = cmp.Or(o.MaxOpen, defaultMaxOpen)
	o.MaxIdle = cmp.Or(o.MaxIdle, defaultMaxIdle)
	o.DialTimeout = cmp.Or(o.DialTimeout, defaultDialTimeout)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, defaultIdleTimeout)
	o.Refresh = cmp.Or(o.Refresh, defaultRefresh)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	if len(o.Addresses) == 0 {
		return &kv.InvalidError{What: "addresses", Problem: "are missing"}
	}
	for i, a := range o.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return &kv.InvalidError{What: "address " + a, Problem: "must be HOST:PORT"}
		}
		if slices.Contains(o.Addresses[:i], a) {
			return &kv.InvalidError{What: "address " + a, Problem: "is given twice"}
		}
	}
	for name, n := range map[string]int64{
		"MaxOpen": int64(o.MaxOpen), "MaxIdle": int64(o.MaxIdle), "DialTimeout": int64(o.DialTimeout),
		"IdleTimeout": int64(o.IdleTimeout), "Refresh": int64(o.Refresh),
	} {
		if n < 0 {
			return &kv.InvalidError{What: name, Problem: "cannot be negative"}
		}
	}
	return nil
}

// Client is a kv.Store over the network.
type Client struct {
	o     Options
	nodes []*node
	ring  atomic.Pointer[ring] // nil: not known yet
	turn  atomic.Uint32        // where the next request begins among nodes that are all the same to it

	life    context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup // look, and the readers of connections
}

var _ kv.Store = (*Client)(nil)

// New makes a client. It connects to the nodes in the background, so that it does
// not fail because none is there: requests do.
func New(o Options) (*Client, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.ensureDefaults()
	c := &Client{o: o}
	c.life, c.end = context.WithCancel(context.Background())
	for _, a := range o.Addresses {
		c.nodes = append(c.nodes, &node{client: c, address: a, open: make(chan struct{}, o.MaxOpen)})
	}
	c.running.Go(c.look)
	return c, nil
}

// Close ends all requests in progress and closes all connections.
func (c *Client) Close() error {
	c.end()
	for _, n := range c.nodes {
		n.close()
	}
	c.running.Wait()
	return nil
}

// Get reads a key. See kv.Store.
func (c *Client) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	if err := errors.Join(k.Validate(), checkRead(&o)); err != nil {
		return kv.Object{}, err
	}
	var a riakpb.RpbGetResp
	q := &request{
		op: "get", key: &k, timeout: o.Timeout, linger: o.Linger, code: riakpb.GetReq, want: riakpb.GetResp, answer: &a,
		message: func(left time.Duration) message { return getMessage(k, &o, left) },
	}
	told, err := c.do(ctx, q)
	if err != nil {
		return kv.Object{Context: told.GetContext(), Replies: told.KVReplies()}, err
	}
	obj := kv.Object{Values: kvValues(a.Content), Context: a.Vclock, Replies: a.Told.KVReplies()}
	if len(obj.Values) == 0 {
		return obj, kv.ErrNotFound
	}
	return obj, nil
}

// Put writes a value. See kv.Store.
func (c *Client) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	if err := errors.Join(k.Validate(), v.Validate(), checkWrite(&o)); err != nil {
		return kv.Receipt{}, err
	}
	return c.write(ctx, &request{
		op: "put", key: &k, timeout: o.Timeout, linger: o.Linger, write: true, code: riakpb.PutReq, want: riakpb.PutResp,
		message: func(left time.Duration) message { return putMessage(k, &v, &o, left) },
	})
}

// Delete replaces values by a tombstone. See kv.Store.
func (c *Client) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	if err := errors.Join(k.Validate(), checkWrite(&o)); err != nil {
		return kv.Receipt{}, err
	}
	return c.write(ctx, &request{
		op: "delete", key: &k, timeout: o.Timeout, linger: o.Linger, write: true, code: riakpb.DelReq, want: riakpb.DelResp,
		message: func(left time.Duration) message { return deleteMessage(k, &o, left) },
	})
}

func (c *Client) write(ctx context.Context, q *request) (kv.Receipt, error) {
	var a riakpb.RpbPutResp
	q.answer = &a
	told, err := c.do(ctx, q)
	if err != nil {
		return kv.Receipt{Context: told.GetContext(), Replies: told.KVReplies()}, err
	}
	return kv.Receipt{Context: a.Vclock, Values: kvValues(a.Content), Replies: a.Told.KVReplies()}, nil
}

// Keys lists a page of a bucket. See kv.Store.
func (c *Client) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	if err := errors.Join(b.Validate(), checkList(&o)); err != nil {
		return kv.KeyPage{}, err
	}
	var a riakpb.RpbListKeysResp
	q := &request{
		op: "keys", timeout: o.Timeout, code: riakpb.ListKeysReq, want: riakpb.ListKeysResp, answer: &a,
		message: func(left time.Duration) message { return keysMessage(b, &o, left) },
	}
	if _, err := c.do(ctx, q); err != nil {
		return kv.KeyPage{}, err
	}
	page := kv.KeyPage{Next: string(a.Told.GetNext())}
	for _, k := range a.Keys {
		page.Keys = append(page.Keys, string(k))
	}
	return page, nil
}

// String names the client's nodes, for logs.
func (c *Client) String() string { return fmt.Sprintf("client of %v", c.o.Addresses) }

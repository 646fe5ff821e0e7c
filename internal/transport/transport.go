// Package transport carries messages between nodes: each request goes to one
// vnode of one node and is answered once, or its failure is told honestly.
//
// The package has three layers. The codec turns a Frame into bytes and back; it
// is pure, and the simulator uses it as it is. A Mesh holds a node's
// connections to all others: queues, pending requests, deadlines, heartbeats,
// reconnection. Beneath it lies a wire, of which there are two: gRPC streams
// over TCP (Listen), and channels within one process (Network, for tests).
//
// Between two nodes X and Y there are up to four connections: each node dials
// its own, one for requests and one for bulk, so that a large transfer never
// stands before a request. Answers return on the connection on which the
// question came.
//
//	X ── requests ──▶ Y      X asks, Y answers
//	X ◀── requests ── Y      Y asks, X answers
//	X ── bulk ──────▶ Y      dialled when first used
//	X ◀────── bulk ── Y
//
// Who the other nodes are may change at any time (Mesh.SetPeers). One who is not
// a member of the cluster, and may become one, is heard at the door: a
// connection for one question and its answer (KnockAt).
//
// The bytes are drawn in docs/formats.md.
package transport

import (
	"errors"
	"fmt"
	"time"

	"github.com/tanodb/tanodb/internal/vnode"
)

// Class says which connection a request travels on.
type Class uint8

// The classes, as they travel in a hello. Their numbers are fixed.
const (
	Requests Class = 0 // what a client waits for
	Bulk     Class = 1 // hand-off and repair, which may fill a connection
	Door     Class = 2 // one question of somebody who need not be a member; see KnockAt
)

// classes is how many there are between members.
const classes = 2

// String is "requests", "bulk" or "door".
func (c Class) String() string {
	switch c {
	case Requests:
		return "requests"
	case Bulk:
		return "bulk"
	case Door:
		return "door"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// The ways in which a request ends without an answer. The errors that Ask
// hands over wrap one of them and say why.
var (
	ErrNotSent = errors.New("not sent")            // it certainly reached nobody, and may go elsewhere
	ErrLost    = errors.New("connection lost")     // it may have arrived; the answer will not
	ErrExpired = errors.New("no answer in time")   // it may have arrived; nobody answered until the deadline
	ErrClosed  = errors.New("transport is closed") // wrapped beside ErrNotSent or ErrLost when this node shuts down
)

// Transport sends requests to other nodes.
type Transport interface {
	// Ask sends f to a node and calls done exactly once: with the answer, or with
	// an error that wraps ErrNotSent, ErrLost or ErrExpired. Ask never blocks. It sets f's ID
	// and Timeout itself. F's Epoch is that of the topology by which the node was
	// chosen; 0: the newest that this node has. Done runs on a goroutine of the
	// transport, or within Ask if the request cannot be sent; it must not block.
	//
	// The Bulk connection is dialled by the first request for it, which itself
	// ends with ErrNotSent.
	Ask(node string, c Class, f Frame, deadline time.Time, done func(vnode.Message, error))

	// Close ends all connections. When it returns, every done has been called
	// and no goroutine is left.
	Close() error
}

// Handler receives what other nodes send. Its methods are called by several
// goroutines at once and must not block: what they delay is the reader of a
// whole connection.
type Handler interface {
	// Serve carries out a request of another node. F.Timeout is what is left
	// of its time. Reply may be called once, from any goroutine, or never;
	// after the connection has gone it does nothing. The byte slices of f are
	// never reused.
	Serve(from string, f Frame, reply func(vnode.Message))

	// Heard says that something has just come from the node on the connection
	// for this node's requests, and the epoch that the node had. It is called at
	// most every 100 ms for each node, and at once when the epoch is newer than
	// the one last told. An epoch that is older means that the node has lost
	// what it knew, or that two calls have overtaken each other.
	Heard(node string, epoch uint64)

	// Refused says that the connection for requests to the node cannot be made, or broke,
	// and why. It is called after every failed attempt.
	Refused(node string, err error)

	// Restarted says that the node has begun another life than the one in which this mesh
	// has met it, however short it was away.
	Restarted(node string)

	// Outdated says that the node has heard this one show an epoch, before this
	// mesh began, that is newer than the one with which it began: its disk is
	// older than it was. As long as the answer is an error there is no
	// connection with that node.
	Outdated(node string, epoch uint64) error

	// Outlived says that the node has met this one in a later life than that of this mesh.
	// There is no connection with that node; the error says why.
	Outlived(node string, life uint64) error

	// Reaped says that the node knows of a reaping whose mark this node has not shown in
	// this life, but in the one that it partook in; 0: in none. If its data is older than that,
	// there is no connection as long as the answer is an error.
	Reaped(node string, reaped, partook uint64) error

	// Moved says that the node has connected from another address than the one
	// that is known of it, and where it says that it is reached. This node dials
	// that from now on, until SetPeers gives another.
	Moved(node, address string)

	// Knocked carries out a Knock, Propose or StateAsk that came through the
	// door, of which the sender may be anybody. F.Timeout is what is left of its
	// time. Reply may be called once, from any goroutine, or never.
	Knocked(f Frame, reply func(vnode.Message))
}

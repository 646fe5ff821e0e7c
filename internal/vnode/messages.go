package vnode

import (
	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// A Message is what a vnode is asked or answers. Byte slices in a message are
// never changed once it is made, so that it may be shared.
type Message interface{ Message() }

// What a vnode is asked. Home is the first partition of the key's preference
// list: replicas of one group of keys are stored under it.
type (
	// Coordinate asks the vnode to make a new version of the key, as its
	// coordinator: merge with what it has, mint the dot, keep the result.
	// It is answered twice: Minted at once, and Stored when durable. It stays
	// on its node; a request for another node's vnode goes there as a Forward.
	Coordinate struct {
		Home    ring.Partition
		Key     kv.Key
		Seen    object.Vector // what the write replaces
		Write   Write
		Request kv.RequestID
	}

	// Store asks the vnode to merge a version into what it has. Stored answers.
	Store struct {
		Home   ring.Partition
		Key    kv.Key
		Object []byte // encoded by package object
	}

	// Fetch asks for what the vnode has. Fetched answers.
	Fetch struct {
		Home ring.Partition
		Key  kv.Key
	}

	// List asks for the live keys of one home partition, in order, from the
	// first after After. Listed answers.
	List struct {
		Home   ring.Partition
		Bucket kv.Bucket
		After  string
		Limit  int
	}

	// Census asks for the live keys of all home partitions, home after home.
	// Listed answers.
	Census struct {
		Bucket kv.Bucket
		Limit  int
	}

	// Ping asks for a Pong.
	Ping struct{}
)

// Write is the new version that Coordinate makes.
type Write struct {
	Deleted bool
	Expires int64  // Unix milliseconds; 0: never
	Body    []byte // object.AppendBody of the value; nil for a tombstone
}

// What a vnode answers.
type (
	// Minted carries the object that the coordinator has made of a Coordinate,
	// before it is durable here: the other replicas may be sent it at once.
	Minted struct {
		Object []byte
	}

	// Stored says that the version is merged, as durably as the node promises.
	Stored struct {
		Live bool // the key had a live value before
	}

	// Fetched carries what the vnode has; nil: nothing, not even a tombstone.
	Fetched struct {
		Object []byte
	}

	// Listed carries keys in order. Last is the last key that was looked at,
	// dead or alive: the After of the next List.
	Listed struct {
		Keys []string
		Last string
		More bool // there may be more after Last
	}

	// Pong answers Ping.
	Pong struct{}

	// Refusal says that the request was not carried out and certainly changed
	// nothing: it may go elsewhere.
	Refusal struct {
		Code Code
		Text string
	}

	// Failure says that the request was tried and failed. If it was a write, it
	// may be there or not.
	Failure struct {
		Code Code
		Text string
	}
)

// Code says why a request was refused or failed.
type Code uint8

// The codes, as they travel. Their numbers are fixed.
const (
	CodeInternal    Code = 1  // a bug
	CodeOverload    Code = 2  // a queue is full
	CodeNotMine     Code = 3  // this node does not serve that vnode at this epoch
	CodeClosing     Code = 4  // the node is shutting down
	CodeStorage     Code = 5  // the engine failed
	CodeCorrupt     Code = 6  // what is stored fails its checksum
	CodeFull        Code = 7  // the disk is nearly full; reads only
	CodeInvalid     Code = 8  // the request cannot be meant
	CodeContext     Code = 9  // the context is not one, or of another key
	CodeSiblings    Code = 10 // too many siblings
	CodeTooLarge    Code = 11 // the object would be too large
	CodeExpired     Code = 12 // the deadline had passed on arrival
	CodeUnsupported Code = 13 // a message of a later version
)

func (*Coordinate) Message() {}
func (*Store) Message()      {}
func (*Fetch) Message()      {}
func (*List) Message()       {}
func (*Census) Message()     {}
func (*Ping) Message()       {}
func (*Minted) Message()     {}
func (*Stored) Message()     {}
func (*Fetched) Message()    {}
func (*Listed) Message()     {}
func (*Pong) Message()       {}
func (*Refusal) Message()    {}
func (*Failure) Message()    {}

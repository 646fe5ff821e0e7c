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
		Guarded bool      // only if Seen covers all that the vnode holds of the key: else it is refused with CodeModified
		Props   *kv.Props // of the bucket; nil: siblings are kept, and the limits are those of package kv
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

	// List asks for the keys of one home partition that are alive at an instant, in
	// order, from the first after After. Listed answers.
	List struct {
		Home   ring.Partition
		Bucket kv.Bucket
		After  string
		Limit  int
		At     int64 // Unix milliseconds: now, by the clock of the node that answers the client; 0: by this node's
		Latest bool  // the last write wins: see object.Latest
	}

	// Census asks for the keys of all home partitions that are alive at an instant,
	// home after home. Listed answers.
	Census struct {
		Bucket kv.Bucket
		Limit  int
		At     int64 // as of a List
		Latest bool  // as of a List
	}

	// Query asks for the index entries of one home of which the values are seen at an
	// instant, in the order of terms and keys, from the first after a term and a
	// key. Matched answers.
	Query struct {
		Home       ring.Partition
		Bucket     kv.Bucket
		Field      string // in small letters; kv.IndexKey and kv.IndexBucket look at the objects
		Start, End string // the first term and the last, as kv.SortIndexTerm gives them; of kv.IndexBucket, nothing
		Regex      string // only terms in which it is found; empty: all
		AfterTerm  string // a Matched's LastTerm
		AfterKey   string // a Matched's LastKey; empty: from the start
		Limit      int
		At         int64 // as of a List
		Latest     bool  // as of a List
	}

	// Buckets asks for the buckets of a type that have a live key in one home at an
	// instant, in order, from the first after After. BucketsFound answers.
	Buckets struct {
		Home   ring.Partition
		Type   string
		After  string // a BucketsFound's Last; empty: from the start
		Inside string // a BucketsFound's Inside: go on in the bucket After, after this key; empty: it is over
		Limit  int
		At     int64 // as of a List
	}

	// Ping asks for a Pong.
	Ping struct{}

	// Pull asks for a page of what the vnode holds of one home, in storage
	// order, from the first after After on. Pulled answers.
	Pull struct {
		Home  ring.Partition
		After []byte // a Pulled's Last; empty: from the start
		Limit int    // bytes of objects, of which the last one may bring more
		Bare  bool   // hashes only
		Whole bool   // refused with CodeLacking by a vnode that lacks data which it should hold
	}

	// Deliver brings objects of one home to be merged, or, where an item has no
	// Object, asks whether this version is wanted. Delivered answers, when all that it
	// speaks of is durable.
	Deliver struct {
		Home   ring.Partition
		Items  []Item
		Placed bool // refused with CodeStale by a node whose vnode should not hold the home
	}

	// Drop asks the vnode to forget objects that others now hold, each only if
	// it is still the version named. It stays on its node. Dropped answers.
	Drop struct {
		Home  ring.Partition
		Items []Item // without Objects
	}

	// Graves asks for the dead objects of one home whose latest stamp is before an
	// instant, in the order of their keys, from the first after After on. It
	// stays on its node. Buried answers.
	Graves struct {
		Home   ring.Partition
		Before int64  // Unix milliseconds
		After  []byte // a Buried's Last; empty: from the start
		Limit  int    // items
	}

	// Attest asks which of these very versions the vnode holds, after all commands
	// that came before. Delivered answers, when what it speaks of is durable: an item
	// is held or it is not. It is refused with CodeLacking by a vnode that lacks data, and
	// with CodeStale by a node whose vnode should not hold the home, or that is behind.
	Attest struct {
		Home  ring.Partition
		Items []Item // without Objects
	}

	// Reap asks the vnode to remove dead objects, each only if it is still the version
	// named: all places have attested them, and nothing older is left anywhere.
	// Dropped answers, when that is durable.
	Reap struct {
		Home  ring.Partition
		Items []Item // without Objects
	}

	// Strays asks a node, and no vnode of it, whether it holds anything of some homes
	// in vnodes that should not hold it. StraysFound answers.
	Strays struct {
		Homes []ring.Partition
	}

	// Wipe asks the vnode to erase what it holds of a home, since it may be older than
	// what others have reaped: the next so many objects, from the first after After
	// on. What it has made itself in a life after the one in which its node has taken part
	// in that stays. It stays on its node. Wiped answers, when that is durable.
	Wipe struct {
		Home    ring.Partition
		Partook uint64 // that life; 0: none, and nothing stays
		After   []byte // a Wiped's Last; empty: from the start
		Limit   int    // objects
	}

	// Fill merges a page of a Pull into the vnode and, in the same batch, keeps how
	// far the job is. It stays on its node. Delivered answers.
	Fill struct {
		Home   ring.Partition
		Items  []Item
		Job    uint64
		Cursor []byte // kept for Job and Home; nil: forget it
	}

	// Fence asks for a Fenced once all writes that came before are applied.
	Fence struct{}

	// Homes asks which home partitions the vnode holds anything of. HomesFound
	// answers.
	Homes struct{}

	// Resume asks how far a Fill's Job has come with a home. It stays on its node.
	// Resumed answers.
	Resume struct {
		Home ring.Partition
		Job  uint64
	}

	// Sums asks for a part of the hash tree of a home: the sums of its branches, or
	// those of the segments of one branch. Summed answers.
	Sums struct {
		Home   ring.Partition
		Branch int    // Root: the sums of all branches
		Known  uint64 // what they come to at the asker: if it is the same here, they are left out
	}

	// Versions asks for the versions of the objects in some segments of a home, in the
	// order of the segments, from the first after After on. Versioned answers.
	Versions struct {
		Home     ring.Partition
		Segments []Segment // ascending
		After    []byte    // a Versioned's Last; empty: from the start
		Limit    int       // bytes, of which the last version may bring more
	}

	// Pick asks for objects of one home by their keys, or for what they are
	// without their bodies. Picked answers.
	Pick struct {
		Home  ring.Partition
		Keys  []kv.Key
		Bare  bool // object.Bare of the objects
		Limit int  // bytes of objects, of which the last one may bring more
	}

	// Retree asks the vnode to set right what the tree of a home says of some objects,
	// the sums of some segments, and the index entries of some objects. It stays on its node. Retreed answers, when
	// that is durable.
	Retree struct {
		Home     ring.Partition
		Keys     []kv.Key
		Segments []Segment
		Indexed  []kv.Key
	}

	// SetLacking marks the vnode as one that waits for data which it should hold,
	// or takes the mark away; a restart keeps it. See Lacking. It stays on its node.
	// Stored answers.
	SetLacking struct {
		On     bool
		Rotten [][]byte // storage keys of objects that cannot be read: those that are dead go
	}

	// Sweep asks the vnode to give the bytes of expired values back: see
	// object.Expire. It stays on its node. Swept answers.
	Sweep struct {
		Before int64 // Unix milliseconds; values that expire later stay as they are
		Limit  int   // objects that are looked at
	}
)

// Item is one object on its way between vnodes.
type Item struct {
	Key    kv.Key
	Hash   uint64 // of the object's encoding
	Object []byte // nil: only the version is meant
}

// ItemResult says what has become of an item of a Deliver or Fill.
type ItemResult uint8

// The results, as they travel. Their numbers are fixed.
const (
	ItemHeld   ItemResult = 1 // what the vnode holds includes it, durably
	ItemWanted ItemResult = 2 // it was not sent, and should be
	ItemBad    ItemResult = 3 // it cannot be decoded, or what is stored cannot be read: it was not merged
)

// Standing is what a node says of one home. If two answers of one life have the
// same Count, and none says Stray, the node has held nothing of the home in between
// but what it should, and has lost nothing.
type Standing struct {
	Stray bool   // it holds something of the home where it should not
	Count uint64 // how often it has begun to, or has lost something, in this life
}

// Write is the new version that Coordinate makes.
type Write struct {
	Deleted bool
	Indexed bool   // the value has index entries
	Expires int64  // Unix milliseconds; 0: never
	Body    []byte // object.AppendBody of the value; nil for a tombstone and an operation

	// Op is applied to what the vnode has, and nil for a value and a tombstone. Then Seen is
	// what its client had read, and replaces nothing by itself.
	Op kv.Op
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

	// Matched carries matches in order. LastTerm and LastKey are of the last entry that
	// was looked at: where the next Query goes on.
	Matched struct {
		Matches  []kv.IndexMatch // their terms as they sort
		LastTerm string
		LastKey  string
		More     bool // there may be more
	}

	// BucketsFound carries buckets in order. Last and Inside are where the next Buckets goes
	// on; a bucket in whose middle an answer ends may be in both.
	BucketsFound struct {
		Found  []FoundBucket
		Last   string
		Inside string
		More   bool // there may be more
	}

	// Pong answers Ping.
	Pong struct{}

	// Pulled is a page of objects. What cannot be read is named, and skipped.
	Pulled struct {
		Items []Item
		Bad   []BadItem
		Last  []byte // where the page ends: the After of the next Pull
		More  bool
	}

	// Delivered says what has become of each item.
	Delivered struct {
		Results []ItemResult
	}

	// Buried is a page of dead objects.
	Buried struct {
		Items []Item  // without Objects
		At    []int64 // of each, its latest stamp in Unix milliseconds
		Last  []byte  // where the page ends: the After of the next Graves
		More  bool
	}

	// StraysFound says what a node knows of the homes it was asked for, in their order.
	StraysFound struct {
		Epoch uint64 // that the node has
		Life  uint64 // of the node
		Homes []Standing
	}

	// Dropped says how many items were dropped, and how many stay because they
	// have changed.
	Dropped struct {
		Gone, Kept int
	}

	// Wiped says how many objects were erased, and of how many something stays.
	Wiped struct {
		Gone, Kept int
		Last       []byte // where the page ends: the After of the next Wipe
		More       bool   // there may be more behind it
	}

	// Swept says how many values have given their bytes back, and whether there may
	// be more to look at.
	Swept struct {
		Gone int
		More bool
	}

	// Summed carries sums in the order of what they are of.
	Summed struct {
		Sum  uint64   // what they come to
		Sums []uint64 // nil: it is what the asker has Known
	}

	// Versioned carries keys and the hashes of their objects.
	Versioned struct {
		Items []Item // without Objects
		Last  []byte // where the page ends: the After of the next Versions
		More  bool
	}

	// Picked carries the objects for the first keys of a Pick, at least one, in their
	// order. An item without a hash says that there is none that can be read.
	Picked struct {
		Items []Item
	}

	// Retreed says how much was wrong.
	Retreed struct {
		Entries, Sums, Indexed int
	}

	// Fenced answers a Fence.
	Fenced struct{}

	// HomesFound are the home partitions of which the vnode holds anything, in order.
	HomesFound struct {
		Homes []ring.Partition
	}

	// Resumed carries the Cursor of the job's last Fill; nil: there is none.
	Resumed struct {
		Cursor []byte
	}

	// Refusal says that the request was not carried out and certainly changed
	// nothing: it may go elsewhere.
	Refusal struct {
		Code  Code
		Text  string
		Epoch uint64 // of CodeStale: the one that the node has
	}

	// Failure says that the request was tried and failed. If it was a write, it
	// may be there or not.
	Failure struct {
		Code Code
		Text string
	}
)

// FoundBucket is a bucket that has a live key.
type FoundBucket struct {
	Name   string
	Latest bool // also where the last write wins; otherwise only where siblings are kept
}

// BadItem is an object that cannot be read.
type BadItem struct {
	Key  kv.Key // zero if even the key cannot be told
	Text string
}

// Code says why a request was refused or failed.
type Code uint8

// The codes, as they travel. Their numbers are fixed.
const (
	CodeInternal     Code = 1  // a bug
	CodeOverload     Code = 2  // a queue is full
	CodeNotMine      Code = 3  // this node does not serve that vnode at this epoch
	CodeClosing      Code = 4  // the node is shutting down
	CodeStorage      Code = 5  // the engine failed
	CodeCorrupt      Code = 6  // what is stored fails its checksum
	CodeFull         Code = 7  // the disk is nearly full; reads only
	CodeInvalid      Code = 8  // the request cannot be meant
	CodeContext      Code = 9  // the context is not one, or of another key
	CodeSiblings     Code = 10 // too many siblings
	CodeTooLarge     Code = 11 // the object would be too large
	CodeExpired      Code = 12 // the deadline had passed on arrival
	CodeUnsupported  Code = 13 // a message of a later version
	CodeStale        Code = 14 // the sender's epoch is older than the last change of the key's places
	CodeLacking      Code = 15 // the vnode still waits for data that it should hold: nothing can be read from it
	CodePrecondition Code = 16 // what an operation removes is not here
	CodeOverflow     Code = 17 // a counter would leave 64 bits
	CodeDataType     Code = 18 // what is here is of another data type than the operation
	CodeModified     Code = 19 // the key holds something that a Guarded write has not seen
)

func (*Coordinate) Message()   {}
func (*Store) Message()        {}
func (*Fetch) Message()        {}
func (*List) Message()         {}
func (*Census) Message()       {}
func (*Query) Message()        {}
func (*Buckets) Message()      {}
func (*Matched) Message()      {}
func (*BucketsFound) Message() {}
func (*Ping) Message()         {}
func (*Pull) Message()         {}
func (*Deliver) Message()      {}
func (*Drop) Message()         {}
func (*Graves) Message()       {}
func (*Attest) Message()       {}
func (*Reap) Message()         {}
func (*Strays) Message()       {}
func (*Wipe) Message()         {}
func (*Buried) Message()       {}
func (*StraysFound) Message()  {}
func (*Fill) Message()         {}
func (*Fence) Message()        {}
func (*Homes) Message()        {}
func (*Resume) Message()       {}
func (*Sums) Message()         {}
func (*Versions) Message()     {}
func (*Pick) Message()         {}
func (*Retree) Message()       {}
func (*SetLacking) Message()   {}
func (*Sweep) Message()        {}
func (*Minted) Message()       {}
func (*Stored) Message()       {}
func (*Fetched) Message()      {}
func (*Listed) Message()       {}
func (*Pong) Message()         {}
func (*Pulled) Message()       {}
func (*Delivered) Message()    {}
func (*Dropped) Message()      {}
func (*Wiped) Message()        {}
func (*Swept) Message()        {}
func (*Summed) Message()       {}
func (*Versioned) Message()    {}
func (*Picked) Message()       {}
func (*Retreed) Message()      {}
func (*Fenced) Message()       {}
func (*HomesFound) Message()   {}
func (*Resumed) Message()      {}
func (*Refusal) Message()      {}
func (*Failure) Message()      {}

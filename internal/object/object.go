// Package object is what one key holds, with the causality that tells new from
// old: version vectors, dots, siblings, tombstones and expiry, how two copies
// are merged, and the bytes in which they are kept and sent.
//
// # The model
//
// Each write of a key gets a dot, a pair of actor and counter that no other
// write of any key ever gets. An object is a clock, which says what this copy
// has seen, and the siblings, which are the writes that nothing it has seen
// replaces:
//
//	clock (a:3 b:2)   siblings {a:3 b:1}
//
//	a:3, b:1            alive: both were written without knowing of each other
//	a:1, a:2, b:2       seen, and replaced by something that had seen them
//	b:3, a:4, c:1 …     not seen yet
//
// So each possible dot is in one of three states at each copy, and moves only
// forward: not seen → sibling → replaced. Merge takes the later state of each
// dot. That is why merging is commutative, associative, idempotent and never
// goes back, and why copies that have exchanged everything are equal, byte for
// byte.
//
// A dot covered by a clock means: this copy contains or replaces everything
// that the actor has issued for this key up to the counter. It is true because
// a vnode makes its versions one after the other, each from what it holds, and
// takes a new actor whenever it may have forgotten something.
//
// # Clocks are not pruned
//
// A clock grows by one entry for each incarnation of a vnode that has
// coordinated a write of the key. An entry is never dropped, however old: where
// one copy forgets that it has seen a dot and another copy still has the
// sibling, the next merge would take the replaced value for a new one and bring
// it back; and a context that lost an entry would no longer replace what its
// reader saw.
//
// # Values are shared
//
// Nothing here changes an Object, Vector or Body in place. Results may share
// memory with arguments, so a caller must not change them in place either.
package object

import (
	"strconv"
	"strings"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/kv"
)

// Sibling is one write that is not replaced yet: a value, or a tombstone.
type Sibling struct {
	Dot     Dot
	Stamp   Stamp        // when the coordinator accepted the write
	Request kv.RequestID // of the client's request; zero: none
	Expires int64        // dead from this instant on, in Unix milliseconds; 0: never
	Deleted bool         // a tombstone
	Size    int          // bytes in the body, also where Body is not read
	Body    []byte       // the value, from AppendBody; nil after DecodeHead, and for a tombstone
}

// Object is what one copy of a key knows. The zero value has seen nothing.
type Object struct {
	// Clock is what this copy has seen.
	// Invariant: it covers the dot of each sibling.
	Clock Vector

	// Siblings are the writes that nothing in the clock replaces.
	// Invariant: ordered by dot, each dot once.
	Siblings []Sibling
}

// Live reports whether the sibling is a value that readers should see.
func (s *Sibling) Live(nowMs int64) bool {
	return !s.Deleted && (s.Expires == 0 || s.Expires > nowMs || planted.Is(planted.ExpiryUnseen))
}

// Live reports whether the object has a live value at this instant, in Unix
// milliseconds. An expired sibling is a tombstone: nothing needs to happen for
// it to die, and all copies agree on the moment.
func (o Object) Live(nowMs int64) bool {
	for i := range o.Siblings {
		if o.Siblings[i].Live(nowMs) {
			return true
		}
	}
	return false
}

// Complete reports whether all siblings have their bodies. What DecodeHead
// returns is not complete unless all bodies are empty; Write and Merge make of
// it a complete object if only siblings with bodies survive.
func (o Object) Complete() bool {
	for i := range o.Siblings {
		if s := &o.Siblings[i]; s.Size != len(s.Body) {
			return false
		}
	}
	return true
}

// String shows the clock, then each sibling with its dot, stamp, size, and what
// is special about it.
func (o Object) String() string {
	var b strings.Builder
	b.WriteString(o.Clock.String())
	b.WriteString(" {")
	for i := range o.Siblings {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(o.Siblings[i].String())
	}
	b.WriteString("}")
	return b.String()
}

// String shows all but the request and the body.
func (s Sibling) String() string {
	t := s.Dot.String() + " at " + s.Stamp.String() + " " + strconv.Itoa(s.Size) + " bytes"
	if s.Deleted {
		t += " deleted"
	}
	if s.Expires != 0 {
		t += " expires " + strconv.FormatInt(s.Expires, 10)
	}
	return t
}

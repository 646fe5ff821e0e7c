package crdt

import "github.com/tanodb/tanodb/kv"

// The limits of operations and of what they make. A state that merging has
// brought past MaxItems is still read, and takes operations that do not make it
// grow. That a state fits into an object is for the caller to check, as with
// any other value: kv.MaxObject.
const (
	MaxDepth   = kv.MaxMapDepth // maps within each other, the outermost counted
	MaxItems   = 1 << 20        // elements and fields in one state, or in one operation
	MaxName    = kv.MaxKey      // bytes in the name of a field
	MaxOpBytes = kv.MaxObject   // bytes in one operation, encoded

	MinPrecision     = 4 // of a HyperLogLog
	MaxPrecision     = 16
	DefaultPrecision = 14
)

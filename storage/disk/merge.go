package disk

import (
	"encoding/binary"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tanodb/tanodb/storage"
)

// merger is what Pebble does with the merges of a Batch. Its name is kept in
// the directory, and Pebble opens no directory that was written with another
// one: whoever changes what it does gives it another name, and FORMAT another version.
var merger = &pebble.Merger{
	Name: "tanodb.xor64",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		return &xor{storage.Word(value)}, nil
	},
}

// xor is the exclusive or of words. It is no DeletableValueMerger, which would let
// a word of 0 vanish: a compaction that meets merges above a deletion then drops
// that deletion with them, and what it has hidden comes back.
type xor struct {
	word uint64
}

var _ pebble.ValueMerger = (*xor)(nil)

// MergeNewer implements pebble.ValueMerger.
func (x *xor) MergeNewer(value []byte) error {
	x.word ^= storage.Word(value)
	return nil
}

// MergeOlder implements pebble.ValueMerger.
func (x *xor) MergeOlder(value []byte) error {
	x.word ^= storage.Word(value)
	return nil
}

// Finish implements pebble.ValueMerger.
func (x *xor) Finish(bool) ([]byte, io.Closer, error) {
	return binary.BigEndian.AppendUint64(nil, x.word), nil, nil
}

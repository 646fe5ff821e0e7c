package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tanodb/tanodb/storage"
)

var _ storage.Eraser = (*Engine)(nil)

// Erase implements storage.Eraser. A deletion would not do: the damaged block
// would stay where it is, and fail every compaction that comes to it, until
// writes wait for compactions. An excision leaves the block out of the table's
// bounds, and nobody reads it again.
//
// Pebble finds the new bounds of a table that is cut by reading it on both sides
// of the cut, and takes a block there that it cannot read for one without keys:
// it would drop all that is left of it in the table, without an error. So both
// sides are read first.
func (e *Engine) Erase(lower, upper []byte) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := e.readAround(lower, upper); err != nil {
		return e.readError(err)
	}
	e.write.Lock()
	defer e.write.Unlock()
	if err := e.db.Excise(context.Background(), pebble.KeyRange{Start: lower, End: upper}); err != nil {
		return fmt.Errorf("storage/disk: erasing a range in %s: %w", e.dir, err)
	}
	return nil
}

// readAround reads the last key before a range and the first one after it, in
// each table that has any.
func (e *Engine) readAround(lower, upper []byte) (err error) {
	iter, err := e.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	if !iter.SeekLT(lower) && iter.Error() != nil {
		return iter.Error()
	}
	if !iter.SeekGE(upper) && iter.Error() != nil {
		return iter.Error()
	}
	return nil
}

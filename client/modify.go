package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// The limits of Modify.
const (
	maxRounds = 32                    // of reading and writing
	maxPause  = 20 * time.Millisecond // between two of them, by chance, for each that has failed
)

// GetOne reads a key as one value: several are made one by Options.Resolve, and
// fail with ErrSiblings without it. The context covers all of them.
func (c *Client) GetOne(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Value, kv.Context, error) {
	o.Tombstones = false
	obj, err := c.Get(ctx, k, o)
	switch {
	case err != nil:
		return kv.Value{}, obj.Context, err
	case len(obj.Values) == 1:
		return obj.Values[0], obj.Context, nil
	case c.o.Resolve == nil:
		return kv.Value{}, obj.Context, fmt.Errorf("%w: %v holds %d, and there is no Resolve", ErrSiblings, k, len(obj.Values))
	}
	return c.o.Resolve(k, obj.Values), obj.Context, nil
}

// Modify reads a key, has its value changed and writes it, again if somebody else
// was faster. Change is given the value, and false if there is none; it may be
// called several times, and its error ends the loop. A write in doubt is not
// repeated.
//
// The write is made on the condition that the key holds what was read. That is
// decided where the version is made, so two writers at two nodes that do not see
// each other may still make siblings: the next GetOne or Modify resolves them.
func (c *Client) Modify(ctx context.Context, k kv.Key, o kv.WriteOptions, change func(v kv.Value, found bool) (kv.Value, error)) (kv.Receipt, error) {
	var last error
	for round := range maxRounds {
		if err := pause(ctx, round); err != nil {
			return kv.Receipt{}, errors.Join(err, last)
		}
		v, seen, err := c.GetOne(ctx, k, kv.ReadOptions{R: o.R, PR: o.PR, N: o.N, Timeout: o.Timeout})
		found := !errors.Is(err, kv.ErrNotFound)
		if err != nil && found {
			return kv.Receipt{}, err
		}
		if v, err = change(v, found); err != nil {
			return kv.Receipt{}, err
		}
		o.Context, o.IfNotModified, o.IfNoneMatch = seen, found, !found
		receipt, err := c.Put(ctx, k, v, o)
		if !matches(err, kv.ErrModified, kv.ErrExists, kv.ErrNotFound) || errors.Is(err, kv.ErrInDoubt) {
			return receipt, err
		}
		last = err
	}
	return kv.Receipt{}, fmt.Errorf("%v was changed by others %d times in a row: %w", k, maxRounds, last)
}

// pause waits a moment before all rounds but the first.
func pause(ctx context.Context, round int) error {
	if round == 0 {
		return nil
	}
	t := time.NewTimer(rand.N(maxPause * time.Duration(min(round, 10))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

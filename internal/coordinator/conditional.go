package coordinator

import (
	"errors"
	"time"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/kv"
)

// Conditional is a put that is made only if the key holds what its writer thinks:
// nothing (IfNoneMatch), or nothing that its context has not seen (IfNotModified).
//
//	prepare ──▶ reading ──▶ writing ──▶ done
//	               │           │ the coordinating vnode holds more than was read
//	               └───────────┴──▶ refused: nothing is written
//
// What R replicas hold decides first. Then the vnode that makes the version looks
// once more, in the turn in which it does, so that of two such writes that meet there
// one is refused. All are sent to the first place of the key that is up, and meet there as
// long as those who send them agree on who is. While they do not, as in a partition,
// both may be made; they are siblings then.
type Conditional struct {
	view    View
	req     PutRequest
	get     *Get
	put     *Put // nil: still reading
	receipt kv.Receipt
	err     error
	done    bool
}

// NewWrite returns the machine of a put.
func NewWrite(v View, r PutRequest) Write {
	o := r.Options
	if !o.IfNoneMatch && !o.IfNotModified {
		return NewPut(v, r)
	}
	c := &Conditional{view: v, req: r}
	c.get = NewGet(v, GetRequest{Key: r.Key, Options: kv.ReadOptions{
		N: o.N, R: o.R, PR: o.PR, SloppyQuorum: o.SloppyQuorum, Timeout: o.Timeout, Tombstones: true, Head: true,
	}})
	c.get.ofDelete = true
	return c
}

// Write is a machine whose result is a receipt.
type Write interface {
	Machine

	// Result is the outcome, once an Answer effect has come.
	Result() (kv.Receipt, error)
}

// Result is the outcome, once an Answer effect has come.
func (c *Conditional) Result() (kv.Receipt, error) { return c.receipt, c.err }

// Done is true once the write is answered.
func (c *Conditional) Done() bool { return c.done }

// Step consumes one event.
func (c *Conditional) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if c.done {
		return out
	}
	if c.put != nil {
		return c.writing(now, ev, out)
	}
	if _, ok := ev.(Start); ok {
		// What the write would refuse is refused before the read.
		if err := NewPut(c.view, c.req).resolve(); err != nil {
			return c.end(kv.Receipt{}, err, out)
		}
	}
	return c.reading(now, ev, out)
}

// reading learns what the key holds.
func (c *Conditional) reading(now time.Duration, ev Event, out []Effect) []Effect {
	out = c.get.Step(now, ev, out)
	if !c.get.answered {
		return out
	}
	out = withoutAnswer(out)
	obj, err := c.get.Result()
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return c.end(kv.Receipt{Replies: obj.Replies}, err, out)
	}
	if err := c.unmet(err == nil); err != nil {
		return c.end(kv.Receipt{Replies: obj.Replies, Context: obj.Context}, err, out)
	}
	r := c.req
	if !r.Options.IfNotModified { // otherwise its writer has seen all that was read, and maybe more, which it replaces too
		r.Options.Context = obj.Context
	}
	r.Options.IfNoneMatch, r.Options.IfNotModified = false, true
	c.put = NewPut(c.get.view, r)
	c.put.number = c.get.number
	return c.writing(now, Start{}, out)
}

// unmet is the condition that does not hold of what was read; nil: all do.
func (c *Conditional) unmet(live bool) error {
	o := &c.req.Options
	if o.IfNoneMatch && live {
		return kv.ErrExists
	}
	if !o.IfNotModified {
		return nil
	}
	if !live {
		return kv.ErrNotFound
	}
	seen, err := object.DecodeContext(c.get.key, o.Context)
	if err == nil && !seen.Descends(c.get.merged.Clock) {
		err = kv.ErrModified
	}
	return err
}

// writing puts the value.
func (c *Conditional) writing(now time.Duration, ev Event, out []Effect) []Effect {
	out = c.put.Step(now, ev, out)
	if !c.put.answered {
		return out
	}
	receipt, err := c.put.Result()
	if c.req.Options.IfNoneMatch && errors.Is(err, kv.ErrModified) {
		err = kv.ErrExists
	}
	return c.end(receipt, err, withoutAnswer(out))
}

func (c *Conditional) end(r kv.Receipt, err error, out []Effect) []Effect {
	c.done, c.receipt, c.err = true, r, err
	return append(out, Answer{})
}

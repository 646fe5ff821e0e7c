package coordinator

import (
	"time"

	"github.com/tanodb/tanodb/internal/planted"
	"github.com/tanodb/tanodb/kv"
)

// Delete replaces a key's values by a tombstone. Given the context of a read
// it is a Put. Without one it is a Get, to learn what there is to delete, and
// then a Put with the context of that.
//
//	prepare ──▶ reading ──▶ writing ──▶ done
//	               │ no live value
//	               └──▶ not found: nothing is written
type Delete struct {
	view    View
	req     PutRequest
	get     *Get // nil: the context was given
	put     *Put // nil: still reading
	receipt kv.Receipt
	err     error
	done    bool
}

// NewDelete returns the machine of a delete.
func NewDelete(v View, r PutRequest) *Delete {
	r.Deleted = true
	d := &Delete{view: v, req: r}
	if len(r.Options.Context) > 0 {
		d.put = NewPut(v, r)
		return d
	}
	o := r.Options
	d.get = NewGet(v, GetRequest{Key: r.Key, Options: kv.ReadOptions{
		N: o.N, R: o.R, PR: o.PR, SloppyQuorum: o.SloppyQuorum, Timeout: o.Timeout, Linger: o.Linger,
	}})
	d.get.ofDelete = true
	return d
}

// Result is the outcome, once an Answer effect has come.
func (d *Delete) Result() (kv.Receipt, error) { return d.receipt, d.err }

// Done is true once the delete is answered.
func (d *Delete) Done() bool { return d.done }

// Step consumes one event.
func (d *Delete) Step(now time.Duration, ev Event, out []Effect) []Effect {
	if d.done {
		return out
	}
	if d.put != nil {
		return d.writing(now, ev, out)
	}
	if _, ok := ev.(Start); ok {
		// What the write would refuse is refused before the read.
		if err := NewPut(d.view, d.req).resolve(); err != nil {
			return d.end(kv.Receipt{}, err, out)
		}
	}
	return d.reading(now, ev, out)
}

// reading learns what there is to delete.
func (d *Delete) reading(now time.Duration, ev Event, out []Effect) []Effect {
	out = d.get.Step(now, ev, out)
	if !d.get.answered {
		return out
	}
	out = withoutAnswer(out)
	obj, err := d.get.Result()
	if err != nil {
		return d.end(kv.Receipt{Replies: obj.Replies, Context: obj.Context}, err, out)
	}
	r := d.req
	r.Options.Context = obj.Context
	if planted.Is(planted.DeleteBlind) {
		r.Options.Context = nil
	}
	// The write has what the read left of the time, since both count from the
	// beginning of the delete. It shows its own replies.
	d.put = NewPut(d.get.view, r)
	d.put.number = d.get.number
	return d.writing(now, Start{}, out)
}

// writing puts the tombstone.
func (d *Delete) writing(now time.Duration, ev Event, out []Effect) []Effect {
	out = d.put.Step(now, ev, out)
	if !d.put.answered {
		return out
	}
	receipt, err := d.put.Result()
	return d.end(receipt, err, withoutAnswer(out))
}

func (d *Delete) end(r kv.Receipt, err error, out []Effect) []Effect {
	d.done, d.receipt, d.err = true, r, err
	return append(out, Answer{})
}

// withoutAnswer takes an inner machine's Answer, which is not the whole
// request's, out of the effects.
func withoutAnswer(out []Effect) []Effect {
	kept := out[:0]
	for _, e := range out {
		if _, ok := e.(Answer); !ok {
			kept = append(kept, e)
		}
	}
	return kept
}

package coordinator

import (
	"errors"
	"time"

	"github.com/tanodb/tanodb/internal/crdt"
	"github.com/tanodb/tanodb/kv"
)

// Fetch reads a data type: it is a Get whose answer is one value, that of all
// siblings' states merged.
type Fetch struct{ get *Get }

// NewFetch returns the machine of a read of a data type.
func NewFetch(v View, r GetRequest) *Fetch {
	f := &Fetch{NewGet(v, r)}
	f.get.ofData = true
	f.get.req.Options.Head = false // the value is in the body
	return f
}

// Step consumes one event.
func (f *Fetch) Step(now time.Duration, ev Event, out []Effect) []Effect {
	return f.get.Step(now, ev, out)
}

// Done is true once the fetch is answered and nothing is left to repair.
func (f *Fetch) Done() bool { return f.get.Done() }

// Result is the outcome, once an Answer effect has come.
func (f *Fetch) Result() (kv.Data, error) {
	obj, err := f.get.Result()
	d := data(f.get.key, f.get.props, obj.Context, obj.Replies)
	if err == nil && !reveal(&d, obj.Values) {
		err = kv.ErrNotFound // there are other values, and no counter among them
	}
	return d, err
}

// Update applies an operation to a data type: it is a Put whose new version the
// coordinating vnode makes of what it has.
type Update struct{ put *Put }

// NewUpdate returns the machine of an operation on a data type.
func NewUpdate(v View, k kv.Key, op kv.Op, o kv.WriteOptions) *Update {
	if op == nil {
		op = noOp{}
	}
	return &Update{NewPut(v, PutRequest{Key: k, Op: op, Options: o})}
}

// noOp stands for an operation that is not there, and is refused.
type noOp struct{}

func (noOp) Kind() kv.Kind { return 0 }

// Step consumes one event.
func (u *Update) Step(now time.Duration, ev Event, out []Effect) []Effect {
	return u.put.Step(now, ev, out)
}

// Done is true once the update is answered.
func (u *Update) Done() bool { return u.put.Done() }

// Result is the outcome, once an Answer effect has come. It shows the value, and the
// context that covers it, only where that was asked for.
func (u *Update) Result() (kv.Data, error) {
	r, err := u.put.Result()
	d := data(u.put.key, u.put.props, r.Context, r.Replies)
	if err == nil {
		reveal(&d, r.Values)
	}
	return d, err
}

// data is what is known of a data type without its value. Props are nil if the request did
// not come so far.
func data(k kv.Key, p *kv.Props, c kv.Context, replies []kv.Reply) kv.Data {
	d := kv.Data{Context: c, Replies: replies}
	if p == nil {
		return d
	}
	if kind, err := kindOf(k, p); err == nil {
		d.Kind = kind
		d.Value.Kind = kind
	}
	return d
}

// reveal takes the value out of those that a key holds, and reports whether it is there.
func reveal(d *kv.Data, values []kv.Value) bool {
	for i := range values {
		if values[i].Deleted || values[i].ContentType != "application/riak_"+d.Kind.String() {
			continue
		}
		state, err := crdt.Decode(values[i].Data)
		if err == nil && state.Kind() == d.Kind {
			d.Value = state.Value()
			return true
		}
	}
	return false
}

// kindOf is the kind of what a key is in a bucket with these properties.
func kindOf(k kv.Key, p *kv.Props) (kv.Kind, error) {
	wrong := func(text string) (kv.Kind, error) { return 0, &kv.DataError{Cause: kv.ErrDataType, Text: text} }
	switch {
	case k.Type == "" && p.Latest():
		return wrong("Counters require bucket property 'allow_mult=true'")
	case k.Type == "":
		return kv.Counter, nil // as in Riak 1.4
	case p.Latest():
		return wrong("Bucket must be allow_mult=true")
	case p.DataType == "":
		return wrong("`undefined` is not a supported type")
	}
	return p.Kind(), nil
}

// checkOp refuses an operation that the bucket does not take, or that cannot be meant.
func (p *Put) checkOp() error {
	kind, err := kindOf(p.key, p.props)
	if err != nil {
		return err
	}
	if got := p.req.Op.Kind(); got != kind {
		return &kv.DataError{Cause: kv.ErrDataType, Text: (&crdt.KindError{Op: got, Type: kind}).Error()}
	}
	var limit *crdt.LimitError
	switch err = crdt.Check(p.req.Op); {
	case err == nil:
		return nil
	case errors.As(err, &limit):
		return &kv.InvalidError{What: "operation", Problem: limit.Error()}
	}
	return &kv.DataError{Cause: kv.ErrDataType, Text: err.Error()}
}

// errOfValues is the error of a put of a value where there are none.
func (p *Put) errOfValues() error {
	return &kv.DataError{
		Cause: kv.ErrDataType,
		Text:  "the bucket type of " + p.key.String() + " has the data type `" + p.props.DataType + "`: it takes operations, and no values",
	}
}

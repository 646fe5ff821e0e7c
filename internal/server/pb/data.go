package pb

import (
	"crypto/rand"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// Data types: those of bucket types, and the counters that Riak 1.4 had in buckets
// without one.

// fetchData serves DtFetchReq. What is not there has a type and no value.
func (c *conn) fetchData(r *request) error {
	var m riakpb.DtFetchReq
	if err := decode(r, &m); err != nil {
		return err
	}
	k, err := c.dataKey(&place{m.Type, m.Bucket, m.Key})
	if err != nil {
		return err
	}
	o := kv.ReadOptions{
		R: optional(m.R), PR: optional(m.Pr), BasicQuorum: toggle(m.BasicQuorum), NotFoundOK: toggle(m.NotfoundOk), SloppyQuorum: toggle(m.SloppyQuorum),
		N: int(min(m.GetNVal(), maxQuorum)), Timeout: milliseconds(m.GetTimeout()), Linger: milliseconds(m.Ask.GetLinger()),
	}
	if m.NodeConfirms != nil {
		o.NodeConfirms = c.confirms(m.GetNodeConfirms(), o.N, k)
	}
	d, err := c.server.o.Data.Fetch(c.context(), k, o)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return c.dataReason(err, k, &d, o.N, m.Ask)
	}
	answer := &riakpb.DtFetchResp{Type: riakpb.DataTypeOf(d.Kind)}
	if err == nil {
		answer.Value = riakpb.ValueOf(d.Value)
		answer.Context = shownContext(&d, m.GetIncludeContext(), m.Ask)
	}
	if m.Ask == nil {
		return c.out.message(riakpb.DataFetchResp, answer)
	}
	return c.out.messageTold(riakpb.DataFetchResp, answer, &told{d.Replies, d.Context, err})
}

// updateData serves DtUpdateReq.
func (c *conn) updateData(r *request) error {
	var m riakpb.DtUpdateReq
	if err := c.decodeOp(r, &m); err != nil {
		return err
	}
	p := place{m.Type, m.Bucket, m.Key}
	made := m.Key == nil
	if made {
		p.key = []byte(rand.Text())
	}
	k, err := c.dataKey(&p)
	if err != nil {
		return err
	}
	op, err := m.Op.KVOp()
	if err != nil {
		return decodingError(err.Error())
	}
	if k.Type == "" && m.Ask == nil && (op == nil || op.Kind() != kv.Counter) {
		return errNoCounter
	}
	o := kv.WriteOptions{
		Context: m.Context, W: optional(m.W), DW: optional(m.Dw), PW: optional(m.Pw), ReturnBody: m.GetReturnBody(), SloppyQuorum: toggle(m.SloppyQuorum),
		N: int(min(m.GetNVal(), maxQuorum)), Timeout: milliseconds(m.GetTimeout()),
	}
	if m.NodeConfirms != nil {
		o.NodeConfirms = c.confirms(m.GetNodeConfirms(), o.N, k)
	}
	a := askOf(m.Ask)
	if err := asked(&o, &a); err != nil {
		return err
	}
	d, err := c.server.o.Data.Update(c.context(), k, op, o)
	if err != nil {
		if op == nil && d.Kind != 0 && errors.Is(err, kv.ErrDataType) {
			err = &kv.DataError{Cause: kv.ErrDataType, Text: "Operation type is `undefined` but  bucket type is `" + d.Kind.String() + "`."}
		}
		return c.dataReason(err, k, &d, o.N, m.Ask)
	}
	answer := &riakpb.DtUpdateResp{}
	if o.ReturnBody {
		answer.SetValues(riakpb.ValueOf(d.Value))
		answer.Context = shownContext(&d, m.GetIncludeContext(), m.Ask)
	}
	if made {
		answer.Key = p.key
	}
	if m.Ask == nil {
		return c.out.message(riakpb.DataUpdateResp, answer)
	}
	return c.out.messageTold(riakpb.DataUpdateResp, answer, &told{replies: d.Replies})
}

// dataKey is the key of a data type. One of the bucket type "default" is a counter of
// Riak 1.4, which has messages of its own too.
func (c *conn) dataKey(p *place) (kv.Key, error) {
	if err := p.check(); err != nil {
		return kv.Key{}, err
	}
	if c.server.o.Data == nil {
		return kv.Key{}, errNoData
	}
	return c.key(p), nil
}

// dataReason is the answer to an error of a data type.
func (c *conn) dataReason(err error, k kv.Key, d *kv.Data, n int, ask *riakpb.TanoAsk) error {
	return reason(err, &story{
		bucketType: k.Type, data: true, replies: d.Replies, n: n, own: ask != nil, context: d.Context,
	})
}

// shownContext is the context of an answer. Riak gives one only of what has removals,
// and only if it was not asked to leave it out.
func shownContext(d *kv.Data, include bool, ask *riakpb.TanoAsk) []byte {
	if ask != nil || include && (d.Kind == kv.Set || d.Kind == kv.Map) {
		return d.Context
	}
	return nil
}

// getCounter serves RpbCounterGetReq.
func (c *conn) getCounter(r *request) error {
	var m riakpb.RpbCounterGetReq
	if err := decode(r, &m); err != nil {
		return err
	}
	k, err := c.dataKey(&place{bucket: m.Bucket, key: m.Key})
	if err != nil {
		return err
	}
	o := kv.ReadOptions{R: optional(m.R), PR: optional(m.Pr), BasicQuorum: toggle(m.BasicQuorum), NotFoundOK: toggle(m.NotfoundOk)}
	if m.NodeConfirms != nil {
		o.NodeConfirms = c.confirms(m.GetNodeConfirms(), 0, k)
	}
	d, err := c.server.o.Data.Fetch(c.context(), k, o)
	answer := &riakpb.RpbCounterGetResp{}
	switch {
	case err == nil:
		answer.Value = &d.Value.Counter
	case !errors.Is(err, kv.ErrNotFound):
		return c.dataReason(err, k, &d, 0, nil)
	}
	return c.out.message(riakpb.CounterGetResp, answer)
}

// updateCounter serves RpbCounterUpdateReq.
func (c *conn) updateCounter(r *request) error {
	var m riakpb.RpbCounterUpdateReq
	if err := decode(r, &m); err != nil {
		return err
	}
	k, err := c.dataKey(&place{bucket: m.Bucket, key: m.Key})
	if err != nil {
		return err
	}
	o := kv.WriteOptions{W: optional(m.W), DW: optional(m.Dw), PW: optional(m.Pw), ReturnBody: m.GetReturnvalue()}
	if m.NodeConfirms != nil {
		o.NodeConfirms = c.confirms(m.GetNodeConfirms(), 0, k)
	}
	d, err := c.server.o.Data.Update(c.context(), k, kv.CounterOp(m.GetAmount()), o)
	if err != nil {
		return c.dataReason(err, k, &d, 0, nil)
	}
	answer := &riakpb.RpbCounterUpdateResp{}
	if o.ReturnBody {
		answer.Value = &d.Value.Counter
	}
	return c.out.message(riakpb.CounterUpdateResp, answer)
}

// decodeOp reads an operation by the generated code. What that makes of small pieces is
// many times as large as they are, and counts as memory of the request.
func (c *conn) decodeOp(r *request, m proto.Message) error {
	if len(r.body) > smallFrame {
		n := fieldMemory * fieldsIn(r.body, m.ProtoReflect().Descriptor(), 0)
		if !c.server.reserve(n) {
			return wireError(turnedAway)
		}
		r.held += n
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(r.body, m); err != nil {
		return decodingError(err.Error())
	}
	return nil
}

// fieldsIn is how many fields a message has, with those of the messages in it. What
// cannot be decoded ends the count, and is for the decoder to refuse.
func fieldsIn(b []byte, m protoreflect.MessageDescriptor, depth int) (n int) {
	for len(b) > 0 && depth < maxNesting {
		num, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return n
		}
		b = b[size:]
		if size = protowire.ConsumeFieldValue(num, kind, b); size < 0 {
			return n
		}
		n++
		if f := m.Fields().ByNumber(num); f != nil && f.Message() != nil && kind == protowire.BytesType {
			within, _ := protowire.ConsumeBytes(b)
			n += fieldsIn(within, f.Message(), depth+1)
		}
		b = b[size:]
	}
	return n
}

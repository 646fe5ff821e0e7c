package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

var (
	_ kv.DataTypes = (*Client)(nil)
	_ kv.Indexer   = (*Client)(nil)
)

// Fetch reads a data type. See kv.DataTypes.
func (c *Client) Fetch(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Data, error) {
	if err := errors.Join(k.Validate(), checkRead(&o)); err != nil {
		return kv.Data{}, err
	}
	var a riakpb.DtFetchResp
	q := &request{
		op: "fetch", key: &k, timeout: o.Timeout, linger: o.Linger, code: riakpb.DataFetchReq, want: riakpb.DataFetchResp, answer: &a,
		message: func(left time.Duration) message { return fetchMessage(k, &o, left) },
	}
	told, err := c.do(ctx, q)
	if err != nil {
		return kv.Data{Context: told.GetContext(), Replies: told.KVReplies()}, err
	}
	d := kv.Data{Kind: a.KVKind(), Context: a.Told.GetContext(), Replies: a.Told.KVReplies()}
	d.Value.Kind = d.Kind
	if a.Value == nil {
		return d, kv.ErrNotFound
	}
	d.Value = a.Value.KVValue(d.Kind)
	return d, nil
}

// Update applies an operation to a data type. See kv.DataTypes. One that was sent and has
// no answer ends with kv.ErrInDoubt: it is not sent again by itself.
func (c *Client) Update(ctx context.Context, k kv.Key, op kv.Op, o kv.WriteOptions) (kv.Data, error) {
	if err := errors.Join(k.Validate(), checkWrite(&o)); err != nil {
		return kv.Data{}, err
	}
	var a riakpb.DtUpdateResp
	q := &request{
		op: "update", key: &k, timeout: o.Timeout, linger: o.Linger, write: true, code: riakpb.DataUpdateReq, want: riakpb.DataUpdateResp, answer: &a,
		message: func(left time.Duration) message { return updateMessage(k, op, &o, left) },
	}
	told, err := c.do(ctx, q)
	if err != nil {
		return kv.Data{Context: told.GetContext(), Replies: told.KVReplies()}, err
	}
	d := kv.Data{Kind: op.Kind(), Context: a.Context, Replies: a.Told.KVReplies()}
	d.Value = a.Value().KVValue(d.Kind)
	return d, nil
}

// Index answers a page of a query. See kv.Indexer.
func (c *Client) Index(ctx context.Context, b kv.Bucket, query kv.IndexQuery) (kv.IndexPage, error) {
	if err := errors.Join(b.Validate(), checkList(&kv.ListOptions{Limit: query.Limit, Timeout: query.Timeout})); err != nil {
		return kv.IndexPage{}, err
	}
	var a riakpb.RpbIndexResp
	q := &request{
		op: "index", timeout: query.Timeout, code: riakpb.IndexReq, want: riakpb.IndexResp, answer: &a,
		message: func(left time.Duration) message { return indexMessage(b, &query, left) },
	}
	if _, err := c.do(ctx, q); err != nil {
		return kv.IndexPage{}, err
	}
	page := kv.IndexPage{Next: string(a.Told.GetNext())}
	for _, m := range a.Results {
		page.Matches = append(page.Matches, kv.IndexMatch{Term: string(m.Key), Key: string(m.Value)})
	}
	return page, nil
}

// dataType is the field of a bucket type where it must be given.
func dataType(name string) []byte {
	if name == "" {
		name = kv.DefaultType
	}
	return []byte(name)
}

func fetchMessage(k kv.Key, o *kv.ReadOptions, left time.Duration) message {
	return &riakpb.DtFetchReq{
		Bucket: []byte(k.Bucket), Key: []byte(k.Name), Type: dataType(k.Type),
		R: quorum(o.R), Pr: quorum(o.PR), NVal: count(o.N), NodeConfirms: count(o.NodeConfirms),
		BasicQuorum: toggle(o.BasicQuorum), NotfoundOk: toggle(o.NotFoundOK), SloppyQuorum: toggle(o.SloppyQuorum), Timeout: millis(left),
		Ask: &riakpb.TanoAsk{Linger: millis(o.Linger)},
	}
}

func updateMessage(k kv.Key, op kv.Op, o *kv.WriteOptions, left time.Duration) message {
	a := writeAsk(o)
	a.IfNotModified = flag(o.IfNotModified)
	return &riakpb.DtUpdateReq{
		Bucket: []byte(k.Bucket), Key: []byte(k.Name), Type: dataType(k.Type), Context: o.Context, Op: riakpb.OpOf(op),
		W: quorum(o.W), Dw: quorum(o.DW), Pw: quorum(o.PW), NVal: count(o.N), NodeConfirms: count(o.NodeConfirms),
		ReturnBody: flag(o.ReturnBody), SloppyQuorum: toggle(o.SloppyQuorum), Timeout: millis(left),
		Ask: a,
	}
}

func indexMessage(b kv.Bucket, q *kv.IndexQuery, left time.Duration) message {
	m := &riakpb.RpbIndexReq{
		Bucket: []byte(b.Name), Type: typeOf(b.Type), Index: []byte(q.Field), Qtype: riakpb.RpbIndexReq_eq.Enum(),
		TermRegex: text(q.TermRegex), PaginationSort: proto.Bool(q.Sort), Timeout: millis(left),
		Ask: &riakpb.TanoAsk{Token: []byte(q.Token), Limit: count(q.Limit)},
	}
	if q.Range {
		m.Qtype, m.RangeMin, m.RangeMax = riakpb.RpbIndexReq_range.Enum(), []byte(q.Start), []byte(q.End)
	} else {
		m.Key = []byte(q.Start)
	}
	return m
}

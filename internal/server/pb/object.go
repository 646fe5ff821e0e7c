package pb

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strconv"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// defaultType is Riak's name of the bucket type that has none here.
const defaultType = "default"

// key is the key that a request names.
func (c *conn) key(p *place) kv.Key {
	b := c.bucketOf(p.bucketType, p.bucket)
	return kv.Key{Type: b.Type, Bucket: b.Name, Name: string(p.key)}
}

// bucketOf is the bucket that a request names. Its names are mostly those of the
// last request, and then they are not copied.
func (c *conn) bucketOf(bucketType, bucket []byte) kv.Bucket {
	if string(bucket) != c.bucket {
		c.bucket = string(bucket)
	}
	if len(bucketType) == 0 || string(bucketType) == defaultType {
		return kv.Bucket{Name: c.bucket}
	}
	if string(bucketType) != c.bucketType {
		c.bucketType = string(bucketType)
	}
	return kv.Bucket{Type: c.bucketType, Name: c.bucket}
}

// propsOfKey are the properties of a key's bucket; none: they cannot be known.
func (c *conn) propsOfKey(k kv.Key) kv.Properties {
	if c.server.o.Properties == nil {
		return nil
	}
	ps, err := c.server.o.Properties.BucketProps(c.context(), kv.Bucket{Type: k.Type, Name: k.Bucket})
	if err != nil {
		return nil
	}
	return ps
}

// replicas is the n_val of a key's bucket; where it cannot be known, that of the cluster.
func (c *conn) replicas(k kv.Key) int {
	if n, err := strconv.Atoi(c.propsOfKey(k).Lookup("n_val")); err == nil {
		return n
	}
	return c.server.node.Status().Replicas
}

// confirms is how many nodes a node_confirms asks for, of so many replicas (0:
// of the bucket's).
func (c *conn) confirms(field uint32, n int, k kv.Key) int {
	all := func() int {
		if n > 0 {
			return n
		}
		return c.replicas(k)
	}
	switch q := quorum(field); q {
	case kv.None, kv.Default:
		return 0
	case kv.One:
		return 1
	case kv.Majority:
		return all()/2 + 1
	case kv.All:
		return all()
	default:
		return int(q)
	}
}

// get serves RpbGetReq.
func (c *conn) get(r *request) error {
	var q getReq
	if err := q.decode(r.body); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	k := c.key(&q.place)
	if q.confirms != 0 {
		q.o.NodeConfirms = c.confirms(q.confirms, q.o.N, k)
	}
	q.o.Tombstones = !q.ask.own || q.ask.tombstones // that are siblings of live values
	q.o.Linger = milliseconds(q.ask.linger)
	obj, err := c.server.node.Get(c.context(), k, q.o)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return c.absent(&q, &obj)
	case err != nil:
		return reason(err, &story{bucketType: string(q.place.bucketType), replies: obj.Replies, n: q.o.N, own: q.ask.own, context: obj.Context})
	}
	out := c.out
	out.begin(riakpb.GetResp)
	if len(q.ifModified) > 0 && bytes.Equal(q.ifModified, obj.Context) {
		out.varint(3, 1)
		out.end()
		return nil
	}
	values := obj.Values
	if !q.ask.own {
		values = api.Shown(values, func() kv.Properties { return c.propsOfKey(k) })
	}
	out.contents(values, q.o.Head, q.ask.own)
	out.bytes(2, obj.Context)
	c.finish(q.ask.own, obj.Replies)
	return nil
}

// absent answers that there is no live value, with the context of what was
// deleted if that was asked for.
func (c *conn) absent(q *getReq, obj *kv.Object) error {
	c.out.begin(riakpb.GetResp)
	if q.deletedVClock && len(obj.Context) > 0 {
		c.out.bytes(2, obj.Context)
	}
	c.finish(q.ask.own, obj.Replies)
	return nil
}

// finish ends an answer, with the story of the request for our own client.
func (c *conn) finish(own bool, replies []kv.Reply) {
	if own {
		c.out.told(&told{replies: replies})
	}
	c.out.end()
}

// put serves RpbPutReq.
func (c *conn) put(r *request) error {
	var q putReq
	body := r.body
	if r.held == 0 {
		// What is written may outlive the request: a node to which the write is
		// forwarded may take it later than the client waits.
		body = bytes.Clone(body)
	}
	if err := q.decode(body); err != nil {
		return err
	}
	made := q.key == nil
	if err := q.check(); err != nil {
		return err
	}
	switch {
	case q.asIs:
		return errAsIs
	case q.content.deleted:
		return errTombstone
	}
	if err := checkIndexes(q.content.v.Indexes); err != nil {
		return err
	}
	if made {
		q.key = []byte(rand.Text())
	}
	return c.write(&q, made)
}

// write does what a put asks for and answers it.
func (c *conn) write(q *putReq, made bool) error {
	k := c.key(&q.place)
	if q.confirms != 0 {
		q.o.NodeConfirms = c.confirms(q.confirms, q.o.N, k)
	}
	q.o.Context = q.vclock
	q.o.IfNoneMatch, q.o.IfNotModified = q.ifNoneMatch, q.ifNotModified && (!q.ifNoneMatch || q.ask.own)
	if err := asked(&q.o, &q.ask); err != nil {
		return err
	}
	q.o.ReturnBody = q.o.ReturnBody || q.returnHead
	receipt, err := c.server.node.Put(c.context(), k, q.content.v, q.o)
	if err != nil {
		return reason(err, &story{bucketType: k.Type, replies: receipt.Replies, n: q.o.N, value: len(q.content.v.Data), own: q.ask.own, context: receipt.Context})
	}
	c.out.begin(riakpb.PutResp)
	if q.o.ReturnBody {
		c.out.contents(receipt.Values, q.returnHead, q.ask.own)
	}
	if q.o.ReturnBody || q.ask.own {
		c.out.bytes(2, receipt.Context)
	}
	if made {
		c.out.bytes(3, q.key)
	}
	c.finish(q.ask.own, receipt.Replies)
	return nil
}

// del serves RpbDelReq. To delete what is not there succeeds, but for our own
// client, which is told.
func (c *conn) del(r *request) error {
	var m riakpb.RpbDelReq
	if err := decode(r, &m); err != nil {
		return err
	}
	p := place{m.Type, m.Bucket, m.Key}
	if err := p.check(); err != nil {
		return err
	}
	o, a := deleteOptions(&m), askOf(m.Ask)
	if err := asked(&o, &a); err != nil {
		return err
	}
	receipt, err := c.server.node.Delete(c.context(), c.key(&p), o)
	own := a.own
	if err != nil && (own || !errors.Is(err, kv.ErrNotFound)) {
		return reason(err, &story{bucketType: string(m.Type), replies: receipt.Replies, n: o.N, own: own, context: receipt.Context})
	}
	c.out.begin(riakpb.DelResp)
	if own {
		c.out.contents(receipt.Values, false, own)
		c.out.bytes(2, receipt.Context)
	}
	c.finish(own, receipt.Replies)
	return nil
}

// deleteOptions are the options of a delete. rw stands for r and w where
// neither is given.
func deleteOptions(m *riakpb.RpbDelReq) kv.WriteOptions {
	o := kv.WriteOptions{
		Context:      m.Vclock,
		N:            int(min(m.GetNVal(), maxQuorum)),
		W:            optional(m.W),
		DW:           optional(m.Dw),
		PW:           optional(m.Pw),
		R:            optional(m.R),
		PR:           optional(m.Pr),
		SloppyQuorum: toggle(m.SloppyQuorum),
		Timeout:      milliseconds(m.GetTimeout()),
	}
	if m.R == nil && m.W == nil {
		o.R, o.W = optional(m.Rw), optional(m.Rw)
	}
	return o
}

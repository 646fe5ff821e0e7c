package pb

import (
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// listKeys serves RpbListKeysReq: messages of keys, and a last one that says done and
// nothing else: Riak's client for Ruby would not look at keys beside it. An error ends
// the listing.
func (c *conn) listKeys(r *request) error {
	var m riakpb.RpbListKeysReq
	if err := decode(r, &m); err != nil {
		return err
	}
	p := place{bucketType: m.Type, bucket: m.Bucket}
	if err := p.check(); err != nil {
		return err
	}
	b := c.bucketOf(m.Type, m.Bucket)
	o := kv.ListOptions{Limit: listPage, Timeout: milliseconds(m.GetTimeout())}
	if m.Ask != nil {
		return c.onePage(b, o, m.Ask)
	}
	if !c.server.o.AllowsLists() {
		return forbidden("stream_list_keys")
	}
	for {
		page, err := c.server.node.Keys(c.context(), b, o)
		if err != nil {
			return reason(err, &story{bucketType: b.Type})
		}
		if err := c.still(); err != nil {
			return err
		}
		c.out.names(riakpb.ListKeysResp, page.Keys)
		if page.Next == "" {
			c.out.listed(riakpb.ListKeysResp)
			return nil
		}
		if err := c.flush(); err != nil {
			return err
		}
		o.Token = page.Next
	}
}

// onePage answers our own client with one page, and where the next one begins.
func (c *conn) onePage(b kv.Bucket, o kv.ListOptions, a *riakpb.TanoAsk) error {
	o.Token, o.Limit = string(a.Token), int(min(a.GetLimit(), maxQuorum))
	page, err := c.server.node.Keys(c.context(), b, o)
	if err != nil {
		return reason(err, &story{bucketType: b.Type, own: true})
	}
	c.out.begin(riakpb.ListKeysResp)
	for _, name := range page.Keys {
		c.out.text(1, name)
	}
	c.out.varint(2, 1)
	c.out.next(page.Next)
	c.out.end()
	return nil
}

// names makes a message of a listing: of keys or of buckets. Of none there is no message.
func (f *frame) names(code riakpb.Code, names []string) {
	if len(names) == 0 {
		return
	}
	f.begin(code)
	for _, name := range names {
		f.text(1, name)
	}
	f.end()
}

// listed makes the last message of a listing.
func (f *frame) listed(code riakpb.Code) {
	f.begin(code)
	f.varint(2, 1)
	f.end()
}

// listBuckets serves RpbListBucketsReq: with stream as a listing of keys, and
// without as one message, which has no done.
func (c *conn) listBuckets(r *request) error {
	var m riakpb.RpbListBucketsReq
	if err := decode(r, &m); err != nil {
		return err
	}
	if m.Type != nil && len(m.Type) == 0 {
		return errType
	}
	if c.server.o.Buckets == nil {
		return errNoBuckets
	}
	if !c.server.o.AllowsLists() {
		if m.GetStream() {
			return forbidden("stream_list_buckets")
		}
		return forbidden("list_buckets")
	}
	bucketType := string(m.Type)
	if bucketType == defaultType {
		bucketType = ""
	}
	o := kv.ListOptions{Limit: listPage, Timeout: milliseconds(m.GetTimeout())}
	var all []string
	for size := 0; ; {
		page, err := c.server.o.Buckets.Buckets(c.context(), bucketType, o)
		if err != nil {
			return reason(err, &story{bucketType: bucketType})
		}
		if err := c.still(); err != nil {
			return err
		}
		if m.GetStream() {
			c.out.names(riakpb.ListBucketsResp, page.Buckets)
			if err := c.flush(); err != nil {
				return err
			}
		} else {
			before := size
			for _, name := range page.Buckets {
				size += len(name)
			}
			if size > maxBuckets {
				return errManyBuckets
			}
			if err := c.gathers(2 * (size - before)); err != nil { // the names, and the message of them
				return err
			}
			all = append(all, page.Buckets...)
		}
		if page.Next == "" {
			break
		}
		o.Token = page.Next
	}
	switch {
	case m.GetStream():
		c.out.listed(riakpb.ListBucketsResp)
	case len(all) == 0:
		c.out.empty(riakpb.ListBucketsResp)
	default:
		c.out.names(riakpb.ListBucketsResp, all)
	}
	return nil
}

// preflist serves RpbGetBucketKeyPreflistReq: the vnodes that would be asked for
// a key now, those that stand in among them.
func (c *conn) preflist(r *request) error {
	var m riakpb.RpbGetBucketKeyPreflistReq
	if err := decode(r, &m); err != nil {
		return err
	}
	p := place{m.Type, m.Bucket, m.Key}
	if err := p.check(); err != nil {
		return err
	}
	k := c.key(&p)
	if err := k.Validate(); err != nil {
		return reason(err, &story{})
	}
	var list riakpb.RpbGetBucketKeyPreflistResp
	for _, reply := range c.server.node.Explain(k) {
		if reply.Result == kv.Down || reply.Role == kv.Incoming {
			continue
		}
		partition, primary := int64(reply.Partition.Index), reply.Role == kv.Primary
		list.Preflist = append(list.Preflist, &riakpb.RpbBucketKeyPreflistItem{
			Partition: &partition, Node: []byte(reply.Node), Primary: &primary,
		})
	}
	return c.out.message(riakpb.PreflistResp, &list)
}

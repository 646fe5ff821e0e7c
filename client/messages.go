package client

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// This file turns the words of package kv into messages, and back.

type message = proto.Message

// maxReplicas is more than there can be; a number past it is refused here, since
// a field has no room for any number.
const maxReplicas = 1 << 16

func checkRead(o *kv.ReadOptions) error {
	return check(o.Timeout, o.Linger, []number{{"R", int(o.R), int(kv.All)}, {"PR", int(o.PR), int(kv.All)}, {"N", o.N, 0}, {"node_confirms", o.NodeConfirms, 0}})
}

func checkWrite(o *kv.WriteOptions) error {
	return check(o.Timeout, o.Linger, []number{
		{"W", int(o.W), int(kv.All)}, {"DW", int(o.DW), int(kv.All)}, {"PW", int(o.PW), int(kv.All)},
		{"R", int(o.R), int(kv.All)}, {"PR", int(o.PR), int(kv.All)}, {"N", o.N, 0}, {"node_confirms", o.NodeConfirms, 0},
	})
}

func checkList(o *kv.ListOptions) error {
	if o.Limit < 0 || o.Limit > kv.MaxPage {
		return &kv.InvalidError{What: "limit", Problem: "must be from 0 to " + kv.Quorum(kv.MaxPage).String()}
	}
	return check(o.Timeout, 0, nil)
}

// number is an option, and the least that it can be.
type number struct {
	name     string
	n, least int
}

// check refuses what no field can say; whether the rest fits is for the node to
// know.
func check(timeout, linger time.Duration, numbers []number) error {
	for _, x := range numbers {
		if x.n < x.least || x.n > maxReplicas {
			return &kv.InvalidError{What: x.name, Problem: "is no number of replicas"}
		}
	}
	switch {
	case timeout < 0 || timeout > kv.MaxTimeout:
		return &kv.InvalidError{What: "timeout", Problem: "must be from 0 to " + kv.MaxTimeout.String()}
	case linger < 0 || linger > kv.MaxLinger:
		return &kv.InvalidError{What: "linger", Problem: "must be from 0 to " + kv.MaxLinger.String()}
	}
	return nil
}

func getMessage(k kv.Key, o *kv.ReadOptions, left time.Duration) message {
	return &riakpb.RpbGetReq{
		Bucket: []byte(k.Bucket), Key: []byte(k.Name), Type: typeOf(k.Type),
		R: quorum(o.R), Pr: quorum(o.PR), NVal: count(o.N), NodeConfirms: count(o.NodeConfirms),
		BasicQuorum: toggle(o.BasicQuorum), NotfoundOk: toggle(o.NotFoundOK), SloppyQuorum: toggle(o.SloppyQuorum),
		Head: flag(o.Head), Deletedvclock: proto.Bool(true), Timeout: millis(left),
		Ask: &riakpb.TanoAsk{Tombstones: flag(o.Tombstones), Linger: millis(o.Linger)},
	}
}

func putMessage(k kv.Key, v *kv.Value, o *kv.WriteOptions, left time.Duration) message {
	return &riakpb.RpbPutReq{
		Bucket: []byte(k.Bucket), Key: []byte(k.Name), Type: typeOf(k.Type),
		Vclock: o.Context, Content: content(v),
		W: quorum(o.W), Dw: quorum(o.DW), Pw: quorum(o.PW), NVal: count(o.N), NodeConfirms: count(o.NodeConfirms),
		IfNotModified: flag(o.IfNotModified), IfNoneMatch: flag(o.IfNoneMatch), ReturnBody: flag(o.ReturnBody),
		SloppyQuorum: toggle(o.SloppyQuorum), Timeout: millis(left),
		Ask: writeAsk(o),
	}
}

func deleteMessage(k kv.Key, o *kv.WriteOptions, left time.Duration) message {
	a := writeAsk(o)
	a.NodeConfirms, a.IfNotModified, a.ReturnBody = count(o.NodeConfirms), flag(o.IfNotModified), flag(o.ReturnBody)
	return &riakpb.RpbDelReq{
		Bucket: []byte(k.Bucket), Key: []byte(k.Name), Type: typeOf(k.Type), Vclock: o.Context,
		R: quorum(o.R), Pr: quorum(o.PR), W: quorum(o.W), Dw: quorum(o.DW), Pw: quorum(o.PW),
		NVal: count(o.N), SloppyQuorum: toggle(o.SloppyQuorum), Timeout: millis(left),
		Ask: a,
	}
}

func writeAsk(o *kv.WriteOptions) *riakpb.TanoAsk {
	a := &riakpb.TanoAsk{Linger: millis(o.Linger)}
	if o.RequestID != (kv.RequestID{}) {
		a.RequestId = o.RequestID[:]
	}
	return a
}

func keysMessage(b kv.Bucket, o *kv.ListOptions, left time.Duration) message {
	return &riakpb.RpbListKeysReq{
		Bucket: []byte(b.Name), Type: typeOf(b.Type), Timeout: millis(left),
		Ask: &riakpb.TanoAsk{Token: []byte(o.Token), Limit: count(o.Limit)},
	}
}

// content is a value to be written. What the store sets stays behind.
func content(v *kv.Value) *riakpb.RpbContent {
	c := &riakpb.RpbContent{
		Value: v.Data, ContentType: text(v.ContentType), Charset: text(v.Charset), ContentEncoding: text(v.ContentEncoding),
		Usermeta: pairs(v.Meta), Indexes: pairs(v.Indexes),
	}
	if c.Value == nil {
		c.Value = []byte{}
	}
	if !v.Expires.IsZero() {
		c.ExpiresUsecs = proto.Int64(v.Expires.UnixMicro())
	}
	return c
}

func kvValues(cs []*riakpb.RpbContent) []kv.Value {
	var vs []kv.Value
	for _, c := range cs {
		v := kv.Value{
			Data: c.Value, ContentType: string(c.ContentType), Charset: string(c.Charset), ContentEncoding: string(c.ContentEncoding),
			Meta: kvPairs(c.Usermeta), Indexes: kvPairs(c.Indexes), VTag: string(c.Vtag), Deleted: c.GetDeleted(),
		}
		if c.LastMod != nil {
			v.Modified = time.Unix(int64(c.GetLastMod()), int64(c.GetLastModUsecs())*1000)
		}
		if c.ExpiresUsecs != nil {
			v.Expires = time.UnixMicro(c.GetExpiresUsecs())
		}
		vs = append(vs, v)
	}
	return vs
}

func pairs(ps []kv.Pair) []*riakpb.RpbPair {
	var out []*riakpb.RpbPair
	for _, p := range ps {
		out = append(out, &riakpb.RpbPair{Key: []byte(p.Name), Value: []byte(p.Value)})
	}
	return out
}

func kvPairs(ps []*riakpb.RpbPair) []kv.Pair {
	var out []kv.Pair
	for _, p := range ps {
		out = append(out, kv.Pair{Name: string(p.Key), Value: string(p.Value)})
	}
	return out
}

// quorum is the field of a quorum; nil: the bucket's default.
func quorum(q kv.Quorum) *uint32 {
	switch q {
	case kv.Default:
		return nil
	case kv.None:
		return proto.Uint32(0)
	case kv.One:
		return proto.Uint32(riakpb.QuorumOne)
	case kv.Majority:
		return proto.Uint32(riakpb.QuorumMajority)
	case kv.All:
		return proto.Uint32(riakpb.QuorumAll)
	}
	return proto.Uint32(uint32(q))
}

func count(n int) *uint32 {
	if n == 0 {
		return nil
	}
	return proto.Uint32(uint32(n))
}

func toggle(t kv.Toggle) *bool {
	if t == kv.Unset {
		return nil
	}
	return proto.Bool(t == kv.On)
}

func flag(on bool) *bool {
	if !on {
		return nil
	}
	return proto.Bool(true)
}

// millis rounds up, so that a time that is not zero stays so.
func millis(d time.Duration) *uint32 {
	if d == 0 {
		return nil
	}
	return proto.Uint32(uint32((d + time.Millisecond - 1) / time.Millisecond))
}

func text(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// typeOf is the field of a bucket type, which must not be empty.
func typeOf(s string) []byte { return text(s) }

package pb

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// The limits of who comes in.
const (
	maxTries      = 3               // a connection on which a login fails so often is closed
	loginPatience = 5 * time.Second // for others to be let in
)

// Gate knows who may come in. *tanodb.Node is one.
type Gate interface {
	Secured() bool
	Login(ctx context.Context, l tanodb.Login) (*tanodb.User, error)
}

// The refusals, in Riak's words.
const (
	errPlain    = wireError("Security is enabled, please STARTTLS first")
	errUnknown  = wireError("Security is enabled, please authenticate first")
	errLogin    = wireError("Authentication failed")
	errStranger = wireError("Security is not set up yet: until it is, this node serves its own machine alone")
)

// rule is what the requests of a code need.
type rule struct {
	needs   []tanodb.Permission // on the bucket or the type that the message names
	anyways []tanodb.Permission // on any
	message proto.Message       // in which the fields bucket and type are; nil: it has none
	known   bool                // everybody may who is known
}

// rules are those of all codes that are served. One that is not here is refused to all but
// administrators, who are told that it is not known.
var rules = map[riakpb.Code]rule{
	riakpb.PingReq:        {known: true},
	riakpb.GetClientIDReq: {known: true},
	riakpb.SetClientIDReq: {known: true},
	riakpb.ServerInfoReq:  {known: true},
	riakpb.RingReq:        {known: true},

	riakpb.GetReq:           {needs: one(tanodb.PermGet), message: &riakpb.RpbGetReq{}},
	riakpb.PutReq:           {needs: one(tanodb.PermPut), message: &riakpb.RpbPutReq{}},
	riakpb.DelReq:           {needs: one(tanodb.PermDelete), message: &riakpb.RpbDelReq{}},
	riakpb.ListBucketsReq:   {needs: one(tanodb.PermListBuckets), message: &riakpb.RpbListBucketsReq{}},
	riakpb.ListKeysReq:      {needs: one(tanodb.PermListKeys), message: &riakpb.RpbListKeysReq{}},
	riakpb.GetBucketReq:     {needs: one(tanodb.PermGetBucket), message: &riakpb.RpbGetBucketReq{}},
	riakpb.SetBucketReq:     {needs: one(tanodb.PermSetBucket), message: &riakpb.RpbSetBucketReq{}},
	riakpb.ResetBucketReq:   {needs: one(tanodb.PermSetBucket), message: &riakpb.RpbResetBucketReq{}},
	riakpb.GetBucketTypeReq: {needs: one(tanodb.PermGetType), message: &riakpb.RpbGetBucketTypeReq{}},
	riakpb.SetBucketTypeReq: {needs: one(tanodb.PermSetType), message: &riakpb.RpbSetBucketTypeReq{}},
	riakpb.IndexReq:         {needs: one(tanodb.PermIndex), message: &riakpb.RpbIndexReq{}},
	riakpb.PreflistReq:      {needs: one(tanodb.PermPreflist), message: &riakpb.RpbGetBucketKeyPreflistReq{}},
	riakpb.CounterGetReq:    {needs: one(tanodb.PermGet), message: &riakpb.RpbCounterGetReq{}},
	riakpb.CounterUpdateReq: {needs: one(tanodb.PermPut), message: &riakpb.RpbCounterUpdateReq{}},
	riakpb.DataFetchReq:     {needs: one(tanodb.PermGet), message: &riakpb.DtFetchReq{}},
	riakpb.DataUpdateReq:    {needs: one(tanodb.PermPut), message: &riakpb.DtUpdateReq{}},
	riakpb.MapRedReq:        {anyways: []tanodb.Permission{tanodb.PermMapReduce, tanodb.PermGet}}, // its inputs may be any
}

func one(p tanodb.Permission) []tanodb.Permission { return []tanodb.Permission{p} }

// places are the numbers of the fields that say what a message is about; 0: it has none.
type places struct {
	bucket, bucketType protowire.Number
	returns            []protowire.Number // those that ask for what is stored then
}

// whereabouts are the places of the messages of the rules.
var whereabouts = func() map[riakpb.Code]places {
	all := map[riakpb.Code]places{}
	for code, r := range rules {
		if r.message == nil {
			continue
		}
		fields := r.message.ProtoReflect().Descriptor().Fields()
		number := func(name protoreflect.Name) protowire.Number {
			if f := fields.ByName(name); f != nil {
				return f.Number()
			}
			return 0
		}
		p := places{bucket: number("bucket"), bucketType: number("type")}
		for _, name := range []protoreflect.Name{"return_body", "return_head", "returnvalue"} {
			if n := number(name); n != 0 {
				p.returns = append(p.returns, n)
			}
		}
		all[code] = p
	}
	return all
}()

// admit refuses a request that the connection may not make.
func (c *conn) admit(r *request) error {
	if r.code == riakpb.StartTLS {
		return nil
	}
	if c.tls != nil && c.stillGood() != nil {
		c.user, c.last = nil, true
		return errLogin
	}
	why := c.barred()
	switch {
	case r.code == riakpb.AuthReq && (why == nil || why == errUnknown):
		return nil
	case why != nil || c.user == nil:
		return why
	}
	return c.permit(r)
}

// still refuses the next part of a long answer to who may not have it any more, since
// something was revoked while the request was served.
func (c *conn) still() error { return c.admit(&c.req) }

// permit refuses what the user may not do.
func (c *conn) permit(r *request) error {
	rule, served := rules[r.code]
	var err error
	switch {
	case !served:
		err = c.user.MayAnywhere(tanodb.PermAdmin)
	case rule.known:
		return nil
	case rule.message == nil:
		for _, p := range rule.anyways {
			if err == nil {
				err = c.user.MayAnywhere(p)
			}
		}
	default:
		b, reads, broken := about(whereabouts[r.code], r.body)
		if broken != nil {
			return broken
		}
		for _, p := range rule.needs {
			if err == nil {
				err = c.user.May(p, b)
			}
		}
		if err == nil && reads {
			err = c.user.May(tanodb.PermGet, b)
		}
	}
	if err == nil {
		return nil
	}
	c.server.audit.Refused(c.raw.RemoteAddr().String(), "a request is refused", "user", c.user.Name(), "code", int(r.code), "why", err.Error())
	return wireError("Permission denied: " + strings.TrimPrefix(err.Error(), tanodb.ErrPermission.Error()+": "))
}

// askReturns is return_body of a TanoAsk.
const askReturns = 6<<3 | isVarint

// about reads what a message is about, and whether it asks for what is stored. Of a field
// that comes twice the last one counts, as where it is served.
func about(p places, body []byte) (b kv.Bucket, reads bool, err error) {
	f := fields{b: body}
	for f.next() {
		num, kind := protowire.DecodeTag(f.tag)
		switch {
		case kind == protowire.BytesType && num == p.bucket:
			b.Name = string(f.data)
		case kind == protowire.BytesType && num == p.bucketType:
			b.Type = string(f.data)
		case kind == protowire.BytesType && num == ownField:
			for ask := (fields{b: f.data}); ask.next(); {
				reads = reads || ask.tag == askReturns && ask.num != 0
			}
		case kind == protowire.VarintType && slices.Contains(p.returns, num):
			reads = reads || f.num != 0
		}
	}
	b.Type = kv.PlainType(b.Type)
	return b, reads, f.err
}

// auth serves RpbAuthReq.
func (c *conn) auth(r *request) error {
	o := &c.server.o
	if o.Gate == nil || !o.Gate.Secured() {
		return wireError(noSecurity)
	}
	var m riakpb.RpbAuthReq
	if err := proto.Unmarshal(r.body, &m); err != nil {
		return wireError("Message decoding error: it is no login") // the library's text might have a part of a password
	}
	l := tanodb.Login{User: string(m.User), Password: string(m.Password), From: c.from()}
	if s := c.tls.ConnectionState(); len(s.VerifiedChains) > 0 && len(s.PeerCertificates) > 0 {
		l.Certificate = s.PeerCertificates[0].Subject.CommonName
	}
	ctx, cancel := context.WithTimeout(c.server.requests, loginPatience)
	defer cancel()
	c.user = nil
	user, err := o.Gate.Login(ctx, l)
	if errors.Is(err, kv.ErrOverload) {
		return wireError("overload")
	}
	if err != nil {
		c.server.audit.Refused(c.raw.RemoteAddr().String(), "a login has failed", "user", clipped(l.User))
		if c.tries++; c.tries >= maxTries {
			c.last = true
		}
		return errLogin
	}
	c.user, c.named, c.tries = user, tanodb.WithUser(c.server.requests, user.Name()), 0
	c.out.empty(riakpb.AuthResp)
	return nil
}

func clipped(s string) string {
	const most = 255 // bytes
	return s[:min(len(s), most)]
}

// from is where the client is.
func (c *conn) from() netip.Addr {
	at, err := netip.ParseAddrPort(c.raw.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // a pipe of a test; it is in no range
	}
	return at.Addr()
}

// fromHere reports whether the client is on the node's own machine.
func (c *conn) fromHere() bool {
	from := c.from().Unmap()
	local, err := netip.ParseAddrPort(c.raw.LocalAddr().String())
	return from.IsLoopback() || err == nil && local.Addr().Unmap() == from
}

// audited tells of what changes more than values, and of deletes, if the connection might make
// the request: of one that was refused permit has told.
func (c *conn) audited(r *request, failed bool) {
	if !r.admitted {
		return
	}
	switch r.code {
	case riakpb.DelReq, riakpb.SetBucketReq, riakpb.ResetBucketReq, riakpb.SetBucketTypeReq:
	default:
		return
	}
	user := ""
	if c.user != nil {
		user = c.user.Name()
	}
	b, _, _ := about(whereabouts[r.code], r.body) // a message that is none has failed
	c.server.audit.Served("user", user, "from", c.raw.RemoteAddr().String(), "message", handlers[r.code].name,
		"type", clipped(b.Type), "bucket", clipped(b.Name), "failed", failed)
}

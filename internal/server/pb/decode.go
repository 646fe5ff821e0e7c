package pb

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// The two messages that most requests are, RpbGetReq and RpbPutReq, are decoded
// here by hand: what is read are pieces of the frame. A field that is not known,
// or has another type than it should, is passed over, and of a field that comes
// twice the last one counts, as in the generated code.

// fields goes through the fields of a message.
type fields struct {
	b    []byte
	tag  uint64 // of the field that is read: its number, and its type in three bits
	num  uint64 // the value of one of type varint
	data []byte // that of one of type bytes
	err  error
}

// The types of fields, to be put behind a number: 2<<3|isBytes.
const (
	isVarint = uint64(protowire.VarintType)
	isBytes  = uint64(protowire.BytesType)
)

// next reads a field; false: there is none, or an error.
func (f *fields) next() bool {
	if len(f.b) == 0 || f.err != nil {
		return false
	}
	num, kind, n := protowire.ConsumeTag(f.b)
	if n > 0 && num > protowire.MaxValidNumber {
		return f.failed(-1)
	}
	if n < 0 {
		return f.failed(n)
	}
	f.b = f.b[n:]
	f.tag = protowire.EncodeTag(num, kind)
	switch kind {
	case protowire.VarintType:
		f.num, n = protowire.ConsumeVarint(f.b)
	case protowire.BytesType:
		f.data, n = protowire.ConsumeBytes(f.b)
	default:
		n = protowire.ConsumeFieldValue(num, kind, f.b)
	}
	if n < 0 {
		return f.failed(n)
	}
	f.b = f.b[n:]
	return true
}

func (f *fields) failed(n int) bool {
	f.err = decodingError(protowire.ParseError(n).Error())
	return false
}

// ownField is the number of the field that only our own client knows.
const ownField = 1000

// ask is a TanoAsk: what only our own client can ask for.
type ask struct {
	own           bool // there is one
	tombstones    bool
	linger        uint32 // milliseconds
	requestID     []byte // nil: not given
	confirms      uint32
	confirmed     bool // confirms is given
	ifNotModified bool
	returnBody    bool
}

// ask is the value of a field that is a TanoAsk of a get or a put.
func (f *fields) ask() ask {
	a := ask{own: true}
	of := fields{b: f.data}
	for of.next() {
		switch of.tag {
		case 1<<3 | isVarint:
			a.tombstones = of.on()
		case 2<<3 | isVarint:
			a.linger = uint32(of.num)
		case 3<<3 | isBytes:
			a.requestID = of.data
		case 4<<3 | isVarint:
			a.confirms, a.confirmed = uint32(of.num), true
		case 5<<3 | isVarint:
			a.ifNotModified = of.on()
		case 6<<3 | isVarint:
			a.returnBody = of.on()
		}
	}
	f.err = of.err
	return a
}

// askOf is a TanoAsk that the generated code has decoded.
func askOf(m *riakpb.TanoAsk) ask {
	if m == nil {
		return ask{}
	}
	return ask{
		own: true, tombstones: m.GetTombstones(), linger: m.GetLinger(), requestID: m.RequestId,
		confirms: m.GetNodeConfirms(), confirmed: m.NodeConfirms != nil, ifNotModified: m.GetIfNotModified(), returnBody: m.GetReturnBody(),
	}
}

// on is the value of a field that is a boolean.
func (f *fields) on() bool { return protowire.DecodeBool(f.num) }

// toggle is the value of a field that is a boolean, as an option.
func (f *fields) toggle() kv.Toggle {
	if f.on() {
		return kv.On
	}
	return kv.Off
}

// quorum is the value of a field that is a quorum.
func (f *fields) quorum() kv.Quorum { return quorum(uint32(f.num)) }

func quorum(n uint32) kv.Quorum {
	switch n {
	case 0:
		return kv.None
	case riakpb.QuorumOne:
		return kv.One
	case riakpb.QuorumMajority:
		return kv.Majority
	case riakpb.QuorumAll:
		return kv.All
	case riakpb.QuorumDefault:
		return kv.Default
	}
	return kv.Quorum(min(n, maxQuorum))
}

// count is the value of a field that is a number of replicas.
func (f *fields) count() int { return int(min(uint32(f.num), maxQuorum)) }

// timeout is the value of a field of milliseconds.
func (f *fields) timeout() time.Duration { return time.Duration(uint32(f.num)) * time.Millisecond }

// place is the key of a request. A nil name was not given.
type place struct{ bucketType, bucket, key []byte }

// check refuses names that cannot be.
func (p *place) check() error {
	switch {
	case p.bucket == nil:
		return decodingError("the bucket is missing")
	case len(p.bucket) == 0:
		return errBucket
	case p.key != nil && len(p.key) == 0:
		return errKey
	case p.bucketType != nil && len(p.bucketType) == 0:
		return errType
	}
	return nil
}

// getReq is an RpbGetReq.
type getReq struct {
	place
	o             kv.ReadOptions
	ifModified    []byte // nil: not given
	deletedVClock bool
	confirms      uint32 // node_confirms, a number or a word
	ask           ask
}

func (q *getReq) decode(b []byte) error {
	f := fields{b: b}
	for f.next() {
		switch f.tag {
		case 1<<3 | isBytes:
			q.bucket = f.data
		case 2<<3 | isBytes:
			q.key = f.data
		case 3<<3 | isVarint:
			q.o.R = f.quorum()
		case 4<<3 | isVarint:
			q.o.PR = f.quorum()
		case 5<<3 | isVarint:
			q.o.BasicQuorum = f.toggle()
		case 6<<3 | isVarint:
			q.o.NotFoundOK = f.toggle()
		case 7<<3 | isBytes:
			q.ifModified = f.data
		case 8<<3 | isVarint:
			q.o.Head = f.on()
		case 9<<3 | isVarint:
			q.deletedVClock = f.on()
		case 10<<3 | isVarint:
			q.o.Timeout = f.timeout()
		case 11<<3 | isVarint:
			q.o.SloppyQuorum = f.toggle()
		case 12<<3 | isVarint:
			q.o.N = f.count()
		case 13<<3 | isBytes:
			q.bucketType = f.data
		case 14<<3 | isVarint:
			q.confirms = uint32(f.num)
		case ownField<<3 | isBytes:
			q.ask = f.ask()
		}
	}
	if f.err == nil && q.key == nil {
		return decodingError("the key is missing")
	}
	return f.err
}

// putReq is an RpbPutReq.
type putReq struct {
	place
	content       content
	vclock        []byte
	o             kv.WriteOptions
	ifNotModified bool
	ifNoneMatch   bool
	returnHead    bool
	asIs          bool
	confirms      uint32
	ask           ask
}

func (q *putReq) decode(b []byte) error {
	f := fields{b: b}
	for f.next() {
		switch f.tag {
		case 1<<3 | isBytes:
			q.bucket = f.data
		case 2<<3 | isBytes:
			q.key = f.data
		case 3<<3 | isBytes:
			q.vclock = f.data
		case 4<<3 | isBytes:
			q.content.given = true
			if err := q.content.decode(f.data); err != nil {
				return err
			}
		case 5<<3 | isVarint:
			q.o.W = f.quorum()
		case 6<<3 | isVarint:
			q.o.DW = f.quorum()
		case 7<<3 | isVarint:
			q.o.ReturnBody = f.on()
		case 8<<3 | isVarint:
			q.o.PW = f.quorum()
		case 9<<3 | isVarint:
			q.ifNotModified = f.on()
		case 10<<3 | isVarint:
			q.ifNoneMatch = f.on()
		case 11<<3 | isVarint:
			q.returnHead = f.on()
		case 12<<3 | isVarint:
			q.o.Timeout = f.timeout()
		case 13<<3 | isVarint:
			q.asIs = f.on()
		case 14<<3 | isVarint:
			q.o.SloppyQuorum = f.toggle()
		case 15<<3 | isVarint:
			q.o.N = f.count()
		case 16<<3 | isBytes:
			q.bucketType = f.data
		case 17<<3 | isVarint:
			q.confirms = uint32(f.num)
		case ownField<<3 | isBytes:
			q.ask = f.ask()
		}
	}
	if f.err == nil && (!q.content.given || q.content.v.Data == nil) {
		return decodingError("the content has no value")
	}
	return f.err
}

// content is an RpbContent that is to be written. What the store sets itself,
// vtag and last_mod, is passed over.
type content struct {
	v       kv.Value
	deleted bool
	given   bool
}

func (c *content) decode(b []byte) error {
	f := fields{b: b}
	for f.next() {
		switch f.tag {
		case 1<<3 | isBytes:
			c.v.Data = f.data
		case 2<<3 | isBytes:
			c.v.ContentType = string(f.data)
		case 3<<3 | isBytes:
			c.v.Charset = string(f.data)
		case 4<<3 | isBytes:
			c.v.ContentEncoding = string(f.data)
		case 6<<3 | isBytes:
			l, err := decodeLink(f.data)
			if err != nil {
				return err
			}
			c.v.Meta = append(c.v.Meta, l.Pair())
		case 9<<3 | isBytes:
			p, err := decodePair(f.data)
			if err != nil {
				return err
			}
			c.v.Meta = append(c.v.Meta, p)
		case 10<<3 | isBytes:
			p, err := decodePair(f.data)
			if err != nil {
				return err
			}
			c.v.Indexes = append(c.v.Indexes, p)
		case 11<<3 | isVarint:
			c.deleted = f.on()
		case ownField<<3 | isVarint:
			c.v.Expires = time.UnixMicro(int64(f.num))
		}
	}
	return f.err
}

func decodePair(b []byte) (kv.Pair, error) {
	f := fields{b: b}
	var p kv.Pair
	named := false
	for f.next() {
		switch f.tag {
		case 1<<3 | isBytes:
			p.Name, named = string(f.data), true
		case 2<<3 | isBytes:
			p.Value = string(f.data)
		}
	}
	if f.err == nil && !named {
		return p, decodingError("a pair has no key")
	}
	return p, f.err
}

func decodeLink(b []byte) (api.Link, error) {
	f := fields{b: b}
	var l api.Link
	for f.next() {
		switch f.tag {
		case 1<<3 | isBytes:
			l.Bucket = string(f.data)
		case 2<<3 | isBytes:
			l.Key = string(f.data)
		case 3<<3 | isBytes:
			l.Tag = string(f.data)
		}
	}
	return l, f.err
}

// checkIndexes refuses index entries whose field has no known type, or whose
// term is not of it, and makes the names lower case, as Riak does.
func checkIndexes(ps []kv.Pair) error {
	for i := range ps {
		p := &ps[i]
		p.Name = strings.ToLower(p.Name)
		switch {
		case strings.HasSuffix(p.Name, "_bin"):
			continue
		case !strings.HasSuffix(p.Name, "_int"):
			return wireError("Unknown field type for field: '" + p.Name + "'.")
		}
		if _, err := strconv.ParseInt(p.Value, 10, 64); err != nil {
			return wireError("Could not parse field '" + p.Name + "', value '" + p.Value + "'.")
		}
	}
	return nil
}

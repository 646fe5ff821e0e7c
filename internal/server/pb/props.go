package pb

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// The fields of RpbBucketProps have the names of the properties, so that they
// are converted by their descriptors. A property that has no field, such as
// node_confirms, cannot be told or set over this protocol.

// functionProp is a function of Erlang as a property's JSON: Riak's of its HTTP
// interface. A hook may have a name instead.
type functionProp struct {
	Mod  string `json:"mod,omitempty"`
	Fun  string `json:"fun,omitempty"`
	Name string `json:"name,omitempty"`
}

// isQuorum are the properties whose numbers may be words.
var isQuorum = map[string]bool{"r": true, "w": true, "pr": true, "pw": true, "dw": true, "rw": true}

// quorumWords are the words, as the fields have them.
var quorumWords = map[string]uint32{
	"one": riakpb.QuorumOne, "quorum": riakpb.QuorumMajority, "all": riakpb.QuorumAll, "default": riakpb.QuorumDefault,
}

// replModes are the words of the property repl, which as a whole is a boolean
// too.
var replModes = map[string]protoreflect.EnumNumber{
	"false":    protoreflect.EnumNumber(riakpb.RpbBucketProps_FALSE),
	"realtime": protoreflect.EnumNumber(riakpb.RpbBucketProps_REALTIME),
	"fullsync": protoreflect.EnumNumber(riakpb.RpbBucketProps_FULLSYNC),
	"true":     protoreflect.EnumNumber(riakpb.RpbBucketProps_TRUE),
}

// encodeProps makes the message of properties.
func encodeProps(ps kv.Properties) (*riakpb.RpbBucketProps, error) {
	m := &riakpb.RpbBucketProps{}
	all := m.ProtoReflect().Descriptor().Fields()
	for _, p := range ps {
		field := all.ByName(protoreflect.Name(p.Name))
		if field == nil || strings.HasPrefix(p.Name, "has_") || p.Value == "" {
			continue
		}
		if err := encodeProp(m, field, p); err != nil {
			return nil, fmt.Errorf("bucket property %s is %q: %w", p.Name, p.Value, err)
		}
	}
	return m, nil
}

func encodeProp(m *riakpb.RpbBucketProps, field protoreflect.FieldDescriptor, p kv.Property) error {
	set := func(v any) { m.ProtoReflect().Set(field, protoreflect.ValueOf(v)) }
	switch field.Kind() {
	case protoreflect.BoolKind:
		on, err := strconv.ParseBool(p.Value)
		if err != nil {
			return err
		}
		set(on)
	case protoreflect.Uint32Kind:
		word, ok := quorumWords[p.Value]
		if ok && isQuorum[p.Name] {
			set(word)
			return nil
		}
		n, err := strconv.ParseUint(p.Value, 10, 32)
		if err != nil {
			return err
		}
		set(uint32(n))
	case protoreflect.EnumKind:
		mode, ok := replModes[p.Value]
		if !ok {
			return errors.New("it must be true, false, realtime or fullsync")
		}
		set(mode)
	case protoreflect.BytesKind:
		set([]byte(p.Value))
	default:
		return encodeFunctions(m, p)
	}
	return nil
}

// encodeFunctions sets one of the properties that are functions.
func encodeFunctions(m *riakpb.RpbBucketProps, p kv.Property) error {
	if p.Name == "chash_keyfun" || p.Name == "linkfun" {
		var f functionProp
		if err := json.Unmarshal([]byte(p.Value), &f); err != nil {
			return err
		}
		fun := &riakpb.RpbModFun{Module: []byte(f.Mod), Function: []byte(f.Fun)}
		if p.Name == "linkfun" {
			m.Linkfun = fun
		} else {
			m.ChashKeyfun = fun
		}
		return nil
	}
	var list []functionProp
	if err := json.Unmarshal([]byte(p.Value), &list); err != nil {
		return err
	}
	var hooks []*riakpb.RpbCommitHook
	for _, f := range list {
		hook := &riakpb.RpbCommitHook{}
		if f.Mod != "" {
			hook.Modfun = &riakpb.RpbModFun{Module: []byte(f.Mod), Function: []byte(f.Fun)}
		} else {
			hook.Name = []byte(f.Name)
		}
		hooks = append(hooks, hook)
	}
	if p.Name == "precommit" {
		m.Precommit, m.HasPrecommit = hooks, proto.Bool(true)
	} else {
		m.Postcommit, m.HasPostcommit = hooks, proto.Bool(true)
	}
	return nil
}

// decodeProps are the properties that a message sets, in the order of its
// fields.
func decodeProps(m *riakpb.RpbBucketProps) (kv.Properties, error) {
	var ps kv.Properties
	all := m.ProtoReflect().Descriptor().Fields()
	for i := range all.Len() {
		field := all.Get(i)
		name := string(field.Name())
		hooks := name == "precommit" && m.GetHasPrecommit() || name == "postcommit" && m.GetHasPostcommit()
		if strings.HasPrefix(name, "has_") || !hooks && !m.ProtoReflect().Has(field) {
			continue
		}
		value, err := decodeProp(m, field)
		if err != nil {
			return nil, err
		}
		ps = append(ps, kv.Property{Name: name, Value: value})
	}
	return ps, nil
}

func decodeProp(m *riakpb.RpbBucketProps, field protoreflect.FieldDescriptor) (string, error) {
	name, value := string(field.Name()), m.ProtoReflect().Get(field)
	switch field.Kind() {
	case protoreflect.BoolKind:
		return strconv.FormatBool(value.Bool()), nil
	case protoreflect.Uint32Kind:
		if isQuorum[name] {
			return quorum(uint32(value.Uint())).String(), nil
		}
		return strconv.FormatUint(value.Uint(), 10), nil
	case protoreflect.EnumKind:
		for word, mode := range replModes {
			if mode == value.Enum() {
				return word, nil
			}
		}
		return "", fmt.Errorf("{repl,%d}", value.Enum())
	case protoreflect.BytesKind:
		return string(value.Bytes()), nil
	}
	return decodeFunctions(m, name)
}

// decodeFunctions is the JSON of one of the properties that are functions.
func decodeFunctions(m *riakpb.RpbBucketProps, name string) (string, error) {
	var v any
	switch name {
	case "chash_keyfun":
		v = newFunctionProp(m.ChashKeyfun)
	case "linkfun":
		v = newFunctionProp(m.Linkfun)
	case "precommit":
		v = newHooks(m.Precommit)
	case "postcommit":
		v = newHooks(m.Postcommit)
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func newFunctionProp(f *riakpb.RpbModFun) functionProp {
	return functionProp{Mod: string(f.GetModule()), Fun: string(f.GetFunction())}
}

// newHooks is never nil, so that it is [] in JSON.
func newHooks(hooks []*riakpb.RpbCommitHook) []functionProp {
	list := []functionProp{}
	for _, h := range hooks {
		f := newFunctionProp(h.GetModfun())
		f.Name = string(h.GetName())
		list = append(list, f)
	}
	return list
}

// properties is who has the properties, or the refusal.
func (c *conn) properties() (Properties, error) {
	if c.server.o.Properties == nil {
		return nil, errNoProps
	}
	return c.server.o.Properties, nil
}

// getBucket serves RpbGetBucketReq.
func (c *conn) getBucket(r *request) error {
	var m riakpb.RpbGetBucketReq
	if err := decode(r, &m); err != nil {
		return err
	}
	b, props, err := c.propsOf(m.Type, m.Bucket)
	if err != nil {
		return err
	}
	ps, err := props.BucketProps(c.context(), b)
	if err != nil {
		return bucketReason(err, m.Type)
	}
	return c.showProps(ps)
}

// setBucket serves RpbSetBucketReq.
func (c *conn) setBucket(r *request) error {
	var m riakpb.RpbSetBucketReq
	if err := decode(r, &m); err != nil {
		return err
	}
	b, props, err := c.propsOf(m.Type, m.Bucket)
	if err != nil {
		return err
	}
	ps, err := decodeProps(m.Props)
	if err != nil {
		return badProps(err)
	}
	if err := props.SetBucketProps(c.context(), b, ps); err != nil {
		return bucketReason(err, m.Type)
	}
	c.out.empty(riakpb.SetBucketResp)
	return nil
}

// resetBucket serves RpbResetBucketReq.
func (c *conn) resetBucket(r *request) error {
	var m riakpb.RpbResetBucketReq
	if err := decode(r, &m); err != nil {
		return err
	}
	b, props, err := c.propsOf(m.Type, m.Bucket)
	if err != nil {
		return err
	}
	if err := props.ResetBucketProps(c.context(), b); err != nil {
		return bucketReason(err, m.Type)
	}
	c.out.empty(riakpb.ResetBucketResp)
	return nil
}

// getType serves RpbGetBucketTypeReq.
func (c *conn) getType(r *request) error {
	var m riakpb.RpbGetBucketTypeReq
	if err := decode(r, &m); err != nil {
		return err
	}
	props, err := c.propsOfType(m.Type)
	if err != nil {
		return err
	}
	t, err := props.BucketType(c.context(), string(m.Type))
	switch {
	case unknownType(err):
		return wireError("Invalid bucket type: " + erlang(string(m.Type)))
	case err != nil:
		return propsReason(err)
	}
	return c.showProps(t.Props)
}

// setType serves RpbSetBucketTypeReq.
func (c *conn) setType(r *request) error {
	var m riakpb.RpbSetBucketTypeReq
	if err := decode(r, &m); err != nil {
		return err
	}
	props, err := c.propsOfType(m.Type)
	if err != nil {
		return err
	}
	ps, err := decodeProps(m.Props)
	if err != nil {
		return badProps(err)
	}
	switch err := props.UpdateBucketType(c.context(), string(m.Type), ps); {
	case unknownType(err):
		return wireError("Invalid bucket properties: not_active") // Riak's word for one that is not there, too
	case err != nil:
		return propsReason(err)
	}
	c.out.empty(riakpb.SetBucketResp)
	return nil
}

// propsOf is the bucket that a request names, and who has its properties.
func (c *conn) propsOf(bucketType, bucket []byte) (kv.Bucket, Properties, error) {
	p := place{bucketType: bucketType, bucket: bucket}
	if err := p.check(); err != nil {
		return kv.Bucket{}, nil, err
	}
	props, err := c.properties()
	return c.bucketOf(bucketType, bucket), props, err
}

func (c *conn) propsOfType(name []byte) (Properties, error) {
	if len(name) == 0 {
		return nil, errType
	}
	return c.properties()
}

// showProps answers with properties.
func (c *conn) showProps(ps kv.Properties) error {
	m, err := encodeProps(ps)
	if err != nil {
		return err
	}
	return c.out.message(riakpb.GetBucketResp, &riakpb.RpbGetBucketResp{Props: m})
}

// bucketReason is the answer to an error about a bucket's properties.
func bucketReason(err error, bucketType []byte) error {
	if unknownType(err) {
		return wireError("No bucket-type named '" + string(bucketType) + "'")
	}
	return propsReason(err)
}

// unknownType reports whether a bucket type is not there, or not active.
func unknownType(err error) bool {
	var refused *tanodb.ClusterError
	return errors.Is(err, kv.ErrBucketType) || errors.As(err, &refused) && refused.Code == "undefined_type"
}

func propsReason(err error) error {
	var refused *tanodb.ClusterError
	if errors.Is(err, kv.ErrInvalid) || errors.As(err, &refused) && refused.Code == "invalid" {
		return badProps(err)
	}
	return reason(err, &story{})
}

func badProps(err error) error { return wireError("Invalid bucket properties: " + err.Error()) }

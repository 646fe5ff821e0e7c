package membership

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tanodb/tanodb/kv"
)

// How a bucket behaves is part of the topology, so that all nodes agree on it, and a
// request that meets a type its node has not heard of yet is refused, and not served
// by other properties than those it was made for.
//
//	            create              activate
//	(unknown) ─────────▶ created ──────────────▶ active
//	                     │    ▲                  │    ▲
//	                     └────┘ create again     └────┘ update, reset
//
// A bucket has the properties of its type, and may have some of its own over them. The type
// that is not named, or "default", is always active.

// The limits of what is kept of types and buckets.
const (
	maxTypes      = 128
	maxBuckets    = 4096      // buckets with properties of their own
	maxPropsBytes = 512 << 10 // of all names and values
)

// DefaultType is the name of the type of buckets that name none.
const DefaultType = kv.DefaultType

// BucketType is a bucket type and what is set of it.
type BucketType struct {
	Name   string        `json:"name"`
	Active bool          `json:"active"`
	Props  kv.Properties `json:"props"`
}

// bucketProps are the properties that a bucket has of its own.
type bucketProps struct {
	kv.Bucket
	props kv.Properties
}

// properties are the types and buckets of a State. It is never changed in place.
type properties struct {
	types   []BucketType  // sorted by name; the default type is among them if anything is set of it
	buckets []bucketProps // sorted by type and name

	// What comes of them, for requests.
	byType   map[string]*kv.Props // of the active ones
	byBucket map[kv.Bucket]*kv.Props
}

// TypeChange is what a SetType does.
type TypeChange string

// The changes of a type.
const (
	TypeCreate   TypeChange = "create"   // it is made, or made anew as long as it is not active
	TypeActivate TypeChange = "activate" // from now on it has buckets
	TypeUpdate   TypeChange = "update"   // these properties are others
	TypeReset    TypeChange = "reset"    // all properties are the defaults again, but for those that cannot change
)

// SetType changes a bucket type.
type SetType struct {
	Name  string        `json:"name"`
	Do    TypeChange    `json:"do"`
	Props kv.Properties `json:"props,omitempty"`
}

// SetBucket sets properties of one bucket, or takes back all that it has of its own.
type SetBucket struct {
	Bucket kv.Bucket
	Reset  bool
	Props  kv.Properties
}

func (SetType) command()   {}
func (SetBucket) command() {}

// Props are the properties that a request of the bucket goes by. The error is
// kv.ErrBucketType: this State knows of no such type, or it is not active.
func (s *State) Props(b kv.Bucket) (*kv.Props, error) {
	if p, ok := s.properties.byBucket[b]; ok {
		return p, nil
	}
	if p, ok := s.properties.byType[b.Type]; ok {
		return p, nil
	}
	return nil, unknownType(b.Type)
}

// Fewest is the least n_val of the buckets of a type. The error is that of Props.
func (s *State) Fewest(bucketType string) (int, error) {
	p, ok := s.properties.byType[bucketType]
	if !ok {
		return 0, unknownType(bucketType)
	}
	least := p.N
	for _, b := range s.properties.buckets {
		if b.Type == bucketType {
			least = min(least, s.properties.byBucket[b.Bucket].N)
		}
	}
	return least, nil
}

func unknownType(name string) error {
	return fmt.Errorf("%w: there is none named %s that is active", kv.ErrBucketType, quote(name))
}

// TypeProps are the properties of a type, active or not.
func (s *State) TypeProps(name string) (*kv.Props, error) {
	if t := s.properties.find(name); t != nil || kv.PlainType(name) == "" {
		p, err := s.resolveType(name)
		return &p, err
	}
	return nil, unknownType(name)
}

// Types are all bucket types, sorted by name, with what is set of them.
func (s *State) Types() []BucketType {
	list := slices.Clone(s.properties.types)
	if s.properties.find(DefaultType) == nil {
		list = append(list, BucketType{Name: DefaultType, Active: true})
		slices.SortFunc(list, func(a, b BucketType) int { return strings.Compare(a.Name, b.Name) })
	}
	return list
}

// BucketsSet are the buckets that have properties of their own, sorted.
func (s *State) BucketsSet() []kv.Bucket {
	list := make([]kv.Bucket, len(s.properties.buckets))
	for i := range list {
		list[i] = s.properties.buckets[i].Bucket
	}
	return list
}

// OwnProps are the properties that a bucket has of its own.
func (s *State) OwnProps(b kv.Bucket) kv.Properties {
	for _, x := range s.properties.buckets {
		if x.Bucket == b {
			return slices.Clone(x.props)
		}
	}
	return nil
}

// find is the type of that name, or nil.
func (p *properties) find(name string) *BucketType {
	i := slices.IndexFunc(p.types, func(t BucketType) bool { return kv.PlainType(t.Name) == kv.PlainType(name) })
	if i < 0 {
		return nil
	}
	return &p.types[i]
}

// resolveType is what comes of a type's properties.
func (s *State) resolveType(name string) (kv.Props, error) {
	base := kv.DefaultProps(s.replicas, kv.PlainType(name) != "")
	t := s.properties.find(name)
	if t == nil {
		return base, nil
	}
	p, err := base.With(t.Props)
	if err == nil && p.N > s.replicas {
		err = fmt.Errorf("bucket property n_val is %d; the cluster keeps %d replicas of everything", p.N, s.replicas)
	}
	return p, err
}

// index makes what requests go by. An error means that it cannot be.
func (s *State) index() error {
	p := &s.properties
	p.byType, p.byBucket = map[string]*kv.Props{}, map[kv.Bucket]*kv.Props{}
	all := make(map[string]*kv.Props)
	for _, name := range append([]string{DefaultType}, typeNames(p.types)...) {
		props, err := s.resolveType(name)
		if err != nil {
			return fmt.Errorf("bucket type %s: %w", quote(name), err)
		}
		all[kv.PlainType(name)] = &props
	}
	for name, props := range all { //det:ok from one map to another
		if t := p.find(name); name == "" || t.Active {
			p.byType[name] = props
		}
	}
	for _, b := range p.buckets {
		base, ok := p.byType[b.Type]
		if !ok {
			return fmt.Errorf("bucket %s: %w", quote(b.Name), unknownType(b.Type))
		}
		props, err := base.With(b.props)
		if err == nil && props.N > s.replicas {
			err = fmt.Errorf("bucket property n_val is %d; the cluster keeps %d replicas of everything", props.N, s.replicas)
		}
		if err != nil {
			return fmt.Errorf("bucket %s: %w", quote(b.Name), err)
		}
		p.byBucket[b.Bucket] = &props
	}
	return nil
}

func typeNames(types []BucketType) []string {
	var names []string
	for _, t := range types {
		names = append(names, t.Name)
	}
	return names
}

// Furnished is the first state of a cluster with bucket types, as if it had been
// founded with them. All its nodes must begin with the same.
func (s *State) Furnished(changes ...Command) (*State, error) {
	if s.epoch != 1 {
		return nil, fmt.Errorf("the state of epoch %d is not the first of its cluster", s.epoch)
	}
	d := s.draft()
	for _, c := range changes {
		if err := d.do(c); err != nil {
			return nil, err
		}
		d.before = &d.properties
	}
	d.epoch = s.epoch
	return &d.State, nil
}

// setType carries a SetType out.
func (d *draft) setType(c SetType) *ChangeError {
	if err := typeNameError(c.Name); err != nil {
		return err
	}
	props, err := c.Props.Canonical()
	if err != nil {
		return refused(codeInvalid, "bucket type %s: %v", quote(c.Name), err)
	}
	name := cmp.Or(kv.PlainType(c.Name), DefaultType)
	d.properties = d.properties.clone()
	t := d.properties.find(name)
	if t == nil && name == DefaultType {
		t = d.properties.insert(BucketType{Name: name, Active: true})
	}
	switch c.Do {
	case TypeCreate:
		if t != nil && t.Active {
			return refused(codeAlreadyActive, "bucket type %s is active already; update it to change its properties", quote(name))
		}
		if t == nil {
			t = d.properties.insert(BucketType{Name: name})
		}
		t.Props = kv.Properties(nil).Over(props)
	case TypeActivate, TypeUpdate, TypeReset:
		if t == nil {
			return refused(codeUndefinedType, "there is no bucket type named %s; create it first", quote(name))
		}
		switch c.Do {
		case TypeActivate:
			t.Active = true
		case TypeUpdate:
			t.Props = t.Props.Over(props)
		case TypeReset:
			t.Props = slices.DeleteFunc(slices.Clone(t.Props), func(p kv.Property) bool { return !fixed(p.Name) })
		}
	default:
		return refused(codeInvalid, "%s is nothing to be done with a bucket type", quote(string(c.Do)))
	}
	return d.settleProps(name)
}

// fixed reports whether a property of an active type stays as it is.
func fixed(name string) bool {
	return name == "datatype" || name == "consistent" || name == "write_once" || name == "hll_precision"
}

func typeNameError(name string) *ChangeError {
	bad := name == "" || name == "any" || len(name) > kv.MaxType || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsControl(r) })
	if bad {
		return refused(codeInvalid, "%s is no name of a bucket type: it must be text of 1 to %d bytes without slashes, and not %q", quote(name), kv.MaxType, "any")
	}
	return nil
}

// settleProps makes what requests go by, if all that follows from a change of the
// type can be.
func (d *draft) settleProps(name string) *ChangeError {
	before, known := d.before.byType[kv.PlainType(name)]
	d.dropBare()
	if err := d.index(); err != nil {
		return refused(codeInvalid, "%v", err)
	}
	if n := len(d.properties.types); n > maxTypes {
		return refused(codeTooMany, "there are %d bucket types already, which is the limit", maxTypes)
	}
	if n := len(d.properties.buckets); n > maxBuckets {
		return refused(codeTooMany, "there are %d buckets with properties of their own already, which is the limit: give them a type", maxBuckets)
	}
	if d.properties.size() > maxPropsBytes {
		return refused(codeTooMany, "the properties of types and buckets would take more than %d bytes", maxPropsBytes)
	}
	after := d.properties.byType[kv.PlainType(name)]
	if known && after != nil {
		if what := changesFixed(before, after); what != "" {
			return refused(codeInvalid, "bucket type %s is active: its %s cannot change any more", quote(name), what)
		}
	}
	return nil
}

// changesFixed names a property that is another and may not be; empty: none.
func changesFixed(before, after *kv.Props) string {
	b, a := before.List(), after.List()
	for _, name := range []string{"datatype", "consistent", "write_once"} {
		if b.Lookup(name) != a.Lookup(name) {
			return name
		}
	}
	if after.Precision > before.Precision {
		return "hll_precision, other than downwards,"
	}
	return ""
}

// setBucket carries a SetBucket out.
func (d *draft) setBucket(c SetBucket) *ChangeError {
	c.Bucket.Type = kv.PlainType(c.Bucket.Type)
	if err := c.Bucket.Validate(); err != nil {
		return refused(codeInvalid, "%v", err)
	}
	if _, ok := d.properties.byType[c.Bucket.Type]; !ok {
		return refused(codeUndefinedType, "there is no bucket type named %s that is active", quote(c.Bucket.Type))
	}
	props, err := c.Props.Canonical()
	if err != nil {
		return refused(codeInvalid, "bucket %s: %v", quote(c.Bucket.Name), err)
	}
	for _, p := range props {
		if fixed(p.Name) && p.Value != d.typeValue(c.Bucket.Type, p.Name) {
			return refused(codeInvalid, "bucket %s: %s is a property of bucket types alone", quote(c.Bucket.Name), p.Name)
		}
	}
	d.properties = d.properties.clone()
	i, found := slices.BinarySearchFunc(d.properties.buckets, c.Bucket, func(x bucketProps, b kv.Bucket) int { return compareBuckets(x.Bucket, b) })
	if !found {
		d.properties.buckets = slices.Insert(d.properties.buckets, i, bucketProps{Bucket: c.Bucket})
	}
	b := &d.properties.buckets[i]
	if c.Reset {
		b.props = nil
	}
	b.props = b.props.Over(props)
	return d.settleProps(cmp.Or(c.Bucket.Type, DefaultType))
}

// typeValue is the value that a type gives a property.
func (d *draft) typeValue(typ, name string) string {
	return d.properties.byType[typ].List().Lookup(name)
}

func compareBuckets(a, b kv.Bucket) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
}

// clone is a copy that may be changed, but for what comes of it.
func (p *properties) clone() properties {
	c := *p
	c.types, c.buckets = slices.Clone(p.types), slices.Clone(p.buckets)
	return c
}

// insert adds a type, in order.
func (p *properties) insert(t BucketType) *BucketType {
	i, _ := slices.BinarySearchFunc(p.types, t.Name, func(x BucketType, name string) int { return strings.Compare(x.Name, name) })
	p.types = slices.Insert(p.types, i, t)
	return &p.types[i]
}

// dropBare forgets what has nothing of its own any more.
func (d *draft) dropBare() {
	p := &d.properties
	p.buckets = slices.DeleteFunc(p.buckets, func(b bucketProps) bool { return len(b.props) == 0 })
	p.types = slices.DeleteFunc(p.types, func(t BucketType) bool { return t.Name == DefaultType && len(t.Props) == 0 })
}

// size is how many bytes the names and values have.
func (p *properties) size() (n int) {
	count := func(list kv.Properties) {
		for _, x := range list {
			n += len(x.Name) + len(x.Value)
		}
	}
	for _, t := range p.types {
		n += len(t.Name)
		count(t.Props)
	}
	for _, b := range p.buckets {
		n += len(b.Type) + len(b.Name)
		count(b.props)
	}
	return n
}

// checkProps looks for what no state can be.
func (s *State) checkProps() error {
	p := &s.properties
	if len(p.types) > maxTypes || len(p.buckets) > maxBuckets || p.size() > maxPropsBytes {
		return errors.New("too many bucket types or buckets")
	}
	for i, t := range p.types {
		if typeNameError(t.Name) != nil || i > 0 && p.types[i-1].Name >= t.Name || t.Name == DefaultType && (!t.Active || len(t.Props) == 0) || !canonical(t.Props) {
			return fmt.Errorf("bucket type %s", quote(t.Name))
		}
	}
	for i, b := range p.buckets {
		if b.Validate() != nil || b.Type == DefaultType || i > 0 && compareBuckets(p.buckets[i-1].Bucket, b.Bucket) >= 0 || len(b.props) == 0 || !canonical(b.props) {
			return fmt.Errorf("bucket %s", quote(b.Name))
		}
	}
	return s.index()
}

// canonical reports whether the properties are as a State keeps them.
func canonical(l kv.Properties) bool {
	c, err := l.Canonical()
	return err == nil && slices.Equal(c, l) && !slices.ContainsFunc(l, func(p kv.Property) bool { return p.Value == "" })
}

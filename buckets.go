package tanodb

import (
	"context"
	"time"

	"github.com/tanodb/tanodb/internal/membership"
	"github.com/tanodb/tanodb/kv"
)

// BucketType is a bucket type as operators see it.
type BucketType struct {
	Name   string        `json:"name"`
	Active bool          `json:"active"`
	Props  kv.Properties `json:"props"` // all of them, with the defaults
}

// BucketProps are the properties that requests of a bucket go by. The error is
// kv.ErrBucketType if this node knows of no such type that is active.
func (n *Node) BucketProps(_ context.Context, b kv.Bucket) (kv.Properties, error) {
	b.Type = kv.PlainType(b.Type)
	if err := b.Validate(); err != nil {
		return nil, err
	}
	p, err := n.state().Props(b)
	if err != nil {
		return nil, err
	}
	return p.List(), nil
}

// SetBucketProps sets properties of one bucket, over those of its type. Buckets that
// should all be alike are better given a type.
func (n *Node) SetBucketProps(ctx context.Context, b kv.Bucket, props kv.Properties) error {
	return n.changeProps(ctx, membership.SetBucket{Bucket: b, Props: props})
}

// ResetBucketProps takes back all properties that a bucket has of its own.
func (n *Node) ResetBucketProps(ctx context.Context, b kv.Bucket) error {
	return n.changeProps(ctx, membership.SetBucket{Bucket: b, Reset: true})
}

// BucketTypes are all bucket types, sorted by name, the default one among them.
func (n *Node) BucketTypes(context.Context) ([]BucketType, error) {
	s := n.state()
	var list []BucketType
	for _, t := range s.Types() {
		p, err := s.TypeProps(t.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, BucketType{Name: t.Name, Active: t.Active, Props: p.List()})
	}
	return list, nil
}

// BucketType is one of them. The error is kv.ErrBucketType if there is none of that name.
func (n *Node) BucketType(_ context.Context, name string) (BucketType, error) {
	s := n.state()
	p, err := s.TypeProps(name)
	if err != nil {
		return BucketType{}, err
	}
	t := BucketType{Name: name, Active: kv.PlainType(name) == "", Props: p.List()}
	for _, x := range s.Types() {
		if x.Name == name {
			t.Active = x.Active
		}
	}
	return t, nil
}

// CreateBucketType makes a type, which has no buckets before it is activated. One that
// is not active yet may be made anew.
func (n *Node) CreateBucketType(ctx context.Context, name string, props kv.Properties) error {
	return n.changeProps(ctx, membership.SetType{Name: name, Do: membership.TypeCreate, Props: props})
}

// ActivateBucketType lets a type have buckets, for ever.
func (n *Node) ActivateBucketType(ctx context.Context, name string) error {
	return n.changeProps(ctx, membership.SetType{Name: name, Do: membership.TypeActivate})
}

// UpdateBucketType changes properties of a type. All its buckets that do not have them
// of their own follow. The name "default" is the type of buckets that name none.
func (n *Node) UpdateBucketType(ctx context.Context, name string, props kv.Properties) error {
	return n.changeProps(ctx, membership.SetType{Name: name, Do: membership.TypeUpdate, Props: props})
}

// ResetBucketType gives all properties of a type that can change their defaults again.
func (n *Node) ResetBucketType(ctx context.Context, name string) error {
	return n.changeProps(ctx, membership.SetType{Name: name, Do: membership.TypeReset})
}

// spreadPatience is how long a change of properties waits until all members that are
// up go by it.
const spreadPatience = 5 * time.Second

// changeProps changes properties, and waits until the members that are up know it, so
// that who asks the next node meets what he has set here.
func (n *Node) changeProps(ctx context.Context, c membership.Command) error {
	if err := n.topology.propose(ctx, c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, spreadPatience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for epoch := n.state().Epoch(); !n.known(epoch); {
		select {
		case <-look.C:
		case <-n.gone:
			return nil
		case <-ctx.Done():
			return nil // it is changed; who does not know it yet hears of it with the next message
		}
	}
	return nil
}

// known reports whether all members that are up have shown this epoch.
func (n *Node) known(epoch uint64) bool {
	for _, m := range n.state().Members() {
		if m.Status != membership.StatusLeft && n.live.up(m.Name) && n.topology.epochOf(m.Name) < epoch {
			return false
		}
	}
	return true
}

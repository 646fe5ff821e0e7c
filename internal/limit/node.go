package limit

import (
	"context"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/kv"
)

// Node is a node behind a door: what clients ask of keys passes it, and all else does
// not. Bytes are those of values, and of names in lists; reads pay after the answer.
type Node struct {
	*tanodb.Node
	door *Door
}

// Behind puts a node behind the door.
func (d *Door) Behind(n *tanodb.Node) *Node { return &Node{Node: n, door: d} }

// bucketOf is the bucket of a key.
func bucketOf(k kv.Key) kv.Bucket { return kv.Bucket{Type: k.Type, Name: k.Bucket} }

// Get implements kv.Store.
func (n *Node) Get(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Object, error) {
	b := bucketOf(k)
	if err := n.door.enter(ctx, b, 0); err != nil {
		return kv.Object{}, err
	}
	obj, err := n.Node.Get(ctx, k, o)
	n.door.took(ctx, b, sizeOf(obj.Values))
	return obj, err
}

// Put implements kv.Store.
func (n *Node) Put(ctx context.Context, k kv.Key, v kv.Value, o kv.WriteOptions) (kv.Receipt, error) {
	b := bucketOf(k)
	if err := n.door.enter(ctx, b, len(v.Data)); err != nil {
		return kv.Receipt{}, err
	}
	r, err := n.Node.Put(ctx, k, v, o)
	n.door.took(ctx, b, sizeOf(r.Values))
	return r, err
}

// Delete implements kv.Store.
func (n *Node) Delete(ctx context.Context, k kv.Key, o kv.WriteOptions) (kv.Receipt, error) {
	if err := n.door.enter(ctx, bucketOf(k), 0); err != nil {
		return kv.Receipt{}, err
	}
	return n.Node.Delete(ctx, k, o)
}

// Keys implements kv.Store. A list that is answered in pages counts each.
func (n *Node) Keys(ctx context.Context, b kv.Bucket, o kv.ListOptions) (kv.KeyPage, error) {
	if err := n.door.enter(ctx, b, 0); err != nil {
		return kv.KeyPage{}, err
	}
	page, err := n.Node.Keys(ctx, b, o)
	n.door.took(ctx, b, sizeOfNames(page.Keys))
	return page, err
}

// ReplicaKeys is a list too, and counts all that the vnodes have answered.
func (n *Node) ReplicaKeys(ctx context.Context, b kv.Bucket, o kv.ListOptions) ([]kv.ReplicaKeys, error) {
	if err := n.door.enter(ctx, b, 0); err != nil {
		return nil, err
	}
	all, err := n.Node.ReplicaKeys(ctx, b, o)
	size := 0
	for i := range all {
		size += sizeOfNames(all[i].Keys)
	}
	n.door.took(ctx, b, size)
	return all, err
}

// Holdings asks all vnodes of a key, and moves no values: it counts as a request.
func (n *Node) Holdings(ctx context.Context, k kv.Key) ([]tanodb.Holding, error) {
	if err := n.door.enter(ctx, bucketOf(k), 0); err != nil {
		return nil, err
	}
	return n.Node.Holdings(ctx, k)
}

// Index implements kv.Indexer.
func (n *Node) Index(ctx context.Context, b kv.Bucket, q kv.IndexQuery) (kv.IndexPage, error) {
	if err := n.door.enter(ctx, b, 0); err != nil {
		return kv.IndexPage{}, err
	}
	page, err := n.Node.Index(ctx, b, q)
	size := 0
	for _, m := range page.Matches {
		size += len(m.Term) + len(m.Key)
	}
	n.door.took(ctx, b, size)
	return page, err
}

// Fetch implements kv.DataTypes. The size of a data type is not known here: it counts as
// a request, and not by its bytes.
func (n *Node) Fetch(ctx context.Context, k kv.Key, o kv.ReadOptions) (kv.Data, error) {
	if err := n.door.enter(ctx, bucketOf(k), 0); err != nil {
		return kv.Data{}, err
	}
	return n.Node.Fetch(ctx, k, o)
}

// Update implements kv.DataTypes, and counts as Fetch does.
func (n *Node) Update(ctx context.Context, k kv.Key, op kv.Op, o kv.WriteOptions) (kv.Data, error) {
	if err := n.door.enter(ctx, bucketOf(k), 0); err != nil {
		return kv.Data{}, err
	}
	return n.Node.Update(ctx, k, op, o)
}

// sizeOfNames are the bytes of names.
func sizeOfNames(names []string) int {
	size := 0
	for _, name := range names {
		size += len(name)
	}
	return size
}

// sizeOf are the bytes of values.
func sizeOf(values []kv.Value) int {
	size := 0
	for i := range values {
		size += len(values[i].Data)
	}
	return size
}

package kvtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tanodb/tanodb/kv"
)

// Type is a bucket type that the suite uses.
type Type struct {
	Name  string
	Props kv.Properties
}

// Latest is the name of the type of Types in which the last write wins.
const Latest = "latest"

// briefTTL is how long a value of the type "brief" lives.
const briefTTL = time.Hour

// Types are the bucket types that must be there and active. The default type must keep
// siblings.
func Types() []Type {
	return []Type{
		{"default", kv.Properties{{Name: "allow_mult", Value: "true"}}},
		{"t", nil},
		{"tt", nil},
		{strings.Repeat("t", kv.MaxType), nil},
		{Latest, kv.Properties{{Name: "allow_mult", Value: "false"}}},
		{"counters", kv.Properties{{Name: "datatype", Value: "counter"}}},
		{"sets", kv.Properties{{Name: "datatype", Value: "set"}}},
		{"gsets", kv.Properties{{Name: "datatype", Value: "gset"}}},
		{"hlls", kv.Properties{{Name: "datatype", Value: "hll"}, {Name: "hll_precision", Value: "12"}}},
		{"maps", kv.Properties{{Name: "datatype", Value: "map"}}},
		{"brief", kv.Properties{{Name: "ttl", Value: briefTTL.String()}}},
	}
}

// Admin is who can make them.
type Admin interface {
	CreateBucketType(ctx context.Context, name string, props kv.Properties) error
	ActivateBucketType(ctx context.Context, name string) error
	UpdateBucketType(ctx context.Context, name string, props kv.Properties) error
}

// Prepare makes them.
func Prepare(t testing.TB, a Admin) {
	t.Helper()
	for _, x := range Types() {
		var err error
		if x.Name == "default" {
			err = a.UpdateBucketType(t.Context(), x.Name, x.Props)
		} else if err = a.CreateBucketType(t.Context(), x.Name, x.Props); err == nil {
			err = a.ActivateBucketType(t.Context(), x.Name)
		}
		if err != nil {
			t.Fatalf("bucket type %s: %v", x.Name, err)
		}
	}
}

// In these buckets a key shows one value, that of the last write.
var latest = []testCase{
	{"a write without a context replaces all that is there", func(r *run) {
		k := r.latestKey("k")
		r.put(k, "a", nil)
		r.put(k, "b", nil)
		r.holds(k, "b")
		old := r.holds(k, "b")
		r.put(k, "c", nil)
		r.put(k, "d", old)
		r.holds(k, "d")
	}},
	{"a put returns a context and one value", func(r *run) {
		k := r.latestKey("k")
		r.put(k, "a", nil)
		receipt := r.putValue(k, kv.Value{Data: []byte("b")}, kv.WriteOptions{ReturnBody: true, W: kv.All})
		if len(receipt.Values) != 1 || string(receipt.Values[0].Data) != "b" || len(receipt.Context) == 0 {
			r.Fatalf("the receipt has %q, and a context of %d bytes", texts(receipt.Values), len(receipt.Context))
		}
		r.put(k, "c", receipt.Context)
		r.holds(k, "c")
	}},
	{"a delete with an old context is the last write", func(r *run) {
		k := r.latestKey("k")
		r.put(k, "a", nil)
		old := r.holds(k, "a")
		r.put(k, "b", nil)
		r.delete(k, old)
		r.absent(k)
		r.lists(kv.Bucket{Type: k.Type, Name: k.Bucket})
		r.put(k, "c", nil)
		r.holds(k, "c")
		r.lists(kv.Bucket{Type: k.Type, Name: k.Bucket}, "k")
	}},
	{"repeated writes leave no siblings", func(r *run) {
		k := r.latestKey("k")
		for range kv.MaxSiblings + 20 {
			r.putValue(k, kv.Value{Data: []byte("a")}, kv.WriteOptions{})
		}
		r.put(k, "b", nil)
		r.holds(k, "b")
	}},
}

func (r *run) latestKey(name string) kv.Key {
	return kv.Key{Type: Latest, Bucket: r.Name(), Name: name}
}

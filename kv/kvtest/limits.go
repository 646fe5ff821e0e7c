package kvtest

import (
	"strings"

	"github.com/tanodb/tanodb/kv"
)

var limits = []testCase{
	{"names at their limits are served", func(r *run) {
		k := kv.Key{
			Type:   strings.Repeat("t", kv.MaxType),
			Bucket: r.Name() + strings.Repeat("b", kv.MaxBucket-len(r.Name())),
			Name:   strings.Repeat("k", kv.MaxKey),
		}
		r.put(k, "a", nil)
		r.holds(k, "a")
		r.lists(kv.Bucket{Type: k.Type, Name: k.Bucket}, k.Name)
		r.delete(k, nil)
		r.absent(k)
	}},
	{"names past their limits are refused by name", func(r *run) {
		r.refusesKey("key", kv.Key{Bucket: r.Name()})
		r.refusesKey("key", kv.Key{Bucket: r.Name(), Name: strings.Repeat("k", kv.MaxKey+1)})
		r.refusesKey("bucket", kv.Key{Name: "k"})
		r.refusesKey("bucket", kv.Key{Bucket: strings.Repeat("b", kv.MaxBucket+1), Name: "k"})
		r.refusesKey("bucket type", kv.Key{Type: strings.Repeat("t", kv.MaxType+1), Bucket: r.Name(), Name: "k"})
	}},
	{"buckets past their limits are not listed", func(r *run) {
		for _, b := range []kv.Bucket{
			{},
			{Name: strings.Repeat("b", kv.MaxBucket+1)},
			{Type: strings.Repeat("t", kv.MaxType+1), Name: r.Name()},
		} {
			_, err := r.store.Keys(r.Context(), b, kv.ListOptions{})
			r.wants(err, kv.ErrInvalid, "bucket")
		}
	}},
	{"metadata past its limit is refused", func(r *run) {
		k := r.key("k")
		v := kv.Value{Meta: []kv.Pair{{Name: "m", Value: strings.Repeat("x", kv.MaxValueMeta-5)}}}
		r.putValue(k, v, kv.WriteOptions{})
		v.ContentEncoding = "x"
		_, err := r.store.Put(r.Context(), k, v, kv.WriteOptions{})
		r.wants(err, kv.ErrInvalid, "metadata")
		if n := len(r.get(k, kv.ReadOptions{}).Values); n != 1 {
			r.Fatalf("the key holds %d values", n)
		}
	}},
	{"a value past its limit is refused", func(r *run) {
		k := r.key("k")
		_, err := r.store.Put(r.Context(), k, kv.Value{Data: make([]byte, kv.MaxObject+1)}, kv.WriteOptions{})
		r.wants(err, kv.ErrInvalid, "value")
		r.absent(k)
	}},
	{"one sibling too many is refused and the others stay", func(r *run) {
		k := r.key("k")
		for range kv.MaxSiblings {
			r.put(k, "sibling", nil)
		}
		_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("too many")}, kv.WriteOptions{})
		r.wants(err, kv.ErrTooManySiblings)
		obj := r.get(k, kv.ReadOptions{})
		if len(obj.Values) != kv.MaxSiblings {
			r.Fatalf("the key holds %d values, want %d", len(obj.Values), kv.MaxSiblings)
		}
		r.put(k, "resolved", obj.Context)
		r.holds(k, "resolved")
	}},
	{"an object that would grow too large is refused and stays", func(r *run) {
		if !r.o.Large {
			r.Skip("large objects were not asked for")
		}
		k := r.key("k")
		half := kv.Value{Data: make([]byte, kv.MaxObject/2)}
		r.putValue(k, half, kv.WriteOptions{W: kv.All})
		_, err := r.store.Put(r.Context(), k, half, kv.WriteOptions{})
		r.wants(err, kv.ErrTooLarge)
		if obj := r.get(k, kv.ReadOptions{}); len(obj.Values) != 1 {
			r.Fatalf("the key holds %d values, want 1", len(obj.Values))
		}
	}},
}

// refusesKey checks that no operation takes a key, and that the error begins
// with the part that is wrong.
func (r *run) refusesKey(part string, k kv.Key) {
	r.Helper()
	_, err := r.store.Get(r.Context(), k, kv.ReadOptions{})
	r.wantsInvalid(err, part)
	_, err = r.store.Put(r.Context(), k, kv.Value{Data: []byte("a")}, kv.WriteOptions{})
	r.wantsInvalid(err, part)
	_, err = r.store.Delete(r.Context(), k, kv.WriteOptions{})
	r.wantsInvalid(err, part)
}

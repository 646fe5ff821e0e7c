package kvtest

import (
	"time"

	"github.com/tanodb/tanodb/kv"
)

var (
	longAgo = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	farOff  = time.Date(2101, 2, 3, 4, 5, 6, 789e6, time.UTC)
)

var expiry = []testCase{
	{"a value whose time is past is not found", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("gone"), Expires: longAgo}, kv.WriteOptions{W: kv.All})
		r.absent(k)
		r.lists(r.bucket())
		_, err := r.store.Delete(r.Context(), k, kv.WriteOptions{})
		r.wants(err, kv.ErrNotFound)
	}},
	{"a value whose time has not come is there, and says when it goes", func(r *run) {
		k := r.key("k")
		v := kv.Value{Data: []byte("stays"), Expires: farOff}
		r.putValue(k, v, kv.WriteOptions{W: kv.All})
		sameValue(r, r.get(k, kv.ReadOptions{}).Values[0], v)
		sameHead(r, r.get(k, kv.ReadOptions{Head: true}).Values[0], v)
		r.lists(r.bucket(), "k")
	}},
	{"an expired sibling is hidden beside a live one", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("gone"), Expires: longAgo}, kv.WriteOptions{W: kv.All})
		r.put(k, "stays", nil)
		r.holds(k, "stays")
	}},
	{"a value without expiry replaces one with", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("a"), Expires: farOff}, kv.WriteOptions{W: kv.All})
		r.put(k, "b", r.holds(k, "a"))
		if v := r.get(k, kv.ReadOptions{}).Values[0]; !v.Expires.IsZero() {
			r.Fatalf("expires at %v", v.Expires)
		}
	}},
	{"a value without expiry gets that of its bucket, and one with keeps its own", func(r *run) {
		k := kv.Key{Type: "brief", Bucket: r.Name(), Name: "k"}
		r.put(k, "a", nil)
		v := r.get(k, kv.ReadOptions{}).Values[0]
		if left := v.Expires.Sub(v.Modified); (left - briefTTL).Abs() > time.Minute {
			r.Fatalf("it was written at %v and expires at %v", v.Modified, v.Expires)
		}
		own := kv.Value{Data: []byte("b"), Expires: farOff}
		r.putValue(k, own, kv.WriteOptions{Context: r.holds(k, "a"), W: kv.All})
		sameValue(r, r.get(k, kv.ReadOptions{}).Values[0], own)
		r.delete(k, nil)
		r.absent(k)
	}},
	{"a value is gone from its time on", func(r *run) {
		if r.o.Pass == nil {
			r.Skip("the clock of this store cannot be moved")
		}
		k := r.key("k")
		r.put(k, "clock", nil)
		now := r.get(k, kv.ReadOptions{}).Values[0].Modified
		r.putValue(k, kv.Value{Data: []byte("an hour"), Expires: now.Add(time.Hour)}, kv.WriteOptions{Context: r.holds(k, "clock"), W: kv.All})
		r.o.Pass(30 * time.Minute)
		r.holds(k, "an hour")
		r.o.Pass(31 * time.Minute)
		r.absent(k)
		r.lists(r.bucket())
	}},
}

package kvtest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tanodb/tanodb/kv"
)

var conditions = []testCase{
	{"a put if nothing matches is made where there is no live value", func(r *run) {
		k := r.key("k")
		o := kv.WriteOptions{IfNoneMatch: true, W: kv.All}
		r.putValue(k, kv.Value{Data: []byte("a")}, o)
		r.refusesPut(k, o, kv.ErrExists)
		r.holds(k, "a")
		r.delete(k, nil)
		r.putValue(k, kv.Value{Data: []byte("b")}, o)
		r.holds(k, "b")
	}},
	{"a put if nothing was modified is made over what its context has seen", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		seen := r.holds(k, "a")
		r.putValue(k, kv.Value{Data: []byte("b")}, kv.WriteOptions{Context: seen, IfNotModified: true, W: kv.All})
		r.holds(k, "b")
		r.refusesPut(k, kv.WriteOptions{Context: seen, IfNotModified: true}, kv.ErrModified)
		r.refusesPut(k, kv.WriteOptions{IfNotModified: true}, kv.ErrModified)
		r.holds(k, "b")
	}},
	{"a put if nothing was modified of a key that was deleted finds nothing", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		seen := r.holds(k, "a")
		r.delete(k, nil)
		r.refusesPut(k, kv.WriteOptions{Context: seen, IfNotModified: true}, kv.ErrNotFound)
		r.absent(k)
		r.refusesPut(r.key("never"), kv.WriteOptions{IfNotModified: true}, kv.ErrNotFound)
	}},
	{"of many who put if nothing matches one does", func(r *run) {
		if r.o.Sequential {
			r.Skip("the store serves one call at a time")
		}
		for round := range 5 {
			k := r.key(fmt.Sprint("k", round))
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() {
					_, errs[i] = r.store.Put(r.Context(), k, kv.Value{Data: []byte{byte(i)}}, kv.WriteOptions{IfNoneMatch: true, W: kv.All})
				})
			}
			wg.Wait()
			made := 0
			for _, err := range errs {
				switch {
				case err == nil:
					made++
				case !errors.Is(err, kv.ErrExists):
					r.Fatal(err)
				}
			}
			if obj := r.get(k, kv.ReadOptions{}); made != 1 || len(obj.Values) != 1 {
				r.Fatalf("%d were made, and the key holds %d values", made, len(obj.Values))
			}
		}
	}},
}

// refusesPut tries a put that must fail.
func (r *run) refusesPut(k kv.Key, o kv.WriteOptions, want error) {
	r.Helper()
	_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("refused")}, o)
	r.wants(err, want)
}

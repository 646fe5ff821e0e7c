package kvtest

import (
	"bytes"

	"github.com/tanodb/tanodb/kv"
)

var contexts = []testCase{
	{"reading, changing and writing leaves one value", func(r *run) {
		k := r.key("k")
		r.put(k, "0", nil)
		for _, text := range []string{"1", "2", "3", "4"} {
			r.put(k, text, r.get(k, kv.ReadOptions{}).Context)
		}
		r.holds(k, "4")
	}},
	{"two writes without a context are siblings", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.put(k, "b", nil)
		r.holds(k, "a", "b")
	}},
	{"equal data written twice is two values", func(r *run) {
		k := r.key("k")
		r.put(k, "same", nil)
		r.put(k, "same", nil)
		r.holds(k, "same", "same")
	}},
	{"a write with the context of siblings replaces them all", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.put(k, "b", nil)
		r.put(k, "c", r.holds(k, "a", "b"))
		r.holds(k, "c")
	}},
	{"a write replaces exactly what its context has seen", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		seen := r.holds(k, "a")
		r.put(k, "b", nil)
		r.put(k, "c", seen)
		r.holds(k, "b", "c")
	}},
	{"two writes with one context are siblings", func(r *run) {
		k := r.key("k")
		r.put(k, "old", nil)
		seen := r.holds(k, "old")
		r.put(k, "a", seen)
		r.put(k, "b", seen)
		r.holds(k, "a", "b")
	}},
	{"a stale context replaces nothing newer", func(r *run) {
		k := r.key("k")
		r.put(k, "1", nil)
		first := r.holds(k, "1")
		r.put(k, "2", first)
		r.put(k, "3", r.holds(k, "2"))
		r.put(k, "late", first)
		r.holds(k, "3", "late")
	}},
	{"the receipt's context covers the write", func(r *run) {
		k := r.key("k")
		receipt := r.put(k, "0", nil)
		for _, text := range []string{"1", "2", "3"} {
			receipt = r.put(k, text, receipt.Context)
		}
		r.holds(k, "3")
	}},
	{"reading does not change the context's meaning", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		first, second := r.holds(k, "a"), r.holds(k, "a")
		if !bytes.Equal(first, second) {
			r.Fatalf("contexts %x and %x of one state", first, second)
		}
	}},
	{"a context of another key is refused", func(r *run) {
		k := r.key("k")
		r.put(k, "mine", nil)
		others := []kv.Key{
			r.key("other"),
			{Bucket: r.Name() + "2", Name: "k"},
			{Type: "t", Bucket: r.Name(), Name: "k"},
		}
		for _, other := range others {
			r.put(other, "theirs", nil)
			r.refusesContext(k, r.holds(other, "theirs"))
		}
		r.holds(k, "mine")
	}},
	{"a context that was tampered with is refused", func(r *run) {
		k := r.key("k")
		r.put(k, "mine", nil)
		good := r.holds(k, "mine")
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			r.refusesContext(k, bad)
			r.refusesContext(k, good[:max(i, 1)])
		}
		r.refusesContext(k, append(bytes.Clone(good), 0))
		r.holds(k, "mine")
	}},
	{"garbage for a context is refused", func(r *run) {
		k := r.key("k")
		r.put(k, "mine", nil)
		for _, bad := range []string{"x", "\x00", "not a context", string(make([]byte, 100)), string(make([]byte, kv.MaxContext))} {
			r.refusesContext(k, kv.Context(bad))
		}
		r.holds(k, "mine")
	}},
}

// refusesContext checks that neither a put nor a delete takes a context.
func (r *run) refusesContext(k kv.Key, c kv.Context) {
	r.Helper()
	o := kv.WriteOptions{Context: c}
	_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("wrong")}, o)
	r.wants(err, kv.ErrContext, "context")
	_, err = r.store.Delete(r.Context(), k, o)
	r.wants(err, kv.ErrContext, "context")
}

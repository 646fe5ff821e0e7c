package kvtest

import (
	"github.com/tanodb/tanodb/kv"
)

var deletes = []testCase{
	{"a deleted key is not found and its context remains", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		if receipt := r.delete(k, nil); len(receipt.Context) == 0 {
			r.Fatal("the receipt of a delete has no context")
		}
		if obj := r.absent(k); len(obj.Context) == 0 {
			r.Fatal("a deleted key has no context")
		}
	}},
	{"deleting a key that does not exist is not found", func(r *run) {
		_, err := r.store.Delete(r.Context(), r.key("never"), kv.WriteOptions{})
		r.wants(err, kv.ErrNotFound)
		if obj := r.absent(r.key("never")); len(obj.Context) != 0 {
			r.Fatal("a delete that found nothing wrote a tombstone")
		}
	}},
	{"a delete shows who had the key, a second one that nobody has", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		receipt, err := r.store.Delete(r.Context(), k, lingerWrite)
		if err != nil {
			r.Fatal(err)
		}
		r.allReply(receipt.Replies, kv.Found)
		receipt, err = r.store.Delete(r.Context(), k, lingerWrite)
		r.wants(err, kv.ErrNotFound)
		r.allReply(receipt.Replies, kv.NotFound)
	}},
	{"a delete without a context removes all siblings", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.put(k, "b", nil)
		r.delete(k, nil)
		r.absent(k)
	}},
	{"a delete with the current context removes the value", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.delete(k, r.holds(k, "a"))
		r.absent(k)
	}},
	{"a delete with a stale context keeps the newer value", func(r *run) {
		k := r.key("k")
		r.put(k, "old", nil)
		seen := r.holds(k, "old")
		r.put(k, "new", seen)
		r.delete(k, seen)
		r.holds(k, "new")
	}},
	{"a delete with the context of one sibling keeps the other", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		seen := r.holds(k, "a")
		r.put(k, "b", nil)
		r.delete(k, seen)
		r.holds(k, "b")
	}},
	{"a put without a context after a delete is found alone", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.delete(k, nil)
		r.put(k, "b", nil)
		r.holds(k, "b")
	}},
	{"a put with the context of a delete replaces the tombstone", func(r *run) {
		k := r.key("k")
		r.put(k, "a", nil)
		r.delete(k, nil)
		r.put(k, "b", r.absent(k).Context)
		obj := r.get(k, kv.ReadOptions{Tombstones: true})
		if len(obj.Values) != 1 || obj.Values[0].Deleted || string(obj.Values[0].Data) != "b" {
			r.Fatalf("got %+v", obj.Values)
		}
	}},
	{"a put that saw the value is not deleted by a delete that saw it too", func(r *run) {
		k := r.key("k")
		r.put(k, "old", nil)
		seen := r.holds(k, "old")
		r.delete(k, seen)
		r.put(k, "concurrent", seen)
		r.holds(k, "concurrent")
	}},
	{"a key may be deleted and written again many times", func(r *run) {
		k := r.key("k")
		for range 10 {
			r.put(k, "again", nil)
			r.holds(k, "again")
			r.delete(k, nil)
			r.absent(k)
		}
	}},
}

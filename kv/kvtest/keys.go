package kvtest

import (
	"fmt"
	"slices"

	"github.com/tanodb/tanodb/kv"
)

var keys = []testCase{
	{"a bucket without keys lists none", func(r *run) {
		r.lists(r.bucket())
	}},
	{"every key is listed once, on pages of any size", func(r *run) {
		want := r.fill(40)
		for _, limit := range []int{1, 3, 40, 41, kv.MaxPage, 0} {
			r.pages(limit, want)
		}
	}},
	{"keys are free bytes", func(r *run) {
		want := []string{"\x00", "\x00\x00", "\xff", "\xff\xff", "a/b", " ", "ключ"}
		for _, name := range want {
			r.put(r.key(name), "a", nil)
		}
		r.pages(1, want)
	}},
	{"keys of one partition come in order", keysInOrder},
	{"deleted keys are not listed", func(r *run) {
		want := r.fill(10)
		for _, name := range want[:5] {
			r.delete(r.key(name), nil)
		}
		r.lists(r.bucket(), want[5:]...)
		r.put(r.key(want[0]), "back", nil)
		r.lists(r.bucket(), append(want[5:], want[0])...)
	}},
	{"a key with siblings is listed once", func(r *run) {
		r.put(r.key("k"), "a", nil)
		r.put(r.key("k"), "b", nil)
		r.lists(r.bucket(), "k")
	}},
	{"keys of other buckets and types are not listed", func(r *run) {
		r.put(r.key("mine"), "a", nil)
		for _, other := range []kv.Bucket{
			{Name: r.Name() + "x"},
			{Name: r.Name()[1:]},
			{Type: "t", Name: r.Name()},
			{Type: "tt", Name: r.Name()},
		} {
			r.put(kv.Key{Type: other.Type, Bucket: other.Name, Name: "theirs"}, "a", nil)
			r.lists(other, "theirs")
		}
		r.lists(r.bucket(), "mine")
	}},
	{"a limit that cannot be meant is refused", func(r *run) {
		for _, limit := range []int{-1, kv.MaxPage + 1} {
			_, err := r.store.Keys(r.Context(), r.bucket(), kv.ListOptions{Limit: limit})
			r.wantsInvalid(err, "limit")
		}
		_, err := r.store.Keys(r.Context(), r.bucket(), kv.ListOptions{Timeout: -1})
		r.wantsInvalid(err, "timeout")
	}},
	{"garbage for a token is refused", func(r *run) {
		r.fill(3)
		for _, token := range []string{"x", "garbage", "\x00", "AAAA", "%%%", string(make([]byte, 1000))} {
			_, err := r.store.Keys(r.Context(), r.bucket(), kv.ListOptions{Token: token})
			r.wantsInvalid(err, "token")
		}
	}},
	{"all keys can be ranged over, and left early", func(r *run) {
		want := r.fill(10)
		var got []string
		for name, err := range kv.AllKeys(r.Context(), r.store, r.bucket(), kv.ListOptions{Limit: 3}) {
			if err != nil {
				r.Fatal(err)
			}
			got = append(got, name)
			if len(got) == 5 {
				break
			}
		}
		for _, name := range got {
			if !slices.Contains(want, name) {
				r.Fatalf("listed %q, which was never written", name)
			}
		}
		if len(got) != 5 {
			r.Fatalf("listed %q before the loop was left", got)
		}
	}},
	{"ranging over all keys ends with the first error", func(r *run) {
		rounds := 0
		for _, err := range kv.AllKeys(r.Context(), r.store, r.bucket(), kv.ListOptions{Token: "garbage"}) {
			r.wants(err, kv.ErrInvalid)
			rounds++
		}
		if rounds != 1 {
			r.Fatalf("the loop ran %d times, want 1", rounds)
		}
	}},
}

// fill writes n keys on all replicas and returns their names.
func (r *run) fill(n int) []string {
	r.Helper()
	var names []string
	for i := range n {
		name := fmt.Sprintf("key %02d", i)
		r.put(r.key(name), "a", nil)
		names = append(names, name)
	}
	return names
}

// lists checks what a bucket lists, in any order.
func (r *run) lists(b kv.Bucket, want ...string) {
	r.Helper()
	var got []string
	for name, err := range kv.AllKeys(r.Context(), r.store, b, kv.ListOptions{}) {
		if err != nil {
			r.Fatalf("listing %q: %v", b, err)
		}
		got = append(got, name)
	}
	if !slices.Equal(sorted(got), sorted(want)) {
		r.Fatalf("listed %q, want %q", sorted(got), sorted(want))
	}
}

// pages checks what the bucket lists page by page, each within the limit.
func (r *run) pages(limit int, want []string) {
	r.Helper()
	const most = 100_000 // pages, of which some may be empty; more is a loop
	var got []string
	o := kv.ListOptions{Limit: limit}
	for range most {
		page, err := r.store.Keys(r.Context(), r.bucket(), o)
		if err != nil {
			r.Fatalf("limit %d: %v", limit, err)
		}
		if limit > 0 && len(page.Keys) > limit {
			r.Fatalf("limit %d: a page has %d keys", limit, len(page.Keys))
		}
		got = append(got, page.Keys...)
		if page.Next == "" {
			if !slices.Equal(sorted(got), sorted(want)) {
				r.Fatalf("limit %d: listed %q, want %q", limit, sorted(got), sorted(want))
			}
			return
		}
		o.Token = page.Next
	}
	r.Fatalf("limit %d: no end after %d pages", limit, most)
}

// keysInOrder groups keys by the partitions that hold them, as the receipts
// show, and checks the order within each group, and that groups are not mixed.
func keysInOrder(r *run) {
	group := map[string]string{}
	for i := range 60 {
		name := fmt.Sprintf("key %02d", 59-i)
		receipt := r.putValue(r.key(name), kv.Value{}, kv.WriteOptions{W: kv.All, SloppyQuorum: kv.Off})
		var at []string
		for _, reply := range receipt.Replies {
			at = append(at, reply.Partition.String())
		}
		group[name] = fmt.Sprint(sorted(at))
	}
	last := map[string]string{}
	previous := ""
	for name, err := range kv.AllKeys(r.Context(), r.store, r.bucket(), kv.ListOptions{Limit: 7}) {
		if err != nil {
			r.Fatal(err)
		}
		g := group[name]
		if before, ok := last[g]; ok && (before >= name || previous != g) {
			r.Fatalf("%q is listed after %q, in the same partition", name, before)
		}
		last[g], previous = name, g
	}
}

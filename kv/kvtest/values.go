package kvtest

import (
	"bytes"
	"strings"

	"github.com/tanodb/tanodb/kv"
)

var values = []testCase{
	{"a value is read back", func(r *run) {
		k := r.key("k1")
		r.absent(k)
		r.put(k, "42", nil)
		r.holds(k, "42")
	}},
	{"a key that was never written is not found and has no context", func(r *run) {
		if obj := r.absent(r.key("never")); len(obj.Context) != 0 {
			r.Fatalf("context %x of a key that was never written", obj.Context)
		}
	}},
	{"keys and buckets are free bytes", freeBytes},
	{"a bucket of an unknown type is refused", func(r *run) {
		k := kv.Key{Type: "unknown", Bucket: r.Name(), Name: "k"}
		_, err := r.store.Put(r.Context(), k, kv.Value{Data: []byte("a")}, kv.WriteOptions{})
		r.wants(err, kv.ErrBucketType, "unknown")
		_, err = r.store.Get(r.Context(), k, kv.ReadOptions{})
		r.wants(err, kv.ErrBucketType, "unknown")
		_, err = r.store.Delete(r.Context(), k, kv.WriteOptions{})
		r.wants(err, kv.ErrBucketType, "unknown")
		_, err = r.store.Keys(r.Context(), kv.Bucket{Type: k.Type, Name: k.Bucket}, kv.ListOptions{})
		r.wants(err, kv.ErrBucketType, "unknown")
	}},
	{"the type default is that of buckets that name none", func(r *run) {
		r.put(r.key("k"), "a", nil)
		r.holds(kv.Key{Type: "default", Bucket: r.Name(), Name: "k"}, "a")
	}},
	{"buckets and types are apart", func(r *run) {
		apart := []kv.Key{
			{Bucket: r.Name(), Name: "k"},
			{Bucket: r.Name() + "k", Name: "k"},
			{Bucket: r.Name(), Name: "kk"},
			{Type: "t", Bucket: r.Name(), Name: "k"},
			{Type: "tt", Bucket: r.Name(), Name: "k"},
			{Type: "t", Bucket: "t" + r.Name(), Name: "k"},
		}
		for _, k := range apart {
			r.put(k, k.String(), nil)
		}
		for _, k := range apart {
			r.holds(k, k.String())
		}
	}},
	{"data is free bytes", func(r *run) {
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		r.put(r.key("bytes"), string(every), nil)
		r.holds(r.key("bytes"), string(every))
	}},
	{"an empty value is a value", func(r *run) {
		r.putValue(r.key("empty"), kv.Value{}, kv.WriteOptions{})
		r.holds(r.key("empty"), "")
	}},
	{"a value of a megabyte is read back", func(r *run) {
		big := strings.Repeat("0123456789abcdef", 1<<16)
		r.put(r.key("big"), big, nil)
		r.holds(r.key("big"), big)
	}},
	{"content headers, metadata and indexes are kept in order", keepsHeaders},
	{"every write has its own version tag and time", func(r *run) {
		k := r.key("k")
		r.put(k, "same", nil)
		first := r.get(k, kv.ReadOptions{})
		r.put(k, "same", first.Context)
		second := r.get(k, kv.ReadOptions{})
		a, b := first.Values[0], second.Values[0]
		if a.VTag == "" || b.VTag == "" || a.VTag == b.VTag {
			r.Fatalf("version tags %q and %q of two writes", a.VTag, b.VTag)
		}
		if a.Modified.IsZero() || b.Modified.Before(a.Modified) {
			r.Fatalf("written at %v, then at %v", a.Modified, b.Modified)
		}
		if again := r.get(k, kv.ReadOptions{}); again.Values[0].VTag != b.VTag {
			r.Fatalf("version tag %q became %q by reading", b.VTag, again.Values[0].VTag)
		}
	}},
	{"what the store sets is ignored in a put", func(r *run) {
		k := r.key("k")
		r.putValue(k, kv.Value{Data: []byte("live"), Deleted: true, VTag: "mine"}, kv.WriteOptions{})
		v := r.get(k, kv.ReadOptions{}).Values[0]
		if string(v.Data) != "live" || v.Deleted || v.VTag == "mine" {
			r.Fatalf("got %+v", v)
		}
	}},
	{"the writer may reuse its buffer", func(r *run) {
		k, buf := r.key("k"), []byte("before")
		r.putValue(k, kv.Value{Data: buf}, kv.WriteOptions{W: kv.All})
		copy(buf, "after!")
		r.holds(k, "before")
	}},
	{"a reader may change what it got", func(r *run) {
		k := r.key("k")
		r.put(k, "before", nil)
		copy(r.get(k, kv.ReadOptions{R: kv.All}).Values[0].Data, "after!")
		r.holds(k, "before")
	}},
}

func freeBytes(r *run) {
	names := []string{
		"k", "/", "a", "a/b", "..", ".", " ", "?", "#", "%", "%2F", "+", "ключ", "\x00", "a\x00", "a\x00b", "\n",
		"\xff", "\xc3\x28", strings.Repeat("\x00", 300), "\"quoted\"",
	}
	var ks []kv.Key
	for _, name := range names {
		ks = append(ks,
			kv.Key{Bucket: r.Name(), Name: name},
			kv.Key{Bucket: r.Name() + name, Name: "k"},
			kv.Key{Type: "t", Bucket: name + r.Name(), Name: name})
	}
	for _, k := range ks {
		r.put(k, k.Type+"|"+k.Bucket+"|"+k.Name, nil)
	}
	for _, k := range ks {
		r.holds(k, k.Type+"|"+k.Bucket+"|"+k.Name)
	}
}

func keepsHeaders(r *run) {
	want := kv.Value{
		Data:            []byte{0, 1, 255},
		ContentType:     "text/plain",
		Charset:         "utf-8",
		ContentEncoding: "gzip",
		Meta:            []kv.Pair{{Name: "z", Value: "1"}, {Name: "a", Value: "\xff\x00"}, {Name: "z", Value: "2"}, {Name: "empty"}},
		Indexes:         []kv.Pair{{Name: "age_int", Value: "7"}, {Name: "name_bin", Value: "b"}, {Name: "name_bin", Value: "a"}},
	}
	if r.o.TextMeta {
		want.Meta = []kv.Pair{{Name: "a", Value: "1, 2"}, {Name: "z", Value: "2"}, {Name: "z", Value: "1"}}
	}
	k := r.key("k")
	r.putValue(k, want, kv.WriteOptions{})
	sameValue(r, r.get(k, kv.ReadOptions{}).Values[0], want)
}

// sameValue compares what a writer sets.
func sameValue(r *run, got, want kv.Value) {
	r.Helper()
	if !bytes.Equal(got.Data, want.Data) {
		r.Fatalf("data %q, want %q", got.Data, want.Data)
	}
	sameHead(r, got, want)
}

// sameHead compares what a writer sets, except for the data.
func sameHead(r *run, got, want kv.Value) {
	r.Helper()
	if got.ContentType != want.ContentType || got.Charset != want.Charset || got.ContentEncoding != want.ContentEncoding {
		r.Fatalf("content headers of %+v, want those of %+v", got, want)
	}
	if !got.Expires.Equal(want.Expires) {
		r.Fatalf("expires at %v, want %v", got.Expires, want.Expires)
	}
	samePairs(r, "metadata", got.Meta, want.Meta)
	samePairs(r, "indexes", got.Indexes, want.Indexes)
}

func samePairs(r *run, what string, got, want []kv.Pair) {
	r.Helper()
	if len(got) != len(want) {
		r.Fatalf("%s %q, want %q", what, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			r.Fatalf("%s %q, want %q", what, got, want)
		}
	}
}

package vnode_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/object"
	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/internal/vnode"
	"github.com/tanodb/tanodb/kv"
	"github.com/tanodb/tanodb/storage"
)

// failer is a test, or a property.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// fill stores an object under each name.
func fill(t failer, e *storage.Memory, p, home ring.Partition, bucket kv.Bucket, deleted bool, names ...string) {
	t.Helper()
	s := object.Sibling{Dot: object.Dot{Actor: object.Actor{1}, Counter: 1}, Deleted: deleted}
	if !deleted {
		s.Body = object.AppendBody(nil, &kv.Value{})
	}
	enc := object.Write(object.Object{}, nil, s).Encode()
	var b storage.Batch
	for _, name := range names {
		b.Set(vnode.DataKey(p, home, kv.Key{Type: bucket.Type, Bucket: bucket.Name, Name: name}), enc)
	}
	if _, err := e.Apply(&b, true); err != nil {
		t.Fatal(err)
	}
}

var bucket = kv.Bucket{Name: "b"}

func list(t failer, e *storage.Memory, m *vnode.List) *vnode.Listed {
	t.Helper()
	l, ok := vnode.Read(e, 3, 1_000, m).(*vnode.Listed)
	if !ok {
		t.Fatal("not listed")
	}
	return l
}

func TestAListSeesItsBucketOnly(t *testing.T) {
	e := storage.NewMemory()
	fill(t, e, 3, 1, bucket, false, "mine", "my\xff", "my\x00")
	fill(t, e, 3, 1, bucket, true, "dead")
	fill(t, e, 2, 1, bucket, false, "the vnode before")
	fill(t, e, 4, 1, bucket, false, "the vnode after")
	fill(t, e, 3, 0, bucket, false, "the home before")
	fill(t, e, 3, 2, bucket, false, "the home after")
	fill(t, e, 3, 1, kv.Bucket{Name: "a"}, false, "the bucket before")
	fill(t, e, 3, 1, kv.Bucket{Name: "b\x00"}, false, "a bucket with the same beginning")
	fill(t, e, 3, 1, kv.Bucket{Type: "t", Name: "b"}, false, "another type")
	l := list(t, e, &vnode.List{Home: 1, Bucket: bucket, Limit: 10})
	if want := []string{"mine", "my\x00", "my\xff"}; !slices.Equal(l.Keys, want) || l.More || l.Last != "my\xff" {
		t.Errorf("listed %q, last %q, more %v", l.Keys, l.Last, l.More)
	}
	c := vnode.Read(e, 3, 1_000, &vnode.Census{Bucket: bucket, Limit: 10}).(*vnode.Listed)
	if want := []string{"the home before", "mine", "my\x00", "my\xff", "the home after"}; !slices.Equal(c.Keys, want) || c.More {
		t.Errorf("the census has %q, more %v", c.Keys, c.More)
	}
	for limit := range 5 {
		c := vnode.Read(e, 3, 1_000, &vnode.Census{Bucket: bucket, Limit: limit}).(*vnode.Listed)
		if len(c.Keys) != limit || !c.More {
			t.Errorf("a census of at most %d has %q, more %v", limit, c.Keys, c.More)
		}
	}
}

// The first and the last partition, and names of 0xff, have no neighbours in
// their way.
func TestTheLastPartitionIsListed(t *testing.T) {
	for _, p := range []ring.Partition{0, 0xff, 0xffff} {
		e := storage.NewMemory()
		b := kv.Bucket{Type: "\xff", Name: "\xff\xff"}
		fill(t, e, p, 0xffff, b, false, "\xff", "\xff\xff")
		c := vnode.Read(e, p, 1_000, &vnode.Census{Bucket: b, Limit: 10}).(*vnode.Listed)
		if len(c.Keys) != 2 || c.More {
			t.Errorf("vnode %d has %q", p, c.Keys)
		}
		l := vnode.Read(e, p, 1_000, &vnode.List{Home: 0xffff, Bucket: b, After: "\xff", Limit: 10}).(*vnode.Listed)
		if len(l.Keys) != 1 || l.Keys[0] != "\xff\xff" {
			t.Errorf("after 0xff vnode %d has %q", p, l.Keys)
		}
	}
}

// Pages of any size, over names of any bytes, come to the same list.
func TestPagesComeToTheWholeList(t *testing.T) {
	name := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 1, 4).Draw(t, "name"))
	})
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(name, func(s string) string { return s }).Draw(t, "names")
		e := storage.NewMemory()
		var want []string
		for _, n := range names {
			dead := rapid.IntRange(0, 3).Draw(t, "dead") == 0
			fill(t, e, 3, 1, bucket, dead, n)
			if !dead {
				want = append(want, n)
			}
		}
		slices.Sort(want)
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		var got []string
		for after, more := "", true; more; {
			l := list(t, e, &vnode.List{Home: 1, Bucket: bucket, After: after, Limit: limit})
			if len(l.Keys) > limit || l.More && l.Last <= after {
				t.Fatalf("after %q: %q, last %q", after, l.Keys, l.Last)
			}
			got = append(got, l.Keys...)
			after, more = l.Last, l.More
		}
		if !slices.Equal(got, want) {
			t.Fatalf("listed %q; want %q", got, want)
		}
	})
}

// A bucket of tombstones does not hold up a reader: the answer comes with where
// to go on.
func TestAListLooksAtSoManyOnly(t *testing.T) {
	const looked = 20_000
	e := storage.NewMemory()
	names := make([]string, looked+5)
	for i := range names {
		names[i] = fmt.Sprintf("%06d", i)
	}
	fill(t, e, 3, 1, bucket, true, names...)
	fill(t, e, 3, 1, bucket, false, "zz")
	l := list(t, e, &vnode.List{Home: 1, Bucket: bucket, Limit: 10})
	if len(l.Keys) != 0 || !l.More || l.Last != names[looked-1] {
		t.Errorf("listed %q, last %q, more %v", l.Keys, l.Last, l.More)
	}
	l = list(t, e, &vnode.List{Home: 1, Bucket: bucket, After: l.Last, Limit: 10})
	if len(l.Keys) != 1 || l.More {
		t.Errorf("then %q, more %v", l.Keys, l.More)
	}
}

func TestAListIsLimitedInBytes(t *testing.T) {
	e := storage.NewMemory()
	long := strings.Repeat("x", kv.MaxKey-4)
	names := make([]string, 80)
	for i := range names {
		names[i] = fmt.Sprintf("%04d", i) + long
	}
	fill(t, e, 3, 1, bucket, false, names...)
	l := list(t, e, &vnode.List{Home: 1, Bucket: bucket, Limit: kv.MaxPage})
	if len(l.Keys) != 64 || !l.More || l.Last != names[63] {
		t.Errorf("%d keys of 64 KiB in 4 MiB, more %v", len(l.Keys), l.More)
	}
}

// A value is listed until the instant at which it expires.
func TestExpiredKeysAreNotListed(t *testing.T) {
	b := newBench(t, 1)
	c := coordinate("x", nil, 1)
	c.Write.Expires = 2_000
	b.handle(c)
	for wall, want := range map[int64]int{1_000: 1, 1_999: 1, 2_000: 0, 3_000: 0} {
		l := vnode.Read(b.engine, 3, wall, &vnode.List{Home: 1, Bucket: bucket, Limit: 10}).(*vnode.Listed)
		if len(l.Keys) != want {
			t.Errorf("at %d: %q", wall, l.Keys)
		}
	}
}

// A listing without a key that it could not read would be silently incomplete.
func TestACorruptObjectFailsTheList(t *testing.T) {
	b := newBench(t, 1)
	b.handle(coordinate("x", nil, 1))
	b.spoil(8)
	for _, m := range []vnode.Message{&vnode.List{Home: 1, Bucket: bucket, Limit: 10}, &vnode.Census{Bucket: bucket, Limit: 10}} {
		if f, ok := vnode.Read(b.engine, 3, 1_000, m).(*vnode.Failure); !ok || f.Code != vnode.CodeCorrupt {
			t.Errorf("%T is answered %+v", m, f)
		}
	}
}

func TestReadsAreAnswered(t *testing.T) {
	b := newBench(t, 1)
	if f := vnode.Read(b.engine, 3, 1_000, &vnode.Fetch{Home: 1, Key: key}).(*vnode.Fetched); f.Object != nil {
		t.Errorf("of nothing there is %x", f.Object)
	}
	enc := minted(t, b.handle(coordinate("x", nil, 1)))
	if f := vnode.Read(b.engine, 3, 1_000, &vnode.Fetch{Home: 1, Key: key}).(*vnode.Fetched); string(f.Object) != string(enc) {
		t.Errorf("fetched %x", f.Object)
	}
	if _, ok := vnode.Read(b.engine, 3, 1_000, &vnode.Ping{}).(*vnode.Pong); !ok {
		t.Error("a ping is not answered")
	}
	if r, ok := vnode.Read(b.engine, 3, 1_000, store(enc)).(*vnode.Refusal); !ok || r.Code != vnode.CodeInvalid {
		t.Errorf("a write is read: %+v", r)
	}
}

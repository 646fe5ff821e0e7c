package vnode

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tanodb/tanodb/internal/ring"
	"github.com/tanodb/tanodb/kv"
)

// Where objects are on disk may not change without a new version of the
// directory.
func TestDataKeysAreWhereTheyWere(t *testing.T) {
	for _, tc := range []struct {
		p, home ring.Partition
		key     kv.Key
		want    string
	}{
		{0, 0, kv.Key{Bucket: "b", Name: "k"}, "01 0000 0000 00 0001 62 6b"},
		{3, 1, kv.Key{Bucket: "mybucket", Name: "k1"}, "01 0003 0001 00 0008 6d796275636b6574 6b31"},
		{11, 10, kv.Key{Type: "carts", Bucket: "b", Name: "\x00\xff"}, "01 000b 000a 05 6361727473 0001 62 00ff"},
		{65535, 65533, kv.Key{Bucket: strings.Repeat("x", 256), Name: "k"}, "01 ffff fffd 00 0100 " + strings.Repeat("78", 256) + " 6b"},
	} {
		got := hex.EncodeToString(DataKey(tc.p, tc.home, tc.key))
		if got != strings.ReplaceAll(tc.want, " ", "") {
			t.Errorf("%d/%d %v is at %s; want %s", tc.p, tc.home, tc.key, got, tc.want)
		}
	}
}

// drawName is a name that may be a prefix of another one, or full of 0xff.
func drawName(t *rapid.T, what string, least int) string {
	return string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xfe, 0xff}), least, 4).Draw(t, what))
}

// Within a bucket the order of the bytes is that of the names, and the keys of
// a vnode, a home and a bucket are exactly those of their ranges.
func TestDataKeysAreInOrder(t *testing.T) {
	type place struct {
		p, home ring.Partition
		key     kv.Key
	}
	draw := rapid.Custom(func(t *rapid.T) place {
		partition := rapid.SampledFrom([]ring.Partition{0, 1, 0xfe, 0xff, 0x100, 0xffff})
		return place{
			partition.Draw(t, "vnode"), partition.Draw(t, "home"),
			kv.Key{Type: drawName(t, "type", 0), Bucket: drawName(t, "bucket", 1), Name: drawName(t, "name", 1)},
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		if rapid.Bool().Draw(t, "one bucket") {
			b.p, b.home, b.key.Type, b.key.Bucket = a.p, a.home, a.key.Type, a.key.Bucket
		}
		x, y := DataKey(a.p, a.home, a.key), DataKey(b.p, b.home, b.key)
		if (a == b) != bytes.Equal(x, y) {
			t.Fatalf("%v and %v are at %x and %x", a, b, x, y)
		}
		if homeOf(x) != a.home {
			t.Fatalf("%x is of home %d", x, homeOf(x))
		}
		prefix := bucketPrefix(a.p, a.home, kv.Bucket{Type: a.key.Type, Name: a.key.Bucket})
		same := a.p == b.p && a.home == b.home && a.key.Type == b.key.Type && a.key.Bucket == b.key.Bucket
		if same != within(y, prefix, prefixEnd(prefix)) {
			t.Fatalf("%x is within the bucket of %x: %v", y, x, !same)
		}
		if same && strings.Compare(a.key.Name, b.key.Name) != bytes.Compare(x, y) {
			t.Fatalf("%q and %q are in another order than %x and %x", a.key.Name, b.key.Name, x, y)
		}
		if (a.p == b.p) != within(y, vnodeStart(a.p), vnodeEnd(a.p)) {
			t.Fatalf("%x is within the vnode of %x: %v", y, x, a.p != b.p)
		}
		if a.p == b.p && (b.home > a.home) != (bytes.Compare(y, homeEnd(a.p, a.home)) >= 0) {
			t.Fatalf("%x is after the home of %x: %v", y, x, b.home <= a.home)
		}
	})
}

func within(key, lower, upper []byte) bool {
	return bytes.Compare(key, lower) >= 0 && (upper == nil || bytes.Compare(key, upper) < 0)
}

func TestThePrefixEndCarries(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a\xff": "b", "a\xff\xff": "b", "a\xfe\xff": "a\xff", "\x01\xff\xff": "\x02"} {
		if got := string(prefixEnd([]byte(prefix))); got != want {
			t.Errorf("after %q comes %q; want %q", prefix, got, want)
		}
	}
	if prefixEnd([]byte("\xff\xff")) != nil {
		t.Error("after 0xff there is nothing")
	}
	if vnodeEnd(math.MaxUint16) == nil {
		t.Error("the last vnode has no end")
	}
}

package object

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tanodb/tanodb/kv"
	"pgregory.net/rapid"
)

func genPairs(t *rapid.T, label string) []kv.Pair {
	n := rapid.IntRange(0, 3).Draw(t, label)
	var pairs []kv.Pair
	for range n {
		pairs = append(pairs, kv.Pair{Name: rapid.String().Draw(t, label), Value: rapid.String().Draw(t, label)})
	}
	return pairs
}

func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := kv.Value{
			Data:            rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
			ContentType:     rapid.String().Draw(t, "type"),
			Charset:         rapid.String().Draw(t, "charset"),
			ContentEncoding: rapid.String().Draw(t, "encoding"),
			Meta:            genPairs(t, "meta"),
			Indexes:         genPairs(t, "index"),
		}
		b := AppendBody([]byte("before"), &v)
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatalf("what was there is gone: %q", b)
		}
		b = b[len("before"):]
		got, err := DecodeBody(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(v, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if again := AppendBody(nil, &got); !bytes.Equal(again, b) {
			t.Errorf("encodes to other bytes")
		}
		for n := range len(b) - len(v.Data) {
			if _, err := DecodeBody(b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d of %d bytes: error %v", n, len(b), err)
			}
		}
	})
}

func TestBodyKeepsOnlyWhatTheWriterSets(t *testing.T) {
	plain := kv.Value{Data: []byte("x")}
	full := kv.Value{Data: []byte("x"), VTag: "tag", Deleted: true, Expires: Stamp(1 << 40).Wall(), Modified: Stamp(1 << 40).Wall()}
	if !bytes.Equal(AppendBody(nil, &plain), AppendBody(nil, &full)) {
		t.Error("what the store sets is in the body")
	}
}

func TestEmptyDataIsNotNil(t *testing.T) {
	v, err := DecodeBody(AppendBody(nil, &kv.Value{}))
	if err != nil || v.Data == nil || len(v.Data) != 0 {
		t.Errorf("data %v, error %v", v.Data, err)
	}
}

func TestOnlyCanonicalBodiesAreAccepted(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "the version is cut short"},
		{"a header longer than the body", join(bodyVersion, 0, 6, 0, 0, 0, 0, 0), "the length of the header is more than"},
		{"a header too short", join(bodyVersion, 0, 4, 0, 0, 0, 0, 0), "the index entries is cut short"},
		{"a header too long", join(bodyVersion, 0, 6, 0, 0, 0, 0, 0, 0), "bytes are left over"},
		{"a length too long", join(bodyVersion, 0, 6, 0x80, 0, 0, 0, 0, 0), "the content type is not in its shortest form"},
		{"a string past the header", join(bodyVersion, 0, 5, 0, 0, 3, 0, 0, "data"), "the content encoding is more than"},
		{"more pairs than bytes", join(bodyVersion, 0, 6, 0, 0, 0, 9, 0, 0), "the metadata is more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeBody(c.b)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

func TestBodyAllocatesLittle(t *testing.T) {
	v := kv.Value{Data: make([]byte, 1024), ContentType: "text/plain", Charset: "utf-8", Meta: []kv.Pair{{Name: "a", Value: "b"}}}
	b := AppendBody(nil, &v)
	// One for the body; the race detector makes slices.Grow need a second.
	if n := testing.AllocsPerRun(100, func() { AppendBody(nil, &v) }); n > 2 {
		t.Errorf("AppendBody: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = DecodeBody(b) }); n > 2 {
		t.Errorf("DecodeBody: %v allocations, want one for strings and one for metadata", n)
	}
}
